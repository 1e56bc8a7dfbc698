//! The storage of a node: everything of it that is on disk.
//!
//! A [`DataDir`] is the directory of one node, locked while it runs. In it an [`EngineLog`] keeps
//! entries, hard state and the names of snapshots, [`SnapshotFiles`] the snapshots themselves.
//! [`recover`] puts a state machine and a log together at a start.
//!
//! ```text
//! <directory>/lock                     locked by the node that runs
//! <directory>/identity                 whose directory it is, and how often it was opened
//! <directory>/log/                     the log
//! <directory>/log.fresh/               the log that takes its place; see `scrubbing`
//! <directory>/snapshots/snap-<term>-<index>
//! <directory>/snapshots/incr-<term>-<from>-<to>
//! ```
//!
//! # Invariants
//!
//! 1. What another cluster or node wrote is never touched.
//! 2. Whatever was synced is there after a crash; a write that was not is there whole or not at
//!    all, and so are all before it.
//! 3. Nothing that is damaged is used in silence: it is refused, or what is older is taken with a
//!    line in the node's log. Only the last records of the log, which no later one calls durable,
//!    are taken for a torn end when they are damaged, with such a line.
//! 4. After a failed write or sync nothing more is written, and nothing is synced again.
//! 5. Only `draft`, `engine`, `examining`, `housekeeping` and `record` name `raft_engine`, and
//!    only `layout` knows its files; only `record` names `protobuf`.

mod directory;
mod draft;
mod durable;
mod engine;
mod error;
mod examining;
mod housekeeping;
mod identity;
mod layout;
mod links;
mod parcel;
mod record;
mod recovery;
mod reference;
mod scrubbing;
mod snapshots;
#[cfg(test)]
mod tests;

pub use directory::DataDir;
pub use engine::{EngineLog, LogOptions};
pub use error::StorageError;
pub use housekeeping::{Housekeeper, Swept};
pub use identity::Identity;
pub(crate) use links::Links;
#[cfg(fuzzing)]
pub use parcel::head_in;
pub(crate) use parcel::head_of;
pub use recovery::recover;
pub use reference::SnapshotReference;
pub use snapshots::{BuiltSnapshot, SnapshotFiles};
