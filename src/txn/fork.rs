//! Forks: versions that are written and never published.

use std::fmt;

use super::change_set::{ChangeSet, ChangeSetError};
use super::changes::ChangeLog;
use super::draft::{Draft, Drafting, Write};
use super::program::{Program, ProgramError, ProgramReply};
use super::read::{Snapshot, table_of};
use super::rebase::{self, Conflict, RebaseError, Resolution};
use super::savepoint::Savepoint;
use super::table_mut::TableMut;
use crate::error::Error;
use crate::revision::Revision;
use crate::root::Contents;
use crate::schema::Table;
use crate::table::{TableReader, TableState};
use crate::tree::{Branch, SharedRow};
use crate::watch::Change;

/// A private copy of a version that can be written, from [`Snapshot::fork`]: for plans that are
/// tried out before they are proposed.
///
/// Taking one costs O(1), and each write what it costs in a transaction. It touches nothing that
/// others see: it needs no lock, the writer and other forks do not notice it, and what it made is
/// freed when it is dropped. It is owned, can be sent to another thread, and outlives the
/// [`Db`](crate::Db).
///
/// What it found good leaves it as [`changes`](Fork::changes), to look at, or as a
/// [`change_set`](Fork::change_set), to apply to a transaction; when the database has moved on
/// meanwhile, [`rebase`](Fork::rebase) moves the fork after it.
///
/// ```
/// # use fsmdb::{Db, Table};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
/// # #[table(name = "nodes")]
/// # struct Node { #[key] id: u64, #[index] load: u32 }
/// # let db = Db::builder().table::<Node>().build()?;
/// # let mut txn = db.write();
/// # for id in 0..3 { txn.insert(Node { id, load: 0 })?; }
/// # txn.commit();
/// // Try what each choice leads to.
/// let snap = db.read();
/// let mut best: Option<(usize, fsmdb::Fork)> = None;
/// for id in 0..3_u64 {
///     let mut trial = snap.fork();
///     trial.table_mut::<Node>().update(&id, |node| node.load += 1)?;
///     let cost = trial.table::<Node>().index(Node::BY_LOAD).range(1..).count();
///     if best.as_ref().is_none_or(|(least, _)| cost < *least) {
///         best = Some((cost, trial));
///     }
/// }
/// let (_, best) = best.unwrap();
/// assert_eq!(best.changes().len(), 1);
///
/// // Do it.
/// let mut txn = db.write();
/// best.change_set()?.apply(&mut txn)?;
/// txn.commit();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Fork {
    /// Before `origin`, which keeps what it leads to.
    draft: Draft<Branch<Contents>>,
    origin: Snapshot,
}

impl Snapshot {
    /// A private copy of this version that can be written, O(1); see [`Fork`].
    ///
    /// ```
    /// # use fsmdb::{Db, Table};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    /// # #[table(name = "nodes")]
    /// # struct Node { #[key] id: u64 }
    /// # let db = Db::builder().table::<Node>().build()?;
    /// let snap = db.read();
    /// let mut fork = snap.fork();
    /// fork.insert(Node { id: 1 })?;
    /// assert_eq!(fork.table::<Node>().len(), 1);
    /// assert_eq!(snap.table::<Node>().len(), 0);
    /// assert_eq!(db.read().table::<Node>().len(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn fork(&self) -> Fork {
        let (mut contents, work) = (self.contents().clone(), Branch::new(self.version()));
        contents.close_removals();
        let draft = Draft::new(contents, work, ChangeLog::default(), self.revision().next());
        Fork { draft, origin: self.clone() }
    }
}

impl Fork {
    /// The table whose rows are values of `T`, with the writes of this fork.
    ///
    /// # Panics
    ///
    /// When `T` is not a table of the database.
    #[must_use]
    pub fn table<T: Table>(&self) -> TableReader<'_, T> {
        table_of(self.draft.contents())
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
    pub fn insert<T: Table>(&mut self, row: T) -> Result<SharedRow<T>, Error> {
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
    pub fn upsert<T: Table>(&mut self, row: T) -> Result<Option<SharedRow<T>>, Error> {
        self.table_mut().upsert(row)
    }

    /// What the fork works on; whoever takes it keeps the origin.
    pub(super) fn into_draft(self) -> Draft<Branch<Contents>> {
        self.draft
    }

    /// The version from which this fork, or the first that it was forked from, was taken.
    #[must_use]
    pub fn origin(&self) -> &Snapshot {
        &self.origin
    }

    /// The revision of rows written in this fork: the one after that of the origin, which a commit
    /// right on top of the origin would have.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.draft.revision
    }

