//! The state machine of a trial: registers, and the journal of every command that was applied.

use fsmdb::{Applied, Fsm, Table, WriteTxn};
use serde::{Deserialize, Serialize};

use crate::history::{Answer, CallId, Operation};
use crate::witnessed;

/// One register that holds something.
#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "registers")]
pub struct Register {
    /// Which.
    #[key]
    pub key: u64,
    /// What it holds.
    #[index]
    pub value: u64,
}

/// One command that was applied.
#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "journal")]
pub struct Entry {
    /// Where: the index of its entry in the log.
    #[key]
    pub revision: u64,
    /// The client that asked.
    pub client: u64,
    /// The number of its call.
    pub sequence: u64,
    /// The register.
    pub key: u64,
    /// What it had to hold, of a swap; the inner is `None` for nothing.
    pub expected: Option<Expected>,
    /// What it holds if that was so.
    pub value: u64,
}

/// What a register must hold for a swap.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Expected {
    /// The value; `None` for nothing.
    pub value: Option<u64>,
}

/// A write to one register.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Command {
    /// The client that asks.
    pub client: u64,
    /// The number of its call.
    pub sequence: u64,
    /// The register.
    pub key: u64,
    /// What it must hold, of a swap.
    pub expected: Option<Expected>,
    /// What it shall hold.
    pub value: u64,
}

impl Command {
    /// The command of a call; nothing of a read.
    #[must_use]
    pub fn of(id: CallId, key: u64, operation: Operation) -> Option<Self> {
        let (expected, value) = match operation {
            Operation::Get => return None,
            Operation::Put(value) => (None, value),
            Operation::Swap { expected, value } => (Some(Expected { value: expected }), value),
        };
        Some(Self { client: id.client, sequence: id.sequence, key, expected, value })
    }
}

impl Entry {
    /// As the checkers want it.
    #[must_use]
    pub fn applied(&self) -> witnessed::Applied {
        let operation = match self.expected {
            None => Operation::Put(self.value),
            Some(Expected { value: expected }) => Operation::Swap { expected, value: self.value },
        };
        let id = CallId { client: self.client, sequence: self.sequence };
        witnessed::Applied { revision: self.revision, id, key: self.key, operation }
    }
}

/// The state machine.
#[derive(Clone, Copy, Debug)]
pub struct Registers;

impl Fsm for Registers {
    type Command = Command;
    type Reply = Result<bool, String>;

    fn apply(&self, txn: &mut WriteTxn<'_>, at: Applied, command: Command) -> Self::Reply {
        let Command { client, sequence, key, expected, value } = command;
        let entry = Entry { revision: at.index, client, sequence, key, expected, value };
        let held = txn.table::<Register>().get(&key).map(|register| register.value);
        let (after, answer) = entry.applied().operation.apply(held);
        let failed = |error: fsmdb::Error| error.to_string();
        txn.insert(entry).map_err(failed)?;
        if let Some(value) = after.filter(|_| after != held) {
            txn.upsert(Register { key, value }).map_err(failed)?;
        }
        Ok(answer == Answer::Done(true))
    }
}
