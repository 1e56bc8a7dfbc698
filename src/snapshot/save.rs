//! Writes one version as a snapshot file: whole, or what has changed since another.
//!
//! One thread walks the rows and writes what the others encode. Where frames end follows from the
//! rows alone: a batch is a fixed number of rows, and within it a frame ends at its target size.

use std::io::Write;
use std::ops::{Bound, ControlFlow};

use super::batch::{Batch, Encoded, EncodedFrame};
use super::codec::{self, Cipher, EncryptionKey};
use super::error::SnapshotError;
use super::format::{
    Base, End, FORMAT_VERSION, Header, IndexHeader, Progress, RemovalsHeader, Summary, TableEnd,
    TableHeader, kind,
};
use super::frame::{FrameWriter, chunks_of};
use super::options::{OnProgress, SaveOptions};
use super::reader::{context_of, encode, encode_header};
use super::records::{RawTombstone, RecordWriter, Records, write_tombstone};
use crate::carried::CarriedTable;
use crate::crew::in_order;
use crate::digest::{Digest, Digests};
use crate::limits::FRAME_BYTES_TARGET;
use crate::messagepack;
use crate::root::Contents;
use crate::table::{Floors, Removals, TableState};
use crate::tree::{Differences, Found, Keyed};

/// The older version that an incremental file begins from, and what it says of it.
pub(crate) struct Since<'a> {
    pub(crate) root: &'a Contents,
    pub(crate) base: Base,
    /// Those of the version that is written.
    pub(crate) digests: Digests,
}

impl Since<'_> {
    fn digest_of(&self, table: &str) -> Digest {
        let found = self.digests.tables.iter().find(|found| found.table == table);
        found.expect("every table has a digest").digest
    }
}

/// Writes `root` to `target`; with `since`, what has changed since.
pub(crate) fn save<W: Write>(
    root: &Contents,
    since: Option<&Since<'_>>,
    target: W,
    mut options: SaveOptions<'_>,
) -> Result<Summary, SnapshotError> {
    let threads = options.thread_count();
    let plan = Plan::new(root, since, &options)?;
    let frames = begin(target, &plan.header, encode_header(&plan.header)?, options.key.as_ref())?;
    let level = options.level;
    let mut saver = Saver {
        plan: &plan,
        since,
        frames,
        summary: Summary::new(FORMAT_VERSION, &plan.header),
        level,
        digest: Digest::default(),
        rows_total: plan.header.tables.iter().map(|table| table.rows).sum(),
        progress: options.progress.take(),
    };
    let mut pieces = Pieces::new(&plan, since);
    let work = |piece| Piece::worked(piece, level);
    in_order(threads, || Ok(pieces.next()), work, |piece| saver.take(piece))?;
    saver.finish(root)
}

/// Writes the head of a file; what follows it is encrypted if the head says so.
pub(super) fn begin<W: Write>(
    target: W,
    header: &Header,
    encoded: Vec<u8>,
    key: Option<&EncryptionKey>,
) -> Result<FrameWriter<W>, SnapshotError> {
    let mut frames = FrameWriter::new(target)?;
    let context = context_of(&encoded);
    frames.frame(kind::HEADER, encoded)?;
    if let (Some(key), Some(encryption)) = (key, &header.encryption) {
        frames.encrypt(Cipher::new(key, encryption, context).expect("a salt of its own"));
    }
    Ok(frames)
}

/// What goes into the file, in its order.
struct Plan<'a> {
    header: Header,
    tables: Vec<Source<'a>>,
}

