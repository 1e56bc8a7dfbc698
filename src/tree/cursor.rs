//! Walks the entries of a tree in order, leaf by leaf, from both ends.

use std::fmt;
use std::iter::FusedIterator;
use std::ops::Bound;

use super::TreeRef;
use super::ahead::{Ahead, Standing};
use super::node::NodePtr;
use super::path::Spot;
use super::row::{RowPtr, RowRef};
use super::scratch::common_prefix;

/// The rows of a range: double-ended and fused. It allocates nothing.
///
/// # Invariants
///
/// 1. `front` are the rows that are left in the leaf at the front, `back` those in the leaf at the
///    back; when both are the same leaf, all of them are in `front`.
/// 2. Between the two leaves every entry is in the range.
#[derive(Clone)]
pub(crate) struct Entries<'v> {
    front: &'v [RowPtr],
    back: &'v [RowPtr],
    /// The leaves that `front` and `back` are in; `None` for a range that never had an entry.
    spots: Option<(Spot, Spot)>,
    is_one_leaf: bool,
    ahead: Ahead<'v>,
}

impl<'v> Entries<'v> {
    pub(super) fn empty() -> Self {
        Self { front: &[], back: &[], spots: None, is_one_leaf: true, ahead: Ahead::new() }
    }

    /// The entries between two positions, the second exclusive.
    pub(super) fn between(first: Spot, last: Spot) -> Self {
        let is_one_leaf = first.leaf() == last.leaf();
        let (front, back) = if is_one_leaf {
            (&first.leaf().rows()[first.index()..last.index()], &[][..])
        } else {
            (&first.leaf().rows()[first.index()..], &last.leaf().rows()[..last.index()])
        };
        Self { front, back, spots: Some((first, last)), is_one_leaf, ahead: Ahead::new() }
    }

    /// Takes the rows that are left in the leaf at the front, or those of the next leaf if there
    /// are none; empty at the end of the range.
    #[inline]
    pub(super) fn next_leaf(&mut self) -> &'v [RowPtr] {
        while self.front.is_empty() && !self.is_one_leaf {
            self.go_on();
        }
        std::mem::take(&mut self.front)
    }

    /// Hands out all rows that are left, to one who will not stop: while those of one leaf are
    /// read, those of the next are on their way.
    #[inline]
    pub(super) fn fold_rows<B>(mut self, init: B, mut fold: impl FnMut(B, RowPtr) -> B) -> B {
        let mut state = init;
        let mut rows = self.next_leaf();
        rows.iter().for_each(|row| row.prefetch_far());
        while !rows.is_empty() {
            let next = self.next_leaf();
            self.prefetch_after();
            let (with, rest) = next.split_at(next.len().min(rows.len()));
            let (other, others) = rows.split_at(with.len());
            for (row, next) in other.iter().zip(with) {
                next.prefetch_far();
                state = fold(state, *row);
            }
            rest.iter().for_each(|row| row.prefetch_far());
            for row in others {
                state = fold(state, *row);
            }
            rows = next;
        }
        state
    }

    /// Asks for the leaf after the one at the front, where it is known for free.
    fn prefetch_after(&self) {
        let Some((first, _)) = &self.spots else { return };
        if !self.is_one_leaf
            && let Some(leaf) = first.sibling(first.position() + 1)
        {
            leaf.prefetch_rows();
        }
    }

    #[cold]
    fn go_on(&mut self) {
        let Some((first, last)) = &mut self.spots else { return };
        let parent = first.parent();
        first.next_leaf();
        if first.leaf() == last.leaf() {
            (self.front, self.back) = (self.back, &[]);
            self.is_one_leaf = true;
        } else {
            self.front = first.leaf().rows();
        }
        if first.parent() != parent {
            self.ahead.restart();
        }
    }

    #[cold]
    fn go_back(&mut self) {
        let Some((first, last)) = &mut self.spots else { return };
        let parent = last.parent();
        last.previous_leaf();
        if first.leaf() == last.leaf() {
            self.is_one_leaf = true;
        } else {
            self.back = last.leaf().rows();
        }
        if last.parent() != parent {
            self.ahead.restart();
        }
    }

    #[cold]
    fn look_ahead(&mut self) {
        let Some((first, last)) = &self.spots else { return };
        let end = (!self.is_one_leaf).then(|| (last.leaf(), self.back));
        self.ahead.look(Standing { rows: self.front, spot: first, end }, false);
    }

    #[cold]
    fn look_back(&mut self) {
        let Some((first, last)) = &self.spots else { return };
        let end = (!self.is_one_leaf).then(|| (first.leaf(), self.front));
        let rows = if self.is_one_leaf { self.front } else { self.back };
        self.ahead.look(Standing { rows, spot: last, end }, true);
    }

    /// The next row at the front.
    #[inline(always)]
    pub(super) fn step(&mut self) -> Option<RowPtr> {
        loop {
            if !self.ahead.step() {
                self.look_ahead();
            }
            if let Some((row, rest)) = self.front.split_first() {
                self.front = rest;
                return Some(*row);
            }
            if self.is_one_leaf {
                return None;
            }
            self.go_on();
        }
    }

    /// The next row at the back.
    #[inline(always)]
    pub(super) fn step_back(&mut self) -> Option<RowPtr> {
        loop {
            if !self.ahead.step_back() {
                self.look_back();
            }
            let rows = if self.is_one_leaf { &mut self.front } else { &mut self.back };
            if let Some((row, rest)) = rows.split_last() {
                *rows = rest;
                return Some(*row);
            }
            if self.is_one_leaf {
                return None;
            }
            self.go_back();
        }
    }
}

