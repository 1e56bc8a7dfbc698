//! Builds a table from all of its rows at once.

use std::sync::Arc;

use super::entries::EntryKeys;
use super::state::TableState;
use crate::error::Error;
use crate::limits::{BULK_ROWS_RESERVED, KEY_BYTES_MAX};
use crate::revision::Revision;
use crate::schema::{IndexKeys, TableSchema};
use crate::tree::{Filled, NewRow, Workspace};

/// The rows of a table with their primary keys, the bytes of all keys in one buffer.
#[derive(Debug, Default)]
pub(crate) struct KeyedRows {
    bytes: Vec<u8>,
    /// Where each key ends in `bytes`; it begins where the one before ends.
    ends: Vec<usize>,
    rows: Vec<NewRow>,
    /// The length of the longest key.
    longest: usize,
}

impl KeyedRows {
    /// Nothing yet, with room for `rows` rows, within a limit: the number is a guess.
    pub(crate) fn with_room_for(rows: usize) -> Self {
        let rows = rows.min(BULK_ROWS_RESERVED);
        Self { ends: Vec::with_capacity(rows), rows: Vec::with_capacity(rows), ..Self::default() }
    }

    pub(crate) fn push(&mut self, key: &[u8], row: NewRow) {
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len());
        self.longest = self.longest.max(key.len());
        self.rows.push(row);
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    fn key(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[index]]
    }

    /// Adds `rows`, all of which come after those here.
    pub(crate) fn append(&mut self, mut rows: Self) {
        if self.len() == 0 {
            *self = rows;
            return;
        }
        let start = self.bytes.len();
        self.bytes.append(&mut rows.bytes);
        self.ends.extend(rows.ends.iter().map(|end| start + end));
        self.rows.append(&mut rows.rows);
        self.longest = self.longest.max(rows.longest);
    }

    /// The key that was added first.
    pub(crate) fn first_key(&self) -> Option<&[u8]> {
        (self.len() > 0).then(|| self.key(0))
    }

    /// The key that was added last.
    pub(crate) fn last_key(&self) -> Option<&[u8]> {
        self.len().checked_sub(1).map(|last| self.key(last))
    }

    /// The rows with their keys.
    pub(crate) fn into_pairs(self) -> impl Iterator<Item = (Vec<u8>, NewRow)> {
        let Self { bytes, ends, rows, .. } = self;
        let mut start = 0;
        ends.into_iter().zip(rows).map(move |(end, row)| {
            let key = bytes[start..end].to_vec();
            start = end;
            (key, row)
        })
    }

    /// The keys in the order of the rows.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.key(index))
    }

    /// Puts the rows in the order of their keys; gives a key that two rows have.
    pub(crate) fn sort(&mut self) -> Option<&[u8]> {
        if self.keys().is_sorted_by(|one, other| one < other) {
            return None;
        }
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by(|one, other| self.key(*one).cmp(self.key(*other)));
        let mut rows: Vec<_> = self.rows.drain(..).map(Some).collect();
        let mut sorted = Self::default();
        for index in order {
            let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
            let key = &self.bytes[start..self.ends[index]];
            sorted.push(key, rows[index].take().expect("each row once"));
        }
        *self = sorted;
        self.keys().zip(self.keys().skip(1)).find(|(one, next)| one == next).map(|(one, _)| one)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &NewRow)> {
        self.keys().zip(&self.rows)
    }
}

/// The entries of one index: the bytes of all keys, and for each its place in them and the number
/// of its row.
#[derive(Default)]
struct IndexEntries {
    bytes: Vec<u8>,
    entries: Vec<(usize, usize, usize)>,
}

impl IndexEntries {
    fn key(&self, entry: (usize, usize, usize)) -> &[u8] {
        &self.bytes[entry.0..entry.1]
    }

    fn sort(&mut self) {
        let Self { bytes, entries } = self;
        entries.sort_unstable_by(|one, other| bytes[one.0..one.1].cmp(&bytes[other.0..other.1]));
    }
}

impl TableState {
    /// The table with `rows`, which are in strictly ascending order of their keys.
    ///
    /// Each index is sorted once and built bottom up, O(n log n) for the sorting.
    ///
    /// # Errors
    ///
    /// The error of the statement that would have refused a row.
    pub(crate) fn from_rows<W: Workspace>(
        workspace: &mut W,
        schema: Arc<TableSchema>,
        rows: KeyedRows,
        modified: Revision,
    ) -> Result<Self, Error> {
        let mut table = Self::new(schema);
        table.modified = modified;
        // Nothing to count without indexes.
        let mut counts =
            if table.schema.indexes.is_empty() { Vec::new() } else { vec![0_u32; rows.len()] };
        let mut indexes = Vec::with_capacity(table.schema.indexes.len());
        for position in 0..table.schema.indexes.len() {
            indexes.push(table.index_entries(position, &rows, &mut counts)?);
        }
        if rows.longest > KEY_BYTES_MAX {
            return Err(table.too_long(None, rows.longest));
        }
        if table.schema.keeps_digest {
            table.digest = Some(table.sum_of(&rows)?);
        }
        let KeyedRows { bytes, ends, rows, .. } = rows;
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let keys = starts.zip(&ends).map(|(start, end)| &bytes[start..*end]);
        let rows = keys.zip(rows).enumerate();
        let rows = rows.map(|(number, (key, row))| {
            (key, row, counts.get(number).map_or(0, |count| *count as usize))
        });
        let mut rows = table.trees.fill(workspace, rows);
        for (position, index) in indexes.iter().enumerate() {
            let entries = index.entries.iter().map(|entry| (index.key(*entry), entry.2));
            table.trees.fill_index(workspace, position, entries, &mut rows);
        }
        assert!(rows.iter().all(Filled::is_complete), "every entry is in its index");
        Ok(table)
    }

    /// The sorted entries of an index; adds to `counts` how many each row has.
    fn index_entries(
        &self,
        position: usize,
        rows: &KeyedRows,
        counts: &mut [u32],
    ) -> Result<IndexEntries, Error> {
        let (mut values, mut keys) = (IndexKeys::default(), EntryKeys::default());
        let mut index = IndexEntries::default();
        for (number, (key, row)) in rows.iter().enumerate() {
            keys.fill(&mut values, &self.schema, position, row.borrow(), key);
            self.check_entries(position, &keys, key)?;
            counts[number] += keys.len() as u32;
            for entry in keys.iter() {
                let start = index.bytes.len();
                index.bytes.extend_from_slice(entry);
                index.entries.push((start, index.bytes.len(), number));
            }
        }
        index.sort();
        // Entries of a non-unique index end in the primary key, so only a unique one can repeat.
        for pair in index.entries.windows(2) {
            let (one, next) = (index.key(pair[0]), index.key(pair[1]));
            if one == next {
                let owner = rows.rows[pair[0].2.min(pair[1].2)].borrow();
                return Err(self.taken(position, one, owner));
            }
        }
        Ok(index)
    }
}
