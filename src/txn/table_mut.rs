//! The typed statements of a write transaction or fork on one table.

use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;

use super::draft::{Draft, Write, key_of};
use crate::error::Error;
use crate::key::{AsKey, AsPrefix, KeyBuf, KeyRange, encode};
use crate::root::Contents;
use crate::schema::{Cardinality, Index, Table};
use crate::table::{KeyedRows, Mode, Reading, Rows, TableReader, TableState};
use crate::tree::{KeptRow, NewRow, Row, RowMeta, Session, SharedRow};

/// One table of a [`WriteTxn`](crate::WriteTxn) or [`Fork`](crate::Fork), `D`, from
/// [`Write::table_mut`].
///
/// Each statement costs O(log n) for the row and for each index, and either happens or leaves the
/// transaction exactly as it was, also when a function of the schema panics.
pub struct TableMut<'txn, T, D> {
    txn: &'txn mut D,
    position: usize,
    marker: PhantomData<fn() -> T>,
}

impl<'txn, T: Table, D: Write> TableMut<'txn, T, D> {
    pub(super) fn new(txn: &'txn mut D, position: usize) -> Self {
        Self { txn, position, marker: PhantomData }
    }

    /// The table as it is now, for reading.
    #[must_use]
    pub fn read(&self) -> TableReader<'_, T> {
        TableReader::new(self.state(), self.txn.draft().reading(self.position))
    }

    /// Inserts `row`, whose primary key must be free, and returns its handle.
    ///
    /// # Errors
    ///
    /// [`Error::KeyExists`], [`Error::Taken`], [`Error::KeyTooLong`] or [`Error::TooManyEntries`];
    /// where digests are kept ([`Builder::keep_digests`](crate::Builder::keep_digests)),
    /// [`Error::RowEncode`] or [`Error::RowTooLarge`]. Nothing has changed then.
    pub fn insert(&mut self, row: T) -> Result<SharedRow<T>, Error> {
        let (row, _) = self.put(row, Mode::Insert)?;
        Ok(row.borrow().typed::<T>().share())
    }

    /// Inserts many rows, all or none, and returns how many.
    ///
    /// Into an empty table this is several times faster than one by one: keys and index entries
    /// are sorted (rows that come in the order of their keys need no sorting) and each tree is
    /// built from below, which also packs it tighter.
    ///
    /// ```
    /// # use fsmdb::{Db, Table};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    /// # #[table(name = "nodes")]
    /// # struct Node { #[key] id: u64 }
    /// # let db = Db::builder().table::<Node>().build()?;
    /// let mut txn = db.write();
    /// let count = txn.table_mut::<Node>().insert_all((0..1000).map(|id| Node { id }))?;
    /// assert_eq!(count, 1000);
    /// txn.commit();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`insert`](TableMut::insert), for a row that is refused; nothing has changed then.
    pub fn insert_all(&mut self, rows: impl IntoIterator<Item = T>) -> Result<usize, Error> {
        let (position, draft) = (self.position, self.txn.draft_mut());
        let meta = RowMeta { created: draft.revision, modified: draft.revision };
        if draft.contents().table(position).len() > 0 {
            let rows = rows.into_iter().map(|row| (key_of(&row), NewRow::new(meta, row)));
            return draft.all_or_none(|draft, _| draft.put_all(position, Mode::Insert, rows));
        }
        let rows = rows.into_iter();
        let mut keyed = KeyedRows::with_room_for(rows.size_hint().0);
        rows.for_each(|row| keyed.push(&key_of(&row), NewRow::new(meta, row)));
        draft.fill(position, keyed)
    }

    /// Inserts `row`, or replaces the row with its primary key and returns that one.
    ///
    /// A replaced row keeps its created revision.
    ///
    /// # Errors
    ///
    /// [`Error::Taken`], [`Error::KeyTooLong`] or [`Error::TooManyEntries`]; where digests are
    /// kept, [`Error::RowEncode`] or [`Error::RowTooLarge`]. Nothing has changed then.
    pub fn upsert(&mut self, row: T) -> Result<Option<SharedRow<T>>, Error> {
        let (_, before) = self.put(row, Mode::Upsert)?;
        Ok(before.map(|before| before.borrow().typed::<T>().share()))
    }

    /// Inserts or replaces many rows, all or none, and returns how many.
    ///
    /// Faster than one by one in a large table: where they go is looked for many at a time, so that
    /// their waits for memory overlap.
    ///
    /// ```
    /// # use fsmdb::{Db, Table};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    /// # #[table(name = "nodes")]
    /// # struct Node { #[key] id: u64 }
    /// # let db = Db::builder().table::<Node>().build()?;
    /// let mut txn = db.write();
    /// txn.insert(Node { id: 7 })?;
    /// txn.table_mut::<Node>().upsert_all((0..1000).map(|id| Node { id }))?;
    /// assert_eq!(txn.table::<Node>().len(), 1000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`upsert`](TableMut::upsert), for a row that is refused; nothing has changed then.
    pub fn upsert_all(&mut self, rows: impl IntoIterator<Item = T>) -> Result<usize, Error> {
        let (position, draft) = (self.position, self.txn.draft_mut());
        let meta = RowMeta { created: draft.revision, modified: draft.revision };
        let rows = rows.into_iter().map(|row| (key_of(&row), NewRow::new(meta, row)));
        draft.all_or_none(|draft, _| draft.put_all(position, Mode::Upsert, rows))
    }

    /// Changes the row with the primary key `key` by a closure that works on a copy.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::KeyChanged`] when the closure changed the primary key, or as
    /// [`upsert`](TableMut::upsert); nothing has changed then, also when the closure panics.
    pub fn update<Q: AsKey<T::Key> + ?Sized>(
        &mut self,
        key: &Q,
        change: impl FnOnce(&mut T),
    ) -> Result<SharedRow<T>, Error>
    where
        T: Clone,
    {
        let key = encode(key);
        self.txn.draft().note_key(self.position, &key);
        let state = self.state();
        let schema = state.schema();
        let Some(before) = state.typed_rows::<T>().get(&key) else {
            let (table, key) = (schema.name.to_string(), schema.print_key(&key));
            return Err(Error::NotFound { table, key });
        };
        let mut value = before.value().clone();
        change(&mut value);
        let changed = key_of(&value);
        if changed != key {
            return Err(Error::KeyChanged {
                table: schema.name.to_string(),
                key: schema.print_key(&key),
                changed: schema.print_key(&changed),
            });
        }
        let (row, _) = self.put(value, Mode::Upsert)?;
        Ok(row.borrow().typed::<T>().share())
    }

    /// Deletes the row with the primary key `key` and returns it.
    pub fn delete<Q: AsKey<T::Key> + ?Sized>(&mut self, key: &Q) -> Option<SharedRow<T>> {
        let row = self.txn.draft_mut().remove(self.position, &encode(key))?;
        Some(row.borrow().typed::<T>().share())
    }

    /// Deletes the rows whose primary keys lie in `range` and returns how many there were;
    /// `..` empties the table.
    pub fn delete_all<R: KeyRange<T::Key>>(&mut self, range: R) -> usize {
        self.delete_where(|table| table.range(range), |_| true)
    }

    /// Deletes the rows whose primary keys begin with `prefix`, as [`TableReader::prefix`] finds
    /// them, and returns how many there were.
    pub fn delete_prefix<P: AsPrefix<T::Key> + ?Sized>(&mut self, prefix: &P) -> usize {
        self.delete_where(|table| table.prefix(prefix), |_| true)
    }

    /// Erases the rows whose primary keys begin with `prefix`, as [`TableReader::prefix`] finds
    /// them, and returns how many there were: the rows of a tenant whose name is the first
    /// component of the key.
    ///
    /// As [`delete_prefix`](TableMut::delete_prefix), and when the transaction commits, whatever
    /// the database has kept of them goes as well, also when there were none left:
    ///
    /// - Tombstones ([`Table::TOMBSTONES`]) of keys with this prefix, and of all values of indexes,
    ///   because a value does not say whose it was. The transaction leaves none itself: what
    ///   `modified_under` and its like say of the table is not below its revision from then on, for
    ///   rows and for indexes from which it took something out.
    /// - All versions that are kept ([`Builder::keep_versions`](crate::Builder::keep_versions)).
    /// - All changes that are kept for feeds, the commit of the erasure included. Every feed is
    ///   told that it [lags](crate::Lagged).
    /// - The memory of rows that no version needs any more: this commit frees all of it, however
    ///   much it is, where others free a bounded part.
    ///
    /// What somebody holds stays: a snapshot, a fork, a handle on a row, an item of a feed. Which
    /// snapshots pin what was erased says [`Db::erased`](crate::Db::erased), or
    /// [`Db::pinned_until`](crate::Db::pinned_until) for any revision. "What erasing a tenant
    /// reaches" in ARCHITECTURE.md has the whole list.
    ///
    /// O(n log n) for the rows and entries of indexes that go, and for what was kept. The tables of
    /// a tenant are erased in one transaction:
    ///
    /// ```
    /// # use fsmdb::{Applied, Db, Fsm, Machine, Table, WriteTxn};
    /// # use serde::{Deserialize, Serialize};
    /// #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    /// #[table(name = "tenants")]
    /// struct Tenant { #[key] name: String }
    ///
    /// #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    /// #[table(name = "jobs", tombstones = 4096)]
    /// struct Job { #[key] tenant: String, #[key] id: u64, #[index] image: String }
    ///
    /// #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    /// #[table(name = "secrets")]
    /// struct Secret { #[key] tenant: String, #[key] name: String, value: Vec<u8> }
    ///
    /// /// The rows of a tenant in every table; how many they were.
    /// fn erase_tenant(txn: &mut WriteTxn<'_>, tenant: &str) -> usize {
    ///     txn.table_mut::<Job>().erase_prefix(&(tenant,))
    ///         + txn.table_mut::<Secret>().erase_prefix(&(tenant,))
    ///         + usize::from(txn.table_mut::<Tenant>().erase(tenant))
    /// }
    ///
    /// # let db = Db::builder().table::<Tenant>().table::<Job>().table::<Secret>().build()?;
    /// let mut txn = db.write();
    /// for tenant in ["acme", "umbrella"] {
    ///     txn.insert(Tenant { name: tenant.into() })?;
    ///     txn.insert(Job { tenant: tenant.into(), id: 1, image: "web".into() })?;
    ///     txn.insert(Secret { tenant: tenant.into(), name: "token".into(), value: vec![7] })?;
    /// }
    /// txn.commit();
    /// let before = db.read();
    ///
    /// let mut txn = db.write();
    /// assert_eq!(erase_tenant(&mut txn, "acme"), 3);
    /// let revision = txn.commit();
    /// assert_eq!(db.read().table::<Job>().len(), 1);
    ///
    /// // A snapshot still shows it.
    /// assert_eq!(db.pinned_until(revision), Some(before.revision()));
    /// drop(before);
    /// assert_eq!(db.pinned_until(revision), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// It runs in a state machine like any statement: replicas that apply it have the same state,
    /// byte for byte. What a node has of it in its log and snapshot files is not reached by the
    /// command: `Node::erase_history` of the crate `fsmdb-node` is called after it. Savepoints and
    /// refusals undo it. In a [`Fork`](crate::Fork) it is a trial: what a fork has erased has no
    /// [`ChangeSet`](crate::ChangeSet), and [`rebase`](crate::Fork::rebase) moves it as the deletes
    /// of the rows that it found.
    pub fn erase_prefix<P: AsPrefix<T::Key> + ?Sized>(&mut self, prefix: &P) -> usize {
        let mut encoded = KeyBuf::new();
        prefix.encode_prefix(&mut encoded);
        let rows = self.delete_prefix(prefix);
        self.txn.draft_mut().erase(self.position, encoded, rows);
        rows
    }

    /// Erases the row with the primary key `key`, as [`erase_prefix`](TableMut::erase_prefix)
    /// erases those with a prefix; whether there was one.
    pub fn erase<Q: AsKey<T::Key> + ?Sized>(&mut self, key: &Q) -> bool {
        let was_there = self.delete(key).is_some();
        // No key is a prefix of another.
        self.txn.draft_mut().erase(self.position, encode(key), usize::from(was_there));
        was_there
    }

    /// Deletes the rows for which `keep` says no, met in the order of their primary keys, and
    /// returns how many there were.
    pub fn retain(&mut self, mut keep: impl FnMut(&Row<T>) -> bool) -> usize {
        self.delete_where(|table| table.iter(), |row| !keep(row))
    }

    /// One index of the table, to delete by its values.
    pub fn index<K, C>(&mut self, index: Index<T, K, C>) -> IndexMut<'_, 'txn, T, K, C, D> {
        IndexMut { table: self, index }
    }

    fn state(&self) -> &TableState {
        self.txn.draft().contents().table(self.position)
    }

    /// Puts a row and gives it and the one that it replaced.
    fn put(&mut self, row: T, mode: Mode) -> Result<(KeptRow, Option<KeptRow>), Error> {
        put(self.txn.draft_mut(), self.position, row, mode)
    }

    /// Deletes the rows that `select` finds and `doomed` agrees to.
    ///
    /// It reads the table as it was before, and undoes what it did if a function of the schema
    /// panics, so that the statement leaves the transaction as it was.
    fn delete_where(
        &mut self,
        select: impl for<'a> FnOnce(TableReader<'a, T>) -> Rows<'a, T>,
        mut doomed: impl FnMut(&Row<T>) -> bool,
    ) -> usize {
        let position = self.position;
        let deleted = self.txn.draft_mut().all_or_none(|draft, before| {
            let reads = draft.reads.clone();
            let reading = reads.as_ref().map(|log| Reading::new(log, position));
            let view = TableReader::new(before.contents.table(position), reading);
            let mut count = 0;
            for row in select(view).filter(|row| doomed(row)) {
                // A multi-valued index can show a row twice; the second time it is gone.
                count += usize::from(draft.remove(position, &key_of(row.value())).is_some());
            }
            Ok::<_, Infallible>(count)
        });
        let Ok(count) = deleted;
        count
    }
}