impl<'v> Iterator for Entries<'v> {
    type Item = RowRef<'v>;

    #[inline]
    fn next(&mut self) -> Option<RowRef<'v>> {
        self.step().map(RowPtr::borrow)
    }
}

impl DoubleEndedIterator for Entries<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step_back().map(RowPtr::borrow)
    }
}

impl FusedIterator for Entries<'_> {}

impl fmt::Debug for Entries<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entries").finish_non_exhaustive()
    }
}

/// The entries of a whole tree with their keys, for those who read everything: it keeps a buffer
/// for the key, so each key must be used before the next is asked for.
pub(crate) struct Keyed<'v> {
    spot: Option<Spot>,
    key: Vec<u8>,
    marker: std::marker::PhantomData<&'v ()>,
}

impl<'v> Keyed<'v> {
    pub(super) fn new(spot: Option<Spot>) -> Self {
        Self { spot, key: Vec::new(), marker: std::marker::PhantomData }
    }

    /// The next entry: key and row.
    pub(crate) fn next(&mut self) -> Option<(&[u8], RowRef<'v>)> {
        let spot = self.spot.as_mut()?;
        if spot.index() == spot.leaf().len() && !spot.next_leaf() {
            self.spot = None;
            return None;
        }
        let (node, index) = (spot.leaf(), spot.index());
        spot.advance();
        write_key(node, index, &mut self.key);
        Some((&self.key, node.rows()[index].borrow()))
    }
}

/// Writes the whole key of an entry of a leaf.
pub(super) fn write_key(leaf: NodePtr, index: usize, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(leaf.prefix());
    leaf.push_suffix(index, |piece| out.extend_from_slice(piece));
}

