//! The differences between two snapshots: what all commits between them come to.

use std::fmt;
use std::iter::{Flatten, FusedIterator};
use std::marker::PhantomData;
use std::ops::Bound;
use std::sync::Arc;

use super::read::{Snapshot, position_of};
use crate::key::{KeyBuf, KeyRange, KeyReader, print_from};
use crate::root::Contents;
use crate::schema::{Table, TableSchema};
use crate::table::{TableState, as_bytes};
use crate::tree::{Differences, Found, Row, RowRef};
use crate::watch::{Change, ChangeKind};

impl Snapshot {
    /// The rows of a table that differ from those of `older`, in the order of their keys.
    ///
    /// The two versions share what no commit between them has changed, and that is passed over
    /// unread: O(k h^2) for the k rows that were written between them, where h is the height of a
    /// tree, 4 for a million rows. Any two snapshots can be compared, also those of a running
    /// transaction ([`WriteTxn::snapshot`](crate::WriteTxn::snapshot)); two that share nothing, of
    /// different databases or with a restore between them, in O(n).
    ///
    /// Rows are compared by their identity, not by their values: one that was written again
    /// differs, because it has another modified revision, and so does each row that a restore has
    /// loaded. If `older` is the newer of the two, created rows are called deleted and the other
    /// way round.
    ///
    /// ```
    /// # use fsmdb::{ChangeKind, Db, Table};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    /// # #[table(name = "nodes")]
    /// # struct Node { #[key] id: u64, ready: bool }
    /// # let db = Db::builder().table::<Node>().build()?;
    /// # let mut txn = db.write();
    /// # for id in 0..100 { txn.insert(Node { id, ready: false })?; }
    /// # txn.commit();
    /// let older = db.read();
    /// let mut txn = db.write();
    /// txn.table_mut::<Node>().update(&7_u64, |node| node.ready = true)?;
    /// txn.commit();
    /// let mut txn = db.write();
    /// txn.table_mut::<Node>().delete(&3_u64);
    /// txn.commit();
    ///
    /// let newer = db.read();
    /// let mut diff = newer.diff::<Node>(&older);
    /// let deleted = diff.next().unwrap();
    /// assert_eq!(deleted.kind(), ChangeKind::Deleted);
    /// assert_eq!(deleted.before().unwrap().id, 3);
    /// let updated = diff.next().unwrap();
    /// assert_eq!(updated.kind(), ChangeKind::Updated);
    /// assert!(!updated.before().unwrap().ready && updated.after().unwrap().ready);
    /// assert!(diff.next().is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    ///
    /// When `T` is not a table of both.
    #[must_use]
    pub fn diff<'a, T: Table>(&'a self, older: &'a Self) -> Diff<'a, T> {
        Diff::new(self, older, Bound::Unbounded, Bound::Unbounded)
    }

    /// As [`diff`](Snapshot::diff), for the rows whose primary keys lie in `range`.
    ///
    /// ```
    /// # use fsmdb::{Db, Table};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    /// # #[table(name = "nodes")]
    /// # struct Node { #[key] id: u64 }
    /// # let db = Db::builder().table::<Node>().build()?;
    /// let older = db.read();
    /// let mut txn = db.write();
    /// for id in 0..100 {
    ///     txn.insert(Node { id })?;
    /// }
    /// txn.commit();
    /// assert_eq!(db.read().diff_range::<Node, _>(&older, 10..20).count(), 10);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    ///
    /// As [`diff`](Snapshot::diff).
    #[must_use]
    pub fn diff_range<'a, T: Table, R: KeyRange<T::Key>>(
        &'a self,
        older: &'a Self,
        range: R,
    ) -> Diff<'a, T> {
        let (low, high) = range.encode_bounds();
        Diff::new(self, older, as_bytes(&low), as_bytes(&high))
    }

    /// The rows of all tables that differ from those of `older`, in the order of tables and keys;
    /// see [`diff`](Snapshot::diff).
    ///
    /// It equals [`WriteTxn::changes`](crate::WriteTxn::changes) of the one commit between the two,
    /// or the net changes of several. A table that differs in nothing costs O(1).
    ///
    /// ```
    /// # use fsmdb::{ChangeKind, Db, Table};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    /// # #[table(name = "nodes")]
    /// # struct Node { #[key] id: u64 }
    /// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    /// # #[table(name = "links")]
    /// # struct Link { #[key] from: u64 }
    /// let db = Db::builder().table::<Node>().table::<Link>().build()?;
    /// let older = db.read();
    /// for id in [1, 2] {
    ///     let mut txn = db.write();
    ///     txn.insert(Link { from: id })?;
    ///     txn.insert(Node { id })?;
    ///     txn.commit();
    /// }
    /// let tables: Vec<_> =
    ///     db.read().diff_all(&older).map(|change| change.table().to_owned()).collect();
    /// assert_eq!(tables, ["nodes", "nodes", "links", "links"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    ///
    /// When the two are of databases with different schemas.
    #[must_use]
    pub fn diff_all<'a>(&'a self, older: &'a Self) -> DiffAll<'a> {
        let (newer, older) = (self.contents(), older.contents());
        let schemas = (&newer.schema, &older.schema);
        let is_same =
            Arc::ptr_eq(schemas.0, schemas.1) || schemas.0.fingerprint() == schemas.1.fingerprint();
        assert!(is_same, "{OTHER_SCHEMA}");
        let tables: Vec<_> = (0..schemas.0.tables().len())
            .map(|position| TableDiff::new(newer, position, older))
            .collect();
        DiffAll { tables: tables.into_iter().flatten() }
    }
}

