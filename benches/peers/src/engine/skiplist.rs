//! crossbeam-skiplist: a concurrent map without snapshots; every view is the live map.

use std::sync::Arc;

use crossbeam_skiplist::SkipMap;

use super::{Engine, Triple, View};
use crate::row::{Key, Row, Write, entry};

/// One concurrent map.
pub(crate) struct Skiplist(SkipMap<Key, Arc<Row>>);

impl Engine for Skiplist {
    const SNAPSHOTS: bool = false;

    type View<'a> = &'a SkipMap<Key, Arc<Row>>;
    type Triple = SkiplistTriple;

    fn empty() -> Self {
        Self(SkipMap::new())
    }

    fn view(&self) -> Self::View<'_> {
        &self.0
    }

    fn upsert(&self, write: &Write) {
        self.0.insert(write.id, Arc::new(Row::new(write)));
    }

    fn delete(&self, key: &Key) -> bool {
        self.0.remove(key).is_some()
    }

    fn upsert_all(&self, writes: &[Write]) {
        writes.iter().for_each(|write| self.upsert(write));
    }
}

impl View for &SkipMap<Key, Arc<Row>> {
    fn len(&self) -> usize {
        SkipMap::len(self)
    }

    fn get_each(&self, keys: &[Key]) -> u64 {
        keys.iter().fold(0, |sum, key| {
            sum.wrapping_add(self.get(key).map_or(0, |entry| entry.value().touch()))
        })
    }

    fn range(&self, from: &Key, rows: usize) -> u64 {
        let range = SkipMap::range(self, *from..).take(rows);
        range.fold(0, |sum, entry| sum.wrapping_add(entry.value().touch()))
    }

    fn range_back(&self, from: &Key, rows: usize) -> u64 {
        let range = SkipMap::range(self, ..=*from).rev().take(rows);
        range.fold(0, |sum, entry| sum.wrapping_add(entry.value().touch()))
    }

    fn scan(&self) -> usize {
        let address = |row: &Arc<Row>| Arc::as_ptr(row).addr();
        self.iter().fold(0, |sum, entry| sum.wrapping_add(address(entry.value())))
    }

    fn scan_rows(&self) -> u64 {
        self.iter().fold(0, |sum, entry| sum.wrapping_add(entry.value().touch()))
    }

    fn ids(&self) -> Vec<Key> {
        self.iter().map(|entry| entry.value().id).collect()
    }
}

/// Three concurrent maps; nothing makes their changes one.
pub(crate) struct SkiplistTriple {
    id: SkipMap<Key, Arc<Row>>,
    node: SkipMap<[u8; 24], Arc<Row>>,
    status: SkipMap<[u8; 24], Arc<Row>>,
}

impl Triple for SkiplistTriple {
    fn empty() -> Self {
        Self { id: SkipMap::new(), node: SkipMap::new(), status: SkipMap::new() }
    }

    fn upsert(&self, write: &Write) {
        let row = Arc::new(Row::new(write));
        if let Some(before) = self.id.get(&write.id) {
            let before = before.value();
            if before.node != row.node {
                self.node.remove(&entry(before.node, &write.id));
            }
            if before.status != row.status {
                self.status.remove(&entry(before.status, &write.id));
            }
        }
        self.id.insert(write.id, Arc::clone(&row));
        self.node.insert(entry(write.node, &write.id), Arc::clone(&row));
        self.status.insert(entry(write.status, &write.id), row);
    }

    fn upsert_all(&self, writes: &[Write]) {
        writes.iter().for_each(|write| self.upsert(write));
    }

    fn counts(&self) -> [usize; 3] {
        [self.id.len(), self.node.len(), self.status.len()]
    }

    fn with_status(&self, status: u64) -> usize {
        let rows = self.status.range(entry(status, &Key::default())..);
        rows.take_while(|entry| entry.value().status == status).count()
    }
}
