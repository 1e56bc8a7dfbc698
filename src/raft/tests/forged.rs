//! Messages nobody should send: the core drops them, and never panics.

use raft::eraftpb::{self, MessageType};

use super::alone::quiet;
use super::chain::mix;
use super::world::World;
use crate::limits::{RAFT_INDEX_MAX, TERM_AHEAD_MAX};
use crate::raft::core::{Config, Core, Event};
use crate::raft::{Message, RaftError, Recovered};

fn message(kind: MessageType, from: u64, to: u64, term: u64) -> eraftpb::Message {
    let mut message = eraftpb::Message::default();
    message.set_msg_type(kind);
    (message.from, message.to, message.term) = (from, to, term);
    message
}

#[test]
fn local_messages_proposals_and_reads_from_the_network_are_dropped() {
    let mut world = World::started(1, &[1, 2, 3]);
    world.commit_one();
    let leader = world.leader().expect("a leader");
    let other = (1..=3).find(|id| *id != leader).expect("three");
    let before = world.core(leader).status();
    for kind in [
        MessageType::MsgHup,
        MessageType::MsgBeat,
        MessageType::MsgPropose,
        MessageType::MsgUnreachable,
        MessageType::MsgSnapStatus,
        MessageType::MsgCheckQuorum,
        MessageType::MsgTransferLeader,
        MessageType::MsgReadIndex,
        MessageType::MsgReadIndexResp,
    ] {
        let core = world.nodes.get_mut(&leader).and_then(|n| n.core.as_mut()).expect("runs");
        for term in [0, before.term] {
            let forged = Message(message(kind, other, leader, term));
            assert!(core.step(Event::Receive(forged)).is_empty(), "{kind:?}");
        }
    }
    assert_eq!(world.core(leader).status(), before);
}

#[test]
fn a_term_that_ends_all_elections_is_dropped() {
    let mut world = World::started(1, &[1, 2, 3]);
    world.commit_one();
    let leader = world.leader().expect("a leader");
    let other = (1..=3).find(|id| *id != leader).expect("three");
    let before = world.core(leader).status();
    let terms = [RAFT_INDEX_MAX, before.term + TERM_AHEAD_MAX + 1];
    for (kind, term) in [
        MessageType::MsgHeartbeat,
        MessageType::MsgAppend,
        MessageType::MsgRequestVote,
        MessageType::MsgRequestPreVoteResponse,
        MessageType::MsgAppendResponse,
    ]
    .into_iter()
    .flat_map(|kind| terms.map(|term| (kind, term)))
    {
        world.step(leader, Event::Receive(Message(message(kind, other, leader, term))));
        assert_eq!(world.core(leader).status(), before, "{kind:?} of {term}");
    }
    world.heal_and_check();
    // Who joins has heard of no term, and its group may be in any.
    let mut joiner = Core::new(Config::new(4, 1), Recovered::default(), 0, &quiet()).expect("new");
    let heartbeat = Message(message(MessageType::MsgHeartbeat, 1, 4, terms[1]));
    assert!(!joiner.step(Event::Receive(heartbeat)).is_empty());
    assert_eq!(joiner.status().term, terms[1]);
}

#[test]
fn a_commit_index_beyond_the_log_is_dropped() {
    let mut world = World::started(1, &[1, 2, 3]);
    world.commit_one();
    let leader = world.leader().expect("a leader");
    let other = (1..=3).find(|id| *id != leader).expect("three");
    let status = world.core(other).status();
    let mut forged = message(MessageType::MsgHeartbeat, leader, other, status.term);
    forged.commit = status.last_index + 5;
    world.step(other, Event::Receive(Message(forged)));
    let mut forged = message(MessageType::MsgAppendResponse, other, leader, status.term);
    forged.index = status.last_index + 500;
    world.step(leader, Event::Receive(Message(forged)));
    world.heal_and_check();
}

#[test]
fn random_messages_never_panic() {
    let kinds = [
        MessageType::MsgAppend,
        MessageType::MsgAppendResponse,
        MessageType::MsgHeartbeat,
        MessageType::MsgHeartbeatResponse,
        MessageType::MsgRequestVote,
        MessageType::MsgRequestVoteResponse,
        MessageType::MsgRequestPreVote,
        MessageType::MsgRequestPreVoteResponse,
        MessageType::MsgSnapshot,
        MessageType::MsgTimeoutNow,
    ];
    for seed in 0..300 {
        let mut world = World::started(seed % 5, &[1, 2, 3]);
        let mut random = mix(seed);
        let mut below = |limit: u64| {
            random = mix(random);
            random % limit
        };
        for _ in 0..40 {
            let to = 1 + below(3);
            let status = world.core(to).status();
            let kind = kinds[usize::try_from(below(10)).expect("small")];
            let mut forged = message(kind, below(5), to, (status.term + below(3)).max(1) - 1);
            let near = [0, 1, status.last_index, status.last_index + 3, u64::MAX];
            let mut number = || near[usize::try_from(below(5)).expect("small")];
            (forged.index, forged.commit, forged.reject_hint) = (number(), number(), number());
            let (index, entry_index) = (number(), number());
            forged.log_term = below(4);
            forged.reject = below(2) == 0;
            forged.commit_term = below(4);
            if kind == MessageType::MsgSnapshot {
                let metadata = forged.mut_snapshot().mut_metadata();
                (metadata.index, metadata.term) = (index, below(3));
                metadata.mut_conf_state().set_voters((0..below(5)).collect());
                metadata.mut_conf_state().set_learners((2..below(5)).collect());
            }
            if kind == MessageType::MsgAppend && below(2) == 0 {
                let mut entry = eraftpb::Entry::default();
                (entry.index, entry.term) = (entry_index, below(4));
                forged.set_entries(vec![entry].into());
            }
            // The forger is one replica short of a majority, so only panics are looked for; the
            // answers go nowhere.
            let core = world.nodes.get_mut(&to).and_then(|n| n.core.as_mut()).expect("runs");
            drop(core.step(Event::Receive(Message(forged))));
        }
    }
}

#[test]
fn messages_and_entries_survive_their_encoding() {
    let mut sent = message(MessageType::MsgAppend, 1, 2, 3);
    let mut entry = eraftpb::Entry::default();
    (entry.index, entry.term, entry.data) = (7, 3, vec![1, 2, 3].into());
    sent.set_entries(vec![entry].into());
    let sent = Message(sent);
    assert_eq!(Message::decode(&sent.encode().expect("small")), Ok(sent));
    assert!(matches!(Message::decode(&[0xff; 9]), Err(RaftError::Decode { .. })));
}
