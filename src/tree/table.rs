//! The trees of one table: the primary one, which owns the rows, and one for each index.
//!
//! They are changed together, because that is what keeps memory safe: an index holds pointers to
//! rows that the primary tree owns, so a row may leave the primary tree only when it leaves every
//! index. Which entries it has there is said by the user's functions; they may lie. So a row knows
//! how many entries it was given, and each entry that is taken out must be found and lead to this
//! row. A statement for which that does not hold panics, and its transaction can only roll back.
//!
//! # Invariants
//!
//! 1. Every entry of an index leads to a row that the primary tree has.
//! 2. All rows are of the kind of the table.

use std::cmp::Ordering;

use smallvec::SmallVec;

use super::bulk::Bulk;
use super::path::{Path, prefetch_leaf};
use super::row::{NewRow, RowKind, RowPtr, RowRef};
use super::typed::TypedTree;
use super::workspace::Workspace;
use super::{Tree, TreeRef};

/// Trees that a table holds without an allocation: most tables have no more.
const TREES_INLINE: usize = 4;

/// Rows that are put together, so that their waits for memory overlap.
pub(crate) const PUT_GROUP: usize = 16;

/// The trees of one table in one version. A clone copies the roots.
#[derive(Debug)]
pub(crate) struct TableTrees {
    /// The primary tree, then those of the indexes.
    trees: SmallVec<[Tree; TREES_INLINE]>,
}

impl Clone for TableTrees {
    fn clone(&self) -> Self {
        // As one piece, which the derived clone does not do.
        Self { trees: SmallVec::from_slice(&self.trees) }
    }
}

/// Where a primary key is, or would be.
#[derive(Debug, Default)]
pub(crate) struct Place {
    path: Path,
    is_found: bool,
}

/// What happens to one entry of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// It led to the row before and leads to the new one.
    Keep,
    /// It is new.
    Put,
    /// It goes.
    Remove,
}

#[derive(Clone, Copy, Debug)]
struct Change {
    index: usize,
    action: Action,
    start: usize,
    end: usize,
}

/// What a statement does in the indexes, planned before it does any of it. Kept from one statement
/// to the next for its buffers.
#[derive(Debug, Default)]
pub(crate) struct IndexChanges {
    bytes: Vec<u8>,
    changes: Vec<Change>,
    /// Entries that the row before has, and the row after.
    before: usize,
    after: usize,
}

impl IndexChanges {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.changes.clear();
        (self.before, self.after) = (0, 0);
    }

    /// All entries that are put, replaced or removed, each with its index.
    pub(crate) fn all(&self) -> impl Iterator<Item = (usize, &[u8])> {
        self.changes.iter().map(|change| (change.index, &self.bytes[change.start..change.end]))
    }

    /// The entries that are new, each with its index.
    pub(crate) fn put(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let put = self.changes.iter().filter(|change| change.action == Action::Put);
        put.map(|change| (change.index, &self.bytes[change.start..change.end]))
    }

    /// The entries that go, each with its index.
    pub(crate) fn removed(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let removed = self.changes.iter().filter(|change| change.action == Action::Remove);
        removed.map(|change| (change.index, &self.bytes[change.start..change.end]))
    }

    /// Plans the change from the entries `before` of an index to the entries `after`, both in
    /// strictly ascending order.
    pub(crate) fn plan<'a>(
        &mut self,
        index: usize,
        before: impl Iterator<Item = &'a [u8]>,
        after: impl Iterator<Item = &'a [u8]>,
    ) {
        let (mut before, mut after) = (before.peekable(), after.peekable());
        loop {
            let order = match (before.peek(), after.peek()) {
                (None, None) => return,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(before), Some(after)) => before.cmp(after),
            };
            let action = match order {
                Ordering::Less => Action::Remove,
                Ordering::Equal => Action::Keep,
                Ordering::Greater => Action::Put,
            };
            let old = (action != Action::Put).then(|| before.next()).flatten();
            let new = (action != Action::Remove).then(|| after.next()).flatten();
            self.before += usize::from(old.is_some());
            self.after += usize::from(new.is_some());
            let start = self.bytes.len();
            self.bytes.extend_from_slice(old.or(new).unwrap_or_default());
            let end = self.bytes.len();
            self.changes.push(Change { index, action, start, end });
        }
    }
}

