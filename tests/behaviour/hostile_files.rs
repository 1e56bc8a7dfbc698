//! Files that are damaged, or forged with right checksums: refused, named, and without effect.

use fsmdb::limits::{CHUNK_BYTES_MAX, ROW_BYTES_MAX, TABLES_MAX};
use fsmdb::{Db, Error, SnapshotError, Table, inspect};
use serde::{Deserialize, Serialize};

use crate::allocations::largest_during;
use crate::frames::{
    END, Frame, HEADER, PRELUDE_BYTES, ROWS, TableHeader, change_header, encoded, frames_at,
    frames_of, record_of, record_with, records_of, rows_frame, seal, seal_with_end,
};
use crate::tables::{Job, Node, commit, empty, file_of, job, load, node, service};

/// A chunk as it is stored may have the seal of its encryption beside its payload.
const CHUNK_STORED_MAX: usize = CHUNK_BYTES_MAX + 16;

/// More than any of these files needs, far less than what they claim.
const ALLOCATION_MAX: usize = 2 * 1024 * 1024;

fn small() -> Db {
    let db = empty();
    commit(&db, |txn| {
        txn.insert(job(1)).unwrap();
        txn.insert(node(1)).unwrap();
        txn.insert(node(2)).unwrap();
        txn.insert(service("prod", "web")).unwrap();
    });
    db
}

/// Shows that loading `file` fails, without effect and without believing any length in it.
fn refused(file: &[u8]) -> SnapshotError {
    let (loaded, largest) = largest_during(|| load(file));
    assert!(largest <= ALLOCATION_MAX, "{largest} bytes were allocated at once");
    let db = empty();
    commit(&db, |txn| drop(txn.insert(node(77)).unwrap()));
    let before = file_of(&db);
    let restored = db.restore(file).expect_err("a bad file is refused by restore");
    assert_eq!(file_of(&db), before);
    let loaded = loaded.expect_err("a bad file is refused by load");
    assert_eq!(loaded.to_string(), restored.to_string());
    loaded
}

/// As [`refused`], for damage that can be seen without the types of the rows.
fn refused_also_by_inspect(file: &[u8]) -> SnapshotError {
    let error = refused(file);
    let (inspected, largest) = largest_during(|| inspect(file));
    assert!(largest <= ALLOCATION_MAX, "{largest} bytes were allocated at once");
    let inspected = inspected.expect_err("a bad file is refused by inspect");
    assert!(inspected.is_corrupt() == error.is_corrupt(), "{inspected} {error}");
    error
}

/// canonical/raft, vault, camunda: parts of snapshots were not covered by their checksums.
#[test]
fn every_truncation_is_detected() {
    let file = file_of(&small());
    for length in 0..file.len() {
        match refused_also_by_inspect(&file[..length]) {
            SnapshotError::Truncated { offset } => {
                assert!(offset <= length as u64, "{length}: {offset}");
            }
            error => panic!("{length}: {error}"),
        }
    }
}

/// Of single-bit flips in plain MessagePack, 57 % decode silently to something else.
#[test]
fn every_single_bit_flip_is_detected() {
    let mut file = file_of(&small());
    let db = small();
    let before = file_of(&db);
    for bit in 0..file.len() * 8 {
        file[bit / 8] ^= 1 << (bit % 8);
        let error = db.restore(file.as_slice()).expect_err("a flipped bit");
        let version = (8..PRELUDE_BYTES).contains(&(bit / 8));
        assert_eq!(matches!(error, SnapshotError::FormatVersion { .. }), version, "{bit}: {error}");
        assert!(error.is_corrupt() || version, "{bit}: {error}");
        assert!(inspect(file.as_slice()).is_err());
        file[bit / 8] ^= 1 << (bit % 8);
    }
    assert_eq!(file_of(&db), before);
}

#[test]
fn every_byte_set_to_zero_or_one_is_detected() {
    let good = file_of(&small());
    for at in 0..good.len() {
        for byte in [0, 1, 0xFF] {
            let mut file = good.clone();
            file[at] = byte;
            assert!(file == good || load(&file).is_err(), "byte {at} set to {byte}");
        }
    }
}

