//! What snapshot files do to a database that is there: they replace its content, or go on with it.

use std::io;
use std::path::Path;

use super::Db;
use crate::limits::LINK_ATTEMPTS_MAX;
use crate::revision::{Applied, Revision};
use crate::root::Root;
use crate::snapshot::{self, Delta, LoadOptions, SnapshotError};
use crate::sync::{Arc, WriterGuard};
use crate::txn::{self, WriteTxn};

impl Db {
    /// Replaces the whole content by that of a snapshot file, atomically.
    ///
    /// Snapshots taken before stay valid and see the old content; on an error nothing has changed.
    /// The revision becomes that of the file, so it can go back.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`] with the byte offset, table and row; [`SnapshotError::NotWritable`] when
    /// a machine owns the database.
    pub fn restore<R: io::Read>(&self, source: R) -> Result<(), SnapshotError> {
        self.restore_with(source, LoadOptions::new())
    }

    /// As [`restore`](Db::restore), decrypted, limited, told of and cancelled as `options` say.
    ///
    /// ```
    /// # use fsmdb::{Db, LoadOptions, SnapshotError, Table};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    /// # #[table(name = "nodes")]
    /// # struct Node { #[key] id: u64 }
    /// # let db = Db::builder().table::<Node>().build()?;
    /// # let mut txn = db.write();
    /// # for id in 0..3 { txn.insert(Node { id })?; }
    /// # txn.commit();
    /// let mut file = Vec::new();
    /// db.read().save(&mut file)?;
    /// let refused = db.restore_with(file.as_slice(), LoadOptions::new().rows_max(2)).unwrap_err();
    /// assert!(matches!(refused, SnapshotError::TooMany { .. }));
    /// db.restore_with(file.as_slice(), LoadOptions::new().rows_max(3))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`restore`](Db::restore), and [`SnapshotError::Cancelled`].
    pub fn restore_with<R: io::Read>(
        &self,
        source: R,
        options: LoadOptions<'_>,
    ) -> Result<(), SnapshotError> {
        self.restore_chain([source], options)
    }

    /// As [`restore_with`](Db::restore_with), from the file at `path`.
    ///
    /// ```
    /// # use fsmdb::{Db, LoadOptions, SaveOptions, Table};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    /// # #[table(name = "nodes")]
    /// # struct Node { #[key] id: u64 }
    /// # let db = Db::builder().table::<Node>().build()?;
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("state.snapshot");
    /// db.read().save_to_path(&path, SaveOptions::new())?;
    /// db.restore_path(&path, LoadOptions::new())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`restore_with`](Db::restore_with), and [`SnapshotError::Disk`].
    pub fn restore_path(
        &self,
        path: impl AsRef<Path>,
        options: LoadOptions<'_>,
    ) -> Result<(), SnapshotError> {
        self.restore_with(snapshot::open(path.as_ref())?, options)
    }

    /// Replaces the whole content by that of a chain of snapshot files, a whole one and the
    /// incremental ones that follow it, atomically; as [`restore`](Db::restore) otherwise.
    ///
    /// # Errors
    ///
    /// As [`restore`](Db::restore) and [`Builder::load_chain`](crate::Builder::load_chain).
    pub fn restore_chain<R: io::Read>(
        &self,
        sources: impl IntoIterator<Item = R>,
        options: LoadOptions<'_>,
    ) -> Result<(), SnapshotError> {
        self.refuse_owned()?;
        self.install(sources, options, |_, _| self.refuse_owned())
    }

