//! The state of one table in one version of the database.

use std::ops::Bound;
use std::sync::Arc;

use super::removals::{Removals, index_of, number_of};
use crate::digest::Digest;
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
    pub(super) removals: Removals,
    /// That of the rows, if the schema says to keep it.
    pub(super) digest: Option<Digest>,
}

impl TableState {
    /// The empty table of `schema`.
    pub(crate) fn new(schema: Arc<TableSchema>) -> Self {
        let trees = TableTrees::new(schema.rows.kind(), schema.indexes.len());
        let digest = schema.keeps_digest.then(Digest::default);
        Self { schema, trees, modified: Revision(0), removals: Removals::default(), digest }
    }

    pub(crate) fn schema(&self) -> &Arc<TableSchema> {
        &self.schema
    }

    /// The number of rows, O(1).
    pub(crate) fn len(&self) -> usize {
        self.trees.rows().len()
    }

    /// Goes back to `modified`, because nothing has changed since.
    pub(crate) fn set_modified(&mut self, modified: Revision) {
        self.modified = modified;
    }

    /// The revision of the last commit that changed the table, deletes included.
    pub(crate) fn modified(&self) -> Revision {
        self.modified
    }

    /// The highest revision that may have put something between two bounds of a tree, changed it
    /// there or taken it out; it never decreases.
    pub(crate) fn modified_within(
        &self,
        index: Option<usize>,
        bounds: (Bound<&[u8]>, Bound<&[u8]>),
    ) -> Revision {
        let is_whole = matches!(bounds, (Bound::Unbounded | Bound::Included([]), Bound::Unbounded));
        if self.schema.tombstones == 0 || (index.is_none() && is_whole) {
            return self.modified;
        }
        let newest = self.tree(index).newest(bounds.0, bounds.1);
        let removed = self.removals.newest(number_of(index), bounds);
        newest.map_or(removed, |row| row.meta().modified.max(removed))
    }

    /// Makes tombstones of what the transaction that made this table of `base` took out of it.
    pub(crate) fn settle_removals(&mut self, base: &Self) {
        let mut removals = std::mem::take(&mut self.removals);
        removals.settle(self.schema.tombstones, |tree, key| {
            let has = |state: &Self| state.tree(index_of(tree)).get(key).is_some();
            has(base) && !has(self)
        });
        self.removals = removals;
    }

    /// Forgets what was removed between two bounds of the primary tree and from all indexes, on
    /// behalf of a transaction of `revision` that erases what is there.
    pub(crate) fn erase_removals(
        &mut self,
        bounds: (Bound<&[u8]>, Bound<&[u8]>),
        revision: Revision,
    ) {
        if self.schema.tombstones > 0 {
            self.removals.erase(bounds, revision);
        }
    }

    /// Makes tombstones of all that a transaction took out of it.
    pub(crate) fn close_removals(&mut self) {
        self.removals = self.removals.closed(self.schema.tombstones);
    }

    /// Whether a transaction has taken something out of it that it remembers.
    pub(crate) fn has_pending_removals(&self) -> bool {
        self.removals.is_pending()
    }

    /// Remembers `removals`, whatever a transaction has noted.
    pub(crate) fn set_removals(&mut self, removals: Removals) {
        self.removals = removals;
    }

    /// What is remembered of removals.
    pub(crate) fn removals(&self) -> &Removals {
        &self.removals
    }

    /// As one that remembers `removals`.
    pub(crate) fn with_removals(self, removals: Removals) -> Self {
        Self { removals, ..self }
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
pub(crate) fn as_bytes(bound: &Bound<KeyBuf>) -> Bound<&[u8]> {
    bound.as_ref().map(KeyBuf::as_slice)
}