#[test]
fn bytes_after_the_end_are_detected() {
    let good = file_of(&small());
    for extra in [&b"\0"[..], b"fsmdbSNP", &good] {
        let file = [&good, extra].concat();
        let error = refused_also_by_inspect(&file);
        assert!(matches!(error, SnapshotError::Trailing { offset } if offset == good.len() as u64));
    }
}

/// camunda: the checksum of a chunked snapshot did not notice its order.
#[test]
fn a_frame_that_is_dropped_repeated_or_moved_is_detected() {
    let file = file_of(&small());
    let starts: Vec<_> = frames_at(&file).iter().map(|(at, _)| *at).chain([file.len()]).collect();
    let parts: Vec<_> = starts.windows(2).map(|pair| &file[pair[0]..pair[1]]).collect();
    let glue = |parts: &[&[u8]]| [&file[..PRELUDE_BYTES], &parts.concat()].concat();
    for one in 0..parts.len() {
        let mut dropped = parts.clone();
        dropped.remove(one);
        refused_also_by_inspect(&glue(&dropped));
        let mut repeated = parts.clone();
        repeated.insert(one, parts[one]);
        refused_also_by_inspect(&glue(&repeated));
        for other in 0..one {
            let mut swapped = parts.clone();
            swapped.swap(one, other);
            refused_also_by_inspect(&glue(&swapped));
        }
    }
}

#[test]
fn a_frame_of_another_file_is_detected() {
    let other = empty();
    commit(&other, |txn| {
        txn.insert(job(1)).unwrap();
        txn.insert(node(1)).unwrap();
        txn.insert(node(3)).unwrap();
        txn.insert(service("prod", "web")).unwrap();
    });
    let (one, other) = (file_of(&small()), file_of(&other));
    let (ours, theirs) = (frames_at(&one), frames_at(&other));
    assert_eq!(one.len(), other.len());
    let (at, next) = (ours[2].0, ours[3].0);
    assert_eq!((at, next), (theirs[2].0, theirs[3].0));
    let file = [&one[..at], &other[at..next], &one[next..]].concat();
    // The foreign frame fits what is before it; what is after it does not fit the foreign frame.
    let error = refused_also_by_inspect(&file);
    assert!(
        matches!(error, SnapshotError::Checksum { offset } if offset == next as u64),
        "{error}"
    );
}

#[test]
fn what_is_no_snapshot_file_is_told_so() {
    for file in [&b"PK\x03\x04 a zip archive of some length"[..], &[0; 64]] {
        assert!(matches!(refused_also_by_inspect(file), SnapshotError::NotASnapshot));
    }
    assert!(matches!(refused_also_by_inspect(b""), SnapshotError::Truncated { offset: 0 }));
}

/// nomad: a snapshot of a newer version broke an older one half-way.
#[test]
fn a_newer_format_is_refused_before_anything_else_is_read() {
    let mut file = file_of(&small());
    file[8] = 3;
    let error = refused_also_by_inspect(&file[..PRELUDE_BYTES]);
    assert!(matches!(error, SnapshotError::FormatVersion { found: 3, supported: 2 }), "{error}");
    assert!(!error.is_corrupt());
}

/// The sealed file, changed by `change` and sealed again with right checksums and totals.
fn forged(change: impl FnOnce(&mut Vec<Frame>)) -> Vec<u8> {
    let mut frames = frames_of(&file_of(&small()));
    frames.pop();
    change(&mut frames);
    let rows = frames.iter().filter(|frame| frame.kind == ROWS && frame.payload.len() >= 8);
    let rows = rows.map(|frame| u32::from_le_bytes(frame.payload[4..8].try_into().unwrap()));
    let total = rows.map(u64::from).sum();
    seal_with_end(&frames, total)
}

#[test]
fn a_forged_file_without_a_change_loads() {
    assert_eq!(forged(|_| {}), file_of(&small()));
    load(&forged(|_| {})).unwrap();
}

/// nomad: an unknown record type ended a restore early, and the state was mostly wiped.
#[test]
fn a_frame_of_an_unknown_kind_is_an_error_and_not_the_end() {
    for kind in [0, 8, 13, 63] {
        let file = forged(|frames| frames.insert(2, Frame { kind, payload: Vec::new() }));
        let error = refused_also_by_inspect(&file);
        let SnapshotError::Malformed { message, .. } = &error else { panic!("{error}") };
        assert_eq!(*message, format!("kind {kind} has no place here"));
    }
}

