//! The ordered maps that are values: cloned, changed, published or locked by somebody else.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use super::{View, touch_all, visit_all};
use crate::row::{Key, Row, Write, entry};

/// An ordered map from inline keys of `L` bytes to rows.
pub(crate) trait OrderedMap<const L: usize>:
    Clone + Default + Send + Sync + 'static
{
    fn len(&self) -> usize;

    fn insert(&mut self, key: [u8; L], row: Arc<Row>);

    /// Inserts and hands back what was there.
    fn replace(&mut self, key: [u8; L], row: Arc<Row>) -> Option<Arc<Row>>;

    fn remove(&mut self, key: &[u8; L]) -> bool;

    /// Reads the row of `key`.
    fn touch(&self, key: &[u8; L]) -> Option<u64>;

    fn upwards(&self, from: [u8; L]) -> impl Iterator<Item = &Arc<Row>>;

    fn downwards(&self, from: [u8; L]) -> impl Iterator<Item = &Arc<Row>>;

    fn rows(&self) -> impl Iterator<Item = &Arc<Row>>;

    fn collect(rows: impl Iterator<Item = ([u8; L], Arc<Row>)>) -> Self;
}

/// A kind of map, for any length of keys.
pub(crate) trait Family: Send + Sync + 'static {
    /// Whether backward ranges are right; those of im 15.1 leave out a row now and then.
    const BACKWARD: bool = true;

    type Map<const L: usize>: OrderedMap<L>;
}

pub(crate) struct Imbl;
pub(crate) struct Im;
pub(crate) struct Vart;
pub(crate) struct BTree;

impl Family for Imbl {
    type Map<const L: usize> = imbl::OrdMap<[u8; L], Arc<Row>>;
}

impl Family for Im {
    const BACKWARD: bool = false;

    type Map<const L: usize> = im::OrdMap<[u8; L], Arc<Row>>;
}

impl Family for Vart {
    type Map<const L: usize> = vart::art::Tree<vart::FixedSizeKey<L>, Arc<Row>>;
}

impl Family for BTree {
    type Map<const L: usize> = BTreeMap<[u8; L], Arc<Row>>;
}

macro_rules! standard_map {
    ($map:ty) => {
        impl<const L: usize> OrderedMap<L> for $map {
            fn len(&self) -> usize {
                self.len()
            }

            #[inline]
            fn insert(&mut self, key: [u8; L], row: Arc<Row>) {
                self.insert(key, row);
            }

            #[inline]
            fn replace(&mut self, key: [u8; L], row: Arc<Row>) -> Option<Arc<Row>> {
                self.insert(key, row)
            }

            #[inline]
            fn remove(&mut self, key: &[u8; L]) -> bool {
                self.remove(key).is_some()
            }

            #[inline]
            fn touch(&self, key: &[u8; L]) -> Option<u64> {
                self.get(key).map(|row| row.touch())
            }

            fn upwards(&self, from: [u8; L]) -> impl Iterator<Item = &Arc<Row>> {
                self.range(from..).map(|(_, row)| row)
            }

            fn downwards(&self, from: [u8; L]) -> impl Iterator<Item = &Arc<Row>> {
                self.range(..=from).rev().map(|(_, row)| row)
            }

            fn rows(&self) -> impl Iterator<Item = &Arc<Row>> {
                self.values()
            }

            fn collect(rows: impl Iterator<Item = ([u8; L], Arc<Row>)>) -> Self {
                rows.collect()
            }
        }
    };
}

standard_map!(imbl::OrdMap<[u8; L], Arc<Row>>);
standard_map!(im::OrdMap<[u8; L], Arc<Row>>);
standard_map!(BTreeMap<[u8; L], Arc<Row>>);

/// As a version: the next one when writing, the latest one when reading. As a time: none.
const STAMP: u64 = 0;

impl<const L: usize> OrderedMap<L> for vart::art::Tree<vart::FixedSizeKey<L>, Arc<Row>> {
    fn len(&self) -> usize {
        self.len()
    }

    #[inline]
    fn insert(&mut self, key: [u8; L], row: Arc<Row>) {
        let key = vart::FixedSizeKey::from_slice(&key);
        self.insert_or_replace(&key, row, STAMP, STAMP).expect("versions are not checked");
    }

