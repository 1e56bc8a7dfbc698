//! The errors of statements, schemas and state machines.
//!
//! Messages are one line, lower case, and name the table, the index and the printed key; where
//! there is a way out they name it. Reads never fail, so there is no error for them. The errors of
//! snapshot files are [`SnapshotError`](crate::SnapshotError), in the room that reads them.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a statement was refused. The transaction is exactly as it was before the statement.
///
/// It is serialisable and comparable, so that a state machine's reply can carry it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Error)]
#[non_exhaustive]
pub enum Error {
    /// `insert` met a row with the same primary key.
    #[error("table {table}: key {key} exists already; upsert replaces it, update changes it")]
    KeyExists {
        /// The table's name.
        table: String,
        /// The primary key, printed.
        key: String,
    },

    /// `update` found no row with this primary key.
    #[error("table {table}: no row with key {key}")]
    NotFound {
        /// The table's name.
        table: String,
        /// The primary key, printed.
        key: String,
    },

    /// The closure given to `update` changed the primary key.
    #[error("table {table}: update changed key {key} to {changed}; delete and insert instead")]
    KeyChanged {
        /// The table's name.
        table: String,
        /// The primary key of the row, printed.
        key: String,
        /// The primary key that the closure left, printed.
        changed: String,
    },

    /// A value of a unique index belongs to another row.
    #[error("table {table}: {value} in unique index {index} is taken by the row with key {owner}")]
    Taken {
        /// The table's name.
        table: String,
        /// The index's name.
        index: String,
        /// The contested value, printed.
        value: String,
        /// The primary key of the row that has it, printed.
        owner: String,
    },

    /// A primary key or index entry would be longer than [`limits::KEY_BYTES_MAX`].
    ///
    /// [`limits::KEY_BYTES_MAX`]: crate::limits::KEY_BYTES_MAX
    #[error("table {table}: a key of {} needs {bytes} bytes, the limit is {limit}",
        index.as_deref().unwrap_or("the primary key"))]
    KeyTooLong {
        /// The table's name.
        table: String,
        /// The index's name, or `None` for the primary key.
        index: Option<String>,
        /// The encoded length in bytes, for a non-unique index with the primary key appended.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },

    /// A row has more values in a multi-valued index than [`limits::ENTRIES_PER_ROW_MAX`].
    ///
    /// [`limits::ENTRIES_PER_ROW_MAX`]: crate::limits::ENTRIES_PER_ROW_MAX
    #[error("table {table}: row {key} has {entries} values in index {index}, the limit is {limit}")]
    TooManyEntries {
        /// The table's name.
        table: String,
        /// The index's name.
        index: String,
        /// The primary key, printed.
        key: String,
        /// How many distinct values the row has.
        entries: usize,
        /// The limit.
        limit: usize,
    },

    /// `check()` found that an index or a kept digest differs from what its rows give.
    ///
    /// Either an index function of the schema or the encoding of a row is not a pure function of
    /// the row, or the engine has a defect.
    #[error("table {table}: index {index} is inconsistent at {key}: {detail}")]
    Inconsistent {
        /// The table's name.
        table: String,
        /// The index's name, `primary key`, or `digest`.
        index: String,
        /// The entry or key, printed; `all rows` for a digest.
        key: String,
        /// What was found and what was expected.
        detail: String,
    },

    /// A row cannot be encoded, and a digest is to be kept of it
    /// ([`Builder::keep_digests`](crate::Builder::keep_digests)) or was asked for: its `Serialize`
    /// fails, or it nests deeper than [`limits::ROW_DEPTH_MAX`](crate::limits::ROW_DEPTH_MAX).
    #[error("table {table}: the row with key {key} cannot be encoded: {message}")]
    RowEncode {
        /// The table's name.
        table: String,
        /// The primary key, printed.
        key: String,
        /// What the encoder says.
        message: String,
    },

    /// The encoding of a row is larger than [`limits::ROW_BYTES_MAX`], and a digest is to be kept
    /// of it or was asked for.
    ///
    /// [`limits::ROW_BYTES_MAX`]: crate::limits::ROW_BYTES_MAX
    #[error("table {table}: the row with key {key} needs {bytes} bytes, the limit is {limit}")]
    RowTooLarge {
        /// The table's name.
        table: String,
        /// The primary key, printed.
        key: String,
        /// The length of its encoding.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
}

impl Error {
    /// Whether another row stands in the way: [`KeyExists`](Self::KeyExists) or
    /// [`Taken`](Self::Taken).
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::KeyExists { .. } | Self::Taken { .. })
    }

    /// Whether the row that was named does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

/// Why the schema given to the builder is not one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// Two tables have the same name.
    #[error("table {table} is defined twice")]
    DuplicateTable {
        /// The table's name.
        table: String,
    },
    /// Two tables are made of the same Rust type.
    #[error("type {type_name} is given for two tables")]
    DuplicateType {
        /// The Rust type.
        type_name: String,
    },
    /// Two indexes of one table have the same name.
    #[error("table {table}: index {index} is defined twice")]
    DuplicateIndex {
        /// The table's name.
        table: String,
        /// The index's name.
        index: String,
    },
    /// A handle's position is not the position of its definition.
    #[error(
        "table {table}: the handle of index {index} says position {handle}, \
         it is defined at {defined}"
    )]
    IndexPosition {
        /// The table's name.
        table: String,
        /// The index's name.
        index: String,
        /// The position in the handle.
        handle: usize,
        /// The position in `Table::indexes`.
        defined: usize,
    },
    /// A name is empty, longer than the limit, or has other characters than `a-z A-Z 0-9 _ - .`.
    #[error("{name:?} is not a name for a table or index; use up to {limit} of a-z A-Z 0-9 _ - .")]
    InvalidName {
        /// The name.
        name: String,
        /// The longest name allowed, in bytes.
        limit: usize,
    },
    /// There are more tables, or more indexes on a table, than the limit.
    #[error("{what} exceed the limit of {limit}")]
    TooMany {
        /// What there is too much of.
        what: String,
        /// The limit.
        limit: usize,
    },
}

/// Why no write transaction could be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// Another transaction has the writer.
    #[error("another transaction is writing")]
    Busy,
    /// A state machine owns the database, so it is written by the log alone.
    #[error("a state machine owns this database: propose a command instead of writing")]
    OwnedByMachine,
}
