//! Builds a root from a snapshot file.
//!
//! One thread reads and verifies, the others decode; then each table is built from its sorted rows.

use std::io::Read;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::crew::in_order;
use super::error::SnapshotError;
use super::format::{Header, Progress, TableEnd, TableHeader, kind};
use super::options::LoadOptions;
use super::reader::{SnapshotReader, Step, encode};
use super::records::{RawRow, Records};
use crate::carried::{Carried, CarriedTable};
use crate::digest::Digest;
use crate::limits::CARRIED_BYTES_MAX;
use crate::messagepack;
use crate::root::{Contents, Root};
use crate::schema::{Schema, TableSchema};
use crate::table::{Floors, KeyedRows, Removals, TableState, TreeNumber, number_of};
use crate::tree::{Doomed, Store};

/// Reads `source` whole and builds a root of `schema` from it. Nothing but the result is affected.
pub(crate) fn load<R: Read>(
    schema: &Arc<Schema>,
    source: R,
    mut options: LoadOptions<'_>,
) -> Result<Root, SnapshotError> {
    let mut reader = SnapshotReader::new(source, options.key.as_ref())?;
    let header = reader.header.clone();
    if header.base.is_some() {
        return Err(SnapshotError::Incremental);
    }
    let incarnation = options.incarnation.unwrap_or(header.incarnation);
    let mut loader = Loader::new(schema, &header, &options)?;
    read_tables(&mut reader, &mut loader, &mut options)?;
    reader.finish()?;
    let mut contents = Contents::empty(Arc::clone(schema));
    contents.incarnation = incarnation;
    loader.into_root(contents, &header)
}

/// Walks all frames and gives them to `loader`, decoded.
fn read_tables<R: Read>(
    reader: &mut SnapshotReader<R>,
    loader: &mut Loader,
    options: &mut LoadOptions<'_>,
) -> Result<(), SnapshotError> {
    let (threads, version) = (options.thread_count(), reader.version());
    let (rows_total, bytes_max) = (reader.rows_total(), options.bytes_max.unwrap_or(u64::MAX));
    let rows_max = options.rows_max.unwrap_or(u64::MAX);
    if rows_total > rows_max {
        return Err(SnapshotError::TooMany { what: "rows", found: rows_total, limit: rows_max });
    }
    let decoders: Vec<Option<Decoder>> = loader.tables.iter().map(Loading::decoder).collect();
    let (mut is_over, mut bytes) = (false, 0_u64);
    let bring = || {
        if is_over {
            return Ok(None);
        }
        let step = reader.step()?;
        is_over = matches!(step, Step::End);
        if let Step::Rows(records) = &step {
            bytes += records.record_bytes();
            if bytes > bytes_max {
                return Err(SnapshotError::TooMany {
                    what: "bytes",
                    found: bytes,
                    limit: bytes_max,
                });
            }
        }
        Ok(Some((step, reader.offset())))
    };
    let work = |(step, offset)| (Decoded::of(step, version, &decoders), offset);
    let mut rows = 0;
    in_order(threads, bring, work, |(decoded, bytes)| {
        let Some(place) = loader.take(decoded, &mut rows)? else { return Ok(()) };
        let Some(progress) = &mut options.progress else { return Ok(()) };
        let table = loader.name_of(place);
        match progress(Progress { table, rows, rows_total, bytes }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(SnapshotError::Cancelled { offset: bytes }),
        }
    })
}

/// What a thread needs to decode the rows of one table.
struct Decoder {
    schema: Arc<TableSchema>,
    /// The version of its rows in the file.
    version: u32,
    /// The latest revision that a row may have.
    modified: crate::revision::Revision,
}

/// A step with its rows decoded.
enum Decoded {
    Rows(Result<DecodedRows, SnapshotError>),
    Other(Step),
}

struct DecodedRows {
    table: usize,
    rows: KeyedRows,
    digest: Digest,
    /// The number and place of the first row.
    first: (u64, u64),
}

impl Decoded {
    fn of(step: Step, version: u32, decoders: &[Option<Decoder>]) -> Self {
        match step {
            Step::Rows(records) => match &decoders[records.table] {
                Some(decoder) => Self::Rows(decoder.decode(&records, version)),
                None => Self::Other(Step::Rows(records)),
            },
            other => Self::Other(other),
        }
    }
}

impl Decoder {
    fn decode(&self, records: &Records, version: u32) -> Result<DecodedRows, SnapshotError> {
        let mut decoded = DecodedRows {
            table: records.table,
            rows: KeyedRows::with_room_for(records.count as usize),
            digest: Digest::default(),
            first: (records.first, records.frame().offset),
        };
        for raw in records.rows() {
            let raw = raw?;
            if raw.row == records.first {
                decoded.first.1 = raw.offset;
            }
            self.row(raw, &mut decoded)?;
            if version > 1 {
                let start = messagepack::value_of_record(raw.record);
                decoded.digest = decoded.digest.plus(Digest::of_value(&raw.record[start..]));
            }
        }
        Ok(decoded)
    }

