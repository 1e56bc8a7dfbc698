//! Replicas on threads: what a user of a cluster relies on.

use std::time::Duration;

use slog::{Discard, Logger, o};

use super::kv::{self, Command, Kv, set, value};
use crate::limits::COMMAND_BYTES_MAX;
use crate::raft::{Builder, Cluster, ClusterError, Consistency, ProposeError};
use crate::revision::Applied;
use crate::{Event, Lagged, Revision, WaitError, Wake};

const LIMIT: Duration = Duration::from_secs(10);

fn builder(replicas: &[u64]) -> Builder<Kv> {
    let logger = Logger::root(Discard, o!());
    Cluster::builder(kv::machine, &logger)
        .replicas(replicas.iter().copied())
        .tick(Duration::from_millis(10))
        .seed(7)
        .deadline(LIMIT)
}

fn three() -> Cluster<Kv> {
    let cluster = builder(&[1, 2, 3]).start().expect("starts");
    cluster.wait_for_leader(LIMIT).expect("a leader");
    cluster
}

fn write(cluster: &Cluster<Kv>, from: u64, to: u64) -> u64 {
    let mut last = 0;
    for number in from..to {
        let (at, reply) = cluster.propose(&set(number, number)).expect("committed");
        assert_eq!(reply, Ok(at.index));
        last = at.index;
    }
    last
}

fn same_everywhere(cluster: &Cluster<Kv>, ids: &[u64], index: u64) {
    cluster.wait_for_applied(index, LIMIT).expect("applied everywhere");
    let states = ids.iter().map(|id| kv::bytes(&cluster.machine(*id).expect("known").read()));
    let states: Vec<_> = states.collect();
    assert!(states.windows(2).all(|pair| pair[0] == pair[1]), "replicas differ");
}

fn follower(cluster: &Cluster<Kv>) -> u64 {
    let leader = cluster.leader().expect("a leader");
    (1..=3).find(|id| *id != leader).expect("three replicas")
}

#[test]
fn a_proposal_is_answered_and_reaches_every_replica() {
    let cluster = three();
    let last = write(&cluster, 0, 50);
    same_everywhere(&cluster, &[1, 2, 3], last);
    let (at, reply) = cluster.propose(&Command::Refuse).expect("committed, though refused");
    assert_eq!(reply, Err("refused".to_owned()));
    assert!(at.index > last);
    let counters = cluster.counters();
    assert_eq!(counters.elections, 1);
    assert!(counters.entries_applied >= 150);
}

#[test]
fn a_follower_names_the_leader_instead_of_forwarding() {
    let cluster = three();
    write(&cluster, 0, 1);
    cluster.wait_for_applied(3, LIMIT).expect("everybody heard of the leader");
    let (leader, other) = (cluster.leader(), follower(&cluster));
    let refused = cluster.propose_at(other, &set("k", "v")).expect_err("not the leader");
    assert_eq!(refused, ProposeError::NotLeader { leader });
    assert!(refused.is_retryable());
}

#[test]
fn a_linearizable_read_sees_every_acknowledged_write() {
    let cluster = three();
    let other = follower(&cluster);
    for number in 0..20 {
        cluster.propose(&set("k", number)).expect("committed").1.expect("not refused");
        let read = cluster.read(Consistency::Linearizable).expect("confirmed");
        assert_eq!(value(&read, "k"), Some(number.to_string()));
        let read = cluster.read_at(other, Consistency::Linearizable).expect("confirmed");
        assert_eq!(value(&read, "k"), Some(number.to_string()));
        let bounded = Consistency::Bounded { age: Duration::ZERO, entries: 0 };
        let read = cluster.read_at(other, bounded).expect("confirmed");
        assert_eq!(value(&read, "k"), Some(number.to_string()));
        cluster.read_at(other, Consistency::Stale).expect("runs");
    }
}

#[test]
fn the_group_goes_on_without_its_leader_and_takes_it_back() {
    let cluster = three();
    write(&cluster, 0, 20);
    let old = cluster.leader().expect("a leader");
    cluster.stop(old).expect("known");
    assert!(!cluster.status(old).expect("known").is_running);
    assert_eq!(
        cluster.propose_at(old, &set("k", "v")).expect_err("stopped"),
        ProposeError::Stopped { id: old }
    );
    write(&cluster, 20, 40);
    assert_ne!(cluster.leader(), Some(old));
    cluster.restart(old).expect("restarts from its log");
    assert_eq!(cluster.restart(old), Err(ClusterError::Running { id: old }));
    let last = write(&cluster, 40, 45);
    same_everywhere(&cluster, &[1, 2, 3], last);
    assert_eq!(cluster.counters().snapshots_sent, 0, "caught up by log alone");
    assert!(cluster.counters().elections >= 2);
}

