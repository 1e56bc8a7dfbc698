//! The keys under which rows stand in indexes, and the plan of how a statement moves them, with
//! what that makes of the digest.

use std::ops::Range;

use super::reading::Reading;
use super::state::TableState;
use crate::digest::Digest;
use crate::error::Error;
use crate::limits::{ENTRIES_PER_ROW_MAX, KEY_BYTES_MAX};
use crate::schema::{IndexKeys, TableSchema};
use crate::tree::{IndexChanges, RowRef};

/// The keys of one row in one index, in strictly ascending order.
#[derive(Debug, Default)]
pub(super) struct EntryKeys {
    bytes: Vec<u8>,
    spans: Vec<Range<usize>>,
}

impl EntryKeys {
    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.spans.iter().map(|span| &self.bytes[span.clone()])
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.spans.clear();
    }

    /// Computes the keys of `row`, whose primary key is `key`, in the index at `position`.
    ///
    /// This runs user code, which may panic.
    pub(super) fn fill(
        &mut self,
        values: &mut IndexKeys,
        schema: &TableSchema,
        position: usize,
        row: RowRef<'_>,
        key: &[u8],
    ) {
        self.clear();
        values.clear();
        schema.rows.index_values(position, row, values);
        for value in values.sorted() {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(value);
            if !schema.indexes[position].unique {
                // Encodings of one type are prefix-free, so appending the primary key keeps the
                // order.
                self.bytes.extend_from_slice(key);
            }
            self.spans.push(start..self.bytes.len());
        }
    }
}

/// What a statement needs to plan, kept from one to the next for its buffers.
#[derive(Debug, Default)]
pub(crate) struct Planner {
    values: IndexKeys,
    before: EntryKeys,
    after: EntryKeys,
    pub(super) changes: IndexChanges,
    /// The digest of the table once the plan is carried out, if it keeps one.
    pub(super) digest: Option<Digest>,
    /// Receives encodings of rows.
    encoding: Vec<u8>,
}

impl Planner {
    /// Plans what happens in every index of `table`, and to its digest, when `after` takes the
    /// place of `before` at the primary key `key`.
    ///
    /// This runs user code, which may panic; nothing but this planner changes.
    pub(super) fn plan(
        &mut self,
        table: &TableState,
        key: &[u8],
        before: Option<RowRef<'_>>,
        after: Option<RowRef<'_>>,
    ) -> Result<(), Error> {
        self.changes.clear();
        for position in 0..table.schema.indexes.len() {
            self.after.clear();
            if let Some(after) = after {
                self.after.fill(&mut self.values, &table.schema, position, after, key);
                table.check_entries(position, &self.after, key)?;
                if table.schema.indexes[position].unique {
                    table.check_unique(position, &self.after, before)?;
                }
            }
            self.before.clear();
            if let Some(before) = before {
                self.before.fill(&mut self.values, &table.schema, position, before, key);
            }
            self.changes.plan(position, self.before.iter(), self.after.iter());
        }
        self.digest = table.plan_digest(&mut self.encoding, key, before, after)?;
        Ok(())
    }
}

impl Planner {
    /// The entries of indexes that the plan changes, each with its index.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (usize, &[u8])> {
        self.changes.all()
    }

    /// Notes that the values which the plan puts into unique indexes were seen to be free.
    pub(crate) fn note_unique(&self, schema: &TableSchema, reading: Reading<'_>) {
        for (index, entry) in self.changes.put() {
            if schema.indexes[index].unique {
                reading.free(index, entry);
            }
        }
    }
}

impl TableState {
    pub(super) fn check_entries(
        &self,
        position: usize,
        put: &EntryKeys,
        key: &[u8],
    ) -> Result<(), Error> {
        let index = &self.schema.indexes[position].name;
        if put.len() > ENTRIES_PER_ROW_MAX {
            return Err(Error::TooManyEntries {
                table: self.schema.name.to_string(),
                index: index.to_string(),
                key: self.schema.print_key(key),
                entries: put.len(),
                limit: ENTRIES_PER_ROW_MAX,
            });
        }
        match put.iter().find(|entry| entry.len() > KEY_BYTES_MAX) {
            Some(entry) => Err(self.too_long(Some(index), entry.len())),
            None => Ok(()),
        }
    }

    /// Refuses an entry that belongs to another row than the one that is replaced.
    fn check_unique(
        &self,
        position: usize,
        put: &EntryKeys,
        before: Option<RowRef<'_>>,
    ) -> Result<(), Error> {
        let index = self.trees.index(position);
        for entry in put.iter() {
            let Some(owner) = index.get(entry) else { continue };
            if !before.is_some_and(|before| before.is(owner)) {
                return Err(self.taken(position, entry, owner));
            }
        }
        Ok(())
    }

    pub(super) fn taken(&self, position: usize, entry: &[u8], owner: RowRef<'_>) -> Error {
        Error::Taken {
            table: self.schema.name.to_string(),
            index: self.schema.indexes[position].name.to_string(),
            value: self.schema.print_value(position, entry),
            owner: self.schema.print_key(&self.schema.key_of(owner)),
        }
    }

    pub(super) fn too_long(&self, index: Option<&str>, bytes: usize) -> Error {
        Error::KeyTooLong {
            table: self.schema.name.to_string(),
            index: index.map(str::to_owned),
            bytes,
            limit: KEY_BYTES_MAX,
        }
    }
}

/// Whether `is_in` says yes to an entry of `row`, whose primary key is `key`, in the index at
/// `position`.
///
/// This runs user code, which may panic.
pub(crate) fn is_in_index(
    schema: &TableSchema,
    position: usize,
    row: RowRef<'_>,
    key: &[u8],
    is_in: impl Fn(&[u8]) -> bool,
) -> bool {
    let mut entries = EntryKeys::default();
    entries.fill(&mut IndexKeys::default(), schema, position, row, key);
    entries.iter().any(is_in)
}
