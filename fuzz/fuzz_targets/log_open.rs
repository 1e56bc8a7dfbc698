//! Damaged disks: whatever became of the files of a node, its log opens as it once was, or is
//! refused with a reason. It never panics, and never has a gap or an entry that nobody wrote.
//!
//! A bit that was changed, or an end that is missing, leaves exactly a state of the past. Whole
//! records that were moved to where they are none can leave a mixture, which no checksum of a
//! record finds; its entries are still without a gap and of those that were written.

#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use arbitrary::Arbitrary;
use fsmdb::raft::{Config, Core, Entry, HardState, LogStore, Membership, Recovered};
use fsmdb_node::storage::{DataDir, EngineLog, Identity, LogOptions, StorageError};
use libfuzzer_sys::fuzz_target;
use slog::{Discard, Logger, o};

const IDENTITY: Identity = Identity { cluster: 7, node: 1 };
/// Files so small that a few entries fill one.
const OPTIONS: LogOptions = LogOptions { file_bytes: 512, purge_bytes: 4096, prefill_bytes: 0 };
/// Changes of one input; more only make it slower.
const CHANGES_MAX: usize = 8;

#[derive(Arbitrary, Debug)]
enum Change {
    Flip { file: u8, at: u16, bit: u8 },
    CutLast { at: u16 },
    Cut { file: u8, at: u16 },
    Insert { file: u8, at: u16, bytes: Vec<u8> },
    Splice { into: u8, at: u16, from: u8, start: u16, length: u16 },
    Remove { file: u8 },
    Swap { one: u8, other: u8 },
}

/// The files of a node, and every state its log ever had.
struct Sample {
    files: Vec<(PathBuf, Vec<u8>)>,
    states: Vec<Recovered>,
}

fn open(folder: &Path) -> Result<(DataDir, EngineLog), StorageError> {
    let mut directory = DataDir::open(folder, IDENTITY, &Logger::root(Discard, o!()))?;
    let log = EngineLog::open(&mut directory, OPTIONS)?;
    Ok((directory, log))
}

/// As a message on the wire has it.
fn entry(index: u64, term: u64, data: &[u8; 40]) -> Entry {
    let mut bytes = vec![2 << 3, term as u8, 3 << 3, index as u8, 4 << 3 | 2, 40];
    bytes.extend_from_slice(data);
    Entry::decode(&bytes).expect("an entry")
}

/// Batches of entries, of which some replace the end of those before.
fn write_sample() -> Sample {
    let folder = new_folder();
    let path = folder.path().join("node");
    let (directory, mut log) = open(&path).expect("an empty folder");
    let mut states = vec![log.load().expect("it is sound")];
    log.found(Membership::of_voters([1, 2, 3])).expect("it is empty");
    states.push(log.load().expect("it is sound"));
    let mut next = 2;
    for batch in 0..12_u64 {
        let (first, term) = (if batch % 4 == 3 { next - 2 } else { next }, 1 + batch / 3);
        let at = |index| entry(index, term, &[batch as u8; 40]);
        let commit = first - 1;
        let hard_state = HardState { term, vote: 1 + batch % 3, commit };
        log.append(&[at(first), at(first + 1)], Some(hard_state), true).expect("in order");
        next = first + 2;
        states.push(log.load().expect("it is sound"));
    }
    drop((directory, log));
    let mut files = Vec::new();
    collect(&path, &path, &mut files);
    files.sort();
    assert!(files.len() > 4, "there are several files of the log");
    Sample { files, states }
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    for found in fs::read_dir(folder).expect("it is there") {
        let path = found.expect("it is there").path();
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            let name = path.strip_prefix(root).expect("it is below").to_owned();
            files.push((name, fs::read(&path).expect("it is there")));
        }
    }
}

/// In memory where there is such a place: an open waits for the disk several times.
fn new_folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder")
}

impl Change {
    /// Whether checksums find it, or it is the end that is missing.
    fn is_found(&self) -> bool {
        matches!(self, Self::Flip { .. } | Self::CutLast { .. })
    }

