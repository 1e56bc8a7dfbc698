//! Proposals and reads of users.
//!
//! # Invariants
//!
//! 1. What was put into an inbox and is not answered has an unknown outcome.
//! 2. Every attempt of a read is a new read; none is answered by an older round.

use std::sync::mpsc::{self, Receiver, Sender};

use super::Cluster;
use super::clock::Deadline;
use super::network::{Answer, Mail, Undelivered};
use crate::Snapshot;
use crate::machine::{Fsm, Machine, MachineError};
use crate::raft::{Consistency, ProposeError, ReadError, Refusal};
use crate::revision::Applied;

impl<F: Fsm> Cluster<F> {
    /// Proposes a command at the leader, wherever it is, and waits for its reply.
    ///
    /// While nothing was appended (no leader, leadership moving, a busy leader) the proposal is
    /// sent again until the deadline.
    ///
    /// # Errors
    ///
    /// [`ProposeError::Unknown`] when it may have been applied: never retried here, and not to be
    /// retried blindly. Any error that [is retryable](ProposeError::is_retryable) appended
    /// nothing.
    pub fn propose(&self, command: &F::Command) -> Result<(Applied, F::Reply), ProposeError> {
        let command = encode::<F>(command)?;
        let deadline = self.deadline();
        loop {
            let leader = self.board.wait(deadline, |posted| posted.leader().map(|s| s.id));
            let leader = leader.ok_or(ProposeError::Timeout)?;
            match self.propose_once(leader, command.clone(), deadline) {
                Err(error) if error.is_retryable() => {
                    if deadline.has_passed() {
                        return Err(ProposeError::Timeout);
                    }
                    self.board.wait_for_change(deadline.or_after(self.options.tick));
                }
                outcome => return outcome,
            }
        }
    }

    /// Proposes a command at this very replica, once.
    ///
    /// # Errors
    ///
    /// [`ProposeError::NotLeader`] with the leader it knows of, and as [`propose`](Self::propose).
    pub fn propose_at(
        &self,
        id: u64,
        command: &F::Command,
    ) -> Result<(Applied, F::Reply), ProposeError> {
        self.propose_once(id, encode::<F>(command)?, self.deadline())
    }

    /// Reads from the leader, or for a stale read from any running replica.
    ///
    /// # Errors
    ///
    /// [`ReadError::Timeout`] when leadership was not confirmed in time; for a stale read
    /// [`ReadError::NoReplica`].
    pub fn read(&self, consistency: Consistency) -> Result<Snapshot, ReadError> {
        match consistency {
            Consistency::Linearizable | Consistency::Bounded { .. } => {
                self.read_leader(self.deadline()).map(|(_, snapshot)| snapshot)
            }
            Consistency::Stale => {
                let posted = self.board.posted();
                let best = posted.replicas.values().filter(|replica| replica.is_running);
                let best = best.max_by_key(|replica| replica.status.applied);
                let id = best.map(|replica| replica.status.id).ok_or(ReadError::NoReplica)?;
                drop(posted);
                self.machine(id).map(|machine| machine.read()).ok_or(ReadError::NoReplica)
            }
        }
    }

    /// Reads from this replica. A linearizable read is confirmed by the leader, then waits until
    /// this replica has caught up with it.
    ///
    /// # Errors
    ///
    /// [`ReadError::Stopped`], or [`ReadError::Timeout`].
    pub fn read_at(&self, id: u64, consistency: Consistency) -> Result<Snapshot, ReadError> {
        let deadline = self.deadline();
        let running = self.board.posted().is_running(id);
        if !running {
            return Err(ReadError::Stopped { id });
        }
        let mut confirmed = 0;
        if consistency != Consistency::Stale {
            let (index, _) = self.read_leader(deadline)?;
            let reached = self.board.wait(deadline, |posted| match posted.replicas.get(&id) {
                Some(replica) if replica.is_running => {
                    (replica.status.applied >= index).then_some(true)
                }
                _ => Some(false),
            });
            match reached {
                Some(true) => confirmed = index,
                Some(false) => return Err(ReadError::Stopped { id }),
                None => return Err(ReadError::Timeout),
            }
        }
        // Asked for only now: a restart makes a new state machine, and the old one stands still.
        let snapshot = self.machine(id).map(|machine| machine.read());
        let current = snapshot.filter(|snapshot| snapshot.applied().index >= confirmed);
        current.ok_or(ReadError::Stopped { id })
    }

    /// Puts a question into an inbox. An error means that it was not put there.
    pub(super) fn ask(
        &self,
        id: u64,
        mail: impl FnOnce(Sender<Answer<F::Reply>>) -> Mail<F::Reply>,
    ) -> Result<Receiver<Answer<F::Reply>>, ProposeError> {
        let (sender, answers) = mpsc::channel();
        match self.network.post(id, mail(sender)) {
            Ok(()) => Ok(answers),
            Err(Undelivered::Full) => Err(ProposeError::Refused(Refusal::Busy)),
            Err(Undelivered::Gone) => Err(ProposeError::Stopped { id }),
        }
    }

    /// From here on a missing answer means an unknown outcome.
    fn propose_once(
        &self,
        id: u64,
        command: Vec<u8>,
        deadline: Deadline,
    ) -> Result<(Applied, F::Reply), ProposeError> {
        let answers = self.ask(id, |answer| Mail::Propose { command, answer })?;
        match answers.recv_timeout(deadline.left()) {
            Ok(Answer::Applied(at, reply)) => Ok((at, reply)),
            Ok(Answer::Refused(reason)) => Err(reason.into()),
            Ok(_) | Err(_) => Err(ProposeError::Unknown),
        }
    }

    /// A confirmed read index, and a snapshot of the leader at or above it.
    fn read_leader(&self, deadline: Deadline) -> Result<(u64, Snapshot), ReadError> {
        loop {
            let leader = self.board.wait(deadline, |posted| posted.leader().map(|s| s.id));
            let leader = leader.ok_or(ReadError::Timeout)?;
            // Each attempt is a new read with a new context, and does not outlive a leader that
            // lost its followers by much.
            let attempt = deadline.or_after(self.options.tick.saturating_mul(READ_ATTEMPT_TICKS));
            if let Ok(answers) = self.ask(leader, |answer| Mail::Read { answer })
                && let Ok(Answer::Read { index, snapshot }) = answers.recv_timeout(attempt.left())
            {
                return Ok((index, snapshot));
            }
            if deadline.has_passed() {
                return Err(ReadError::Timeout);
            }
            self.board.wait_for_change(deadline.or_after(self.options.tick));
        }
    }
}

/// Ticks after which a read that is not answered is asked again: two election timeouts, within
/// which a leader without followers has noticed.
const READ_ATTEMPT_TICKS: u32 = 20;

fn encode<F: Fsm>(command: &F::Command) -> Result<Vec<u8>, ProposeError> {
    Machine::<F>::encode(command).map_err(|error| match error {
        MachineError::TooLarge { bytes, limit } => ProposeError::TooLarge { bytes, limit },
        other => ProposeError::Encode { reason: other.to_string() },
    })
}
