//! Nodes over a network in this process, which can be cut and can lose answers.

#![allow(clippy::disallowed_methods, reason = "tests have deadlines, and wake their own thread")]

mod asked;
mod group;
mod resumed;
mod threads;

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use fsmdb::raft::{
    Consistency, Entry, HardState, LogStore as _, Membership, MemoryLog, ProposeError, ReadError,
    Refusal, Role,
};
use fsmdb::{Machine, Revision};
use fsmdb_node::limits::DIGEST_CHECK_TICKS;
use fsmdb_node::node::{MemberError, Node, NodeError, SessionError};
use fsmdb_node::session::{Envelope, SessionBounds, SessionRefusal, Sessions};
use group::{Command, Counters, Group, LIMIT, Settings, add, count, count_of};

#[test]
fn a_follower_takes_proposals_and_answers_with_the_reply_of_the_leader() {
    let group = Group::of(3);
    let leader = group.leader();
    let follower = group.other_than(leader);
    let (at, reply) = group.node(follower).propose(&add("a", 2)).wait().expect("applied");
    assert_eq!(reply, Ok(2));
    assert!(at.index > 1);
    let (_, refused) = group.node(follower).propose(&Command::Refuse).wait().expect("applied");
    assert_eq!(refused, Err("refused".to_owned()));
    let (later, reply) = group.node(leader).propose(&add("a", 3)).wait().expect("applied");
    assert_eq!(reply, Ok(5));
    assert!(later > at);
}

