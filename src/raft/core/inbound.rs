//! What a replica believes of a message.
//!
//! # Invariants
//!
//! 1. A message that would make raft-rs panic is dropped. Dropping is always safe: raft expects
//!    messages to be lost.
//! 2. Proposals, reads and leader transfers never arrive as raft messages: raft would forward them
//!    without an answer, and a repeated read context can make a read stale. Shells route them.
//! 3. Local messages of raft never arrive from outside.
//! 4. The log in memory grows no longer than its limit for a state machine that lags: entries are
//!    dropped then, and the leader sends them again. While nothing waits for the state machine none
//!    are, so this always ends.

use raft::eraftpb::{self, MessageType};
use raft::{INVALID_ID, StateRole};

use super::Core;
use crate::limits::{RAFT_INDEX_MAX, TERM_AHEAD_MAX};
use crate::raft::{Membership, Message};

impl Core {
    pub(super) fn receive(&mut self, message: Message) {
        let message = message.0;
        if !self.is_sound(&message) || !self.is_timely(&message) {
            return;
        }
        self.follow_candidate(&message);
        // An error is a message from a replica raft does not know: dropped like the others.
        let _ = self.node.step(message);
    }

    /// Takes over the term of who asks for votes, when this replica has none of its own to give
    /// and hears no leader. It was removed, and may alone know that this is committed: the answer
    /// says so, and raft-rs heeds none of an earlier term. Without it, of two voters the one that
    /// is left could wait for ever for the vote of the other.
    fn follow_candidate(&mut self, message: &eraftpb::Message) {
        let raft = &mut self.node.raft;
        let is_asked = message.get_msg_type() == MessageType::MsgRequestPreVote;
        let knows_better = !raft.promotable() && raft.leader_id == INVALID_ID;
        // A pre-vote asks for the term after that of the candidate.
        if is_asked && knows_better && raft.term > 0 && message.term > raft.term + 1 {
            raft.become_follower(message.term - 1, INVALID_ID);
        }
    }

    /// Judges the message alone.
    fn is_sound(&self, message: &eraftpb::Message) -> bool {
        let addressed = message.to == self.config.id && message.from != self.config.id;
        let numbers = [message.term, message.index, message.commit, message.reject_hint];
        // No replica of this library asks for a snapshot of an index; a forged request would keep
        // its leader building them for ever.
        if !addressed || message.from == 0 || message.term == 0 || message.request_snapshot != 0 {
            return false;
        }
        if numbers.iter().any(|number| *number > RAFT_INDEX_MAX) {
            return false;
        }
        match message.get_msg_type() {
            MessageType::MsgAppend => is_run(message),
            MessageType::MsgSnapshot => is_snapshot(message),
            MessageType::MsgAppendResponse
            | MessageType::MsgHeartbeat
            | MessageType::MsgHeartbeatResponse
            | MessageType::MsgRequestVote
            | MessageType::MsgRequestVoteResponse
            | MessageType::MsgRequestPreVote
            | MessageType::MsgRequestPreVoteResponse
            | MessageType::MsgTimeoutNow => true,
            _ => false,
        }
    }

    /// Judges the message against what this replica holds.
    fn is_timely(&self, message: &eraftpb::Message) -> bool {
        let raft = &self.node.raft;
        // Who has never heard a term has no vote that it could lose, and joins a group of any.
        if raft.term > 0 && message.term.saturating_sub(raft.term) > TERM_AHEAD_MAX {
            return false;
        }
        let last = raft.raft_log.last_index();
        match message.get_msg_type() {
            // A commit index beyond our log: we acknowledged entries we no longer have. Following
            // would be a lie, so this replica stays silent until it is replaced.
            MessageType::MsgHeartbeat => message.term < raft.term || message.commit <= last,
            // Nobody can hold more of our log than we do.
            MessageType::MsgAppendResponse => {
                message.term < raft.term
                    || raft.state != StateRole::Leader
                    || (message.index <= last && message.reject_hint <= last)
            }
            MessageType::MsgTimeoutNow => self.may_campaign(),
            MessageType::MsgAppend => message.get_entries().is_empty() || !self.is_overfull(),
            // One installation at a time. The leader sends again.
            MessageType::MsgSnapshot => self.applying.installing.is_none(),
            _ => true,
        }
    }

    /// Whether the state machine is so far behind that the log must wait for it.
    fn is_overfull(&self) -> bool {
        let lags = self.applying.applied < self.node.raft.raft_log.committed;
        lags && self.node.store().unapplied_bytes() > self.config.log_bytes_max()
    }
}

/// Whether the entries follow the previous index without a gap, with terms that rise up to the
/// message's. Raft-rs takes term 0 for "beyond the log" and would find it matching there.
fn is_run(message: &eraftpb::Message) -> bool {
    if (message.index == 0) != (message.log_term == 0) {
        return false;
    }
    let mut previous = (message.index, message.log_term);
    message.get_entries().iter().all(|entry| {
        let follows = entry.index == previous.0 + 1 && entry.term >= previous.1.max(1);
        previous = (entry.index, entry.term);
        follows && entry.term <= message.term
    })
}

fn is_snapshot(message: &eraftpb::Message) -> bool {
    let metadata = message.get_snapshot().get_metadata();
    let membership = Membership::from_raft(metadata.get_conf_state());
    (1..=RAFT_INDEX_MAX).contains(&metadata.index)
        && (1..=message.term).contains(&metadata.term)
        && !membership.is_empty()
        && membership.check().is_ok()
}
