//! The layout of a node: everything that knows where a byte of it stands. `find.rs` searches in a
//! node, `write.rs` makes and changes one.
//!
//! A node begins on a cache line. Its header and heads fill four lines (fan-out 56), which is all
//! that a search reads; the rest is sized by what the node holds:
//!
//! | part | bytes | when |
//! |---|---|---|
//! | header: birth stamp, counts, the first bytes of the common prefix | 32 | always |
//! | heads: the four bytes of each key after the prefix, as ordered `i32` | 4 x fan-out | always |
//! | values: a row in a leaf, a child in an inner node | 8 x cap | always |
//! | counts: the entries below each child | 8 x cap | inner nodes |
//! | slots: offset and length of each key in the heap | 4 x cap | keys of unequal length |
//! | prefix: when it is longer than the header holds | plen | long prefixes |
//! | remainders: what follows each head | stride x cap, or the heap | always |
//!
//! # Invariants
//!
//! 1. A [`NodePtr`] that a tree, a path or another node holds points at a live node. A node is
//!    taken back only when no version that is alive can reach it (`reclaim.rs`).
//! 2. Only a node whose birth is the stamp of the running transaction is written; only that
//!    transaction can reach it.
//! 3. Every key of a node begins with its prefix; entries are in strictly ascending order of their
//!    keys; the first entry of an inner node stands for minus infinity, whatever its key.
//! 4. Heads beyond the last entry are [`i32::MAX`].

mod find;
mod write;

use std::ptr::NonNull;

use super::arena::LINE_BYTES;
use super::row::RowPtr;

/// Most entries of a node.
pub(in crate::tree) const FANOUT: usize = if cfg!(fsmdb_small_nodes) { 8 } else { 56 };

/// Bytes of the prefix that the header holds.
const PREFIX_INLINE: usize = 8;

/// Bytes of a key that a head holds.
pub(super) const HEAD_BYTES: usize = 4;

/// A pointer to a node; see invariant 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tree) struct NodePtr(NonNull<Node>);

// SAFETY: nodes are plain memory; who may read or write one is invariant 2.
unsafe impl Send for NodePtr {}
// SAFETY: as above; a node that several threads can reach is not written.
unsafe impl Sync for NodePtr {}

/// What an entry leads to: a row in a leaf, a child in an inner node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(in crate::tree) struct Value(NonNull<()>);

impl Value {
    /// The node that the value was made of.
    pub(in crate::tree) fn into_node(self) -> NodePtr {
        NodePtr(self.0.cast())
    }

    /// The row that the value was made of.
    pub(in crate::tree) fn into_row(self) -> RowPtr {
        RowPtr::from_address(self.0)
    }
}

// SAFETY: a value is a pointer to a node or a row, which are both `Send`.
unsafe impl Send for Value {}

impl From<NodePtr> for Value {
    fn from(node: NodePtr) -> Self {
        Self(node.0.cast())
    }
}

impl From<RowPtr> for Value {
    fn from(row: RowPtr) -> Self {
        Self(row.address())
    }
}

/// The fixed part of a node.
#[repr(C, align(64))]
#[derive(Debug)]
struct Node {
    birth: u64,
    len: u16,
    cap: u16,
    prefix_len: u16,
    /// Cache lines of the whole node.
    lines: u16,
    heap_used: u16,
    heap_cap: u16,
    /// Length of every key after the prefix, in a uniform node.
    suffix_len: u16,
    /// 0 in a leaf.
    level: u8,
    /// Whether all keys have the same length.
    is_uniform: bool,
    prefix: [u8; PREFIX_INLINE],
    heads: [i32; FANOUT],
}

const FIXED_BYTES: usize = 32 + 4 * FANOUT;

/// What decides the size of a node and the places of its parts.
#[derive(Clone, Copy, Debug)]
pub(in crate::tree) struct Shape {
    pub(super) level: u8,
    pub(super) is_uniform: bool,
    pub(super) cap: usize,
    pub(super) prefix_len: usize,
    /// In a uniform node.
    pub(super) suffix_len: usize,
    /// In any other node.
    pub(super) heap_cap: usize,
}

