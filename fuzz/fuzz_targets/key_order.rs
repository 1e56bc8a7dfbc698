//! Keys of every type keep their order as bytes, and any bytes can be read as any key.
//!
//! Each input either picks two values of one key type and checks the invariants of `src/key`
//! (order, prefix-freeness, round trip), or hands raw bytes to the decoder of every type and
//! checks that it neither panics nor accepts a second encoding of a value.

#![no_main]

use std::borrow::Cow;
use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arbitrary::Arbitrary;
use fsmdb::{
    AsPrefix, Descending, Folded, Key, KeyBuf, KeyRange, KeyReader, StartsWith, StartsWithBytes,
    decode, encode,
};
use libfuzzer_sys::fuzz_target;
use uuid::Uuid;

type Pair<T> = (T, T);

#[derive(Arbitrary, Debug)]
enum Input {
    Small(Pair<(u8, i8, bool, char)>),
    Unsigned(Pair<(u16, u32, u64, u128, usize)>),
    Signed(Pair<(i16, i32, i64, i128, isize)>),
    Text(Pair<String>),
    Bytes(Pair<Vec<u8>>),
    Folded(Pair<String>),
    Address(Pair<IpAddr>),
    Uuid(Pair<[u8; 16]>),
    Duration(Pair<Duration>),
    Time(Pair<(i32, u32)>),
    Options(Pair<Option<Option<Vec<u8>>>>),
    Arrays(Pair<[Option<u8>; 3]>),
    Compound(Pair<(String, Vec<u8>, Option<i16>)>),
    Raw(Vec<u8>),
}

fuzz_target!(|input: Input| {
    match input {
        Input::Small((a, b)) => check_directions(a, b),
        Input::Unsigned((a, b)) => check_directions(a, b),
        Input::Signed((a, b)) => check_directions(a, b),
        Input::Text((a, b)) => check_text(a, b),
        Input::Bytes((a, b)) => check_bytes(a, b),
        Input::Folded((a, b)) => check_folded(&a, &b),
        Input::Address((a, b)) => check_address(a, b),
        Input::Uuid((a, b)) => {
            check_directions(a, b);
            check_directions(Uuid::from_bytes(a), Uuid::from_bytes(b));
        }
        Input::Duration((a, b)) => check_directions(a, b),
        Input::Time((a, b)) => check_directions(time(a), time(b)),
        Input::Options((a, b)) => check_directions(a, b),
        Input::Arrays((a, b)) => check_directions(a, b),
        Input::Compound((a, b)) => check_compound(a, b),
        Input::Raw(bytes) => check_raw(&bytes),
    }
});

/// A time on either side of the epoch, in steps that every platform can hold.
fn time((seconds, ticks): (i32, u32)) -> SystemTime {
    let whole = Duration::from_secs(u64::from(seconds.unsigned_abs()));
    let second = if seconds < 0 { UNIX_EPOCH - whole } else { UNIX_EPOCH + whole };
    second + Duration::from_nanos(u64::from(ticks % 10_000_000) * 100)
}

/// Checks a pair upright, in reverse, twice reversed, and with one side of a tuple reversed.
fn check_directions<K: Key + Ord + Clone>(a: K, b: K) {
    check_pair(&a, &b);
    check_pair(&Descending(a.clone()), &Descending(b.clone()));
    check_pair(&Descending(Descending(a.clone())), &Descending(Descending(b.clone())));
    check_pair(&Some(a.clone()), &Some(b.clone()));
    check_pair(&(Descending(a.clone()), b.clone()), &(Descending(b), a));
}

/// Order, prefix-freeness, round trip and range bounds of two keys.
fn check_pair<K: Key + Ord + Clone>(a: &K, b: &K) {
    let (x, y) = (encode::<K, K>(a), encode::<K, K>(b));
    assert_eq!(a.cmp(b), x.as_slice().cmp(y.as_slice()), "{a:?} {b:?}");
    assert_eq!(a == b, x.starts_with(&y) || y.starts_with(&x), "{a:?} {b:?}");
    check_round_trip(a, &x, &y);
    check_round_trip(b, &y, &x);

    let (low, high) = KeyRange::<K>::encode_bounds(&(Bound::Excluded(a), Bound::Included(b)));
    for (key, encoded) in [(a, &x), (b, &y)] {
        let expected = key > a && key <= b;
        assert_eq!(within(encoded, &low, &high), expected, "{a:?} {b:?}");
    }
}

fn check_round_trip<K: Key + Ord>(key: &K, encoded: &KeyBuf, suffix: &[u8]) {
    assert_eq!(decode::<K>(encoded).as_ref(), Ok(key));
    let mut longer = encoded.clone();
    longer.extend(suffix);
    let mut reader = KeyReader::new(&longer);
    assert_eq!(K::decode_key(&mut reader).as_ref(), Ok(key));
    assert_eq!(reader.remaining(), suffix.len());
}

