//! The write transaction.

use std::collections::BTreeMap;
use std::fmt;

use super::changes::ChangeLog;
use super::draft::{Draft, Drafting, RUNS, Write};
use super::program::{Program, ProgramError, ProgramReply};
use super::read::{Snapshot, table_of};
use super::savepoint::Savepoint;
use super::table_mut::TableMut;
use crate::error::Error;
use crate::revision::{Applied, Revision};
use crate::root::{Contents, Root};
use crate::schema::Table;
use crate::sync::{Arc, WriterGuard};
use crate::table::TableReader;
use crate::tree::{Doomed, SharedRow, Writer};
use crate::watch::{Change, Committed, Erased, Hub, OldSnapshot, Touched, Woken};

/// The one transaction that may write, from [`Db::write`](crate::Db::write).
///
/// It reads its own writes. Each statement either happens or leaves the transaction as it was.
/// [`commit`](WriteTxn::commit) publishes everything at once; dropping it, also by a panic, rolls
/// everything back.
///
/// ```
/// # use fsmdb::{Db, Table};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
/// # #[table(name = "nodes")]
/// # struct Node { #[key] id: u64, #[index(unique)] name: String }
/// # let db = Db::builder().table::<Node>().build()?;
/// let mut txn = db.write();
/// txn.insert(Node { id: 1, name: "alpha".into() })?;
///
/// let before = txn.savepoint();
/// let refused = txn.insert(Node { id: 2, name: "alpha".into() });
/// assert!(refused.unwrap_err().is_conflict());
/// txn.table_mut::<Node>().update(&1_u64, |node| node.name = "beta".into())?;
/// txn.rollback_to(&before);
///
/// assert_eq!(txn.table::<Node>().get(&1_u64).unwrap().name, "alpha");
/// assert_eq!(txn.changes().len(), 1);
/// txn.commit();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a transaction that is dropped is rolled back"]
pub struct WriteTxn<'db> {
    hub: &'db Hub,
    draft: Draft<Writer<Contents>>,
    /// The right to write, until the transaction has ended.
    guard: Option<WriterGuard<'db>>,
    /// The version below, until the transaction has ended.
    base: Option<Arc<Root>>,
    hooks: Vec<Hook<'db>>,
}

type Hook<'db> = Box<dyn FnOnce(&Committed) + 'db>;

impl<'db> WriteTxn<'db> {
    pub(crate) fn new(
        hub: &'db Hub,
        guard: WriterGuard<'db>,
        base: Arc<Root>,
        revision: Revision,
    ) -> Self {
        let contents = base.contents().clone();
        let writer = base.version().store().write();
        Self {
            hub,
            draft: Draft::new(contents, writer, ChangeLog::noting(hub.wants_entries()), revision),
            guard: Some(guard),
            base: Some(base),
            hooks: Vec::new(),
        }
    }

    /// The table whose rows are values of `T`, with the writes of this transaction.
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

