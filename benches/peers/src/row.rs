//! The rows of the benchmark: 200 bytes without a pointer, so that a row is one allocation.

use fsmdb::Table;
use serde::{Deserialize, Serialize};

/// A primary key: random bytes, kept inline by every engine.
pub(crate) type Key = [u8; 16];

/// Values that the third index can have.
pub(crate) const STATUSES: u64 = 5;

/// Rows that share one value of the second index.
pub(crate) const ROWS_PER_NODE: u64 = 100;

/// A row of the tables with the primary index alone, and what peers keep behind their `Arc`s.
#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "rows", version = 1)]
pub(crate) struct Row {
    #[key]
    pub(crate) id: Key,
    pub(crate) node: u64,
    pub(crate) status: u64,
    pub(crate) payload: [u64; 21],
}

const _: () = assert!(size_of::<Row>() == 200);

impl Row {
    /// The row that `write` stands for; `payload[0]` is a function of the key alone.
    #[inline]
    pub(crate) fn new(write: &Write) -> Self {
        let mut payload = [write.sequence; 21];
        payload[0] = mark(&write.id);
        Self { id: write.id, node: write.node, status: write.status, payload }
    }

    /// Reads the row: one word of its body.
    #[inline]
    pub(crate) fn touch(&self) -> u64 {
        self.payload[0]
    }
}

/// The word that [`Row::touch`] finds in the row of `id`, whatever was written to it.
pub(crate) fn mark(id: &Key) -> u64 {
    let word = u64::from_le_bytes(*id.first_chunk().expect("a key has 16 bytes"));
    word.rotate_left(17) ^ 0x5bd1_e995
}

/// What a timed write needs to know; made before the clock starts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Write {
    pub(crate) id: Key,
    pub(crate) node: u64,
    pub(crate) status: u64,
    pub(crate) sequence: u64,
}

/// The same row in a table of fsmdb with three indexes.
#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "indexed_rows", version = 1)]
pub(crate) struct IndexedRow {
    #[key]
    pub(crate) id: Key,
    #[index]
    pub(crate) node: u64,
    #[index]
    pub(crate) status: u64,
    pub(crate) payload: [u64; 21],
}

impl IndexedRow {
    #[inline]
    pub(crate) fn new(write: &Write) -> Self {
        let Row { id, node, status, payload } = Row::new(write);
        Self { id, node, status, payload }
    }
}

/// The key of a hand-made secondary index: the value, then the primary key.
#[inline]
pub(crate) fn entry(value: u64, id: &Key) -> [u8; 24] {
    let mut key = [0; 24];
    key[..8].copy_from_slice(&value.to_be_bytes());
    key[8..].copy_from_slice(id);
    key
}