const OTHER_SCHEMA: &str = "snapshots that are compared have the same tables";

/// The rows of one table that differ between two snapshots, from [`Snapshot::diff`]: in the order
/// of their keys, from both ends.
pub struct Diff<'a, T> {
    rows: Differences<'a>,
    marker: PhantomData<fn() -> T>,
}

impl<'a, T: Table> Diff<'a, T> {
    fn new(
        newer: &'a Snapshot,
        older: &'a Snapshot,
        low: Bound<&[u8]>,
        high: Bound<&[u8]>,
    ) -> Self {
        let rows = |contents: &'a Contents| contents.table(position_of::<T>(contents)).rows();
        let rows = rows(newer.contents()).diff(rows(older.contents()), low, high);
        Self { rows, marker: PhantomData }
    }
}

impl<'a, T: Table> Iterator for Diff<'a, T> {
    type Item = Difference<'a, T>;

    fn next(&mut self) -> Option<Difference<'a, T>> {
        self.rows.next().map(Difference::new)
    }
}

impl<T: Table> DoubleEndedIterator for Diff<'_, T> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.rows.next_back().map(Difference::new)
    }
}

impl<T: Table> FusedIterator for Diff<'_, T> {}

impl<T> fmt::Debug for Diff<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Diff").finish_non_exhaustive()
    }
}

/// What stands at one key of a table in two snapshots.
pub struct Difference<'a, T> {
    key: KeyBuf,
    before: Option<&'a Row<T>>,
    after: Option<&'a Row<T>>,
}

impl<'a, T: Table> Difference<'a, T> {
    fn new(found: Found<'_, 'a>) -> Self {
        let mut key = KeyBuf::new();
        key.extend(found.key);
        let typed = |row: RowRef<'a>| row.typed::<T>();
        Self { key, before: found.before.map(typed), after: found.after.map(typed) }
    }

    /// The primary key as it is encoded; `decode::<T::Key>` of it gives the typed key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Whether the row was created, updated or deleted between the two.
    #[must_use]
    pub fn kind(&self) -> ChangeKind {
        ChangeKind::of(self.before.is_some(), self.after.is_some())
    }

    /// The row in the older snapshot; `None` if it has none with this key.
    #[must_use]
    pub fn before(&self) -> Option<&'a Row<T>> {
        self.before
    }

    /// The row in the newer snapshot; `None` if it has none with this key.
    #[must_use]
    pub fn after(&self) -> Option<&'a Row<T>> {
        self.after
    }
}

impl<T> Clone for Difference<'_, T> {
    fn clone(&self) -> Self {
        Self { key: self.key.clone(), before: self.before, after: self.after }
    }
}

impl<T: Table> fmt::Debug for Difference<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = print_from::<T::Key>(&mut KeyReader::new(&self.key));
        f.debug_struct("Difference").field("key", &key).field("kind", &self.kind()).finish()
    }
}

/// The rows of all tables that differ between two snapshots, from [`Snapshot::diff_all`]: in the
/// order of tables and keys, from both ends.
pub struct DiffAll<'a> {
    tables: Flatten<std::vec::IntoIter<TableDiff<'a>>>,
}

impl Iterator for DiffAll<'_> {
    type Item = Change;

    fn next(&mut self) -> Option<Change> {
        self.tables.next()
    }
}

impl DoubleEndedIterator for DiffAll<'_> {
    fn next_back(&mut self) -> Option<Change> {
        self.tables.next_back()
    }
}

impl FusedIterator for DiffAll<'_> {}

impl fmt::Debug for DiffAll<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiffAll").finish_non_exhaustive()
    }
}

/// The differences of one table without its type.
struct TableDiff<'a> {
    table: &'a Arc<TableSchema>,
    rows: Differences<'a>,
}

impl<'a> TableDiff<'a> {
    /// The differences of the table at `position` of `newer`.
    fn new(newer: &'a Contents, position: usize, older: &'a Contents) -> Self {
        let newer = newer.table(position);
        let table = newer.schema();
        // Databases with the same schema may have their tables in another order.
        let other = older.schema.position_of(&table.name).map(|position| older.table(position));
        let is_same = |other: &&TableState| other.schema().rows.kind() == table.rows.kind();
        let older = other.filter(is_same).expect(OTHER_SCHEMA);
        let rows = newer.rows().diff(older.rows(), Bound::Unbounded, Bound::Unbounded);
        Self { table, rows }
    }
}

impl Iterator for TableDiff<'_> {
    type Item = Change;

    fn next(&mut self) -> Option<Change> {
        self.rows.next().map(|found| Change::new(self.table, found.key, found.before, found.after))
    }
}

impl DoubleEndedIterator for TableDiff<'_> {
    fn next_back(&mut self) -> Option<Change> {
        let found = self.rows.next_back();
        found.map(|found| Change::new(self.table, found.key, found.before, found.after))
    }
}
