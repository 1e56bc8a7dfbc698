//! A node that was away gets what has changed since a snapshot whose file it holds.

#![allow(clippy::disallowed_methods, reason = "tests have deadlines")]

mod places;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fsmdb::raft::Consistency;
use fsmdb::{Applied, Db, Digests, Fsm, Machine, Table, WriteTxn};
use fsmdb_node::node::Options;
use fsmdb_node::storage::{Identity, LogOptions};
use fsmdb_node::transport::Security;
use fsmdb_node::{Node, Sessions, Setup, with_tables};
use serde::{Deserialize, Serialize};
use slog::{Discard, Logger, o};
use tempfile::TempDir;

use crate::places::{LIMIT, places, until};

/// Entries between two snapshots.
const INTERVAL: u64 = 50;

/// Rows of the database.
const ROWS: u64 = 2000;

#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "jobs")]
struct Job {
    #[key]
    id: u64,
    text: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Command {
    Fill,
    Write { id: u64, text: String },
    Delete { id: u64 },
}

#[derive(Debug)]
struct Jobs;

impl Fsm for Jobs {
    type Command = Command;
    type Reply = Result<(), String>;

    fn apply(&self, txn: &mut WriteTxn<'_>, _at: Applied, command: Command) -> Self::Reply {
        let done = match command {
            Command::Fill => (0..ROWS)
                .try_for_each(|id| txn.upsert(Job { id, text: "empty".repeat(10) }).map(drop)),
            Command::Write { id, text } => txn.upsert(Job { id, text }).map(drop),
            Command::Delete { id } => {
                txn.table_mut::<Job>().delete(&id);
                Ok(())
            }
        };
        done.map_err(|error| error.to_string())
    }
}

/// Three nodes over directories and TCP.
struct Group {
    folder: TempDir,
    addresses: BTreeMap<u64, SocketAddr>,
    nodes: BTreeMap<u64, Node<Jobs>>,
    written: u64,
}

impl Group {
    /// A filled group of which every node has built a snapshot.
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let addresses = places(1..=3);
        let mut group = Self { folder, addresses, nodes: BTreeMap::new(), written: 0 };
        (1..=3).for_each(|id| group.start(id));
        group.propose(&Command::Fill);
        group.write(INTERVAL);
        for id in 1..=3 {
            until("a snapshot", || group.nodes[&id].status().snapshot_index >= INTERVAL);
        }
        group
    }

    fn start(&mut self, id: u64) {
        let db = with_tables(Db::builder().table::<Job>().keep_digests()).build();
        let machine = Machine::new(db.expect("a sound schema"), Sessions::new(Jobs));
        let identity = Identity { cluster: 7, node: id };
        let tick = Duration::from_millis(50);
        let options = Options { tick, deadline: LIMIT, ..Options::default() };
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
        .log(LogOptions { prefill_bytes: 0, ..LogOptions::default() })
        .options(options)
        .snapshots(INTERVAL, 5);
        self.nodes.insert(id, Node::start(setup).expect("it starts"));
    }

    fn path(&self, id: u64) -> PathBuf {
        self.folder.path().join(format!("node-{id}"))
    }

    fn any(&self) -> &Node<Jobs> {
        self.nodes.values().next().expect("one runs")
    }

    fn leader(&self) -> u64 {
        let mut leader = None;
        until("a leader", || {
            let found = self.nodes.iter().find(|(_, node)| node.status().is_leader());
            leader = found.map(|(id, _)| *id);
            leader.is_some()
        });
        leader.expect("just found")
    }

    fn propose(&self, command: &Command) -> Applied {
        let (at, reply) = self.any().propose(command).wait().expect("applied");
        reply.expect("taken");
        at
    }

    /// So many entries, each of which changes one row; many of them are under way at a time.
    fn write(&mut self, entries: u64) -> Applied {
        let mut asked = Vec::new();
        for _ in 0..entries {
            self.written += 1;
            let id = self.written * 7 % ROWS;
            let command = match self.written % 10 {
                0 => Command::Delete { id },
                _ => Command::Write { id, text: format!("written {}", self.written) },
            };
            asked.push(self.any().propose(&command));
        }
        let applied = asked.into_iter().map(|asked| asked.wait().expect("applied").0);
        applied.max().unwrap_or_default()
    }

    /// Stops a follower, and writes until its entries are gone from the logs of the others.
    fn leave_behind(&mut self, intervals: u64) -> u64 {
        let leader = self.leader();
        let away = (1..=3).find(|id| *id != leader).expect("three");
        self.nodes.remove(&away).expect("it runs").stop();
        until("the leader misses it", || {
            let status = self.nodes[&self.leader()].status();
            status.raft.peers.get(&away).is_some_and(|peer| !peer.is_active)
        });
        let mut last = Applied::default();
        for _ in 0..intervals {
            last = self.write(INTERVAL);
            let reached = last.index / INTERVAL * INTERVAL;
            for node in self.nodes.values() {
                until("a snapshot", || node.status().snapshot_index >= reached);
            }
        }
        let newest = last.index / INTERVAL * INTERVAL;
        let leads = self.leader();
        until("changes that lead to it", || {
            self.links(leads).iter().any(|path| path.ends_with(&format!("-{newest:020}")))
        });
        away
    }

