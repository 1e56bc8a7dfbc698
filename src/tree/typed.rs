//! Trees whose rows are known to have values of one type: asked once for a tree, not for each row.

use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::ops::Bound;

use super::TreeRef;
use super::cursor::Entries;
use super::node::NodePtr;
use super::row::{Row, RowPtr};

/// Keys that are looked up together, so that their cache misses overlap.
const GROUP: usize = 8;

/// A tree of rows with values of `T`.
#[derive(Debug)]
pub(crate) struct TypedTree<'v, T> {
    tree: TreeRef<'v>,
    marker: PhantomData<fn() -> T>,
}

impl<T> Clone for TypedTree<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for TypedTree<'_, T> {}

impl<'v, T: 'static> TypedTree<'v, T> {
    /// # Panics
    ///
    /// When the rows of the tree have another type, which a table's schema excludes.
    #[inline]
    pub(super) fn new(tree: TreeRef<'v>) -> Self {
        assert!(tree.tree.kind.is::<T>(), "the tree's rows are of the table's type");
        Self { tree, marker: PhantomData }
    }

    /// The tree without its type.
    pub(crate) fn erased(self) -> TreeRef<'v> {
        self.tree
    }

    /// The row at `key`, O(log n).
    #[inline]
    pub(crate) fn get(self, key: &[u8]) -> Option<&'v Row<T>> {
        let row = self.tree.get(key)?;
        Some(typed(self, row.pointer()))
    }

    /// The entries between two bounds.
    #[inline]
    pub(crate) fn range(self, low: Bound<&[u8]>, high: Bound<&[u8]>) -> TypedEntries<'v, T> {
        TypedEntries { entries: self.tree.range(low, high), marker: PhantomData }
    }

    /// The number of entries between two bounds, O(log n).
    pub(crate) fn count(self, low: Bound<&[u8]>, high: Bound<&[u8]>) -> usize {
        self.tree.count(low, high)
    }

    /// The entry between two bounds that has `index` others of them before it, O(log n).
    pub(crate) fn nth(
        self,
        low: Bound<&[u8]>,
        high: Bound<&[u8]>,
        index: usize,
    ) -> Option<&'v Row<T>> {
        if index >= self.count(low, high) {
            return None;
        }
        self.tree.nth(self.tree.rank(low, true) + index).map(|row| typed(self, row.pointer()))
    }

    /// The rows at `keys`, in groups whose cache misses overlap; `found` is as long as `keys`.
    pub(crate) fn get_many<K: AsRef<[u8]>>(self, keys: &[K], found: &mut [Option<&'v Row<T>>]) {
        for (keys, found) in keys.chunks(GROUP).zip(found.chunks_mut(GROUP)) {
            self.get_group(keys, found);
        }
    }

    /// Goes down level by level with all keys of a group: each step of one key fetches what the
    /// next step of that key will read, and by then the others have had their turn.
    fn get_group<K: AsRef<[u8]>>(self, keys: &[K], found: &mut [Option<&'v Row<T>>]) {
        let Some(root) = self.tree.root() else { return found.fill(None) };
        let mut nodes = [root; GROUP];
        for _ in 0..root.level() {
            for (node, key) in nodes.iter_mut().zip(keys) {
                *node = node.child(node.route(key.as_ref()));
                node.prefetch();
            }
        }
        for (node, key) in nodes.iter().zip(keys) {
            node.prefetch_entry(node.guess(key.as_ref()));
        }
        let mut rows = [None; GROUP];
        for ((row, node), key) in rows.iter_mut().zip(nodes).zip(keys) {
            *row = find(node, key.as_ref());
            if let Some(row) = row {
                row.prefetch();
            }
        }
        for (found, row) in found.iter_mut().zip(rows) {
            *found = row.map(|row| typed(self, row));
        }
    }
}

fn find(leaf: NodePtr, key: &[u8]) -> Option<RowPtr> {
    leaf.find_exact(key).map(|index| leaf.rows()[index])
}

/// The row as the type that the tree was asked for.
#[inline(always)]
fn typed<'v, T: 'static>(_: TypedTree<'v, T>, row: RowPtr) -> &'v Row<T> {
    // SAFETY: `TypedTree::new` has asked the kind of the tree's rows, every row in it is of that
    // kind (`TableTrees::put` asks), and it lives as long as the version (row.rs, invariant 3).
    unsafe { row.typed() }
}

/// The rows of a range of a typed tree: double-ended and fused.
#[derive(Debug)]
pub(crate) struct TypedEntries<'v, T> {
    entries: Entries<'v>,
    marker: PhantomData<fn() -> T>,
}

impl<T> Clone for TypedEntries<'_, T> {
    fn clone(&self) -> Self {
        Self { entries: self.entries.clone(), marker: PhantomData }
    }
}

impl<'v, T: 'static> Iterator for TypedEntries<'v, T> {
    type Item = &'v Row<T>;

    #[inline(always)]
    fn next(&mut self) -> Option<&'v Row<T>> {
        // SAFETY: the entries are of a typed tree; see `typed`.
        self.entries.step().map(|row| unsafe { row.typed() })
    }

    #[inline]
    fn fold<B, F: FnMut(B, &'v Row<T>) -> B>(self, init: B, mut fold: F) -> B {
        // SAFETY: the entries are of a typed tree; see `typed`.
        self.entries.fold_rows(init, |state, row| fold(state, unsafe { row.typed() }))
    }
}

impl<'v, T: 'static> TypedEntries<'v, T> {
    /// The rows that are left in the leaf at the front, or those of the next leaf if there are
    /// none; empty at the end of the range.
    #[inline]
    pub(crate) fn next_slice(&mut self) -> &'v [&'v Row<T>] {
        let rows = self.entries.next_leaf();
        // SAFETY: a `RowPtr` is a pointer and nothing else, and these are of live rows of this
        // type; see `typed`.
        unsafe { std::slice::from_raw_parts(rows.as_ptr().cast(), rows.len()) }
    }
}

impl<T: 'static> DoubleEndedIterator for TypedEntries<'_, T> {
    #[inline(always)]
    fn next_back(&mut self) -> Option<Self::Item> {
        // SAFETY: the entries are of a typed tree; see `typed`.
        self.entries.step_back().map(|row| unsafe { row.typed() })
    }
}

impl<T: 'static> FusedIterator for TypedEntries<'_, T> {}
