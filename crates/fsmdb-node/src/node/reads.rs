//! Reads that need a confirmation of the leader.
//!
//! # Invariants
//!
//! 1. A read is confirmed by a round that was asked for after it: on a follower, one that came
//!    while a round is under way waits for the next.
//! 2. A read is answered when the state machine holds the confirmed index, less the entries that it
//!    may miss.
//! 3. A confirmation is remembered with the time at which it was asked for, which is before the
//!    time it is true of.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fsmdb::raft::{Event, Refusal, Role};

use super::clock;
use super::door;
use super::error::NodeError;
use super::mail::{Mail, ReadJob};
use super::replica::Replica;
use super::request::{Answer, Request, decode, encode};
use crate::limits::READ_ATTEMPT_TICKS;
use crate::link::Responder;
use crate::session::Replicated;

/// Everything acknowledged before `asked` is at or below `index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Confirmed {
    pub(super) asked: Instant,
    pub(super) index: u64,
}

impl Confirmed {
    /// Whether a state is fresh enough.
    pub(super) fn covers(&self, age: Duration, entries: u64, applied: u64) -> bool {
        let elapsed = clock::now().saturating_duration_since(self.asked);
        elapsed <= age && applied.saturating_add(entries) >= self.index
    }
}

/// Who asks the core for a read.
enum Asker {
    User(ReadJob),
    Peer(Responder),
}

/// A confirmation that this node has asked the leader for.
struct Round {
    number: u64,
    asked: Instant,
    asked_tick: u64,
    reads: Vec<ReadJob>,
}

/// Reads by stage.
#[derive(Default)]
pub(super) struct Reads {
    pub(super) queued: Vec<ReadJob>,
    /// Whether what is queued waits for the next tick: the last attempt has just failed.
    pub(super) is_held: bool,
    /// Reads that the core has, by token, with the time at which it got them.
    given: BTreeMap<u64, (Asker, Instant)>,
    round: Option<Round>,
    last_round: u64,
    /// Confirmed reads that wait for the state machine, by the index they need.
    waiting: BTreeMap<u64, Vec<ReadJob>>,
}

impl<F: Replicated> Replica<F> {
    /// Asks for a confirmation of what is queued.
    pub(super) fn ask_for_reads(&mut self) -> Result<(), NodeError> {
        if self.reads.queued.is_empty() || self.reads.is_held {
            return Ok(());
        }
        if self.role == Role::Leader {
            let queued = std::mem::take(&mut self.reads.queued);
            let now = clock::now();
            let mut tokens = Vec::with_capacity(queued.len());
            for read in queued {
                let token = self.next_token();
                self.reads.given.insert(token, (Asker::User(read), now));
                tokens.push(token);
            }
            return self.step(Event::Read(tokens));
        }
        match self.leader.filter(|leader| *leader != self.id) {
            Some(leader) if self.reads.round.is_none() => self.start_round(leader),
            _ => {}
        }
        Ok(())
    }

    fn start_round(&mut self, leader: u64) {
        let reads = &mut self.reads;
        reads.last_round += 1;
        let (number, queued) = (reads.last_round, std::mem::take(&mut reads.queued));
        let (asked, asked_tick) = (clock::now(), self.ticks);
        reads.round = Some(Round { number, asked, asked_tick, reads: queued });
        let shared = Arc::clone(&self.shared);
        let done = Box::new(move |answer: Result<Vec<u8>, _>| {
            let index = match answer.ok().and_then(|bytes| decode::<Answer>(&bytes)) {
                Some(Answer::ReadIndex(index)) => Some(index),
                _ => None,
            };
            // The raft thread has ended already, and nobody asks.
            let _ = shared.inbox.post(Mail::Confirmed { round: number, index });
        });
        let Some(body) = encode(&Request::ReadIndex) else { return };
        let timeout = self.shared.tick.saturating_mul(READ_ATTEMPT_TICKS);
        self.transport.request(leader, body, timeout, done);
    }

    /// The leader has answered a round, or has not.
    pub(super) fn confirmed(&mut self, round: u64, index: Option<u64>) {
        let Some(round) = self.reads.round.take_if(|asked| asked.number == round) else { return };
        match index {
            Some(index) => self.confirm(round.reads, Confirmed { asked: round.asked, index }),
            None => self.ask_again(round.reads),
        }
    }

    /// A peer asks this node for a confirmation.
    pub(super) fn read_for_peer(&mut self, respond: Responder) -> Result<(), NodeError> {
        let token = self.next_token();
        self.reads.given.insert(token, (Asker::Peer(respond), clock::now()));
        self.step(Event::Read(vec![token]))
    }

    pub(super) fn read_ready(&mut self, tokens: Vec<u64>, index: u64) {
        let (mut users, mut asked) = (Vec::new(), None);
        for token in tokens {
            match self.reads.given.remove(&token) {
                Some((Asker::User(read), at)) => {
                    users.push(read);
                    // They shared one round, which began after the last of them had asked.
                    asked = asked.max(Some(at));
                }
                Some((Asker::Peer(respond), _)) => door::send(respond, &Answer::ReadIndex(index)),
                None => {}
            }
        }
        if let Some(asked) = asked {
            self.confirm(users, Confirmed { asked, index });
        }
    }

    pub(super) fn read_refused(&mut self, tokens: Vec<u64>, reason: &Refusal) {
        for token in tokens {
            match self.reads.given.remove(&token) {
                Some((Asker::User(read), _)) => self.ask_again(vec![read]),
                Some((Asker::Peer(respond), _)) => {
                    door::send(respond, &Answer::Refused(reason.clone().into()));
                }
                None => {}
            }
        }
    }

    /// Answers what the state machine has reached.
    pub(super) fn release_reads(&mut self) {
        if self.reads.waiting.is_empty() {
            return;
        }
        let snapshot = self.shared.machine.read();
        let behind = self.reads.waiting.split_off(&(snapshot.applied().index + 1));
        for read in std::mem::replace(&mut self.reads.waiting, behind).into_values().flatten() {
            read.slot.answer(Ok(snapshot.clone()));
        }
    }

    /// Forgets reads that nobody waits for any more, and a round that has no answer.
    pub(super) fn tick_reads(&mut self) {
        use super::pending::Waiting as _;
        let reads = &mut self.reads;
        reads.is_held = false;
        reads.queued.retain(|read| read.slot.is_open());
        for waiting in reads.waiting.values_mut() {
            waiting.retain(|read| read.slot.is_open());
        }
        reads.waiting.retain(|_, waiting| !waiting.is_empty());
        let ticks = self.ticks;
        let is_late =
            |round: &mut Round| round.asked_tick + 2 * u64::from(READ_ATTEMPT_TICKS) < ticks;
        if let Some(round) = reads.round.take_if(is_late) {
            reads.queued.extend(round.reads);
        }
    }

    fn confirm(&mut self, reads: Vec<ReadJob>, confirmed: Confirmed) {
        self.shared.metrics.reads_confirmed.inc_by(reads.len() as u64);
        self.shared.remember(confirmed);
        for read in reads {
            let needed = confirmed.index.saturating_sub(read.slack);
            self.reads.waiting.entry(needed).or_default().push(read);
        }
        self.release_reads();
    }

    fn ask_again(&mut self, reads: Vec<ReadJob>) {
        self.reads.is_held = true;
        self.reads.queued.extend(reads);
    }
}
