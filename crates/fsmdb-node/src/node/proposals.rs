//! Proposals on the raft thread: into the log, or to the leader.
//!
//! # Invariants
//!
//! 1. A proposal of a peer is never passed on; one of a user is passed on to the leader alone.
//! 2. What the log has, or may have, is proposed again only if it is repeatable.
//! 3. The commands that wait for one turn become one append.

use std::sync::Arc;

use fsmdb::raft::{Event, Proposal, ProposeError, Refusal, Role};

use super::clock;
use super::error::NodeError;
use super::job::{Job, Waiter};
use super::mail::Mail;
use super::replica::Replica;
use super::request::{Answer, Refused, Request, decode, encode};
use crate::limits::REQUEST_BYTES_MAX;
use crate::link::{LinkError, Responder};
use crate::session::Replicated;

impl<F: Replicated> Replica<F> {
    /// Sends proposals where they belong.
    pub(super) fn submit(&mut self, jobs: Vec<Job<F::Reply>>) -> Result<(), NodeError> {
        let (is_leader, leader) = (self.role == Role::Leader, self.leader);
        let mut own = Vec::new();
        for job in jobs {
            let is_of_user = job.waiter.is_of_user();
            match leader {
                // Dropped: it learns that this node stops. A peer asks the next leader.
                _ if self.is_draining && is_of_user => drop(job),
                _ if is_leader && !self.is_draining => own.push(job),
                _ if !is_of_user => {
                    let leader = leader.filter(|leader| *leader != self.id);
                    job.waiter.answer(Err(ProposeError::NotLeader { leader }));
                }
                Some(leader) if leader != self.id => self.forward(job, leader),
                _ => self.parked.push(job),
            }
        }
        self.append(own)
    }

    /// Submits again what waits for a leader.
    pub(super) fn unpark(&mut self) -> Result<(), NodeError> {
        if self.leader.is_none() {
            return Ok(());
        }
        let parked = std::mem::take(&mut self.parked);
        self.submit(parked)
    }

    fn append(&mut self, jobs: Vec<Job<F::Reply>>) -> Result<(), NodeError> {
        let mut proposals = Vec::with_capacity(jobs.len());
        for mut job in jobs {
            if !job.waiter.begin() {
                continue;
            }
            let token = self.next_token();
            let command = match job.waiter.is_of_user() {
                true => job.command.clone(),
                false => std::mem::take(&mut job.command),
            };
            proposals.push(Proposal { token, command });
            self.appended.insert(token, job);
        }
        if proposals.is_empty() {
            return Ok(());
        }
        self.shared.metrics.propose_batch.observe(proposals.len() as f64);
        self.step(Event::Propose(proposals))
    }

    fn forward(&mut self, mut job: Job<F::Reply>, leader: u64) {
        let command = std::mem::take(&mut job.command);
        let request = Request::Propose { command };
        let body = encode(&request);
        let Request::Propose { command } = request else { return };
        let Some(body) = body else {
            let (bytes, limit) = (command.len(), REQUEST_BYTES_MAX);
            job.waiter.answer(Err(ProposeError::TooLarge { bytes, limit }));
            return;
        };
        job.command = command;
        if !job.waiter.begin() {
            return;
        }
        self.shared.metrics.forwarded.inc();
        let timeout = clock::left(job.waiter.deadline);
        let shared = Arc::clone(&self.shared);
        let done = Box::new(move |answer: Result<Vec<u8>, LinkError>| {
            let mail = match answer.map(|bytes| decode::<Answer>(&bytes)) {
                Ok(Some(Answer::Applied { at, reply })) => {
                    let reply = decode(&reply).ok_or(ProposeError::Unknown);
                    job.waiter.answer(reply.map(|reply| (at, reply)));
                    return;
                }
                Ok(Some(Answer::Refused(refused))) => Mail::NotTaken(job, refused.into()),
                Ok(_) | Err(LinkError::Lost) => Mail::Lost(job),
                Err(LinkError::TooLong) => {
                    let (bytes, limit) = (job.command.len(), REQUEST_BYTES_MAX);
                    Mail::NotTaken(job, ProposeError::TooLarge { bytes, limit })
                }
                Err(_) => Mail::NotTaken(job, ProposeError::NotLeader { leader: None }),
            };
            // Dropped when the node has stopped: it learns so.
            let _ = shared.inbox.post(mail);
        });
        self.transport.request(leader, body, timeout, done);
    }

    /// Nothing was appended. What another leader, or the same one later, may take is tried again.
    pub(super) fn not_taken(&mut self, mut job: Job<F::Reply>, error: ProposeError) {
        job.waiter.not_taken();
        let is_busy = error == ProposeError::Refused(Refusal::Busy);
        let goes_on = error.is_retryable() && (!is_busy || job.is_repeatable);
        if goes_on && job.waiter.is_of_user() {
            self.parked.push(job);
        } else if goes_on || !job.waiter.is_lost {
            job.waiter.answer(Err(error));
        } else {
            job.waiter.answer(Err(ProposeError::Unknown));
        }
    }

    /// It may have been appended, and nobody will say.
    pub(super) fn lost(&mut self, mut job: Job<F::Reply>) {
        job.waiter.is_lost = true;
        if job.is_repeatable && job.waiter.is_of_user() {
            self.parked.push(job);
        } else {
            job.waiter.answer(Err(ProposeError::Unknown));
        }
    }

    pub(super) fn refused(&mut self, token: u64, reason: Refusal) {
        if let Some(job) = self.appended.remove(&token) {
            self.not_taken(job, reason.into());
        } else if let Some(respond) = self.changes.remove(&token) {
            super::door::send(respond, &Answer::Refused(reason.into()));
        }
    }

    pub(super) fn unknown(&mut self, token: u64) {
        if let Some(job) = self.appended.remove(&token) {
            self.lost(job);
        } else if let Some(respond) = self.changes.remove(&token) {
            super::door::send(respond, &Answer::Unknown);
        }
    }

    /// A command of a peer, which has been checked.
    pub(super) fn propose_for_peer(&mut self, command: Vec<u8>, respond: Responder) {
        let Some(permit) = self.shared.admission.admit(command.len()) else {
            self.shared.metrics.busy.inc();
            super::door::send(respond, &Answer::Refused(Refused::Busy));
            return;
        };
        let done = move |outcome: super::job::Proposed<F::Reply>| {
            let answer = match outcome {
                Ok((at, reply)) => match encode(&reply) {
                    Some(reply) => Answer::Applied { at, reply },
                    None => Answer::Unknown,
                },
                Err(ProposeError::Unknown) => Answer::Unknown,
                Err(error) => Answer::Refused(error.into()),
            };
            super::door::send(respond, &answer);
        };
        let waiter = Waiter {
            id: self.id,
            asked: clock::now(),
            deadline: clock::later(self.shared.deadline),
            slot: None,
            done: Some(Box::new(done)),
            _permit: Some(permit),
            is_sent: false,
            is_lost: false,
        };
        self.arrived.push(Job { command, is_repeatable: false, waiter });
    }
}
