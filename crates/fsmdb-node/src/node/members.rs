//! Who belongs to the group: join, promote, remove, replace, hand over.
//!
//! Each operation is several steps, carried out on a thread of its own, from any node.
//!
//! # Invariants
//!
//! 1. A change is repeated until this node's membership shows it, or the deadline passes. That is
//!    safe: every change made here says what shall be, not what shall be done.
//! 2. A leader hands over before it is removed.
//! 3. A removed id never comes back: its row in the database stays, without an address.
//! 4. An operation that panics has ended, and says so.
//! 5. Nobody becomes a voter before its log and its state machine have caught up.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fsmdb::raft::{MemberChange, Membership, ProposeError};

use super::error::MemberError;
use super::pending::{Pending, Slot};
use super::replica::all_of;
use super::request::{Answer, Report, Request};
use super::status::NodeStatus;
use super::{Node, best_peer, clock, start};
use crate::limits::{ADDRESS_BYTES_MAX, MEMBER_OPERATIONS_MAX, PROMOTE_LAG_MAX};
use crate::session::{EnvelopeRef, EnvelopeReply, MemberRow, Replicated};

type Changed = Result<(), MemberError>;

impl<F: Replicated> Node<F> {
    /// Writes down where a new node is reached and adds it as a learner: it receives the log, or a
    /// snapshot, and does not vote. The node is to be started with a log that was never written.
    ///
    /// # Errors
    ///
    /// [`MemberError::Exists`], [`MemberError::Retired`], [`MemberError::Address`], or
    /// [`MemberError::Timeout`]; asked again it goes on where it was.
    pub fn add_learner(&self, id: u64, address: &str) -> Pending<(), MemberError> {
        let address = address.to_owned();
        self.operate(move |node, deadline| {
            let (bytes, limit) = (address.len(), ADDRESS_BYTES_MAX);
            if bytes > limit {
                return Err(MemberError::Address { bytes, limit });
            }
            if node.members().is_voter(id) {
                return Err(MemberError::Exists { id });
            }
            node.write_address(id, Some(&address), deadline)?;
            node.reach(&[MemberChange::AddLearner(id)], "a learner added", deadline, |members| {
                members.contains(id)
            })
        })
    }

    /// Makes a learner a voter, once its log and its state machine have caught up.
    ///
    /// Two voters tolerate no failure: of two, one lost stops the group. So the second voter is
    /// promoted for a third to follow.
    ///
    /// # Errors
    ///
    /// [`MemberError::NoSuchMember`], or [`MemberError::Timeout`] when it did not catch up.
    pub fn promote(&self, id: u64) -> Pending<(), MemberError> {
        self.operate(move |node, deadline| {
            node.known(id)?;
            node.catch_up(id, deadline)?;
            node.reach(&[MemberChange::AddVoter(id)], "a learner promoted", deadline, |members| {
                members.voters.contains(&id)
            })
        })
    }

    /// Removes a node for ever. A leader hands over first. The node itself stops when it learns of
    /// it, which it may not.
    ///
    /// Of two voters, one can be removed only while both are alive.
    ///
    /// # Errors
    ///
    /// [`MemberError::NoSuchMember`], [`MemberError::Propose`] when it is the last voter, or
    /// [`MemberError::Timeout`].
    pub fn remove(&self, id: u64) -> Pending<(), MemberError> {
        self.operate(move |node, deadline| node.remove_now(id, deadline))
    }

    /// Makes the learner `new` a voter and removes `old`, by one joint change, once `new` has
    /// caught up.
    ///
    /// # Errors
    ///
    /// As [`promote`](Node::promote) and [`remove`](Node::remove).
    pub fn replace(&self, old: u64, new: u64) -> Pending<(), MemberError> {
        self.operate(move |node, deadline| {
            node.known(old)?;
            node.known(new)?;
            node.catch_up(new, deadline)?;
            node.yield_leadership(old, deadline)?;
            let steps = [MemberChange::AddVoter(new), MemberChange::Remove(old)];
            node.reach(&steps, "a node replaced", deadline, |members| {
                members.voters.contains(&new) && !members.contains(old)
            })?;
            node.write_address(old, None, deadline)
        })
    }

    /// This node hands leadership over if it leads, is removed from the group, and stops. Its
    /// address is forgotten by whoever leads then, soon after.
    ///
    /// # Errors
    ///
    /// As [`remove`](Node::remove).
    pub fn leave(&self) -> Pending<(), MemberError> {
        let id = self.id();
        self.operate(move |node, deadline| {
            let outcome = node.remove_now(id, deadline);
            if outcome.is_ok() {
                node.end();
            }
            outcome
        })
    }