    fn links(&self, id: u64) -> Vec<String> {
        let mut names = names(&self.path(id).join("snapshots"));
        names.retain(|name| name.starts_with("incr-"));
        names
    }

    fn digests(&self, id: u64) -> Digests {
        let snapshot = self.nodes[&id].read(Consistency::Linearizable).wait().expect("confirmed");
        snapshot.digests().expect("they are kept")
    }

    /// Waits until all have the same tables: the leader writes rows of its own when nodes are back.
    fn assert_all_agree(&self) {
        until("all agree", || {
            let tables = self.digests(1).tables;
            [2, 3].iter().all(|id| self.digests(*id).tables == tables)
        });
    }

    /// Waits for this: a receiver has what was sent before its sender is told so.
    fn wait_for_sent(&self, snapshots: u64) {
        until("the sender knows", || self.counted(SENT) >= snapshots);
    }

    /// The sum of what all nodes have counted.
    fn counted(&self, name: &str) -> u64 {
        let of = |text: String| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            line.and_then(|number| number.parse::<u64>().ok()).expect("it is counted")
        };
        self.nodes.values().map(|node| of(node.metrics())).sum()
    }
}

fn names(folder: &Path) -> Vec<String> {
    let listed = fs::read_dir(folder).expect("it is there");
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    listed.map(|entry| name(entry.expect("listed"))).collect()
}

const SENT: &str = "fsmdb_snapshots_sent_total";
const SENT_AS_CHANGES: &str = "fsmdb_snapshots_sent_as_changes_total";
const CHANGE_BYTES: &str = "fsmdb_snapshot_change_bytes_total";

#[test]
fn the_files_of_replicas_are_of_the_same_entries_and_have_the_same_bytes() {
    let mut group = Group::new();
    let last = group.write(2 * INTERVAL).index / INTERVAL * INTERVAL;
    for id in 1..=3 {
        until("a snapshot", || group.nodes[&id].status().snapshot_index >= last);
        assert_eq!(group.nodes[&id].status().snapshot_index, last);
    }
    let file = |id| {
        let folder = group.path(id).join("snapshots");
        let newest = format!("-{last:020}");
        let is_newest = |name: &&String| name.starts_with("snap-") && name.ends_with(&newest);
        let names = names(&folder);
        fs::read(folder.join(names.iter().find(is_newest).expect("its file"))).expect("read")
    };
    assert!(file(1) == file(2) && file(1) == file(3));
}

#[test]
fn a_node_that_was_away_gets_what_has_changed_since_its_file_and_no_more() {
    let mut group = Group::new();
    for (round, intervals) in [(1, 2), (2, 4)] {
        let away = group.leave_behind(intervals);
        let (before, sent) = (group.counted(CHANGE_BYTES), group.counted(SENT));
        group.start(away);
        group.assert_all_agree();
        group.wait_for_sent(sent + 1);
        assert_eq!(group.counted(SENT_AS_CHANGES), group.counted(SENT), "round {round}");
        let bytes = group.counted(CHANGE_BYTES) - before;
        let whole = names(&group.path(away).join("snapshots"));
        let whole = whole.iter().filter(|name| name.starts_with("snap-")).max().expect("a file");
        let whole = group.path(away).join("snapshots").join(whole).metadata().expect("listed");
        assert!(bytes > 0 && bytes * 4 < whole.len(), "{bytes} of {}", whole.len());
        group.nodes[&away].db().read().check().expect("it is sound");
    }
}

#[test]
fn changes_that_are_damaged_at_the_sender_are_followed_by_the_whole_file() {
    let mut group = Group::new();
    let away = group.leave_behind(2);
    for id in (1..=3).filter(|id| *id != away) {
        for name in group.links(id) {
            let path = group.path(id).join("snapshots").join(name);
            let mut bytes = fs::read(&path).expect("it is there");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).expect("written");
        }
    }
    group.start(away);
    group.assert_all_agree();
    group.wait_for_sent(1);
    assert!(group.counted(CHANGE_BYTES) > 0, "they were tried");
    assert_eq!(group.counted(SENT_AS_CHANGES), 0);
}

#[test]
fn a_node_that_lost_nothing_but_time_serves_changes_after_its_own_restart() {
    let mut group = Group::new();
    let away = group.leave_behind(2);
    let others: Vec<u64> = (1..=3).filter(|id| *id != away).collect();
    for id in &others {
        group.nodes.remove(id).expect("it runs").stop();
    }
    for id in &others {
        group.start(*id);
    }
    group.start(away);
    group.assert_all_agree();
    group.wait_for_sent(1);
    assert_eq!(group.counted(SENT_AS_CHANGES), group.counted(SENT));
}
