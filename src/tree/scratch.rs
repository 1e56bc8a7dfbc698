//! Entries out of their nodes, while nodes are built of them: splits, merges, changes of shape.
//!
//! The buffers are kept from one use to the next, so that they are allocated once.

use std::ops::Range;

use super::arena::Arena;
use super::edit::{heap_room, roomy};
use super::node::{FANOUT, HEAD_BYTES, NodePtr, Shape, Value};
use crate::limits::NODE_REMAINDER_BYTES_MAX;

/// Entries in ascending order, with whole keys.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// The key that tells two nodes apart, from the last split or from a parent.
    pub(super) separator: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    start: usize,
    end: usize,
    value: Value,
    count: u64,
}

impl Scratch {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn push(&mut self, key: &[u8], value: Value, count: u64) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        let end = self.bytes.len();
        self.entries.push(Entry { start, end, value, count });
    }

    /// Adds entries of `node`. The first entry of an inner node, which stands for minus infinity,
    /// gets the key `first`: its separator in the parent when it comes to stand behind another.
    pub(super) fn push_node(&mut self, node: NodePtr, range: Range<usize>, first: &[u8]) {
        let is_leaf = node.is_leaf();
        for index in range {
            let start = self.bytes.len();
            if index == 0 && !is_leaf {
                self.bytes.extend_from_slice(first);
            } else {
                self.bytes.extend_from_slice(node.prefix());
                node.push_suffix(index, |piece| self.bytes.extend_from_slice(piece));
            }
            let count = if is_leaf { 1 } else { node.counts()[index] };
            let (end, value) = (self.bytes.len(), node.value(index));
            self.entries.push(Entry { start, end, value, count });
        }
    }

    /// Writes the key at `index` of an inner node to `separator`.
    pub(super) fn separator_of(&mut self, node: NodePtr, index: usize) {
        self.separator.clear();
        self.separator.extend_from_slice(node.prefix());
        node.push_suffix(index, |piece| self.separator.extend_from_slice(piece));
    }

    /// The bytes of all keys together.
    pub(super) fn key_bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn last_key(&self) -> Option<&[u8]> {
        self.entries.last().map(|entry| &self.bytes[entry.start..entry.end])
    }

    /// Drops all entries; the separator becomes what tells them from a node that starts with `key`.
    pub(super) fn start_after_last(&mut self, level: u8, key: &[u8]) {
        let last = self.last_key().unwrap_or_default();
        let len = if level == 0 { common_prefix(last, key) + 1 } else { key.len() };
        self.separator.clear();
        self.separator.extend_from_slice(&key[..len]);
        self.clear();
    }

    fn key(&self, index: usize) -> &[u8] {
        let Entry { start, end, .. } = self.entries[index];
        &self.bytes[start..end]
    }

    /// The bytes that all keys of the range begin with.
    fn prefix_len(&self, range: &Range<usize>) -> usize {
        if range.is_empty() {
            return 0;
        }
        common_prefix(self.key(range.start), self.key(range.end - 1))
    }

    /// The entries of the range whose keys count: the first key of an inner node stands for minus
    /// infinity and decides nothing.
    fn keyed(level: u8, range: &Range<usize>) -> Range<usize> {
        range.start + usize::from(level > 0)..range.end
    }

    /// Whether the entries may stand in one node.
    pub(super) fn fits(&self, level: u8, range: Range<usize>) -> bool {
        if range.len() > FANOUT {
            return false;
        }
        let keyed = Self::keyed(level, &range);
        let skip = self.prefix_len(&keyed) + HEAD_BYTES;
        let rests = keyed.map(|index| self.key(index).len().saturating_sub(skip));
        rests.sum::<usize>() <= NODE_REMAINDER_BYTES_MAX
    }

    /// Where to split after an entry was added at `at`: in the middle, or near the end when keys
    /// arrive in ascending order, so that the left node stays full.
    ///
    /// Where halves of the count do not fit, the new key is apart from all others (then it is the
    /// first or the last that counts, and they fit without it), or halves of the remainders do.
    pub(super) fn split_point(&self, level: u8, at: usize) -> usize {
        let len = self.len();
        let ascending = len - len.div_ceil(16);
        let both_fit = |middle| self.fits(level, 0..middle) && self.fits(level, middle..len);
        let keyed = Self::keyed(level, &(0..len));
        if at + 1 == len && both_fit(ascending) {
            ascending
        } else if both_fit(len / 2) {
            len / 2
        } else if at == keyed.start && both_fit(at + 1) {
            at + 1
        } else if at + 1 == len && both_fit(at) {
            at
        } else {
            self.middle_of_remainders(keyed)
        }
    }

    /// Where half of the bytes after the common prefix are on either side.
    fn middle_of_remainders(&self, keyed: Range<usize>) -> usize {
        let prefix_len = self.prefix_len(&keyed);
        let rest = |index: usize| self.key(index).len() - prefix_len;
        let half = keyed.clone().map(rest).sum::<usize>() / 2;
        let mut before = 0;
        let is_behind = |index: &usize| {
            before += rest(*index);
            before > half
        };
        keyed.clone().find(is_behind).unwrap_or(keyed.end - 1).clamp(1, self.len() - 1)
    }

    /// Sets the separator of the nodes that `middle` divides: the shortest one in leaves.
    pub(super) fn separate(&mut self, level: u8, middle: usize) {
        let (left, right) = (self.key(middle - 1), self.key(middle));
        let len = if level == 0 { common_prefix(left, right) + 1 } else { right.len() };
        let separator = right[..len].to_vec();
        self.separator = separator;
    }

    /// A node of the entries in the range; `is_roomy` leaves room for more.
    pub(super) fn build(
        &self,
        arena: &mut Arena,
        birth: u64,
        level: u8,
        range: Range<usize>,
        is_roomy: bool,
    ) -> NodePtr {
        debug_assert!(self.fits(level, range.clone()));
        let keyed = Self::keyed(level, &range);
        let prefix_len = self.prefix_len(&keyed);
        let mut lens = keyed.clone().map(|index| self.key(index).len() - prefix_len).peekable();
        let suffix_len = lens.peek().copied().unwrap_or(0);
        let (mut is_uniform, mut rests) = (true, 0);
        for len in lens {
            is_uniform &= len == suffix_len;
            rests += len.saturating_sub(HEAD_BYTES);
        }
        let cap = if is_roomy { roomy(range.len()) } else { range.len() };
        let rest_of_uniform = suffix_len.saturating_sub(HEAD_BYTES);
        let cap = if is_uniform && rest_of_uniform * cap > NODE_REMAINDER_BYTES_MAX {
            range.len()
        } else {
            cap
        };
        let heap_cap = match (is_uniform, is_roomy) {
            (true, _) => 0,
            (false, true) => heap_room(rests),
            (false, false) => rests,
        };
        let suffix_len = if is_uniform { suffix_len } else { 0 };
        let shape = Shape { level, is_uniform, cap, prefix_len, suffix_len, heap_cap };
        let prefix = if keyed.is_empty() { &[] } else { &self.key(keyed.start)[..prefix_len] };
        let node = NodePtr::create(arena, birth, shape, prefix);
        if keyed.start > range.start {
            let Entry { value, count, .. } = self.entries[range.start];
            node.append_first(value, count);
        }
        for Entry { start, end, value, count } in &self.entries[keyed] {
            node.append(&shape, &self.bytes[start + prefix_len..*end], *value, *count);
        }
        node
    }
}

/// The number of bytes in which both begin alike.
pub(super) fn common_prefix(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}