#[test]
fn every_member_learns_the_addresses_of_all_from_the_log() {
    let group = Group::of(3);
    group.leader();
    for id in [1, 2, 3] {
        let node = group.node(id);
        group::until("the addresses are known", || {
            [1, 2, 3].iter().all(|id| node.address_of(*id) == Some(format!("node-{id}")))
        });
    }
    let peers = group.net.peers_of(1);
    assert_eq!(peers.into_keys().collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn a_linearizable_read_of_a_follower_sees_what_was_acknowledged_before() {
    let group = Group::of(3);
    let leader = group.leader();
    let follower = group.other_than(leader);
    for n in 1..=50 {
        group.node(leader).propose(&add("a", 1)).wait().expect("applied").1.expect("taken");
        let snapshot = group.node(follower).read(Consistency::Linearizable).wait();
        assert_eq!(count(&snapshot.expect("confirmed"), "a"), n);
    }
}

#[test]
fn a_bounded_read_is_served_without_a_leader_while_its_confirmation_is_young_enough() {
    let group = Group::of(3);
    let leader = group.leader();
    let node = group.node(group.other_than(leader));
    node.propose(&add("a", 1)).wait().expect("applied").1.expect("taken");
    let bounded = |age| Consistency::Bounded { age, entries: 0 };
    let asked = Instant::now();
    let snapshot = node.read(bounded(LIMIT)).wait().expect("confirmed");
    assert_eq!(count(&snapshot, "a"), 1);
    group.net.isolate(node.id());
    let snapshot = node.read(bounded(LIMIT)).wait().expect("remembered");
    assert_eq!(count(&snapshot, "a"), 1);
    while asked.elapsed() < Duration::from_millis(50) {
        thread::yield_now();
    }
    let old = node.read_within(bounded(Duration::from_millis(1)), Duration::from_millis(300));
    assert_eq!(old.wait().unwrap_err(), ReadError::Timeout);
    let fresh = node.read_within(Consistency::Linearizable, Duration::from_millis(300));
    assert_eq!(fresh.wait().unwrap_err(), ReadError::Timeout);
    assert_eq!(count(&node.read(Consistency::Stale).wait().expect("local"), "a"), 1);
}

#[test]
fn a_proposal_without_a_leader_times_out_as_retryable() {
    let group = Group::of(3);
    let leader = group.leader();
    let follower = group.other_than(leader);
    group.net.isolate(follower);
    let node = group.node(follower);
    group::until("the leader is lost", || node.status().raft.leader.is_none());
    let error = node.propose_within(&add("a", 1), Duration::from_millis(200)).wait().unwrap_err();
    assert!(error.is_retryable(), "{error}");
    // The same for a task, which has no timer of its own.
    let pending = node.propose_within(&add("a", 1), Duration::from_millis(200));
    assert_eq!(block_on(pending).unwrap_err(), ProposeError::Timeout);
    group.net.heal();
    assert_eq!(node.propose(&add("a", 1)).wait().expect("applied").1, Ok(1));
}

#[test]
fn a_forwarded_proposal_whose_answer_is_lost_is_unknown() {
    let group = Group::of(3);
    let leader = group.leader();
    let follower = group.node(group.other_than(leader));
    group.net.lose_answers(true);
    assert_eq!(follower.propose(&add("a", 1)).wait().unwrap_err(), ProposeError::Unknown);
    group.net.lose_answers(false);
    let snapshot = follower.read(Consistency::Linearizable).wait().expect("confirmed");
    assert_eq!(count(&snapshot, "a"), 1, "it was applied although nobody said so");
}

#[test]
fn a_session_applies_once_what_it_has_to_send_often() {
    let group = Group::of(3);
    let leader = group.leader();
    let node = group.node(group.other_than(leader));
    let session = node.session().wait().expect("opened");
    group.net.lose_answers(true);
    let pending = session.propose(&add("a", 1));
    group::until("it was applied", || count(&node.read_stale(), "a") == 1);
    let before = group.net.requests();
    group::until("it was sent again", || group.net.requests() > before + 2);
    group.net.lose_answers(false);
    let (at, reply) = pending.wait().expect("known in the end");
    assert_eq!(reply, Ok(1));
    let snapshot = node.read(Consistency::Linearizable).wait().expect("confirmed");
    assert_eq!(count(&snapshot, "a"), 1);
    assert!(snapshot.applied() > at, "the entry was in the log more than once");
}

#[test]
fn a_session_goes_on_over_stopped_leaders() {
    let mut group = Group::of(3);
    let mut leader = group.leader();
    let node = group.node(group.other_than(leader)).clone();
    let session = node.session().wait().expect("opened");
    for n in 1..=60_u64 {
        if n.is_multiple_of(20) {
            let pending = session.propose(&add("a", 1));
            if leader != node.id() {
                group.crash(leader);
            }
            assert_eq!(pending.wait().expect("applied").1, Ok(n));
            if leader != node.id() {
                group.start(leader);
            }
            leader = group.leader();
        } else {
            assert_eq!(session.propose(&add("a", 1)).wait().expect("applied").1, Ok(n));
        }
    }
    let snapshot = node.read(Consistency::Linearizable).wait().expect("confirmed");
    assert_eq!(count(&snapshot, "a"), 60);
    let (_, refused) = session.propose(&Command::Refuse).wait().expect("applied");
    assert_eq!(refused, Err("refused".to_owned()));
    session.close().wait().expect("closed");
}

#[test]
fn a_session_that_the_database_dropped_applies_nothing_any_more() {
    let bounds = SessionBounds { sessions: 2, ..SessionBounds::default() };
    let group = Group::with(3, Settings { bounds, ..Settings::default() });
    let node = group.node(group.leader());
    let first = node.session().wait().expect("opened");
    let second = node.session().wait().expect("opened");
    assert_eq!(first.propose(&add("a", 1)).wait().expect("applied").1, Ok(1));
    // The second was used longest ago.
    let third = node.session().wait().expect("opened");
    assert_eq!(third.propose(&add("a", 1)).wait().expect("applied").1, Ok(2));
    assert_eq!(first.propose(&add("a", 1)).wait().expect("applied").1, Ok(3));
    let gone = second.propose(&add("a", 1)).wait().unwrap_err();
    assert_eq!(gone, SessionError::Refused(SessionRefusal::Expired { session: second.id() }));
    let snapshot = node.read(Consistency::Linearizable).wait().expect("confirmed");
    assert_eq!(count(&snapshot, "a"), 3);
}

#[test]
fn a_session_has_no_more_under_way_than_replies_are_kept_of_it() {
    let bounds = SessionBounds { replies: 2, ..SessionBounds::default() };
    let group = Group::with(3, Settings { bounds, ..Settings::default() });
    let node = group.node(group.leader());
    let session = node.session().wait().expect("opened");
    group.net.isolate(node.id());
    let waiting = [session.propose(&add("a", 1)), session.propose(&add("a", 1))];
    let busy = session.propose_within(&add("a", 1), Duration::from_millis(1)).wait().unwrap_err();
    assert_eq!(busy, SessionError::Propose(ProposeError::Refused(Refusal::Busy)));
    group.net.heal();
    for pending in waiting {
        pending.wait().expect("applied").1.expect("taken");
    }
    let (_, reply) = session.propose(&add("a", 1)).wait().expect("there is room");
    assert_eq!(reply, Ok(3));
}

#[test]
fn a_session_that_was_idle_for_many_entries_is_dropped() {
    let bounds = SessionBounds { idle_entries: 20, ..SessionBounds::default() };
    let group = Group::with(1, Settings { bounds, ..Settings::default() });
    let node = group.node(group.leader());
    let idle = node.session().wait().expect("opened");
    let busy = node.session().wait().expect("opened");
    for n in 1..=30 {
        assert_eq!(busy.propose(&add("a", 1)).wait().expect("applied").1, Ok(n));
    }
    let gone = idle.propose(&add("a", 1)).wait().unwrap_err();
    assert_eq!(gone, SessionError::Refused(SessionRefusal::Expired { session: idle.id() }));
}

#[test]
fn a_node_at_its_bounds_is_busy_and_takes_more_when_there_is_room() {
    let settings = Settings { proposals_max: 4, ..Settings::default() };
    let group = Group::with(3, settings);
    let leader = group.leader();
    let follower = group.node(group.other_than(leader));
    group.net.isolate(follower.id());
    group::until("the leader is lost", || follower.status().raft.leader.is_none());
    let waiting: Vec<_> = (0..4).map(|_| follower.propose(&add("a", 1))).collect();
    let busy = follower.propose(&add("a", 1)).wait().unwrap_err();
    assert_eq!(busy, ProposeError::Refused(Refusal::Busy));
    group.net.heal();
    for pending in waiting {
        pending.wait().expect("applied").1.expect("taken");
    }
    // A permit is given back with the answer, and no later than soon.
    group::until("there is room", || follower.propose(&add("a", 1)).wait().is_ok());
}

#[test]
fn a_joiner_is_fed_by_a_snapshot_and_becomes_a_voter_once_it_has_caught_up() {
    let settings = Settings { snapshot_entries: 50, tail_entries: 10, ..Settings::default() };
    let mut group = Group::with(3, settings);
    let leader = group.leader();
    for _ in 0..200 {
        group.node(leader).propose(&add("a", 1)).wait().expect("applied").1.expect("taken");
    }
    group::until("the log was compacted", || group.node(leader).status().raft.first_index > 2);
    group.join(4);
    let asker = group.other_than(leader);
    group.node(asker).add_learner(4, "node-4").wait().expect("added");
    group.node(asker).promote(4).wait().expect("promoted");
    let joined = group.node(4);
    let snapshot = joined.read(Consistency::Linearizable).wait().expect("confirmed");
    assert_eq!(count(&snapshot, "a"), 200);
    assert!(joined.metrics().contains("fsmdb_snapshots_installed_total 1"));
    assert_eq!(joined.address_of(2), Some("node-2".to_owned()));
    assert_eq!(joined.propose(&add("a", 1)).wait().expect("applied").1, Ok(201));
    assert_eq!(
        joined.add_learner(4, "elsewhere").wait().unwrap_err(),
        MemberError::Exists { id: 4 }
    );
}

#[test]
fn a_removed_node_stops_and_its_id_never_comes_back() {
    let group = Group::of(4);
    let leader = group.leader();
    let asker = group.node(group.other_than(leader));
    // The leader itself, which hands over first.
    asker.remove(leader).wait().expect("removed");
    let error = group.end_of(leader);
    assert!(matches!(error, NodeError::Removed { id } if id == leader), "{error}");
    let pending = asker.add_learner(leader, "again");
    assert_eq!(pending.wait().unwrap_err(), MemberError::Retired { id: leader });
    assert_eq!(asker.remove(9).wait().unwrap_err(), MemberError::NoSuchMember { id: 9 });
    assert_eq!(asker.propose(&add("a", 1)).wait().expect("applied").1, Ok(1));
    group::until("its address is forgotten", || {
        !group.net.peers_of(asker.id()).contains_key(&leader)
    });
}

#[test]
fn a_node_leaves_the_group_by_itself() {
    let group = Group::of(3);
    let leader = group.leader();
    let other = group.other_than(leader);
    group.node(leader).leave().wait().expect("removed");
    assert!(!group.node(leader).status().is_running);
    let others = group.node(other);
    group::until("the others know", || !others.status().raft.membership.contains(leader));
    group::until("its address is forgotten", || others.address_of(leader).is_none());
    assert_eq!(others.propose(&add("a", 1)).wait().expect("applied").1, Ok(1));
}

/// An entry of the log in its bytes: of this kind, of term 1.
fn entry(kind: u8, index: u8, data: &[u8]) -> Entry {
    let length = u8::try_from(data.len()).expect("short");
    let mut bytes = vec![1 << 3, kind, 2 << 3, 1, 3 << 3, index, 4 << 3 | 2, length];
    bytes.extend_from_slice(data);
    Entry::decode(&bytes).expect("an entry")
}

#[test]
fn the_address_of_a_member_that_left_is_forgotten_in_the_end() {
    // Node 9 was added and has left, and the leader was gone before it wrote that down; node 8 is
    // about to be added.
    let member = |id: u64| {
        let address = Some(format!("node-{id}"));
        Machine::<Sessions<Counters>>::encode(&Envelope::Member { id, address }).expect("short")
    };
    let change = |step: u8| vec![2 << 3 | 2, 4, 1 << 3, step, 2 << 3, 9];
    let (add_learner, remove) = (2, 1);
    let entries = [
        entry(0, 2, &member(9)),
        entry(2, 3, &change(add_learner)),
        entry(2, 4, &change(remove)),
        entry(0, 5, &member(8)),
    ];
    let mut log = MemoryLog::founding(Membership::of_voters([1]));
    let state = HardState { term: 1, vote: 1, commit: 5 };
    log.append(&entries, Some(state), true).expect("it fits");
    let group = Group::over(log);
    let node = group.node(1);
    group::until("it leads", || node.status().is_leader());
    node.propose(&add("a", 1)).wait().expect("applied").1.expect("taken");
    group::until("one is forgotten", || node.address_of(9).is_none());
    assert_eq!(node.add_learner(9, "again").wait(), Err(MemberError::Retired { id: 9 }));
    assert_eq!(node.address_of(8), Some("node-8".to_owned()));
}

#[test]
fn a_voter_is_replaced_by_one_joint_change() {
    let mut group = Group::of(3);
    let leader = group.leader();
    group.join(4);
    let asker = group.other_than(leader);
    group.node(asker).add_learner(4, "node-4").wait().expect("added");
    let old = [1, 2, 3].into_iter().find(|id| ![leader, asker].contains(id)).expect("a third");
    group.node(asker).replace(old, 4).wait().expect("replaced");
    let members = group.node(asker).status().raft.membership;
    assert!(members.voters.contains(&4) && !members.contains(old) && members.voters.len() == 3);
}

#[test]
fn leadership_is_handed_to_whom_one_asks_from_any_node() {
    let group = Group::of(3);
    let leader = group.leader();
    let heir = group.other_than(leader);
    let asker = [1, 2, 3].into_iter().find(|id| ![leader, heir].contains(id)).expect("a third");
    group.node(asker).transfer(heir).wait().expect("handed over");
    assert_eq!(group.leader(), heir);
    assert_eq!(group.node(leader).propose(&add("a", 1)).wait().expect("applied").1, Ok(1));
}

#[test]
fn a_leader_that_is_stopped_hands_over_and_answers_everybody() {
    let group = Group::of(3);
    let leader = group.leader();
    let node = group.node(leader);
    let pending: Vec<_> = (0..100).map(|_| node.propose(&add("a", 1))).collect();
    let term = node.status().raft.term;
    node.stop();
    let answered: Vec<_> = pending.into_iter().map(block_on).collect();
    assert!(answered.iter().all(|answer| !matches!(answer, Err(ProposeError::Timeout))));
    assert!(!node.status().is_running && node.status().error.is_none());
    let next = group.node(group.leader());
    assert_eq!(next.status().raft.term, term + 1, "an election without a timeout");
    let applied = answered.iter().filter(|answer| answer.is_ok()).count() as u64;
    let snapshot = next.read(Consistency::Linearizable).wait().expect("confirmed");
    assert!(count(&snapshot, "a") >= applied);
    let stopped = node.propose(&add("a", 1)).wait().unwrap_err();
    assert_eq!(stopped, ProposeError::Stopped { id: leader });
}

#[test]
fn a_follower_that_does_not_say_which_files_it_holds_is_fed_by_a_whole_one() {
    let settings = Settings { snapshot_entries: 50, tail_entries: 10, ..Settings::default() };
    let group = Group::with(3, settings);
    let leader = group.leader();
    let follower = group.other_than(leader);
    group.net.isolate(follower);
    let behind = group.node(follower).status().raft.last_index;
    group::until("the follower's entries were compacted", || {
        group.node(leader).propose(&add("a", 1)).wait().expect("applied").1.expect("taken");
        group.node(leader).status().raft.first_index > behind + 1
    });
    // As of a node of an older version, which does not understand the request.
    group.net.lose_answers(true);
    group.net.heal();
    let written = count(&group.node(leader).read_stale(), "a");
    group::until("the follower has caught up", || {
        count(&group.node(follower).read_stale(), "a") == written
    });
    assert!(group.node(follower).metrics().contains("fsmdb_snapshots_installed_total 1"));
    assert!(group.node(leader).metrics().contains("fsmdb_snapshots_sent_as_changes_total 0"));
}

#[test]
fn a_restarted_node_comes_back_to_where_the_log_is() {
    let settings = Settings { snapshot_entries: 30, tail_entries: 5, ..Settings::default() };
    let mut group = Group::with(3, settings);
    let leader = group.leader();
    for _ in 0..100 {
        group.node(leader).propose(&add("a", 1)).wait().expect("applied").1.expect("taken");
    }
    group.crash(leader);
    group.start(leader);
    let node = group.node(leader);
    let snapshot = node.read(Consistency::Linearizable).wait().expect("confirmed");
    assert_eq!(count(&snapshot, "a"), 100);
    assert!(node.status().snapshot_index > 1);
}

#[test]
fn a_status_is_waited_for_without_polling() {
    let group = Group::of(3);
    let leader = group.leader();
    let node = group.node(group.other_than(leader));
    let settled = node.status().version;
    assert!(node.status_changed(0).wait(LIMIT).is_some(), "what is newer already is there at once");
    let change = node.status_changed(settled);
    group.node(leader).propose(&add("a", 1)).wait().expect("applied").1.expect("taken");
    assert!(block_on(change).version > settled);
    let role = |status: &fsmdb_node::node::NodeStatus| status.raft.role;
    let mut status = node.status();
    group.node(leader).transfer(node.id()).wait().expect("handed over");
    while role(&status) != Role::Leader {
        status = node.status_changed(status.version).wait(LIMIT).expect("it takes over");
    }
    assert!(status.lag_of(leader).is_some());
}

#[test]
fn a_replica_that_differs_from_the_others_stops_and_names_the_tables() {
    let settings = Settings { keeps_digests: true, diverging: Some(3), ..Settings::default() };
    let group = Group::with(3, settings);
    group.leader();
    let node = group.node(1);
    node.propose(&Command::Diverge).wait().expect("applied").1.expect("taken");
    for _ in 0..20 {
        node.propose(&add("a", 1)).wait().expect("applied").1.expect("taken");
    }
    let error = group.end_of(3);
    let NodeError::Diverged { index, tables } = error else { panic!("{error}") };
    assert!(index.is_multiple_of(8));
    assert_eq!(tables, ["counters"]);
    let rest = group.node(2).read(Consistency::Linearizable).wait().expect("the others go on");
    assert_eq!(count(&rest, "a"), 20);
}

#[test]
fn a_digest_alarm_ends_when_all_members_are_equal_again() {
    let settings = Settings { keeps_digests: true, diverging: Some(3), ..Settings::default() };
    let mut group = Group::with(3, settings);
    group.leader();
    group.node(2).transfer(1).wait().expect("handed over");
    // The second is away: one of three against one of three decides nothing.
    group.crash(2);
    let node = group.node(1);
    node.propose(&Command::Diverge).wait().expect("applied").1.expect("taken");
    for _ in 0..20 {
        node.propose(&add("a", 1)).wait().expect("applied").1.expect("taken");
    }
    group::until("there is an alarm", || node.status().digest_alarm.is_some());
    group.start(2);
    let error = group.end_of(3);
    assert!(matches!(error, NodeError::Diverged { .. }), "{error}");
    let node = group.node(1);
    assert!(node.status().digest_alarm.is_some(), "the third is still a member");
    node.remove(3).wait().expect("removed");
    group::until("the alarm ends", || node.status().digest_alarm.is_none());
    assert!(node.status().is_running && group.node(2).status().is_running);
}

#[test]
fn a_replica_of_another_build_is_not_held_to_the_digests_of_the_others() {
    let (diverging, upgraded) = (Some(3), Some(3));
    let settings = Settings { keeps_digests: true, diverging, upgraded, ..Settings::default() };
    let group = Group::with(3, settings);
    let leader = group.node(group.leader());
    leader.propose(&Command::Diverge).wait().expect("applied").1.expect("taken");
    for _ in 0..20 {
        leader.propose(&add("a", 1)).wait().expect("applied").1.expect("taken");
    }
    // As long as several comparisons take; that they find what differs shows the test before.
    thread::sleep(Duration::from_millis(20) * 3 * DIGEST_CHECK_TICKS);
    for id in 1..=3 {
        let status = group.node(id).status();
        assert!(status.is_running, "{:?}", status.error);
        assert_eq!(status.digest_alarm, None);
    }
}

#[test]
fn a_node_that_does_not_know_a_command_stops_and_says_so() {
    let mut group = Group::of(2);
    let leader = group.leader();
    group.join_older(3);
    group.node(leader).add_learner(3, "node-3").wait().expect("added");
    let older = group.older(3);
    group.node(leader).propose(&add("a", 1)).wait().expect("applied").1.expect("taken");
    group::until("the older one follows", || count(&older.read_stale(), "a") == 1);
    group.node(leader).propose(&Command::Diverge).wait().expect("applied").1.expect("taken");
    group::until("it stops", || !older.status().is_running);
    let error = older.status().error.expect("it says why");
    assert!(matches!(error, NodeError::UnknownCommand { .. }), "{error}");
    assert_eq!(count(&older.read_stale(), "a"), 1, "what it had can still be read");
}

#[test]
fn a_failed_log_stops_the_node_and_answers_everybody() {
    let group = Group::of(1);
    let node = group.node(group.leader());
    let (_, watch) = node.read_stale().watch(|read| count_of(read, "a"));
    group.fail_log(1);
    let pending: Vec<_> = (0..10).map(|_| node.propose(&add("a", 1))).collect();
    let read = node.read(Consistency::Linearizable);
    for pending in pending {
        let error = block_on(pending).unwrap_err();
        let is_told = [ProposeError::Unknown, ProposeError::Stopped { id: 1 }].contains(&error);
        assert!(is_told, "{error}");
    }
    // Confirmed before the failure was seen, or not at all.
    if let Err(error) = block_on(read) {
        assert_eq!(error, ReadError::Stopped { id: 1 });
    }
    let error = group.end_of(1);
    assert!(matches!(error, NodeError::Log(_)), "{error}");
    assert_eq!(watch.wait(LIMIT), Some(fsmdb::Wake::Closed));
    assert_eq!(node.propose(&add("a", 1)).wait().unwrap_err(), ProposeError::Stopped { id: 1 });
    assert_eq!(
        node.read(Consistency::Linearizable).wait().unwrap_err(),
        ReadError::Stopped { id: 1 }
    );
    assert_eq!(node.transfer(1).wait().unwrap_err(), MemberError::Stopped { id: 1 });
}

#[test]
fn a_panic_of_the_state_machine_stops_the_node_and_answers_everybody() {
    let group = Group::of(1);
    let node = group.node(group.leader());
    node.propose(&add("a", 1)).wait().expect("applied").1.expect("taken");
    let pending = node.propose(&Command::Panic);
    assert_eq!(block_on(pending).unwrap_err(), ProposeError::Unknown);
    let error = group.end_of(1);
    assert!(matches!(error, NodeError::Panicked { thread: "apply" }), "{error}");
    assert_eq!(count(&node.read_stale(), "a"), 1);
}

/// Panics when it is woken.
struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("on purpose");
    }
}

