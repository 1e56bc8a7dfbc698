//! Walks a snapshot file frame by frame and holds it to what its own header says.

use std::io::Read;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::codec::{Cipher, EncryptionKey, check_supported};
use super::error::SnapshotError;
use super::format::{End, Header, Summary, TableEnd, TableHeader, kind};
use super::frame::{Frame, FrameReader, malformed};
use super::records::{RECORDS_HEADER_BYTES, RawTombstone, Records, tombstone_of};
use crate::limits::{
    HEADER_BYTES_MAX, HEADER_VALUE_BYTES_MAX, HEADER_VALUES_MAX, INDEXES_PER_TABLE_MAX,
    KEY_FIELDS_MAX, NAME_BYTES_MAX, REVISION_MAX, SECTIONS_MAX, TABLES_MAX,
};
use crate::messagepack;

/// The reader of one file; see the module.
pub(super) struct SnapshotReader<R> {
    frames: FrameReader<R>,
    pub(super) header: Arc<Header>,
    summary: Summary,
    /// Where the walk is: the table, and the place of the kind of its last frame.
    at: (usize, u8),
    /// Rows of the file in tables before that of the walk, for their numbers.
    rows_before: u64,
    /// Where the frames of each table begin, up to that of the walk.
    pub(super) begins: Vec<u64>,
    /// The last tombstone of that table, and the last key that was deleted from it.
    tombstone: Vec<u8>,
    deleted: Option<Vec<u8>>,
    /// Frames of sections so far.
    sections: usize,
}

/// What the walk found next.
#[derive(Debug)]
pub(super) enum Step {
    /// Rows of a table: verified by checksum, not decoded.
    Rows(Records),
    /// Keys that an incremental file takes out of a table, in ascending order.
    Deletes(Records),
    /// What a table has removed, the oldest first; each is one of its table.
    Tombstones(Records),
    /// A table has ended, with as many records as it says.
    TableEnd(TableEnd),
    /// A section that the library does not know.
    Section { name: String, content: Vec<u8> },
    /// The file has ended, whole.
    End,
}

impl Step {
    /// The bytes that it holds.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Rows(records) | Self::Deletes(records) | Self::Tombstones(records) => {
                records.frame().payload.len()
            }
            Self::Section { name, content } => name.len() + content.len(),
            Self::TableEnd(_) | Self::End => 0,
        }
    }

    /// The table that it is of, if it is of one.
    pub(super) fn table(&self) -> Option<usize> {
        match self {
            Self::Rows(records) | Self::Deletes(records) | Self::Tombstones(records) => {
                Some(records.table)
            }
            Self::TableEnd(end) => Some(end.table as usize),
            Self::Section { .. } | Self::End => None,
        }
    }
}

/// The place of a kind of frame among those of one table; `None` of one that is of no table.
fn place_of(frame_kind: u8) -> Option<u8> {
    let order = [kind::DELETES, kind::ROWS, kind::TOMBSTONES, kind::TABLE_END];
    order.iter().position(|known| *known == frame_kind).map(|place| place as u8)
}

const PLACE_OF_END: u8 = 3;

impl<R: Read> SnapshotReader<R> {
    /// Reads the prelude and the header; of an encrypted file, with its key.
    pub(super) fn new(source: R, key: Option<&EncryptionKey>) -> Result<Self, SnapshotError> {
        let mut frames = FrameReader::new(source)?;
        let frame = frames.next()?;
        if frame.kind != kind::HEADER {
            return Err(malformed(frame.offset, "the first frame is not a header"));
        }
        let (values, longest) = messagepack::count_values(&frame.payload);
        if values > HEADER_VALUES_MAX || longest > HEADER_VALUE_BYTES_MAX {
            return Err(malformed(frame.offset, "it has more or longer values than any header"));
        }
        let header: Header = decode(&frame.payload, frame.offset)?;
        check_header(&header, frame.offset)?;
        check_supported(&header)?;
        if key.is_some() && header.encryption.is_none() {
            // Whoever cannot encrypt could else put a file of his own in the place of one that is.
            return Err(SnapshotError::NotEncrypted);
        }
        if let Some(encryption) = &header.encryption {
            let key = key.ok_or(SnapshotError::NoKey)?;
            let cipher = Cipher::new(key, encryption, context_of(&frame.payload));
            let cipher = cipher.ok_or_else(|| malformed(frame.offset, "its salt is none"))?;
            frames.decrypt(cipher);
        }
        if header.compression.is_some() {
            frames.decompress();
        }
        let summary = Summary::new(frames.version(), &header);
        let (at, rows_before) = ((0, 0), 0);
        let (begins, tombstone) = (Vec::new(), Vec::new());
        let (deleted, sections) = (None, 0);
        let header = Arc::new(header);
        Ok(Self { frames, header, summary, at, rows_before, begins, tombstone, deleted, sections })
    }