    /// Hands leadership to a voter. Proposals wait meanwhile; those that are appended and not
    /// committed end as unknown, unless they are of a session.
    ///
    /// # Errors
    ///
    /// [`MemberError::NoSuchMember`], or [`MemberError::Timeout`] when `to` did not take over: not
    /// running, or too far behind.
    pub fn transfer(&self, to: u64) -> Pending<(), MemberError> {
        self.operate(move |node, deadline| {
            node.known(to)?;
            node.transfer_now(to, deadline)
        })
    }

    /// Where this member is reached, as the database of this node says.
    #[must_use]
    pub fn address_of(&self, id: u64) -> Option<String> {
        let snapshot = self.read_stale();
        snapshot.table::<MemberRow>().get(&id).and_then(|row| row.address.clone())
    }

    /// The random bits of the directory that the group knows this member by, as the database of
    /// this node says: nothing until they are written down, which they are soon after every member
    /// was there once, and none once it was removed. A node that comes with others is refused.
    #[must_use]
    pub fn directory_of(&self, id: u64) -> Option<u128> {
        let snapshot = self.read_stale();
        snapshot.table::<MemberRow>().get(&id).and_then(|row| row.directory())
    }

    /// Runs an operation on a thread of its own.
    fn operate(
        &self,
        operation: impl FnOnce(&Self, Instant) -> Changed + Send + 'static,
    ) -> Pending<(), MemberError> {
        self.operate_within(self.shared().deadline, operation)
    }

