//! One case each: the four defects of raft-rs 0.7 this room works around, and the pitfalls of
//! driving it that random runs meet too rarely.

use raft::eraftpb::{self, MessageType};

use super::alone::{Alone, quiet};
use super::world::{End, World};
use crate::raft::core::{Action, Config, Core, Event, Proposal, Role};
use crate::raft::{
    Entry, HardState, MemberChange, Membership, Message, RaftError, Recovered, Refusal,
};

#[test]
fn a_leader_that_applies_its_own_removal_follows_and_the_others_go_on() {
    for founders in [&[1, 2, 3][..], &[1, 2]] {
        let mut world = World::started(3, founders);
        let leader = world.leader().expect("started");
        let token = world.change(leader, &[MemberChange::Remove(leader)]);
        world.run(30);
        assert!(matches!(world.ends[&token], End::Applied(_)), "{:?}", world.ends[&token]);
        assert_eq!(world.core(leader).status().role, Role::Follower);
        assert!(!world.core(leader).membership().contains(leader));
        world.commit_one();
        assert_ne!(world.leader(), Some(leader));
    }
}

#[test]
fn every_read_round_has_a_context_of_its_own_also_after_a_restart() {
    let mut world = World::started(5, &[1, 2, 3]);
    world.commit_one();
    let mut rounds = 0;
    for _ in 0..2 {
        let leader = world.leader().expect("a leader");
        for _ in 0..10 {
            let token = world.read(leader);
            world.run(30);
            assert!(matches!(world.ends[&token], End::Read(_)));
            rounds += 1;
        }
        world.crash(leader);
        world.start(leader).expect("restarts");
        world.run(600);
        world.commit_one();
    }
    assert_eq!(world.contexts.len(), rounds);
}

#[test]
fn a_deposed_leader_never_confirms_a_read() {
    let mut world = World::started(5, &[1, 2, 3]);
    world.commit_one();
    let old = world.leader().expect("a leader");
    let others: Vec<u64> = (1..=3).filter(|id| *id != old).collect();
    // Nothing reaches the old leader any more; the others elect a new one by force, at once.
    world.cut_off(old);
    world.run(15);
    for _ in 0..40 {
        world.step(others[0], Event::Tick);
        world.step(others[1], Event::Tick);
        world.run(4);
    }
    assert_ne!(world.leader(), Some(old));
    world.commit_one();
    let mut tokens = Vec::new();
    for _ in 0..5 {
        tokens.push(world.read(old));
        world.run(2);
    }
    world.cuts.clear();
    world.run(300);
    for token in tokens {
        assert_eq!(world.ends.get(&token), Some(&End::ReadRefused));
    }
}

#[test]
fn a_read_at_a_stale_leader_waits_for_its_own_round() {
    // One partner acknowledges round A late, after round B was asked: B stays open.
    let mut world = World::started(9, &[1, 2, 3]);
    world.commit_one();
    let leader = world.leader().expect("a leader");
    let first = world.read(leader);
    world.run(1);
    world.cut_off(leader);
    let second = world.read(leader);
    world.run(20);
    assert!(matches!(world.ends.get(&first), None | Some(End::Read(_))));
    assert_eq!(world.ends.get(&second), None, "answers to the first do not confirm the second");
}

#[test]
fn a_membership_change_waits_for_a_durable_commit_index() {
    let mut alone = Alone::elected(&[1]);
    alone.batches.clear();
    alone.hold_writes = true;
    let steps = vec![MemberChange::AddLearner(2)];
    alone.step(Event::Change { token: 9, steps });
    let appended = alone.batches.last().expect("the entry is written").clone();
    let index = appended.entries.last().expect("the entry").index();
    // The entry is durable and thereby committed, but the commit index is not durable yet.
    alone.step(Event::Persisted(appended.number));
    assert!(alone.changes.is_empty(), "applied before its commit index was durable");
    let commit = alone.batches.last().expect("the commit index is written").clone();
    assert!(commit.must_sync, "a power loss would take the commit index back");
    assert!(commit.hard_state.is_some_and(|state| state.commit >= index));
    assert!(!alone.core.membership().contains(2));
    alone.step(Event::Persisted(commit.number));
    assert_eq!(alone.changes, [index]);
    assert!(alone.core.membership().contains(2));
}