    /// The version of the file's format.
    pub(super) fn version(&self) -> u32 {
        self.frames.version()
    }

    /// How many bytes were read.
    pub(super) fn offset(&self) -> u64 {
        self.frames.offset()
    }

    /// Rows that the header promises, saturated: nothing is allocated by it.
    pub(super) fn rows_total(&self) -> u64 {
        self.header.tables.iter().fold(0, |sum, table| sum.saturating_add(table.rows))
    }

    /// Reads one frame.
    pub(super) fn step(&mut self) -> Result<Step, SnapshotError> {
        let frame = self.frames.next()?;
        match frame.kind {
            kind::ROWS | kind::DELETES | kind::TOMBSTONES => self.records(frame),
            kind::TABLE_END if self.version() > 1 => self.table_end(&frame),
            kind::SECTION if self.version() > 1 => self.section(frame),
            kind::END => self.end(&frame),
            other => Err(malformed(frame.offset, &format!("kind {other} has no place here"))),
        }
    }

    /// Refuses bytes after the end frame, and gives what the file holds.
    pub(super) fn finish(self) -> Result<Summary, SnapshotError> {
        self.frames.finish()?;
        Ok(self.summary)
    }

    /// Goes on to a frame of a table, which must be in its place.
    fn move_to(&mut self, frame: &Frame, table: usize) -> Result<(), SnapshotError> {
        let place = place_of(frame.kind).expect("only frames of tables are moved to");
        // Every table of a newer file has an end, and the next one begins after it.
        let is_next = match self.version() {
            1 => (table, place) >= self.at,
            _ if self.at.1 == PLACE_OF_END => table == self.at.0 + 1,
            _ => table == self.at.0 && place >= self.at.1,
        };
        if !is_next || table >= self.header.tables.len() {
            return Err(malformed(frame.offset, "its table is unknown or out of order"));
        }
        if table != self.at.0 {
            self.tombstone.clear();
            self.deleted = None;
            self.rows_before = self.summary.rows;
        }
        if self.begins.len() <= table {
            // Only in files of format 1 a table may have no frame, and begin where the next does.
            self.begins.resize(table + 1, frame.offset);
        }
        self.at = (table, place);
        Ok(())
    }

    fn records(&mut self, frame: Frame) -> Result<Step, SnapshotError> {
        let records = Records::new(frame, self.version())?;
        self.move_to(records.frame(), records.table)?;
        let numbered = records.numbered_from(self.summary.rows - self.rows_before);
        let table = numbered.table;
        match numbered.frame().kind {
            kind::ROWS => {
                let bytes = numbered.record_bytes();
                self.summary.count(table, numbered.count.into(), bytes);
                let (header, counted) = (&self.header.tables[table], &self.summary.tables[table]);
                if counted.puts > header.rows {
                    // Said before any of them is decoded.
                    return Err(SnapshotError::RowCount {
                        table: header.name.clone(),
                        found: counted.puts,
                        expected: header.rows,
                    });
                }
                Ok(Step::Rows(numbered))
            }
            kind::DELETES => {
                self.check_deletes(&numbered)?;
                self.summary.tables[table].deletes += u64::from(numbered.count);
                Ok(Step::Deletes(numbered))
            }
            _ => {
                self.check_tombstones(&numbered)?;
                self.summary.tables[table].tombstones += u64::from(numbered.count);
                Ok(Step::Tombstones(numbered))
            }
        }
    }

