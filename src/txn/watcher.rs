//! Reads that are watched.

use std::fmt;

use super::read::{Read, Snapshot, position_of};
use crate::revision::Revision;
use crate::root::Contents;
use crate::schema::Table;
use crate::table::{ReadLog, Reading, TableReader};
use crate::watch::{Hub, Watch};

/// Reads a snapshot and notes what it is asked; given to the closure of [`Snapshot::watch`].
///
/// What counts is what was asked and seen, not more: a row or its absence by its key; of a range
/// the part that the iterator was taken through; a count, which another row in the place of one
/// does not change; whether there is anything at all. [`Row::created`](crate::Row::created),
/// [`Row::modified`](crate::Row::modified) and [`revision`](Read::revision) are not watched: they
/// change without the data.
pub struct Watcher<'a> {
    contents: &'a Contents,
    log: ReadLog,
}

impl Watcher<'_> {
    /// The table whose rows are values of `T`.
    ///
    /// # Panics
    ///
    /// When `T` is not a table of the database.
    #[must_use]
    pub fn table<T: Table>(&self) -> TableReader<'_, T> {
        let position = position_of::<T>(self.contents);
        let reading = Reading::new(&self.log, position);
        TableReader::new(self.contents.table(position), Some(reading))
    }

    /// The revision of the version that is read; it is not watched.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.contents.revision
    }
}

impl Read for Watcher<'_> {
    fn table<T: Table>(&self) -> TableReader<'_, T> {
        Watcher::table(self)
    }

    fn revision(&self) -> Revision {
        Watcher::revision(self)
    }
}

impl fmt::Debug for Watcher<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher").field("revision", &self.revision().0).finish_non_exhaustive()
    }
}

impl Snapshot {
    /// Reads by a closure and watches what it reads: the [`Watch`] ends when that is not what is
    /// there any more, and only then.
    ///
    /// The closure reads this version; a change since then ends the watch at once. So the loop
    /// below sees the newest state in the end, whatever comes between its steps. Entering the watch
    /// costs O(log n) for each question, and the version is not kept for it.
    ///
    /// ```
    /// # use fsmdb::{Db, Read, Table, Wake};
    /// # use serde::{Deserialize, Serialize};
    /// # use std::time::Duration;
    /// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    /// # #[table(name = "nodes")]
    /// # struct Node { #[key] id: u64, #[index] ready: bool }
    /// # let db = Db::builder().table::<Node>().build()?;
    /// let ready = |read: &fsmdb::Watcher<'_>| {
    ///     read.table::<Node>().index(Node::BY_READY).get(&true).count()
    /// };
    /// let (count, watch) = db.read().watch(ready);
    /// assert_eq!(count, 0);
    ///
    /// let mut txn = db.write();
    /// txn.insert(Node { id: 1, ready: false })?; // not what was asked
    /// txn.commit();
    /// assert_eq!(watch.wait(Duration::from_millis(1)), None);
    ///
    /// let mut txn = db.write();
    /// txn.insert(Node { id: 2, ready: true })?;
    /// txn.commit();
    /// assert_eq!(watch.wait(None), Some(Wake::Changed));
    ///
    /// let (count, _watch) = db.read().watch(ready); // again, without a gap
    /// assert_eq!(count, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn watch<A>(&self, read: impl FnOnce(&Watcher<'_>) -> A) -> (A, Watch) {
        let watcher = Watcher { contents: self.root().contents(), log: ReadLog::default() };
        let answer = read(&watcher);
        let questions = watcher.log.take_questions();
        let hub = self.root().contents().schema.home::<Hub>();
        (answer, Watch::new(hub, self.root(), questions))
    }
}
