//! A snapshot file as English text, and back.

use std::io::{BufReader, Read, Write};

use super::error::OfflineError;
use super::head::{Head, TableHead};
use super::item::{Item, StoredRow};
use super::read::OfflineReader;
use super::source::Source;
use super::write::OfflineWriter;
use crate::digest::Digest;
use crate::english::{self, EnglishError, EnglishWriteError, Entry, Record};
use crate::limits::TABLES_MAX;
use crate::messagepack::{self, Items};
use crate::revision::{Incarnation, Revision};
use crate::snapshot::format::Summary;
use crate::snapshot::options::SaveOptions;

type Text<'a> = english::Reader<BufReader<Box<dyn Read + 'a>>>;

impl From<EnglishWriteError> for OfflineError {
    fn from(error: EnglishWriteError) -> Self {
        match error {
            EnglishWriteError::Io(error) => Self::Io(error),
            other => Self::Export { message: other.to_string() },
        }
    }
}

impl From<EnglishError> for OfflineError {
    fn from(error: EnglishError) -> Self {
        match error {
            EnglishError::Io { source, .. } => Self::Io(source),
            other => Self::Text { message: other.to_string() },
        }
    }
}

/// Writes the rows of a whole file as English text, one line a field; the format is described in
/// `docs/english-format.md`.
///
/// The text has all rows with their keys and revisions, to the byte. It does not have indexes,
/// tombstones, the incarnation and the sections: [`import_english`] takes them from the file
/// itself, as its template. `tenant_field` names a field of text whose value is said in the first
/// line of a record, for those who look for what belongs to somebody.
///
/// O(rows) in time, a frame in memory. `target` should be buffered.
///
/// ```
/// # use fsmdb::{Db, SaveOptions, Table};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
/// # #[table(name = "nodes")]
/// # struct Node { #[key] id: u64, name: String }
/// # let db = Db::builder().table::<Node>().build()?;
/// # let mut txn = db.write();
/// # txn.insert(Node { id: 7, name: "seven".into() })?;
/// # txn.commit();
/// # let mut file = Vec::new();
/// # db.read().save(&mut file)?;
/// use fsmdb::offline::{Source, export_english, import_english};
///
/// let (mut text, mut back) = (Vec::new(), Vec::new());
/// let source = Source::bytes(&file);
/// export_english(&source, None, &mut text)?;
/// assert!(String::from_utf8_lossy(&text).contains("  its name is \"seven\"\n"));
///
/// import_english(&Source::bytes(&text), Some(&source), &mut back, SaveOptions::new())?;
/// assert_eq!(back, file);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`OfflineError::Export`] of a row or a name that cannot be said; [`OfflineError::Io`] when
/// `target` fails; as [`OfflineReader::read_item`].
pub fn export_english<W: Write>(
    source: &Source<'_>,
    tenant_field: Option<&str>,
    target: W,
) -> Result<Summary, OfflineError> {
    let mut reader = source.whole()?;
    let Head { revision, applied, .. } = *reader.head();
    let mut writer = english::Writer::new(target, english::Head { revision, applied })?;
    while let Some(item) = reader.read_item()? {
        let Item::Table(table) = item else { continue };
        let head = english::TableHead {
            name: table.name.clone(),
            version: table.version,
            key_fields: table.key.clone(),
        };
        let mut table = writer.table(&head)?;
        while let Some(item) = reader.read_item()? {
            match item {
                Item::Row(row) => table.record(&record_of(&row, tenant_field))?,
                Item::TableEnd { .. } => break,
                _ => (),
            }
        }
        table.end()?;
    }
    writer.finish()?;
    reader.finish()
}

fn record_of<'a>(row: &StoredRow<'a>, tenant_field: Option<&str>) -> Record<'a> {
    let StoredRow { key, created, modified, encoded } = *row;
    let tenant = tenant_field.and_then(|field| row.encoded_field(field));
    let tenant = tenant.and_then(|value| match Items::of(value).next() {
        Ok(messagepack::Item::Text(tenant)) => Some(tenant),
        _ => None,
    });
    Record { tenant, key: Some(key), created, modified, value: encoded }
}

/// Makes a whole file of English text that [`export_english`] has written, or that has its format.
///
/// What the text does not say comes from `template`, mostly the file that the text was made of:
/// indexes, what was removed, the incarnation, and sections. A table of the template that the text
/// does not have is left out. With the template and a text that nobody has changed, the result is
/// the file that it was. Of a table whose rows were changed by hand, it is noted that it was
/// modified at the revision of the text, and that anything may have been removed from it until
/// then.
///
/// Without a template the rows are the same and load the same, but the file says that every table
/// was last modified at the revision of the text, knows of no removals, and is of no incarnation.
///
/// The text is read twice, and so is the template. O(rows) in time; a row, a line and a frame in
/// memory.
///
/// For an example see [`export_english`].
///
/// # Errors
///
/// [`OfflineError::Text`] with line and column of what is no export; of a record without a key, of
/// tables out of order, and of one that the template does not have; [`OfflineError::Unwritable`]
/// when the keys of records do not ascend; as [`OfflineReader::read_item`] of the template and
/// [`OfflineWriter::write`].
pub fn import_english<W: Write>(
    text: &Source<'_>,
    template: Option<&Source<'_>>,
    target: W,
    options: SaveOptions<'_>,
) -> Result<Summary, OfflineError> {
    let (said, tables) = survey(open(text)?)?;
    let head = match template {
        Some(template) => head_with(template.whole()?, said, &tables)?,
        None => head_without(said, &tables),
    };
    let mut template = template.map(Source::whole).transpose()?;
    let mut writer = OfflineWriter::new(target, &head, options)?;
    let mut reader = open(text)?;
    let mut heads = head.tables.iter();
    let mut table = None;
    while let Some(entry) = reader.read_entry()? {
        match entry {
            Entry::Table(_) => {
                table = heads.next();
                let table = table.ok_or_else(changed)?;
                writer.write(&Item::Table(table))?;
            }
            Entry::Record(record) => {
                let Record { key, created, modified, value, .. } = record;
                let key = key.ok_or_else(changed)?;
                writer.write(&Item::Row(StoredRow::new(key, created, modified, value)))?;
            }
            Entry::TableEnd { .. } => {
                if let (Some(template), Some(table)) = (&mut template, table) {
                    copy_tombstones(template, table, &mut writer)?;
                }
                writer.write(&Item::TableEnd { digest: Digest::default() })?;
            }
        }
    }
    if let Some(mut template) = template {
        while let Some(item) = template.read_item()? {
            if let Item::Section { .. } = item {
                writer.write(&item)?;
            }
        }
    }
    writer.finish()
}