    /// A fork of this fork as it is now, O(1). Both go their own ways from here, and can be dropped
    /// in any order.
    ///
    /// ```
    /// # use fsmdb::{Db, Table};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    /// # #[table(name = "nodes")]
    /// # struct Node { #[key] id: u64 }
    /// # let db = Db::builder().table::<Node>().build()?;
    /// let mut parent = db.read().fork();
    /// parent.insert(Node { id: 1 })?;
    /// let mut child = parent.fork();
    /// child.insert(Node { id: 2 })?;
    /// parent.table_mut::<Node>().delete(&1_u64);
    /// drop(parent);
    /// assert_eq!(child.table::<Node>().len(), 2);
    /// assert_eq!(child.changes().len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    ///
    /// When a statement panicked half-way because an index function of the schema is not pure.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        let Draft { contents: _, work, log, revision, .. } = &mut self.draft;
        let (work, log, revision) = (work.branch(), ChangeLog::after(log.freeze()), *revision);
        let draft = Draft::new(self.draft.contents().clone(), work, log, revision);
        Self { draft, origin: self.origin.clone() }
    }

    /// Runs a program: all of it, or nothing when it is refused; see [`Write::run`].
    ///
    /// # Errors
    ///
    /// As [`Write::run`].
    pub fn run(&mut self, program: &Program) -> Result<ProgramReply, ProgramError> {
        Write::run(self, program)
    }

    /// Marks a point to which [`rollback_to`](Fork::rollback_to) can go back, O(1).
    #[must_use]
    pub fn savepoint(&mut self) -> Savepoint {
        self.draft.savepoint()
    }

    /// Goes to the point that `savepoint` marks: every statement after it is undone, O(1). The
    /// memory of what was undone is freed with the fork.
    ///
    /// # Panics
    ///
    /// When the savepoint is from another fork, also from the one that this was forked from.
    pub fn rollback_to(&mut self, savepoint: &Savepoint) {
        self.draft.rollback_to(savepoint);
    }

    /// Whether any statement has changed anything since the origin.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        !self.draft.log.is_empty()
    }

    /// The net change of each row since the [`origin`](Fork::origin), in the order of tables and
    /// keys; O(k log k) in the number of statements. Of a fork of a fork it is also the change
    /// since the origin, with what the first one had done by then.
    #[must_use]
    pub fn changes(&self) -> Vec<Change> {
        self.draft.changes()
    }

    /// Proves that every index, and every digest that is kept, equals what recomputing it from the
    /// rows gives; O(rows x indexes).
    ///
    /// # Errors
    ///
    /// [`Error::Inconsistent`] naming the first difference.
    pub fn check(&self) -> Result<(), Error> {
        self.draft.contents().tables().try_for_each(TableState::check)
    }

    /// What this fork changed, as a value that can travel; see [`ChangeSet`]. O(changes).
    ///
    /// ```
    /// # use fsmdb::{ChangeSet, Db, Table};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    /// # #[table(name = "nodes")]
    /// # struct Node { #[key] id: u64 }
    /// # let db = Db::builder().table::<Node>().build()?;
    /// let mut fork = db.read().fork();
    /// fork.insert(Node { id: 1 })?;
    /// let bytes = fork.change_set()?.encode();
    ///
    /// let mut txn = db.write();
    /// ChangeSet::decode(&bytes)?.apply(&mut txn)?;
    /// txn.commit();
    /// assert_eq!(db.read().table::<Node>().len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ChangeSetError::TooMany`], [`ChangeSetError::TooLarge`], [`ChangeSetError::Row`] naming
    /// the row that cannot be encoded, or [`ChangeSetError::Erases`] when the fork has
    /// [erased](TableMut::erase_prefix) rows.
    ///
    /// # Panics
    ///
    /// When a statement panicked half-way because an index function of the schema is not pure.
    pub fn change_set(&self) -> Result<ChangeSet, ChangeSetError> {
        self.draft.work.assert_whole();
        ChangeSet::of(self.origin.revision(), &self.draft)
    }

    /// A fork of `newer` with what this fork changed on top; O(changes of this fork). This fork
    /// stays as it is.
    ///
    /// Each row that this fork changed is looked up in `newer`. If nobody else has changed it, it
    /// becomes what it is here; if others did the same, it stays what it is there; rows that others
    /// changed to something else are conflicts. "The same" means equal encodings, and a row that
    /// was written without becoming another counts as unchanged. Rows that this fork has erased are
    /// deleted; others that have come under the prefix meanwhile stay.
    ///
    /// ```
    /// # use fsmdb::{Db, Table};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Table)]
    /// # #[table(name = "nodes")]
    /// # struct Node { #[key] id: u64, load: u32 }
    /// # let db = Db::builder().table::<Node>().build()?;
    /// # let mut txn = db.write();
    /// # for id in 0..3 { txn.insert(Node { id, load: 0 })?; }
    /// # txn.commit();
    /// let mut fork = db.read().fork();
    /// fork.upsert(Node { id: 0, load: 1 })?;
    /// fork.upsert(Node { id: 1, load: 1 })?;
    ///
    /// let mut txn = db.write();
    /// txn.upsert(Node { id: 1, load: 2 })?;
    /// txn.upsert(Node { id: 2, load: 2 })?;
    /// txn.commit();
    ///
    /// let refused = fork.rebase(&db.read()).unwrap_err();
    /// let conflict = &refused.conflicts()[0];
    /// assert_eq!((conflict.table(), conflict.printed_key()), ("nodes", "1".into()));
    /// assert_eq!(conflict.mine::<Node>().unwrap().load, 1);
    /// assert_eq!(conflict.theirs::<Node>().unwrap().load, 2);
    ///
    /// fork.table_mut::<Node>().update(&1_u64, |node| node.load = 2)?;
    /// let fork = fork.rebase(&db.read()).unwrap();
    /// let loads: Vec<_> = fork.table::<Node>().iter().map(|node| node.load).collect();
    /// assert_eq!(loads, [1, 2, 2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`RebaseError`] with all conflicts: rows that both sides changed, and rows that `newer` has
    /// no place for, for example because a unique value is taken there.
    ///
    /// # Panics
    ///
    /// When `newer` is of a database without a table that this fork changed, or when a statement
    /// panicked half-way because an index function of the schema is not pure.
    pub fn rebase(&self, newer: &Snapshot) -> Result<Self, RebaseError> {
        self.draft.work.assert_whole();
        rebase::rebase(self, newer, |_| None)
    }

    /// As [`rebase`](Fork::rebase), with `resolve` to say whose row it is to be where both sides
    /// changed one.
    ///
    /// # Errors
    ///
    /// [`RebaseError`] with the rows that `newer` has no place for; `resolve` is not asked about
    /// those.
    ///
    /// # Panics
    ///
    /// As [`rebase`](Fork::rebase).
    pub fn rebase_with(
        &self,
        newer: &Snapshot,
        mut resolve: impl FnMut(&Conflict) -> Resolution,
    ) -> Result<Self, RebaseError> {
        self.draft.work.assert_whole();
        rebase::rebase(self, newer, |conflict| Some(resolve(conflict)))
    }
}

impl Drafting for Fork {
    type Work = Branch<Contents>;

    fn draft(&self) -> &Draft<Branch<Contents>> {
        &self.draft
    }

    fn draft_mut(&mut self) -> &mut Draft<Branch<Contents>> {
        &mut self.draft
    }
}

impl Write for Fork {}

impl fmt::Debug for Fork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fork")
            .field("origin", &self.origin.revision().0)
            .field("statements", &self.draft.log.len())
            .finish_non_exhaustive()
    }
}
