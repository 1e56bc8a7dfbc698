//! Bounds, ranks and prefixes of every shape, against a sorted list.

use std::collections::BTreeMap;
use std::ops::Bound;

use proptest::prelude::*;

use super::world::{Counted, One, World};
use crate::tree::bulk::Bulk;
use crate::tree::{Doomed, RowRef, Tree, TreeRef, TypedTree, Workspace};

pub(super) fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(0x61), Just(0xFF)], 0..5),
        (0_u16..400).prop_map(|n| n.to_be_bytes().to_vec()),
        (0_u16..300).prop_map(|n| format!("prefix/long/{n}").into_bytes()),
    ]
}

pub(super) fn bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
    prop_oneof![
        1 => Just(Bound::Unbounded),
        3 => key().prop_map(Bound::Included),
        3 => key().prop_map(Bound::Excluded),
    ]
}

pub(super) fn borrow(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}

fn number(row: RowRef<'_>) -> u32 {
    row.typed::<Counted>().number
}

/// A world whose table has the entries, put one by one or built from below.
fn filled(entries: &BTreeMap<Vec<u8>, u32>, is_bulk: bool) -> World {
    let mut world = World::new();
    let mut writer = world.store.write();
    let One(mut trees) = world.newest.trees.clone();
    let rows = entries.iter().map(|(key, value)| (key, world.row(*value), 1));
    if is_bulk {
        let mut rows = trees.fill(&mut writer, entries.len(), rows);
        let mut index: Vec<_> = entries.iter().enumerate().collect();
        index.sort_by_key(|(_, (key, value))| super::world::entry_of(**value, key));
        let index =
            index.into_iter().map(|(row, (key, value))| (super::world::entry_of(*value, key), row));
        let bring = |visit: &mut dyn FnMut(&[u8], usize)| {
            index.for_each(|(key, row)| visit(key.as_ref(), row));
        };
        trees.fill_index(&mut writer, 0, bring, &mut rows);
        assert!(rows.iter().all(crate::tree::Filled::is_complete));
    } else {
        drop(rows);
        let mut work = One(trees);
        let mut model = BTreeMap::new();
        for (key, value) in entries {
            world.set(&mut writer, &mut work, &mut model, key, Some(*value));
        }
        One(trees) = work;
    }
    world.commit(writer, One(trees), entries.clone());
    world
}

fn check_range(
    tree: TreeRef<'_>,
    entries: &BTreeMap<Vec<u8>, u32>,
    low: Bound<&[u8]>,
    high: Bound<&[u8]>,
) {
    let above = |key: &[u8]| match low {
        Bound::Unbounded => true,
        Bound::Included(low) => key >= low,
        Bound::Excluded(low) => key > low,
    };
    let below = |key: &[u8]| match high {
        Bound::Unbounded => true,
        Bound::Included(high) => key <= high,
        Bound::Excluded(high) => key < high,
    };
    let expected: Vec<u32> = entries
        .iter()
        .filter(|(key, _)| above(key) && below(key))
        .map(|(_, value)| *value)
        .collect();
    assert_eq!(tree.range(low, high).map(number).collect::<Vec<_>>(), expected);
    let mut backward: Vec<_> = tree.range(low, high).rev().map(number).collect();
    backward.reverse();
    assert_eq!(backward, expected);
    assert_eq!(tree.count(low, high), expected.len());
    let mut range = tree.range(low, high);
    let (mut front, mut back) = (Vec::new(), Vec::new());
    while let Some(row) = range.next() {
        front.push(number(row));
        back.extend(range.next_back().map(number));
        back.extend(range.next_back().map(number));
    }
    assert!(range.next().is_none() && range.next_back().is_none());
    back.reverse();
    assert_eq!([front, back].concat(), expected);
}

