//! A group of replicas in one process: a thread each, channels between them, logs in memory.
//!
//! For tests, for examples, and for programs that want replication between threads. A group over
//! machines needs a durable log and a network, and runs the same core.
//!
//! # Invariants
//!
//! 1. A proposal is sent again by itself only when nothing was appended for it. An unknown outcome
//!    is told and never retried.
//! 2. A linearizable read asks the leader, with a fresh context each time, and is answered from a
//!    state machine at or above the confirmed index.
//! 3. Waiting is by condition variable or channel, always with a deadline.
//! 4. No lock of this room is held while another one of it is waited for, except `nodes` before
//!    `retired` or the board.

mod board;
mod builder;
mod clock;
mod members;
mod network;
mod replica;
mod requests;
mod transact;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use slog::Logger;

pub use board::ReplicaStatus;
pub use builder::Builder;
pub use network::Counters;
pub use transact::ClusterTransactError;

use self::board::Board;
use self::builder::Options;
use self::clock::Deadline;
use self::network::{Mail, Network};
use self::replica::Replica;
use super::{ClusterError, Config, Core, LogStore, MemoryLog, RaftError, SnapshotMeta};
use crate::db::Db;
use crate::limits::{INBOX_MAX, LOG_LAG_FACTOR};
use crate::machine::{Fsm, Machine};
use crate::revision::Applied;

type Factory<F> = Box<dyn Fn(u64) -> Machine<F> + Send + Sync>;

/// A running group of replicas. Dropping it stops them.
///
/// Shared by reference between threads; every method takes `&self`.
///
/// ```
/// use std::time::Duration;
///
/// use fsmdb::raft::{Cluster, Consistency};
/// # use fsmdb::{Applied, Db, Error, Fsm, Machine, Table, WriteTxn};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
/// # #[table(name = "nodes")]
/// # struct Node { #[key] name: String }
/// # struct Registry;
/// # impl Fsm for Registry {
/// #     type Command = String;
/// #     type Reply = Result<(), Error>;
/// #     fn apply(&self, txn: &mut WriteTxn<'_>, _: Applied, name: String) -> Self::Reply {
/// #         txn.insert(Node { name }).map(drop)
/// #     }
/// # }
/// let logger = slog::Logger::root(slog::Discard, slog::o!());
/// let machine = |_id| {
///     let db = Db::builder().table::<Node>().build().expect("the schema is sound");
///     Machine::new(db, Registry).expect("the database is new")
/// };
/// let cluster = Cluster::builder(machine, &logger)
///     .replicas([1, 2, 3])
///     .tick(Duration::from_millis(10))
///     .start()?;
///
/// let (at, reply) = cluster.propose(&"alpha".to_owned())?;
/// assert!(at.index > 0 && reply.is_ok());
/// let (_, refused) = cluster.propose(&"alpha".to_owned())?;
/// assert!(refused.unwrap_err().is_conflict());
///
/// let leader = cluster.wait_for_leader(Duration::from_secs(5))?;
/// cluster.stop(leader)?;
/// let snap = cluster.read(Consistency::Linearizable)?; // from the next leader
/// assert!(snap.table::<Node>().contains("alpha"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Cluster<F: Fsm> {
    factory: Factory<F>,
    options: Options,
    nodes: Mutex<BTreeMap<u64, Node<F>>>,
    retired: Mutex<BTreeSet<u64>>,
    network: Arc<Network<F::Reply>>,
    board: Arc<Board>,
}

/// What outlives the thread of a replica.
struct Node<F: Fsm> {
    log: MemoryLog,
    machine: Arc<Machine<F>>,
    thread: Option<JoinHandle<()>>,
    boot: u64,
}

impl<F: Fsm> Node<F> {
    fn new(log: MemoryLog, machine: Machine<F>) -> Self {
        Self { log, machine: Arc::new(machine), thread: None, boot: 0 }
    }
}

impl<F: Fsm> Cluster<F> {
    /// Sets up a cluster. `factory` makes an empty state machine for a replica; it is called at
    /// the first start and at every restart, because a restarted replica rebuilds its state.
    pub fn builder(
        factory: impl Fn(u64) -> Machine<F> + Send + Sync + 'static,
        logger: &Logger,
    ) -> Builder<F> {
        Builder::new(factory, logger)
    }

