//! The operations of a program, and which rows they are about.

use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::Program;
use super::error::{ProgramError, ProgramPath};
use crate::key::{AsKey, AsPrefix, KeyBuf, KeyRange, encode, prefix_bounds};
use crate::limits::PROGRAM_DEPTH_MAX;
use crate::messagepack;
use crate::schema::{Index, Table};
use crate::txn::bytes::Bytes;

/// Rows of one table, by a range of its primary keys or of the values of one of its indexes.
///
/// ```
/// # use fsmdb::{Select, StartsWith, Table};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize, Table)]
/// # #[table(name = "nodes")]
/// # struct Node { #[key] id: u64, #[index] zone: String }
/// let some = Select::range::<Node>(10..20);
/// let all = Select::range::<Node>(..);
/// let east = Select::value(Node::BY_ZONE, "east");
/// let zones = Select::value_prefix(Node::BY_ZONE, &StartsWith("ea"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Select {
    pub(super) table: String,
    /// `None` for the primary key.
    pub(super) index: Option<String>,
    /// The first byte string that is in the range.
    pub(super) from: Bytes,
    /// The first byte string behind the range, if it has an end.
    pub(super) to: Option<Bytes>,
}

impl Select {
    /// The rows whose primary keys lie in `range`; `..` for all rows.
    #[must_use]
    pub fn range<T: Table>(range: impl KeyRange<T::Key>) -> Self {
        Self::new::<T>(None, range.encode_bounds())
    }

    /// The rows whose primary keys begin with `prefix`, as
    /// [`TableReader::prefix`](crate::TableReader::prefix) finds them.
    #[must_use]
    pub fn prefix<T: Table>(prefix: &(impl AsPrefix<T::Key> + ?Sized)) -> Self {
        let mut encoded = KeyBuf::new();
        prefix.encode_prefix(&mut encoded);
        Self::new::<T>(None, prefix_bounds(encoded))
    }

    /// The rows that have `value` in an index, in the order of their primary keys.
    #[must_use]
    pub fn value<T: Table, K, C>(index: Index<T, K, C>, value: &(impl AsKey<K> + ?Sized)) -> Self {
        Self::new::<T>(Some(index.name()), prefix_bounds(encode(value)))
    }

    /// The rows whose values in an index lie in `range`, in the order of the index.
    #[must_use]
    pub fn value_range<T: Table, K, C>(index: Index<T, K, C>, range: impl KeyRange<K>) -> Self {
        Self::new::<T>(Some(index.name()), range.encode_bounds())
    }

    /// The rows whose values in an index begin with `prefix`, in the order of the index.
    #[must_use]
    pub fn value_prefix<T: Table, K, C>(
        index: Index<T, K, C>,
        prefix: &(impl AsPrefix<K> + ?Sized),
    ) -> Self {
        let mut encoded = KeyBuf::new();
        prefix.encode_prefix(&mut encoded);
        Self::new::<T>(Some(index.name()), prefix_bounds(encoded))
    }

    fn new<T: Table>(index: Option<&str>, (low, high): (Bound<KeyBuf>, Bound<KeyBuf>)) -> Self {
        // The lower bound of a range of keys is never excluded, the upper one never included.
        let from = match &low {
            Bound::Included(key) | Bound::Excluded(key) => key.as_slice().into(),
            Bound::Unbounded => Bytes::default(),
        };
        let to = match &high {
            Bound::Included(key) | Bound::Excluded(key) => Some(key.as_slice().into()),
            Bound::Unbounded => None,
        };
        Self { table: T::NAME.into(), index: index.map(str::to_owned), from, to }
    }

    pub(super) fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        let to = self.to.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        (Bound::Included(&*self.from), to)
    }
}

/// One operation of a [`Program`]: it writes or reads, sees what those before it wrote, and gives
/// one [`OpResult`](super::OpResult).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Op(pub(super) Action);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Action {
    Insert { table: String, row: Bytes },
    Upsert { table: String, row: Bytes },
    Delete { table: String, key: Bytes },
    DeleteAll { rows: Select },
    Get { table: String, key: Bytes },
    Rows { rows: Select, limit: u32 },
    Count { rows: Select },
    Program { program: Program },
}

impl Op {
    /// Inserts `row`, whose primary key must be free; otherwise the program is refused.
    ///
    /// # Errors
    ///
    /// [`ProgramError::Encode`] when `row` cannot be encoded.
    pub fn insert<T: Table>(row: &T) -> Result<Self, ProgramError> {
        Ok(Self(Action::Insert { table: T::NAME.into(), row: row_bytes(row)? }))
    }

    /// Inserts `row`, or replaces the row with its primary key.
    ///
    /// # Errors
    ///
    /// [`ProgramError::Encode`] when `row` cannot be encoded.
    pub fn upsert<T: Table>(row: &T) -> Result<Self, ProgramError> {
        Ok(Self(Action::Upsert { table: T::NAME.into(), row: row_bytes(row)? }))
    }

    /// Deletes the row with the primary key `key`, if there is one.
    #[must_use]
    pub fn delete<T: Table>(key: &(impl AsKey<T::Key> + ?Sized)) -> Self {
        Self(Action::Delete { table: T::NAME.into(), key: encode(key).as_slice().into() })
    }

    /// Deletes the rows, O(log n) for each and each index; `Select::range::<Job>(..)` empties the
    /// table.
    #[must_use]
    pub fn delete_all(rows: Select) -> Self {
        Self(Action::DeleteAll { rows })
    }

    /// Reads the row with the primary key `key`.
    #[must_use]
    pub fn get<T: Table>(key: &(impl AsKey<T::Key> + ?Sized)) -> Self {
        Self(Action::Get { table: T::NAME.into(), key: encode(key).as_slice().into() })
    }

    /// Reads the first `limit` of the rows, in order; in a multi-valued index a row for each of its
    /// values.
    ///
    /// A limit above [`limits::PROGRAM_ROWS_MAX`](crate::limits::PROGRAM_ROWS_MAX) is refused when
    /// the program is run.
    #[must_use]
    pub fn rows(rows: Select, limit: u32) -> Self {
        Self(Action::Rows { rows, limit })
    }

    /// Counts the rows, O(log n); in a multi-valued index the entries.
    #[must_use]
    pub fn count(rows: Select) -> Self {
        Self(Action::Count { rows })
    }

    /// Runs a program inside the program: its comparisons see what the operations before it wrote.
    ///
    /// # Errors
    ///
    /// [`ProgramError::Limit`] when programs would stand inside each other more than
    /// [`limits::PROGRAM_DEPTH_MAX`](crate::limits::PROGRAM_DEPTH_MAX) deep, the outermost counted.
    pub fn program(program: Program) -> Result<Self, ProgramError> {
        let found = program.depth() + 1;
        if found > PROGRAM_DEPTH_MAX {
            let (at, what) = (ProgramPath::default(), "programs inside each other".into());
            return Err(ProgramError::Limit { at, what, found, limit: PROGRAM_DEPTH_MAX });
        }
        Ok(Self(Action::Program { program }))
    }
}

/// The encoding of a row's value.
pub(super) fn row_bytes<T: Table>(row: &T) -> Result<Bytes, ProgramError> {
    let mut bytes = Vec::new();
    messagepack::write(row, &mut bytes).map_err(|message| ProgramError::Encode {
        at: ProgramPath::default(),
        what: format!("a row of table {}", T::NAME),
        message,
    })?;
    Ok(Bytes(bytes))
}
