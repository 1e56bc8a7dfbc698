//! Makes one whole file of a chain: a merge of all of its files by table and key.
//!
//! The chain is read twice. The first pass verifies each file, that each is based on the one before
//! it, and counts tombstones; the second merges the rows, and holds what each link makes of them to
//! what the link says. Deletes stand before rows in a file, so a link has two readers in that pass.

use std::io::{Read, Write};

use super::diff::OwnedRow;
use super::error::OfflineError;
use super::head::{Head, TableHead};
use super::item::{Item, StoredTombstone, hexadecimal};
use super::read::OfflineReader;
use super::source::Source;
use super::write::OfflineWriter;
use crate::digest::Digest;
use crate::limits::TOMBSTONES_MAX;
use crate::revision::Incarnation;
use crate::snapshot::error::SnapshotError;
use crate::snapshot::format::{Base, Summary};
use crate::snapshot::options::SaveOptions;
use crate::table::{Floors, Removals};

/// Writes what a whole file and the incremental ones that follow it come to, as a whole file: the
/// one that the database would have saved when it wrote the last of them, byte for byte.
///
/// What the program does that loads a chain is checked here as well: that each file is based on the
/// state that the ones before it make, by revision, incarnation and digest, and that its changes
/// make the digests that it says.
///
/// O(rows and changes, times files) in time; in memory two frames of each file and the tombstones
/// of one table. Each link is open twice at a time.
///
/// ```
/// # use fsmdb::{Db, SaveOptions, Table};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
/// # #[table(name = "nodes")]
/// # struct Node { #[key] id: u64 }
/// # let db = Db::builder().table::<Node>().build()?;
/// let base = db.read();
/// let (mut whole, mut link, mut saved) = (Vec::new(), Vec::new(), Vec::new());
/// base.save(&mut whole)?;
/// let mut txn = db.write();
/// txn.insert(Node { id: 7 })?;
/// txn.commit();
/// db.read().save_since(&base, &mut link, SaveOptions::new())?;
/// db.read().save(&mut saved)?;
///
/// use fsmdb::offline::{Source, compact};
///
/// let chain = [Source::bytes(&whole), Source::bytes(&link)];
/// let mut compacted = Vec::new();
/// compact(&chain, &mut compacted, SaveOptions::new())?;
/// assert_eq!(compacted, saved);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`SnapshotError::Empty`], [`SnapshotError::Incremental`] and [`SnapshotError::NotIncremental`]
/// of a chain that is none; [`SnapshotError::WrongBase`] and [`OfflineError::OtherTables`] of a
/// file that does not follow the one before it; [`SnapshotError::NoSuchRow`],
/// [`SnapshotError::DeletedAndPut`], [`SnapshotError::Digest`] and [`SnapshotError::RowCount`] of
/// one whose changes do not come to what it says; as [`OfflineReader::read_item`] and
/// [`OfflineWriter::write`].
pub fn compact<W: Write>(
    chain: &[Source<'_>],
    target: W,
    options: SaveOptions<'_>,
) -> Result<Summary, OfflineError> {
    let Survey { states, mut head, tombstones } = survey(chain)?;
    head.base = None;
    for (table, tombstones) in head.tables.iter_mut().zip(tombstones) {
        if let Some(removals) = &mut table.removals {
            removals.tombstones = tombstones;
        }
    }
    let mut layers = Vec::with_capacity(chain.len());
    for source in chain {
        let rows = Cursor::new(source.reader()?, true);
        let is_link = !layers.is_empty();
        let deletes = if is_link { Some(Cursor::new(source.reader()?, false)) } else { None };
        layers.push(Layer { rows, deletes, change: Change::default() });
    }
    let mut writer = OfflineWriter::new(target, &head, options)?;
    for (place, table) in head.tables.iter().enumerate() {
        writer.write(&Item::Table(table))?;
        merge(&mut layers, &table.name, &mut writer)?;
        let mut removals = Removals::default();
        for layer in &layers {
            removals = removals.followed_by(&layer.rows.removals, TOMBSTONES_MAX);
        }
        for (revision, tree, key) in removals.iter().filter(|_| table.removals.is_some()) {
            writer.write(&Item::Tombstone(StoredTombstone::new(revision, tree, key)))?;
        }
        check_states(&layers, place, &table.name, &states)?;
        writer.write(&Item::TableEnd { digest: Digest::default() })?;
    }
    for (place, layer) in layers.into_iter().enumerate() {
        finish(layer.rows.reader, (place + 1 == chain.len()).then_some(&mut writer))?;
    }
    writer.finish()
}

/// What the files of a chain say, each verified by itself.
struct Survey {
    states: Vec<Summary>,
    /// That of the last one.
    head: Head,
    /// What is left of the tombstones of all files, by table.
    tombstones: Vec<u64>,
}

fn survey(chain: &[Source<'_>]) -> Result<Survey, OfflineError> {
    let mut cursors = Vec::with_capacity(chain.len());
    for source in chain {
        cursors.push(Cursor::new(source.reader()?, true));
    }
    let Some(last) = cursors.last() else { return Err(SnapshotError::Empty.into()) };
    let head = last.reader.head().clone();
    check_heads(&cursors.iter().map(|cursor| cursor.reader.head()).collect::<Vec<_>>())?;
    let mut tombstones = Vec::with_capacity(head.tables.len());
    for _ in &head.tables {
        let mut removals = Removals::default();
        for cursor in &mut cursors {
            cursor.begin()?;
            while cursor.has_row {
                cursor.advance()?;
            }
            removals = removals.followed_by(&cursor.removals, TOMBSTONES_MAX);
        }
        tombstones.push(removals.len() as u64);
    }
    let mut states: Vec<Summary> = Vec::with_capacity(chain.len());
    for cursor in cursors {
        let summary = cursor.reader.finish()?;
        if let (Some(before), Some(base)) = (states.last(), summary.base) {
            check_base(before, base, summary.incarnation)?;
        }
        states.push(summary);
    }
    Ok(Survey { states, head, tombstones })
}

fn check_heads(heads: &[&Head]) -> Result<(), OfflineError> {
    for (place, head) in heads.iter().enumerate() {
        match (place, head.base) {
            (0, Some(_)) => return Err(SnapshotError::Incremental.into()),
            (1.., None) => return Err(SnapshotError::NotIncremental.into()),
            _ => (),
        }
        let kind_of = |table: &TableHead| {
            let TableHead { name, version, indexes, .. } = table;
            (name.clone(), *version, indexes.clone())
        };
        if !head.tables.iter().map(kind_of).eq(heads[0].tables.iter().map(kind_of)) {
            return Err(OfflineError::OtherTables { file: place + 1 });
        }
    }
    Ok(())
}

/// Whether a link with this base follows the state that a file comes to.
fn check_base(before: &Summary, base: Base, incarnation: Incarnation) -> Result<(), SnapshotError> {
    let digest = before.digests().map(|digests| digests.database()).unwrap_or_default();
    let found = Base { revision: before.revision, digest };
    if (found, before.incarnation) == (base, incarnation) {
        return Ok(());
    }
    let print = |base: Base, incarnation| {
        format!("revision {} of incarnation {incarnation}, digest {}", base.revision, base.digest)
    };
    let expected = print(base, incarnation);
    Err(SnapshotError::WrongBase { expected, found: print(found, before.incarnation) })
}

/// Walks the rows of a file, or the keys that it deletes, table by table.
struct Cursor<R> {
    reader: OfflineReader<R>,
    wants_rows: bool,
    has_row: bool,
    /// The row; of a key that is deleted, the key alone.
    row: OwnedRow,
    /// Those of the table, once its last row was read.
    removals: Removals,
}

impl<R: Read> Cursor<R> {
    fn new(reader: OfflineReader<R>, wants_rows: bool) -> Self {
        let (row, removals) = (OwnedRow::default(), Removals::default());
        Self { reader, wants_rows, has_row: false, row, removals }
    }

    /// Goes to the first row of the next table.
    fn begin(&mut self) -> Result<(), OfflineError> {
        self.removals = Removals::default();
        while let Some(item) = self.reader.read_item()? {
            let Item::Table(table) = item else { continue };
            self.removals.floors = match table.removals {
                Some(known) => Floors { rows: known.rows, entries: known.entries },
                None => Floors { rows: table.modified, entries: table.modified },
            };
            break;
        }
        self.advance()
    }

    fn advance(&mut self) -> Result<(), OfflineError> {
        self.has_row = false;
        while let Some(item) = self.reader.read_item()? {
            match item {
                Item::Row(row) if self.wants_rows => self.row.set(&row),
                Item::Deleted(key) if !self.wants_rows => self.row.set_key(key),
                Item::Tombstone(StoredTombstone { revision, tree, key }) if self.wants_rows => {
                    self.removals.bury(usize::MAX, tree, key, revision);
                    check_tombstones(self.removals.len())?;
                    continue;
                }
                Item::Deleted(_) => continue,
                // Behind the deletes there is nothing for who wants them.
                _ => return Ok(()),
            }
            self.has_row = true;
            return Ok(());
        }
        Ok(())
    }

    fn key(&self) -> Option<&[u8]> {
        self.has_row.then(|| self.row.borrow().key)
    }

    fn is_at(&self, key: &[u8]) -> bool {
        self.key() == Some(key)
    }
}

fn check_tombstones(found: usize) -> Result<(), SnapshotError> {
    if found <= TOMBSTONES_MAX {
        return Ok(());
    }
    let (found, limit) = (found as u64, TOMBSTONES_MAX as u64);
    Err(SnapshotError::TooMany { what: "tombstones in a table", found, limit })
}

/// One file of the chain.
struct Layer<R> {
    rows: Cursor<R>,
    deletes: Option<Cursor<R>>,
    change: Change,
}

/// What a file has done to a table.
#[derive(Clone, Copy, Debug, Default)]
struct Change {
    created: u64,
    deleted: u64,
    digest: Digest,
}

impl<R: Read> Layer<R> {
    fn begin(&mut self) -> Result<(), OfflineError> {
        self.change = Change::default();
        self.rows.begin()?;
        self.deletes.as_mut().map_or(Ok(()), Cursor::begin)
    }

    /// The lowest key that it says something of.
    fn key(&self) -> Option<&[u8]> {
        let deleted = self.deletes.as_ref().and_then(Cursor::key);
        self.rows.key().into_iter().chain(deleted).min()
    }

    /// What it makes of the row `before` at `key`, as the digest of that; `None` when it says
    /// nothing of it.
    fn apply(
        &mut self,
        key: &[u8],
        before: Option<Digest>,
        table: &str,
    ) -> Result<Option<Option<Digest>>, OfflineError> {
        let is_put = self.rows.is_at(key);
        let is_deleted = self.deletes.as_ref().is_some_and(|deletes| deletes.is_at(key));
        if is_deleted && (is_put || before.is_none()) {
            let (table, key) = (table.to_owned(), hexadecimal(key));
            return Err(match is_put {
                true => SnapshotError::DeletedAndPut { table, key }.into(),
                false => SnapshotError::NoSuchRow { table, key }.into(),
            });
        }
        if !is_put && !is_deleted {
            return Ok(None);
        }
        let after = is_put.then(|| Digest::of_value(self.rows.row.borrow().encoded));
        let change = &mut self.change;
        change.created += u64::from(before.is_none());
        change.deleted += u64::from(is_deleted);
        let sum = change.digest.plus(after.unwrap_or_default());
        change.digest = sum.minus(before.unwrap_or_default());
        Ok(Some(after))
    }

    fn pass(&mut self, key: &[u8]) -> Result<(), OfflineError> {
        if self.rows.is_at(key) {
            self.rows.advance()?;
        }
        match &mut self.deletes {
            Some(deletes) if deletes.is_at(key) => deletes.advance(),
            _ => Ok(()),
        }
    }
}

/// Writes the rows of one table.
fn merge<R: Read, W: Write>(
    layers: &mut [Layer<R>],
    table: &str,
    writer: &mut OfflineWriter<'_, W>,
) -> Result<(), OfflineError> {
    layers.iter_mut().try_for_each(Layer::begin)?;
    let mut key = Vec::new();
    loop {
        let Some(lowest) = layers.iter().filter_map(Layer::key).min() else { return Ok(()) };
        key.clear();
        key.extend_from_slice(lowest);
        let (mut row, mut owner) = (None, 0);
        for (place, layer) in layers.iter_mut().enumerate() {
            if let Some(after) = layer.apply(&key, row, table)? {
                (row, owner) = (after, place);
            }
        }
        if row.is_some() {
            writer.write(&Item::Row(layers[owner].rows.row.borrow()))?;
        }
        layers.iter_mut().try_for_each(|layer| layer.pass(&key))?;
    }
}

/// Whether the table has become, file by file, what each of them says.
fn check_states<R>(
    layers: &[Layer<R>],
    place: usize,
    table: &str,
    states: &[Summary],
) -> Result<(), SnapshotError> {
    let (mut rows, mut digest) = (0, Digest::default());
    for (layer, state) in layers.iter().zip(states) {
        let Change { created, deleted, digest: change } = layer.change;
        // What is deleted was there, so this cannot be below zero.
        rows = rows + created - deleted;
        digest = digest.plus(change);
        let (table, said) = (table.to_owned(), &state.tables[place]);
        if rows != said.rows {
            return Err(SnapshotError::RowCount { table, found: rows, expected: said.rows });
        }
        if Some(digest) != said.digest {
            let expected = said.digest.unwrap_or_default();
            return Err(SnapshotError::Digest { table, found: digest, expected });
        }
    }
    Ok(())
}

/// Reads a file to its end, and writes its sections if there is a writer.
fn finish<R: Read, W: Write>(
    mut reader: OfflineReader<R>,
    mut writer: Option<&mut OfflineWriter<'_, W>>,
) -> Result<(), OfflineError> {
    while let Some(item) = reader.read_item()? {
        if let (Item::Section { .. }, Some(writer)) = (&item, &mut writer) {
            writer.write(&item)?;
        }
    }
    Ok(())
}