#[test]
fn the_first_frame_must_be_a_header_and_only_the_first() {
    let file = forged(|frames| drop(frames.remove(0)));
    assert!(matches!(refused_also_by_inspect(&file), SnapshotError::Malformed { offset: 12, .. }));
    let file = forged(|frames| frames.insert(1, frames[0].clone()));
    assert!(matches!(refused_also_by_inspect(&file), SnapshotError::Malformed { .. }));
    let frames = frames_of(&file_of(&small()));
    let error = refused_also_by_inspect(&seal(&frames[4..]));
    assert!(matches!(error, SnapshotError::Malformed { offset: 12, .. }));
}

#[test]
fn a_file_without_its_end_frame_is_cut_off() {
    let frames = frames_of(&file_of(&small()));
    let file = seal(&crate::frames::with_table_ends(&frames[..4]));
    let error = refused_also_by_inspect(&file);
    assert!(matches!(error, SnapshotError::Truncated { offset } if offset == file.len() as u64));
}

#[test]
fn an_end_frame_whose_totals_are_wrong_is_refused() {
    let frames = frames_of(&file_of(&small()));
    let end_at = frames_at(&file_of(&small()))[4].0 as u64;
    let end: crate::frames::End = rmp_serde::from_slice(&frames[4].payload).unwrap();
    let before = crate::frames::with_table_ends(&frames[..4]);
    let sealed = |end: Frame| seal(&[&before[..], &[end]].concat());
    assert_eq!(sealed(frames[4].clone()), file_of(&small()));
    for (rows, offset) in [(3, end_at), (5, end_at), (4, end_at - 1), (0, 0)] {
        let end = crate::frames::End { rows, offset, ..end.clone() };
        let error = refused_also_by_inspect(&sealed(encoded(END, &end)));
        let SnapshotError::Malformed { offset, message } = error else { panic!("{error}") };
        assert_eq!((offset, message.as_str()), (end_at, "its totals differ from the file"));
    }
    let mut long = frames[4].clone();
    long.payload.push(0);
    assert!(matches!(refused_also_by_inspect(&sealed(long)), SnapshotError::Malformed { .. }));
    let mut other = end.clone();
    other.hash.0[31] ^= 1;
    let error = refused_also_by_inspect(&sealed(encoded(END, &other)));
    assert!(matches!(error, SnapshotError::Hash { offset } if offset == end_at), "{error}");
    let mut none = end;
    none.hash.0.clear();
    assert!(refused_also_by_inspect(&sealed(encoded(END, &none))).is_corrupt());
}

#[test]
fn a_row_count_that_lies_is_refused_with_both_numbers() {
    for lie in [0, 1, 3, u64::MAX] {
        let file = forged(|frames| change_header(frames, |header| header.tables[1].rows = lie));
        match refused_also_by_inspect(&file) {
            SnapshotError::RowCount { table, found: 2, expected } => {
                assert_eq!((table.as_str(), expected), ("nodes", lie));
            }
            error => panic!("{error}"),
        }
    }
    let file = forged(|frames| drop(frames.remove(2)));
    let error = refused_also_by_inspect(&file);
    assert!(matches!(error, SnapshotError::RowCount { found: 0, expected: 2, .. }), "{error}");
}

#[test]
fn a_table_that_the_schema_does_not_have_is_refused() {
    let file = file_of(&small());
    let error = Db::builder().table::<Job>().table::<Node>().load(file.as_slice()).unwrap_err();
    assert!(matches!(&error, SnapshotError::UnknownTable { table } if table == "services"));
    assert!(!error.is_corrupt());
    inspect(file.as_slice()).expect("inspect needs no schema");
}

#[test]
fn a_table_that_the_file_does_not_have_is_refused() {
    let db = Db::builder().table::<Job>().table::<Node>().build().unwrap();
    let file = file_of(&db);
    let error = refused(&file);
    assert!(matches!(&error, SnapshotError::MissingTable { table } if table == "services"));
    assert!(!error.is_corrupt());
    let nothing = Db::builder().build().unwrap();
    assert!(matches!(refused(&file_of(&nothing)), SnapshotError::MissingTable { .. }));
}

