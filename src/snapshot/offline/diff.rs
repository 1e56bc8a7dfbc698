//! The differences between two snapshot files: both are walked side by side, by table and key.

use std::cmp::Ordering;
use std::io::Read;
use std::ops::ControlFlow;

use super::error::OfflineError;
use super::head::TableHead;
use super::item::{Item, StoredRow};
use super::read::OfflineReader;
use super::source::Source;
use crate::revision::Revision;
use crate::snapshot::error::SnapshotError;
use crate::snapshot::format::Summary;

/// A row that differs between two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RowDifference<'a> {
    /// Its table, as the newer file has it; that of the older file if the row was deleted.
    pub table: &'a TableHead,
    /// Its encoded primary key.
    pub key: &'a [u8],
    /// The row in the older file; `None` of one that was created.
    pub before: Option<StoredRow<'a>>,
    /// The row in the newer file; `None` of one that was deleted.
    pub after: Option<StoredRow<'a>>,
}

/// How many rows differ between two files, and what the files are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiffTotals {
    /// Rows that only the newer file has.
    pub created: u64,
    /// Rows that both have and that differ.
    pub updated: u64,
    /// Rows that only the older file has.
    pub deleted: u64,
    /// What the older file holds.
    pub older: Summary,
    /// What the newer file holds.
    pub newer: Summary,
}

impl DiffTotals {
    /// Whether no row differs. The revisions of the files may, and a table without rows may be in
    /// one of them alone.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        (self.created, self.updated, self.deleted) == (0, 0, 0)
    }
}

/// Tells `visit` every row that differs between two whole files, in the order of tables and keys.
///
/// A row differs when its value does or when a revision does, as in
/// [`Snapshot::diff_all`](crate::Snapshot::diff_all): who has written the same value again has
/// changed it. The tombstones are not compared. O(rows of both) in time, two frames and two rows in
/// memory.
///
/// ```
/// # use fsmdb::{Db, Table};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
/// # #[table(name = "nodes")]
/// # struct Node { #[key] id: u64 }
/// # let db = Db::builder().table::<Node>().build()?;
/// # let (mut older, mut newer) = (Vec::new(), Vec::new());
/// # db.read().save(&mut older)?;
/// # let mut txn = db.write();
/// # txn.insert(Node { id: 7 })?;
/// # txn.commit();
/// # db.read().save(&mut newer)?;
/// use std::ops::ControlFlow;
///
/// use fsmdb::offline::{Source, diff};
///
/// let totals = diff(&Source::bytes(&older), &Source::bytes(&newer), |row| {
///     println!("{} {:?}: {:?} -> {:?}", row.table.name, row.key, row.before, row.after);
///     ControlFlow::Continue(())
/// })?;
/// assert_eq!((totals.created, totals.updated, totals.deleted), (1, 0, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// As [`OfflineReader::read_item`]; [`SnapshotError::Incremental`] of an incremental file, which
/// does not have all rows; [`SnapshotError::Cancelled`] when `visit` breaks off.
pub fn diff(
    older: &Source<'_>,
    newer: &Source<'_>,
    mut visit: impl FnMut(&RowDifference<'_>) -> ControlFlow<()>,
) -> Result<DiffTotals, OfflineError> {
    let (mut older, mut newer) = (Rows::new(older.whole()?)?, Rows::new(newer.whole()?)?);
    let (mut created, mut updated, mut deleted) = (0, 0, 0);
    loop {
        let order = match (older.place(), newer.place()) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(one), Some(other)) => one.cmp(&other),
        };
        let before = older.row().filter(|_| order.is_le());
        let after = newer.row().filter(|_| order.is_ge());
        if before != after {
            match (before, after) {
                (None, _) => created += 1,
                (_, None) => deleted += 1,
                _ => updated += 1,
            }
            let of = if after.is_some() { &newer } else { &older };
            let (table, key) = of.table_and_key();
            if visit(&RowDifference { table, key, before, after }).is_break() {
                return Err(SnapshotError::Cancelled { offset: 0 }.into());
            }
        }
        if order.is_le() {
            older.advance()?;
        }
        if order.is_ge() {
            newer.advance()?;
        }
    }
    let (older, newer) = (older.reader.finish()?, newer.reader.finish()?);
    Ok(DiffTotals { created, updated, deleted, older, newer })
}

/// The rows of a file, one at a time.
struct Rows<R> {
    reader: OfflineReader<R>,
    /// The table that is read, once one is.
    table: Option<TableHead>,
    /// The row, if not all were read.
    has_row: bool,
    row: OwnedRow,
}

/// A row that outlives its frame; the buffers are used again.
#[derive(Default)]
pub(super) struct OwnedRow {
    key: Vec<u8>,
    created: Revision,
    modified: Revision,
    encoded: Vec<u8>,
}

impl OwnedRow {
    pub(super) fn set(&mut self, row: &StoredRow<'_>) {
        self.key.clear();
        self.key.extend_from_slice(row.key);
        self.encoded.clear();
        self.encoded.extend_from_slice(row.encoded);
        (self.created, self.modified) = (row.created, row.modified);
    }

    /// Makes it a key without a row.
    pub(super) fn set_key(&mut self, key: &[u8]) {
        self.set(&StoredRow::new(key, Revision(0), Revision(0), &[]));
    }

    pub(super) fn borrow(&self) -> StoredRow<'_> {
        StoredRow::new(&self.key, self.created, self.modified, &self.encoded)
    }
}

impl<R: Read> Rows<R> {
    fn new(reader: OfflineReader<R>) -> Result<Self, OfflineError> {
        let (table, row) = (None, OwnedRow::default());
        let mut rows = Self { reader, table, has_row: false, row };
        rows.advance()?;
        Ok(rows)
    }

    fn advance(&mut self) -> Result<(), OfflineError> {
        while let Some(item) = self.reader.read_item()? {
            match item {
                Item::Table(table) => self.table = Some(table.clone()),
                Item::Row(row) => {
                    self.row.set(&row);
                    self.has_row = true;
                    return Ok(());
                }
                _ => (),
            }
        }
        self.has_row = false;
        Ok(())
    }

    /// Where the row stands that was just looked at.
    fn table_and_key(&self) -> (&TableHead, &[u8]) {
        (self.table.as_ref().expect("rows stand in a table"), &self.row.key)
    }

    fn row(&self) -> Option<StoredRow<'_>> {
        self.has_row.then(|| self.row.borrow())
    }

    fn place(&self) -> Option<(&str, &[u8])> {
        let table = self.table.as_ref().filter(|_| self.has_row)?;
        Some((table.name.as_str(), self.row.key.as_slice()))
    }
}
