//! Commands and membership changes on their way into the log.
//!
//! # Invariants
//!
//! 1. Raft's `propose` answers nothing useful, so what was appended is found by the last index
//!    before and after, and remembered by index **and term**.
//! 2. Only a leader proposes: a follower of raft-rs would forward the entry and never answer.
//! 3. One membership change at a time: raft-rs turns a second one silently into an empty entry, so
//!    it is refused before, and the entry is looked at after.

use protobuf::Message as _;
use raft::Changer;
use raft::eraftpb::{self, EntryType, MessageType};

use super::Core;
use super::event::{Action, Proposal};
use super::ready::is_change;
use crate::limits::COMMAND_BYTES_MAX;
use crate::raft::{MemberChange, Refusal};

impl Core {
    pub(super) fn propose(&mut self, proposals: Vec<Proposal>, actions: &mut Vec<Action>) {
        let mut tokens = Vec::with_capacity(proposals.len());
        let mut entries = Vec::with_capacity(proposals.len());
        for Proposal { token, command } in proposals {
            if let Some(reason) = self.refuses(&command) {
                actions.push(Action::Refused { token, reason });
                continue;
            }
            tokens.push(token);
            entries.push(eraftpb::Entry { data: command.into(), ..eraftpb::Entry::default() });
        }
        self.append(entries, tokens, actions);
    }

    pub(super) fn change(&mut self, token: u64, steps: &[MemberChange], actions: &mut Vec<Action>) {
        if let Some(reason) = self.refuses_change(steps) {
            actions.push(Action::Refused { token, reason });
            return;
        }
        let mut entry = eraftpb::Entry::default();
        entry.set_entry_type(EntryType::EntryConfChangeV2);
        match MemberChange::to_raft(steps).write_to_bytes() {
            Ok(bytes) => entry.data = bytes.into(),
            Err(error) => {
                let reason = Refusal::InvalidChange { reason: error.to_string() };
                actions.push(Action::Refused { token, reason });
                return;
            }
        }
        self.append(vec![entry], vec![token], actions);
    }

    /// Gives the entries to raft in one message and remembers where they went.
    fn append(
        &mut self,
        entries: Vec<eraftpb::Entry>,
        tokens: Vec<u64>,
        actions: &mut Vec<Action>,
    ) {
        if entries.is_empty() {
            return;
        }
        let changes = entries.iter().any(is_change);
        let mut message = eraftpb::Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.config.id;
        message.set_entries(entries.into());
        let before = self.node.raft.raft_log.last_index();
        let taken = self.node.raft.step(message).is_ok();
        let after = self.node.raft.raft_log.last_index();
        if !taken || after != before + tokens.len() as u64 {
            let refused = |token| Action::Refused { token, reason: Refusal::Busy };
            actions.extend(tokens.into_iter().map(refused));
            return;
        }
        let last = self.node.raft.raft_log.unstable_entries().last();
        if changes && !last.is_some_and(is_change) {
            let refused = |token| Action::Refused { token, reason: Refusal::ChangePending };
            actions.extend(tokens.into_iter().map(refused));
            return;
        }
        let term = self.node.raft.term;
        for (index, token) in (before + 1..).zip(tokens) {
            self.pending.insert(index, (term, token));
        }
    }

    fn refuses(&self, command: &[u8]) -> Option<Refusal> {
        if command.is_empty() {
            return Some(Refusal::Empty);
        }
        if command.len() > COMMAND_BYTES_MAX {
            let limit = COMMAND_BYTES_MAX;
            return Some(Refusal::TooLarge { bytes: command.len(), limit });
        }
        self.refuses_all()
    }

    fn refuses_all(&self) -> Option<Refusal> {
        if !self.is_leader() {
            return Some(Refusal::NotLeader { leader: self.leader() });
        }
        self.node.raft.lead_transferee.map(|to| Refusal::Transferring { to })
    }

    /// Tries the change on the present membership, so that what raft would turn into an empty
    /// entry is refused with a reason instead.
    fn refuses_change(&self, steps: &[MemberChange]) -> Option<Refusal> {
        let refusal = self.refuses_all();
        if refusal.is_some() {
            return refusal;
        }
        if self.node.raft.has_pending_conf() || self.membership().is_joint() {
            return Some(Refusal::ChangePending);
        }
        let invalid = |reason: String| Some(Refusal::InvalidChange { reason });
        if steps.is_empty() {
            return invalid("no steps".to_owned());
        }
        if steps.iter().any(|step| step.id() == 0) {
            return invalid("0 is not a replica id".to_owned());
        }
        let change = MemberChange::to_raft(steps);
        let mut changer = Changer::new(self.node.raft.prs());
        let outcome = match change.enter_joint() {
            Some(auto_leave) => changer.enter_joint(auto_leave, change.get_changes()),
            None => changer.simple(change.get_changes()),
        };
        outcome.err().and_then(|error| invalid(error.to_string()))
    }
}
