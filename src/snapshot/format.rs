//! What stands in the frames of a snapshot file, and what is told about it.

use std::fmt;
use std::marker::PhantomData;
use std::ops::ControlFlow;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::codec::EncryptionHeader;
use crate::digest::{Digest, Digests, TableDigest};
use crate::limits::{INDEXES_PER_TABLE_MAX, KEY_FIELDS_MAX, TABLES_MAX};
use crate::revision::{Applied, Incarnation, Revision};
use crate::schema;

/// The first bytes of every snapshot file.
pub(super) const MAGIC: [u8; 8] = *b"fsmdbSNP";

/// The version of the format that is written.
pub(super) const FORMAT_VERSION: u32 = 2;

/// The oldest version of the format that is read: records without keys, frames that are one chunk
/// each, no ends of tables and no hash.
pub(super) const FORMAT_VERSION_OLDEST: u32 = 1;

/// The kinds of frame, each the lower bits of the byte in its chunks.
pub(super) mod kind {
    pub(in crate::snapshot) const HEADER: u8 = 1;
    pub(in crate::snapshot) const ROWS: u8 = 2;
    pub(in crate::snapshot) const END: u8 = 3;
    pub(in crate::snapshot) const TOMBSTONES: u8 = 4;
    pub(in crate::snapshot) const SECTION: u8 = 5;
    pub(in crate::snapshot) const TABLE_END: u8 = 6;
    pub(in crate::snapshot) const DELETES: u8 = 7;
}

/// What the upper bits of that byte say of a chunk.
pub(super) mod flag {
    /// The frame goes on in the next chunk.
    pub(in crate::snapshot) const MORE: u8 = 0x80;
    /// The payload is compressed.
    pub(in crate::snapshot) const COMPRESSED: u8 = 0x40;
}

/// The header frame: MessagePack with named fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) revision: Revision,
    pub(super) applied: Applied,
    #[serde(default)]
    pub(super) incarnation: Incarnation,
    pub(super) fingerprint: u64,
    /// Of an incremental file: what it is to be applied to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) base: Option<Base>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) compression: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) encryption: Option<EncryptionHeader>,
    /// In the order of names.
    #[serde(deserialize_with = "up_to::<_, _, TABLES_MAX>")]
    pub(super) tables: Vec<TableHeader>,
}

impl Header {
    /// The fingerprint of a schema that has all `tables`, which are in the order of names.
    pub(super) fn fingerprint_of(tables: &[TableHeader]) -> u64 {
        schema::fingerprint_of(tables.iter().map(|table| {
            let indexes = table.indexes.iter().map(|index| (index.name.as_str(), index.unique));
            (table.name.as_str(), table.version, indexes)
        }))
    }
}

/// The state that an incremental file is to be applied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Base {
    /// Its revision.
    pub revision: Revision,
    /// Its digest, as [`Digests::database`](crate::Digests::database) gives it.
    pub digest: Digest,
}

/// What the header says of one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TableHeader {
    pub(super) name: String,
    pub(super) version: u32,
    /// How many it has; in an incremental file, after that was applied.
    pub(super) rows: u64,
    pub(super) modified: Revision,
    /// The names of the fields that make up the primary key, if the schema tells them.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "up_to::<_, _, KEY_FIELDS_MAX>"
    )]
    pub(super) key: Vec<String>,
    #[serde(deserialize_with = "up_to::<_, _, INDEXES_PER_TABLE_MAX>")]
    pub(super) indexes: Vec<IndexHeader>,
    /// Of a table that has tombstones, however many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) removals: Option<RemovalsHeader>,
}

/// What the header says of removals from one table and its indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RemovalsHeader {
    /// Up to when those of rows may be forgotten.
    pub(super) rows: Revision,
    /// Up to when those of entries of indexes may be.
    pub(super) entries: Revision,
    /// How many the file has.
    pub(super) tombstones: u64,
}

/// What the header says of one index; for people and tools, indexes are rebuilt when loading.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct IndexHeader {
    pub(super) name: String,
    pub(super) unique: bool,
}

/// Decodes a list that is refused at the first element beyond its limit: one of a byte may take
/// many times that when it is decoded.
fn up_to<'de, D: Deserializer<'de>, T: Deserialize<'de>, const LIMIT: usize>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    struct Elements<T, const LIMIT: usize>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>, const LIMIT: usize> de::Visitor<'de> for Elements<T, LIMIT> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of up to {LIMIT}")
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, mut found: A) -> Result<Vec<T>, A::Error> {
            let mut elements = Vec::new();
            while let Some(element) = found.next_element()? {
                if elements.len() == LIMIT {
                    return Err(de::Error::invalid_length(LIMIT + 1, &self));
                }
                elements.push(element);
            }
            Ok(elements)
        }
    }
    deserializer.deserialize_seq(Elements::<T, LIMIT>(PhantomData))
}

/// The end of a table: MessagePack with named fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TableEnd {
    /// The position of the table in the header.
    pub(super) table: u32,
    /// The records of rows in the file, and of deletes.
    pub(super) rows: u64,
    pub(super) deletes: u64,
    /// The bytes of the records of rows.
    pub(super) bytes: u64,
    /// That of all of the table's rows; in an incremental file, after that was applied.
    pub(super) digest: Digest,
}