#[test]
fn a_power_loss_cannot_bring_an_old_membership_back_to_power() {
    for seed in 0..30 {
        let mut world = World::started(seed, &[1, 2, 3]);
        world.disk_max = 40;
        for id in [4, 5] {
            world.add_node(id);
            for step in [MemberChange::AddLearner(id), MemberChange::AddVoter(id)] {
                world.run(100);
                if let Some(leader) = world.leader() {
                    world.change(leader, &[step]);
                }
            }
        }
        world.run(50 + seed * 3);
        let leader = world.leader().unwrap_or(3);
        let lost: Vec<u64> = (1..=5).filter(|id| *id != leader).take(2).collect();
        for &id in &lost {
            world.crash_keeping(id, 0);
        }
        // The two that lost power see only each other, the rest see only the rest.
        for &one in &lost {
            for other in (1..=5).filter(|id| !lost.contains(id)) {
                world.cuts.insert((one, other));
                world.cuts.insert((other, one));
            }
        }
        world.start_all();
        world.run(800);
        world.heal_and_check();
    }
}

#[test]
fn a_replica_can_stand_for_election_right_after_a_snapshot() {
    let mut world = World::started(11, &[1, 2, 3]);
    world.snapshot_entries = 10;
    let leader = world.leader().expect("started");
    let late = (1..=3).find(|id| *id != leader).expect("three");
    world.crash(late);
    for id in 1..=3 {
        if id != late {
            world.crash(id);
            world.start(id).expect("restarts with the small snapshot interval");
        }
    }
    world.run_until("a leader", 400, |world| world.leader().is_some());
    for _ in 0..60 {
        world.commit_one();
    }
    world.delay_max = 20;
    world.start(late).expect("restarts");
    for _ in 0..400 {
        world.run(3);
        world.step(late, Event::Campaign);
        world.step(late, Event::Tick);
    }
    assert!(world.installs >= 1, "the late one was fed by a snapshot");
    world.heal_and_check();
}

#[test]
fn a_proposal_of_a_leader_that_is_cut_off_ends_unknown_once() {
    let mut world = World::started(13, &[1, 2, 3]);
    world.commit_one();
    let old = world.leader().expect("a leader");
    world.cut_off(old);
    let token = world.propose(old);
    assert_eq!(world.ends.get(&token), None);
    world.run(500);
    assert_eq!(world.ends.get(&token), Some(&End::Unknown));
    world.heal_and_check();
}

#[test]
fn a_follower_refuses_and_names_the_leader() {
    let mut world = World::started(17, &[1, 2, 3]);
    world.commit_one();
    let leader = world.leader().expect("a leader");
    let other = (1..=3).find(|id| *id != leader).expect("three");
    let token = world.propose(other);
    let refused = End::Refused(Refusal::NotLeader { leader: Some(leader) });
    assert_eq!(world.ends.get(&token), Some(&refused));
    let token = world.change(other, &[MemberChange::AddLearner(9)]);
    assert_eq!(world.ends.get(&token), Some(&refused));
}

#[test]
fn a_second_membership_change_is_refused_while_one_is_pending() {
    let mut alone = Alone::elected(&[1]);
    alone.hold_writes = true;
    alone.step(Event::Change { token: 1, steps: vec![MemberChange::AddLearner(2)] });
    let last = alone.core.status().last_index;
    alone.step(Event::Change { token: 2, steps: vec![MemberChange::AddLearner(3)] });
    assert_eq!(alone.ended, [(2, End::Refused(Refusal::ChangePending))]);
    assert_eq!(alone.core.status().last_index, last, "raft alone appends an empty entry");
    assert!(Refusal::ChangePending.is_retryable());
}

#[test]
fn an_impossible_membership_change_is_refused_with_a_reason() {
    let mut alone = Alone::elected(&[1]);
    alone.step(Event::Change { token: 1, steps: vec![MemberChange::Remove(1)] });
    alone.step(Event::Change { token: 2, steps: Vec::new() });
    alone.step(Event::Change { token: 3, steps: vec![MemberChange::AddVoter(0)] });
    assert_eq!(alone.ended.len(), 3);
    for (_, end) in &alone.ended {
        assert!(matches!(end, End::Refused(Refusal::InvalidChange { .. })), "{end:?}");
    }
    alone.propose(4);
    assert!(matches!(alone.ended[3], (4, End::Applied(_))));
}

#[test]
fn a_joint_change_is_left_by_itself_also_when_the_leader_is_lost_in_it() {
    for seed in 0..20 {
        let mut world = World::started(seed, &[1, 2, 3]);
        world.add_node(4);
        world.add_node(5);
        world.commit_one();
        let leader = world.leader().expect("a leader");
        let out = (1..=3).find(|id| *id != leader).expect("three");
        let steps =
            [MemberChange::Remove(out), MemberChange::AddVoter(4), MemberChange::AddVoter(5)];
        world.change(leader, &steps);
        world.run(seed);
        world.crash(leader);
        world.run(400);
        world.heal_and_check();
        let leader = world.leader().expect("a leader");
        assert!(!world.core(leader).membership().is_joint());
    }
}

