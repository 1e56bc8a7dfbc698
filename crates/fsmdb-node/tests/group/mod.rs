//! A group of nodes in this process: their state machine, snapshot files and starts.

mod files;
mod net;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fsmdb::raft::{
    Config, Entry, HardState, LogError, LogStore, Membership, MemoryLog, Recovered, SnapshotMeta,
};
use fsmdb::{Applied, Db, Fsm, Machine, Read, Snapshot, Table, WriteTxn};
use fsmdb_node::node::{Node, NodeError, Options, Parts};
use fsmdb_node::session::{Replicated, SessionBounds, Sessions, with_tables};
use serde::{Deserialize, Serialize};

pub(crate) use files::Files;
pub(crate) use net::Net;

/// How long anything may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "counters")]
pub(crate) struct Counter {
    #[key]
    name: String,
    count: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    Add {
        name: String,
        by: u64,
    },
    Refuse,
    Panic,
    /// Of a newer version; the diverging replica does something else.
    Diverge,
}

#[derive(Debug)]
pub(crate) struct Counters {
    diverges: bool,
}

impl Fsm for Counters {
    type Command = Command;
    type Reply = Result<u64, String>;

    fn apply(&self, txn: &mut WriteTxn<'_>, _at: Applied, command: Command) -> Self::Reply {
        match command {
            Command::Add { name, by } => raise(txn, name, by),
            Command::Refuse => {
                raise(txn, "refused".to_owned(), 1)?;
                Err("refused".to_owned())
            }
            Command::Panic => panic!("on purpose"),
            Command::Diverge => raise(txn, "diverging".to_owned(), u64::from(self.diverges)),
        }
    }
}

/// The state machine of an older version.
#[derive(Debug)]
pub(crate) struct Older;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum OlderCommand {
    Add { name: String, by: u64 },
}

impl Fsm for Older {
    type Command = OlderCommand;
    type Reply = Result<u64, String>;

    fn apply(&self, txn: &mut WriteTxn<'_>, _at: Applied, command: OlderCommand) -> Self::Reply {
        let OlderCommand::Add { name, by } = command;
        raise(txn, name, by)
    }
}

fn raise(txn: &mut WriteTxn<'_>, name: String, by: u64) -> Result<u64, String> {
    let count = txn.table::<Counter>().get(&name).map_or(0, |row| row.count) + by;
    txn.upsert(Counter { name, count }).map_err(|error| error.to_string())?;
    Ok(count)
}

pub(crate) fn add(name: &str, by: u64) -> Command {
    Command::Add { name: name.to_owned(), by }
}

pub(crate) fn count(snapshot: &Snapshot, name: &str) -> u64 {
    count_of(snapshot, name)
}

pub(crate) fn count_of(read: &impl Read, name: &str) -> u64 {
    read.table::<Counter>().get(name).map_or(0, |row| row.count)
}

/// Waits until something is true, at most for [`LIMIT`].
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < deadline, "never came: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) bounds: SessionBounds,
    pub(crate) proposals_max: usize,
    pub(crate) snapshot_entries: u64,
    pub(crate) tail_entries: u64,
    pub(crate) keeps_digests: bool,
    pub(crate) diverging: Option<u64>,
    /// A node of another build than the rest.
    pub(crate) upgraded: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bounds: SessionBounds::default(),
            proposals_max: 1000,
            snapshot_entries: 10_000,
            tail_entries: 1000,
            keeps_digests: false,
            diverging: None,
            upgraded: None,
        }
    }
}

/// A log that can be made to fail.
struct Faulty {
    log: MemoryLog,
    fails: Arc<AtomicBool>,
}

impl LogStore for Faulty {
    fn load(&mut self) -> Result<Recovered, LogError> {
        self.log.load()
    }

    fn append(
        &mut self,
        entries: &[Entry],
        hard_state: Option<HardState>,
        sync: bool,
    ) -> Result<(), LogError> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(LogError::Write { reason: "on purpose".to_owned() });
        }
        self.log.append(entries, hard_state, sync)
    }

    fn install_snapshot(
        &mut self,
        snapshot: &SnapshotMeta,
        hard_state: HardState,
    ) -> Result<(), LogError> {
        self.log.install_snapshot(snapshot, hard_state)
    }

    fn compact_to(&mut self, index: u64, snapshot: &SnapshotMeta) -> Result<(), LogError> {
        self.log.compact_to(index, snapshot)
    }

    fn scrub(&mut self) -> Result<Option<u64>, LogError> {
        self.log.scrub()
    }
}

/// What outlives a node.
struct Disk {
    log: MemoryLog,
    fails: Arc<AtomicBool>,
    files: Arc<Files>,
    boot: u64,
}

impl Disk {
    fn new(log: MemoryLog) -> Self {
        Self { files: Arc::new(Files::new(log.clone())), log, fails: Arc::default(), boot: 0 }
    }
}

pub(crate) struct Group {
    pub(crate) net: Arc<Net>,
    settings: Settings,
    founders: Membership,
    disks: BTreeMap<u64, Disk>,
    nodes: BTreeMap<u64, Node<Counters>>,
    older: BTreeMap<u64, Node<Older>>,
}

impl Group {
    pub(crate) fn of(size: u64) -> Self {
        Self::with(size, Settings::default())
    }

