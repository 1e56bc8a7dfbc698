//! What a transaction changed: the log of its statements, folded into one net change a row.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use im::Vector;

use crate::key::KeyBuf;
use crate::revision::Revision;
use crate::root::Root;
use crate::row::{Row, RowRef, typed};
use crate::schema::{Table, TableSchema};

/// The rows that statements replaced, in order. A clone is O(1), which makes savepoints O(1).
#[derive(Clone, Default)]
pub(super) struct ChangeLog {
    entries: Vector<Arc<Touched>>,
}

struct Touched {
    table: usize,
    key: KeyBuf,
    before: Option<RowRef>,
}

impl ChangeLog {
    pub(super) fn push(&mut self, table: usize, key: KeyBuf, before: Option<RowRef>) {
        self.entries.push_back(Arc::new(Touched { table, key, before }));
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The net change of each touched row between the first statement and `after`, in the order of
    /// tables and keys. A row that was inserted and deleted again is not in it.
    pub(super) fn net(&self, after: &Root) -> Vec<Change> {
        let mut first: BTreeMap<(usize, &[u8]), Option<&RowRef>> = BTreeMap::new();
        for touched in &self.entries {
            let key = (touched.table, touched.key.as_slice());
            first.entry(key).or_insert(touched.before.as_ref());
        }
        first
            .into_iter()
            .filter_map(|((position, key), before)| {
                let table = after.table(position);
                let after = table.rows().get(key);
                let same = match (before, after) {
                    (None, None) => true,
                    (Some(before), Some(after)) => Arc::ptr_eq(before, after),
                    _ => false,
                };
                (!same).then(|| Change {
                    table: Arc::clone(table.schema()),
                    key: key.to_vec(),
                    before: before.cloned(),
                    after: after.cloned(),
                })
            })
            .collect()
    }
}

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
    table: Arc<TableSchema>,
    key: Vec<u8>,
    before: Option<RowRef>,
    after: Option<RowRef>,
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
        self.before.as_ref().filter(|_| self.is_in::<T>()).map(typed)
    }

    /// The row after the transaction; `None` if there is none or the table is not `T`.
    #[must_use]
    pub fn after<T: Table>(&self) -> Option<&Row<T>> {
        self.after.as_ref().filter(|_| self.is_in::<T>()).map(typed)
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

/// A published transaction, as hooks see it.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The revision it made.
    pub revision: Revision,
    /// The net change of each row, in the order of tables and keys.
    pub changes: Vec<Change>,
}
