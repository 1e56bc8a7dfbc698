//! What was read of a file so far, table by table.

use std::sync::Arc;

use super::decode::{Decoded, DecodedRows, Decoder};
use super::error::SnapshotError;
use super::format::{Header, TableEnd, TableHeader, kind};
use super::inspect::Verified;
use super::options::LoadOptions;
use super::reader::{Step, encode};
use super::records::Records;
use crate::carried::{Carried, CarriedTable};
use crate::digest::Digest;
use crate::limits::{CARRIED_BYTES_MAX, CARRIED_ITEM_BYTES, KEY_BYTES_MAX};
use crate::revision::Revision;
use crate::schema::{Schema, TableSchema};
use crate::table::{Floors, KeyedRows, Removals, TreeNumber, number_of};

/// What was read so far, by table of the header.
pub(super) struct Loader {
    pub(super) tables: Vec<Loading>,
    pub(super) carried: Carried,
    header: Arc<Header>,
    /// Of the table that is read, if it is carried.
    verified: Verified,
}

pub(super) enum Loading {
    Known(LoadingTable),
    Carried(CarriedTable),
}

/// How many bytes of a file are to be carried; counted as they are read, so that no more are read
/// than may be carried.
pub(super) struct CarriedBytes {
    /// By table of the header.
    is_carried: Vec<bool>,
    bytes: usize,
}

/// Keys one after the other, each behind its length, in the little memory that they had in the
/// file.
#[derive(Default)]
pub(crate) struct KeyList(Vec<u8>);

const _: () = assert!(KEY_BYTES_MAX <= u16::MAX as usize);

pub(super) struct LoadingTable {
    pub(super) schema: Arc<TableSchema>,
    version: u32,
    pub(super) modified: Revision,
    /// Its rows, in batches.
    pub(super) rows: Vec<KeyedRows>,
    /// Keys that an incremental file deletes.
    pub(super) deletes: KeyList,
    /// That of the rows that were read, as they stand in the file.
    pub(super) digest: Digest,
    /// Whether each of them was encoded anew and gave the bytes of the file.
    pub(super) is_same: bool,
    /// How many rows the table has in the end, and their digest, as the file says.
    pub(super) promised: (u64, Digest),
    pub(super) removals: Removals,
    /// The number of each tree of the file in the schema, if it has that tree.
    trees: Vec<Option<TreeNumber>>,
}

impl Loading {
    pub(super) fn decoder(&self, compares: bool) -> Option<Decoder> {
        match self {
            Self::Known(table) => Some(table.decoder(compares)),
            Self::Carried(_) => None,
        }
    }
}

impl LoadingTable {
    fn new(schema: Arc<TableSchema>, header: &TableHeader) -> Self {
        let indexes = || header.indexes.iter().map(|index| index.name.as_str());
        let of_index = |name: &str| schema.indexes.iter().position(|index| &*index.name == name);
        let trees = indexes().map(|name| of_index(name).map(|index| number_of(Some(index))));
        let trees: Vec<_> = std::iter::once(Some(number_of(None))).chain(trees).collect();
        let mut removals = Removals::default();
        removals.floors = match header.removals {
            Some(known) => Floors { rows: known.rows, entries: known.entries },
            None => Floors { rows: header.modified, entries: header.modified },
        };
        if schema.indexes.iter().any(|index| indexes().all(|name| *name != *index.name)) {
            // Of an index that is new nobody knows what was removed from it.
            removals.floors.entries = header.modified;
        }
        let trees = if header.version == schema.version {
            trees
        } else {
            // Nor of keys that were other ones before a migration.
            removals.floors = Floors { rows: header.modified, entries: header.modified };
            vec![None; 1 + header.indexes.len()]
        };
        let (version, modified) = (header.version, header.modified);
        let (rows, deletes) = (Vec::new(), KeyList::default());
        let (digest, promised) = (Digest::default(), (header.rows, Digest::default()));
        Self {
            schema,
            version,
            modified,
            rows,
            deletes,
            digest,
            is_same: true,
            promised,
            removals,
            trees,
        }
    }

    fn decoder(&self, compares: bool) -> Decoder {
        let Self { schema, version, modified, .. } = self;
        let (schema, version, modified) = (Arc::clone(schema), *version, *modified);
        Decoder { schema, version, modified, compares }
    }

    /// Whether its rows are of an older version.
    pub(super) fn is_migrated(&self) -> bool {
        self.version != self.schema.version
    }

