//! Reads a snapshot file without the Rust types of its rows.

use std::io::Read;

use super::error::SnapshotError;
use super::format::{Header, Summary};
use super::reader::{RawRow, RawTombstone, SnapshotReader, Step, Visit};
use crate::messagepack;

/// Verifies a snapshot file whole and says what is in it, without the Rust types of its rows.
///
/// Every checksum, count and total is checked, and that every row is well-formed MessagePack;
/// whether rows fit their types and keys only loading can tell. Memory is bounded by one frame.
///
/// ```
/// # use fsmdb::{Db, Table};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
/// # #[table(name = "nodes")]
/// # struct Node { #[key] id: u64 }
/// # let db = Db::builder().table::<Node>().build()?;
/// # let mut file = Vec::new();
/// # db.read().save(&mut file)?;
/// let summary = fsmdb::inspect(file.as_slice())?;
/// assert_eq!(summary.tables[0].name, "nodes");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`SnapshotError`] with the byte offset of the first thing that is wrong.
pub fn inspect<R: Read>(source: R) -> Result<Summary, SnapshotError> {
    let mut reader = SnapshotReader::new(source)?;
    loop {
        if let Step::End(summary) = reader.step(&mut WellFormed)? {
            reader.finish()?;
            return Ok(summary);
        }
    }
}

/// Checks that every row is well-formed MessagePack.
struct WellFormed;

impl Visit for WellFormed {
    fn row(&mut self, header: &Header, row: RawRow<'_>) -> Result<(), SnapshotError> {
        messagepack::check(row.record).map_err(|error| SnapshotError::Row {
            table: header.tables[row.table].name.clone(),
            row: row.row,
            offset: row.offset + error.offset,
            message: error.message,
        })
    }

    fn tombstone(&mut self, _: usize, _: RawTombstone<'_>) {}
}
