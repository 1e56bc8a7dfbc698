//! The order of keys, ends and stretches, mostly by the first bytes alone.

use std::cmp::Ordering;

use crate::table::{Edge, Span};

/// The first bytes of a key, as a number of the same order.
pub(super) type Wide = u128;

/// The first bytes of what follows the prefix of a block, as a number of the same order.
pub(super) type Head = u64;

#[inline]
fn first_bytes<const N: usize>(key: &[u8]) -> [u8; N] {
    match key.first_chunk() {
        Some(bytes) => *bytes,
        None => {
            let mut bytes = [0; N];
            bytes[..key.len()].copy_from_slice(key);
            bytes
        }
    }
}

#[inline]
pub(super) fn wide(key: &[u8]) -> Wide {
    Wide::from_be_bytes(first_bytes(key))
}

pub(super) fn wide_end(end: Option<&Edge>) -> Wide {
    end.map_or(Wide::MAX, |end| wide(&end.key))
}

/// The head of what follows `prefix`; the lowest or the greatest number for a key that does not
/// begin with it. So heads are in the order of the keys, and only where they are equal say nothing.
#[inline]
pub(super) fn head_behind(prefix: &[u8], key: &[u8]) -> Head {
    match key.strip_prefix(prefix) {
        Some(rest) => Head::from_be_bytes(first_bytes(rest)),
        None if key < prefix => 0,
        None => Head::MAX,
    }
}

pub(super) fn end_behind(prefix: &[u8], end: Option<&Edge>) -> Head {
    end.map_or(Head::MAX, |end| head_behind(prefix, &end.key))
}

/// The order of upper ends; no end is the highest.
pub(super) fn cmp_ends(one: Option<&Edge>, other: Option<&Edge>) -> Ordering {
    match (one, other) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(one), Some(other)) => one.cmp(other),
    }
}

pub(super) fn cmp_spans(one: &Span, other: &Span) -> Ordering {
    one.low.cmp(&other.low).then_with(|| cmp_ends(one.high.as_ref(), other.high.as_ref()))
}

/// How many of the numbers below `len` are before the first that is not.
pub(super) fn partition(len: usize, is_before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = usize::midpoint(low, high);
        if is_before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}
