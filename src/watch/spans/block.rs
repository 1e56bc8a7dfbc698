//! Stretches that follow each other.

use std::cmp::Ordering;

use super::Place;
use super::ends::End;
use super::head::{Head, cmp_ends, cmp_spans, end_behind, head_behind, partition};
use crate::table::Span;

/// Most stretches of a block: so many heads are compared in less time than memory takes to answer
/// twice.
pub(super) const BLOCK_MAX: usize = if cfg!(test) { 8 } else { 64 };

/// A block with fewer is put together with a neighbour, if both have room in one.
pub(super) const BLOCK_MIN: usize = BLOCK_MAX / 4;

pub(super) fn heads_of(prefix: &[u8], span: &Span) -> [Head; 2] {
    [head_behind(prefix, &span.low.key), end_behind(prefix, span.high.as_ref())]
}

/// Some stretches that follow each other; the vectors are of one length.
#[derive(Debug, Default)]
pub(super) struct Block {
    pub(super) prefix: Vec<u8>,
    /// Of each stretch the head of the lower end and that of the upper one, the greatest number
    /// where there is none.
    pub(super) heads: Vec<[Head; 2]>,
    pub(super) places: Vec<u32>,
}

impl Block {
    /// The block of the stretches at `places`.
    pub(super) fn new<V>(places: Vec<u32>, all: &[Place<V>]) -> Self {
        let mut block = Self { places, ..Self::default() };
        block.take_heads(all);
        block
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Makes the prefix and the heads anew.
    pub(super) fn take_heads<V>(&mut self, all: &[Place<V>]) {
        let span = |place: &u32| &all[*place as usize].span;
        let low = |place: Option<&u32>| place.map_or(&[][..], |place| &*span(place).low.key);
        let (first, last) = (low(self.places.first()), low(self.places.last()));
        let shared = first.iter().zip(last).take_while(|(one, other)| one == other).count();
        self.prefix.clear();
        self.prefix.extend_from_slice(&first[..shared]);
        let Self { prefix, places, .. } = self;
        self.heads = places.iter().map(|place| heads_of(prefix, span(place))).collect();
    }

    /// Where `span` is, or would be.
    pub(super) fn find<V>(&self, span: &Span, all: &[Place<V>]) -> Result<usize, usize> {
        let wanted = head_behind(&self.prefix, &span.low.key);
        let cmp = |at: usize| {
            let there = || cmp_spans(&all[self.places[at] as usize].span, span);
            self.heads[at][0].cmp(&wanted).then_with(there)
        };
        let at = partition(self.len(), |at| cmp(at) == Ordering::Less);
        let is_found = at < self.len() && cmp(at) == Ordering::Equal;
        if is_found { Ok(at) } else { Err(at) }
    }

    pub(super) fn insert<V>(&mut self, at: usize, place: u32, all: &[Place<V>]) {
        self.places.insert(at, place);
        let span = &all[place as usize].span;
        if !span.low.key.starts_with(&self.prefix) {
            return self.take_heads(all);
        }
        self.heads.insert(at, heads_of(&self.prefix, span));
    }

    pub(super) fn remove(&mut self, at: usize) -> u32 {
        self.heads.remove(at);
        self.places.remove(at)
    }

    /// The stretch that ends highest.
    pub(super) fn reach<V>(&self, all: &[Place<V>]) -> End {
        let end = |at: usize| all[self.places[at] as usize].span.high.as_ref();
        let cmp = |one: &usize, other: &usize| {
            let heads = self.heads[*one][1].cmp(&self.heads[*other][1]);
            heads.then_with(|| cmp_ends(end(*one), end(*other)))
        };
        let highest = (0..self.len()).max_by(cmp);
        highest.map_or(End::NONE, |at| End::of(self.places[at], all))
    }

    /// Calls `visit` with the place of each stretch that `key` lies in; `is_last` says that some of
    /// the lower ends may be behind it.
    pub(super) fn visit<V>(
        &self,
        key: &[u8],
        is_last: bool,
        all: &mut [Place<V>],
        visit: &mut impl FnMut(&Span, &mut V),
    ) {
        let wanted = head_behind(&self.prefix, key);
        let mut count = self.len();
        if is_last {
            let before = self.heads.iter().map(|[low, _]| usize::from(*low < wanted)).sum();
            let equal = self.heads[before..].partition_point(|[low, _]| *low == wanted);
            let low = |at: usize| &all[self.places[before + at] as usize].span.low;
            count = before + partition(equal, |at| !low(at).is_behind(key));
        }
        for ([_, high], place) in self.heads[..count].iter().zip(&self.places) {
            if *high < wanted {
                continue;
            }
            let Place { span, value } = &mut all[*place as usize];
            if span.contains(key)
                && let Some(value) = value
            {
                visit(span, value);
            }
        }
    }
}
