//! What has happened to rows: the items of a change feed, and of everything else that tells of
//! changes.

use std::fmt;
use std::sync::Arc;

use crate::revision::Revision;
use crate::schema::{Table, TableSchema};
use crate::tree::{AnyRow, Row, RowRef};

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// There was no row with this key before.
    Created,
    /// The row was replaced by another with the same key.
    Updated,
    /// There is no row with this key any more.
    Deleted,
}

impl ChangeKind {
    /// What happened to a row that stood there before, or after, or both.
    pub(crate) fn of(is_before: bool, is_after: bool) -> Self {
        match (is_before, is_after) {
            (false, _) => Self::Created,
            (true, true) => Self::Updated,
            (true, false) => Self::Deleted,
        }
    }
}

/// The net change of one row, in one transaction or between two snapshots: what stood there before
/// and what after.
#[derive(Clone)]
pub struct Change {
    pub(super) table: Arc<TableSchema>,
    pub(super) key: Vec<u8>,
    pub(super) before: Option<AnyRow>,
    pub(super) after: Option<AnyRow>,
}

impl Change {
    pub(crate) fn new(
        table: &Arc<TableSchema>,
        key: &[u8],
        before: Option<RowRef<'_>>,
        after: Option<RowRef<'_>>,
    ) -> Self {
        let (before, after) = (before.map(RowRef::share), after.map(RowRef::share));
        Self { table: Arc::clone(table), key: key.to_vec(), before, after }
    }

    /// The name of the table.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table.name
    }

    /// The primary key as it is encoded; `decode::<K>` of it gives the typed key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The primary key, printed for a person.
    #[must_use]
    pub fn printed_key(&self) -> String {
        self.table.print_key(&self.key)
    }

    /// Whether the row was created, updated or deleted.
    #[must_use]
    pub fn kind(&self) -> ChangeKind {
        ChangeKind::of(self.before.is_some(), self.after.is_some())
    }

    /// Whether the change is in the table whose rows are values of `T`.
    #[must_use]
    pub fn is_in<T: Table>(&self) -> bool {
        self.table.rows.row_type() == std::any::TypeId::of::<T>()
    }

    /// The row before; `None` if there was none or the table is not `T`.
    #[must_use]
    pub fn before<T: Table>(&self) -> Option<&Row<T>> {
        self.before.as_ref().filter(|_| self.is_in::<T>()).map(|row| row.borrow().typed())
    }

    /// The row after; `None` if there is none or the table is not `T`.
    #[must_use]
    pub fn after<T: Table>(&self) -> Option<&Row<T>> {
        self.after.as_ref().filter(|_| self.is_in::<T>()).map(|row| row.borrow().typed())
    }
}

/// What a fork asks of its changes.
impl Change {
    pub(crate) fn schema(&self) -> &TableSchema {
        &self.table
    }

    pub(crate) fn row_before(&self) -> Option<RowRef<'_>> {
        self.before.as_ref().map(AnyRow::borrow)
    }

    pub(crate) fn row_after(&self) -> Option<RowRef<'_>> {
        self.after.as_ref().map(AnyRow::borrow)
    }

    /// The value of the row after it, encoded; empty if there is none.
    pub(crate) fn encode_after(&self) -> Result<Vec<u8>, String> {
        let mut value = Vec::new();
        self.row_after().map_or(Ok(()), |row| self.table.rows.encode_value(row, &mut value))?;
        Ok(value)
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change")
            .field("table", &self.table())
            .field("key", &self.printed_key())
            .field("kind", &self.kind())
            .finish()
    }
}

impl Change {
    /// Bytes that the change keeps in memory, as far as the engine sees them: key and rows, without
    /// what the values own elsewhere.
    pub(super) fn held_bytes(&self) -> usize {
        let rows = [&self.before, &self.after].into_iter().flatten();
        size_of::<Self>() + self.key.len() + rows.map(AnyRow::held_bytes).sum::<usize>()
    }
}

/// A published transaction, as hooks and feeds see it.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The revision it made.
    pub revision: Revision,
    /// The net change of each row, in the order of tables and keys.
    pub changes: Vec<Change>,
}

impl Committed {
    pub(super) fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.changes.iter().map(Change::held_bytes).sum::<usize>()
    }
}