    /// The leader, as far as the running replicas know.
    #[must_use]
    pub fn leader(&self) -> Option<u64> {
        self.board.posted().leader().map(|status| status.id)
    }

    /// Waits for a leader.
    ///
    /// # Errors
    ///
    /// [`ClusterError::Timeout`] when there is none within `limit`.
    pub fn wait_for_leader(&self, limit: Duration) -> Result<u64, ClusterError> {
        let leader = self
            .board
            .wait(Deadline::after(limit), |posted| posted.leader().map(|status| status.id));
        leader.ok_or(ClusterError::Timeout { what: "a leader elected" })
    }

    /// Waits until every running replica holds the entry at `index`.
    ///
    /// # Errors
    ///
    /// [`ClusterError::Timeout`] when one does not within `limit`.
    pub fn wait_for_applied(&self, index: u64, limit: Duration) -> Result<(), ClusterError> {
        let reached = self.board.wait(Deadline::after(limit), |posted| {
            let mut running = posted.replicas.values().filter(|replica| replica.is_running);
            running.all(|replica| replica.status.applied >= index).then_some(())
        });
        reached.ok_or(ClusterError::Timeout { what: "an entry applied everywhere" })
    }

    /// Waits until a replica does not run, and answers with its last state and the reason.
    ///
    /// # Errors
    ///
    /// [`ClusterError::Timeout`] when it still runs after `limit`.
    pub fn wait_for_stop(&self, id: u64, limit: Duration) -> Result<ReplicaStatus, ClusterError> {
        let stopped = self.board.wait(Deadline::after(limit), |posted| {
            posted.replicas.get(&id).filter(|replica| !replica.is_running).cloned()
        });
        stopped.ok_or(ClusterError::Timeout { what: "a replica stopped" })
    }

    /// The database of a replica: for local, possibly stale reads, watches, waits and feeds. Only
    /// the log can write it.
    ///
    /// When the replica stops, all that waits for the database ends as if its last handle was
    /// dropped: watches by [`Wake::Closed`](crate::Wake::Closed), waits for a revision by
    /// [`WaitError::Closed`](crate::WaitError::Closed), feeds after their last item. It stays
    /// readable; a restart makes a new one. The replica is not
    /// [running](ReplicaStatus::is_running) any more by then, so who is woken can go to another.
    #[must_use]
    pub fn db(&self, id: u64) -> Option<Db> {
        self.machine(id).map(|machine| machine.db().clone())
    }

    /// The state machine of a replica. Its mutators are for the replica's own thread alone.
    pub(super) fn machine(&self, id: u64) -> Option<Arc<Machine<F>>> {
        self.nodes().get(&id).map(|node| Arc::clone(&node.machine))
    }

    /// The state of a replica, running or not.
    #[must_use]
    pub fn status(&self, id: u64) -> Option<ReplicaStatus> {
        self.board.posted().replicas.get(&id).cloned()
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let elections = self.board.posted().elections;
        self.network.counts.read(elections)
    }

    /// Stops a replica as a crash would: its state is lost, its log is kept. No effect on one that
    /// does not run.
    ///
    /// # Errors
    ///
    /// [`ClusterError::NoSuchReplica`].
    pub fn stop(&self, id: u64) -> Result<(), ClusterError> {
        let mut nodes = self.nodes();
        let node = nodes.get_mut(&id).ok_or(ClusterError::NoSuchReplica { id })?;
        let thread = node.thread.take();
        drop(nodes);
        if let Some(inbox) = self.network.inbox(id) {
            // A replica that ended by itself has dropped its inbox.
            let _ = inbox.send(Mail::Stop);
        }
        if let Some(thread) = thread {
            // A panic of the replica was posted by its own end.
            let _ = thread.join();
        }
        Ok(())
    }

