//! Ranges of typed keys as ranges of bytes.
//!
//! The entries of an index are the encoding of a value followed by that of a primary key. So a
//! bound is not compared with encodings of values but with byte strings that *start with* one,
//! and "up to and with v" must take in every entry that starts with v.
//!
//! # Invariants
//!
//! 1. A byte string that starts with the encoding of `v` lies within the bounds exactly if `v`
//!    lies in the range.
//! 2. The lower bound is `Included` or `Unbounded`, the upper one `Excluded` or `Unbounded`, and
//!    the lower is never above the upper. Ordered maps may rely on it; some panic otherwise.
//! 3. Bounds that leave no byte string between them are always written
//!    `(Included(""), Excluded(""))`: no byte string is below the empty one.

use std::ops::{
    Bound, Range, RangeBounds, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive,
};

use super::buf::successor;
use super::{AsKey, AsPrefix, KeyBuf, encode};

/// A range of keys of type `K`: `low..high`, `low..=high`, `..high`, `low..`, `..`, or a pair of
/// [`Bound`]s.
///
/// The ends may have any form that encodes as `K`: `"a".."b"` is a range of `String`. A range
/// whose start lies above its end is empty.
///
/// This trait cannot be implemented outside this library.
///
/// ```
/// use std::ops::Bound;
///
/// use fsmdb::{KeyRange, encode};
///
/// let (low, high) = KeyRange::<u8>::encode_bounds(&(3..=7));
/// assert_eq!(low, Bound::Included(encode::<u8, _>(&3)));
/// assert_eq!(high, Bound::Excluded(encode::<u8, _>(&8)));
/// ```
#[diagnostic::on_unimplemented(message = "`{Self}` is not a range of keys of type `{K}`")]
pub trait KeyRange<K>: sealed::Sealed {
    /// The bounds of the byte strings that start with the encoding of a key in this range.
    ///
    /// The lower bound is `Included` or `Unbounded`, the upper `Excluded` or `Unbounded`. An
    /// empty range is `(Included, Excluded)` of the empty byte string.
    fn encode_bounds(&self) -> (Bound<KeyBuf>, Bound<KeyBuf>);
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! key_range {
    ($($range:ty),+) => {$(
        impl<Q> sealed::Sealed for $range {}

        impl<K, Q: AsKey<K>> KeyRange<K> for $range {
            fn encode_bounds(&self) -> (Bound<KeyBuf>, Bound<KeyBuf>) {
                typed_bounds(self.start_bound(), self.end_bound())
            }
        }
    )+};
}

key_range!(
    Range<Q>,
    RangeInclusive<Q>,
    RangeFrom<Q>,
    RangeTo<Q>,
    RangeToInclusive<Q>,
    (Bound<Q>, Bound<Q>)
);

impl sealed::Sealed for RangeFull {}

impl<K> KeyRange<K> for RangeFull {
    fn encode_bounds(&self) -> (Bound<KeyBuf>, Bound<KeyBuf>) {
        (Bound::Unbounded, Bound::Unbounded)
    }
}

fn typed_bounds<K, Q: AsKey<K>>(low: Bound<&Q>, high: Bound<&Q>) -> (Bound<KeyBuf>, Bound<KeyBuf>) {
    let lower = match low {
        Bound::Unbounded => Bound::Unbounded,
        Bound::Included(key) => Bound::Included(encode(key)),
        Bound::Excluded(key) => match after(encode(key)) {
            Some(next) => Bound::Included(next),
            None => return empty_bounds(),
        },
    };
    let upper = match high {
        Bound::Unbounded => Bound::Unbounded,
        Bound::Excluded(key) => Bound::Excluded(encode(key)),
        Bound::Included(key) => after(encode(key)).map_or(Bound::Unbounded, Bound::Excluded),
    };
    match (&lower, &upper) {
        (Bound::Included(first), Bound::Excluded(end)) if first >= end => empty_bounds(),
        (Bound::Unbounded, Bound::Excluded(end)) if end.is_empty() => empty_bounds(),
        _ => (lower, upper),
    }
}

/// The bounds of the byte strings that start with `prefix`: those of a prefix scan and, as no
/// encoding is a prefix of another, also those of the entries of one exact value.
pub(crate) fn prefix_bounds(prefix: KeyBuf) -> (Bound<KeyBuf>, Bound<KeyBuf>) {
    let upper = after(prefix.clone()).map_or(Bound::Unbounded, Bound::Excluded);
    (Bound::Included(prefix), upper)
}

/// The bounds of the keys that begin with the components of `prefix`.
pub(crate) fn bounds_under<K, P: AsPrefix<K> + ?Sized>(
    prefix: &P,
) -> (Bound<KeyBuf>, Bound<KeyBuf>) {
    let mut encoded = KeyBuf::new();
    prefix.encode_prefix(&mut encoded);
    prefix_bounds(encoded)
}

/// The smallest byte string above all that start with `prefix`, if there is one.
fn after(mut prefix: KeyBuf) -> Option<KeyBuf> {
    successor(&mut prefix).then_some(prefix)
}

fn empty_bounds() -> (Bound<KeyBuf>, Bound<KeyBuf>) {
    (Bound::Included(KeyBuf::new()), Bound::Excluded(KeyBuf::new()))
}
