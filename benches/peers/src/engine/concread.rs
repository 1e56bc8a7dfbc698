//! concread's `BptreeMap`: a copy-on-write tree with transactions of its own.

use std::sync::Arc;

use ::concread::bptree::{BptreeMap, BptreeMapReadTxn};

use super::{Engine, Triple, View, touch_all, visit_all};
use crate::row::{Key, Row, Write, entry};

/// One tree; a view is a read transaction.
pub(crate) struct Concread(BptreeMap<Key, Arc<Row>>);

impl Engine for Concread {
    type View<'a> = BptreeMapReadTxn<'a, Key, Arc<Row>>;
    type Triple = ConcreadTriple;

    fn empty() -> Self {
        Self(BptreeMap::new())
    }

    fn view(&self) -> Self::View<'_> {
        self.0.read()
    }

    fn upsert(&self, write: &Write) {
        let mut txn = self.0.write();
        txn.insert(write.id, Arc::new(Row::new(write)));
        txn.commit();
    }

    fn delete(&self, key: &Key) -> bool {
        let mut txn = self.0.write();
        let found = txn.remove(key).is_some();
        txn.commit();
        found
    }

    fn upsert_all(&self, writes: &[Write]) {
        let mut txn = self.0.write();
        for write in writes {
            txn.insert(write.id, Arc::new(Row::new(write)));
        }
        txn.commit();
    }

    fn load_sorted(writes: &[Write]) -> Self {
        Self(writes.iter().map(|write| (write.id, Arc::new(Row::new(write)))).collect())
    }
}

impl View for BptreeMapReadTxn<'_, Key, Arc<Row>> {
    fn len(&self) -> usize {
        BptreeMapReadTxn::len(self)
    }

    fn get_each(&self, keys: &[Key]) -> u64 {
        keys.iter().fold(0, |sum, key| sum.wrapping_add(self.get(key).map_or(0, |row| row.touch())))
    }

    fn range(&self, from: &Key, rows: usize) -> u64 {
        touch_all(BptreeMapReadTxn::range(self, *from..).take(rows).map(|(_, row)| &**row))
    }

    fn range_back(&self, from: &Key, rows: usize) -> u64 {
        let range = BptreeMapReadTxn::range(self, ..=*from);
        touch_all(range.rev().take(rows).map(|(_, row)| &**row))
    }

    fn scan(&self) -> usize {
        visit_all(self.values().map(|row| &**row))
    }

    fn scan_rows(&self) -> u64 {
        touch_all(self.values().map(|row| &**row))
    }

    fn ids(&self) -> Vec<Key> {
        self.values().map(|row| row.id).collect()
    }
}

/// Three trees. Each commits by itself, one after the other: there is no way to publish them
/// together.
pub(crate) struct ConcreadTriple {
    id: BptreeMap<Key, Arc<Row>>,
    node: BptreeMap<[u8; 24], Arc<Row>>,
    status: BptreeMap<[u8; 24], Arc<Row>>,
}

impl Triple for ConcreadTriple {
    fn empty() -> Self {
        Self { id: BptreeMap::new(), node: BptreeMap::new(), status: BptreeMap::new() }
    }

    fn upsert(&self, write: &Write) {
        self.upsert_all(std::slice::from_ref(write));
    }

    fn upsert_all(&self, writes: &[Write]) {
        let (mut ids, mut nodes, mut statuses) =
            (self.id.write(), self.node.write(), self.status.write());
        for write in writes {
            let row = Arc::new(Row::new(write));
            if let Some(before) = ids.insert(write.id, Arc::clone(&row)) {
                if before.node != row.node {
                    nodes.remove(&entry(before.node, &write.id));
                }
                if before.status != row.status {
                    statuses.remove(&entry(before.status, &write.id));
                }
            }
            nodes.insert(entry(write.node, &write.id), Arc::clone(&row));
            statuses.insert(entry(write.status, &write.id), row);
        }
        ids.commit();
        nodes.commit();
        statuses.commit();
    }

    fn counts(&self) -> [usize; 3] {
        [self.id.read().len(), self.node.read().len(), self.status.read().len()]
    }

    fn with_status(&self, status: u64) -> usize {
        let txn = self.status.read();
        let rows = txn.range(entry(status, &Key::default())..);
        rows.take_while(|(_, row)| row.status == status).count()
    }
}