    /// Applies an incremental snapshot file to the current version, which must be the one that it
    /// is based on, as one commit; gives the revision that it leads to.
    ///
    /// Watches and waits see one commit. What the file deletes its writer may have
    /// [erased](crate::TableMut::erase_prefix), and the file does not say so; therefore it is to
    /// kept versions and feeds what a restore is: the versions go
    /// ([`keep_versions`](crate::Builder::keep_versions)), and feeds are given
    /// [`Event::Reset`](crate::Event::Reset) with the net changes.
    ///
    /// The current version is held to the digest that the file names by its rows as they are
    /// encoded here. A table that the file does not have may be there if it is empty and
    /// [`LoadOptions::missing_tables_are_empty`] says so. Without
    /// [`keep_digests`](crate::Builder::keep_digests) all rows are encoded for that, before the
    /// right to write is taken; and again if another version was published meanwhile, which only a
    /// restore makes the right one. Memory follows the file.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::WrongBase`] when the current version is another one,
    /// [`SnapshotError::KeepsIncarnation`] when `options` have an incarnation; otherwise as
    /// [`restore`](Db::restore). On an error nothing has changed.
    pub fn apply_incremental<R: io::Read>(
        &self,
        source: R,
        options: LoadOptions<'_>,
    ) -> Result<Revision, SnapshotError> {
        self.refuse_owned()?;
        self.install_incremental(source, options, |revision, _| {
            self.refuse_owned().map(|()| revision)
        })
    }

    fn refuse_owned(&self) -> Result<(), SnapshotError> {
        if self.is_owned() { Err(SnapshotError::NotWritable) } else { Ok(()) }
    }

    /// Loads a chain and publishes it if `accept`, which is asked with the right to write, agrees
    /// to its revision and position.
    pub(crate) fn install<R: io::Read, T, E: From<SnapshotError>>(
        &self,
        sources: impl IntoIterator<Item = R>,
        options: LoadOptions<'_>,
        accept: impl FnOnce(Revision, Applied) -> Result<T, E>,
    ) -> Result<T, E> {
        let root = txn::load_chain(&self.shared.schema, sources, options)?;
        let guard = self.shared.writer.lock();
        let accepted = accept(root.revision, root.applied)?;
        self.replace(root, guard);
        Ok(accepted)
    }

    /// Applies an incremental file if `accept`, which is asked with the right to write, agrees to
    /// the revision and position that it leads to.
    pub(crate) fn install_incremental<R: io::Read, T, E: From<SnapshotError>>(
        &self,
        source: R,
        mut options: LoadOptions<'_>,
        accept: impl Fn(Revision, Applied) -> Result<T, E>,
    ) -> Result<T, E> {
        if options.incarnation.is_some() {
            return Err(SnapshotError::KeepsIncarnation.into());
        }
        let delta = snapshot::load_delta(&self.shared.schema, source, &mut options, false)?;
        let (revision, applied) = (delta.revision, delta.applied);
        self.follow(delta, || accept(revision, applied))
    }

    /// Applies what an incremental file says to the current version.
    fn follow<T, E: From<SnapshotError>>(
        &self,
        delta: Delta,
        accept: impl Fn() -> Result<T, E>,
    ) -> Result<T, E> {
        for _ in 0..LINK_ATTEMPTS_MAX {
            let seen = self.shared.hub.load();
            let ground = txn::ground_of(seen.contents(), None, &delta)?;
            let guard = self.shared.writer.lock();
            let accepted = accept()?;
            let base = self.shared.hub.load();
            if Arc::ptr_eq(&base, &seen) {
                drop(seen);
                let txn = WriteTxn::new(&self.shared.hub, guard, base, delta.revision);
                txn.apply_delta(delta, ground)?;
                return Ok(accepted);
            }
        }
        let guard = self.shared.writer.lock();
        let accepted = accept()?;
        let base = self.shared.hub.load();
        let ground = txn::ground_of(base.contents(), None, &delta)?;
        let txn = WriteTxn::new(&self.shared.hub, guard, base, delta.revision);
        txn.apply_delta(delta, ground)?;
        Ok(accepted)
    }

    /// Publishes a version that has come from a file, gives the right to write back and wakes whom
    /// the difference concerns.
    fn replace(&self, root: Root, guard: WriterGuard<'_>) {
        let old = self.shared.hub.load();
        let root = root.after(old.serial());
        let woken = self.shared.hub.replace(&old, root);
        drop(old);
        drop(guard);
        drop(woken);
    }
}
