//! The tree against `BTreeMap`: random edits, ranges of every shape, versions held for long.

use std::collections::BTreeMap;
use std::ops::Bound;

use proptest::prelude::*;

use super::Tree;

type Model = BTreeMap<Vec<u8>, u32>;

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(0x61), Just(0xFF)], 0..5)
}

fn bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
    prop_oneof![
        Just(Bound::Unbounded),
        key().prop_map(Bound::Included),
        key().prop_map(Bound::Excluded),
    ]
}

fn borrow(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}

fn assert_same(tree: &Tree<u32>, model: &Model) {
    assert_eq!(tree.len(), model.len());
    let forward: Vec<_> = tree.iter().map(|(key, value)| (key.to_vec(), *value)).collect();
    let expected: Vec<_> = model.iter().map(|(key, value)| (key.clone(), *value)).collect();
    assert_eq!(forward, expected);
    let mut backward: Vec<_> =
        tree.iter().rev().map(|(key, value)| (key.to_vec(), *value)).collect();
    backward.reverse();
    assert_eq!(backward, expected);
}

proptest! {
    #[test]
    fn random_edits_equal_the_model_in_every_version(
        steps in prop::collection::vec((key(), any::<u32>(), 0_u8..4), 0..120)
    ) {
        let mut tree = Tree::new();
        let mut model = Model::new();
        let mut held = Vec::new();
        for (key, value, action) in steps {
            match action {
                0 => prop_assert_eq!(tree.remove(&key), model.remove(&key)),
                1 => held.push((tree.clone(), model.clone())),
                _ => prop_assert_eq!(tree.insert(&key, value), model.insert(key, value)),
            }
        }
        assert_same(&tree, &model);
        for (tree, model) in &held {
            assert_same(tree, model);
        }
    }

    #[test]
    fn every_shape_of_range_equals_the_model(
        entries in prop::collection::btree_map(key(), any::<u32>(), 0..40),
        low in bound(),
        high in bound(),
    ) {
        let tree = Tree::from_sorted(entries.iter().map(|(key, value)| (key, *value)));
        let inside = |key: &Vec<u8>| {
            let above = match &low {
                Bound::Unbounded => true,
                Bound::Included(low) => key >= low,
                Bound::Excluded(low) => key > low,
            };
            let below = match &high {
                Bound::Unbounded => true,
                Bound::Included(high) => key <= high,
                Bound::Excluded(high) => key < high,
            };
            above && below
        };
        let expected: Vec<_> = entries.iter().filter(|(key, _)| inside(key)).collect();
        let range = tree.range(borrow(&low), borrow(&high));
        let found: Vec<_> = range.map(|(key, value)| (key.to_vec(), *value)).collect();
        prop_assert_eq!(found.len(), expected.len());
        for ((key, value), (expected_key, expected_value)) in found.iter().zip(&expected) {
            prop_assert_eq!((key, value), (*expected_key, *expected_value));
        }
        let backward = tree.range(borrow(&low), borrow(&high)).rev().count();
        prop_assert_eq!(backward, expected.len());
    }
}

#[test]
fn a_range_met_from_both_ends_gives_each_entry_once_and_stays_ended() {
    let tree = Tree::from_sorted((0_u8..100).map(|n| ([n], n)));
    let mut range = tree.range(Bound::Included(&[10]), Bound::Excluded(&[20]));
    let mut seen = Vec::new();
    loop {
        let (front, back) = (range.next(), range.next_back());
        seen.extend(front.into_iter().chain(back).map(|(_, value)| *value));
        if front.is_none() && back.is_none() {
            break;
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (10..20).collect::<Vec<_>>());
    assert!(range.next().is_none() && range.next_back().is_none());
}
