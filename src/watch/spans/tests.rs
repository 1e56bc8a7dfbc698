//! Searches against a look at each, with small blocks.

use std::ops::Bound;

use proptest::prelude::*;

use super::block::heads_of;
use super::head::{cmp_ends, cmp_spans, wide, wide_end};
use super::{BLOCK_MAX, BLOCK_MIN, Spans, TOP_BLOCKS};
use crate::table::Span;

impl<V> Spans<V> {
    /// Proves the invariants and gives the number of stretches.
    fn check(&self) -> usize {
        let span = |place: &u32| &self.places[*place as usize].span;
        let all: Vec<_> = self.blocks.iter().flat_map(|block| &block.places).collect();
        assert!(all.is_sorted_by(|one, next| cmp_spans(span(one), span(next)).is_lt()));
        assert_eq!(all.len() + self.free.len(), self.places.len());
        assert_eq!(self.firsts.len(), self.blocks.len());
        let tops: Vec<_> = self.firsts.iter().step_by(TOP_BLOCKS).copied().collect();
        assert_eq!(self.tops, tops);
        for (at, block) in self.blocks.iter().enumerate() {
            assert!((1..=BLOCK_MAX).contains(&block.len()));
            for (place, heads) in block.places.iter().zip(&block.heads) {
                assert!(span(place).low.key.starts_with(&block.prefix));
                assert_eq!(*heads, heads_of(&block.prefix, span(place)));
            }
            assert_eq!(self.firsts[at], wide(&span(&block.places[0]).low.key));
            let reach = self.ends.reach(at);
            let end = |place: &u32| span(place).high.as_ref();
            let beyond = |place: &u32| cmp_ends(end(place), end(&reach.place)).is_gt();
            assert!(!block.places.iter().any(beyond) && block.places.contains(&reach.place));
        }
        let half = self.ends.ends.len() / 2;
        let mut highest = 0;
        for (at, so_far) in self.ends.so_far.iter().enumerate() {
            let reach = self.ends.reach(at).place;
            let end =
                self.places.get(reach as usize).map(|place| wide_end(place.span.high.as_ref()));
            highest = end.unwrap_or(0).max(highest);
            assert_eq!(*so_far, highest);
        }
        for at in 1..half {
            let higher = self.ends.ends[2 * at].max(self.ends.ends[2 * at + 1], &self.places);
            assert_eq!(self.ends.ends[at].place, higher.place);
        }
        all.len()
    }
}

/// Short ones, and such as have the same first bytes.
fn keys() -> impl Strategy<Value = Vec<u8>> + Clone {
    let short = prop::collection::vec(0..4_u8, 0..3);
    prop_oneof![
        3 => short.clone(),
        1 => short.clone().prop_map(|tail| [vec![2; 16], tail].concat()),
        1 => short.prop_map(|tail| [vec![u8::MAX; 16], tail].concat()),
    ]
}

fn bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
    let key = keys();
    prop_oneof![
        Just(Bound::Unbounded),
        key.clone().prop_map(Bound::Included),
        key.prop_map(Bound::Excluded),
    ]
}

fn span() -> impl Strategy<Value = Span> {
    (bound(), bound()).prop_map(|(low, high)| {
        Span::new(low.as_ref().map(Vec::as_slice), high.as_ref().map(Vec::as_slice))
    })
}

proptest! {
    #[test]
    fn it_finds_what_a_search_of_all_finds(
        steps in prop::collection::vec((any::<bool>(), span()), 1..80),
        keys in prop::collection::vec(keys(), 1..20),
    ) {
        let mut spans = Spans::<u32>::default();
        let mut model: Vec<(Span, u32)> = Vec::new();
        for (is_insert, span) in steps {
            let known = model.iter().position(|(known, _)| *known == span);
            if is_insert {
                *spans.entry(&span) += 1;
                match known {
                    Some(at) => model[at].1 += 1,
                    None => model.push((span, 1)),
                }
            } else {
                prop_assert_eq!(spans.get_mut(&span).copied(), known.map(|at| model[at].1));
                let removed = known.map(|at| model.swap_remove(at).1);
                prop_assert_eq!(spans.remove(&span), removed);
            }
            prop_assert_eq!(spans.check(), model.len());
            prop_assert_eq!(spans.is_empty(), model.is_empty());
            for key in &keys {
                let mut found = Vec::new();
                spans.visit_mut(key, |span, count| found.push((span.clone(), *count)));
                let mut expected: Vec<_> =
                    model.iter().filter(|(span, _)| span.contains(key)).cloned().collect();
                found.sort();
                expected.sort();
                prop_assert_eq!(found, expected);
            }
        }
    }
}

/// Many, so that there are many blocks: inserted, found and taken out in several orders.
#[test]
fn many_stretches_stand_in_few_blocks_and_are_found() {
    let key = |number: u32| [&b"a/long/prefix/of/all/keys/"[..], &number.to_be_bytes()].concat();
    let span = |number: u32| {
        let (low, high) = (key(10 * number), key(10 * number + 4));
        Span::new(Bound::Included(&low), Bound::Excluded(&high))
    };
    let count = 5_000_u32;
    let mut spans = Spans::<u32>::default();
    let order = |number: u32| number.wrapping_mul(2_654_435_761) % count;
    for number in (0..count).map(order).chain(0..count) {
        *spans.entry(&span(number)) = number;
    }
    // One that reaches over all, and one from the middle on.
    *spans.entry(&Span::whole()) = count;
    let rest = Span::new(Bound::Excluded(&key(25_000)), Bound::Unbounded);
    *spans.entry(&rest) = count + 1;
    assert_eq!(spans.check(), count as usize + 2);
    assert!(spans.blocks.len() < 5_000 / BLOCK_MIN);
    let found = |spans: &mut Spans<u32>, key: &[u8]| {
        let mut found = Vec::new();
        spans.visit_mut(key, |_, number| found.push(*number));
        found.sort_unstable();
        found
    };
    assert_eq!(found(&mut spans, b"a"), [count]);
    assert_eq!(found(&mut spans, &key(24_993)), [2_499, count]);
    assert_eq!(found(&mut spans, &key(24_994)), [count]);
    assert_eq!(found(&mut spans, &key(30_000)), [3_000, count, count + 1]);
    assert_eq!(found(&mut spans, b"b"), [count, count + 1]);
    for number in (0..count).map(order) {
        let there = spans.remove(&span(number));
        assert!(there.is_none() || there == Some(number));
        if number % 100 == 0 {
            spans.check();
            assert!(!found(&mut spans, &key(10 * number)).contains(&number));
        }
    }
    for number in 0..count {
        spans.remove(&span(number));
    }
    assert_eq!(spans.check(), 2);
    assert_eq!(spans.blocks.len(), 1);
    assert_eq!((spans.remove(&rest), spans.remove(&Span::whole())), (Some(5_001), Some(5_000)));
    assert!(spans.is_empty() && spans.places.is_empty());
}
