//! Builds a root from a snapshot file.
//!
//! One thread reads and verifies, the others decode; then each table is built from its sorted rows.

use std::io::Read;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::decode::{Decoded, Decoder};
use super::error::SnapshotError;
use super::format::{Base, Header, Progress};
use super::loading::{CarriedBytes, KeyList, Loader, Loading, LoadingTable};
use super::options::LoadOptions;
use super::reader::{SnapshotReader, Step};
use crate::crew::in_order_of_bytes;
use crate::digest::{Digest, Digests};
use crate::error::Error;
use crate::revision::{Applied, Incarnation, Revision};
use crate::root::{Contents, Root};
use crate::schema::Schema;
use crate::table::{KeyedRows, Removals, TableState};
use crate::tree::{Doomed, Store};

/// A state that an incremental file may be applied to, as files say it.
pub(crate) struct Ground {
    pub(crate) digests: Digests,
    /// Of each table of the schema, whether the digest of its rows as they are encoded here is that
    /// one. It is not where the program has another type of row than the one that wrote the file.
    pub(crate) is_same: Vec<bool>,
}

/// Reads `source` whole and builds a root of `schema` from it. Nothing but the result is affected.
/// With `is_followed` it also says what the file says of the state, for the next file of a chain;
/// nothing in a file of format 1.
pub(crate) fn load<R: Read>(
    schema: &Arc<Schema>,
    source: R,
    options: &mut LoadOptions<'_>,
    is_followed: bool,
) -> Result<(Root, Option<Ground>), SnapshotError> {
    let mut reader = SnapshotReader::new(source, options.key.as_ref())?;
    let header = Arc::clone(&reader.header);
    if header.base.is_some() {
        return Err(SnapshotError::Incremental);
    }
    let mut loader = Loader::new(schema, &header, reader.version(), options)?;
    read_tables(&mut reader, &mut loader, options, is_followed)?;
    let digests = reader.finish()?.digests().filter(|_| is_followed);
    let is_same = schema.tables().iter().map(|table| loader.is_same(&table.name)).collect();
    let ground = digests.map(|digests| Ground { digests, is_same });
    let mut contents = Contents::empty(Arc::clone(schema));
    contents.incarnation = header.incarnation;
    Ok((into_root(loader, contents, &header, options.thread_count())?, ground))
}

/// What an incremental file does to the state that it is based on.
pub(crate) struct Delta {
    pub(crate) base: Base,
    pub(crate) incarnation: Incarnation,
    pub(crate) revision: Revision,
    pub(crate) applied: Applied,
    /// Those of the state then, with the tables that are carried.
    pub(crate) digests: Digests,
    pub(crate) tables: Vec<DeltaTable>,
    /// The sections that the state has then.
    pub(crate) sections: Vec<(String, Arc<[u8]>)>,
}

/// What it does to one table.
pub(crate) struct DeltaTable {
    /// The position in the schema.
    pub(crate) position: usize,
    pub(crate) deletes: KeyList,
    pub(crate) rows: Vec<KeyedRows>,
    /// The digest of these rows as they stand in the file, and whether it is known that they are
    /// encoded here as they are there.
    pub(crate) put: Digest,
    pub(crate) is_same: bool,
    pub(crate) modified: Revision,
    /// The floors, and what was removed since the base.
    pub(crate) removals: Removals,
    /// How many rows the table has then, and their digest.
    pub(crate) promised: (u64, Digest),
    /// Where its frames begin in the file.
    pub(crate) offset: u64,
}

