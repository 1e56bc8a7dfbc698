//! The invariants of the room, checked for every key type.

use std::borrow::Cow;
use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::strategies::*;
use crate::key::{
    Descending, Folded, Key, KeyError, KeyReader, decode, encode, print_from, print_key,
};

/// Invariants 1 and 2: order is kept, and no encoding is a prefix of another.
fn check_order<K: Key + Ord>(a: &K, b: &K) {
    let (x, y) = (encode::<K, K>(a), encode::<K, K>(b));
    assert_eq!(a.cmp(b), x.as_slice().cmp(y.as_slice()), "{a:?} {x:?} against {b:?} {y:?}");
    if a != b {
        assert!(!x.starts_with(&y) && !y.starts_with(&x), "{a:?} {x:?} against {b:?} {y:?}");
    }
}

/// Invariant 3, and that neither less nor more than the encoding decodes.
fn check_round_trip<K: Key + Eq>(key: &K, suffix: &[u8]) {
    let encoded = encode::<K, K>(key);
    assert_eq!(decode::<K>(&encoded).as_ref(), Ok(key));
    assert_eq!(print_key::<K>(&encoded), format!("{key:?}"));
    for end in 0..encoded.len() {
        assert_eq!(decode::<K>(&encoded[..end]), Err(KeyError::Truncated { offset: end }));
    }

    let mut longer = encoded.clone();
    longer.extend(suffix);
    let mut reader = KeyReader::new(&longer);
    assert_eq!(K::decode_key(&mut reader).as_ref(), Ok(key));
    assert_eq!(reader.position(), encoded.len());
    assert_eq!(reader.remaining(), suffix.len());
    if !suffix.is_empty() {
        assert_eq!(decode::<K>(&longer), Err(KeyError::Trailing { offset: encoded.len() }));
    }
}

/// Invariant 5: whatever decodes is the one encoding of its value, and nothing panics.
fn check_canonical<K: Key>(bytes: &[u8]) {
    let mut reader = KeyReader::new(bytes);
    if let Ok(key) = K::decode_key(&mut reader) {
        let consumed = &bytes[..reader.position()];
        assert_eq!(encode::<K, K>(&key).as_slice(), consumed, "{key:?} from {bytes:?}");
    }
    let mut printer = KeyReader::new(bytes);
    assert!(!print_from::<K>(&mut printer).is_empty());
    assert!(!print_key::<K>(bytes).is_empty());
}

/// The encoding of `key` with one byte changed, added or removed.
fn damaged<K: Key + Debug>(key: &K, at: usize, byte: u8, kind: u8) -> Vec<u8> {
    let mut bytes = encode::<K, K>(key).to_vec();
    let at = at % (bytes.len() + 1);
    match kind {
        0 => bytes.insert(at, byte),
        1 if at < bytes.len() => bytes[at] = byte,
        _ if at < bytes.len() => drop(bytes.remove(at)),
        _ => bytes.push(byte),
    }
    bytes
}

macro_rules! laws {
    ($($name:ident: $key:ty = $strategy:expr;)+) => {$(
        mod $name {
            use super::*;

            proptest! {
                #[test]
                fn order_is_kept_and_no_encoding_is_a_prefix(a in $strategy, b in $strategy) {
                    check_order::<$key>(&a, &b);
                    check_order::<$key>(&a, &a);
                }

                #[test]
                fn exactly_the_encoding_decodes(key in $strategy, suffix in bytes()) {
                    check_round_trip::<$key>(&key, &suffix);
                }

                #[test]
                fn whatever_decodes_is_canonical(
                    raw in bytes(),
                    key in $strategy,
                    at in any::<usize>(),
                    byte in prop_oneof![0..3_u8, any::<u8>(), 0xFD..=0xFF_u8],
                    kind in 0..3_u8,
                ) {
                    check_canonical::<$key>(&raw);
                    check_canonical::<$key>(&damaged::<$key>(&key, at, byte, kind));
                }
            }
        }
    )+};
}

