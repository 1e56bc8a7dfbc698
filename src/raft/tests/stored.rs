//! Logs and snapshots: what is kept, what is refused, what a restart finds.

use raft::eraftpb;

use super::alone::{Alone, quiet};
use super::world::World;
use crate::raft::core::{Action, Config, Core, Event};
use crate::raft::{
    Entry, HardState, LogStore, MemberChange, Membership, MemoryLog, PeerState, RaftError,
    Recovered, SnapshotMeta,
};

#[test]
fn a_lost_snapshot_is_reported_and_sent_again() {
    let mut world = World::new(19, &[1, 2, 3]);
    world.snapshot_entries = 10;
    world.start_all();
    world.commit_one();
    let leader = world.leader().expect("a leader");
    let late = (1..=3).find(|id| *id != leader).expect("three");
    world.crash(late);
    world.run(300);
    for _ in 0..40 {
        world.commit_one();
    }
    world.lose_snapshots = 3;
    world.start(late).expect("restarts");
    world.run(1500);
    assert_eq!((world.snapshots_lost, world.lose_snapshots), (3, 0));
    assert!(world.installs >= 1);
    let leader = world.leader().expect("a leader");
    assert_eq!(world.core(leader).status().peers[&late].state, PeerState::Replicate);
    world.heal_and_check();
}

#[test]
fn a_snapshot_carries_the_members_as_of_its_index() {
    let mut alone = Alone::elected(&[1]);
    alone.propose(1);
    let before = alone.core.status().applied;
    // Taken now, finished after the membership changed.
    alone.step(Event::Change { token: 2, steps: vec![MemberChange::AddLearner(2)] });
    assert!(alone.core.membership().contains(2));
    let term = alone.core.status().term;
    let reference = b"snapshot".to_vec();
    let actions = alone.core.step(Event::SnapshotBuilt { index: before, term, reference });
    let Some(Action::Compact { snapshot, .. }) = actions.first() else { panic!("{actions:?}") };
    assert_eq!(snapshot.membership, Membership::of_voters([1]));
}

#[test]
fn compaction_keeps_a_tail_and_what_the_snapshot_before_lacks_within_the_longest_log() {
    for (tail, longest, behind) in [(4, 400, 20), (30, 400, 30), (4, 12, 12)] {
        let mut config = Config::new(1, 1);
        (config.seed, config.tail_entries, config.log_entries_max) = (Some(1), tail, longest);
        let members = Membership::of_voters([1]);
        let core = Core::new(config, Recovered::founding(members), 1, &quiet()).expect("starts");
        let mut alone = Alone::elected(&[1]);
        alone.core = core;
        alone.step(Event::Campaign);
        let mut build = || {
            for token in 0..20 {
                alone.propose(token);
            }
            let status = alone.core.status();
            let (index, term, reference) = (status.applied, status.term, b"s".to_vec());
            let actions = alone.core.step(Event::SnapshotBuilt { index, term, reference });
            let Some(Action::Compact { index: target, .. }) = actions.first() else { panic!() };
            assert_eq!(alone.core.status().first_index, target + 1);
            (index, *target)
        };
        // Before the first one there is the founding, at 1.
        let (index, target) = build();
        assert_eq!(target, if longest == 12 { index - 12 } else { 1 });
        let (index, target) = build();
        assert_eq!(index - target, behind, "a tail of {tail}, a log of {longest}");
    }
}

#[test]
fn a_restart_hands_out_every_entry_after_the_snapshot_again() {
    let mut world = World::started(23, &[1, 2, 3]);
    for _ in 0..5 {
        world.commit_one();
    }
    world.run(100);
    let chains: Vec<_> = world.nodes.values().map(|node| node.chain).collect();
    for id in 1..=3 {
        world.crash(id);
    }
    for id in 1..=3 {
        world.start(id).expect("restarts");
        assert_eq!(world.nodes[&id].chain.index, 1, "rebuilt from the founding snapshot");
    }
    world.commit_one();
    world.run(100);
    for (node, before) in world.nodes.values().zip(chains) {
        assert!(node.chain.index > before.index, "the same history, and more");
    }
}

#[test]
fn a_log_that_lost_committed_entries_is_refused() {
    let mut recovered = Recovered::founding(Membership::of_voters([1, 2, 3]));
    recovered.hard_state = HardState { term: 2, vote: 0, commit: 5 };
    let outcome = Core::new(Config::new(1, 1), recovered, 1, &quiet());
    assert_eq!(outcome.err(), Some(RaftError::LostLog { commit: 5, last: 1 }));
}

