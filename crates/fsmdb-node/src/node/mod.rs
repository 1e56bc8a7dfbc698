//! One node of a Raft group: a replica of the database with everything around it.
//!
//! `start.rs` makes it, `replica.rs` is the raft thread, `log_thread.rs`, `apply.rs`,
//! `snapshots.rs` and `arrivals.rs` are the other four; `marks.rs` is what two of them hold.
//! `proposals.rs`, `reads.rs`, `peers.rs`, `book.rs`, `sending.rs` and `digests.rs` are what the
//! raft thread does for users and peers, `remembered.rs` what it knows of members at its start;
//! `members.rs`, `client.rs`, `numbered.rs` and `erasing.rs` are what users ask for beside.
//!
//! # Invariants
//!
//! 1. A core is stepped by one thread, a state machine written by one, a log by one.
//! 2. Queues between the threads of a node lose nothing while it runs; what comes from outside is
//!    bounded and refused with a typed error, or dropped as a network would.
//! 3. A proposal that may have been appended is never called refused.
//! 4. A linearizable read is confirmed by the leader after it was asked for; there is no lease.

mod admission;
mod apply;
mod arrivals;
mod book;
mod client;
mod clock;
mod digests;
mod door;
mod erasing;
mod error;
mod inbox;
mod job;
mod log_thread;
mod mail;
mod marks;
mod members;
mod numbered;
mod peers;
mod pending;
mod proposals;
mod reads;
mod remembered;
mod replica;
mod request;
mod sending;
mod snapshots;
mod start;
mod status;

use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use fsmdb::raft::{Consistency, ProposeError, ReadError, Refusal, Role, Status};
use fsmdb::{Applied, Db, Machine, MachineError, Snapshot};

pub(crate) use book::Known;
pub use client::{Session, SessionError};
pub use erasing::{ErasureReport, NodeErasure};
pub use error::{MemberError, NodeError, SnapshotStoreError};
pub use numbered::NumberedSession;
pub use pending::{Ending, Pending};
pub(crate) use remembered::remembered;
#[cfg(fuzzing)]
pub use request::read_again;
pub use snapshots::{Changes, SnapshotStore};
pub use start::{Options, Parts};
pub use status::{NodeStatus, Queues, SnapshotsUnderway, StatusChange};

use self::admission::Admission;
use self::apply::Notes;
use self::inbox::Inbox;
use self::job::{Job, Proposed, Waiter};
use self::mail::{Asker, Mail, ReadJob};
use self::marks::Marks;
use self::pending::{Slot, Waiting};
use self::reads::Confirmed;
use self::request::{Answer, Request};
use self::status::Board;
use crate::limits::STOP_HANDOVER_MAX;
use crate::metrics::Metrics;
use crate::session::{EnvelopeRef, EnvelopeReply, Replicated, Sessions};

/// What users of a node and its threads share.
struct Shared<F: Replicated> {
    id: u64,
    inbox: Arc<Inbox<Mail<F::Reply>>>,
    board: Arc<Board>,
    machine: Arc<Machine<Sessions<F>>>,
    metrics: Arc<Metrics>,
    admission: Arc<Admission>,
    reads: Arc<Admission>,
    /// The confirmation that was asked for last.
    confirmed: Mutex<Option<Confirmed>>,
    notes: Arc<Notes>,
    marks: Arc<Marks>,
    /// See [`Options::build`].
    build: String,
    tick: Duration,
    deadline: Duration,
}