#[test]
fn a_panic_of_a_waker_stops_the_node_and_answers_everybody_else() {
    let group = Group::of(1);
    let node = group.node(group.leader());
    let (_, watch) = node.read_stale().watch(|read| count_of(read, "b"));
    let waker = Waker::from(Arc::new(Panics));
    // The answer comes from the apply thread, or is here before the waker is.
    let mut panicking = loop {
        let mut pending = Box::pin(node.propose(&add("a", 1)));
        if pending.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            break pending;
        }
    };
    let pending: Vec<_> = (0..10).map(|_| node.propose(&add("a", 1))).collect();
    let read = node.read(Consistency::Linearizable);
    let session = node.session();
    for pending in pending {
        // Applied with the one that panicked, or before the node knew.
        if let Err(error) = block_on(pending) {
            let is_told = [ProposeError::Unknown, ProposeError::Stopped { id: 1 }].contains(&error);
            assert!(is_told, "{error}");
        }
    }
    // Answered before the end or by it; here it counts that they are.
    let _ = (block_on(read), block_on(session));
    let error = group.end_of(1);
    assert!(matches!(error, NodeError::Panicked { thread: "apply" }), "{error}");
    let quiet = &mut Context::from_waker(Waker::noop());
    assert!(panicking.as_mut().poll(quiet).is_ready(), "it was answered before it was woken");
    assert_eq!(watch.wait(LIMIT), Some(fsmdb::Wake::Closed));
    node.stop();
}

