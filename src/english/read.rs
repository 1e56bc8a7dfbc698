//! Reads an export as a stream of the entries that it was written from.
//!
//! Every line says how many lines belong to it, so the reader never looks ahead: it knows which
//! line must come next. `value.rs` reads the lines of one value.

use std::io::BufRead;

use super::error::EnglishError;
use super::label::push_label;
use super::line::Lines;
use super::value::Values;
use super::{Entry, FORMAT, Head, Record, TableHead};
use crate::limits::ENGLISH_KEY_FIELDS_MAX;
use crate::messagepack::{Item, Items};
use crate::revision::{Applied, Revision};

/// Reads an export from `R`.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    lines: Lines<R>,
    head: Head,
    place: Place,
    /// In which line the last entry began.
    line: u64,
    /// How many tables have ended, and how many records of the open one were read.
    tables: u64,
    records: u64,
    table: TableHead,
    record: RecordLine,
    values: Values,
}

/// Where in the export the reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    BetweenTables,
    InTable,
    /// Behind the end, or behind an error.
    Ended,
}

/// What the first line of a record says.
#[derive(Debug, Default)]
struct RecordLine {
    has_tenant: bool,
    tenant: String,
    has_key: bool,
    key: Vec<u8>,
    created: Revision,
    modified: Revision,
    /// What the record is called, as it stands and as it should.
    label: String,
    computed_label: String,
}

/// What a step has read.
enum Step {
    Table,
    Record,
    TableEnd,
    End,
}

impl<R: BufRead> Reader<R> {
    /// Reads the head of an export.
    pub(crate) fn new(input: R) -> Result<Self, EnglishError> {
        let mut lines = Lines::new(input);
        let head = read_head(&mut lines)?;
        Ok(Self {
            lines,
            head,
            place: Place::BetweenTables,
            line: 0,
            tables: 0,
            records: 0,
            table: TableHead::default(),
            record: RecordLine::default(),
            values: Values::default(),
        })
    }

    pub(crate) fn head(&self) -> Head {
        self.head
    }

    /// In which line the last entry began, from 1, for errors about what it says.
    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    /// Reads the next entry; nothing behind the last one, and behind an error.
    pub(crate) fn read_entry(&mut self) -> Result<Option<Entry<'_>>, EnglishError> {
        let place = std::mem::replace(&mut self.place, Place::Ended);
        let step = match place {
            Place::BetweenTables => self.step_between()?,
            Place::InTable => self.step_inside()?,
            Place::Ended => Step::End,
        };
        Ok(match step {
            Step::Table => {
                self.place = Place::InTable;
                Some(Entry::Table(&self.table))
            }
            Step::Record => {
                self.place = Place::InTable;
                let RecordLine { has_tenant, tenant, has_key, key, created, modified, .. } =
                    &self.record;
                Some(Entry::Record(Record {
                    tenant: has_tenant.then_some(tenant),
                    key: has_key.then_some(key),
                    created: *created,
                    modified: *modified,
                    value: self.values.bytes(),
                }))
            }
            Step::TableEnd => {
                self.place = Place::BetweenTables;
                Some(Entry::TableEnd { records: self.records })
            }
            Step::End => None,
        })
    }

    /// Reads the beginning of a table, or the end of the export.
    fn step_between(&mut self) -> Result<Step, EnglishError> {
        let lines = &mut self.lines;
        end_block(lines)?;
        self.line = lines.number();
        if lines.skip("Table ") {
            self.records = 0;
            read_table(lines, &mut self.table)?;
            return Ok(Step::Table);
        }
        if !lines.skip("End of the export: ") {
            return Err(lines.expected("\"Table \" or \"End of the export: \""));
        }
        expect_count(lines, self.tables, "table")?;
        if lines.try_advance()? {
            return Err(EnglishError::Trailing { line: lines.number() });
        }
        Ok(Step::End)
    }

    /// Reads a record, or the end of the table.
    fn step_inside(&mut self) -> Result<Step, EnglishError> {
        end_block(&mut self.lines)?;
        self.line = self.lines.number();
        if self.lines.skip("Record") {
            self.read_record()?;
            self.records += 1;
            return Ok(Step::Record);
        }
        let lines = &mut self.lines;
        if !lines.skip("End of table ") {
            return Err(lines.expected("\"Record\" or \"End of table \""));
        }
        // A name takes the place of a tenant, which is over as well.
        let name = &mut self.record.tenant;
        name.clear();
        lines.quoted(name)?;
        if *name != self.table.name {
            return Err(lines.expected(format!("the end of table {:?}", self.table.name)));
        }
        lines.expect(": ")?;
        expect_count(lines, self.records, "record")?;
        lines.advance()?;
        self.tables += 1;
        Ok(Step::TableEnd)
    }

    /// Reads a record of which the first word was read.
    fn read_record(&mut self) -> Result<(), EnglishError> {
        let Self { lines, record, values, table, line, .. } = self;
        read_label(lines, &mut record.label)?;
        read_record_line(lines, record)?;
        values.clear();
        if lines.skip(", with ") {
            let count = lines.count("field")?;
            lines.expect(":")?;
            lines.end()?;
            values.read_fields_of_row(lines, count)?;
        } else {
            lines.expect(":")?;
            lines.end()?;
            lines.advance_to(1)?;
            lines.expect("it is ")?;
            values.read_row(lines)?;
            if let Ok(Item::Map(1..)) = Items::of(values.bytes()).next() {
                return Err(lines.expected("the fields of a record as its own, \", with\""));
            }
        }
        let tenant = record.has_tenant.then_some(record.tenant.as_str());
        let computed = &mut record.computed_label;
        computed.clear();
        let pushed = push_label(&table.key_fields, tenant, values.bytes(), computed);
        if pushed.is_err() || record.label != *computed {
            let expected = format!("{:?}, which the fields say", format!("Record{computed}"));
            return Err(EnglishError::Expected { line: *line, column: 1, expected });
        }
        Ok(())
    }
}

