//! Files made to exhaust memory: loading or inspecting each needs at most twice its size and 16 MiB
//! beside it, whatever it claims.
//!
//! Memory is that of the thread which loads, on one thread. These have limits of their own, and
//! tests of their own here: what a compressed chunk gives
//! ([`CHUNK_BYTES_MAX`](fsmdb::limits::CHUNK_BYTES_MAX), of frames
//! [`FRAME_BYTES_MAX`](fsmdb::limits::FRAME_BYTES_MAX), of what is carried
//! [`CARRIED_BYTES_MAX`](fsmdb::limits::CARRIED_BYTES_MAX), of rows what the caller says), rows on
//! their way through a migration
//! ([`VALUES_PER_ROW_MAX`](fsmdb::limits::VALUES_PER_ROW_MAX)), and a text that is out of place in
//! a row. Rows that are what they should be take what their type takes.

use std::slice;

use fsmdb::limits::{CHUNK_BYTES_MAX, INDEXES_PER_TABLE_MAX, KEY_FIELDS_MAX, NAME_BYTES_MAX};
use fsmdb::offline::OfflineReader;
use fsmdb::{Db, LoadOptions, MigrationError, SaveOptions, Table, Value, inspect};
use serde::{Deserialize, Serialize};

use crate::allocations::peak_during;
use crate::frames::{
    END, Frame, HEADER, IndexHeader, SECTION, TABLE_END, TOMBSTONES, TableHeader, all_frames_at,
    change_header, frames_of, record_with, rows_frame, seal, seal_as_it_is, seal_with_end,
};
use crate::tables::{Job, Node, Service, commit, empty, file_of, job, node};

const MIB: usize = 1024 * 1024;
const DELETES: u8 = 7;

/// Rows of many small parts.
#[derive(Clone, Debug, Default, Serialize, Deserialize, Table)]
#[table(name = "lists", tombstones = 8)]
struct Lists {
    #[key]
    id: u64,
    list: Vec<[u64; 8]>,
    text: String,
    number: u64,
}

fn builder() -> fsmdb::Builder {
    Db::builder().table::<Job>().table::<Lists>().table::<Node>()
}

/// A database with a row in each of the tables of the program.
fn small() -> Db {
    let db = builder().build().unwrap();
    commit(&db, |txn| {
        txn.insert(job(1)).unwrap();
        txn.insert(Lists { id: 1, ..Lists::default() }).unwrap();
        txn.insert(node(1)).unwrap();
    });
    db
}

/// Header, jobs, lists, nodes.
fn frames() -> Vec<Frame> {
    let mut frames = frames_of(&file_of(&small()));
    frames.pop();
    frames
}

/// That file, changed and sealed again.
fn forged(change: impl FnOnce(&mut Vec<Frame>)) -> Vec<u8> {
    let mut frames = frames();
    change(&mut frames);
    seal_in_chunks(&frames)
}

/// Seals frames with their ends, each cut into chunks as long frames are.
fn seal_in_chunks(frames: &[Frame]) -> Vec<u8> {
    let whole = crate::frames::with_table_ends(frames);
    let cut = whole.iter().flat_map(|frame| {
        let pieces = frame.payload.chunks(CHUNK_BYTES_MAX);
        let more = pieces.len().saturating_sub(1);
        let flags = (0..).map(move |at| if at < more { 0x80 } else { 0 });
        let empty = pieces.len() == 0;
        let piece = move |(payload, flag): (&[u8], u8)| Frame {
            kind: frame.kind | flag,
            payload: payload.to_vec(),
        };
        let none = empty.then(|| frame.clone());
        pieces.zip(flags).map(piece).chain(none)
    });
    seal_as_it_is(&cut.collect::<Vec<_>>(), 3)
}

