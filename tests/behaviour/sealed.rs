//! Files of many frames: on any number of threads the same; compressed; encrypted; and damage of
//! every kind in them is found.

use std::io::{self, Write};

use fsmdb::{
    Db, EncryptionKey, LoadOptions, SaveOptions, Snapshot, SnapshotError, Summary, Table, inspect,
    inspect_with,
};
use serde::{Deserialize, Serialize};

use crate::frames::{PRELUDE_BYTES, all_frames_at};
use crate::tables::{commit, file_of};

#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "texts", tombstones = 100)]
struct Text {
    #[key]
    id: u64,
    #[index(unique)]
    title: String,
    #[index(multi)]
    words: Vec<String>,
    body: String,
}

fn text(id: u64, bytes: usize) -> Text {
    let words = (0..id % 4).map(|word| format!("word-{}", (id * 7 + word) % 50)).collect();
    let body = format!("{id} says ").repeat(1 + bytes / 7);
    Text { id, title: format!("title of {}", id ^ 0x55), words, body: body[..bytes].to_owned() }
}

fn database(rows: u64, bytes: usize) -> Db {
    let db = Db::builder().table::<Text>().build().unwrap();
    commit(&db, |txn| {
        txn.table_mut().insert_all((0..rows).map(|id| text(id, bytes))).unwrap();
    });
    commit(&db, |txn| {
        assert_eq!(txn.table_mut::<Text>().delete_all(..rows / 50), rows as usize / 50);
    });
    db
}

fn saved(snap: &Snapshot, options: SaveOptions<'_>) -> (Summary, Vec<u8>) {
    let mut file = Vec::new();
    let summary = snap.save_with(&mut file, options).unwrap();
    (summary, file)
}

fn load(file: &[u8], options: LoadOptions<'_>) -> Result<Db, SnapshotError> {
    Db::builder().table::<Text>().load_with(file, options)
}

/// Frames end where the rows say, not the threads: rows of all sizes, small ones in batches, and
/// large ones that a thread hands over before its batch is done.
#[test]
fn the_file_and_what_is_loaded_are_the_same_on_any_number_of_threads() {
    for (rows, bytes) in [(5_000, 20), (3_000, 700), (60, 150_000), (3, 3_000_000)] {
        let db = database(rows, bytes);
        let snap = db.read();
        let (summary, file) = saved(&snap, SaveOptions::new().threads(1));
        assert_eq!(inspect(file.as_slice()).unwrap(), summary);
        for threads in [2, 3, 8] {
            let again = saved(&snap, SaveOptions::new().threads(threads));
            assert!(again == (summary.clone(), file.clone()), "{threads} threads, {rows} rows");
            let copy = load(&file, LoadOptions::new().threads(threads)).unwrap();
            copy.check().unwrap();
            assert!(file_of(&copy) == file, "{threads} threads, {rows} rows");
        }
    }
}

/// Whoever looks for a fault on several threads finds the first one.
#[test]
fn what_is_wrong_is_told_the_same_on_any_number_of_threads() {
    let file = file_of(&database(2_000, 100));
    let starts: Vec<_> = all_frames_at(&file).iter().map(|(at, _)| *at).collect();
    assert!(starts.len() > 5);
    for at in starts[1..].iter().step_by(2) {
        let mut file = file.clone();
        file[at + 30] ^= 4;
        let told = |threads| load(&file, LoadOptions::new().threads(threads)).unwrap_err();
        let first = told(1).to_string();
        assert!((2..6).all(|threads| told(threads).to_string() == first), "{first}");
    }
}

#[test]
fn a_compressed_file_is_shorter_and_loads_as_the_same() {
    let db = database(3_000, 300);
    let snap = db.read();
    let (_, plain) = saved(&snap, SaveOptions::new());
    for level in [1, 3] {
        let (summary, file) = saved(&snap, SaveOptions::new().compress(level).threads(2));
        assert!(file.len() * 4 < plain.len(), "{} of {}", file.len(), plain.len());
        assert_eq!(summary.compression.as_deref(), Some("zstd"));
        assert_eq!(inspect(file.as_slice()).unwrap(), summary);
        assert!(file_of(&load(&file, LoadOptions::new()).unwrap()) == plain);
        assert!(saved(&snap, SaveOptions::new().compress(level).threads(1)).1 == file);
        for length in (0..file.len()).step_by(97) {
            assert!(load(&file[..length], LoadOptions::new()).unwrap_err().is_corrupt());
        }
    }
    let empty = Db::builder().table::<Text>().build().unwrap();
    let (_, file) = saved(&empty.read(), SaveOptions::new().compress(3));
    assert_eq!(file_of(&load(&file, LoadOptions::new()).unwrap()), file_of(&empty));
}

const KEY: [u8; 32] = *b"a key that is not random at all!";

