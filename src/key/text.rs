//! Strings and byte strings: encodings of variable length.
//!
//! Each byte 0x00 of the content becomes 01 01, each 0x01 becomes 01 02, any other byte stands
//! for itself, and 0x00 ends the string.
//!
//! # Invariants
//!
//! 1. The terminator is smaller than the first byte of any content byte's encoding, so a string
//!    sorts before its extensions and no encoding is a prefix of another.
//! 2. Each content byte is encoded on its own. The encodings that start with the escaped bytes of
//!    a prefix, without a terminator, are exactly those of the strings that start with it.
//! 3. There is one encoding of each string: other escapes are refused when decoding.

use std::borrow::Cow;
use std::sync::Arc;

use super::{AsKey, Key, KeyBuf, KeyError, KeyReader};

const TERMINATOR: u8 = 0;
const ESCAPE: u8 = 1;
const ESCAPED_ZERO: u8 = 1;
const ESCAPED_ONE: u8 = 2;

/// Appends `content` escaped but not terminated: the encoding of "starts with `content`".
pub(super) fn push_escaped(content: &[u8], out: &mut KeyBuf) {
    let mut rest = content;
    // Bytes to be escaped are rare; the runs between them are copied whole.
    while let Some(position) = rest.iter().position(|byte| *byte <= ESCAPE) {
        out.extend(&rest[..position]);
        out.extend(&[ESCAPE, if rest[position] == 0 { ESCAPED_ZERO } else { ESCAPED_ONE }]);
        rest = &rest[position + 1..];
    }
    out.extend(rest);
}

/// Appends the complete encoding of a byte string.
fn push_bytes(content: &[u8], out: &mut KeyBuf) {
    push_escaped(content, out);
    out.push(TERMINATOR);
}

/// Appends the complete encoding of a string.
pub(super) fn push_text(content: &str, out: &mut KeyBuf) {
    push_bytes(content.as_bytes(), out);
}

/// Reads the content of one byte string up to and with its terminator.
fn read_bytes(reader: &mut KeyReader<'_>) -> Result<Vec<u8>, KeyError> {
    let mut content = Vec::new();
    loop {
        let offset = reader.position();
        match reader.byte()? {
            TERMINATOR => return Ok(content),
            ESCAPE => content.push(match reader.byte()? {
                ESCAPED_ZERO => 0,
                ESCAPED_ONE => 1,
                _ => return Err(KeyError::Invalid { offset, expected: "escaped byte" }),
            }),
            byte => content.push(byte),
        }
    }
}

/// Reads one string and checks that it is UTF-8.
pub(super) fn read_text(reader: &mut KeyReader<'_>) -> Result<String, KeyError> {
    let offset = reader.position();
    String::from_utf8(read_bytes(reader)?)
        .map_err(|_| KeyError::Invalid { offset, expected: "utf-8 text" })
}

/// A key that is one string or byte string, for which the longest stored prefix can be asked.
///
/// This trait cannot be implemented outside this library.
pub trait TextKey: Key + sealed::Sealed {}

mod sealed {
    pub trait Sealed {}
}

macro_rules! text_key {
    ($($owner:ty),+) => {$(
        impl sealed::Sealed for $owner {}
        impl TextKey for $owner {}
    )+};
}

text_key!(String, Box<str>, Arc<str>, Cow<'static, str>, Vec<u8>, Box<[u8]>, Arc<[u8]>);

/// Shortens the encoding of a string to that of the longest of its prefixes that has at most
/// `encoded` bytes before the terminator.
pub(crate) fn shorten_text(key: &mut KeyBuf, encoded: usize) {
    let (mut at, mut whole) = (0, 0);
    while whole <= encoded && at < key.len() {
        at = whole;
        whole += if key.as_slice().get(whole) == Some(&ESCAPE) { 2 } else { 1 };
    }
    key.truncate(at);
    key.push(TERMINATOR);
}

/// Makes each owner a key, and each form encode as every owner.
///
/// The forms are written out, not bounded by `AsRef`: a blanket implementation would claim every
/// type, and callers could not tell which forms exist.
macro_rules! string_key {
    ($push:ident, $read:ident, $forms:tt, $($owner:ty),+) => {$(
        string_key!(@forms $push, $owner, $forms);

        impl Key for $owner {
            fn decode_key(reader: &mut KeyReader<'_>) -> Result<Self, KeyError> {
                Ok($read(reader)?.into())
            }
        }
    )+};
    (@forms $push:ident, $owner:ty, [$($form:ty),+]) => {$(
        impl AsKey<$owner> for $form {
            fn encode_key(&self, out: &mut KeyBuf) {
                $push(self, out);
            }
        }
    )+};
}

string_key!(
    push_text,
    read_text,
    [str, String, Box<str>, Arc<str>, Cow<'_, str>],
    String,
    Box<str>,
    Arc<str>,
    Cow<'static, str>
);
string_key!(
    push_bytes,
    read_bytes,
    [[u8], Vec<u8>, Box<[u8]>, Arc<[u8]>],
    Vec<u8>,
    Box<[u8]>,
    Arc<[u8]>
);
