//! Carries rows over into a draft: those that a fork changed, into a newer version or a
//! transaction.
//!
//! What is replaced in a table with unique indexes is taken out before anything is put, so that
//! rows which swap a unique value do not stand in each other's way, whatever their order.

use serde::{Deserialize, Serialize};

use super::draft::Draft;
use crate::error::Error;
use crate::revision::Revision;
use crate::root::Contents;
use crate::schema::TableSchema;
use crate::table::Mode;
use crate::tree::{KeptRow, NewRow, RowMeta, RowRef, Session};
use crate::watch::Change;

/// What becomes of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub(super) enum Action {
    Delete,
    /// It is put, and was there before or is created now.
    Replace,
    /// It is put, and created now, whether it was there before or not.
    Create,
}

impl Action {
    /// What was done to a row by statements of `revision`.
    pub(super) fn of(change: &Change, revision: Revision) -> Self {
        Self::of_row(change.row_after(), revision)
    }

    /// As [`of`](Action::of), by the row after it.
    pub(super) fn of_row(after: Option<RowRef<'_>>, revision: Revision) -> Self {
        match after {
            None => Self::Delete,
            Some(row) if row.meta().created == revision => Self::Create,
            Some(_) => Self::Replace,
        }
    }
}

impl From<Action> for u8 {
    fn from(action: Action) -> Self {
        action as Self
    }
}

impl TryFrom<u8> for Action {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        let actions = [Self::Delete, Self::Replace, Self::Create];
        actions.get(usize::from(number)).copied().ok_or_else(|| format!("no action is {number}"))
    }
}

/// One row to be carried over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step<'a> {
    /// The position of the table.
    pub(super) table: usize,
    pub(super) key: &'a [u8],
    pub(super) action: Action,
    /// The value, encoded; empty when it is deleted, or comes from elsewhere.
    pub(super) value: &'a [u8],
}

impl Step<'_> {
    /// The row of the encoded value.
    pub(super) fn decode(&self, schema: &TableSchema, meta: RowMeta) -> Result<NewRow, Refusal> {
        let row = schema.rows.decode_value(self.value, meta);
        let row = row.map_err(|error| Refusal::Decode(error.to_string()))?;
        let key = schema.key_of(row.borrow());
        if *key == *self.key { Ok(row) } else { Err(Refusal::Key(key.to_vec())) }
    }
}

/// Why a row could not be carried over.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The bytes are not a value of the table.
    Decode(String),
    /// The row has this primary key and not the one it was named by.
    Key(Vec<u8>),
    Statement(Error),
}

/// Does all `steps`, each of another row, which `make` makes. `refused` is told the number of each
/// that cannot be done, and says whether to go on without.
pub(super) fn carry<W: Session<Contents>, E>(
    draft: &mut Draft<W>,
    steps: &[Step<'_>],
    mut make: impl FnMut(usize, &TableSchema, RowMeta) -> Result<NewRow, Refusal>,
    mut refused: impl FnMut(usize, Refusal) -> Result<(), E>,
) -> Result<(), E> {
    let mut created = Vec::with_capacity(steps.len());
    for step in steps {
        let schema = draft.contents().table(step.table).schema();
        let is_taken_out = match step.action {
            Action::Delete | Action::Create => true,
            Action::Replace => schema.indexes.iter().any(|index| index.unique),
        };
        let before = if is_taken_out {
            draft.remove(step.table, step.key)
        } else {
            draft.contents().table(step.table).row(step.key).map(RowRef::keep)
        };
        let before = before.as_ref().map(KeptRow::borrow).filter(|_| step.action != Action::Create);
        created.push(before.map_or(draft.revision, |before| before.meta().created));
    }
    for (number, (step, created)) in steps.iter().zip(created).enumerate() {
        if step.action == Action::Delete {
            continue;
        }
        let meta = RowMeta { created, modified: draft.revision };
        let made = make(number, draft.contents().table(step.table).schema(), meta);
        let put = made.and_then(|row| {
            let put = draft.put(step.table, step.key, Mode::Upsert, |_| row);
            put.map(drop).map_err(Refusal::Statement)
        });
        if let Err(refusal) = put {
            refused(number, refusal)?;
        }
    }
    Ok(())
}
