//! Where a node posts its state, and everybody else waits for it.
//!
//! # Invariants
//!
//! 1. A waiter is woken by every change; nobody polls.
//! 2. A node that ended, for whatever reason, is posted as not running.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use event_listener::{Event, EventListener, Listener as _};
use fsmdb::raft::{Role, Status};

use super::clock;
use super::error::NodeError;
use crate::metrics::Metrics;
use crate::transport::{Refusal, Transfer, TransportStats};

/// How a node is.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct NodeStatus {
    /// Rises with every change; for [`Node::status_changed`](super::Node::status_changed).
    pub version: u64,
    /// Whether its threads run.
    pub is_running: bool,
    /// What its core says: id, role, term, leader, indexes, members, and of a leader the peers.
    pub raft: Status,
    /// The index of the snapshot that its log begins from.
    pub snapshot_index: u64,
    /// What waits where.
    pub queues: Queues,
    /// Snapshots on their way, as of the last tick.
    pub snapshots: SnapshotsUnderway,
    /// Why it stopped by itself, if it did.
    pub error: Option<NodeError>,
    /// Why the last snapshot of its state could not be built. While it cannot, the log is not
    /// compacted and no new node can be fed by this one.
    pub snapshot_error: Option<String>,
    /// What a comparison of digests, which this node made as the leader, has found to differ: which
    /// replicas, where a majority is equal, and the first noted entry at which they differ.
    ///
    /// An entry is noted every [`DIGEST_ENTRIES`](crate::limits::DIGEST_ENTRIES), so the difference
    /// is of that entry or of one before it, seldom more than so many before. The tables are in
    /// the [`error`](NodeStatus::error) of the replica that stops.
    ///
    /// It goes when this node, as the leader, finds all members equal at that entry or a later one,
    /// so after whoever differs was replaced; and with a restart. A node that does not lead any
    /// more keeps its alarm: the next leader compares for itself.
    pub digest_alarm: Option<String>,
    /// Which peers refuse this node when it dials them, and why. [`Refusal::Directory`] says that
    /// its directory was wiped; it takes no part in the group any more. [`Refusal::Sender`] passes
    /// when the peer learns of this node; if it does not, this node may have been removed.
    pub refused_by: BTreeMap<u64, Refusal>,
}

impl NodeStatus {
    /// Whether the node runs and leads.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.is_running && self.raft.role == Role::Leader
    }

    /// On a leader: how many entries the log of this peer is behind.
    #[must_use]
    pub fn lag_of(&self, peer: u64) -> Option<u64> {
        let matched = self.raft.peers.get(&peer)?.matched;
        Some(self.raft.last_index.saturating_sub(matched))
    }
}

/// What waits at a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Queues {
    /// Proposals that are under way.
    pub proposals: usize,
    /// The bytes of their commands.
    pub proposal_bytes: usize,
    /// Reads that wait for a confirmation.
    pub reads: usize,
    /// Batches that wait for the log.
    pub log: usize,
    /// Groups of entries that wait for the state machine.
    pub apply: usize,
}

/// Snapshots that are on their way at a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotsUnderway {
    /// Those that are sent, by receiver: what was written of them.
    pub sending: BTreeMap<u64, Transfer>,
    /// Those that arrive, by sender: what is stored of them. Whole, they are there until they are
    /// taken or refused.
    pub receiving: BTreeMap<u64, Transfer>,
    /// Whether one is built.
    pub is_building: bool,
    /// Whether one that was received is read over.
    pub is_verifying: bool,
    /// Whether one is read into the state machine.
    pub is_installing: bool,
}

impl SnapshotsUnderway {
    pub(super) fn new(stats: Option<&TransportStats>, metrics: &Metrics) -> Self {
        let peers = || stats.into_iter().flat_map(|stats| &stats.peers);
        Self {
            sending: peers().filter_map(|(id, peer)| Some((*id, peer.sending?))).collect(),
            receiving: peers().filter_map(|(id, peer)| Some((*id, peer.receiving?))).collect(),
            is_building: metrics.snapshot_building.get() > 0,
            is_verifying: metrics.snapshot_verifying.get() > 0,
            is_installing: metrics.snapshot_installing.get() > 0,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Board {
    status: Mutex<NodeStatus>,
    changed: Event,
}

impl Board {
    pub(super) fn status(&self) -> NodeStatus {
        self.lock().clone()
    }

    /// Changes what is posted, and wakes who waits.
    pub(super) fn post(&self, change: impl FnOnce(&mut NodeStatus)) {
        let mut status = self.lock();
        change(&mut status);
        status.version += 1;
        drop(status);
        self.changed.notify(usize::MAX);
    }

    /// Waits until `look` finds something, at most until the deadline.
    pub(super) fn wait<T>(
        &self,
        deadline: std::time::Instant,
        mut look: impl FnMut(&NodeStatus) -> Option<T>,
    ) -> Option<T> {
        loop {
            let listener = self.changed.listen();
            if let Some(found) = look(&self.lock()) {
                return Some(found);
            }
            if clock::left(deadline).is_zero() {
                return None;
            }
            listener.wait_deadline(deadline);
        }
    }

    fn newer_than(&self, version: u64) -> Option<NodeStatus> {
        let status = self.lock();
        (status.version > version).then(|| status.clone())
    }

    fn lock(&self) -> MutexGuard<'_, NodeStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The next state of a node: a [`Future`] for tasks, and [`wait`](StatusChange::wait) for threads.
#[must_use = "nobody waits"]
pub struct StatusChange {
    board: Arc<Board>,
    after: u64,
    listener: Option<EventListener>,
}

impl StatusChange {
    pub(super) fn new(board: Arc<Board>, after: u64) -> Self {
        Self { board, after, listener: None }
    }

    /// Blocks this thread until there is a newer state; nothing when there is none in time.
    #[must_use]
    pub fn wait(self, timeout: Duration) -> Option<NodeStatus> {
        let after = self.after;
        let newer = |status: &NodeStatus| (status.version > after).then(|| status.clone());
        self.board.wait(clock::later(timeout), newer)
    }
}

impl Future for StatusChange {
    type Output = NodeStatus;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<NodeStatus> {
        loop {
            if let Some(status) = self.board.newer_than(self.after) {
                return Poll::Ready(status);
            }
            match &mut self.listener {
                None => self.listener = Some(self.board.changed.listen()),
                Some(listener) => match Pin::new(listener).poll(context) {
                    Poll::Ready(()) => self.listener = None,
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
    }
}

impl fmt::Debug for StatusChange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("StatusChange").field("after", &self.after).finish_non_exhaustive()
    }
}
