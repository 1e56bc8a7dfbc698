//! A wrong request of a peer does not keep a node from doing what a right one asks.

use std::sync::mpsc::Receiver;

use fsmdb_node::limits::ERASURES_WAITING_MAX;
use fsmdb_node::node::NodeErasure;
use serde::Serialize;

use crate::group::{self, Group, LIMIT, add};

/// As a peer writes it.
#[derive(Serialize)]
enum Request {
    EraseHistory { index: u64 },
}

/// Asks a node to erase up to an entry, as a peer that is out of its mind.
fn ask_to_erase(group: &Group, to: u64, index: u64) -> Receiver<Vec<u8>> {
    let body = rmp_serde::to_vec_named(&Request::EraseHistory { index }).expect("it is small");
    group::until("the peer is known", || group.net.peers_of(1).contains_key(&2));
    group.net.ask(1, to, body)
}

fn assert_erases(group: &Group) {
    let (at, _) = group.node(1).propose(&add("a", 1)).wait().expect("applied");
    group::until("everybody has it", || {
        [1, 2, 3].iter().all(|id| group.node(*id).read_stale().applied() >= at)
    });
    let report = group.node(1).erase_history_within(at, LIMIT / 2).wait().expect("a leader");
    for (id, node) in &report.nodes {
        assert!(matches!(node, NodeErasure::Erased { .. }), "node {id}: {node:?}");
    }
}

#[test]
fn an_entry_that_never_comes_does_not_keep_a_node_from_erasing() {
    let group = Group::of(3);
    group.leader();
    let never = ask_to_erase(&group, 2, u64::MAX);
    assert_erases(&group);
    assert!(never.try_recv().is_err(), "it was called done");
}

#[test]
fn so_many_entries_that_never_come_make_room_for_one_that_does() {
    let group = Group::of(3);
    group.leader();
    let asked = |n: usize| ask_to_erase(&group, 2, u64::MAX - n as u64);
    let never: Vec<_> = (0..=ERASURES_WAITING_MAX).map(asked).collect();
    never[0].recv_timeout(LIMIT).expect("the furthest is refused as busy");
    assert_erases(&group);
    assert!(never.last().is_some_and(|last| last.try_recv().is_err()), "it was called done");
}