#[test]
fn a_single_replica_does_not_lead_before_its_log_is_written() {
    let mut alone = Alone::new(&[1]);
    alone.hold_writes = true;
    alone.step(Event::Campaign);
    assert_eq!(alone.core.status().role, Role::Leader, "its log was written before it started");
    assert!(alone.applied.is_empty(), "nothing is applied before it is durable");
    for batch in alone.batches.clone() {
        alone.step(Event::Persisted(batch.number));
    }
    assert_eq!(alone.applied, [2]);
}

#[test]
fn a_single_voter_sends_nothing_to_its_learners_before_its_term_is_durable() {
    // After a power loss it would lead in this term again, and its learner would keep the entries
    // of the first time: same index, same term, other bytes.
    let mut members = Membership::of_voters([1]);
    members.learners.insert(2);
    let mut config = Config::new(1, 1);
    config.seed = Some(1);
    let mut core = Core::new(config, Recovered::founding(members), 1, &quiet()).expect("starts");
    let sends = |actions: &[Action]| actions.iter().any(|a| matches!(a, Action::Send(_)));
    let elected = core.step(Event::Campaign);
    assert_eq!(core.status().role, Role::Leader);
    assert!(!sends(&elected), "its term is not durable");
    let proposal = Proposal { token: 1, command: vec![1] };
    assert!(!sends(&core.step(Event::Propose(vec![proposal]))), "nor is it now");
    assert!(!sends(&core.step(Event::Tick)), "a heartbeat tells of the term too");
    let batch = elected.iter().find_map(|action| match action {
        Action::Persist(batch) => Some(batch),
        _ => None,
    });
    let batch = batch.expect("the vote is written");
    assert!(batch.must_sync && batch.hard_state.is_some_and(|state| state.term == 2));
    assert!(sends(&core.step(Event::Persisted(batch.number))), "now it may be told");
    assert!(sends(&core.step(Event::Tick)), "and from here on at once");
}

#[test]
fn a_commit_index_alone_goes_with_the_next_batch_or_with_a_tick() {
    let mut alone = Alone::elected(&[1]);
    alone.propose(1);
    let written = alone.batches.len();
    let committed = alone.core.status().commit;
    let written_commit = |alone: &Alone| {
        let mut states = alone.batches.iter().rev().filter_map(|batch| batch.hard_state);
        states.next().expect("a term was written").commit
    };
    assert!(!alone.batches[written - 1].entries.is_empty(), "the last batch is the entry's");
    assert!(written_commit(&alone) < committed, "it was not known yet");
    alone.propose(2);
    assert_eq!((alone.batches.len(), written_commit(&alone)), (written + 1, committed));
    alone.step(Event::Tick);
    let batch = alone.batches.last().expect("the tick writes");
    assert!(batch.entries.is_empty() && !batch.must_sync);
    assert_eq!((alone.batches.len(), written_commit(&alone)), (written + 2, committed + 1));
    alone.step(Event::Tick);
    assert_eq!(alone.batches.len(), written + 2, "nothing is new");
}

/// Gives a core an event and answers whatever it asks of its shell; what it sends.
fn carried_out(core: &mut Core, event: Event) -> Vec<eraftpb::Message> {
    let (mut events, mut sent) = (std::collections::VecDeque::from([event]), Vec::new());
    while let Some(event) = events.pop_front() {
        for action in core.step(event) {
            match action {
                Action::Send(message) => sent.push(message.0),
                Action::Persist(batch) => events.push_back(Event::Persisted(batch.number)),
                Action::Apply(list) => {
                    let last = list.last().expect("never empty").entry.index();
                    events.push_back(Event::Applied(last));
                }
                _ => {}
            }
        }
    }
    sent
}

