//! The differences of two trees, in the order of their keys and from both ends.
//!
//! Versions share the nodes that no transaction between them has replaced. So both trees are read
//! side by side, and what both stand before at the same time is passed over whole. Otherwise the
//! one whose first key is lower goes down, or hands out its entry; of two with the same first key,
//! the higher one. A node of both trees is never gone into: as long as it is not passed in one, it
//! is, or is below, or comes behind what the other stands before, and then the other is the one
//! that goes on. What is read is therefore what the trees do not share, and for each such node a
//! way down to its first key. Nothing needs to be known of how the trees came about: two versions
//! of one history, a view of a transaction, a branch; trees that share nothing are merged.
//!
//! # Invariants
//!
//! 1. A side stands before something, or at its end: no step on its way is used up.
//! 2. A row that two trees of the same index or table share has the same keys in both, because its
//!    entries are put and taken out together (`table.rs`).
//! 3. The front stops at the key that the back handed out last, and the back at that of the front.

use std::cmp::Ordering;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Bound;

use super::TreeRef;
use super::cursor::{is_crossed, write_key};
use super::node::{NodePtr, Value};
use super::path::Step;
use super::row::RowRef;

/// The differences between two trees: double-ended and fused. It keeps buffers for keys, so each
/// key must be used before the next is asked for.
pub(crate) struct Differences<'v> {
    front: Merge<false>,
    back: Merge<true>,
    is_done: bool,
    marker: PhantomData<&'v ()>,
}

/// A key at which two trees lead to different rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found<'k, 'v> {
    pub(crate) key: &'k [u8],
    /// The row of the older tree.
    pub(crate) before: Option<RowRef<'v>>,
    /// The row of the newer tree.
    pub(crate) after: Option<RowRef<'v>>,
}

impl<'v> TreeRef<'v> {
    /// The keys between two bounds at which this tree and `older` lead to different rows; a row
    /// is the same if it is the same in memory. Time is proportional to the nodes that the trees
    /// do not share, each times its height.
    pub(crate) fn diff(
        self,
        older: Self,
        low: Bound<&[u8]>,
        high: Bound<&[u8]>,
    ) -> Differences<'v> {
        Differences {
            front: Merge::new(self, older, low, high),
            back: Merge::new(self, older, high, low),
            is_done: is_crossed(low, high),
            marker: PhantomData,
        }
    }
}

impl<'v> Differences<'v> {
    /// The next difference at the front.
    pub(crate) fn next(&mut self) -> Option<Found<'_, 'v>> {
        if self.is_done {
            return None;
        }
        let found = self.front.next();
        self.is_done = found.is_none();
        let found = found?;
        self.back.limit.set(Bound::Excluded(found.key));
        Some(found)
    }

    /// The next difference at the back.
    pub(crate) fn next_back(&mut self) -> Option<Found<'_, 'v>> {
        if self.is_done {
            return None;
        }
        let found = self.back.next();
        self.is_done = found.is_none();
        let found = found?;
        self.front.limit.set(Bound::Excluded(found.key));
        Some(found)
    }

    /// Nodes that were gone into, and how many were read for a first key.
    #[cfg(test)]
    pub(super) fn visits(&self) -> (Vec<NodePtr>, usize) {
        let front = [&self.front.newer.visits, &self.front.older.visits];
        let back = [&self.back.newer.visits, &self.back.older.visits];
        let all = || front.into_iter().chain(back);
        (all().flat_map(|one| one.0.iter().copied()).collect(), all().map(|one| one.1).sum())
    }
}

impl fmt::Debug for Differences<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Differences").finish_non_exhaustive()
    }
}

/// Two trees read side by side from one end: from the back, what is said of lower keys holds for
/// higher ones.
struct Merge<const BACK: bool> {
    newer: Side<BACK>,
    older: Side<BACK>,
    limit: Limit<BACK>,
}