fn within(bytes: &KeyBuf, low: &Bound<KeyBuf>, high: &Bound<KeyBuf>) -> bool {
    let above = match low {
        Bound::Included(first) => first <= bytes,
        Bound::Excluded(_) => panic!("a lower bound is included"),
        Bound::Unbounded => true,
    };
    let below = match high {
        Bound::Excluded(end) => bytes < end,
        Bound::Included(_) => panic!("an upper bound is excluded"),
        Bound::Unbounded => true,
    };
    above && below
}

fn prefix_of<K, P: AsPrefix<K>>(prefix: &P) -> KeyBuf {
    let mut out = KeyBuf::new();
    prefix.encode_prefix(&mut out);
    out
}

fn check_text(a: String, b: String) {
    let start = prefix_of::<String, _>(&StartsWith(&a));
    assert_eq!(encode::<String, _>(&b).starts_with(&start), b.starts_with(&a));
    let component = prefix_of::<(String, u8), _>(&(&a,));
    assert_eq!(encode::<(String, u8), _>(&(&b, 7)).starts_with(&component), a == b);

    check_directions(Box::<str>::from(a.as_str()), Box::from(b.as_str()));
    check_directions(Arc::<str>::from(a.as_str()), Arc::from(b.as_str()));
    check_directions(Cow::<'static, str>::Owned(a.clone()), Cow::Owned(b.clone()));
    check_directions((a.clone(), b.clone()), (b.clone(), a.clone()));
    check_directions([a.clone(), b.clone()], [b.clone(), a.clone()]);
    check_directions(a, b);
}

fn check_bytes(a: Vec<u8>, b: Vec<u8>) {
    let start = prefix_of::<Vec<u8>, _>(&StartsWithBytes(&a));
    assert_eq!(encode::<Vec<u8>, _>(&b).starts_with(&start), b.starts_with(&a));
    let component = prefix_of::<(Vec<u8>, u8), _>(&(&a,));
    assert_eq!(encode::<(Vec<u8>, u8), _>(&(&b, 7)).starts_with(&component), a == b);

    check_directions(Box::<[u8]>::from(a.as_slice()), Box::from(b.as_slice()));
    check_directions(Arc::<[u8]>::from(a.as_slice()), Arc::from(b.as_slice()));
    check_directions((a.clone(), b.clone()), (b.clone(), a.clone()));
    check_directions(a, b);
}

fn check_folded(a: &str, b: &str) {
    let (folded_a, folded_b) = (Folded::new(a), Folded::new(b));
    assert_eq!(encode::<Folded, _>(a), encode::<Folded, _>(&folded_a));
    let start = prefix_of::<Folded, _>(&StartsWith(a));
    let expected = folded_b.as_str().starts_with(folded_a.as_str());
    assert_eq!(encode::<Folded, _>(b).starts_with(&start), expected);
    check_directions(folded_a, folded_b);
}

fn check_address(a: IpAddr, b: IpAddr) {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => check_directions(a, b),
        (IpAddr::V6(a), IpAddr::V6(b)) => check_directions(a, b),
        _ => {}
    }
    check_directions(a, b);
}

fn check_compound(a: (String, Vec<u8>, Option<i16>), b: (String, Vec<u8>, Option<i16>)) {
    let prefix = prefix_of::<(String, Vec<u8>, Option<i16>), _>(&(&a.0, StartsWithBytes(&a.1)));
    let encoded = encode::<(String, Vec<u8>, Option<i16>), _>(&b);
    assert_eq!(encoded.starts_with(&prefix), a.0 == b.0 && b.1.starts_with(&a.1));
    check_directions(
        (a.0.clone(), Descending(a.1.clone())),
        (b.0.clone(), Descending(b.1.clone())),
    );
    check_directions((a.clone(), true), (b.clone(), false));
    check_directions(a, b);
}

fn check_raw(bytes: &[u8]) {
    check_canonical::<(u8, u16, i32, i64)>(bytes);
    check_canonical::<u128>(bytes);
    check_canonical::<(usize, isize)>(bytes);
    check_canonical::<[bool; 3]>(bytes);
    check_canonical::<[char; 2]>(bytes);
    check_canonical::<String>(bytes);
    check_canonical::<Vec<u8>>(bytes);
    check_canonical::<Folded>(bytes);
    check_canonical::<(Ipv4Addr, Ipv6Addr)>(bytes);
    check_canonical::<IpAddr>(bytes);
    check_canonical::<Uuid>(bytes);
    check_canonical::<Duration>(bytes);
    check_canonical::<SystemTime>(bytes);
    check_canonical::<Option<Option<String>>>(bytes);
    check_canonical::<(String, Descending<Vec<u8>>, Option<u8>)>(bytes);
    check_canonical::<Descending<(String, Descending<Vec<u8>>)>>(bytes);
    check_canonical::<((), (Folded,), [Descending<String>; 2])>(bytes);
}

/// Whatever decodes encodes to exactly the bytes that were read.
fn check_canonical<K: Key + Debug>(bytes: &[u8]) {
    let mut reader = KeyReader::new(bytes);
    if let Ok(key) = K::decode_key(&mut reader) {
        assert_eq!(encode::<K, K>(&key).as_slice(), &bytes[..reader.position()], "{key:?}");
    }
}
