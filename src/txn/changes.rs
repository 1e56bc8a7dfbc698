//! What a transaction changed: the log of its statements, folded into one net change a row.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use smallvec::SmallVec;

use super::carry::Action;
use crate::revision::Revision;
use crate::root::Contents;
use crate::schema::{Table, TableSchema};
use crate::tree::{AnyRow, KeptRow, Row, RowRef};

/// The rows that statements replaced, in order.
///
/// What a savepoint has seen stands in a part that is shared, so that a savepoint costs O(1).
#[derive(Default)]
pub(super) struct ChangeLog {
    before: Frozen,
    running: Part,
}

/// The statements of a transaction up to a savepoint. A clone is O(1).
#[derive(Clone, Default)]
pub(super) struct Frozen {
    last: Option<Arc<Part>>,
}

/// Statements, and bytes of their keys, that a part holds without an allocation: those of a small
/// transaction.
const STATEMENTS_INLINE: usize = 2;
const KEYS_INLINE: usize = 64;

/// Statements for which a part makes room when it holds more than that.
const STATEMENTS_NEXT: usize = 16;

/// A stretch of the log.
#[derive(Default)]
struct Part {
    /// Statements before this part.
    base: usize,
    before: Frozen,
    keys: SmallVec<[u8; KEYS_INLINE]>,
    statements: SmallVec<[Statement; STATEMENTS_INLINE]>,
}

enum Statement {
    /// A row was put or deleted; its key stands at this place, and this row stood there before.
    Row { table: usize, key: (usize, usize), before: Option<KeptRow> },
    /// A table that was empty got so many rows at once.
    Fill { table: usize, rows: usize },
}

impl ChangeLog {
    /// A log that goes on from a frozen one.
    pub(super) fn after(before: Frozen) -> Self {
        Self { before, running: Part::default() }
    }

    pub(super) fn push(&mut self, table: usize, key: &[u8], before: Option<KeptRow>) {
        let Part { keys, statements, .. } = &mut self.running;
        if statements.len() == STATEMENTS_INLINE {
            statements.reserve(STATEMENTS_NEXT - STATEMENTS_INLINE);
            keys.reserve((STATEMENTS_NEXT - STATEMENTS_INLINE) * key.len());
        }
        let start = keys.len();
        keys.extend_from_slice(key);
        statements.push(Statement::Row { table, key: (start, keys.len()), before });
    }

    /// Notes that the table at `table`, which was empty, got `rows` rows at once.
    pub(super) fn push_fill(&mut self, table: usize, rows: usize) {
        if rows > 0 {
            self.running.statements.push(Statement::Fill { table, rows });
        }
    }

    pub(super) fn len(&self) -> usize {
        self.before.len() + self.running.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The log so far, for a savepoint.
    pub(super) fn freeze(&mut self) -> Frozen {
        if self.running.len() > 0 {
            let (base, before) = (self.before.len(), self.before.clone());
            let part = Part { base, before, ..std::mem::take(&mut self.running) };
            self.before = Frozen { last: Some(Arc::new(part)) };
        }
        self.before.clone()
    }

    /// Goes back, or forth, to a frozen log.
    pub(super) fn return_to(&mut self, frozen: &Frozen) {
        self.before = frozen.clone();
        self.running = Part::default();
    }

    /// The net change of each touched row between the first statement and `after`, in the order of
    /// tables and keys. A row that was inserted and deleted again is not in it.
    pub(super) fn net(&self, after: &Contents) -> Vec<Change> {
        // The earliest statement on a row has the row before the transaction, so later ones are
        // overwritten, from the last part to the first.
        let mut first: BTreeMap<(usize, &[u8]), Option<&KeptRow>> = BTreeMap::new();
        let mut part = Some(&self.running);
        let mut before = &self.before;
        let mut filled = BTreeSet::new();
        while let Some(Part { keys, statements, .. }) = part {
            for statement in statements.iter().rev() {
                match statement {
                    Statement::Row { table, key, before } => {
                        first.insert((*table, &keys[key.0..key.1]), before.as_ref());
                    }
                    Statement::Fill { table, .. } => {
                        // Before it the table was empty.
                        let touched = first.range_mut((*table, &[][..])..(*table + 1, &[][..]));
                        touched.for_each(|(_, before)| *before = None);
                        filled.insert(*table);
                    }
                }
            }
            part = before.last.as_deref();
            if let Some(part) = part {
                before = &part.before;
            }
        }
        let filled = filled.into_iter().flat_map(|table| keys_of(after, table));
        let filled: Vec<_> = filled.collect();
        for (table, key) in &filled {
            first.entry((*table, key)).or_insert(None);
        }
        first
            .into_iter()
            .filter_map(|((position, key), before)| {
                let table = after.table(position);
                let (before, after) = (before.map(KeptRow::borrow), table.row(key));
                let same = match (before, after) {
                    (None, None) => true,
                    (Some(before), Some(after)) => before.is(after),
                    _ => false,
                };
                (!same).then(|| Change {
                    table: Arc::clone(table.schema()),
                    key: key.to_vec(),
                    before: before.map(RowRef::share),
                    after: after.map(RowRef::share),
                })
            })
            .collect()
    }
}

/// The keys that a table has in `contents`, with its position.
fn keys_of(contents: &Contents, table: usize) -> Vec<(usize, Vec<u8>)> {
    let mut rows = contents.table(table).rows().keyed();
    let mut keys = Vec::new();
    while let Some((key, _)) = rows.next() {
        keys.push((table, key.to_vec()));
    }
    keys
}

impl Part {
    fn len(&self) -> usize {
        let fills = self.statements.iter().filter_map(|statement| match statement {
            Statement::Fill { rows, .. } => Some(rows - 1),
            Statement::Row { .. } => None,
        });
        self.statements.len() + fills.sum::<usize>()
    }
}

impl Frozen {
    fn len(&self) -> usize {
        self.last.as_ref().map_or(0, |part| part.base + part.len())
    }
}

impl Drop for Frozen {
    /// Part by part: thousands of savepoints must not become thousands of calls inside each other.
    fn drop(&mut self) {
        let mut next = self.last.take();
        while let Some(part) = next {
            next = Arc::into_inner(part).and_then(|mut part| part.before.last.take());
        }
    }
}

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// There was no row with this key before.
    Created,
    /// The row was replaced by another with the same key.
    Updated,
    /// There is no row with this key any more.
    Deleted,
}

