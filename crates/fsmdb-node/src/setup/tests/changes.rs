//! Changes between the snapshot files of a directory.

use fsmdb::raft::{HardState, LogStore as _, SnapshotMeta};
use fsmdb::{Applied, Db, Fsm, Table, WriteTxn};
use serde::{Deserialize, Serialize};
use slog::{Discard, o};
use tempfile::TempDir;

use super::super::*;

#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "jobs")]
struct Job {
    #[key]
    id: u64,
    text: String,
}

struct Jobs;

impl Fsm for Jobs {
    type Command = u64;
    type Reply = ();

    fn apply(&self, txn: &mut WriteTxn<'_>, _: Applied, id: u64) {
        txn.upsert(Job { id, text: "a job ".repeat(9) }).expect("it is a row");
    }
}

/// A node's files, with a log that can name them.
struct Place {
    folder: TempDir,
    files: Files,
    log: EngineLog,
    machine: Machine<Jobs>,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let (identity, logger) = (Identity { cluster: 7, node: 1 }, Logger::root(Discard, o!()));
        let path = folder.path().join("node");
        let mut directory = DataDir::open(path, identity, &logger).expect("it is empty");
        let options = LogOptions { prefill_bytes: 0, ..LogOptions::default() };
        let mut log = EngineLog::open(&mut directory, options).expect("it is empty");
        log.found(Membership::of_voters([1])).expect("it is empty");
        fs::create_dir(directory.path().join(ARRIVING)).expect("it is not there");
        let files = directory.snapshots();
        let files = Files {
            links: Links::open(files.folder().to_owned()).expect("it can be listed"),
            files,
            arriving: directory.path().join(ARRIVING),
            housekeeper: log.housekeeper(),
            load: LoadOptions::new,
            logger: Logger::root(Discard, o!()),
            missed: Mutex::default(),
            placing: Mutex::default(),
        };
        let db = Db::builder().table::<Job>().keep_digests().build().expect("a sound schema");
        let machine = Machine::new(db, Jobs).expect("nobody owns it");
        Self { folder, files, log, machine }
    }

    fn apply(&self, to: u64) -> Snapshot {
        for index in self.machine.applied().index + 1..=to {
            let command = Machine::<Jobs>::encode(&index).expect("it is short");
            self.machine.apply(Applied { index, term: 1 }, &command).expect("it follows");
        }
        self.machine.read()
    }

    /// Builds a snapshot, which the log names from then on.
    fn record(&mut self, snapshot: &Snapshot) -> Vec<u8> {
        let (reference, _) = self.files.build(snapshot).expect("the disk is sound");
        let Applied { index, term } = snapshot.applied();
        let membership = Membership::of_voters([1]);
        let meta = SnapshotMeta { index, term, membership, reference: reference.clone() };
        let hard_state = HardState { term, vote: 0, commit: index };
        self.log.install_snapshot(&meta, hard_state).expect("its file is there");
        reference
    }

    fn names(&self) -> Vec<String> {
        let listed = fs::read_dir(self.folder.path().join("node/snapshots")).expect("listed");
        let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        let mut names: Vec<_> = listed.map(|entry| name(entry.expect("listed"))).collect();
        names.sort();
        names
    }
}

#[test]
fn changes_are_kept_with_what_they_lead_to_and_gone_after_an_erasure() {
    let mut place = Place::new();
    let first = place.apply(200);
    place.record(&first);
    let second = place.apply(220);
    let reference = place.record(&second);
    place.files.build_changes(&first, &second, &reference).expect("the disk is sound");
    place.files.retain(&reference).expect("the disk is sound");
    let changes = place.files.changes(&reference);
    let [Changes { base: 200, parcel, bytes, .. }] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!(*bytes, parcel.head.len() as u64 + parcel.files[0].metadata().expect("it").len());
    let whole = format!("snap-{:020}-{:020}", 1, 220);
    assert_eq!(place.names(), [format!("incr-{:020}-{:020}-{:020}", 1, 200, 220), whole.clone()]);
    place.files.erase().expect("the disk is sound");
    assert_eq!(place.files.changes(&reference), []);
    assert_eq!(place.names(), [whole]);
}

#[test]
fn for_a_snapshot_that_changes_did_not_lead_to_no_file_is_named_any_more() {
    let mut place = Place::new();
    let first = place.apply(200);
    place.record(&first);
    let sender = Place::new();
    let (reference, _) = sender.files.build(&sender.apply(220)).expect("the disk is sound");
    assert_eq!(place.files.held(&reference), [200]);
    let received = place.folder.path().join("received");
    let at = Applied { index: 220, term: 1 };
    fs::write(&received, head_of(200, vec![0])).expect("the disk is sound");
    place.files.adopt(at, &reference, &received).expect_err("it is cut");
    assert_eq!(place.files.held(&reference), [0; 0]);
    assert_eq!(place.files.held(b"another"), [200]);
    let whole = sender.files.path(&reference).expect("it is one");
    fs::copy(whole, &received).expect("the disk is sound");
    assert_eq!(place.files.adopt(at, &reference, &received).expect("it is sound"), reference);
}

#[test]
fn changes_that_are_written_or_put_together_end_when_it_is_cancelled() {
    let mut place = Place::new();
    let (first, second) = (place.apply(200), place.apply(220));
    place.record(&first);
    let (own, _) = place.files.build(&second).expect("the disk is sound");
    place.files.build_changes(&first, &second, &own).expect("the disk is sound");
    let [Changes { parcel, .. }] = &place.files.changes(&own)[..] else { panic!("one") };
    let received = place.folder.path().join("received");
    let content = [&parcel.head[..], &fs::read(&parcel.files[0]).expect("it is there")].concat();
    fs::write(&received, content).expect("the disk is sound");
    let names = place.names();
    place.files.cancel();
    let at = Applied { index: 220, term: 1 };
    place.files.adopt(at, &own, &received).expect_err("cancelled");
    fs::remove_file(&parcel.files[0]).expect("it is there");
    place.files.build_changes(&first, &second, &own).expect("nothing is written");
    assert_eq!(place.names().len() + 1, names.len());
    let arriving = fs::read_dir(place.folder.path().join("node").join(ARRIVING));
    assert_eq!(arriving.expect("listed").count(), 0, "nothing half is left");
}
