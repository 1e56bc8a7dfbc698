//! What stands in the frames of a snapshot file, and what is told about it.

use std::fmt;
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use crate::revision::{Applied, Revision};

/// The first bytes of every snapshot file.
pub(super) const MAGIC: [u8; 8] = *b"fsmdbSNP";

/// The version of the format that is written and read.
pub(super) const FORMAT_VERSION: u32 = 1;

/// The kinds of frame.
pub(super) mod kind {
    pub(in crate::snapshot) const HEADER: u8 = 1;
    pub(in crate::snapshot) const ROWS: u8 = 2;
    pub(in crate::snapshot) const END: u8 = 3;
    pub(in crate::snapshot) const TOMBSTONES: u8 = 4;
}

/// The header frame: MessagePack with named fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) revision: Revision,
    pub(super) applied: Applied,
    pub(super) fingerprint: u64,
    /// In the order of names.
    pub(super) tables: Vec<TableHeader>,
}

/// What the header says of one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TableHeader {
    pub(super) name: String,
    pub(super) version: u32,
    pub(super) rows: u64,
    pub(super) modified: Revision,
    pub(super) indexes: Vec<IndexHeader>,
    /// Of a table that has tombstones, however many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) removals: Option<RemovalsHeader>,
}

/// What the header says of removals from one table and its indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RemovalsHeader {
    /// Up to when those of rows may be forgotten.
    pub(super) rows: Revision,
    /// Up to when those of entries of indexes may be.
    pub(super) entries: Revision,
    /// How many the file has.
    pub(super) tombstones: u64,
}

/// What the header says of one index; for people and tools, indexes are rebuilt when loading.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct IndexHeader {
    pub(super) name: String,
    pub(super) unique: bool,
}

/// The end frame: MessagePack with named fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    /// The rows of all tables.
    pub(super) rows: u64,
    /// The offset of the end frame itself.
    pub(super) offset: u64,
}

/// What a snapshot file holds, from [`Snapshot::save`](crate::Snapshot::save) or
/// [`inspect`](crate::inspect).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Summary {
    /// The version of the file format.
    pub format_version: u32,
    /// The revision of the saved version.
    pub revision: Revision,
    /// The last log entry applied in it; (0, 0) from an embedded database.
    pub applied: Applied,
    /// Equal for equal schemas: a hash of the names, versions and indexes of all tables.
    pub schema_fingerprint: u64,
    /// Each table, in the order of names.
    pub tables: Vec<TableSummary>,
    /// The rows of all tables.
    pub rows: u64,
    /// The length of the file in bytes.
    pub bytes: u64,
}

/// What a snapshot file holds of one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TableSummary {
    /// The table's name.
    pub name: String,
    /// The version of its rows' layout.
    pub version: u32,
    /// The revision of the last commit that changed it.
    pub modified: Revision,
    /// Its number of rows.
    pub rows: u64,
    /// The bytes of MessagePack in its rows.
    pub bytes: u64,
    /// Its number of tombstones; see [`Table::TOMBSTONES`](crate::Table::TOMBSTONES).
    pub tombstones: u64,
}

impl Summary {
    pub(super) fn new(header: &Header) -> Self {
        let tables = header.tables.iter().map(|table| TableSummary {
            name: table.name.clone(),
            version: table.version,
            modified: table.modified,
            rows: 0,
            bytes: 0,
            tombstones: 0,
        });
        Self {
            format_version: FORMAT_VERSION,
            revision: header.revision,
            applied: header.applied,
            schema_fingerprint: header.fingerprint,
            tables: tables.collect(),
            rows: 0,
            bytes: 0,
        }
    }

    pub(super) fn count(&mut self, table: usize, bytes: usize) {
        self.rows += 1;
        self.tables[table].rows += 1;
        self.tables[table].bytes += bytes as u64;
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "revision {}, applied {}, {} rows, {} bytes",
            self.revision, self.applied, self.rows, self.bytes
        )?;
        for table in &self.tables {
            writeln!(
                f,
                "  {} (version {}): {} rows, {} bytes, modified at {}",
                table.name, table.version, table.rows, table.bytes, table.modified
            )?;
        }
        Ok(())
    }
}

/// How far a save or load is, told after each frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress<'a> {
    /// The table that the last frame belongs to.
    pub table: &'a str,
    /// Rows of all tables so far.
    pub rows: u64,
    /// Rows of all tables in the end.
    pub rows_total: u64,
    /// Bytes of the file so far.
    pub bytes: u64,
}

impl Progress<'_> {
    /// What a progress callback returns to go on.
    pub const CONTINUE: ControlFlow<()> = ControlFlow::Continue(());
    /// What a progress callback returns to cancel.
    pub const CANCEL: ControlFlow<()> = ControlFlow::Break(());
}

/// A progress callback.
pub(super) type OnProgress<'a> = &'a mut dyn FnMut(Progress<'_>) -> ControlFlow<()>;
