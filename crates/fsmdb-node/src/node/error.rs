//! Why a node could not start, why it stopped, and why its members were not changed.

use std::sync::Arc;

use fsmdb::raft::{LogError, ProposeError, RaftError, ReadError, Refusal};
use fsmdb::{Applied, MachineError};
use thiserror::Error;

use super::pending::Ending;
use crate::storage::StorageError;

/// Why a node could not start, or has stopped by itself.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The core refused the log, or its contract was broken.
    #[error(transparent)]
    Raft(#[from] RaftError),
    /// The durable log failed. A failed write is never retried, and its files stay open: end the
    /// process and start it again. In the same process the directory stays locked.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The log has a command that this build does not know. Nothing was skipped: upgrade this node
    /// and start it again.
    #[error("entry {at} is a command this build does not know; upgrade the node: {message}")]
    UnknownCommand {
        /// The entry.
        at: Applied,
        /// The decoder's words.
        message: String,
    },
    /// The state machine failed at an entry or a snapshot.
    #[error("the state machine failed: {0}")]
    Machine(Arc<MachineError>),
    /// A snapshot file could not be found or read.
    #[error("snapshot {index} cannot be used: {error}")]
    Snapshot {
        /// Its index.
        index: u64,
        /// Why.
        error: SnapshotStoreError,
    },
    /// The tables of this node are not those of the others: its memory, its disk or its build is
    /// at fault. Wipe it and add it under a new id.
    #[error("this replica differs from the others since entry {index} or before, in {tables:?}")]
    Diverged {
        /// The first noted entry at which the digests differ. The difference is of this entry or
        /// of one before it, after the last one that was compared and equal.
        index: u64,
        /// The tables that differ.
        tables: Vec<String>,
    },
    /// A digest could not be computed, although they are kept.
    #[error("no digest after entry {index}: {error}")]
    Digests {
        /// The entry.
        index: u64,
        /// Why.
        error: Arc<fsmdb::Error>,
    },
    /// This node does not belong to the group any more.
    #[error("node {id} was removed from the group; its id never comes back")]
    Removed {
        /// Its id.
        id: u64,
    },
    /// A thread of the node panicked; its words are on standard error.
    #[error("the {thread} thread panicked; its words are on standard error")]
    Panicked {
        /// Which thread.
        thread: &'static str,
    },
    /// The operating system gave no thread.
    #[error("no {thread} thread: {reason}; stop others first")]
    Thread {
        /// Which thread.
        thread: &'static str,
        /// The system's words.
        reason: String,
    },
    /// The directory of the node, its log or its snapshots are not to be used as they are.
    #[error(transparent)]
    Storage(Arc<StorageError>),
    /// The transport could not be started.
    #[error("the transport could not be started: {reason}")]
    Transport {
        /// Its words.
        reason: String,
    },
}

impl From<StorageError> for NodeError {
    fn from(error: StorageError) -> Self {
        Self::Storage(Arc::new(error))
    }
}

impl From<MachineError> for NodeError {
    fn from(error: MachineError) -> Self {
        match error {
            MachineError::Decode { at, message, .. } => Self::UnknownCommand { at, message },
            other => Self::Machine(Arc::new(other)),
        }
    }
}

/// Why a snapshot file could not be made, found, taken or read: the words of the store.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{reason}")]
pub struct SnapshotStoreError {
    /// What went wrong, and with which file.
    pub reason: String,
}

impl SnapshotStoreError {
    /// An error with these words.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// Why the members of the group, or its leader, were not changed, or not known to be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MemberError {
    /// The id belongs to a voter already; to add it as a learner would take its vote.
    #[error("node {id} is a voter already; remove it first, or choose a new id")]
    Exists {
        /// The id.
        id: u64,
    },
    /// The id does not belong to the group.
    #[error("node {id} is no member; add it with `add_learner`")]
    NoSuchMember {
        /// The id.
        id: u64,
    },
    /// The id belonged to a node that was removed.
    #[error("node {id} was removed and never comes back; choose a new id")]
    Retired {
        /// The id.
        id: u64,
    },
    /// The address is longer than
    /// [`ADDRESS_BYTES_MAX`](crate::limits::ADDRESS_BYTES_MAX).
    #[error("an address of {bytes} bytes is over the limit of {limit}")]
    Address {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Not reached before the deadline. The change may happen yet; asking again goes on where it
    /// was.
    #[error("not reached in time: {what}; check that a majority is running, then ask again")]
    Timeout {
        /// What was waited for.
        what: &'static str,
    },
    /// Refused by the leader; nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The proposal that goes with the change failed.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// The node is not running.
    #[error("node {id} is not running; restart it or ask another")]
    Stopped {
        /// The id.
        id: u64,
    },
    /// As many operations are under way as
    /// [`MEMBER_OPERATIONS_MAX`](crate::limits::MEMBER_OPERATIONS_MAX) says.
    #[error("too many membership operations are under way; wait for one of them")]
    Busy,
    /// The thread of the operation panicked. The change may have been made, or happen yet.
    #[error("the operation panicked; its words are on standard error: look at the members")]
    Panicked,
}

impl MemberError {
    /// Whether asking for the same again is safe and can succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Timeout { .. } | Self::Stopped { .. } | Self::Busy => true,
            Self::Refused(refusal) => refusal.is_retryable(),
            // A change says what shall be, so an unknown outcome may be asked for again.
            Self::Propose(error) => error.is_retryable() || *error == ProposeError::Unknown,
            _ => false,
        }
    }
}

impl From<Ending> for ProposeError {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending { is_sent: true, .. } => Self::Unknown,
            Ending { is_stopped: true, id, .. } => Self::Stopped { id },
            _ => Self::Timeout,
        }
    }
}

impl From<Ending> for ReadError {
    fn from(ending: Ending) -> Self {
        if ending.is_stopped { Self::Stopped { id: ending.id } } else { Self::Timeout }
    }
}

impl From<Ending> for MemberError {
    fn from(ending: Ending) -> Self {
        if ending.is_stopped {
            Self::Stopped { id: ending.id }
        } else {
            Self::Timeout { what: "an answer of the group" }
        }
    }
}