#[test]
fn a_state_machine_at_another_index_than_the_snapshot_is_refused() {
    let recovered = Recovered::founding(Membership::of_voters([1]));
    let outcome = Core::new(Config::new(1, 1), recovered, 3, &quiet());
    assert_eq!(outcome.err(), Some(RaftError::AppliedMismatch { applied: 3, snapshot: 1 }));
}

#[test]
fn unsynced_writes_are_lost_from_the_end_and_synced_ones_never() {
    let entry = |index: u64| {
        let mut entry = eraftpb::Entry::default();
        (entry.index, entry.term) = (index, 1);
        Entry(entry)
    };
    let mut log = MemoryLog::founding(Membership::of_voters([1]));
    log.append(&[entry(2)], None, true).expect("in order");
    log.append(&[entry(3)], None, false).expect("in order");
    log.append(&[entry(4)], None, false).expect("in order");
    assert!(log.append(&[entry(9)], None, false).is_err(), "a gap");
    assert_eq!(log.unsynced_count(), 2);
    log.lose_unsynced(1);
    let indexes = |log: &mut MemoryLog| -> Vec<u64> {
        log.load().expect("memory").entries.iter().map(Entry::index).collect()
    };
    assert_eq!(indexes(&mut log), [2, 3]);
    log.append(&[entry(2)], None, true).expect("replaces what follows");
    assert_eq!(indexes(&mut log), [2]);
}

#[test]
fn a_snapshot_that_cannot_be_built_is_not_asked_for_in_a_circle() {
    let mut config = Config::new(1, 1);
    (config.seed, config.snapshot_entries) = (Some(1), 5);
    let members = Membership::of_voters([1]);
    let core = Core::new(config, Recovered::founding(members), 1, &quiet()).expect("starts");
    let mut alone = Alone::new(&[1]);
    alone.core = core;
    alone.step(Event::Campaign);
    for token in 0..5 {
        alone.propose(token);
    }
    let again = alone.core.step(Event::SnapshotFailed);
    assert!(!again.contains(&Action::BuildSnapshot));
    let asked = alone.core.step(Event::Tick).contains(&Action::BuildSnapshot);
    assert!(!asked, "nothing has come since");
}

#[test]
fn the_recorded_snapshot_and_the_last_that_came_are_kept() {
    let mut log = MemoryLog::founding(Membership::of_voters([1]));
    let data: std::sync::Arc<[u8]> = vec![1].into();
    let meta = |index: u64, name: &[u8]| SnapshotMeta {
        index,
        term: 1,
        membership: Membership::of_voters([1]),
        reference: name.to_vec(),
    };
    log.put_snapshot(b"30", data.clone());
    log.install_snapshot(&meta(30, b"30"), HardState::default()).expect("its data is there");
    log.put_snapshot(b"80", data.clone());
    // Seed 737: an older one that comes later is the one about to be installed.
    log.put_snapshot(b"61", data);
    assert!(log.snapshot(b"30").is_some() && log.snapshot(b"80").is_none());
    log.install_snapshot(&meta(61, b"61"), HardState::default()).expect("its data is there");
    let missing = log.install_snapshot(&meta(80, b"80"), HardState::default());
    assert!(missing.is_err());
}

#[test]
fn what_is_unwanted_is_compacted_without_a_tail_behind_a_snapshot_that_is_asked_for() {
    let mut alone = Alone::elected(&[1]);
    for token in 0..20 {
        alone.propose(token);
    }
    let unwanted = alone.core.status().applied;
    // Of an entry to come: it waits.
    let early = alone.core.step(Event::Compact { index: unwanted + 1 });
    assert!(!early.contains(&Action::BuildSnapshot), "{early:?}");
    alone.hold_writes = true;
    alone.propose(20);
    let number = alone.batches.last().expect("written").number;
    let applied = alone.core.step(Event::Persisted(number));
    assert!(applied.iter().any(|action| matches!(action, Action::Apply(_))), "{applied:?}");
    let asked = alone.core.step(Event::Applied(unwanted + 1));
    assert!(asked.contains(&Action::BuildSnapshot), "{asked:?}");
    let (term, reference) = (alone.core.status().term, b"s".to_vec());
    let index = unwanted + 1;
    let actions = alone.core.step(Event::SnapshotBuilt { index, term, reference });
    let Some(Action::Compact { index: target, snapshot }) = actions.last() else { panic!() };
    assert_eq!((*target, snapshot.index), (index, index));
    let status = alone.core.status();
    assert_eq!((status.first_index, status.last_index), (index + 1, index));
    assert_eq!(alone.core.step(Event::Compact { index }), [], "nothing is left to be done");
}

