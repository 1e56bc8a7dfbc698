//! MessagePack to a value and back.
//!
//! Both recurse, and both are bounded before they do: the bytes by the depth check, a value by the
//! depth that is counted down.

use thiserror::Error;

use super::{Value, ValueError};
use crate::limits::{DEPTH_MAX, VALUES_PER_ROW_MAX};
use crate::messagepack::{self, Item, Items, ReadError};

/// Why bytes are no value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum ValueReadError {
    #[error(transparent)]
    Malformed(#[from] ReadError),
    #[error("more than {limit} values stand at byte {offset}")]
    TooManyValues { offset: usize, limit: usize },
}

/// Reads the value that fills `bytes`.
pub(crate) fn read(bytes: &[u8]) -> Result<Value, ValueReadError> {
    messagepack::check(bytes)?;
    let mut reader = Reader { items: Items::of(bytes), left: VALUES_PER_ROW_MAX };
    reader.value()
}

/// Appends the shortest encoding of `value` to `out`; after an error a part of it may stand there.
pub(crate) fn write(value: &Value, out: &mut Vec<u8>) -> Result<(), ValueError> {
    let mut writer = Writer { out, left: VALUES_PER_ROW_MAX };
    writer.value(value, DEPTH_MAX)
}

struct Reader<'a> {
    /// Items of bytes that were checked: their counts are true, their depth is bounded.
    items: Items<'a>,
    /// How many values may still come.
    left: usize,
}

impl Reader<'_> {
    fn value(&mut self) -> Result<Value, ValueReadError> {
        let offset = self.items.position();
        let item = self.items.next()?;
        self.left = self
            .left
            .checked_sub(1)
            .ok_or(ValueReadError::TooManyValues { offset, limit: VALUES_PER_ROW_MAX })?;
        Ok(match item {
            Item::Nil => Value::Nil,
            Item::Bool(value) => Value::Bool(value),
            Item::Int(value) => Value::Int(value),
            Item::UInt(value) => Value::UInt(value),
            Item::F32(value) => Value::F32(value),
            Item::F64(value) => Value::F64(value),
            Item::Text(text) => Value::Text(text.to_owned()),
            Item::Bytes(bytes) => Value::Bytes(bytes.to_owned()),
            Item::Extension(kind, bytes) => Value::Extension(kind, bytes.to_owned()),
            Item::List(count) => {
                let mut values = Vec::with_capacity(self.left.min(count as usize));
                for _ in 0..count {
                    values.push(self.value()?);
                }
                Value::List(values)
            }
            Item::Map(count) => {
                let mut entries = Vec::with_capacity((self.left / 2).min(count as usize));
                for _ in 0..count {
                    entries.push((self.value()?, self.value()?));
                }
                Value::Map(entries)
            }
        })
    }
}

struct Writer<'a> {
    out: &'a mut Vec<u8>,
    /// How many values may still come.
    left: usize,
}

impl Writer<'_> {
    /// Writes `value`, in which at most `depth` lists and maps may be inside each other.
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), ValueError> {
        let too_many = ValueError::TooManyValues { limit: VALUES_PER_ROW_MAX };
        self.left = self.left.checked_sub(1).ok_or(too_many)?;
        match value {
            Value::Nil => self.item(Item::Nil),
            Value::Bool(value) => self.item(Item::Bool(*value)),
            Value::Int(value) => self.item(Item::Int(*value)),
            Value::UInt(value) => self.item(Item::UInt(*value)),
            Value::F32(value) => self.item(Item::F32(*value)),
            Value::F64(value) => self.item(Item::F64(*value)),
            Value::Text(text) => self.item(Item::Text(text)),
            Value::Bytes(bytes) => self.item(Item::Bytes(bytes)),
            Value::Extension(kind, bytes) => self.item(Item::Extension(*kind, bytes)),
            Value::List(values) => {
                self.item(Item::List(self.count(values.len())?))?;
                let inside = inside(depth, values.is_empty())?;
                values.iter().try_for_each(|value| self.value(value, inside))
            }
            Value::Map(entries) => {
                self.item(Item::Map(self.count(entries.len())?))?;
                let inside = inside(depth, entries.is_empty())?;
                entries.iter().try_for_each(|(key, value)| {
                    self.value(key, inside)?;
                    self.value(value, inside)
                })
            }
        }
    }

    /// A number of elements, of which no more may be than values may still come.
    fn count(&self, count: usize) -> Result<u32, ValueError> {
        let too_many = ValueError::TooManyValues { limit: VALUES_PER_ROW_MAX };
        if count > self.left {
            return Err(too_many);
        }
        u32::try_from(count).map_err(|_| too_many)
    }

    fn item(&mut self, item: Item<'_>) -> Result<(), ValueError> {
        item.write(self.out).map_err(|message| ValueError::TooLong { message })
    }
}

/// The depth that is left inside a list or map; an empty one takes none, as in the depth check.
fn inside(depth: usize, is_empty: bool) -> Result<usize, ValueError> {
    if is_empty {
        return Ok(depth);
    }
    depth.checked_sub(1).ok_or(ValueError::TooDeep { limit: DEPTH_MAX })
}
