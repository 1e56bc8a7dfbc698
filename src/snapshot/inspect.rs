//! Reads a snapshot file without the Rust types of its rows, and says what holds of rows without
//! them: the same for who inspects, for tools, and for tables that are carried.

use std::io::Read;

use super::codec::EncryptionKey;
use super::error::SnapshotError;
use super::format::{Header, Summary, TableEnd, TableHeader};
use super::reader::{SnapshotReader, Step};
use super::records::Records;
use crate::digest::Digest;
use crate::messagepack::{self, Item, Items};
use crate::revision::Revision;

/// Verifies a snapshot file whole and says what is in it, without the Rust types of its rows.
///
/// Every checksum, hash, count, total and digest is checked, that every row is well-formed
/// MessagePack with revisions that can be, and that keys ascend; whether rows fit their types and
/// keys only loading can tell. Memory is bounded by one frame.
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
                table.rows(&records, &reader.header.tables[records.table])?;
            }
            Step::TableEnd(end) => table.end(&end, &reader.header)?,
            Step::End => return reader.finish(),
            Step::Deletes(_) | Step::Tombstones(_) | Step::Section { .. } => (),
        }
    }
}

/// What was seen of a table whose rows nobody here has types for: to be inspected, carried, or read
/// by a tool.
#[derive(Default)]
pub(super) struct Verified {
    digest: Digest,
    last_key: Vec<u8>,
    has_key: bool,
}

impl Verified {
    /// Checks that the rows of a frame are well-formed, of their table's time, and in order.
    pub(super) fn rows(
        &mut self,
        records: &Records,
        header: &TableHeader,
    ) -> Result<(), SnapshotError> {
        for raw in records.rows() {
            let raw = raw?;
            let failed = |offset: u64, message: String| SnapshotError::Row {
                table: header.name.clone(),
                row: raw.row,
                offset: raw.offset + offset,
                message,
            };
            messagepack::check(raw.record).map_err(|error| failed(error.offset, error.message))?;
            let (created, modified, start) = envelope_of(raw.record)
                .ok_or_else(|| failed(0, "it is not two revisions and a value".to_owned()))?;
            if created > modified {
                return Err(failed(0, "it was modified before it was created".to_owned()));
            }
            if modified > header.modified {
                return Err(failed(0, "the row was modified after its table".to_owned()));
            }
            let Some(key) = raw.key else { continue };
            if self.has_key && self.last_key.as_slice() >= key {
                return Err(failed(0, "its key is repeated or out of order".to_owned()));
            }
            self.has_key = true;
            self.last_key.clear();
            self.last_key.extend_from_slice(key);
            self.digest = self.digest.plus(Digest::of_value(&raw.record[start..]));
        }
        Ok(())
    }

    /// Checks that they have the digest of the table's end, if the file has all of them; what comes
    /// next is another table.
    pub(super) fn end(&mut self, end: &TableEnd, header: &Header) -> Result<(), SnapshotError> {
        let Self { digest: found, .. } = std::mem::take(self);
        if header.base.is_some() || found == end.digest {
            return Ok(());
        }
        let table = header.tables[end.table as usize].name.clone();
        Err(SnapshotError::Digest { table, found, expected: end.digest })
    }
}

/// The revisions of a record, and where its value begins.
pub(super) fn envelope_of(record: &[u8]) -> Option<(Revision, Revision, usize)> {
    let mut items = Items::of(record);
    if items.next() != Ok(Item::List(3)) {
        return None;
    }
    let mut revision = || match items.next() {
        Ok(Item::Int(number)) => u64::try_from(number).ok().map(Revision),
        Ok(Item::UInt(number)) => Some(Revision(number)),
        _ => None,
    };
    Some((revision()?, revision()?, items.position()))
}
