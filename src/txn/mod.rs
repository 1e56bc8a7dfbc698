//! Transactions: how a version is read and how the next one is made.
//!
//! | file | owns |
//! |---|---|
//! | `read.rs` | the snapshot and the [`Read`] trait |
//! | `draft.rs` | what is written, whoever writes it; the [`Write`] trait |
//! | `table_mut.rs` | the typed statements |
//! | `savepoint.rs`, `changes.rs` | points to go back to; what was changed |
//! | `write.rs` | the write transaction: a draft that is published |
//! | `fork.rs` | the fork: a draft that never is |
//! | `optimistic.rs` | the optimistic transaction: a draft that is validated before it is published |
//! | `intent.rs` | the optimistic transaction as a value |
//! | `rebase.rs`, `change_set.rs`, `carry.rs` | how what a fork changed gets onto a newer version |
//! | `diff.rs` | what differs between two snapshots |
//! | `digests.rs` | the digests of a version |
//! | `program/` | transactions that are values |
//! | `watcher.rs`, `wait.rs` | reads that are watched; the wait for a revision |
//! | `feed.rs` | the change feeds |
//! | `past.rs`, `memory.rs` | versions that are kept; who keeps how much |
//! | `erasure.rs` | what was erased; which versions pin it |
//!
//! # Invariants
//!
//! 1. A write transaction works on its own root; readers see nothing of it before `commit`.
//! 2. `commit` publishes in one store. Dropping the transaction, also by a panic, publishes
//!    nothing.
//! 3. A statement that fails or panics leaves root and change log as they were.
//! 4. The net change set equals the difference of the versions before and after.
//! 5. A savepoint holds root and change log together, so going back to it restores both.
//! 6. A fork changes nothing that anybody else can see, and takes no lock.
//! 7. A change set that is applied right on top of the fork's origin gives what the fork shows,
//!    revisions included.
//! 8. After a commit that erases, the database itself keeps nothing of what was erased that a
//!    version does not need which somebody holds.

mod bytes;
mod carry;
mod change_set;
mod changes;
mod delta;
mod diff;
mod digests;
mod draft;
mod erasure;
mod feed;
mod fork;
mod intent;
mod memory;
mod optimistic;
mod past;
mod program;
mod read;
mod rebase;
mod savepoint;
mod table_mut;
mod wait;
mod watcher;
mod write;

pub use change_set::{ChangeSet, ChangeSetError};
pub(crate) use delta::{ground_of, load_chain};
pub use diff::{Diff, DiffAll, Difference};
pub use draft::Write;
pub(crate) use erasure::pinned_until;
pub use erasure::{ErasedTable, Erasure};
pub use feed::{Changes, Commit, Event, Feed, FeedError, Lagged, Reset};
pub use fork::Fork;
pub use intent::{Intent, IntentError};
pub(crate) use memory::memory;
pub use memory::{IndexMemory, Memory, TableMemory, VersionMemory};
pub use optimistic::{CommitError, OptimisticTxn, ReadConflict, TransactError};
pub use past::{HistoryError, RowVersion};
pub(crate) use past::{at, versions};
pub use program::{
    Cmp, Compare, FoundRows, Op, OpResult, Program, ProgramError, ProgramPath, ProgramReply,
    ProgramStep, Select,
};
pub use read::{Read, Snapshot};
pub use rebase::{Conflict, ConflictKind, RebaseError, Resolution};
pub use savepoint::Savepoint;
pub use table_mut::{IndexMut, TableMut};
pub use wait::{WaitError, WaitFor};
pub use watcher::Watcher;
pub use write::WriteTxn;