    fn last_key(&self) -> Option<&[u8]> {
        self.rows.last().and_then(KeyedRows::last_key)
    }

    fn append(&mut self, decoded: DecodedRows) -> Result<(), SnapshotError> {
        let DecodedRows { rows, digest, first, is_same, .. } = decoded;
        let is_migrated = self.is_migrated();
        if let (Some(last), Some(next)) = (self.last_key(), rows.first_key())
            && last >= next
            && !is_migrated
        {
            return Err(self.decoder(false).out_of_order(first.0, first.1, next));
        }
        self.digest = self.digest.plus(digest);
        self.is_same &= is_same;
        if rows.len() > 0 {
            self.rows.push(rows);
        }
        Ok(())
    }

    /// Takes the end of the table; the digest of an incremental file is that of more than it has.
    fn end(&mut self, end: &TableEnd, is_whole: bool) -> Result<(), SnapshotError> {
        self.promised.1 = end.digest;
        if self.digest == end.digest || !is_whole {
            return Ok(());
        }
        let (table, found, expected) = (self.schema.name.to_string(), self.digest, end.digest);
        Err(SnapshotError::Digest { table, found, expected })
    }
}

impl Loader {
    /// Matches the tables of the header with those of the schema. A table that is not in it is
    /// carried only from a file whose rows have their keys.
    pub(super) fn new(
        schema: &Schema,
        header: &Arc<Header>,
        format_version: u32,
        options: &LoadOptions<'_>,
    ) -> Result<Self, SnapshotError> {
        let mut tables = Vec::with_capacity(header.tables.len());
        for table in &header.tables {
            tables.push(match schema.position_of(&table.name) {
                Some(position) => Loading::Known(known(&schema.tables()[position], table)?),
                None if options.unknown_are_carried && format_version > 1 => {
                    Loading::Carried(CarriedTable {
                        name: table.name.clone(),
                        rows: table.rows,
                        digest: Digest::default(),
                        header: encode(table),
                        frames: Vec::new(),
                    })
                }
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
            _ => {
                let (carried, verified) = (Carried::default(), Verified::default());
                Ok(Self { tables, carried, header: Arc::clone(header), verified })
            }
        }
    }

    /// Refuses an incremental file that changes a table which is carried: nobody here can apply it.
    pub(super) fn refuse_carried_changes(&self) -> Result<(), SnapshotError> {
        let is_change = |table: &CarriedTable| {
            table.frames.iter().any(|(frame_kind, _)| *frame_kind != kind::TABLE_END)
        };
        self.tables.iter().try_for_each(|table| match table {
            Loading::Carried(table) if is_change(table) => {
                Err(SnapshotError::UnknownTable { table: table.name.clone() })
            }
            _ => Ok(()),
        })
    }

    /// Refuses an incremental file that deletes a row and puts it as well: one is not meant.
    pub(super) fn refuse_contradictions(&self) -> Result<(), SnapshotError> {
        for table in &self.tables {
            let Loading::Known(table) = table else { continue };
            let mut put = table.rows.iter().flat_map(KeyedRows::keys).peekable();
            for key in table.deletes.iter() {
                while put.next_if(|found| **found < *key).is_some() {}
                if put.peek().is_some_and(|found| **found == *key) {
                    let (table, key) = (table.schema.name.to_string(), table.schema.print_key(key));
                    return Err(SnapshotError::DeletedAndPut { table, key });
                }
            }
        }
        Ok(())
    }

    /// Refuses an incremental file of which rows would be migrated: the rows that it deletes and
    /// replaces have other keys and values here, and it is based on rows as they were.
    pub(super) fn refuse_migrations(&self) -> Result<(), SnapshotError> {
        self.tables.iter().try_for_each(|table| match table {
            Loading::Known(LoadingTable { schema, version, .. }) if *version != schema.version => {
                Err(SnapshotError::OlderLink {
                    table: schema.name.to_string(),
                    found: *version,
                    expected: schema.version,
                })
            }
            _ => Ok(()),
        })
    }

    /// Whether the rows that were read of a table were encoded anew and gave the bytes of the file.
    pub(super) fn is_same(&self, name: &str) -> bool {
        self.tables.iter().all(|table| match table {
            Loading::Known(table) => *table.schema.name != *name || table.is_same,
            Loading::Carried(_) => true,
        })
    }

    pub(super) fn name_of(&self, table: usize) -> &str {
        match &self.tables[table] {
            Loading::Known(table) => &table.schema.name,
            Loading::Carried(table) => &table.name,
        }
    }

    /// Takes what was read; gives the table that it is of, if it is of one.
    pub(super) fn take(
        &mut self,
        decoded: Decoded,
        rows: &mut u64,
    ) -> Result<Option<usize>, SnapshotError> {
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
                self.verified.rows(&records, &self.header.tables[table])?;
                self.carry(table, kind::ROWS, records);
                Ok(Some(table))
            }
            Step::Tombstones(records) => {
                let table = records.table;
                self.tombstones(records);
                Ok(Some(table))
            }
            Step::TableEnd(end) => {
                match &mut self.tables[end.table as usize] {
                    Loading::Known(loading) => loading.end(&end, self.header.base.is_none())?,
                    Loading::Carried(carried) => {
                        self.verified.end(&end, &self.header)?;
                        carried.digest = end.digest;
                        carried.frames.push((kind::TABLE_END, encode(&end).into()));
                    }
                }
                Ok(None)
            }
            Step::Section { name, content } => {
                self.carried.sections.push((name, content.into()));
                Ok(None)
            }
            Step::Deletes(records) => {
                let table = records.table;
                match &mut self.tables[table] {
                    Loading::Known(loading) => {
                        let keys = records.iter().filter_map(|record| Some(record.ok()?.1));
                        keys.for_each(|key| loading.deletes.push(key));
                    }
                    Loading::Carried(_) => self.carry(table, kind::DELETES, records),
                }
                Ok(Some(table))
            }
            Step::End => Ok(None),
        }
    }