#[test]
fn a_table_of_another_version_is_refused() {
    let file = forged(|frames| change_header(frames, |header| header.tables[2].version = 4));
    match refused(&file) {
        SnapshotError::TableVersion { table, found: 4, expected: 3 } => {
            assert_eq!(table, "services");
        }
        error => panic!("{error}"),
    }
}

/// Counting on from it would overflow with the next commit.
#[test]
fn a_revision_beyond_the_limit_is_refused() {
    let beyond = fsmdb::limits::REVISION_MAX + 1;
    let file = forged(|frames| change_header(frames, |header| header.revision = beyond));
    assert!(matches!(refused(&file), SnapshotError::Malformed { .. }));
}

#[test]
fn tables_that_repeat_or_are_out_of_order_are_refused() {
    let swapped = forged(|frames| change_header(frames, |header| header.tables.swap(0, 1)));
    let repeated = forged(|frames| {
        change_header(frames, |header| header.tables.insert(1, header.tables[0].clone()));
    });
    for file in [swapped, repeated] {
        let error = refused_also_by_inspect(&file);
        assert!(matches!(error, SnapshotError::Malformed { offset: 12, .. }), "{error}");
    }
}

#[test]
fn revisions_that_cannot_be_are_refused() {
    let file = forged(|frames| change_header(frames, |header| header.revision = 0));
    assert!(matches!(refused_also_by_inspect(&file), SnapshotError::Malformed { .. }));
    let file = forged(|frames| change_header(frames, |header| header.tables[1].modified = 0));
    let error = refused(&file);
    assert!(
        matches!(&error, SnapshotError::Row { table, row: 0, .. } if table == "nodes"),
        "{error}"
    );
    let record = record_of(1, &(1_u64, 0_u64, node(1)));
    let file = forged(|frames| frames[2] = rows_frame(1, &[record.clone(), record]));
    let error = refused(&file);
    assert!(matches!(&error, SnapshotError::Row { row: 0, .. }), "{error}");
}

#[test]
fn rows_out_of_order_or_repeated_are_refused_with_their_key() {
    for order in [[1, 0], [0, 0], [1, 1]] {
        let file = forged(|frames| {
            let records = records_of(&frames[2]);
            frames[2] = rows_frame(1, &order.map(|at| records[at].clone()));
        });
        match refused_also_by_inspect(&file) {
            SnapshotError::RowOrder { table, row: 1, offset, key } => {
                assert_eq!((table.as_str(), key), ("nodes", (order[1] + 1).to_string()));
                assert!(offset > frames_at(&file)[2].0 as u64);
            }
            error => panic!("{error}"),
        }
    }
    // Also when the two stand in frames of their own.
    let file = forged(|frames| {
        let records = records_of(&frames[2]);
        frames[2] = rows_frame(1, &records[1..]);
        frames.insert(3, rows_frame(1, &records[..1]));
    });
    assert!(matches!(refused(&file), SnapshotError::RowOrder { .. }));
}

#[test]
fn rows_of_a_table_may_stand_in_any_number_of_frames() {
    let file = forged(|frames| {
        let records = records_of(&frames[2]);
        frames[2] = rows_frame(1, &records[..1]);
        frames.insert(3, rows_frame(1, &[]));
        frames.insert(4, rows_frame(1, &records[1..]));
    });
    assert_eq!(file_of(&load(&file).unwrap()), file_of(&small()), "and are written as one");
}

#[test]
fn frames_of_tables_out_of_order_or_of_no_table_are_refused() {
    let swapped = forged(|frames| frames.swap(1, 2));
    let unknown = forged(|frames| frames[3].payload[0] = 3);
    let huge = forged(|frames| frames[3].payload[..4].copy_from_slice(&u32::MAX.to_le_bytes()));
    for file in [swapped, unknown, huge] {
        match refused_also_by_inspect(&file) {
            SnapshotError::Malformed { message, .. } => {
                assert_eq!(message, "its table is unknown or out of order");
            }
            // The forger cannot know where such a table ends.
            SnapshotError::RowCount { found: 0, .. } => (),
            error => panic!("{error}"),
        }
    }
}

