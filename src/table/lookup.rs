//! Lookups that need more than one descent: many keys at once, the longest prefix.

use crate::key::{AsKey, KeyBuf, shorten_text};
use crate::tree::{Row, TypedTree};

/// Keys that are encoded on the stack before they are looked up together.
const GROUP: usize = 8;

/// The rows at `keys`.
pub(super) fn get_many<'a, T: 'static, K, Q: AsKey<K>>(
    tree: TypedTree<'a, T>,
    keys: &[Q],
) -> Vec<Option<&'a Row<T>>> {
    let mut found = vec![None; keys.len()];
    let mut encoded: [KeyBuf; GROUP] = Default::default();
    for (keys, found) in keys.chunks(GROUP).zip(found.chunks_mut(GROUP)) {
        for (encoded, key) in encoded.iter_mut().zip(keys) {
            encoded.clear();
            key.encode_key(encoded);
        }
        tree.get_many(&encoded[..keys.len()], found);
    }
    found
}

/// The row at the longest key of which the content starts that of `key`, the encoding of a string.
///
/// The greatest key not above the wanted one either is a prefix of it or shares some bytes with it,
/// and then no longer prefix is in the tree: so the wanted key is shortened to those bytes.
pub(super) fn longest_prefix<T: 'static>(tree: TypedTree<'_, T>, key: KeyBuf) -> Option<&Row<T>> {
    let mut wanted = key;
    loop {
        let floor = tree.erased().floor(&wanted)?;
        // The terminator of a proper prefix differs, and nothing else.
        if floor.common + 1 >= floor.len {
            return Some(floor.row.typed());
        }
        shorten_text(&mut wanted, floor.common);
    }
}
