//! Reads a snapshot file as a stream of items, and verifies it on the way.

use std::fmt;
use std::io::Read;

use super::error::OfflineError;
use super::head::Head;
use super::item::{Item, StoredRow, StoredTombstone};
use crate::digest::Digest;
use crate::snapshot::codec::EncryptionKey;
use crate::snapshot::format::{Summary, kind};
use crate::snapshot::inspect::{Verified, envelope_of};
use crate::snapshot::reader::{SnapshotReader, Step};
use crate::snapshot::records::{RECORDS_HEADER_BYTES, Records, key_and_value, tombstone_of};

/// Reads a snapshot file, whole or incremental, without the Rust types of its rows.
///
/// Everything that [`inspect`](crate::inspect) verifies is verified: a frame before any of it is
/// given out, a table at its end, the file at its own. So what was read of a file is only known to
/// be good when [`read_item`](OfflineReader::read_item) has given `None`. Memory is bounded by one
/// frame.
///
/// ```
/// # use fsmdb::{Db, Table};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
/// # #[table(name = "nodes")]
/// # struct Node { #[key] id: u64 }
/// # let db = Db::builder().table::<Node>().build()?;
/// # let mut txn = db.write();
/// # txn.insert(Node { id: 7 })?;
/// # txn.commit();
/// # let mut file = Vec::new();
/// # db.read().save(&mut file)?;
/// use fsmdb::offline::{Item, OfflineReader};
///
/// let mut reader = OfflineReader::new(file.as_slice(), None)?;
/// let mut rows = 0;
/// while let Some(item) = reader.read_item()? {
///     rows += u64::from(matches!(item, Item::Row(_)));
/// }
/// assert_eq!(reader.summary().unwrap().rows, rows);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct OfflineReader<R> {
    /// `None` behind the end, and behind an error.
    reader: Option<SnapshotReader<R>>,
    head: Head,
    summary: Option<Summary>,
    /// The table that is read, or that comes next, and whether it has begun.
    table: usize,
    has_begun: bool,
    verified: Verified,
    frame: OpenFrame,
    section: (String, Vec<u8>),
}

/// A frame whose records are given out one by one; all of them were verified.
#[derive(Default)]
struct OpenFrame {
    kind: u8,
    payload: Vec<u8>,
    at: usize,
}

/// What was read, to be given out.
enum Ready {
    Table,
    Record,
    TableEnd(Digest),
    Section,
    End,
}

impl OpenFrame {
    fn of(kind: u8, records: Records) -> Self {
        Self { kind, payload: records.into_payload(), at: RECORDS_HEADER_BYTES }
    }

    fn is_over(&self) -> bool {
        self.at >= self.payload.len()
    }

    /// The next record.
    fn next(&mut self) -> &[u8] {
        let (length, rest) = self.payload[self.at..].split_first_chunk().expect("it was verified");
        let length = u32::from_le_bytes(*length) as usize;
        self.at += 4 + length;
        &rest[..length]
    }
}

impl<R: Read> OfflineReader<R> {
    /// Reads the head of a file; of an encrypted one, with its key.
    ///
    /// # Errors
    ///
    /// [`OfflineError::NoKeys`] of a file of format 1; otherwise as
    /// [`inspect_with`](crate::inspect_with).
    pub fn new(source: R, key: Option<&EncryptionKey>) -> Result<Self, OfflineError> {
        let reader = SnapshotReader::new(source, key)?;
        if reader.version() == 1 {
            return Err(OfflineError::NoKeys { found: reader.version() });
        }
        Ok(Self {
            head: Head::of(&reader.header),
            reader: Some(reader),
            summary: None,
            table: 0,
            has_begun: false,
            verified: Verified::default(),
            frame: OpenFrame::default(),
            section: Default::default(),
        })
    }

    /// What the file says of itself.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// What the file holds, once all of it was read.
    #[must_use]
    pub fn summary(&self) -> Option<&Summary> {
        self.summary.as_ref()
    }

    /// Reads the next item; `None` when the file has ended, whole, and behind an error.
    ///
    /// # Errors
    ///
    /// [`OfflineError::Snapshot`] with the byte offset of the first thing that is wrong.
    pub fn read_item(&mut self) -> Result<Option<Item<'_>>, OfflineError> {
        let ready = self.advance().inspect_err(|_| self.reader = None)?;
        Ok(Some(match ready {
            Ready::Table => Item::Table(&self.head.tables[self.table]),
            Ready::Record => item_of(self.frame.kind, self.frame.next()),
            Ready::TableEnd(digest) => Item::TableEnd { digest },
            Ready::Section => Item::Section { name: &self.section.0, content: &self.section.1 },
            Ready::End => return Ok(None),
        }))
    }

    /// Reads all that is left.
    ///
    /// # Errors
    ///
    /// As [`read_item`](OfflineReader::read_item).
    pub fn finish(mut self) -> Result<Summary, OfflineError> {
        while self.read_item()?.is_some() {}
        self.summary.ok_or_else(|| OfflineError::unwritable("", "the file was refused before"))
    }

    fn advance(&mut self) -> Result<Ready, OfflineError> {
        if !self.frame.is_over() {
            return Ok(Ready::Record);
        }
        let Some(reader) = &mut self.reader else { return Ok(Ready::End) };
        if !self.has_begun && self.table < self.head.tables.len() {
            self.has_begun = true;
            return Ok(Ready::Table);
        }
        loop {
            let frame = match reader.step()? {
                Step::Rows(records) => {
                    self.verified.rows(&records, &reader.header.tables[records.table])?;
                    OpenFrame::of(kind::ROWS, records)
                }
                Step::Deletes(records) => OpenFrame::of(kind::DELETES, records),
                Step::Tombstones(records) => OpenFrame::of(kind::TOMBSTONES, records),
                Step::TableEnd(end) => {
                    self.verified.end(&end, &reader.header)?;
                    (self.table, self.has_begun) = (self.table + 1, false);
                    return Ok(Ready::TableEnd(end.digest));
                }
                Step::Section { name, content } => {
                    self.section = (name, content);
                    return Ok(Ready::Section);
                }
                Step::End => {
                    let reader = self.reader.take().expect("it was there");
                    self.summary = Some(reader.finish()?);
                    return Ok(Ready::End);
                }
            };
            self.frame = frame;
            // A frame may have no records.
            if !self.frame.is_over() {
                return Ok(Ready::Record);
            }
        }
    }
}

fn item_of(frame_kind: u8, record: &[u8]) -> Item<'_> {
    match frame_kind {
        kind::ROWS => {
            let (key, record) = key_and_value(record).expect("it was verified");
            let (created, modified, start) = envelope_of(record).expect("it was verified");
            Item::Row(StoredRow::new(key, created, modified, &record[start..]))
        }
        kind::DELETES => Item::Deleted(record),
        _ => {
            let found = tombstone_of(record).expect("it was verified");
            Item::Tombstone(StoredTombstone::new(found.revision, found.tree, found.key))
        }
    }
}

impl<R> fmt::Debug for OfflineReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { head, table, .. } = self;
        f.debug_struct("OfflineReader")
            .field("head", head)
            .field("table", table)
            .finish_non_exhaustive()
    }
}
