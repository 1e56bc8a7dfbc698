//! Requests of nodes to each other, on the raft thread.
//!
//! # Invariants
//!
//! 1. A request is answered here and passed on to nobody.
//! 2. What this node asks itself goes the same way as what it asks others.

use std::time::Duration;

use fsmdb::raft::{Event, ProposeError, Refusal, Role};

use super::door;
use super::error::{MemberError, NodeError};
use super::mail::Asker;
use super::pending::Waiting as _;
use super::replica::Replica;
use super::request::{Answer, Refused, Report, Request, decode, encode};
use crate::link::{LinkError, Responder};
use crate::session::Replicated;

impl<F: Replicated> Replica<F> {
    /// Answers a request of a peer, or of this node to itself.
    pub(super) fn answer(
        &mut self,
        from: u64,
        request: Request,
        respond: Responder,
    ) -> Result<(), NodeError> {
        match request {
            Request::Propose { command } => self.propose_for_peer(command, respond),
            Request::ReadIndex => self.read_for_peer(respond)?,
            Request::Change { steps } => self.change(steps, respond)?,
            Request::Transfer { to } => {
                let leader = self.leader.filter(|leader| *leader != self.id);
                let answer = match self.role {
                    Role::Leader => Answer::Done,
                    _ => Answer::Refused(Refused::NotLeader { leader }),
                };
                if to != self.id {
                    self.step(Event::Transfer(to))?;
                }
                door::send(respond, &answer);
            }
            Request::Report => {
                let report = Report::of(&self.core.status());
                door::send(respond, &Answer::Report(report));
            }
            Request::Addresses => door::send(respond, &self.address_book()),
            Request::Digests => {
                let (build, noted) = (self.shared.build.clone(), self.shared.notes.all());
                door::send(respond, &Answer::Digests { build, noted });
            }
            Request::EraseHistory { index } => self.erase_history(index, respond),
            Request::SnapshotsHeld { reference } => {
                let indexes = self.snapshots.held(&reference);
                door::send(respond, &Answer::SnapshotsHeld { indexes });
            }
            Request::Diverged { index, tables } => {
                door::send(respond, &Answer::Done);
                if self.leader == Some(from) {
                    self.diverged(index, &tables)?;
                }
            }
        }
        Ok(())
    }

    /// Asks a node, or the leader, on behalf of a thread that waits for the answer.
    pub(super) fn ask(
        &mut self,
        to: Option<u64>,
        request: &Request,
        timeout: Duration,
        asker: Asker,
    ) -> Result<(), NodeError> {
        let Some(to) = to.or(self.leader) else {
            asker.0.answer(Err(Refusal::NotLeader { leader: None }.into()));
            return Ok(());
        };
        if !asker.0.begin() {
            return Ok(());
        }
        if to == self.id {
            let respond = Box::new(move |bytes: Vec<u8>| asker.0.answer(understand(Ok(bytes))));
            return self.answer(self.id, request.clone(), respond);
        }
        match encode(request) {
            Some(body) => {
                let done = Box::new(move |answer| asker.0.answer(understand(answer)));
                self.transport.request(to, body, timeout, done);
            }
            None => asker.0.answer(Err(MemberError::Propose(ProposeError::Unknown))),
        }
        Ok(())
    }
}

fn understand(answer: Result<Vec<u8>, LinkError>) -> Result<Answer, MemberError> {
    match answer.map(|bytes| decode(&bytes)) {
        Ok(Some(Answer::Refused(refused))) => Err(ProposeError::from(refused).into()),
        Ok(Some(Answer::Unknown) | None) | Err(LinkError::Lost) => {
            Err(ProposeError::Unknown.into())
        }
        Ok(Some(answer)) => Ok(answer),
        Err(_) => Err(Refusal::NotLeader { leader: None }.into()),
    }
}