    fn apply(&self, files: &mut Vec<(PathBuf, Vec<u8>)>) {
        let count = files.len();
        if count == 0 {
            return;
        }
        let pick = |file: &u8| usize::from(*file) % count;
        let within = |at: &u16, bytes: &[u8]| usize::from(*at) % (bytes.len() + 1);
        match self {
            Self::Flip { file, at, bit } => {
                let bytes = &mut files[pick(file)].1;
                let place = within(at, bytes);
                if let Some(byte) = bytes.get_mut(place) {
                    *byte ^= 1 << (bit % 8);
                }
            }
            Self::CutLast { at } => {
                let logs = files.iter_mut().filter(|(name, _)| name.starts_with("log"));
                let last = logs.filter(|(name, _)| name.to_string_lossy().ends_with("raftlog"));
                if let Some((_, bytes)) = last.last() {
                    bytes.truncate(within(at, bytes));
                }
            }
            Self::Cut { file, at } => {
                let bytes = &mut files[pick(file)].1;
                bytes.truncate(within(at, bytes));
            }
            Self::Insert { file, at, bytes } => {
                let into = &mut files[pick(file)].1;
                let place = within(at, into);
                into.splice(place..place, bytes.iter().copied());
            }
            Self::Splice { into, at, from, start, length } => {
                let source = &files[pick(from)].1;
                let part = &source[within(start, source)..];
                let part = part[..part.len().min(usize::from(*length))].to_vec();
                let bytes = &mut files[pick(into)].1;
                let place = within(at, bytes);
                bytes.splice(place..place, part);
            }
            Self::Remove { file } => drop(files.remove(pick(file))),
            Self::Swap { one, other } => {
                let bytes = std::mem::take(&mut files[pick(one)].1);
                let bytes = std::mem::replace(&mut files[pick(other)].1, bytes);
                files[pick(one)].1 = bytes;
            }
        }
    }
}

fn check_entries(found: &Recovered, states: &[Recovered]) {
    for (entry, index) in found.entries.iter().zip(found.truncated_index + 1..) {
        assert_eq!(entry.index(), index, "a gap: {found:?}");
        let is_written = states.iter().any(|state| state.entries.contains(entry));
        assert!(is_written, "nobody wrote {entry:?}");
    }
    let last = found.entries.last().map_or(found.truncated_index, Entry::index);
    assert!(found.hard_state.commit <= last, "what was committed is missing: {found:?}");
}

static SAMPLE: OnceLock<Sample> = OnceLock::new();

fuzz_target!(
    init: {
        // raft-engine answers some damage with a panic, which the storage catches; one that
        // nobody catches still ends the run.
        std::panic::set_hook(Box::new(|panic| {
            let is_caught = panic.location().is_some_and(|at| at.file().contains("raft-engine"));
            if !is_caught {
                eprintln!("{panic}");
            }
        }));
        SAMPLE.get_or_init(write_sample);
    },
    |changes: Vec<Change>| {
        let sample = SAMPLE.get_or_init(write_sample);
        let changes = &changes[..changes.len().min(CHANGES_MAX)];
        let mut files = sample.files.clone();
        changes.iter().for_each(|change| change.apply(&mut files));
        let folder = new_folder();
        let path = folder.path().join("node");
        for (name, bytes) in &files {
            let file = path.join(name);
            fs::create_dir_all(file.parent().expect("it is below")).expect("a folder");
            fs::write(file, bytes).expect("a file");
        }
        let Ok((directory, mut log)) = open(&path) else { return };
        let found = log.load().expect("the open has read it");
        check_entries(&found, &sample.states);
        if changes.iter().all(Change::is_found) {
            assert!(sample.states.contains(&found), "a part of a batch is there: {found:?}");
        }
        // What was opened takes the next write, and a core takes it or says why not.
        let mut hard_state = found.hard_state;
        hard_state.term += 1;
        log.append(&[], Some(hard_state), true).expect("it is sound");
        let (mut config, applied) = (Config::new(1, directory.boot()), found.snapshot.index);
        config.seed = Some(1);
        drop(Core::new(config, found.clone(), applied, &Logger::root(Discard, o!())));
        drop((directory, log));
        let (_directory, mut log) = open(&path).expect("what was opened once");
        assert_eq!(log.load().expect("it is sound"), Recovered { hard_state, ..found });
    }
);