#[test]
fn a_replica_that_missed_the_log_catches_up_by_snapshot() {
    let cluster = builder(&[1, 2, 3]).log_entries(40, 5).start().expect("starts");
    let other = {
        cluster.wait_for_leader(LIMIT).expect("a leader");
        follower(&cluster)
    };
    cluster.stop(other).expect("known");
    write(&cluster, 0, 200);
    cluster.restart(other).expect("restarts");
    let last = write(&cluster, 200, 210);
    same_everywhere(&cluster, &[1, 2, 3], last);
    let counters = cluster.counters();
    assert!(counters.snapshots_installed >= 1, "{counters:?}");
    // A restart from a recorded snapshot and the entries after it.
    cluster.stop(other).expect("known");
    cluster.restart(other).expect("restarts from snapshot and log");
    let last = write(&cluster, 210, 215);
    same_everywhere(&cluster, &[1, 2, 3], last);
}

#[test]
fn a_fourth_replica_joins_from_a_snapshot_and_one_leaves_for_ever() {
    let cluster = builder(&[1, 2, 3]).log_entries(40, 5).start().expect("starts");
    write(&cluster, 0, 150);
    cluster.join(4).expect("joins");
    assert!(cluster.counters().snapshots_installed >= 1);
    let last = write(&cluster, 150, 160);
    same_everywhere(&cluster, &[1, 2, 3, 4], last);
    assert_eq!(cluster.join(4), Err(ClusterError::Exists { id: 4 }));

    let old = cluster.leader().expect("a leader");
    cluster.remove(old).expect("hands over and leaves");
    assert_ne!(cluster.leader(), Some(old));
    let last = write(&cluster, 160, 170);
    let left: Vec<u64> = (1..=4).filter(|id| *id != old).collect();
    same_everywhere(&cluster, &left, last);
    assert_eq!(cluster.add_learner(old), Err(ClusterError::Retired { id: old }));
    assert_eq!(cluster.restart(old), Err(ClusterError::NoSuchReplica { id: old }));
}

#[test]
fn leadership_moves_on_request() {
    let cluster = three();
    let other = follower(&cluster);
    cluster.transfer_leader(other).expect("moves");
    assert_eq!(cluster.leader(), Some(other));
    write(&cluster, 0, 3);
}

#[test]
fn a_cut_off_leader_answers_unknown_and_its_entry_never_appears() {
    let cluster = three();
    write(&cluster, 0, 5);
    let old = cluster.leader().expect("a leader");
    for other in (1..=3).filter(|id| *id != old) {
        cluster.partition(old, other);
    }
    let lost = cluster.propose_at(old, &set("lost", "x")).expect_err("nobody agrees");
    assert_eq!(lost, ProposeError::Unknown);
    assert!(!lost.is_retryable());
    // The read of a deposed leader is never answered from its own state.
    let last = write(&cluster, 5, 10);
    let read = cluster.read(Consistency::Linearizable).expect("the new leader answers");
    assert_eq!(value(&read, 9), Some("9".to_owned()));
    cluster.heal_all();
    same_everywhere(&cluster, &[1, 2, 3], last);
    let read = cluster.read(Consistency::Linearizable).expect("confirmed");
    assert_eq!(value(&read, "lost"), None);
}

#[test]
fn one_replica_and_two_are_groups_too() {
    let one = builder(&[1]).start().expect("starts");
    write(&one, 0, 10);
    one.stop(1).expect("known");
    one.restart(1).expect("restarts");
    let read = one.read(Consistency::Linearizable).expect("confirmed");
    assert_eq!(value(&read, 9), Some("9".to_owned()));
    one.join(2).expect("grows to two");
    write(&one, 10, 20);
    one.remove(1).expect("shrinks to the other one");
    let last = write(&one, 20, 30);
    same_everywhere(&one, &[2], last);
    let refused = one.remove(2).expect_err("the last voter stays");
    assert!(matches!(refused, ClusterError::Change(_)), "{refused}");
}

