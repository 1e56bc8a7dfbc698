//! What must hold of trees and memory at any time.

use std::collections::BTreeSet;

use super::world::{Counted, Held, Model, One, World, entry_of};
use crate::tree::edit::Item;
use crate::tree::node::{FANOUT, NodePtr};
use crate::tree::row::RowPtr;
use crate::tree::{Tree, TreeRef};

/// Checks the shape of one tree: order, separators, counts, levels.
pub(super) fn check_tree(tree: &Tree) {
    let Some(root) = tree.root else {
        assert_eq!(tree.len, 0);
        return;
    };
    assert!(root.is_leaf() || root.len() > 1, "an inner root has two children");
    assert_eq!(check_node(root, None, None), tree.len);
}

/// Checks the keys of a sub-tree against the bounds that its parent gives; returns its entries.
fn check_node(node: NodePtr, low: Option<&[u8]>, high: Option<&[u8]>) -> u64 {
    assert!((1..=FANOUT).contains(&node.len()));
    let keys: Vec<_> = (0..node.len()).map(|index| key_of(node, index)).collect();
    let keyed = &keys[usize::from(!node.is_leaf())..];
    assert!(keyed.is_sorted_by(|one, other| one < other), "keys ascend");
    assert!(keyed.iter().all(|key| low.is_none_or(|low| low <= key.as_slice())));
    assert!(keyed.iter().all(|key| high.is_none_or(|high| key.as_slice() < high)));
    if node.is_leaf() {
        return node.len() as u64;
    }
    let mut total = 0;
    for index in 0..node.len() {
        let child = node.child(index);
        assert_eq!(child.level() + 1, node.level());
        assert!(child.birth() <= node.birth(), "a node leads only to older ones");
        let low = if index == 0 { low } else { Some(keys[index].as_slice()) };
        let high = keys.get(index + 1).map_or(high, |key| Some(key));
        let count = check_node(child, low, high);
        assert_eq!(node.counts()[index], count, "counts are those of the children");
        total += count;
    }
    total
}

fn key_of(node: NodePtr, index: usize) -> Vec<u8> {
    let mut key = node.prefix().to_vec();
    node.push_suffix(index, |piece| key.extend_from_slice(piece));
    key
}

/// Reads a version in full, in every way, and compares it with what it must show.
pub(super) fn check_version(trees: &One, model: &Model) {
    trees.0.trees().iter().for_each(check_tree);
    assert_eq!(trees.0.rows().len(), model.len());
    let number = |row: crate::tree::RowRef<'_>| row.typed::<Counted>().number;
    let forward: Vec<_> = trees.0.rows().iter().map(number).collect();
    assert_eq!(forward, model.values().copied().collect::<Vec<_>>());
    let mut backward: Vec<_> = trees.0.rows().iter().rev().map(number).collect();
    backward.reverse();
    assert_eq!(backward, forward);
    let mut keyed = trees.0.rows().keyed();
    for (key, value) in model {
        let (found, row) = keyed.next().unwrap();
        assert_eq!((found, number(row)), (key.as_slice(), *value));
        assert_eq!(trees.0.rows().get(key).map(number), Some(*value));
    }
    assert!(keyed.next().is_none());
    let mut entries: Vec<_> =
        model.iter().map(|(key, value)| (entry_of(*value, key), *value)).collect();
    entries.sort();
    let index: TreeRef<'_> = trees.0.index(0);
    assert_eq!(
        index.iter().map(number).collect::<Vec<_>>(),
        entries.iter().map(|entry| entry.1).collect::<Vec<_>>()
    );
}

/// Collects the addresses of the nodes below `node`, itself included, and the rows.
pub(super) fn reach(node: NodePtr, nodes: &mut BTreeSet<*const u8>, rows: &mut BTreeSet<RowPtr>) {
    if !nodes.insert(node.address()) {
        return;
    }
    if node.is_leaf() {
        rows.extend(node.rows());
        return;
    }
    (0..node.len()).for_each(|index| reach(node.child(index), nodes, rows));
}

impl World {
    /// Memory holds exactly what the versions that are alive can reach, once the dead are buried.
    pub(super) fn audit<'a>(&'a mut self, held: impl Iterator<Item = &'a Held>) {
        self.settle();
        let (mut nodes, mut rows) = (BTreeSet::new(), BTreeSet::new());
        let mut is_exact = true;
        for version in held.chain([&self.newest]) {
            is_exact &= !version.is_peek;
            for root in version.trees.0.trees().iter().filter_map(|tree| tree.root) {
                reach(root, &mut nodes, &mut rows);
            }
        }
        let writer = self.store.write();
        if !is_exact {
            assert!(writer.live_nodes() >= nodes.len() && self.alive() >= rows.len());
            return;
        }
        let retired: Vec<_> = writer.waiting().collect();
        for item in &retired {
            match item {
                Item::Node(node) => assert!(nodes.contains(&node.address()), "freed too late"),
                Item::Row(row) => assert!(rows.contains(row), "freed too late"),
            }
        }
        assert_eq!(writer.live_nodes(), nodes.len(), "live nodes are those versions reach");
        assert_eq!(self.alive(), rows.len(), "live rows are those versions reach");
    }
}
