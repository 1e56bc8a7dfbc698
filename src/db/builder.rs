//! The description of a database, before it is built.

use std::fmt;
use std::io;
use std::sync::Arc;

use super::Db;
use crate::error::SchemaError;
use crate::history::Retention;
use crate::root::{Contents, Root};
use crate::schema::{Schema, Table, TableSchema};
use crate::snapshot::{self, Progress, SnapshotError};
use crate::watch::{AgeLimit, FeedLimits, OldSnapshot, Options};

/// Describes a database: its tables, in the order in which snapshots write them.
#[derive(Default)]
pub struct Builder {
    tables: Vec<TableSchema>,
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
    /// without this, none. A restore forgets them, and so does a commit that
    /// [erases](crate::TableMut::erase_prefix).
    #[must_use]
    pub fn keep_versions(mut self, retention: Retention) -> Self {
        self.options.retention = retention;
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
        let schema = Arc::new(Schema::new(self.tables)?);
        Ok(Db::with_root(Root::first(Contents::empty(schema)), self.options))
    }

    /// Checks the schema and makes a database with the content of a snapshot file.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`] with the byte offset, table and row, or with the [`SchemaError`].
    pub fn load<R: io::Read>(self, source: R) -> Result<Db, SnapshotError> {
        self.load_with(source, |_| Progress::CONTINUE)
    }

    /// As [`load`](Builder::load), telling `progress` how far it is after each frame; it can
    /// cancel.
    ///
    /// # Errors
    ///
    /// As [`load`](Builder::load), and [`SnapshotError::Cancelled`].
    pub fn load_with<R: io::Read>(
        self,
        source: R,
        mut progress: impl FnMut(Progress<'_>) -> std::ops::ControlFlow<()>,
    ) -> Result<Db, SnapshotError> {
        let schema = Arc::new(Schema::new(self.tables)?);
        let root = snapshot::load(&schema, source, &mut progress)?;
        Ok(Db::with_root(root, self.options))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables: Vec<_> = self.tables.iter().map(|table| &table.name).collect();
        f.debug_struct("Builder").field("tables", &tables).finish()
    }
}
