//! Builds a table from all of its rows at once.

use std::sync::Arc;

use super::state::{TableState, entry_keys};
use crate::error::Error;
use crate::key::KeyBuf;
use crate::revision::Revision;
use crate::row::RowRef;
use crate::schema::TableSchema;
use crate::tree::Tree;

impl TableState {
    /// The table with `rows`, which are in strictly ascending order of their keys.
    ///
    /// Each index is sorted once and built in order, O(n log n) for each.
    ///
    /// # Errors
    ///
    /// The error of the statement that would have refused a row.
    pub(crate) fn from_rows(
        schema: Arc<TableSchema>,
        rows: Vec<(KeyBuf, RowRef)>,
        modified: Revision,
    ) -> Result<Self, Error> {
        let mut table = Self::new(schema);
        table.modified = modified;
        for position in 0..table.indexes.len() {
            table.indexes[position] = table.build_index(position, &rows)?;
        }
        if let Some((key, _)) =
            rows.iter().find(|(key, _)| key.len() > crate::limits::KEY_BYTES_MAX)
        {
            return Err(table.too_long(None, key.len()));
        }
        table.rows = Tree::from_sorted(rows.into_iter());
        Ok(table)
    }

    fn build_index(
        &self,
        position: usize,
        rows: &[(KeyBuf, RowRef)],
    ) -> Result<Tree<RowRef>, Error> {
        let mut entries = Vec::with_capacity(rows.len());
        for (key, row) in rows {
            let keys = entry_keys(&self.schema, position, row, key);
            self.check_entries(position, &keys, key)?;
            entries.extend(keys.into_iter().map(|entry| (entry, row)));
        }
        entries.sort_by(|(one, _), (other, _)| one.cmp(other));
        // Entries of a non-unique index end in the primary key, so only a unique one can repeat.
        for pair in entries.windows(2) {
            let ((value, owner), (next, _)) = (&pair[0], &pair[1]);
            if value == next {
                return Err(self.taken(position, value, owner));
            }
        }
        Ok(Tree::from_sorted(entries.into_iter().map(|(entry, row)| (entry, Arc::clone(row)))))
    }
}
