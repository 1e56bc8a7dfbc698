//! Linearizable reads by ReadIndex.
//!
//! # Invariants
//!
//! 1. Only a leader asks, for itself, and only after it committed an entry of its own term; raft-rs
//!    drops any other request silently.
//! 2. Every round has a context never used before: replica, boot, counter. Raft-rs matches the
//!    answers of heartbeats by context alone, so a repeated one can confirm the wrong round.
//! 3. A read is released when the state machine holds the index its round was confirmed at.
//! 4. When leadership is lost, every read that is not confirmed is refused; a confirmed one stays
//!    true.

use std::collections::BTreeMap;

use raft::ReadState;

use super::Core;
use super::event::Action;
use crate::limits::READS_WAITING_MAX;
use crate::raft::Refusal;

/// Reads by stage.
#[derive(Debug)]
pub(super) struct Reads {
    id: u64,
    boot: u64,
    counter: u64,
    queued: Vec<u64>,
    rounds: BTreeMap<u64, Vec<u64>>,
    confirmed: Vec<(u64, Vec<u64>)>,
    waiting_count: usize,
}

impl Reads {
    pub(super) fn new(id: u64, boot: u64) -> Self {
        Self {
            id,
            boot,
            counter: 0,
            queued: Vec::new(),
            rounds: BTreeMap::new(),
            confirmed: Vec::new(),
            waiting_count: 0,
        }
    }

    /// A context nobody used before.
    fn next_context(&mut self) -> Vec<u8> {
        self.counter += 1;
        [self.id, self.boot, self.counter].iter().flat_map(|part| part.to_be_bytes()).collect()
    }

    /// The round a context belongs to, if this start of this replica made it.
    fn round_of(&self, context: &[u8]) -> Option<u64> {
        let (head, counter) = context.split_last_chunk::<8>()?;
        let own = [self.id.to_be_bytes(), self.boot.to_be_bytes()].concat();
        (head == own).then_some(u64::from_be_bytes(*counter))
    }

    pub(super) fn confirmed(&mut self, states: Vec<ReadState>) {
        for state in states {
            let round = self.round_of(&state.request_ctx);
            if let Some(tokens) = round.and_then(|round| self.rounds.remove(&round)) {
                self.confirmed.push((state.index, tokens));
            }
        }
    }
}

impl Core {
    pub(super) fn read(&mut self, tokens: Vec<u64>, actions: &mut Vec<Action>) {
        let reason = if !self.is_leader() {
            Refusal::NotLeader { leader: self.leader() }
        } else if self.reads.waiting_count + tokens.len() > READS_WAITING_MAX {
            Refusal::Busy
        } else {
            self.reads.waiting_count += tokens.len();
            self.reads.queued.extend(tokens);
            return;
        };
        if !tokens.is_empty() {
            actions.push(Action::ReadRefused { tokens, reason });
        }
    }

    /// Starts one round for all queued reads, when this replica may ask.
    pub(super) fn start_read_round(&mut self) {
        let may_ask = self.is_leader() && self.node.raft.commit_to_current_term();
        if self.reads.queued.is_empty() || !may_ask {
            return;
        }
        let context = self.reads.next_context();
        let tokens = std::mem::take(&mut self.reads.queued);
        self.reads.rounds.insert(self.reads.counter, tokens);
        self.node.read_index(context);
    }

    /// Releases what the state machine has caught up with.
    pub(super) fn release_reads(&mut self, actions: &mut Vec<Action>) {
        let applied = self.applying.applied;
        let reads = &mut self.reads;
        for (index, tokens) in reads.confirmed.extract_if(.., |(index, _)| *index <= applied) {
            reads.waiting_count -= tokens.len();
            actions.push(Action::ReadReady { tokens, index });
        }
    }

    pub(super) fn refuse_reads(&mut self, actions: &mut Vec<Action>) {
        let reason = Refusal::NotLeader { leader: self.leader() };
        let queued = std::mem::take(&mut self.reads.queued);
        let rounds = std::mem::take(&mut self.reads.rounds).into_values();
        let tokens: Vec<u64> = rounds.flatten().chain(queued).collect();
        self.reads.waiting_count -= tokens.len();
        if !tokens.is_empty() {
            actions.push(Action::ReadRefused { tokens, reason });
        }
    }
}
