//! MessagePack as the library writes and reads it: fields by name, whole buffers, bounded depth.
//!
//! The only room that names `rmp` and `rmp_serde`. `item.rs` reads and writes values whose types
//! nobody knows, one element at a time.
//!
//! # Invariants
//!
//! 1. What [`write`] accepts [`read`] does not refuse for its depth, and the other way round: both
//!    measure the nesting of the bytes, by [`check`]. The encoder's and decoder's own counts differ
//!    from each other, and neither counts the variants of an enum.
//! 2. `check` does not recurse and allocates no more than the depth limit, on any bytes; nothing
//!    that recurses sees bytes before it.
//! 3. A value fills its buffer: bytes that follow it are an error.

mod item;

use std::fmt::{self, Write};
use std::io::Cursor;

pub(crate) use item::{Item, Items};
use rmp::Marker;
/// The name of the newtype struct that the encoder takes for an extension.
pub(crate) use rmp_serde::MSGPACK_EXT_STRUCT_NAME as EXTENSION_NAME;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::limits::{DEPTH_MAX, READ_ERROR_BYTES_MAX};

/// Why bytes are not the value, and where.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{message} at byte {offset}")]
pub(crate) struct ReadError {
    pub(crate) offset: u64,
    pub(crate) message: String,
}

impl ReadError {
    fn new(offset: usize, message: impl Into<String>) -> Self {
        Self { offset: offset as u64, message: message.into() }
    }
}

/// Appends the encoding of `value` to `out`, in which structs are maps by field name.
///
/// The error is what a person needs beside the name of the thing.
pub(crate) fn write<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), String> {
    write_within(DEPTH_MAX, value, out)
}

/// As [`write`], of a value that may nest this deep and no deeper.
pub(crate) fn write_within<T: Serialize + ?Sized>(
    depth: usize,
    value: &T,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let start = out.len();
    let mut serializer = rmp_serde::Serializer::new(&mut *out).with_struct_map();
    let written = value.serialize(&mut serializer).map_err(|error| error.to_string());
    written.and_then(|()| check_within(depth, &out[start..]).map_err(|error| error.to_string()))
}

/// Reads the value that fills `bytes`.
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ReadError> {
    check(bytes)?;
    // The bytes are one value and no more, so what reads a value reads all of them.
    let value = T::deserialize(&mut rmp_serde::Deserializer::from_read_ref(bytes));
    value.map_err(|error| {
        // It may have in it, whole and escaped, a text that stands where none should.
        let message = beginning_of(&error);
        drop(error);
        ReadError::new(offset_of_error::<T>(bytes), message)
    })
}

/// What an error says, up to a limit.
#[cold]
fn beginning_of(error: &impl fmt::Display) -> String {
    struct Beginning(String);
    impl Write for Beginning {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let room = READ_ERROR_BYTES_MAX - self.0.len();
            if text.len() <= room {
                self.0.push_str(text);
                return Ok(());
            }
            self.0.push_str(&text[..text.floor_char_boundary(room)]);
            Err(fmt::Error)
        }
    }
    let mut beginning = Beginning(String::new());
    // The only error is that there is more than the beginning.
    let _ = write!(beginning, "{error}");
    beginning.0
}

/// How far a decoder that counts comes.
#[cold]
fn offset_of_error<T: DeserializeOwned>(bytes: &[u8]) -> usize {
    let mut deserializer = rmp_serde::Deserializer::new(Cursor::new(bytes));
    let _ = T::deserialize(&mut deserializer);
    deserializer.position() as usize
}

/// How many values, those inside others among them, `bytes` consist of, up to where they are none,
/// and how many bytes the longest text or other scalar among them has.
pub(crate) fn count_values(bytes: &[u8]) -> (usize, usize) {
    let (mut position, mut count, mut longest) = (0, 0, 0);
    loop {
        let start = position;
        if element_at(bytes, &mut position).is_none() {
            return (count, longest);
        }
        count += 1;
        longest = longest.max(position - start);
    }
}

/// Where the value begins in a record, which is an array of two revisions and the value; 0 in what
/// is no record.
pub(crate) fn value_of_record(record: &[u8]) -> usize {
    let mut position = 0;
    let mut next = || element_at(record, &mut position);
    let is_record = next() == Some(3) && next() == Some(0) && next() == Some(0);
    if is_record { position } else { 0 }
}

/// Walks `bytes` as exactly one value, without decoding it: its structure must be whole and no
/// deeper than [`DEPTH_MAX`].
pub(crate) fn check(bytes: &[u8]) -> Result<(), ReadError> {
    check_within(DEPTH_MAX, bytes)
}