/// The most that any way of reading a file needs beside it.
fn peak_of(file: &[u8]) -> usize {
    let options = || {
        let options = LoadOptions::new().threads(1).unknown_tables_are_carried();
        options.missing_tables_are_empty()
    };
    let (_, known) = peak_during(|| builder().load_with(file, options()).map(drop));
    let fewer = || Db::builder().table::<Service>();
    let (_, carried) = peak_during(|| fewer().load_with(file, options()).map(drop));
    let (_, inspected) = peak_during(|| inspect(file).map(drop));
    let (_, walked) = peak_during(|| {
        let Ok(mut reader) = OfflineReader::new(file, None) else { return };
        while let Ok(Some(_)) = reader.read_item() {}
    });
    let db = empty();
    let (_, applied) = peak_during(|| db.apply_incremental(file, options()).map(drop));
    known.max(carried).max(inspected).max(walked).max(applied)
}

/// Holds reading a file to twice its size and 16 MiB.
fn assert_bounded(what: &str, file: &[u8]) {
    let peak = peak_of(file);
    let limit = 2 * file.len() + 16 * MIB;
    assert!(peak <= limit, "{what}: {peak} bytes for a file of {}", file.len());
}

/// Heads of MessagePack that claim 2^32 - 1 of something.
const CLAIMS: [u8; 5] = [0xDD, 0xDF, 0xDB, 0xC6, 0xC9];

fn claim(head: u8) -> Vec<u8> {
    vec![head, 0xFF, 0xFF, 0xFF, 0xFF]
}

/// A row of the lists whose MessagePack is this.
fn lists_of(row: &[u8]) -> Frame {
    let record = [&[0x93, 1, 1], row].concat();
    rows_frame(1, &[record_with(&1_u64.to_be_bytes(), &record)])
}

/// `{id: 1, list: [], text: "", number: 0}` with something else in the place of a field.
fn lists_with(field: &str, value: &[u8]) -> Frame {
    let mut row = vec![0x84];
    for (name, empty) in [("id", &[1][..]), ("list", &[0x90]), ("text", &[0xA0]), ("number", &[0])]
    {
        row.push(0xA0 | name.len() as u8);
        row.extend(name.as_bytes());
        row.extend(if name == field { value } else { empty });
    }
    lists_of(&row)
}

/// A text of MessagePack.
fn text(letter: u8, bytes: usize) -> Vec<u8> {
    [&[0xDB][..], &(bytes as u32).to_be_bytes(), &vec![letter; bytes]].concat()
}

/// A list of MessagePack whose elements are these bytes.
fn list(element: &[u8], count: usize) -> Vec<u8> {
    [&[0xDD][..], &(count as u32).to_be_bytes(), &element.repeat(count)].concat()
}

#[test]
fn lengths_of_chunks_that_lie() {
    let file = file_of(&small());
    for (at, frame) in all_frames_at(&file) {
        for length in [u32::MAX, 1 << 31, CHUNK_BYTES_MAX as u32] {
            let mut file = file.clone();
            file[at..at + 4].copy_from_slice(&length.to_le_bytes());
            assert_bounded(&format!("{length} in a frame of kind {}", frame.kind), &file);
        }
    }
}

#[test]
fn counts_of_2_to_the_32() {
    for count in [u32::MAX, 1 << 31, 1 << 24] {
        let count = count.to_le_bytes();
        for at in [0, 4, 8] {
            let file = forged(|frames| frames[2].payload[at..at + 4].copy_from_slice(&count));
            assert_bounded("a number of a frame of rows", &file);
        }
        for kind in [TOMBSTONES, DELETES] {
            let payload = [&1_u32.to_le_bytes()[..], &count, &[0; 64]].concat();
            let file = forged(|frames| frames.insert(3, Frame { kind, payload }));
            assert_bounded("a number of a frame of keys", &file);
        }
    }
    for rows in [u64::MAX, 1 << 32] {
        let file = forged(|frames| {
            change_header(frames, |header| header.tables.iter_mut().for_each(|t| t.rows = rows));
        });
        assert_bounded("the rows of the header", &file);
    }
}