    pub(crate) fn with(size: u64, settings: Settings) -> Self {
        let founders = Membership::of_voters(1..=size);
        let (disks, nodes, older) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut group = Self { net: Net::new(), settings, founders, disks, nodes, older };
        for id in 1..=size {
            let log = MemoryLog::founding(group.founders.clone());
            group.disks.insert(id, Disk::new(log));
            group.start(id);
        }
        group
    }

    /// A node alone, over a log that has this already.
    pub(crate) fn over(log: MemoryLog) -> Self {
        let (net, settings, founders) =
            (Net::new(), Settings::default(), Membership::of_voters([1]));
        let disks = BTreeMap::from([(1, Disk::new(log))]);
        let (nodes, older) = (BTreeMap::new(), BTreeMap::new());
        let mut group = Self { net, settings, founders, disks, nodes, older };
        group.start(1);
        group
    }

    /// Starts a node whose log was never written.
    pub(crate) fn join(&mut self, id: u64) {
        self.disks.insert(id, Disk::new(MemoryLog::new()));
        self.start(id);
    }

    /// As `join`, of an older version.
    pub(crate) fn join_older(&mut self, id: u64) {
        self.disks.insert(id, Disk::new(MemoryLog::new()));
        let node = self.started(id, Older);
        self.older.insert(id, node);
    }

    pub(crate) fn start(&mut self, id: u64) {
        let fsm = Counters { diverges: self.settings.diverging == Some(id) };
        let node = self.started(id, fsm);
        self.nodes.insert(id, node);
    }

    fn started<F: Replicated>(&mut self, id: u64, fsm: F) -> Node<F> {
        let disk = self.disks.get_mut(&id).expect("it has a disk");
        disk.boot += 1;
        disk.files.starts();
        let mut builder = with_tables(Db::builder().table::<Counter>());
        if self.settings.keeps_digests {
            builder = builder.keep_digests();
        }
        let db = builder.build().expect("the schema is sound");
        let sessions = Sessions::with_bounds(fsm, self.settings.bounds);
        let mut config = Config::new(id, disk.boot);
        config.snapshot_entries = self.settings.snapshot_entries;
        config.tail_entries = self.settings.tail_entries;
        let mut addresses: BTreeMap<u64, String> =
            self.founders.voters.iter().map(|id| (*id, format!("node-{id}"))).collect();
        addresses.insert(id, format!("node-{id}"));
        let parts = Parts {
            config,
            machine: Machine::new(db, sessions).expect("the database is new"),
            log: Faulty { log: disk.log.clone(), fails: Arc::clone(&disk.fails) },
            snapshots: disk.files.clone(),
            addresses,
            logger: slog::Logger::root(slog::Discard, slog::o!()),
            options: Options {
                tick: Duration::from_millis(20),
                deadline: LIMIT,
                proposals_max: self.settings.proposals_max,
                digest_entries: 8,
                build: if self.settings.upgraded == Some(id) { "2" } else { "1" }.to_owned(),
                ..Options::default()
            },
        };
        start_with(parts, &self.net, id)
    }

    /// Lets every write to the log of a node fail from here on.
    pub(crate) fn fail_log(&self, id: u64) {
        self.disks[&id].fails.store(true, Ordering::SeqCst);
    }

    pub(crate) fn files(&self, id: u64) -> &Files {
        &self.disks[&id].files
    }

    /// Stops a node as a crash would.
    pub(crate) fn crash(&mut self, id: u64) {
        self.net.disconnect(id);
        self.nodes.remove(&id);
    }

    pub(crate) fn node(&self, id: u64) -> &Node<Counters> {
        &self.nodes[&id]
    }

    /// Gives the handle on a node away.
    pub(crate) fn take(&mut self, id: u64) -> Node<Counters> {
        self.nodes.remove(&id).expect("it was started")
    }

    pub(crate) fn older(&self, id: u64) -> &Node<Older> {
        &self.older[&id]
    }

    /// The leader that a majority follows.
    pub(crate) fn leader(&self) -> u64 {
        let mut found = None;
        until("a leader", || {
            let running = || self.nodes.values().map(Node::status).filter(|s| s.is_running);
            found = running().find(|status| {
                let follow = |s: &fsmdb_node::node::NodeStatus| s.raft.leader == Some(s.raft.id);
                let followers = running().filter(|s| s.raft.leader == Some(status.raft.id));
                follow(status) && 2 * followers.count() > running().count()
            });
            found.is_some()
        });
        found.expect("just found").raft.id
    }

    /// A node that runs and is another one.
    pub(crate) fn other_than(&self, id: u64) -> u64 {
        let other =
            self.nodes.iter().find(|(other, node)| **other != id && node.status().is_running);
        *other.expect("there are others").0
    }

    /// Why a node stopped, once it has.
    pub(crate) fn end_of(&self, id: u64) -> NodeError {
        until("it stops", || !self.node(id).status().is_running);
        self.node(id).status().error.expect("it says why")
    }
}

fn start_with<F: Replicated, L: LogStore>(parts: Parts<F, L>, net: &Arc<Net>, id: u64) -> Node<F> {
    let started = Node::start_with(parts, |inbound| Ok(net.connect(id, inbound)));
    started.expect("it starts")
}