#[test]
fn who_is_removed_is_told_although_it_has_not_answered_for_a_while() {
    let mut config = Config::new(1, 1);
    config.seed = Some(1);
    let founding = Recovered::founding(Membership::of_voters([1, 2, 3]));
    let mut core = Core::new(config, founding, 1, &quiet()).expect("starts");
    let mut asked = carried_out(&mut core, Event::Campaign);
    // The second answers everything, the third nothing.
    let (mut told, mut index) = (0, 0);
    for round in 0..20 {
        let mut next = Vec::new();
        for message in std::mem::take(&mut asked) {
            if message.to == 3 {
                told = told.max(message.commit);
                continue;
            }
            let mut answer = eraftpb::Message::default();
            (answer.from, answer.to, answer.term) = (2, 1, message.term);
            answer.set_msg_type(match message.get_msg_type() {
                MessageType::MsgRequestPreVote => MessageType::MsgRequestPreVoteResponse,
                MessageType::MsgRequestVote => MessageType::MsgRequestVoteResponse,
                MessageType::MsgAppend => MessageType::MsgAppendResponse,
                _ => continue,
            });
            answer.index = message.index + message.entries.len() as u64;
            next.extend(carried_out(&mut core, Event::Receive(Message(answer))));
        }
        if round == 10 {
            assert_eq!(core.status().role, Role::Leader);
            index = core.status().last_index + 1;
            let steps = vec![MemberChange::Remove(3)];
            next.extend(carried_out(&mut core, Event::Change { token: 1, steps }));
        }
        asked = next;
    }
    assert!(!core.membership().contains(3));
    assert!(told >= index, "it was told of {told}, and is removed by {index}");
}

#[test]
fn who_was_removed_tells_a_candidate_of_a_later_term_what_is_committed() {
    // Of two voters one led, removed itself, and was the only one to learn that this is committed.
    let mut founding = Recovered::founding(Membership::of_voters([1]));
    founding.hard_state = HardState { term: 4, vote: 0, commit: 1 };
    let mut entry = eraftpb::Entry::default();
    (entry.index, entry.term) = (2, 4);
    founding.entries = vec![Entry(entry)];
    let mut removed = Core::new(Config::new(2, 1), founding, 1, &quiet()).expect("starts");
    let mut asked = eraftpb::Message::default();
    asked.set_msg_type(MessageType::MsgRequestPreVote);
    (asked.from, asked.to, asked.term, asked.index, asked.log_term) = (1, 2, 6, 1, 1);
    let answers = carried_out(&mut removed, Event::Receive(Message(asked)));
    let [answer] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(answer.get_msg_type(), MessageType::MsgRequestPreVoteResponse);
    assert!(answer.reject, "its log is longer");
    assert_eq!((answer.term, answer.commit, answer.commit_term), (5, 1, 1));
}

#[test]
fn nobody_stands_for_election_with_entries_that_are_not_written() {
    // A single voter that still receives entries of a former leader: it would win at once, and
    // lead with a log that is not on its disk.
    let mut alone = Alone::new(&[1]);
    alone.hold_writes = true;
    let mut entry = eraftpb::Entry::default();
    (entry.index, entry.term) = (2, 5);
    let mut append = eraftpb::Message::default();
    append.set_msg_type(MessageType::MsgAppend);
    (append.from, append.to, append.term) = (2, 1, 5);
    (append.index, append.log_term) = (1, 1);
    append.set_entries(vec![entry].into());
    alone.step(Event::Receive(Message(append)));
    alone.step(Event::Campaign);
    for _ in 0..50 {
        alone.step(Event::Tick);
    }
    assert_eq!(alone.core.status().role, Role::Follower);
    let number = alone.batches.last().expect("the entry is written").number;
    alone.step(Event::Persisted(number));
    alone.step(Event::Campaign);
    assert_eq!(alone.core.status().role, Role::Leader);
}

/// A single voter that leads, applies nothing by itself, and has committed these commands.
fn lagging(entries: u64, bytes: u64, commands: &[usize]) -> Alone {
    let mut config = Config::new(1, 1);
    config.seed = Some(1);
    (config.apply_ahead_entries, config.apply_ahead_bytes) = (entries, bytes);
    let mut alone = Alone::new(&[1]);
    let founding = Recovered::founding(Membership::of_voters([1]));
    alone.core = Core::new(config, founding, 1, &quiet()).expect("starts");
    alone.step(Event::Campaign);
    alone.hold_applied = true;
    for (token, length) in (0..).zip(commands) {
        let command = vec![1; *length];
        alone.step(Event::Propose(vec![Proposal { token, command }]));
    }
    assert_eq!(alone.core.status().commit, 2 + commands.len() as u64, "the log goes on");
    alone
}

#[test]
fn a_state_machine_that_lags_is_given_so_many_entries_and_gets_the_rest_in_order() {
    let mut alone = lagging(10, u64::MAX, &[1; 50]);
    assert_eq!(alone.applied, (2..=12).collect::<Vec<_>>(), "the first one was applied");
    assert_eq!(alone.batches.iter().map(|batch| batch.entries.len()).sum::<usize>(), 51);
    alone.step(Event::Applied(5));
    assert_eq!(alone.applied.last(), Some(&15));
    for index in [15, 25, 35, 45, 52] {
        let handed = alone.applied.last().copied();
        assert!(handed.is_some_and(|handed| handed >= index && handed <= index + 10));
        alone.step(Event::Applied(index));
    }
    assert_eq!(alone.applied, (2..=52).collect::<Vec<_>>());
    let tokens: Vec<u64> = alone.ended.iter().map(|(token, _)| *token).collect();
    assert_eq!(tokens, (0..50).collect::<Vec<_>>(), "each was answered, in order");
}

