//! Moves what a fork changed onto a newer version: a merge of three versions, row by row.

use std::fmt;

use thiserror::Error;

use super::carry::{Action, Refusal, Step, carry};
use super::changes::ErasedRows;
use super::draft::Drafting;
use super::fork::Fork;
use super::read::{Snapshot, position_of_type};
use crate::error::Error;
use crate::schema::{Table, TableSchema};
use crate::tree::{AnyRow, Row, RowRef};
use crate::watch::Change;

/// A row that a fork changed and that could not be moved onto a newer version.
#[derive(Clone)]
pub struct Conflict {
    change: Change,
    theirs: Option<AnyRow>,
    kind: ConflictKind,
}

/// Why a row could not be moved.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConflictKind {
    /// Both sides have changed it since the origin, to different things.
    #[error("was changed on both sides")]
    BothChanged,
    /// The newer version has no place for it: [`Error::Taken`], usually.
    #[error("cannot be put: {0}")]
    Refused(Error),
    /// It cannot be encoded, or is not read as what was encoded.
    #[error("cannot be copied: {0}")]
    Encoding(String),
}

/// Whose row it is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resolution {
    /// That of the fork.
    Mine,
    /// That of the newer version.
    Theirs,
}

impl Conflict {
    /// The name of the table.
    #[must_use]
    pub fn table(&self) -> &str {
        self.change.table()
    }

    /// The primary key as it is encoded; `decode::<K>` of it gives the typed key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.change.key()
    }

    /// The primary key, printed for a person.
    #[must_use]
    pub fn printed_key(&self) -> String {
        self.change.printed_key()
    }

    /// Why it is a conflict.
    #[must_use]
    pub fn kind(&self) -> &ConflictKind {
        &self.kind
    }

    /// Whether the row is in the table whose rows are values of `T`.
    #[must_use]
    pub fn is_in<T: Table>(&self) -> bool {
        self.change.is_in::<T>()
    }

    /// The row in the origin of the fork; `None` if there was none or the table is not `T`.
    #[must_use]
    pub fn before<T: Table>(&self) -> Option<&Row<T>> {
        self.change.before()
    }

    /// The row in the fork; `None` if there is none or the table is not `T`.
    #[must_use]
    pub fn mine<T: Table>(&self) -> Option<&Row<T>> {
        self.change.after()
    }

    /// The row in the newer version; `None` if there is none or the table is not `T`.
    #[must_use]
    pub fn theirs<T: Table>(&self) -> Option<&Row<T>> {
        self.theirs.as_ref().filter(|_| self.is_in::<T>()).map(|row| row.borrow().typed())
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table {}: the row with key {} {}", self.table(), self.printed_key(), self.kind)
    }
}

impl fmt::Debug for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conflict")
            .field("table", &self.table())
            .field("key", &self.printed_key())
            .field("kind", &self.kind)
            .finish()
    }
}

/// Why a fork could not be moved onto a newer version: all of its conflicts.
#[derive(Clone, Debug, Error)]
#[error("{} of the fork's rows conflict with the newer version; the first: {}",
    .conflicts.len(), .conflicts[0])]
pub struct RebaseError {
    /// Not empty.
    conflicts: Vec<Conflict>,
}

impl RebaseError {
    /// The conflicts, in the order of tables and keys.
    #[must_use]
    pub fn conflicts(&self) -> &[Conflict] {
        &self.conflicts
    }
}

/// What a merge makes of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Resolved(Resolution),
    Conflict,
}

/// A fork of `newer` with what `fork` changed on top. `resolve` decides what conflicts, or does
/// not.
pub(super) fn rebase(
    fork: &Fork,
    newer: &Snapshot,
    mut resolve: impl FnMut(&Conflict) -> Option<Resolution>,
) -> Result<Fork, RebaseError> {
    let mut conflicts = Vec::new();
    let mut moved = Vec::new();
    for change in fork.changes() {
        let position = position_of_type(newer.contents(), change.schema());
        let theirs = newer.contents().table(position).row(change.key());
        let verdict = judge(&change, theirs);
        let theirs = theirs.map(RowRef::share);
        let conflict = Conflict { change, theirs, kind: ConflictKind::BothChanged };
        let resolution = match verdict {
            Verdict::Resolved(resolution) => Some(resolution),
            Verdict::Conflict => resolve(&conflict),
        };
        match resolution {
            None => conflicts.push(conflict),
            Some(Resolution::Theirs) => {}
            Some(Resolution::Mine) => match conflict.change.encode_after() {
                Ok(value) => moved.push((position, conflict, value)),
                Err(message) => conflicts.push(conflict.of_kind(ConflictKind::Encoding(message))),
            },
        }
    }
    let steps: Vec<_> = moved
        .iter()
        .map(|(table, conflict, value)| Step {
            table: *table,
            key: conflict.key(),
            action: Action::of(&conflict.change, fork.revision()),
            value,
        })
        .collect();
    let mut rebased = newer.fork();
    let make = |number: usize, schema: &TableSchema, meta| steps[number].decode(schema, meta);
    let carried = carry(rebased.draft_mut(), &steps, make, |number, refusal| {
        let kind = match refusal {
            Refusal::Statement(error) => ConflictKind::Refused(error),
            Refusal::Decode(message) => ConflictKind::Encoding(message),
            Refusal::Key(_) => ConflictKind::Encoding("its primary key changed".into()),
        };
        conflicts.push(moved[number].1.clone().of_kind(kind));
        Ok::<_, std::convert::Infallible>(())
    });
    let Ok(()) = carried;
    for ErasedRows { table, prefix, rows } in fork.draft().log.erasures() {
        let schema = fork.draft().contents().table(table).schema();
        let position = position_of_type(newer.contents(), schema);
        rebased.draft_mut().erase(position, prefix.into(), rows);
    }
    if conflicts.is_empty() {
        return Ok(rebased);
    }
    let position =
        |conflict: &Conflict| position_of_type(newer.contents(), conflict.change.schema());
    conflicts.sort_by(|one, other| (position(one), one.key()).cmp(&(position(other), other.key())));
    Err(RebaseError { conflicts })
}

impl Conflict {
    fn of_kind(self, kind: ConflictKind) -> Self {
        Self { kind, ..self }
    }
}

/// Whose row is taken, if that is beyond doubt.
fn judge(change: &Change, theirs: Option<RowRef<'_>>) -> Verdict {
    let (before, mine) = (change.row_before(), change.row_after());
    let same = |one, other| is_same(change.schema(), one, other);
    if same(before, theirs) {
        Verdict::Resolved(Resolution::Mine)
    } else if same(mine, theirs) || same(before, mine) {
        Verdict::Resolved(Resolution::Theirs)
    } else {
        Verdict::Conflict
    }
}

/// Whether both are the same row, or encoded alike, or both are none.
fn is_same(schema: &TableSchema, one: Option<RowRef<'_>>, other: Option<RowRef<'_>>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) if one.is(other) => true,
        (Some(one), Some(other)) => {
            let (mut bytes, mut others) = (Vec::new(), Vec::new());
            let encoded = schema.rows.encode_value(one, &mut bytes);
            encoded.and_then(|()| schema.rows.encode_value(other, &mut others)).is_ok()
                && bytes == others
        }
        _ => false,
    }
}