#[test]
fn an_encrypted_file_opens_with_its_key_alone_and_shows_no_row() {
    let db = database(2_000, 300);
    let (key, other) = (EncryptionKey::new(KEY), EncryptionKey::new([7; 32]));
    for options in [SaveOptions::new(), SaveOptions::new().compress(3)] {
        let (summary, file) = saved(&db.read(), options.encrypt(&key).threads(2));
        assert_eq!(summary.encryption.as_deref(), Some("XChaCha20-Poly1305"));
        assert!(!file.windows(9).any(|part| part == b"title of "), "a row can be read");
        assert_eq!(inspect_with(file.as_slice(), Some(&key)).unwrap(), summary);
        let copy = load(&file, LoadOptions::new().decrypt(&key)).unwrap();
        assert!(file_of(&copy) == file_of(&db));
        assert!(matches!(inspect(file.as_slice()), Err(SnapshotError::NoKey)));
        assert!(matches!(load(&file, LoadOptions::new()), Err(SnapshotError::NoKey)));
        let error = load(&file, LoadOptions::new().decrypt(&other)).unwrap_err();
        assert!(matches!(error, SnapshotError::Sealed { .. }) && !error.is_corrupt(), "{error}");
        let (_, again) = saved(&db.read(), SaveOptions::new().encrypt(&key));
        assert!(file != again, "nonces are used once");
    }
    let plain = load(&file_of(&db), LoadOptions::new().decrypt(&key)).unwrap_err();
    assert!(matches!(plain, SnapshotError::NotEncrypted), "whoever has no key could have made it");
    assert_eq!(format!("{key:?}"), "EncryptionKey(..)");
}

/// The checksums are no secret: who changes a file can mend them, but not the seals.
#[test]
fn an_encrypted_file_that_was_changed_on_purpose_does_not_open() {
    let key = EncryptionKey::new(KEY);
    let (_, file) = saved(&database(1_000, 200).read(), SaveOptions::new().encrypt(&key));
    let frames: Vec<_> = all_frames_at(&file).into_iter().map(|(_, frame)| frame).collect();
    let forged = |change: &dyn Fn(&mut Vec<crate::frames::Frame>)| {
        let mut frames = frames.clone();
        change(&mut frames);
        load(&crate::frames::seal(&frames), LoadOptions::new().decrypt(&key))
    };
    forged(&|_| ()).unwrap();
    for error in [
        forged(&|frames| frames[2].payload[5] ^= 1),
        forged(&|frames| frames.swap(1, 2)),
        forged(&|frames| drop(frames.remove(1))),
        forged(&|frames| frames.insert(1, frames[1].clone())),
        forged(&|frames| drop(frames.remove(frames.len() - 2))),
        forged(&|frames| {
            let header = &mut frames[0].payload;
            let at = header.windows(8).position(|part| part == b"revision").unwrap() + 8;
            assert_eq!(header[at], 2);
            header[at] = 3;
        }),
    ] {
        let error = error.unwrap_err();
        assert!(matches!(error, SnapshotError::Sealed { .. }), "{error}");
    }
}

#[test]
fn files_beyond_the_callers_limits_are_refused_early() {
    let file = file_of(&database(2_000, 100));
    let rows = load(&file, LoadOptions::new().rows_max(1_959)).unwrap_err();
    assert!(matches!(rows, SnapshotError::TooMany { what: "rows", found: 1_960, limit: 1_959 }));
    load(&file, LoadOptions::new().rows_max(1_960)).unwrap();
    let bytes = inspect(file.as_slice()).unwrap().tables[0].bytes;
    load(&file, LoadOptions::new().bytes_max(bytes)).unwrap();
    let error = load(&file, LoadOptions::new().bytes_max(bytes - 1)).unwrap_err();
    assert!(matches!(error, SnapshotError::TooMany { what: "bytes", .. }), "{error}");
}

/// Every chunk of a file of some 64 KiB dropped, repeated, or in the place of another.
#[test]
fn every_dropped_repeated_or_swapped_chunk_is_detected_and_the_old_state_stays() {
    let db = Db::builder().table::<Text>().build().unwrap();
    for id in 0..12 {
        commit(&db, |txn| drop(txn.insert(text(id, 20_000)).unwrap()));
    }
    let file = file_of(&db);
    let before = file_of(&database(10, 10));
    let kept = load(&before, LoadOptions::new()).unwrap();
    let starts: Vec<_> =
        all_frames_at(&file).iter().map(|(at, _)| *at).chain([file.len()]).collect();
    let parts: Vec<_> = starts.windows(2).map(|pair| &file[pair[0]..pair[1]]).collect();
    assert!(parts.len() > 5, "{} chunks", parts.len());
    let refused = |parts: &[&[u8]]| {
        let glued = [&file[..PRELUDE_BYTES], &parts.concat()].concat();
        assert!(kept.restore(glued.as_slice()).unwrap_err().is_corrupt());
        assert!(inspect(glued.as_slice()).is_err());
    };
    for one in 0..parts.len() {
        refused(&[&parts[..one], &parts[one + 1..]].concat());
        refused(&[&parts[..one], &[parts[one]], &parts[one..]].concat());
        for other in 0..one {
            let mut swapped = parts.clone();
            swapped.swap(one, other);
            refused(&swapped);
        }
    }
    assert_eq!(file_of(&kept), before);
}