/// As [`check`], with a depth of which the values must be.
pub(crate) fn check_within(depth: usize, bytes: &[u8]) -> Result<(), ReadError> {
    // How many values are still to come in each open array or map.
    let mut open: Vec<u64> = Vec::new();
    let mut position = 0;
    loop {
        let start = position;
        let element = element_at(bytes, &mut position)
            .ok_or_else(|| ReadError::new(start, "no whole MessagePack value stands"))?;
        if element > 0 {
            if open.len() == depth {
                let message = format!("nesting deeper than the limit of {depth} stands");
                return Err(ReadError::new(start, message));
            }
            open.push(element);
            continue;
        }
        // A value has ended, and with it each container of which it was the last.
        while let Some(left) = open.last_mut() {
            *left -= 1;
            if *left > 0 {
                break;
            }
            open.pop();
        }
        if open.is_empty() {
            break;
        }
    }
    if position == bytes.len() { Ok(()) } else { Err(ReadError::new(position, "more follows")) }
}

/// Steps over one marker with its payload and gives how many values it announces: none for a
/// scalar or an empty container. `None` when the bytes end in it or it is no marker.
fn element_at(bytes: &[u8], position: &mut usize) -> Option<u64> {
    let marker = Marker::from_u8(*bytes.get(*position)?);
    *position += 1;
    let mut number = |width: usize| {
        let digits = bytes.get(*position..)?.get(..width)?;
        *position += width;
        Some(digits.iter().fold(0_u64, |number, digit| number << 8 | u64::from(*digit)))
    };
    let payload = match marker {
        Marker::FixArray(count) => return Some(count.into()),
        Marker::Array16 => return number(2),
        Marker::Array32 => return number(4),
        Marker::FixMap(count) => return Some(2 * u64::from(count)),
        Marker::Map16 => return number(2).map(|count| 2 * count),
        Marker::Map32 => return number(4).map(|count| 2 * count),
        Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => 0,
        Marker::U8 | Marker::I8 => 1,
        Marker::U16 | Marker::I16 => 2,
        Marker::U32 | Marker::I32 | Marker::F32 => 4,
        Marker::U64 | Marker::I64 | Marker::F64 => 8,
        Marker::FixStr(length) => length.into(),
        Marker::Str8 | Marker::Bin8 => number(1)?,
        Marker::Str16 | Marker::Bin16 => number(2)?,
        Marker::Str32 | Marker::Bin32 => number(4)?,
        Marker::FixExt1 => 2,
        Marker::FixExt2 => 3,
        Marker::FixExt4 => 5,
        Marker::FixExt8 => 9,
        Marker::FixExt16 => 17,
        Marker::Ext8 => number(1)? + 1,
        Marker::Ext16 => number(2)? + 1,
        Marker::Ext32 => number(4)? + 1,
        Marker::Reserved => return None,
    };
    let rest = (bytes.len() - *position) as u64;
    (payload <= rest).then(|| {
        *position += payload as usize;
        0
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;
    use serde::de::IgnoredAny;

    use super::*;

    fn nested(depth: usize) -> Vec<u8> {
        [vec![0x91; depth], vec![0xC0]].concat()
    }

    #[test]
    fn the_deepest_value_passes_and_a_deeper_one_does_not() {
        assert_eq!(check(&nested(DEPTH_MAX)), Ok(()));
        assert_eq!(check(&nested(DEPTH_MAX + 1)).unwrap_err().offset, DEPTH_MAX as u64);
        assert!(check(&nested(5_000_000)).is_err());
    }

    #[test]
    fn lengths_that_lie_and_values_that_end_early_are_refused() {
        for bytes in [
            &[][..],
            &[0xDD, 0xFF, 0xFF, 0xFF, 0xFF],
            &[0xDF, 0xFF, 0xFF, 0xFF, 0xFF, 0xC0],
            &[0xDB, 0xFF, 0xFF, 0xFF, 0xFF, b'a'],
            &[0xC6, 0x00],
            &[0xC7, 0x01, 0x00],
            &[0x92, 0xC0],
            &[0xC1],
            &[0xC0, 0xC0],
        ] {
            assert!(check(bytes).is_err(), "{bytes:?}");
        }
        assert_eq!(check(&[0x90]), Ok(()));
        assert_eq!(check(&[0x82, 0x01, 0x80, 0x02, 0x91, 0xC0]), Ok(()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked_without_a_panic_and_as_the_decoder_walks_them(
            bytes in prop::collection::vec(any::<u8>(), 0..40)
        ) {
            let mut decoder = rmp_serde::Deserializer::new(Cursor::new(&bytes[..]));
            let decoded = IgnoredAny::deserialize(&mut decoder).is_ok();
            let whole = decoded && decoder.position() == bytes.len() as u64;
            // Text that is not UTF-8 and extensions are the decoder's to judge.
            if whole {
                prop_assert_eq!(check(&bytes), Ok(()));
            }
        }

        #[test]
        fn whatever_is_written_is_read_again(
            rows in prop::collection::vec((any::<i64>(), ".*", any::<Option<f64>>()), 0..20)
        ) {
            let mut bytes = Vec::new();
            write(&rows, &mut bytes).unwrap();
            let back: Vec<(i64, String, Option<f64>)> = read(&bytes).unwrap();
            prop_assert_eq!(format!("{back:?}"), format!("{rows:?}"));
        }
    }
}
