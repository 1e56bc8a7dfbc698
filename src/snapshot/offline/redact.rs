//! Takes the values of fields out of a snapshot file.

use std::io::Write;

use super::error::OfflineError;
use super::head::{Head, TableHead};
use super::item::{Item, StoredRow};
use super::source::Source;
use super::write::OfflineWriter;
use crate::messagepack::{self, Items, ReadError};
use crate::snapshot::format::Summary;
use crate::snapshot::options::SaveOptions;

/// What stands in the place of a value that was taken out.
const REDACTED: &str = "redacted";

/// Which fields [`redact()`] takes out, and what stands in their place: nothing, as in an absent
/// `Option`, or the text `redacted`.
///
/// ```
/// use fsmdb::offline::Redaction;
///
/// let redaction = Redaction::new().field("email").field_of("users", "name").by_text();
/// assert!(format!("{redaction:?}").contains("email"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redaction {
    /// Fields, each of a table or of all.
    fields: Vec<(Option<String>, String)>,
    by_text: bool,
}

impl Redaction {
    /// Takes nothing out.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the field of this name out of the rows of every table.
    #[must_use]
    pub fn field(mut self, name: impl Into<String>) -> Self {
        self.fields.push((None, name.into()));
        self
    }

    /// Takes the field of this name out of the rows of one table.
    #[must_use]
    pub fn field_of(mut self, table: impl Into<String>, name: impl Into<String>) -> Self {
        self.fields.push((Some(table.into()), name.into()));
        self
    }

    /// Puts the text `redacted` in the place of values, for fields that are no `Option` but a text.
    #[must_use]
    pub fn by_text(mut self) -> Self {
        self.by_text = true;
        self
    }

    fn fields_of(&self, table: &str) -> Vec<&str> {
        let of_table =
            |(of, _): &&(Option<String>, String)| of.as_deref().is_none_or(|of| of == table);
        self.fields.iter().filter(of_table).map(|(_, field)| field.as_str()).collect()
    }

    /// Refuses what cannot be taken out.
    fn check(&self, head: &Head) -> Result<(), OfflineError> {
        for name in self.fields.iter().filter_map(|(table, _)| table.as_ref()) {
            if head.tables.iter().all(|table| table.name != *name) {
                return Err(OfflineError::NoTable { table: name.clone() });
            }
        }
        for table in &head.tables {
            let fields = self.fields_of(&table.name);
            let part_of_key = table.key.iter().find(|field| fields.contains(&field.as_str()));
            if let Some(field) = part_of_key {
                let (table, field) = (table.name.clone(), field.clone());
                return Err(OfflineError::KeyField { table, field });
            }
        }
        Ok(())
    }
}

/// What was taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Redacted {
    /// What the new file holds.
    pub summary: Summary,
    /// How many values were replaced. None, when no row has the fields that were named.
    pub values: u64,
}

/// Writes a whole file again without the values of some fields.
///
/// Fields are those of the row itself, not of what is nested in it: its whole value is replaced. A
/// field of the primary key is refused, because the key would keep its value; so a file that does
/// not tell its key fields ([`TableHead::key`]) is taken at the caller's word that no such field is
/// one. What was removed from a table with such a field is forgotten, because tombstones of an
/// index are values of it, and sections are left out, because nobody can tell what is in them.
///
/// Digests are those of the new rows. Whether the file still loads is up to the schema: a field
/// that is neither an `Option` nor a text does not take what stands there now, and a unique index
/// refuses equal texts. Every tool of this module reads it.
///
/// O(rows) in time, a frame in memory.
///
/// ```
/// # use fsmdb::{Db, SaveOptions, Table};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
/// # #[table(name = "users")]
/// # struct User { #[key] id: u64, email: Option<String> }
/// # let db = Db::builder().table::<User>().build()?;
/// # let mut txn = db.write();
/// # txn.insert(User { id: 1, email: Some("ada@example.org".into()) })?;
/// # txn.commit();
/// # let mut file = Vec::new();
/// # db.read().save(&mut file)?;
/// use fsmdb::offline::{Redaction, Source, redact};
///
/// let (mut public, what) = (Vec::new(), Redaction::new().field("email"));
/// let redacted = redact(&Source::bytes(&file), &mut public, &what, SaveOptions::new())?;
/// assert_eq!(redacted.values, 1);
/// let db = Db::builder().table::<User>().load(public.as_slice())?;
/// assert_eq!(db.read().table::<User>().get(&1).unwrap().email, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`OfflineError::NoTable`], [`OfflineError::KeyField`]; [`OfflineError::Value`] of a row that is
/// no proper MessagePack; as [`OfflineReader::read_item`](super::OfflineReader::read_item) and
/// [`OfflineWriter::write`].
pub fn redact<W: Write>(
    source: &Source<'_>,
    target: W,
    redaction: &Redaction,
    options: SaveOptions<'_>,
) -> Result<Redacted, OfflineError> {
    let mut reader = source.whole()?;
    redaction.check(reader.head())?;
    let mut head = reader.head().clone();
    for table in &mut head.tables {
        if !redaction.fields_of(&table.name).is_empty() {
            table.forget_removals();
        }
    }
    let mut writer = OfflineWriter::new(target, &head, options)?;
    let (mut values, mut encoded) = (0, Vec::new());
    let (mut begun, mut fields): (Option<&TableHead>, Vec<&str>) = (None, Vec::new());
    let mut tables = head.tables.iter();
    while let Some(item) = reader.read_item()? {
        match &item {
            Item::Table(_) => {
                begun = tables.next();
                fields = begun.map_or(Vec::new(), |table| redaction.fields_of(&table.name));
            }
            Item::Row(row) if !fields.is_empty() => {
                encoded.clear();
                values += replace_fields(row, &fields, redaction.by_text, &mut encoded).map_err(
                    |error| {
                        row.unreadable(begun.map_or("", |table| &table.name), error.to_string())
                    },
                )?;
                let row = StoredRow { encoded: &encoded, ..*row };
                writer.write(&Item::Row(row))?;
                continue;
            }
            Item::Tombstone(_) if !fields.is_empty() => continue,
            Item::Section { .. } => continue,
            _ => (),
        }
        writer.write(&item)?;
    }
    Ok(Redacted { summary: writer.finish()?, values })
}

/// Appends the row with other values in the place of `fields`; says how many there were.
fn replace_fields(
    row: &StoredRow<'_>,
    fields: &[&str],
    by_text: bool,
    out: &mut Vec<u8>,
) -> Result<u64, ReadError> {
    let mut items = Items::of(row.encoded);
    let (mut copied, mut replaced) = (0, 0);
    if let messagepack::Item::Map(count) = items.next()? {
        for _ in 0..count {
            let mut key = items;
            items.skip()?;
            let start = items.position();
            items.skip()?;
            let is_one = match key.next()? {
                messagepack::Item::Text(name) => fields.contains(&name),
                _ => false,
            };
            if is_one {
                out.extend_from_slice(&row.encoded[copied..start]);
                copied = items.position();
                replaced += 1;
                let value = messagepack::Item::Text(REDACTED);
                let value = if by_text { value } else { messagepack::Item::Nil };
                value.write(out).expect("a short value can be written");
            }
        }
    }
    out.extend_from_slice(&row.encoded[copied..]);
    Ok(replaced)
}
