//! Finds the row of a range that was modified last.
//!
//! Nothing is kept for it. Whatever a transaction writes, it makes the nodes on the way there its
//! own, so no row below a node was born after the node. A search goes into the youngest node first
//! and leaves out those that are older than the newest row that it has met: mostly it goes down one
//! way. Of one birth are the rows of one transaction, modified by it, or all rows of a restored
//! snapshot, modified whenever it says; among those it looks at each.

use std::ops::Bound;

use super::TreeRef;
use super::cursor::is_crossed;
use super::node::{FANOUT, NodePtr};
use super::row::{RowPtr, RowRef};
use super::store::FIRST_STAMP;

type Bounds<'k> = (Bound<&'k [u8]>, Bound<&'k [u8]>);

impl<'v> TreeRef<'v> {
    /// The row that was modified last of those between two bounds; any of several.
    ///
    /// O(log n) and the nodes of the range that were changed since that row was, without their
    /// other sub-trees; where nothing was since the rows were restored from a snapshot, O(entries
    /// of the range). It allocates nothing.
    pub(crate) fn newest(self, low: Bound<&[u8]>, high: Bound<&[u8]>) -> Option<RowRef<'v>> {
        if is_crossed(low, high) {
            return None;
        }
        let mut newest = Newest::default();
        newest.visit(self.root()?, (low, high));
        newest.row.map(RowPtr::borrow)
    }

    /// As [`newest`](TreeRef::newest), and how many leaves were looked into.
    #[cfg(test)]
    pub(super) fn newest_and_visits(
        self,
        low: Bound<&[u8]>,
        high: Bound<&[u8]>,
    ) -> (Option<RowRef<'v>>, usize) {
        let mut newest = Newest::default();
        if let Some(root) = self.root() {
            newest.visit(root, (low, high));
        }
        (newest.row.map(RowPtr::borrow), newest.leaves)
    }
}

/// The newest row so far.
#[derive(Default)]
struct Newest {
    row: Option<RowPtr>,
    #[cfg(test)]
    leaves: usize,
}

impl Newest {
    fn meet(&mut self, row: RowPtr) {
        let modified = |row: RowPtr| row.borrow().meta().modified;
        if self.row.is_none_or(|best| modified(best) < modified(row)) {
            self.row = Some(row);
        }
    }

    /// Whether rows of this birth, and older ones, cannot be newer.
    fn is_beyond(&self, birth: u64) -> bool {
        self.row.is_some_and(|best| {
            birth < best.birth() || (birth == best.birth() && birth != FIRST_STAMP)
        })
    }

    fn visit(&mut self, node: NodePtr, (low, high): Bounds<'_>) {
        let (first, end) = (start_of(node, low), end_of(node, high));
        if node.is_leaf() {
            #[cfg(test)]
            {
                self.leaves += 1;
            }
            let rows = node.rows().get(first..end).unwrap_or_default();
            rows.iter().for_each(|row| row.prefetch());
            rows.iter().for_each(|row| self.meet(*row));
            return;
        }
        let children = first..end.max(first + 1);
        let mut youngest = [(0, 0); FANOUT];
        let order = &mut youngest[..children.len()];
        children.clone().for_each(|at| node.child(at).prefetch());
        for (place, at) in order.iter_mut().zip(children.clone()) {
            *place = (node.child(at).birth(), at);
        }
        order.sort_unstable_by(|one, other| other.cmp(one));
        for (birth, at) in order {
            if self.is_beyond(*birth) {
                return;
            }
            // Only the outer children can have entries outside.
            let low = if *at == children.start { low } else { Bound::Unbounded };
            let high = if *at + 1 == children.end { high } else { Bound::Unbounded };
            self.visit(node.child(*at), (low, high));
        }
    }
}

/// The first entry of a leaf inside a lower bound, or the child that has it.
fn start_of(node: NodePtr, low: Bound<&[u8]>) -> usize {
    match low {
        Bound::Unbounded => 0,
        Bound::Included(key) | Bound::Excluded(key) if !node.is_leaf() => node.route(key),
        Bound::Included(key) => node.bound(key, false),
        Bound::Excluded(key) => node.bound(key, true),
    }
}

/// One behind the last entry of a leaf inside an upper bound, or behind the child that has it.
fn end_of(node: NodePtr, high: Bound<&[u8]>) -> usize {
    match high {
        Bound::Unbounded => node.len(),
        Bound::Included(key) | Bound::Excluded(key) if !node.is_leaf() => node.route(key) + 1,
        Bound::Included(key) => node.bound(key, true),
        Bound::Excluded(key) => node.bound(key, false),
    }
}