#[test]
fn the_end_of_a_replica_ends_what_waits_for_its_database() {
    let cluster = three();
    let last = write(&cluster, 0, 3);
    let other = follower(&cluster);
    let old = cluster.db(other).expect("known");
    let reached = old.wait_for(Revision(last)).wait(LIMIT).expect("caught up");
    let watch = kv::watch(&reached);
    let feed = old.changes().open();
    std::thread::scope(|scope| {
        let watched = scope.spawn(|| {
            let wake = watch.wait(None);
            (wake, cluster.status(other).expect("known").is_running)
        });
        let waited = scope.spawn(|| old.wait_for(Revision(u64::MAX)).wait(None));
        let followed = scope.spawn(|| feed.filter(|event| !is_bookmark(event)).count());
        cluster.stop(other).expect("known");
        assert_eq!(watched.join().expect("ends"), (Some(Wake::Closed), false));
        let wanted = Revision(u64::MAX);
        assert_eq!(waited.join().expect("ends").err(), Some(WaitError::Closed { wanted }));
        assert_eq!(followed.join().expect("ends"), 0);
    });
    // It can be read, not waited for.
    assert_eq!(value(&old.read(), 2), Some("2".to_owned()));
    assert_eq!(kv::watch(&old.read()).ended(), Some(Wake::Closed));
    cluster.restart(other).expect("restarts");
    let new = cluster.db(other).expect("known");
    let last = write(&cluster, 3, 6);
    let reached = new.wait_for(Revision(last)).wait(LIMIT).expect("caught up");
    assert_eq!(value(&reached, 5), Some("5".to_owned()));
    assert_eq!(value(&old.read(), 5), None);
}

fn is_bookmark(event: &Result<Event, Lagged>) -> bool {
    matches!(event, Ok(Event::Bookmark(_)))
}

#[test]
fn proposals_from_many_threads_are_each_applied_once() {
    let cluster = three();
    let mut indexes: Vec<u64> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8_u64)
            .map(|writer| {
                let cluster = &cluster;
                scope.spawn(move || {
                    let write = |number| {
                        let key = writer * 100 + number;
                        cluster.propose(&set(key, key)).expect("committed").0.index
                    };
                    (0..50).map(write).collect::<Vec<u64>>()
                })
            })
            .collect();
        writers.into_iter().flat_map(|writer| writer.join().expect("writes")).collect()
    });
    indexes.sort_unstable();
    assert!(indexes.windows(2).all(|pair| pair[0] < pair[1]), "two proposals in one entry");
    assert_eq!(indexes.len(), 400);
    same_everywhere(&cluster, &[1, 2, 3], indexes[399]);
}

#[test]
fn a_state_machine_that_fails_stops_its_replica_and_says_why() {
    let cluster = three();
    write(&cluster, 0, 3);
    let other = follower(&cluster);
    let last = write(&cluster, 3, 10);
    cluster.wait_for_applied(last, LIMIT).expect("applied everywhere");
    // Somebody feeds this one behind the log's back: the entries of the log no longer fit.
    let machine = cluster.machine(other).expect("known");
    let watch = kv::watch_nothing(&machine.read());
    let Applied { index, term } = machine.applied();
    machine.skip(Applied { index: index + 1, term: term + 1 }).expect("the next entry");
    drop(machine);
    write(&cluster, 10, 12);
    let stopped = cluster.wait_for_stop(other, LIMIT).expect("stops");
    assert_eq!(watch.wait(LIMIT), Some(Wake::Closed));
    assert!(stopped.error.is_some_and(|error| error.contains("state machine failed")));
    cluster.restart(other).expect("rebuilds its state from the log");
    let last = write(&cluster, 12, 15);
    same_everywhere(&cluster, &[1, 2, 3], last);
}

#[test]
fn a_replica_whose_state_is_not_the_logs_does_not_start() {
    let logger = Logger::root(Discard, o!());
    let foreign = |id| {
        let machine = kv::machine(id);
        for index in 1..=5 {
            let at = Applied { index, term: 1 };
            machine.skip(at).expect("in order");
        }
        machine
    };
    let started = Cluster::builder(foreign, &logger).replicas([1, 2]).start();
    assert!(matches!(started, Err(ClusterError::Raft(_))), "{started:?}");
}

#[test]
fn a_shut_down_cluster_refuses_and_can_be_started_again() {
    let cluster = three();
    let last = write(&cluster, 0, 5);
    cluster.shutdown();
    assert_eq!(cluster.leader(), None);
    assert!(cluster.read_at(1, Consistency::Stale).is_err());
    for id in 1..=3 {
        cluster.restart(id).expect("restarts");
    }
    cluster.wait_for_leader(LIMIT).expect("a leader");
    let now = write(&cluster, 5, 6);
    assert!(now > last);
    same_everywhere(&cluster, &[1, 2, 3], now);
}

#[test]
fn a_command_over_the_limit_is_refused_as_too_large_and_appends_nothing() {
    let cluster = three();
    let before = write(&cluster, 0, 1);
    let huge = Command::Set { key: "k".into(), value: "v".repeat(COMMAND_BYTES_MAX) };
    match cluster.propose(&huge) {
        Err(ProposeError::TooLarge { bytes, limit }) => {
            assert!(bytes > limit && limit == COMMAND_BYTES_MAX);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(write(&cluster, 1, 2), before + 1);
}
