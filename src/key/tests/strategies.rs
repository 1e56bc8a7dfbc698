//! Values that are likely to be equal, adjacent, or prefixes of each other.
//!
//! Uniform random values almost never are, and would leave the interesting half of each law
//! untested.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::key::Folded;

/// Any value of an integer type, often one at an edge.
macro_rules! integer {
    ($integer:ty) => {
        proptest::prelude::prop_oneof![
            proptest::prelude::any::<$integer>(),
            proptest::sample::select(vec![
                <$integer>::MIN,
                <$integer>::MIN + 1,
                <$integer>::MAX / 2,
                <$integer>::MAX / 2 + 1,
                <$integer>::MAX - 1,
                <$integer>::MAX,
                !0,
                0,
                1,
            ]),
        ]
    };
}
pub(super) use integer;

/// Short byte strings over the bytes that the escaping treats specially, and their neighbours.
pub(super) fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => vec(select(vec![0x00, 0x01, 0x02, 0x03, b'a', b'b', 0x7F, 0xFE, 0xFF]), 0..6),
        1 => vec(any::<u8>(), 0..40),
    ]
}

/// Short strings over control characters and characters of each encoded length.
pub(super) fn text() -> impl Strategy<Value = String> {
    let awkward = vec!['\0', '\u{1}', '\u{2}', 'a', 'b', 'é', '\u{FFFD}', '\u{10FFFF}'];
    prop_oneof![
        4 => vec(select(awkward), 0..6).prop_map(String::from_iter),
        1 => any::<String>(),
    ]
}

/// Strings whose characters fold to one, two or three others, or to nothing else.
pub(super) fn cased() -> impl Strategy<Value = String> {
    let cased =
        vec!['a', 'A', 'b', 'B', 's', 'S', 'ß', 'ẞ', 'ſ', 'İ', 'ı', 'K', 'k', 'Σ', 'ς', 'ΐ'];
    prop_oneof![
        4 => vec(select(cased), 0..5).prop_map(String::from_iter),
        1 => text(),
    ]
}

pub(super) fn folded() -> impl Strategy<Value = Folded> {
    cased().prop_map(|text| Folded::new(&text))
}

pub(super) fn character() -> impl Strategy<Value = char> {
    prop_oneof![any::<char>(), select(vec!['\0', '\u{D7FF}', '\u{E000}', '\u{10FFFF}'])]
}

pub(super) fn ipv4() -> impl Strategy<Value = Ipv4Addr> {
    integer!(u32).prop_map(Ipv4Addr::from_bits)
}

pub(super) fn ipv6() -> impl Strategy<Value = Ipv6Addr> {
    integer!(u128).prop_map(Ipv6Addr::from_bits)
}

pub(super) fn ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![ipv4().prop_map(IpAddr::V4), ipv6().prop_map(IpAddr::V6)]
}

fn nanos() -> impl Strategy<Value = u32> {
    prop_oneof![0..1_000_000_000_u32, select(vec![0, 1, 999_999_999])]
}

pub(super) fn duration() -> impl Strategy<Value = Duration> {
    (integer!(u64), nanos()).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos))
}

/// Times on both sides of the epoch, within what every platform can hold.
pub(super) fn time() -> impl Strategy<Value = SystemTime> {
    let seconds = prop_oneof![-4_000_000_000..4_000_000_000_i64, -2..2_i64];
    // Whole hundreds, because that is the resolution of the coarsest platform.
    (seconds, nanos()).prop_map(|(seconds, nanos)| {
        let whole = Duration::from_secs(seconds.unsigned_abs());
        let second = if seconds < 0 { UNIX_EPOCH - whole } else { UNIX_EPOCH + whole };
        second + Duration::from_nanos(u64::from(nanos / 100 * 100))
    })
}