    /// The revision that `commit` will make.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.draft.revision
    }

    /// A read view of the transaction as it is now, O(1): later statements do not change it, so it
    /// can be iterated while rows are deleted.
    ///
    /// ```
    /// # use fsmdb::{Db, Table};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    /// # #[table(name = "nodes")]
    /// # struct Node { #[key] id: u64 }
    /// # let db = Db::builder().table::<Node>().build()?;
    /// # let mut txn = db.write();
    /// # for id in 0..10 { txn.insert(Node { id })?; }
    /// let view = txn.snapshot();
    /// for node in view.table::<Node>().range(5..) {
    ///     txn.table_mut::<Node>().delete(&node.id);
    /// }
    /// assert_eq!(txn.table::<Node>().len(), 5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn snapshot(&mut self) -> Snapshot {
        let mut contents = self.draft.contents().clone();
        let version = self.draft.work.peek(&contents);
        contents.revision = self.draft.revision;
        contents.line = contents.line.of_view();
        let serial = self.base.as_ref().map_or(0, |base| base.serial());
        Snapshot::new(Arc::new(Root::new(contents, version, serial)))
    }

    /// Runs a program: all of it, or nothing when it is refused; see [`Write::run`].
    ///
    /// # Errors
    ///
    /// As [`Write::run`].
    pub fn run(&mut self, program: &Program) -> Result<ProgramReply, ProgramError> {
        Write::run(self, program)
    }

    /// Marks a point to which [`rollback_to`](WriteTxn::rollback_to) can go back, O(1).
    #[must_use]
    pub fn savepoint(&mut self) -> Savepoint {
        self.draft.savepoint()
    }

    /// Goes to the point that `savepoint` marks: every statement after it is undone, O(1). Hooks
    /// given to [`after_commit`](WriteTxn::after_commit) stay.
    ///
    /// # Panics
    ///
    /// When the savepoint is from another transaction.
    pub fn rollback_to(&mut self, savepoint: &Savepoint) {
        self.draft.rollback_to(savepoint);
    }

    /// Undoes every statement, O(1).
    pub fn rollback_all(&mut self) {
        if let Some(base) = self.base.clone() {
            let (contents, writer, _) = self.draft.parts();
            writer.restart(contents);
            *contents = base.contents().clone();
        }
        self.draft.log = ChangeLog::noting(self.hub.wants_entries());
        self.hooks.clear();
    }

    /// Whether any statement has changed anything.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        !self.draft.log.is_empty()
    }

    /// The net change of each row so far, in the order of tables and keys; O(k log k) in the
    /// number of statements. It equals the difference between the versions before and after.
    #[must_use]
    pub fn changes(&self) -> Vec<Change> {
        self.draft.changes()
    }

    /// Calls `hook` after this transaction was published and the writer's lock released. It is not
    /// called when the transaction rolls back. Hooks run in the order in which they were given.
    ///
    /// The next transaction of another thread may be published, and its hooks run, before this
    /// hook: who needs the order of commits looks at [`Committed::revision`].
    pub fn after_commit(&mut self, hook: impl FnOnce(&Committed) + 'db) {
        self.hooks.push(Box::new(hook));
    }

    /// Publishes all writes in one store and returns the new revision.
    ///
    /// # Panics
    ///
    /// When a statement panicked half-way because an index function of the schema is not pure; only
    /// [`rollback_all`](WriteTxn::rollback_all) or dropping the transaction helps then.
    pub fn commit(mut self) -> Revision {
        let revision = self.draft.revision;
        self.draft.parts().0.revision = revision;
        let hooks = std::mem::take(&mut self.hooks);
        let changes = if hooks.is_empty() { Vec::new() } else { self.changes() };
        let (woken, old) = self.publish();
        let hub = self.hub;
        drop(self);
        drop(woken);
        hub.report(old);
        let committed = Committed { revision, changes };
        hooks.into_iter().for_each(|hook| hook(&committed));
        revision
    }

    /// Publishes the contents and ends the transaction; gives whom that wakes. The rows that no
    /// version needs any more are dropped last, because that runs the user's code.
    fn publish(&mut self) -> (Woken, Vec<OldSnapshot>) {
        let mut doomed = Doomed::default();
        self.draft.settle(self.base.as_ref().expect(RUNS));
        let (contents, writer, _) = self.draft.parts();
        let version = writer.publish(contents, &mut doomed);
        let contents = self.draft.contents.take().expect(RUNS);
        let base = self.base.take().expect(RUNS);
        let root = Root::new(contents, version, base.serial() + 1);
        let replaced = self.draft.work.replaced_bytes();
        let woken = self.hub.publish(&base, root, replaced, &self.draft.log);
        drop(base);
        let old = self.hub.find_old(&mut self.draft.work, self.draft.revision);
        if self.draft.log.is_erasure() {
            *self.hub.erased() = Some(self.erased());
        }
        if self.draft.log.is_erasure() || self.draft.log.is_link {
            self.draft.work.finish_all(&mut doomed);
        } else {
            self.draft.work.finish(&mut doomed);
        }
        self.guard = None;
        (woken, old)
    }

    /// What the statements so far have erased.
    pub(crate) fn erased(&self) -> Erased {
        let mut rows = BTreeMap::new();
        for erased in self.draft.log.erasures() {
            *rows.entry(erased.table).or_default() += erased.rows as u64;
        }
        Erased { revision: self.draft.revision, rows }
    }

    /// Whether the version under this transaction is this one.
    pub(super) fn begins_with(&self, root: &Root) -> bool {
        self.base.as_ref().is_some_and(|base| std::ptr::eq(&**base, root)) && !self.is_changed()
    }

    /// The entry that was applied last in the version under this transaction.
    pub(crate) fn base_applied(&self) -> Applied {
        self.base.as_ref().map_or_else(Applied::default, |base| base.applied)
    }

    /// Publishes the writes of the log entry `at` together with its position.
    pub(crate) fn commit_entry(mut self, at: Applied) {
        self.draft.parts().0.applied = at;
        self.commit();
    }
}

/// Rolls back what was not committed.
impl Drop for WriteTxn<'_> {
    fn drop(&mut self) {
        if let Some(contents) = self.draft.contents.take() {
            let mut doomed = Doomed::default();
            self.draft.work.abort(&contents, &mut doomed);
            drop(contents);
            self.base = None;
            self.guard = None;
        }
    }
}

impl Drafting for WriteTxn<'_> {
    type Work = Writer<Contents>;

    fn draft(&self) -> &Draft<Writer<Contents>> {
        &self.draft
    }

    fn draft_mut(&mut self) -> &mut Draft<Writer<Contents>> {
        &mut self.draft
    }
}

impl Write for WriteTxn<'_> {}

impl fmt::Debug for WriteTxn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteTxn")
            .field("revision", &self.draft.revision.0)
            .field("statements", &self.draft.log.len())
            .finish_non_exhaustive()
    }
}
