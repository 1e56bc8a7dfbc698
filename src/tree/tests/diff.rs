//! Differences of two versions, against the difference of their models; and what they cost.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::audit::reach;
use super::world::{Counted, Held, Model, One, World, entry_of};
use crate::tree::{Branch, Differences, Found, TreeRef};

/// A key, and the numbers of the rows before and after.
type Differing = (Vec<u8>, Option<u32>, Option<u32>);

fn owned(found: Found<'_, '_>) -> Differing {
    let number = |row: crate::tree::RowRef<'_>| row.typed::<Counted>().number;
    (found.key.to_vec(), found.before.map(number), found.after.map(number))
}

/// The differences, taken from the front where the bits of `ends` are set and else from the back.
fn taken(mut differences: Differences<'_>, ends: u64) -> Vec<Differing> {
    let (mut front, mut back) = (Vec::new(), Vec::new());
    for turn in 0.. {
        let is_front = ends >> (turn % 64) & 1 == 1;
        let found = if is_front { differences.next() } else { differences.next_back() };
        let Some(found) = found else { break };
        let end = if is_front { &mut front } else { &mut back };
        end.push(owned(found));
    }
    assert!(differences.next().is_none() && differences.next_back().is_none(), "it is fused");
    back.reverse();
    front.append(&mut back);
    front
}

/// The entries of both trees of a version.
fn entries(model: &Model) -> [Model; 2] {
    let index = model.iter().map(|(key, number)| (entry_of(*number, key), *number)).collect();
    [model.clone(), index]
}

fn expected(newer: &Model, older: &Model) -> Vec<Differing> {
    let mut keys: Vec<_> = newer.keys().chain(older.keys()).collect();
    keys.sort();
    keys.dedup();
    keys.into_iter()
        .map(|key| (key.clone(), older.get(key).copied(), newer.get(key).copied()))
        .filter(|(_, before, after)| before != after)
        .collect()
}

type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

fn contains((low, high): Bounds<'_>, key: &[u8]) -> bool {
    let is_above = match low {
        Bound::Unbounded => true,
        Bound::Included(low) => key >= low,
        Bound::Excluded(low) => key > low,
    };
    let is_below = match high {
        Bound::Unbounded => true,
        Bound::Included(high) => key <= high,
        Bound::Excluded(high) => key < high,
    };
    is_above && is_below
}

/// Bounds of every kind, at keys of both models and beside them.
fn bounds<'a>(newer: &'a Model, older: &'a Model, seed: u64) -> [Bounds<'a>; 4] {
    let key = |model: &'a Model, salt: u64| {
        let at = (seed ^ salt).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33;
        let at = at.checked_rem(model.len() as u64);
        at.and_then(|at| model.keys().nth(at as usize)).map_or(&b"jobs/"[..], Vec::as_slice)
    };
    let (one, other) = (key(newer, 1), key(older, 2));
    let (low, high) = (one.min(other), one.max(other));
    let cut = &low[..low.len() / 2];
    [
        (Bound::Unbounded, Bound::Unbounded),
        (Bound::Included(low), Bound::Excluded(high)),
        (Bound::Excluded(cut), Bound::Included(high)),
        (Bound::Excluded(high), Bound::Included(low)),
    ]
}

/// The difference of two versions, or of a branch, is that of their models: both trees, both ways,
/// from both ends, whole and between bounds.
pub(super) fn check_diff(newer: (&One, &Model), older: (&One, &Model), seed: u64) {
    fn trees(one: &One) -> [TreeRef<'_>; 2] {
        [one.0.rows(), one.0.index(0)]
    }
    let models = (entries(newer.1), entries(older.1));
    for tree in 0..2 {
        let (new, old) = (trees(newer.0)[tree], trees(older.0)[tree]);
        let (new_model, old_model) = (&models.0[tree], &models.1[tree]);
        check_cost(new, old);
        let all = (expected(new_model, old_model), expected(old_model, new_model));
        for (at, bounds) in bounds(new_model, old_model, seed).into_iter().enumerate() {
            let inside = |all: &[Differing]| -> Vec<_> {
                all.iter().filter(|(key, ..)| contains(bounds, key)).cloned().collect()
            };
            let mixed = seed.rotate_left(at as u32 * 8).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let forth = inside(&all.0);
            for ends in [u64::MAX, 0, mixed] {
                assert_eq!(taken(new.diff(old, bounds.0, bounds.1), ends), forth);
            }
            assert_eq!(taken(old.diff(new, bounds.0, bounds.1), mixed), inside(&all.1));
        }
    }
}