/// The end frame: MessagePack with named fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    /// The records of rows of all tables.
    pub(super) rows: u64,
    /// The offset of the end frame itself.
    pub(super) offset: u64,
    /// BLAKE3 of all bytes before that. Files of format 1 have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) hash: Option<FileHash>,
}

/// A hash of 32 bytes, written as bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct FileHash(pub(super) [u8; 32]);

impl fmt::Debug for FileHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for FileHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for FileHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl de::Visitor<'_> for Bytes {
            type Value = FileHash;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("32 bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<FileHash, E> {
                let bytes = bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))?;
                Ok(FileHash(bytes))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// What a snapshot file holds, from [`Snapshot::save`](crate::Snapshot::save) or
/// [`inspect`](crate::inspect).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Summary {
    /// The version of the file format.
    pub format_version: u32,
    /// The revision of the saved version.
    pub revision: Revision,
    /// The last log entry applied in it; (0, 0) from an embedded database.
    pub applied: Applied,
    /// The line of revisions that it belongs to.
    pub incarnation: Incarnation,
    /// Of an incremental file: what it is to be applied to.
    pub base: Option<Base>,
    /// How its chunks are compressed, if they are.
    pub compression: Option<String>,
    /// How its chunks are encrypted, if they are.
    pub encryption: Option<String>,
    /// Equal for equal schemas: a hash of the names, versions and indexes of all tables of the
    /// file, those among them that are carried.
    pub schema_fingerprint: u64,
    /// Each table, in the order of names.
    pub tables: Vec<TableSummary>,
    /// The rows that the file has, of all tables.
    pub rows: u64,
    /// The length of the file in bytes.
    pub bytes: u64,
    /// The names of the sections that the file has beside its tables, and that this version of the
    /// library carries from file to file without knowing them.
    pub sections: Vec<String>,
}

/// What a snapshot file holds of one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TableSummary {
    /// The table's name.
    pub name: String,
    /// The version of its rows' layout.
    pub version: u32,
    /// The revision of the last commit that changed it.
    pub modified: Revision,
    /// The names of the fields that make up the primary key, if the file tells them.
    pub key: Vec<String>,
    /// Its number of rows; in an incremental file, after that was applied.
    pub rows: u64,
    /// The rows that the file has: all of them, or those that an incremental file puts.
    pub puts: u64,
    /// The rows that an incremental file deletes.
    pub deletes: u64,
    /// The bytes of its rows with their keys, not compressed.
    pub bytes: u64,
    /// The digest of the table, in an incremental file of what it becomes; `None` in a file of
    /// format 1.
    pub digest: Option<Digest>,
    /// Its number of tombstones; see [`Table::TOMBSTONES`](crate::Table::TOMBSTONES).
    pub tombstones: u64,
}

impl Summary {
    pub(super) fn new(format_version: u32, header: &Header) -> Self {
        let tables = header.tables.iter().map(|table| TableSummary {
            name: table.name.clone(),
            version: table.version,
            modified: table.modified,
            key: table.key.clone(),
            rows: table.rows,
            puts: 0,
            deletes: 0,
            bytes: 0,
            digest: None,
            tombstones: 0,
        });
        Self {
            format_version,
            revision: header.revision,
            applied: header.applied,
            incarnation: header.incarnation,
            base: header.base,
            compression: header.compression.clone(),
            encryption: header.encryption.as_ref().map(|found| found.cipher.clone()),
            schema_fingerprint: header.fingerprint,
            tables: tables.collect(),
            rows: 0,
            bytes: 0,
            sections: Vec::new(),
        }
    }

    pub(super) fn count(&mut self, table: usize, rows: u64, bytes: u64) {
        self.rows += rows;
        self.tables[table].puts += rows;
        self.tables[table].bytes += bytes;
    }

    /// The digests of the state, or of what an incremental file makes of its base; `None` of a file
    /// of format 1.
    #[must_use]
    pub fn digests(&self) -> Option<Digests> {
        let tables = self.tables.iter().map(|table| {
            let (name, rows) = (table.name.clone(), table.rows);
            Some(TableDigest { table: name, rows, digest: table.digest? })
        });
        let tables = tables.collect::<Option<Vec<_>>>()?;
        Some(Digests { revision: self.revision, applied: self.applied, tables })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "revision {}, applied {}, {} rows, {} bytes",
            self.revision, self.applied, self.rows, self.bytes
        )?;
        for table in &self.tables {
            writeln!(
                f,
                "  {} (version {}): {} rows, {} bytes, modified at {}",
                table.name, table.version, table.rows, table.bytes, table.modified
            )?;
        }
        Ok(())
    }
}

/// How far a save or load is, told after each frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress<'a> {
    /// The table that the last frame belongs to.
    pub table: &'a str,
    /// Rows of all tables so far.
    pub rows: u64,
    /// Rows of all tables in the end.
    pub rows_total: u64,
    /// Bytes of the file so far.
    pub bytes: u64,
}

impl Progress<'_> {
    /// What a progress callback returns to go on.
    pub const CONTINUE: ControlFlow<()> = ControlFlow::Continue(());
    /// What a progress callback returns to cancel.
    pub const CANCEL: ControlFlow<()> = ControlFlow::Break(());
}
