//! What can go wrong in the Raft room, and what the caller can do about it.
//!
//! # Invariants
//!
//! 1. An error that answers `true` to `is_retryable` changed nothing: no log entry was appended
//!    for the request, so sending the same request again cannot apply it twice.
//! 2. Whenever an entry may have been appended and its fate is not known, the error is `Unknown`
//!    and is not retryable.

use thiserror::Error;

/// Why a replica could not start, or had to stop.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RaftError {
    /// The configuration cannot work.
    #[error("raft configuration refused: {reason}; correct it and start again")]
    Config {
        /// What is wrong with it.
        reason: String,
    },
    /// The durable log ends before the commit index it recorded: acknowledged entries are gone.
    #[error(
        "log ends at {last} but {commit} was committed: wipe this replica and add it under a new id"
    )]
    LostLog {
        /// The commit index on disk.
        commit: u64,
        /// The last index of the log.
        last: u64,
    },
    /// The recovered log is not one unbroken run of entries.
    #[error("recovered log refused at index {index}: {reason}; restore it from a snapshot")]
    BrokenLog {
        /// The first index that is wrong.
        index: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The state machine was not rebuilt from the snapshot the log names.
    #[error("state machine is at {applied}, the log starts from snapshot {snapshot}: rebuild it")]
    AppliedMismatch {
        /// The index the state machine holds.
        applied: u64,
        /// The index of the snapshot recorded in the log.
        snapshot: u64,
    },
    /// Bytes from disk or network are not what they claim to be.
    #[error("cannot decode {what}: {reason}; drop it and let raft send again")]
    Decode {
        /// What was being decoded.
        what: &'static str,
        /// The decoder's words.
        reason: String,
    },
    /// The shell around the core broke its contract; the replica must stop.
    #[error("contract between core and shell broken: {reason}; stop this replica")]
    Contract {
        /// Which rule was broken.
        reason: String,
    },
    /// The durable log failed.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl RaftError {
    /// Whether the same call can succeed without a change of configuration or data: never.
    ///
    /// ```
    /// # use fsmdb::raft::RaftError;
    /// assert!(!RaftError::LostLog { commit: 9, last: 4 }.is_retryable());
    /// ```
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// Why the durable log refused or failed.
///
/// A failed write is never retried: after a failed sync nobody knows what the disk holds, so the
/// replica stops and recovers by starting again.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LogError {
    /// The medium failed.
    #[error("log write failed: {reason}; stop the replica, a failed sync is never retried")]
    Write {
        /// The words of the medium.
        reason: String,
    },
    /// A write would leave a hole or overwrite what was compacted.
    #[error("log refuses index {index}: it holds {first} to {last}; this is a bug in the caller")]
    OutOfOrder {
        /// The refused index.
        index: u64,
        /// The first index of the log.
        first: u64,
        /// The last index of the log.
        last: u64,
    },
    /// What was read back is not what was written.
    #[error(
        "log is damaged at index {index}: {reason}; wipe this replica and add it under a new id"
    )]
    Corrupt {
        /// The first index that cannot be trusted.
        index: u64,
        /// What is wrong there.
        reason: String,
    },
    /// The log ends before the commit index it recorded, or is not there although it was written:
    /// acknowledged entries are gone.
    #[error(
        "log ends at {last} but {commit} was committed: wipe the directory, remove the node from \
         the group, and add it again under a new id"
    )]
    Lost {
        /// The commit index on disk, or that of the snapshot.
        commit: u64,
        /// The last index of the log.
        last: u64,
    },
    /// A snapshot is named whose data is not there.
    #[error("snapshot at {index} has no data; fetch it again before recording it")]
    MissingSnapshot {
        /// The index of the snapshot.
        index: u64,
    },
}

/// Why the core did not take a request. Nothing was appended.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// This replica does not lead.
    #[error("not the leader; ask {leader:?}")]
    NotLeader {
        /// The leader this replica knows of.
        leader: Option<u64>,
    },
    /// Leadership is being handed over.
    #[error("leadership is moving to {to}; ask again in a moment")]
    Transferring {
        /// The replica that takes over.
        to: u64,
    },
    /// Too much is in flight.
    #[error("too many requests in flight; ask again in a moment")]
    Busy,
    /// Another membership change is not finished, or a new leader does not know yet.
    #[error("another membership change is not applied yet; ask again when it is")]
    ChangePending,
    /// The change contradicts the membership.
    #[error("membership change refused: {reason}")]
    InvalidChange {
        /// What contradicts it.
        reason: String,
    },
    /// An empty command cannot be told from a leader's no-op.
    #[error("a command must not be empty; encode it with `Machine::encode`")]
    Empty,
    /// The command is longer than a log entry may be.
    #[error("command of {bytes} bytes is over the limit of {limit}; split it")]
    TooLarge {
        /// The length of the command.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

impl Refusal {
    /// Whether asking again, possibly elsewhere, can succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::NotLeader { .. } | Self::Transferring { .. } | Self::Busy | Self::ChangePending
        )
    }
}

