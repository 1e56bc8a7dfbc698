//! The records of a frame: rows with their keys, keys that are deleted, tombstones.
//!
//! ```text
//! frame       u32 table, u32 count, then each record: u32 length, record
//! row         u16 length of the key, key, MessagePack [created, modified, {field: value}]
//! delete      key
//! tombstone   u64 revision, u32 tree, key
//! ```

use super::error::SnapshotError;
use super::format::{FORMAT_VERSION, kind};
use super::frame::{Frame, malformed};
use crate::limits::{KEY_BYTES_MAX, RECORD_HEAD_BYTES_MAX, ROW_BYTES_MAX};
use crate::messagepack;
use crate::revision::Revision;
use crate::table::TreeNumber;

/// Table position and record count at the head of a frame of records.
pub(super) const RECORDS_HEADER_BYTES: usize = 8;

/// The length of the key at the head of a row.
const ROW_HEAD_BYTES: usize = 2;

/// The longest record of a row.
const ROW_RECORD_BYTES_MAX: usize =
    ROW_HEAD_BYTES + KEY_BYTES_MAX + RECORD_HEAD_BYTES_MAX + ROW_BYTES_MAX;

const SHORT: &str = "it ends inside a record";

/// A tombstone without its key.
const TOMBSTONE_HEAD_BYTES: usize = 12;

/// A frame of records; each is verified by checksum but not decoded.
#[derive(Debug)]
pub(super) struct Records {
    frame: Frame,
    /// Whether rows stand with their keys.
    has_keys: bool,
    /// The position of the table in the header.
    pub(super) table: usize,
    /// The number of the first row in its table, from 0.
    pub(super) first: u64,
    pub(super) count: u32,
}

/// One row of the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawRow<'a> {
    /// Which row of the table, from 0.
    pub(super) row: u64,
    /// Where its record begins in the file.
    pub(super) offset: u64,
    /// Its primary key; files of format 1 do not tell it.
    pub(super) key: Option<&'a [u8]>,
    /// MessagePack `[created, modified, {field: value}]`.
    pub(super) record: &'a [u8],
}

/// One tombstone of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RawTombstone<'a> {
    pub(super) revision: Revision,
    /// The tree by the header's order of indexes.
    pub(super) tree: TreeNumber,
    pub(super) key: &'a [u8],
}

impl Records {
    /// The records of a frame, in a file of some version of the format.
    pub(super) fn new(frame: Frame, version: u32) -> Result<Self, SnapshotError> {
        if frame.payload.len() < RECORDS_HEADER_BYTES {
            return Err(malformed(frame.offset, SHORT));
        }
        let (table, count) = (u32_at(&frame.payload, 0) as usize, u32_at(&frame.payload, 4));
        // Each record has a length, so the bytes bound the count.
        if count as usize > (frame.payload.len() - RECORDS_HEADER_BYTES) / 4 {
            return Err(malformed(frame.offset, SHORT));
        }
        Ok(Self { frame, has_keys: version > 1, table, first: 0, count })
    }

    /// The same of a payload that was in a file before, and is on its way into another.
    pub(super) fn of_payload(kind: u8, payload: Vec<u8>) -> Self {
        let frame = Frame::detached(kind, payload);
        Self::new(frame, FORMAT_VERSION).expect("it was read before")
    }

    /// The same, the first of which is row number `first` of its table.
    pub(super) fn numbered_from(self, first: u64) -> Self {
        Self { first, ..self }
    }

    pub(super) fn into_payload(self) -> Vec<u8> {
        self.frame.payload
    }

    pub(super) fn frame(&self) -> &Frame {
        &self.frame
    }

    /// The bytes of all records, without their lengths.
    pub(super) fn record_bytes(&self) -> u64 {
        (self.frame.payload.len() - RECORDS_HEADER_BYTES) as u64 - 4 * u64::from(self.count)
    }

    /// The records, each with its offset in the file; after the last one, the fault of a frame that
    /// goes on.
    pub(super) fn iter(&self) -> impl Iterator<Item = Result<(u64, &[u8]), SnapshotError>> {
        let limit = match self.frame.kind {
            kind::ROWS => ROW_RECORD_BYTES_MAX,
            kind::DELETES => KEY_BYTES_MAX,
            _ => TOMBSTONE_HEAD_BYTES + KEY_BYTES_MAX,
        };
        let (frame, at) = (&self.frame, RECORDS_HEADER_BYTES);
        Walk { frame, at, left: self.count, limit }
    }

    /// The records as rows.
    pub(super) fn rows(&self) -> impl Iterator<Item = Result<RawRow<'_>, SnapshotError>> {
        self.iter().zip(self.first..).map(|(record, row)| {
            let (offset, record) = record?;
            if !self.has_keys {
                return Ok(RawRow { row, offset, key: None, record });
            }
            let (key, record) = key_and_value(record).ok_or_else(|| malformed(offset, SHORT))?;
            if is_too_long(record) {
                return Err(malformed(offset, "a row is longer than the limit"));
            }
            let offset = offset + (ROW_HEAD_BYTES + key.len()) as u64;
            Ok(RawRow { row, offset, key: Some(key), record })
        })
    }

    /// The records as tombstones, of a frame that was checked.
    pub(super) fn tombstones(&self) -> impl Iterator<Item = RawTombstone<'_>> {
        self.iter().filter_map(|record| tombstone_of(record.ok()?.1))
    }
}

