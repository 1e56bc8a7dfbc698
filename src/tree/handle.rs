//! Handles on rows: of their type and counted, without it, and for the length of a transaction.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use super::row::{Row, RowPtr, RowRef};

/// An owned handle on a row, from [`Row::share`]: it outlives the snapshot, the transaction and
/// the database that the row was read from.
///
/// A clone costs one reference count. The row is freed when no version and no handle needs it.
///
/// ```
/// # use fsmdb::{Db, Table};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
/// # #[table(name = "nodes")]
/// # struct Node { #[key] id: u64, name: String }
/// # let db = Db::builder().table::<Node>().build()?;
/// # let mut txn = db.write();
/// # txn.insert(Node { id: 1, name: "alpha".into() })?;
/// # txn.commit();
/// let row = db.read().table::<Node>().get(&1_u64).unwrap().share();
/// drop(db);
/// assert_eq!(row.name, "alpha");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SharedRow<T> {
    pointer: RowPtr,
    marker: PhantomData<Row<T>>,
}

// SAFETY: a handle is a counted pointer to a row, as `Arc<Row<T>>` would be: the count is atomic,
// and several threads may hold the row, or the last of them drop it.
unsafe impl<T: Send + Sync> Send for SharedRow<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for SharedRow<T> {}

impl<T> SharedRow<T> {
    /// Another handle on the row at `pointer`, which is of this type.
    pub(super) fn new(pointer: RowPtr) -> Self {
        pointer.retain();
        Self { pointer, marker: PhantomData }
    }

    /// Whether both handles are on the same row, not only on equal ones: nothing has written this
    /// primary key between the versions that they came from.
    #[must_use]
    pub fn ptr_eq(one: &Self, other: &Self) -> bool {
        one.pointer == other.pointer
    }
}

impl<T> Deref for SharedRow<T> {
    type Target = Row<T>;

    fn deref(&self) -> &Row<T> {
        // SAFETY: this handle keeps the row alive, and was made of a row of this type.
        unsafe { self.pointer.typed() }
    }
}

impl<T> Clone for SharedRow<T> {
    fn clone(&self) -> Self {
        self.share()
    }
}

impl<T> Drop for SharedRow<T> {
    fn drop(&mut self) {
        // SAFETY: the handle is given up here and not used again.
        unsafe { self.pointer.release() };
    }
}

impl<T: fmt::Debug> fmt::Debug for SharedRow<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// Two handles are equal when their rows are.
impl<T: PartialEq> PartialEq for SharedRow<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

/// A row that a transaction has met: it is kept, whatever becomes of it, until the transaction
/// ends. Used within it only (see the rule in `mod.rs`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeptRow(RowPtr);

impl KeptRow {
    pub(super) fn pointer(self) -> RowPtr {
        self.0
    }

    pub(super) fn new(pointer: RowPtr) -> Self {
        Self(pointer)
    }

    pub(crate) fn borrow(&self) -> RowRef<'_> {
        self.0.borrow()
    }
}

/// An owned handle on a row of unknown type.
#[derive(Debug)]
pub(crate) struct AnyRow(RowPtr);

impl AnyRow {
    /// Another handle on the row at `pointer`.
    pub(super) fn new(pointer: RowPtr) -> Self {
        pointer.retain();
        Self(pointer)
    }

    /// The size of the row in bytes, without what its value owns elsewhere.
    pub(crate) fn held_bytes(&self) -> usize {
        self.0.bytes()
    }

    pub(crate) fn borrow(&self) -> RowRef<'_> {
        self.0.borrow()
    }
}

impl Clone for AnyRow {
    fn clone(&self) -> Self {
        self.borrow().share()
    }
}

impl Drop for AnyRow {
    fn drop(&mut self) {
        // SAFETY: the handle is given up here and not used again.
        unsafe { self.0.release() };
    }
}
