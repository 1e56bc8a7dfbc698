//! What a snapshot file consists of, one thing after the other: rows as bytes, without their types.

use std::fmt::Write;

use super::error::OfflineError;
use super::head::TableHead;
use crate::digest::Digest;
use crate::messagepack::{self, Items};
use crate::revision::Revision;
use crate::value::{self, Value};

/// One thing of a snapshot file, in the order in which they stand there: each table of the head
/// begins, has keys that are deleted, rows and tombstones, and ends; then there are sections.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Item<'a> {
    /// A table begins.
    Table(&'a TableHead),
    /// The primary key of a row that an incremental file deletes; they ascend.
    Deleted(&'a [u8]),
    /// A row; their keys ascend.
    Row(StoredRow<'a>),
    /// What the table remembers of a removal; the oldest comes first.
    Tombstone(StoredTombstone<'a>),
    /// The table ends.
    TableEnd {
        /// The digest of its rows; in an incremental file, of what the table becomes.
        digest: Digest,
    },
    /// A section that this version of the library does not know.
    Section {
        /// Its name.
        name: &'a str,
        /// Its content.
        content: &'a [u8],
    },
}

/// A row as it stands in a file.
///
/// ```
/// # use fsmdb::{Db, Table, Value};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
/// # #[table(name = "nodes")]
/// # struct Node { #[key] id: u64 }
/// # let db = Db::builder().table::<Node>().build()?;
/// # let mut txn = db.write();
/// # txn.insert(Node { id: 7 })?;
/// # txn.commit();
/// # let mut file = Vec::new();
/// # db.read().save(&mut file)?;
/// use fsmdb::offline::{Item, Source};
///
/// let mut reader = Source::bytes(&file).reader()?;
/// while let Some(item) = reader.read_item()? {
///     if let Item::Row(row) = item {
///         assert_eq!(row.key, fsmdb::encode(&7_u64).as_slice());
///         assert_eq!(row.field("id"), Some(Value::Int(7)));
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredRow<'a> {
    /// The encoded primary key.
    pub key: &'a [u8],
    /// The revision that has created it.
    pub created: Revision,
    /// The revision that has changed it last.
    pub modified: Revision,
    /// MessagePack, mostly a map of its fields by name.
    pub encoded: &'a [u8],
}

/// A tombstone as it stands in a file: something was taken out of a table, or of an index of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredTombstone<'a> {
    /// When.
    pub revision: Revision,
    /// From where: 0 is the table, `i + 1` its index at position `i`.
    pub tree: u32,
    /// The primary key, or the value of the index.
    pub key: &'a [u8],
}

impl<'a> StoredRow<'a> {
    /// A row to be written.
    #[must_use]
    pub fn new(key: &'a [u8], created: Revision, modified: Revision, encoded: &'a [u8]) -> Self {
        Self { key, created, modified, encoded }
    }

    /// The row as a value that describes itself. O(its size).
    ///
    /// # Errors
    ///
    /// [`OfflineError::Value`], which names `table`, of a text that is not UTF-8, or more values
    /// than [`limits::VALUES_PER_ROW_MAX`](crate::limits::VALUES_PER_ROW_MAX).
    pub fn value(&self, table: &TableHead) -> Result<Value, OfflineError> {
        value::read(self.encoded).map_err(|error| self.unreadable(&table.name, error.to_string()))
    }

    /// The value of one of its fields; `None` when it is no map that has it. O(size of the row).
    #[must_use]
    pub fn field(&self, name: &str) -> Option<Value> {
        value::read(self.encoded_field(name)?).ok()
    }

    /// What the row is called in a text: the values of its key fields with slashes between them, or
    /// else the bytes of its key in hexadecimal digits. O(size of the row).
    ///
    /// They are what a person looks for, and not always one of a kind: `"a/b"` may be one text or
    /// two.
    #[must_use]
    pub fn key_text(&self, table: &TableHead) -> String {
        let mut text = String::new();
        for (position, field) in table.key.iter().enumerate() {
            if position > 0 {
                text.push('/');
            }
            let pushed = self.encoded_field(field).and_then(|value| push_scalar(value, &mut text));
            if pushed.is_none() {
                return hexadecimal(self.key);
            }
        }
        if table.key.is_empty() { hexadecimal(self.key) } else { text }
    }

    pub(super) fn encoded_field(&self, name: &str) -> Option<&'a [u8]> {
        let mut items = Items::of(self.encoded);
        let Ok(messagepack::Item::Map(count)) = items.next() else { return None };
        for _ in 0..count {
            let mut key = items;
            items.skip().ok()?;
            let start = items.position();
            items.skip().ok()?;
            if key.next() == Ok(messagepack::Item::Text(name)) {
                return Some(&self.encoded[start..items.position()]);
            }
        }
        None
    }

    /// Whether a field is this text.
    pub(super) fn has_text(&self, field: &str, text: &str) -> bool {
        let found = self.encoded_field(field).map(|value| Items::of(value).next());
        found == Some(Ok(messagepack::Item::Text(text)))
    }

    pub(super) fn unreadable(&self, table: &str, message: String) -> OfflineError {
        OfflineError::Value { table: table.to_owned(), key: hexadecimal(self.key), message }
    }
}

impl<'a> StoredTombstone<'a> {
    /// A tombstone to be written.
    #[must_use]
    pub fn new(revision: Revision, tree: u32, key: &'a [u8]) -> Self {
        Self { revision, tree, key }
    }
}

/// Appends a value that is neither a list nor a map.
fn push_scalar(encoded: &[u8], text: &mut String) -> Option<()> {
    let written = match Items::of(encoded).next().ok()? {
        messagepack::Item::Bool(value) => write!(text, "{value}"),
        messagepack::Item::Int(value) => write!(text, "{value}"),
        messagepack::Item::UInt(value) => write!(text, "{value}"),
        messagepack::Item::Text(value) => write!(text, "{value}"),
        messagepack::Item::Bytes(value) => write!(text, "{}", hexadecimal(value)),
        _ => return None,
    };
    written.ok()
}

/// Bytes as digits, two each.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    let mut digits = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(digits, "{byte:02x}").expect("a string takes everything");
    }
    digits
}
