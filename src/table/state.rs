//! The state of one table in one version of the database.

use std::sync::Arc;

use crate::key::{KeyBuf, prefix_bounds};
use crate::revision::Revision;
use crate::row::RowRef;
use crate::schema::{IndexKeys, TableSchema};
use crate::tree::{Entries, Tree};

/// Rows by primary key, and one tree for each index. A clone is O(indexes).
#[derive(Clone)]
pub(crate) struct TableState {
    pub(super) schema: Arc<TableSchema>,
    pub(super) rows: Tree<RowRef>,
    pub(super) indexes: Vec<Tree<RowRef>>,
    pub(super) modified: Revision,
}

impl TableState {
    /// The empty table of `schema`.
    pub(crate) fn new(schema: Arc<TableSchema>) -> Self {
        let indexes = schema.indexes.iter().map(|_| Tree::new()).collect();
        Self { schema, rows: Tree::new(), indexes, modified: Revision(0) }
    }

    pub(crate) fn schema(&self) -> &Arc<TableSchema> {
        &self.schema
    }

    /// The number of rows, O(1).
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The revision of the last commit that changed the table, deletes included.
    pub(crate) fn modified(&self) -> Revision {
        self.modified
    }

    pub(crate) fn rows(&self) -> &Tree<RowRef> {
        &self.rows
    }

    /// The tree of the index at `position`.
    pub(crate) fn index(&self, position: usize) -> &Tree<RowRef> {
        &self.indexes[position]
    }

    /// The entries of the index at `position` whose value is encoded as `value`.
    pub(crate) fn entries_of(&self, position: usize, value: KeyBuf) -> Entries<'_, RowRef> {
        let (low, high) = prefix_bounds(value);
        self.indexes[position].range(as_bytes(&low), as_bytes(&high))
    }
}

/// The keys under which `row` stands in the index at `position`, sorted and distinct.
///
/// This runs user code, which may panic.
pub(super) fn entry_keys(
    schema: &TableSchema,
    position: usize,
    row: &RowRef,
    key: &[u8],
) -> Vec<KeyBuf> {
    let mut values = IndexKeys::default();
    schema.rows.index_values(position, row, &mut values);
    let mut entries = values.drain_sorted();
    if !schema.indexes[position].unique {
        // Encodings of one type are prefix-free, so appending the primary key keeps the order.
        entries.iter_mut().for_each(|entry| entry.extend(key));
    }
    entries
}

/// Bounds over byte strings, as the trees take them.
pub(crate) fn as_bytes(bound: &std::ops::Bound<KeyBuf>) -> std::ops::Bound<&[u8]> {
    bound.as_ref().map(KeyBuf::as_slice)
}