#[test]
fn two_rows_with_one_unique_value_are_refused_by_the_rule_that_they_break() {
    let record = |id| record_of(id, &(1_u64, 1_u64, Node { id, name: "x".into() }));
    let file = forged(|frames| frames[2] = rows_frame(1, &[record(1), record(2)]));
    match refused(&file) {
        SnapshotError::Rule(Error::Taken { table, index, value, owner }) => {
            assert_eq!((table.as_str(), index.as_str()), ("nodes", "name"));
            assert_eq!((value.as_str(), owner.as_str()), ("\"x\"", "1"));
        }
        error => panic!("{error}"),
    }
}

#[test]
fn a_key_or_entry_that_no_statement_allows_is_refused_in_a_file_too() {
    let long = "x".repeat(fsmdb::limits::KEY_BYTES_MAX);
    let named = Node { id: 1, name: long.clone() };
    let record = record_of(1, &(1_u64, 1_u64, named));
    let file = forged(|frames| {
        frames[2] = rows_frame(1, &[record.clone(), records_of(&frames[2])[1].clone()]);
    });
    assert!(matches!(
        refused(&file),
        SnapshotError::Rule(Error::KeyTooLong { index: Some(_), .. })
    ));
    // The key of a pair of texts: each with its end mark.
    let key = [long.as_bytes(), b"\0", b"\0"].concat();
    let row = rmp_serde::to_vec_named(&(1_u64, 1_u64, service(&long, ""))).unwrap();
    let file = forged(|frames| frames[3] = rows_frame(2, &[record_with(&key, &row)]));
    let error = refused(&file);
    assert!(matches!(error, SnapshotError::Rule(Error::KeyTooLong { .. })), "{error}");
}

#[test]
fn a_record_that_is_not_a_row_is_refused_at_its_offset() {
    let good = record_of(2, &(1_u64, 1_u64, node(2)));
    let bad: [(&str, Vec<u8>); 6] = [
        ("empty", record_with(&2_u64.to_be_bytes(), &[])),
        ("another type", record_of(2, &(1_u64, 1_u64, "text"))),
        ("a missing field", record_of(2, &(1_u64, 1_u64, service("a", "b")))),
        ("too few parts", record_of(2, &(1_u64, 1_u64))),
        ("cut off", good[..good.len() - 1].to_vec()),
        ("going on", [&good[..], &[0xC0]].concat()),
    ];
    for (what, record) in bad {
        let file = forged(|frames| {
            let first = records_of(&frames[2])[0].clone();
            frames[2] = rows_frame(1, &[first, record.clone()]);
        });
        let begins = crate::frames::all_frames_at(&file)[4].0 - record.len();
        match refused(&file) {
            SnapshotError::Row { table, row: 1, offset, .. } => {
                assert_eq!(table, "nodes", "{what}");
                let inside = begins as u64..=(begins + record.len()) as u64;
                assert!(inside.contains(&offset), "{what}: {offset}, {inside:?}");
            }
            error => panic!("{what}: {error}"),
        }
    }
}

#[test]
fn a_rows_frame_that_ends_inside_a_row_or_goes_on_is_refused() {
    let cut = |at: usize| forged(|frames| frames[2].payload.truncate(at));
    let whole = frames_of(&file_of(&small()))[2].payload.len();
    for at in 0..whole {
        assert!(refused_also_by_inspect(&cut(at)).is_corrupt());
    }
    let file = forged(|frames| frames[2].payload.push(0));
    assert!(matches!(refused_also_by_inspect(&file), SnapshotError::Malformed { .. }));
}

#[test]
fn a_header_that_is_none_is_refused() {
    let too_many = forged(|frames| {
        change_header(frames, |header| {
            let table =
                |n: usize| TableHeader { name: format!("{n:05}"), ..header.tables[0].clone() };
            header.tables = (0..=TABLES_MAX).map(table).collect();
        });
    });
    let text = forged(|frames| frames[0] = encoded(HEADER, &"text"));
    let nothing = forged(|frames| frames[0].payload.clear());
    let goes_on = forged(|frames| frames[0].payload.push(0xC0));
    for file in [too_many, text, nothing, goes_on] {
        let error = refused_also_by_inspect(&file);
        assert!(matches!(error, SnapshotError::Malformed { offset: 12, .. }), "{error}");
    }
}

