//! Reads a snapshot file without the Rust types of its rows.

use std::io::Read;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::error::SnapshotError;
use super::format::{Header, Summary};
use super::reader::{RawRow, SnapshotReader, Step};
use crate::limits::DEPTH_MAX;

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
        if let Step::End(summary) = reader.step(&mut well_formed)? {
            reader.finish()?;
            return Ok(summary);
        }
    }
}

fn well_formed(header: &Header, raw: RawRow<'_>) -> Result<(), SnapshotError> {
    let mut deserializer = rmp_serde::Deserializer::new(std::io::Cursor::new(raw.record));
    deserializer.set_max_depth(DEPTH_MAX);
    let read = IgnoredAny::deserialize(&mut deserializer);
    let offset = raw.offset + deserializer.position();
    let failed = |message: String| SnapshotError::Row {
        table: header.tables[raw.table].name.clone(),
        row: raw.row,
        offset,
        message,
    };
    read.map_err(|error| failed(error.to_string()))?;
    if deserializer.position() != raw.record.len() as u64 {
        return Err(failed("the record goes on after the row".into()));
    }
    Ok(())
}