fn open<'a>(text: &Source<'a>) -> Result<Text<'a>, OfflineError> {
    Ok(english::Reader::new(BufReader::new(text.open()?))?)
}

fn changed() -> OfflineError {
    OfflineError::Text { message: "it was changed while it was read".to_owned() }
}

/// What the text says of a table, and what its records come to.
struct Counted {
    head: english::TableHead,
    /// In which line it begins.
    line: u64,
    rows: u64,
    modified: Revision,
    digest: Digest,
}

fn survey(mut text: Text<'_>) -> Result<(english::Head, Vec<Counted>), OfflineError> {
    let said = text.head();
    let mut tables: Vec<Counted> = Vec::new();
    loop {
        let Some(entry) = text.read_entry()? else { return Ok((said, tables)) };
        let fault = match entry {
            Entry::Table(head) => {
                let is_next = tables.last().is_none_or(|last| last.head.name < head.name);
                let (rows, modified, digest) = (0, Revision(0), Digest::default());
                tables.push(Counted { head: head.clone(), line: 0, rows, modified, digest });
                match (is_next, tables.len()) {
                    (false, _) => Some("the tables are not in the order of their names"),
                    (_, ..=TABLES_MAX) => None,
                    _ => Some("there are too many tables"),
                }
            }
            Entry::Record(record) => {
                let table = tables.last_mut().expect("records stand in a table");
                table.rows += 1;
                table.modified = table.modified.max(record.modified);
                table.digest = table.digest.plus(Digest::of_value(record.value));
                let needs_key = record.key.is_none();
                needs_key.then_some("the record does not say under which key it is stored")
            }
            Entry::TableEnd { .. } => None,
        };
        if let Some(fault) = fault {
            let message = format!("line {}: {fault}", text.line());
            return Err(OfflineError::Text { message });
        }
        if let Some(table) = tables.last_mut().filter(|table| table.line == 0) {
            table.line = text.line();
        }
    }
}

/// The head of a file that is made of text alone.
fn head_without(said: english::Head, tables: &[Counted]) -> Head {
    let tables = tables.iter().map(|table| TableHead {
        name: table.head.name.clone(),
        version: table.head.version,
        rows: table.rows,
        modified: said.revision,
        key: table.head.key_fields.clone(),
        indexes: Vec::new(),
        removals: None,
    });
    let mut head = Head {
        revision: said.revision,
        applied: said.applied,
        incarnation: Incarnation::default(),
        schema_fingerprint: 0,
        base: None,
        tables: tables.collect(),
    };
    head.set_fingerprint();
    head
}

/// The head of a file that is made of text and of a template.
fn head_with<R: Read>(
    mut template: OfflineReader<R>,
    said: english::Head,
    tables: &[Counted],
) -> Result<Head, OfflineError> {
    let mut digests = Vec::new();
    while let Some(item) = template.read_item()? {
        if let Item::TableEnd { digest } = item {
            digests.push(digest);
        }
    }
    let mut head = template.head().clone();
    (head.revision, head.applied) = (said.revision, said.applied);
    let known = std::mem::take(&mut head.tables);
    let all = known.len();
    for counted in tables {
        let english::TableHead { name, version, .. } = &counted.head;
        let found = known.iter().zip(&digests);
        let found = { found }.find(|(table, _)| table.name == *name && table.version == *version);
        let Some((table, digest)) = found else {
            let what = format!("the template has no table {name} of version {version}");
            return Err(OfflineError::Text { message: format!("line {}: {what}", counted.line) });
        };
        let mut table = table.clone();
        if (table.rows, *digest) != (counted.rows, counted.digest) {
            (table.rows, table.modified) = (counted.rows, said.revision);
            table.forget_removals();
        }
        table.modified = table.modified.max(counted.modified);
        head.tables.push(table);
    }
    if head.tables.len() < all {
        head.set_fingerprint();
    }
    Ok(head)
}

/// Writes the tombstones that the template has of a table, if they still hold.
fn copy_tombstones<R: Read, W: Write>(
    template: &mut OfflineReader<R>,
    table: &TableHead,
    writer: &mut OfflineWriter<'_, W>,
) -> Result<(), OfflineError> {
    let mut is_within = false;
    while let Some(item) = template.read_item()? {
        match item {
            Item::Table(found) => is_within = found.name == table.name,
            Item::Tombstone(_) if is_within && table.tombstones() > 0 => writer.write(&item)?,
            Item::TableEnd { .. } if is_within => break,
            _ => (),
        }
    }
    Ok(())
}
