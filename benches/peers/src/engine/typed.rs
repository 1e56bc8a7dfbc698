//! fsmdb, through its public typed interface.

use ::fsmdb::{Db, Snapshot};

use super::{Engine, Triple, View, visit_all};
use crate::row::{IndexedRow, Key, Row, Write};

/// A database with one table that has its primary index alone.
pub(crate) struct Fsmdb(Db);

impl Fsmdb {
    /// Makes a table of sorted rows.
    fn bulk(writes: &[Write]) -> Self {
        let engine = Self::empty();
        let mut txn = engine.0.write();
        txn.table_mut().insert_all(writes.iter().map(Row::new)).expect("the keys are free");
        txn.commit();
        engine
    }
}

impl Engine for Fsmdb {
    const ROW_BYTES: usize = size_of::<::fsmdb::Row<Row>>();

    type View<'a> = Snapshot;
    type Triple = FsmdbTriple;

    fn empty() -> Self {
        Self(Db::builder().table::<Row>().build().expect("the schema is sound"))
    }

    fn view(&self) -> Snapshot {
        self.0.read()
    }

    fn upsert(&self, write: &Write) {
        let mut txn = self.0.write();
        txn.upsert(Row::new(write)).expect("there is no unique index");
        txn.commit();
    }

    fn insert(&self, write: &Write) {
        let mut txn = self.0.write();
        txn.insert(Row::new(write)).expect("the key is free");
        txn.commit();
    }

    fn delete(&self, key: &Key) -> bool {
        let mut txn = self.0.write();
        let found = txn.table_mut::<Row>().delete(key).is_some();
        txn.commit();
        found
    }

    fn upsert_all(&self, writes: &[Write]) {
        let mut txn = self.0.write();
        let mut table = txn.table_mut::<Row>();
        for write in writes {
            table.upsert(Row::new(write)).expect("there is no unique index");
        }
        txn.commit();
    }

    fn load_sorted(writes: &[Write]) -> Self {
        Self::bulk(writes)
    }

    fn fork(view: &Snapshot, writes: &[Write]) -> bool {
        let mut fork = view.fork();
        let rows = writes.iter().map(Row::new);
        fork.table_mut::<Row>().upsert_all(rows).expect("there is no unique index");
        true
    }
}

impl View for Snapshot {
    fn len(&self) -> usize {
        self.table::<Row>().len()
    }

    fn get_each(&self, keys: &[Key]) -> u64 {
        let rows = self.table::<Row>();
        keys.iter().fold(0, |sum, key| sum.wrapping_add(rows.get(key).map_or(0, |row| row.touch())))
    }

    fn get_many(&self, keys: &[Key]) -> u64 {
        let rows = self.table::<Row>().get_many(keys);
        rows.into_iter().flatten().fold(0, |sum, row| sum.wrapping_add(row.touch()))
    }

    fn range(&self, from: &Key, rows: usize) -> u64 {
        let range = self.table::<Row>().range(*from..).take(rows);
        range.fold(0, |sum, row| sum.wrapping_add(row.touch()))
    }

    fn range_back(&self, from: &Key, rows: usize) -> u64 {
        let range = self.table::<Row>().range(..=*from).rev().take(rows);
        range.fold(0, |sum, row| sum.wrapping_add(row.touch()))
    }

    fn scan(&self) -> usize {
        let (mut rows, mut sum) = (self.table::<Row>().iter(), 0_usize);
        while let Some(slice) = rows.next_slice() {
            sum = sum.wrapping_add(visit_all(slice.iter().copied()));
        }
        sum
    }

    fn scan_rows(&self) -> u64 {
        self.table::<Row>().iter().fold(0, |sum, row| sum.wrapping_add(row.touch()))
    }

    fn ids(&self) -> Vec<Key> {
        self.table::<Row>().iter().map(|row| row.id).collect()
    }
}

/// A database with one table that has three indexes.
pub(crate) struct FsmdbTriple(Db);

impl Triple for FsmdbTriple {
    fn empty() -> Self {
        Self(Db::builder().table::<IndexedRow>().build().expect("the schema is sound"))
    }

    fn upsert(&self, write: &Write) {
        let mut txn = self.0.write();
        txn.upsert(IndexedRow::new(write)).expect("there is no unique index");
        txn.commit();
    }

    fn upsert_all(&self, writes: &[Write]) {
        let mut txn = self.0.write();
        let mut table = txn.table_mut::<IndexedRow>();
        for write in writes {
            table.upsert(IndexedRow::new(write)).expect("there is no unique index");
        }
        txn.commit();
    }

    fn counts(&self) -> [usize; 3] {
        let view = self.0.read();
        let rows = view.table::<IndexedRow>();
        let node = rows.index(IndexedRow::BY_NODE).len();
        [rows.len(), node, rows.index(IndexedRow::BY_STATUS).len()]
    }

    fn with_status(&self, status: u64) -> usize {
        self.0.read().table::<IndexedRow>().index(IndexedRow::BY_STATUS).get(&status).count()
    }
}