impl<'v> TreeRef<'v> {
    /// The entries between two bounds, in order and from both ends; crossed bounds give none.
    #[inline]
    pub(crate) fn range(self, low: Bound<&[u8]>, high: Bound<&[u8]>) -> Entries<'v> {
        if is_crossed(low, high) {
            return Entries::empty();
        }
        let Some(front) = self.position(low, true) else { return Entries::empty() };
        let Some(back) = self.position(high, false) else { return Entries::empty() };
        Entries::between(front, back)
    }

    /// All entries in order.
    pub(crate) fn iter(self) -> Entries<'v> {
        self.range(Bound::Unbounded, Bound::Unbounded)
    }

    /// All entries in order, with their keys.
    pub(crate) fn keyed(self) -> Keyed<'v> {
        Keyed::new(self.position(Bound::Unbounded, true))
    }

    /// The place of a bound: before the first entry inside for a lower one, behind the last for an
    /// upper one. `None` in an empty tree.
    #[inline]
    fn position(self, bound: Bound<&[u8]>, is_lower: bool) -> Option<Spot> {
        let root = self.root()?;
        let (key, or_equal) = match bound {
            Bound::Unbounded => return Some(Spot::edge(root, is_lower)),
            Bound::Included(key) => (key, !is_lower),
            Bound::Excluded(key) => (key, is_lower),
        };
        let choose = |node: NodePtr| {
            if !node.is_leaf() {
                return node.route(key);
            }
            // The row is on its way while the rest of the key is compared.
            node.rows()[node.guess(key)].prefetch_far();
            node.bound(key, or_equal)
        };
        Some(Spot::descend(root, choose))
    }

    /// The number of entries before a bound, O(log n).
    pub(crate) fn rank(self, bound: Bound<&[u8]>, is_lower: bool) -> usize {
        let Some(spot) = self.position(bound, is_lower) else { return 0 };
        let before =
            spot.inner_steps().map(|step| step.node.counts()[..step.index].iter().sum::<u64>());
        before.sum::<u64>() as usize + spot.index()
    }

    /// The number of entries between two bounds, O(log n).
    pub(crate) fn count(self, low: Bound<&[u8]>, high: Bound<&[u8]>) -> usize {
        if is_crossed(low, high) {
            return 0;
        }
        self.rank(high, false) - self.rank(low, true)
    }

    /// The entry that has `index` entries before it, O(log n).
    pub(crate) fn nth(self, index: usize) -> Option<RowRef<'v>> {
        let (leaf, index) = self.place_of(index)?;
        Some(leaf.rows()[index].borrow())
    }

    /// Writes the key of the entry that has `index` entries before it, O(log n); nothing if there
    /// is none.
    pub(crate) fn key_at(self, index: usize, out: &mut Vec<u8>) {
        out.clear();
        if let Some((leaf, index)) = self.place_of(index) {
            write_key(leaf, index, out);
        }
    }

    /// The leaf with the entry that has `index` entries before it, and its place there.
    fn place_of(self, index: usize) -> Option<(NodePtr, usize)> {
        let mut node = self.root().filter(|_| index < self.len())?;
        let mut left = index as u64;
        while !node.is_leaf() {
            let mut child = 0;
            for count in node.counts() {
                if left < *count {
                    break;
                }
                left -= count;
                child += 1;
            }
            node = node.child(child);
        }
        Some((node, left as usize))
    }

    /// The entry with the greatest key that is not above `key`, O(log n).
    pub(crate) fn floor(self, key: &[u8]) -> Option<Floor<'v>> {
        let mut spot = self.position(Bound::Included(key), false)?;
        if spot.index() == 0 && !spot.previous_leaf() {
            return None;
        }
        let (node, index) = (spot.leaf(), spot.index());
        let (mut len, mut common, mut is_common) = (0, 0, true);
        let mut meet = |piece: &[u8]| {
            if is_common {
                let more = common_prefix(piece, &key[common.min(key.len())..]);
                common += more;
                is_common = more == piece.len();
            }
            len += piece.len();
        };
        meet(node.prefix());
        node.push_suffix(index - 1, meet);
        Some(Floor { row: node.rows()[index - 1].borrow(), len, common })
    }

    /// The entry with the longest key that is a prefix of `key`, or `key` itself.
    ///
    /// The greatest entry not above a key is either a prefix of it or shares some bytes with it,
    /// and then no prefix longer than those bytes is in the tree. So each try shortens the key;
    /// O(log n) for each.
    #[cfg(test)]
    pub(crate) fn longest_prefix(self, key: &[u8]) -> Option<RowRef<'v>> {
        let mut wanted = key;
        loop {
            let floor = self.floor(wanted)?;
            if floor.common == floor.len {
                return Some(floor.row);
            }
            wanted = &wanted[..floor.common];
        }
    }
}

/// What [`TreeRef::floor`] found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Floor<'v> {
    pub(crate) row: RowRef<'v>,
    /// Length of its key.
    pub(crate) len: usize,
    /// Bytes in which its key begins like the one that was asked for.
    pub(crate) common: usize,
}

/// Whether no key can lie between the bounds.
pub(super) fn is_crossed(low: Bound<&[u8]>, high: Bound<&[u8]>) -> bool {
    match (low, high) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(low), Bound::Included(high)) => low > high,
        (
            Bound::Included(low) | Bound::Excluded(low),
            Bound::Included(high) | Bound::Excluded(high),
        ) => low >= high,
    }
}
