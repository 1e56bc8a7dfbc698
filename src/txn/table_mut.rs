//! The typed statements of a write transaction on one table.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::savepoint::Savepoint;
use super::write::WriteTxn;
use crate::error::Error;
use crate::key::{AsKey, AsPrefix, KeyBuf, KeyRange, encode};
use crate::schema::{Cardinality, Index, Table};
use crate::table::{KeyedRows, Mode, Rows, TableReader, TableState};
use crate::tree::{KeptRow, NewRow, Place, Row, RowMeta, RowRef, SharedRow};

/// One table of a write transaction, from [`WriteTxn::table_mut`].
///
/// Each statement costs O(log n) for the row and for each index, and either happens or leaves the
/// transaction exactly as it was, also when a function of the schema panics.
pub struct TableMut<'txn, 'db, T> {
    txn: &'txn mut WriteTxn<'db>,
    position: usize,
    marker: PhantomData<fn() -> T>,
}

impl<'txn, 'db, T: Table> TableMut<'txn, 'db, T> {
    pub(super) fn new(txn: &'txn mut WriteTxn<'db>, position: usize) -> Self {
        Self { txn, position, marker: PhantomData }
    }

    /// The table as it is now, for reading.
    #[must_use]
    pub fn read(&self) -> TableReader<'_, T> {
        TableReader::new(self.state(), None)
    }

    /// Inserts `row`, whose primary key must be free, and returns its handle.
    ///
    /// # Errors
    ///
    /// [`Error::KeyExists`], [`Error::Taken`], [`Error::KeyTooLong`] or
    /// [`Error::TooManyEntries`]; nothing has changed then.
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
        if self.state().len() > 0 {
            let before = self.txn.savepoint();
            let mut undo = Undo { txn: &mut *self.txn, before: &before, is_done: false };
            let mut table = TableMut::<T>::new(&mut *undo.txn, self.position);
            let mut count = 0;
            for row in rows {
                table.put(row, Mode::Insert)?;
                count += 1;
            }
            undo.is_done = true;
            return Ok(count);
        }
        let revision = self.txn.revision();
        let meta = RowMeta { created: revision, modified: revision };
        let rows = rows.into_iter();
        let (mut keyed, mut key) = (KeyedRows::with_room_for(rows.size_hint().0), KeyBuf::new());
        for row in rows {
            key.clear();
            row.encode_primary_key(&mut key);
            keyed.push(&key, NewRow::new(meta, row));
        }
        let schema = Arc::clone(self.state().schema());
        if let Some(key) = keyed.sort() {
            let (table, key) = (schema.name.to_string(), schema.print_key(key));
            return Err(Error::KeyExists { table, key });
        }
        let count = keyed.len();
        if count == 0 {
            return Ok(0);
        }
        let (contents, writer, log) = self.txn.parts();
        let table = TableState::from_rows(writer, schema, keyed, revision)?;
        log.push_fill(self.position, count);
        contents.set_table(self.position, table);
        Ok(count)
    }

    /// Inserts `row`, or replaces the row with its primary key and returns that one.
    ///
    /// A replaced row keeps its created revision.
    ///
    /// # Errors
    ///
    /// [`Error::Taken`], [`Error::KeyTooLong`] or [`Error::TooManyEntries`]; nothing has changed
    /// then.
    pub fn upsert(&mut self, row: T) -> Result<Option<SharedRow<T>>, Error> {
        let (_, before) = self.put(row, Mode::Upsert)?;
        Ok(before.map(|before| before.borrow().typed::<T>().share()))
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
        let state = self.state();
        let schema = state.schema();
        let Some(before) = state.typed_rows::<T>().get(&key) else {
            let (table, key) = (schema.name.to_string(), schema.print_key(&key));
            return Err(Error::NotFound { table, key });
        };
        let mut value = before.value().clone();
        change(&mut value);
        let mut changed = KeyBuf::new();
        value.encode_primary_key(&mut changed);
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
        let row = self.remove(&encode(key))?;
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

    /// Deletes the rows for which `keep` says no, met in the order of their primary keys, and
    /// returns how many there were.
    pub fn retain(&mut self, mut keep: impl FnMut(&Row<T>) -> bool) -> usize {
        self.delete_where(|table| table.iter(), |row| !keep(row))
    }

    /// One index of the table, to delete by its values.
    pub fn index<K, C>(&mut self, index: Index<T, K, C>) -> IndexMut<'_, 'txn, 'db, T, K, C> {
        IndexMut { table: self, index }
    }

    fn state(&self) -> &TableState {
        self.txn.contents().table(self.position)
    }

    fn ready(&mut self, place: &mut Place) {
        let (contents, writer, _) = self.txn.parts();
        contents.table_mut(self.position).ready(writer, place);
    }

    /// Puts a row and gives it and the one that it replaced.
    fn put(&mut self, value: T, mode: Mode) -> Result<(KeptRow, Option<KeptRow>), Error> {
        let revision = self.txn.revision();
        let mut key = KeyBuf::new();
        value.encode_primary_key(&mut key);
        let mut place = Place::default();
        self.state().claim(&key, mode, &mut place)?;
        self.ready(&mut place);
        let before = self.state().row_at(&place);
        let created = before.map_or(revision, |before| before.meta().created);
        let row = NewRow::new(RowMeta { created, modified: revision }, value);
        let mut planner = self.txn.writer.take_scratch();
        self.state().plan_put(&mut planner, &place, &key, row.borrow())?;

        let kept = row.borrow().keep();
        let (contents, writer, log) = self.txn.parts();
        let table = contents.table_mut(self.position);
        let before = table.row_at(&place).map(RowRef::keep);
        table.put(writer, &planner, &place, &key, row, revision);
        log.push(self.position, &key, before);
        writer.put_scratch(planner);
        Ok((kept, before))
    }

    /// Takes a row out and gives it.
    fn remove(&mut self, key: &[u8]) -> Option<KeptRow> {
        let revision = self.txn.revision();
        let mut place = Place::default();
        self.state().find(key, &mut place);
        self.state().row_at(&place)?;
        self.ready(&mut place);
        let mut planner = self.txn.writer.take_scratch();
        self.state().plan_delete(&mut planner, &place, key);

        let (contents, writer, log) = self.txn.parts();
        let table = contents.table_mut(self.position);
        let before = table.row_at(&place).map(RowRef::keep);
        table.delete(writer, &planner, &place, revision);
        log.push(self.position, key, before);
        writer.put_scratch(planner);
        before
    }

    /// Deletes the rows that `select` finds and `doomed` agrees to.
    ///
    /// It reads the table as it was at a savepoint, and goes back to that if a function of the
    /// schema panics, so that the statement leaves the transaction as it was.
    fn delete_where(
        &mut self,
        select: impl for<'a> FnOnce(TableReader<'a, T>) -> Rows<'a, T>,
        mut doomed: impl FnMut(&Row<T>) -> bool,
    ) -> usize {
        let before = self.txn.savepoint();
        let mut undo = Undo { txn: &mut *self.txn, before: &before, is_done: false };
        let mut table = TableMut::<T>::new(&mut *undo.txn, self.position);
        let view = TableReader::new(before.contents.table(self.position), None);
        let mut count = 0;
        for row in select(view).filter(|row| doomed(row)) {
            let mut key = KeyBuf::new();
            row.value().encode_primary_key(&mut key);
            // A multi-valued index can show a row twice; the second time it is gone.
            count += usize::from(table.remove(&key).is_some());
        }
        undo.is_done = true;
        count
    }
}

/// Goes back to a savepoint unless what began after it is done.
struct Undo<'a, 'db> {
    txn: &'a mut WriteTxn<'db>,
    before: &'a Savepoint,
    is_done: bool,
}

impl Drop for Undo<'_, '_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.txn.rollback_to(self.before);
        }
    }
}

/// One index of a table of a write transaction, from [`TableMut::index`].
pub struct IndexMut<'table, 'txn, 'db, T, K, C> {
    table: &'table mut TableMut<'txn, 'db, T>,
    index: Index<T, K, C>,
}

impl<T: Table, K, C: Cardinality> IndexMut<'_, '_, '_, T, K, C> {
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

impl<T: Table> fmt::Debug for TableMut<'_, '_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableMut").field("table", &T::NAME).finish_non_exhaustive()
    }
}

impl<T: Table, K, C> fmt::Debug for IndexMut<'_, '_, '_, T, K, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexMut").field("index", &self.index).finish_non_exhaustive()
    }
}
