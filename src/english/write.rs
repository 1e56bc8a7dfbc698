//! Writes an export as a stream: the head, then table after table with its records, then the end.
//!
//! A table is a value of its own while it is written, so nothing can be written out of order. What
//! is dropped before its end leaves a text that every reader finds cut off.

use std::fmt::{self, Write as _};
use std::io;

use super::error::EnglishWriteError;
use super::label::push_label;
use super::quote::{fits, push_char, push_name, push_quoted, width};
use super::{FORMAT, Head, Record, TableHead, scalar};
use crate::limits::{
    ENGLISH_KEY_FIELDS_MAX, ENGLISH_LINE_BYTES_MAX, ENGLISH_NAME_BYTES_MAX,
    ENGLISH_PIECE_BYTES_MAX, ROW_BYTES_MAX,
};
use crate::messagepack::{self, Item, Items, ReadError};

/// Writes an export to `W`, line by line; a `W` that is not in memory should be buffered.
#[derive(Debug)]
pub(crate) struct Writer<W> {
    out: W,
    /// The line in the making.
    line: String,
    tables: u64,
    /// The table that is being written, and how many records it has.
    table: TableHead,
    records: u64,
}

/// Writes the records of one table.
#[derive(Debug)]
pub(crate) struct TableWriter<'w, W> {
    writer: &'w mut Writer<W>,
}

impl<W: io::Write> Writer<W> {
    /// Begins an export.
    pub(crate) fn new(out: W, head: Head) -> Result<Self, EnglishWriteError> {
        let (line, table) = (String::new(), TableHead::default());
        let mut writer = Self { out, line, tables: 0, table, records: 0 };
        let Head { revision, applied } = head;
        writer.end_line(format_args!(
            "This is an export of a database at revision {revision}, in plain English, \
             format {FORMAT}."
        ))?;
        if applied != Default::default() {
            writer.end_line(format_args!("Its last applied entry is {applied}."))?;
        }
        Ok(writer)
    }

