//! What a transaction changed: the log of its statements, folded into one net change a row.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use smallvec::SmallVec;

use crate::root::Contents;
use crate::table::Planner;
use crate::tree::{KeptRow, RowRef};
use crate::watch::{Change, Touched};

/// The rows that statements replaced, in order.
///
/// What a savepoint has seen stands in a part that is shared, so that a savepoint costs O(1).
#[derive(Default)]
pub(super) struct ChangeLog {
    before: Frozen,
    running: Part,
    /// Whether the entries of indexes are noted, because somebody watches indexes.
    pub(super) notes_entries: bool,
    /// Whether the statements are those of a link: its writer may have erased what they delete.
    pub(super) is_link: bool,
    /// Whether an erasure may be among the statements; it may have been undone.
    may_erase: bool,
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
    /// The entries that statements changed, their keys one behind the other in `entry_keys`.
    entries: Vec<NotedEntry>,
    entry_keys: Vec<u8>,
}

struct NotedEntry {
    table: u32,
    index: u32,
    /// Where its key ends.
    end: usize,
}

enum Statement {
    /// A row was put or deleted; its key stands at this place, and this row stood there before.
    Row { table: usize, key: (usize, usize), before: Option<KeptRow> },
    /// A table that was empty got so many rows at once.
    Fill { table: usize, rows: usize },
    /// So many rows of a table were erased, by statements that stand before this one; their keys
    /// begin with what stands at this place.
    Erase { table: usize, prefix: (usize, usize), rows: usize },
}

/// Rows that were erased.
#[derive(Clone, Copy, Debug)]
pub(super) struct ErasedRows<'a> {
    /// The position of the table.
    pub(super) table: usize,
    /// What their primary keys begin with.
    pub(super) prefix: &'a [u8],
    pub(super) rows: usize,
}

/// The net change of one row.
pub(super) struct Net<'a> {
    /// The position of the table.
    pub(super) table: usize,
    pub(super) key: &'a [u8],
    pub(super) before: Option<RowRef<'a>>,
    pub(super) after: Option<RowRef<'a>>,
}

impl ChangeLog {
    /// A log that notes the entries of indexes as well, or not.
    pub(super) fn noting(notes_entries: bool) -> Self {
        Self { notes_entries, ..Self::default() }
    }

