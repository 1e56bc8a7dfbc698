//! Reads a snapshot file without the Rust types of its rows.

use std::io::Read;

use super::codec::EncryptionKey;
use super::error::SnapshotError;
use super::format::Summary;
use super::reader::{SnapshotReader, Step};
use super::records::Records;
use crate::digest::Digest;
use crate::messagepack;

/// Verifies a snapshot file whole and says what is in it, without the Rust types of its rows.
///
/// Every checksum, hash, count, total and digest is checked, that every row is well-formed
/// MessagePack, and that keys ascend; whether rows fit their types and keys only loading can tell.
/// Memory is bounded by one frame.
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
/// [`SnapshotError`] with the byte offset of the first thing that is wrong;
/// [`SnapshotError::NoKey`] of an encrypted file.
pub fn inspect<R: Read>(source: R) -> Result<Summary, SnapshotError> {
    inspect_with(source, None)
}

/// As [`inspect`], of a file that may be encrypted with `key`.
///
/// # Errors
///
/// As [`inspect`]; [`SnapshotError::Sealed`] when it is encrypted with another key.
pub fn inspect_with<R: Read>(
    source: R,
    key: Option<&EncryptionKey>,
) -> Result<Summary, SnapshotError> {
    let mut reader = SnapshotReader::new(source, key)?;
    let mut table = Verified::default();
    loop {
        match reader.step()? {
            Step::Rows(records) => {
                let name = &reader.header.tables[records.table].name;
                table.rows(&records, name)?;
            }
            Step::TableEnd(end) => {
                let name = &reader.header.tables[end.table as usize].name;
                let Verified { digest, .. } = std::mem::take(&mut table);
                if reader.header.base.is_none() && digest != end.digest {
                    let (table, expected) = (name.clone(), end.digest);
                    return Err(SnapshotError::Digest { table, found: digest, expected });
                }
            }
            Step::End => return reader.finish(),
            Step::Deletes(_) | Step::Tombstones(_) | Step::Section { .. } => (),
        }
    }
}

/// What was seen of a table.
#[derive(Default)]
pub(super) struct Verified {
    pub(super) digest: Digest,
    last_key: Vec<u8>,
    has_key: bool,
}

impl Verified {
    /// Checks that the rows of a frame are well-formed and in order.
    pub(super) fn rows(&mut self, records: &Records, table: &str) -> Result<(), SnapshotError> {
        for raw in records.rows() {
            let raw = raw?;
            let failed = |offset: u64, message: String| SnapshotError::Row {
                table: table.to_owned(),
                row: raw.row,
                offset: raw.offset + offset,
                message,
            };
            messagepack::check(raw.record).map_err(|error| failed(error.offset, error.message))?;
            let Some(key) = raw.key else { continue };
            if self.has_key && self.last_key.as_slice() >= key {
                return Err(failed(0, "its key is repeated or out of order".to_owned()));
            }
            self.has_key = true;
            self.last_key.clear();
            self.last_key.extend_from_slice(key);
            let start = messagepack::value_of_record(raw.record);
            self.digest = self.digest.plus(Digest::of_value(&raw.record[start..]));
        }
        Ok(())
    }
}
