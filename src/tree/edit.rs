//! Changes a tree: insert, replace, remove.
//!
//! A change finds its path first, then works from the leaf upwards. A node that the running
//! transaction made is changed in place; any other is copied by one copy of its bytes, and the
//! original retired.
//!
//! # Invariants
//!
//! 1. Between two operations every tree is whole: each separator of an inner node is greater than
//!    every key before it and not greater than any key behind it, each count is the number of
//!    entries below.
//! 2. No operation runs user code or unwinds half-way.

use std::sync::Arc;

use super::Tree;
use super::arena::{Arena, Spare};
use super::node::{FANOUT, HEAD_BYTES, NodePtr, Value};
use super::path::{Path, Step};
use super::row::RowPtr;
use super::scratch::Scratch;
use crate::limits::NODE_REMAINDER_BYTES_MAX;

/// Something that a version no longer needs, and the stamp of the transaction that made it. Lists
/// of these are long while an old version is held, so it is packed into two words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retired {
    pointer: Value,
    /// The stamp, and whether it is a row in the lowest bit.
    word: u64,
}

/// What the engine frees one by one.
#[derive(Clone, Copy, Debug)]
pub(super) enum Item {
    Node(NodePtr),
    Row(RowPtr),
}

impl Retired {
    pub(super) fn new(item: Item, birth: u64) -> Self {
        match item {
            Item::Node(node) => Self { pointer: node.into(), word: birth << 1 },
            Item::Row(row) => Self { pointer: row.into(), word: birth << 1 | 1 },
        }
    }

    pub(super) fn birth(self) -> u64 {
        self.word >> 1
    }

    pub(super) fn item(self) -> Item {
        if self.word & 1 == 0 {
            Item::Node(self.pointer.into_node())
        } else {
            Item::Row(self.pointer.into_row())
        }
    }
}

/// The means to change trees: where nodes come from, and what this transaction has unlinked.
#[derive(Debug)]
pub(crate) struct Editor {
    pub(super) arena: Arena,
    /// Nodes born at this stamp can be reached by the running transaction alone.
    pub(super) stamp: u64,
    pub(super) retired: Vec<Retired>,
    /// Bytes of what was retired since the transaction began.
    pub(super) retired_bytes: usize,
    /// A fork retires nothing: what it did not make belongs to its origin, and what it made goes
    /// with its arena.
    pub(super) is_fork: bool,
    pub(super) scratch: Scratch,
}

/// What became of a node that an entry was added to.
struct Grown {
    node: NodePtr,
    /// The node that was split off to the right; its separator is in the scratch.
    right: Option<NodePtr>,
}

impl Editor {
    pub(super) fn new(stamp: u64) -> Self {
        Self::with(Arena::new(), stamp, false)
    }

    /// The editor of a branch.
    pub(super) fn of_branch(stamp: u64, spare: Arc<Spare>) -> Self {
        Self::with(Arena::of_branch(spare), stamp, true)
    }

    fn with(arena: Arena, stamp: u64, is_fork: bool) -> Self {
        let scratch = Scratch::default();
        Self { arena, stamp, retired: Vec::new(), retired_bytes: 0, is_fork, scratch }
    }

    /// Unlinks a node: freed at once if nobody else can have seen it.
    pub(super) fn retire(&mut self, node: NodePtr) {
        let birth = node.birth();
        if birth == self.stamp {
            node.free(&mut self.arena);
        } else if !self.is_fork {
            node.prefetch_free();
            self.retired_bytes += node.bytes();
            self.retired.push(Retired::new(Item::Node(node), birth));
        }
    }

    /// Unlinks a row. Even one of this transaction is kept until its end: others borrow it.
    pub(super) fn retire_row(&mut self, row: RowPtr) {
        if !self.is_fork {
            row.prefetch_free();
            self.retired_bytes += row.bytes();
            self.retired.push(Retired::new(Item::Row(row), row.birth()));
        }
    }

    /// The node for writing: itself, or a copy in its place.
    fn own(&mut self, node: NodePtr) -> NodePtr {
        if node.birth() == self.stamp {
            return node;
        }
        let copy = node.copy(&mut self.arena, self.stamp);
        self.retire(node);
        copy
    }

