//! Builds a table from all of its rows at once.

use std::sync::Arc;

use super::entries::EntryKeys;
use super::state::TableState;
use crate::crew::in_order;
use crate::digest::Digest;
use crate::error::Error;
use crate::limits::{BULK_ROWS_RESERVED, ENTRIES_PER_ROW_MAX, KEY_BYTES_MAX};
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
    /// What the functions of the schema say of the rows, once they were asked.
    asked: Option<Asked>,
}

/// What the functions of the schema say of rows.
#[derive(Debug, Default)]
struct Asked {
    /// The entries of each index.
    entries: Vec<EntriesOfRows>,
    /// How many entries each row has in all indexes.
    counts: Vec<u32>,
    /// The digest of the rows, where that is kept.
    digest: Option<Digest>,
}

/// The entries of rows in one index, in the order of the rows.
#[derive(Debug, Default)]
struct EntriesOfRows {
    /// Each with its length before it.
    bytes: Vec<u8>,
    /// How many each row has.
    counts: Vec<u16>,
}

const _: () = assert!(ENTRIES_PER_ROW_MAX < u16::MAX as usize);
const _: () = assert!(KEY_BYTES_MAX < u16::MAX as usize);

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

    /// The key that was added first.
    pub(crate) fn first_key(&self) -> Option<&[u8]> {
        (self.len() > 0).then(|| self.key(0))
    }

    /// The keys, as bytes and ends, and the rows with the number of entries that each has.
    fn parted(self) -> ((Vec<u8>, Vec<usize>), (Vec<NewRow>, Vec<u32>)) {
        let Self { bytes, ends, rows, asked, .. } = self;
        ((bytes, ends), (rows, asked.expect("every batch was asked").counts))
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
        // What was asked of them was in their old order.
        *self = sorted;
        self.keys().zip(self.keys().skip(1)).find(|(one, next)| one == next).map(|(one, _)| one)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &NewRow)> {
        self.keys().zip(&self.rows)
    }
}

impl TableState {
    /// Asks the functions of the schema for the entries and digests of `rows`, and whether they may
    /// stand in the table; unique values are looked at when all rows are there.
    ///
    /// # Errors
    ///
    /// The error of the statement that would have refused a row.
    pub(crate) fn ask(&self, rows: &mut KeyedRows) -> Result<(), Error> {
        if rows.longest > KEY_BYTES_MAX {
            return Err(self.too_long(None, rows.longest));
        }
        let mut asked = if self.schema.indexes.is_empty() {
            // Nothing is asked of the rows, so they are not even looked at.
            Asked { counts: vec![0; rows.len()], ..Asked::default() }
        } else {
            self.ask_for_entries(rows)?
        };
        if self.schema.keeps_digest {
            asked.digest = Some(self.sum_of(rows)?);
        }
        rows.asked = Some(asked);
        Ok(())
    }

    /// The entries of `rows` in every index.
    fn ask_for_entries(&self, rows: &KeyedRows) -> Result<Asked, Error> {
        let (mut values, mut keys) = (IndexKeys::default(), EntryKeys::default());
        let mut asked = Asked::default();
        asked.entries.resize_with(self.schema.indexes.len(), EntriesOfRows::default);
        for (key, row) in rows.iter() {
            let mut count = 0;
            for (position, entries) in asked.entries.iter_mut().enumerate() {
                keys.fill(&mut values, &self.schema, position, row.borrow(), key);
                self.check_entries(position, &keys, key)?;
                entries.counts.push(keys.len() as u16);
                count += keys.len() as u32;
                for entry in keys.iter() {
                    entries.bytes.extend_from_slice(&(entry.len() as u16).to_le_bytes());
                    entries.bytes.extend_from_slice(entry);
                }
            }
            asked.counts.push(count);
        }
        Ok(asked)
    }

    /// The table with the rows of `batches`, which are in strictly ascending order of their keys
    /// over all; indexes are sorted on so many threads.
    ///
    /// Each index is sorted once and built bottom up, O(n log n) for the sorting.
    ///
    /// # Errors
    ///
    /// The error of the statement that would have refused a row.
    pub(crate) fn from_rows<W: Workspace>(
        workspace: &mut W,
        schema: Arc<TableSchema>,
        mut batches: Vec<KeyedRows>,
        modified: Revision,
        threads: usize,
    ) -> Result<Self, Error> {
        let mut table = Self::new(schema);
        table.modified = modified;
        for rows in batches.iter_mut().filter(|rows| rows.asked.is_none()) {
            table.ask(rows)?;
        }
        if let Some(digest) = &mut table.digest {
            let sums = batches.iter().filter_map(|rows| rows.asked.as_ref()?.digest);
            *digest = sums.fold(Digest::default(), Digest::plus);
        }
        let sorted = table.sorted_entries(&mut batches, threads)?;
        let count = batches.iter().map(KeyedRows::len).sum();
        let (keys, rows): (Vec<_>, Vec<_>) = batches.into_iter().map(KeyedRows::parted).unzip();
        let rows = keys.iter().zip(rows).flat_map(|((bytes, ends), (rows, counts))| {
            let starts = std::iter::once(0).chain(ends.iter().copied());
            let keys = starts.zip(ends).map(|(start, end)| &bytes[start..*end]);
            keys.zip(rows).zip(counts).map(|((key, row), count)| (key, row, count as usize))
        });
        let mut rows = table.trees.fill(workspace, count, rows);
        for (position, index) in sorted.into_iter().enumerate() {
            table.trees.fill_index(workspace, position, |visit| index.for_each(visit), &mut rows);
        }
        assert!(rows.iter().all(Filled::is_complete), "every entry is in its index");
        Ok(table)
    }

