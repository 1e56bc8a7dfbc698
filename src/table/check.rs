//! The proof of the room's first two invariants on a live table, and of that of its digest.

use std::collections::BTreeMap;

use super::entries::EntryKeys;
use super::state::TableState;
use crate::error::Error;
use crate::schema::IndexKeys;
use crate::tree::RowRef;

impl TableState {
    /// Recomputes every key, every index entry and a digest that is kept from the rows and
    /// compares, O(rows x indexes).
    ///
    /// # Errors
    ///
    /// [`Error::Inconsistent`] naming the first difference; where a digest is kept, that of a row
    /// that cannot be encoded any more.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let mut expected: Vec<BTreeMap<Vec<u8>, RowRef<'_>>> =
            self.schema.indexes.iter().map(|_| BTreeMap::new()).collect();
        let (mut values, mut keys) = (IndexKeys::default(), EntryKeys::default());
        let mut rows = self.rows().keyed();
        let mut count = 0;
        while let Some((key, row)) = rows.next() {
            count += 1;
            self.check_row(key, row)?;
            for (position, expected) in expected.iter_mut().enumerate() {
                keys.fill(&mut values, &self.schema, position, row, key);
                for entry in keys.iter() {
                    if expected.insert(entry.to_vec(), row).is_some() {
                        return Err(self.inconsistent(position, entry, "two rows have it"));
                    }
                }
            }
        }
        let (limit, trees) = (self.schema.tombstones, 1 + self.schema.indexes.len());
        if let Some(fault) = self.removals.fault(limit, trees, self.modified) {
            return Err(self.inconsistent_key(&[], fault));
        }
        if count != self.len() {
            return Err(self.inconsistent_key(&[], "the count differs from the rows".into()));
        }
        for (position, expected) in expected.iter().enumerate() {
            self.check_index(position, expected)?;
        }
        self.check_digest()
    }

    fn check_digest(&self) -> Result<(), Error> {
        let Some(kept) = self.digest else { return Ok(()) };
        let found = self.sum_of_rows()?;
        if found == kept {
            return Ok(());
        }
        Err(Error::Inconsistent {
            table: self.schema.name.to_string(),
            index: "digest".into(),
            key: "all rows".into(),
            detail: format!("{kept} is kept, the rows give {found}"),
        })
    }

    fn check_row(&self, key: &[u8], row: RowRef<'_>) -> Result<(), Error> {
        let own = self.schema.key_of(row);
        let meta = row.meta();
        let detail = if own.as_slice() != key {
            format!("the row's own key is {}", self.schema.print_key(&own))
        } else if meta.created > meta.modified || meta.modified > self.modified {
            format!(
                "created at {}, modified at {}, the table at {}",
                meta.created, meta.modified, self.modified
            )
        } else {
            return Ok(());
        };
        Err(self.inconsistent_key(key, detail))
    }

    fn check_index(
        &self,
        position: usize,
        expected: &BTreeMap<Vec<u8>, RowRef<'_>>,
    ) -> Result<(), Error> {
        let index = self.trees().index(position);
        let mut entries = index.keyed();
        while let Some((entry, row)) = entries.next() {
            match expected.get(entry) {
                None => return Err(self.inconsistent(position, entry, "no row gives this entry")),
                Some(expected) if !expected.is(row) => {
                    return Err(self.inconsistent(position, entry, "it holds an old row"));
                }
                Some(_) => {}
            }
        }
        match expected.keys().find(|entry| index.get(entry).is_none()) {
            Some(missing) => Err(self.inconsistent(position, missing, "the entry is missing")),
            None if index.len() == expected.len() => Ok(()),
            None => Err(self.inconsistent(position, &[], "the count differs from the entries")),
        }
    }

    fn inconsistent_key(&self, key: &[u8], detail: String) -> Error {
        Error::Inconsistent {
            table: self.schema.name.to_string(),
            index: "primary key".into(),
            key: self.schema.print_key(key),
            detail,
        }
    }

    fn inconsistent(&self, position: usize, entry: &[u8], detail: &str) -> Error {
        Error::Inconsistent {
            table: self.schema.name.to_string(),
            index: self.schema.indexes[position].name.to_string(),
            key: self.schema.print_value(position, entry),
            detail: detail.to_owned(),
        }
    }
}
