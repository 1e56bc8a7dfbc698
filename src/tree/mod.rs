//! The engine under the tables: versioned B+trees over key bytes, and who frees what.
//!
//! A tree maps byte strings, in their order, to rows. Trees are persistent: a transaction copies
//! the nodes that it changes, once, and leaves the others to be shared by all versions. There are
//! no reference counts in the nodes. A node carries the stamp of the transaction that made it; by
//! stamps the single writer knows which nodes it may change in place, and which of those it
//! unlinked some version still needs (`reclaim.rs`). Readers follow plain pointers.
//!
//! | file | owns |
//! |---|---|
//! | `arena.rs` | the memory of nodes |
//! | `node.rs`, `search.rs` | the layout of a node and the search in it |
//! | `row.rs`, `handle.rs` | the row, its header; handles on it |
//! | `path.rs`, `cursor.rs` | ways through a tree: descent, ranges, ranks |
//! | `diff.rs` | the differences of two trees |
//! | `newest.rs` | the row of a range that was modified last |
//! | `ahead.rs` | has the rows of a range on their way from memory |
//! | `edit.rs`, `scratch.rs`, `bulk.rs` | changes of a tree: insert, remove, split, merge, bulk build |
//! | `table.rs` | the trees of one table, changed together |
//! | `reclaim.rs`, `store.rs` | versions, their deaths, and what is freed when |
//! | `branch.rs` | a branch off a version or off a branch, with nodes and rows of its own |
//! | `workspace.rs` | what statements ask of whoever runs them |
//!
//! Everything that is unsafe in the library stands in this room. Its interface is safe as long as
//! its users keep this one rule, which the types cannot say:
//!
//! # Invariants
//!
//! 1. A [`TableTrees`] is read only while its version is alive (the [`Version`] that was published
//!    with it, or the [`Writer`] or [`Branch`] that works on it), and changed only by that writer
//!    or branch. A [`KeptRow`] is used only within its transaction, or its branch and those off it.
//! 2. Entries come in the order of their key bytes, each key once.
//! 3. A range whose bounds are crossed is empty; no read panics on any bounds.
//! 4. Reads allocate nothing but buffers for keys, where they give keys, and write nothing.
//!
//! The design follows the measurements of its alternatives (see "Why a B+tree without reference
//! counts" in ARCHITECTURE.md). Copy-on-write B+trees by birth stamps: Rodeh, "B-trees, shadowing,
//! and clones", 2008; precise dead lists: the ZFS data set layer (Ahrens et al.); key heads in
//! nodes: Graefe and Larson, "B-tree indexes and CPU caches", 2001.

mod ahead;
mod arena;
mod branch;
mod bulk;
mod cursor;
mod diff;
mod edit;
mod handle;
mod newest;
mod node;
mod path;
mod reclaim;
mod row;
mod scratch;
mod search;
mod store;
mod table;
#[cfg(test)]
mod tests;
mod typed;
mod workspace;

use std::marker::PhantomData;

pub(crate) use branch::Branch;
pub(crate) use cursor::Keyed;
pub(crate) use diff::{Differences, Found};
pub use handle::SharedRow;
pub(crate) use handle::{AnyRow, KeptRow};
use node::NodePtr;
pub(crate) use reclaim::Doomed;
pub use row::Row;
pub(crate) use row::{NewRow, RowKind, RowMeta, RowRef};
pub(crate) use store::{Store, Version, Writer};
pub(crate) use table::{Filled, IndexChanges, PUT_GROUP, Place, TableTrees};
pub(crate) use typed::{TypedEntries, TypedTree};
pub(crate) use workspace::{Contents, Mark, Session, Workspace};

/// One tree of one version: a root. See the module's invariant 1 on who may use it.
#[derive(Clone, Copy, Debug)]
struct Tree {
    root: Option<NodePtr>,
    len: u64,
    kind: &'static RowKind,
}

impl Tree {
    fn new(kind: &'static RowKind) -> Self {
        Self { root: None, len: 0, kind }
    }

    /// The tree for reading, for as long as the caller keeps the version.
    fn view<'v>(&self) -> TreeRef<'v> {
        TreeRef { tree: *self, marker: PhantomData }
    }
}

/// A tree of a version that lives for `'v`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TreeRef<'v> {
    tree: Tree,
    marker: PhantomData<&'v ()>,
}

impl<'v> TreeRef<'v> {
    fn root(self) -> Option<NodePtr> {
        self.tree.root
    }

    /// Whether both are the same tree: not only equal, and then nothing else need be looked at.
    pub(crate) fn is_same(self, other: TreeRef<'_>) -> bool {
        self.tree.root == other.tree.root
    }

    /// The bytes of all nodes, O(n).
    pub(crate) fn node_bytes(self) -> usize {
        fn bytes(node: NodePtr) -> usize {
            let below = (0..if node.is_leaf() { 0 } else { node.len() }).map(|at| node.child(at));
            node.bytes() + below.map(bytes).sum::<usize>()
        }
        self.root().map_or(0, bytes)
    }

    /// The number of entries, O(1).
    pub(crate) fn len(self) -> usize {
        self.tree.len as usize
    }

    /// The row at `key`, O(log n).
    #[inline]
    pub(crate) fn get(self, key: &[u8]) -> Option<RowRef<'v>> {
        let mut node = self.root()?;
        for level in (0..node.level()).rev() {
            node = node.child(node.route(key));
            if level == 0 {
                // The search reads the heads, and then one value: both on their way at once.
                node.prefetch_values();
            }
        }
        let index = node.find_exact(key)?;
        Some(node.rows()[index].borrow())
    }

    /// The entry with the lowest key.
    #[cfg(test)]
    pub(crate) fn first(self) -> Option<RowRef<'v>> {
        self.iter().next()
    }

    /// The entry with the highest key.
    #[cfg(test)]
    pub(crate) fn last(self) -> Option<RowRef<'v>> {
        self.iter().next_back()
    }
}
