//! Searches in one node.

use std::cmp::Ordering;

use super::{
    FANOUT, FIXED_BYTES, HEAD_BYTES, LINE_BYTES, NodePtr, PREFIX_INLINE, head_of, prefetch, rest_of,
};
use crate::tree::search::count_less;

/// The bytes of a prefix of each length in a little-endian word.
const PREFIX_MASKS: [u64; PREFIX_INLINE + 1] = {
    let mut masks = [u64::MAX; PREFIX_INLINE + 1];
    let mut len = 0;
    while len < PREFIX_INLINE {
        masks[len] = (1 << (8 * len)) - 1;
        len += 1;
    }
    masks
};

/// Compares the parts of two keys after equal heads: `rest` is what follows the head, `len` the
/// length of the whole part after the prefix, which tells "a" from "a\0".
fn compare_rest(rest: &[u8], len: usize, other: &[u8], other_len: usize) -> Ordering {
    rest.cmp(other).then(len.cmp(&other_len))
}

/// Whether two byte strings of the same length are equal. Remainders of keys are short: a few words
/// are compared faster than the library function is called.
#[inline(always)]
fn is_equal(one: &[u8], other: &[u8]) -> bool {
    let (ones, one_rest) = one.as_chunks::<8>();
    let (others, other_rest) = other.as_chunks::<8>();
    let mut differs = 0;
    for (one, other) in ones.iter().zip(others) {
        differs |= u64::from_le_bytes(*one) ^ u64::from_le_bytes(*other);
    }
    if one_rest.is_empty() {
        return differs == 0;
    }
    match (one.last_chunk::<8>(), other.last_chunk::<8>()) {
        (Some(one), Some(other)) => {
            differs |= u64::from_le_bytes(*one) ^ u64::from_le_bytes(*other);
        }
        _ => {
            for (one, other) in one_rest.iter().zip(other_rest) {
                differs |= u64::from(one ^ other);
            }
        }
    }
    differs == 0
}

impl NodePtr {
    /// The number of entries from `first` on whose key is less than prefix + `suffix`, or with
    /// `or_equal` not greater, plus `first`.
    #[inline(always)]
    fn position(self, suffix: &[u8], first: usize, or_equal: bool) -> usize {
        let node = self.node();
        let head = head_of(suffix);
        let low = count_less(&node.heads, head);
        if node.heads.get(low) != Some(&head) {
            // Beyond the last entry every head is the greatest (invariant 4), and in an inner node
            // the first is the least, so this is in bounds.
            return low;
        }
        self.position_among_equals(suffix, low.max(first), or_equal)
    }

