//! Who belongs to the cluster: join, promote, remove, hand over.
//!
//! # Invariants
//!
//! 1. A change is repeated until the leader's membership shows it, or the deadline passes. That is
//!    safe: every change made here says what shall be, not what shall be done.
//! 2. A leader hands over before it is removed.
//! 3. A removed id never comes back.

use std::time::Duration;

use super::clock::Deadline;
use super::network::{Answer, Mail};
use super::{Cluster, Node};
use crate::limits::JOIN_LAG_MAX;
use crate::machine::Fsm;
use crate::raft::{
    ClusterError, MemberChange, Membership, MemoryLog, ProposeError, Refusal, Status,
};

impl<F: Fsm> Cluster<F> {
    /// Starts a new, empty replica and adds it as a learner: it receives the log, or a snapshot,
    /// and does not vote. Asked again after a time-out it goes on where it was.
    ///
    /// # Errors
    ///
    /// [`ClusterError::Exists`], [`ClusterError::Retired`], or [`ClusterError::Timeout`] when no
    /// majority agreed in time.
    pub fn add_learner(&self, id: u64) -> Result<(), ClusterError> {
        if self.retired().contains(&id) {
            return Err(ClusterError::Retired { id });
        }
        let is_voter = |status: &Status| status.membership.is_voter(id);
        if self.board.posted().leader().is_some_and(is_voter) {
            return Err(ClusterError::Exists { id });
        }
        let mut nodes = self.nodes();
        let is_new = !nodes.contains_key(&id);
        if is_new {
            nodes.insert(id, Node::new(MemoryLog::new(), (self.factory)(id)));
        }
        drop(nodes);
        if is_new {
            self.restart(id)?;
        }
        self.reach(&[MemberChange::AddLearner(id)], "a learner added", |members| {
            members.contains(id)
        })
    }

    /// Makes a learner a voter.
    ///
    /// A voter that is far behind weakens the group until it has caught up; [`join`](Self::join)
    /// waits for that.
    ///
    /// # Errors
    ///
    /// [`ClusterError::NoSuchReplica`], or [`ClusterError::Timeout`].
    pub fn promote(&self, id: u64) -> Result<(), ClusterError> {
        self.known(id)?;
        self.reach(&[MemberChange::AddVoter(id)], "a learner promoted", |members| {
            members.voters.contains(&id)
        })
    }

    /// Adds a learner, waits until its log and its state machine have caught up, and promotes it.
    ///
    /// # Errors
    ///
    /// As [`add_learner`](Self::add_learner) and [`promote`](Self::promote).
    pub fn join(&self, id: u64) -> Result<(), ClusterError> {
        self.add_learner(id)?;
        let caught_up = self.board.wait(self.deadline(), |posted| {
            let leader = posted.leader()?;
            let peer = leader.peers.get(&id)?;
            // Its log is durable before a received snapshot is in its state machine; both count.
            let applied = posted.replicas.get(&id)?.status.applied;
            let reached = peer.matched.min(applied);
            let near = reached + JOIN_LAG_MAX >= leader.last_index;
            (near && peer.is_active && reached > 0).then_some(())
        });
        caught_up.ok_or(ClusterError::Timeout { what: "a learner caught up" })?;
        self.promote(id)
    }

    /// Removes a replica for ever and stops it. A leader hands over first.
    ///
    /// Of two voters, one can be removed only while both are alive.
    ///
    /// # Errors
    ///
    /// [`ClusterError::NoSuchReplica`], [`ClusterError::Change`] when it is the last voter, or
    /// [`ClusterError::Timeout`].
    pub fn remove(&self, id: u64) -> Result<(), ClusterError> {
        self.known(id)?;
        let successor = {
            let posted = self.board.posted();
            let leader = posted.leader().filter(|leader| leader.id == id);
            leader.and_then(|leader| {
                let best = leader
                    .peers
                    .iter()
                    .filter(|(id, peer)| leader.membership.voters.contains(id) && peer.is_active);
                best.max_by_key(|(_, peer)| peer.matched).map(|(id, _)| *id)
            })
        };
        if let Some(successor) = successor {
            self.transfer_leader(successor)?;
        }
        self.reach(&[MemberChange::Remove(id)], "a replica removed", |members| {
            !members.contains(id)
        })?;
        self.retired().insert(id);
        self.stop(id)?;
        self.nodes().remove(&id);
        self.board.posted().replicas.remove(&id);
        Ok(())
    }

    /// Hands leadership to a voter. Proposals are refused meanwhile, and asked again by
    /// [`propose`](Self::propose).
    ///
    /// # Errors
    ///
    /// [`ClusterError::NoSuchReplica`], or [`ClusterError::Timeout`] when `to` did not take over:
    /// not a voter, not running, or too far behind.
    pub fn transfer_leader(&self, to: u64) -> Result<(), ClusterError> {
        self.known(to)?;
        let deadline = self.deadline();
        let election = self.options.tick.saturating_mul(ELECTION_TICKS);
        while !deadline.has_passed() {
            match self.leader() {
                Some(leader) if leader == to => return Ok(()),
                // A full inbox, or a leader that just stopped: the next round asks again.
                Some(leader) => drop(self.network.post(leader, Mail::Transfer(to))),
                None => {}
            }
            let led = |posted: &super::board::Posted| {
                posted.leader().filter(|leader| leader.id == to).map(|_| ())
            };
            if self.board.wait(deadline.or_after(election), led).is_some() {
                return Ok(());
            }
        }
        Err(ClusterError::Timeout { what: "a leader handed over" })
    }

    fn known(&self, id: u64) -> Result<(), ClusterError> {
        let known = self.nodes().contains_key(&id);
        if known { Ok(()) } else { Err(ClusterError::NoSuchReplica { id }) }
    }

    /// Proposes the change until the leader's membership is as wished.
    fn reach(
        &self,
        steps: &[MemberChange],
        what: &'static str,
        done: impl Fn(&Membership) -> bool,
    ) -> Result<(), ClusterError> {
        let deadline = self.deadline();
        loop {
            let leader = self.board.wait(deadline, |posted| {
                let leader = posted.leader()?;
                let settled = !leader.membership.is_joint() && done(&leader.membership);
                Some((leader.id, settled))
            });
            match leader {
                None => return Err(ClusterError::Timeout { what }),
                Some((_, true)) => return Ok(()),
                Some((leader, false)) => self.change_at(leader, steps, deadline)?,
            }
            if deadline.has_passed() {
                return Err(ClusterError::Timeout { what });
            }
        }
    }

    /// Proposes once; waits for a moment when the answer is "not now".
    fn change_at(
        &self,
        leader: u64,
        steps: &[MemberChange],
        deadline: Deadline,
    ) -> Result<(), ClusterError> {
        let steps = steps.to_vec();
        let asked = self.ask(leader, |answer| Mail::Change { steps, answer });
        let answer = asked.and_then(|answers| {
            let limit: Duration = deadline.left();
            answers.recv_timeout(limit).map_err(|_| ProposeError::Unknown)
        });
        match answer {
            Ok(Answer::Refused(reason @ Refusal::InvalidChange { .. })) => {
                Err(ProposeError::from(reason).into())
            }
            Ok(Answer::Changed(Err(reason))) => {
                Err(ProposeError::from(Refusal::InvalidChange { reason }).into())
            }
            _ => {
                self.board.wait_for_change(deadline.or_after(self.options.tick));
                Ok(())
            }
        }
    }
}

/// Ticks one attempt to hand over may take: raft gives up after an election timeout.
const ELECTION_TICKS: u32 = 12;
