//! Keys for people: what errors, tools and logs show.
//!
//! This file owns the printed form: the `Debug` form of the decoded key, or hexadecimal when the
//! bytes do not decode. Printing never fails and never panics, because it is called while another
//! failure is being reported.

use std::fmt;

#[cfg(test)]
use super::decode;
use super::{Key, KeyReader};

/// Bytes shown as `0x` and lower-case hexadecimal digits.
pub(crate) struct Hex<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Prints bytes of which nobody knows what they are.
pub(crate) fn print_bytes(bytes: &[u8]) -> String {
    Hex(bytes).to_string()
}

/// Prints `bytes` as exactly one key of type `K`.
#[cfg(test)]
pub(crate) fn print_key<K: Key>(bytes: &[u8]) -> String {
    match decode::<K>(bytes) {
        Ok(key) => format!("{key:?}"),
        Err(_) => Hex(bytes).to_string(),
    }
}

/// Prints one key of type `K` from the front of `reader` and leaves the reader behind it.
///
/// An index entry is its value followed by the primary key, so the caller prints one after the
/// other. When the front does not decode, nothing after it can be found either: all that is left
/// is consumed and shown in hexadecimal.
pub(crate) fn print_from<K: Key>(reader: &mut KeyReader<'_>) -> String {
    let mut attempt = reader.clone();
    match K::decode_key(&mut attempt) {
        Ok(key) => {
            *reader = attempt;
            format!("{key:?}")
        }
        Err(_) => Hex(reader.take_rest()).to_string(),
    }
}
