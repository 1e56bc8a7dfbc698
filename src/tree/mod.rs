//! The persistent ordered map from key bytes to values.
//!
//! This room owns the map under every table and index. It knows nothing of rows, tables or
//! transactions, and nothing outside it knows how the map is made: this first version stands on
//! the `im` package (as its maintained continuation `imbl`), the next one on an engine of our own.
//!
//! # Invariants
//!
//! 1. A clone costs O(1) and never sees later changes of the original, nor the other way round.
//! 2. Entries come in the order of their key bytes, each key once.
//! 3. A range whose bounds are crossed is empty; no operation panics on any bounds.

use std::ops::Bound;
use std::sync::Arc;

use im::OrdMap;

#[cfg(test)]
mod tests;

/// A persistent ordered map; see the module.
#[derive(Debug)]
pub(crate) struct Tree<V> {
    map: OrdMap<Arc<[u8]>, V>,
}

impl<V> Clone for Tree<V> {
    fn clone(&self) -> Self {
        Self { map: self.map.clone() }
    }
}

impl<V: Clone> Tree<V> {
    /// An empty map.
    pub(crate) fn new() -> Self {
        Self { map: OrdMap::new() }
    }

    /// Builds a map from entries in strictly ascending order of their keys; O(n log n) in
    /// this version.
    ///
    /// The caller has checked the order; a debug build asserts it.
    pub(crate) fn from_sorted<K: AsRef<[u8]>>(entries: impl Iterator<Item = (K, V)>) -> Self {
        let mut tree = Self::new();
        for (key, value) in entries {
            debug_assert!(tree.last().is_none_or(|(last, _)| last < key.as_ref()), "invariant 2");
            tree.insert(key.as_ref(), value);
        }
        tree
    }

    /// The number of entries, O(1).
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// The value at `key`, O(log n).
    pub(crate) fn get(&self, key: &[u8]) -> Option<&V> {
        self.map.get(key)
    }

    /// Puts `value` at `key` and returns what was there, O(log n).
    pub(crate) fn insert(&mut self, key: &[u8], value: V) -> Option<V> {
        self.map.insert(Arc::from(key), value)
    }

    /// Takes the entry at `key` out, O(log n).
    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<V> {
        self.map.remove(key)
    }

    /// The entry with the lowest key.
    pub(crate) fn first(&self) -> Option<(&[u8], &V)> {
        self.map.get_min().map(|(key, value)| (&**key, value))
    }

    /// The entry with the highest key.
    pub(crate) fn last(&self) -> Option<(&[u8], &V)> {
        self.map.get_max().map(|(key, value)| (&**key, value))
    }

    /// All entries in order.
    pub(crate) fn iter(&self) -> Entries<'_, V> {
        self.range(Bound::Unbounded, Bound::Unbounded)
    }

    /// The entries between two bounds, in order and from both ends.
    pub(crate) fn range(&self, low: Bound<&[u8]>, high: Bound<&[u8]>) -> Entries<'_, V> {
        let range = (!crossed(low, high)).then(|| self.map.range::<_, [u8]>((low, high)));
        Entries { range }
    }
}

/// Whether no key can lie between the bounds, some forms of which the map refuses by a panic.
fn crossed(low: Bound<&[u8]>, high: Bound<&[u8]>) -> bool {
    match (low, high) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(low), Bound::Included(high)) => low > high,
        (
            Bound::Included(low) | Bound::Excluded(low),
            Bound::Included(high) | Bound::Excluded(high),
        ) => low >= high,
    }
}

/// The entries of a range: double-ended and fused.
pub(crate) struct Entries<'a, V> {
    range: Option<Range<'a, V>>,
}

type Range<'a, V> = im::ordmap::RangedIter<'a, Arc<[u8]>, V, im::shared_ptr::DefaultSharedPtr>;

impl<'a, V> Iterator for Entries<'a, V> {
    type Item = (&'a [u8], &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.range.as_mut()?.next();
        if entry.is_none() {
            self.range = None;
        }
        entry.map(|(key, value)| (&**key, value))
    }
}

impl<V> DoubleEndedIterator for Entries<'_, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let entry = self.range.as_mut()?.next_back();
        if entry.is_none() {
            self.range = None;
        }
        entry.map(|(key, value)| (&**key, value))
    }
}

impl<V> std::iter::FusedIterator for Entries<'_, V> {}