#[test]
fn a_snapshot_may_be_of_an_entry_before_the_newest_as_far_as_the_core_says() {
    let mut alone = Alone::elected(&[1]);
    for token in 0..20 {
        alone.propose(token);
    }
    let status = alone.core.status();
    let (newest, term) = (status.applied, status.term);
    assert!(alone.core.snapshot_from() <= newest - 10);
    let index = newest - 10;
    let reference = b"s".to_vec();
    let actions = alone.core.step(Event::SnapshotBuilt { index, term, reference });
    let Some(Action::Compact { snapshot, .. }) = actions.first() else { panic!("{actions:?}") };
    assert_eq!(snapshot.index, index);
    assert_eq!(alone.core.snapshot_from(), index + 1, "it is recorded");
    assert!(alone.core.step(Event::Compact { index: newest - 3 }).contains(&Action::BuildSnapshot));
    assert_eq!(alone.core.snapshot_from(), newest - 3, "what is before is unwanted");
    let (index, reference) = (newest - 3, b"t".to_vec());
    let actions = alone.core.step(Event::SnapshotBuilt { index, term, reference });
    assert!(!actions.contains(&Action::BuildSnapshot), "{actions:?}");
    assert_eq!(alone.core.status().first_index, newest - 2);
}

#[test]
fn what_is_unwanted_is_compacted_at_once_behind_a_snapshot_that_is_there() {
    let mut alone = Alone::elected(&[1]);
    for token in 0..20 {
        alone.propose(token);
    }
    let status = alone.core.status();
    let (index, term, reference) = (status.applied, status.term, b"s".to_vec());
    let actions = alone.core.step(Event::SnapshotBuilt { index, term, reference });
    let Some(Action::Compact { index: target, snapshot }) = actions.first() else { panic!() };
    assert!(*target < index, "a tail is kept");
    let expected = Action::Compact { index, snapshot: snapshot.clone() };
    assert_eq!(alone.core.step(Event::Compact { index: index - 3 }), [expected]);
    assert_eq!(alone.core.status().first_index, index + 1);
}

#[test]
fn a_failed_snapshot_is_tried_again_when_somebody_asks_for_the_same_compaction_again() {
    let mut alone = Alone::elected(&[1]);
    alone.propose(1);
    let index = alone.core.status().applied;
    assert_eq!(alone.core.step(Event::Compact { index }), [Action::BuildSnapshot]);
    assert_eq!(alone.core.step(Event::SnapshotFailed), []);
    assert!(!alone.core.step(Event::Tick).contains(&Action::BuildSnapshot));
    assert_eq!(alone.core.step(Event::Compact { index }), [Action::BuildSnapshot]);
}

#[test]
fn a_snapshot_that_cannot_be_read_any_more_is_built_anew_of_the_same_state() {
    let mut alone = Alone::elected(&[1]);
    for token in 0..20 {
        alone.propose(token);
    }
    let status = alone.core.status();
    let (index, term) = (status.applied, status.term);
    let lost = |name: &[u8]| Event::SnapshotLost { reference: name.to_vec() };
    assert_eq!(alone.core.step(lost(b"first")), [], "it has none");
    let first = Event::SnapshotBuilt { index, term, reference: b"first".to_vec() };
    let compacted = alone.core.step(first);
    assert!(matches!(compacted[..], [Action::Compact { .. }]), "{compacted:?}");
    assert_eq!(alone.core.step(lost(b"another")), []);
    assert_eq!(alone.core.step(lost(b"first")), [Action::BuildSnapshot]);
    assert_eq!(alone.core.step(lost(b"first")), [], "one is being built");
    let second = Event::SnapshotBuilt { index, term, reference: b"second".to_vec() };
    let actions = alone.core.step(second);
    let [Action::Compact { snapshot, .. }] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!((snapshot.index, &snapshot.reference[..]), (index, &b"second"[..]));
    let ticked = alone.core.step(Event::Tick);
    assert!(!ticked.contains(&Action::BuildSnapshot), "nothing is lost any more: {ticked:?}");
}

#[test]
fn a_replica_behind_an_unwanted_entry_gets_a_snapshot_and_compacts_in_its_turn() {
    let mut world = World::started(29, &[1, 2, 3]);
    world.commit_one();
    let leader = world.leader().expect("a leader");
    let late = (1..=3).find(|id| *id != leader).expect("three");
    world.cut_off(late);
    let unwanted = world.commit_one();
    world.run(200);
    for id in 1..=3 {
        world.step(id, Event::Compact { index: unwanted });
    }
    world.run(300);
    for id in (1..=3).filter(|id| *id != late) {
        assert!(world.core(id).status().first_index > unwanted, "node {id}");
    }
    assert!(world.core(late).status().first_index <= unwanted, "it was cut off");
    world.heal_and_check();
    assert!(world.installs >= 1);
    for id in 1..=3 {
        assert!(world.core(id).status().first_index > unwanted, "node {id}");
    }
}
