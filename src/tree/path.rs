//! Ways from the root of a tree to one of its entries.

use std::fmt;

use super::node::{FANOUT, NodePtr};

/// Most levels of a tree. Nodes have at least two children on the average of a level, so no
/// memory holds a tree of more; a tree of 2^40 entries at fan-out 56 has eight.
pub(super) const LEVELS_MAX: usize = if FANOUT < 16 { 40 } else { 16 };

/// A node and a position in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) node: NodePtr,
    pub(super) index: usize,
}

/// The steps from the root to a leaf, for changes. It is kept from one to the next, because it is
/// too large to be made or moved for nothing.
#[derive(Clone)]
pub(super) struct Path {
    steps: [Option<Step>; LEVELS_MAX],
    len: usize,
}

impl Default for Path {
    fn default() -> Self {
        Self { steps: [None; LEVELS_MAX], len: 0 }
    }
}

impl Path {
    /// Goes from `root` to where `key` is or would be; whether it is there.
    #[inline]
    pub(super) fn find(&mut self, root: Option<NodePtr>, key: &[u8]) -> bool {
        self.len = 0;
        let Some(mut node) = root else { return false };
        while !node.is_leaf() {
            let index = node.route(key);
            self.push(node, index);
            let child = node.child(index);
            if node.level() == 1 {
                // Whoever comes by a path is about to copy the leaf.
                child.prefetch_whole();
            }
            node = child;
        }
        let found = node.find(key);
        let (Ok(index) | Err(index)) = found;
        self.push(node, index);
        found.is_ok()
    }

    fn push(&mut self, node: NodePtr, index: usize) {
        self.steps[self.len] = Some(Step { node, index });
        self.len += 1;
    }

    /// The last step, which is in a leaf. The path is not empty.
    pub(super) fn leaf(&self) -> Step {
        self.steps[self.len - 1].expect("steps below the length are set")
    }

    /// All steps, from the root on.
    pub(super) fn steps_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut Step> {
        self.steps[..self.len].iter_mut().flatten()
    }

    /// The steps above the leaf, from the root on.
    pub(super) fn inner_steps(&self) -> impl DoubleEndedIterator<Item = &Step> {
        self.steps[..self.len - 1].iter().flatten()
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.steps[..self.len].iter().flatten()).finish()
    }
}

/// Asks the processor to fetch the leaf that `key` belongs to, which is about to be changed.
pub(super) fn prefetch_leaf(root: Option<NodePtr>, key: &[u8]) {
    let Some(mut node) = root else { return };
    for _ in 0..node.level() {
        node = node.child(node.route(key));
    }
    node.prefetch_whole();
}

/// A place in a leaf, for reading on from there in both directions: small, because ranges are
/// moved about. Of the nodes on the way it keeps the last two; when it leaves the leaves of one
/// parent it goes down from the root again by the positions it remembers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    root: NodePtr,
    /// The node above the leaf; the leaf itself when that is the root.
    parent: NodePtr,
    leaf: NodePtr,
    /// The position in each inner node on the way.
    way: [u8; LEVELS_MAX],
    /// The position in the leaf.
    index: u8,
}

impl Spot {
    /// Goes down from `root` by the position that `choose` says for each inner node and, last, for
    /// the leaf.
    #[inline(always)]
    pub(super) fn descend(root: NodePtr, mut choose: impl FnMut(NodePtr) -> usize) -> Self {
        let mut spot = Self { root, parent: root, leaf: root, way: [0; LEVELS_MAX], index: 0 };
        let mut depth = 0;
        while !spot.leaf.is_leaf() {
            let index = choose(spot.leaf);
            spot.way[depth] = index as u8;
            depth += 1;
            spot.parent = spot.leaf;
            spot.leaf = spot.leaf.child(index);
            if spot.parent.level() == 1 {
                spot.leaf.prefetch_values();
            }
        }
        spot.index = choose(spot.leaf) as u8;
        spot
    }

    /// Goes to the place before the first entry below `root`, or behind the last.
    pub(super) fn edge(root: NodePtr, is_first: bool) -> Self {
        Self::descend(root, |node| match (is_first, node.is_leaf()) {
            (true, _) => 0,
            (false, true) => node.len(),
            (false, false) => node.len() - 1,
        })
    }

    pub(super) fn leaf(&self) -> NodePtr {
        self.leaf
    }

    pub(super) fn index(&self) -> usize {
        usize::from(self.index)
    }

    /// Goes behind the entry that it stands before.
    pub(super) fn advance(&mut self) {
        self.index += 1;
    }

    /// The number of inner nodes on the way.
    fn depth(&self) -> usize {
        usize::from(self.root.level())
    }

    /// The inner nodes on the way, each with the position in it, from the root on.
    pub(super) fn inner_steps(&self) -> impl Iterator<Item = Step> {
        let mut node = self.root;
        self.way[..self.depth()].iter().map(move |index| {
            let step = Step { node, index: usize::from(*index) };
            if step.node.level() > 1 {
                node = step.node.child(step.index);
            }
            step
        })
    }

    /// Goes to the place before the first entry of the next leaf; `false`, staying where it is, at
    /// the last.
    pub(super) fn next_leaf(&mut self) -> bool {
        let Some(above) = self.depth().checked_sub(1) else { return false };
        if usize::from(self.way[above]) + 1 < self.parent.len() {
            self.way[above] += 1;
            self.leaf = self.parent.child(usize::from(self.way[above]));
            self.index = 0;
            return true;
        }
        self.turn(true)
    }

    /// Goes behind the last entry of the leaf before; `false`, staying where it is, at the first.
    pub(super) fn previous_leaf(&mut self) -> bool {
        let Some(above) = self.depth().checked_sub(1) else { return false };
        if self.way[above] > 0 {
            self.way[above] -= 1;
            self.leaf = self.parent.child(usize::from(self.way[above]));
            self.index = self.leaf.len() as u8;
            return true;
        }
        self.turn(false)
    }

    /// Goes on under another parent: from the lowest node on the way that has a neighbour there.
    #[cold]
    fn turn(&mut self, is_forward: bool) -> bool {
        let can = |step: &Step| {
            if is_forward { step.index + 1 < step.node.len() } else { step.index > 0 }
        };
        let mut turn = None;
        for (level, step) in self.inner_steps().enumerate() {
            if can(&step) {
                turn = Some(level);
            }
        }
        let Some(turn) = turn else { return false };
        let way = self.way;
        let mut level = 0;
        *self = Self::descend(self.root, |node| {
            let index = match level.cmp(&turn) {
                std::cmp::Ordering::Less => usize::from(way[level]),
                std::cmp::Ordering::Equal if is_forward => usize::from(way[level]) + 1,
                std::cmp::Ordering::Equal => usize::from(way[level]) - 1,
                std::cmp::Ordering::Greater if is_forward => 0,
                std::cmp::Ordering::Greater => node.len() - usize::from(!node.is_leaf()),
            };
            level += 1;
            index
        });
        true
    }

    /// The position of the leaf in its parent; 0 where it has none.
    pub(super) fn position(&self) -> u8 {
        self.depth().checked_sub(1).map_or(0, |above| self.way[above])
    }

    /// The leaf at a position of the same parent.
    pub(super) fn sibling(&self, at: u8) -> Option<NodePtr> {
        let is_there = !self.parent.is_leaf() && usize::from(at) < self.parent.len();
        is_there.then(|| self.parent.child(usize::from(at)))
    }

    pub(super) fn parent(&self) -> NodePtr {
        self.parent
    }
}
