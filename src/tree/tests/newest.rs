//! The newest row of a range, against a look at each; and that the search leaves out what is older.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::edges::{borrow, bound, key};
use super::world::{World, entry_of};
use crate::revision::Revision;
use crate::tree::TreeRef;

/// Commits that put some keys and delete others, each with a savepoint in its middle or not.
type Commits = Vec<(Vec<(Vec<u8>, Option<u32>)>, bool)>;

fn commits() -> impl Strategy<Value = Commits> {
    let step = (key(), prop::option::weighted(0.8, any::<u32>()));
    prop::collection::vec((prop::collection::vec(step, 1..8), any::<bool>()), 0..12)
}

fn check(tree: TreeRef<'_>, low: &std::ops::Bound<Vec<u8>>, high: &std::ops::Bound<Vec<u8>>) {
    let (low, high) = (borrow(low), borrow(high));
    let expected = tree.range(low, high).map(|row| row.meta().modified).max();
    let found = tree.newest(low, high).map(|row| row.meta().modified);
    assert_eq!(found, expected, "{low:?} to {high:?}");
}

/// Writes one transaction whose rows say the next revision.
fn commit(world: &mut World, steps: &[(Vec<u8>, Option<u32>)], has_savepoint: bool) {
    world.revision += 1;
    let mut writer = world.store.write();
    let (mut trees, mut model) = (world.newest.trees.clone(), world.newest.model.clone());
    for (at, (key, number)) in steps.iter().enumerate() {
        if has_savepoint && at == steps.len() / 2 {
            drop(writer.peek(&trees));
        }
        world.set(&mut writer, &mut trees, &mut model, key, *number);
    }
    drop(world.commit(writer, trees, model));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 64 } else { 1_000 }))]

    #[test]
    fn the_newest_row_of_a_range_is_that_of_a_look_at_each(
        restored in prop::collection::btree_map(key(), (any::<u32>(), 0..100_u64), 0..300),
        commits in commits(),
        bounds in prop::collection::vec((bound(), bound()), 1..12),
    ) {
        let mut world = World::restored(&restored);
        world.revision = 100;
        for (steps, has_savepoint) in &commits {
            commit(&mut world, steps, *has_savepoint);
            for (low, high) in &bounds {
                check(world.newest.trees.0.rows(), low, high);
                check(world.newest.trees.0.index(0), low, high);
            }
        }
        for (low, high) in &bounds {
            check(world.newest.trees.0.rows(), low, high);
        }
    }
}

/// Of ten thousand rows the search meets those of a few leaves.
#[test]
fn the_search_goes_down_the_way_of_the_last_change() {
    let keys: Vec<_> = (0..10_000_u32).map(|n| n.to_be_bytes().to_vec()).collect();
    let all: BTreeMap<_, _> = keys.iter().map(|key| (key.clone(), (0, 7))).collect();
    let mut world = World::restored(&all);
    world.revision = 10;
    let low = std::ops::Bound::Included(&keys[1_000][..]);
    let high = std::ops::Bound::Excluded(&keys[9_000][..]);
    let look = |world: &World| {
        let (row, leaves) = world.newest.trees.0.rows().newest_and_visits(low, high);
        (row.map(|row| row.meta().modified), leaves)
    };
    let (modified, leaves) = look(&world);
    assert_eq!(modified, Some(Revision(7)));
    assert!(leaves > 100, "of a restored table it knows nothing: {leaves}");
    for (at, number) in [(5_000, 1), (42, 2), (8_999, 3), (20, 4), (5_001, 5), (9_000, 6)] {
        commit(&mut world, &[(keys[at].clone(), Some(number))], false);
    }
    let (modified, leaves) = look(&world);
    assert_eq!(modified, Some(Revision(15)));
    assert!(leaves <= 3, "{leaves} leaves");
    let one = entry_of(1, &keys[5_000]);
    let found = world
        .newest
        .trees
        .0
        .index(0)
        .newest(std::ops::Bound::Included(&one), std::ops::Bound::Included(&one));
    assert_eq!(found.map(|row| row.meta().modified), Some(Revision(11)));
}
