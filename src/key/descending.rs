//! `Descending`: a key in reverse order.
//!
//! # Invariants
//!
//! 1. The encoding is that of the inner key with every byte complemented. Two encodings that are
//!    not prefixes of each other first differ at a byte, and complementing reverses which is
//!    greater; so the order is reversed and prefix-freeness kept, also when nested.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::{AsKey, Key, KeyBuf, KeyError, KeyReader};

/// A key that sorts in reverse: the greatest first.
///
/// Makes a compound index run down in one component and up in another. For a whole index in
/// reverse, iterate it from the back instead.
///
/// `Serialize` and `Deserialize` are those of the inner key.
///
/// ```
/// use fsmdb::{Descending, encode};
///
/// type ByPriority = (Descending<u8>, String);
///
/// let urgent = encode::<ByPriority, _>(&(Descending(9), "b"));
/// let later = encode::<ByPriority, _>(&(Descending(1), "a"));
/// assert!(urgent < later);
/// assert!(Descending(9) < Descending(1));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Descending<K>(
    /// The key that is ordered in reverse.
    pub K,
);

impl<K: PartialOrd> PartialOrd for Descending<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        other.0.partial_cmp(&self.0)
    }
}

impl<K: Ord> Ord for Descending<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.cmp(&self.0)
    }
}

impl<K, Q: AsKey<K>> AsKey<Descending<K>> for Descending<Q> {
    fn encode_key(&self, out: &mut KeyBuf) {
        let start = out.len();
        self.0.encode_key(out);
        out.invert_from(start);
    }
}

impl<K: Key> Key for Descending<K> {
    fn decode_key(reader: &mut KeyReader<'_>) -> Result<Self, KeyError> {
        reader.inverted(K::decode_key).map(Self)
    }
}
