//! The statements that change one table: put a row, delete a row.
//!
//! Each is planned first, which runs the user's key, index, filter and encoding functions and can
//! refuse, and applied second, which cannot fail and runs no user code (invariant 3 of the room).

use super::entries::Planner;
use super::removals::number_of;
use super::state::TableState;
use crate::error::Error;
use crate::limits::KEY_BYTES_MAX;
use crate::revision::Revision;
use crate::tree::{NewRow, Place, RowRef, Workspace};

/// Whether a row may or must exist before it is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The key must be free.
    Insert,
    /// The key may be free or not.
    Upsert,
}

impl TableState {
    /// Checks that a row may be put at `key` and finds its place.
    pub(crate) fn claim(&self, key: &[u8], mode: Mode, place: &mut Place) -> Result<(), Error> {
        if key.len() > KEY_BYTES_MAX {
            return Err(self.too_long(None, key.len()));
        }
        self.trees.find(key, place);
        if mode == Mode::Insert && self.row_at(place).is_some() {
            let (table, key) = (self.schema.name.to_string(), self.schema.print_key(key));
            return Err(Error::KeyExists { table, key });
        }
        Ok(())
    }

    /// Finds the place of `key`, a primary key.
    pub(crate) fn find(&self, key: &[u8], place: &mut Place) {
        self.trees.find(key, place);
    }

    /// Readies the row at `place` to be replaced or deleted; changes nothing that can be read.
    pub(crate) fn ready<W: Workspace>(&mut self, workspace: &mut W, place: &mut Place) {
        self.trees.ready(workspace, place);
    }

    /// The row that stands at `place`.
    pub(crate) fn row_at(&self, place: &Place) -> Option<RowRef<'_>> {
        self.trees.row_at(place)
    }

    /// Plans to put `row` at `key`, its primary key, where `place` is.
    ///
    /// On an error, and when a function of the schema panics, nothing has changed.
    pub(crate) fn plan_put(
        &self,
        planner: &mut Planner,
        place: &Place,
        key: &[u8],
        row: RowRef<'_>,
    ) -> Result<(), Error> {
        planner.plan(self, key, self.row_at(place), Some(row))
    }

    /// Puts `row` as planned.
    ///
    /// # Panics
    ///
    /// When an index function of the schema is not pure.
    pub(crate) fn put<W: Workspace>(
        &mut self,
        workspace: &mut W,
        planner: &Planner,
        place: &Place,
        key: &[u8],
        row: NewRow,
        revision: Revision,
    ) {
        self.trees.put(workspace, place, key, row, &planner.changes);
        self.modified = self.modified.max(revision);
        self.digest = planner.digest;
        self.note_removed(planner, key, revision);
    }

    /// Plans to delete the row at `place`, whose primary key is `key`.
    ///
    /// When a function of the schema panics, nothing has changed.
    pub(crate) fn plan_delete(&self, planner: &mut Planner, place: &Place, key: &[u8]) {
        let planned = planner.plan(self, key, self.row_at(place), None);
        planned.expect("only what is put can be refused");
    }

    /// Deletes the row at `place`, whose primary key is `key`, as planned.
    ///
    /// # Panics
    ///
    /// As [`put`](TableState::put).
    pub(crate) fn delete<W: Workspace>(
        &mut self,
        workspace: &mut W,
        planner: &Planner,
        place: &Place,
        key: &[u8],
        revision: Revision,
    ) {
        self.trees.delete(workspace, place, &planner.changes);
        self.modified = self.modified.max(revision);
        self.digest = planner.digest;
        self.note_removed(planner, key, revision);
        if self.schema.tombstones > 0 {
            self.removals.note(number_of(None), key, key.len(), revision);
        }
    }

    /// Notes what the plan for the row at `key`, a primary key, took out of indexes.
    #[inline]
    fn note_removed(&mut self, planner: &Planner, key: &[u8], revision: Revision) {
        if self.schema.tombstones == 0 {
            return;
        }
        for (index, entry) in planner.changes.removed() {
            let behind = if self.schema.indexes[index].unique { 0 } else { key.len() };
            self.removals.note(number_of(Some(index)), entry, entry.len() - behind, revision);
        }
    }
}
