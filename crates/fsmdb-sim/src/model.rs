//! What the state must be: the same commands in the simplest way there is, without a database.

use std::collections::BTreeMap;

use crate::state::{Command, Done, Effect, Operation, Stale};

/// The state, with the entry that appended each value.
#[derive(Debug, Default)]
pub(crate) struct Model {
    registers: BTreeMap<u64, Vec<(u64, u64)>>,
    claims: BTreeMap<u64, (String, u64)>,
    sessions: BTreeMap<u64, Done>,
}

impl Model {
    /// Applies the entry at `index`; says whether it changed anything.
    pub(crate) fn apply(&mut self, index: u64, command: &Command) -> (Result<Done, Stale>, bool) {
        let Command { client, sequence, operation } = command;
        let session = self.sessions.get(client);
        let last = session.map_or(0, |done| done.sequence);
        if let Some(done) = session.filter(|done| done.sequence == *sequence) {
            return (Ok(done.clone()), false);
        }
        if *sequence < last {
            return (Err(Stale { last }), false);
        }
        let effect = self.perform(index, *client, operation);
        let done = Done { sequence: *sequence, index, effect };
        self.sessions.insert(*client, done.clone());
        (Ok(done), true)
    }

    fn perform(&mut self, index: u64, client: u64, operation: &Operation) -> Effect {
        match operation {
            Operation::Append { register, value } => {
                let values = self.registers.entry(*register).or_default();
                values.push((index, *value));
                Effect::Length(values.len() as u64)
            }
            Operation::Claim { id, name } => {
                let is_taken = self.claims.iter().any(|(known, (n, _))| known == id || n == name);
                if is_taken {
                    return Effect::Taken;
                }
                self.claims.insert(*id, (name.clone(), client));
                Effect::Claimed
            }
            Operation::Release => {
                let mut owned = self.claims.iter().filter(|(_, (_, owner))| *owner == client);
                let first = owned.next().map(|(id, _)| *id);
                first.map(|id| self.claims.remove(&id));
                Effect::Released(first)
            }
        }
    }

    /// The values of a register as of `index`.
    pub(crate) fn register_at(&self, register: u64, index: u64) -> Vec<u64> {
        let values = self.registers.get(&register).into_iter().flatten();
        values.take_while(|(at, _)| *at <= index).map(|(_, value)| *value).collect()
    }

    /// Values that stand in any register more than once.
    pub(crate) fn repeated(&self) -> Option<u64> {
        let mut values: Vec<u64> = self.registers.values().flatten().map(|(_, v)| *v).collect();
        values.sort_unstable();
        values.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
    }

    /// The last reply to each client.
    pub(crate) fn sessions(&self) -> &BTreeMap<u64, Done> {
        &self.sessions
    }
}