proptest! {
    #[test]
    fn ranges_ranks_and_prefixes_equal_a_sorted_list(
        entries in prop::collection::btree_map(key(), any::<u32>(), 0..400),
        bounds in prop::collection::vec((bound(), bound()), 1..12),
        wanted in prop::collection::vec(key(), 0..40),
        is_bulk in any::<bool>(),
    ) {
        let world = filled(&entries, is_bulk);
        super::audit::check_version(&world.newest.trees, &entries);
        let tree = world.newest.trees.0.rows();
        for (low, high) in &bounds {
            check_range(tree, &entries, borrow(low), borrow(high));
        }
        for (rank, (key, value)) in entries.iter().enumerate() {
            prop_assert_eq!(tree.rank(Bound::Included(key), true), rank);
            prop_assert_eq!(tree.nth(rank).map(number), Some(*value));
        }
        prop_assert!(tree.nth(entries.len()).is_none());
        for key in &wanted {
            prop_assert_eq!(tree.get(key).map(number), entries.get(key).copied());
            let longest = (0..=key.len()).rev().find_map(|len| entries.get(&key[..len]));
            prop_assert_eq!(tree.longest_prefix(key).map(number), longest.copied());
        }
        let typed: TypedTree<'_, Counted> = world.newest.trees.0.typed_rows();
        let mut found = vec![None; wanted.len()];
        typed.get_many(&wanted, &mut found);
        for (key, found) in wanted.iter().zip(found) {
            prop_assert_eq!(found.map(|row| row.number), entries.get(key).copied());
        }
        prop_assert_eq!(tree.first().map(number), entries.values().next().copied());
        prop_assert_eq!(tree.last().map(number), entries.values().next_back().copied());
    }
}

#[test]
fn a_bulk_build_of_any_size_is_a_whole_tree() {
    let world = World::new();
    for len in (0..200).chain([1000, 3136, 3137, 20_000]) {
        let mut writer = world.store.write();
        let mut bulk = Bulk::new();
        for n in 0_u32..len {
            let row = world.row(n);
            let row = writer.settle(row, 0);
            bulk.push(writer.editor(), &n.to_be_bytes(), row);
        }
        let kind = crate::tree::RowKind::of::<Counted>();
        let tree: Tree = bulk.finish(writer.editor(), kind);
        super::audit::check_tree(&tree);
        assert_eq!(tree.view().len(), len as usize);
        assert!(tree.view().iter().map(number).eq(0..len));
        let One(mut trees) = world.newest.trees.clone();
        trees.set_rows(tree);
        writer.abort(&One(trees), &mut Doomed::default());
    }
    assert_eq!(world.alive(), 0);
}

#[test]
fn a_table_that_shrinks_gives_its_memory_back() {
    let mut world = World::new();
    let entries: BTreeMap<Vec<u8>, u32> =
        (0..20_000_u32).map(|n| (n.wrapping_mul(0x9E37_79B9).to_be_bytes().to_vec(), n)).collect();
    let mut sizes = Vec::new();
    for _ in 0..3 {
        let (mut trees, mut model) = (world.newest.trees.clone(), BTreeMap::new());
        let mut writer = world.store.write();
        for (key, value) in &entries {
            world.set(&mut writer, &mut trees, &mut model, key, Some(*value));
        }
        let full = writer.memory().0;
        world.commit(writer, trees.clone(), model.clone());
        for keys in entries.keys().collect::<Vec<_>>().chunks(500) {
            let mut writer = world.store.write();
            for key in keys {
                world.set(&mut writer, &mut trees, &mut model, key, None);
            }
            world.commit(writer, trees.clone(), model.clone());
        }
        world.audit(std::iter::empty());
        let mut writer = world.store.write();
        sizes.push((full, writer.memory().0));
    }
    for (full, empty) in &sizes {
        if !cfg!(fsmdb_node_malloc) {
            assert!(*empty * 3 < *full, "{empty} bytes are held of {full}: {sizes:?}");
        }
    }
    assert_eq!(world.alive(), 0);
}

/// Remainders that fill a node by their bytes, beside keys that are almost all prefix: no half of
/// the entries fits, and neither does half of all bytes.
#[test]
fn nodes_are_split_by_the_bytes_that_they_hold() {
    let key = |prefix: usize, rest: usize, n: u8| {
        let mut key = vec![7; prefix];
        key.extend([n].iter().chain(&vec![n; rest]));
        key
    };
    for (prefix, rest, many) in [(2000, 2000, 18), (10, 4050, 9), (3000, 1000, 40), (0, 4000, 60)] {
        for is_reverse in [false, true] {
            let mut entries = BTreeMap::new();
            for n in 0..60_u8 {
                let rest = if n < many { rest } else { 0 };
                entries
                    .insert(key(prefix, rest, if is_reverse { 200 - n } else { n }), u32::from(n));
            }
            entries.insert(b"apart".to_vec(), 100);
            entries.insert(vec![0xFF], 101);
            for is_bulk in [false, true] {
                let world = filled(&entries, is_bulk);
                super::audit::check_version(&world.newest.trees, &entries);
            }
        }
    }
}
