//! The awkward cases by name, and the bytes that snapshots rely on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use static_assertions::assert_impl_all;

use crate::key::{
    AsKey, Descending, Folded, Key, KeyBuf, KeyError, KeyReader, decode, encode, print_from,
    print_key,
};
use crate::limits::KEY_BYTES_INLINE;

assert_impl_all!(KeyBuf: Send, Sync, Clone);
assert_impl_all!(KeyReader<'static>: Send, Sync, Clone);
assert_impl_all!(KeyError: Send, Sync, std::error::Error);

/// Asserts that the encodings of `keys` are strictly ascending and decode again.
fn ascending<K: Key + PartialEq>(keys: &[K]) {
    let encoded: Vec<_> = keys.iter().map(encode::<K, K>).collect();
    for (key, bytes) in keys.iter().zip(&encoded) {
        assert_eq!(decode::<K>(bytes).as_ref(), Ok(key));
    }
    assert!(encoded.is_sorted_by(|low, high| low < high && !high.starts_with(low)), "{keys:?}");
}

fn bytes_of<K, Q: AsKey<K> + ?Sized>(key: &Q) -> Vec<u8> {
    encode::<K, Q>(key).to_vec()
}

fn invalid<K: Key + PartialEq>(bytes: &[u8], offset: usize, expected: &'static str) {
    assert_eq!(decode::<K>(bytes), Err(KeyError::Invalid { offset, expected }));
}

#[test]
fn the_bytes_of_each_type_are_fixed_because_snapshots_hold_them() {
    assert_eq!(bytes_of::<u16, _>(&0x0102), [1, 2]);
    assert_eq!(bytes_of::<usize, _>(&7), [0, 0, 0, 0, 0, 0, 0, 7]);
    assert_eq!(bytes_of::<i16, _>(&-1), [0x7F, 0xFF]);
    assert_eq!(bytes_of::<isize, _>(&1), [0x80, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(bytes_of::<bool, _>(&true), [1]);
    assert_eq!(bytes_of::<char, _>(&'\u{10FFFF}'), [0x10, 0xFF, 0xFF]);
    assert_eq!(bytes_of::<String, _>("a\0\u{1}\u{2}"), [b'a', 1, 1, 1, 2, 2, 0]);
    assert_eq!(bytes_of::<Vec<u8>, _>([0xFF, 0].as_slice()), [0xFF, 1, 1, 0]);
    assert_eq!(bytes_of::<Folded, _>("Aß"), [b'a', b's', b's', 0]);
    assert_eq!(bytes_of::<IpAddr, _>(&IpAddr::from([10, 0, 0, 1])), [4, 10, 0, 0, 1]);
    assert_eq!(bytes_of::<Ipv4Addr, _>(&Ipv4Addr::new(10, 0, 0, 1)), [10, 0, 0, 1]);
    assert_eq!(bytes_of::<Duration, _>(&Duration::new(1, 2)), [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2]);
    assert_eq!(bytes_of::<SystemTime, _>(&UNIX_EPOCH), [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert!(bytes_of::<(), _>(&()).is_empty());
    assert_eq!(bytes_of::<Option<u8>, _>(&None::<u8>), [0]);
    assert_eq!(bytes_of::<Option<u8>, _>(&Some(9_u8)), [1, 9]);
    assert_eq!(bytes_of::<[u8; 3], _>(&[1, 2, 3]), [1, 2, 3]);
    assert_eq!(bytes_of::<(u8, String), _>(&(7, "a")), [7, b'a', 0]);
    assert_eq!(bytes_of::<Descending<String>, _>(&Descending("a")), [!b'a', 0xFF]);
}

#[test]
fn embedded_nul_sorts_between_the_end_and_all_other_content() {
    ascending(
        &["", "\0", "\0\0", "\0a", "\u{1}", "a", "a\0", "a\0\0", "a\0b", "a\u{1}", "ab"]
            .map(String::from),
    );
}

#[test]
fn bytes_0x00_0x01_and_0xff_are_ordinary_content() {
    let contents: [&[u8]; 9] =
        [b"", b"\0", b"\0\0", b"\0\x01", b"\0\xFF", b"\x01", b"\x01\x01", b"\xFF", b"\xFF\xFF"];
    ascending(&contents.map(Vec::from));
    ascending(&[Descending(vec![0xFF_u8]), Descending(vec![1]), Descending(vec![0])]);
}

#[test]
fn a_prefix_sorts_first_and_last_when_descending() {
    ascending(&["", "a", "ab", "abc"].map(String::from));
    ascending(&["abc", "ab", "a", ""].map(|text| Descending(String::from(text))));
    ascending(&["", "a", "ab"].map(|text| Descending(Descending(String::from(text)))));
}

#[test]
fn a_component_boundary_is_not_content() {
    let pairs = [("", "b"), ("a", ""), ("a", "b"), ("a\0", ""), ("ab", ""), ("b", "")];
    ascending(&pairs.map(|(first, second)| (String::from(first), String::from(second))));
    assert_ne!(
        encode::<(String, String), _>(&("a", "bc")),
        encode::<(String, String), _>(&("ab", "c"))
    );
}

#[test]
fn signed_extremes_sort_around_zero() {
    ascending(&[i64::MIN, i64::MIN + 1, -256, -1, 0, 1, 255, 256, i64::MAX]);
    ascending(&[i128::MIN, -1, 0, i128::MAX]);
    ascending(&[isize::MIN, -1, 0, isize::MAX]);
    ascending(&[i64::MAX, 0, i64::MIN].map(Descending));
}

#[test]
fn none_sorts_before_some_at_every_depth() {
    ascending(&[None, Some(None), Some(Some(0_u8)), Some(Some(255))]);
    ascending(&[Descending(Some(1_u8)), Descending(Some(0)), Descending(None)]);
    ascending(&[None, Some(Descending(1_u8)), Some(Descending(0))]);
}

#[test]
fn descending_turns_one_component_of_a_tuple() {
    let key = |first: &str, second: &str| (Descending(String::from(first)), String::from(second));
    ascending(&[key("b", "a"), key("b", "b"), key("a\0", ""), key("a", ""), key("a", "z")]);
}

#[test]
fn descending_twice_is_the_key_itself() {
    let twice = encode::<Descending<Descending<String>>, _>(&Descending(Descending("a\0")));
    assert_eq!(twice, encode::<String, _>("a\0"));
}

#[test]
fn addresses_sort_by_version_then_octets() {
    ascending(&[
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V4(Ipv4Addr::BROADCAST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped()),
        IpAddr::V6(Ipv6Addr::from_bits(u128::MAX)),
    ]);
}

#[test]
fn times_before_the_epoch_sort_before_it() {
    let step = Duration::from_nanos(100);
    let second = Duration::from_secs(1);
    ascending(&[
        UNIX_EPOCH - second - step,
        UNIX_EPOCH - second,
        UNIX_EPOCH - second + step,
        UNIX_EPOCH - step,
        UNIX_EPOCH,
        UNIX_EPOCH + step,
        UNIX_EPOCH + second,
    ]);
}

#[test]
fn the_furthest_times_of_the_platform_are_refused_or_exact() {
    for seconds in [i64::MIN, i64::MIN + 1, i64::MAX - 1, i64::MAX] {
        for nanos in [0_u32, 1, 999_999_999] {
            let bytes = encode::<(i64, u32), _>(&(seconds, nanos));
            if let Ok(time) = decode::<SystemTime>(&bytes) {
                assert_eq!(encode::<SystemTime, _>(&time), bytes);
            }
        }
    }
    invalid::<SystemTime>(
        &encode::<(i64, u32), _>(&(0, 1_000_000_000)),
        8,
        "nanosecond of a second",
    );
}

#[test]
fn case_does_not_count_in_a_folded_key() {
    for (one, other) in [("WEB", "web"), ("Straße", "STRASSE"), ("ΣΊΣΥΦΟΣ", "σίσυφος"), ("K", "k")]
    {
        assert_eq!(Folded::new(one), Folded::new(other));
        assert_eq!(encode::<Folded, _>(one), encode::<Folded, _>(other));
    }
    assert_ne!(Folded::new("ı"), Folded::new("i"));
}

#[test]
fn folding_every_character_again_changes_nothing() {
    for character in '\0'..=char::MAX {
        let once = Folded::from(String::from(character));
        assert_eq!(Folded::new(once.as_str()), once, "{character:?}");
    }
}

#[test]
fn folded_and_descending_serialize_as_what_they_hold() {
    let json = serde_json::to_string(&(Folded::new("Web"), Descending(7_u8))).unwrap();
    assert_eq!(json, r#"["web",7]"#);
    let back: (Folded, Descending<u8>) = serde_json::from_str(r#"["WEB",7]"#).unwrap();
    assert_eq!(back, (Folded::new("web"), Descending(7)));

    let packed = rmp_serde::to_vec_named(&(Folded::new("Web"), Descending(7_u8))).unwrap();
    assert_eq!(packed, rmp_serde::to_vec_named(&("web", 7_u8)).unwrap());
    let back: (Folded, Descending<u8>) = rmp_serde::from_slice(&packed).unwrap();
    assert_eq!(back, (Folded::new("web"), Descending(7)));
}

#[test]
fn bytes_that_no_key_encodes_to_are_refused_with_their_offset() {
    invalid::<bool>(&[2], 0, "boolean");
    invalid::<(u8, bool)>(&[0, 0xFF], 1, "boolean");
    invalid::<char>(&[0, 0xD8, 0], 0, "character");
    invalid::<char>(&[0x11, 0, 0], 0, "character");
    invalid::<String>(&[0xFF, 0], 0, "utf-8 text");
    invalid::<(u8, String)>(&[7, b'a', 0xC3, 0], 1, "utf-8 text");
    invalid::<String>(&[b'a', 1, 0, 0], 1, "escaped byte");
    invalid::<Vec<u8>>(&[1, 3, 0], 0, "escaped byte");
    invalid::<Folded>(&[b'A', 0], 0, "case-folded text");
    invalid::<Option<u8>>(&[2, 0], 0, "option");
    invalid::<Option<Option<u8>>>(&[1, 7], 1, "option");
    invalid::<IpAddr>(&[5, 0, 0, 0, 0], 0, "ip version");
    invalid::<Descending<bool>>(&[1], 0, "boolean");
    assert_eq!(decode::<u32>(&[1, 2, 3]), Err(KeyError::Truncated { offset: 3 }));
    assert_eq!(decode::<String>(b"abc"), Err(KeyError::Truncated { offset: 3 }));
    assert_eq!(decode::<String>(b"a\0b"), Err(KeyError::Trailing { offset: 2 }));
    assert_eq!(decode::<()>(&[0]), Err(KeyError::Trailing { offset: 0 }));
}

#[test]
fn error_messages_are_one_lower_case_line_with_the_offset() {
    let errors = [
        KeyError::Truncated { offset: 3 },
        KeyError::Invalid { offset: 3, expected: "boolean" },
        KeyError::Trailing { offset: 3 },
    ];
    for message in errors.map(|error| error.to_string()) {
        assert!(message.contains("byte 3"), "{message}");
        assert!(!message.contains('\n') && message == message.to_lowercase(), "{message}");
    }
}

#[test]
fn a_single_read_that_fails_reads_nothing() {
    let mut reader = KeyReader::new(&[1, 2]);
    let mut out = [0; 3];
    assert_eq!(reader.read_exact(&mut out), Err(KeyError::Truncated { offset: 2 }));
    assert_eq!((reader.position(), out), (0, [0; 3]));
    assert_eq!(reader.inverted(KeyReader::byte), Ok(0xFE));
    assert_eq!(reader.byte(), Ok(2));
    assert_eq!(reader.byte(), Err(KeyError::Truncated { offset: 2 }));
    assert_eq!(reader.finish(), Ok(()));
}

#[test]
fn a_failed_inverted_read_leaves_the_reader_upright() {
    let mut reader = KeyReader::new(&[7, 1]);
    assert!(reader.inverted(bool::decode_key).is_err());
    assert_eq!(bool::decode_key(&mut reader), Ok(true));
}

#[test]
fn a_buffer_behaves_as_its_bytes_on_stack_and_heap() {
    let mut buf = KeyBuf::new();
    assert!(buf.is_empty());
    for length in [KEY_BYTES_INLINE, KEY_BYTES_INLINE + 1, 5_000] {
        buf.clear();
        buf.extend(&vec![7; length - 1]);
        buf.push(8);
        assert_eq!((buf.len(), buf.last()), (length, Some(&8)));
        buf.invert_from(length - 1);
        buf.invert_from(length + 1);
        assert_eq!(buf.as_slice()[length - 2..], [7, !8]);
        buf.truncate(length + 1);
        assert_eq!(buf.len(), length);
        buf.truncate(2);
        assert_eq!(buf.as_ref(), [7, 7]);
    }
}

#[test]
fn keys_print_as_values_and_damaged_bytes_in_hexadecimal() {
    let bytes = encode::<(String, u8), _>(&("web", 7));
    assert_eq!(print_key::<(String, u8)>(&bytes), r#"("web", 7)"#);
    assert_eq!(print_key::<u8>(&bytes), "0x7765620007");
    assert_eq!(print_key::<u8>(&[]), "0x");
    assert_eq!(format!("{bytes:?}"), "KeyBuf(0x7765620007)");

    let mut reader = KeyReader::new(&bytes);
    assert_eq!(print_from::<String>(&mut reader), r#""web""#);
    assert_eq!(print_from::<u8>(&mut reader), "7");
    assert!(reader.is_empty());

    let mut reader = KeyReader::new(&bytes);
    assert_eq!(print_from::<bool>(&mut reader), "0x7765620007");
    assert!(reader.is_empty());
}