/// The differences of all pairs among some versions.
pub(super) fn check_diffs(newest: &Held, held: &[Held], seed: u64) {
    let pick = seed as usize;
    let others = (0..held.len().min(3)).map(|at| &held[(pick + at * 5) % held.len()]);
    let versions: Vec<_> = others.chain([newest]).collect();
    for (at, newer) in versions.iter().enumerate() {
        for older in &versions[..=at] {
            check_diff((&newer.trees, &newer.model), (&older.trees, &older.model), seed);
        }
    }
}

/// A world with so many rows, under keys that are spread over the whole range.
fn filled(rows: u32) -> World {
    let mut world = World::new();
    write(&mut world, (0..rows).map(|n| (n, Some(n))));
    world
}

fn key(n: u32) -> [u8; 4] {
    n.wrapping_mul(0x9E37_79B9).to_be_bytes()
}

/// Puts or deletes rows in one transaction; gives the version before it.
fn write(world: &mut World, rows: impl Iterator<Item = (u32, Option<u32>)>) -> Held {
    let (mut trees, mut model) = (world.newest.trees.clone(), world.newest.model.clone());
    let mut writer = world.store.write();
    for (n, number) in rows {
        world.set(&mut writer, &mut trees, &mut model, &key(n), number);
    }
    world.commit(writer, trees, model)
}

/// Takes all from one end and counts them.
fn count(differences: &mut Differences<'_>, is_front: bool) -> usize {
    let mut count = 0;
    while if is_front { differences.next() } else { differences.next_back() }.is_some() {
        count += 1;
    }
    count
}

/// Nodes that were gone into or read for a first key.
fn visited(differences: &Differences<'_>) -> usize {
    let (entered, read) = differences.visits();
    entered.len() + read
}

/// Differences and the nodes that were visited to find them, from either end.
fn cost(newer: &One, older: &One, is_front: bool) -> (usize, usize) {
    let (newer, older) = (newer.0.rows(), older.0.rows());
    let mut differences = newer.diff(older, Bound::Unbounded, Bound::Unbounded);
    let count = count(&mut differences, is_front);
    (count, visited(&differences))
}

/// No node that both trees reach is gone into, no node twice, and for each of the others, and for
/// each difference, at most two first keys are read.
fn check_cost(newer: TreeRef<'_>, older: TreeRef<'_>) {
    let nodes = |tree: TreeRef<'_>| {
        let (mut nodes, mut rows) = (BTreeSet::new(), BTreeSet::new());
        tree.root().into_iter().for_each(|root| reach(root, &mut nodes, &mut rows));
        nodes
    };
    let unshared: BTreeSet<_> = nodes(newer).symmetric_difference(&nodes(older)).copied().collect();
    let height = [newer, older].map(|tree| tree.root().map_or(0, |root| root.level() + 1));
    let height = usize::from(height[0].max(height[1]));
    for is_front in [true, false] {
        let mut differences = newer.diff(older, Bound::Unbounded, Bound::Unbounded);
        let count = count(&mut differences, is_front);
        let (entered, read) = differences.visits();
        let distinct: BTreeSet<_> = entered.iter().map(|node| node.address()).collect();
        assert_eq!(distinct.len(), entered.len(), "no node is gone into twice");
        assert!(distinct.is_subset(&unshared), "no shared node is gone into");
        let most = 2 * height * (entered.len() + count);
        assert!(read <= most, "{read} nodes read, at most {most}");
    }
}

const ROWS: u32 = if cfg!(fsmdb_small_nodes) { 20_000 } else { 100_000 };

/// Nodes on the way to a row, with some to spare.
const HEIGHT: usize = if cfg!(fsmdb_small_nodes) { 8 } else { 4 };

#[test]
fn ten_changes_are_found_by_a_look_at_the_nodes_that_changed() {
    let mut world = filled(ROWS);
    let mut number = ROWS;
    let mut held = Vec::new();
    for kind in 0..3 {
        let rows: Vec<_> = (0..10)
            .map(|at| {
                number += 1;
                let n = if kind == 0 { number } else { at * 1_931 + kind };
                (n, (kind != 2).then_some(number))
            })
            .collect();
        held.push(write(&mut world, rows.into_iter()));
    }
    let versions: Vec<_> = held.iter().chain([&world.newest]).collect();
    for (at, newer) in versions.iter().enumerate() {
        for (before, older) in versions[..=at].iter().enumerate() {
            for (newer, older) in [(newer, older), (older, newer)] {
                for is_front in [true, false] {
                    let (count, visited) = cost(&newer.trees, &older.trees, is_front);
                    let changes = 10 * (at - before);
                    assert_eq!(count, changes);
                    // On both sides, each on its way, and the way down to its first key.
                    let most = 2 * changes * HEIGHT * 3;
                    assert!(visited <= most, "{visited} of at most {most}");
                }
            }
        }
    }
    let most = if cfg!(fsmdb_small_nodes) { 300 } else { 150 };
    let (_, visited) = cost(&world.newest.trees, &held[2].trees, true);
    assert!(visited <= most, "{visited} nodes for ten changes");
}

