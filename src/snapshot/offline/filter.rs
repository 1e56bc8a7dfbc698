//! Keeps some tables and rows of a snapshot file.

use std::fmt;
use std::io::{Read, Write};

use super::error::OfflineError;
use super::head::{Head, TableHead};
use super::item::{Item, StoredRow};
use super::read::OfflineReader;
use super::source::Source;
use super::write::OfflineWriter;
use crate::snapshot::format::Summary;
use crate::snapshot::options::SaveOptions;

type Condition<'a> = Box<dyn Fn(&TableHead, &StoredRow<'_>) -> bool + 'a>;

/// Which tables and rows of a file [`filter()`] keeps; the default is all of them.
///
/// Each condition on rows that is given must hold.
///
/// ```
/// use fsmdb::offline::Selection;
///
/// let selection = Selection::new().table("jobs").table("nodes").tenant("acme");
/// assert!(format!("{selection:?}").contains("acme"));
/// ```
#[derive(Default)]
pub struct Selection<'a> {
    tables: Vec<String>,
    left_out: Vec<String>,
    key_prefixes: Vec<Vec<u8>>,
    tenant: Option<String>,
    tenant_field: Option<String>,
    conditions: Vec<Condition<'a>>,
}

impl<'a> Selection<'a> {
    /// Keeps everything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps this table, and no others than those that are named.
    #[must_use]
    pub fn table(mut self, name: impl Into<String>) -> Self {
        self.tables.push(name.into());
        self
    }

    /// Leaves this table out.
    #[must_use]
    pub fn without_table(mut self, name: impl Into<String>) -> Self {
        self.left_out.push(name.into());
        self
    }

    /// Keeps the rows whose encoded primary keys begin with these bytes, or with those of another
    /// call.
    #[must_use]
    pub fn key_prefix(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.key_prefixes.push(bytes.into());
        self
    }

    /// Keeps the rows of one tenant: those of which the first field of the primary key, or the one
    /// that [`tenant_field`](Selection::tenant_field) names, is this text.
    #[must_use]
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// Says which field has the tenant.
    #[must_use]
    pub fn tenant_field(mut self, field: impl Into<String>) -> Self {
        self.tenant_field = Some(field.into());
        self
    }

