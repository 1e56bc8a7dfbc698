//! What was erased, and which versions still pin it.

use crate::revision::Revision;
use crate::root::Contents;
use crate::schema::Schema;
use crate::tree::Writer;
use crate::watch::Erased;

/// A commit that has erased rows, and what still pins them: from [`Db::erase`](crate::Db::erase)
/// and [`Db::erased`](crate::Db::erased).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Erasure {
    /// The revision that the commit made.
    pub revision: Revision,
    /// The rows that it erased, in all tables together.
    pub rows: u64,
    /// The tables in which it erased, in the order of the schema, also those without such a row.
    pub tables: Vec<ErasedTable>,
    /// The highest revision of an older version that is alive, when this was asked: as long as
    /// somebody holds a version up to it, the rows that this one can see are in memory.
    ///
    /// It counts every version that is older than the erasure, also one that never had such a row:
    /// `None` is certain.
    pub pinned_until: Option<Revision>,
}

/// What was erased in one table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ErasedTable {
    /// The table's name.
    pub name: String,
    /// The number of rows.
    pub rows: u64,
}

impl Erasure {
    pub(crate) fn new(schema: &Schema, erased: &Erased, pinned_until: Option<Revision>) -> Self {
        let tables = erased.rows.iter().map(|(position, rows)| {
            let name = schema.tables()[*position].name.to_string();
            ErasedTable { name, rows: *rows }
        });
        let rows = erased.rows.values().sum();
        Self { revision: erased.revision, rows, tables: tables.collect(), pinned_until }
    }
}

/// The highest revision below `erased` of a version that is alive and not the newest.
pub(crate) fn pinned_until(writer: &mut Writer<Contents>, erased: Revision) -> Option<Revision> {
    let mut pinned = None;
    writer.visit_versions(&mut |contents, _| {
        let revision = Some(contents.revision).filter(|revision| *revision < erased);
        pinned = pinned.max(revision);
        true
    });
    pinned
}
