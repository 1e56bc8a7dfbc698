//! Who keeps how much memory.

use crate::revision::Revision;
use crate::root::Contents;
use crate::tree::Writer;
use crate::watch::Hub;

/// Who keeps how much memory, in bytes; from [`Db::memory`](crate::Db::memory).
///
/// What values own elsewhere, by a `String` or a `Vec`, is not in it: the engine does not see that.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Memory {
    /// The tables of the current version, in the order of the schema.
    pub tables: Vec<TableMemory>,
    /// The older versions that are alive, because somebody holds them or because they are kept, the
    /// oldest first.
    pub versions: Vec<VersionMemory>,
    /// What the next commits will free.
    pub waiting: usize,
    /// The memory that nodes of all versions stand in, with the room that is free between them.
    pub nodes: usize,
}

/// What one table keeps in the current version.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableMemory {
    /// The table's name.
    pub name: String,
    /// The number of rows.
    pub rows: usize,
    /// Bytes of the rows.
    pub row_bytes: usize,
    /// Bytes of the nodes of the primary tree.
    pub node_bytes: usize,
    /// The number of tombstones; see [`Table::TOMBSTONES`](crate::Table::TOMBSTONES).
    pub tombstones: usize,
    /// The indexes, in the order of their definitions.
    pub indexes: Vec<IndexMemory>,
}

/// What one index keeps in the current version.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IndexMemory {
    /// The index's name.
    pub name: String,
    /// The number of entries.
    pub entries: usize,
    /// Bytes of its nodes.
    pub node_bytes: usize,
}

/// An older version that is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VersionMemory {
    /// Its revision.
    pub revision: Revision,
    /// Bytes of rows and nodes that would go with it, if the versions before it were not there.
    pub bytes: usize,
    /// Whether the database keeps it, for [`Db::at`](crate::Db::at); somebody may hold it as well.
    pub is_kept: bool,
}

/// The memory of the newest version, which is `contents`, and of older ones.
pub(crate) fn memory(contents: &Contents, writer: &mut Writer<Contents>, hub: &Hub) -> Memory {
    let tables = contents.tables().map(|table| {
        let schema = table.schema();
        let indexes = schema.indexes.iter().enumerate().map(|(position, index)| IndexMemory {
            name: index.name.to_string(),
            entries: table.tree(Some(position)).len(),
            node_bytes: table.tree(Some(position)).node_bytes(),
        });
        TableMemory {
            name: schema.name.to_string(),
            rows: table.len(),
            row_bytes: table.len() * schema.rows.kind().bytes(),
            node_bytes: table.rows().node_bytes(),
            tombstones: table.removals().len(),
            indexes: indexes.collect(),
        }
    });
    let tables = tables.collect();
    let mut versions = Vec::new();
    writer.visit_versions(&mut |contents, bytes| {
        let revision = contents.revision;
        let is_kept = hub.history().get(revision).is_some();
        versions.push(VersionMemory { revision, bytes: bytes(), is_kept });
        true
    });
    let (nodes, waiting) = writer.memory();
    Memory { tables, versions, waiting, nodes }
}
