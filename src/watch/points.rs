//! Single keys that are watched, and a filter before them that most other keys do not pass.
//!
//! A commit asks for each key that it changes whether anybody watches it, and mostly nobody does. A
//! search among a hundred thousand keys waits for memory several times to learn that. The filter
//! has one bit set for each key, chosen by a checksum: one look, and it is small enough to stay in
//! the cache (Bloom, "Space/time trade-offs in hash coding with allowable errors", 1970, with one
//! hash). Bits of keys that have left stay until the filter is made anew.
//!
//! # Invariants
//!
//! 1. The bit of each key in `points` is set.
//! 2. There are never more left bits than keys, beyond those of the smallest filter.

use std::collections::BTreeMap;

/// Bits of the filter for each key: so few other keys pass, one in this many.
const BITS_PER_KEY: usize = 16;

/// Words of the smallest filter.
const WORDS_MIN: usize = 8;

/// Keys with what is attached to each.
#[derive(Debug)]
pub(super) struct Points<V> {
    points: BTreeMap<Box<[u8]>, V>,
    /// Bits; a power of two of words.
    filter: Vec<u64>,
    /// Keys that have left since the filter was made.
    left: usize,
}

impl<V> Default for Points<V> {
    fn default() -> Self {
        Self { points: BTreeMap::new(), filter: Vec::new(), left: 0 }
    }
}

/// The word of a key in a filter of so many words, and its bit there.
#[inline]
fn place(key: &[u8], words: usize) -> (usize, u64) {
    let hash = crc32c::crc32c(key);
    ((hash >> 6) as usize & (words - 1), 1 << (hash & 63))
}

impl<V> Points<V> {
    pub(super) fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// Whether there may be something at `key`.
    #[inline]
    fn may_have(&self, key: &[u8]) -> bool {
        let (word, bit) = place(key, self.filter.len());
        self.filter[word] & bit != 0
    }

    /// What is attached to `key`.
    #[inline]
    pub(super) fn get_mut(&mut self, key: &[u8]) -> Option<&mut V> {
        if self.points.is_empty() || !self.may_have(key) {
            return None;
        }
        self.points.get_mut(key)
    }

    /// What is attached to `key`, made first if there is nothing.
    pub(super) fn entry(&mut self, key: &[u8]) -> &mut V
    where
        V: Default,
    {
        if !self.points.contains_key(key) {
            self.points.insert(key.into(), V::default());
            if self.points.len() * BITS_PER_KEY > self.filter.len() * 64 {
                self.fill();
            } else {
                let (word, bit) = place(key, self.filter.len());
                self.filter[word] |= bit;
            }
        }
        self.points.get_mut(key).expect("it was just inserted")
    }

    /// Makes the filter anew, with room for as many keys again.
    fn fill(&mut self) {
        let bits = 2 * self.points.len() * BITS_PER_KEY;
        let words = (bits / 64).next_power_of_two().max(WORDS_MIN);
        let mut filter = vec![0; words];
        for key in self.points.keys() {
            let (word, bit) = place(key, words);
            filter[word] |= bit;
        }
        (self.filter, self.left) = (filter, 0);
    }

    /// Takes `key` out, and what is attached to it.
    pub(super) fn remove(&mut self, key: &[u8]) -> Option<V> {
        let value = self.points.remove(key)?;
        self.left += 1;
        if self.points.is_empty() {
            *self = Self::default();
        } else if self.left > self.points.len() + WORDS_MIN * 64 {
            self.fill();
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
                prop_assert_eq!(points.get_mut(&bytes).copied(), model.get(&key).copied());
                prop_assert_eq!(points.is_empty(), model.is_empty());
            }
            for (key, count) in &model {
                prop_assert_eq!(points.get_mut(&key.to_be_bytes()).copied(), Some(*count));
            }
        }
    }

    #[test]
    fn the_filter_grows_and_shrinks_and_keeps_others_out() {
        let mut points = Points::<u32>::default();
        for key in 0..10_000_u32 {
            *points.entry(&key.to_be_bytes()) += 1;
        }
        assert!(points.filter.len() * 64 >= 160_000);
        let passed = (10_000..110_000_u32).filter(|key| points.may_have(&key.to_be_bytes()));
        assert!(passed.count() < 10_000);
        for key in 1..10_000_u32 {
            points.remove(&key.to_be_bytes());
        }
        assert!(points.filter.len() * 64 <= 65_536, "{}", points.filter.len());
        assert_eq!(points.get_mut(&0_u32.to_be_bytes()), Some(&mut 1));
    }
}