#[test]
fn lengths_inside_message_pack_that_lie() {
    for head in CLAIMS {
        assert_bounded("a row", &forged(|frames| frames[2] = lists_of(&claim(head))));
        for field in ["list", "text", "number"] {
            let file = forged(|frames| frames[2] = lists_with(field, &claim(head)));
            assert_bounded("a field", &file);
        }
        let file = forged(|frames| {
            let header = frames[0].payload.clone();
            let at = header.windows(6).position(|name| name == b"tables").unwrap() + 6;
            frames[0].payload = [&header[..at], &claim(head), &header[at + 1..]].concat();
        });
        assert_bounded("the tables of the header", &file);
        for kind in [HEADER, TABLE_END, END] {
            let bomb = Frame { kind, payload: claim(head) };
            let mut frames: Vec<_> =
                all_frames_at(&file_of(&small())).into_iter().map(|(_, frame)| frame).collect();
            let at = frames.iter().position(|frame| frame.kind == kind).unwrap();
            frames[at] = bomb;
            assert_bounded("a frame of the library's own", &seal(&frames));
        }
    }
}

#[test]
fn nesting_of_100_000_levels() {
    for level in [&[0x91][..], &[0x81, 0x01], &[0x81], &[0xDD, 0, 0, 0, 1]] {
        let bomb = level.repeat(100_000);
        assert_bounded(
            "a record",
            &forged(|frames| frames[2] = rows_frame(1, slice::from_ref(&bomb))),
        );
        assert_bounded("a row", &forged(|frames| frames[2] = lists_of(&bomb)));
        assert_bounded("a field", &forged(|frames| frames[2] = lists_with("list", &bomb)));
        for kind in [HEADER, TABLE_END, END, SECTION, TOMBSTONES, DELETES] {
            let bomb = Frame { kind, payload: bomb.clone() };
            assert_bounded("a header", &seal(slice::from_ref(&bomb)));
            assert_bounded("a frame", &forged(|frames| frames.insert(3, bomb)));
        }
    }
}

#[test]
fn very_many_values_of_one_byte_each() {
    for (element, count) in [(0xA0, 580_000), (0xC0, 580_000), (0xA0, 2 * MIB)] {
        let bomb = list(&[element], count);
        assert_bounded("a row", &forged(|frames| frames[2] = lists_of(&bomb)));
        for field in ["list", "text", "number"] {
            assert_bounded("a field", &forged(|frames| frames[2] = lists_with(field, &bomb)));
        }
        for field in ["tables", "key", "indexes", "compression"] {
            let name = [&[0xA0 | field.len() as u8], field.as_bytes()].concat();
            let payload = [&[0x81][..], &name, &bomb].concat();
            assert_bounded(field, &seal_in_chunks(&[Frame { kind: HEADER, payload }]));
        }
        for kind in [TABLE_END, END] {
            let bomb = Frame { kind, payload: bomb.clone() };
            assert_bounded("a frame", &forged(|frames| frames.insert(1, bomb)));
        }
    }
    // Within the number of values that a header may have.
    let file = forged(|frames| {
        change_header(frames, |header| header.tables[0].key = vec![String::new(); 580_000]);
    });
    assert_bounded("fields of the key", &file);
    let file = forged(|frames| {
        let index = IndexHeader { name: String::new(), unique: true };
        change_header(frames, |header| header.tables[0].indexes = vec![index; 110_000]);
    });
    assert_bounded("indexes", &file);
}

