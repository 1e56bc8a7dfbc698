//! Invariant 4: every borrowed form encodes as the key that it stands for.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::option;
use proptest::prelude::*;

use super::strategies::*;
use crate::key::{AsKey, Descending, Elements, Folded, KeyBuf, encode};

/// Asserts that each form of one text encodes as `$owner` to `$expected`.
macro_rules! assert_text_forms {
    ($text:expr, $expected:expr; $($owner:ty),+) => {$(
        assert_eq!(encode::<$owner, str>($text), $expected);
        assert_eq!(encode::<$owner, &str>(&$text), $expected);
        assert_eq!(encode::<$owner, &&str>(&&$text), $expected);
        assert_eq!(encode::<$owner, String>(&String::from($text)), $expected);
        assert_eq!(encode::<$owner, Box<str>>(&Box::from($text)), $expected);
        assert_eq!(encode::<$owner, Arc<str>>(&Arc::from($text)), $expected);
        assert_eq!(encode::<$owner, Cow<'_, str>>(&Cow::Borrowed($text)), $expected);
    )+};
}

/// Asserts that each form of one byte string encodes as `$owner` to `$expected`.
macro_rules! assert_bytes_forms {
    ($bytes:expr, $expected:expr; $($owner:ty),+) => {$(
        assert_eq!(encode::<$owner, [u8]>($bytes), $expected);
        assert_eq!(encode::<$owner, &[u8]>(&$bytes), $expected);
        assert_eq!(encode::<$owner, Vec<u8>>(&Vec::from($bytes)), $expected);
        assert_eq!(encode::<$owner, Box<[u8]>>(&Box::from($bytes)), $expected);
        assert_eq!(encode::<$owner, Arc<[u8]>>(&Arc::from($bytes)), $expected);
    )+};
}

proptest! {
    #[test]
    fn every_form_of_a_text_encodes_as_every_owner(content in text()) {
        let text = content.as_str();
        let expected = encode::<String, String>(&content);
        assert_text_forms!(text, expected; String, Box<str>, Arc<str>, Cow<'static, str>);
    }

    #[test]
    fn every_form_of_a_text_folds_to_the_same_key(content in cased()) {
        let text = content.as_str();
        let expected = encode::<Folded, Folded>(&Folded::new(text));
        assert_text_forms!(text, expected; Folded);
    }

    #[test]
    fn every_form_of_a_byte_string_encodes_as_every_owner(content in bytes()) {
        let bytes = content.as_slice();
        let expected = encode::<Vec<u8>, Vec<u8>>(&content);
        assert_bytes_forms!(bytes, expected; Vec<u8>, Box<[u8]>, Arc<[u8]>);
    }

    #[test]
    fn a_text_and_its_bytes_encode_alike(content in text()) {
        prop_assert_eq!(
            encode::<String, _>(content.as_str()),
            encode::<Vec<u8>, _>(content.as_bytes())
        );
    }

    #[test]
    fn a_compound_of_borrowed_forms_encodes_as_the_owned_compound(
        first in text(),
        second in option::of(bytes()),
        third in [text(), text()],
        fourth in integer!(i32),
    ) {
        type Owned = (String, Option<Vec<u8>>, [String; 2], Descending<String>, (i32,));

        let borrowed = (
            first.as_str(),
            second.as_deref(),
            [third[0].as_str(), third[1].as_str()],
            Descending(first.as_str()),
            (&fourth,),
        );
        let borrowed = encode::<Owned, _>(&borrowed);
        let owned: Owned = (first.clone(), second, third, Descending(first), (fourth,));
        prop_assert_eq!(borrowed, encode::<Owned, Owned>(&owned));
    }
}

/// The encodings of the elements that iteration yields, as an index would compute them.
fn element_keys<'a, E: Elements>(container: &'a E) -> Vec<KeyBuf>
where
    &'a E: IntoIterator,
    <&'a E as IntoIterator>::Item: AsKey<E::Key>,
{
    container.into_iter().map(|element| encode::<E::Key, _>(&element)).collect()
}

#[test]
fn each_element_of_a_container_encodes_as_its_key() {
    let expected = [encode::<u16, _>(&1), encode::<u16, _>(&2)];
    assert_eq!(element_keys(&vec![1_u16, 2]), expected);
    assert_eq!(element_keys(&[1_u16, 2]), expected);
    assert_eq!(element_keys(&Box::<[u16]>::from([1, 2])), expected);
    assert_eq!(element_keys(&BTreeSet::from([2_u16, 1])), expected);
    assert_eq!(element_keys(&Some(1_u16)), expected[..1]);
    assert!(element_keys(&None::<u16>).is_empty());
    assert_eq!(
        element_keys(&BTreeMap::from([(String::from("zone"), 3_u16)])),
        [encode::<(String, u16), _>(&("zone", 3))]
    );
}