impl<F: Replicated> Shared<F> {
    fn remember(&self, confirmed: Confirmed) {
        let mut last = self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.asked < confirmed.asked) {
            *last = Some(confirmed);
        }
    }

    fn queues(&self, log: usize, apply: usize) -> Queues {
        let (proposals, proposal_bytes) = (self.admission.count(), self.admission.bytes());
        Queues { proposals, proposal_bytes, reads: self.reads.count(), log, apply }
    }

    fn measure(&self, status: &Status, queues: &Queues) {
        let metrics = &self.metrics;
        metrics.queue_proposals.set(queues.proposals as i64);
        metrics.queue_proposal_bytes.set(queues.proposal_bytes as i64);
        metrics.queue_reads.set(queues.reads as i64);
        metrics.queue_log.set(queues.log as i64);
        metrics.queue_apply.set(queues.apply as i64);
        metrics.commit_index.set(status.commit as i64);
        metrics.applied_index.set(status.applied as i64);
        metrics.is_leader.set(i64::from(status.role == Role::Leader));
    }

    /// Proposes an envelope; `read` makes the caller's answer of the outcome.
    fn propose<V, E>(
        &self,
        envelope: &EnvelopeRef<'_, F::Command>,
        is_repeatable: bool,
        within: Duration,
        read: impl FnOnce(Proposed<F::Reply>) -> Result<V, E> + Send + 'static,
    ) -> Pending<V, E>
    where
        V: Send + 'static,
        E: From<Ending> + From<ProposeError> + Send + 'static,
    {
        let command = match Machine::<Sessions<F>>::encode_as(envelope) {
            Ok(command) => command,
            Err(error) => return Pending::ready(Err(not_encoded(error).into())),
        };
        let Some(permit) = self.admission.admit(command.len()) else {
            self.metrics.busy.inc();
            return Pending::ready(Err(ProposeError::Refused(Refusal::Busy).into()));
        };
        self.metrics.proposals.inc();
        let (slot, deadline) = (Slot::new(self.id), clock::later(within));
        let answered: Arc<Slot<V, E>> = Arc::clone(&slot);
        let waiting: Arc<dyn Waiting> = slot.clone();
        let waiter = Waiter {
            id: self.id,
            asked: clock::now(),
            deadline,
            slot: Some(waiting),
            done: Some(Box::new(move |outcome| answered.answer(read(outcome)))),
            _permit: Some(permit),
            is_sent: false,
            is_lost: false,
        };
        // Dropped when the node has stopped: it learns so.
        let _ = self.inbox.post(Mail::Propose(Job { command, is_repeatable, waiter }));
        Pending::new(slot, deadline)
    }

    /// Asks a node, or the leader, and waits for the answer.
    fn ask(
        &self,
        to: Option<u64>,
        request: Request,
        timeout: Duration,
    ) -> Pending<Answer, MemberError> {
        let slot = Slot::new(self.id);
        let asker = Asker(Arc::clone(&slot));
        // Dropped when the node has stopped: it learns so.
        let _ = self.inbox.post(Mail::Ask { to, request, timeout, asker });
        Pending::new(slot, clock::later(timeout))
    }
}

/// A handle on a running node; cheap to clone. When the last one is dropped the node stops at once,
/// as a crash would stop it; [`stop`](Node::stop) is the way with care.
///
/// A group of one, with a log in memory and no transport to speak of:
///
/// ```
/// # use std::{collections::BTreeMap, io, path::*, sync::Arc, time::Duration};
/// # use fsmdb::{Applied, Db, Error, Fsm, Machine, Snapshot, Table, WriteTxn};
/// # use fsmdb::raft::{Config, Consistency, Membership, MemoryLog, Message};
/// # use fsmdb_node::link::*;
/// # use fsmdb_node::node::{Node, Options, Parts, SnapshotStore, SnapshotStoreError};
/// # use fsmdb_node::session::{Sessions, with_tables};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
/// # #[table(name = "jobs")]
/// # struct Job { #[key] name: String }
/// # struct Jobs;
/// # impl Fsm for Jobs {
/// #     type Command = String;
/// #     type Reply = Result<(), Error>;
/// #     fn apply(&self, txn: &mut WriteTxn<'_>, _: Applied, name: String) -> Self::Reply {
/// #         txn.insert(Job { name }).map(drop)
/// #     }
/// # }
/// # struct Nowhere;
/// # impl Transport for Nowhere {
/// #     fn send(&self, _: Message) -> Result<(), LinkError> { Err(LinkError::UnknownPeer) }
/// #     fn send_snapshot(&self, _: Message, _: PathBuf, done: SnapshotDone) { done(false) }
/// #     fn request(&self, _: u64, _: Vec<u8>, _: Duration, done: RequestDone) {
/// #         done(Err(LinkError::UnknownPeer));
/// #     }
/// #     fn set_peers(&self, _: BTreeMap<u64, String>) {}
/// # }
/// # type Stored<T> = Result<T, SnapshotStoreError>;
/// # struct NoFiles;
/// # impl SnapshotStore for NoFiles {
/// #     fn build(&self, _: &Snapshot) -> Stored<(Vec<u8>, u64)> { self.none() }
/// #     fn path(&self, _: &[u8]) -> Stored<PathBuf> { self.none() }
/// #     fn adopt(&self, _: Applied, _: &[u8], _: &Path) -> Stored<Vec<u8>> { self.none() }
/// #     fn open(&self, _: &[u8]) -> Stored<Box<dyn io::Read + Send>> { self.none() }
/// #     fn retain(&self, _: &[u8]) -> Stored<()> { self.none() }
/// # }
/// # impl NoFiles {
/// #     fn none<T>(&self) -> Stored<T> { Err(SnapshotStoreError::new("no files here")) }
/// # }
/// let db = with_tables(Db::builder().table::<Job>()).build()?;
/// let parts = Parts {
///     config: Config::new(1, 1),
///     machine: Machine::new(db, Sessions::new(Jobs))?,
///     log: MemoryLog::founding(Membership::of_voters([1])),
///     snapshots: Arc::new(NoFiles),
///     addresses: BTreeMap::new(),
///     logger: slog::Logger::root(slog::Discard, slog::o!()),
///     options: Options { tick: Duration::from_millis(10), ..Options::default() },
/// };
/// let node = Node::start_with(parts, |_inbound| Ok(Arc::new(Nowhere)))?;
///
/// let (at, reply) = node.propose(&"web".to_owned()).wait()?; // or `.await`
/// assert!(reply.is_ok());
/// let session = node.session().wait()?;
/// let (_, refused) = session.propose(&"web".to_owned()).wait()?; // applied exactly once
/// assert!(refused.is_err());
/// let snapshot = node.read(Consistency::Linearizable).wait()?;
/// assert!(snapshot.applied() > at && snapshot.table::<Job>().contains("web"));
/// node.stop();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Node<F: Replicated> {
    handle: Arc<Handle<F>>,
}