#[test]
fn a_range_looks_at_the_changes_inside_it_alone() {
    let mut world = filled(ROWS);
    let before = write(&mut world, (0..ROWS).map(|n| (n, Some(n + ROWS))));
    let low = [0x80, 0, 0, 0];
    let high = [0x80, 0x10, 0, 0];
    let bounds = (Bound::Included(&low[..]), Bound::Excluded(&high[..]));
    let (newer, older) = (world.newest.trees.0.rows(), before.trees.0.rows());
    for is_front in [true, false] {
        let mut differences = newer.diff(older, bounds.0, bounds.1);
        let count = count(&mut differences, is_front);
        assert_eq!(count, newer.count(bounds.0, bounds.1));
        let visited = visited(&differences);
        assert!(visited <= count + 4 * HEIGHT, "{visited}");
    }
}

#[test]
fn a_branch_differs_from_its_origin_by_its_own_changes() {
    let world = filled(ROWS);
    let (mut trees, mut model) = (world.newest.trees.clone(), world.newest.model.clone());
    let mut branch = Branch::new(&world.newest.version);
    for n in 0..10 {
        let number = (n % 2 == 0).then_some(ROWS + n);
        world.set(&mut branch, &mut trees, &mut model, &key(n * 977), number);
    }
    let origin = (&world.newest.trees, &world.newest.model);
    check_diff((&trees, &model), origin, 0x5EED);
    let (count, visited) = cost(&trees, origin.0, true);
    assert_eq!(count, 10);
    assert!(visited <= 2 * 10 * HEIGHT * 3, "{visited}");
}

#[test]
fn a_leaf_that_has_become_the_root_is_shared_still() {
    let mut world = World::new();
    let (mut held, mut leaves) = (Vec::new(), Vec::new());
    let mut kept = 0;
    for is_put in [true, false] {
        let (mut trees, mut model) = (world.newest.trees.clone(), world.newest.model.clone());
        let mut writer = world.store.write();
        let mut numbers: Vec<u32> = (kept..500).collect();
        if !is_put {
            numbers.reverse();
        }
        for n in numbers {
            let number = is_put.then_some(n);
            world.set(&mut writer, &mut trees, &mut model, &n.to_be_bytes(), number);
        }
        let mut leaf = trees.0.rows().root().unwrap();
        while !leaf.is_leaf() {
            leaf = leaf.child(0);
        }
        kept = leaf.len() as u32;
        leaves.push(leaf);
        held.push(world.commit(writer, trees, model));
    }
    let (newer, older) = (&world.newest, &held[1]);
    assert_eq!(leaves[0], leaves[1], "it was not touched");
    assert_eq!(newer.trees.0.rows().root(), Some(leaves[1]));
    check_diff((&newer.trees, &newer.model), (&older.trees, &older.model), 3);
}

#[test]
fn trees_of_unlike_heights_and_of_none_are_compared() {
    let mut world = World::new();
    let mut held = vec![write(&mut world, std::iter::empty())];
    for rows in [1, 7, 60, 700, 5_000] {
        held.push(write(&mut world, (0..rows).map(|n| (n, Some(n + rows * 8)))));
    }
    for rows in [4_000_u32, 300, 40, 3, 0] {
        held.push(write(&mut world, (rows..5_000).map(|n| (n, None))));
    }
    for newer in held.iter().chain([&world.newest]) {
        for older in &held {
            check_diff((&newer.trees, &newer.model), (&older.trees, &older.model), 77);
        }
    }
    let other = filled(500);
    let other = (&other.newest.trees, &other.newest.model);
    held.iter().for_each(|held| {
        let found = taken(
            held.trees.0.rows().diff(other.0.0.rows(), Bound::Unbounded, Bound::Unbounded),
            0xF0F0,
        );
        let keys: BTreeMap<_, _> = held.model.iter().chain(other.1).collect();
        assert_eq!(found.len(), keys.len(), "stores share no row");
    });
}
