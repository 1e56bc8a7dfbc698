//! One row: the user's value and the metadata that the engine keeps beside it.
//!
//! # Invariants
//!
//! 1. A row never changes once it is in a table; an update makes a new row.
//! 2. `created <= modified`, and both are revisions of commits that wrote this primary key.

use std::any::Any;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Weak};

use crate::revision::Revision;

/// When a row was created and last modified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowMeta {
    pub(crate) created: Revision,
    pub(crate) modified: Revision,
}

/// A row of the table `T`: derefs to the value, and knows when it was created and modified.
///
/// Reads hand out `&Row<T>` borrowed from the snapshot, which costs no reference count;
/// [`share`](Row::share) makes an owned handle that outlives the snapshot.
///
/// ```
/// # use fsmdb::{Db, Table};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
/// # #[table(name = "nodes")]
/// # struct Node { #[key] id: u64, name: String }
/// # let db = Db::builder().table::<Node>().build()?;
/// # let mut txn = db.write();
/// txn.insert(Node { id: 1, name: "alpha".into() })?;
/// let revision = txn.commit();
///
/// let snap = db.read();
/// let row = snap.table::<Node>().get(&1_u64).unwrap();
/// assert_eq!(row.name, "alpha");
/// assert_eq!(row.created(), revision);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Row<T> {
    meta: RowMeta,
    /// The row's own allocation, so that a borrowed row can be shared without `unsafe`.
    this: Weak<Row<T>>,
    value: T,
}

impl<T> Row<T> {
    pub(crate) fn new(meta: RowMeta, value: T) -> Arc<Self> {
        Arc::new_cyclic(|this| Self { meta, this: this.clone(), value })
    }

    /// The revision that created this row: the insert after which it has always existed.
    #[must_use]
    pub fn created(&self) -> Revision {
        self.meta.created
    }

    /// The revision that last wrote this row.
    #[must_use]
    pub fn modified(&self) -> Revision {
        self.meta.modified
    }

    /// The user's value.
    #[must_use]
    pub fn value(&self) -> &T {
        &self.value
    }

    /// An owned handle on the same row. Costs one reference count, copies nothing.
    ///
    /// # Panics
    ///
    /// When the row was moved out of its handle by `Arc::try_unwrap` or `Arc::into_inner`.
    #[must_use]
    pub fn share(&self) -> Arc<Self> {
        self.this.upgrade().expect("a row in a table lives in an Arc")
    }

    /// The user's value, out of a row that was moved out of its handle.
    #[must_use]
    pub fn into_value(self) -> T {
        self.value
    }
}

impl<T> Deref for Row<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Row<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Row")
            .field("created", &self.meta.created.0)
            .field("modified", &self.meta.modified.0)
            .field("value", &self.value)
            .finish()
    }
}

/// Two rows are equal when value and metadata are.
impl<T: PartialEq> PartialEq for Row<T> {
    fn eq(&self, other: &Self) -> bool {
        self.meta == other.meta && self.value == other.value
    }
}

/// A row without its type, as tables, indexes and change sets hold it.
pub(crate) trait ErasedRow: Any + Send + Sync {
    fn meta(&self) -> RowMeta;
}

impl<T: Send + Sync + 'static> ErasedRow for Row<T> {
    fn meta(&self) -> RowMeta {
        self.meta
    }
}

/// The handle on a row that trees store.
pub(crate) type RowRef = Arc<dyn ErasedRow>;

/// The typed view of an erased row.
///
/// # Panics
///
/// When the row is of another type, which a table's schema excludes.
pub(crate) fn typed<T: Send + Sync + 'static>(row: &RowRef) -> &Row<T> {
    let any: &dyn Any = &**row;
    any.downcast_ref().expect("every row of a table is of the table's type")
}

/// The typed handle of an erased row; panics as [`typed`] does.
pub(crate) fn typed_arc<T: Send + Sync + 'static>(row: RowRef) -> Arc<Row<T>> {
    let any: Arc<dyn Any + Send + Sync> = row;
    any.downcast().unwrap_or_else(|_| panic!("every row of a table is of the table's type"))
}
