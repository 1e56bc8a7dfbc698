//! What a check says when something is wrong.

use std::fmt;

/// The guarantees that are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Check {
    /// At most one leader a term.
    Election,
    /// Equal index and term, equal bytes.
    LogMatching,
    /// A new leader has every entry that was applied anywhere.
    LeaderCompleteness,
    /// What was said to be durable is there after a crash.
    Durability,
    /// Equal index, equal state, on every replica and after every restart and install.
    StateMachine,
    /// A reply is that of the model, everywhere.
    Reply,
    /// What was acknowledged was applied, as it was acknowledged.
    Acknowledged,
    /// No command has its effect twice.
    ExactlyOnce,
    /// A linearizable read sees what was acknowledged before it was asked, and what reads before it
    /// have seen.
    LinearizableRead,
    /// Any read is of one version of the history.
    Read,
    /// Who watches is woken when what was read has changed.
    Watch,
    /// A feed tells of every commit in order, or that it cannot.
    Feed,
    /// What a replica says to have erased is gone from its log and its files.
    Erasure,
    /// A replica starts from what it has written.
    Start,
    /// A replica does not stop by itself.
    Stopped,
    /// A healed group takes commands and brings them to all its members.
    Progress,
    /// A healed group has one state, of equal bytes.
    Convergence,
    /// Nothing panics.
    Panic,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Election => "election safety",
            Self::LogMatching => "log matching",
            Self::LeaderCompleteness => "leader completeness",
            Self::Durability => "durability",
            Self::StateMachine => "state machine safety",
            Self::Reply => "replies",
            Self::Acknowledged => "acknowledged commands",
            Self::ExactlyOnce => "exactly once",
            Self::LinearizableRead => "linearizable reads",
            Self::Read => "reads",
            Self::Watch => "watches",
            Self::Feed => "feeds",
            Self::Erasure => "erasures",
            Self::Start => "start",
            Self::Stopped => "no stop",
            Self::Progress => "progress",
            Self::Convergence => "convergence",
            Self::Panic => "no panic",
        })
    }
}

/// A guarantee that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// Which.
    pub check: Check,
    /// What was seen.
    pub text: String,
}

impl Violation {
    pub(crate) fn new(check: Check, text: impl Into<String>) -> Self {
        Self { check, text: text.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.check, self.text)
    }
}

/// What every step of the world answers.
pub(crate) type Checked<T = ()> = Result<T, Violation>;

/// Fails a check unless it holds.
pub(crate) fn ensure(holds: bool, check: Check, text: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(Violation::new(check, text())) }
}
