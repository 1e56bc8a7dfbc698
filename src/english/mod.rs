//! A database as English text: one line a field, for people who have no program to look into it,
//! and read back to the same rows.
//!
//! The text is made of the bytes of rows and gives them back; the Rust types of the rows are not
//! needed, and neither is a table. What a line may be is written down in `docs/english-format.md`,
//! whose example is a test. `write.rs` and `read.rs` are streams of tables and records; `value.rs`
//! reads the lines of one value and `line.rs` one line, `quote.rs` knows texts and names,
//! `scalar.rs` what stands alone on a line, `label.rs` what a record is called.
//!
//! # Invariants
//!
//! 1. What is read is what was written: rows to the byte, when they were the shortest encoding of
//!    their values, as those of a table are.
//! 2. There is one text for one export. The reader refuses what the writer would not have written,
//!    but for lines that end as on Windows, so what it accepts says what it seems to say.
//! 3. No number in the text allocates or loops by itself; the reader holds one line and the row in
//!    the making, and recurses no deeper than a row may be nested.
//! 4. What could be mistaken on paper does not stand there as it is: characters that cannot be
//!    seen, or that turn text around, are escaped.

mod error;
mod label;
mod line;
mod quote;
mod read;
mod scalar;
#[cfg(test)]
mod tests;
mod value;
mod write;

use crate::revision::{Applied, Revision};

pub(crate) use {
    error::{EnglishError, EnglishWriteError},
    read::Reader,
    write::Writer,
};

/// The format that is written and read.
const FORMAT: u32 = 1;

/// What an export says of the version that it was made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) revision: Revision,
    /// The default is an embedded database, of which nothing is said.
    pub(crate) applied: Applied,
}

/// What an export says of a table before its records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TableHead {
    pub(crate) name: String,
    pub(crate) version: u32,
    /// The fields by whose values the records are called, those of the primary key.
    pub(crate) key_fields: Vec<String>,
}

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    /// Whose row it is, in a table that has the rows of several.
    pub(crate) tenant: Option<&'a str>,
    /// The encoded primary key, for readers who cannot compute it from the row.
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) created: Revision,
    pub(crate) modified: Revision,
    /// MessagePack, mostly `{field: value}`.
    pub(crate) value: &'a [u8],
}

/// What an export consists of, in its order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entry<'a> {
    Table(&'a TableHead),
    Record(Record<'a>),
    TableEnd { records: u64 },
}
