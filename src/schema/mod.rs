//! What the tables of a database are: names, keys, indexes; checked once, when it is built.
//!
//! `table.rs` holds the typed side that users implement or derive. `erased.rs` holds the side that
//! the rest of the library works with, in which a table is a value and not a type, so that a table
//! declared at run time can be the same code. `migration.rs` makes rows of older versions into rows
//! of this one.
//!
//! # Invariants
//!
//! 1. Table names are distinct, and so are the index names of one table.
//! 2. A handle's position is the position of its index definition.
//! 3. A schema never changes after `build()`; roots share it.

mod erased;
mod migration;
mod table;
#[cfg(all(test, feature = "derive"))]
mod tests;

pub(crate) use erased::{TableSchema, decode_record};
pub use migration::MigrationError;
pub(crate) use migration::RowMigrationError;
pub use table::{Cardinality, Index, IndexDef, IndexKeys, Many, Table, Unique};

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use crate::error::SchemaError;
use crate::limits::{
    INDEXES_PER_TABLE_MAX, KEY_FIELDS_MAX, NAME_BYTES_MAX, TABLES_MAX, TOMBSTONES_MAX,
};
use crate::sync::unmodelled::OnceLock;

/// The tables of a database, in the order in which they were given to the builder.
pub(crate) struct Schema {
    tables: Vec<Arc<TableSchema>>,
    by_name: BTreeMap<Arc<str>, usize>,
    by_type: BTreeMap<TypeId, usize>,
    /// The positions of the tables that remember removals.
    with_tombstones: Vec<usize>,
    fingerprint: u64,
    home: OnceLock<Weak<dyn Any + Send + Sync>>,
}

impl Schema {
    /// Checks the tables and their indexes against invariants 1 and 2 and the limits.
    pub(crate) fn new(tables: Vec<TableSchema>) -> Result<Self, SchemaError> {
        if tables.len() > TABLES_MAX {
            return Err(SchemaError::TooMany { what: "tables".into(), limit: TABLES_MAX });
        }
        let mut schema = Self {
            fingerprint: fingerprint(&tables),
            tables: Vec::with_capacity(tables.len()),
            by_name: BTreeMap::new(),
            by_type: BTreeMap::new(),
            with_tombstones: Vec::new(),
            home: OnceLock::new(),
        };
        for (position, table) in tables.into_iter().enumerate() {
            check_table(&table)?;
            if schema.by_name.insert(Arc::clone(&table.name), position).is_some() {
                return Err(SchemaError::DuplicateTable { table: table.name.to_string() });
            }
            if schema.by_type.insert(table.rows.row_type(), position).is_some() {
                let type_name = table.rows.type_name().to_owned();
                return Err(SchemaError::DuplicateType { type_name });
            }
            if table.tombstones > 0 {
                schema.with_tombstones.push(position);
            }
            schema.tables.push(Arc::new(table));
        }
        Ok(schema)
    }

    pub(crate) fn tables(&self) -> &[Arc<TableSchema>] {
        &self.tables
    }

    /// The positions of the tables that remember removals.
    pub(crate) fn with_tombstones(&self) -> &[usize] {
        &self.with_tombstones
    }

    /// The position of the table called `name`.
    pub(crate) fn position_of(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The positions of the tables in the order of their names.
    pub(crate) fn positions_by_name(&self) -> impl Iterator<Item = usize> {
        self.by_name.values().copied()
    }

    /// The position of the table made of the type `T`.
    pub(crate) fn position<T: Table>(&self) -> Option<usize> {
        self.position_of_type(TypeId::of::<T>())
    }

    /// The position of the table made of the type `row_type`.
    pub(crate) fn position_of_type(&self, row_type: TypeId) -> Option<usize> {
        self.by_type.get(&row_type).copied()
    }

    /// Says what the database of this schema is run by, once. Every version has its schema, so that
    /// is how a version finds its database without a count of references of its own.
    pub(crate) fn settle<H: Any + Send + Sync>(&self, home: &Arc<H>) {
        let home: Weak<H> = Arc::downgrade(home);
        let first = self.home.set(home);
        debug_assert!(first.is_ok(), "a schema has one database");
    }

    /// What the database is run by, while it is.
    pub(crate) fn home<H: Any + Send + Sync>(&self) -> Option<Arc<H>> {
        self.home.get()?.upgrade()?.downcast().ok()
    }

    /// A hash of every table's name, version and indexes: equal schemas have equal fingerprints,
    /// in every build.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

fn check_table(table: &TableSchema) -> Result<(), SchemaError> {
    check_name(&table.name)?;
    if table.indexes.len() > INDEXES_PER_TABLE_MAX {
        let what = format!("indexes of table {}", table.name);
        return Err(SchemaError::TooMany { what, limit: INDEXES_PER_TABLE_MAX });
    }
    if table.key_fields.len() > KEY_FIELDS_MAX {
        let what = format!("key fields of table {}", table.name);
        return Err(SchemaError::TooMany { what, limit: KEY_FIELDS_MAX });
    }
    if table.key_fields.iter().any(|name| name.len() > NAME_BYTES_MAX) {
        let what = format!("bytes of a name of a key field of table {}", table.name);
        return Err(SchemaError::TooMany { what, limit: NAME_BYTES_MAX });
    }
    if table.tombstones > TOMBSTONES_MAX {
        let what = format!("tombstones of table {}", table.name);
        return Err(SchemaError::TooMany { what, limit: TOMBSTONES_MAX });
    }
    for (defined, index) in table.indexes.iter().enumerate() {
        check_name(&index.name)?;
        let (table, name) = (table.name.to_string(), index.name.to_string());
        if index.handle() != defined {
            let handle = index.handle();
            return Err(SchemaError::IndexPosition { table, index: name, handle, defined });
        }
    }
    for (defined, index) in table.indexes.iter().enumerate() {
        if table.indexes[..defined].iter().any(|earlier| earlier.name == index.name) {
            let (table, index) = (table.name.to_string(), index.name.to_string());
            return Err(SchemaError::DuplicateIndex { table, index });
        }
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), SchemaError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(allowed) {
        return Err(SchemaError::InvalidName { name: name.to_owned(), limit: NAME_BYTES_MAX });
    }
    Ok(())
}

/// Two CRC-32C sums over the written form of the schema, one of them salted. It tells schemas
/// apart by accident of difference, not against an attacker, and unlike `Hash` is the same in
/// every build.
fn fingerprint(tables: &[TableSchema]) -> u64 {
    let mut tables: Vec<_> = tables.iter().collect();
    tables.sort_by(|one, other| one.name.cmp(&other.name));
    fingerprint_of(tables.into_iter().map(|table| {
        let indexes = table.indexes.iter().map(|index| (&*index.name, index.unique));
        (&*table.name, table.version, indexes)
    }))
}

/// The fingerprint of a schema of tables in the order of their names: their names, versions and
/// indexes, each with whether it is unique.
pub(crate) fn fingerprint_of<'a, I: Iterator<Item = (&'a str, bool)>>(
    tables: impl Iterator<Item = (&'a str, u32, I)>,
) -> u64 {
    let mut text = String::new();
    for (name, version, indexes) in tables {
        text.push_str(&format!("table {name} version {version}\n"));
        for (index, unique) in indexes {
            let kind = if unique { "unique" } else { "many" };
            text.push_str(&format!("index {index} {kind}\n"));
        }
    }
    let plain = crc32c::crc32c(text.as_bytes());
    let salted = crc32c::crc32c_append(crc32c::crc32c(b"fsmdb schema"), text.as_bytes());
    u64::from(plain) << 32 | u64::from(salted)
}
