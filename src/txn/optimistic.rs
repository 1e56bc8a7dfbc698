//! Optimistic transactions: read and written aside, and committed if what was read still holds.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use super::carry::{Action, Refusal, Step, carry};
use super::changes::ErasedRows;
use super::draft::{Draft, Drafting, Write};
use super::read::{Read, Snapshot, position_of};
use super::table_mut::TableMut;
use super::write::WriteTxn;
use crate::error::{Error as StatementError, WriteError};
use crate::revision::Revision;
use crate::root::Contents;
use crate::schema::{Table, TableSchema};
use crate::table::{Extent, Question, ReadLog, TableReader};
use crate::tree::{Branch, KeptRow, NewRow, RowMeta, RowRef, SharedRow};
use crate::watch::{Change, differs};

/// A transaction that holds no lock while it works, from [`Db::optimistic`](crate::Db::optimistic).
///
/// It reads the version of its beginning and its own writes, and notes what it reads as
/// [`Snapshot::watch`] does: rows and their absence, ranges as far as they were taken, counts,
/// index values. [`Db::commit`](crate::Db::commit) publishes its writes if no commit since then has
/// changed an answer; so transactions that commit are serialisable, phantoms included: each could
/// have run at its commit, alone. What was noted is compared by value; revisions of rows and tables
/// are not (see [`Watcher`](crate::Watcher)).
///
/// [`Db::transact`](crate::Db::transact) runs a closure in one and tries again on a conflict.
pub struct OptimisticTxn {
    /// Before `origin`, which keeps what it leads to.
    pub(super) draft: Draft<Branch<Contents>>,
    pub(super) origin: Snapshot,
}

/// What an optimistic transaction has read and another commit has changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("table {table}: {what} changed since it was read")]
#[non_exhaustive]
pub struct ReadConflict {
    /// The table's name.
    pub table: String,
    /// The index's name, if an index was read.
    pub index: Option<String>,
    /// What was read, printed for a person.
    pub what: String,
}

/// Why an optimistic transaction was not committed. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CommitError {
    /// Another commit has changed what this one has read. Run again, it may succeed.
    #[error(transparent)]
    Conflict(#[from] ReadConflict),
    /// Another commit has taken a value of a unique index. Run again, it will meet that.
    #[error("another commit was faster: {0}")]
    Refused(Box<StatementError>),
    /// A row could not be carried over, because a handle on it is held and it cannot be encoded and
    /// read back.
    #[error("table {table}: row {key}: {message}")]
    Row {
        /// The table's name.
        table: String,
        /// The primary key, printed.
        key: String,
        /// What the encoder or decoder says.
        message: String,
    },
    /// The database cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl CommitError {
    /// Whether to run the transaction again may help.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict(_) | Self::Refused(_))
    }
}

/// Why [`Db::transact`](crate::Db::transact) has not committed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TransactError<E> {
    /// The closure has refused, on a version that was whole.
    #[error(transparent)]
    Aborted(E),
    /// The transaction could not be committed: with a conflict, that often in a row.
    #[error(transparent)]
    Commit(CommitError),
}

impl OptimisticTxn {
    pub(crate) fn new(origin: Snapshot) -> Self {
        let fork = origin.fork();
        let mut draft = fork.into_draft();
        draft.reads = Some(Arc::new(ReadLog::of_draft()));
        Self { draft, origin }
    }