    /// Makes the nodes of a path that is not empty the transaction's own, ahead of a change of the
    /// entry at its end. The tree has the same entries after it.
    ///
    /// A leaf with far more room than entries stays: the change may want a smaller copy of it.
    pub(super) fn own_path(&mut self, tree: &mut Tree, path: &mut Path) {
        if path.leaf().node.is_sparse() {
            return;
        }
        let mut child = None;
        for step in path.steps_mut().rev() {
            let node = self.own(step.node);
            if let Some(child) = child.replace(node) {
                node.set_value(step.index, child.into());
            }
            if std::mem::replace(&mut step.node, node) == node {
                return;
            }
        }
        tree.root = child;
    }

    /// Puts `row` in the place of the one that `path` has found.
    pub(super) fn replace(&mut self, tree: &mut Tree, path: &Path, row: RowPtr) {
        let Step { node, index } = path.leaf();
        let leaf = self.own(node);
        leaf.set_value(index, row.into());
        self.relink(tree, path, leaf);
    }

    /// Makes the inner nodes of the path lead to `child`, which stands at its end now.
    fn relink(&mut self, tree: &mut Tree, path: &Path, mut child: NodePtr) {
        let mut replaced = path.leaf().node;
        for step in path.inner_steps().rev() {
            if child == replaced {
                return;
            }
            let Step { node, index } = *step;
            let parent = self.own(node);
            parent.set_value(index, child.into());
            (replaced, child) = (node, parent);
        }
        tree.root = Some(child);
    }

    /// Adds an entry at the end of `path`, which has not found `key`.
    pub(super) fn insert(&mut self, tree: &mut Tree, path: &Path, key: &[u8], row: RowPtr) {
        tree.len += 1;
        if tree.root.is_none() {
            self.scratch.clear();
            self.scratch.push(key, row.into(), 1);
            tree.root = Some(self.scratch.build(&mut self.arena, self.stamp, 0, 0..1, true));
            return;
        }
        let Step { node, index } = path.leaf();
        let mut grown = self.grow(node, index, key, row.into(), 1);
        for step in path.inner_steps().rev() {
            let Step { node, index } = *step;
            let parent = self.own(node);
            parent.set_value(index, grown.node.into());
            let Some(right) = grown.right else {
                parent.set_count(index, parent.counts()[index] + 1);
                grown = Grown { node: parent, right: None };
                continue;
            };
            parent.set_count(index, grown.node.total());
            let separator = std::mem::take(&mut self.scratch.separator);
            grown = self.grow(parent, index + 1, &separator, right.into(), right.total());
            if grown.right.is_none() {
                self.scratch.separator = separator;
            }
        }
        tree.root = Some(match grown.right {
            None => grown.node,
            Some(right) => self.new_root(grown.node, right),
        });
    }

    fn new_root(&mut self, left: NodePtr, right: NodePtr) -> NodePtr {
        let separator = std::mem::take(&mut self.scratch.separator);
        self.scratch.clear();
        self.scratch.push(&[], left.into(), left.total());
        self.scratch.push(&separator, right.into(), right.total());
        let level = left.level() + 1;
        self.scratch.build(&mut self.arena, self.stamp, level, 0..2, true)
    }

    /// Adds an entry to one node: in place, in a larger copy, or in two nodes.
    fn grow(&mut self, node: NodePtr, at: usize, key: &[u8], value: Value, count: u64) -> Grown {
        let suffix = key.strip_prefix(node.prefix());
        if let Some(suffix) = suffix {
            if node.has_room(suffix.len()) {
                let node = self.own(node);
                node.insert(at, suffix, value, count);
                return Grown { node, right: None };
            }
            if let Some(larger) = self.enlarged(node, suffix.len()) {
                larger.insert(at, suffix, value, count);
                return Grown { node: larger, right: None };
            }
        }
        self.rebuild(node, at, key, value, count)
    }

    /// A copy with room for one more entry, if the node's shape allows one.
    fn enlarged(&mut self, node: NodePtr, suffix_len: usize) -> Option<NodePtr> {
        let len = node.len();
        if len == FANOUT {
            return None;
        }
        let cap = roomy(len + 1);
        let rest = suffix_len.saturating_sub(HEAD_BYTES);
        let heap_cap = if node.is_uniform() {
            let is_of_shape = suffix_len == node.suffix_len();
            (is_of_shape && rest * cap <= NODE_REMAINDER_BYTES_MAX).then_some(0)?
        } else {
            let needed = node.heap_used() + rest;
            (needed <= NODE_REMAINDER_BYTES_MAX).then(|| heap_room(needed))?
        };
        let larger = node.resized(&mut self.arena, self.stamp, cap, heap_cap);
        self.retire(node);
        Some(larger)
    }

