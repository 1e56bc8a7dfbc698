//! The buffer that keys are encoded into.
//!
//! This file owns the storage of an encoded key: on the stack while it is short. Appending a piece
//! of known length compiles to a few moves, which a lookup feels. It knows nothing of what the
//! bytes mean.
//!
//! # Invariants
//!
//! 1. A buffer compares, hashes and borrows exactly as the byte string that it holds.
//! 2. Up to [`KEY_BYTES_INLINE`] bytes are held without an allocation; they stand in `inline`
//!    while `len` is not above that, and all in `heap` otherwise.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use super::print::Hex;
use crate::limits::KEY_BYTES_INLINE;

/// The bytes of an encoded key, compared byte by byte.
///
/// A key of ordinary length stays on the stack; a longer one costs one allocation.
///
/// ```
/// use fsmdb::{AsKey, KeyBuf};
///
/// let mut out = KeyBuf::new();
/// AsKey::<u16>::encode_key(&258_u16, &mut out);
/// assert_eq!(out.as_slice(), [1, 2]);
/// assert_eq!(format!("{out:?}"), "KeyBuf(0x0102)");
/// ```
#[derive(Clone)]
pub struct KeyBuf {
    len: usize,
    /// The bytes, while they are few.
    inline: [u8; KEY_BYTES_INLINE],
    /// The bytes, once they are more than [`KEY_BYTES_INLINE`].
    heap: Vec<u8>,
}

impl From<&[u8]> for KeyBuf {
    fn from(bytes: &[u8]) -> Self {
        let mut key = Self::new();
        key.extend(bytes);
        key
    }
}

impl KeyBuf {
    /// An empty buffer; allocates nothing.
    #[inline]
    #[must_use]
    pub fn new() -> Self {
        Self { len: 0, inline: [0; KEY_BYTES_INLINE], heap: Vec::new() }
    }

    /// Appends one byte.
    #[inline]
    pub fn push(&mut self, byte: u8) {
        self.extend(&[byte]);
    }

    /// Appends `bytes` as they are, neither escaped nor terminated.
    #[inline]
    pub fn extend(&mut self, bytes: &[u8]) {
        match self.inline.get_mut(self.len..self.len + bytes.len()) {
            Some(place) => place.copy_from_slice(bytes),
            None => self.spill(bytes),
        }
        self.len += bytes.len();
    }

    #[cold]
    fn spill(&mut self, bytes: &[u8]) {
        if self.len <= KEY_BYTES_INLINE {
            self.heap.clear();
            self.heap.extend_from_slice(&self.inline[..self.len]);
        }
        self.heap.extend_from_slice(bytes);
    }

    /// Drops what follows the first `len` bytes; a shorter buffer is left alone.
    pub fn truncate(&mut self, len: usize) {
        if len >= self.len {
            return;
        }
        if self.len > KEY_BYTES_INLINE {
            self.heap.truncate(len);
            if len <= KEY_BYTES_INLINE {
                self.inline[..len].copy_from_slice(&self.heap);
            }
        }
        self.len = len;
    }

    /// Drops all bytes and keeps the memory, so that one buffer can serve many keys.
    #[inline]
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Complements every byte from position `start` on, which reverses their order.
    ///
    /// This is how [`Descending`](crate::Descending) works: append the encoding of a value, then
    /// invert what was appended. A `start` past the end leaves the buffer alone.
    ///
    /// ```
    /// use fsmdb::KeyBuf;
    ///
    /// let mut out = KeyBuf::new();
    /// out.extend(&[1, 2, 3]);
    /// out.invert_from(1);
    /// assert_eq!(out.as_slice(), [1, 0xFD, 0xFC]);
    /// ```
    pub fn invert_from(&mut self, start: usize) {
        for byte in self.as_mut_slice().iter_mut().skip(start) {
            *byte = !*byte;
        }
    }

    /// The bytes appended so far.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.inline.get(..self.len).unwrap_or(&self.heap)
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        self.inline.get_mut(..self.len).unwrap_or(&mut self.heap)
    }

    /// How many bytes the buffer holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the buffer holds no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Default for KeyBuf {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for KeyBuf {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for KeyBuf {}

impl PartialOrd for KeyBuf {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for KeyBuf {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

impl Hash for KeyBuf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_slice().hash(state);
    }
}

impl Deref for KeyBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl AsRef<[u8]> for KeyBuf {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl Borrow<[u8]> for KeyBuf {
    fn borrow(&self) -> &[u8] {
        self.as_slice()
    }
}

impl fmt::Debug for KeyBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyBuf({})", Hex(self))
    }
}

/// Turns `prefix` into the smallest byte string that is greater than every string starting with
/// it; `false`, with the buffer empty, when there is none.
///
/// A trailing 0xFF cannot be incremented, and any string above it at that position is also above
/// the shorter string without it, so it is dropped. The empty string and a run of 0xFF are
/// prefixes of arbitrarily great strings and have no successor.
pub(crate) fn successor(prefix: &mut KeyBuf) -> bool {
    while let Some(last) = prefix.as_mut_slice().last_mut() {
        if let Some(next) = last.checked_add(1) {
            *last = next;
            return true;
        }
        prefix.truncate(prefix.len - 1);
    }
    false
}
