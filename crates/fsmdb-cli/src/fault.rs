//! How the process ends, and what is said when it fails.

use std::error::Error;
use std::fmt::Write;
use std::io;
use std::process::ExitCode;

use fsmdb::offline::OfflineError;

use crate::print::printable;

/// How a command has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Differs,
    Damaged,
    Failed,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(match outcome {
            Outcome::Done => 0,
            Outcome::Differs => 1,
            Outcome::Damaged => 3,
            Outcome::Failed => 4,
        })
    }
}

/// Why a command could not be done.
#[derive(Debug)]
pub(crate) enum Fault {
    Offline(OfflineError),
    /// Standard output has failed.
    Output(io::Error),
    /// The arguments ask for what cannot be.
    Usage(String),
    /// A file beside the snapshots.
    Other(String),
}

impl Fault {
    /// Says it on standard error, unless there is nobody left who reads.
    pub(crate) fn tell(&self) {
        if !self.is_over() {
            eprintln!("fsmdb-snapshot: {}", printable(&self.text()));
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Offline(error) => chain_of(error),
            Self::Output(error) => format!("cannot write the result: {error}"),
            Self::Usage(message) | Self::Other(message) => message.clone(),
        }
    }

    /// Whether who reads the result has gone away, as `head` does.
    fn is_over(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// An error with its causes, each that is not said by the one before it.
pub(crate) fn chain_of(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            write!(text, ": {said}").expect("a string takes everything");
        }
        cause = error.source();
    }
    text
}

impl From<&Fault> for ExitCode {
    fn from(fault: &Fault) -> Self {
        match fault {
            Fault::Usage(_) => Self::from(2),
            Fault::Offline(error) => outcome_of(error).into(),
            other if other.is_over() => Self::SUCCESS,
            Fault::Output(_) | Fault::Other(_) => Outcome::Failed.into(),
        }
    }
}

pub(crate) fn outcome_of(error: &OfflineError) -> Outcome {
    if error.is_corrupt() { Outcome::Damaged } else { Outcome::Failed }
}

impl From<OfflineError> for Fault {
    fn from(error: OfflineError) -> Self {
        match error {
            OfflineError::NoTable { .. }
            | OfflineError::NoKeyFields { .. }
            | OfflineError::KeyField { .. } => Self::Usage(error.to_string()),
            other => Self::Offline(other),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}