    fn tombstones(&mut self, records: Records) {
        let table = records.table;
        let Loading::Known(loading) = &mut self.tables[table] else {
            self.carry(table, kind::TOMBSTONES, records);
            return;
        };
        for tombstone in records.tombstones() {
            if let Some(tree) = loading.trees[tombstone.tree as usize] {
                let (limit, revision) = (loading.schema.tombstones, tombstone.revision);
                loading.removals.bury(limit, tree, tombstone.key, revision);
            }
        }
    }

    /// Keeps a frame of a table that is carried; one without records says nothing.
    fn carry(&mut self, table: usize, kind: u8, records: Records) {
        if let Loading::Carried(carried) = &mut self.tables[table]
            && records.count > 0
        {
            carried.frames.push((kind, records.into_payload().into()));
        }
    }
}

impl CarriedBytes {
    pub(super) fn of(loader: &Loader) -> Self {
        let tables = loader.tables.iter();
        let is_carried = tables.map(|table| matches!(table, Loading::Carried(_))).collect();
        Self { is_carried, bytes: 0 }
    }

    /// Counts what was read, if it is to be carried.
    pub(super) fn count(&mut self, step: &Step) -> Result<(), SnapshotError> {
        let is_carried = match step {
            Step::Section { .. } => true,
            other => other.table().is_some_and(|table| self.is_carried[table]),
        };
        if !is_carried {
            return Ok(());
        }
        self.bytes += CARRIED_ITEM_BYTES + step.bytes();
        if self.bytes <= CARRIED_BYTES_MAX {
            return Ok(());
        }
        let (found, limit) = (self.bytes as u64, CARRIED_BYTES_MAX as u64);
        Err(SnapshotError::TooMany { what: "bytes that are carried", found, limit })
    }
}

impl KeyList {
    fn push(&mut self, key: &[u8]) {
        let length = u16::try_from(key.len()).expect("a key is below its limit");
        self.0.extend_from_slice(&length.to_le_bytes());
        self.0.extend_from_slice(key);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys, in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.0.as_slice();
        std::iter::from_fn(move || {
            let (length, after) = rest.split_first_chunk()?;
            let (key, after) = after.split_at(usize::from(u16::from_le_bytes(*length)));
            rest = after;
            Some(key)
        })
    }
}

/// A table that the file and the schema have.
fn known(schema: &Arc<TableSchema>, header: &TableHeader) -> Result<LoadingTable, SnapshotError> {
    if header.version > schema.version {
        return Err(SnapshotError::TableVersion {
            table: header.name.clone(),
            found: header.version,
            expected: schema.version,
        });
    }
    Ok(LoadingTable::new(Arc::clone(schema), header))
}
