//! The typed view of one table in one version.

use std::fmt;
use std::ops::Bound;

use super::index::IndexReader;
use super::lookup::{get_many, read_longest_prefix, read_nth};
use super::question::Aspect;
use super::reading::Reading;
use super::rows::Rows;
use super::state::{TableState, as_bytes};
use crate::key::{AsKey, AsPrefix, KeyBuf, KeyRange, TextKey, bounds_under, encode};
use crate::revision::Revision;
use crate::schema::{Cardinality, Index, Table};
use crate::tree::{Row, TypedTree};

/// Reads one table of a snapshot or transaction. Nothing here can fail or block.
///
/// Keys may be given in any form that encodes like the key type: `&str` for a `String`, a tuple of
/// references for a tuple.
///
/// ```
/// # use fsmdb::{Db, Table};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
/// # #[table(name = "nodes")]
/// # struct Node { #[key] id: u64, #[index] zone: String }
/// # let db = Db::builder().table::<Node>().build()?;
/// # let mut txn = db.write();
/// for (id, zone) in [(1, "east"), (2, "west"), (3, "east")] {
///     txn.insert(Node { id, zone: zone.into() })?;
/// }
/// # txn.commit();
/// let snap = db.read();
/// let nodes = snap.table::<Node>();
/// assert_eq!(nodes.len(), 3);
/// assert_eq!(nodes.range(2..).map(|node| node.id).collect::<Vec<_>>(), [2, 3]);
/// assert_eq!(nodes.index(Node::BY_ZONE).get("east").rev().next().unwrap().id, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TableReader<'a, T> {
    state: &'a TableState,
    rows: TypedTree<'a, T>,
    /// Where it notes what it is asked, when that is watched.
    reading: Option<Reading<'a>>,
}

impl<'a, T: Table> TableReader<'a, T> {
    pub(crate) fn new(state: &'a TableState, reading: Option<Reading<'a>>) -> Self {
        Self { state, rows: state.typed_rows(), reading }
    }