/// Why a proposal to a cluster has no reply.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// The replica asked does not lead; nothing was appended.
    #[error("not the leader; propose at {leader:?}")]
    NotLeader {
        /// The leader that replica knows of.
        leader: Option<u64>,
    },
    /// Appended or perhaps appended, and the outcome was not seen.
    #[error("outcome unknown: read the state before proposing again")]
    Unknown,
    /// No leader took the proposal before the deadline; nothing was appended.
    #[error("no leader took the proposal in time; propose again")]
    Timeout,
    /// The encoded command is over [`COMMAND_BYTES_MAX`](crate::limits::COMMAND_BYTES_MAX).
    #[error("command of {bytes} bytes is over the limit of {limit}; split it")]
    TooLarge {
        /// The length of the command.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The replica is not running; nothing was appended.
    #[error("replica {id} is not running; restart it or propose elsewhere")]
    Stopped {
        /// The replica.
        id: u64,
    },
    /// Refused for another reason; nothing was appended.
    #[error(transparent)]
    Refused(Refusal),
    /// The command could not be encoded; nothing was appended.
    #[error("command cannot be encoded: {reason}")]
    Encode {
        /// The encoder's words.
        reason: String,
    },
}

impl ProposeError {
    /// Whether proposing the same command again is safe: nothing was appended, and it can succeed.
    ///
    /// [`Unknown`](Self::Unknown) is not: the first one may have been applied.
    ///
    /// ```
    /// # use fsmdb::raft::ProposeError;
    /// assert!(ProposeError::Timeout.is_retryable());
    /// assert!(!ProposeError::Unknown.is_retryable());
    /// ```
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NotLeader { .. } | Self::Timeout | Self::Stopped { .. } => true,
            Self::Refused(refusal) => refusal.is_retryable(),
            Self::Unknown | Self::TooLarge { .. } | Self::Encode { .. } => false,
        }
    }
}

impl From<Refusal> for ProposeError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotLeader { leader } => Self::NotLeader { leader },
            Refusal::TooLarge { bytes, limit } => Self::TooLarge { bytes, limit },
            other => Self::Refused(other),
        }
    }
}

/// Why a read has no snapshot. A read changes nothing, so every one of them may be asked again.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Leadership was not confirmed, or the replica did not catch up, before the deadline.
    #[error("read not confirmed in time; ask again or accept a stale read")]
    Timeout,
    /// The replica is not running.
    #[error("replica {id} is not running; restart it or read elsewhere")]
    Stopped {
        /// The replica.
        id: u64,
    },
    /// No replica is running.
    #[error("no replica is running; restart one")]
    NoReplica,
}

impl ReadError {
    /// Whether asking again is safe: always.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        true
    }
}

/// Why a cluster, or one replica of it, could not be started, changed or stopped.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// There is no replica of this id.
    #[error("no replica {id} in this cluster; add it with `add_learner`")]
    NoSuchReplica {
        /// The id.
        id: u64,
    },
    /// The id is in use.
    #[error("replica {id} exists already; restart it, or choose a new id")]
    Exists {
        /// The id.
        id: u64,
    },
    /// The replica runs already.
    #[error("replica {id} is running; stop it before it is started again")]
    Running {
        /// The id.
        id: u64,
    },
    /// The id belonged to a removed replica.
    #[error("replica {id} was removed and never comes back; choose a new id")]
    Retired {
        /// The id.
        id: u64,
    },
    /// The condition waited for did not come true before the deadline.
    #[error("not reached in time: {what}; check that a majority is running, then try again")]
    Timeout {
        /// What was waited for.
        what: &'static str,
    },
    /// The membership change was not made, or its outcome is not known.
    #[error(transparent)]
    Change(#[from] ProposeError),
    /// The core refused to start.
    #[error(transparent)]
    Raft(#[from] RaftError),
    /// The state machine could not be rebuilt.
    #[error("state machine of replica {id} cannot be rebuilt: {reason}")]
    Machine {
        /// The replica.
        id: u64,
        /// The machine's words.
        reason: String,
    },
    /// The operating system gave no thread.
    #[error("no thread for replica {id}: {reason}; stop others first")]
    Thread {
        /// The replica.
        id: u64,
        /// The system's words.
        reason: String,
    },
}

impl ClusterError {
    /// Whether the same call is safe to make again and can succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Timeout { .. } | Self::Thread { .. } => true,
            Self::Change(error) => error.is_retryable(),
            _ => false,
        }
    }
}
