//! A numbered session goes on at another node, after all were stopped: nothing is applied twice.

use std::time::Duration;

use fsmdb::raft::{Consistency, ProposeError, Refusal};
use fsmdb_node::node::{Node, SessionError};
use fsmdb_node::session::{SessionBounds, SessionRefusal};

use crate::group::{self, Counters, Group, Settings, add, count};

fn restart(group: &mut Group) {
    (1..=3).for_each(|id| group.crash(id));
    (1..=3).for_each(|id| group.start(id));
    group.leader();
}

fn total(node: &Node<Counters>) -> u64 {
    let snapshot = node.read(Consistency::Linearizable).wait().expect("confirmed");
    count(&snapshot, "a")
}

#[test]
fn a_command_whose_reply_was_lost_with_its_node_is_answered_at_another_one() {
    let mut group = Group::of(3);
    let first = group.other_than(group.leader());
    let session = group.node(first).numbered_session().wait().expect("opened");
    let id = session.id();
    group.net.lose_answers(true);
    let lost = session.propose_within(1, 0, &add("a", 5), Duration::from_secs(1));
    assert_eq!(lost.wait().unwrap_err(), SessionError::Propose(ProposeError::Unknown));
    group::until("it was applied", || count(&group.node(first).read_stale(), "a") == 5);
    drop(session);
    restart(&mut group);
    group.net.lose_answers(false);
    let other = group.node(first % 3 + 1);
    let (at, reply) = other.resume_session(id).propose(1, 0, &add("a", 5)).wait().expect("known");
    assert_eq!(reply, Ok(5));
    assert!(at.index > id && at.index < other.read_stale().applied().index, "applied before");
    assert_eq!(total(other), 5);
    let next = other.resume_session(id).propose(2, 1, &add("a", 1)).wait().expect("applied");
    assert_eq!(next.1, Ok(6));
}

#[test]
fn a_command_that_was_written_down_and_never_proposed_is_applied_after_a_restart() {
    let mut group = Group::of(3);
    let id = group.node(1).numbered_session().wait().expect("opened").id();
    restart(&mut group);
    let session = group.node(2).resume_session(id);
    assert_eq!(session.propose(1, 0, &add("a", 5)).wait().expect("applied").1, Ok(5));
    let again = group.node(3).resume_session(id).propose(1, 0, &add("a", 5)).wait();
    assert_eq!(again.expect("applied before").1, Ok(5));
    assert_eq!(total(group.node(3)), 5);
}

#[test]
fn a_session_that_has_expired_is_refused_to_who_resumes_it() {
    let bounds = SessionBounds { sessions: 1, ..SessionBounds::default() };
    let mut group = Group::with(3, Settings { bounds, ..Settings::default() });
    let session = group.node(1).numbered_session().wait().expect("opened");
    assert_eq!(session.propose(1, 0, &add("a", 1)).wait().expect("applied").1, Ok(1));
    let id = session.id();
    group.node(1).session().wait().expect("it takes the place of the other");
    restart(&mut group);
    let expired = SessionError::Refused(SessionRefusal::Expired { session: id });
    for sequence in [1, 2] {
        let refused = group.node(2).resume_session(id).propose(sequence, 0, &add("a", 1)).wait();
        assert_eq!(refused.unwrap_err(), expired);
    }
    assert_eq!(total(group.node(2)), 1);
}

#[test]
fn a_number_that_was_acknowledged_is_superseded_also_for_who_does_not_know() {
    let mut group = Group::of(3);
    let session = group.node(1).numbered_session().wait().expect("opened");
    let session_id = session.id();
    assert_eq!(session.propose(1, 0, &add("a", 1)).wait().expect("applied").1, Ok(1));
    assert_eq!(session.propose(3, 1, &add("a", 1)).wait().expect("applied").1, Ok(2));
    restart(&mut group);
    let resumed = group.node(3).resume_session(session_id);
    let superseded = |sequence| {
        SessionError::Refused(SessionRefusal::Superseded { session: session_id, sequence })
    };
    // The database knows, and then the caller itself.
    for acknowledged in [0, 1] {
        let refused = resumed.propose(1, acknowledged, &add("a", 1)).wait().unwrap_err();
        assert_eq!(refused, superseded(1));
    }
    assert_eq!(resumed.propose(0, 0, &add("a", 1)).wait().unwrap_err(), superseded(0));
    // The one between was not proposed before.
    assert_eq!(resumed.propose(2, 1, &add("a", 1)).wait().expect("applied").1, Ok(3));
    assert_eq!(total(group.node(3)), 3);
    resumed.close().wait().expect("closed");
}

#[test]
fn a_number_too_far_beyond_what_is_acknowledged_is_not_sent() {
    let bounds = SessionBounds { replies: 2, ..SessionBounds::default() };
    let group = Group::with(1, Settings { bounds, ..Settings::default() });
    let session = group.node(1).numbered_session().wait().expect("opened");
    let busy = SessionError::Propose(ProposeError::Refused(Refusal::Busy));
    assert_eq!(session.propose(3, 0, &add("a", 1)).wait().unwrap_err(), busy);
    for (sequence, acknowledged) in [(2, 0), (1, 0), (3, 1), (4, 2)] {
        let applied = session.propose(sequence, acknowledged, &add("a", 1)).wait();
        applied.expect("applied").1.expect("taken");
    }
    assert_eq!(total(group.node(1)), 4);
}