#[test]
fn a_frame_longer_than_its_limit_is_refused_before_it_is_read() {
    let file = file_of(&small());
    for (kind, at, limit) in
        [(HEADER, 12, CHUNK_STORED_MAX), (ROWS, frames_at(&file)[1].0, CHUNK_STORED_MAX)]
    {
        for length in [limit as u32 + 1, u32::MAX] {
            let mut file = file.clone();
            file[at..at + 4].copy_from_slice(&length.to_le_bytes());
            assert_eq!(file[at + 4], kind);
            match refused_also_by_inspect(&file) {
                SnapshotError::FrameTooLarge { offset, bytes, limit: told } => {
                    assert_eq!((offset, bytes), (at as u64, u64::from(length)));
                    assert_eq!(told, limit as u64);
                }
                error => panic!("{error}"),
            }
        }
    }
}

#[test]
fn lengths_that_are_allowed_but_false_allocate_nothing() {
    let file = file_of(&small());
    for (at, length) in [(12, CHUNK_STORED_MAX), (frames_at(&file)[1].0, CHUNK_STORED_MAX)] {
        let mut file = file.clone();
        file[at..at + 4].copy_from_slice(&(length as u32).to_le_bytes());
        let (error, largest) = largest_during(|| load(&file).unwrap_err());
        assert!(matches!(error, SnapshotError::Truncated { .. }), "{error}");
        assert!(largest <= 128 * 1024, "{largest} bytes for a file of {}", file.len());
    }
}

#[test]
fn counts_and_lengths_inside_sealed_frames_allocate_nothing() {
    for count in [u32::MAX, 1 << 20] {
        let file = forged(|frames| frames[2].payload[4..8].copy_from_slice(&count.to_le_bytes()));
        assert!(refused_also_by_inspect(&file).is_corrupt());
    }
    for length in [u32::MAX, ROW_BYTES_MAX as u32, ROW_BYTES_MAX as u32 + 1] {
        let file = forged(|frames| frames[2].payload[8..12].copy_from_slice(&length.to_le_bytes()));
        let error = refused_also_by_inspect(&file);
        assert!(matches!(error, SnapshotError::Malformed { .. }), "{error}");
    }
    let file = forged(|frames| {
        change_header(frames, |header| {
            header.tables.iter_mut().for_each(|table| table.rows = u64::MAX);
        });
    });
    assert!(matches!(refused_also_by_inspect(&file), SnapshotError::RowCount { .. }));
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, Table)]
#[table(name = "lists")]
struct Lists {
    #[key]
    id: u64,
    list: Vec<[u64; 8]>,
    text: String,
}

/// A MessagePack length of 2^32 - 1 in a row is five bytes; so is one in a header.
#[test]
fn message_pack_length_bombs_allocate_nothing() {
    let db = Db::builder().table::<Lists>().build().unwrap();
    commit(&db, |txn| drop(txn.insert(Lists::default()).unwrap()));
    let frames = frames_of(&file_of(&db));
    let record = &records_of(&frames[1])[0];
    // The empty list and the empty string, each the last byte of its field's name and value.
    for (name, empty, bomb) in [(&b"list"[..], 0x90, 0xDD), (b"text", 0xA0, 0xDB)] {
        let at = record.windows(5).position(|bytes| bytes[..4] == *name && bytes[4] == empty);
        let at = at.expect("the record has the field") + 4;
        let bombed = [&record[..at], &[bomb, 0xFF, 0xFF, 0xFF, 0xFF], &record[at + 1..]].concat();
        let file = seal_with_end(&[frames[0].clone(), rows_frame(0, &[bombed])], 1);
        let load = || Db::builder().table::<Lists>().load(file.as_slice()).unwrap_err();
        let (error, largest) = largest_during(load);
        assert!(matches!(error, SnapshotError::Row { .. }), "{error}");
        assert!(largest <= ALLOCATION_MAX, "{largest} bytes were allocated at once");
        assert!(inspect(file.as_slice()).unwrap_err().is_corrupt());
    }
    let header = &frames[0].payload;
    let at = header.windows(7).position(|bytes| bytes == b"tables\x91").unwrap() + 6;
    let bombed = [&header[..at], &[0xDD, 0xFF, 0xFF, 0xFF, 0xFF], &header[at + 1..]].concat();
    let file = seal_with_end(&[Frame { kind: HEADER, payload: bombed }, frames[1].clone()], 1);
    let error = refused_also_by_inspect(&file);
    assert!(matches!(error, SnapshotError::Malformed { .. }), "{error}");
}

