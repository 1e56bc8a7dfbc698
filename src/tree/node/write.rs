//! Makes and changes nodes of the running transaction (invariant 2 of the room).

use super::{
    FANOUT, FIXED_BYTES, HEAD_BYTES, LINE_BYTES, Node, NodePtr, PREFIX_INLINE, Shape, Value,
    head_of, rest_of,
};
use crate::tree::arena::Arena;

impl NodePtr {
    /// A node of `shape` without entries, born at `birth`.
    pub(in crate::tree) fn create(
        arena: &mut Arena,
        birth: u64,
        shape: Shape,
        prefix: &[u8],
    ) -> Self {
        debug_assert!(shape.cap <= FANOUT && shape.prefix_len == prefix.len());
        let lines = shape.lines();
        let memory = arena.alloc(lines).cast::<Node>();
        let mut node = Node {
            birth,
            len: 0,
            cap: shape.cap as u16,
            prefix_len: shape.prefix_len as u16,
            lines: lines as u16,
            heap_used: 0,
            heap_cap: shape.heap_cap as u16,
            suffix_len: shape.suffix_len as u16,
            level: shape.level,
            is_uniform: shape.is_uniform,
            prefix: [0; PREFIX_INLINE],
            heads: [i32::MAX; FANOUT],
        };
        let is_inline = prefix.len() <= PREFIX_INLINE;
        if is_inline {
            node.prefix[..prefix.len()].copy_from_slice(prefix);
        }
        // SAFETY: the block has room for the fixed part and for the shape, and is ours.
        unsafe { memory.write(node) };
        let this = Self(memory);
        if !is_inline {
            this.write_bytes(shape.prefix(), prefix);
        }
        this
    }

    /// A copy of the node, born at `birth`: one copy of its bytes.
    pub(in crate::tree) fn copy(self, arena: &mut Arena, birth: u64) -> Self {
        let lines = usize::from(self.node().lines);
        let memory = arena.alloc(lines);
        // SAFETY: both blocks have this size, and the new one is nobody else's.
        unsafe {
            let from = self.0.as_ptr().cast::<u8>();
            std::ptr::copy_nonoverlapping(from, memory.as_ptr(), lines * LINE_BYTES);
            (*memory.cast::<Node>().as_ptr()).birth = birth;
        }
        Self(memory.cast())
    }

    /// A copy with room for `cap` entries and `heap_cap` bytes of remainders, born at `birth`.
    ///
    /// The remainders are copied as they are, so the heap is not smaller than what it holds.
    pub(in crate::tree) fn resized(
        self,
        arena: &mut Arena,
        birth: u64,
        cap: usize,
        heap_cap: usize,
    ) -> Self {
        let old = self.shape();
        let node = self.node();
        debug_assert!(cap >= self.len() && heap_cap >= usize::from(node.heap_used));
        let shape = Shape { cap, heap_cap, ..old };
        let new = Self::create(arena, birth, shape, self.prefix());
        let len = self.len();
        let stride = old.suffix_len.saturating_sub(HEAD_BYTES);
        let remainders = if old.is_uniform { stride * len } else { usize::from(node.heap_used) };
        // SAFETY: each part has at least this many bytes in both shapes; the new node is ours.
        unsafe {
            let fixed = new.0.as_ptr();
            (*fixed).len = node.len;
            (*fixed).heap_used = node.heap_used;
            (*fixed).heads = node.heads;
            let copy = |from: usize, to: usize, bytes: usize| {
                std::ptr::copy_nonoverlapping(self.at(from), new.at(to), bytes);
            };
            copy(FIXED_BYTES, FIXED_BYTES, 8 * len);
            if old.level > 0 {
                copy(old.counts(), shape.counts(), 8 * len);
            }
            if !old.is_uniform {
                copy(old.slots(), shape.slots(), 4 * len);
            }
            copy(old.remainders(), shape.remainders(), remainders);
        }
        new
    }

    /// Gives the node back.
    ///
    /// Invariant 1: the caller has shown that nobody can reach it.
    pub(in crate::tree) fn free(self, arena: &mut Arena) {
        let lines = usize::from(self.node().lines);
        // SAFETY: the block came from an arena with this size; the caller's word for the rest.
        unsafe { arena.free(self.0.cast(), lines) };
    }

    /// Asks the processor to fetch what [`free`](NodePtr::free) will write.
    pub(in crate::tree) fn prefetch_free(self) {
        Arena::prefetch_free(self.0.cast());
    }

    #[cfg(test)]
    pub(in crate::tree) fn address(self) -> *const u8 {
        self.0.as_ptr().cast_const().cast()
    }