fn read_head<R: BufRead>(lines: &mut Lines<R>) -> Result<Head, EnglishError> {
    lines.advance()?;
    lines.expect("This is an export of a database at revision ")?;
    let revision = Revision(lines.whole()?);
    lines.expect(", in plain English, format ")?;
    let found = lines.whole()?;
    if found != FORMAT {
        return Err(EnglishError::Format { found, supported: FORMAT });
    }
    lines.expect(".")?;
    lines.end()?;
    lines.advance()?;
    let mut applied = Applied::default();
    // Otherwise it is the blank line before the first table.
    if lines.skip("Its last applied entry is index ") {
        applied.index = lines.whole()?;
        lines.expect(" of term ")?;
        applied.term = lines.whole()?;
        if applied == Applied::default() {
            return Err(lines.expected("another entry than 0 of term 0, which is none"));
        }
        lines.expect(".")?;
        lines.end()?;
        lines.advance()?;
    }
    Ok(Head { revision, applied })
}

/// Reads the blank line that ends a block, on which the reader stands, and goes to the next line.
fn end_block<R: BufRead>(lines: &mut Lines<R>) -> Result<(), EnglishError> {
    lines.end()?;
    lines.advance()
}

fn read_table<R: BufRead>(lines: &mut Lines<R>, table: &mut TableHead) -> Result<(), EnglishError> {
    table.name.clear();
    lines.quoted(&mut table.name)?;
    lines.expect(", version ")?;
    table.version = lines.whole()?;
    table.key_fields.clear();
    let mut before = ", keyed by ";
    while lines.skip(before) {
        if table.key_fields.len() == ENGLISH_KEY_FIELDS_MAX {
            let what = format!("no more than {ENGLISH_KEY_FIELDS_MAX} key fields");
            return Err(lines.expected(what));
        }
        let mut name = String::new();
        lines.name(&mut name)?;
        table.key_fields.push(name);
        before = ", ";
    }
    lines.expect(".")?;
    lines.end()?;
    lines.advance()
}

/// Reads on to `label` what stands before the tenant or the revisions, whatever it is: it is
/// compared with what it should be when the fields are known.
fn read_label<R: BufRead>(lines: &mut Lines<R>, label: &mut String) -> Result<(), EnglishError> {
    label.clear();
    let rest = lines.rest();
    let (mut in_quotes, mut escaped) = (false, false);
    let end = rest.char_indices().find(|(at, c)| {
        let ends = |words| rest[*at..].starts_with(words);
        if !in_quotes && (ends(" of tenant ") || ends(CREATED)) {
            return true;
        }
        in_quotes ^= *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped && in_quotes;
        false
    });
    let Some((end, _)) = end else { return Err(lines.expected(format!("{CREATED:?}"))) };
    label.push_str(&rest[..end]);
    lines.expect(label)
}

const CREATED: &str = ", created at revision ";

/// Reads what follows the label of a record, up to its fields.
fn read_record_line<R: BufRead>(
    lines: &mut Lines<R>,
    record: &mut RecordLine,
) -> Result<(), EnglishError> {
    record.tenant.clear();
    record.has_tenant = lines.skip(" of tenant ");
    if record.has_tenant {
        lines.quoted(&mut record.tenant)?;
    }
    lines.expect(CREATED)?;
    record.created = Revision(lines.whole()?);
    lines.expect(", last changed at revision ")?;
    record.modified = Revision(lines.whole()?);
    if record.created > record.modified {
        return Err(lines.expected("a last change that is not before the creation"));
    }
    record.key.clear();
    record.has_key = lines.skip(", stored under ");
    if record.has_key && !lines.skip("no bytes") {
        lines.digits(&mut record.key)?;
    }
    Ok(())
}

/// Reads how many things there were, which is known, up to the end of the line.
fn expect_count<R: BufRead>(
    lines: &mut Lines<R>,
    known: u64,
    thing: &str,
) -> Result<(), EnglishError> {
    let plural = if known == 1 { "" } else { "s" };
    lines.expect(&format!("{known} {thing}{plural}."))?;
    lines.end()
}