/// Puts a row and gives it and the one that it replaced.
fn put<T: Table, W: Session<Contents>>(
    draft: &mut Draft<W>,
    position: usize,
    row: T,
    mode: Mode,
) -> Result<(KeptRow, Option<KeptRow>), Error> {
    let key = key_of(&row);
    draft.put(position, &key, mode, |meta| NewRow::new(meta, row))
}

/// One index of a table of a transaction or fork, from [`TableMut::index`].
pub struct IndexMut<'table, 'txn, T, K, C, D> {
    table: &'table mut TableMut<'txn, T, D>,
    index: Index<T, K, C>,
}

impl<T: Table, K, C: Cardinality, D: Write> IndexMut<'_, '_, T, K, C, D> {
    /// Deletes the rows that have `value` and returns how many there were.
    pub fn delete_all<Q: AsKey<K> + ?Sized>(&mut self, value: &Q) -> usize {
        let index = self.index;
        self.table.delete_where(|table| table.index(index).rows_of(value), |_| true)
    }

    /// Deletes the rows whose values lie in `range` and returns how many there were.
    pub fn delete_range<R: KeyRange<K>>(&mut self, range: R) -> usize {
        let index = self.index;
        self.table.delete_where(|table| table.index(index).range(range), |_| true)
    }

    /// Deletes the rows whose values begin with `prefix`, as
    /// [`IndexReader::prefix`](crate::IndexReader::prefix) finds them, and returns how many there
    /// were.
    pub fn delete_prefix<P: AsPrefix<K> + ?Sized>(&mut self, prefix: &P) -> usize {
        let index = self.index;
        self.table.delete_where(|table| table.index(index).prefix(prefix), |_| true)
    }
}

impl<T: Table, D> fmt::Debug for TableMut<'_, T, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableMut").field("table", &T::NAME).finish_non_exhaustive()
    }
}

impl<T: Table, K, C, D> fmt::Debug for IndexMut<'_, '_, T, K, C, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexMut").field("index", &self.index).finish_non_exhaustive()
    }
}