/// Where the frames of a table come from.
#[derive(Clone, Copy)]
enum Source<'a> {
    State { table: &'a TableState, position: usize },
    Carried(&'a CarriedTable),
}

impl<'a> Plan<'a> {
    fn new(
        root: &'a Contents,
        since: Option<&Since<'_>>,
        options: &SaveOptions<'_>,
    ) -> Result<Self, SnapshotError> {
        let known = root.schema.positions_by_name().map(|position| {
            let table = root.table(position);
            (table_header(table, since.map(|since| since.base)), Source::State { table, position })
        });
        let carried = root.carried.iter().flat_map(|carried| &carried.tables);
        let carried = carried.map(|table| {
            let mut header: TableHeader =
                messagepack::read(&table.header).expect("it was read before");
            if let Some(removals) = header.removals.as_mut().filter(|_| since.is_some()) {
                // Nothing of it has changed since, and nothing but its end is written.
                removals.tombstones = 0;
            }
            (header, Source::Carried(table))
        });
        let mut tables: Vec<(TableHeader, Source<'a>)> = known.chain(carried).collect();
        tables.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
        let encryption = options.key.as_ref().map(|_| codec::new_header()).transpose()?;
        let (headers, tables): (Vec<_>, _) = tables.into_iter().unzip();
        let header = Header {
            revision: root.revision,
            applied: root.applied,
            incarnation: root.incarnation,
            fingerprint: Header::fingerprint_of(&headers),
            base: since.map(|since| since.base),
            compression: options.level.map(|_| codec::COMPRESSION.to_owned()),
            encryption,
            tables: headers,
        };
        Ok(Self { header, tables })
    }
}

fn table_header(table: &TableState, base: Option<Base>) -> TableHeader {
    let schema = table.schema();
    let indexes = schema.indexes.iter();
    let removals = removals_of(table);
    let Floors { rows, entries } = removals.floors;
    let tombstones = new_removals(&removals, base).count() as u64;
    TableHeader {
        name: schema.name.to_string(),
        version: schema.version,
        rows: table.len() as u64,
        modified: table.modified(),
        key: schema.key_fields.iter().map(|field| (*field).to_owned()).collect(),
        indexes: indexes
            .map(|index| IndexHeader { name: index.name.to_string(), unique: index.unique })
            .collect(),
        removals: (schema.tombstones > 0).then_some(RemovalsHeader { rows, entries, tombstones }),
    }
}

fn removals_of(table: &TableState) -> Removals {
    table.removals().closed(table.schema().tombstones)
}

/// The tombstones that an incremental file must have: those of a full one that are younger than its
/// base.
fn new_removals(removals: &Removals, base: Option<Base>) -> impl Iterator<Item = RawTombstone<'_>> {
    let all = removals.iter();
    let all = all.map(|(revision, tree, key)| RawTombstone { revision, tree, key });
    all.filter(move |tombstone| base.is_none_or(|base| tombstone.revision > base.revision))
}

/// A piece of the file on its way.
enum Piece<'a> {
    Rows { place: usize, batch: Batch<'a> },
    Encoded { place: usize, batch: Batch<'a>, encoded: Encoded },
    Deletes { place: usize, records: RecordWriter },
    End { place: usize, table: &'a TableState },
    Carried { place: usize },
}

impl Piece<'_> {
    /// What a thread makes of it.
    fn worked(self, level: Option<i32>) -> Self {
        match self {
            Self::Rows { place, batch } => {
                let encoded = batch.encode(place, 0, level);
                Self::Encoded { place, batch, encoded }
            }
            other => other,
        }
    }
}

/// Walks a plan and cuts it into pieces.
struct Pieces<'a> {
    plan: &'a Plan<'a>,
    since: Option<&'a Since<'a>>,
    place: usize,
    stage: Stage<'a>,
}

/// Where in a table the walk is.
enum Stage<'a> {
    Begin,
    Rows(Walk<'a>),
    Deletes(Box<Differences<'a>>),
    End,
}

/// The rows that a table puts into the file.
enum Walk<'a> {
    All(Keyed<'a>),
    Changed(Box<Differences<'a>>),
}

impl<'a> Walk<'a> {
    /// The next rows; none at the end.
    fn batch(&mut self, table: &'a TableState) -> Batch<'a> {
        let mut batch = Batch::new(table);
        while !batch.is_full() {
            let is_done = match self {
                Self::All(rows) => rows.next().map(|(key, row)| batch.push(key, row)).is_none(),
                Self::Changed(changes) => match changes.next() {
                    Some(Found { key, after: Some(row), .. }) => {
                        batch.push(key, row);
                        false
                    }
                    found => found.is_none(),
                },
            };
            if is_done {
                break;
            }
        }
        batch
    }
}

impl<'a> Pieces<'a> {
    fn new(plan: &'a Plan<'a>, since: Option<&'a Since<'a>>) -> Self {
        Self { plan, since, place: 0, stage: Stage::Begin }
    }

    fn next(&mut self) -> Option<Piece<'a>> {
        loop {
            let place = self.place;
            let (table, position) = match self.plan.tables.get(place)? {
                Source::State { table, position } => (*table, *position),
                Source::Carried(_) => {
                    self.place += 1;
                    return Some(Piece::Carried { place });
                }
            };
            let changes = |since: &Since<'a>| {
                let older = since.root.table(position).rows();
                Box::new(table.rows().diff(older, Bound::Unbounded, Bound::Unbounded))
            };
            match &mut self.stage {
                Stage::Begin => {
                    self.stage = match self.since {
                        None => Stage::Rows(Walk::All(table.rows().keyed())),
                        Some(since) => Stage::Deletes(changes(since)),
                    };
                }
                Stage::Rows(walk) => {
                    let batch = walk.batch(table);
                    if batch.len() > 0 {
                        return Some(Piece::Rows { place, batch });
                    }
                    self.stage = Stage::End;
                }
                Stage::Deletes(deleted) => {
                    if let Some(records) = deletes_of(place, deleted) {
                        return Some(Piece::Deletes { place, records });
                    }
                    let since = self.since.expect("only an incremental file has deletes");
                    self.stage = Stage::Rows(Walk::Changed(changes(since)));
                }
                Stage::End => {
                    self.place += 1;
                    self.stage = Stage::Begin;
                    return Some(Piece::End { place, table });
                }
            }
        }
    }
}

/// A frame of keys that are gone, if there are more.
fn deletes_of(place: usize, changes: &mut Differences<'_>) -> Option<RecordWriter> {
    let mut records = RecordWriter::default();
    while records.bytes() < FRAME_BYTES_TARGET
        && let Some(found) = changes.next()
    {
        if found.after.is_none() {
            records.push_with(place as u32, |out| out.extend_from_slice(found.key));
        }
    }
    (records.count() > 0).then_some(records)
}

/// Writes the pieces.
struct Saver<'a, 'p, W> {
    plan: &'a Plan<'a>,
    since: Option<&'a Since<'a>>,
    frames: FrameWriter<W>,
    summary: Summary,
    level: Option<i32>,
    /// Of the table that is being written.
    digest: Digest,
    rows_total: u64,
    progress: Option<OnProgress<'p>>,
}

impl<'a, W: Write> Saver<'a, '_, W> {
    fn take(&mut self, piece: Piece<'a>) -> Result<(), SnapshotError> {
        match piece {
            Piece::Rows { .. } => unreachable!("every batch was worked on"),
            Piece::Encoded { place, batch, mut encoded } => loop {
                for frame in encoded.frames {
                    self.rows(place, frame)?;
                }
                if let Some(error) = encoded.error {
                    return Err(error);
                }
                if encoded.next == batch.len() {
                    return Ok(());
                }
                // What was too large to be held while others wait is encoded as it is written.
                encoded = batch.encode(place, encoded.next, self.level);
            },
            Piece::Deletes { place, mut records } => {
                self.summary.tables[place].deletes += u64::from(records.count());
                self.frame(kind::DELETES, place, records.take(None))
            }
            Piece::End { place, table } => self.end_table(place, table),
            Piece::Carried { place } => self.carried(place),
        }
    }

    fn rows(&mut self, place: usize, frame: EncodedFrame) -> Result<(), SnapshotError> {
        let EncodedFrame { chunks, rows, bytes, digest } = frame;
        chunks.into_iter().try_for_each(|chunk| self.frames.chunk(chunk))?;
        self.summary.count(place, rows, bytes);
        self.digest = self.digest.plus(digest);
        self.tell(place)
    }

    fn frame(&mut self, kind: u8, place: usize, payload: Vec<u8>) -> Result<(), SnapshotError> {
        let mut chunks = chunks_of(kind, payload, self.level).into_iter();
        chunks.try_for_each(|chunk| self.frames.chunk(chunk))?;
        self.tell(place)
    }

    fn tell(&mut self, place: usize) -> Result<(), SnapshotError> {
        let Some(progress) = &mut self.progress else { return Ok(()) };
        let (rows, bytes) = (self.summary.rows, self.frames.offset());
        let table = &self.summary.tables[place].name;
        match progress(Progress { table, rows, rows_total: self.rows_total, bytes }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(SnapshotError::Cancelled { offset: bytes }),
        }
    }

    fn end_table(&mut self, place: usize, table: &TableState) -> Result<(), SnapshotError> {
        let removals = removals_of(table);
        let mut records = RecordWriter::default();
        let mut count = 0;
        for tombstone in new_removals(&removals, self.since.map(|since| since.base)) {
            records.push_with(place as u32, |out| write_tombstone(tombstone, out));
            count += 1;
            if records.bytes() >= FRAME_BYTES_TARGET {
                self.frame(kind::TOMBSTONES, place, records.take(None))?;
            }
        }
        if records.count() > 0 {
            self.frame(kind::TOMBSTONES, place, records.take(None))?;
        }
        let counted = std::mem::take(&mut self.digest);
        let digest = self.since.map_or(counted, |since| since.digest_of(&table.schema().name));
        let summary = &mut self.summary.tables[place];
        (summary.tombstones, summary.digest) = (count, Some(digest));
        let end = TableEnd {
            table: place as u32,
            rows: summary.puts,
            deletes: summary.deletes,
            bytes: summary.bytes,
            digest,
        };
        self.frames.frame(kind::TABLE_END, encode(&end))
    }

    fn carried(&mut self, place: usize) -> Result<(), SnapshotError> {
        let Source::Carried(table) = self.plan.tables[place] else {
            unreachable!("the piece was made of this table")
        };
        let is_whole = self.since.is_none();
        let frames = table.frames.iter().filter(|(kind, _)| is_whole || *kind == kind::TABLE_END);
        for (kind, payload) in frames {
            self.carry(place, *kind, payload)?;
        }
        Ok(())
    }

    /// Writes a frame of a table that nobody here knows, under its number in this file.
    fn carry(&mut self, place: usize, kind: u8, payload: &[u8]) -> Result<(), SnapshotError> {
        if kind == kind::TABLE_END {
            let end: TableEnd = messagepack::read(payload).expect("it was read before");
            let summary = &mut self.summary.tables[place];
            summary.digest = Some(end.digest);
            let (rows, bytes) = (summary.puts, summary.bytes);
            let end = TableEnd { table: place as u32, rows, bytes, ..end };
            return self.frames.frame(kind, encode(&end));
        }
        let mut payload = payload.to_vec();
        payload[..4].copy_from_slice(&(place as u32).to_le_bytes());
        let records = Records::of_payload(kind, payload);
        let count = u64::from(records.count);
        let bytes = records.record_bytes();
        match kind {
            kind::ROWS => self.summary.count(place, count, bytes),
            _ => self.summary.tables[place].tombstones += count,
        }
        self.frame(kind, place, records.into_payload())
    }

    fn finish(mut self, root: &Contents) -> Result<Summary, SnapshotError> {
        for (name, content) in root.carried.iter().flat_map(|carried| &carried.sections) {
            let length = u8::try_from(name.len()).expect("it came in one byte");
            let payload = [&[length], name.as_bytes(), content].concat();
            let chunks = chunks_of(kind::SECTION, payload, self.level);
            chunks.into_iter().try_for_each(|chunk| self.frames.chunk(chunk))?;
            if self.summary.sections.last() != Some(name) {
                self.summary.sections.push(name.clone());
            }
        }
        let hash = Some(self.frames.hash());
        let end = End { rows: self.summary.rows, offset: self.frames.offset(), hash };
        self.frames.frame(kind::END, encode(&end))?;
        self.summary.bytes = self.frames.finish()?;
        Ok(self.summary)
    }
}
