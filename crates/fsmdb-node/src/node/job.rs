//! One proposal on its way, and who waits for it.
//!
//! # Invariants
//!
//! 1. A waiter is answered exactly once: by whoever knows the outcome, or by its drop.
//! 2. What was never sent ends as retryable, what may have been appended as unknown.

use std::sync::Arc;
use std::time::Instant;

use fsmdb::Applied;
use fsmdb::raft::ProposeError;

use super::admission::Permit;
use super::pending::{Ending, Waiting};
use crate::session::EnvelopeReply;

/// What became of a proposal.
pub(super) type Proposed<R> = Result<(Applied, EnvelopeReply<R>), ProposeError>;

/// What is done with that.
pub(super) type Done<R> = Box<dyn FnOnce(Proposed<R>) + Send>;

/// A proposal.
pub(super) struct Job<R> {
    /// The encoded command.
    pub(super) command: Vec<u8>,
    /// Whether it may be appended more than once: a command of a session, or one that says what
    /// shall be.
    pub(super) is_repeatable: bool,
    pub(super) waiter: Waiter<R>,
}

/// Who waits for a proposal.
pub(super) struct Waiter<R> {
    pub(super) id: u64,
    pub(super) asked: Instant,
    pub(super) deadline: Instant,
    /// Where a user of this node waits; nothing for a peer, or for what the node itself proposes.
    pub(super) slot: Option<Arc<dyn Waiting>>,
    pub(super) done: Option<Done<R>>,
    /// Given back when this is dropped.
    pub(super) _permit: Option<Permit>,
    pub(super) is_sent: bool,
    /// Whether an attempt was lost whose outcome nobody knows.
    pub(super) is_lost: bool,
}

impl<R> Waiter<R> {
    /// Whether a user of this node asked; what others ask is not passed on.
    pub(super) fn is_of_user(&self) -> bool {
        self.slot.is_some()
    }

    /// Whether anybody still waits.
    pub(super) fn is_open(&self) -> bool {
        self.slot.as_ref().is_none_or(|slot| slot.is_open())
    }

    /// Marks the proposal as sent; not if it was given up.
    pub(super) fn begin(&mut self) -> bool {
        self.is_sent = self.slot.as_ref().is_none_or(|slot| slot.begin());
        self.is_sent
    }

    /// Nothing was appended by the attempt that has just failed.
    pub(super) fn not_taken(&mut self) {
        if !self.is_lost {
            self.is_sent = false;
            if let Some(slot) = &self.slot {
                slot.not_taken();
            }
        }
    }

    pub(super) fn answer(mut self, outcome: Proposed<R>) {
        if let Some(done) = self.done.take() {
            done(outcome);
        }
    }
}

impl<R> Drop for Waiter<R> {
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            let is_sent = self.is_sent || self.is_lost;
            done(Err(Ending { id: self.id, is_sent, is_stopped: true }.into()));
        }
    }
}
