//! The state of one table in one version of the database.

use std::sync::Arc;

use crate::key::KeyBuf;
use crate::revision::Revision;
use crate::schema::TableSchema;
use crate::tree::{RowRef, TableTrees, TreeRef, TypedTree};

/// The trees of a table: rows by primary key, and one tree for each index.
#[derive(Clone)]
pub(crate) struct TableState {
    pub(super) schema: Arc<TableSchema>,
    pub(super) trees: TableTrees,
    pub(super) modified: Revision,
}

impl TableState {
    /// The empty table of `schema`.
    pub(crate) fn new(schema: Arc<TableSchema>) -> Self {
        let trees = TableTrees::new(schema.rows.kind(), schema.indexes.len());
        Self { schema, trees, modified: Revision(0) }
    }

    pub(crate) fn schema(&self) -> &Arc<TableSchema> {
        &self.schema
    }

    /// The number of rows, O(1).
    pub(crate) fn len(&self) -> usize {
        self.trees.rows().len()
    }

    /// The revision of the last commit that changed the table, deletes included.
    pub(crate) fn modified(&self) -> Revision {
        self.modified
    }

    pub(crate) fn trees(&self) -> &TableTrees {
        &self.trees
    }

    pub(crate) fn rows(&self) -> TreeRef<'_> {
        self.trees.rows()
    }

    /// The tree of the index at a position, or the primary one.
    pub(crate) fn tree(&self, index: Option<usize>) -> TreeRef<'_> {
        match index {
            None => self.trees.rows(),
            Some(position) => self.trees.index(position),
        }
    }

    /// The rows, of their type.
    #[inline]
    pub(crate) fn typed_rows<T: 'static>(&self) -> TypedTree<'_, T> {
        self.trees.typed_rows()
    }

    /// The tree of the index at `position`, with rows of their type.
    #[inline]
    pub(crate) fn index<T: 'static>(&self, position: usize) -> TypedTree<'_, T> {
        self.trees.typed_index(position)
    }

    /// The row at `key`, a primary key as it is encoded.
    pub(crate) fn row(&self, key: &[u8]) -> Option<RowRef<'_>> {
        self.rows().get(key)
    }
}

/// Bounds over byte strings, as the trees take them.
pub(crate) fn as_bytes(bound: &std::ops::Bound<KeyBuf>) -> std::ops::Bound<&[u8]> {
    bound.as_ref().map(KeyBuf::as_slice)
}
