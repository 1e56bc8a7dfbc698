//! Why a machine could not take an entry or a snapshot.

use thiserror::Error;

use crate::revision::{Applied, Revision};
use crate::snapshot::SnapshotError;

/// Why a machine could not take an entry or a snapshot.
///
/// None of these is a refused command: a refusal is a reply, and the entry counts as applied. After
/// one of these the entry is *not* applied; a replica that cannot apply an entry must stop, because
/// skipping it would make it differ from the others.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MachineError {
    /// A state machine owns this database already.
    #[error("another state machine owns this database")]
    Owned,
    /// The database, or a snapshot, was written outside a log: its revision is not the index of the
    /// entry that it has applied.
    #[error("revision {revision} is not that of a log, which has applied {applied}")]
    Foreign {
        /// The revision of the database or snapshot.
        revision: Revision,
        /// The entry that it says it has applied.
        applied: Applied,
    },
    /// The entry does not follow the one that was applied last, or stands at its index with
    /// another term.
    #[error("entry {got} does not follow the applied {applied}")]
    Gap {
        /// The entry that was offered.
        got: Applied,
        /// The entry that was applied last.
        applied: Applied,
    },
    /// The bytes of an entry are not a command of this state machine.
    ///
    /// On a correct log this means that the entry was written by a newer version of the program:
    /// stop this replica and upgrade it.
    #[error("entry {at} is not a command of this version, at byte {offset}: {message}")]
    Decode {
        /// The entry.
        at: Applied,
        /// Where in the entry.
        offset: u64,
        /// What is wrong.
        message: String,
    },
    /// A command could not be encoded.
    #[error("the command cannot be encoded: {message}")]
    Encode {
        /// What its `Serialize` said.
        message: String,
    },
    /// A command is longer than [`limits::COMMAND_BYTES_MAX`](crate::limits::COMMAND_BYTES_MAX).
    #[error("the command needs {bytes} bytes, the limit is {limit}; split it into several")]
    TooLarge {
        /// Its encoded length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A snapshot is behind what this machine has applied.
    #[error("the snapshot is at {found}, this machine has applied {applied}")]
    Stale {
        /// The position of the snapshot.
        found: Applied,
        /// The entry that was applied last.
        applied: Applied,
    },
    /// A snapshot file could not be read; nothing has changed.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}