impl<const BACK: bool> Merge<BACK> {
    fn new(newer: TreeRef<'_>, older: TreeRef<'_>, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Self {
        let mut limit = Limit { key: Vec::new(), kind: Bound::Unbounded };
        limit.set(to);
        Self { newer: Side::new(newer.root(), from), older: Side::new(older.root(), from), limit }
    }

    /// Finds the next difference before the limit and passes it.
    fn next<'v>(&mut self) -> Option<Found<'_, 'v>> {
        loop {
            let (newer, older) = (self.newer.next(), self.older.next());
            let order = match (newer, older) {
                (None, None) => return None,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(new), Some(old)) if new.is(old) => {
                    self.pass_shared();
                    continue;
                }
                (Some(new), Some(old)) => {
                    self.newer.read_key(new);
                    self.older.read_key(old);
                    let order = self.newer.key.cmp(&self.older.key);
                    if BACK { order.reverse() } else { order }
                }
            };
            let newer = newer.filter(|_| order.is_le());
            let older = older.filter(|_| order.is_ge());
            let height = newer.map_or(0, Next::height).max(older.map_or(0, Next::height));
            if height == 0 {
                return self.take(newer, older);
            }
            let first = if newer.is_some() { self.newer.key() } else { self.older.key() };
            if first.is_some_and(|key| self.limit.is_reached(key)) {
                return None;
            }
            for (side, next) in [(&mut self.newer, newer), (&mut self.older, older)] {
                if let Some(Next::Node(node)) = next.filter(|next| next.height() == height) {
                    side.enter(node);
                }
            }
        }
    }

    /// Passes as many as both sides have in common from here on.
    fn pass_shared(&mut self) {
        let steps = self.newer.steps.last().zip(self.older.steps.last());
        let run = steps.map_or(1, |(new, old)| {
            if BACK {
                new.node.shared_before(new.index, old.node, old.index)
            } else {
                new.node.shared_from(new.index, old.node, old.index)
            }
        });
        self.newer.pass(run);
        self.older.pass(run);
    }

    /// Hands out entries with the same key, or the one that there is.
    fn take<'v>(&mut self, newer: Option<Next>, older: Option<Next>) -> Option<Found<'_, 'v>> {
        let after = newer.and_then(|next| self.newer.take(next));
        let before = older.and_then(|next| self.older.take(next));
        let key = if newer.is_some() { &self.newer.key } else { &self.older.key };
        (!self.limit.is_reached(key)).then_some(Found { key, before, after })
    }
}

/// Where a merge ends.
struct Limit<const BACK: bool> {
    key: Vec<u8>,
    kind: Bound<()>,
}

impl<const BACK: bool> Limit<BACK> {
    fn set(&mut self, bound: Bound<&[u8]>) {
        self.key.clear();
        self.kind = bound.map(|key| self.key.extend_from_slice(key));
    }

    /// Whether `key` is not before the limit.
    fn is_reached(&self, key: &[u8]) -> bool {
        let order = || if BACK { self.key.as_slice().cmp(key) } else { key.cmp(&self.key) };
        match self.kind {
            Bound::Unbounded => false,
            Bound::Included(()) => order().is_gt(),
            Bound::Excluded(()) => order().is_ge(),
        }
    }
}

/// What a side stands before.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// A sub-tree that was not gone into.
    Node(NodePtr),
    /// An entry of a leaf.
    Entry(NodePtr, usize),
}

impl Next {
    /// Whether both are the same node or the same row.
    fn is(self, other: Self) -> bool {
        match (self, other) {
            (Self::Node(one), Self::Node(other)) => one == other,
            (Self::Entry(one, at), Self::Entry(other, other_at)) => {
                one.value(at) == other.value(other_at)
            }
            _ => false,
        }
    }

    /// Levels below it; 0 for an entry.
    fn height(self) -> u8 {
        match self {
            Self::Node(node) => node.level() + 1,
            Self::Entry(..) => 0,
        }
    }
}

/// One tree on its way from one end to the other.
struct Side<const BACK: bool> {
    /// The root, until it is gone into.
    root: Option<NodePtr>,
    /// The nodes that were gone into, each with the position of what comes next; from the back,
    /// the position behind it.
    steps: Vec<Step>,
    /// The first key of what comes next, if it was read; else the one before.
    key: Vec<u8>,
    is_read: bool,
    /// Nodes that were gone into, and how many were read for a first key.
    #[cfg(test)]
    visits: (Vec<NodePtr>, usize),
}

