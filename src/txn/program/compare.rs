//! The conditions of a program.

use serde::{Deserialize, Serialize};

use super::error::ProgramError;
use super::op::{Select, row_bytes};
use crate::key::{AsKey, encode};
use crate::revision::Revision;
use crate::schema::Table;
use crate::txn::bytes::Bytes;

/// How a number that is found stands to the one that is given: `found < given` for `Less`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cmp {
    /// `found == given`
    Equal,
    /// `found != given`
    NotEqual,
    /// `found < given`
    Less,
    /// `found <= given`
    AtMost,
    /// `found > given`
    Greater,
    /// `found >= given`
    AtLeast,
}

impl Cmp {
    pub(super) fn holds(self, found: u64, given: u64) -> bool {
        match self {
            Self::Equal => found == given,
            Self::NotEqual => found != given,
            Self::Less => found < given,
            Self::AtMost => found <= given,
            Self::Greater => found > given,
            Self::AtLeast => found >= given,
        }
    }
}

/// One condition of a [`Program`](super::Program): on a row, on how many rows there are, on when
/// a table was last written.
///
/// It sees what the transaction, and the program around a nested one, have written before it. A
/// row that was written by the running transaction has its revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Compare(pub(super) Test);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Test {
    Exists { table: String, key: Bytes },
    Absent { table: String, key: Bytes },
    Created { table: String, key: Bytes, is: Cmp, revision: Revision },
    Modified { table: String, key: Bytes, is: Cmp, revision: Revision },
    Equals { table: String, row: Bytes },
    Count { rows: Select, is: Cmp, count: u64 },
    TableModified { table: String, is: Cmp, revision: Revision },
}

impl Compare {
    /// There is a row with the primary key `key`.
    #[must_use]
    pub fn exists<T: Table>(key: &(impl AsKey<T::Key> + ?Sized)) -> Self {
        Self(Test::Exists { table: T::NAME.into(), key: encode(key).as_slice().into() })
    }

    /// There is no row with the primary key `key`.
    #[must_use]
    pub fn absent<T: Table>(key: &(impl AsKey<T::Key> + ?Sized)) -> Self {
        Self(Test::Absent { table: T::NAME.into(), key: encode(key).as_slice().into() })
    }

    /// The revision that created the row with the primary key `key` is as `is` says to `revision`.
    ///
    /// A row that does not exist has revision 0, below that of any row.
    #[must_use]
    pub fn created<T: Table>(
        key: &(impl AsKey<T::Key> + ?Sized),
        is: Cmp,
        revision: Revision,
    ) -> Self {
        let (table, key) = (T::NAME.into(), encode(key).as_slice().into());
        Self(Test::Created { table, key, is, revision })
    }

    /// The revision that last wrote the row with the primary key `key` is as `is` says to
    /// `revision`: equal to the one that was read, for a compare-and-swap.
    ///
    /// A row that does not exist has revision 0, below that of any row.
    #[must_use]
    pub fn modified<T: Table>(
        key: &(impl AsKey<T::Key> + ?Sized),
        is: Cmp,
        revision: Revision,
    ) -> Self {
        let (table, key) = (T::NAME.into(), encode(key).as_slice().into());
        Self(Test::Modified { table, key, is, revision })
    }

    /// The row with the primary key of `row` exists and has the same value: both are encoded the
    /// same.
    ///
    /// # Errors
    ///
    /// [`ProgramError::Encode`] when `row` cannot be encoded.
    pub fn equals<T: Table>(row: &T) -> Result<Self, ProgramError> {
        Ok(Self(Test::Equals { table: T::NAME.into(), row: row_bytes(row)? }))
    }

    /// The number of rows is as `is` says to `count`, O(log n); in a multi-valued index the number
    /// of entries.
    #[must_use]
    pub fn count(rows: Select, is: Cmp, count: u64) -> Self {
        Self(Test::Count { rows, is, count })
    }

    /// There is one of the rows, or more.
    #[must_use]
    pub fn any(rows: Select) -> Self {
        Self::count(rows, Cmp::Greater, 0)
    }

    /// There is none of the rows.
    #[must_use]
    pub fn none(rows: Select) -> Self {
        Self::count(rows, Cmp::Equal, 0)
    }

    /// The revision that last changed the table, deletes included, is as `is` says to `revision`:
    /// at most the one that was read, when nothing may have changed since.
    #[must_use]
    pub fn table_modified<T: Table>(is: Cmp, revision: Revision) -> Self {
        Self(Test::TableModified { table: T::NAME.into(), is, revision })
    }
}
