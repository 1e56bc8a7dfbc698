//! Transactions: how a version is read and how the next one is made.
//!
//! `read.rs` holds the snapshot and the [`Read`] trait, `write.rs` the write transaction,
//! `table_mut.rs` its typed statements, `savepoint.rs` and `changes.rs` what they say; `diff.rs`
//! what differs between two snapshots; `program/` transactions that are values; `watcher.rs` reads
//! that are watched, `wait.rs` the wait for a revision, `feed.rs` the change feeds; `past.rs`
//! versions that are kept, `memory.rs` who keeps how much.
//!
//! # Invariants
//!
//! 1. A write transaction works on its own root; readers see nothing of it before `commit`.
//! 2. `commit` publishes in one store. Dropping the transaction, also by a panic, publishes
//!    nothing.
//! 3. A statement that fails or panics leaves root and change log as they were.
//! 4. The net change set equals the difference of the versions before and after.
//! 5. A savepoint holds root and change log together, so going back to it restores both.

mod changes;
mod diff;
mod feed;
mod memory;
mod past;
mod program;
mod read;
mod savepoint;
mod table_mut;
mod wait;
mod watcher;
mod write;

pub use diff::{Diff, DiffAll, Difference};
pub use feed::{Changes, Commit, Event, Feed, FeedError, Lagged, Reset};
pub(crate) use memory::memory;
pub use memory::{IndexMemory, Memory, TableMemory, VersionMemory};
pub use past::{HistoryError, RowVersion};
pub(crate) use past::{at, versions};
pub use program::{
    Cmp, Compare, FoundRows, Op, OpResult, Program, ProgramError, ProgramPath, ProgramReply,
    ProgramStep, Select,
};
pub use read::{Read, Snapshot};
pub use savepoint::Savepoint;
pub use table_mut::{IndexMut, TableMut};
pub use wait::{WaitError, WaitFor};
pub use watcher::Watcher;
pub use write::WriteTxn;