/// Bits of a file of some size, every `step`-th one, starting anywhere.
fn flip_bits(file: &mut [u8], first: usize, step: usize, kept: &Db) -> usize {
    let before = file_of(kept);
    let mut flips = 0;
    for bit in (first..file.len() * 8).step_by(step) {
        file[bit / 8] ^= 1 << (bit % 8);
        let error = kept.restore(&*file).expect_err("a flipped bit");
        let is_version = (8..PRELUDE_BYTES).contains(&(bit / 8));
        assert!(error.is_corrupt() || is_version, "bit {bit}: {error}");
        file[bit / 8] ^= 1 << (bit % 8);
        flips += 1;
    }
    assert_eq!(file_of(kept), before, "the old state is what it was");
    flips
}

fn of_bytes(bytes: usize) -> Vec<u8> {
    let db = database(bytes as u64 / 230, 150);
    let file = file_of(&db);
    assert!((bytes * 8 / 10..bytes * 12 / 10).contains(&file.len()), "{} bytes", file.len());
    file
}

#[test]
fn bits_of_a_file_of_64_kib_that_flip_are_detected() {
    let mut file = of_bytes(64 * 1024);
    assert!(flip_bits(&mut file, 3, 1_009, &database(3, 3)) > 400);
}

#[test]
fn bits_of_a_file_of_1_mib_that_flip_and_truncations_are_detected() {
    let mut file = of_bytes(1024 * 1024);
    let kept = database(3, 3);
    assert!(flip_bits(&mut file, 5, 104_729, &kept) > 70);
    for length in (0..file.len()).step_by(30_011) {
        assert!(kept.restore(&file[..length]).unwrap_err().is_corrupt(), "cut at {length}");
    }
}

/// All 524,288 bits, and all lengths. Some minutes in release builds: for `.ci/heavy corrupt`.
#[test]
#[ignore = "takes minutes; .ci/heavy corrupt runs it"]
fn every_bit_and_every_length_of_a_file_of_64_kib() {
    let mut file = of_bytes(64 * 1024);
    let kept = database(3, 3);
    let flips = flip_bits(&mut file, 0, 1, &kept);
    for length in 0..file.len() {
        assert!(kept.restore(&file[..length]).unwrap_err().is_corrupt(), "cut at {length}");
    }
    println!("{flips} bits, {} lengths", file.len());
}

/// All 8.4 million bits: hours, or minutes on many cores.
#[test]
#[ignore = "takes hours; .ci/heavy corrupt runs a part of it"]
fn every_bit_of_a_file_of_1_mib() {
    let file = of_bytes(1024 * 1024);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for first in 0..threads {
            let mut file = file.clone();
            scope.spawn(move || flip_bits(&mut file, first, threads, &database(3, 3)));
        }
    });
}

/// A target that takes its time over each write and counts them.
struct Slow {
    writes: usize,
    bytes: usize,
}

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writes += 1;
        self.bytes += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_row_of_several_chunks_is_cut_where_chunks_are_full() {
    let db = database(2, 2_500_000);
    let mut target = Slow { writes: 0, bytes: 0 };
    let summary = db.read().save(&mut target).unwrap();
    assert_eq!(summary.bytes, target.bytes as u64);
    let file = file_of(&db);
    let chunks = all_frames_at(&file);
    let longest = chunks.iter().map(|(_, chunk)| chunk.payload.len()).max().unwrap();
    assert_eq!(longest, fsmdb::limits::CHUNK_BYTES_MAX);
    assert!(chunks.iter().filter(|(_, chunk)| chunk.kind == 0x80 | 2).count() >= 4);
    assert!(file_of(&load(&file, LoadOptions::new()).unwrap()) == file);
    let more = chunks.iter().find(|(_, chunk)| chunk.kind == 0x80 | 2).unwrap().0;
    let mut parts: Vec<_> = chunks.into_iter().map(|(_, chunk)| chunk).collect();
    let cut = parts.iter().position(|chunk| chunk.kind == 0x80 | 2).unwrap();
    parts[cut].payload.pop();
    let error = load(&crate::frames::seal(&parts), LoadOptions::new()).unwrap_err();
    assert!(matches!(error, SnapshotError::Malformed { offset, .. } if offset == more as u64));
}
