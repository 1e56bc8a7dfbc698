//! What trees and the freeing of memory owe to those who wait: nodes that are not empty, commits
//! that do not pay for others; and keys of which few fit into a node.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::audit::check_version;
use super::world::{Held, World};
use crate::limits::{KEY_BYTES_MAX, RECLAIM_ITEMS_BASE, RECLAIM_ITEMS_FACTOR};
use crate::tree::node::{FANOUT, NodePtr};

const ROWS: u32 = 3_000;

fn key(number: u32) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

/// The numbers below `ROWS` without a pattern.
fn scattered() -> Vec<u32> {
    (0..ROWS).map(|number| number * 1_129 % ROWS).collect()
}

/// Puts or deletes the keys in transactions of a hundred statements.
fn write(world: &mut World, numbers: &[u32], value: Option<u32>) {
    for some in numbers.chunks(100) {
        let mut writer = world.store.write();
        let (mut trees, mut model) = (world.newest.trees.clone(), world.newest.model.clone());
        for number in some {
            world.set(&mut writer, &mut trees, &mut model, &key(*number), value);
        }
        drop(world.commit(writer, trees, model));
    }
}

fn leaves(node: NodePtr) -> usize {
    if node.is_leaf() {
        return 1;
    }
    (0..node.len()).map(|at| leaves(node.child(at))).sum()
}

/// Entries to a leaf on the average, of the tree that has fewest.
fn density(world: &World) -> f64 {
    let trees = world.newest.trees.0.trees().iter();
    let densities = trees.filter_map(|tree| Some((tree.root?, tree.len)));
    densities.map(|(root, len)| len as f64 / leaves(root) as f64).fold(f64::MAX, f64::min)
}

#[test]
fn a_tree_stays_dense_whatever_is_deleted() {
    let ascending: Vec<_> = (0..ROWS).collect();
    let descending: Vec<_> = (0..ROWS).rev().collect();
    let evens = (0..ROWS).step_by(2);
    let both: Vec<_> = evens.clone().chain(evens.map(|even| even + 1)).collect();
    for order in [ascending, descending, both, scattered()] {
        let mut world = World::new();
        write(&mut world, &scattered(), Some(1));
        let (full, bytes) = (density(&world), world.newest.trees.0.rows().node_bytes());
        assert!(full > 0.6 * FANOUT as f64, "after inserts: {full}");
        assert!(bytes < 60 * ROWS as usize, "{bytes} bytes");
        for left in [ROWS / 2, ROWS / 4, ROWS / 10] {
            let gone = (ROWS - left) as usize;
            write(&mut world, &order[..gone], None);
            let found = density(&world);
            assert!(found > FANOUT as f64 / 4.0, "{left} left: {found} entries a leaf");
        }
        let bytes = world.newest.trees.0.rows().node_bytes();
        assert!(bytes < 150 * ROWS as usize / 10, "{bytes} bytes for a tenth");
        check_version(&world.newest.trees, &world.newest.model);
        world.audit(std::iter::empty());
    }
}

/// Ascending inserts fill the leaves that they leave behind.
#[test]
fn ascending_inserts_leave_full_leaves() {
    let mut world = World::new();
    let ascending: Vec<_> = (0..ROWS).collect();
    write(&mut world, &ascending, Some(1));
    let rows = world.newest.trees.0.trees()[0];
    let density = rows.len as f64 / rows.root.map_or(1, leaves) as f64;
    assert!(density > 0.8 * FANOUT as f64, "{density} entries a leaf");
}

#[test]
fn no_commit_frees_much_more_than_it_replaced() {
    let mut world = World::new();
    write(&mut world, &scattered(), Some(1));
    let held = {
        let (writer, trees, model) = begin(&world);
        world.commit(writer, trees, model)
    };
    write(&mut world, &scattered(), Some(2));
    world.settle();
    drop(held);
    let mut backlogs = Vec::new();
    loop {
        let (mut writer, mut trees, mut model) = begin(&world);
        world.set(&mut writer, &mut trees, &mut model, &key(7), Some(3));
        drop(world.commit(writer, trees, model));
        let (writer, trees, _) = begin(&world);
        backlogs.push(writer.backlog());
        abort(writer, &trees);
        if backlogs.last() == Some(&0) {
            break;
        }
    }
    // A row and the nodes above it in two trees are replaced each time, and looking frees as well.
    let most = 2 * RECLAIM_ITEMS_BASE + RECLAIM_ITEMS_FACTOR * 16;
    assert!(backlogs[0] > 3_000, "what the version kept waits: {}", backlogs[0]);
    let freed = backlogs.windows(2).map(|pair| pair[0] - pair[1]);
    assert!(freed.clone().all(|freed| (1..=most).contains(&freed)), "{backlogs:?}");
    assert!(freed.rev().skip(1).all(|freed| freed >= RECLAIM_ITEMS_BASE), "{backlogs:?}");
    world.audit(std::iter::empty::<&Held>());
}

fn begin(
    world: &World,
) -> (crate::tree::Writer<super::world::One>, super::world::One, super::world::Model) {
    (world.store.write(), world.newest.trees.clone(), world.newest.model.clone())
}

fn abort(mut writer: crate::tree::Writer<super::world::One>, trees: &super::world::One) {
    writer.abort(trees, &mut crate::tree::Doomed::default());
}

/// Built from below and one by one, with keys of which a node holds only some.
#[test]
fn long_keys_share_nodes_as_far_as_they_fit() {
    let longest = KEY_BYTES_MAX - 20;
    let long = |number: u32| {
        let len = 4 + (number as usize * 2_654_435_761) % longest;
        [&key(number * 7_919 % 100_003)[..], &vec![number as u8; len][..]].concat()
    };
    let rows: BTreeMap<_, _> = (0..400).map(|number| (long(number), (number, 1))).collect();
    let built = World::restored(&rows);
    check_version(&built.newest.trees, &built.newest.model);
    let mut put = World::new();
    let (mut writer, mut trees, mut model) = begin(&put);
    for (key, (number, _)) in &rows {
        put.set(&mut writer, &mut trees, &mut model, key, Some(*number));
    }
    drop(put.commit(writer, trees, model));
    for world in [&built, &put] {
        check_version(&world.newest.trees, &world.newest.model);
        let tree = world.newest.trees.0.rows();
        let bytes: usize = rows.keys().map(Vec::len).sum();
        assert!(tree.node_bytes() < 2 * bytes, "{} for {bytes}", tree.node_bytes());
        let mut found = Vec::new();
        for (at, key) in rows.keys().enumerate() {
            tree.key_at(at, &mut found);
            assert_eq!(found, *key);
            let one = Bound::Included(key.as_slice());
            assert_eq!(tree.range(one, one).count(), 1);
            assert_eq!(tree.range(one, Bound::Excluded(key)).count(), 0);
        }
        tree.key_at(rows.len(), &mut found);
        assert!(found.is_empty());
        assert!(tree.is_same(tree) && !tree.is_same(world.newest.trees.0.index(0)));
    }
}
