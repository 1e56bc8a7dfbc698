//! The description of a database, before it is built.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::Db;
use crate::error::SchemaError;
use crate::history::Retention;
use crate::revision::Incarnation;
use crate::root::{Contents, Root};
use crate::schema::{Schema, Table, TableSchema};
use crate::snapshot::{self, LoadOptions, SnapshotError};
use crate::txn;
use crate::watch::{AgeLimit, FeedLimits, OldSnapshot, Options};

/// Describes a database: its tables, in any order.
#[derive(Default)]
pub struct Builder {
    tables: Vec<TableSchema>,
    keeps_digests: bool,
    incarnation: Incarnation,
    options: Options,
}

impl Builder {
    /// Adds the table whose rows are values of `T`.
    #[must_use]
    pub fn table<T: Table>(mut self) -> Self {
        self.tables.push(TableSchema::of::<T>());
        self
    }

    /// Keeps the last changes for feeds, at most so many commits and so many bytes of keys and
    /// rows (without what rows own elsewhere), also while no feed is open: so that one that was
    /// away can go on by [`Changes::since`](crate::Changes::since). A commit that
    /// [erases](crate::TableMut::erase_prefix) takes all of them out.
    ///
    /// Without this, [`limits::FEED_COMMITS_DEFAULT`](crate::limits::FEED_COMMITS_DEFAULT) and
    /// [`limits::FEED_BYTES_DEFAULT`](crate::limits::FEED_BYTES_DEFAULT) hold, and with the last
    /// feed everything goes.
    #[must_use]
    pub fn keep_changes(mut self, commits: usize, bytes: usize) -> Self {
        self.options.feeds = FeedLimits { commits, bytes, is_kept: true };
        self
    }

    /// Keeps versions after newer ones have taken their place, for [`Db::at`] and [`Db::versions`];
    /// without this, none. A restore forgets them, and so does a link
    /// ([`Db::apply_incremental`]) or a commit that [erases](crate::TableMut::erase_prefix).
    #[must_use]
    pub fn keep_versions(mut self, retention: Retention) -> Self {
        self.options.retention = retention;
        self
    }

