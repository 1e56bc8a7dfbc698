//! Lookups that need more than one descent: many keys at once, the longest prefix.

use std::ops::Bound;

use super::question::Aspect;
use super::reading::Reading;
use crate::key::{AsKey, KeyBuf, shorten_text};
use crate::tree::{Row, RowRef, TreeRef, TypedTree};

/// Keys that are encoded on the stack before they are looked up together.
const GROUP: usize = 8;

/// The rows at `keys`.
pub(super) fn get_many<'a, T: 'static, K, Q: AsKey<K>>(
    tree: TypedTree<'a, T>,
    keys: &[Q],
    reading: Option<Reading<'a>>,
    index: Option<usize>,
) -> Vec<Option<&'a Row<T>>> {
    let mut found = vec![None; keys.len()];
    let mut encoded: [KeyBuf; GROUP] = Default::default();
    for (keys, found) in keys.chunks(GROUP).zip(found.chunks_mut(GROUP)) {
        for (encoded, key) in encoded.iter_mut().zip(keys) {
            encoded.clear();
            key.encode_key(encoded);
        }
        if let Some(reading) = reading {
            let encoded = &encoded[..keys.len()];
            encoded.iter().for_each(|key| reading.key(index, key, Aspect::Rows));
        }
        tree.get_many(&encoded[..keys.len()], found);
    }
    found
}

/// The row at the longest key of which the content starts that of `key`, the encoding of a string;
/// and the length of that key.
///
/// The greatest key not above the wanted one either is a prefix of it or shares some bytes with it,
/// and then no longer prefix is in the tree: so the wanted key is shortened to those bytes.
pub(crate) fn longest_prefix(tree: TreeRef<'_>, key: KeyBuf) -> Option<(RowRef<'_>, usize)> {
    let mut wanted = key;
    loop {
        let floor = tree.floor(&wanted)?;
        // The terminator of a proper prefix differs, and nothing else.
        if floor.common + 1 >= floor.len {
            return Some((floor.row, floor.len));
        }
        shorten_text(&mut wanted, floor.common);
    }
}

/// As [`longest_prefix`], for the reader of a tree, which may note what it reads.
pub(super) fn read_longest_prefix<'a, T: 'static>(
    tree: TypedTree<'a, T>,
    key: KeyBuf,
    reading: Option<Reading<'a>>,
    index: Option<usize>,
) -> Option<&'a Row<T>> {
    let Some(reading) = reading else {
        return longest_prefix(tree.erased(), key).map(|(row, _)| row.typed());
    };
    let found = longest_prefix(tree.erased(), key.clone());
    let mut shortest = key.clone();
    shorten_text(&mut shortest, found.map_or(0, |(_, len)| len - 1));
    reading.longest(index, &key, &shortest);
    found.map(|(row, _)| row.typed())
}

/// The entry between two bounds that has `index` others of them before it, for the reader of a
/// tree, which may note what it reads.
pub(super) fn read_nth<'a, T: 'static>(
    tree: TypedTree<'a, T>,
    (low, high): (Bound<&[u8]>, Bound<&[u8]>),
    index: usize,
    reading: Option<Reading<'a>>,
    position: Option<usize>,
) -> Option<&'a Row<T>> {
    let found = tree.nth(low, high, index);
    if let Some(reading) = reading {
        let mut key = Vec::new();
        let mut high = high;
        if found.is_some() {
            // What is behind it does not matter.
            tree.erased().key_at(tree.erased().rank(low, true) + index, &mut key);
            high = Bound::Included(&key);
        }
        reading.span(position, (low, high), Aspect::Nth(index));
    }
    found
}
