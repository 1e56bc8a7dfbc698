//! The snapshot files of a directory, as the node asks for them.

mod changes;

use std::fs;

use fsmdb::raft::{HardState, LogStore, SnapshotMeta};
use fsmdb::{Db, Error, Fsm, Table, WriteTxn};
use serde::{Deserialize, Serialize};
use slog::{Discard, o};
use tempfile::TempDir;

use super::*;

#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "jobs")]
struct Job {
    #[key]
    id: u64,
}

struct Jobs;

impl Fsm for Jobs {
    type Command = u64;
    type Reply = Result<(), Error>;

    fn apply(&self, txn: &mut WriteTxn<'_>, _: Applied, id: u64) -> Self::Reply {
        txn.insert(Job { id }).map(drop)
    }
}

/// The state after so many entries of term 1.
fn state(entries: u64) -> Snapshot {
    let machine = Machine::new(Db::builder().table::<Job>().build().expect("sound"), Jobs);
    let machine = machine.expect("the database is new");
    for index in 1..=entries {
        let command = Machine::<Jobs>::encode(&index).expect("it is short");
        let reply = machine.apply(Applied { index, term: 1 }, &command).expect("in order");
        reply.expect("the first time").expect("a new row");
    }
    machine.read()
}

/// The directory of a node, of which nothing runs.
struct Place {
    files: Files,
    log: EngineLog,
    _directory: DataDir,
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder for tests");
        let identity = Identity { cluster: 7, node: 1 };
        let logger = Logger::root(Discard, o!());
        let path = folder.path().join("node");
        let mut directory = DataDir::open(path, identity, &logger).expect("it is new");
        let options = LogOptions { prefill_bytes: 0, ..LogOptions::default() };
        let log = EngineLog::open(&mut directory, options).expect("it is new");
        let arriving = directory.path().join(ARRIVING);
        fs::create_dir_all(&arriving).expect("it is ours");
        let files = directory.snapshots();
        let files = Files {
            links: Links::open(files.folder().to_owned()).expect("it can be listed"),
            files,
            arriving,
            housekeeper: log.housekeeper(),
            load: LoadOptions::new,
            logger: Logger::root(Discard, o!()),
            missed: Mutex::default(),
            placing: Mutex::default(),
        };
        Self { files, log, _directory: directory, folder }
    }

    /// A file of another node that has arrived here, and its reference.
    fn arrived(&self, entries: u64) -> (PathBuf, Vec<u8>) {
        let sender = Self::new();
        let (reference, _) = sender.files.build(&state(entries)).expect("the disk is sound");
        let sent = sender.files.path(&reference).expect("it was built");
        let path = self.files.arriving.join(format!("{entries}.received"));
        fs::copy(sent, &path).expect("the disk is sound");
        (path, reference)
    }

    /// Lets the log record a snapshot, as of a leader that sent one.
    fn record(&mut self, entries: u64) {
        let (reference, _) = self.files.build(&state(entries)).expect("the disk is sound");
        let membership = Membership::of_voters([1]);
        let snapshot = SnapshotMeta { index: entries, term: 1, membership, reference };
        let hard_state = HardState { term: 1, vote: 0, commit: entries };
        self.log.install_snapshot(&snapshot, hard_state).expect("its file is there");
    }

    fn names(&self) -> Vec<String> {
        let folder = self.folder.path().join("node/snapshots");
        let listed = fs::read_dir(folder).expect("there is one");
        listed
            .map(|entry| entry.expect("listed").file_name().into_string().expect("text"))
            .collect()
    }
}

fn at(index: u64) -> Applied {
    Applied { index, term: 1 }
}

#[test]
fn a_file_of_another_entry_than_its_message_says_is_refused() {
    let place = Place::new();
    let (file, reference) = place.arrived(30);
    for wrong in [at(29), at(31), Applied { index: 30, term: 2 }, Applied::default()] {
        let refused = place.files.adopt(wrong, &reference, &file).expect_err("another entry");
        assert!(refused.reason.contains("is said to be snap-"), "{refused}");
    }
    assert!(file.is_file() && place.names().is_empty());
    assert_eq!(place.files.adopt(at(30), &reference, &file), Ok(reference));
    assert_eq!(place.names().len(), 1);
}

#[test]
fn a_file_that_an_erasure_overtakes_while_it_is_verified_is_not_put_in_place() {
    let mut place = Place::new();
    let (file, reference) = place.arrived(30);
    let elsewhere = place.folder.path().join("elsewhere");
    fs::copy(&file, &elsewhere).expect("the disk is sound");
    let verified = SnapshotReference::parse(&reference).expect("it was built");
    place.files.files.verify_received(&file, &verified).expect("it is sound");
    place.record(50);
    place.files.erase().expect("the disk is sound");
    for file in [file, elsewhere] {
        place.files.place(&file, &verified).expect_err("it is older than what is recorded");
    }
    assert_eq!(place.names(), ["snap-00000000000000000001-00000000000000000050"]);
    // One that is not older was removed where it arrived.
    let (file, reference) = place.arrived(60);
    let verified = SnapshotReference::parse(&reference).expect("it was built");
    place.files.erase().expect("the disk is sound");
    place.files.place(&file, &verified).expect_err("it is sent again");
    assert_eq!(place.names().len(), 1);
}

#[test]
fn what_is_built_or_taken_ends_with_an_error_when_it_is_cancelled() {
    let place = Place::new();
    let (file, reference) = place.arrived(30);
    place.files.cancel();
    place.files.build(&state(20)).expect_err("cancelled");
    place.files.adopt(at(30), &reference, &file).expect_err("cancelled");
    assert_eq!(place.names(), [""; 0], "nothing half is left");
}
