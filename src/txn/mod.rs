//! Transactions: how a version is read and how the next one is made.
//!
//! `read.rs` holds the snapshot and the [`Read`] trait, `write.rs` the write transaction,
//! `table_mut.rs` its typed statements, `savepoint.rs` and `changes.rs` what they say.
//!
//! # Invariants
//!
//! 1. A write transaction works on its own root; readers see nothing of it before `commit`.
//! 2. `commit` publishes in one store. Dropping the transaction, also by a panic, publishes
//!    nothing.
//! 3. A statement that fails or panics leaves root and change log as they were.
//! 4. The net change set equals the difference of the versions before and after.
//! 5. A savepoint holds root and change log together, so going back to it restores both.

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