    pub(super) fn operate_within<V: Send + 'static>(
        &self,
        within: Duration,
        operation: impl FnOnce(&Self, Instant) -> Result<V, MemberError> + Send + 'static,
    ) -> Pending<V, MemberError> {
        let (slot, deadline) = (Slot::new(self.id()), clock::later(within));
        let operations = &self.handle.operations;
        if operations.fetch_add(1, Ordering::AcqRel) >= MEMBER_OPERATIONS_MAX {
            operations.fetch_sub(1, Ordering::AcqRel);
            return Pending::ready(Err(MemberError::Busy));
        }
        let (node, spawning) = (self.clone(), Arc::clone(&slot));
        let spawned = start::spawn("members", self.id(), move || {
            let place = Place(node.clone());
            // The handles go before the answer: who has it may count on that.
            answer_with(&spawning, move || {
                let outcome = operation(&node, deadline);
                drop(place);
                outcome
            });
        });
        if spawned.is_err() {
            operations.fetch_sub(1, Ordering::AcqRel);
            slot.answer(Err(MemberError::Busy));
        }
        // The thread looks at the deadline itself, and says what was not reached.
        Pending::new(slot, deadline + self.shared().tick * 2)
    }

    fn members(&self) -> Membership {
        self.status().raft.membership
    }

    fn known(&self, id: u64) -> Changed {
        let is_known = self.members().contains(id);
        if is_known { Ok(()) } else { Err(MemberError::NoSuchMember { id }) }
    }

    fn remove_now(&self, id: u64, deadline: Instant) -> Changed {
        if self.address_of(id).is_some() && self.known(id).is_err() {
            // It was removed before, and that was not written down.
            return self.write_address(id, None, deadline);
        }
        self.known(id)?;
        self.yield_leadership(id, deadline)?;
        self.reach(&[MemberChange::Remove(id)], "a node removed", deadline, |members| {
            !members.contains(id)
        })?;
        // A node that removes itself is gone by now; its leader writes it down.
        if id == self.id() { Ok(()) } else { self.write_address(id, None, deadline) }
    }

    /// When `id` leads, somebody else shall.
    fn yield_leadership(&self, id: u64, deadline: Instant) -> Changed {
        let is_alone = self.members().voters.len() < 2;
        while self.status().raft.leader == Some(id) && !is_alone {
            let successor = if id == self.id() {
                best_peer(&self.status())
            } else {
                let report = self.report_of(id, deadline)?;
                let active = report.matched.iter().filter(|(peer, (_, is_active))| {
                    *is_active && report.membership.voters.contains(peer)
                });
                active.max_by_key(|(_, (matched, _))| *matched).map(|(peer, _)| *peer)
            };
            match successor {
                Some(to) => self.transfer_now(to, deadline)?,
                None => self.pause(deadline, "a successor for the leader")?,
            }
        }
        Ok(())
    }

    fn transfer_now(&self, to: u64, deadline: Instant) -> Changed {
        loop {
            if self.status().raft.leader == Some(to) {
                return Ok(());
            }
            let asked = self.shared().ask(None, Request::Transfer { to }, clock::left(deadline));
            match asked.wait() {
                Err(error) if !error.is_retryable() => return Err(error),
                _ => self.pause(deadline, "leadership handed over")?,
            }
        }
    }

    /// Waits until the log and the state machine of a learner are close to the leader's.
    fn catch_up(&self, id: u64, deadline: Instant) -> Changed {
        loop {
            if let Some(leader) = self.status().raft.leader
                && let Ok(leader) = self.report_of(leader, deadline)
                && let Ok(learner) = self.report_of(id, deadline)
                && let Some((matched, is_active)) = leader.matched.get(&id)
            {
                // Its log is durable before a received snapshot is in its state machine.
                let reached = learner.applied.min(*matched);
                if *is_active && reached > 0 && reached + PROMOTE_LAG_MAX >= leader.last_index {
                    return Ok(());
                }
            }
            self.pause(deadline, "a learner caught up")?;
        }
    }

    pub(super) fn report_of(&self, id: u64, deadline: Instant) -> Result<Report, MemberError> {
        let attempt = self.shared().tick.saturating_mul(crate::limits::READ_ATTEMPT_TICKS);
        let timeout = clock::left(deadline).min(attempt);
        match self.shared().ask(Some(id), Request::Report, timeout).wait()? {
            Answer::Report(report) => Ok(report),
            // Nothing else is answered to it.
            _ => Err(ProposeError::Unknown.into()),
        }
    }

    /// Asks for a change until the members are as they shall be.
    fn reach(
        &self,
        steps: &[MemberChange],
        what: &'static str,
        deadline: Instant,
        goal: impl Fn(&Membership) -> bool,
    ) -> Changed {
        let is_gone = |steps: &[MemberChange]| steps.contains(&MemberChange::Remove(self.id()));
        loop {
            let status = self.status();
            let is_reached = goal(&status.raft.membership) && !status.raft.membership.is_joint();
            if is_reached || (is_gone(steps) && has_removed_itself(&status)) {
                return Ok(());
            }
            let request = Request::Change { steps: steps.to_vec() };
            match self.shared().ask(None, request, clock::left(deadline)).wait() {
                Err(error) if !error.is_retryable() && !has_removed_itself(&self.status()) => {
                    return Err(error);
                }
                _ => self.pause(deadline, what)?,
            }
        }
    }

    fn write_address(&self, id: u64, address: Option<&str>, deadline: Instant) -> Changed {
        let envelope = EnvelopeRef::Member { id, address };
        let within = clock::left(deadline);
        let written =
            self.shared().propose::<bool, ProposeError>(&envelope, true, within, |outcome| {
                match outcome?.1 {
                    EnvelopeReply::Member(is_taken) => Ok(is_taken),
                    // Nothing else is answered to it.
                    _ => Err(ProposeError::Unknown),
                }
            });
        match written.wait()? {
            false if address.is_some() => Err(MemberError::Retired { id }),
            _ => Ok(()),
        }
    }

    /// Waits for a change of the status, at most a tick.
    pub(super) fn pause(&self, deadline: Instant, what: &'static str) -> Changed {
        let status = self.status();
        if clock::left(deadline).is_zero() {
            return Err(MemberError::Timeout { what });
        }
        if !status.is_running {
            return if has_removed_itself(&status) { Ok(()) } else { Err(self.stopped()) };
        }
        let tick = clock::later(self.shared().tick).min(deadline);
        let newer = |now: &NodeStatus| {
            let is_other = now.raft.leader != status.raft.leader
                || all_of(&now.raft.membership) != all_of(&status.raft.membership)
                || now.raft.membership.voters != status.raft.membership.voters
                || !now.is_running;
            is_other.then_some(())
        };
        // Woken, or timed out: the caller looks again either way.
        let _ = self.shared().board.wait(tick, newer);
        Ok(())
    }

    fn stopped(&self) -> MemberError {
        MemberError::Stopped { id: self.id() }
    }
}

/// One of the operations that a node carries out; over when this is dropped.
struct Place<F: Replicated>(Node<F>);

impl<F: Replicated> Drop for Place<F> {
    fn drop(&mut self) {
        self.0.handle.operations.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Answers with the outcome of an operation, also of one that panics.
fn answer_with<V>(slot: &Slot<V, MemberError>, operation: impl FnOnce() -> Result<V, MemberError>) {
    // What the operation had is dropped by the panic, and nobody sees it half changed.
    let outcome = catch_unwind(AssertUnwindSafe(operation));
    slot.answer(outcome.unwrap_or(Err(MemberError::Panicked)));
}

fn has_removed_itself(status: &NodeStatus) -> bool {
    matches!(status.error, Some(super::NodeError::Removed { .. }))
}

#[cfg(test)]
mod tests {
    use super::{Arc, MemberError, Pending, Slot, answer_with, clock};

    #[test]
    fn an_operation_that_panics_answers_who_waits() {
        let slot = Slot::<(), MemberError>::new(1);
        let pending = Pending::new(Arc::clone(&slot), clock::now());
        answer_with(&slot, || panic!("on purpose"));
        assert_eq!(pending.wait(), Err(MemberError::Panicked));
    }
}