    fn row(&self, raw: RawRow<'_>, decoded: &mut DecodedRows) -> Result<(), SnapshotError> {
        let schema = &self.schema;
        let failed = |offset: u64, message: String| SnapshotError::Row {
            table: schema.name.to_string(),
            row: raw.row,
            offset: raw.offset + offset,
            message,
        };
        let row = schema.rows.decode(raw.record);
        let row = row.map_err(|error| failed(error.offset, error.message))?;
        if row.borrow().meta().modified > self.modified {
            return Err(failed(0, "the row was modified after its table".into()));
        }
        let key = schema.key_of(row.borrow());
        if raw.key.is_some_and(|found| *found != *key) {
            return Err(failed(0, format!("its key is {}, not this", schema.print_key(&key))));
        }
        if decoded.rows.last_key().is_some_and(|last| *last >= *key) {
            return Err(self.out_of_order(raw.row, raw.offset, &key));
        }
        decoded.rows.push(&key, row);
        Ok(())
    }

    fn out_of_order(&self, row: u64, offset: u64, key: &[u8]) -> SnapshotError {
        let (table, key) = (self.schema.name.to_string(), self.schema.print_key(key));
        SnapshotError::RowOrder { table, row, offset, key }
    }
}

/// What was read so far, by table of the header.
struct Loader {
    tables: Vec<Loading>,
    carried: Carried,
    carried_bytes: usize,
}

enum Loading {
    Known(LoadingTable),
    Carried(CarriedTable),
}

struct LoadingTable {
    schema: Arc<TableSchema>,
    version: u32,
    modified: crate::revision::Revision,
    rows: KeyedRows,
    digest: Digest,
    removals: Removals,
    /// The number of each tree of the file in the schema, if it has that tree.
    trees: Vec<Option<TreeNumber>>,
}

impl Loading {
    fn decoder(&self) -> Option<Decoder> {
        match self {
            Self::Known(table) => Some(table.decoder()),
            Self::Carried(_) => None,
        }
    }
}

impl LoadingTable {
    fn new(schema: Arc<TableSchema>, header: &TableHeader) -> Self {
        let indexes = || header.indexes.iter().map(|index| index.name.as_str());
        let of_index = |name: &str| schema.indexes.iter().position(|index| &*index.name == name);
        let trees = indexes().map(|name| of_index(name).map(|index| number_of(Some(index))));
        let trees = std::iter::once(Some(number_of(None))).chain(trees).collect();
        let mut removals = Removals::default();
        removals.floors = match header.removals {
            Some(known) => Floors { rows: known.rows, entries: known.entries },
            None => Floors { rows: header.modified, entries: header.modified },
        };
        if schema.indexes.iter().any(|index| indexes().all(|name| *name != *index.name)) {
            // Of an index that is new nobody knows what was removed from it.
            removals.floors.entries = header.modified;
        }
        let (version, modified) = (header.version, header.modified);
        let (rows, digest) = (KeyedRows::default(), Digest::default());
        Self { schema, version, modified, rows, digest, removals, trees }
    }

    fn decoder(&self) -> Decoder {
        let Self { schema, version, modified, .. } = self;
        Decoder { schema: Arc::clone(schema), version: *version, modified: *modified }
    }

    fn append(&mut self, decoded: DecodedRows) -> Result<(), SnapshotError> {
        let DecodedRows { rows, digest, first, .. } = decoded;
        if let (Some(last), Some(next)) = (self.rows.last_key(), rows.first_key())
            && last >= next
        {
            return Err(self.decoder().out_of_order(first.0, first.1, next));
        }
        self.digest = self.digest.plus(digest);
        self.rows.append(rows);
        Ok(())
    }

    fn end(&self, end: &TableEnd) -> Result<(), SnapshotError> {
        if self.digest == end.digest {
            return Ok(());
        }
        let (table, found, expected) = (self.schema.name.to_string(), self.digest, end.digest);
        Err(SnapshotError::Digest { table, found, expected })
    }
}

impl Loader {
    /// Matches the tables of the header with those of the schema.
    fn new(
        schema: &Schema,
        header: &Header,
        options: &LoadOptions<'_>,
    ) -> Result<Self, SnapshotError> {
        let mut tables = Vec::with_capacity(header.tables.len());
        for table in &header.tables {
            tables.push(match schema.position_of(&table.name) {
                Some(position) => Loading::Known(known(&schema.tables()[position], table)?),
                None if options.unknown_are_carried => Loading::Carried(CarriedTable {
                    name: table.name.clone(),
                    header: encode(table),
                    frames: Vec::new(),
                }),
                None => return Err(SnapshotError::UnknownTable { table: table.name.clone() }),
            });
        }
        let missing = schema.tables().iter().find(|known| {
            header.tables.binary_search_by(|table| table.name.as_str().cmp(&known.name)).is_err()
        });
        match missing {
            Some(missing) if !options.missing_are_empty => {
                Err(SnapshotError::MissingTable { table: missing.name.to_string() })
            }
            _ => Ok(Self { tables, carried: Carried::default(), carried_bytes: 0 }),
        }
    }