    /// As [`position`](NodePtr::position), from the first head on that is that of `suffix`.
    fn position_among_equals(self, suffix: &[u8], first: usize, or_equal: bool) -> usize {
        let node = self.node();
        let head = head_of(suffix);
        let len = self.len();
        let mut low = first;
        if low >= len || node.heads[low] != head {
            return low.min(len);
        }
        let mut high = len;
        if low + 1 < len {
            high = if node.heads[low + 1] != head {
                low + 1
            } else if head == i32::MAX {
                len
            } else {
                count_less(&node.heads, head + 1).min(len)
            };
        }
        let rest = rest_of(suffix);
        while low < high {
            let middle = usize::midpoint(low, high);
            let (other_len, other) = self.rest(middle);
            let is_before = match compare_rest(other, other_len, rest, suffix.len()) {
                Ordering::Less => true,
                Ordering::Equal => or_equal,
                Ordering::Greater => false,
            };
            if is_before {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// What follows the prefix of the node in `key`, if `key` begins with it.
    #[inline(always)]
    fn suffix_of(self, key: &[u8]) -> Option<&[u8]> {
        let node = self.node();
        let len = usize::from(node.prefix_len);
        match key.first_chunk::<PREFIX_INLINE>() {
            // The bytes beyond a short prefix are zero in the header, and masked out in the key.
            Some(start) if len <= PREFIX_INLINE => {
                let start = u64::from_le_bytes(*start) & PREFIX_MASKS[len];
                (start == u64::from_le_bytes(node.prefix)).then(|| &key[len..])
            }
            _ => key.strip_prefix(self.prefix()),
        }
    }

    /// Which child of an inner node `key` belongs to.
    #[inline(always)]
    pub(in crate::tree) fn route(self, key: &[u8]) -> usize {
        match self.suffix_of(key) {
            Some(suffix) => self.position(suffix, 1, true) - 1,
            None if key < self.prefix() => 0,
            None => self.len() - 1,
        }
    }

    /// The position of the first entry of a leaf that is not less than `key`, or with `or_equal`
    /// that is greater.
    #[inline(always)]
    pub(in crate::tree) fn bound(self, key: &[u8], or_equal: bool) -> usize {
        match self.suffix_of(key) {
            Some(suffix) => self.position(suffix, 0, or_equal),
            None if key < self.prefix() => 0,
            None => self.len(),
        }
    }

    /// The position of `key` in a leaf, or where it would be.
    #[inline(always)]
    pub(in crate::tree) fn find(self, key: &[u8]) -> Result<usize, usize> {
        match self.suffix_of(key) {
            Some(suffix) => {
                let index = self.position(suffix, 0, false);
                if self.is_at(index, suffix) { Ok(index) } else { Err(index) }
            }
            None => Err(if key < self.prefix() { 0 } else { self.len() }),
        }
    }

    /// The position of `key` in a leaf, if it is there.
    #[inline(always)]
    pub(in crate::tree) fn find_exact(self, key: &[u8]) -> Option<usize> {
        let suffix = self.suffix_of(key)?;
        let heads = &self.node().heads;
        let head = head_of(suffix);
        let index = count_less(heads, head);
        if index >= self.len() || heads[index] != head {
            return None;
        }
        if self.is_at(index, suffix) {
            return Some(index);
        }
        // Rarely do several keys of a leaf begin alike for four bytes after the prefix.
        let index = self.position(suffix, index, false);
        self.is_at(index, suffix).then_some(index)
    }

    /// Whether the key at `index` is the prefix and `suffix`.
    #[inline(always)]
    fn is_at(self, index: usize, suffix: &[u8]) -> bool {
        if index >= self.len() || self.node().heads[index] != head_of(suffix) {
            return false;
        }
        let (len, rest) = self.rest(index);
        len == suffix.len() && is_equal(rest, rest_of(suffix))
    }

    /// Asks the processor to fetch what a search in this node will read.
    #[inline(always)]
    pub(in crate::tree) fn prefetch(self) {
        for line in 0..FIXED_BYTES.div_ceil(LINE_BYTES) {
            prefetch(self.0.as_ptr().cast::<u8>().wrapping_add(line * LINE_BYTES));
        }
    }

    /// Asks the processor to fetch the values of this node, as many as it may have.
    #[inline(always)]
    pub(in crate::tree) fn prefetch_values(self) {
        let lines = FIXED_BYTES / LINE_BYTES..(FIXED_BYTES + 8 * FANOUT).div_ceil(LINE_BYTES);
        for line in lines {
            prefetch(self.0.as_ptr().cast::<u8>().wrapping_add(line * LINE_BYTES));
        }
    }

    /// Asks the processor to fetch the values and their number, not the keys.
    pub(in crate::tree) fn prefetch_rows(self) {
        prefetch(self.0.as_ptr().cast());
        self.prefetch_values();
    }

    /// Asks the processor to fetch what a copy of this node will read, without a look at how long
    /// it is: leaves of short keys have about so many lines.
    #[inline(always)]
    pub(in crate::tree) fn prefetch_whole(self) {
        for line in 0..20 {
            prefetch(self.0.as_ptr().cast::<u8>().wrapping_add(line * LINE_BYTES));
        }
    }

    /// Asks the processor to fetch the value at `index` and the key's remainder beside it.
    #[inline(always)]
    pub(in crate::tree) fn prefetch_entry(self, index: usize) {
        let shape = self.shape();
        prefetch(self.0.as_ptr().cast::<u8>().wrapping_add(FIXED_BYTES + 8 * index));
        let stride = shape.suffix_len.saturating_sub(HEAD_BYTES);
        let offset = shape.remainders() + if shape.is_uniform { index * stride } else { 0 };
        prefetch(self.0.as_ptr().cast::<u8>().wrapping_add(offset));
    }

    /// The position at which the head of `key` would be found; only a hint for prefetching.
    #[inline(always)]
    pub(in crate::tree) fn guess(self, key: &[u8]) -> usize {
        let node = self.node();
        let suffix = key.get(usize::from(node.prefix_len)..).unwrap_or_default();
        count_less(&node.heads, head_of(suffix)).min(self.len().saturating_sub(1))
    }
}