/// Reads an incremental file whole; nothing but the result is affected. Memory follows the file.
/// With `is_followed` it is seen which rows are encoded here as they are there.
pub(crate) fn load_delta<R: Read>(
    schema: &Arc<Schema>,
    source: R,
    options: &mut LoadOptions<'_>,
    is_followed: bool,
) -> Result<Delta, SnapshotError> {
    let mut reader = SnapshotReader::new(source, options.key.as_ref())?;
    let header = Arc::clone(&reader.header);
    // Format 1 has no digests to hold such a file to.
    let base = header.base.filter(|_| reader.version() > 1);
    let base = base.ok_or(SnapshotError::NotIncremental)?;
    let mut loader = Loader::new(schema, &header, reader.version(), options)?;
    loader.refuse_migrations()?;
    read_tables(&mut reader, &mut loader, options, is_followed)?;
    let begins = std::mem::take(&mut reader.begins);
    let digests = reader.finish()?.digests().expect("each table had its end");
    loader.refuse_carried_changes()?;
    loader.refuse_contradictions()?;
    let sections = std::mem::take(&mut loader.carried.sections);
    let tables = loader.tables.into_iter().zip(begins).filter_map(|(table, offset)| {
        let Loading::Known(table) = table else { return None };
        let position = schema.position_of(&table.schema.name)?;
        let LoadingTable { deletes, rows, digest: put, is_same, promised, .. } = table;
        let LoadingTable { modified, removals, .. } = table;
        Some(DeltaTable {
            position,
            deletes,
            rows,
            put,
            is_same,
            modified,
            removals,
            promised,
            offset,
        })
    });
    let Header { incarnation, revision, applied, .. } = *header;
    let tables = tables.collect();
    Ok(Delta { base, incarnation, revision, applied, digests, tables, sections })
}

/// Walks all frames and gives them to `loader`, decoded.
fn read_tables<R: Read>(
    reader: &mut SnapshotReader<R>,
    loader: &mut Loader,
    options: &mut LoadOptions<'_>,
    compares: bool,
) -> Result<(), SnapshotError> {
    let (threads, version) = (options.thread_count(), reader.version());
    let (rows_total, bytes_max) = (reader.rows_total(), options.bytes_max.unwrap_or(u64::MAX));
    let rows_max = options.rows_max.unwrap_or(u64::MAX);
    if rows_total > rows_max {
        return Err(SnapshotError::TooMany { what: "rows", found: rows_total, limit: rows_max });
    }
    let decoders = loader.tables.iter().map(|table| table.decoder(compares));
    let decoders: Vec<Option<Decoder>> = decoders.collect();
    let mut carried = CarriedBytes::of(loader);
    let (mut is_over, mut bytes) = (false, 0_u64);
    let bring = || {
        if is_over {
            return Ok(None);
        }
        let step = reader.step()?;
        is_over = matches!(step, Step::End);
        carried.count(&step)?;
        if let Step::Rows(records) | Step::Deletes(records) = &step {
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
    let bytes_of = |(step, _): &(Step, u64)| step.bytes();
    in_order_of_bytes(threads, bytes_of, bring, work, |(decoded, bytes)| {
        let Some(place) = loader.take(decoded, &mut rows)? else { return Ok(()) };
        let Some(progress) = &mut options.progress else { return Ok(()) };
        let table = loader.name_of(place);
        match progress(Progress { table, rows, rows_total, bytes }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(SnapshotError::Cancelled { offset: bytes }),
        }
    })
}

fn into_root(
    loader: Loader,
    mut contents: Contents,
    header: &Header,
    threads: usize,
) -> Result<Root, SnapshotError> {
    let mut writer = Store::new(contents.clone()).write();
    let Loader { tables, mut carried, .. } = loader;
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
        let is_migrated = table.is_migrated();
        let LoadingTable { schema, mut rows, modified, removals, .. } = table;
        if is_migrated {
            // Its rows may have other keys than they had.
            let mut all = KeyedRows::default();
            for (key, row) in rows.into_iter().flat_map(KeyedRows::into_pairs) {
                all.push(&key, row);
            }
            if let Some(key) = all.sort() {
                let (table, key) = (schema.name.to_string(), schema.print_key(key));
                return Err(SnapshotError::Rule(Error::KeyExists { table, key }));
            }
            rows = vec![all];
        }
        let state = TableState::from_rows(&mut writer, schema, rows, modified, threads);
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
