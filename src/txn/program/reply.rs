//! What a program gives back: which branch it took, and a result for each operation.

use serde::{Deserialize, Serialize};

use super::error::{ProgramError, ProgramPath};
use crate::messagepack::ReadError;
use crate::schema::{Table, decode_record};
use crate::tree::SharedRow;
use crate::txn::bytes::Bytes;

/// What a program did, from [`WriteTxn::run`](crate::WriteTxn::run).
///
/// It is serialisable and comparable, so that it can be the reply of a state machine. The same
/// program on the same state gives the same reply, byte by byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramReply {
    /// Whether all comparisons held, and so the operations of `then` were run.
    pub succeeded: bool,
    /// A result for each operation of the branch that was taken, in order.
    pub results: Vec<OpResult>,
}

/// What one operation did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OpResult {
    /// A row was inserted.
    Inserted,
    /// A row was put.
    Upserted {
        /// Whether it took the place of another with its primary key.
        replaced: bool,
    },
    /// So many rows were deleted.
    Deleted(u64),
    /// There are so many rows.
    Counted(u64),
    /// The rows that were read.
    Rows(FoundRows),
    /// What a nested program did.
    Program(ProgramReply),
}

/// Rows that a program has read, as they were then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundRows {
    pub(super) table: String,
    /// Each as it stands in a snapshot file: MessagePack `[created, modified, {field: value}]`.
    pub(super) records: Vec<Bytes>,
    pub(super) more: bool,
}

impl FoundRows {
    /// The name of the table.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The number of rows that were read.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether no row was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether there were more rows than the limit of the operation.
    #[must_use]
    pub fn more(&self) -> bool {
        self.more
    }

    /// The rows as rows of `T`, in order.
    ///
    /// # Errors
    ///
    /// [`ProgramError::OtherResult`] when they are of another table, [`ProgramError::Row`] when
    /// they cannot be decoded.
    pub fn decode<T: Table>(&self) -> Result<Vec<SharedRow<T>>, ProgramError> {
        if self.table != T::NAME {
            let expected = format!("rows of table {}", T::NAME);
            let found = format!("rows of table {}", self.table);
            return Err(ProgramError::OtherResult { expected, found });
        }
        let row = |record: &Bytes| {
            let row = decode_record::<T>(record)?;
            Ok(row.borrow().typed::<T>().share())
        };
        let undecoded = |ReadError { offset, message }| ProgramError::Row {
            at: ProgramPath::default(),
            table: T::NAME.into(),
            offset,
            message,
        };
        self.records.iter().map(row).collect::<Result<_, _>>().map_err(undecoded)
    }
}

impl OpResult {
    /// The rows that the operation read.
    ///
    /// # Errors
    ///
    /// [`ProgramError::OtherResult`] when it read none or those of another table;
    /// [`ProgramError::Row`] when they cannot be decoded.
    pub fn rows<T: Table>(&self) -> Result<Vec<SharedRow<T>>, ProgramError> {
        match self {
            Self::Rows(rows) => rows.decode(),
            other => Err(other.is_not("rows")),
        }
    }

    /// The row that the operation read, the first of several.
    ///
    /// # Errors
    ///
    /// As [`rows`](OpResult::rows).
    pub fn row<T: Table>(&self) -> Result<Option<SharedRow<T>>, ProgramError> {
        Ok(self.rows()?.into_iter().next())
    }

    /// How many rows there were: put, deleted, counted or read.
    ///
    /// # Errors
    ///
    /// [`ProgramError::OtherResult`] for a nested program.
    pub fn count(&self) -> Result<u64, ProgramError> {
        match self {
            Self::Inserted | Self::Upserted { .. } => Ok(1),
            Self::Deleted(count) | Self::Counted(count) => Ok(*count),
            Self::Rows(rows) => Ok(rows.len() as u64),
            Self::Program(_) => Err(self.is_not("a number of rows")),
        }
    }

    /// What the nested program did.
    ///
    /// # Errors
    ///
    /// [`ProgramError::OtherResult`] when the operation was another.
    pub fn program(&self) -> Result<&ProgramReply, ProgramError> {
        match self {
            Self::Program(reply) => Ok(reply),
            other => Err(other.is_not("that of a program")),
        }
    }

    fn is_not(&self, expected: &str) -> ProgramError {
        let found = match self {
            Self::Inserted => "an inserted row",
            Self::Upserted { .. } => "a row that was put",
            Self::Deleted(_) => "a number of deleted rows",
            Self::Counted(_) => "a number of rows",
            Self::Rows(_) => "rows",
            Self::Program(_) => "that of a program",
        };
        ProgramError::OtherResult { expected: expected.into(), found: found.into() }
    }
}
