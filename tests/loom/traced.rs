//! Rows that carry a modelled cell, which whoever frees them writes: a free that is not ordered
//! after every read is found by `loom` itself.

use fsmdb::{Db, Snapshot, Table, WriteTxn};
use serde::{Deserialize, Serialize};

/// A modelled cell that readers read and that whoever frees the row writes.
#[derive(Debug)]
pub(crate) struct Trace(std::sync::Arc<loom::cell::UnsafeCell<u8>>);

// SAFETY: loom lets one thread run at a time and reports accesses that are not ordered.
unsafe impl Send for Trace {}
// SAFETY: as above.
unsafe impl Sync for Trace {}

impl Default for Trace {
    fn default() -> Self {
        Self(std::sync::Arc::new(loom::cell::UnsafeCell::new(0)))
    }
}

impl Clone for Trace {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Trace {
    fn read(&self) {
        // SAFETY: not written before the row is dropped, which the model proves.
        self.0.with(|cell| assert_eq!(unsafe { *cell }, 0, "a freed row was read"));
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // SAFETY: nobody reads a row that is dropped, which the model proves.
        self.0.with_mut(|cell| unsafe { *cell = 1 });
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "traced")]
pub(crate) struct Traced {
    #[key]
    pub(crate) id: u8,
    pub(crate) value: u8,
    #[serde(skip)]
    pub(crate) trace: Trace,
}

pub(crate) fn traced_database() -> Db {
    Db::builder().table::<Traced>().build().unwrap()
}

/// Puts in the one row, or replaces it; gives the means to ask whether it has been freed.
pub(crate) fn put_traced(txn: &mut WriteTxn<'_>, value: u8) -> Freed {
    let trace = Trace::default();
    let freed = Freed(std::sync::Arc::downgrade(&trace.0));
    txn.upsert(Traced { id: 0, value, trace }).unwrap();
    freed
}

pub(crate) fn commit_traced(db: &Db, value: u8) -> Freed {
    let mut txn = db.write();
    let freed = put_traced(&mut txn, value);
    txn.commit();
    freed
}

pub(crate) struct Freed(std::sync::Weak<loom::cell::UnsafeCell<u8>>);

impl Freed {
    pub(crate) fn is(&self) -> bool {
        self.0.strong_count() == 0
    }
}

/// The value of the one row.
pub(crate) fn read_traced(snap: &Snapshot) -> u8 {
    let Some(row) = snap.table::<Traced>().get(&0_u8) else { return 0 };
    row.trace.read();
    row.value
}
