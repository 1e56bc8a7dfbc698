//! Why the storage of a node could not be opened or used, and what its operator can do.

use std::io;
use std::path::PathBuf;

use fsmdb::raft::LogError;
use fsmdb::{MachineError, SnapshotError};

use super::Identity;

/// Why the storage of a node could not be opened or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The disk failed.
    #[error("cannot {step} {}: {source}", path.display())]
    Disk {
        /// The file or directory.
        path: PathBuf,
        /// What failed.
        step: &'static str,
        /// The failure.
        source: io::Error,
    },
    /// Another process has the directory, or this one: a node that runs, or whose log has failed
    /// since the process began. Such a log is never closed.
    #[error(
        "{} is in use: another process has it, or a log of this process that runs or has failed; \
         end that process first",
        path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// Others than its owner have rights in the directory.
    #[error(
        "{} is open to others than its owner (mode {mode:o}); take their rights away: chmod 700",
        path.display()
    )]
    Permissions {
        /// The directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The directory belongs to another node or cluster.
    #[error("{} belongs to {found}, this is {expected}; give each its own", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: Identity,
        /// Who wanted it.
        expected: Identity,
    },
    /// The directory holds something, but nothing that says whose it is.
    #[error("{} holds {found} and no identity; give the node an empty one", path.display())]
    Unidentified {
        /// The directory.
        path: PathBuf,
        /// The name of the first thing in it.
        found: String,
    },
    /// The identity file is not what was written.
    #[error(
        "{} is damaged: {reason}; wipe the directory, remove the node from the group, and add it \
         again under a new id",
        path.display()
    )]
    BrokenIdentity {
        /// The identity file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The files of the log cannot be read back, or are damaged where they were durable.
    #[error(
        "log in {} cannot be opened: {reason}; wipe the directory, remove the node from the \
         group, and add it again under a new id",
        path.display()
    )]
    BrokenLog {
        /// The folder of the log.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A log was written in this directory, and nothing of it is left.
    #[error(
        "log in {} is gone; wipe the directory, remove the node from the group, and add it again \
         under a new id",
        path.display()
    )]
    LogGone {
        /// The folder of the log.
        path: PathBuf,
    },
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The node has a log already; founding it again would forget its promises.
    #[error("node {node} has a log up to {last} already; start it without founding")]
    AlreadyFounded {
        /// The node.
        node: u64,
        /// The last index of its log.
        last: u64,
    },
    /// The members to found a group with cannot be.
    #[error("node {node} cannot found this group: {reason}")]
    Membership {
        /// The node.
        node: u64,
        /// What is wrong with the members.
        reason: String,
    },
    /// The bytes do not refer to a snapshot file.
    #[error("not a reference to a snapshot file: {reason}")]
    Reference {
        /// What is wrong with them.
        reason: String,
    },
    /// A snapshot of a database that has applied no entry cannot be kept for one that has.
    #[error("snapshot of a database that has applied nothing; take it from the state machine")]
    NothingApplied,
    /// A file is not the one that the reference speaks of.
    #[error("{} is not the snapshot {expected}: {reason}; send it again", path.display())]
    WrongSnapshot {
        /// The file.
        path: PathBuf,
        /// The name of the snapshot it should be.
        expected: String,
        /// What differs.
        reason: String,
    },
    /// A snapshot file could not be written, or is damaged.
    #[error("snapshot file {}: {source}", path.display())]
    Snapshot {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the byte where it is.
        source: Box<SnapshotError>,
    },
    /// A state machine could not be rebuilt from a snapshot.
    #[error("state machine cannot be rebuilt from {}: {source}", path.display())]
    Machine {
        /// The snapshot file.
        path: PathBuf,
        /// The machine's words, with the byte where the file is damaged.
        source: Box<MachineError>,
    },
    /// No snapshot that the log can go on from is whole.
    #[error(
        "snapshot at {index} cannot be used ({reason}), and there is none before it to go back to \
         ({older}); wipe the directory, remove the node from the group, and add it again under a \
         new id"
    )]
    NoSnapshot {
        /// The index of the newest snapshot.
        index: u64,
        /// Why that one cannot be used.
        reason: String,
        /// Why the one before it cannot be used.
        older: String,
    },
    /// The newest snapshot is damaged, and the entries that would lead up to it from the one before
    /// were forgotten.
    #[error(
        "snapshot at {index} cannot be used ({reason}), and the one at {older} is followed by \
         entries from {first} only; wipe the directory, remove the node from the group, and add \
         it again under a new id"
    )]
    EntriesForgotten {
        /// The index of the newest snapshot.
        index: u64,
        /// Why that one cannot be used.
        reason: String,
        /// The index of the snapshot before it.
        older: u64,
        /// The first entry of the log.
        first: u64,
    },
}