    /// Starts a stopped replica again: a fresh state machine, the recorded snapshot, the log.
    ///
    /// # Errors
    ///
    /// [`ClusterError::NoSuchReplica`], [`ClusterError::Running`], [`ClusterError::Raft`] when
    /// the log is refused, [`ClusterError::Machine`] when the snapshot is.
    pub fn restart(&self, id: u64) -> Result<(), ClusterError> {
        let mut nodes = self.nodes();
        let node = nodes.get_mut(&id).ok_or(ClusterError::NoSuchReplica { id })?;
        if self.board.posted().is_running(id) {
            return Err(ClusterError::Running { id });
        }
        if let Some(thread) = node.thread.take() {
            // It posted its end; what is left of it takes no time.
            let _ = thread.join();
        }
        let recovered = node.log.load().map_err(RaftError::from)?;
        let machine = rebuild((self.factory)(id), &node.log, &recovered.snapshot)
            .map_err(|reason| ClusterError::Machine { id, reason })?;
        let applied = machine.applied().index;
        node.machine = Arc::new(machine);
        node.boot += 1;
        let core = Core::new(self.config(id, node.boot), recovered, applied, &self.options.logger)?;
        let (sender, inbox) = mpsc::sync_channel(INBOX_MAX);
        self.network.open(id, sender);
        self.board.post(core.status());
        let replica = Replica {
            id,
            posted: core.status(),
            core,
            machine: Arc::clone(&node.machine),
            log: node.log.clone(),
            inbox,
            network: Arc::clone(&self.network),
            board: Arc::clone(&self.board),
            tick: self.options.tick,
            waiters: BTreeMap::new(),
            last_token: 0,
            beside: Vec::new(),
        };
        let thread = thread::Builder::new().name(format!("fsmdb-replica-{id}"));
        let spawned = thread.spawn(move || replica.run());
        node.thread = Some(spawned.map_err(|error| {
            self.network.close(id);
            ClusterError::Thread { id, reason: error.to_string() }
        })?);
        Ok(())
    }

    /// Cuts two replicas off from each other, both ways.
    pub fn partition(&self, one: u64, other: u64) {
        self.network.cut(one, other);
        self.network.cut(other, one);
    }

    /// Undoes [`partition`](Self::partition).
    pub fn heal(&self, one: u64, other: u64) {
        self.network.heal(one, other);
        self.network.heal(other, one);
    }

    /// Undoes every partition.
    pub fn heal_all(&self) {
        self.network.heal_all();
    }

    /// Stops every replica and waits for their threads. The cluster can be read, and each replica
    /// restarted, afterwards.
    pub fn shutdown(&self) {
        let ids: Vec<u64> = self.nodes().keys().copied().collect();
        for id in ids {
            // Removed meanwhile by another thread: then it is stopped.
            let _ = self.stop(id);
        }
    }

    fn config(&self, id: u64, boot: u64) -> Config {
        let mut config = Config::new(id, boot);
        config.seed = self.options.seed;
        config.snapshot_entries = self.options.snapshot_entries;
        config.tail_entries = self.options.tail_entries;
        let longest = self.options.snapshot_entries.saturating_mul(LOG_LAG_FACTOR);
        config.log_entries_max = longest.max(self.options.tail_entries);
        config
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(self.options.deadline)
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<u64, Node<F>>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn retired(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Brings an empty state machine to the snapshot a log starts from.
fn rebuild<F: Fsm>(
    machine: Machine<F>,
    log: &MemoryLog,
    snapshot: &SnapshotMeta,
) -> Result<Machine<F>, String> {
    if snapshot.reference.is_empty() {
        if snapshot.index > 0 {
            let at = Applied { index: snapshot.index, term: snapshot.term };
            machine.skip(at).map_err(|error| error.to_string())?;
        }
        return Ok(machine);
    }
    let data = log.snapshot(&snapshot.reference).ok_or("its snapshot is gone".to_owned())?;
    machine.install(&data[..]).map_err(|error| error.to_string())?;
    Ok(machine)
}

impl<F: Fsm> Drop for Cluster<F> {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl<F: Fsm> fmt::Debug for Cluster<F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let replicas = &self.board.posted().replicas;
        formatter.debug_struct("Cluster").field("replicas", replicas).finish_non_exhaustive()
    }
}
