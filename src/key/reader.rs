//! Reading typed keys back out of bytes.
//!
//! Keys are read to be printed, exported and checked. The bytes may come from a damaged file or
//! a hostile peer, so this file owns the promise that reading them is harmless.
//!
//! # Invariants
//!
//! 1. No method panics, whatever the bytes.
//! 2. The position never passes the end of the input, and a single read that fails does not move
//!    it.
//! 3. The reader never allocates; what a decoder builds from it is at most proportional to the
//!    bytes consumed.

use thiserror::Error;

/// Why bytes are not an encoding of the key type they were read as.
///
/// Offsets count bytes from the start of the reader's input.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The bytes end in the middle of a value.
    #[error("key ends at byte {offset} in the middle of a value; was it written as another type?")]
    Truncated {
        /// The length of the input.
        offset: usize,
    },
    /// The bytes of a value are none that encoding produces.
    #[error("key has no {expected} at byte {offset}; was it written as another type?")]
    Invalid {
        /// Where the value, or the escape inside a string, starts.
        offset: usize,
        /// What should have been there, as a noun: "boolean".
        expected: &'static str,
    },
    /// A complete key is followed by more bytes.
    #[error("key is complete at byte {offset} but bytes follow; was it written as another type?")]
    Trailing {
        /// Where the first surplus byte is.
        offset: usize,
    },
}

/// Reads keys from the front of a byte string.
///
/// Handed to [`Key::decode_key`](crate::Key::decode_key); a hand-written key type reads its parts
/// in the order in which it encoded them.
///
/// ```
/// use fsmdb::{Key, KeyReader, encode};
///
/// let bytes = encode::<(String, u64), _>(&("web", 7_u64));
/// let mut reader = KeyReader::new(&bytes);
/// assert_eq!(String::decode_key(&mut reader)?, "web");
/// assert_eq!(u64::decode_key(&mut reader)?, 7);
/// reader.finish()?;
/// # Ok::<(), fsmdb::KeyError>(())
/// ```
#[derive(Clone, Debug)]
pub struct KeyReader<'a> {
    bytes: &'a [u8],
    position: usize,
    /// 0x00, or 0xFF while inside an odd number of descending scopes.
    mask: u8,
}

impl<'a> KeyReader<'a> {
    /// A reader at the start of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0, mask: 0 }
    }

    /// Reads one byte.
    ///
    /// # Errors
    ///
    /// [`KeyError::Truncated`] at the end of the input.
    pub fn byte(&mut self) -> Result<u8, KeyError> {
        let byte = self.bytes.get(self.position).ok_or_else(|| self.truncated())?;
        self.position += 1;
        Ok(byte ^ self.mask)
    }

    /// Fills `out` with the bytes that follow, or reads nothing.
    ///
    /// # Errors
    ///
    /// [`KeyError::Truncated`] when fewer bytes than that remain.
    pub fn read_exact(&mut self, out: &mut [u8]) -> Result<(), KeyError> {
        let source = self.bytes[self.position..].get(..out.len());
        let source = source.ok_or_else(|| self.truncated())?;
        for (target, byte) in out.iter_mut().zip(source) {
            *target = byte ^ self.mask;
        }
        self.position += out.len();
        Ok(())
    }

    /// Runs `read` with every byte complemented, as
    /// [`KeyBuf::invert_from`](crate::KeyBuf::invert_from) wrote them.
    ///
    /// Scopes nest: inside two of them bytes read as they are.
    ///
    /// # Errors
    ///
    /// The error of `read`.
    pub fn inverted<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, KeyError>,
    ) -> Result<T, KeyError> {
        self.mask = !self.mask;
        let result = read(self);
        self.mask = !self.mask;
        result
    }

    /// Ends reading and checks that nothing is left.
    ///
    /// # Errors
    ///
    /// [`KeyError::Trailing`] when bytes remain.
    pub fn finish(self) -> Result<(), KeyError> {
        if self.is_empty() { Ok(()) } else { Err(KeyError::Trailing { offset: self.position }) }
    }

    /// How many bytes have been read.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }

    /// How many bytes are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// Whether all bytes have been read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    /// Reads the next `N` bytes, for the fixed-width encodings.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], KeyError> {
        let mut out = [0; N];
        self.read_exact(&mut out)?;
        Ok(out)
    }

    /// Consumes what is left, as it was stored.
    pub(super) fn take_rest(&mut self) -> &'a [u8] {
        let rest = &self.bytes[self.position..];
        self.position = self.bytes.len();
        rest
    }

    fn truncated(&self) -> KeyError {
        KeyError::Truncated { offset: self.bytes.len() }
    }
}