impl Shape {
    fn counts(&self) -> usize {
        FIXED_BYTES + 8 * self.cap
    }

    fn slots(&self) -> usize {
        self.counts() + if self.level > 0 { 8 * self.cap } else { 0 }
    }

    fn prefix(&self) -> usize {
        self.slots() + if self.is_uniform { 0 } else { 4 * self.cap }
    }

    fn remainders(&self) -> usize {
        self.prefix() + if self.prefix_len > PREFIX_INLINE { self.prefix_len } else { 0 }
    }

    fn bytes(&self) -> usize {
        let stride = self.suffix_len.saturating_sub(HEAD_BYTES);
        self.remainders() + if self.is_uniform { stride * self.cap } else { self.heap_cap }
    }

    fn lines(&self) -> usize {
        self.bytes().div_ceil(LINE_BYTES)
    }
}

/// The head of a key after the prefix: its first four bytes, zeros after a shorter one, in an
/// `i32` of the same order.
#[inline(always)]
pub(in crate::tree) fn head_of(suffix: &[u8]) -> i32 {
    let word = match suffix.first_chunk::<HEAD_BYTES>() {
        Some(four) => u32::from_be_bytes(*four),
        None => {
            let mut four = [0; HEAD_BYTES];
            four[..suffix.len()].copy_from_slice(suffix);
            u32::from_be_bytes(four)
        }
    };
    (word ^ 0x8000_0000).cast_signed()
}

/// The bytes that a head was made of.
fn head_bytes(head: i32) -> [u8; HEAD_BYTES] {
    (head.cast_unsigned() ^ 0x8000_0000).to_be_bytes()
}

/// What follows the head of a suffix.
fn rest_of(suffix: &[u8]) -> &[u8] {
    suffix.get(HEAD_BYTES..).unwrap_or_default()
}

// Reading. All of it is inlined into the searches and cursors.
impl NodePtr {
    #[inline(always)]
    fn node<'a>(self) -> &'a Node {
        // SAFETY: invariant 1; while the reference is used nobody writes the node, by invariant 2
        // and because a writing transaction is one thread that does not search while it writes.
        unsafe { self.0.as_ref() }
    }

    #[inline(always)]
    fn at(self, offset: usize) -> *mut u8 {
        // SAFETY: every offset that this file computes is within the node (its shape).
        unsafe { self.0.as_ptr().cast::<u8>().add(offset) }
    }

    #[inline(always)]
    pub(in crate::tree) fn birth(self) -> u64 {
        self.node().birth
    }

    #[inline(always)]
    pub(in crate::tree) fn len(self) -> usize {
        usize::from(self.node().len)
    }

    #[inline(always)]
    pub(in crate::tree) fn level(self) -> u8 {
        self.node().level
    }

    #[inline(always)]
    pub(in crate::tree) fn is_leaf(self) -> bool {
        self.node().level == 0
    }

    pub(in crate::tree) fn is_uniform(self) -> bool {
        self.node().is_uniform
    }

    pub(in crate::tree) fn suffix_len(self) -> usize {
        usize::from(self.node().suffix_len)
    }

    /// The size of the node in bytes.
    pub(in crate::tree) fn bytes(self) -> usize {
        usize::from(self.node().lines) * LINE_BYTES
    }

    #[inline(always)]
    fn shape(self) -> Shape {
        let node = self.node();
        Shape {
            level: node.level,
            is_uniform: node.is_uniform,
            cap: usize::from(node.cap),
            prefix_len: usize::from(node.prefix_len),
            suffix_len: usize::from(node.suffix_len),
            heap_cap: usize::from(node.heap_cap),
        }
    }

