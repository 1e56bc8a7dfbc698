//! One Ready of raft-rs after the other, in the order its asynchronous mode demands.
//!
//! # Invariants
//!
//! 1. Between `ready` and `advance_append_async` nothing is called that changes raft.
//! 2. Batches are numbered by their Ready, and answered in that order.
//! 3. Entries are in the cache before `advance_append_async`, durable or not.
//! 4. A leader sends nothing before its term and vote are durable. Others made it the leader only
//!    after that, but a single voter elects itself at once: after a power loss it would lead in the
//!    same term again, with other entries than those that its learners have.
//! 5. A Ready that writes nothing waits for the batches before it, and for nothing when there are
//!    none.
//! 6. A commit index alone is not written: raft needs none to be durable, and each would wake the
//!    log. It goes with the next batch, and with a tick when there is none until then.

use std::collections::VecDeque;

use raft::eraftpb::{self, MessageType};

use super::Core;
use super::event::{Action, Batch};
use crate::raft::{Entry, HardState, Membership, Message, RaftError, SnapshotMeta};

/// What was given to the log and is not answered yet.
#[derive(Debug, Default)]
pub(super) struct Writing {
    waiting: VecDeque<Waiting>,
    /// The number of the last Ready.
    last_number: u64,
    /// The commit index of the last hard state given to the log, durable or not.
    written_commit: u64,
    /// The commit index that will be durable when everything given to the log is answered.
    promised_commit: u64,
    /// The commit index that is durable. Starts from 0 and not from what was loaded: what was
    /// read may have been in a cache of the medium only.
    pub(super) durable_commit: u64,
    /// The term that is durable with its vote, as far as this start has written it.
    durable_term: u64,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    writes: bool,
    entries: bool,
    /// Term and commit index that are durable with it.
    durable: Option<(u64, u64)>,
    snapshot: Option<SnapshotMeta>,
    messages: Vec<eraftpb::Message>,
}

impl Writing {
    pub(super) fn holds_entries(&self) -> bool {
        self.waiting.iter().any(|waiting| waiting.entries || waiting.snapshot.is_some())
    }

    /// The number up to which nothing waits for the log, if there is one.
    fn idle_number(&self) -> Option<u64> {
        let idle = self.waiting.iter().take_while(|waiting| !waiting.writes);
        idle.last().map(|waiting| waiting.number)
    }
}

impl Core {
    /// Takes Readies until there are none.
    pub(super) fn drain(&mut self, actions: &mut Vec<Action>) {
        loop {
            self.settle_role(actions);
            self.start_read_round();
            if !self.node.has_ready() {
                break;
            }
            self.take_ready(actions);
            if let Some(number) = self.writing.idle_number() {
                self.answered(number, actions);
            }
            self.hand_out(actions);
        }
        self.release_reads(actions);
        self.compact_unwanted(actions);
        self.ask_for_snapshot(actions);
    }

    fn take_ready(&mut self, actions: &mut Vec<Action>) {
        let mut ready = self.node.ready();
        let mut messages = ready.take_messages();
        if self.node.raft.term == self.writing.durable_term {
            for message in messages.drain(..) {
                self.send(message, actions);
            }
        }
        messages.extend(ready.take_persisted_messages());
        self.reads.confirmed(ready.take_read_states());

        let snapshot = (!ready.snapshot().is_empty()).then(|| meta(ready.snapshot()));
        if let Some(meta) = &snapshot {
            self.node.mut_store().reset(meta.index, meta.term);
            self.memberships.clear();
            self.memberships.insert(meta.index, meta.membership.clone());
            self.snapshots.installed(meta.index);
            self.applying.replace(meta.index);
        }
        let entries = ready.take_entries();
        self.node.mut_store().append(&entries);

        let committed = ready.take_committed_entries();
        let change = committed.iter().rev().find(|entry| is_change(entry)).map_or(0, |e| e.index);
        let (commit, must_sync) = self.hard_state_to_write(&ready, change);
        self.applying.commit(&committed);

        let hard_state = commit.map(|commit| self.hard_state(commit));
        self.writing.last_number = ready.number();
        let waiting = Waiting {
            number: ready.number(),
            writes: snapshot.is_some() || hard_state.is_some() || !entries.is_empty(),
            entries: !entries.is_empty(),
            durable: must_sync.then_some((self.node.raft.term, self.writing.written_commit)),
            snapshot: snapshot.clone(),
            messages,
        };
        if waiting.writes {
            let number = waiting.number;
            let entries = entries.into_iter().map(Entry).collect();
            let snapshot = snapshot.map(|meta| {
                let beside = self.hard_state(meta.index);
                (meta, beside)
            });
            actions.push(Action::Persist(Batch {
                number,
                snapshot,
                entries,
                hard_state,
                must_sync,
            }));
        }
        self.writing.waiting.push_back(waiting);
        self.node.advance_append_async(ready);
    }

