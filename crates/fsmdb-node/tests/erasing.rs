//! What a command erased is gone from the files of every node.

#![allow(clippy::disallowed_methods, reason = "tests have deadlines")]

mod places;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fsmdb::raft::Consistency;
use fsmdb::{Applied, Db, Digests, Fsm, Machine, Revision, Table, WriteTxn};
use fsmdb_node::node::{ErasureReport, MemberError, NodeErasure, Options};
use fsmdb_node::storage::{Identity, LogOptions};
use fsmdb_node::transport::Security;
use fsmdb_node::{Node, Sessions, Setup, with_tables};
use serde::{Deserialize, Serialize};
use slog::{Discard, Logger, o};
use tempfile::TempDir;

use crate::places::{LIMIT, places, until};

const CANARY: &str = "canary-5f1c9e07d2b84a63-canary-!";

#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "notes")]
struct Note {
    #[key]
    tenant: String,
    #[key]
    id: u64,
    text: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Command {
    Write { tenant: String, id: u64 },
    Erase { tenant: String },
}

#[derive(Debug)]
struct Notes;

impl Fsm for Notes {
    type Command = Command;
    type Reply = Result<usize, String>;

    fn apply(&self, txn: &mut WriteTxn<'_>, _at: Applied, command: Command) -> Self::Reply {
        match command {
            Command::Write { tenant, id } => {
                let text = format!("a note of {tenant}");
                let written = txn.upsert(Note { tenant, id, text });
                written.map(|_| 1).map_err(|error| error.to_string())
            }
            Command::Erase { tenant } => {
                Ok(txn.table_mut::<Note>().erase_prefix(&(tenant.as_str(),)))
            }
        }
    }
}

/// Files below the folder that have the canary in them.
fn with_canary(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("it is there") {
        let path = entry.expect("listed").path();
        if path.is_dir() {
            found.extend(with_canary(&path));
            continue;
        }
        let bytes = fs::read(&path).expect("it can be read");
        if bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes()) {
            found.push(path);
        }
    }
    found
}

/// Three nodes over directories and TCP.
struct Group {
    folder: TempDir,
    addresses: BTreeMap<u64, SocketAddr>,
    nodes: BTreeMap<u64, Node<Notes>>,
}

impl Group {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let addresses = places(1..=3);
        let mut group = Self { folder, addresses, nodes: BTreeMap::new() };
        (1..=3).for_each(|id| group.start(id));
        group
    }

    fn start(&mut self, id: u64) {
        let db = with_tables(Db::builder().table::<Note>().keep_digests()).build();
        let machine = Machine::new(db.expect("a sound schema"), Sessions::new(Notes));
        let identity = Identity { cluster: 7, node: id };
        let log = LogOptions { file_bytes: 4096, purge_bytes: 8192, prefill_bytes: 0 };
        let options = Options { tick: Duration::from_millis(50), deadline: LIMIT, ..default() };
        let founders = self.addresses.iter().map(|(id, address)| (*id, address.to_string()));
        let setup = Setup::new(
            identity,
            machine.expect("nobody owns it"),
            self.path(id),
            self.addresses[&id],
            Security::insecure_loopback_only(),
            Logger::root(Discard, o!()),
        )
        .founds(founders.collect())
        .log(log)
        .options(options)
        .snapshots(16, 1000);
        self.nodes.insert(id, Node::start(setup).expect("it starts"));
    }

    fn stop(&mut self, id: u64) {
        self.nodes.remove(&id).expect("it runs").stop();
    }

    fn path(&self, id: u64) -> PathBuf {
        self.folder.path().join(format!("node-{id}"))
    }

    fn propose(&self, id: u64, command: &Command) -> (Applied, usize) {
        let (at, reply) = self.nodes[&id].propose(command).wait().expect("applied");
        (at, reply.expect("taken"))
    }

    /// Notes of two tenants, of which one is erased.
    fn write_and_erase(&self) -> Applied {
        for id in 0..40 {
            for tenant in [CANARY, "somebody else"] {
                self.propose(1, &Command::Write { tenant: tenant.to_owned(), id });
            }
        }
        let (at, erased) = self.propose(1, &Command::Erase { tenant: CANARY.to_owned() });
        assert_eq!(erased, 40);
        at
    }

    /// The state of a node, when it has applied all that was acknowledged.
    fn digests(&self, id: u64) -> Digests {
        let snapshot = self.nodes[&id].read(Consistency::Linearizable).wait().expect("confirmed");
        assert_eq!(snapshot.table::<Note>().len(), 40);
        snapshot.digests().expect("they are kept")
    }

    /// Waits until all have the same tables: the leader writes rows of its own when nodes are back.
    fn assert_all_agree(&self) {
        until("all agree", || {
            let tables = self.digests(1).tables;
            [2, 3].iter().all(|id| self.digests(*id).tables == tables)
        });
    }

    /// Asks until the report is complete.
    fn erase(&self, by: u64, at: Applied) -> ErasureReport {
        let deadline = Instant::now() + LIMIT;
        loop {
            let report = self.nodes[&by].erase_history(at).wait().expect("a leader answers");
            if report.is_complete() {
                return report;
            }
            assert!(Instant::now() < deadline, "{report:?}");
        }
    }
}

