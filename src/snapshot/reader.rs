//! Walks a snapshot file frame by frame and holds it to what its own header says.

use std::io::Read;

use serde::de::DeserializeOwned;

use super::error::SnapshotError;
use super::format::{End, Header, Summary, TableHeader, kind};
use super::frame::{Frame, FrameReader};
use crate::limits::{KEY_BYTES_MAX, REVISION_MAX, ROW_BYTES_MAX, TABLES_MAX};
use crate::messagepack;
use crate::revision::Revision;
use crate::table::TreeNumber;

/// Table position and record count at the head of a frame of rows or tombstones.
pub(super) const RECORDS_HEADER_BYTES: usize = 8;

/// The reader of one file; see the module.
pub(super) struct SnapshotReader<R> {
    frames: FrameReader<R>,
    pub(super) header: Header,
    summary: Summary,
    /// The table and kind of the last frame: tables come in order, each with its rows first.
    last: (usize, u8),
    /// The last tombstone of that table.
    tombstone: Vec<u8>,
}

/// One row of the file, verified by checksum but not decoded.
#[derive(Clone, Copy)]
pub(super) struct RawRow<'a> {
    /// The position of its table in the header.
    pub(super) table: usize,
    /// Which row of the table, from 0.
    pub(super) row: u64,
    /// Where its record begins in the file.
    pub(super) offset: u64,
    /// MessagePack `[created, modified, {field: value}]`.
    pub(super) record: &'a [u8],
}

/// One tombstone of the file, verified by checksum and for being one of its table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RawTombstone<'a> {
    pub(super) revision: Revision,
    /// The tree by the header's order of indexes.
    pub(super) tree: TreeNumber,
    pub(super) key: &'a [u8],
}

/// Who is told of what the walk meets.
pub(super) trait Visit {
    fn row(&mut self, header: &Header, row: RawRow<'_>) -> Result<(), SnapshotError>;

    /// The tombstones of a table come after its rows, the oldest first.
    fn tombstone(&mut self, table: usize, tombstone: RawTombstone<'_>);
}

/// What the walk found next.
pub(super) enum Step {
    /// A frame of the table at this position was walked.
    Table(usize),
    /// The file has ended, whole.
    End(Summary),
}

impl<R: Read> SnapshotReader<R> {
    /// Reads the prelude and the header.
    pub(super) fn new(source: R) -> Result<Self, SnapshotError> {
        let mut frames = FrameReader::new(source)?;
        let frame = frames.next()?;
        if frame.kind != kind::HEADER {
            return Err(malformed(frame.offset, "the first frame is not a header"));
        }
        let header: Header = decode(frames.payload(), frame.offset)?;
        let Header { revision, applied, .. } = &header;
        if [revision.0, applied.index, applied.term].iter().any(|number| *number > REVISION_MAX) {
            return Err(malformed(frame.offset, "its revision or position is beyond the limit"));
        }
        if header.tables.len() > TABLES_MAX {
            return Err(malformed(frame.offset, "the header has too many tables"));
        }
        if !header.tables.is_sorted_by(|one, other| one.name < other.name) {
            return Err(malformed(frame.offset, "the tables are not in the order of names"));
        }
        if header.tables.iter().any(|table| table.modified > header.revision) {
            return Err(malformed(frame.offset, "a table was modified after the revision"));
        }
        if let Some(message) = header.tables.iter().find_map(fault_of_removals) {
            return Err(malformed(frame.offset, message));
        }
        let summary = Summary::new(&header);
        Ok(Self { frames, header, summary, last: (0, kind::ROWS), tombstone: Vec::new() })
    }

    /// How many bytes were read.
    pub(super) fn offset(&self) -> u64 {
        self.frames.offset()
    }

    /// Rows so far.
    pub(super) fn rows(&self) -> u64 {
        self.summary.rows
    }

    /// Rows that the header promises, saturated: nothing is allocated by it.
    pub(super) fn rows_total(&self) -> u64 {
        self.header.tables.iter().fold(0, |sum, table| sum.saturating_add(table.rows))
    }

    /// Reads one frame and gives each of its rows or tombstones to `visit`.
    pub(super) fn step(&mut self, visit: &mut dyn Visit) -> Result<Step, SnapshotError> {
        let frame = self.frames.next()?;
        match frame.kind {
            kind::ROWS => self.walk_rows(frame, visit).map(Step::Table),
            kind::TOMBSTONES => self.walk_tombstones(frame, visit).map(Step::Table),
            kind::END => self.check_end(frame),
            other => Err(malformed(frame.offset, &format!("kind {other} has no place here"))),
        }
    }

    /// Refuses bytes after the end frame.
    pub(super) fn finish(self) -> Result<u64, SnapshotError> {
        self.frames.finish()
    }

    fn walk_rows(&mut self, frame: Frame, visit: &mut dyn Visit) -> Result<usize, SnapshotError> {
        let Self { frames, header, summary, last, .. } = self;
        let (table, records) = Records::new(frames, frame, header, last)?;
        for record in records {
            let (offset, record) = record?;
            let row = summary.tables[table].rows;
            summary.count(table, record.len());
            visit.row(header, RawRow { table, row, offset, record })?;
        }
        Ok(table)
    }

    fn walk_tombstones(
        &mut self,
        frame: Frame,
        visit: &mut dyn Visit,
    ) -> Result<usize, SnapshotError> {
        let Self { frames, header, summary, last, tombstone: before } = self;
        let was = *last;
        let (table, records) = Records::new(frames, frame, header, last)?;
        if was != *last {
            before.clear();
        }
        for record in records {
            let (offset, record) = record?;
            let fault = |message| malformed(offset, message);
            let found = tombstone_of(record).ok_or_else(|| fault("it is too short to be one"))?;
            if tombstone_of(before).is_some_and(|before| before >= found) {
                return Err(fault("a tombstone is repeated or out of order"));
            }
            if !is_of(&header.tables[table], found) {
                return Err(fault("a tombstone is not one of its table"));
            }
            before.clear();
            before.extend_from_slice(record);
            summary.tables[table].tombstones += 1;
            visit.tombstone(table, found);
        }
        Ok(table)
    }

    fn check_end(&mut self, frame: Frame) -> Result<Step, SnapshotError> {
        let end: End = decode(self.frames.payload(), frame.offset)?;
        for (header, counted) in self.header.tables.iter().zip(&self.summary.tables) {
            if header.rows != counted.rows {
                return Err(SnapshotError::RowCount {
                    table: header.name.clone(),
                    found: counted.rows,
                    expected: header.rows,
                });
            }
            let promised = header.removals.map_or(0, |removals| removals.tombstones);
            if promised != counted.tombstones {
                return Err(malformed(frame.offset, "the tombstones differ from the header"));
            }
        }
        if (end.rows, end.offset) != (self.summary.rows, frame.offset) {
            return Err(malformed(frame.offset, "its totals differ from the file"));
        }
        self.summary.bytes = self.frames.offset();
        Ok(Step::End(self.summary.clone()))
    }
}

/// The records of one frame, each with its offset in the file.
struct Records<'a> {
    frame: Frame,
    /// Where the payload ends in the file.
    end: u64,
    rest: &'a [u8],
    count: u32,
    limit: usize,
}

impl<'a> Records<'a> {
    /// The table of a frame and its records.
    fn new<R: Read>(
        frames: &'a FrameReader<R>,
        frame: Frame,
        header: &Header,
        last: &mut (usize, u8),
    ) -> Result<(usize, Self), SnapshotError> {
        let head = frames.payload().split_at_checked(RECORDS_HEADER_BYTES);
        let (head, rest) = head.ok_or_else(|| malformed(frame.offset, SHORT))?;
        let table = u32_at(head, 0) as usize;
        if (table, frame.kind) < *last || table >= header.tables.len() {
            return Err(malformed(frame.offset, "its table is unknown or out of order"));
        }
        *last = (table, frame.kind);
        let limit = if frame.kind == kind::ROWS { ROW_BYTES_MAX } else { TOMBSTONE_BYTES_MAX };
        let end = frames.payload_offset() + frames.payload().len() as u64;
        Ok((table, Self { frame, end, rest, count: u32_at(head, 4), limit }))
    }

