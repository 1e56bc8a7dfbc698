//! What every engine can be asked to do, so that each operation is written once.
//!
//! # Invariants
//!
//! 1. Everything is static dispatch: an operation is compiled for each engine by itself.
//! 2. A write builds its row, publishes, and drops what it replaced before it returns.

mod concread;
mod locked;
mod map;
mod published;
mod skiplist;
mod typed;

pub(crate) use self::concread::Concread;
pub(crate) use self::locked::Locked;
pub(crate) use self::map::{BTree, Im, Imbl, Vart};
pub(crate) use self::published::Published;
pub(crate) use self::skiplist::Skiplist;
pub(crate) use self::typed::Fsmdb;

use crate::row::{Key, Row, Write};

/// What an `Arc` adds to the value in its block.
pub(crate) const ARC_HEADER: usize = 16;

/// A table with its primary index.
pub(crate) trait Engine: Sized + Send + Sync {
    /// Whether a view stays as it is while rows are written.
    const SNAPSHOTS: bool = true;
    /// Whether backward ranges can be trusted; they are timed all the same.
    const BACKWARD: bool = true;
    /// Bytes of the block of one row, which are no part of an index.
    const ROW_BYTES: usize = size_of::<Row>() + ARC_HEADER;

    /// One version, as a reader holds it.
    type View<'a>: View
    where
        Self: 'a;
    /// The same engine with three indexes.
    type Triple: Triple;

    fn empty() -> Self;

    fn view(&self) -> Self::View<'_>;

    /// One transaction that replaces an existing row.
    fn upsert(&self, write: &Write);

    /// One transaction that adds a row.
    fn insert(&self, write: &Write) {
        self.upsert(write);
    }

    /// One transaction that removes a row; says whether it was there.
    fn delete(&self, key: &Key) -> bool;

    /// One transaction with many rows.
    fn upsert_all(&self, writes: &[Write]);

    /// The engine's fastest way to make a table of sorted rows.
    fn load_sorted(writes: &[Write]) -> Self {
        let engine = Self::empty();
        engine.upsert_all(writes);
        engine
    }

    /// Writes to a private copy of `view` and drops it; says whether the engine can.
    fn fork(_view: &Self::View<'_>, _writes: &[Write]) -> bool {
        false
    }

    fn load(writes: &[Write]) -> Self {
        let engine = Self::empty();
        engine.upsert_all(writes);
        engine
    }
}

/// What is read of one version.
pub(crate) trait View {
    fn len(&self) -> usize;

    /// Reads the rows of `keys` by single gets.
    fn get_each(&self, keys: &[Key]) -> u64;

    /// Reads the rows of `keys` in the engine's best way.
    fn get_many(&self, keys: &[Key]) -> u64 {
        self.get_each(keys)
    }

    /// Reads `rows` rows from `from` on, upwards.
    fn range(&self, from: &Key, rows: usize) -> u64;

    /// Reads `rows` rows from `from` on, downwards.
    fn range_back(&self, from: &Key, rows: usize) -> u64;

    /// Visits every row without reading any.
    fn scan(&self) -> usize;

    /// Visits and reads every row.
    fn scan_rows(&self) -> u64;

    /// The keys in order.
    fn ids(&self) -> Vec<Key>;
}

/// A table with a primary index, one on `node` and one on `status`, written together.
pub(crate) trait Triple: Sized + Send + Sync {
    fn empty() -> Self;

    /// One transaction that replaces an existing row.
    fn upsert(&self, write: &Write);

    /// One transaction with many rows.
    fn upsert_all(&self, writes: &[Write]);

    /// Entries of the three indexes.
    fn counts(&self) -> [usize; 3];

    /// Rows whose status is `status`, counted through its index.
    fn with_status(&self, status: u64) -> usize;

    fn load(writes: &[Write]) -> Self {
        let engine = Self::empty();
        engine.upsert_all(writes);
        engine
    }
}

/// The sum of what reading `rows` gives.
#[inline]
fn touch_all<'a>(rows: impl Iterator<Item = &'a Row>) -> u64 {
    rows.fold(0, |sum, row| sum.wrapping_add(row.touch()))
}

/// The sum of the addresses of `rows`: a visit that the compiler cannot leave out.
#[inline]
fn visit_all<'a, R: 'a>(rows: impl Iterator<Item = &'a R>) -> usize {
    rows.fold(0, |sum, row| sum.wrapping_add(std::ptr::from_ref(row).addr()))
}