#[test]
fn commands_of_sessions_are_counted_once_and_reads_are_fresh_while_leaders_are_cut_off() {
    const EACH: u64 = 40;
    let group = Group::of(3);
    group.leader();
    let (acknowledged, running) = (AtomicU64::new(0), AtomicU64::new(3));
    let mut replies = thread::scope(|scope| {
        let clients: Vec<_> = [1, 2, 3]
            .map(|id| {
                let session = group.node(id).session().wait().expect("opened");
                let (acknowledged, running) = (&acknowledged, &running);
                scope.spawn(move || {
                    let mut replies = Vec::new();
                    for _ in 0..EACH {
                        let reply = session.propose(&add("a", 1)).wait();
                        acknowledged.fetch_add(1, Ordering::SeqCst);
                        replies.push(reply.expect("known in the end").1.expect("taken"));
                    }
                    running.fetch_sub(1, Ordering::SeqCst);
                    replies
                })
            })
            .into();
        for id in [1, 2] {
            let (node, acknowledged, running) = (group.node(id), &acknowledged, &running);
            scope.spawn(move || {
                while running.load(Ordering::SeqCst) > 0 {
                    let before = acknowledged.load(Ordering::SeqCst);
                    let snapshot = node.read(Consistency::Linearizable).wait();
                    let seen = count(&snapshot.expect("confirmed"), "a");
                    assert!(seen >= before, "read {seen} after {before} were acknowledged");
                }
            });
        }
        while running.load(Ordering::SeqCst) > 0 {
            let leader = group.leader();
            group.net.isolate(leader);
            group::until("another leader", || group.leader() != leader);
            group.net.heal();
            let before = acknowledged.load(Ordering::SeqCst);
            group::until("there is progress", || {
                acknowledged.load(Ordering::SeqCst) >= (before + EACH / 3).min(3 * EACH)
            });
        }
        clients.into_iter().flat_map(|client| client.join().expect("no panic")).collect::<Vec<_>>()
    });
    replies.sort_unstable();
    assert!(replies.into_iter().eq(1..=3 * EACH), "each was applied once");
}