struct Handle<F: Replicated> {
    shared: Arc<Shared<F>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    operations: AtomicUsize,
}

impl<F: Replicated> Clone for Node<F> {
    fn clone(&self) -> Self {
        Self { handle: Arc::clone(&self.handle) }
    }
}

impl<F: Replicated> Node<F> {
    fn new(shared: Arc<Shared<F>>, thread: JoinHandle<()>) -> Self {
        let (thread, operations) = (Mutex::new(Some(thread)), AtomicUsize::new(0));
        Self { handle: Arc::new(Handle { shared, thread, operations }) }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.shared().id
    }

    /// The database, for watches, waits and feeds, and for reads that may be stale. Only the log
    /// can write it. All that waits for it ends when the node stops.
    #[must_use]
    pub fn db(&self) -> &Db {
        self.shared().machine.db()
    }

    /// Proposes a command, at the leader wherever it is, and waits for its reply.
    ///
    /// While nothing was appended (no leader, leadership moving) it is sent again until the
    /// deadline.
    ///
    /// # Errors
    ///
    /// [`ProposeError::Unknown`] when it may have been applied: not to be proposed again blindly;
    /// a [`session`](Node::session) can, and a [`numbered_session`](Node::numbered_session) can
    /// after its node has ended. Any error that [is
    /// retryable](ProposeError::is_retryable) appended nothing, among them [`Refusal::Busy`] at
    /// the bounds of [`limits`](crate::limits).
    pub fn propose(&self, command: &F::Command) -> Pending<(Applied, F::Reply), ProposeError> {
        self.propose_within(command, self.shared().deadline)
    }

    /// As [`propose`](Node::propose), with a deadline of its own.
    ///
    /// # Errors
    ///
    /// As [`propose`](Node::propose).
    pub fn propose_within(
        &self,
        command: &F::Command,
        within: Duration,
    ) -> Pending<(Applied, F::Reply), ProposeError> {
        let envelope = EnvelopeRef::Plain { command };
        self.shared().propose(&envelope, false, within, |outcome| {
            let (at, reply) = outcome?;
            match reply {
                EnvelopeReply::Plain(reply) => Ok((at, reply)),
                // A plain command has no other reply.
                _ => Err(ProposeError::Unknown),
            }
        })
    }

    /// A snapshot that is as fresh as `consistency` says; on any node.
    ///
    /// A stale one is there at once and costs no lock. A bounded one is there at once while this
    /// node remembers a confirmation that it asked for at most so long ago, by its own clock, and
    /// has applied it but for so many entries; else it asks for one. Time that the clock of this
    /// node does not count, such as that of a machine that is suspended, is no part of the bound.
    ///
    /// # Errors
    ///
    /// [`ReadError::Timeout`] when no leader confirmed in time or this node did not catch up,
    /// [`ReadError::Busy`], [`ReadError::Stopped`]; never for a stale read.
    pub fn read(&self, consistency: Consistency) -> Pending<Snapshot, ReadError> {
        self.read_within(consistency, self.shared().deadline)
    }

