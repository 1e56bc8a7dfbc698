//! A table without its Rust type: what tables, transactions and snapshots work with.

use std::any::{TypeId, type_name};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::migration::{self, RowMigrationError};
use super::table::{IndexDef, IndexKeys, Table};
use crate::key::{KeyBuf, KeyReader, print_from};
use crate::limits::ROW_DEPTH_MAX;
use crate::messagepack::{self, ReadError};
use crate::revision::Revision;
use crate::tree::{NewRow, RowKind, RowMeta, RowRef};

/// One table of a schema.
pub(crate) struct TableSchema {
    pub(crate) name: Arc<str>,
    pub(crate) version: u32,
    /// The names of the fields of the primary key.
    pub(crate) key_fields: &'static [&'static str],
    /// Most tombstones of the table.
    pub(crate) tombstones: usize,
    /// Whether statements keep the digest of the table.
    pub(crate) keeps_digest: bool,
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
            key_fields: T::KEY_FIELDS,
            tombstones: T::TOMBSTONES,
            keeps_digest: false,
            indexes,
            rows: Box::new(Typed::<T> { definitions }),
        }
    }

    /// Whether two rows have the same value, whenever they were written: by their encodings, so
    /// values that cannot be encoded count as different.
    pub(crate) fn is_same(&self, one: RowRef<'_>, other: RowRef<'_>) -> bool {
        if one.is(other) {
            return true;
        }
        // The user's code may panic; who asks is in the middle of something.
        let encoded = catch_unwind(AssertUnwindSafe(|| {
            let (mut first, mut second) = (Vec::new(), Vec::new());
            self.rows.encode_value(one, &mut first)?;
            self.rows.encode_value(other, &mut second)?;
            Ok::<_, String>(first == second)
        }));
        matches!(encoded, Ok(Ok(true)))
    }

    /// The encoded primary key of a row.
    pub(crate) fn key_of(&self, row: RowRef<'_>) -> KeyBuf {
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
    /// What the engine must know of the rows.
    fn kind(&self) -> &'static RowKind;
    fn type_name(&self) -> &'static str;
    fn primary_key(&self, row: RowRef<'_>, out: &mut KeyBuf);
    /// Pushes the values of `row` in the index at `position`.
    fn index_values(&self, position: usize, row: RowRef<'_>, out: &mut IndexKeys);
    fn print_primary(&self, reader: &mut KeyReader<'_>) -> String;
    fn print_value(&self, position: usize, reader: &mut KeyReader<'_>) -> String;
    /// Appends the record of `row`, MessagePack `[created, modified, {field: value}]`, to `out`;
    /// gives where in `out` its value begins.
    fn encode(&self, row: RowRef<'_>, out: &mut Vec<u8>) -> Result<usize, String>;
    /// Reads one record that fills `bytes` whole.
    fn decode(&self, bytes: &[u8]) -> Result<NewRow, ReadError>;
    /// Appends the value of `row`, MessagePack `{field: value}`, to `out`.
    fn encode_value(&self, row: RowRef<'_>, out: &mut Vec<u8>) -> Result<(), String>;
    /// Reads one value that fills `bytes` whole.
    fn decode_value(&self, bytes: &[u8], meta: RowMeta) -> Result<NewRow, ReadError>;
    /// Makes a row of the value that fills `bytes` and is one of version `from` of the table, by
    /// its migration. The row may have another primary key than the value had.
    fn migrate(&self, from: u32, bytes: &[u8], meta: RowMeta) -> Result<NewRow, RowMigrationError>;
}

/// The [`RowType`] of a Rust type.
pub(crate) struct Typed<T> {
    definitions: Vec<IndexDef<T>>,
}

impl<T: Table> RowType for Typed<T> {
    fn row_type(&self) -> TypeId {
        TypeId::of::<T>()
    }

    fn kind(&self) -> &'static RowKind {
        RowKind::of::<T>()
    }

    fn type_name(&self) -> &'static str {
        type_name::<T>()
    }

    fn primary_key(&self, row: RowRef<'_>, out: &mut KeyBuf) {
        row.typed::<T>().value().encode_primary_key(out);
    }

    fn index_values(&self, position: usize, row: RowRef<'_>, out: &mut IndexKeys) {
        (self.definitions[position].extract)(row.typed::<T>().value(), out);
    }

    fn print_primary(&self, reader: &mut KeyReader<'_>) -> String {
        print_from::<T::Key>(reader)
    }

    fn print_value(&self, position: usize, reader: &mut KeyReader<'_>) -> String {
        (self.definitions[position].print)(reader)
    }

    fn encode(&self, row: RowRef<'_>, out: &mut Vec<u8>) -> Result<usize, String> {
        let (row, start) = (row.typed::<T>(), out.len());
        let record = Record(row.created(), row.modified(), row.value());
        messagepack::write(&record, out)?;
        Ok(start + messagepack::value_of_record(&out[start..]))
    }

    fn decode(&self, bytes: &[u8]) -> Result<NewRow, ReadError> {
        decode_record::<T>(bytes)
    }

    fn encode_value(&self, row: RowRef<'_>, out: &mut Vec<u8>) -> Result<(), String> {
        messagepack::write_within(ROW_DEPTH_MAX, row.typed::<T>().value(), out)
    }

    fn decode_value(&self, bytes: &[u8], meta: RowMeta) -> Result<NewRow, ReadError> {
        Ok(NewRow::new(meta, messagepack::read::<T>(bytes)?))
    }

    fn migrate(&self, from: u32, bytes: &[u8], meta: RowMeta) -> Result<NewRow, RowMigrationError> {
        migration::migrate::<T>(from, bytes, meta)
    }
}

/// Reads one record of a `T` that fills `bytes`.
pub(crate) fn decode_record<T: Table>(bytes: &[u8]) -> Result<NewRow, ReadError> {
    let Record(created, modified, value) = messagepack::read::<Record<T>>(bytes)?;
    if created > modified {
        let message = "a row that was modified before it was created ends".into();
        return Err(ReadError { offset: bytes.len() as u64, message });
    }
    Ok(NewRow::new(RowMeta { created, modified }, value))
}

/// A row as it stands in a snapshot; a tuple struct, so that it becomes a MessagePack array.
#[derive(Serialize, Deserialize)]
struct Record<T>(Revision, Revision, T);
