//! Snapshots, and the trait of everything that can be read like one.

use std::fmt;
use std::io;
use std::path::Path;

use super::fork::Fork;
use super::write::WriteTxn;
use crate::error::Error;
use crate::revision::{Applied, Revision};
use crate::root::{Contents, Root};
use crate::schema::{Table, TableSchema};
use crate::snapshot::{self, SaveOptions, SnapshotError, Summary};
use crate::sync::Arc;
use crate::table::{TableReader, TableState};
use crate::tree::Version;

/// One version of the whole database, for as long as it is held.
///
/// Owned, cheap to clone and to send; it never changes, never blocks the writer and outlives the
/// [`Db`](crate::Db) handle. It keeps the rows of its version in memory while it lives.
#[derive(Clone)]
pub struct Snapshot {
    root: Arc<Root>,
}

impl Snapshot {
    pub(crate) fn new(root: Arc<Root>) -> Self {
        Self { root }
    }

    pub(super) fn root(&self) -> &Root {
        &self.root
    }

    pub(super) fn contents(&self) -> &Contents {
        self.root.contents()
    }

    pub(super) fn version(&self) -> &Version<Contents> {
        self.root.version()
    }

    /// The table whose rows are values of `T`.
    ///
    /// # Panics
    ///
    /// When `T` is not a table of the database.
    #[must_use]
    pub fn table<T: Table>(&self) -> TableReader<'_, T> {
        table_of(&self.root)
    }

    /// The revision of this version.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.root.revision
    }

    /// The last log entry applied in this version; (0, 0) in an embedded database.
    #[must_use]
    pub fn applied(&self) -> Applied {
        self.root.applied
    }

    pub(super) fn serial(&self) -> u64 {
        self.root.serial()
    }

    /// Proves that every index, and every digest that is kept, equals what recomputing it from the
    /// rows gives; O(rows x indexes).
    ///
    /// # Errors
    ///
    /// [`Error::Inconsistent`] naming the first difference.
    pub fn check(&self) -> Result<(), Error> {
        self.root.tables().try_for_each(TableState::check)
    }

    /// Writes this version as a snapshot file: every table of the schema, rows in key order.
    ///
    /// Equal states give equal bytes. The writer is not stalled, and memory is bounded by a few
    /// megabytes for each thread whatever the size. Give it a buffered writer or a file: chunks are
    /// written whole.
    ///
    /// ```
    /// # use fsmdb::{Db, Table};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    /// # #[table(name = "nodes")]
    /// # struct Node { #[key] id: u64 }
    /// # let db = Db::builder().table::<Node>().build()?;
    /// # let mut txn = db.write();
    /// # txn.insert(Node { id: 1 })?;
    /// # txn.commit();
    /// let mut file = Vec::new();
    /// db.read().save(&mut file)?;
    ///
    /// let copy = Db::builder().table::<Node>().load(file.as_slice())?;
    /// assert_eq!(copy.read().table::<Node>().len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Io`] from `target`; [`SnapshotError::RowEncode`] or
    /// [`SnapshotError::RowTooLarge`] naming the row.
    pub fn save<W: io::Write>(&self, target: W) -> Result<Summary, SnapshotError> {
        self.save_with(target, SaveOptions::new())
    }

    /// As [`save`](Snapshot::save), compressed, encrypted, told of and cancelled as `options` say.
    ///
    /// # Errors
    ///
    /// As [`save`](Snapshot::save), and [`SnapshotError::Cancelled`].
    pub fn save_with<W: io::Write>(
        &self,
        target: W,
        options: SaveOptions<'_>,
    ) -> Result<Summary, SnapshotError> {
        snapshot::save(self.contents(), None, target, options)
    }

    /// Writes this version to the snapshot file at `path`: aside first, synced, and then in the
    /// place of what was there. Whatever fails and whenever the machine stops, under that name
    /// there is the old content or the new one, whole; only its owner can read it.
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
    /// let copy = Db::builder().table::<Node>().load_path(&path, LoadOptions::new())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Disk`] with the step that failed; otherwise as
    /// [`save_with`](Snapshot::save_with).
    pub fn save_to_path(
        &self,
        path: impl AsRef<Path>,
        options: SaveOptions<'_>,
    ) -> Result<Summary, SnapshotError> {
        snapshot::replace(path.as_ref(), |target| self.save_with(target, options))
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (revision, applied) = (self.revision().0, self.applied());
        f.debug_struct("Snapshot").field("revision", &revision).field("applied", &applied).finish()
    }
}

/// Anything that can be read like a snapshot: a [`Snapshot`], or a [`WriteTxn`] or [`Fork`] with
/// its own writes.
///
/// ```
/// # use fsmdb::{Db, Read, Table};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
/// # #[table(name = "nodes")]
/// # struct Node { #[key] id: u64, #[index] ready: bool }
/// fn ready(db: &impl Read) -> usize {
///     db.table::<Node>().index(Node::BY_READY).get(&true).count()
/// }
///
/// let db = Db::builder().table::<Node>().build()?;
/// let mut txn = db.write();
/// txn.insert(Node { id: 1, ready: true })?;
/// assert_eq!(ready(&txn), 1);
/// assert_eq!(ready(&db.read()), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Read: sealed::Sealed {
    /// The table whose rows are values of `T`.
    ///
    /// # Panics
    ///
    /// When `T` is not a table of the database.
    #[must_use]
    fn table<T: Table>(&self) -> TableReader<'_, T>;

    /// The revision of the version that is read; in a write transaction the one it will make,
    /// in a fork the one after that of its origin.
    #[must_use]
    fn revision(&self) -> Revision;
}

impl Read for Snapshot {
    fn table<T: Table>(&self) -> TableReader<'_, T> {
        Self::table(self)
    }

    fn revision(&self) -> Revision {
        Self::revision(self)
    }
}

impl Read for WriteTxn<'_> {
    fn table<T: Table>(&self) -> TableReader<'_, T> {
        WriteTxn::table(self)
    }

    fn revision(&self) -> Revision {
        WriteTxn::revision(self)
    }
}

impl Read for Fork {
    fn table<T: Table>(&self) -> TableReader<'_, T> {
        Fork::table(self)
    }

    fn revision(&self) -> Revision {
        Fork::revision(self)
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Snapshot {}
    impl Sealed for super::WriteTxn<'_> {}
    impl Sealed for super::super::Watcher<'_> {}
    impl Sealed for super::super::OptimisticTxn {}
    impl Sealed for super::Fork {}
}

/// The typed view of a table of `root`; panics when `T` is not one.
pub(super) fn table_of<T: Table>(root: &Contents) -> TableReader<'_, T> {
    TableReader::new(root.table(position_of::<T>(root)), None)
}

/// The position of the table `T`; panics when `T` is not a table of the database.
pub(super) fn position_of<T: Table>(root: &Contents) -> usize {
    root.schema.position::<T>().unwrap_or_else(|| no_table(T::NAME, std::any::type_name::<T>()))
}

/// The position of the table whose rows are of the same type as those of `table`; panics when there
/// is none.
pub(super) fn position_of_type(root: &Contents, table: &TableSchema) -> usize {
    let position = root.schema.position_of_type(table.rows.row_type());
    position.unwrap_or_else(|| no_table(&table.name, table.rows.type_name()))
}

#[cold]
fn no_table(name: &str, type_name: &str) -> ! {
    panic!("table {name} is not in the schema: add .table::<{type_name}>() to the builder")
}
