//! The replicated state machine: registers, claims of unique names, and the sessions that make
//! commands happen once.
//!
//! # Invariants
//!
//! 1. A command of a session is applied once: its row holds the last sequence number and reply, and
//!    a command that comes again gets that reply and changes nothing.
//! 2. A session's row counts the commands that had an effect, apart from the sequence numbers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use fsmdb::{Applied, Builder, Db, Fsm, Table, WriteTxn};
use serde::{Deserialize, Serialize};

use crate::mutant::Mutant;
use crate::random::mix;

/// A list of values that clients append to.
#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "registers", version = 1)]
pub(crate) struct Register {
    #[key]
    pub(crate) id: u64,
    pub(crate) values: Vec<u64>,
    #[index]
    pub(crate) length: u64,
}

/// A name that belongs to one client at a time.
#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "claims", version = 1)]
pub(crate) struct Claim {
    #[key]
    pub(crate) id: u64,
    #[index(unique)]
    pub(crate) name: String,
    #[index]
    pub(crate) owner: u64,
}

/// What a client has done last.
#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "sessions", version = 1)]
pub(crate) struct Session {
    #[key]
    pub(crate) client: u64,
    pub(crate) sequence: u64,
    pub(crate) effects: u64,
    pub(crate) reply: Done,
}

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Operation {
    /// Append a value that nobody appends but once.
    Append { register: u64, value: u64 },
    /// Take a name.
    Claim { id: u64, name: String },
    /// Give back the first name that the client has.
    Release,
}

/// One log entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Command {
    pub(crate) client: u64,
    pub(crate) sequence: u64,
    pub(crate) operation: Operation,
}

/// What came of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Effect {
    /// The register has so many values now.
    Length(u64),
    /// The name belongs to the client.
    Claimed,
    /// The name, or the id, belongs to somebody.
    Taken,
    /// This claim is no more, if there was one.
    Released(Option<u64>),
}

/// The reply to a command, which its session keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Done {
    pub(crate) sequence: u64,
    /// The entry that had the effect.
    pub(crate) index: u64,
    pub(crate) effect: Effect,
}

/// A command whose sequence number is lower than the last one of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stale {
    /// The last sequence number of the session.
    pub(crate) last: u64,
}

/// The state machine. Without a planted bug it knows nothing but the transaction and the command.
#[derive(Debug)]
pub(crate) struct Bank {
    mutant: Option<Mutant>,
    replica: u64,
    clock: Arc<AtomicU64>,
    /// For a planted bug: the next command is applied twice.
    twice: AtomicBool,
}

impl Bank {
    pub(crate) fn new(mutant: Option<Mutant>, replica: u64, clock: &Arc<AtomicU64>) -> Self {
        let twice = AtomicBool::new(mutant == Some(Mutant::ApplyTwiceAfterRestart));
        Self { mutant, replica, clock: Arc::clone(clock), twice }
    }

    /// The empty database.
    pub(crate) fn builder() -> Builder {
        Db::builder().table::<Register>().table::<Claim>().table::<Session>().keep_digests()
    }

    fn perform(&self, txn: &mut WriteTxn<'_>, client: u64, operation: &Operation) -> Effect {
        match operation {
            Operation::Append { register, value } => {
                let row = txn.table::<Register>().get(register).map(|row| row.values.clone());
                let mut values = row.unwrap_or_default();
                values.push(value ^ self.impurity());
                let length = values.len() as u64;
                let row = Register { id: *register, values, length };
                txn.upsert(row).expect("a register violates no index");
                Effect::Length(length)
            }
            Operation::Claim { id, name } => {
                let claim = Claim { id: *id, name: name.clone(), owner: client };
                if txn.insert(claim).is_ok() { Effect::Claimed } else { Effect::Taken }
            }
            Operation::Release => {
                let owned = txn.table::<Claim>().index(Claim::BY_OWNER).get(&client);
                let mut owned: Vec<u64> = owned.map(|claim| claim.id).collect();
                if self.mutant == Some(Mutant::OrderOfReplica) {
                    owned.sort_by_key(|id| mix(id ^ mix(self.replica)));
                }
                let first = owned.first().copied();
                if let Some(id) = first {
                    txn.table_mut::<Claim>().delete(&id);
                }
                Effect::Released(first)
            }
        }
    }

    /// For planted bugs: what a state machine must not look at; 0 without them.
    fn impurity(&self) -> u64 {
        match self.mutant {
            Some(Mutant::ClockInApply) => self.clock.load(Ordering::Relaxed) / 1_000 % 2,
            Some(Mutant::ReplicaInApply) => u64::from(self.replica == 3),
            _ => 0,
        }
    }
}

impl Fsm for Bank {
    type Command = Command;
    type Reply = Result<Done, Stale>;

    fn apply(&self, txn: &mut WriteTxn<'_>, at: Applied, command: Command) -> Self::Reply {
        let Command { client, sequence, operation } = command;
        let session = txn.table::<Session>().get(&client).map(|row| (**row).clone());
        let (last, effects) = session.as_ref().map_or((0, 0), |row| (row.sequence, row.effects));
        if let Some(session) = session.filter(|row| row.sequence == sequence) {
            return Ok(session.reply);
        }
        if sequence < last {
            return Err(Stale { last });
        }
        let mut effect = self.perform(txn, client, &operation);
        if self.twice.swap(false, Ordering::Relaxed) && at.index > 20 {
            effect = self.perform(txn, client, &operation);
        }
        let reply = Done { sequence, index: at.index, effect };
        let session = Session { client, sequence, effects: effects + 1, reply: reply.clone() };
        txn.upsert(session).expect("a session violates no index");
        Ok(reply)
    }
}
