//! A node whose newest snapshot file was damaged on disk starts from the one before, and a leader
//! still feeds whoever needs one.

#![allow(clippy::disallowed_methods, reason = "tests have deadlines")]

mod places;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fsmdb::{Applied, Db, Fsm, Machine, Table, WriteTxn};
use fsmdb_node::node::Options;
use fsmdb_node::storage::{Identity, LogOptions};
use fsmdb_node::transport::Security;
use fsmdb_node::{Node, Sessions, Setup, with_tables};
use serde::{Deserialize, Serialize};
use slog::{Discard, Logger, o};

use crate::places::{LIMIT, places, until};

/// Entries between two snapshots.
const EVERY: u64 = 16;

#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "notes")]
struct Note {
    #[key]
    id: u64,
    text: String,
}

#[derive(Debug)]
struct Notes;

impl Fsm for Notes {
    type Command = Note;
    type Reply = Result<(), String>;

    fn apply(&self, txn: &mut WriteTxn<'_>, _at: Applied, note: Note) -> Self::Reply {
        txn.upsert(note).map(drop).map_err(|error| error.to_string())
    }
}

fn start(folder: &Path, id: u64, addresses: &BTreeMap<u64, SocketAddr>) -> Node<Notes> {
    let db = with_tables(Db::builder().table::<Note>()).build().expect("a sound schema");
    let machine = Machine::new(db, Sessions::new(Notes)).expect("nobody owns it");
    let identity = Identity { cluster: 7, node: id };
    let log = LogOptions { prefill_bytes: 0, ..LogOptions::default() };
    let options =
        Options { tick: Duration::from_millis(20), deadline: LIMIT, ..Options::default() };
    let (security, logger) = (Security::insecure_loopback_only(), Logger::root(Discard, o!()));
    let directory = folder.join(format!("node-{id}"));
    let setup = Setup::new(identity, machine, directory, addresses[&id], security, logger)
        .log(log)
        .options(options)
        .snapshots(EVERY, 0);
    let founder = BTreeMap::from([(1, addresses[&1].to_string())]);
    let setup = if id == 1 { setup.founds(founder) } else { setup.addresses(founder) };
    Node::start(setup).expect("it starts")
}

/// The newest snapshot file of a node, once there is one.
fn newest(folder: &Path, id: u64) -> PathBuf {
    let folder = folder.join(format!("node-{id}")).join("snapshots");
    let mut found = None;
    until("a snapshot", || {
        let listed = fs::read_dir(&folder).expect("it is there");
        let paths = listed.map(|entry| entry.expect("listed").path());
        let whole = paths.filter(|path| path.extension().is_none());
        found = whole.filter(|path| path.to_string_lossy().contains("snap-")).max();
        found.is_some()
    });
    found.expect("just found")
}

/// Makes notes; returns the index of the last.
fn write(leader: &Node<Notes>, ids: Range<u64>) -> u64 {
    let mut last = 0;
    for id in ids {
        let text = format!("note {id}");
        let (at, reply) = leader.propose(&Note { id, text }).wait().expect("applied");
        reply.expect("taken");
        last = at.index;
    }
    last
}

fn change_a_byte(path: &Path) {
    let mut bytes = fs::read(path).expect("it is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("it can be written");
}

fn feeds_a_learner_after(damage: impl FnOnce(&Path)) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let addresses = places([1, 2]);
    let leader = start(folder.path(), 1, &addresses);
    until("it leads", || leader.status().is_leader());
    // Before there is a snapshot: one from before would be fit for no learner.
    leader.add_learner(2, &addresses[&2].to_string()).wait().expect("it is added");
    let last = write(&leader, 0..40);
    until("the last snapshot is recorded", || leader.status().snapshot_index + EVERY > last);
    damage(&newest(folder.path(), 1));
    let learner = start(folder.path(), 2, &addresses);
    until("the learner has all", || learner.read_stale().table::<Note>().len() == 40);
    learner.stop();
    leader.stop();
}

#[test]
fn a_snapshot_of_which_a_byte_was_changed_is_built_anew() {
    feeds_a_learner_after(change_a_byte);
}

#[test]
fn a_snapshot_that_was_removed_is_built_anew() {
    feeds_a_learner_after(|path| fs::remove_file(path).expect("it is there"));
}

#[test]
fn a_node_starts_from_the_older_snapshot_when_the_newest_is_damaged() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let addresses = places([1]);
    let mut notes = 0;
    for _ in 0..4 {
        let leader = start(folder.path(), 1, &addresses);
        until("it leads", || leader.status().is_leader());
        until("it has all again", || leader.read_stale().table::<Note>().len() as u64 == notes);
        let last = write(&leader, notes..notes + 50);
        notes += 50;
        until("the last snapshot is recorded", || leader.status().snapshot_index + EVERY > last);
        leader.stop();
        change_a_byte(&newest(folder.path(), 1));
    }
}

#[test]
fn an_erasure_does_not_rely_on_a_damaged_snapshot() {
    // Of what the log has still, and of what it has forgotten.
    for behind in [EVERY, 40] {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let addresses = places([1]);
        let leader = start(folder.path(), 1, &addresses);
        until("it leads", || leader.status().is_leader());
        let last = write(&leader, 0..60);
        until("the last snapshot is recorded", || leader.status().snapshot_index + EVERY > last);
        change_a_byte(&newest(folder.path(), 1));
        let at = Applied { index: last - behind, term: leader.status().raft.term };
        assert!(leader.erase_history(at).wait().expect("asked").is_complete());
        assert!(leader.erase_history(at).wait().expect("asked again").is_complete());
        leader.stop();
        let again = start(folder.path(), 1, &addresses);
        until("it has all again", || again.read_stale().table::<Note>().len() == 60);
    }
}
