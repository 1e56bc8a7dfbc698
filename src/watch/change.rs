//! What has happened to rows: the items of a change feed, and of everything else that tells of
//! changes.

use std::fmt;
use std::sync::Arc;

use crate::revision::Revision;
use crate::schema::{Table, TableSchema};
use crate::tree::{AnyRow, Row};

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

/// The net change of one row in one transaction: what stood there before it and what after it.
#[derive(Clone)]
pub struct Change {
    pub(crate) table: Arc<TableSchema>,
    pub(crate) key: Vec<u8>,
    pub(crate) before: Option<AnyRow>,
    pub(crate) after: Option<AnyRow>,
}

impl Change {
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
        match (&self.before, &self.after) {
            (None, _) => ChangeKind::Created,
            (Some(_), Some(_)) => ChangeKind::Updated,
            (Some(_), None) => ChangeKind::Deleted,
        }
    }

    /// Whether the change is in the table whose rows are values of `T`.
    #[must_use]
    pub fn is_in<T: Table>(&self) -> bool {
        self.table.rows.row_type() == std::any::TypeId::of::<T>()
    }

    /// The row before the transaction; `None` if there was none or the table is not `T`.
    #[must_use]
    pub fn before<T: Table>(&self) -> Option<&Row<T>> {
        self.before.as_ref().filter(|_| self.is_in::<T>()).map(|row| row.borrow().typed())
    }

    /// The row after the transaction; `None` if there is none or the table is not `T`.
    #[must_use]
    pub fn after<T: Table>(&self) -> Option<&Row<T>> {
        self.after.as_ref().filter(|_| self.is_in::<T>()).map(|row| row.borrow().typed())
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