fn default() -> Options {
    Options::default()
}

fn assert_erased(report: &ErasureReport, at: Applied, ids: &[u64]) {
    assert_eq!(report.index, at.index);
    for id in ids {
        let node = &report.nodes[id];
        let NodeErasure::Erased { index } = node else { panic!("node {id}: {node:?}") };
        assert!(*index >= at.index, "node {id}: {node:?}");
    }
}

#[test]
fn no_file_of_any_node_has_what_was_erased_and_a_restart_of_all_goes_on() {
    let mut group = Group::new();
    let at = group.write_and_erase();
    // What an earlier start has received in part.
    let arriving = group.path(2).join("arriving");
    fs::write(arriving.join("3-00-99.partial"), CANARY).expect("written");
    for id in [1, 2, 3] {
        until("the command is in every log", || !with_canary(&group.path(id)).is_empty());
    }
    until("a file of changes has it", || {
        let is_link = |path: &PathBuf| path.to_string_lossy().contains("/incr-");
        with_canary(group.folder.path()).iter().any(is_link)
    });
    let report = group.erase(2, at);
    assert_erased(&report, at, &[1, 2, 3]);
    assert_eq!(report.nodes.len(), 3);
    assert_eq!(with_canary(group.folder.path()), Vec::<PathBuf>::new());
    group.assert_all_agree();
    group.propose(3, &Command::Write { tenant: "somebody else".to_owned(), id: 0 });
    (1..=3).for_each(|id| group.stop(id));
    assert_eq!(with_canary(group.folder.path()), Vec::<PathBuf>::new());
    (1..=3).for_each(|id| group.start(id));
    group.propose(3, &Command::Write { tenant: "somebody else".to_owned(), id: 1 });
    group.assert_all_agree();
    assert_eq!(with_canary(group.folder.path()), Vec::<PathBuf>::new());
}

#[test]
fn a_node_that_is_down_is_named_and_done_when_it_is_back_and_asked_again() {
    let mut group = Group::new();
    let at = group.write_and_erase();
    until("the third has the entry", || group.nodes[&3].read_stale().applied().index >= at.index);
    group.stop(3);
    let mut report = group.nodes[&1].erase_history(at).wait().expect("a leader answers");
    until("the two are done", || {
        let done = |id| matches!(report.nodes[&id], NodeErasure::Erased { .. });
        let are_done = done(1) && done(2);
        if !are_done {
            report = group.nodes[&1].erase_history(at).wait().expect("a leader answers");
        }
        are_done
    });
    assert_erased(&report, at, &[1, 2]);
    assert_eq!(report.nodes[&3], NodeErasure::Unreachable);
    assert!(!report.is_complete());
    for id in [1, 2] {
        assert_eq!(with_canary(&group.path(id)), Vec::<PathBuf>::new());
    }
    assert!(!with_canary(&group.path(3)).is_empty(), "it was down");
    group.start(3);
    assert_erased(&group.erase(3, at), at, &[1, 2, 3]);
    assert_eq!(with_canary(group.folder.path()), Vec::<PathBuf>::new());
    group.assert_all_agree();
}

#[test]
fn a_node_holds_no_state_from_before_an_erasure_for_its_snapshot_files() {
    let group = Group::new();
    let at = group.write_and_erase();
    for node in group.nodes.values() {
        until("a snapshot was built", || node.status().snapshot_index > 1);
        until("nothing pins what was erased", || {
            let has_applied = node.read_stale().applied().index >= at.index;
            has_applied && node.db().pinned_until(Revision(at.index)).is_none()
        });
    }
}

#[test]
fn an_entry_that_no_leader_has_applied_is_not_erased_up_to() {
    let group = Group::new();
    let at = group.write_and_erase();
    let later = Applied { index: at.index + 1_000_000, ..at };
    let refused = group.nodes[&1].erase_history_within(later, Duration::from_millis(300)).wait();
    assert!(matches!(refused, Err(MemberError::Timeout { .. })), "{refused:?}");
    assert!(!with_canary(&group.path(1)).is_empty());
}
