//! Which changes a feed is about.

use std::sync::Arc;

use crate::schema::TableSchema;
use crate::table::{Span, is_in_index};
use crate::tree::AnyRow;

use super::change::Change;

/// The part of a database that a feed is about.
#[derive(Clone, Debug)]
pub(crate) enum Filter {
    /// All of it.
    Everything,
    /// One table, by its name.
    Table(Arc<str>),
    /// The rows of a table whose primary keys lie in a stretch.
    Keys(Arc<str>, Span),
    /// The rows of a table that have an entry of an index, by its position, in a stretch.
    Index(Arc<str>, usize, Span),
}

impl Filter {
    /// Whether the row was in the part before the change, or is after it.
    pub(crate) fn accepts(&self, change: &Change) -> bool {
        let (name, key) = (&change.table.name, &change.key);
        match self {
            Self::Everything => true,
            Self::Table(table) => name == table,
            Self::Keys(table, span) => name == table && span.contains(key),
            Self::Index(table, index, span) => {
                let is_in = |row: &AnyRow| has_entry(&change.table, *index, row, key, span);
                name == table && [&change.before, &change.after].into_iter().flatten().any(is_in)
            }
        }
    }
}

fn has_entry(schema: &TableSchema, index: usize, row: &AnyRow, key: &[u8], span: &Span) -> bool {
    is_in_index(schema, index, row.borrow(), key, |entry| span.contains(entry))
}
