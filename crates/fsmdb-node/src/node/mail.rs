//! What the raft thread is told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fsmdb::raft::{Message, ProposeError, ReadError};
use fsmdb::{Digests, Snapshot};

use super::admission::Permit;
use super::arrivals::Arrival;
use super::error::{MemberError, NodeError, SnapshotStoreError};
use super::job::Job;
use super::pending::{Slot, Waiting as _};
use super::request::{Answer, Request};
use super::sending::Sending;
use super::snapshots::Built;
use crate::link::Responder;
use crate::transport::Refusal;

/// A read of a user of this node that needs a confirmation.
pub(super) struct ReadJob {
    pub(super) slot: Arc<Slot<Snapshot, ReadError>>,
    pub(super) deadline: Instant,
    /// How many entries of what is confirmed may be missing.
    pub(super) slack: u64,
    /// Given back when this is dropped.
    pub(super) _permit: Permit,
}

impl Drop for ReadJob {
    /// Unanswered, it learns that the node has stopped.
    fn drop(&mut self) {
        self.slot.end(true);
    }
}

/// Who waits for the answer to a request of this node.
pub(super) struct Asker(pub(super) Arc<Slot<Answer, MemberError>>);

impl Drop for Asker {
    /// Unanswered, it learns that the node has stopped.
    fn drop(&mut self) {
        self.0.end(true);
    }
}

/// Something the raft thread must know.
pub(super) enum Mail<R> {
    Propose(Job<R>),
    Read(ReadJob),
    /// Ask a node, or the leader.
    Ask {
        to: Option<u64>,
        request: Request,
        timeout: Duration,
        asker: Asker,
    },
    Message(Message),
    Snapshot(Arrival),
    Request {
        from: u64,
        request: Request,
        respond: Responder,
    },
    Unreachable(u64),
    Persisted(u64),
    Applied(u64),
    /// The addresses of members may be others.
    MembersChanged,
    /// A peer has shown the random bits of its directory.
    Introduced {
        peer: u64,
        directory: u128,
    },
    /// A peer that was dialled refuses this node, or does not any more.
    Answered {
        peer: u64,
        refusal: Option<Refusal>,
    },
    /// The address book of a peer that had applied so many entries.
    Addresses {
        at: u64,
        addresses: BTreeMap<u64, String>,
    },
    Built(Result<Built, SnapshotStoreError>),
    /// What the receiver of a snapshot holds, which is sent now.
    Held(Sending<R>, Vec<u64>),
    SnapshotSent {
        to: u64,
        reference: Vec<u8>,
        is_taken: bool,
        /// Whether changes were sent in its place.
        are_changes: bool,
    },
    /// Whether the file of a snapshot is what its reference says.
    Checked {
        reference: Vec<u8>,
        is_sound: bool,
    },
    /// A forwarded proposal that the leader did not take; nothing was appended.
    NotTaken(Job<R>, ProposeError),
    /// A forwarded proposal without an answer.
    Lost(Job<R>),
    /// The answer to a round of reads: the index, if it was confirmed.
    Confirmed {
        round: u64,
        index: Option<u64>,
    },
    /// The noted digests of a peer, if it answered.
    Digests {
        round: u64,
        from: u64,
        noted: Option<Vec<Digests>>,
    },
    Failed(NodeError),
    /// Take no more proposals of users, and hand leadership over.
    Drain,
    Stop,
}
