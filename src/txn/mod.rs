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
//! | `rebase.rs`, `change_set.rs`, `carry.rs` | how what a fork changed gets onto a newer version |
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

mod carry;
mod change_set;
mod changes;
mod draft;
mod fork;
mod read;
mod rebase;
mod savepoint;
mod table_mut;
mod write;

pub use change_set::{ChangeSet, ChangeSetError};
pub use changes::{Change, ChangeKind, Committed};
pub use draft::Write;
pub use fork::Fork;
pub use read::{Read, Snapshot};
pub use rebase::{Conflict, ConflictKind, RebaseError, Resolution};
pub use savepoint::Savepoint;
pub use table_mut::{IndexMut, TableMut};
pub use write::WriteTxn;
