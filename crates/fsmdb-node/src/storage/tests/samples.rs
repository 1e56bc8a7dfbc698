//! Nodes, entries and snapshots to try the storage with.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use fsmdb::raft::{Entry, HardState, Membership, Recovered, SnapshotMeta};
use fsmdb::{Applied, Db, Error, Fsm, Machine, Table, WriteTxn};
use serde::{Deserialize, Serialize};
use slog::{Discard, Drain, KV, Level, Logger, Never, OwnedKVList, Record, Serializer, o};
use tempfile::TempDir;

use super::disk::FaultyDisk;
use crate::storage::{
    DataDir, EngineLog, Identity, LogOptions, SnapshotReference, StorageError, recover,
};

pub(super) const IDENTITY: Identity = Identity { cluster: 0xC1, node: 1 };

pub(super) fn quiet() -> Logger {
    Logger::root(Discard, o!())
}

/// What a node's log was told: level and line of each record.
#[derive(Clone, Default)]
pub(super) struct Told(Arc<Mutex<Vec<(Level, String)>>>);

impl Told {
    pub(super) fn logger(&self) -> Logger {
        Logger::root(self.clone(), o!())
    }

    /// The lines of a level since the last call of this.
    pub(super) fn take(&self, level: Level) -> Vec<String> {
        let told = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        told.into_iter().filter(|(found, _)| *found == level).map(|(_, line)| line).collect()
    }
}

impl Drain for Told {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, _: &OwnedKVList) -> Result<(), Never> {
        let mut line = Line(record.msg().to_string());
        record.kv().serialize(record, &mut line).expect("every value can be shown");
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.push((record.level(), line.0));
        Ok(())
    }
}

struct Line(String);

impl Serializer for Line {
    fn emit_arguments(&mut self, key: slog::Key, value: &fmt::Arguments<'_>) -> slog::Result {
        self.0.push_str(&format!(", {key}: {value}"));
        Ok(())
    }
}

/// Files so small that a few entries fill one.
pub(super) const SMALL: LogOptions =
    LogOptions { file_bytes: 1024, purge_bytes: 4096, prefill_bytes: 0 };

/// A folder with the directory of a node in it.
pub(super) struct Place {
    folder: TempDir,
    pub(super) disk: FaultyDisk,
    pub(super) logger: Logger,
}

impl Place {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder for tests");
        Self { folder, disk: FaultyDisk::default(), logger: quiet() }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("node")
    }

    pub(super) fn open(&self) -> Result<(DataDir, EngineLog), StorageError> {
        self.open_with(SMALL)
    }

    pub(super) fn open_with(
        &self,
        options: LogOptions,
    ) -> Result<(DataDir, EngineLog), StorageError> {
        let mut directory = DataDir::open(self.path(), IDENTITY, &self.logger)?;
        let disk = Arc::new(self.disk.clone());
        let log = EngineLog::open_on(disk, &mut directory, options)?;
        Ok((directory, log))
    }

    /// A founded node.
    pub(super) fn founded(&self) -> (DataDir, EngineLog) {
        let (directory, mut log) = self.open().expect("an empty folder");
        log.found(Membership::of_voters([1, 2, 3])).expect("it is empty");
        (directory, log)
    }

    /// The directory as it is now, as after a crash.
    pub(super) fn copy(&self) -> Self {
        let copy = Self::new();
        copy_folder(&self.path(), &copy.path());
        copy
    }

    /// The files of the log, oldest first.
    pub(super) fn log_files(&self) -> Vec<PathBuf> {
        let listed = fs::read_dir(self.path().join("log")).expect("there is a log");
        let mut files: Vec<_> = listed.map(|entry| entry.expect("listed").path()).collect();
        files.retain(|path| path.to_string_lossy().ends_with(".raftlog"));
        files.sort();
        files
    }

    pub(super) fn snapshot_names(&self) -> Vec<String> {
        let listed = fs::read_dir(self.path().join("snapshots")).expect("there is a folder");
        let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        let mut names: Vec<_> = listed.map(|entry| name(entry.expect("listed"))).collect();
        names.sort();
        names
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder for the copy");
    let mode = fs::metadata(from).expect("it is there").permissions();
    fs::set_permissions(to, mode).expect("it is ours");
    for entry in fs::read_dir(from).expect("it is there") {
        let entry = entry.expect("listed");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("it can be read");
        }
    }
}

/// An entry, by the bytes of its protobuf encoding.
pub(super) fn entry(index: u64, term: u64, data: &[u8]) -> Entry {
    let mut bytes = Vec::new();
    for (field, number) in [(2, term), (3, index)] {
        bytes.push(field << 3);
        varint(&mut bytes, number);
    }
    bytes.push(4 << 3 | 2);
    varint(&mut bytes, data.len() as u64);
    bytes.extend_from_slice(data);
    let entry = Entry::decode(&bytes).expect("it is one");
    assert_eq!((entry.index(), entry.term()), (index, term));
    entry
}

fn varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

pub(super) fn hard_state(term: u64, vote: u64, commit: u64) -> HardState {
    HardState { term, vote, commit }
}

/// A snapshot of which only the name and size are right.
pub(super) fn hollow_snapshot(place: &Place, at: Applied) -> SnapshotMeta {
    let content = format!("state at {at}");
    let bytes = content.len() as u64;
    let hash = *blake3::hash(content.as_bytes()).as_bytes();
    let reference = SnapshotReference { term: at.term, index: at.index, bytes, hash };
    fs::write(place.path().join("snapshots").join(reference.name()), content).expect("written");
    let membership = Membership::of_voters([1, 2, at.index + 3]);
    SnapshotMeta { index: at.index, term: at.term, membership, reference: reference.to_bytes() }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Table)]
#[table(name = "jobs")]
pub(super) struct Job {
    #[key]
    pub(super) id: u64,
    pub(super) text: String,
}

pub(super) struct Jobs;

impl Fsm for Jobs {
    type Command = Job;
    type Reply = Result<(), Error>;

    fn apply(&self, txn: &mut WriteTxn<'_>, _: Applied, job: Job) -> Self::Reply {
        txn.insert(job).map(drop)
    }
}

pub(super) fn machine() -> Machine<Jobs> {
    let db = Db::builder().table::<Job>().build().expect("a sound schema");
    Machine::new(db, Jobs).expect("nobody owns it")
}

pub(super) fn command(id: u64) -> Vec<u8> {
    let job = Job { id, text: format!("job number {id}").repeat(4) };
    Machine::<Jobs>::encode(&job).expect("it is short")
}

/// Starts the node: a machine from the snapshot, and what its log holds.
pub(super) fn start(
    directory: &DataDir,
    log: &mut EngineLog,
) -> Result<(Machine<Jobs>, Recovered), StorageError> {
    let machine = machine();
    let recovered = recover(directory, log, &machine, fsmdb::LoadOptions::new)?;
    Ok((machine, recovered))
}

/// Applies the recovered entries, as the core would hand them out.
pub(super) fn replay(machine: &Machine<Jobs>, recovered: &Recovered) {
    let after = machine.applied().index;
    for entry in recovered.entries.iter().filter(|entry| entry.index() > after) {
        let at = Applied { index: entry.index(), term: entry.term() };
        let command = entry.command().expect("only commands are appended");
        machine.apply(at, command).expect("they follow");
    }
}
