//! Prefixes by component and by the start of a string.

use std::ops::Bound;

use proptest::prelude::*;

use super::strategies::*;
use crate::key::{
    AsPrefix, Descending, Folded, Key, KeyBuf, StartsWith, StartsWithBytes, encode, prefix_bounds,
};

fn prefix_of<K, P: AsPrefix<K>>(prefix: &P) -> KeyBuf {
    let mut out = KeyBuf::new();
    prefix.encode_prefix(&mut out);
    out
}

/// Asserts that `key` is found by `prefix` exactly if `expected`, both as a byte prefix and
/// within the bounds of a scan.
fn check<K: Key, P: AsPrefix<K>>(prefix: &P, key: &K, expected: bool) {
    let (start, encoded) = (prefix_of(prefix), encode::<K, K>(key));
    assert_eq!(encoded.starts_with(&start), expected, "{start:?} of {key:?} {encoded:?}");

    let (lower, upper) = prefix_bounds(start);
    let above = matches!(&lower, Bound::Included(first) if *first <= encoded);
    let below = match &upper {
        Bound::Excluded(end) => encoded < *end,
        _ => true,
    };
    assert_eq!(above && below, expected, "{lower:?}..{upper:?} of {key:?} {encoded:?}");
}

proptest! {
    #[test]
    fn components_match_only_when_equal(
        key in (text(), bytes(), integer!(i8)),
        first in text(),
        second in bytes(),
    ) {
        check(&(first.as_str(),), &key, key.0 == first);
        check(&(key.0.as_str(), second.as_slice()), &key, key.1 == second);
        check(&(first.as_str(), key.1.as_slice()), &key, key.0 == first);
        check(&(key.0.as_str(), key.1.as_slice()), &key, true);
    }

    #[test]
    fn the_start_of_a_string_matches_as_starts_with_does(key in text(), start in text()) {
        let expected = key.starts_with(start.as_str());
        check(&StartsWith(&start), &key, expected);
        check(&StartsWith(&start), &Box::<str>::from(key.as_str()), expected);
        check(&(StartsWith(&start),), &(key.clone(),), expected);
        check(&(StartsWith(&start),), &(key.clone(), 7_u8), expected);
        check(&(7_u8, StartsWith(&start)), &(7_u8, key.clone()), expected);
        check(&("x", StartsWith(&start)), &(String::from("x"), key.clone(), 7_u8), expected);
        check(&("y", StartsWith(&start)), &(String::from("x"), key, 7_u8), false);
    }

    #[test]
    fn every_cut_of_a_string_is_its_start(key in text(), cut in any::<prop::sample::Index>()) {
        let cuts: Vec<_> = key.char_indices().map(|(at, _)| at).chain([key.len()]).collect();
        check(&StartsWith(&key[..cuts[cut.index(cuts.len())]]), &key, true);
    }

    #[test]
    fn the_start_of_a_byte_string_matches_as_starts_with_does(key in bytes(), start in bytes()) {
        let expected = key.starts_with(&start);
        check(&StartsWithBytes(&start), &key, expected);
        check(&(true, StartsWithBytes(&start)), &(true, key, 7_u8), expected);
    }

    #[test]
    fn a_folded_start_matches_in_any_case(key in cased(), start in cased()) {
        let folded = Folded::new(&key);
        let expected = folded.as_str().starts_with(Folded::new(&start).as_str());
        check(&StartsWith(&start), &folded, expected);
        check(&(7_u8, StartsWith(&start)), &(7_u8, folded), expected);
    }

    #[test]
    fn a_descending_component_is_a_prefix(key in (text(), text()), first in text()) {
        let expected = key.0 == first;
        let key = (Descending(key.0), key.1);
        check(&(Descending(first.as_str()),), &key, expected);
    }
}

#[test]
fn a_component_never_matches_a_longer_one() {
    let key = (String::from("ab"), 1_u64);
    check(&("a",), &key, false);
    check(&("",), &key, false);
    check(&("ab",), &key, true);
    check(&(StartsWith("a"),), &key, true);

    let bytes = (vec![1, 2], 1_u64);
    check(&([1].as_slice(),), &bytes, false);
    check(&([1, 2].as_slice(),), &bytes, true);
}

#[test]
fn every_number_of_components_is_a_prefix_of_every_longer_tuple() {
    let (a, b, c, d, e, f) = (1_u8, String::from("b"), 3_u8, String::from("d"), 5_u8, 6_u8);
    let six = (a, b.clone(), c, d.clone(), e, f);
    check(&(1,), &six, true);
    check(&(1, "b"), &six, true);
    check(&(1, "b", 3), &six, true);
    check(&(1, "b", 3, "d"), &six, true);
    check(&(1, "b", 3, "d", 5), &six, true);
    check(&(1, "b", 3, "d", 4), &six, false);
    check(&(1, "b", 3, StartsWith("")), &six, true);
    check(&(1, StartsWith("b")), &six, true);

    let five = (a, b.clone(), c, d.clone(), e);
    check(&(1, "b", 3, "d"), &five, true);
    let four = (a, b.clone(), c, d);
    check(&(1, "b", 3), &four, true);
    check(&(1, "b", 3, StartsWith("d")), &four, true);
    check(&(1, "b", 3, StartsWith("dd")), &four, false);
    let three = (a, b, c);
    check(&(1, "b"), &three, true);
    check(&(1, StartsWith("bb")), &three, false);
}

#[test]
fn the_last_component_may_be_a_prefix_of_a_nested_tuple() {
    let key = (1_u8, (String::from("web"), 2_u8));
    check(&(1, ("web",)), &key, true);
    check(&(1, ("we",)), &key, false);
    check(&(1, (StartsWith("we"),)), &key, true);
}

#[test]
fn a_start_of_nothing_but_0xff_runs_to_the_end() {
    let (lower, upper) = prefix_bounds(prefix_of::<Vec<u8>, _>(&StartsWithBytes(&[0xFF; 3])));
    assert_eq!(lower, Bound::Included(prefix_of::<Vec<u8>, _>(&StartsWithBytes(&[0xFF; 3]))));
    assert_eq!(upper, Bound::Unbounded);
    check(&StartsWithBytes(&[0xFF; 3]), &vec![0xFF; 9], true);
    check(&StartsWithBytes(&[0xFF; 3]), &vec![0xFF; 2], false);
}
