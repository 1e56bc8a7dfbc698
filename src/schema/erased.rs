//! A table without its Rust type: what tables, transactions and snapshots work with.

use std::any::{TypeId, type_name};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::table::{IndexDef, IndexKeys, Table};
use crate::key::{KeyBuf, KeyReader, print_from};
use crate::limits::DEPTH_MAX;
use crate::revision::Revision;
use crate::row::{Row, RowMeta, RowRef, typed};

/// One table of a schema.
pub(crate) struct TableSchema {
    pub(crate) name: Arc<str>,
    pub(crate) version: u32,
    pub(crate) indexes: Vec<IndexSchema>,
    pub(crate) rows: Box<dyn RowType>,
}

/// One index of a table.
pub(crate) struct IndexSchema {
    pub(crate) name: Arc<str>,
    pub(crate) unique: bool,
    /// The position that the handle of the index claims; `build()` checks it.
    handle_position: usize,
}

impl TableSchema {
    /// The schema of the table that the type `T` describes.
    pub(crate) fn of<T: Table>() -> Self {
        let definitions = T::indexes();
        let indexes = definitions.iter().map(IndexSchema::of).collect();
        Self {
            name: Arc::from(T::NAME),
            version: T::VERSION,
            indexes,
            rows: Box::new(Typed::<T> { definitions }),
        }
    }

    /// The encoded primary key of a row.
    pub(crate) fn key_of(&self, row: &RowRef) -> KeyBuf {
        let mut key = KeyBuf::new();
        self.rows.primary_key(row, &mut key);
        key
    }

    /// The primary key, printed for a person.
    pub(crate) fn print_key(&self, key: &[u8]) -> String {
        self.rows.print_primary(&mut KeyReader::new(key))
    }

    /// The value of an entry in the index at `position`, printed for a person. The primary key
    /// that follows the value in a non-unique index is left out.
    pub(crate) fn print_value(&self, position: usize, entry: &[u8]) -> String {
        self.rows.print_value(position, &mut KeyReader::new(entry))
    }
}

impl IndexSchema {
    fn of<T>(definition: &IndexDef<T>) -> Self {
        Self {
            name: Arc::from(definition.name),
            unique: definition.unique,
            handle_position: definition.position,
        }
    }

    pub(super) fn handle(&self) -> usize {
        self.handle_position
    }
}

/// What a table must know of its rows: keys, index values, encoding.
///
/// Every method may run user code, which may panic; callers call them before they change anything.
pub(crate) trait RowType: Send + Sync {
    fn row_type(&self) -> TypeId;
    fn type_name(&self) -> &'static str;
    fn primary_key(&self, row: &RowRef, out: &mut KeyBuf);
    /// Pushes the values of `row` in the index at `position`.
    fn index_values(&self, position: usize, row: &RowRef, out: &mut IndexKeys);
    fn print_primary(&self, reader: &mut KeyReader<'_>) -> String;
    fn print_value(&self, position: usize, reader: &mut KeyReader<'_>) -> String;
    /// Appends the record of `row`, MessagePack `[created, modified, {field: value}]`, to `out`.
    fn encode(&self, row: &RowRef, out: &mut Vec<u8>) -> Result<(), String>;
    /// Reads one record that fills `bytes` whole.
    fn decode(&self, bytes: &[u8]) -> Result<RowRef, RowDecodeError>;
}

/// Why the bytes of a record are not a row, and where.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{message} at byte {offset} of the record")]
pub(crate) struct RowDecodeError {
    pub(crate) offset: u64,
    pub(crate) message: String,
}

/// The [`RowType`] of a Rust type.
pub(crate) struct Typed<T> {
    definitions: Vec<IndexDef<T>>,
}

impl<T: Table> RowType for Typed<T> {
    fn row_type(&self) -> TypeId {
        TypeId::of::<T>()
    }

    fn type_name(&self) -> &'static str {
        type_name::<T>()
    }

    fn primary_key(&self, row: &RowRef, out: &mut KeyBuf) {
        typed::<T>(row).value().encode_primary_key(out);
    }

    fn index_values(&self, position: usize, row: &RowRef, out: &mut IndexKeys) {
        (self.definitions[position].extract)(typed::<T>(row).value(), out);
    }

    fn print_primary(&self, reader: &mut KeyReader<'_>) -> String {
        print_from::<T::Key>(reader)
    }

    fn print_value(&self, position: usize, reader: &mut KeyReader<'_>) -> String {
        (self.definitions[position].print)(reader)
    }

    fn encode(&self, row: &RowRef, out: &mut Vec<u8>) -> Result<(), String> {
        let row = typed::<T>(row);
        let record = Record(row.created(), row.modified(), row.value());
        let mut serializer = rmp_serde::Serializer::new(out).with_struct_map();
        serializer.unstable_set_max_depth(DEPTH_MAX);
        record.serialize(&mut serializer).map_err(|error| error.to_string())
    }

    fn decode(&self, bytes: &[u8]) -> Result<RowRef, RowDecodeError> {
        let mut deserializer = rmp_serde::Deserializer::new(std::io::Cursor::new(bytes));
        deserializer.set_max_depth(DEPTH_MAX);
        let record = Record::<T>::deserialize(&mut deserializer);
        let offset = deserializer.position();
        let failed = |message: &str| RowDecodeError { offset, message: message.to_owned() };
        let Record(created, modified, value) = record.map_err(|error| failed(&error.to_string()))?;
        if offset != bytes.len() as u64 {
            return Err(failed("the record goes on after the row"));
        }
        if created > modified {
            return Err(failed("the row was modified before it was created"));
        }
        Ok(Row::new(RowMeta { created, modified }, value))
    }
}

/// A row as it stands in a snapshot; a tuple struct, so that it becomes a MessagePack array.
#[derive(Serialize, Deserialize)]
struct Record<T>(Revision, Revision, T);
