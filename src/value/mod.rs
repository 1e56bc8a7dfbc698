//! A row without its Rust type: what a migration works on, because the type that a row of an older
//! version had is not there any more.
//!
//! `encoding.rs` reads and writes MessagePack, `serial.rs` is the side of `serde`, and
//! `convert.rs` makes values of Rust's types.
//!
//! # Invariants
//!
//! 1. What was read and not touched is written as it was: the same bytes, if they were the shortest
//!    encoding, as those of every row are.
//! 2. Reading takes at most a small multiple of the memory of the largest row, whatever the bytes,
//!    and writing refuses what reading would refuse.

mod convert;
mod encoding;
mod serial;
#[cfg(test)]
mod tests;

use thiserror::Error;

pub(crate) use encoding::{ValueReadError, read, write};

/// A value that describes itself: a row, or what is in one, without its Rust type.
///
/// A row is a [`Map`](Value::Map) from the names of its fields to their values, as `serde` writes
/// them: an absent `Option` is [`Nil`](Value::Nil), a variant without fields is its name, one with
/// fields a map from its name, a `Vec<u8>` a list of numbers and not [`Bytes`](Value::Bytes).
///
/// A migration ([`Table::migrate_row`](crate::Table::migrate_row)) changes one into a row of the
/// next version:
///
/// ```
/// use fsmdb::Value;
///
/// # fn main() -> Result<(), fsmdb::ValueError> {
/// let mut row = Value::Map(Vec::new());
/// row.set("id", 7_u64)?;
/// row.set("owner", "ada")?;
///
/// assert!(row.rename("owner", "owner_name"));
/// row.set("priority", 50)?;
/// assert_eq!(row.get("owner_name").and_then(Value::as_text), Some("ada"));
/// assert_eq!(row.remove("priority"), Some(Value::Int(50)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// Nothing: an absent `Option`, a unit.
    #[default]
    Nil,
    /// A truth value.
    Bool(bool),
    /// A whole number, whatever the width of its Rust type.
    Int(i64),
    /// A whole number above `i64::MAX`; smaller ones are read as [`Int`](Value::Int), which is not
    /// equal to a `UInt` of the same number.
    UInt(u64),
    /// A decimal number of single precision.
    F32(f32),
    /// A decimal number of double precision.
    F64(f64),
    /// Text.
    Text(String),
    /// Bytes that were written as such, as a UUID is; a `Vec<u8>` is a [`List`](Value::List).
    Bytes(Vec<u8>),
    /// Values one after the other: a sequence, a set, a tuple.
    List(Vec<Value>),
    /// Keys with their values in the order in which they were written: a struct, a map.
    Map(Vec<(Value, Value)>),
    /// An extension type of MessagePack: its number, and its bytes.
    Extension(i8, Vec<u8>),
}

/// Why a value cannot be what it was asked to be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ValueError {
    /// A field was set in something that has no fields.
    #[error("field {field} cannot be set: the value is {found}, not a map")]
    NotAMap {
        /// The field.
        field: String,
        /// What the value is: "a list".
        found: &'static str,
    },
    /// The value is nested deeper than [`limits::DEPTH_MAX`](crate::limits::DEPTH_MAX).
    #[error("the value is nested deeper than the limit of {limit}")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// The value consists of more than
    /// [`limits::VALUES_PER_ROW_MAX`](crate::limits::VALUES_PER_ROW_MAX) values.
    #[error("the value consists of more than {limit} values")]
    TooManyValues {
        /// The limit.
        limit: usize,
    },
    /// A text, or bytes, longer than MessagePack can say.
    #[error("the value cannot be written: {message}")]
    TooLong {
        /// What is too long.
        message: String,
    },
}

impl Value {
    /// The value of `field`, if this is a map that has it. O(number of fields).
    #[must_use]
    pub fn get(&self, field: &str) -> Option<&Value> {
        let Self::Map(entries) = self else { return None };
        entries.iter().find(|(key, _)| key.is_text(field)).map(|(_, value)| value)
    }

    /// The value of `field`, to be changed in place. O(number of fields).
    pub fn get_mut(&mut self, field: &str) -> Option<&mut Value> {
        let Self::Map(entries) = self else { return None };
        entries.iter_mut().find(|(key, _)| key.is_text(field)).map(|(_, value)| value)
    }

    /// Sets `field` to `value` and gives what it was before; a new field comes last.
    /// O(number of fields).
    ///
    /// # Errors
    ///
    /// [`ValueError::NotAMap`] when this is no map; it stays as it is.
    pub fn set(
        &mut self,
        field: &str,
        value: impl Into<Value>,
    ) -> Result<Option<Value>, ValueError> {
        let found = self.describe();
        let Self::Map(entries) = self else {
            return Err(ValueError::NotAMap { field: field.to_owned(), found });
        };
        let value = value.into();
        match entries.iter_mut().find(|(key, _)| key.is_text(field)) {
            Some((_, slot)) => Ok(Some(std::mem::replace(slot, value))),
            None => {
                entries.push((Self::Text(field.to_owned()), value));
                Ok(None)
            }
        }
    }

    /// Takes `field` out and gives its value. The others keep their order. O(number of fields).
    pub fn remove(&mut self, field: &str) -> Option<Value> {
        let Self::Map(entries) = self else { return None };
        let position = entries.iter().position(|(key, _)| key.is_text(field))?;
        Some(entries.remove(position).1)
    }

    /// Gives the field `from` the name `to`, in its place. O(number of fields).
    ///
    /// Says whether it did: there must be a field `from`, and none that is called `to`.
    pub fn rename(&mut self, from: &str, to: &str) -> bool {
        if self.get(to).is_some() {
            return false;
        }
        let Self::Map(entries) = self else { return false };
        let Some((key, _)) = entries.iter_mut().find(|(key, _)| key.is_text(from)) else {
            return false;
        };
        *key = Self::Text(to.to_owned());
        true
    }

    /// Whether this is [`Nil`](Value::Nil).
    #[must_use]
    pub fn is_nil(&self) -> bool {
        matches!(self, Self::Nil)
    }

    /// The truth value, if this is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(value) = self { Some(*value) } else { None }
    }

    /// The whole number, if this is one that fits.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            Self::UInt(value) => i64::try_from(*value).ok(),
            _ => None,
        }
    }

    /// The whole number, if this is one that is not negative.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Int(value) => u64::try_from(*value).ok(),
            Self::UInt(value) => Some(*value),
            _ => None,
        }
    }

    /// The decimal number, if this is one, of either precision.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::F32(value) => Some((*value).into()),
            Self::F64(value) => Some(*value),
            _ => None,
        }
    }

    /// The text, if this is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The bytes, if these are some.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        if let Self::Bytes(bytes) = self { Some(bytes) } else { None }
    }

    /// The values of the list, if this is one.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Value]> {
        if let Self::List(values) = self { Some(values) } else { None }
    }

    /// The keys of the map with their values, if this is one.
    #[must_use]
    pub fn as_map(&self) -> Option<&[(Value, Value)]> {
        if let Self::Map(entries) = self { Some(entries) } else { None }
    }

    fn is_text(&self, text: &str) -> bool {
        self.as_text() == Some(text)
    }

    /// What this is, for errors.
    fn describe(&self) -> &'static str {
        match self {
            Self::Nil => "nothing",
            Self::Bool(_) => "a truth value",
            Self::Int(_) | Self::UInt(_) => "a whole number",
            Self::F32(_) | Self::F64(_) => "a decimal number",
            Self::Text(_) => "text",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
            Self::Extension(..) => "an extension",
        }
    }
}