    /// The rows between two bounds, whose iteration is noted if the reader notes.
    #[inline]
    fn rows(&self, low: Bound<KeyBuf>, high: Bound<KeyBuf>) -> Rows<'a, T> {
        let entries = self.rows.range(as_bytes(&low), as_bytes(&high));
        let reading = self.reading;
        Rows::new(entries, reading.map(|r| r.follow(None, self.rows.erased(), (low, high), None)))
    }

    #[inline]
    fn note(&self, low: Bound<&[u8]>, high: Bound<&[u8]>, aspect: Aspect) {
        if let Some(reading) = self.reading {
            reading.span(None, (low, high), aspect);
        }
    }

    /// The row with the primary key `key`, O(log n).
    #[must_use]
    pub fn get<Q: AsKey<T::Key> + ?Sized>(&self, key: &Q) -> Option<&'a Row<T>> {
        let mut encoded = KeyBuf::new();
        key.encode_key(&mut encoded);
        if let Some(reading) = self.reading {
            reading.key(None, &encoded, Aspect::Rows);
        }
        self.rows.get(&encoded)
    }

    /// Whether there is a row with the primary key `key`, O(log n).
    #[must_use]
    pub fn contains<Q: AsKey<T::Key> + ?Sized>(&self, key: &Q) -> bool {
        let key = encode(key);
        if let Some(reading) = self.reading {
            reading.key(None, &key, Aspect::Any);
        }
        self.rows.get(&key).is_some()
    }

    /// The number of rows, O(1).
    #[must_use]
    pub fn len(&self) -> usize {
        self.note(Bound::Unbounded, Bound::Unbounded, Aspect::Count);
        self.state.len()
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.note(Bound::Unbounded, Bound::Unbounded, Aspect::Any);
        self.state.len() == 0
    }

    /// All rows in the order of their primary keys.
    #[must_use]
    pub fn iter(&self) -> Rows<'a, T> {
        self.rows(Bound::Unbounded, Bound::Unbounded)
    }

    /// The row with the lowest primary key.
    #[must_use]
    pub fn first(&self) -> Option<&'a Row<T>> {
        self.iter().next()
    }

    /// The row with the highest primary key.
    #[must_use]
    pub fn last(&self) -> Option<&'a Row<T>> {
        self.iter().next_back()
    }

    /// The rows whose primary keys lie in `range`, in order. Crossed bounds give no rows.
    #[must_use]
    pub fn range<R: KeyRange<T::Key>>(&self, range: R) -> Rows<'a, T> {
        let (low, high) = range.encode_bounds();
        self.rows(low, high)
    }

    /// The number of rows whose primary keys lie in `range`, O(log n).
    #[must_use]
    pub fn count<R: KeyRange<T::Key>>(&self, range: R) -> usize {
        let (low, high) = range.encode_bounds();
        self.note(as_bytes(&low), as_bytes(&high), Aspect::Count);
        self.rows.count(as_bytes(&low), as_bytes(&high))
    }

    /// The number of rows whose primary keys are below `key`, O(log n).
    #[must_use]
    pub fn rank<Q: AsKey<T::Key> + ?Sized>(&self, key: &Q) -> usize {
        let key = encode(key);
        self.note(Bound::Unbounded, Bound::Excluded(&key), Aspect::Count);
        self.rows.erased().rank(Bound::Included(key.as_slice()), true)
    }

    /// The row with `index` others before it among those whose primary keys lie in `range`,
    /// O(log n); `nth(.., 0)` is the first of all.
    #[must_use]
    pub fn nth<R: KeyRange<T::Key>>(&self, range: R, index: usize) -> Option<&'a Row<T>> {
        let (low, high) = range.encode_bounds();
        read_nth(self.rows, (as_bytes(&low), as_bytes(&high)), index, self.reading, None)
    }

    /// The row whose primary key is the longest that `key` starts with, `key` itself included:
    /// the mount point of a path. O(log n) for each stored key that only begins like it.
    ///
    /// ```
    /// # use fsmdb::{Db, Table};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    /// # #[table(name = "mounts")]
    /// # struct Mount { #[key] path: String }
    /// # let db = Db::builder().table::<Mount>().build()?;
    /// # let mut txn = db.write();
    /// for path in ["/", "/var", "/var/lib/db"] {
    ///     txn.insert(Mount { path: path.into() })?;
    /// }
    /// # txn.commit();
    /// let snap = db.read();
    /// let mount = snap.table::<Mount>().longest_prefix("/var/lib/app").unwrap();
    /// assert_eq!(mount.path, "/var");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn longest_prefix<Q: AsKey<T::Key> + ?Sized>(&self, key: &Q) -> Option<&'a Row<T>>
    where
        T::Key: TextKey,
    {
        read_longest_prefix(self.rows, encode(key), self.reading, None)
    }

    /// The rows with the primary keys `keys`, each in the place of its key.
    ///
    /// Faster than as many times [`get`](TableReader::get): the keys go down the tree in groups, so
    /// that their cache misses overlap.
    #[must_use]
    pub fn get_many<Q: AsKey<T::Key>>(&self, keys: &[Q]) -> Vec<Option<&'a Row<T>>> {
        get_many(self.rows, keys, self.reading, None)
    }

    /// The rows whose primary keys begin with the components of `prefix`: `&("prod",)`, or with a
    /// string that is named as one: `&StartsWith("web-")`.
    ///
    /// A component matches whole: `("a",)` never finds `("ab", 1)`.
    #[must_use]
    pub fn prefix<P: AsPrefix<T::Key> + ?Sized>(&self, prefix: &P) -> Rows<'a, T> {
        let (low, high) = bounds_under(prefix);
        self.rows(low, high)
    }

    /// The view of one index: `jobs.index(Job::BY_STATUS)`.
    #[must_use]
    pub fn index<K, C: Cardinality>(&self, index: Index<T, K, C>) -> IndexReader<'a, T, K, C> {
        IndexReader::new(self.state, index, self.reading)
    }

    /// The revision of the last commit that put the row with the primary key `key`, changed or
    /// deleted it: `modified_under` for one key.
    #[must_use]
    pub fn modified_of<Q: AsKey<T::Key> + ?Sized>(&self, key: &Q) -> Revision {
        let key = encode(key);
        if let Some(reading) = self.reading {
            reading.modified_key(&key, self.state.schema());
        }
        let bound = Bound::Included(key.as_slice());
        self.state.modified_within(None, (bound, bound))
    }

    /// The revision of the last commit that put, changed or deleted a row whose primary key lies in
    /// `range`: `modified_under` for a range.
    #[must_use]
    pub fn modified_in<R: KeyRange<T::Key>>(&self, range: R) -> Revision {
        let (low, high) = range.encode_bounds();
        self.modified_within(as_bytes(&low), as_bytes(&high))
    }

    /// The revision of the last commit that put, changed or deleted a row whose primary key begins
    /// with the components of `prefix`; it never decreases within one history, also across deletes,
    /// saving and loading. What a blocking query compares with the revision that its client has
    /// seen.
    ///
    /// It is exact as long as the table remembers what was removed since
    /// ([`Table::TOMBSTONES`](crate::Table::TOMBSTONES)), and otherwise not below the last removal
    /// that it has forgotten: never too low. Of a table without tombstones it is
    /// [`modified`](TableReader::modified). In an open transaction what came and went counts, after
    /// its commit it does not.
    ///
    /// O(log n), the tombstones of the range, and the nodes of the range from which something was
    /// taken since; after a restore O(rows of the range), until one of them is written. A
    /// [watch](crate::Snapshot::watch) on it ends when something of the range is put, changed or
    /// deleted; that the table forgets ends none. An optimistic transaction that asks conflicts
    /// with every commit that changes the table.
    ///
    /// ```
    /// # use fsmdb::{Db, StartsWith, Table};
    /// # use serde::{Deserialize, Serialize};
    /// #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    /// #[table(name = "entries", tombstones = 4096)]
    /// struct Entry { #[key] path: String, #[index] owner: u64 }
    ///
    /// # let db = Db::builder().table::<Entry>().build()?;
    /// let mut txn = db.write();
    /// txn.insert(Entry { path: "web/a".into(), owner: 1 })?;
    /// txn.insert(Entry { path: "db/a".into(), owner: 2 })?;
    /// let first = txn.commit();
    ///
    /// let mut txn = db.write();
    /// txn.table_mut::<Entry>().delete("web/a");
    /// let second = txn.commit();
    ///
    /// let snap = db.read();
    /// let entries = snap.table::<Entry>();
    /// assert_eq!(entries.modified_under(&StartsWith("web/")), second);
    /// assert_eq!(entries.modified_under(&StartsWith("db/")), first);
    /// assert_eq!(entries.index(Entry::BY_OWNER).modified_of(&1), second);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn modified_under<P: AsPrefix<T::Key> + ?Sized>(&self, prefix: &P) -> Revision {
        let (low, high) = bounds_under(prefix);
        self.modified_within(as_bytes(&low), as_bytes(&high))
    }

    fn modified_within(&self, low: Bound<&[u8]>, high: Bound<&[u8]>) -> Revision {
        if let Some(reading) = self.reading {
            reading.modified(None, (low, high), self.state.schema());
        }
        self.state.modified_within(None, (low, high))
    }

    /// The revision of the last commit that changed this table, deletes included; it never
    /// decreases.
    #[must_use]
    pub fn modified(&self) -> Revision {
        self.note(Bound::Unbounded, Bound::Unbounded, Aspect::Modified);
        self.state.modified()
    }
}

impl<T> Clone for TableReader<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for TableReader<'_, T> {}

impl<'a, T: Table> IntoIterator for TableReader<'a, T> {
    type Item = &'a Row<T>;
    type IntoIter = Rows<'a, T>;

    fn into_iter(self) -> Rows<'a, T> {
        self.iter()
    }
}

impl<T> fmt::Debug for TableReader<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (table, rows) = (&self.state.schema().name, self.state.len());
        f.debug_struct("TableReader").field("table", table).field("rows", &rows).finish()
    }
}