/// The net change of one row in one transaction or fork: what stood there before it and what after
/// it.
#[derive(Clone)]
pub struct Change {
    table: Arc<TableSchema>,
    key: Vec<u8>,
    before: Option<AnyRow>,
    after: Option<AnyRow>,
}

impl Change {
    /// The name of the table.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table.name
    }

    /// The primary key as it is encoded; `decode::<K>` of it gives the typed key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The primary key, printed for a person.
    #[must_use]
    pub fn printed_key(&self) -> String {
        self.table.print_key(&self.key)
    }

    /// Whether the row was created, updated or deleted.
    #[must_use]
    pub fn kind(&self) -> ChangeKind {
        match (&self.before, &self.after) {
            (None, _) => ChangeKind::Created,
            (Some(_), Some(_)) => ChangeKind::Updated,
            (Some(_), None) => ChangeKind::Deleted,
        }
    }

    /// Whether the change is in the table whose rows are values of `T`.
    #[must_use]
    pub fn is_in<T: Table>(&self) -> bool {
        self.table.rows.row_type() == std::any::TypeId::of::<T>()
    }

    /// The row before the transaction; `None` if there was none or the table is not `T`.
    #[must_use]
    pub fn before<T: Table>(&self) -> Option<&Row<T>> {
        self.before.as_ref().filter(|_| self.is_in::<T>()).map(|row| row.borrow().typed())
    }

    /// The row after the transaction; `None` if there is none or the table is not `T`.
    #[must_use]
    pub fn after<T: Table>(&self) -> Option<&Row<T>> {
        self.after.as_ref().filter(|_| self.is_in::<T>()).map(|row| row.borrow().typed())
    }
}

impl Change {
    pub(super) fn schema(&self) -> &TableSchema {
        &self.table
    }

    pub(super) fn row_before(&self) -> Option<RowRef<'_>> {
        self.before.as_ref().map(AnyRow::borrow)
    }

    pub(super) fn row_after(&self) -> Option<RowRef<'_>> {
        self.after.as_ref().map(AnyRow::borrow)
    }

    /// The value of the row after it, encoded; empty if there is none.
    pub(super) fn encode_after(&self) -> Result<Vec<u8>, String> {
        let mut value = Vec::new();
        self.row_after().map_or(Ok(()), |row| self.table.rows.encode_value(row, &mut value))?;
        Ok(value)
    }

    /// What was done to the row by statements of `revision`.
    pub(super) fn action(&self, revision: Revision) -> Action {
        match self.row_after() {
            None => Action::Delete,
            Some(row) if row.meta().created == revision => Action::Create,
            Some(_) => Action::Replace,
        }
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change")
            .field("table", &self.table())
            .field("key", &self.printed_key())
            .field("kind", &self.kind())
            .finish()
    }
}

/// A published transaction, as hooks see it.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The revision it made.
    pub revision: Revision,
    /// The net change of each row, in the order of tables and keys.
    pub changes: Vec<Change>,
}
