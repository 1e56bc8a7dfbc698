//! Who belongs to the group, and how that changes.
//!
//! # Invariants
//!
//! 1. A membership that passed [`Membership::check`] can be given to raft without a panic.
//! 2. The sets are sorted, so equal memberships have equal encodings.

use std::collections::BTreeSet;

use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2, ConfState};
use serde::{Deserialize, Serialize};

/// The members of the group as of one log index.
///
/// `voters_outgoing` is empty except while a joint change is under way; then both the voters and
/// the outgoing voters must agree to everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Replicas that vote.
    pub voters: BTreeSet<u64>,
    /// Replicas that receive the log and do not vote.
    pub learners: BTreeSet<u64>,
    /// The voters before the joint change that is under way.
    pub voters_outgoing: BTreeSet<u64>,
    /// Outgoing voters that become learners when the joint change ends.
    pub learners_next: BTreeSet<u64>,
    /// Whether raft ends the joint change by itself.
    pub auto_leave: bool,
}

impl Membership {
    /// A membership of these voters alone: how a group is founded.
    ///
    /// ```
    /// # use fsmdb::raft::Membership;
    /// assert!(Membership::of_voters([1, 2, 3]).is_voter(2));
    /// ```
    pub fn of_voters(ids: impl IntoIterator<Item = u64>) -> Self {
        Self { voters: ids.into_iter().collect(), ..Self::default() }
    }

    /// Whether `id` votes, now or in the outgoing half of a joint change.
    #[must_use]
    pub fn is_voter(&self, id: u64) -> bool {
        self.voters.contains(&id) || self.voters_outgoing.contains(&id)
    }

    /// Whether `id` belongs to the group in any role.
    #[must_use]
    pub fn contains(&self, id: u64) -> bool {
        self.is_voter(id) || self.learners.contains(&id)
    }

    /// Whether a joint change is under way.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.voters_outgoing.is_empty()
    }

    /// Whether nobody belongs to the group: a replica that waits to be joined.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.voters.is_empty()
    }

    /// Checks what raft would answer with a panic.
    ///
    /// # Errors
    ///
    /// A sentence naming the rule that is broken.
    pub fn check(&self) -> Result<(), String> {
        let all = [&self.voters, &self.learners, &self.voters_outgoing, &self.learners_next];
        if all.iter().any(|set| set.contains(&0)) {
            return Err("0 is not a replica id".to_owned());
        }
        if self.voters.is_empty() && all.iter().any(|set| !set.is_empty()) {
            return Err("members without a voter".to_owned());
        }
        if let Some(id) = self.learners.iter().find(|id| self.is_voter(**id)) {
            return Err(format!("{id} is both voter and learner"));
        }
        if let Some(id) = self.learners_next.iter().find(|id| !self.voters_outgoing.contains(id)) {
            return Err(format!("{id} becomes a learner without being an outgoing voter"));
        }
        if let Some(id) = self.learners_next.intersection(&self.voters).next() {
            return Err(format!("{id} is both voter and next learner"));
        }
        if self.auto_leave && !self.is_joint() {
            return Err("auto-leave outside a joint change".to_owned());
        }
        Ok(())
    }

    pub(super) fn from_raft(state: &ConfState) -> Self {
        let set = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<u64>>();
        Self {
            voters: set(state.get_voters()),
            learners: set(state.get_learners()),
            voters_outgoing: set(state.get_voters_outgoing()),
            learners_next: set(state.get_learners_next()),
            auto_leave: state.get_auto_leave(),
        }
    }

    pub(super) fn to_raft(&self) -> ConfState {
        let list = |set: &BTreeSet<u64>| set.iter().copied().collect::<Vec<u64>>();
        let mut state = ConfState::default();
        state.set_voters(list(&self.voters));
        state.set_learners(list(&self.learners));
        state.set_voters_outgoing(list(&self.voters_outgoing));
        state.set_learners_next(list(&self.learners_next));
        state.set_auto_leave(self.auto_leave);
        state
    }
}

/// One step of a membership change. Several in one proposal are one joint change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum MemberChange {
    /// Makes the replica a voter: a new one, or a learner that is promoted.
    AddVoter(u64),
    /// Adds the replica as a learner, or demotes a voter.
    AddLearner(u64),
    /// Removes the replica. Its id must never be used again.
    Remove(u64),
}

impl MemberChange {
    /// The replica the step is about.
    #[must_use]
    pub fn id(&self) -> u64 {
        match self {
            Self::AddVoter(id) | Self::AddLearner(id) | Self::Remove(id) => *id,
        }
    }

    pub(super) fn to_raft(changes: &[Self]) -> ConfChangeV2 {
        let singles = changes.iter().map(|change| {
            let id = change.id();
            let mut single = ConfChangeSingle { node_id: id, ..ConfChangeSingle::default() };
            single.set_change_type(match change {
                Self::AddVoter(_) => ConfChangeType::AddNode,
                Self::AddLearner(_) => ConfChangeType::AddLearnerNode,
                Self::Remove(_) => ConfChangeType::RemoveNode,
            });
            single
        });
        let mut change = ConfChangeV2::default();
        change.set_changes(singles.collect::<Vec<_>>().into());
        change
    }
}