/// The key of a row and its MessagePack.
pub(super) fn key_and_value(record: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = record.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))
}

/// Whether the row in a record is longer than a row may be; what stands before it does not count.
fn is_too_long(record: &[u8]) -> bool {
    record.len() > ROW_BYTES_MAX
        && record.len() - messagepack::value_of_record(record) > ROW_BYTES_MAX
}

/// Appends what stands before the MessagePack of a row whose key is `key`.
pub(super) fn write_row_head(key: &[u8], out: &mut Vec<u8>) {
    let length = u16::try_from(key.len()).expect("a key is below its limit");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(key);
}

pub(super) fn tombstone_of(record: &[u8]) -> Option<RawTombstone<'_>> {
    let (revision, rest) = record.split_first_chunk()?;
    let (tree, key) = rest.split_first_chunk()?;
    let revision = Revision(u64::from_le_bytes(*revision));
    Some(RawTombstone { revision, tree: u32::from_le_bytes(*tree), key })
}

/// Appends a tombstone.
pub(super) fn write_tombstone(tombstone: RawTombstone<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(&tombstone.revision.0.to_le_bytes());
    out.extend_from_slice(&tombstone.tree.to_le_bytes());
    out.extend_from_slice(tombstone.key);
}

struct Walk<'a> {
    frame: &'a Frame,
    at: usize,
    left: u32,
    limit: usize,
}

impl<'a> Walk<'a> {
    fn read(&mut self) -> Result<(u64, &'a [u8]), SnapshotError> {
        let short = || malformed(self.frame.offset, SHORT);
        let rest = &self.frame.payload[self.at..];
        let (length, after) = rest.split_at_checked(4).ok_or_else(short)?;
        let length = u32_at(length, 0) as usize;
        if length > self.limit {
            return Err(malformed(self.frame.offset, "a record is longer than the limit"));
        }
        let (record, _) = after.split_at_checked(length).ok_or_else(short)?;
        let offset = self.frame.place_of(self.at + 4);
        self.at += 4 + length;
        Ok((offset, record))
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Result<(u64, &'a [u8]), SnapshotError>;

    fn next(&mut self) -> Option<Self::Item> {
        let end = self.frame.payload.len();
        if let Some(left) = self.left.checked_sub(1) {
            self.left = left;
            let record = self.read();
            if record.is_err() {
                (self.left, self.at) = (0, end);
            }
            return Some(record);
        }
        let goes_on = std::mem::replace(&mut self.at, end) < end;
        goes_on.then(|| Err(malformed(self.frame.offset, "it goes on after its last record")))
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// Records on their way into a frame.
#[derive(Debug, Default)]
pub(super) struct RecordWriter {
    payload: Vec<u8>,
    count: u32,
}

impl RecordWriter {
    /// Adds the record that `write` appends. `None` when it fails, and nothing is added then.
    pub(super) fn push<E>(
        &mut self,
        table: u32,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<usize, E> {
        if self.payload.is_empty() {
            self.payload.extend_from_slice(&table.to_le_bytes());
            self.payload.extend_from_slice(&[0; 4]);
        }
        let start = self.payload.len();
        self.payload.extend_from_slice(&[0; 4]);
        let written = write(&mut self.payload);
        let length = self.payload.len() - start - 4;
        if let Err(error) = written {
            self.payload.truncate(start);
            return Err(error);
        }
        let bytes = u32::try_from(length).expect("a record is below its limit");
        self.payload[start..start + 4].copy_from_slice(&bytes.to_le_bytes());
        self.count += 1;
        Ok(length)
    }

    /// Adds the record that `write` appends.
    pub(super) fn push_with(&mut self, table: u32, write: impl FnOnce(&mut Vec<u8>)) {
        let pushed = self.push(table, |out| {
            write(out);
            Ok::<_, std::convert::Infallible>(())
        });
        match pushed {
            Ok(_) => (),
        }
    }

    /// The number of records so far.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// How many bytes the frame has so far.
    pub(super) fn bytes(&self) -> usize {
        self.payload.len()
    }

    /// Takes the frame out, without its last record if that is one too many: it begins the next.
    pub(super) fn take(&mut self, last: Option<usize>) -> Vec<u8> {
        let cut = last.map_or(self.payload.len(), |length| self.payload.len() - length - 4);
        let head: [u8; 4] = self.payload[..4].try_into().expect("four bytes");
        let mut next = Self::default();
        if cut < self.payload.len() {
            next.payload.reserve(self.payload.len() - cut + RECORDS_HEADER_BYTES);
            next.payload.extend_from_slice(&head);
            next.payload.extend_from_slice(&[0; 4]);
            next.payload.extend_from_slice(&self.payload[cut..]);
            next.count = 1;
        }
        let count = self.count - next.count;
        self.payload.truncate(cut);
        self.payload[4..8].copy_from_slice(&count.to_le_bytes());
        std::mem::replace(self, next).payload
    }
}
