//! The way from the root of a tree to one of its entries.

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

/// The steps from the root to a leaf.
#[derive(Clone)]
pub(super) struct Path {
    steps: [Option<Step>; LEVELS_MAX],
    len: usize,
}

impl Path {
    pub(super) fn empty() -> Self {
        Self { steps: [None; LEVELS_MAX], len: 0 }
    }

    /// Goes from `root` to where `key` is or would be; whether it is there.
    #[inline]
    pub(super) fn find(root: Option<NodePtr>, key: &[u8]) -> (Self, bool) {
        let mut path = Self::empty();
        let Some(mut node) = root else { return (path, false) };
        while !node.is_leaf() {
            let index = node.route(key);
            path.push(node, index);
            node = node.child(index);
        }
        let found = node.find(key);
        let (Ok(index) | Err(index)) = found;
        path.push(node, index);
        (path, found.is_ok())
    }

    /// Goes from `root` to the place before the first entry, or behind the last.
    pub(super) fn edge(root: NodePtr, is_first: bool) -> Self {
        let mut path = Self::empty();
        let mut node = root;
        while !node.is_leaf() {
            let index = if is_first { 0 } else { node.len() - 1 };
            path.push(node, index);
            node = node.child(index);
        }
        path.push(node, if is_first { 0 } else { node.len() });
        path
    }

    pub(super) fn push(&mut self, node: NodePtr, index: usize) {
        self.steps[self.len] = Some(Step { node, index });
        self.len += 1;
    }

    /// The last step, which is in a leaf. The path is not empty.
    pub(super) fn leaf(&self) -> Step {
        self.steps[self.len - 1].expect("steps below the length are set")
    }

    /// The steps above the leaf, from the root on.
    pub(super) fn inner_steps(&self) -> impl DoubleEndedIterator<Item = &Step> {
        self.steps[..self.len - 1].iter().flatten()
    }

    /// Goes behind the entry of the leaf that it stands before.
    pub(super) fn advance(&mut self) {
        if let Some(step) = &mut self.steps[self.len - 1] {
            step.index += 1;
        }
    }

    /// Goes to the first entry of the next leaf; `false`, with the path as it was, at the last.
    pub(super) fn next_leaf(&mut self) -> bool {
        let has_next = |step: &Step| step.index + 1 < step.node.len();
        let Some(level) = self.turn(has_next) else { return false };
        let step = self.steps[level].as_mut().expect("steps below the length are set");
        step.index += 1;
        let mut node = step.node.child(step.index);
        for level in level + 1..self.len {
            self.steps[level] = Some(Step { node, index: 0 });
            if !node.is_leaf() {
                node = node.child(0);
            }
        }
        true
    }

    /// Goes behind the last entry of the leaf before; `false`, with the path as it was, at the
    /// first.
    pub(super) fn previous_leaf(&mut self) -> bool {
        let Some(level) = self.turn(|step: &Step| step.index > 0) else { return false };
        let step = self.steps[level].as_mut().expect("steps below the length are set");
        step.index -= 1;
        let mut node = step.node.child(step.index);
        for level in level + 1..self.len {
            let len = node.len();
            if node.is_leaf() {
                self.steps[level] = Some(Step { node, index: len });
            } else {
                self.steps[level] = Some(Step { node, index: len - 1 });
                node = node.child(len - 1);
            }
        }
        true
    }

    /// The lowest inner level from which the path can go on.
    fn turn(&self, can: impl Fn(&Step) -> bool) -> Option<usize> {
        let inner = &self.steps[..self.len.saturating_sub(1)];
        inner.iter().rposition(|step| step.as_ref().is_some_and(&can))
    }

    /// Asks the processor to fetch the leaf after this one, where that is known for free.
    pub(super) fn prefetch_next(&self) {
        if let [.., Some(step), Some(_)] = &self.steps[..self.len]
            && step.index + 1 < step.node.len()
        {
            step.node.child(step.index + 1).prefetch();
        }
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.steps[..self.len].iter().flatten()).finish()
    }
}
