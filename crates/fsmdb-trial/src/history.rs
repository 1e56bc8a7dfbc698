//! What clients asked and were answered, in real time.
//!
//! # Invariants
//!
//! 1. Times are of one clock: a call that ended before another began is before it for everybody.
//! 2. A call whose outcome is unknown has no end; it may take effect at any time after it began,
//!    or never.

use std::fmt;

/// Names one call for ever: a client numbers its own from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId {
    /// The client.
    pub client: u64,
    /// Its number at this client.
    pub sequence: u64,
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "call {} of client {}", self.sequence, self.client)
    }
}

/// What is asked of one register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Reads the register.
    Get,
    /// Replaces what it holds.
    Put(u64),
    /// Replaces what it holds if that is `expected`.
    Swap {
        /// What it must hold; `None` for nothing.
        expected: Option<u64>,
        /// What it holds afterwards.
        value: u64,
    },
}

impl Operation {
    /// Whether it may change the register.
    #[must_use]
    pub fn is_write(&self) -> bool {
        !matches!(self, Self::Get)
    }

    /// What the register holds afterwards, and what is answered.
    #[must_use]
    pub fn apply(&self, register: Option<u64>) -> (Option<u64>, Answer) {
        match *self {
            Self::Get => (register, Answer::Value(register)),
            Self::Put(value) => (Some(value), Answer::Done(true)),
            Self::Swap { expected, value } if register == expected => {
                (Some(value), Answer::Done(true))
            }
            Self::Swap { .. } => (register, Answer::Done(false)),
        }
    }
}

/// What a call was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// What a read found.
    Value(Option<u64>),
    /// Whether a write took effect.
    Done(bool),
}

/// The end of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// When, on the clock of all clients.
    pub at: u64,
    /// What it was answered.
    pub answer: Answer,
    /// The revision at which a write was applied, or as of which a read was answered.
    pub revision: u64,
}

/// One call of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its name.
    pub id: CallId,
    /// The register.
    pub key: u64,
    /// What is asked.
    pub operation: Operation,
    /// When it began, on the clock of all clients.
    pub began: u64,
    /// Its end, if the outcome is known.
    pub end: Option<End>,
}

/// Why a history cannot be what a strictly serializable system answers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A call was applied more than once.
    #[error("{call} was applied at revision {first} and again at {second}")]
    AppliedTwice {
        /// The call.
        call: CallId,
        /// Where first.
        first: u64,
        /// Where again.
        second: u64,
    },
    /// A write that was acknowledged is not in the journal, or is at another revision.
    #[error("{call} was acknowledged at revision {revision}, where the journal has {found}")]
    AcknowledgedLost {
        /// The call.
        call: CallId,
        /// The revision that was acknowledged.
        revision: u64,
        /// What stands there.
        found: String,
    },
    /// The journal holds what nobody asked, or something else than was asked.
    #[error("the journal has {call} at revision {revision}, which was not asked so")]
    NotAsked {
        /// The call.
        call: CallId,
        /// The revision.
        revision: u64,
    },
    /// The journal is not in the order of its revisions.
    #[error("the journal goes from revision {before} to {after}")]
    JournalOrder {
        /// A revision.
        before: u64,
        /// The next one.
        after: u64,
    },
    /// A call was answered something else than the state at its revision gives.
    #[error("{call} was answered {answered:?} at revision {revision}, which gives {expected:?}")]
    WrongAnswer {
        /// The call.
        call: CallId,
        /// The revision.
        revision: u64,
        /// What it was answered.
        answered: Answer,
        /// What it should have been.
        expected: Answer,
    },
    /// A call took effect before another one that had ended when it began.
    #[error("{later} at revision {revision} began after {earlier} had ended at revision {ended}")]
    TimeTravel {
        /// The call that ended first.
        earlier: CallId,
        /// Its revision.
        ended: u64,
        /// The call that began afterwards.
        later: CallId,
        /// Its revision.
        revision: u64,
    },
    /// No order of the calls of one register explains what they were answered.
    #[error("no order explains the {calls} calls of register {key}; none gets past {stuck}")]
    NotLinearizable {
        /// The register.
        key: u64,
        /// How many calls it has.
        calls: usize,
        /// The call that ended first of those that cannot be placed.
        stuck: CallId,
    },
    /// The search was given up.
    #[error("undecided after {states} states of register {key}")]
    Undecided {
        /// The register.
        key: u64,
        /// How many states were visited.
        states: usize,
    },
}
