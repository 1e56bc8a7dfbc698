//! Single keys that are watched, and a filter before them that most other keys do not pass.
//!
//! A commit asks for each key that it changes whether anybody watches it, and mostly nobody does. A
//! search among a hundred thousand keys waits for memory several times to learn that. The filter
//! counts the watched keys by a checksum, in one byte each: one look, and it is small enough to
//! stay in the cache (a counting filter after Fan et al., "Summary cache", 2000, with one hash).
//!
//! # Invariants
//!
//! 1. The count of a key in `points` is not 0; at 255 a count stays for ever, because it is not
//!    known any more.

use std::collections::BTreeMap;

/// Slots of the filter for each key: so few other keys pass, one in this many.
const SLOTS_PER_KEY: usize = 8;

/// Slots of the smallest filter.
const SLOTS_MIN: usize = 64;

/// Keys with what is attached to each.
#[derive(Debug)]
pub(super) struct Points<V> {
    points: BTreeMap<Box<[u8]>, V>,
    /// Counts; a power of two of them.
    filter: Vec<u8>,
}

impl<V> Default for Points<V> {
    fn default() -> Self {
        Self { points: BTreeMap::new(), filter: Vec::new() }
    }
}

impl<V> Points<V> {
    pub(super) fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    fn slot(&self, key: &[u8]) -> usize {
        crc32c::crc32c(key) as usize & (self.filter.len() - 1)
    }

    /// What is attached to `key`.
    #[inline]
    pub(super) fn get(&self, key: &[u8]) -> Option<&V> {
        if self.points.is_empty() || self.filter[self.slot(key)] == 0 {
            return None;
        }
        self.points.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &[u8]) -> Option<&mut V> {
        self.points.get_mut(key)
    }

    /// What is attached to `key`, made first if there is nothing.
    pub(super) fn entry(&mut self, key: &[u8]) -> &mut V
    where
        V: Default,
    {
        if !self.points.contains_key(key) {
            self.points.insert(key.into(), V::default());
            if self.points.len() * SLOTS_PER_KEY > self.filter.len() {
                self.count_all();
            } else {
                self.count(crc32c::crc32c(key));
            }
        }
        self.points.get_mut(key).expect("it was just inserted")
    }

    fn count(&mut self, hash: u32) {
        let slot = hash as usize & (self.filter.len() - 1);
        self.filter[slot] = self.filter[slot].saturating_add(1);
    }

    /// Makes the filter anew, with room for as many keys again.
    fn count_all(&mut self) {
        let slots = (2 * self.points.len() * SLOTS_PER_KEY).next_power_of_two().max(SLOTS_MIN);
        self.filter = vec![0; slots];
        let hashes: Vec<u32> = self.points.keys().map(|key| crc32c::crc32c(key)).collect();
        hashes.into_iter().for_each(|hash| self.count(hash));
    }

    /// Takes `key` out, and what is attached to it.
    pub(super) fn remove(&mut self, key: &[u8]) -> Option<V> {
        let value = self.points.remove(key)?;
        if self.points.is_empty() {
            *self = Self::default();
            return Some(value);
        }
        let slot = self.slot(key);
        if self.filter[slot] < u8::MAX {
            self.filter[slot] -= 1;
        }
        if self.filter.len() > SLOTS_MIN
            && self.points.len() * SLOTS_PER_KEY * 8 < self.filter.len()
        {
            self.count_all();
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((any::<bool>(), 0..400_u16), 1..1200)) {
            let mut points = Points::<u32>::default();
            let mut model = BTreeMap::<u16, u32>::new();
            for (is_insert, key) in steps {
                let bytes = key.to_be_bytes();
                if is_insert {
                    *points.entry(&bytes) += 1;
                    *model.entry(key).or_default() += 1;
                } else {
                    prop_assert_eq!(points.remove(&bytes), model.remove(&key));
                }
                prop_assert_eq!(points.get(&bytes).copied(), model.get(&key).copied());
                prop_assert_eq!(points.get_mut(&bytes).copied(), model.get(&key).copied());
                prop_assert_eq!(points.is_empty(), model.is_empty());
            }
            for (key, count) in &model {
                prop_assert_eq!(points.get(&key.to_be_bytes()), Some(count));
            }
        }
    }

    #[test]
    fn a_count_that_is_full_stays() {
        let mut points = Points::<u32>::default();
        *points.entry(b"a") += 1;
        points.filter.fill(u8::MAX);
        *points.entry(b"b") += 1;
        points.remove(b"b");
        assert_eq!(points.get(b"a"), Some(&1));
        assert!(points.filter.iter().all(|count| *count == u8::MAX));
    }

    #[test]
    fn the_filter_grows_and_shrinks() {
        let mut points = Points::<u32>::default();
        for key in 0..10_000_u32 {
            *points.entry(&key.to_be_bytes()) += 1;
        }
        assert!(points.filter.len() >= 80_000);
        for key in 1..10_000_u32 {
            points.remove(&key.to_be_bytes());
        }
        assert!(points.filter.len() <= 1_024, "{}", points.filter.len());
        assert_eq!(points.get(&0_u32.to_be_bytes()), Some(&1));
    }
}
