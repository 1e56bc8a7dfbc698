//! Range bounds, against a model that compares typed keys.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::strategies::*;
use crate::key::buf::successor;
use crate::key::{Descending, Folded, Key, KeyBuf, KeyRange, encode};

/// The entries of an index: value and primary key, under their concatenated encodings.
fn entries<K: Key + Clone>(values: &[K]) -> BTreeMap<KeyBuf, K> {
    let primary_keys = ["", "\0", "zz", "\u{10FFFF}"];
    let entry =
        |value: &K, id: &str| (encode::<(K, String), _>(&(value.clone(), id)), value.clone());
    values.iter().flat_map(|value| primary_keys.map(|id| entry(value, id))).collect()
}

/// Asserts invariants 1 to 3 of `range.rs` for one range.
fn check<K, R>(entries: &BTreeMap<KeyBuf, K>, range: R)
where
    K: Key + Ord + Clone,
    R: KeyRange<K> + RangeBounds<K> + Debug,
{
    let (lower, upper) = range.encode_bounds();
    assert!(!matches!(lower, Bound::Excluded(_)) && !matches!(upper, Bound::Included(_)));

    // `BTreeMap::range` panics on bounds out of order, which checks invariant 2.
    let found: Vec<_> = entries.range((lower, upper)).map(|(_, value)| value).collect();
    let mut expected: Vec<_> = entries.values().filter(|value| range.contains(value)).collect();
    expected.sort();
    assert_eq!(found, expected, "{range:?}");
}

fn check_all<K: Key + Ord + Clone>(values: &[K], a: &K, b: &K) {
    let entries = entries(values);
    let (a, b) = (|| a.clone(), || b.clone());
    check(&entries, ..);
    check(&entries, a()..b());
    check(&entries, a()..=b());
    check(&entries, a()..);
    check(&entries, ..b());
    check(&entries, ..=b());
    for low in [Bound::Included(a()), Bound::Excluded(a()), Bound::Unbounded] {
        for high in [Bound::Included(b()), Bound::Excluded(b()), Bound::Unbounded] {
            check(&entries, (low.clone(), high));
        }
    }
}

macro_rules! ranges {
    ($($name:ident: $key:ty = $strategy:expr;)+) => {
        proptest! {$(
            #[test]
            fn $name(mut values in vec($strategy, 0..8), a in $strategy, b in $strategy) {
                check_all::<$key>(&values, &a, &b);
                values.extend([a.clone(), b.clone()]);
                check_all::<$key>(&values, &a, &b);
                check_all::<$key>(&values, &a, &a);
            }
        )+}
    };
}

ranges! {
    ranges_of_u8: u8 = integer!(u8);
    ranges_of_i8: i8 = integer!(i8);
    ranges_of_unit: () = Just(());
    ranges_of_string: String = text();
    ranges_of_bytes: Vec<u8> = bytes();
    ranges_of_folded: Folded = folded();
    ranges_of_option: Option<u8> = option::of(integer!(u8));
    ranges_of_tuple: (String, u8) = (text(), integer!(u8));
    ranges_of_descending: Descending<u8> = integer!(u8).prop_map(Descending);
    ranges_of_descending_string: Descending<String> = text().prop_map(Descending);
}

proptest! {
    #[test]
    fn the_successor_is_the_least_string_above_all_that_start_with_the_prefix(
        prefix in bytes(),
        other in bytes(),
    ) {
        let mut start = KeyBuf::new();
        start.extend(&prefix);
        let mut end = start.clone();
        let exists = successor(&mut end);
        prop_assert_eq!(exists, prefix.iter().any(|byte| *byte != 0xFF));
        let below = !exists || other.as_slice() < end.as_slice();
        prop_assert_eq!(other >= prefix && below, other.starts_with(&prefix));
    }

    #[test]
    fn borrowed_ends_give_the_bounds_of_owned_ones(a in text(), b in text()) {
        prop_assert_eq!(
            KeyRange::<String>::encode_bounds(&(a.as_str()..=b.as_str())),
            KeyRange::<String>::encode_bounds(&(a.clone()..=b.clone()))
        );
    }
}

#[test]
fn an_integer_literal_takes_the_width_of_the_key() {
    assert_eq!(
        KeyRange::<u16>::encode_bounds(&(1..2)),
        (Bound::Included(encode::<u16, _>(&1)), Bound::Excluded(encode::<u16, _>(&2)))
    );
}

#[test]
fn bounds_that_leave_nothing_are_written_in_one_way() {
    let empty = (Bound::Included(KeyBuf::new()), Bound::Excluded(KeyBuf::new()));
    let (low, high) = (9_u8, 3_u8);
    assert_eq!(KeyRange::<u8>::encode_bounds(&(low..high)), empty);
    assert_eq!(KeyRange::<u8>::encode_bounds(&(3_u8..3)), empty);
    let above_all = (Bound::Excluded(u8::MAX), Bound::Unbounded);
    assert_eq!(KeyRange::<u8>::encode_bounds(&above_all), empty);
    let between_equals = (Bound::Excluded(3_u8), Bound::Excluded(3_u8));
    assert_eq!(KeyRange::<u8>::encode_bounds(&between_equals), empty);
    assert_eq!(KeyRange::<()>::encode_bounds(&(..())), empty);
}

#[test]
fn the_greatest_value_included_has_no_upper_bound() {
    let (_, upper) = KeyRange::<u8>::encode_bounds(&(..=u8::MAX));
    assert_eq!(upper, Bound::Unbounded);
}

#[test]
fn an_exhausted_inclusive_range_is_empty() {
    let mut range = 3_u8..=4;
    assert_eq!(range.by_ref().count(), 2);
    let entries = entries(&[3_u8, 4]);
    check(&entries, range);
}
