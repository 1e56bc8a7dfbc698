//! The proof of the room's first two invariants on a live table.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::state::{TableState, entry_keys};
use crate::error::Error;
use crate::row::RowRef;

impl TableState {
    /// Recomputes every key and index entry from the rows and compares, O(rows x indexes).
    ///
    /// # Errors
    ///
    /// [`Error::Inconsistent`] naming the first difference.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let mut expected: Vec<BTreeMap<Vec<u8>, &RowRef>> =
            self.indexes.iter().map(|_| BTreeMap::new()).collect();
        for (key, row) in self.rows.iter() {
            self.check_row(key, row)?;
            for (position, expected) in expected.iter_mut().enumerate() {
                for entry in entry_keys(&self.schema, position, row, key) {
                    if expected.insert(entry.to_vec(), row).is_some() {
                        return Err(self.inconsistent(position, &entry, "two rows have it"));
                    }
                }
            }
        }
        for (position, expected) in expected.iter().enumerate() {
            self.check_index(position, expected)?;
        }
        Ok(())
    }

    fn check_row(&self, key: &[u8], row: &RowRef) -> Result<(), Error> {
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
        Err(Error::Inconsistent {
            table: self.schema.name.to_string(),
            index: "primary key".into(),
            key: self.schema.print_key(key),
            detail,
        })
    }

    fn check_index(
        &self,
        position: usize,
        expected: &BTreeMap<Vec<u8>, &RowRef>,
    ) -> Result<(), Error> {
        let index = &self.indexes[position];
        for (entry, row) in index.iter() {
            match expected.get(entry) {
                None => return Err(self.inconsistent(position, entry, "no row gives this entry")),
                Some(expected) if !Arc::ptr_eq(expected, row) => {
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

    fn inconsistent(&self, position: usize, entry: &[u8], detail: &str) -> Error {
        Error::Inconsistent {
            table: self.schema.name.to_string(),
            index: self.schema.indexes[position].name.to_string(),
            key: self.schema.print_value(position, entry),
            detail: detail.to_owned(),
        }
    }
}
