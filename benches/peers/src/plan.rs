//! What is written and asked, in which order: the same for every engine and in every run.

use std::collections::BTreeSet;

use crate::row::{Key, ROWS_PER_NODE, STATUSES, Write};

/// SplitMix64 (Steele, Lea, Flood 2014): enough randomness for keys and probe orders.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    fn key(&mut self) -> Key {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&self.next().to_be_bytes());
        key[8..].copy_from_slice(&self.next().to_be_bytes());
        key
    }
}

/// The keys that exist, what each row says now, and the choices still to be made.
#[derive(Debug)]
pub(crate) struct Plan {
    keys: Vec<Key>,
    statuses: Vec<u8>,
    random: Random,
    fresh: Random,
    sequence: u64,
}

impl Plan {
    pub(crate) fn new(rows: usize) -> Self {
        let mut random = Random::new(1);
        let keys: Vec<Key> = (0..rows).map(|_| random.key()).collect();
        let statuses = (0..rows).map(|_| random.below(STATUSES as usize) as u8).collect();
        Self { keys, statuses, random: Random::new(2), fresh: Random::new(3), sequence: 0 }
    }

    pub(crate) fn rows(&self) -> usize {
        self.keys.len()
    }

    /// The first rows, in random order.
    pub(crate) fn load(&self) -> impl Iterator<Item = Write> {
        (0..self.keys.len()).map(|at| self.write_at(at))
    }

    /// The first rows in the order of their keys.
    pub(crate) fn sorted_load(&self) -> Vec<Write> {
        let mut writes: Vec<_> = self.load().collect();
        writes.sort_unstable_by_key(|write| write.id);
        writes
    }

    pub(crate) fn sorted_keys(&self) -> Vec<Key> {
        let mut keys = self.keys.clone();
        keys.sort_unstable();
        keys
    }

    /// Random existing keys.
    pub(crate) fn probes(&mut self, count: usize) -> Vec<Key> {
        (0..count).map(|_| self.keys[self.random.below(self.keys.len())]).collect()
    }

    /// Writes of random existing rows; each moves its row to another status.
    pub(crate) fn upserts(&mut self, count: usize) -> Vec<Write> {
        (0..count)
            .map(|_| {
                let at = self.random.below(self.keys.len());
                let step = 1 + self.random.below(STATUSES as usize - 1) as u64;
                self.statuses[at] = ((u64::from(self.statuses[at]) + step) % STATUSES) as u8;
                self.sequence += 1;
                self.write_at(at)
            })
            .collect()
    }

    /// Rows that do not exist, in random order.
    pub(crate) fn inserts(&mut self, count: usize) -> Vec<Write> {
        (0..count)
            .map(|_| Write { id: self.fresh.key(), node: 0, status: 0, sequence: self.sequence })
            .collect()
    }

    /// Distinct existing rows, as they are now, in random order.
    pub(crate) fn distinct(&mut self, count: usize) -> Vec<Write> {
        let mut seen = BTreeSet::new();
        let mut writes = Vec::with_capacity(count);
        while writes.len() < count.min(self.keys.len()) {
            let at = self.random.below(self.keys.len());
            if seen.insert(at) {
                writes.push(self.write_at(at));
            }
        }
        writes
    }

    fn write_at(&self, at: usize) -> Write {
        let nodes = (self.keys.len() as u64).div_ceil(ROWS_PER_NODE);
        Write {
            id: self.keys[at],
            node: at as u64 % nodes,
            status: u64::from(self.statuses[at]),
            sequence: self.sequence,
        }
    }
}
