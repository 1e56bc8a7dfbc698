//! Builds a root from a snapshot file.

use std::io::Read;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::error::SnapshotError;
use super::format::{Header, OnProgress, Progress, TableHeader};
use super::reader::{RawRow, RawTombstone, SnapshotReader, Step, Visit};
use crate::root::{Contents, Root};
use crate::schema::{Schema, TableSchema};
use crate::table::{Floors, KeyedRows, Removals, TableState, TreeNumber, number_of};
use crate::tree::{Doomed, Store};

/// Reads `source` whole and builds a root of `schema` from it, telling `progress` after each
/// frame. Nothing but the result is affected.
pub(crate) fn load<R: Read>(
    schema: &Arc<Schema>,
    source: R,
    progress: OnProgress<'_>,
) -> Result<Root, SnapshotError> {
    let mut reader = SnapshotReader::new(source)?;
    let mut loader = Loader::new(schema, &reader.header)?;
    let rows_total = reader.rows_total();
    while let Step::Table(table) = reader.step(&mut loader)? {
        let bytes = reader.offset();
        let table = &reader.header.tables[table].name;
        let report = Progress { table, rows: reader.rows(), rows_total, bytes };
        if let ControlFlow::Break(()) = progress(report) {
            return Err(SnapshotError::Cancelled { offset: bytes });
        }
    }
    let header = reader.header.clone();
    reader.finish()?;
    loader.into_root(schema, &header)
}

/// The rows read so far, by table of the header.
struct Loader {
    tables: Vec<LoadingTable>,
}

struct LoadingTable {
    schema: Arc<TableSchema>,
    rows: KeyedRows,
    removals: Removals,
    /// The number of each tree of the file in the schema, if it has that tree.
    trees: Vec<Option<TreeNumber>>,
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
        Self { schema, rows: KeyedRows::default(), removals, trees }
    }
}

impl Loader {
    /// Matches the tables of the header with those of the schema.
    fn new(schema: &Schema, header: &Header) -> Result<Self, SnapshotError> {
        let mut tables = Vec::with_capacity(header.tables.len());
        for table in &header.tables {
            let Some(position) = schema.position_of(&table.name) else {
                return Err(SnapshotError::UnknownTable { table: table.name.clone() });
            };
            let schema = Arc::clone(&schema.tables()[position]);
            if table.version != schema.version {
                return Err(SnapshotError::TableVersion {
                    table: table.name.clone(),
                    found: table.version,
                    expected: schema.version,
                });
            }
            tables.push(LoadingTable::new(schema, table));
        }
        // Names in the header are distinct and all known, so a missing one shows in the count.
        let missing = schema.tables().iter().find(|known| {
            header.tables.binary_search_by(|table| table.name.as_str().cmp(&known.name)).is_err()
        });
        match missing {
            Some(missing) => Err(SnapshotError::MissingTable { table: missing.name.to_string() }),
            None => Ok(Self { tables }),
        }
    }

    fn into_root(self, schema: &Arc<Schema>, header: &Header) -> Result<Root, SnapshotError> {
        let mut contents = Contents::empty(Arc::clone(schema));
        let mut writer = Store::new(contents.clone()).write();
        for (table, header) in self.tables.into_iter().zip(&header.tables) {
            let position = schema.position_of(&header.name).expect("matched with the schema");
            let state =
                TableState::from_rows(&mut writer, table.schema, table.rows, header.modified);
            let state = state.map_err(SnapshotError::Rule)?.with_removals(table.removals);
            contents.set_table(position, state);
        }
        (contents.revision, contents.applied) = (header.revision, header.applied);
        let mut doomed = Doomed::default();
        let version = writer.publish(&contents, &mut doomed);
        writer.finish(&mut doomed);
        Ok(Root::new(contents, version, 0))
    }
}

impl Visit for Loader {
    fn row(&mut self, header: &Header, raw: RawRow<'_>) -> Result<(), SnapshotError> {
        let LoadingTable { schema, rows, .. } = &mut self.tables[raw.table];
        let failed = |offset: u64, message: String| SnapshotError::Row {
            table: schema.name.to_string(),
            row: raw.row,
            offset: raw.offset + offset,
            message,
        };
        let decoded = schema.rows.decode(raw.record);
        let row = decoded.map_err(|error| failed(error.offset, error.message))?;
        if row.borrow().meta().modified > header.tables[raw.table].modified {
            return Err(failed(0, "the row was modified after its table".into()));
        }
        let key = schema.key_of(row.borrow());
        if rows.last_key().is_some_and(|last| *last >= *key) {
            return Err(SnapshotError::RowOrder {
                table: schema.name.to_string(),
                row: raw.row,
                offset: raw.offset,
                key: schema.print_key(&key),
            });
        }
        rows.push(&key, row);
        Ok(())
    }

    fn tombstone(&mut self, table: usize, tombstone: RawTombstone<'_>) {
        let LoadingTable { schema, removals, trees, .. } = &mut self.tables[table];
        if let Some(tree) = trees[tombstone.tree as usize] {
            removals.bury(schema.tombstones, tree, tombstone.key, tombstone.revision);
        }
    }
}