    fn check_deletes(&mut self, records: &Records) -> Result<(), SnapshotError> {
        if self.header.base.is_none() {
            let offset = records.frame().offset;
            return Err(malformed(offset, "it deletes, and the file is not incremental"));
        }
        for record in records.iter() {
            let (offset, key) = record?;
            if self.deleted.as_ref().is_some_and(|before| before.as_slice() >= key) {
                return Err(malformed(offset, "a deleted key is repeated or out of order"));
            }
            let deleted = self.deleted.get_or_insert_default();
            deleted.clear();
            deleted.extend_from_slice(key);
        }
        Ok(())
    }

    fn check_tombstones(&mut self, records: &Records) -> Result<(), SnapshotError> {
        let table = &self.header.tables[records.table];
        for record in records.iter() {
            let (offset, record) = record?;
            let fault = |message| malformed(offset, message);
            let found = tombstone_of(record).ok_or_else(|| fault("it is too short to be one"))?;
            if tombstone_of(&self.tombstone).is_some_and(|before| before >= found) {
                return Err(fault("a tombstone is repeated or out of order"));
            }
            if !is_of(table, found) {
                return Err(fault("a tombstone is not one of its table"));
            }
            self.tombstone.clear();
            self.tombstone.extend_from_slice(record);
        }
        Ok(())
    }

    fn table_end(&mut self, frame: &Frame) -> Result<Step, SnapshotError> {
        let end: TableEnd = decode(&frame.payload, frame.offset)?;
        self.move_to(frame, end.table as usize)?;
        let is_full = self.header.base.is_none();
        let header = &self.header.tables[end.table as usize];
        let counted = &mut self.summary.tables[end.table as usize];
        counted.digest = Some(end.digest);
        if is_full && header.rows != counted.puts {
            return Err(SnapshotError::RowCount {
                table: header.name.clone(),
                found: counted.puts,
                expected: header.rows,
            });
        }
        if (end.rows, end.deletes, end.bytes) != (counted.puts, counted.deletes, counted.bytes) {
            return Err(malformed(frame.offset, "its totals differ from the table"));
        }
        let promised = header.removals.map_or(0, |removals| removals.tombstones);
        if promised != counted.tombstones {
            return Err(malformed(frame.offset, "the tombstones differ from the header"));
        }
        Ok(Step::TableEnd(end))
    }

    fn section(&mut self, frame: Frame) -> Result<Step, SnapshotError> {
        self.check_tables_ended(frame.offset)?;
        self.sections += 1;
        if self.sections > SECTIONS_MAX {
            let (found, limit) = (self.sections as u64, SECTIONS_MAX as u64);
            return Err(SnapshotError::TooMany { what: "sections", found, limit });
        }
        let name = frame.payload.split_first().and_then(|(length, rest)| {
            let name = rest.get(..usize::from(*length))?;
            Some(std::str::from_utf8(name).ok()?.to_owned())
        });
        let name = name.ok_or_else(|| malformed(frame.offset, "it has no name"))?;
        let mut content = frame.payload;
        content.drain(..1 + name.len());
        if self.summary.sections.last().is_some_and(|last| *last > name) {
            return Err(malformed(frame.offset, "the sections are not in the order of names"));
        }
        if self.summary.sections.last() != Some(&name) {
            self.summary.sections.push(name.clone());
        }
        Ok(Step::Section { name, content })
    }

    fn check_tables_ended(&self, offset: u64) -> Result<(), SnapshotError> {
        let tables = self.header.tables.len();
        if tables == 0 || self.at == (tables - 1, PLACE_OF_END) {
            return Ok(());
        }
        Err(malformed(offset, "a table before it has no end"))
    }

    fn end(&mut self, frame: &Frame) -> Result<Step, SnapshotError> {
        let end: End = decode(&frame.payload, frame.offset)?;
        if self.version() == 1 {
            self.check_counts_of_format_1(frame.offset)?;
        } else {
            self.check_tables_ended(frame.offset)?;
            if end.hash != Some(self.frames.hash()) {
                return Err(SnapshotError::Hash { offset: frame.offset });
            }
        }
        if (end.rows, end.offset) != (self.summary.rows, frame.offset) {
            return Err(malformed(frame.offset, "its totals differ from the file"));
        }
        self.summary.bytes = self.frames.offset();
        Ok(Step::End)
    }

