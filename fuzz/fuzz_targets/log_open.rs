//! Logs whose files were changed: an open finds what was written, or refuses.
//!
//! Two logs are written once: one with its records in a single file, where each of them is known,
//! and one of several files, some of them moved and some written over, with snapshots. The input
//! says what is changed in a copy of one of them. Whatever opens holds whole records up to one of
//! them, all that stand before the first change, and none is missing that a later one that is left
//! proves to have been durable; what has lost some opens a second time as the same. A log that has
//! lost nothing that was proved to have been durable is not refused.

#![no_main]

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arbitrary::Arbitrary;
use fsmdb::raft::{Entry, HardState, LogStore, Membership, Recovered, SnapshotMeta};
use fsmdb_node::storage::{
    DataDir, EngineLog, Identity, LogOptions, SnapshotReference, StorageError,
};
use libfuzzer_sys::fuzz_target;
use slog::{Discard, Logger, o};

const IDENTITY: Identity = Identity { cluster: 7, node: 1 };

const ONE_FILE: LogOptions =
    LogOptions { file_bytes: 1 << 20, purge_bytes: 1 << 20, prefill_bytes: 0 };

const SMALL_FILES: LogOptions =
    LogOptions { file_bytes: 512, purge_bytes: 1024, prefill_bytes: 1024 };

/// How often it is asked whether the threads of an open have ended.
const THREAD_ROUNDS_MAX: usize = 1000;

/// What is done to a file, by its number in the folder. Places are taken modulo its length.
#[derive(Arbitrary, Debug)]
enum Edit {
    Flip { file: u8, at: u16, bit: u8 },
    Write { file: u8, at: u16, bytes: Vec<u8> },
    Fill { file: u8, at: u16, count: u16, byte: u8 },
    Cut { file: u8, at: u16 },
    Append { file: u8, bytes: Vec<u8> },
    Zeros { file: u8, count: u16 },
    Swap { file: u8, at: u16, with: u16, count: u16 },
    Remove { file: u8 },
}

#[derive(Arbitrary, Debug)]
struct Input {
    is_split: bool,
    edits: Vec<Edit>,
}

/// A log as it was written.
struct Base {
    options: LogOptions,
    identity: Vec<u8>,
    files: Vec<(String, Vec<u8>)>,
    /// What it held after each record.
    states: Vec<Recovered>,
    /// Of a log with one file of records: where each of them ends, and how many of the first it
    /// proves to have been durable.
    records: Vec<(usize, usize)>,
}

/// Whether panics are of the storage, which catches them.
static IS_QUIET: AtomicBool = AtomicBool::new(false);

fn bases() -> &'static [Base; 2] {
    static BASES: OnceLock<[Base; 2]> = OnceLock::new();
    BASES.get_or_init(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !IS_QUIET.load(Ordering::SeqCst) {
                loud(panic);
            }
        }));
        [one_file(), several_files()]
    })
}

/// In memory where the system has a folder that is.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a folder can be made")
}

fn open(path: &Path, options: LogOptions) -> Result<(DataDir, EngineLog), StorageError> {
    let mut directory = DataDir::open(path, IDENTITY, &Logger::root(Discard, o!()))?;
    let log = EngineLog::open(&mut directory, options)?;
    Ok((directory, log))
}

fn varint(mut value: u64, into: &mut Vec<u8>) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

fn entry(index: u64) -> Entry {
    let mut bytes = vec![2 << 3, 1, 3 << 3];
    varint(index, &mut bytes);
    bytes.push(4 << 3 | 2);
    varint(20 + index, &mut bytes);
    bytes.extend((0..20 + index).map(|number| (number ^ index) as u8));
    Entry::decode(&bytes).expect("it is one")
}

/// A snapshot of which the log sees the name and the size.
fn snapshot(path: &Path, index: u64) -> SnapshotMeta {
    let reference = SnapshotReference { term: 1, index, bytes: 4, hash: [7; 32] };
    fs::write(path.join("snapshots").join(reference.name()), b"hole").expect("written");
    let membership = Membership::of_voters([1, 2, 3]);
    SnapshotMeta { index, term: 1, membership, reference: reference.to_bytes() }
}

