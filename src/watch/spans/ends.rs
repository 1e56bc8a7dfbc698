//! The highest ends of blocks.

use std::cmp::Ordering;
use std::ops::Range;

use super::Place;
use super::head::{Wide, cmp_ends, wide, wide_end};

const NOWHERE: u32 = u32::MAX;

/// An upper end.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    head: Wide,
    pub(super) place: u32,
}

impl End {
    pub(super) const NONE: Self = Self { head: 0, place: NOWHERE };

    pub(super) fn of<V>(place: u32, all: &[Place<V>]) -> Self {
        Self { head: wide_end(all[place as usize].span.high.as_ref()), place }
    }

    /// The higher of both.
    pub(super) fn max<V>(self, other: Self, all: &[Place<V>]) -> Self {
        if self.place == NOWHERE || other.place == NOWHERE {
            return if self.place == NOWHERE { other } else { self };
        }
        let end = |end: Self| all[end.place as usize].span.high.as_ref();
        let order = self.head.cmp(&other.head).then_with(|| cmp_ends(end(self), end(other)));
        if order == Ordering::Less { other } else { self }
    }

    /// Whether a key, with this head, may lie before the end.
    #[inline]
    pub(super) fn is_behind<V>(self, wanted: Wide, key: &[u8], all: &[Place<V>]) -> bool {
        if self.place == NOWHERE || self.head < wanted {
            return false;
        }
        let end = || all[self.place as usize].span.high.as_ref();
        self.head > wanted || end().is_none_or(|end| end.is_behind(key))
    }
}

/// The highest ends of blocks: those of the blocks in the second half, and before them, at each
/// place, the higher of the two at twice that place.
#[derive(Debug, Default)]
pub(super) struct Tournament {
    pub(super) ends: Vec<End>,
    /// Of each block, the head of the highest end in it and in those before it.
    pub(super) so_far: Vec<Wide>,
}

impl Tournament {
    /// Puts other blocks, with these ends, in the place of `old`, of `len` blocks.
    pub(super) fn splice<V>(
        &mut self,
        len: usize,
        old: Range<usize>,
        new: impl Iterator<Item = End>,
        all: &[Place<V>],
    ) {
        let half = self.ends.len() / 2;
        let mut reaches = self.ends[half..half + len].to_vec();
        reaches.splice(old, new);
        let half = reaches.len().next_power_of_two();
        self.ends.clear();
        self.ends.resize(half, End::NONE);
        self.ends.append(&mut reaches);
        self.ends.resize(2 * half, End::NONE);
        for at in (1..half).rev() {
            self.ends[at] = self.ends[2 * at].max(self.ends[2 * at + 1], all);
        }
        let mut highest = 0;
        self.so_far.clear();
        self.so_far.extend(self.ends[half..].iter().map(|end| {
            highest = end.head.max(highest);
            highest
        }));
    }

    pub(super) fn reach(&self, block: usize) -> End {
        self.ends[self.ends.len() / 2 + block]
    }

    pub(super) fn set<V>(&mut self, block: usize, reach: End, all: &[Place<V>]) {
        let mut at = self.ends.len() / 2 + block;
        self.ends[at] = reach;
        let mut highest = block.checked_sub(1).map_or(0, |before| self.so_far[before]);
        for (so_far, end) in self.so_far[block..].iter_mut().zip(&self.ends[at..]) {
            highest = end.head.max(highest);
            if std::mem::replace(so_far, highest) == highest {
                break;
            }
        }
        while at > 1 {
            at /= 2;
            self.ends[at] = self.ends[2 * at].max(self.ends[2 * at + 1], all);
        }
    }

    /// Adds to `found` the blocks below `count` of which an end is behind `key`.
    pub(super) fn find<V>(
        &self,
        count: usize,
        key: &[u8],
        all: &[Place<V>],
        found: &mut Vec<usize>,
    ) {
        let half = self.ends.len() / 2;
        let wanted = wide(key);
        if count == 0 || self.so_far[count - 1] < wanted {
            return;
        }
        // The blocks below `count` are all those below some places.
        let mut end = half + count;
        while end > 1 {
            if end % 2 == 1 {
                end -= 1;
                self.find_below(end, (wanted, key), all, found);
            }
            end /= 2;
        }
    }

    fn find_below<V>(
        &self,
        at: usize,
        (wanted, key): (Wide, &[u8]),
        all: &[Place<V>],
        found: &mut Vec<usize>,
    ) {
        if !self.ends[at].is_behind(wanted, key, all) {
            return;
        }
        let half = self.ends.len() / 2;
        if at >= half {
            return found.push(at - half);
        }
        self.find_below(2 * at, (wanted, key), all, found);
        self.find_below(2 * at + 1, (wanted, key), all, found);
    }
}
