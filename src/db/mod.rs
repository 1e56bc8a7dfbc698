//! The database handle: open, read, write, restore.
//!
//! # Invariants
//!
//! 1. There is at most one write transaction at a time; it holds the writer's lock.
//! 2. Every handle of a database sees the same current version, also after a restore.
//! 3. A database that a machine owns is written by the log alone.

mod builder;
mod erase;
mod optimistic;
mod restore;

use std::fmt;
use std::sync::Arc as StdArc;

use crate::digest::Digests;
use crate::error::{Error, WriteError};
use crate::key::AsKey;
use crate::revision::{Applied, Incarnation, Revision};
use crate::root::{Contents, Root};
use crate::schema::{Schema, Table};
use crate::sync::{Arc, AtomicBool, Ordering, WriterGuard, WriterLock};
use crate::tree::Doomed;
use crate::txn::{self, Changes, HistoryError, Memory, RowVersion, Snapshot, WaitFor, WriteTxn};
use crate::watch::{Filter, Hub, Options};
pub use builder::Builder;

/// An in-memory database. A handle is cheap to clone and can be used from any thread.
///
/// ```
/// use fsmdb::{Db, Table};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Debug, Serialize, Deserialize, Table)]
/// #[table(name = "nodes")]
/// struct Node {
///     #[key]
///     id: u64,
///     #[index(unique)]
///     name: String,
/// }
///
/// let db = Db::builder().table::<Node>().build()?;
/// let before = db.read();
///
/// let mut txn = db.write();
/// txn.insert(Node { id: 1, name: "alpha".into() })?;
/// txn.commit();
///
/// assert_eq!(before.table::<Node>().len(), 0); // a snapshot never changes
/// assert_eq!(db.read().table::<Node>().index(Node::BY_NAME).get("alpha").unwrap().id, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Db {
    shared: Arc<Shared>,
}

struct Shared {
    schema: StdArc<Schema>,
    hub: StdArc<Hub>,
    writer: WriterLock,
    /// Set while a machine owns the database (invariant 3).
    owned: AtomicBool,
}

impl Drop for Shared {
    /// Frees what only the newest version has, when snapshots of older ones live on.
    fn drop(&mut self) {
        self.hub.close();
        let newest = self.hub.load();
        let mut writer = newest.version().store().write();
        if writer.is_alone() {
            // Nobody is left, and everything goes with the store; or the one snapshot that is left
            // is of the newest version.
            return;
        }
        let empty = Contents::empty(StdArc::clone(&self.schema));
        writer.unlink_all(newest.contents());
        let mut doomed = Doomed::default();
        let version = writer.publish(&empty, &mut doomed);
        self.hub.end_with(Root::new(empty, version, newest.serial() + 1));
        drop(newest);
        writer.finish_all(&mut doomed);
    }
}

impl Db {
    /// Starts the description of a database.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The current version: O(1), never blocks, never fails.
    #[must_use]
    pub fn read(&self) -> Snapshot {
        Snapshot::new(self.shared.hub.load())
    }