/// The files of a log, by their names.
fn read(path: &Path) -> Vec<(String, Vec<u8>)> {
    let listed = fs::read_dir(path.join("log")).expect("it is there");
    let paths = listed.map(|entry| entry.expect("listed").path());
    let name = |path: &Path| path.file_name().expect("a file").to_string_lossy().into_owned();
    let read = |path: &Path| fs::read(path).expect("it is there");
    let mut files: Vec<_> = paths.map(|path| (name(&path), read(&path))).collect();
    files.retain(|(name, _)| name != "LOCK");
    files.sort();
    files
}

fn identity(path: &Path) -> Vec<u8> {
    fs::read(path.join("identity")).expect("it is there")
}

fn one_file() -> Base {
    let folder = folder();
    let path = folder.path().join("node");
    let (directory, mut log) = open(&path, ONE_FILE).expect("an empty folder");
    let mut states = vec![log.load().expect("it is sound")];
    log.found(Membership::of_voters([1, 2, 3])).expect("it is empty");
    states.push(log.load().expect("it is sound"));
    // The first two were synced; from the first sync on, records are evidence.
    let mut proved = vec![0, 1];
    let mut durable = 2;
    let is_synced = [true, false, false, true, true, false, true, false, false, false];
    for (number, is_synced) in (1..).zip(is_synced) {
        let first = states.last().map_or(1, |state| 1 + state.entries.len() as u64) + 1;
        let count = if number % 4 == 3 { 0 } else { number % 3 + 1 };
        let entries: Vec<_> = (first..first + count).map(entry).collect();
        let state = HardState { term: 1, vote: number % 3, commit: first - 1 };
        log.append(&entries, Some(state), is_synced).expect("in order");
        states.push(log.load().expect("it is sound"));
        proved.push(durable);
        durable = if is_synced { states.len() } else { durable };
    }
    let identity = identity(&path);
    drop((directory, log));
    let files = read(&path);
    let [(_, bytes), (moved, nothing)] = &files[..] else { panic!("{} files", files.len()) };
    assert!(moved.ends_with(".rewrite") && nothing.len() == 69);
    // A file of version 2 has a header of 69 bytes, a record its length in 7.
    let (mut at, mut records) = (69, Vec::new());
    for proved in proved {
        let length = bytes[at..at + 7].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        at += length;
        records.push((at, proved));
    }
    assert_eq!(at, bytes.len());
    Base { options: ONE_FILE, identity, files, states, records }
}

fn several_files() -> Base {
    let folder = folder();
    let path = folder.path().join("node");
    let (directory, mut log) = open(&path, SMALL_FILES).expect("an empty folder");
    log.found(Membership::of_voters([1, 2, 3])).expect("it is empty");
    let mut states = vec![log.load().expect("it is sound")];
    for index in 2..=40 {
        let state = HardState { term: 1, vote: 1, commit: index - 1 };
        log.append(&[entry(index)], Some(state), index % 3 == 0).expect("in order");
        if index % 10 == 0 && index <= 30 {
            log.compact_to(index - 8, &snapshot(&path, index)).expect("it is legal");
            log.housekeeper().run().expect("the disk is sound");
        }
        states.push(log.load().expect("it is sound"));
    }
    let identity = identity(&path);
    // As a crash leaves them.
    let files = read(&path);
    drop((directory, log));
    assert!(files.iter().any(|(name, _)| name.ends_with(".rewrite")));
    assert!(files.len() > 4);
    Base { options: SMALL_FILES, identity, files, states, records: Vec::new() }
}

/// Changes the files; whether something stands in another place than it was written to.
fn change(files: &mut Vec<(String, Vec<u8>)>, edits: &[Edit]) -> bool {
    let mut are_moved = false;
    for edit in edits {
        let count = files.len();
        let (Edit::Flip { file, .. }
        | Edit::Write { file, .. }
        | Edit::Fill { file, .. }
        | Edit::Cut { file, .. }
        | Edit::Append { file, .. }
        | Edit::Zeros { file, .. }
        | Edit::Swap { file, .. }
        | Edit::Remove { file }) = edit;
        let Some(number) = usize::from(*file).checked_rem(count) else { return are_moved };
        let bytes = &mut files[number].1;
        let length = bytes.len();
        let place = |at: &u16| usize::from(*at).checked_rem(length).unwrap_or_default();
        match edit {
            Edit::Flip { at, bit, .. } if length > 0 => bytes[place(at)] ^= 1 << (bit % 8),
            Edit::Flip { .. } => {}
            Edit::Write { at, bytes: written, .. } => {
                let end = (place(at) + written.len()).min(length);
                let start = place(at);
                bytes[start..end].copy_from_slice(&written[..end - start]);
            }
            Edit::Fill { at, count, byte, .. } => {
                let end = (place(at) + usize::from(*count)).min(length);
                bytes[place(at)..end].fill(*byte);
            }
            Edit::Cut { at, .. } => bytes.truncate(place(at)),
            Edit::Append { bytes: appended, .. } => bytes.extend(appended),
            Edit::Zeros { count, .. } => bytes.resize(length + usize::from(*count), 0),
            Edit::Swap { at, with, count, .. } => {
                are_moved = true;
                for (a, b) in (place(at)..length).zip(place(with)..length).take((*count).into()) {
                    bytes.swap(a, b);
                }
            }
            Edit::Remove { .. } => drop(files.remove(number)),
        }
    }
    are_moved
}

