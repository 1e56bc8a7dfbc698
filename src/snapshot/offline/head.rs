//! What stands at the front of a snapshot file, as public data.

use crate::revision::{Applied, Incarnation, Revision};
use crate::snapshot::codec::EncryptionHeader;
use crate::snapshot::format::{Base, Header, IndexHeader, RemovalsHeader, TableHeader};

/// What a snapshot file says of itself before its rows.
///
/// It is what [`OfflineReader::head`](super::OfflineReader::head) gives and what an
/// [`OfflineWriter`](super::OfflineWriter) is told. How the file is compressed and encrypted is no
/// part of it.
///
/// ```
/// # use fsmdb::{Db, Table};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
/// # #[table(name = "nodes")]
/// # struct Node { #[key] id: u64, #[index] rack: u64 }
/// # let db = Db::builder().table::<Node>().build()?;
/// # let mut file = Vec::new();
/// # db.read().save(&mut file)?;
/// let reader = fsmdb::offline::Source::bytes(&file).reader()?;
/// let nodes = &reader.head().tables[0];
/// assert_eq!((nodes.name.as_str(), nodes.rows), ("nodes", 0));
/// assert_eq!(nodes.indexes[0].name, "rack");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Head {
    /// The revision of the saved version.
    pub revision: Revision,
    /// The last log entry applied in it.
    pub applied: Applied,
    /// The line of revisions that it belongs to.
    pub incarnation: Incarnation,
    /// A hash of the names, versions and indexes of all tables of the schema.
    pub schema_fingerprint: u64,
    /// Of an incremental file: what it is to be applied to.
    pub base: Option<Base>,
    /// Each table, in the order of names.
    pub tables: Vec<TableHead>,
}

/// What a snapshot file says of one table before its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableHead {
    /// The table's name.
    pub name: String,
    /// The version of its rows' layout.
    pub version: u32,
    /// Its number of rows; in an incremental file, after that was applied.
    pub rows: u64,
    /// The revision of the last commit that changed it.
    pub modified: Revision,
    /// The names of the fields that make up the primary key, if the file tells them.
    pub key: Vec<String>,
    /// Its indexes, which are rebuilt when the file is loaded.
    pub indexes: Vec<IndexHead>,
    /// Of a table that remembers what was removed from it, however little that is.
    pub removals: Option<RemovalsHead>,
}

/// What a snapshot file says of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IndexHead {
    /// The index's name.
    pub name: String,
    /// Whether no two rows have the same value.
    pub unique: bool,
}

/// What a snapshot file says of the tombstones of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemovalsHead {
    /// Up to when removals of rows may be forgotten.
    pub rows: Revision,
    /// Up to when removals from indexes may be.
    pub entries: Revision,
    /// The tombstones in the file.
    pub tombstones: u64,
}

impl Head {
    pub(super) fn of(header: &Header) -> Self {
        Self {
            revision: header.revision,
            applied: header.applied,
            incarnation: header.incarnation,
            schema_fingerprint: header.fingerprint,
            base: header.base,
            tables: header.tables.iter().map(TableHead::of).collect(),
        }
    }

    pub(super) fn header(
        &self,
        compression: Option<String>,
        encryption: Option<EncryptionHeader>,
    ) -> Header {
        Header {
            revision: self.revision,
            applied: self.applied,
            incarnation: self.incarnation,
            fingerprint: self.schema_fingerprint,
            base: self.base,
            compression,
            encryption,
            tables: self.tables.iter().map(TableHead::header).collect(),
        }
    }

    /// Makes the fingerprint that of a schema of the tables that are left.
    pub(super) fn set_fingerprint(&mut self) {
        let tables: Vec<_> = self.tables.iter().map(TableHead::header).collect();
        self.schema_fingerprint = Header::fingerprint_of(&tables);
    }
}

impl TableHead {
    fn of(header: &TableHeader) -> Self {
        let indexes = header.indexes.iter();
        Self {
            name: header.name.clone(),
            version: header.version,
            rows: header.rows,
            modified: header.modified,
            key: header.key.clone(),
            indexes: indexes
                .map(|index| IndexHead { name: index.name.clone(), unique: index.unique })
                .collect(),
            removals: header.removals.map(|removals| {
                let RemovalsHeader { rows, entries, tombstones } = removals;
                RemovalsHead { rows, entries, tombstones }
            }),
        }
    }

    fn header(&self) -> TableHeader {
        let indexes = self.indexes.iter();
        TableHeader {
            name: self.name.clone(),
            version: self.version,
            rows: self.rows,
            modified: self.modified,
            key: self.key.clone(),
            indexes: indexes
                .map(|index| IndexHeader { name: index.name.clone(), unique: index.unique })
                .collect(),
            removals: self.removals.map(|removals| {
                let RemovalsHead { rows, entries, tombstones } = removals;
                RemovalsHeader { rows, entries, tombstones }
            }),
        }
    }

    /// Forgets when what was removed: all of it may have been, up to the last change.
    pub(super) fn forget_removals(&mut self) {
        let forgotten = RemovalsHead { rows: self.modified, entries: self.modified, tombstones: 0 };
        self.removals = self.removals.map(|_| forgotten);
    }

    pub(super) fn tombstones(&self) -> u64 {
        self.removals.map_or(0, |removals| removals.tombstones)
    }
}
