//! Erasing on the database: done for one table, and asked about afterwards.

use super::Db;
use crate::error::WriteError;
use crate::key::AsPrefix;
use crate::revision::Revision;
use crate::schema::Table;
use crate::tree::Doomed;
use crate::txn::{self, Erasure};

impl Db {
    /// Erases the rows of one table whose primary keys begin with `prefix`, in a transaction of its
    /// own, and says what still pins them. For several tables at once, and in a state machine, see
    /// [`TableMut::erase_prefix`](crate::TableMut::erase_prefix), which also says what goes.
    ///
    /// Waits for the running write transaction, as [`write`](Db::write) does.
    ///
    /// ```
    /// # use fsmdb::{Db, HistoryError, Retention, Revision, Table};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    /// # #[table(name = "jobs")]
    /// # struct Job { #[key] tenant: String, #[key] id: u64 }
    /// let db = Db::builder().table::<Job>().keep_versions(Retention::versions(9)).build()?;
    /// let mut txn = db.write();
    /// for (tenant, id) in [("acme", 1), ("acme", 2), ("umbrella", 1)] {
    ///     txn.insert(Job { tenant: tenant.into(), id })?;
    /// }
    /// txn.commit();
    /// let reader = db.read();
    ///
    /// let erasure = db.erase::<Job, _>(&("acme",))?;
    /// assert_eq!((erasure.revision, erasure.rows), (Revision(2), 2));
    /// assert!(matches!(db.at(Revision(1)), Err(HistoryError::BelowFloor { .. })));
    ///
    /// // The reader goes on as it was, and is what is waited for.
    /// assert_eq!(erasure.pinned_until, Some(Revision(1)));
    /// assert_eq!(reader.table::<Job>().len(), 3);
    /// drop(reader);
    /// assert_eq!(db.pinned_until(erasure.revision), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`WriteError::OwnedByMachine`] when a state machine owns the database.
    ///
    /// # Panics
    ///
    /// When `T` is not a table of the database.
    pub fn erase<T: Table, P: AsPrefix<T::Key> + ?Sized>(
        &self,
        prefix: &P,
    ) -> Result<Erasure, WriteError> {
        let mut txn = self.write_unless_owned()?;
        txn.table_mut::<T>().erase_prefix(prefix);
        let erased = txn.erased();
        let revision = txn.commit();
        let pinned_until = self.pinned_until(revision);
        Ok(Erasure::new(&self.shared.schema, &erased, pinned_until))
    }

    /// The last commit that has erased since the database was opened or restored, and what pins it
    /// now; see [`pinned_until`](Db::pinned_until).
    #[must_use]
    pub fn erased(&self) -> Option<Erasure> {
        let erased = self.shared.hub.erased().clone()?;
        let pinned_until = self.pinned_until(erased.revision);
        Some(Erasure::new(&self.shared.schema, &erased, pinned_until))
    }

    /// The revision of the last commit that has erased since the database was opened or restored:
    /// what [`erased`](Db::erased) says of it, without looking for what pins it. O(1).
    ///
    /// ```
    /// # use fsmdb::{Db, Revision, Table};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    /// # #[table(name = "jobs")]
    /// # struct Job { #[key] tenant: String, #[key] id: u64 }
    /// let db = Db::builder().table::<Job>().build()?;
    /// assert_eq!(db.erased_at(), None);
    /// db.erase::<Job, _>(&("acme",))?;
    /// assert_eq!(db.erased_at(), Some(db.read().revision()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn erased_at(&self) -> Option<Revision> {
        self.shared.hub.erased().as_ref().map(|erased| erased.revision)
    }

    /// The highest revision below `revision` of a version that is alive: because a snapshot, a
    /// fork or an optimistic transaction holds it, or because it is kept for [`Db::at`]. When
    /// `revision` is that of an erasure and there is none, no version has what was erased, and its
    /// memory was given back: the rows that waited for the next commits to free them are freed
    /// here.
    ///
    /// [`Db::memory`] has all versions that are alive, and
    /// [`Builder::report_old_snapshots`](crate::Builder::report_old_snapshots) tells of those that
    /// are held for long. Handles on single rows ([`SharedRow`](crate::SharedRow),
    /// [`Change`](crate::Change)) are no versions, and are not counted; nor are versions from
    /// before a restore.
    ///
    /// Waits for the running write transaction, and lets none begin meanwhile. O(versions that are
    /// alive), and what is freed.
    #[must_use]
    pub fn pinned_until(&self, revision: Revision) -> Option<Revision> {
        let guard = self.shared.writer.lock();
        let newest = self.shared.hub.load();
        let mut writer = newest.version().store().write();
        let pinned = txn::pinned_until(&mut writer, revision);
        let mut doomed = Doomed::default();
        writer.finish_all(&mut doomed);
        drop(writer);
        drop(newest);
        drop(guard);
        // Last, because that runs the user's code.
        drop(doomed);
        pinned
    }
}