    /// Builds one or two nodes of the entries of `node` and one more.
    fn rebuild(&mut self, node: NodePtr, at: usize, key: &[u8], value: Value, count: u64) -> Grown {
        let (level, len) = (node.level(), node.len());
        self.scratch.clear();
        self.scratch.push_node(node, 0..at, &[]);
        self.scratch.push(key, value, count);
        self.scratch.push_node(node, at..len, &[]);
        let len = len + 1;
        let grown = if self.scratch.fits(level, 0..len) {
            let node = self.scratch.build(&mut self.arena, self.stamp, level, 0..len, true);
            Grown { node, right: None }
        } else {
            let middle = self.scratch.split_point(level, at);
            self.scratch.separate(level, middle);
            let (arena, stamp) = (&mut self.arena, self.stamp);
            let left = self.scratch.build(arena, stamp, level, 0..middle, true);
            let right = self.scratch.build(arena, stamp, level, middle..len, true);
            Grown { node: left, right: Some(right) }
        };
        self.retire(node);
        grown
    }

    /// Takes the entry that `path` has found out of the tree.
    pub(super) fn remove(&mut self, tree: &mut Tree, path: &Path) {
        tree.len -= 1;
        let Step { node, index } = path.leaf();
        let mut child = self.without(node, index);
        for step in path.inner_steps().rev() {
            let Step { node, index } = *step;
            let Some(shrunk) = child else {
                child = self.without(node, index);
                continue;
            };
            let parent = self.own(node);
            parent.set_value(index, shrunk.into());
            parent.set_count(index, parent.counts()[index] - 1);
            self.merge_around(parent, index);
            child = Some(parent);
        }
        while let Some(root) = child
            && !root.is_leaf()
            && root.len() == 1
        {
            child = Some(root.child(0));
            self.retire(root);
        }
        tree.root = child;
    }

    /// The node without one entry; `None` when that was the last.
    fn without(&mut self, node: NodePtr, index: usize) -> Option<NodePtr> {
        let len = node.len();
        if len == 1 {
            self.retire(node);
            return None;
        }
        let own = if node.birth() != self.stamp && node.is_sparse() {
            let smaller = node.resized(&mut self.arena, self.stamp, roomy(len), node.heap_used());
            self.retire(node);
            smaller
        } else {
            self.own(node)
        };
        own.remove(index);
        Some(own)
    }

    /// Merges the child at `index` with a neighbour when both are small enough.
    fn merge_around(&mut self, parent: NodePtr, index: usize) {
        if parent.child(index).len() >= FANOUT / 4 {
            return;
        }
        let pairs = [(index.wrapping_sub(1), index), (index, index + 1)];
        for (left, right) in pairs {
            if right < parent.len() && left < right && self.merge(parent, left) {
                return;
            }
        }
    }

    /// Merges the children at `at` and `at + 1` if that leaves room; whether it did.
    fn merge(&mut self, parent: NodePtr, at: usize) -> bool {
        let (left, right) = (parent.child(at), parent.child(at + 1));
        let len = left.len() + right.len();
        if len > FANOUT * 3 / 4 {
            return false;
        }
        self.scratch.separator_of(parent, at + 1);
        let separator = std::mem::take(&mut self.scratch.separator);
        self.scratch.clear();
        self.scratch.push_node(left, 0..left.len(), &[]);
        self.scratch.push_node(right, 0..right.len(), &separator);
        self.scratch.separator = separator;
        let level = left.level();
        if !self.scratch.fits(level, 0..len) {
            return false;
        }
        let arena = &mut self.arena;
        let merged = self.scratch.build(arena, self.stamp, level, 0..len, true);
        parent.set_value(at, merged.into());
        parent.set_count(at, parent.counts()[at] + parent.counts()[at + 1]);
        parent.remove(at + 1);
        self.retire(left);
        self.retire(right);
        true
    }
}

/// The capacity of a node that holds `len` entries and expects more.
pub(super) fn roomy(len: usize) -> usize {
    (len + len / 4 + 2).min(FANOUT)
}

/// The size of a heap that holds `bytes` and expects more.
pub(super) fn heap_room(bytes: usize) -> usize {
    bytes + bytes / 4 + 16
}
