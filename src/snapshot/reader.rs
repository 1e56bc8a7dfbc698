//! Walks a snapshot file frame by frame and holds it to what its own header says.

use std::io::Read;

use serde::de::DeserializeOwned;

use super::error::SnapshotError;
use super::format::{End, Header, Summary, kind};
use super::frame::{Frame, FrameReader};
use crate::limits::{REVISION_MAX, ROW_BYTES_MAX, TABLES_MAX};
use crate::messagepack;

/// Table position and row count at the head of a rows frame.
pub(super) const ROWS_HEADER_BYTES: usize = 8;

/// The reader of one file; see the module.
pub(super) struct SnapshotReader<R> {
    frames: FrameReader<R>,
    pub(super) header: Header,
    summary: Summary,
    /// The table of the last rows frame: tables come in order.
    table: usize,
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

/// What the walk found next.
pub(super) enum Step {
    /// A frame with rows of the table at this position was walked.
    Rows(usize),
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
        let summary = Summary::new(&header);
        Ok(Self { frames, header, summary, table: 0 })
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

    /// Reads one frame and gives each of its rows to `visit`.
    pub(super) fn step(
        &mut self,
        visit: &mut dyn FnMut(&Header, RawRow<'_>) -> Result<(), SnapshotError>,
    ) -> Result<Step, SnapshotError> {
        let frame = self.frames.next()?;
        match frame.kind {
            kind::ROWS => self.walk_rows(frame, visit).map(Step::Rows),
            kind::END => self.check_end(frame),
            other => Err(malformed(frame.offset, &format!("kind {other} has no place here"))),
        }
    }

    /// Refuses bytes after the end frame.
    pub(super) fn finish(self) -> Result<u64, SnapshotError> {
        self.frames.finish()
    }

    fn walk_rows(
        &mut self,
        frame: Frame,
        visit: &mut dyn FnMut(&Header, RawRow<'_>) -> Result<(), SnapshotError>,
    ) -> Result<usize, SnapshotError> {
        let payload = self.frames.payload();
        let start = self.frames.payload_offset();
        let short = || malformed(frame.offset, "it ends inside a row");
        let (head, mut rest) = payload.split_at_checked(ROWS_HEADER_BYTES).ok_or_else(short)?;
        let table = u32_at(head, 0) as usize;
        if table < self.table || table >= self.header.tables.len() {
            return Err(malformed(frame.offset, "its table is unknown or out of order"));
        }
        self.table = table;
        for _ in 0..u32_at(head, 4) {
            let offset = start + (payload.len() - rest.len()) as u64;
            let (length, after) = rest.split_at_checked(4).ok_or_else(short)?;
            let length = u32_at(length, 0) as usize;
            if length > ROW_BYTES_MAX {
                return Err(malformed(frame.offset, "a row is longer than the limit"));
            }
            let (record, after) = after.split_at_checked(length).ok_or_else(short)?;
            rest = after;
            let row = self.summary.tables[table].rows;
            self.summary.count(table, length);
            visit(&self.header, RawRow { table, row, offset: offset + 4, record })?;
        }
        if !rest.is_empty() {
            return Err(malformed(frame.offset, "it goes on after its last row"));
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
        }
        if (end.rows, end.offset) != (self.summary.rows, frame.offset) {
            return Err(malformed(frame.offset, "its totals differ from the file"));
        }
        self.summary.bytes = self.frames.offset();
        Ok(Step::End(self.summary.clone()))
    }
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