#[test]
fn long_texts_in_the_header_and_in_rows() {
    for bytes in [60_000, 12 * MIB] {
        let long = String::from_utf8(vec![b'x'; bytes]).unwrap();
        let changes: [&dyn Fn(&mut TableHeader); 3] = [
            &|table| table.name = long.clone(),
            &|table| table.key = vec![long.clone()],
            &|table| table.indexes[0].name = long.clone(),
        ];
        for change in changes {
            let file =
                forged(|frames| change_header(frames, |header| change(&mut header.tables[0])));
            assert_bounded("a name", &file);
        }
        // Escaped, it would be five times as long.
        for letter in [b'x', 0x01] {
            for field in ["revision", "compression", "encryption", "unknown", "tables"] {
                let name = [&[0xA0 | field.len() as u8], field.as_bytes()].concat();
                let payload = [&[0x81][..], &name, &text(letter, bytes)].concat();
                assert_bounded(field, &seal_in_chunks(&[Frame { kind: HEADER, payload }]));
            }
        }
        let file = forged(|frames| frames[2] = lists_with("text", &text(b'x', bytes)));
        assert_bounded("a text in its place", &file);
        for kind in [TABLE_END, END] {
            let bomb = Frame { kind, payload: text(0x01, bytes) };
            assert_bounded("a frame", &forged(|frames| frames.insert(1, bomb)));
        }
    }
}

/// The message of the decoder has all of it, escaped, until it is cut; nobody else may keep it.
#[test]
fn a_text_where_something_else_should_stand_is_held_until_its_error_is_made() {
    let options = || LoadOptions::new().threads(1);
    for (letter, times) in [(b'x', 3), (0x01, 13)] {
        let bomb = text(letter, 8 * MIB);
        let file = forged(|frames| frames[2] = lists_with("number", &bomb));
        let load = || builder().load_with(file.as_slice(), options()).map(drop);
        let (loaded, peak) = peak_during(load);
        assert!(loaded.unwrap_err().to_string().len() < 2 * 1024);
        let limit = (2 + times) * file.len() + 16 * MIB;
        assert!(peak <= limit, "{peak} bytes for a file of {}", file.len());
    }
}

#[test]
fn very_many_tables() {
    let table = |name: String| {
        let (key, indexes) = (Vec::new(), Vec::new());
        TableHeader { name, version: 1, rows: 0, modified: 0, key, indexes, removals: None }
    };
    for count in [1024, 1025, 50_000] {
        let file = forged(|frames| {
            frames.truncate(1);
            change_header(frames, |header| {
                header.tables = (0..count).map(|n| table(format!("{n:06}"))).collect();
            });
        });
        assert_bounded("many tables", &file);
    }
    // The largest header that there can be.
    let names = |count: usize| (0..count).map(|n| format!("{n:0NAME_BYTES_MAX$}"));
    let index = |name: String| IndexHeader { name, unique: true };
    let file = forged(|frames| {
        frames.truncate(1);
        change_header(frames, |header| {
            let full = |name: String| TableHeader {
                key: names(KEY_FIELDS_MAX).collect(),
                indexes: names(INDEXES_PER_TABLE_MAX).map(index).collect(),
                ..table(name)
            };
            header.tables = names(1024).map(full).collect();
        });
    });
    assert!(file.len() > 10 * MIB);
    assert_bounded("the largest header", &file);
}

#[test]
fn very_many_sections_frames_and_records() {
    let section = |name: String| Frame {
        kind: SECTION,
        payload: [&[name.len() as u8], name.as_bytes()].concat(),
    };
    for count in [60_000, 150_000] {
        let named = forged(|frames| frames.extend((0..count).map(|n| section(format!("{n:06}")))));
        assert_bounded("sections of many names", &named);
        let nameless = forged(|frames| frames.extend((0..count).map(|_| section(String::new()))));
        assert_bounded("sections of one name", &nameless);
    }
    let file = forged(|frames| {
        frames.splice(2..2, (0..100_000).map(|_| rows_frame(1, &[])));
    });
    assert_bounded("empty frames", &file);
    let rows = |count: u64| {
        let record = |id: u64| record_with(&id.to_be_bytes(), &[0x93, 1, 1, 0xC0]);
        (0..count).map(record).collect::<Vec<_>>()
    };
    let file = forged(|frames| {
        change_header(frames, |header| header.tables[1].rows = 60_000);
        frames.splice(2..3, rows(60_000).chunks(1).map(|row| rows_frame(1, row)));
    });
    assert_bounded("frames of one row", &file);
    let file = forged(|frames| {
        change_header(frames, |header| header.tables[1].rows = 200_000);
        frames.splice(2..3, rows(200_000).chunks(50_000).map(|rows| rows_frame(1, rows)));
    });
    assert_bounded("the smallest rows", &file);
}

