//! Committed entries on their way to the state machine.
//!
//! # Invariants
//!
//! 1. `applied <= handed`, and entries are handed out without a gap.
//! 2. A membership change is handed out, and takes effect, only when a commit index at or above it
//!    is durable. What follows it waits with it.
//! 3. While a received snapshot is being installed nothing is handed out.
//! 4. `applied` of raft moves only when the shell says so, also after a snapshot: raft-rs does not
//!    move it by itself, and would look for entries that are gone.

use std::collections::VecDeque;

use protobuf::Message as _;
use raft::eraftpb::{self, ConfChange, ConfChangeSingle, ConfChangeV2, EntryType};

use super::Core;
use super::event::{Action, Committed};
use super::ready::is_change;
use crate::raft::{Entry, Membership, RaftError};

/// How far the state machine is.
#[derive(Debug)]
pub(super) struct Applying {
    queue: VecDeque<eraftpb::Entry>,
    pub(super) handed: u64,
    pub(super) applied: u64,
    /// The snapshot that is being written or installed.
    pub(super) installing: Option<u64>,
}

impl Applying {
    pub(super) fn new(applied: u64) -> Self {
        Self { queue: VecDeque::new(), handed: applied, applied, installing: None }
    }

    pub(super) fn push(&mut self, entries: Vec<eraftpb::Entry>) {
        self.queue.extend(entries);
    }

    /// A received snapshot takes the place of everything not handed out.
    pub(super) fn replace(&mut self, index: u64) {
        self.queue.clear();
        self.handed = index;
        self.installing = Some(index);
    }
}

impl Core {
    /// Hands out what may be handed out.
    pub(super) fn hand_out(&mut self, actions: &mut Vec<Action>) {
        let mut group = Vec::new();
        while self.applying.installing.is_none() {
            let Some(entry) = self.applying.queue.front() else { break };
            if is_change(entry) && entry.index > self.writing.durable_commit {
                break;
            }
            let Some(entry) = self.applying.queue.pop_front() else { break };
            assert_eq!(entry.index, self.applying.handed + 1, "invariant 1");
            self.applying.handed = entry.index;
            self.snapshots.grow(&entry);
            let token = self.resolve(entry.index, entry.term, actions);
            let membership = is_change(&entry).then(|| self.apply_change(&entry));
            group.push(Committed { entry: Entry(entry), token, membership });
        }
        if !group.is_empty() {
            actions.push(Action::Apply(group));
        }
    }

    /// The token of the entry at `index`, if it was appended here in this very term. An entry of
    /// another term there means that ours was overwritten by another leader.
    fn resolve(&mut self, index: u64, term: u64, actions: &mut Vec<Action>) -> Option<u64> {
        let (appended_in, token) = self.pending.remove(&index)?;
        if appended_in == term {
            return Some(token);
        }
        actions.push(Action::Unknown { token });
        None
    }

    /// Makes a membership change effective. A change that contradicts the membership is refused,
    /// by every replica alike, because all of them have the same membership here.
    fn apply_change(&mut self, entry: &eraftpb::Entry) -> Result<Membership, String> {
        let change = parse_change(entry)?;
        let state = self.node.apply_conf_change(&change).map_err(|error| error.to_string())?;
        let membership = Membership::from_raft(&state);
        self.memberships.insert(entry.index, membership.clone());
        if self.is_leader() && !membership.is_voter(self.config.id) {
            // The members left behind should learn of the commit from us; then we follow, in
            // this very step, because raft-rs counts a leader's own progress, which is gone.
            self.node.raft.bcast_append();
            let term = self.node.raft.term;
            self.node.raft.become_follower(term, raft::INVALID_ID);
        }
        Ok(membership)
    }

    /// The state machine holds everything up to `index`.
    pub(super) fn applied(
        &mut self,
        index: u64,
        actions: &mut Vec<Action>,
    ) -> Result<(), RaftError> {
        let log = &self.node.raft.raft_log;
        let limit = self.applying.handed.min(log.committed).min(log.persisted);
        if index <= self.applying.applied || index > limit {
            let reason =
                format!("applied {index}, expected {} to {limit}", self.applying.applied + 1);
            return Err(RaftError::Contract { reason });
        }
        self.applying.applied = index;
        if self.applying.installing == Some(index) {
            self.applying.installing = None;
        }
        let last = log.last_index();
        self.node.advance_apply_to(index);
        if self.node.raft.raft_log.last_index() > last {
            // Raft left a joint membership by itself; it does not tell the others before the
            // next heartbeat.
            self.node.raft.bcast_append();
        }
        self.hand_out(actions);
        Ok(())
    }

    /// Leaves a joint membership that nobody else leaves: raft's automatic way out is lost when
    /// the leader changes at the wrong moment.
    pub(super) fn leave_joint(&mut self) {
        let raft = &self.node.raft;
        let stuck = self.is_leader() && self.membership().is_joint();
        if stuck && !raft.has_pending_conf() && raft.lead_transferee.is_none() {
            // Refused only when too much is uncommitted; the next tick tries again.
            let _ = self.node.propose_conf_change(Vec::new(), ConfChangeV2::default());
        }
    }
}

/// Reads the change out of its entry. This library writes version 2 only; version 1 is one step.
fn parse_change(entry: &eraftpb::Entry) -> Result<ConfChangeV2, String> {
    if entry.get_entry_type() == EntryType::EntryConfChangeV2 {
        return ConfChangeV2::parse_from_bytes(&entry.data).map_err(|error| error.to_string());
    }
    let old = ConfChange::parse_from_bytes(&entry.data).map_err(|error| error.to_string())?;
    let mut single = ConfChangeSingle { node_id: old.node_id, ..ConfChangeSingle::default() };
    single.set_change_type(old.get_change_type());
    let mut change = ConfChangeV2::default();
    change.set_changes(vec![single].into());
    Ok(change)
}
