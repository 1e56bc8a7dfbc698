//! MessagePack one element at a time, for those who know no type: what stands in bytes is a row of
//! items, a list or map followed by what is in it.
//!
//! # Invariants
//!
//! 1. [`Item::write`] writes the shortest encoding of an item, and [`Items::next`] reads every
//!    encoding: bytes that are all shortest encodings come back as they were, NaNs included.
//! 2. Nothing is allocated for a number that the bytes claim, and no bytes panic.

use std::str;

use rmp::{Marker, encode};

use super::{ReadError, element_at};

/// One element: a scalar, or the head of a list or map with the number of what follows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Item<'a> {
    Nil,
    Bool(bool),
    Int(i64),
    /// A whole number above `i64::MAX`; a smaller one is read as an `Int`.
    UInt(u64),
    F32(f32),
    F64(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    /// So many items follow.
    List(u32),
    /// So many pairs of items follow.
    Map(u32),
    Extension(i8, &'a [u8]),
}

impl Item<'_> {
    /// How many items belong into this one.
    pub(crate) fn children(&self) -> u64 {
        match self {
            Self::List(count) => (*count).into(),
            Self::Map(count) => 2 * u64::from(*count),
            _ => 0,
        }
    }

    /// Appends the shortest encoding to `out`. Text or bytes too long for any are an error, and
    /// nothing is appended.
    pub(crate) fn write(self, out: &mut Vec<u8>) -> Result<(), String> {
        let payload = match self {
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) | Self::Extension(_, bytes) => bytes.len(),
            _ => 0,
        };
        // The encoder would cut the length off.
        let length = u32::try_from(payload)
            .map_err(|_| format!("{payload} bytes are more than one value can have"))?;
        let written = match self {
            Self::Nil => return encode::write_nil(out).map_err(|error| error.to_string()),
            Self::Bool(value) => {
                return encode::write_bool(out, value).map_err(|error| error.to_string());
            }
            Self::Int(value) => encode::write_sint(out, value).map(drop),
            Self::UInt(value) => encode::write_uint(out, value).map(drop),
            Self::F32(value) => encode::write_f32(out, value),
            Self::F64(value) => encode::write_f64(out, value),
            Self::Text(text) => encode::write_str(out, text),
            Self::Bytes(bytes) => encode::write_bin(out, bytes),
            Self::List(count) => encode::write_array_len(out, count).map(drop),
            Self::Map(count) => encode::write_map_len(out, count).map(drop),
            Self::Extension(kind, bytes) => {
                encode::write_ext_meta(out, length, kind).map(|_| out.extend_from_slice(bytes))
            }
        };
        written.map_err(|error| error.to_string())
    }
}

/// Reads items one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Items<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Items<'a> {
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// Where the next item begins.
    pub(crate) fn position(&self) -> usize {
        self.position
    }

    /// Reads the next item.
    pub(crate) fn next(&mut self) -> Result<Item<'a>, ReadError> {
        let start = self.position;
        let nothing = || ReadError::new(start, "no whole MessagePack value stands");
        let mut position = start;
        let count = element_at(self.bytes, &mut position).ok_or_else(nothing)?;
        let (marker, rest) = self.bytes[start..position].split_first().ok_or_else(nothing)?;
        let item = match Marker::from_u8(*marker) {
            Marker::Null => Item::Nil,
            Marker::False => Item::Bool(false),
            Marker::True => Item::Bool(true),
            Marker::FixPos(value) => Item::Int(value.into()),
            Marker::FixNeg(value) => Item::Int(value.into()),
            Marker::U8 | Marker::U16 | Marker::U32 | Marker::U64 => whole(unsigned(rest)),
            Marker::I8 | Marker::I16 | Marker::I32 | Marker::I64 => Item::Int(signed(rest)),
            Marker::F32 => Item::F32(f32::from_bits(unsigned(rest) as u32)),
            Marker::F64 => Item::F64(f64::from_bits(unsigned(rest))),
            Marker::FixStr(_) => text(rest, start + 1)?,
            Marker::Str8 => text(&rest[1..], start + 2)?,
            Marker::Str16 => text(&rest[2..], start + 3)?,
            Marker::Str32 => text(&rest[4..], start + 5)?,
            Marker::Bin8 => Item::Bytes(&rest[1..]),
            Marker::Bin16 => Item::Bytes(&rest[2..]),
            Marker::Bin32 => Item::Bytes(&rest[4..]),
            // What was stepped over is whole, so the kind stands in front of the bytes.
            Marker::Ext8 => Item::Extension(rest[1] as i8, &rest[2..]),
            Marker::Ext16 => Item::Extension(rest[2] as i8, &rest[3..]),
            Marker::Ext32 => Item::Extension(rest[4] as i8, &rest[5..]),
            Marker::FixExt1
            | Marker::FixExt2
            | Marker::FixExt4
            | Marker::FixExt8
            | Marker::FixExt16 => Item::Extension(rest[0] as i8, &rest[1..]),
            Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => Item::List(count as u32),
            Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => Item::Map((count / 2) as u32),
            Marker::Reserved => return Err(nothing()),
        };
        self.position = position;
        Ok(item)
    }

    /// Steps over the next item with all that belongs into it.
    pub(crate) fn skip(&mut self) -> Result<(), ReadError> {
        let mut left = 1_u64;
        while left > 0 {
            // No more than the bytes hold is counted before they end.
            left = (left - 1).saturating_add(self.next()?.children());
        }
        Ok(())
    }
}