#[test]
fn a_state_machine_that_lags_is_given_so_many_bytes_and_a_longer_entry_alone() {
    let mut alone = lagging(u64::MAX, 1000, &[400, 400, 400, 5000, 400]);
    assert_eq!(alone.applied, [2, 3, 4], "a third would be too much");
    alone.step(Event::Applied(4));
    assert_eq!(alone.applied, [2, 3, 4, 5], "the long one waits");
    alone.step(Event::Applied(5));
    assert_eq!(alone.applied, [2, 3, 4, 5, 6], "nothing else waits");
    alone.step(Event::Applied(6));
    assert_eq!(alone.applied, [2, 3, 4, 5, 6, 7]);
}

/// Entries of a leader 2 in term 5 after `after`, of which so many are committed.
fn append(after: (u64, u64), count: u64, commit: u64) -> Event {
    let entry = |index| {
        let mut entry = eraftpb::Entry::default();
        (entry.index, entry.term, entry.data) = (index, 5, vec![1; 100].into());
        entry
    };
    let mut append = eraftpb::Message::default();
    append.set_msg_type(MessageType::MsgAppend);
    (append.from, append.to, append.term) = (2, 1, 5);
    ((append.index, append.log_term), append.commit) = (after, commit);
    append.set_entries((after.0 + 1..=after.0 + count).map(entry).collect::<Vec<_>>().into());
    Event::Receive(Message(append))
}

#[test]
fn a_follower_whose_state_machine_lags_takes_no_more_entries_than_its_log_may_hold() {
    let mut config = Config::new(1, 1);
    (config.seed, config.snapshot_bytes) = (Some(1), 500);
    let mut alone = Alone::new(&[1, 2]);
    let founding = Recovered::founding(Membership::of_voters([1, 2]));
    alone.core = Core::new(config, founding, 1, &quiet()).expect("starts");
    alone.hold_applied = true;
    alone.step(append((1, 1), 30, 1));
    assert_eq!(alone.core.status().last_index, 31, "nothing waits for the state machine");
    alone.step(append((31, 5), 30, 31));
    assert_eq!(alone.core.status().last_index, 61);
    assert_eq!(alone.applied.last(), Some(&31), "and from here on something does");
    alone.step(append((61, 5), 1, 61));
    assert_eq!(alone.core.status().last_index, 61, "it is over 2,000 bytes behind");
    alone.step(append((61, 5), 0, 61));
    assert_eq!(alone.applied.last(), Some(&61), "a commit index is taken");
    alone.step(Event::Applied(31));
    alone.step(append((61, 5), 1, 61));
    assert_eq!(alone.core.status().last_index, 61, "it still is");
    alone.step(Event::Applied(50));
    alone.step(append((61, 5), 1, 61));
    assert_eq!(alone.core.status().last_index, 62);
}

#[test]
fn a_joint_membership_nobody_leaves_is_left_by_the_leader() {
    let mut members = Membership::of_voters([1]);
    members.voters_outgoing = members.voters.clone();
    assert!(!members.auto_leave, "raft itself never leaves this one");
    let mut config = Config::new(1, 1);
    config.seed = Some(1);
    let core = Core::new(config, Recovered::founding(members), 1, &quiet()).expect("starts");
    let mut alone = Alone::new(&[1]);
    alone.core = core;
    alone.step(Event::Campaign);
    assert!(alone.core.membership().is_joint());
    alone.step(Event::Tick);
    assert!(!alone.core.membership().is_joint());
}

#[test]
fn a_single_replica_confirms_reads_alone() {
    let mut alone = Alone::elected(&[1]);
    alone.propose(1);
    alone.step(Event::Read(vec![2, 3]));
    let index = alone.core.status().applied;
    assert_eq!(alone.ended[1..], [(2, End::Read(index)), (3, End::Read(index))]);
}

#[test]
fn a_shell_that_breaks_the_contract_is_stopped() {
    for event in [Event::Applied(99), Event::Applied(1), Event::Persisted(99)] {
        let mut alone = Alone::elected(&[1]);
        let actions = alone.core.step(event);
        assert!(matches!(actions[..], [Action::Halt(RaftError::Contract { .. })]));
        assert!(alone.core.step(Event::Tick).is_empty());
    }
}
