//! The statements that change one table: put a row, delete a row.
//!
//! Each is planned first, which runs the user's key, index and filter functions and can refuse,
//! and applied second, which cannot fail and runs no user code (invariant 3 of the room).

use std::sync::Arc;

use super::state::{TableState, entry_keys};
use crate::error::Error;
use crate::key::KeyBuf;
use crate::limits::{ENTRIES_PER_ROW_MAX, KEY_BYTES_MAX};
use crate::revision::Revision;
use crate::row::RowRef;

/// Whether a row may or must exist before it is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The key must be free.
    Insert,
    /// The key may be free or not.
    Upsert,
}

/// What a statement will do in one index, decided before it does any of it.
struct IndexPlan {
    remove: Vec<KeyBuf>,
    put: Vec<KeyBuf>,
}

impl TableState {
    /// Checks that a row may be put at `key` and returns the row that stands there now.
    pub(crate) fn claim(&self, key: &[u8], mode: Mode) -> Result<Option<RowRef>, Error> {
        if key.len() > KEY_BYTES_MAX {
            return Err(self.too_long(None, key.len()));
        }
        let before = self.rows.get(key);
        if mode == Mode::Insert && before.is_some() {
            let (table, key) = (self.schema.name.to_string(), self.schema.print_key(key));
            return Err(Error::KeyExists { table, key });
        }
        Ok(before.cloned())
    }

    /// Puts `row` at `key`, its primary key, where `before` stands now.
    ///
    /// On an error, and when a function of the schema panics, nothing has changed.
    pub(crate) fn put(
        &mut self,
        row: RowRef,
        key: &[u8],
        before: Option<&RowRef>,
        revision: Revision,
    ) -> Result<(), Error> {
        let plans = self.plan_put(&row, key, before)?;
        for (index, plan) in self.indexes.iter_mut().zip(&plans) {
            for entry in &plan.remove {
                index.remove(entry);
            }
            for entry in &plan.put {
                index.insert(entry, Arc::clone(&row));
            }
        }
        self.rows.insert(key, row);
        self.modified = self.modified.max(revision);
        Ok(())
    }

    /// Deletes the row at `key` and returns it.
    pub(crate) fn delete(&mut self, key: &[u8], revision: Revision) -> Option<RowRef> {
        let row = self.rows.get(key)?;
        let positions = 0..self.indexes.len();
        let entries: Vec<_> =
            positions.map(|position| entry_keys(&self.schema, position, row, key)).collect();
        let row = self.rows.remove(key);
        for (index, entries) in self.indexes.iter_mut().zip(&entries) {
            for entry in entries {
                index.remove(entry);
            }
        }
        self.modified = self.modified.max(revision);
        row
    }

    fn plan_put(
        &self,
        row: &RowRef,
        key: &[u8],
        before: Option<&RowRef>,
    ) -> Result<Vec<IndexPlan>, Error> {
        let mut plans = Vec::with_capacity(self.indexes.len());
        for position in 0..self.indexes.len() {
            let put = entry_keys(&self.schema, position, row, key);
            self.check_entries(position, &put, key)?;
            if self.schema.indexes[position].unique {
                self.check_unique(position, &put, key)?;
            }
            let mut remove = before
                .map(|before| entry_keys(&self.schema, position, before, key))
                .unwrap_or_default();
            remove.retain(|entry| put.binary_search(entry).is_err());
            plans.push(IndexPlan { remove, put });
        }
        Ok(plans)
    }

    pub(super) fn check_entries(
        &self,
        position: usize,
        put: &[KeyBuf],
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

    /// Refuses an entry that belongs to a row with another primary key.
    fn check_unique(&self, position: usize, put: &[KeyBuf], key: &[u8]) -> Result<(), Error> {
        for entry in put {
            let Some(owner) = self.indexes[position].get(entry) else { continue };
            if self.schema.key_of(owner).as_slice() != key {
                return Err(self.taken(position, entry, owner));
            }
        }
        Ok(())
    }

    pub(super) fn taken(&self, position: usize, entry: &[u8], owner: &RowRef) -> Error {
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