    /// Begins a table.
    pub(crate) fn table(
        &mut self,
        head: &TableHead,
    ) -> Result<TableWriter<'_, W>, EnglishWriteError> {
        self.table.clone_from(head);
        self.records = 0;
        let count = head.key_fields.len();
        if count > ENGLISH_KEY_FIELDS_MAX {
            let table = head.name.clone();
            let limit = ENGLISH_KEY_FIELDS_MAX;
            return Err(EnglishWriteError::TooManyKeyFields { table, count, limit });
        }
        if !head.key_fields.iter().all(|name| fits(name, ENGLISH_NAME_BYTES_MAX)) {
            let (table, limit) = (head.name.clone(), ENGLISH_NAME_BYTES_MAX);
            return Err(EnglishWriteError::NameTooLong { table, limit });
        }
        self.end_line(format_args!(""))?;
        self.line.push_str("Table ");
        push_quoted(&head.name, &mut self.line);
        self.push(format_args!(", version {}", head.version));
        for (position, name) in head.key_fields.iter().enumerate() {
            self.line.push_str(if position == 0 { ", keyed by " } else { ", " });
            push_name(name, &mut self.line);
        }
        self.end_line(format_args!("."))?;
        Ok(TableWriter { writer: self })
    }

    /// Ends the export, and flushes and gives back what it was written to.
    pub(crate) fn finish(mut self) -> Result<W, EnglishWriteError> {
        let tables = self.tables;
        self.end_line(format_args!(""))?;
        self.end_line(format_args!("End of the export: {}.", Count(tables, "table")))?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn record(&mut self, record: &Record<'_>) -> Result<(), EnglishWriteError> {
        self.records += 1;
        // Whatever is wrong with the value is found before the first of its lines is written.
        check(record.value).map_err(|message| self.row_error(message))?;
        self.end_line(format_args!(""))?;
        self.line.push_str("Record");
        push_label(&self.table.key_fields, record.tenant, record.value, &mut self.line)
            .map_err(|error| self.row_error(error.to_string()))?;
        if let Some(tenant) = record.tenant {
            self.line.push_str(" of tenant ");
            push_quoted(tenant, &mut self.line);
        }
        let Record { created, modified, .. } = record;
        self.push(format_args!(
            ", created at revision {created}, last changed at revision {modified}"
        ));
        if let Some(key) = record.key {
            self.line.push_str(", stored under ");
            if key.is_empty() {
                self.line.push_str("no bytes");
            }
            self.push_digits(key);
        }
        let mut items = Items::of(record.value);
        let mut rest = items;
        match self.next(&mut rest)? {
            Item::Map(count @ 1..) => {
                self.end_line(format_args!(", with {}:", Count(count.into(), "field")))?;
                self.fields(1, count, &mut rest)
            }
            _ => {
                self.end_line(format_args!(":"))?;
                self.indent(1);
                self.line.push_str("it is ");
                self.value(1, &mut items)
            }
        }
    }

    /// Writes the value of which the line already has its name, and ends the line.
    fn value(&mut self, level: usize, items: &mut Items<'_>) -> Result<(), EnglishWriteError> {
        match self.next(items)? {
            Item::Text(text) => self.text(level, text),
            Item::Bytes(bytes) => self.bytes(level, bytes),
            Item::Extension(kind, bytes) => {
                self.push(format_args!("extension {kind} of "));
                self.bytes(level, bytes)
            }
            Item::List(0) => self.end_line(format_args!("an empty list")),
            Item::Map(0) => self.end_line(format_args!("an empty group")),
            Item::List(count) => {
                self.end_line(format_args!("a list of {}:", Count(count.into(), "item")))?;
                for number in 1..=count {
                    self.indent(level + 1);
                    self.push(format_args!("item {number} is "));
                    self.value(level + 1, items)?;
                }
                Ok(())
            }
            Item::Map(count) => {
                self.end_line(format_args!("a group of {}:", Count(count.into(), "field")))?;
                self.fields(level + 1, count, items)
            }
            other => {
                let is_scalar = scalar::push(other, &mut self.line);
                debug_assert!(is_scalar, "the other items have their arms");
                self.end_line(format_args!(""))
            }
        }
    }

    /// Writes `count` fields of a group, each with its name.
    fn fields(
        &mut self,
        level: usize,
        count: u32,
        items: &mut Items<'_>,
    ) -> Result<(), EnglishWriteError> {
        for _ in 0..count {
            self.indent(level);
            let mut key = *items;
            match self.next(items)? {
                Item::Text(name) if fits(name, ENGLISH_NAME_BYTES_MAX) => {
                    self.line.push_str("its ");
                    push_name(name, &mut self.line);
                    let item = self.next(&mut { *items })?;
                    let holds_several = matches!(item, Item::List(_) | Item::Map(_));
                    self.line.push_str(verb(name, holds_several));
                    self.value(level, items)?;
                }
                number @ (Item::Int(_) | Item::UInt(_)) => {
                    self.line.push_str("entry ");
                    scalar::push(number, &mut self.line);
                    self.line.push_str(" is ");
                    self.value(level, items)?;
                }
                _ => {
                    self.end_line(format_args!("entry:"))?;
                    self.indent(level + 1);
                    self.line.push_str("key is ");
                    self.value(level + 1, &mut key)?;
                    *items = key;
                    self.indent(level + 1);
                    self.line.push_str("value is ");
                    self.value(level + 1, items)?;
                }
            }
        }
        Ok(())
    }

    /// Writes a text, over as many lines as it needs.
    fn text(&mut self, level: usize, text: &str) -> Result<(), EnglishWriteError> {
        self.line.push('"');
        let mut used = 0;
        for c in text.chars() {
            if used + width(c) > ENGLISH_PIECE_BYTES_MAX {
                self.end_line(format_args!("\", continued:"))?;
                self.indent(level + 1);
                self.line.push('"');
                used = 0;
            }
            push_char(c, &mut self.line);
            used += width(c);
        }
        self.end_line(format_args!("\""))
    }

    /// Writes bytes as digits, over as many lines as they need.
    fn bytes(&mut self, level: usize, bytes: &[u8]) -> Result<(), EnglishWriteError> {
        if bytes.is_empty() {
            return self.end_line(format_args!("no bytes"));
        }
        self.line.push_str("bytes ");
        for (number, piece) in bytes.chunks(ENGLISH_PIECE_BYTES_MAX / 2).enumerate() {
            if number > 0 {
                self.end_line(format_args!(", continued:"))?;
                self.indent(level + 1);
            }
            self.push_digits(piece);
        }
        self.end_line(format_args!(""))
    }

    fn push_digits(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.push(format_args!("{byte:02x}")));
    }

    fn indent(&mut self, level: usize) {
        self.line.extend(std::iter::repeat_n("  ", level));
    }

    fn push(&mut self, words: fmt::Arguments<'_>) {
        let written = self.line.write_fmt(words);
        debug_assert!(written.is_ok(), "a string takes everything");
    }

    /// Adds `words` to the line and writes it.
    fn end_line(&mut self, words: fmt::Arguments<'_>) -> Result<(), EnglishWriteError> {
        self.push(words);
        if self.line.len() > ENGLISH_LINE_BYTES_MAX {
            let (table, bytes) = (self.table.name.clone(), self.line.len());
            let limit = ENGLISH_LINE_BYTES_MAX;
            return Err(EnglishWriteError::LineTooLong { table, bytes, limit });
        }
        self.line.push('\n');
        self.out.write_all(self.line.as_bytes())?;
        self.line.clear();
        Ok(())
    }

    fn next<'a>(&self, items: &mut Items<'a>) -> Result<Item<'a>, EnglishWriteError> {
        items.next().map_err(|error: ReadError| self.row_error(error.to_string()))
    }

    fn row_error(&self, message: String) -> EnglishWriteError {
        EnglishWriteError::Row { table: self.table.name.clone(), record: self.records, message }
    }
}

impl<W: io::Write> TableWriter<'_, W> {
    /// Writes a record.
    pub(crate) fn record(&mut self, record: &Record<'_>) -> Result<(), EnglishWriteError> {
        self.writer.record(record)
    }

    /// Ends the table.
    pub(crate) fn end(self) -> Result<(), EnglishWriteError> {
        let writer = self.writer;
        writer.tables += 1;
        let records = Count(writer.records, "record");
        writer.end_line(format_args!(""))?;
        writer.line.push_str("End of table ");
        push_quoted(&writer.table.name, &mut writer.line);
        writer.end_line(format_args!(": {records}."))
    }
}

/// What stands between the name of a field and its value: a list or group is several things when
/// its name sounds like it.
pub(super) fn verb(name: &str, holds_several: bool) -> &'static str {
    let is_plural = name.ends_with('s') && !name.ends_with("ss") && !name.ends_with("us");
    if holds_several && is_plural { " are " } else { " is " }
}

/// A number of things.
struct Count(u64, &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(number, thing) = self;
        write!(f, "{number} {thing}{}", if *number == 1 { "" } else { "s" })
    }
}

/// Whether `value` can be written: one whole value, no deeper and no larger than a row may be, all
/// of its texts UTF-8.
fn check(value: &[u8]) -> Result<(), String> {
    if value.len() > ROW_BYTES_MAX {
        return Err(format!("{} bytes are more than the limit of {ROW_BYTES_MAX}", value.len()));
    }
    messagepack::check(value).map_err(|error| error.to_string())?;
    Items::of(value).skip().map_err(|error| error.to_string())
}