    fn name_of(&self, table: usize) -> &str {
        match &self.tables[table] {
            Loading::Known(table) => &table.schema.name,
            Loading::Carried(table) => &table.name,
        }
    }

    /// Takes what was read; gives the table that it is of, if it is of one.
    fn take(&mut self, decoded: Decoded, rows: &mut u64) -> Result<Option<usize>, SnapshotError> {
        let step = match decoded {
            Decoded::Rows(decoded) => {
                let decoded = decoded?;
                let table = decoded.table;
                *rows += decoded.rows.len() as u64;
                let Loading::Known(loading) = &mut self.tables[table] else {
                    unreachable!("only rows of known tables are decoded")
                };
                loading.append(decoded)?;
                return Ok(Some(table));
            }
            Decoded::Other(step) => step,
        };
        match step {
            Step::Rows(records) => {
                *rows += u64::from(records.count);
                let table = records.table;
                self.carry(table, kind::ROWS, records.into_payload())?;
                Ok(Some(table))
            }
            Step::Tombstones(records) => {
                let table = records.table;
                self.tombstones(records)?;
                Ok(Some(table))
            }
            Step::TableEnd(end) => {
                let table = end.table as usize;
                match &self.tables[table] {
                    Loading::Known(loading) => loading.end(&end)?,
                    Loading::Carried(_) => self.carry(table, kind::TABLE_END, encode(&end))?,
                }
                Ok(None)
            }
            Step::Section { name, content } => {
                self.count_carried(content.len())?;
                self.carried.sections.push((name, content.into()));
                Ok(None)
            }
            Step::Deletes(_) | Step::End => Ok(None),
        }
    }

    fn tombstones(&mut self, records: Records) -> Result<(), SnapshotError> {
        let table = records.table;
        let Loading::Known(loading) = &mut self.tables[table] else {
            return self.carry(table, kind::TOMBSTONES, records.into_payload());
        };
        for tombstone in records.tombstones() {
            if let Some(tree) = loading.trees[tombstone.tree as usize] {
                let (limit, revision) = (loading.schema.tombstones, tombstone.revision);
                loading.removals.bury(limit, tree, tombstone.key, revision);
            }
        }
        Ok(())
    }

    fn carry(&mut self, table: usize, kind: u8, payload: Vec<u8>) -> Result<(), SnapshotError> {
        self.count_carried(payload.len())?;
        if let Loading::Carried(carried) = &mut self.tables[table] {
            carried.frames.push((kind, payload.into()));
        }
        Ok(())
    }

    fn count_carried(&mut self, bytes: usize) -> Result<(), SnapshotError> {
        self.carried_bytes += bytes;
        if self.carried_bytes <= CARRIED_BYTES_MAX {
            return Ok(());
        }
        let (found, limit) = (self.carried_bytes as u64, CARRIED_BYTES_MAX as u64);
        Err(SnapshotError::TooMany { what: "bytes that are carried", found, limit })
    }

    fn into_root(self, mut contents: Contents, header: &Header) -> Result<Root, SnapshotError> {
        let mut writer = Store::new(contents.clone()).write();
        let Self { tables, mut carried, .. } = self;
        for table in tables {
            let table = match table {
                Loading::Known(table) => table,
                Loading::Carried(table) => {
                    carried.tables.push(table);
                    continue;
                }
            };
            let position = contents.schema.position_of(&table.schema.name);
            let position = position.expect("matched with the schema");
            let LoadingTable { schema, rows, modified, removals, .. } = table;
            let state = TableState::from_rows(&mut writer, schema, rows, modified);
            let state = state.map_err(SnapshotError::Rule)?.with_removals(removals);
            contents.set_table(position, state);
        }
        contents.carried = (!carried.is_empty()).then(|| Arc::new(carried));
        (contents.revision, contents.applied) = (header.revision, header.applied);
        let mut doomed = Doomed::default();
        let version = writer.publish(&contents, &mut doomed);
        writer.finish(&mut doomed);
        Ok(Root::new(contents, version, 0))
    }
}

/// A table that the file and the schema have.
fn known(schema: &Arc<TableSchema>, header: &TableHeader) -> Result<LoadingTable, SnapshotError> {
    if header.version != schema.version {
        return Err(SnapshotError::TableVersion {
            table: header.name.clone(),
            found: header.version,
            expected: schema.version,
        });
    }
    Ok(LoadingTable::new(Arc::clone(schema), header))
}