#[test]
fn what_a_node_counts_is_given_as_text() {
    let group = Group::of(3);
    let leader = group.leader();
    let follower = group.node(group.other_than(leader));
    follower.propose(&add("a", 1)).wait().expect("applied").1.expect("taken");
    let text = follower.metrics();
    assert!(text.contains("fsmdb_proposals_total 1\n"), "{text}");
    assert!(text.contains("fsmdb_forwarded_total 1\n"), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
    let text = group.node(leader).metrics();
    assert!(text.contains("fsmdb_commit_seconds_count"), "{text}");
}

/// Drops a node when it is woken.
struct DropNode(Mutex<Option<Node<Counters>>>);

impl Wake for DropNode {
    fn wake(self: Arc<Self>) {
        drop(self.0.lock().expect("no panic").take());
    }
}

#[test]
fn a_waker_may_drop_the_last_handle_on_the_thread_of_the_node_that_calls_it() {
    let mut group = Group::of(1);
    group.leader();
    let node = group.take(1);
    let end = node.db().wait_for(Revision(u64::MAX));
    // The answer comes from the apply thread, or is here before the waker is.
    for n in 1.. {
        let mut pending = pin!(node.propose(&add("a", 1)));
        let holder = Arc::new(DropNode(Mutex::new(Some(node.clone()))));
        let waker = Waker::from(Arc::clone(&holder));
        match pending.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => break,
            Poll::Ready(answer) => assert_eq!(answer.expect("applied").1, Ok(n)),
        }
    }
    drop(node);
    assert!(end.wait(LIMIT).is_err_and(|error| matches!(error, fsmdb::WaitError::Closed { .. })));
}

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread, which has no timer and no runtime.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let (mut context, mut future) = (Context::from_waker(&waker), pin!(future));
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        assert!(Instant::now() < deadline, "never woken");
        thread::park_timeout(LIMIT);
    }
}
