//! Writes files from files: parts of one, one without some values, one of a chain, text and back.

use std::io::Write;

use fsmdb::Summary;
use fsmdb::offline::{self, Item, OfflineError, Redaction, Selection, Source};
use serde_json::json;

use crate::arguments::{Compact, Export, Filter, Format, Import, Redact, TextFormat};
use crate::fault::{Fault, Outcome};
use crate::files::Files;
use crate::look::row_json;

pub(crate) fn filter(
    files: &Files,
    filter: &Filter,
    format: Format,
    out: &mut dyn Write,
) -> Result<Outcome, Fault> {
    let mut selection = Selection::new();
    for table in &filter.tables {
        selection = selection.table(table);
    }
    for table in &filter.without {
        selection = selection.without_table(table);
    }
    if let Some(tenant) = &filter.tenant {
        selection = selection.tenant(tenant);
    }
    if let Some(field) = &filter.tenant_field {
        selection = selection.tenant_field(field);
    }
    if filter.rows.is_given() {
        selection = selection.rows(|table, row| filter.rows.has(table, row));
    }
    let (source, options) = (files.source(&filter.file), files.options(&filter.written));
    let summary = files
        .replace(&filter.target, |target| offline::filter(&source, target, &selection, options))?;
    tell(&summary, None, format, out)
}

pub(crate) fn redact(
    files: &Files,
    redact: &Redact,
    format: Format,
    out: &mut dyn Write,
) -> Result<Outcome, Fault> {
    let mut redaction = Redaction::new();
    for field in &redact.fields {
        redaction = match field.split_once(':') {
            Some((table, field)) => redaction.field_of(table, field),
            None => redaction.field(field),
        };
    }
    if redact.text {
        redaction = redaction.by_text();
    }
    let (source, options) = (files.source(&redact.file), files.options(&redact.written));
    let redacted = files
        .replace(&redact.target, |target| offline::redact(&source, target, &redaction, options))?;
    tell(&redacted.summary, Some(redacted.values), format, out)
}

pub(crate) fn compact(
    files: &Files,
    compact: &Compact,
    format: Format,
    out: &mut dyn Write,
) -> Result<Outcome, Fault> {
    let chain: Vec<Source<'_>> = compact.chain.iter().map(|path| files.source(path)).collect();
    let options = files.options(&compact.written);
    let summary =
        files.replace(&compact.target, |target| offline::compact(&chain, target, options))?;
    tell(&summary, None, format, out)
}

pub(crate) fn export(
    files: &Files,
    export: &Export,
    out: &mut dyn Write,
) -> Result<Outcome, Fault> {
    let source = files.source(&export.file);
    let write = |target: &mut dyn Write| match export.format {
        TextFormat::English => {
            let tenant_field = export.tenant_field.as_deref();
            offline::export_english(&source, tenant_field, target).map(drop)
        }
        TextFormat::Json => export_json(&source, target),
    };
    match &export.target {
        Some(target) => files.replace(target, write)?,
        None => write(out).map_err(|error| match error {
            OfflineError::Io(error) => Fault::Output(error),
            other => other.into(),
        })?,
    }
    Ok(Outcome::Done)
}

/// Writes every row in a line of its own.
fn export_json(source: &Source<'_>, target: &mut dyn Write) -> Result<(), OfflineError> {
    let mut reader = source.reader()?;
    let heads = reader.head().tables.clone();
    let mut begun = 0;
    while let Some(item) = reader.read_item()? {
        match item {
            Item::Table(_) => begun += 1,
            Item::Row(row) => writeln!(target, "{}", row_json(&heads[begun - 1], &row)?)?,
            _ => (),
        }
    }
    Ok(())
}

pub(crate) fn import(
    files: &Files,
    import: &Import,
    format: Format,
    out: &mut dyn Write,
) -> Result<Outcome, Fault> {
    let text = files.text(&import.text);
    let template = import.template.as_deref().map(|path| files.source(path));
    let options = files.options(&import.written);
    let summary = files.replace(&import.target, |target| {
        offline::import_english(&text, template.as_ref(), target, options)
    })?;
    tell(&summary, None, format, out)
}

/// Says what was written.
fn tell(
    summary: &Summary,
    redacted: Option<u64>,
    format: Format,
    out: &mut dyn Write,
) -> Result<Outcome, Fault> {
    let Summary { revision, rows, bytes, tables, .. } = summary;
    match format {
        Format::Json => {
            let mut told = serde_json::to_value(summary).expect("a summary is plain data");
            if let Some(values) = redacted {
                told["redacted_values"] = json!(values);
            }
            writeln!(out, "{told}")?;
        }
        Format::Table => {
            let tables = tables.len();
            write!(out, "wrote revision {revision}: {tables} tables, {rows} rows, {bytes} bytes")?;
            match redacted {
                Some(values) => writeln!(out, ", {values} values redacted")?,
                None => writeln!(out)?,
            }
        }
    }
    Ok(Outcome::Done)
}