    fn check_counts_of_format_1(&self, offset: u64) -> Result<(), SnapshotError> {
        for (header, counted) in self.header.tables.iter().zip(&self.summary.tables) {
            if header.rows != counted.puts {
                return Err(SnapshotError::RowCount {
                    table: header.name.clone(),
                    found: counted.puts,
                    expected: header.rows,
                });
            }
            let promised = header.removals.map_or(0, |removals| removals.tombstones);
            if promised != counted.tombstones {
                return Err(malformed(offset, "the tombstones differ from the header"));
            }
        }
        Ok(())
    }
}

/// What the chunks of an encrypted file are bound to: its header.
pub(super) fn context_of(header: &[u8]) -> [u8; 32] {
    blake3::hash(header).into()
}

/// Refuses a header that says what no state can be, or more than one may.
fn check_header(header: &Header, offset: u64) -> Result<(), SnapshotError> {
    let Header { revision, applied, base, tables, .. } = header;
    let base_revision = base.map_or(0, |base| base.revision.0);
    let numbers = [revision.0, applied.index, applied.term, base_revision];
    if numbers.iter().any(|number| *number > REVISION_MAX) {
        return Err(malformed(offset, "its revision or position is beyond the limit"));
    }
    if base_revision > revision.0 {
        return Err(malformed(offset, "it is older than its base"));
    }
    if tables.len() > TABLES_MAX {
        return Err(malformed(offset, "the header has too many tables"));
    }
    if let Some(message) = tables.iter().find_map(fault_of_names) {
        return Err(malformed(offset, message));
    }
    if !tables.is_sorted_by(|one, other| one.name < other.name) {
        return Err(malformed(offset, "the tables are not in the order of names"));
    }
    if tables.iter().any(|table| table.modified > *revision) {
        return Err(malformed(offset, "a table was modified after the revision"));
    }
    match tables.iter().find_map(fault_of_removals) {
        Some(message) => Err(malformed(offset, message)),
        None => Ok(()),
    }
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

/// Encodes a header that is to be written, if every reader takes it.
pub(super) fn encode_header(header: &Header) -> Result<Vec<u8>, SnapshotError> {
    let check = |what, found: usize, limit: usize| {
        let is_within = found <= limit;
        let (found, limit) = (found as u64, limit as u64);
        is_within.then_some(()).ok_or(SnapshotError::TooMany { what, found, limit })
    };
    check("tables", header.tables.len(), TABLES_MAX)?;
    check_header(header, 0)?;
    let encoded = encode(header);
    check("bytes of its header", encoded.len(), HEADER_BYTES_MAX)?;
    check("values in its header", messagepack::count_values(&encoded).0, HEADER_VALUES_MAX)?;
    Ok(encoded)
}

fn fault_of_names(table: &TableHeader) -> Option<&'static str> {
    let TableHeader { name, key, indexes, .. } = table;
    if indexes.len() > INDEXES_PER_TABLE_MAX || key.len() > KEY_FIELDS_MAX {
        return Some("a table has more indexes or fields of its key than any");
    }
    let mut names = key.iter().chain(indexes.iter().map(|index| &index.name)).chain([name]);
    names.any(|name| name.len() > NAME_BYTES_MAX).then_some("a name is longer than the limit")
}

fn fault_of_removals(table: &TableHeader) -> Option<&'static str> {
    let removals = table.removals?;
    let is_late = removals.rows.max(removals.entries) > table.modified;
    is_late.then_some("a table forgot removals after it was modified")
}

/// Decodes a value of the library's own that fills `bytes` whole.
fn decode<T: DeserializeOwned>(bytes: &[u8], offset: u64) -> Result<T, SnapshotError> {
    messagepack::read(bytes).map_err(|error| malformed(offset, &error.to_string()))
}

/// Encodes a value of the library's own.
pub(super) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    messagepack::write(value, &mut bytes).expect("headers are flat structs, writing to memory");
    bytes
}

// The head of a frame of records is within every limit on frames.
const _: () = assert!(RECORDS_HEADER_BYTES < 64);
