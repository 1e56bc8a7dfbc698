//! Looks into files: what is in one, whether they are whole, the rows of a table.

use std::collections::BTreeSet;
use std::io::Write;

use fsmdb::offline::{Item, OfflineError, StoredRow, TableHead};
use fsmdb::{Summary, inspect_with};
use serde_json::{Value as Json, json};

use crate::arguments::{Format, Inspect, List, Rows, Verify};
use crate::fault::{Fault, Outcome, chain_of, outcome_of};
use crate::files::Files;
use crate::print::{self, hexadecimal, json_of, printable, text_of};

/// The bytes and the key of a row; the largest come last.
type Size = (usize, String);

pub(crate) fn inspect(
    files: &Files,
    inspect: &Inspect,
    format: Format,
    out: &mut dyn Write,
) -> Result<Outcome, Fault> {
    let (summary, largest) = summary_of(files, inspect)?;
    if format == Format::Json {
        let mut told = serde_json::to_value(&summary).expect("a summary is plain data");
        for (table, largest) in told["tables"].as_array_mut().into_iter().flatten().zip(&largest) {
            let rows =
                largest.iter().rev().map(|(bytes, key)| json!({ "key": key, "bytes": bytes }));
            table["largest_rows"] = rows.collect();
        }
        writeln!(out, "{told}")?;
        return Ok(Outcome::Done);
    }
    let Summary { revision, applied, incarnation, format_version, rows, bytes, .. } = &summary;
    writeln!(out, "format {format_version}, {bytes} bytes, {rows} rows")?;
    writeln!(out, "revision {revision}, applied {applied}, incarnation {incarnation}")?;
    if let Some(base) = summary.base {
        writeln!(out, "incremental, based on revision {}, digest {}", base.revision, base.digest)?;
    }
    for (what, how) in [("compressed", &summary.compression), ("encrypted", &summary.encryption)] {
        if let Some(how) = how {
            writeln!(out, "{what} with {}", printable(how))?;
        }
    }
    for section in &summary.sections {
        writeln!(out, "section {}", printable(section))?;
    }
    let head = ["table", "version", "rows", "puts", "deletes", "bytes", "modified", "tombstones"];
    let tables = summary.tables.iter().map(|table| {
        let numbers = [table.rows, table.puts, table.deletes, table.bytes, table.modified.0];
        let mut cells = vec![printable(&table.name), table.version.to_string()];
        cells.extend(numbers.iter().chain([&table.tombstones]).map(u64::to_string));
        cells
    });
    print::table(out, &head, &tables.collect::<Vec<_>>())?;
    for (table, largest) in summary.tables.iter().zip(&largest) {
        for (bytes, key) in largest.iter().rev() {
            let (table, key) = (printable(&table.name), printable(key));
            writeln!(out, "large row: {table} {key}, {bytes} bytes")?;
        }
    }
    Ok(Outcome::Done)
}

/// What a file holds, and the largest rows of each table, if it tells their keys.
fn summary_of(files: &Files, inspect: &Inspect) -> Result<(Summary, Vec<Vec<Size>>), Fault> {
    let mut reader = match files.source(&inspect.file).reader() {
        Err(OfflineError::NoKeys { .. }) => {
            let file = files.open(&inspect.file)?;
            let summary = inspect_with(file, files.key()).map_err(OfflineError::from)?;
            return Ok((summary, Vec::new()));
        }
        opened => opened?,
    };
    let heads = reader.head().tables.clone();
    let mut largest: Vec<BTreeSet<Size>> = Vec::new();
    while let Some(item) = reader.read_item()? {
        match item {
            Item::Table(_) => largest.push(BTreeSet::new()),
            Item::Row(row) => {
                let place = largest.len() - 1;
                let (sizes, bytes) = (&mut largest[place], row.key.len() + row.encoded.len());
                let is_full = sizes.len() >= inspect.largest;
                if is_full && sizes.first().is_none_or(|least| least.0 >= bytes) {
                    continue;
                }
                sizes.insert((bytes, row.key_text(&heads[place])));
                if is_full {
                    sizes.pop_first();
                }
            }
            _ => (),
        }
    }
    let summary = reader.summary().cloned().expect("all of it was read");
    Ok((summary, largest.into_iter().map(|sizes| sizes.into_iter().collect()).collect()))
}

pub(crate) fn verify(
    files: &Files,
    verify: &Verify,
    format: Format,
    out: &mut dyn Write,
) -> Result<Outcome, Fault> {
    let mut worst = Outcome::Done;
    for path in &verify.files {
        let file = files.open(path).map_err(OfflineError::from);
        let summary = file.and_then(|file| Ok(inspect_with(file, files.key())?));
        let path = path.display().to_string();
        let (is_whole, message) = match &summary {
            Ok(summary) => (true, format!("revision {}, {} rows", summary.revision, summary.rows)),
            Err(error) => {
                let outcome = outcome_of(error);
                if worst != Outcome::Damaged {
                    worst = outcome;
                }
                (false, chain_of(error))
            }
        };
        match format {
            Format::Json => {
                writeln!(out, "{}", json!({ "file": path, "ok": is_whole, "message": message }))?;
            }
            Format::Table => {
                let verdict = if is_whole { "ok" } else { "FAILED" };
                writeln!(out, "{}: {verdict}, {}", printable(&path), printable(&message))?;
            }
        }
    }
    Ok(worst)
}

pub(crate) fn list(
    files: &Files,
    list: &List,
    format: Format,
    out: &mut dyn Write,
) -> Result<Outcome, Fault> {
    let mut reader = files.source(&list.file).reader()?;
    let mut tables = reader.head().tables.iter();
    let Some(table) = tables.find(|table| table.name == list.table).cloned() else {
        return Err(OfflineError::NoTable { table: list.table.clone() }.into());
    };
    let mut is_within = false;
    while let Some(item) = reader.read_item()? {
        match item {
            Item::Table(found) => is_within = found.name == table.name,
            Item::Row(row) if is_within && list.rows.has(&table, &row) => {
                let told = row_json(&table, &row)?;
                match format {
                    Format::Json => writeln!(out, "{told}")?,
                    Format::Table => {
                        let (key, value) = (row.key_text(&table), told["value"].to_string());
                        let (created, modified) = (row.created, row.modified);
                        let (key, value) = (printable(&key), printable(&value));
                        writeln!(out, "{key}\t{created}\t{modified}\t{value}")?;
                    }
                }
            }
            _ => (),
        }
    }
    Ok(Outcome::Done)
}

/// A row as JSON.
pub(crate) fn row_json(table: &TableHead, row: &StoredRow<'_>) -> Result<Json, OfflineError> {
    Ok(json!({
        "table": table.name,
        "key": row.key_text(table),
        "key_bytes": hexadecimal(row.key),
        "created": row.created,
        "modified": row.modified,
        "value": json_of(&row.value(table)?),
    }))
}

impl Rows {
    /// Whether it says anything.
    pub(crate) fn is_given(&self) -> bool {
        self.prefix.is_some() || !self.conditions.is_empty()
    }

    /// Whether a row is meant.
    pub(crate) fn has(&self, table: &TableHead, row: &StoredRow<'_>) -> bool {
        let begins = |prefix: &String| row.key_text(table).starts_with(prefix);
        self.prefix.as_ref().is_none_or(begins)
            && self.conditions.iter().all(|condition| {
                let found = row.field(&condition.field).and_then(|value| text_of(&value));
                found.as_ref() == Some(&condition.value)
            })
    }
}
