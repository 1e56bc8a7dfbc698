//! Order-preserving, prefix-free encoding of keys.
//!
//! This room owns how a typed key becomes bytes and how bytes become a typed key again. It knows
//! nothing of tables, indexes or trees.
//!
//! # Invariants
//!
//! 1. For values `a`, `b` of one key type that is `Ord`: `a.cmp(&b) == encode(a).cmp(&encode(b))`,
//!    byte by byte.
//! 2. No encoding is a proper prefix of another encoding of the same type, so encodings can be
//!    concatenated (tuples, index value followed by primary key) without losing invariant 1.
//! 3. `decode(encode(k)) == k`, so that tools can print keys.
//! 4. `Q: AsKey<K>` encodes exactly as the `K` it stands for, so that a `&str` finds a `String`.
//! 5. Each key has one encoding: decoding refuses every other byte string.
//!
//! Snapshot files hold rows and not keys, but in key order: an encoding that orders keys
//! differently cannot load the files that were written before it.

mod address;
mod buf;
mod compound;
mod descending;
mod elements;
mod folded;
mod number;
mod prefix;
mod print;
mod range;
mod reader;
#[cfg(test)]
mod tests;
mod text;
mod time;

use std::fmt::Debug;

pub use buf::KeyBuf;
pub use descending::Descending;
pub use elements::Elements;
pub use folded::Folded;
pub use prefix::{PrefixEnd, StartsWith, StartsWithBytes};
#[cfg(test)]
pub(crate) use print::print_key;
pub(crate) use print::{print_bytes, print_from};
pub use range::KeyRange;
pub(crate) use range::{bounds_under, prefix_bounds};
pub use reader::{KeyError, KeyReader};
pub use text::TextKey;
pub(crate) use text::shorten_text;

/// A type that can be a primary key or the value of an index.
///
/// Implemented for all integer widths, `bool`, `char`, strings, byte strings, arrays, IP
/// addresses, durations and times, UUIDs (feature `uuid`), `Option`, tuples of up to six,
/// [`Folded`] and [`Descending`], and by `#[derive(Key)]` for enums without fields and for structs
/// of keys.
pub trait Key: AsKey<Self> + Debug + Sized + Send + Sync + 'static {
    /// Reads one key from the front of `reader`, leaving what follows it.
    ///
    /// # Errors
    ///
    /// [`KeyError`] with the byte offset when the bytes are not an encoding of this type.
    fn decode_key(reader: &mut KeyReader<'_>) -> Result<Self, KeyError>;
}

/// A borrowed or owned form that encodes exactly as the key `K`.
///
/// `str` is `AsKey<String>`, `&Q` is `AsKey<K>` when `Q` is, and a tuple is `AsKey` of a tuple
/// when its components are: `("prod", 7_u64)` finds a `(String, u64)`.
#[diagnostic::on_unimplemented(message = "`{Self}` does not encode as a key of type `{K}`")]
pub trait AsKey<K> {
    /// Appends the encoding to `out`.
    fn encode_key(&self, out: &mut KeyBuf);

    /// Appends the encodings of `keys`, one after the other; bytes go as one piece.
    #[doc(hidden)]
    #[inline]
    fn encode_all(keys: &[Self], out: &mut KeyBuf)
    where
        Self: Sized,
    {
        for key in keys {
            key.encode_key(out);
        }
    }
}

/// The leading components of the compound key `K`: `("prod",)` for a key `(String, u64)`.
///
/// Components are complete, so `("a",)` does not match `("ab", 1)`. Only [`StartsWith`] and
/// [`StartsWithBytes`] match the start of a string, as the last component or alone.
#[diagnostic::on_unimplemented(message = "`{Self}` is not a prefix of keys of type `{K}`")]
pub trait AsPrefix<K> {
    /// Appends the encoding of the prefix to `out`.
    fn encode_prefix(&self, out: &mut KeyBuf);
}

/// The encoding of `key` as a key of type `K`.
///
/// ```
/// use fsmdb::encode;
///
/// assert_eq!(encode::<String, _>("web"), encode::<String, _>(&String::from("web")));
/// assert!(encode::<i32, _>(&-1) < encode::<i32, _>(&0));
/// ```
#[inline]
pub fn encode<K, Q: AsKey<K> + ?Sized>(key: &Q) -> KeyBuf {
    let mut out = KeyBuf::new();
    key.encode_key(&mut out);
    out
}

/// The key of type `K` that `bytes` encode, and nothing besides it.
///
/// ```
/// use fsmdb::{decode, encode};
///
/// let bytes = encode::<(u16, bool), _>(&(7_u16, true));
/// assert_eq!(decode::<(u16, bool)>(&bytes), Ok((7, true)));
/// assert!(decode::<u16>(&bytes).is_err());
/// ```
///
/// # Errors
///
/// [`KeyError`] when the bytes are not an encoding of a `K`, or when bytes follow it.
pub fn decode<K: Key>(bytes: &[u8]) -> Result<K, KeyError> {
    let mut reader = KeyReader::new(bytes);
    let key = K::decode_key(&mut reader)?;
    reader.finish()?;
    Ok(key)
}
