//! Stretches of keys, and which of them a key lies in.
//!
//! The stretches stand in blocks, in the order of their lower ends. Each block knows the highest
//! end in it, and a tournament over the blocks finds those that reach beyond a key (interval trees:
//! Cormen et al., "Introduction to Algorithms", 14.3, with blocks for nodes).
//!
//! A search waits for memory, and mostly finds nothing. So the blocks keep the first bytes of the
//! ends in a row, behind what all keys of the block begin with: a search reads one block from one
//! side to the other, which the processor fetches at once, and follows pointers only where the
//! first bytes are equal.
//!
//! `head.rs` compares, `block.rs` holds stretches that follow each other, `ends.rs` the tournament.
//!
//! # Invariants
//!
//! 1. Stretches are in ascending order through the blocks, each once; no block is empty or has more
//!    than [`BLOCK_MAX`].
//! 2. The heads of a block are those of its stretches behind its prefix, with which all their lower
//!    ends begin.
//! 3. `firsts` has the head of the first lower end of each block, `tops` some of them, and `ends`
//!    the tournament of the highest ends.

mod block;
mod ends;
mod head;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;

use block::{BLOCK_MAX, BLOCK_MIN, Block};
use ends::{End, Tournament};
use head::{Wide, cmp_spans, partition, wide};

use crate::table::Span;

/// Blocks to each entry of `tops`.
const TOP_BLOCKS: usize = if cfg!(test) { 4 } else { 32 };

/// Stretches with what is attached to each.
#[derive(Debug)]
pub(super) struct Spans<V> {
    places: Vec<Place<V>>,
    /// Those of `places` that are free.
    free: Vec<u32>,
    blocks: Vec<Block>,
    firsts: Vec<Wide>,
    /// Every so many of `firsts`, which stay in the cache.
    tops: Vec<Wide>,
    ends: Tournament,
    /// A buffer of searches.
    found: Vec<usize>,
}

#[derive(Debug)]
struct Place<V> {
    span: Span,
    value: Option<V>,
}

impl<V> Default for Spans<V> {
    fn default() -> Self {
        let (places, free, blocks) = (Vec::new(), Vec::new(), Vec::new());
        let (firsts, tops, found) = (Vec::new(), Vec::new(), Vec::new());
        Self { places, free, blocks, firsts, tops, ends: Tournament::default(), found }
    }
}

impl<V> Spans<V> {
    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The number of blocks whose first stretch is not behind a place: `is_before` says of one with
    /// the same head whether it is.
    fn blocks_before(&self, wanted: Wide, is_before: impl Fn(&Span) -> bool) -> usize {
        let top = self.tops.partition_point(|top| *top < wanted).saturating_sub(1) * TOP_BLOCKS;
        let some = &self.firsts[top..self.firsts.len().min(top + TOP_BLOCKS)];
        // All at once, rather than one after the other.
        let lower: usize = some.iter().map(|first| usize::from(*first < wanted)).sum();
        let rest = &self.firsts[top + lower..];
        let equal = rest.partition_point(|first| *first == wanted);
        let first = |at: usize| &self.places[self.blocks[at].places[0] as usize].span;
        top + lower + partition(equal, |at| is_before(first(top + lower + at)))
    }

    /// The block that `span` belongs to, and where it is there or would be.
    fn find(&self, span: &Span) -> Option<(usize, Result<usize, usize>)> {
        let wanted = wide(&span.low.key);
        let count = self.blocks_before(wanted, |first| cmp_spans(first, span) != Ordering::Greater);
        let block = count.saturating_sub(1);
        Some((block, self.blocks.get(block)?.find(span, &self.places)))
    }

    /// What is attached to `span`.
    pub(super) fn get_mut(&mut self, span: &Span) -> Option<&mut V> {
        let (block, Ok(at)) = self.find(span)? else { return None };
        self.places[self.blocks[block].places[at] as usize].value.as_mut()
    }

    /// What is attached to `span`, made first if there is nothing.
    pub(super) fn entry(&mut self, span: &Span) -> &mut V
    where
        V: Default,
    {
        let place = match self.find(span) {
            Some((block, Ok(at))) => self.blocks[block].places[at],
            Some((block, Err(at))) => self.insert(block, at, span.clone()),
            None => {
                let place = self.settle(span.clone());
                self.blocks.push(Block::new(vec![place], &self.places));
                self.relist(0, 0, 1);
                place
            }
        };
        self.places[place as usize].value.get_or_insert_default()
    }