    /// A log that goes on from a frozen one.
    pub(super) fn after(before: Frozen) -> Self {
        Self { before, may_erase: true, ..Self::default() }
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

    /// Notes entries of indexes that a statement changed, if that is to be noted.
    pub(super) fn push_entries(&mut self, table: usize, planner: &Planner) {
        let Part { entries, entry_keys, .. } = &mut self.running;
        for (index, key) in planner.entries() {
            entry_keys.extend_from_slice(key);
            let (table, index, end) = (table as u32, index as u32, entry_keys.len());
            entries.push(NotedEntry { table, index, end });
        }
    }

    /// Notes that the table at `table`, which was empty, got `rows` rows at once.
    pub(super) fn push_fill(&mut self, table: usize, rows: usize) {
        if rows > 0 {
            self.running.statements.push(Statement::Fill { table, rows });
        }
    }

    /// Notes that `rows` rows of a table, whose keys begin with `prefix`, were erased.
    pub(super) fn push_erase(&mut self, table: usize, prefix: &[u8], rows: usize) {
        let Part { keys, statements, .. } = &mut self.running;
        let start = keys.len();
        keys.extend_from_slice(prefix);
        statements.push(Statement::Erase { table, prefix: (start, keys.len()), rows });
        self.may_erase = true;
    }

    /// What was erased, in no particular order.
    pub(super) fn erasures(&self) -> impl Iterator<Item = ErasedRows<'_>> {
        let parts = self.may_erase.then(|| self.parts()).into_iter().flatten();
        parts.flat_map(|Part { keys, statements, .. }| {
            statements.iter().filter_map(|statement| match statement {
                Statement::Erase { table, prefix, rows } => Some(ErasedRows {
                    table: *table,
                    prefix: &keys[prefix.0..prefix.1],
                    rows: *rows,
                }),
                Statement::Row { .. } | Statement::Fill { .. } => None,
            })
        })
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

    /// The parts, the last first.
    fn parts(&self) -> impl Iterator<Item = &Part> {
        let mut next = self.before.last.as_deref();
        let earlier = std::iter::from_fn(move || {
            let part = next?;
            next = part.before.last.as_deref();
            Some(part)
        });
        std::iter::once(&self.running).chain(earlier)
    }

    /// The net change of each touched row between the first statement and `after`, in the order of
    /// tables and keys. A row that was inserted and deleted again is not in it.
    pub(super) fn net(&self, after: &Contents) -> Vec<Change> {
        let mut changes = Vec::new();
        self.for_each_net(after, |Net { table, key, before, after: row }| {
            changes.push(Change::new(after.table(table).schema(), key, before, row));
        });
        changes
    }

    /// The tables that statements have touched and that are the same in `after` as in `before`, the
    /// contents before the first statement.
    pub(super) fn unchanged_tables(&self, before: &Contents, after: &Contents) -> Vec<usize> {
        let mut is_changed = BTreeMap::new();
        self.for_each_key(&mut |table, key| {
            let is_changed = is_changed.entry(table).or_insert(false);
            // What was touched and is there was put by a statement.
            let is_there = |contents: &Contents| contents.table(table).row(key).is_some();
            *is_changed = *is_changed || is_there(after) || is_there(before);
        });
        self.for_each_fill(&mut |table| {
            let has_rows = |contents: &Contents| contents.table(table).len() > 0;
            *is_changed.entry(table).or_insert(false) |= has_rows(before) || has_rows(after);
        });
        is_changed.into_iter().filter(|(_, changed)| !changed).map(|(table, _)| table).collect()
    }

    /// As [`net`](ChangeLog::net), without a handle on the rows.
    pub(super) fn for_each_net(&self, after: &Contents, mut visit: impl FnMut(Net<'_>)) {
        // The earliest statement on a row has the row before the transaction, so later ones are
        // overwritten, from the last part to the first.
        let mut first: BTreeMap<(usize, &[u8]), Option<&KeptRow>> = BTreeMap::new();
        let mut filled = BTreeSet::new();
        for Part { keys, statements, .. } in self.parts() {
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
                    // The deletes stand before it.
                    Statement::Erase { .. } => {}
                }
            }
        }
        let filled = filled.into_iter().flat_map(|table| keys_of(after, table));
        let filled: Vec<_> = filled.collect();
        for (table, key) in &filled {
            first.entry((*table, key)).or_insert(None);
        }
        for ((table, key), before) in first {
            let (before, after) = (before.map(KeptRow::borrow), after.table(table).row(key));
            let same = match (before, after) {
                (None, None) => true,
                (Some(before), Some(after)) => before.is(after),
                _ => false,
            };
            if !same {
                visit(Net { table, key, before, after });
            }
        }
    }
}

impl Touched for ChangeLog {
    fn for_each_key(&self, visit: &mut dyn FnMut(usize, &[u8])) {
        for Part { keys, statements, .. } in self.parts() {
            for statement in statements {
                if let Statement::Row { table, key, .. } = statement {
                    visit(*table, &keys[key.0..key.1]);
                }
            }
        }
    }

    fn is_erasure(&self) -> bool {
        self.erasures().next().is_some()
    }

    fn is_link(&self) -> bool {
        self.is_link
    }

    fn net(&self, after: &Contents) -> Vec<Change> {
        ChangeLog::net(self, after)
    }

    fn for_each_entry(&self, visit: &mut dyn FnMut(usize, usize, &[u8])) -> bool {
        let is_fill = |statement: &Statement| matches!(statement, Statement::Fill { .. });
        if !self.notes_entries || self.parts().any(|part| part.statements.iter().any(is_fill)) {
            return false;
        }
        for Part { entries, entry_keys, .. } in self.parts() {
            let mut start = 0;
            for NotedEntry { table, index, end } in entries {
                visit(*table as usize, *index as usize, &entry_keys[start..*end]);
                start = *end;
            }
        }
        true
    }

    fn for_each_fill(&self, visit: &mut dyn FnMut(usize)) {
        for statement in self.parts().flat_map(|part| &part.statements) {
            if let Statement::Fill { table, .. } = statement {
                visit(*table);
            }
        }
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
            Statement::Row { .. } | Statement::Erase { .. } => None,
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