    /// As [`read`](Node::read), with a deadline of its own.
    ///
    /// # Errors
    ///
    /// As [`read`](Node::read).
    pub fn read_within(
        &self,
        consistency: Consistency,
        within: Duration,
    ) -> Pending<Snapshot, ReadError> {
        let shared = self.shared();
        let slack = match consistency {
            Consistency::Stale => return Pending::ready(Ok(shared.machine.read())),
            Consistency::Bounded { age, entries } => {
                let confirmed = *shared.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
                let snapshot = shared.machine.read();
                let applied = snapshot.applied().index;
                if confirmed.is_some_and(|confirmed| confirmed.covers(age, entries, applied)) {
                    return Pending::ready(Ok(snapshot));
                }
                entries
            }
            _ => 0,
        };
        let Some(permit) = shared.reads.admit(0) else {
            shared.metrics.busy.inc();
            return Pending::ready(Err(ReadError::Busy));
        };
        let (slot, deadline) = (Slot::new(shared.id), clock::later(within));
        let read = ReadJob { slot: Arc::clone(&slot), deadline, slack, _permit: permit };
        // Dropped when the node has stopped: it learns so.
        let _ = shared.inbox.post(Mail::Read(read));
        Pending::new(slot, deadline)
    }

    /// The local state at once, however old: what [`read`](Node::read) gives for
    /// [`Consistency::Stale`], without a future around it.
    #[must_use]
    pub fn read_stale(&self) -> Snapshot {
        self.shared().machine.read()
    }

    /// How the node is.
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        self.shared().board.status()
    }

    /// Waits for a state newer than the one of this version.
    pub fn status_changed(&self, after: u64) -> StatusChange {
        StatusChange::new(Arc::clone(&self.shared().board), after)
    }

    /// What the node has counted and measured, as OpenMetrics text.
    ///
    #[doc = include_str!("../metrics/names.md")]
    #[must_use]
    pub fn metrics(&self) -> String {
        self.shared().metrics.text()
    }

    /// Stops the node with care: it takes no more proposals, waits for those that are under way,
    /// hands leadership over if it leads, and ends its threads. What cannot be done within
    /// [`STOP_HANDOVER_MAX`] is left: the others elect. A snapshot that is being built, received or
    /// installed is given up. Blocks until the node has stopped, also when somebody else stops it;
    /// whoever waits for an answer of this node has one afterwards.
    pub fn stop(&self) {
        self.hand_over();
        self.end();
    }

    fn hand_over(&self) {
        let shared = self.shared();
        if shared.inbox.post(Mail::Drain).is_err() {
            return;
        }
        let deadline = clock::later(STOP_HANDOVER_MAX);
        let is_drained = |status: &NodeStatus| {
            (!status.is_running || shared.admission.count() == 0).then_some(())
        };
        // Not drained in time, the rest is unknown to its proposers.
        let _ = shared.board.wait(clock::later(STOP_HANDOVER_MAX / 2), is_drained);
        let status = shared.board.status();
        if let Some(to) = best_peer(&status).filter(|_| status.is_leader()) {
            let asked = shared.ask(None, Request::Transfer { to }, STOP_HANDOVER_MAX);
            if asked.wait().is_ok() {
                let _ = shared.board.wait(deadline, |status| (!status.is_leader()).then_some(()));
            }
        }
    }

    /// Ends the threads.
    fn end(&self) {
        self.handle.end();
    }

    fn shared(&self) -> &Arc<Shared<F>> {
        &self.handle.shared
    }
}

impl<F: Replicated> Handle<F> {
    fn end(&self) {
        // It may have ended by itself.
        let _ = self.shared.inbox.post(Mail::Stop);
        if start::is_thread_of_node() {
            return;
        }
        // Held until the thread has ended, so that everybody who stops the node waits for that.
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            // A panic was posted by the end of the thread itself.
            let _ = thread.join();
        }
    }
}

impl<F: Replicated> Drop for Handle<F> {
    fn drop(&mut self) {
        self.end();
    }
}

/// The active voter that has most of the log.
fn best_peer(status: &NodeStatus) -> Option<u64> {
    let voters = &status.raft.membership.voters;
    let active = status.raft.peers.iter();
    let active = active.filter(|(id, peer)| voters.contains(id) && peer.is_active);
    active.max_by_key(|(_, peer)| peer.matched).map(|(id, _)| *id)
}

fn not_encoded(error: MachineError) -> ProposeError {
    match error {
        MachineError::TooLarge { bytes, limit } => ProposeError::TooLarge { bytes, limit },
        other => ProposeError::Encode { reason: other.to_string() },
    }
}

impl<F: Replicated> fmt::Debug for Node<F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Node").field("status", &self.status()).finish_non_exhaustive()
    }
}