    /// The commit index to write with this Ready, if a hard state is written at all, and whether
    /// it must be durable: also when a membership change at `change` waits for it.
    fn hard_state_to_write(&mut self, ready: &raft::Ready, change: u64) -> (Option<u64>, bool) {
        let forced = change > self.writing.promised_commit;
        let must_sync = ready.must_sync() || forced;
        let committed = self.node.raft.raft_log.committed;
        let is_new = ready.hs().is_some() || committed != self.writing.written_commit;
        let writes = forced || !ready.snapshot().is_empty() || (must_sync && is_new);
        let commit = writes.then_some(committed);
        self.writing.written_commit = commit.unwrap_or(self.writing.written_commit);
        if must_sync {
            self.writing.promised_commit = self.writing.written_commit;
        }
        (commit, must_sync)
    }

    /// Gives the log a commit index that no batch has taken with it.
    pub(super) fn write_commit(&mut self, actions: &mut Vec<Action>) {
        let (committed, number) = (self.node.raft.raft_log.committed, self.writing.last_number);
        let is_written = committed <= self.writing.written_commit;
        // Without a Ready nothing has changed since the log was read.
        if is_written || number == 0 || !self.writing.waiting.is_empty() {
            return;
        }
        self.writing.written_commit = committed;
        let (writes, entries) = (true, false);
        let (durable, snapshot, messages) = (None, None, Vec::new());
        let waiting = Waiting { number, writes, entries, durable, snapshot, messages };
        self.writing.waiting.push_back(waiting);
        let hard_state = Some(self.hard_state(committed));
        let (snapshot, entries, must_sync) = (None, Vec::new(), false);
        actions.push(Action::Persist(Batch { number, snapshot, entries, hard_state, must_sync }));
    }

    fn hard_state(&self, commit: u64) -> HardState {
        HardState { term: self.node.raft.term, vote: self.node.raft.vote, commit }
    }

    /// The log answered a batch.
    pub(super) fn persisted(
        &mut self,
        number: u64,
        actions: &mut Vec<Action>,
    ) -> Result<(), RaftError> {
        let known = self.writing.waiting.iter().any(|waiting| waiting.number == number);
        if !known {
            let reason = format!("batch {number} was persisted and does not wait");
            return Err(RaftError::Contract { reason });
        }
        self.answered(number, actions);
        if let Some(number) = self.writing.idle_number() {
            self.answered(number, actions);
        }
        self.hand_out(actions);
        Ok(())
    }

    fn answered(&mut self, number: u64, actions: &mut Vec<Action>) {
        let count = self.writing.waiting.iter().take_while(|w| w.number <= number).count();
        let answered: Vec<Waiting> = self.writing.waiting.drain(..count).collect();
        self.node.on_persist_ready(number);
        for waiting in answered {
            if let Some((term, commit)) = waiting.durable {
                (self.writing.durable_term, self.writing.durable_commit) = (term, commit);
            }
            for message in waiting.messages {
                self.send(message, actions);
            }
            if let Some(meta) = waiting.snapshot {
                actions.push(Action::Install(meta));
            }
        }
    }

    fn send(&mut self, message: eraftpb::Message, actions: &mut Vec<Action>) {
        if message.get_msg_type() == MessageType::MsgSnapshot {
            self.snapshots.sending(message.to, message.get_snapshot().get_metadata().index);
            actions.push(Action::SendSnapshot(Message(message)));
        } else {
            actions.push(Action::Send(Message(message)));
        }
    }
}

pub(super) fn is_change(entry: &eraftpb::Entry) -> bool {
    entry.get_entry_type() != eraftpb::EntryType::EntryNormal
}

fn meta(snapshot: &eraftpb::Snapshot) -> SnapshotMeta {
    let metadata = snapshot.get_metadata();
    SnapshotMeta {
        index: metadata.index,
        term: metadata.term,
        membership: Membership::from_raft(metadata.get_conf_state()),
        reference: snapshot.get_data().to_vec(),
    }
}