    fn write_bytes(self, offset: usize, bytes: &[u8]) {
        debug_assert!(offset + bytes.len() <= self.bytes());
        // SAFETY: the bytes lie within the node, which is ours (invariant 2).
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.at(offset), bytes.len());
        }
    }

    fn write_slot(self, shape: &Shape, index: usize, offset: usize, len: usize) {
        // SAFETY: the slot lies within the node, which is ours (invariant 2).
        unsafe {
            let slot = self.at(shape.slots() + 4 * index).cast::<[u16; 2]>();
            slot.write([offset as u16, len as u16]);
        }
    }

    /// Replaces the value at `index`.
    pub(in crate::tree) fn set_value(self, index: usize, value: Value) {
        debug_assert!(index < self.len());
        // SAFETY: the value lies within the node, aligned, and the node is ours (invariant 2).
        unsafe { self.at(FIXED_BYTES + 8 * index).cast::<Value>().write(value) };
    }

    /// Replaces the count at `index` of an inner node.
    pub(in crate::tree) fn set_count(self, index: usize, count: u64) {
        debug_assert!(index < self.len() && !self.is_leaf());
        // SAFETY: the count lies within the node, aligned, and the node is ours (invariant 2).
        unsafe { self.at(self.shape().counts() + 8 * index).cast::<u64>().write(count) };
    }

    /// Whether a key of this length after the prefix can be added in place.
    pub(in crate::tree) fn has_room(self, suffix_len: usize) -> bool {
        let node = self.node();
        let rest = suffix_len.saturating_sub(HEAD_BYTES);
        node.len < node.cap
            && if node.is_uniform {
                suffix_len == usize::from(node.suffix_len)
            } else {
                usize::from(node.heap_used) + rest <= usize::from(node.heap_cap)
            }
    }

    /// The bytes of the heap in use, dead ones included.
    pub(in crate::tree) fn heap_used(self) -> usize {
        usize::from(self.node().heap_used)
    }

    /// Adds an entry at `index`; the caller has asked [`has_room`](NodePtr::has_room).
    pub(in crate::tree) fn insert(self, index: usize, suffix: &[u8], value: Value, count: u64) {
        debug_assert!(self.has_room(suffix.len()));
        let (len, shape) = (self.len(), self.shape());
        let rest = rest_of(suffix);
        self.shift(FIXED_BYTES, 8, index, index + 1, len - index);
        if shape.level > 0 {
            self.shift(shape.counts(), 8, index, index + 1, len - index);
        }
        let heap_used = self.heap_used();
        let offset = if shape.is_uniform {
            let stride = rest.len();
            self.shift(shape.remainders(), stride, index, index + 1, len - index);
            index * stride
        } else {
            self.shift(shape.slots(), 4, index, index + 1, len - index);
            self.write_slot(&shape, index, heap_used, suffix.len());
            heap_used
        };
        self.write_bytes(shape.remainders() + offset, rest);
        // SAFETY: the node is ours (invariant 2).
        let node = unsafe { &mut *self.0.as_ptr() };
        node.heads.copy_within(index..len, index + 1);
        node.heads[index] = head_of(suffix);
        node.len += 1;
        if !shape.is_uniform {
            node.heap_used += rest.len() as u16;
        }
        self.set_value(index, value);
        if shape.level > 0 {
            self.set_count(index, count);
            self.force_first_head();
        }
    }

    /// Adds an entry behind the last of a node of `shape`; there is room for it.
    #[inline]
    pub(in crate::tree) fn append(self, shape: &Shape, suffix: &[u8], value: Value, count: u64) {
        debug_assert!(self.has_room(suffix.len()));
        let (len, rest) = (self.len(), rest_of(suffix));
        let offset = if shape.is_uniform {
            len * rest.len()
        } else {
            self.write_slot(shape, len, self.heap_used(), suffix.len());
            self.heap_used()
        };
        self.write_bytes(shape.remainders() + offset, rest);
        // SAFETY: the node is ours (invariant 2).
        let node = unsafe { &mut *self.0.as_ptr() };
        node.heads[len] = head_of(suffix);
        node.len += 1;
        if !shape.is_uniform {
            node.heap_used += rest.len() as u16;
        }
        self.set_value(len, value);
        if shape.level > 0 {
            self.set_count(len, count);
        }
    }

    /// Adds the first entry of an inner node, whose key is minus infinity.
    pub(in crate::tree) fn append_first(self, value: Value, count: u64) {
        let shape = self.shape();
        debug_assert!(shape.level > 0 && self.len() == 0);
        if !shape.is_uniform {
            self.write_slot(&shape, 0, 0, 0);
        }
        // SAFETY: the node is ours (invariant 2).
        unsafe { (*self.0.as_ptr()).len = 1 };
        self.force_first_head();
        self.set_value(0, value);
        self.set_count(0, count);
    }

    /// Whether the node has far more room than entries.
    pub(in crate::tree) fn is_sparse(self) -> bool {
        usize::from(self.node().cap) > 2 * self.len() + 8
    }

    /// Takes the entry at `index` out.
    pub(in crate::tree) fn remove(self, index: usize) {
        let (len, shape) = (self.len(), self.shape());
        let after = len - index - 1;
        self.shift(FIXED_BYTES, 8, index + 1, index, after);
        if shape.level > 0 {
            self.shift(shape.counts(), 8, index + 1, index, after);
        }
        if shape.is_uniform {
            let stride = shape.suffix_len.saturating_sub(HEAD_BYTES);
            self.shift(shape.remainders(), stride, index + 1, index, after);
        } else {
            self.shift(shape.slots(), 4, index + 1, index, after);
        }
        // SAFETY: the node is ours (invariant 2).
        let node = unsafe { &mut *self.0.as_ptr() };
        node.heads.copy_within(index + 1..len, index);
        node.heads[len - 1] = i32::MAX;
        node.len -= 1;
        if shape.level > 0 && node.len > 0 {
            self.force_first_head();
        }
    }

    /// Invariant 3: the first entry of an inner node is minus infinity.
    fn force_first_head(self) {
        // SAFETY: the node is ours (invariant 2).
        unsafe { (*self.0.as_ptr()).heads[0] = i32::MIN };
    }

    /// Moves `count` elements of `size` bytes within the part at `part`.
    fn shift(self, part: usize, size: usize, from: usize, to: usize, count: usize) {
        debug_assert!(part + (from.max(to) + count) * size <= self.bytes());
        // SAFETY: both places lie within the part, and the node is ours (invariant 2).
        unsafe {
            std::ptr::copy(self.at(part + from * size), self.at(part + to * size), count * size);
        }
    }
}
