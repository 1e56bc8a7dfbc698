//! Searches in one node.

use std::cmp::Ordering;

use super::{FIXED_BYTES, HEAD_BYTES, LINE_BYTES, NodePtr, head_of, prefetch, rest_of};
use crate::tree::search::count_less;

/// Compares the parts of two keys after equal heads: `rest` is what follows the head, `len` the
/// length of the whole part after the prefix, which tells "a" from "a\0".
fn compare_rest(rest: &[u8], len: usize, other: &[u8], other_len: usize) -> Ordering {
    rest.cmp(other).then(len.cmp(&other_len))
}

impl NodePtr {
    /// The number of entries from `first` on whose key is less than prefix + `suffix`, or with
    /// `or_equal` not greater, plus `first`.
    #[inline(always)]
    fn position(self, suffix: &[u8], first: usize, or_equal: bool) -> usize {
        let node = self.node();
        let head = head_of(suffix);
        let len = self.len();
        let mut low = count_less(&node.heads, head).max(first);
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

    /// Which child of an inner node `key` belongs to.
    #[inline(always)]
    pub(in crate::tree) fn route(self, key: &[u8]) -> usize {
        let prefix = self.prefix();
        match key.strip_prefix(prefix) {
            Some(suffix) => self.position(suffix, 1, true) - 1,
            None if key < prefix => 0,
            None => self.len() - 1,
        }
    }

    /// The position of the first entry of a leaf that is not less than `key`, or with `or_equal`
    /// that is greater.
    #[inline(always)]
    pub(in crate::tree) fn bound(self, key: &[u8], or_equal: bool) -> usize {
        let prefix = self.prefix();
        match key.strip_prefix(prefix) {
            Some(suffix) => self.position(suffix, 0, or_equal),
            None if key < prefix => 0,
            None => self.len(),
        }
    }

    /// The position of `key` in a leaf, or where it would be.
    #[inline(always)]
    pub(in crate::tree) fn find(self, key: &[u8]) -> Result<usize, usize> {
        let prefix = self.prefix();
        let Some(suffix) = key.strip_prefix(prefix) else {
            return Err(if key < prefix { 0 } else { self.len() });
        };
        let index = self.position(suffix, 0, false);
        if index < self.len() && self.node().heads[index] == head_of(suffix) {
            let (len, rest) = self.rest(index);
            if len == suffix.len() && rest == rest_of(suffix) {
                return Ok(index);
            }
        }
        Err(index)
    }

    /// Asks the processor to fetch what a search in this node will read.
    #[inline(always)]
    pub(in crate::tree) fn prefetch(self) {
        for line in 0..FIXED_BYTES.div_ceil(LINE_BYTES) {
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
