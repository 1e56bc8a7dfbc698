//! Why a program was refused, and where in it.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::error::Error as StatementError;

/// One step of the way to a part of a program; positions count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProgramStep {
    /// The comparison at this position.
    Compare(usize),
    /// The operation at this position of the branch that is taken when all comparisons hold.
    Then(usize),
    /// The operation at this position of the other branch.
    Else(usize),
}

/// The way to a comparison or operation of a program, through nested programs: `then 1, else 0`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProgramPath {
    pub(super) steps: Vec<ProgramStep>,
}

impl ProgramPath {
    /// The steps, from the outermost program in; none for the program as a whole.
    #[must_use]
    pub fn steps(&self) -> &[ProgramStep] {
        &self.steps
    }
}

impl fmt::Display for ProgramPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.steps.is_empty() {
            return f.write_str("program");
        }
        for (position, step) in self.steps.iter().enumerate() {
            let comma = if position == 0 { "" } else { ", " };
            match step {
                ProgramStep::Compare(index) => write!(f, "{comma}compare {index}")?,
                ProgramStep::Then(index) => write!(f, "{comma}then {index}")?,
                ProgramStep::Else(index) => write!(f, "{comma}else {index}")?,
            }
        }
        Ok(())
    }
}

/// Why a program was refused. The transaction is exactly as it was before the program.
///
/// It is serialisable and comparable, so that a state machine's reply can carry it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// A statement was refused; its error names the table and the key.
    #[error("{at}: {source}")]
    Statement {
        /// The operation.
        at: ProgramPath,
        /// Why.
        source: Box<StatementError>,
    },

    /// The schema has no table of this name.
    #[error("{at}: there is no table {table:?}; was the program made for another schema?")]
    UnknownTable {
        /// The comparison or operation.
        at: ProgramPath,
        /// The table's name.
        table: String,
    },

    /// The table has no index of this name.
    #[error("{at}: table {table} has no index {index:?}; was the program made for another schema?")]
    UnknownIndex {
        /// The comparison or operation.
        at: ProgramPath,
        /// The table's name.
        table: String,
        /// The index's name.
        index: String,
    },

    /// The bytes of a row are no row of the table.
    #[error("{at}: table {table}: no row of the table stands at byte {offset}: {message}")]
    Row {
        /// The comparison or operation; empty for a row of a reply.
        at: ProgramPath,
        /// The table's name.
        table: String,
        /// Where the decoder stopped.
        offset: u64,
        /// What it says.
        message: String,
    },

    /// A row cannot be encoded.
    #[error("{at}: {what} cannot be encoded: {message}")]
    Encode {
        /// The comparison or operation; empty when it is not part of a program yet.
        at: ProgramPath,
        /// What: `a row of table jobs`, or `the program`.
        what: String,
        /// What the encoder says.
        message: String,
    },

    /// The bytes are not a program.
    #[error("no program stands at byte {offset}: {message}")]
    Decode {
        /// Where the decoder stopped.
        offset: u64,
        /// What it says.
        message: String,
    },

    /// There is more of something than the [limit](crate::limits).
    #[error("{at}: {found} {what}, the limit is {limit}")]
    Limit {
        /// The comparison or operation with which the limit was passed.
        at: ProgramPath,
        /// What there is too much of.
        what: String,
        /// How much there is.
        found: usize,
        /// The limit.
        limit: usize,
    },

    /// A result was read as another than it is.
    #[error("the result is {found}, not {expected}")]
    OtherResult {
        /// What was asked for.
        expected: String,
        /// What it is.
        found: String,
    },
}

impl ProgramError {
    /// Where in the program; `None` when it is about no program.
    #[must_use]
    pub fn at(&self) -> Option<&ProgramPath> {
        match self {
            Self::Statement { at, .. }
            | Self::UnknownTable { at, .. }
            | Self::UnknownIndex { at, .. }
            | Self::Row { at, .. }
            | Self::Encode { at, .. }
            | Self::Limit { at, .. } => Some(at),
            Self::Decode { .. } | Self::OtherResult { .. } => None,
        }
    }

    /// Whether another row stands in the way; see
    /// [`Error::is_conflict`](StatementError::is_conflict).
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Statement { source, .. } if source.is_conflict())
    }
}
