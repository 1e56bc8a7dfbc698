//! What a replica knows of itself and, while it leads, of the others.

use std::collections::BTreeMap;

use raft::ProgressState;

use super::{Core, Role};
use crate::raft::Membership;

/// How a leader feeds another replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerState {
    /// Finding out where its log ends.
    Probe,
    /// Sending entries as they come.
    Replicate,
    /// Waiting for a snapshot to arrive there.
    Snapshot,
}

/// A leader's view of another replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerStatus {
    /// The last index known to be durable there.
    pub matched: u64,
    /// The next index to send.
    pub next: u64,
    /// How it is fed.
    pub state: PeerState,
    /// Whether it answered within the last election timeout.
    pub is_active: bool,
}

/// The state of one replica. Costs one copy of the membership.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The replica.
    pub id: u64,
    /// Its role.
    pub role: Role,
    /// Its term.
    pub term: u64,
    /// The leader it knows of.
    pub leader: Option<u64>,
    /// The last index it knows to be committed.
    pub commit: u64,
    /// The last index its state machine holds.
    pub applied: u64,
    /// The first index of its log.
    pub first_index: u64,
    /// The last index of its log, durable or not.
    pub last_index: u64,
    /// The members as of the last change it handed to its state machine.
    pub membership: Membership,
    /// On a leader: the other members.
    pub peers: BTreeMap<u64, PeerStatus>,
}

impl Core {
    /// The state now.
    #[must_use]
    pub fn status(&self) -> Status {
        let raft = &self.node.raft;
        let mut peers = BTreeMap::new();
        if self.is_leader() {
            for (&id, peer) in raft.prs().iter().filter(|(id, _)| **id != self.config.id) {
                let state = match peer.state {
                    ProgressState::Probe => PeerState::Probe,
                    ProgressState::Replicate => PeerState::Replicate,
                    ProgressState::Snapshot => PeerState::Snapshot,
                };
                let (matched, next) = (peer.matched, peer.next_idx);
                peers
                    .insert(id, PeerStatus { matched, next, state, is_active: peer.recent_active });
            }
        }
        Status {
            id: self.config.id,
            role: self.role(),
            term: raft.term,
            leader: self.leader(),
            commit: raft.raft_log.committed,
            applied: self.applying.applied,
            first_index: raft.raft_log.first_index(),
            last_index: raft.raft_log.last_index(),
            membership: self.membership().clone(),
            peers,
        }
    }
}