    /// The bytes that all keys of the node begin with.
    #[inline(always)]
    pub(in crate::tree) fn prefix<'a>(self) -> &'a [u8] {
        let node = self.node();
        let len = usize::from(node.prefix_len);
        if len <= PREFIX_INLINE {
            return &node.prefix[..len];
        }
        // SAFETY: a longer prefix stands whole at this place of the shape, initialised.
        unsafe { std::slice::from_raw_parts(self.at(self.shape().prefix()), len) }
    }

    /// What the entries lead to.
    #[inline(always)]
    pub(in crate::tree) fn values<'a>(self) -> &'a [Value] {
        // SAFETY: `len <= cap` values stand behind the fixed part, initialised.
        unsafe { std::slice::from_raw_parts(self.at(FIXED_BYTES).cast(), self.len()) }
    }

    /// The rows of a leaf.
    #[inline(always)]
    pub(in crate::tree) fn rows<'a>(self) -> &'a [RowPtr] {
        debug_assert!(self.is_leaf());
        // SAFETY: the values of a leaf are rows, and a `RowPtr` is the same pointer.
        unsafe { std::slice::from_raw_parts(self.at(FIXED_BYTES).cast(), self.len()) }
    }

    #[inline(always)]
    pub(in crate::tree) fn value(self, index: usize) -> Value {
        self.values()[index]
    }

    /// The child at `index` of an inner node.
    #[inline(always)]
    pub(in crate::tree) fn child(self, index: usize) -> Self {
        debug_assert!(!self.is_leaf());
        Self(self.values()[index].0.cast())
    }

    /// The number of entries below each child of an inner node.
    #[inline(always)]
    pub(in crate::tree) fn counts<'a>(self) -> &'a [u64] {
        debug_assert!(!self.is_leaf());
        // SAFETY: an inner node has `cap >= len` counts at this place, initialised.
        unsafe { std::slice::from_raw_parts(self.at(self.shape().counts()).cast(), self.len()) }
    }

    /// The number of entries of the sub-tree.
    pub(in crate::tree) fn total(self) -> u64 {
        if self.is_leaf() { self.len() as u64 } else { self.counts().iter().sum() }
    }

    /// Length of the key at `index` after the prefix, and what follows its head.
    #[inline(always)]
    fn rest<'a>(self, index: usize) -> (usize, &'a [u8]) {
        let shape = self.shape();
        let (offset, suffix_len) = if shape.is_uniform {
            (index * shape.suffix_len.saturating_sub(HEAD_BYTES), shape.suffix_len)
        } else {
            let (offset, len) = self.slot(&shape, index);
            (usize::from(offset), usize::from(len))
        };
        let len = suffix_len.saturating_sub(HEAD_BYTES);
        // SAFETY: the remainder of each entry stands whole in the remainders of the shape.
        let rest = unsafe { std::slice::from_raw_parts(self.at(shape.remainders() + offset), len) };
        (suffix_len, rest)
    }

    #[inline(always)]
    fn slot(self, shape: &Shape, index: usize) -> (u16, u16) {
        debug_assert!(!shape.is_uniform && index < shape.cap);
        // SAFETY: slots of this index exist in the shape, initialised for every entry.
        unsafe { self.at(shape.slots() + 4 * index).cast::<[u16; 2]>().read().into() }
    }

    /// Calls `push` with the pieces of the key at `index` after the prefix.
    pub(in crate::tree) fn push_suffix(self, index: usize, mut push: impl FnMut(&[u8])) {
        let (len, rest) = self.rest(index);
        let head = head_bytes(self.node().heads[index]);
        push(&head[..len.min(HEAD_BYTES)]);
        push(rest);
    }
}

/// Asks the processor to fetch the line at `address`; any address may be asked for.
#[inline(always)]
pub(in crate::tree) fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of x86-64, and a prefetch never faults.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// As [`prefetch`], only into the second-level cache, which can wait for more lines at once than
/// the first: for those that will be read in a while.
#[inline(always)]
pub(in crate::tree) fn prefetch_far(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of x86-64, and a prefetch never faults.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
