//! Writes a snapshot file from items, to the byte as saving a database does.
//!
//! Where frames end follows from the rows alone, as in `batch.rs` and `save.rs`: a batch is a fixed
//! number of rows, and within it a frame ends at its target size.

use std::fmt;
use std::io::Write;
use std::ops::ControlFlow;

use super::error::OfflineError;
use super::head::{Head, TableHead};
use super::item::{Item, StoredRow, StoredTombstone, hexadecimal};
use crate::digest::Digest;
use crate::limits::{
    FRAME_BYTES_MAX, FRAME_BYTES_TARGET, KEY_BYTES_MAX, ROW_BYTES_MAX, SECTIONS_MAX,
    SNAPSHOT_BATCH_ROWS,
};
use crate::messagepack;
use crate::revision::Revision;
use crate::snapshot::codec;
use crate::snapshot::error::SnapshotError;
use crate::snapshot::format::{End, FORMAT_VERSION, Progress, Summary, TableEnd, kind};
use crate::snapshot::frame::{FrameWriter, chunks_of};
use crate::snapshot::options::SaveOptions;
use crate::snapshot::reader::{encode, encode_header};
use crate::snapshot::records::{
    RawTombstone, RecordWriter, tombstone_of, write_row_head, write_tombstone,
};
use crate::snapshot::save::begin;

/// Writes a snapshot file from items, in the order in which an
/// [`OfflineReader`](super::OfflineReader) gives them.
///
/// A file that is read and written again unchanged is the same file, byte for byte, and so is one
/// that a database of these rows would save. The head comes first and has the numbers of rows and
/// tombstones; [`finish`](OfflineWriter::finish) and each end of a table hold them to it. Memory is
/// bounded by one frame.
///
/// ```
/// # use fsmdb::{Db, SaveOptions, Table};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
/// # #[table(name = "nodes")]
/// # struct Node { #[key] id: u64 }
/// # let db = Db::builder().table::<Node>().build()?;
/// # let mut file = Vec::new();
/// # db.read().save(&mut file)?;
/// use fsmdb::offline::{OfflineReader, OfflineWriter};
///
/// let mut reader = OfflineReader::new(file.as_slice(), None)?;
/// let mut copy = Vec::new();
/// let mut writer = OfflineWriter::new(&mut copy, reader.head(), SaveOptions::new())?;
/// while let Some(item) = reader.read_item()? {
///     writer.write(&item)?;
/// }
/// writer.finish()?;
/// assert_eq!(copy, file);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct OfflineWriter<'p, W> {
    frames: FrameWriter<W>,
    head: Head,
    options: SaveOptions<'p>,
    summary: Summary,
    rows_total: u64,
    /// The table that is written, or that comes next, and whether it has begun.
    table: usize,
    has_begun: bool,
    digest: Digest,
    /// The frame that is filled, and of which kind it is.
    records: RecordWriter,
    kind: u8,
    /// Rows of the batch so far.
    in_batch: usize,
    last_key: Option<Vec<u8>>,
    /// The last tombstone of the table, as it is written.
    tombstone: Vec<u8>,
    record: Vec<u8>,
    /// Frames of sections so far.
    sections: usize,
}

impl<'p, W: Write> OfflineWriter<'p, W> {
    /// Writes the head of a file, compressed and encrypted as `options` say; its number of threads
    /// does not matter.
    ///
    /// # Errors
    ///
    /// [`OfflineError::Unwritable`] when `head` is none that a reader would take;
    /// [`OfflineError::Snapshot`] when `target` fails.
    pub fn new(target: W, head: &Head, options: SaveOptions<'p>) -> Result<Self, OfflineError> {
        let compression = options.level.map(|_| codec::COMPRESSION.to_owned());
        let encryption = options.key.as_ref().map(|_| codec::new_header()).transpose()?;
        let header = head.header(compression, encryption);
        let encoded = encode_header(&header)
            .map_err(|error| OfflineError::unwritable("", error.to_string()))?;
        let frames = begin(target, &header, encoded, options.key.as_ref())?;
        Ok(Self {
            frames,
            head: head.clone(),
            options,
            summary: Summary::new(FORMAT_VERSION, &header),
            rows_total: head.tables.iter().fold(0, |sum, table| sum.saturating_add(table.rows)),
            table: 0,
            has_begun: false,
            digest: Digest::default(),
            records: RecordWriter::default(),
            kind: kind::DELETES,
            in_batch: 0,
            last_key: None,
            tombstone: Vec::new(),
            record: Vec::new(),
            sections: 0,
        })
    }

    /// Writes the next item. The digest at the end of a table is computed in a whole file, and
    /// taken from the item in an incremental one, which does not have all rows.
    ///
    /// # Errors
    ///
    /// [`OfflineError::Unwritable`] when it is out of order or not what the head promised,
    /// [`SnapshotError::RowTooLarge`] of a row, [`SnapshotError::Cancelled`] when the progress
    /// callback of the options said so, and what `target` gives.
    pub fn write(&mut self, item: &Item<'_>) -> Result<(), OfflineError> {
        match item {
            Item::Table(table) => self.begin(table),
            Item::Deleted(key) => self.deleted(key),
            Item::Row(row) => self.row(row),
            Item::Tombstone(tombstone) => self.tombstone(tombstone),
            Item::TableEnd { digest } => self.end_table(*digest),
            Item::Section { name, content } => self.section(name, content),
        }
    }

