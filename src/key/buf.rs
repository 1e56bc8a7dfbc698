//! The buffer that keys are encoded into.
//!
//! This file owns the storage of an encoded key and is the only one that names `smallvec`, so the
//! choice can change without touching an encoding. It knows nothing of what the bytes mean.
//!
//! # Invariants
//!
//! 1. A buffer compares, hashes and borrows exactly as the byte string that it holds.
//! 2. Up to [`KEY_BYTES_INLINE`] bytes are held without an allocation.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

use smallvec::SmallVec;

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
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyBuf {
    bytes: SmallVec<[u8; KEY_BYTES_INLINE]>,
}

impl KeyBuf {
    /// An empty buffer; allocates nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends one byte.
    pub fn push(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    /// Appends `bytes` as they are, neither escaped nor terminated.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Drops what follows the first `len` bytes; a shorter buffer is left alone.
    pub fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
    }

    /// Drops all bytes and keeps the memory, so that one buffer can serve many keys.
    pub fn clear(&mut self) {
        self.bytes.clear();
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
        for byte in self.bytes.iter_mut().skip(start) {
            *byte = !*byte;
        }
    }

    /// The bytes appended so far.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// How many bytes the buffer holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the buffer holds no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl Deref for KeyBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsRef<[u8]> for KeyBuf {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Borrow<[u8]> for KeyBuf {
    fn borrow(&self) -> &[u8] {
        &self.bytes
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
    while let Some(last) = prefix.bytes.last_mut() {
        if let Some(next) = last.checked_add(1) {
            *last = next;
            return true;
        }
        prefix.bytes.pop();
    }
    false
}