fn unsigned(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |number, digit| number << 8 | u64::from(*digit))
}

fn signed(digits: &[u8]) -> i64 {
    let unused = u64::BITS - 8 * digits.len() as u32;
    ((unsigned(digits) << unused) as i64) >> unused
}

fn whole(number: u64) -> Item<'static> {
    i64::try_from(number).map_or(Item::UInt(number), Item::Int)
}

fn text(bytes: &[u8], start: usize) -> Result<Item<'_>, ReadError> {
    let text = str::from_utf8(bytes).map_err(|error| {
        ReadError::new(start + error.valid_up_to(), "text that is not UTF-8 stands")
    })?;
    Ok(Item::Text(text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_shortest_encodings_of_the_edges_come_back() {
        for number in [0_i64, 127, 128, 255, 256, 65_535, 65_536, 1 << 32, -1, -32, -33, -128, -129]
            .into_iter()
            .chain([i64::MIN, i64::MAX, -32_768, -32_769, i32::MIN.into(), -(1 << 31) - 1])
        {
            let (mut bytes, mut expected) = (Vec::new(), Vec::new());
            Item::Int(number).write(&mut bytes).unwrap();
            super::super::write(&number, &mut expected).unwrap();
            assert_eq!(bytes, expected, "{number}");
            assert_eq!(Items::of(&bytes).next(), Ok(Item::Int(number)));
        }
        for length in [0, 1, 2, 3, 4, 8, 15, 16, 17, 31, 32, 255, 256, 65_535, 65_536] {
            let (text, data) = ("x".repeat(length), vec![7; length]);
            for item in [Item::Text(&text), Item::Bytes(&data), Item::Extension(-3, &data)] {
                let mut bytes = Vec::new();
                item.write(&mut bytes).unwrap();
                let mut items = Items::of(&bytes);
                assert_eq!(items.next(), Ok(item));
                assert_eq!(items.position(), bytes.len());
            }
        }
    }

    #[test]
    fn long_forms_are_read_as_what_they_say() {
        let forms: &[(&[u8], Item<'_>)] = &[
            (&[0xD3, 0, 0, 0, 0, 0, 0, 0, 5], Item::Int(5)),
            (&[0xCF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], Item::UInt(u64::MAX)),
            (&[0xD1, 0xFF, 0xFE], Item::Int(-2)),
            (&[0xDB, 0, 0, 0, 1, b'a'], Item::Text("a")),
            (&[0xC6, 0, 0, 0, 1, 9], Item::Bytes(&[9])),
            (&[0xC9, 0, 0, 0, 1, 0xFF, 9], Item::Extension(-1, &[9])),
            (&[0xDD, 0, 0, 0, 2], Item::List(2)),
            (&[0xDF, 0, 0, 0, 2], Item::Map(2)),
        ];
        for (bytes, item) in forms {
            assert_eq!(Items::of(bytes).next().as_ref(), Ok(item), "{bytes:?}");
        }
    }

    #[test]
    fn text_that_is_not_utf_8_is_an_error_where_it_stands() {
        let error = Items::of(&[0xA3, b'a', b'b', 0xFF]).next().unwrap_err();
        assert_eq!(error.to_string(), "text that is not UTF-8 stands at byte 3");
    }

    #[test]
    fn a_value_is_stepped_over_with_what_is_in_it() {
        let bytes = [0x82, 0x01, 0x92, 0xC0, 0x90, 0xA1, b'k', 0x80, 0xC3];
        let mut items = Items::of(&bytes);
        items.skip().unwrap();
        assert_eq!(items.next(), Ok(Item::Bool(true)));
        assert!(Items::of(&[0xDF, 0xFF, 0xFF, 0xFF, 0xFF, 0xC0]).skip().is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic_and_written_no_longer(
            bytes in prop::collection::vec(any::<u8>(), 0..40)
        ) {
            let mut items = Items::of(&bytes);
            while let Ok(item) = items.next() {
                let mut written = Vec::new();
                item.write(&mut written).unwrap();
                prop_assert!(written.len() <= items.position());
                let mut again = Vec::new();
                Items::of(&written).next().unwrap().write(&mut again).unwrap();
                prop_assert_eq!(&again, &written);
            }
            prop_assert!(items.position() <= bytes.len());
        }
    }
}