    fn read(&mut self) -> Result<(u64, &'a [u8]), SnapshotError> {
        let short = || malformed(self.frame.offset, SHORT);
        let offset = self.end - self.rest.len() as u64;
        let (length, after) = self.rest.split_at_checked(4).ok_or_else(short)?;
        let length = u32_at(length, 0) as usize;
        if length > self.limit {
            return Err(malformed(self.frame.offset, "a record is longer than the limit"));
        }
        let (record, rest) = after.split_at_checked(length).ok_or_else(short)?;
        self.rest = rest;
        Ok((offset + 4, record))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<(u64, &'a [u8]), SnapshotError>;

    /// The next record; after the last one, the fault of a frame that goes on.
    fn next(&mut self) -> Option<Self::Item> {
        if let Some(left) = self.count.checked_sub(1) {
            self.count = left;
            let record = self.read();
            if record.is_err() {
                (self.count, self.rest) = (0, &[]);
            }
            return Some(record);
        }
        let goes_on = !std::mem::take(&mut self.rest).is_empty();
        goes_on.then(|| Err(malformed(self.frame.offset, "it goes on after its last record")))
    }
}

const SHORT: &str = "it ends inside a record";

/// A tombstone without its key.
const TOMBSTONE_HEAD_BYTES: usize = 12;

const TOMBSTONE_BYTES_MAX: usize = TOMBSTONE_HEAD_BYTES + KEY_BYTES_MAX;

fn tombstone_of(record: &[u8]) -> Option<RawTombstone<'_>> {
    let (revision, rest) = record.split_first_chunk()?;
    let (tree, key) = rest.split_first_chunk()?;
    let revision = Revision(u64::from_le_bytes(*revision));
    Some(RawTombstone { revision, tree: u32::from_le_bytes(*tree), key })
}

/// Whether a table can have this tombstone.
fn is_of(table: &TableHeader, tombstone: RawTombstone<'_>) -> bool {
    let RawTombstone { revision, tree, .. } = tombstone;
    table.removals.is_some_and(|removals| {
        let floor = if tree == 0 { removals.rows } else { removals.entries };
        let trees = 1 + table.indexes.len();
        revision > floor && revision <= table.modified && (tree as usize) < trees
    })
}

fn fault_of_removals(table: &TableHeader) -> Option<&'static str> {
    let removals = table.removals?;
    let is_late = removals.rows.max(removals.entries) > table.modified;
    is_late.then_some("a table forgot removals after it was modified")
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(super) fn malformed(offset: u64, message: &str) -> SnapshotError {
    SnapshotError::Malformed { offset, message: message.to_owned() }
}

/// Decodes a value of the library's own that fills `bytes` whole.
fn decode<T: DeserializeOwned>(bytes: &[u8], offset: u64) -> Result<T, SnapshotError> {
    messagepack::read(bytes).map_err(|error| malformed(offset, &error.to_string()))
}