    /// Starts the write transaction, waiting for the one before it to end.
    ///
    /// A transaction that is dropped without [`commit`](WriteTxn::commit) is rolled back. One
    /// thread that starts a second transaction while it holds the first waits for itself for ever;
    /// [`try_write`](Db::try_write) does not wait.
    ///
    /// # Panics
    ///
    /// When a [`Machine`](crate::Machine) owns the database: it is written by the log alone.
    #[must_use = "a transaction that is dropped is rolled back"]
    pub fn write(&self) -> WriteTxn<'_> {
        // Asked before the lock, so that a state machine that writes past its transaction panics
        // instead of waiting for itself, and under it, where the answer cannot change.
        assert!(!self.is_owned(), "{}", WriteError::OwnedByMachine);
        let guard = self.shared.writer.lock();
        assert!(!self.is_owned(), "{}", WriteError::OwnedByMachine);
        self.begin(guard)
    }

    /// Starts the write transaction if no other is running.
    ///
    /// # Errors
    ///
    /// [`WriteError::Busy`] when another transaction is running, [`WriteError::OwnedByMachine`]
    /// when a state machine owns the database.
    pub fn try_write(&self) -> Result<WriteTxn<'_>, WriteError> {
        if self.is_owned() {
            return Err(WriteError::OwnedByMachine);
        }
        let guard = self.shared.writer.try_lock().ok_or(WriteError::Busy)?;
        if self.is_owned() {
            return Err(WriteError::OwnedByMachine);
        }
        Ok(self.begin(guard))
    }

    /// The revision of the current version.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.shared.hub.load().revision
    }

    /// Waits until the database has reached `revision`, and gives the version that is current then:
    /// by [`WaitFor::wait`] in a thread, by `.await` in a task.
    ///
    /// Who waits is woken by the commit that reaches it; nothing polls. Waiting costs O(log n) in
    /// the number of those who wait, and a commit pays for those whom it wakes.
    ///
    /// ```
    /// # use fsmdb::{Db, Revision, Table, WaitError};
    /// # use serde::{Deserialize, Serialize};
    /// # use std::time::Duration;
    /// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    /// # #[table(name = "nodes")]
    /// # struct Node { #[key] id: u64 }
    /// # let db = Db::builder().table::<Node>().build()?;
    /// let early = db.wait_for(Revision(1)).wait(Duration::from_millis(1));
    /// assert!(matches!(early, Err(WaitError::TimedOut { .. })));
    ///
    /// let waiting = std::thread::spawn({
    ///     let db = db.clone();
    ///     move || db.wait_for(Revision(1)).wait(None)
    /// });
    /// let mut txn = db.write();
    /// txn.insert(Node { id: 1 })?;
    /// txn.commit();
    /// let snap = waiting.join().unwrap()?;
    /// assert_eq!(snap.table::<Node>().len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_for(&self, revision: Revision) -> WaitFor {
        WaitFor::new(&self.shared.hub, revision)
    }

    /// The changes of the whole database, for a [`Feed`](crate::Feed).
    pub fn changes(&self) -> Changes<()> {
        Changes::new(&self.shared.hub, Filter::Everything)
    }

    /// The changes of the table whose rows are values of `T`, for a [`Feed`](crate::Feed).
    ///
    /// # Panics
    ///
    /// When `T` is not a table of the database.
    pub fn changes_of<T: Table>(&self) -> Changes<T> {
        let _ = self.read().table::<T>();
        Changes::new(&self.shared.hub, Filter::Table(T::NAME.into()))
    }

    /// The version of `revision`: the current one, or an older one that is kept
    /// ([`Builder::keep_versions`]). O(log n) in the number of those, without a lock that the
    /// writer holds while it works.
    ///
    /// ```
    /// # use fsmdb::{Db, HistoryError, Retention, Revision, Table};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    /// # #[table(name = "nodes")]
    /// # struct Node { #[key] id: u64, name: String }
    /// let db = Db::builder().table::<Node>().keep_versions(Retention::versions(2)).build()?;
    /// for name in ["alpha", "beta", "gamma", "delta"] {
    ///     let mut txn = db.write();
    ///     txn.upsert(Node { id: 1, name: name.into() })?;
    ///     txn.commit();
    /// }
    /// assert_eq!(db.at(Revision(3))?.table::<Node>().get(&1_u64).unwrap().name, "gamma");
    /// assert!(matches!(db.at(Revision(1)), Err(HistoryError::BelowFloor { .. })));
    ///
    /// let versions = db.versions::<Node, _>(&1_u64);
    /// let names: Vec<_> = versions.iter().map(|version|
    /// &version.row.as_ref().unwrap().name).collect(); assert_eq!(names, ["beta", "gamma",
    /// "delta"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`HistoryError`] when it is not kept, was never there, or is not yet. A restore, a link
    /// ([`apply_incremental`](Db::apply_incremental)) and a commit that
    /// [erases](crate::TableMut::erase_prefix) leave none that is older.
    pub fn at(&self, revision: Revision) -> Result<Snapshot, HistoryError> {
        txn::at(&self.shared.hub, revision)
    }

    /// What the row with the primary key `key` was in the versions that are kept, and is in the
    /// current one: one element for each time that it was written, the oldest first. O(log n) for
    /// each version that is kept.
    ///
    /// # Panics
    ///
    /// When `T` is not a table of the database.
    #[must_use]
    pub fn versions<T: Table, Q: AsKey<T::Key> + ?Sized>(&self, key: &Q) -> Vec<RowVersion<T>> {
        txn::versions(&self.shared.hub, key)
    }

    /// Who keeps how much memory: each table and index, and each older version that is alive,
    /// because somebody holds it or because it is kept. O(n) in the number of nodes.
    ///
    /// Waits for the running write transaction, and lets none begin meanwhile.
    #[must_use]
    pub fn memory(&self) -> Memory {
        let _guard = self.shared.writer.lock();
        let newest = self.shared.hub.load();
        let mut writer = newest.version().store().write();
        txn::memory(newest.contents(), &mut writer, &self.shared.hub)
    }

    /// How many wait for the database to change, and what is kept for them.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        let (watches, revisions) = self.shared.hub.waiting();
        let (feeds, feed_commits, feed_bytes) = self.shared.hub.held_for_feeds();
        Waiting { watches, revisions, feeds, feed_commits, feed_bytes }
    }

    /// As [`write`](Db::write), for those who return an error when a machine owns the database.
    fn write_unless_owned(&self) -> Result<WriteTxn<'_>, WriteError> {
        if self.is_owned() {
            return Err(WriteError::OwnedByMachine);
        }
        let guard = self.shared.writer.lock();
        if self.is_owned() {
            return Err(WriteError::OwnedByMachine);
        }
        Ok(self.begin(guard))
    }

    /// The line of revisions that the database is on.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.shared.hub.load().incarnation
    }

    /// Proves on the current version that every index, and every digest that is kept, equals what
    /// recomputing it from the rows gives; O(rows x indexes).
    ///
    /// # Errors
    ///
    /// [`Error::Inconsistent`] naming the first difference.
    pub fn check(&self) -> Result<(), Error> {
        self.read().check()
    }

    /// A digest of each table of the current version; see [`Snapshot::digests`].
    ///
    /// # Errors
    ///
    /// As [`Snapshot::digests`].
    pub fn digests(&self) -> Result<Digests, Error> {
        self.read().digests()
    }

    fn begin<'db>(&'db self, guard: WriterGuard<'db>) -> WriteTxn<'db> {
        let base = self.shared.hub.load();
        let revision = base.revision.next();
        WriteTxn::new(&self.shared.hub, guard, base, revision)
    }

    fn is_owned(&self) -> bool {
        self.shared.owned.load(Ordering::Acquire)
    }

    /// Whether [`digests`](Db::digests) costs O(tables), because they are kept
    /// ([`Builder::keep_digests`]).
    #[must_use]
    pub fn keeps_digests(&self) -> bool {
        self.shared.schema.tables().iter().all(|table| table.keeps_digest)
    }

    /// Takes the database into the ownership of a machine, once the running transaction has
    /// ended; says whether it was free.
    pub(crate) fn take_ownership(&self) -> bool {
        let _guard = self.shared.writer.lock();
        !self.shared.owned.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn release_ownership(&self) {
        self.shared.owned.store(false, Ordering::Release);
    }

    /// Ends all watches, waits and feeds as the drop of the last handle does, on behalf of a
    /// replica that has ended: nothing will change any more. It can still be read.
    pub(crate) fn close_waits(&self) {
        self.shared.hub.close();
    }

    /// Starts the transaction of one log entry, on behalf of the machine that owns the database.
    pub(crate) fn write_entry(&self, at: Applied) -> WriteTxn<'_> {
        let guard = self.shared.writer.lock();
        let base = self.shared.hub.load();
        WriteTxn::new(&self.shared.hub, guard, base, Revision(at.index))
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = self.shared.hub.load();
        let tables: Vec<_> = self.shared.schema.tables().iter().map(|table| &table.name).collect();
        f.debug_struct("Db").field("revision", &root.revision.0).field("tables", &tables).finish()
    }
}

/// Who waits for a database to change; from [`Db::waiting`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Waiting {
    /// Watches that have not ended and are held by somebody.
    pub watches: usize,
    /// Waits for a revision.
    pub revisions: usize,
    /// Feeds that are open.
    pub feeds: usize,
    /// Commits that are kept for feeds.
    pub feed_commits: usize,
    /// Bytes that these keep: keys and rows, without what rows own elsewhere.
    pub feed_bytes: usize,
}

impl Db {
    fn with_root(root: Root, options: Options) -> Self {
        let schema = StdArc::clone(&root.schema);
        let hub = StdArc::new(Hub::new(root, options));
        schema.settle(&hub);
        let shared =
            Shared { schema, hub, writer: WriterLock::new(), owned: AtomicBool::new(false) };
        Self { shared: Arc::new(shared) }
    }
}