    /// Takes the entries out of `batches` and sorts those of each index. Nothing is in any tree
    /// yet, so that what is refused leaves nothing behind.
    fn sorted_entries(
        &self,
        batches: &mut [KeyedRows],
        threads: usize,
    ) -> Result<Vec<SortedEntries>, Error> {
        let count = self.schema.indexes.len();
        let mut indexes: Vec<Vec<EntriesOfRows>> = Vec::new();
        indexes.resize_with(count, Vec::new);
        for asked in batches.iter_mut().filter_map(|batch| batch.asked.as_mut()) {
            for (index, entries) in indexes.iter_mut().zip(std::mem::take(&mut asked.entries)) {
                index.push(entries);
            }
        }
        let (mut indexes, mut all) = (indexes.into_iter(), Vec::with_capacity(count));
        in_order(
            threads,
            || Ok(indexes.next()),
            SortedEntries::of,
            |sorted| {
                all.push(sorted);
                Ok::<_, Error>(())
            },
        )?;
        // Entries of a non-unique index end in the primary key, so only a unique one can repeat.
        let unique = all.iter().enumerate().filter(|index| self.schema.indexes[index.0].unique);
        for (position, sorted) in unique {
            if let Some((entry, mut row)) = sorted.repeated() {
                let batch = batches.iter().find(|batch| {
                    let is_in = row < batch.len();
                    row -= if is_in { 0 } else { batch.len() };
                    is_in
                });
                let owner = batch.expect("the row is in a batch").rows[row].borrow();
                return Err(self.taken(position, entry, owner));
            }
        }
        Ok(all)
    }
}

/// The entries of one index in their order.
struct SortedEntries {
    /// Each with its length before it.
    bytes: Vec<u8>,
    items: Vec<Item>,
    /// How many bytes all entries begin with.
    common: usize,
}

/// One entry. Packed, for there are as many as rows.
#[derive(Clone, Copy)]
#[repr(C, packed(4))]
struct Item {
    /// The first bytes of it that differ, as a number that compares as they do.
    head: u64,
    /// Where its length stands.
    at: u64,
    row: u32,
}

/// Entries that are copied together.
const COPIED_TOGETHER: usize = 64;

impl SortedEntries {
    fn of(batches: Vec<EntriesOfRows>) -> Self {
        let mut bytes = Vec::with_capacity(batches.iter().map(|batch| batch.bytes.len()).sum());
        let count = batches.iter().flat_map(|batch| &batch.counts);
        let mut items = Vec::with_capacity(count.map(|count| usize::from(*count)).sum());
        let mut row = 0_u32;
        for batch in batches {
            let mut at = bytes.len();
            bytes.extend_from_slice(&batch.bytes);
            for count in batch.counts {
                for _ in 0..count {
                    items.push(Item { head: 0, at: at as u64, row });
                    at += 2 + length_at(&bytes, at);
                }
                row = row.checked_add(1).expect("a table in memory has fewer than 2^32 rows");
            }
        }
        let mut sorted = Self { bytes, items, common: 0 };
        sorted.sort();
        sorted
    }

    fn sort(&mut self) {
        let Self { bytes, items, common } = self;
        let entry = |item: Item| entry_at(bytes, item.at as usize);
        let Some(first) = items.first().map(|item| entry(*item)) else { return };
        let shared = |one: &[u8]| one.iter().zip(first).take_while(|(a, b)| a == b).count();
        *common = items.iter().map(|item| shared(entry(*item))).min().unwrap_or(0);
        for item in items.iter_mut() {
            let mut head = [0; 8];
            let rest = &entry(*item)[*common..];
            let known = rest.len().min(8);
            head[..known].copy_from_slice(&rest[..known]);
            item.head = u64::from_be_bytes(head);
        }
        items.sort_unstable_by(|one, other| {
            let heads = (one.head, other.head);
            heads.0.cmp(&heads.1).then_with(|| entry(*one).cmp(entry(*other)))
        });
    }

    /// Calls `visit` with each entry and the number of its row, in order.
    ///
    /// Entries stand in the order of rows, so each is a wait for memory. They are copied in groups,
    /// whose waits overlap.
    fn for_each(&self, mut visit: impl FnMut(&[u8], usize)) {
        let (mut group, mut ends) = (Vec::new(), [0; COPIED_TOGETHER]);
        for items in self.items.chunks(COPIED_TOGETHER) {
            group.clear();
            for (item, end) in items.iter().zip(&mut ends) {
                group.extend_from_slice(entry_at(&self.bytes, item.at as usize));
                *end = group.len();
            }
            let mut start = 0;
            for (item, end) in items.iter().zip(ends) {
                visit(&group[start..end], item.row as usize);
                start = end;
            }
        }
    }

    /// An entry that two rows have, and the first of them.
    fn repeated(&self) -> Option<(&[u8], usize)> {
        self.items.windows(2).find_map(|pair| {
            let (one, next) = (pair[0], pair[1]);
            let entry = |item: Item| entry_at(&self.bytes, item.at as usize);
            let is_same = one.head == next.head && entry(one) == entry(next);
            is_same.then(|| (entry(one), one.row.min(next.row) as usize))
        })
    }
}

fn length_at(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

fn entry_at(bytes: &[u8], at: usize) -> &[u8] {
    &bytes[at + 2..at + 2 + length_at(bytes, at)]
}