/// Frames of records that are keys alone, ascending and as short as can be.
fn keys(kind: u8, count: u32, head: impl Fn(u32) -> Vec<u8>) -> Vec<Frame> {
    let frame = |numbers: &[u32]| {
        let records = numbers.iter().map(|n| [&head(*n)[..], &n.to_be_bytes()[1..]].concat());
        Frame { kind, ..rows_frame(1, &records.collect::<Vec<_>>()) }
    };
    (0..count).collect::<Vec<_>>().chunks(2_000).map(frame).collect()
}

#[test]
fn very_many_deletes_and_tombstones() {
    let db = small();
    let base = db.read();
    commit(&db, |txn| drop(txn.insert(node(2)).unwrap()));
    let mut link = Vec::new();
    db.read().save_since(&base, &mut link, SaveOptions::new()).unwrap();
    let link: Vec<_> = all_frames_at(&link).into_iter().map(|(_, frame)| frame).collect();
    let at = 1 + link.iter().position(|frame| frame.kind == TABLE_END).unwrap();
    for count in [100_000, 700_000] {
        let mut link = link.clone();
        link.splice(at..at, keys(DELETES, count, |_| Vec::new()));
        let file = seal(&link);
        assert_bounded("deletes", &file);
        let db = small();
        let options = LoadOptions::new().threads(1);
        let (refused, peak) = peak_during(|| db.apply_incremental(file.as_slice(), options));
        assert!(refused.is_err());
        assert!(peak <= 2 * file.len() + 16 * MIB, "{peak} bytes for {}", file.len());
    }
    let tombstone = |n: u32| [&(u64::from(n) + 2).to_le_bytes()[..], &[0; 4]].concat();
    let file = forged(|frames| {
        change_header(frames, |header| {
            header.revision = 1 << 32;
            header.tables[1].modified = 1 << 32;
            let removals = header.tables[1].removals.as_mut().unwrap();
            (removals.rows, removals.entries, removals.tombstones) = (1, 1, 200_000);
        });
        frames.splice(3..3, keys(TOMBSTONES, 200_000, tombstone));
    });
    assert_bounded("tombstones", &file);
    builder().load(file.as_slice()).unwrap();
}

fn unknown(_: u32, row: &mut Value) -> Result<(), MigrationError> {
    row.set("done", true)?;
    Ok(())
}

#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "lists", version = 2, migrate = unknown)]
struct Migrated {
    #[key]
    id: u64,
}

/// A value takes 32 bytes, so that the limit on their number is twice the largest row.
#[test]
fn values_on_their_way_through_a_migration_have_a_limit_of_their_own() {
    let limit = 2 * fsmdb::limits::ROW_BYTES_MAX;
    for count in [900_000, 4 * MIB] {
        let file = forged(|frames| frames[2] = lists_with("list", &list(&[0xC0], count)));
        let load = || {
            let options = LoadOptions::new().threads(1).unknown_tables_are_carried();
            Db::builder().table::<Migrated>().load_with(file.as_slice(), options).map(drop)
        };
        let (loaded, peak) = peak_during(load);
        assert_eq!(loaded.is_ok(), count < fsmdb::limits::VALUES_PER_ROW_MAX, "{loaded:?}");
        assert!(peak <= limit + 2 * file.len() + 16 * MIB, "{peak} bytes for {}", file.len());
    }
}

#[cfg(feature = "zstd")]
mod compressed {
    use fsmdb::SnapshotError;
    use fsmdb::limits::{CARRIED_BYTES_MAX, FRAME_BYTES_MAX, ROW_BYTES_MAX};
    use fsmdb::offline::{Item, OfflineWriter};