    /// Ends the file, and flushes `target`.
    ///
    /// # Errors
    ///
    /// [`OfflineError::Unwritable`] when a table has not ended; what `target` gives.
    pub fn finish(mut self) -> Result<Summary, OfflineError> {
        if let Some(table) = self.head.tables.get(self.table) {
            return Err(OfflineError::unwritable(&table.name, "it has not ended"));
        }
        let hash = Some(self.frames.hash());
        let end = End { rows: self.summary.rows, offset: self.frames.offset(), hash };
        self.frames.frame(kind::END, encode(&end))?;
        self.summary.bytes = self.frames.finish()?;
        Ok(self.summary)
    }

    fn begin(&mut self, table: &TableHead) -> Result<(), OfflineError> {
        let next = self.head.tables.get(self.table).filter(|_| !self.has_begun);
        if next.is_none_or(|next| next.name != table.name) {
            return Err(OfflineError::unwritable(&table.name, "it begins out of order"));
        }
        (self.has_begun, self.kind, self.in_batch) = (true, kind::DELETES, 0);
        self.last_key = None;
        self.tombstone.clear();
        Ok(())
    }

    /// Goes on to records of a kind, and refuses them where they have no place.
    fn move_to(&mut self, next: u8) -> Result<(), OfflineError> {
        let order = [kind::DELETES, kind::ROWS, kind::TOMBSTONES];
        let place = |kind: u8| order.iter().position(|known| *known == kind);
        if !self.has_begun || place(next) < place(self.kind) {
            return Err(self.refused("a record is out of order"));
        }
        if next != self.kind {
            self.close(None)?;
            (self.kind, self.last_key) = (next, None);
        }
        Ok(())
    }

    fn deleted(&mut self, key: &[u8]) -> Result<(), OfflineError> {
        self.move_to(kind::DELETES)?;
        if self.head.base.is_none() {
            return Err(self.refused("a whole file deletes nothing"));
        }
        self.check_order(key)?;
        self.records.push_with(self.table as u32, |out| out.extend_from_slice(key));
        self.summary.tables[self.table].deletes += 1;
        self.close_if_full()
    }

    fn row(&mut self, row: &StoredRow<'_>) -> Result<(), OfflineError> {
        self.move_to(kind::ROWS)?;
        self.check_order(row.key)?;
        self.encode(row)?;
        let record = &self.record;
        let Ok(length) = self.records.push(self.table as u32, |out| {
            write_row_head(row.key, out);
            out.extend_from_slice(record);
            Ok::<_, std::convert::Infallible>(())
        });
        if self.records.bytes() > FRAME_BYTES_TARGET && self.records.count() > 1 {
            self.close(Some(length))?;
        }
        self.summary.count(self.table, 1, length as u64);
        self.digest = self.digest.plus(Digest::of_value(row.encoded));
        self.in_batch += 1;
        if self.in_batch == SNAPSHOT_BATCH_ROWS {
            self.in_batch = 0;
            self.close(None)?;
        }
        Ok(())
    }

    /// Encodes a row without its key, and refuses what no reader would take.
    fn encode(&mut self, row: &StoredRow<'_>) -> Result<(), OfflineError> {
        let table = &self.head.tables[self.table];
        if row.created > row.modified || row.modified > table.modified {
            let key = hexadecimal(row.key);
            return Err(self.refused(format!("row {key} was created or modified too late")));
        }
        self.record.clear();
        write_revisions(row.created, row.modified, &mut self.record);
        self.record.extend_from_slice(row.encoded);
        let bytes = row.encoded.len();
        if bytes > ROW_BYTES_MAX {
            let (table, key) = (table.name.clone(), hexadecimal(row.key));
            let (bytes, limit) = (bytes as u64, ROW_BYTES_MAX as u64);
            return Err(SnapshotError::RowTooLarge { table, key, bytes, limit }.into());
        }
        messagepack::check(&self.record)
            .map_err(|error| self.refused(format!("row {}: {error}", hexadecimal(row.key))))
    }

    fn tombstone(&mut self, tombstone: &StoredTombstone<'_>) -> Result<(), OfflineError> {
        self.move_to(kind::TOMBSTONES)?;
        let StoredTombstone { revision, tree, key } = *tombstone;
        if key.len() > KEY_BYTES_MAX {
            return Err(self.refused("the key of a tombstone is too long"));
        }
        let raw = RawTombstone { revision, tree, key };
        let table = &self.head.tables[self.table];
        let floor = table.removals.map(|known| if tree == 0 { known.rows } else { known.entries });
        let is_young = floor.is_some_and(|floor| revision > floor && revision <= table.modified);
        if !is_young || tree as usize > table.indexes.len() {
            return Err(self.refused("a tombstone is not one of its table"));
        }
        if tombstone_of(&self.tombstone).is_some_and(|last| last >= raw) {
            return Err(self.refused("a tombstone is repeated or out of order"));
        }
        self.tombstone.clear();
        write_tombstone(raw, &mut self.tombstone);
        self.records.push_with(self.table as u32, |out| write_tombstone(raw, out));
        self.summary.tables[self.table].tombstones += 1;
        self.close_if_full()
    }

