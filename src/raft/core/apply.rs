//! Committed entries on their way to the state machine.
//!
//! # Invariants
//!
//! 1. `applied <= handed <= committed`, and entries are handed out without a gap.
//! 2. A membership change is handed out, and takes effect, only when a commit index at or above it
//!    is durable. What follows it waits with it.
//! 3. While a received snapshot is being installed nothing is handed out.
//! 4. `applied` of raft moves only when the shell says so, also after a snapshot: raft-rs does not
//!    move it by itself, and would look for entries that are gone.
//! 5. What was handed out and is not applied is bounded in entries and bytes. What waits beyond is
//!    in the log alone, which forgets nothing that is not applied.

use std::collections::VecDeque;

use protobuf::Message as _;
use raft::ProgressState;
use raft::eraftpb::{self, ConfChange, ConfChangeSingle, ConfChangeV2, EntryType};

use super::Core;
use super::event::{Action, Committed};
use super::ready::is_change;
use crate::limits::APPLY_BYTES_MAX;
use crate::raft::{Entry, Membership, RaftError};

/// How far the state machine is.
#[derive(Debug)]
pub(super) struct Applying {
    /// The last entry that is committed and durable here.
    committed: u64,
    pub(super) handed: u64,
    pub(super) applied: u64,
    /// Groups that were handed out and are not applied: the last entry of each, and its bytes.
    ahead: VecDeque<(u64, u64)>,
    ahead_bytes: u64,
    /// The snapshot that is being written or installed.
    pub(super) installing: Option<u64>,
}

impl Applying {
    pub(super) fn new(applied: u64) -> Self {
        Self {
            committed: applied,
            handed: applied,
            applied,
            ahead: VecDeque::new(),
            ahead_bytes: 0,
            installing: None,
        }
    }

    /// These may be handed out. They are in the log, and are taken from there when it is time.
    pub(super) fn commit(&mut self, entries: &[eraftpb::Entry]) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return };
        assert_eq!(first.index, self.committed + 1, "invariant 1");
        self.committed = last.index;
    }

    /// A received snapshot takes the place of everything not handed out.
    pub(super) fn replace(&mut self, index: u64) {
        (self.committed, self.handed) = (index, index);
        self.ahead.clear();
        self.ahead_bytes = 0;
        self.installing = Some(index);
    }

    fn hand(&mut self, last: u64, bytes: u64) {
        self.ahead.push_back((last, bytes));
        self.ahead_bytes += bytes;
    }

    fn reach(&mut self, index: u64) {
        self.applied = index;
        while let Some((_, bytes)) = self.ahead.pop_front_if(|(last, _)| *last <= index) {
            self.ahead_bytes -= bytes;
        }
    }
}

impl Core {
    /// Hands out what may be handed out.
    pub(super) fn hand_out(&mut self, actions: &mut Vec<Action>) {
        loop {
            let (mut group, mut bytes) = (Vec::new(), 0);
            while let Some(entry) = self.next_to_hand_out(bytes) {
                self.applying.handed = entry.index;
                self.snapshots.grow(&entry);
                bytes += u64::from(entry.compute_size());
                let token = self.resolve(entry.index, entry.term, actions);
                let membership = is_change(&entry).then(|| self.apply_change(&entry));
                group.push(Committed { entry: Entry(entry), token, membership });
            }
            if group.is_empty() {
                return;
            }
            self.applying.hand(self.applying.handed, bytes);
            actions.push(Action::Apply(group));
        }
    }

    /// The entry that goes on a group of so many bytes, if there is one and room for it.
    fn next_to_hand_out(&self, bytes: u64) -> Option<eraftpb::Entry> {
        let Applying { committed, handed, applied, ahead_bytes, installing, .. } = self.applying;
        let is_full = handed - applied >= self.config.apply_ahead_entries;
        if installing.is_some() || handed == committed || is_full {
            return None;
        }
        let entry = self.node.store().entry(handed + 1);
        assert!(entry.is_some(), "invariant 5");
        let entry = entry?;
        let group = bytes + u64::from(entry.compute_size());
        let fits = ahead_bytes + group <= self.config.apply_ahead_bytes;
        let is_alone = ahead_bytes + bytes == 0;
        let joins = bytes == 0 || group <= APPLY_BYTES_MAX;
        let waits = is_change(entry) && entry.index > self.writing.durable_commit;
        ((fits || is_alone) && joins && !waits).then(|| entry.clone())
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
        self.tell_of_change();
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

    /// Tells everybody the commit index before a change is made. Whoever is removed by it learns
    /// that now or never: raft-rs forgets it with the change, and told it nothing while it waited
    /// for an answer of it.
    fn tell_of_change(&mut self) {
        if !self.is_leader() {
            return;
        }
        let progress = self.node.raft.mut_prs().iter_mut();
        let probed = progress.filter(|(_, peer)| peer.state == ProgressState::Probe);
        probed.for_each(|(_, peer)| peer.resume());
        self.node.raft.bcast_append();
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
        self.applying.reach(index);
        let last = log.last_index();
        self.node.mut_store().apply_to(index);
        if self.applying.installing == Some(index) {
            self.applying.installing = None;
        }
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