/// msgpack-rust: deep nesting ended the process by a stack overflow.
#[test]
fn nesting_bombs_are_refused() {
    let db = Db::builder().table::<Lists>().build().unwrap();
    let mut frames = frames_of(&file_of(&db));
    frames.pop();
    change_header(&mut frames, |header| header.tables[0].rows = 1);
    for bomb in [vec![0x91; 1_000_000], [vec![0x93, 1, 1], vec![0x81; 100_000]].concat()] {
        let file = seal_with_end(&[frames[0].clone(), rows_frame(0, &[bomb])], 1);
        let error = Db::builder().table::<Lists>().load(file.as_slice()).unwrap_err();
        assert!(error.is_corrupt(), "{error}");
        assert!(inspect(file.as_slice()).unwrap_err().is_corrupt());
    }
    let file = seal(&[Frame { kind: HEADER, payload: vec![0x91; 1_000_000] }]);
    assert!(inspect(file.as_slice()).unwrap_err().is_corrupt());
}

/// Each level is an enum variant around the next, which decoders do not count by themselves.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Chain {
    End,
    Link(Box<Chain>),
}

#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "chains")]
struct Chained {
    #[key]
    id: u64,
    chain: Chain,
}

/// On a thread with room for it, so that a missing limit fails the test and not the process.
#[test]
fn nesting_in_a_recursive_enum_is_refused_too() {
    const DEPTH: usize = 2_000;
    let check = || {
        let db = Db::builder().table::<Chained>().build().unwrap();
        commit(&db, |txn| drop(txn.insert(Chained { id: 1, chain: Chain::End }).unwrap()));
        let frames = frames_of(&file_of(&db));
        let record = &records_of(&frames[1])[0];
        let end = [&[0xA3], &b"End"[..]].concat();
        let link = [&[0x81, 0xA4], &b"Link"[..]].concat();
        assert!(record.ends_with(&end));
        let bomb = [&record[..record.len() - end.len()], &link.repeat(DEPTH), &end].concat();
        let file = seal_with_end(&[frames[0].clone(), rows_frame(0, &[bomb])], 1);
        let loaded = Db::builder().table::<Chained>().load(file.as_slice());
        assert!(loaded.is_err(), "{DEPTH} levels were decoded: a few more overflow the stack");
        assert!(inspect(file.as_slice()).unwrap_err().is_corrupt());
    };
    let thread = std::thread::Builder::new().stack_size(512 * 1024 * 1024).spawn(check);
    thread.unwrap().join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// A frame of no rows is 17 bytes; a million of them must not be walked for each that follows.
#[test]
fn a_file_of_empty_frames_is_read_in_linear_time_and_memory() {
    let mut frames = frames_of(&file_of(&small()));
    frames.pop();
    let rows = frames.remove(2);
    (0..200_000).for_each(|_| frames.insert(2, rows_frame(1, &[])));
    frames.insert(2, rows);
    let file = seal_with_end(&frames, 4);
    let (loaded, largest) = largest_during(|| load(&file));
    assert_eq!(file_of(&loaded.unwrap()), file_of(&small()));
    assert!(largest <= ALLOCATION_MAX, "{largest} bytes were allocated at once");
}

/// A header in which one byte becomes a string of 24 bytes, some millions of times.
#[test]
fn a_header_of_very_many_values_is_refused_before_it_is_decoded() {
    let mut frames = frames_of(&file_of(&small()));
    frames.pop();
    change_header(&mut frames, |header| header.tables[0].key = vec![String::new(); 600_000]);
    let file = seal(&frames[..1]);
    // More than a chunk; what it is cut into does not matter here.
    assert!(file.len() < 1024 * 1024);
    let error = refused_also_by_inspect(&file);
    assert!(matches!(error, SnapshotError::Malformed { offset: 12, .. }), "{error}");
    let (_, largest) = largest_during(|| load(&file));
    assert!(largest <= ALLOCATION_MAX, "{largest} bytes were allocated at once");
}