    /// Keeps the rows of which `condition` says so. It is asked twice and must say the same.
    #[must_use]
    pub fn rows(mut self, condition: impl Fn(&TableHead, &StoredRow<'_>) -> bool + 'a) -> Self {
        self.conditions.push(Box::new(condition));
        self
    }

    /// Whether it looks at rows.
    fn picks_rows(&self) -> bool {
        !self.key_prefixes.is_empty() || self.tenant.is_some() || !self.conditions.is_empty()
    }

    fn keeps_table(&self, name: &str) -> bool {
        let is_named = self.tables.is_empty() || self.tables.iter().any(|table| table == name);
        is_named && self.left_out.iter().all(|table| table != name)
    }

    fn keeps_row(&self, table: &TableHead, row: &StoredRow<'_>) -> bool {
        let begins = |prefix: &Vec<u8>| row.key.starts_with(prefix);
        if !self.key_prefixes.is_empty() && !self.key_prefixes.iter().any(begins) {
            return false;
        }
        if let Some(tenant) = &self.tenant {
            let field = self.tenant_field.as_ref().or(table.key.first());
            if !field.is_some_and(|field| row.has_text(field, tenant)) {
                return false;
            }
        }
        self.conditions.iter().all(|condition| condition(table, row))
    }

    /// Refuses to look for what the file cannot have.
    fn check(&self, head: &Head) -> Result<(), OfflineError> {
        for name in self.tables.iter().chain(&self.left_out) {
            if head.tables.iter().all(|table| table.name != *name) {
                return Err(OfflineError::NoTable { table: name.clone() });
            }
        }
        let asks_for_key_fields = self.tenant.is_some() && self.tenant_field.is_none();
        let mut kept = head.tables.iter().filter(|table| self.keeps_table(&table.name));
        match kept.find(|table| asks_for_key_fields && table.key.is_empty()) {
            Some(table) => Err(OfflineError::NoKeyFields { table: table.name.clone() }),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Selection<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Selection")
            .field("tables", &self.tables)
            .field("left_out", &self.left_out)
            .field("key_prefixes", &self.key_prefixes)
            .field("tenant", &self.tenant)
            .field("tenant_field", &self.tenant_field)
            .finish_non_exhaustive()
    }
}

/// Writes the part of a whole file that `selection` keeps, as a whole file.
///
/// A table that is not kept is not in it, so a schema that has it loads the file with
/// [`missing_tables_are_empty`](crate::LoadOptions::missing_tables_are_empty). When rows are
/// picked, what was removed from their tables is forgotten, as far back as a removal may have been,
/// and sections are left out: of both nobody can tell whose they were. Revisions and incarnation
/// stay; links of a chain do not fit onto the result, because its digest is another.
///
/// The source is read once when whole tables are kept, otherwise twice. O(rows) in time, a frame in
/// memory.
///
/// ```
/// # use fsmdb::{Db, SaveOptions, Table};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
/// # #[table(name = "jobs")]
/// # struct Job { #[key] id: u64, namespace: String }
/// # let db = Db::builder().table::<Job>().build()?;
/// # let mut txn = db.write();
/// # txn.insert(Job { id: 1, namespace: "acme".into() })?;
/// # txn.insert(Job { id: 2, namespace: "other".into() })?;
/// # txn.commit();
/// # let mut file = Vec::new();
/// # db.read().save(&mut file)?;
/// use fsmdb::offline::{Selection, Source, filter};
///
/// let mut part = Vec::new();
/// let selection = Selection::new().tenant("acme").tenant_field("namespace");
/// let summary = filter(&Source::bytes(&file), &mut part, &selection, SaveOptions::new())?;
/// assert_eq!(summary.rows, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`OfflineError::NoTable`] of a table that the file does not have; [`OfflineError::NoKeyFields`]
/// when a tenant is asked for and nobody says where it stands; as [`OfflineReader::read_item`] and
/// [`OfflineWriter::write`].
pub fn filter<W: Write>(
    source: &Source<'_>,
    target: W,
    selection: &Selection<'_>,
    options: SaveOptions<'_>,
) -> Result<Summary, OfflineError> {
    let reader = source.whole()?;
    selection.check(reader.head())?;
    let mut head = reader.head().clone();
    let all = head.tables.len();
    if selection.picks_rows() {
        let counts = count(reader, selection)?;
        for (table, rows) in head.tables.iter_mut().zip(counts) {
            table.rows = rows;
            table.forget_removals();
        }
    }
    head.tables.retain(|table| selection.keeps_table(&table.name));
    if head.tables.len() < all {
        head.set_fingerprint();
    }
    let mut writer = OfflineWriter::new(target, &head, options)?;
    copy(source.whole()?, selection, &mut writer)?;
    writer.finish()
}

/// The rows that are kept, by table of the source.
fn count<R: Read>(
    mut reader: OfflineReader<R>,
    selection: &Selection<'_>,
) -> Result<Vec<u64>, OfflineError> {
    let tables = reader.head().tables.clone();
    let mut counts: Vec<u64> = Vec::with_capacity(tables.len());
    while let Some(item) = reader.read_item()? {
        match item {
            Item::Table(_) => counts.push(0),
            Item::Row(row) => {
                let (place, count) = (counts.len() - 1, counts.last_mut());
                let table = &tables[place];
                let keeps = selection.keeps_table(&table.name) && selection.keeps_row(table, &row);
                *count.expect("rows stand in a table") += u64::from(keeps);
            }
            _ => (),
        }
    }
    Ok(counts)
}

fn copy<R: Read, W: Write>(
    mut reader: OfflineReader<R>,
    selection: &Selection<'_>,
    writer: &mut OfflineWriter<'_, W>,
) -> Result<(), OfflineError> {
    let tables = reader.head().tables.clone();
    let (mut begun, mut keeps) = (0, false);
    while let Some(item) = reader.read_item()? {
        let is_written = match &item {
            Item::Table(table) => {
                begun += 1;
                keeps = selection.keeps_table(&table.name);
                keeps
            }
            Item::Row(row) => keeps && selection.keeps_row(&tables[begun - 1], row),
            Item::Tombstone(_) => keeps && !selection.picks_rows(),
            Item::Section { .. } => !selection.picks_rows(),
            Item::Deleted(_) | Item::TableEnd { .. } => keeps,
        };
        if is_written {
            writer.write(&item)?;
        }
    }
    Ok(())
}
