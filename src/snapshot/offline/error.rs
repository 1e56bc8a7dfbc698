//! Why an offline tool could not do what it was asked.

use std::io;

use thiserror::Error;

use crate::snapshot::error::SnapshotError;

/// Why an offline tool gave up. What it has written so far is not a snapshot file: it has no end.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OfflineError {
    /// A snapshot file could not be read or written.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The file is of a format that does not tell the keys of rows.
    #[error("the file is of format {found}, which has no keys: load it, and save it again")]
    NoKeys {
        /// The version of the file's format.
        found: u32,
    },
    /// The file does not have a table that was named.
    #[error("the file has no table {table}")]
    NoTable {
        /// The name.
        table: String,
    },
    /// A tenant was asked for, and nobody has said which field tells it.
    #[error("table {table}: the file does not tell its key fields; name the field of the tenant")]
    NoKeyFields {
        /// The table's name.
        table: String,
    },
    /// A field is to be redacted whose value stands in the primary keys as well.
    #[error("table {table}: field {field} is part of the primary key, which would keep its value")]
    KeyField {
        /// The table's name.
        table: String,
        /// The field.
        field: String,
    },
    /// The value of a row cannot be read.
    #[error("table {table}: row {key} cannot be read: {message}")]
    Value {
        /// The table's name.
        table: String,
        /// The bytes of its primary key, in hexadecimal digits.
        key: String,
        /// What is wrong.
        message: String,
    },
    /// An incremental file of a chain speaks of other tables than the file before it.
    #[error(
        "file {file} of the chain has other tables, versions or indexes than the one before it"
    )]
    OtherTables {
        /// Which file, from 1.
        file: usize,
    },
    /// What is to be written has no place in a file: it is out of order, or too large, or not what
    /// the head has promised.
    #[error("{}{message}", before_message(table))]
    Unwritable {
        /// The table's name; empty when it is of none.
        table: String,
        /// What is wrong.
        message: String,
    },
    /// The text is no export of a database, or not one of which a file can be made.
    #[error("the text: {message}")]
    Text {
        /// What is wrong, and in which line.
        message: String,
    },
    /// A row, a table or a name cannot be said in English.
    #[error("it cannot be exported: {message}")]
    Export {
        /// Why not.
        message: String,
    },
    /// The source or target of a text, or what is beside a snapshot file, has failed.
    #[error("reading or writing has failed: {0}")]
    Io(#[from] io::Error),
}

fn before_message(table: &str) -> String {
    if table.is_empty() { String::new() } else { format!("table {table}: ") }
}

impl OfflineError {
    /// Whether a source is damaged or hostile, as against a failing device or a wrong question: see
    /// [`SnapshotError::is_corrupt`].
    ///
    /// ```
    /// use fsmdb::offline::{OfflineError, Source};
    ///
    /// let error = Source::bytes(b"fsmdbSNP").reader().unwrap_err();
    /// assert!(error.is_corrupt());
    /// assert!(!OfflineError::NoTable { table: "jobs".into() }.is_corrupt());
    /// ```
    #[must_use]
    pub fn is_corrupt(&self) -> bool {
        match self {
            Self::Snapshot(error) => error.is_corrupt(),
            Self::Value { .. } | Self::Text { .. } => true,
            Self::NoKeys { .. }
            | Self::NoTable { .. }
            | Self::NoKeyFields { .. }
            | Self::KeyField { .. }
            | Self::OtherTables { .. }
            | Self::Unwritable { .. }
            | Self::Export { .. }
            | Self::Io(_) => false,
        }
    }

    pub(super) fn unwritable(table: &str, message: impl Into<String>) -> Self {
        Self::Unwritable { table: table.to_owned(), message: message.into() }
    }
}