    /// The table whose rows are values of `T`, with the writes of this transaction.
    ///
    /// # Panics
    ///
    /// When `T` is not a table of the database.
    #[must_use]
    pub fn table<T: Table>(&self) -> TableReader<'_, T> {
        let contents = self.draft.contents();
        let position = position_of::<T>(contents);
        TableReader::new(contents.table(position), self.draft.reading(position))
    }

    /// The table whose rows are values of `T`, for writing.
    ///
    /// # Panics
    ///
    /// When `T` is not a table of the database.
    pub fn table_mut<T: Table>(&mut self) -> TableMut<'_, T, Self> {
        Write::table_mut(self)
    }

    /// Inserts a row whose primary key must be free; see [`TableMut::insert`].
    ///
    /// # Errors
    ///
    /// As [`TableMut::insert`].
    ///
    /// # Panics
    ///
    /// When `T` is not a table of the database.
    pub fn insert<T: Table>(&mut self, row: T) -> Result<SharedRow<T>, StatementError> {
        self.table_mut().insert(row)
    }

    /// Inserts a row or replaces the one with its primary key; see [`TableMut::upsert`].
    ///
    /// # Errors
    ///
    /// As [`TableMut::upsert`].
    ///
    /// # Panics
    ///
    /// When `T` is not a table of the database.
    pub fn upsert<T: Table>(&mut self, row: T) -> Result<Option<SharedRow<T>>, StatementError> {
        self.table_mut().upsert(row)
    }

    /// The version that it began with.
    #[must_use]
    pub fn origin(&self) -> &Snapshot {
        &self.origin
    }

    /// The net change of each row so far, in the order of tables and keys.
    #[must_use]
    pub fn changes(&self) -> Vec<Change> {
        self.draft.changes()
    }

    /// Whether any statement has changed anything.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        !self.draft.log.is_empty()
    }

    /// What was read, as questions that other versions can be asked.
    pub(super) fn questions(&self) -> Vec<Question> {
        self.draft.reads.as_ref().map(|reads| reads.take_questions()).unwrap_or_default()
    }

    /// Puts the writes into `txn` if what was read still holds there.
    pub(crate) fn apply(self, txn: &mut WriteTxn<'_>) -> Result<(), CommitError> {
        let (questions, origin) = (self.questions(), self.origin.root());
        if !txn.begins_with(origin) {
            let current = txn.draft().contents();
            let changed = questions.iter().find(|question| differs(question, origin, current));
            if let Some(question) = changed {
                return Err(conflict(question, current).into());
            }
        }
        self.carry_to(txn.draft_mut())
    }

    fn carry_to<W: crate::tree::Session<Contents>>(
        self,
        target: &mut Draft<W>,
    ) -> Result<(), CommitError> {
        let Draft { contents, work, log, revision, .. } = self.draft;
        let mut changes: Vec<(usize, Vec<u8>, Action, Option<KeptRow>)> = Vec::new();
        if let Some(contents) = &contents {
            log.for_each_net(contents, |net| {
                let row = net.after.map(RowRef::keep);
                let action = Action::of_row(net.after, revision);
                changes.push((net.table, net.key.to_vec(), action, row));
            });
        }
        // The trees go; the rows are left, and are moved.
        drop(contents);
        let mut made = work.into_rows();
        let steps = changes.iter().map(|(table, key, action, _)| Step {
            table: *table,
            key,
            action: *action,
            value: &[],
        });
        let steps: Vec<_> = steps.collect();
        for ErasedRows { table, prefix, rows } in log.erasures() {
            target.erase(table, prefix.into(), rows);
        }
        let make = |number: usize, schema: &TableSchema, meta: RowMeta| {
            let row = changes[number].3.as_ref().expect("a row that is put is there");
            match made.take(*row) {
                Some(row) => Ok(row.with_meta(meta)),
                None => copy(*row, schema, meta),
            }
        };
        carry(target, &steps, make, |number, refusal| {
            let Step { table, key, .. } = steps[number];
            let schema = self.origin.contents().table(table).schema();
            Err(match refusal {
                Refusal::Statement(error) => CommitError::Refused(Box::new(error)),
                Refusal::Decode(message) => {
                    let (table, key) = (schema.name.to_string(), schema.print_key(key));
                    CommitError::Row { table, key, message }
                }
                Refusal::Key(_) => {
                    let (table, key) = (schema.name.to_string(), schema.print_key(key));
                    let message = "read back, its primary key is another".into();
                    CommitError::Row { table, key, message }
                }
            })
        })
    }
}

/// A row like `row`, of which somebody holds a handle.
fn copy(row: KeptRow, schema: &TableSchema, meta: RowMeta) -> Result<NewRow, Refusal> {
    let mut value = Vec::new();
    schema.rows.encode_value(row.borrow(), &mut value).map_err(Refusal::Decode)?;
    let decoded = schema.rows.decode_value(&value, meta);
    decoded.map_err(|error| Refusal::Decode(error.to_string()))
}

/// The conflict of a question, for a person.
pub(super) fn conflict(question: &Question, contents: &Contents) -> ReadConflict {
    let schema = contents.table(question.tree.table).schema();
    let print = |bytes: &[u8]| match question.tree.index {
        None => schema.print_key(bytes),
        Some(index) => schema.print_value(index, bytes),
    };
    let index = question.tree.index.map(|index| schema.indexes[index].name.to_string());
    let of = index.as_ref().map_or("row", |_| "value");
    let what = match &question.extent {
        Extent::Key(key) => format!("{of} {}", print(key)),
        Extent::Value(value) => format!("the rows with {}", print(value)),
        Extent::Span(_) => format!("a range of {}", index.as_deref().unwrap_or("the table")),
    };
    ReadConflict { table: schema.name.to_string(), index, what }
}

impl Read for OptimisticTxn {
    fn table<T: Table>(&self) -> TableReader<'_, T> {
        Self::table(self)
    }

    fn revision(&self) -> Revision {
        self.draft.revision
    }
}

impl Write for OptimisticTxn {}

impl Drafting for OptimisticTxn {
    type Work = Branch<Contents>;

    fn draft(&self) -> &Draft<Self::Work> {
        &self.draft
    }

    fn draft_mut(&mut self) -> &mut Draft<Self::Work> {
        &mut self.draft
    }
}

impl fmt::Debug for OptimisticTxn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OptimisticTxn")
            .field("origin", &self.origin.revision().0)
            .field("statements", &self.draft.log.len())
            .finish_non_exhaustive()
    }
}