    fn check_order(&mut self, key: &[u8]) -> Result<(), OfflineError> {
        if key.len() > KEY_BYTES_MAX {
            return Err(self.refused(format!("key {} is too long", hexadecimal(key))));
        }
        if self.last_key.as_deref().is_some_and(|last| last >= key) {
            let key = hexadecimal(key);
            return Err(self.refused(format!("key {key} is repeated or out of order")));
        }
        let last = self.last_key.get_or_insert_default();
        last.clear();
        last.extend_from_slice(key);
        Ok(())
    }

    fn refused(&self, message: impl Into<String>) -> OfflineError {
        let table = self.head.tables.get(self.table).filter(|_| self.has_begun);
        OfflineError::unwritable(table.map_or("", |table| table.name.as_str()), message)
    }

    fn close_if_full(&mut self) -> Result<(), OfflineError> {
        if self.records.bytes() >= FRAME_BYTES_TARGET { self.close(None) } else { Ok(()) }
    }

    /// Writes the frame that is filled, if there is one, without its last record if that has a
    /// length here.
    fn close(&mut self, last: Option<usize>) -> Result<(), OfflineError> {
        if self.records.count() == 0 {
            return Ok(());
        }
        let payload = self.records.take(last);
        let chunks = chunks_of(self.kind, payload, self.options.level);
        chunks.into_iter().try_for_each(|chunk| self.frames.chunk(chunk))?;
        let Some(progress) = &mut self.options.progress else { return Ok(()) };
        let (rows, bytes) = (self.summary.rows, self.frames.offset());
        let table = &self.head.tables[self.table].name;
        match progress(Progress { table, rows, rows_total: self.rows_total, bytes }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(SnapshotError::Cancelled { offset: bytes }.into()),
        }
    }

    fn end_table(&mut self, becomes: Digest) -> Result<(), OfflineError> {
        if !self.has_begun {
            return Err(self.refused("a table ends that has not begun"));
        }
        self.close(None)?;
        let (head, counted) = (&self.head.tables[self.table], &mut self.summary.tables[self.table]);
        let is_whole = self.head.base.is_none();
        let found = (if is_whole { counted.puts } else { head.rows }, counted.tombstones);
        if found != (head.rows, head.tombstones()) {
            let message = format!(
                "it has {} rows and {} tombstones, its head says {} and {}",
                counted.puts,
                counted.tombstones,
                head.rows,
                head.tombstones(),
            );
            return Err(self.refused(message));
        }
        let computed = std::mem::take(&mut self.digest);
        let digest = if is_whole { computed } else { becomes };
        counted.digest = Some(digest);
        let end = TableEnd {
            table: self.table as u32,
            rows: counted.puts,
            deletes: counted.deletes,
            bytes: counted.bytes,
            digest,
        };
        self.frames.frame(kind::TABLE_END, encode(&end))?;
        (self.table, self.has_begun) = (self.table + 1, false);
        Ok(())
    }

    fn section(&mut self, name: &str, content: &[u8]) -> Result<(), OfflineError> {
        let last = self.summary.sections.last();
        let length = u8::try_from(name.len());
        let (Ok(length), true) = (length, self.table == self.head.tables.len()) else {
            return Err(self.refused("a section has no place here, or too long a name"));
        };
        if self.sections == SECTIONS_MAX {
            return Err(self.refused("there are more sections than a file may have"));
        }
        if last.is_some_and(|last| last.as_str() > name) {
            return Err(self.refused("the sections are not in the order of names"));
        }
        let payload = [&[length], name.as_bytes(), content].concat();
        if payload.len() > FRAME_BYTES_MAX {
            return Err(self.refused(format!("section {name} is too long")));
        }
        let chunks = chunks_of(kind::SECTION, payload, self.options.level);
        chunks.into_iter().try_for_each(|chunk| self.frames.chunk(chunk))?;
        self.sections += 1;
        if self.summary.sections.last().is_none_or(|last| last != name) {
            self.summary.sections.push(name.to_owned());
        }
        Ok(())
    }
}

/// Appends what stands before the value of a record.
fn write_revisions(created: Revision, modified: Revision, out: &mut Vec<u8>) {
    let number = |revision: Revision| match i64::try_from(revision.0) {
        Ok(number) => messagepack::Item::Int(number),
        Err(_) => messagepack::Item::UInt(revision.0),
    };
    for item in [messagepack::Item::List(3), number(created), number(modified)] {
        item.write(out).expect("numbers are short");
    }
}

impl<W> fmt::Debug for OfflineWriter<'_, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { head, table, .. } = self;
        f.debug_struct("OfflineWriter")
            .field("head", head)
            .field("table", table)
            .finish_non_exhaustive()
    }
}
