//! The threads of a node do not wait for each other's long work, and end when it stops.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::group::{self, Counters, Group, LIMIT, Settings, add, count};
use fsmdb_node::node::Node;

const SMALL: fn() -> Settings =
    || Settings { snapshot_entries: 50, tail_entries: 10, ..Settings::default() };

/// Three nodes, the id of the leader and that of a follower which is cut off, and so far behind
/// that it needs a snapshot.
fn one_behind() -> (Group, u64, u64) {
    let group = Group::with(3, SMALL());
    let leader = group.leader();
    let behind = group.other_than(leader);
    fall_behind(&group, behind);
    let leader = group.leader();
    (group, leader, behind)
}

fn fall_behind(group: &Group, behind: u64) {
    group.net.isolate(behind);
    let last = group.node(behind).status().raft.last_index;
    // It waits for whoever answered a moment ago, so it takes a while.
    group::until("the log was compacted", || {
        let node = group.node(group.leader());
        propose(node, 10);
        node.status().raft.first_index > last + 1
    });
}

/// Waits until a node has all that another one has.
fn catches_up(group: &Group, behind: u64, with: u64) {
    let state = |id| count(&group.node(id).read_stale(), "a");
    group::until("it has caught up", || state(behind) == state(with));
}

fn propose(node: &Node<Counters>, times: u64) {
    // On a slow machine the leader may change, and the outcome of some be unknown.
    let applied = |_: &u64| node.propose(&add("a", 1)).wait().is_ok();
    let count = (0..10 * times).filter(applied).take(times as usize).count();
    assert_eq!(count as u64, times, "most are applied");
}

/// Stops a node on a thread of its own, which says when that is done.
fn stop_aside(node: &Node<Counters>) -> mpsc::Receiver<()> {
    let (done, stopped) = mpsc::channel();
    let node = node.clone();
    thread::spawn(move || {
        node.stop();
        done.send(())
    });
    stopped
}

#[test]
fn a_node_votes_while_a_received_snapshot_is_verified() {
    let (mut group, leader, behind) = one_behind();
    let gate = &group.files(behind).adopts;
    gate.close();
    group.net.heal();
    gate.wait_for_more_than(0);
    group.crash(leader);
    let third = group.other_than(behind);
    group::until("the third is elected", || group.node(third).status().is_leader());
    let files = group.files(behind);
    assert_eq!(files.opens.reached(), 0, "nothing was installed");
    files.adopts.open();
    catches_up(&group, behind, third);
}

#[test]
fn a_snapshot_arrives_while_another_is_being_built() {
    let group = Group::with(3, SMALL());
    let leader = group.leader();
    let behind = group.other_than(leader);
    let files = group.files(behind);
    files.builds.close();
    propose(group.node(leader), 60);
    files.builds.wait_for_more_than(0);
    fall_behind(&group, behind);
    group.net.heal();
    catches_up(&group, behind, leader);
    assert_eq!((files.opens.reached(), files.builds.reached()), (1, 1));
    files.builds.open();
    propose(group.node(leader), 100);
    group::until("it builds again", || files.builds.reached() > 1);
    assert!(group.node(behind).status().is_running);
}

#[test]
fn a_snapshot_shows_while_it_is_built_verified_and_installed() {
    let (group, leader, behind) = one_behind();
    let (builder, receiver) = (group.files(leader), group.files(behind));
    let shows = |id: u64, what: &str| {
        let line = format!("fsmdb_snapshot_{what} 1\n");
        group::until(what, || group.node(id).metrics().contains(&line));
    };
    let underway = |id: u64| group.node(id).status().snapshots;
    receiver.adopts.close();
    receiver.opens.close();
    group.net.heal();
    shows(behind, "verifying");
    group::until("it is in the status", || underway(behind).is_verifying);
    receiver.adopts.open();
    shows(behind, "installing");
    group::until("it is in the status", || underway(behind).is_installing);
    assert!(!underway(behind).is_verifying);
    builder.builds.close();
    let before = builder.builds.reached();
    group::until("it builds", || {
        propose(group.node(leader), 10);
        builder.builds.reached() > before
    });
    shows(leader, "building");
    group::until("it is in the status", || underway(leader).is_building);
    builder.builds.open();
    group::until("it is built", || !underway(leader).is_building);
}

#[test]
fn a_stop_does_not_wait_for_a_snapshot_that_is_built() {
    let group = Group::with(1, SMALL());
    let node = group.node(group.leader());
    group.files(1).builds.close();
    propose(node, 60);
    group.files(1).builds.wait_for_more_than(0);
    stop_aside(node).recv_timeout(LIMIT).expect("it has stopped");
    assert!(node.status().error.is_none());
}

#[test]
fn a_stop_does_not_wait_for_a_snapshot_that_is_verified() {
    let (group, _, behind) = one_behind();
    let gate = &group.files(behind).adopts;
    gate.close();
    group.net.heal();
    gate.wait_for_more_than(0);
    stop_aside(group.node(behind)).recv_timeout(LIMIT).expect("it has stopped");
}

#[test]
fn a_stop_does_not_wait_for_a_snapshot_that_is_installed_and_the_next_start_installs_it() {
    let (mut group, leader, behind) = one_behind();
    let gate = &group.files(behind).opens;
    gate.close();
    group.net.heal();
    gate.wait_for_more_than(0);
    stop_aside(group.node(behind)).recv_timeout(LIMIT).expect("it has stopped");
    assert!(group.node(behind).status().error.is_none());
    gate.open();
    group.crash(behind);
    group.start(behind);
    propose(group.node(leader), 1);
    catches_up(&group, behind, leader);
}

#[test]
fn whoever_stops_a_node_waits_until_it_has_stopped() {
    let group = Group::with(1, SMALL());
    let node = group.node(group.leader());
    let files = group.files(1);
    files.forbid_to_cancel();
    files.builds.close();
    propose(node, 60);
    files.builds.wait_for_more_than(0);
    let stopped = [stop_aside(node), stop_aside(node)];
    group::until("the raft thread ends", || node.propose(&add("a", 1)).wait().is_err());
    let later = stop_aside(node);
    // Long enough for a call that does not wait to return.
    thread::sleep(Duration::from_millis(200));
    let all = stopped.into_iter().chain([later]);
    let all: Vec<_> = all.inspect(|stop| assert!(stop.try_recv().is_err(), "too early")).collect();
    files.builds.open();
    for stopped in all {
        stopped.recv_timeout(LIMIT).expect("it has stopped");
    }
}

#[test]
fn a_snapshot_message_with_the_file_of_another_entry_is_refused_and_stops_nobody() {
    let group = Group::with(3, SMALL());
    let leader = group.leader();
    let behind = group.other_than(leader);
    propose(group.node(leader), 60);
    group::until("there is a snapshot", || group.node(leader).status().snapshot_index > 1);
    let (reference, file) = group.files(leader).newest();
    group.net.substitute(reference, &file);
    fall_behind(&group, behind);
    group.net.heal();
    group.files(behind).adopts.wait_for_more_than(1);
    let node = group.node(behind);
    let text = node.metrics();
    assert!(!text.contains("fsmdb_snapshots_refused_total 0"), "{text}");
    assert!(node.status().is_running, "{:?}", node.status().error);
    group.net.send_what_is_asked_for();
    catches_up(&group, behind, leader);
}
