//! Why an export could not be read or written.

use std::io;

use thiserror::Error;

/// Why text is not an export. Lines and columns count from 1, columns in characters.
#[derive(Debug, Error)]
pub(crate) enum EnglishError {
    #[error("after line {line}: {source}")]
    Io { line: u64, source: io::Error },
    /// The text ends where more must come, or in the middle of a line.
    #[error("the text is cut off in line {line}")]
    Truncated { line: u64 },
    #[error("line {line} is longer than {limit} bytes")]
    LineTooLong { line: u64, limit: usize },
    #[error("line {line}, column {column}: bytes that are not UTF-8")]
    NotUtf8 { line: u64, column: u64 },
    /// The line goes on otherwise than any that is written.
    #[error("line {line}, column {column}: expected {expected}")]
    Expected { line: u64, column: u64, expected: String },
    #[error("the export is of format {found}, this version reads format {supported}")]
    Format { found: u32, supported: u32 },
    #[error("line {line}: lists and groups are nested deeper than the limit of {limit}")]
    TooDeep { line: u64, limit: usize },
    #[error("line {line}: the record needs more than {limit} bytes")]
    RowTooLarge { line: u64, limit: usize },
    #[error("the text goes on after the end of the export, in line {line}")]
    Trailing { line: u64 },
}

/// Why an export could not be written. What was written before is not an export.
#[derive(Debug, Error)]
pub(crate) enum EnglishWriteError {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The bytes of a row are no value, or too many.
    #[error("table {table}, record {record}: {message}")]
    Row { table: String, record: u64, message: String },
    /// A name or a tenant is so long that no reader would take the line.
    #[error("table {table}: a line of {bytes} bytes is longer than the limit of {limit}")]
    LineTooLong { table: String, bytes: usize, limit: usize },
    #[error("table {table}: the name of a key field is longer than {limit} bytes")]
    NameTooLong { table: String, limit: usize },
    #[error("table {table}: {count} key fields are more than the limit of {limit}")]
    TooManyKeyFields { table: String, count: usize, limit: usize },
}