impl TableTrees {
    /// The empty trees of a table with `indexes` indexes.
    pub(crate) fn new(kind: &'static RowKind, indexes: usize) -> Self {
        Self { trees: (0..=indexes).map(|_| Tree::new(kind)).collect() }
    }

    /// The rows by primary key.
    #[inline]
    pub(crate) fn rows(&self) -> TreeRef<'_> {
        self.trees[0].view()
    }

    /// The rows by primary key, of their type.
    #[inline]
    pub(crate) fn typed_rows<T: 'static>(&self) -> TypedTree<'_, T> {
        TypedTree::new(self.rows())
    }

    /// The entries of the index at `position`.
    #[inline]
    pub(crate) fn index(&self, position: usize) -> TreeRef<'_> {
        self.trees[1 + position].view()
    }

    /// The entries of the index at `position`, of their type.
    #[inline]
    pub(crate) fn typed_index<T: 'static>(&self, position: usize) -> TypedTree<'_, T> {
        TypedTree::new(self.index(position))
    }

    /// All trees; the primary one first.
    pub(super) fn trees(&self) -> &[Tree] {
        &self.trees
    }

    /// Calls `visit` with every row that the table owns.
    pub(super) fn for_each_row(&self, mut visit: impl FnMut(RowPtr)) {
        let mut rows = self.rows().iter();
        while let Some(row) = rows.step() {
            visit(row);
        }
    }

    /// Puts a tree of rows in place of the primary one.
    #[cfg(test)]
    pub(super) fn set_rows(&mut self, tree: Tree) {
        self.trees[0] = tree;
    }

    /// Finds a primary key, for [`put`](TableTrees::put) and [`delete`](TableTrees::delete).
    pub(crate) fn find(&self, key: &[u8], place: &mut Place) {
        place.is_found = place.path.find(self.trees[0].root, key);
    }

    /// Readies the place of a row that is about to be replaced or deleted: the nodes on the way to
    /// it become the transaction's own while the row is on its way from memory.
    pub(crate) fn ready<W: Workspace>(&mut self, writer: &mut W, place: &mut Place) {
        if place.is_found {
            place.row().prefetch();
            writer.editor().own_path(&mut self.trees[0], &mut place.path);
        }
    }

    /// Asks the processor to fetch what putting rows at `keys` will touch in the primary tree, all
    /// at once.
    pub(crate) fn prefetch_group<'k, K: Iterator<Item = &'k [u8]> + Clone>(&self, keys: K) {
        let Some(root) = self.trees[0].root else { return };
        let mut nodes = [root; PUT_GROUP];
        for level in (0..root.level()).rev() {
            for (node, key) in nodes.iter_mut().zip(keys.clone()) {
                *node = node.child(node.route(key));
                if level == 0 { node.prefetch_whole() } else { node.prefetch() }
            }
        }
        for (node, key) in nodes.iter().zip(keys) {
            if let Some(index) = node.find_exact(key) {
                node.rows()[index].prefetch();
            }
        }
    }

    /// The row at a place.
    pub(crate) fn row_at(&self, place: &Place) -> Option<RowRef<'_>> {
        place.is_found.then(|| place.row().borrow())
    }

    /// Puts `row` at `key`, where `place` is, and moves its entries as planned.
    ///
    /// # Panics
    ///
    /// When the plan does not fit the indexes, because an index function of the schema gave
    /// other entries for the same row before. The transaction can only roll back then.
    pub(crate) fn put<W: Workspace>(
        &mut self,
        writer: &mut W,
        place: &Place,
        key: &[u8],
        row: NewRow,
        plan: &IndexChanges,
    ) {
        assert!(*row.kind() == *self.trees[0].kind, "invariant 2");
        let before = place.is_found.then(|| place.row());
        check_count(before, plan);
        let row = writer.settle(row, plan.after);
        self.apply(writer, before, Some(row), plan);
        let tree = &mut self.trees[0];
        match before {
            Some(before) => {
                writer.editor().replace(tree, &place.path, row);
                writer.editor().retire_row(before);
            }
            None => writer.editor().insert(tree, &place.path, key, row),
        }
    }

    /// Takes the row at `place`, which is found, and its entries out.
    ///
    /// # Panics
    ///
    /// As [`put`](TableTrees::put).
    pub(crate) fn delete<W: Workspace>(
        &mut self,
        writer: &mut W,
        place: &Place,
        plan: &IndexChanges,
    ) {
        let before = place.row();
        check_count(Some(before), plan);
        self.apply(writer, Some(before), None, plan);
        writer.editor().remove(&mut self.trees[0], &place.path);
        writer.editor().retire_row(before);
    }

    fn apply<W: Workspace>(
        &mut self,
        writer: &mut W,
        before: Option<RowPtr>,
        after: Option<RowPtr>,
        plan: &IndexChanges,
    ) {
        if plan.changes.len() > 1 {
            // Each leaf is a wait for memory: the second and later ones are waited for together
            // with the first.
            for change in &plan.changes {
                let key = &plan.bytes[change.start..change.end];
                prefetch_leaf(self.trees[1 + change.index].root, key);
            }
        }
        let mut path = Path::default();
        for change in &plan.changes {
            let key = &plan.bytes[change.start..change.end];
            let tree = &mut self.trees[1 + change.index];
            let is_found = path.find(tree.root, key);
            let found = is_found.then(|| path.leaf()).map(|step| step.node.rows()[step.index]);
            let expected = if change.action == Action::Put { None } else { before };
            if found != expected {
                writer.poison();
                panic!("{IMPURE}");
            }
            let editor = writer.editor();
            match (change.action, after) {
                (Action::Remove, _) | (_, None) => editor.remove(tree, &path),
                (Action::Keep, Some(row)) => editor.replace(tree, &path, row),
                (Action::Put, Some(row)) => editor.insert(tree, &path, key, row),
            }
        }
    }

    /// Fills the empty primary tree from `count` rows in strictly ascending order of their keys,
    /// each with the number of entries it will have in the indexes; gives the rows back as the
    /// indexes need them.
    pub(crate) fn fill<W: Workspace, K: AsRef<[u8]>>(
        &mut self,
        writer: &mut W,
        count: usize,
        rows: impl Iterator<Item = (K, NewRow, usize)>,
    ) -> Vec<Filled> {
        let mut bulk = Bulk::new();
        // Only indexes ask for the rows again.
        let has_indexes = self.trees.len() > 1;
        let mut settled = Vec::with_capacity(if has_indexes { count } else { 0 });
        for (key, row, entries) in rows {
            assert!(*row.kind() == *self.trees[0].kind, "invariant 2");
            let key = key.as_ref();
            debug_assert!(bulk.is_ascending(key), "rows come in ascending order");
            let row = writer.settle(row, entries);
            if has_indexes {
                settled.push(Filled { row, unused: entries });
            }
            bulk.push(writer.editor(), key, row);
        }
        self.trees[0] = bulk.finish(writer.editor(), self.trees[0].kind);
        settled
    }

    /// Fills the empty index at `position` from the entries that `for_each` brings, in strictly
    /// ascending order; each leads to the row at a position of `rows`.
    pub(crate) fn fill_index<W: Workspace>(
        &mut self,
        writer: &mut W,
        position: usize,
        for_each: impl FnOnce(&mut dyn FnMut(&[u8], usize)),
        rows: &mut [Filled],
    ) {
        let mut bulk = Bulk::new();
        for_each(&mut |key, row| {
            let row = &mut rows[row];
            row.unused = row.unused.checked_sub(1).expect("a row has the entries it was given");
            debug_assert!(bulk.is_ascending(key), "entries come in ascending order");
            bulk.push(writer.editor(), key, row.row);
        });
        let tree = &mut self.trees[1 + position];
        *tree = bulk.finish(writer.editor(), tree.kind);
    }
}

const IMPURE: &str = "an index function of the schema gave other values for the same row than \
                      before; index functions must depend on nothing but the row";

/// A row that was filled in, and how many of its entries are still to come.
#[derive(Debug)]
pub(crate) struct Filled {
    row: RowPtr,
    unused: usize,
}

impl Filled {
    /// Whether every entry it was given is in an index.
    pub(crate) fn is_complete(&self) -> bool {
        self.unused == 0
    }
}

impl Place {
    fn row(&self) -> RowPtr {
        let step = self.path.leaf();
        step.node.rows()[step.index]
    }
}

/// Row invariant 5: a row leaves as many entries as it was given. Nothing has changed yet.
fn check_count(before: Option<RowPtr>, plan: &IndexChanges) {
    let given = before.map_or(0, |row| row.borrow().entries());
    assert!(given == plan.before, "{IMPURE}");
}
