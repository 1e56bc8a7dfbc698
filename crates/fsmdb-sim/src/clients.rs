//! Clients with sessions: each does one thing at a time, waits, and asks again elsewhere.
//!
//! # Invariants
//!
//! 1. A client begins a command only after it knows the outcome of the one before it; until then it
//!    sends the same command under the same sequence number.
//! 2. Every appended value is appended by one command only.

use crate::limits::{CLIENT_PATIENCE, NAMES, REGISTERS};
use crate::mutant::Mutant;
use crate::random::Random;
use crate::state::{Command, Done, Operation, Stale};

/// What a client asks for.
#[derive(Clone, Debug)]
pub(crate) enum What {
    Write(Command),
    /// A linearizable read of a register, with the lowest revision that it may be of.
    Read {
        register: u64,
        floor: u64,
    },
    /// A read of a register at whatever replica it reaches.
    StaleRead {
        register: u64,
    },
}

/// One attempt.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) client: u64,
    /// Unique, also among the attempts for one thing.
    pub(crate) attempt: u64,
    pub(crate) what: What,
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub(crate) enum End {
    Done(Result<Done, Stale>),
    /// The values of the register, and the revision that they are of.
    Read {
        revision: u64,
        values: Vec<u64>,
    },
    /// Nothing happened; perhaps this replica can help.
    Refused {
        leader: Option<u64>,
    },
    /// Perhaps it happened.
    Unknown,
}

/// What a replica tells a client.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) request: Request,
    pub(crate) end: End,
}

/// A client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: u64,
    /// The sequence number of the command that it has begun last.
    pub(crate) sequence: u64,
    /// That of the last one that it knows to have happened.
    pub(crate) known: u64,
    /// What it waits for, and since when.
    pub(crate) waits: Option<(What, u64)>,
    /// Where it asks next.
    pub(crate) target: u64,
    values: u64,
}

impl Client {
    pub(crate) fn new(id: u64) -> Self {
        Self { id, sequence: 0, known: 0, waits: None, target: 1, values: 0 }
    }

    /// Begins something new.
    pub(crate) fn begin(&mut self, now: u64, floor: u64, random: &mut Random) {
        let register = 1 + random.below(REGISTERS);
        let what = match random.below(10) {
            0..4 => What::Read { register, floor },
            4 => What::StaleRead { register },
            _ => What::Write(self.next_command(random)),
        };
        self.waits = Some((what, now));
    }

    /// The next command of the session.
    pub(crate) fn next_command(&mut self, random: &mut Random) -> Command {
        self.sequence += 1;
        self.values += 1;
        let operation = match random.below(8) {
            0 | 1 => Operation::Claim {
                id: 1 + random.below(NAMES * 2),
                name: format!("name-{}", random.below(NAMES)),
            },
            2 => Operation::Release,
            _ => Operation::Append {
                register: 1 + random.below(REGISTERS),
                value: self.id * 1_000_000 + self.values * 10,
            },
        };
        Command { client: self.id, sequence: self.sequence, operation }
    }

    /// What to send now, if it has waited long enough. A read is given up instead: another one is
    /// as good.
    pub(crate) fn retry(&mut self, now: u64, mutant: Option<Mutant>) -> Option<What> {
        let (what, since) = self.waits.as_mut()?;
        if now < *since + CLIENT_PATIENCE {
            return None;
        }
        *since = now;
        let What::Write(command) = what else {
            self.waits = None;
            return None;
        };
        if mutant == Some(Mutant::RetryUnderNewSequence) {
            self.sequence += 1;
            command.sequence = self.sequence;
        }
        Some(what.clone())
    }

    /// Asks again at its next look, at `leader` if one is known.
    pub(crate) fn hurry(&mut self, leader: Option<u64>) {
        self.target = leader.unwrap_or(self.target);
        if let Some((_, since)) = &mut self.waits {
            *since = since.saturating_sub(CLIENT_PATIENCE);
        }
    }

    /// Whether `command` is what it waits for.
    pub(crate) fn waits_for(&self, command: &Command) -> bool {
        matches!(&self.waits, Some((What::Write(waited), _)) if waited.sequence == command.sequence)
    }
}