/// How many threads this process has, where the system says so.
fn threads() -> usize {
    fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

/// Waits until there are no more threads than before: the pool that reads the files back ends them
/// without waiting, and one that is about to end looks like a leak.
fn settle(threads_before: usize) {
    let mut rounds = 0;
    while threads() > threads_before && rounds < THREAD_ROUNDS_MAX {
        std::thread::sleep(Duration::from_micros(100));
        rounds += 1;
    }
}

/// Opens a log, and answers with what it holds.
fn opened(path: &Path, options: LogOptions) -> Result<Recovered, StorageError> {
    IS_QUIET.store(true, Ordering::SeqCst);
    let outcome = open(path, options).and_then(|(directory, mut log)| {
        let held = log.load()?;
        drop((directory, log));
        Ok(held)
    });
    IS_QUIET.store(false, Ordering::SeqCst);
    outcome
}

/// What every log that opens is.
fn check(base: &Base, held: &Recovered) {
    let Recovered { hard_state, truncated_index, entries, .. } = held;
    let written = base.states.iter().flat_map(|state| &state.entries);
    let written: Vec<_> = written.collect();
    for (index, entry) in (truncated_index + 1..).zip(entries) {
        assert_eq!(entry.index(), index);
        assert!(written.contains(&entry), "entry {index}");
    }
    assert!(hard_state.commit <= truncated_index + entries.len() as u64);
    assert!(base.states.iter().any(|state| state.hard_state == *hard_state));
}

/// What a log is whose records are in one file, of which nothing was moved to another place.
fn check_records(base: &Base, changed: &[u8], outcome: &Result<Recovered, StorageError>) {
    let original = &base.files[0].1;
    let same = original.iter().zip(changed).take_while(|(one, other)| one == other).count();
    let whole = base.records.iter().filter(|(end, _)| *end <= same).count();
    let (_, durable) = *base.records.last().expect("several");
    let Ok(held) = outcome else {
        assert!(whole < durable, "{whole} records are whole: {outcome:?}");
        return;
    };
    let found = base.states.iter().rposition(|state| state == held);
    let found = found.expect("a state that was written") + 1;
    assert!(found >= whole, "{found} of {whole} records");
    let starts = base.records.iter().map(|(end, _)| *end);
    for (start, (end, proved)) in starts.zip(&base.records[1..]).skip(found) {
        let is_left = changed.get(start..*end) == Some(&original[start..*end]);
        assert!(!is_left || *proved <= found, "{found} of {proved} records are there");
    }
}

fuzz_target!(|input: Input| {
    let base = &bases()[usize::from(input.is_split)];
    let threads_before = threads();
    let mut files = base.files.clone();
    let are_moved = change(&mut files, &input.edits);
    let folder = folder();
    let path = folder.path().join("node");
    for folder in [path.clone(), path.join("log")] {
        fs::DirBuilder::new().mode(0o700).create(folder).expect("it is empty");
    }
    fs::write(path.join("identity"), &base.identity).expect("written");
    for (name, bytes) in &files {
        fs::write(path.join("log").join(name), bytes).expect("written");
    }
    let outcome = opened(&path, base.options);
    if let Ok(held) = &outcome {
        check(base, held);
        if base.states.last() != Some(held) {
            assert_eq!(&opened(&path, base.options).expect("it was sound"), held);
        }
    }
    if let ([(_, changed), _], false, false) = (&files[..], input.is_split, are_moved) {
        check_records(base, changed, &outcome);
    }
    settle(threads_before);
});