    /// Keeps a digest of each table, so that [`Db::digests`] and
    /// [`Snapshot::digests`](crate::Snapshot::digests) cost O(tables) and replicas can compare
    /// their states after every entry; without this they encode every row.
    ///
    /// A statement that puts a row then encodes it and the one that it replaces, and one that
    /// deletes a row encodes that. The database refuses what it cannot encode: a row whose
    /// `Serialize` fails or that nests too deep ([`Error::RowEncode`](crate::Error::RowEncode)),
    /// and one whose encoding is larger than
    /// [`limits::ROW_BYTES_MAX`](crate::limits::ROW_BYTES_MAX)
    /// ([`Error::RowTooLarge`](crate::Error::RowTooLarge)). So this decides what is refused, and
    /// all replicas of a state machine must have it, or none.
    ///
    /// ```
    /// # use fsmdb::{Db, Table};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    /// # #[table(name = "nodes")]
    /// # struct Node { #[key] id: u64 }
    /// let replica = || Db::builder().table::<Node>().keep_digests().build();
    /// let (one, other) = (replica()?, replica()?);
    /// for (db, ids) in [(&one, [1, 2]), (&other, [2, 1])] {
    ///     for id in ids {
    ///         let mut txn = db.write();
    ///         txn.insert(Node { id })?;
    ///         txn.commit();
    ///     }
    /// }
    /// assert_eq!(one.digests()?.first_difference(&other.digests()?), None);
    ///
    /// let mut txn = one.write();
    /// txn.insert(Node { id: 3 })?;
    /// txn.commit();
    /// assert_eq!(one.digests()?.first_difference(&other.digests()?), Some("nodes"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn keep_digests(mut self) -> Self {
        self.keeps_digests = true;
        self
    }

    /// Begins on this line of revisions; see [`Incarnation`]. A database that is loaded from a file
    /// is on that of the file, unless [`LoadOptions::incarnation`] says otherwise.
    #[must_use]
    pub fn incarnation(mut self, incarnation: Incarnation) -> Self {
        self.incarnation = incarnation;
        self
    }

    /// Calls `report` when a commit finds that somebody holds a version that is more than so many
    /// revisions behind, once for each such version, on the thread of the commit and after it has
    /// given the right to write back. The snapshot goes on; what it keeps is in [`Db::memory`].
    #[must_use]
    pub fn report_old_snapshots(
        mut self,
        revisions: u64,
        report: impl Fn(OldSnapshot) + Send + Sync + 'static,
    ) -> Self {
        self.options.age = Some(AgeLimit::new(revisions, report));
        self
    }

    /// As [`keep_changes`](Builder::keep_changes), only while a feed is open.
    #[must_use]
    pub fn feed_limits(mut self, commits: usize, bytes: usize) -> Self {
        self.options.feeds = FeedLimits { commits, bytes, is_kept: false };
        self
    }

    /// Checks the schema and makes the empty database.
    ///
    /// # Errors
    ///
    /// [`SchemaError`] when names repeat or are malformed, or a limit is exceeded.
    pub fn build(self) -> Result<Db, SchemaError> {
        let incarnation = self.incarnation;
        let (schema, options) = self.into_parts()?;
        let first = Root::first(Contents::empty(schema));
        Ok(Db::with_root(first.in_incarnation(incarnation), options))
    }

    /// Checks the schema and makes a database with the content of a snapshot file.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`] with the byte offset, table and row, or with the [`SchemaError`].
    pub fn load<R: io::Read>(self, source: R) -> Result<Db, SnapshotError> {
        self.load_with(source, LoadOptions::new())
    }

    /// As [`load`](Builder::load), decrypted, limited, told of and cancelled as `options` say.
    ///
    /// # Errors
    ///
    /// As [`load`](Builder::load), and [`SnapshotError::Cancelled`].
    pub fn load_with<R: io::Read>(
        self,
        source: R,
        options: LoadOptions<'_>,
    ) -> Result<Db, SnapshotError> {
        self.load_chain_with([source], options)
    }

    /// As [`load_with`](Builder::load_with), from the file at `path`.
    ///
    /// # Errors
    ///
    /// As [`load_with`](Builder::load_with), and [`SnapshotError::Disk`].
    pub fn load_path(
        self,
        path: impl AsRef<Path>,
        options: LoadOptions<'_>,
    ) -> Result<Db, SnapshotError> {
        self.load_with(snapshot::open(path.as_ref())?, options)
    }

    /// Makes a database with the content of a chain of snapshot files: a whole one, and incremental
    /// ones of which each is based on what those before it come to.
    ///
    /// Each link must name the state that the file before it says it comes to, by revision,
    /// incarnation and digest, or the state as its rows are encoded here. So a newer version of the
    /// program can load the chain when a table was added
    /// ([`LoadOptions::missing_tables_are_empty`]) or a field with a `serde` default. What a link
    /// makes of a table is held to the number of rows and the digest that it says; only where it
    /// replaces or deletes rows of a table that are encoded here in another way than in the files,
    /// the digest is trusted, and what is left are the number, the keys that it deletes, the hash
    /// of each file, and the next link. With the same types as the writer's everything is verified;
    /// [`fsmdb::offline::compact`](crate::offline::compact) verifies it without any, and makes one
    /// file of a chain that has to be migrated.
    ///
    /// # Errors
    ///
    /// As [`load`](Builder::load); [`SnapshotError::WrongBase`] at the first link that does not
    /// fit, [`SnapshotError::Empty`] without files, [`SnapshotError::OlderLink`] at a link with a
    /// table of an older version, [`SnapshotError::UnknownTable`] at one that changes a table which
    /// is carried.
    pub fn load_chain<R: io::Read>(
        self,
        sources: impl IntoIterator<Item = R>,
    ) -> Result<Db, SnapshotError> {
        self.load_chain_with(sources, LoadOptions::new())
    }

    /// As [`load_chain`](Builder::load_chain), each file read as `options` say.
    ///
    /// # Errors
    ///
    /// As [`load_chain`](Builder::load_chain).
    pub fn load_chain_with<R: io::Read>(
        self,
        sources: impl IntoIterator<Item = R>,
        options: LoadOptions<'_>,
    ) -> Result<Db, SnapshotError> {
        let (schema, kept) = self.into_parts()?;
        let root = txn::load_chain(&schema, sources, options)?;
        Ok(Db::with_root(root, kept))
    }

    /// The schema, checked, and what else was asked for.
    fn into_parts(self) -> Result<(Arc<Schema>, Options), SchemaError> {
        let Self { tables, keeps_digests, options, .. } = self;
        let tables = tables.into_iter();
        let tables = tables.map(|table| TableSchema { keeps_digest: keeps_digests, ..table });
        Ok((Arc::new(Schema::new(tables.collect())?), options))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables: Vec<_> = self.tables.iter().map(|table| &table.name).collect();
        f.debug_struct("Builder").field("tables", &tables).finish()
    }
}