    fn settle(&mut self, span: Span) -> u32 {
        let place = Place { span, value: None };
        match self.free.pop() {
            Some(at) => {
                self.places[at as usize] = place;
                at
            }
            None => {
                self.places.push(place);
                self.places.len() as u32 - 1
            }
        }
    }

    fn insert(&mut self, block: usize, at: usize, span: Span) -> u32 {
        let place = self.settle(span);
        let whole = &mut self.blocks[block];
        whole.insert(at, place, &self.places);
        if whole.len() > BLOCK_MAX {
            let other = whole.places.split_off(whole.len() / 2);
            whole.take_heads(&self.places);
            self.blocks.insert(block + 1, Block::new(other, &self.places));
            self.relist(block, 1, 2);
            return place;
        }
        if at == 0 {
            self.set_first(block);
        }
        let before = self.ends.reach(block);
        let reach = before.max(End::of(place, &self.places), &self.places);
        if reach.place == place {
            self.ends.set(block, reach, &self.places);
        }
        place
    }

    /// Takes `span` out, and what is attached to it.
    pub(super) fn remove(&mut self, span: &Span) -> Option<V> {
        let (block, Ok(at)) = self.find(span)? else { return None };
        let place = self.blocks[block].remove(at);
        let value = self.places[place as usize].value.take();
        self.free.push(place);
        if self.blocks[block].len() < BLOCK_MIN && self.shrink(block) {
            return value;
        }
        if at == 0 {
            self.set_first(block);
        }
        if self.ends.reach(block).place == place {
            self.ends.set(block, self.blocks[block].reach(&self.places), &self.places);
        }
        value
    }

    /// Notes that another stretch is the first of a block.
    fn set_first(&mut self, block: usize) {
        let place = self.blocks[block].places[0];
        self.firsts[block] = wide(&self.places[place as usize].span.low.key);
        if block.is_multiple_of(TOP_BLOCKS) {
            self.tops[block / TOP_BLOCKS] = self.firsts[block];
        }
    }

    /// Takes an empty block out, or puts a small one together with a neighbour; whether it could.
    fn shrink(&mut self, block: usize) -> bool {
        if self.blocks[block].len() == 0 {
            self.blocks.remove(block);
            self.relist(block, 1, 0);
            return true;
        }
        let fits = |one: usize| {
            let next = self.blocks.get(one + 1).map(Block::len);
            next.is_some_and(|next| self.blocks[one].len() + next <= BLOCK_MAX / 2)
        };
        let pair = [Some(block), block.checked_sub(1)].into_iter().flatten().find(|one| fits(*one));
        let Some(one) = pair else { return false };
        let other = self.blocks.remove(one + 1);
        self.blocks[one].places.extend(other.places);
        self.blocks[one].take_heads(&self.places);
        self.relist(one, 2, 1);
        true
    }

    /// Lists `now` blocks from `from` on in the place of the `before` that stood there.
    fn relist(&mut self, from: usize, before: usize, now: usize) {
        if self.blocks.is_empty() {
            // Nothing is left, so nothing is kept.
            *self = Self::default();
            return;
        }
        let Self { places, blocks, firsts, tops, ends, .. } = self;
        let (old, new) = (from..from + before, &blocks[from..from + now]);
        let first = |block: &Block| wide(&places[block.places[0] as usize].span.low.key);
        ends.splice(firsts.len(), old.clone(), new.iter().map(|block| block.reach(places)), places);
        firsts.splice(old, new.iter().map(first));
        tops.clear();
        tops.extend(firsts.iter().step_by(TOP_BLOCKS));
    }

    /// Calls `visit` with what is attached to each stretch that `key` lies in; O(log n) and one
    /// block, and a block for each that has a stretch which reaches beyond the key.
    pub(super) fn visit_mut(&mut self, key: &[u8], mut visit: impl FnMut(&Span, &mut V)) {
        let wanted = wide(key);
        let Some(last) =
            self.blocks_before(wanted, |first| !first.low.is_behind(key)).checked_sub(1)
        else {
            return;
        };
        let Self { places, blocks, ends, found, .. } = self;
        blocks[last].visit(key, true, places, &mut visit);
        found.clear();
        ends.find(last, key, places, found);
        for block in found {
            blocks[*block].visit(key, false, places, &mut visit);
        }
    }
}