laws! {
    key_u8: u8 = integer!(u8);
    key_u16: u16 = integer!(u16);
    key_u32: u32 = integer!(u32);
    key_u64: u64 = integer!(u64);
    key_u128: u128 = integer!(u128);
    key_usize: usize = integer!(usize);
    key_i8: i8 = integer!(i8);
    key_i16: i16 = integer!(i16);
    key_i32: i32 = integer!(i32);
    key_i64: i64 = integer!(i64);
    key_i128: i128 = integer!(i128);
    key_isize: isize = integer!(isize);
    key_bool: bool = any::<bool>();
    key_char: char = character();
    key_string: String = text();
    key_box_str: Box<str> = text().prop_map(Box::from);
    key_arc_str: Arc<str> = text().prop_map(Arc::from);
    key_cow_str: Cow<'static, str> = text().prop_map(Cow::Owned);
    key_vec_u8: Vec<u8> = bytes();
    key_box_bytes: Box<[u8]> = bytes().prop_map(Box::from);
    key_arc_bytes: Arc<[u8]> = bytes().prop_map(Arc::from);
    key_folded: Folded = folded();
    key_ipv4: Ipv4Addr = ipv4();
    key_ipv6: Ipv6Addr = ipv6();
    key_ip: IpAddr = ip();
    key_duration: Duration = duration();
    key_time: SystemTime = time();
    key_unit: () = Just(());
    key_option: Option<u16> = option::of(integer!(u16));
    key_option_nested: Option<Option<String>> = option::of(option::of(text()));
    key_option_unit: Option<()> = option::of(Just(()));
    key_array: [u16; 3] = [integer!(u16), integer!(u16), integer!(u16)];
    key_array_empty: [String; 0] = Just([]);
    key_array_strings: [String; 2] = [text(), text()];
    key_tuple_1: (String,) = (text(),);
    key_tuple_2: (String, String) = (text(), text());
    key_tuple_3: (Vec<u8>, i8, Vec<u8>) = (bytes(), integer!(i8), bytes());
    key_tuple_4: (bool, char, String, u8) = (any::<bool>(), character(), text(), integer!(u8));
    key_tuple_5: (bool, bool, (), String, i8) =
        (any::<bool>(), any::<bool>(), Just(()), text(), integer!(i8));
    key_tuple_6: (bool, String, bool, String, bool, Option<String>) =
        (any::<bool>(), text(), any::<bool>(), text(), any::<bool>(), option::of(text()));
    key_tuple_nested: ((String, u8), String) = ((text(), integer!(u8)), text());
    key_descending_integer: Descending<i16> = integer!(i16).prop_map(Descending);
    key_descending_string: Descending<String> = text().prop_map(Descending);
    key_descending_folded: Descending<Folded> = folded().prop_map(Descending);
    key_descending_twice: Descending<Descending<String>> =
        text().prop_map(|text| Descending(Descending(text)));
    key_descending_option: Descending<Option<Vec<u8>>> = option::of(bytes()).prop_map(Descending);
    key_descending_tuple: Descending<(String, Descending<Vec<u8>>)> =
        (text(), bytes().prop_map(Descending)).prop_map(Descending);
    key_descending_first: (Descending<String>, String) = (text().prop_map(Descending), text());
    key_descending_between: (String, Descending<Vec<u8>>, u8) =
        (text(), bytes().prop_map(Descending), integer!(u8));
    key_optional_descending: Option<Descending<String>> =
        option::of(text().prop_map(Descending));
}

#[cfg(feature = "uuid")]
laws! {
    key_uuid: uuid::Uuid = integer!(u128).prop_map(uuid::Uuid::from_u128);
    key_uuid_tuple: (String, uuid::Uuid) =
        (text(), integer!(u128).prop_map(uuid::Uuid::from_u128));
}

proptest! {
    /// Sorting by key and sorting by bytes are the same for whole sets, as in an index.
    #[test]
    fn a_sorted_set_of_compound_keys_has_sorted_encodings(
        mut keys in vec((text(), bytes().prop_map(Descending), option::of(integer!(i8))), 0..20),
    ) {
        keys.sort();
        let encoded: Vec<_> = keys
            .iter()
            .map(encode::<(String, Descending<Vec<u8>>, Option<i8>), _>)
            .collect();
        prop_assert!(encoded.is_sorted());
    }
}