    use super::*;

    fn compressed(db: &Db) -> Vec<u8> {
        let mut file = Vec::new();
        db.read().save_with(&mut file, SaveOptions::new().compress(1)).unwrap();
        file
    }

    /// Of a frame that is refused there is never more than the frame, and what it was made of.
    #[test]
    fn one_frame_that_gives_a_thousand_times_its_bytes() {
        let db = Db::builder().table::<Lists>().build().unwrap();
        let text = "\0".repeat(ROW_BYTES_MAX - 64);
        commit(&db, |txn| drop(txn.insert(Lists { text, ..Lists::default() }).unwrap()));
        let file = compressed(&db);
        assert!(file.len() < FRAME_BYTES_MAX / 1000, "{} bytes", file.len());
        let peak = peak_of(&file);
        assert!(peak <= 2 * FRAME_BYTES_MAX + 16 * MIB, "{peak} bytes for {}", file.len());
    }

    /// Who does not trust a file says how many bytes its rows may have.
    #[test]
    fn rows_that_are_what_they_should_be_are_limited_by_the_caller() {
        let db = Db::builder().table::<Lists>().build().unwrap();
        let text = "\0".repeat(MIB);
        let row = |id| Lists { id, text: text.clone(), ..Lists::default() };
        commit(&db, |txn| assert_eq!(txn.table_mut().insert_all((0..64).map(row)), Ok(64)));
        let file = compressed(&db);
        assert!(file.len() < MIB);
        let limit = 8 * MIB as u64;
        let load = || {
            let options = LoadOptions::new().threads(1).bytes_max(limit);
            Db::builder().table::<Lists>().load_with(file.as_slice(), options)
        };
        let (loaded, peak) = peak_during(load);
        let error = loaded.unwrap_err();
        assert!(matches!(error, SnapshotError::TooMany { what: "bytes", .. }), "{error}");
        assert!(peak <= 2 * file.len() + limit as usize + 16 * MIB, "{peak} bytes");
    }

    /// On several threads too: frames that are read ahead are counted before they are kept.
    #[test]
    fn what_is_carried_never_takes_more_than_its_limit_and_the_frames_in_hand() {
        let head = OfflineReader::new(file_of(&small()).as_slice(), None).unwrap().head().clone();
        let mut head = head;
        head.tables.clear();
        let (mut file, content) = (Vec::new(), vec![0; ROW_BYTES_MAX]);
        let options = SaveOptions::new().compress(1);
        let mut writer = OfflineWriter::new(&mut file, &head, options).unwrap();
        for _ in 0..=CARRIED_BYTES_MAX / ROW_BYTES_MAX {
            writer.write(&Item::Section { name: "zeros", content: &content }).unwrap();
        }
        writer.finish().unwrap();
        assert!(file.len() < MIB, "{} bytes", file.len());
        inspect(file.as_slice()).unwrap();
        for threads in [1, 8] {
            let options = || LoadOptions::new().threads(threads);
            let load = || Db::builder().load_with(file.as_slice(), options());
            let (loaded, peak) = peak_during(load);
            let error = loaded.unwrap_err();
            let what = "bytes that are carried";
            assert!(matches!(&error, SnapshotError::TooMany { what: of, .. } if *of == what));
            let limit = CARRIED_BYTES_MAX + 2 * FRAME_BYTES_MAX + 2 * file.len() + 16 * MIB;
            assert!(peak <= limit, "{peak} bytes on {threads} threads");
        }
    }
}

#[test]
fn the_bombs_here_are_files_but_for_what_is_wrong_with_them() {
    builder().load(forged(|_| {}).as_slice()).unwrap();
    let whole = forged(|frames| frames[2] = lists_with("text", &text(b'x', 3 * MIB)));
    builder().load(whole.as_slice()).unwrap();
    assert!(seal_with_end(&frames(), 3) == forged(|_| {}));
}