impl<const BACK: bool> Side<BACK> {
    fn new(root: Option<NodePtr>, from: Bound<&[u8]>) -> Self {
        let mut side = Self {
            root,
            steps: Vec::new(),
            key: Vec::new(),
            is_read: false,
            #[cfg(test)]
            visits: (Vec::new(), 0),
        };
        let (key, or_equal) = match from {
            Bound::Unbounded => return side,
            Bound::Included(key) => (key, BACK),
            Bound::Excluded(key) => (key, !BACK),
        };
        let mut next = side.root.take();
        while let Some(node) = next {
            let (index, child) = if node.is_leaf() {
                (node.bound(key, or_equal), None)
            } else {
                let index = node.route(key);
                (index + usize::from(BACK), Some(node.child(index)))
            };
            side.steps.push(Step { node, index });
            next = child;
        }
        side.pass(0);
        side
    }

    fn next(&self) -> Option<Next> {
        let Some(Step { node, index }) = self.steps.last() else {
            return self.root.map(Next::Node);
        };
        let at = index - usize::from(BACK);
        Some(if node.is_leaf() { Next::Entry(*node, at) } else { Next::Node(node.child(at)) })
    }

    /// Passes `count` neighbours in the node where it stands.
    fn pass(&mut self, mut count: usize) {
        self.is_read = false;
        self.root = None;
        while let Some(Step { node, index }) = self.steps.last_mut() {
            *index = if BACK { *index - count } else { *index + count };
            if *index != if BACK { 0 } else { node.len() } {
                return;
            }
            self.steps.pop();
            count = 1;
        }
    }

    /// Goes into the node before which it stands. Its first key stays the same.
    fn enter(&mut self, node: NodePtr) {
        #[cfg(test)]
        self.visits.0.push(node);
        self.root = None;
        let index = if BACK { node.len() } else { 0 };
        self.steps.push(Step { node, index });
    }

    /// Passes the entry before which it stands, with its key read.
    fn take<'v>(&mut self, next: Next) -> Option<RowRef<'v>> {
        let Next::Entry(leaf, index) = next else { return None };
        self.read_key(next);
        self.pass(1);
        Some(leaf.rows()[index].borrow())
    }

    /// The first key of what comes next, if it was read.
    fn key(&self) -> Option<&[u8]> {
        self.is_read.then_some(&self.key)
    }

    /// Reads the first key of `next`, which is what comes next.
    fn read_key(&mut self, next: Next) {
        if self.is_read {
            return;
        }
        let (leaf, index) = match next {
            Next::Entry(leaf, index) => (leaf, index),
            Next::Node(mut node) => {
                #[cfg(test)]
                {
                    self.visits.1 += usize::from(node.level()) + 1;
                }
                let edge = |node: NodePtr| if BACK { node.len() - 1 } else { 0 };
                while !node.is_leaf() {
                    node = node.child(edge(node));
                }
                (node, edge(node))
            }
        };
        write_key(leaf, index, &mut self.key);
        self.is_read = true;
    }
}

impl NodePtr {
    /// How many entries from `at` on lead to the same as those of `other` from `other_at` on.
    fn shared_from(self, at: usize, other: Self, other_at: usize) -> usize {
        count_same(self.values()[at..].iter(), other.values()[other_at..].iter())
    }

    /// How many entries before `at`, going back, lead to the same as those of `other` before
    /// `other_at`.
    fn shared_before(self, at: usize, other: Self, other_at: usize) -> usize {
        count_same(self.values()[..at].iter().rev(), other.values()[..other_at].iter().rev())
    }
}

fn count_same<'a>(
    ones: impl Iterator<Item = &'a Value>,
    others: impl Iterator<Item = &'a Value>,
) -> usize {
    ones.zip(others).take_while(|(one, other)| one == other).count()
}