    #[inline]
    fn replace(&mut self, key: [u8; L], row: Arc<Row>) -> Option<Arc<Row>> {
        let key = vart::FixedSizeKey::from_slice(&key);
        let before = self.get(&key, STAMP).map(|(row, ..)| row);
        self.insert_or_replace(&key, row, STAMP, STAMP).expect("versions are not checked");
        before
    }

    #[inline]
    fn remove(&mut self, key: &[u8; L]) -> bool {
        self.remove(&vart::FixedSizeKey::from_slice(key))
    }

    #[inline]
    fn touch(&self, key: &[u8; L]) -> Option<u64> {
        self.get(&vart::FixedSizeKey::from_slice(key), STAMP).map(|(row, ..)| row.touch())
    }

    fn upwards(&self, from: [u8; L]) -> impl Iterator<Item = &Arc<Row>> {
        self.range(vart::FixedSizeKey::from_slice(&from)..).map(|(_, row, ..)| row)
    }

    fn downwards(&self, from: [u8; L]) -> impl Iterator<Item = &Arc<Row>> {
        self.range(..=vart::FixedSizeKey::from_slice(&from)).rev().map(|(_, row, ..)| row)
    }

    fn rows(&self) -> impl Iterator<Item = &Arc<Row>> {
        self.iter().map(|(_, row, ..)| row)
    }

    fn collect(rows: impl Iterator<Item = ([u8; L], Arc<Row>)>) -> Self {
        let mut map = Self::default();
        rows.for_each(|(key, row)| OrderedMap::insert(&mut map, key, row));
        map
    }
}

/// A map in one version, behind whatever holds it.
pub(crate) struct MapView<P>(pub(crate) P);

impl<M: OrderedMap<16>, P: Deref<Target = M>> View for MapView<P> {
    fn len(&self) -> usize {
        OrderedMap::len(&*self.0)
    }

    fn get_each(&self, keys: &[Key]) -> u64 {
        let map = &*self.0;
        keys.iter().fold(0, |sum, key| sum.wrapping_add(map.touch(key).unwrap_or(0)))
    }

    fn range(&self, from: &Key, rows: usize) -> u64 {
        touch_all(self.0.upwards(*from).take(rows).map(|row| &**row))
    }

    fn range_back(&self, from: &Key, rows: usize) -> u64 {
        touch_all(self.0.downwards(*from).take(rows).map(|row| &**row))
    }

    fn scan(&self) -> usize {
        visit_all(self.0.rows().map(|row| &**row))
    }

    fn scan_rows(&self) -> u64 {
        touch_all(self.0.rows().map(|row| &**row))
    }

    fn ids(&self) -> Vec<Key> {
        self.0.rows().map(|row| row.id).collect()
    }
}

/// Three maps that index the same rows, each holding the row itself.
pub(crate) struct Trio<F: Family> {
    id: F::Map<16>,
    node: F::Map<24>,
    status: F::Map<24>,
}

impl<F: Family> Trio<F> {
    pub(crate) fn upsert(&mut self, write: &Write) {
        let row = Arc::new(Row::new(write));
        if let Some(before) = self.id.replace(write.id, Arc::clone(&row)) {
            if before.node != row.node {
                self.node.remove(&entry(before.node, &write.id));
            }
            if before.status != row.status {
                self.status.remove(&entry(before.status, &write.id));
            }
        }
        self.node.insert(entry(write.node, &write.id), Arc::clone(&row));
        self.status.insert(entry(write.status, &write.id), row);
    }

    pub(crate) fn counts(&self) -> [usize; 3] {
        [self.id.len(), self.node.len(), self.status.len()]
    }

    pub(crate) fn with_status(&self, status: u64) -> usize {
        let rows = self.status.upwards(entry(status, &Key::default()));
        rows.take_while(|row| row.status == status).count()
    }
}

impl<F: Family> Default for Trio<F> {
    fn default() -> Self {
        Self { id: Default::default(), node: Default::default(), status: Default::default() }
    }
}

impl<F: Family> Clone for Trio<F> {
    fn clone(&self) -> Self {
        Self { id: self.id.clone(), node: self.node.clone(), status: self.status.clone() }
    }
}
