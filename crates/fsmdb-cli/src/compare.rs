//! The rows that differ between two files.

use std::io::{self, Write};
use std::ops::ControlFlow;

use fsmdb::offline::{OfflineError, RowDifference, StoredRow};
use serde_json::{Value as Json, json};

use crate::arguments::{Diff, Format};
use crate::fault::{Fault, Outcome};
use crate::files::Files;
use crate::print::{hexadecimal, json_of, printable};

pub(crate) fn diff(
    files: &Files,
    diff: &Diff,
    format: Format,
    out: &mut dyn Write,
) -> Result<Outcome, Fault> {
    let (older, newer) = (files.source(&diff.older), files.source(&diff.newer));
    let mut failed = None;
    let totals = fsmdb::offline::diff(&older, &newer, |row| match tell(row, format, out) {
        Ok(()) => ControlFlow::Continue(()),
        Err(fault) => {
            failed = Some(fault);
            ControlFlow::Break(())
        }
    });
    if let Some(fault) = failed {
        return Err(fault);
    }
    let totals = totals?;
    let (created, updated, deleted) = (totals.created, totals.updated, totals.deleted);
    let (from, to) = (totals.older.revision, totals.newer.revision);
    match format {
        Format::Table => writeln!(
            out,
            "revision {from} to {to}: {created} created, {updated} updated, {deleted} deleted"
        )?,
        Format::Json => {
            let counts = json!({
                "from": from, "to": to, "created": created, "updated": updated, "deleted": deleted,
            });
            writeln!(out, "{counts}")?;
        }
    }
    Ok(if totals.is_empty() { Outcome::Done } else { Outcome::Differs })
}

fn tell(row: &RowDifference<'_>, format: Format, out: &mut dyn Write) -> Result<(), Fault> {
    let value = |row: Option<StoredRow<'_>>, table| -> Result<Json, OfflineError> {
        row.map_or(Ok(Json::Null), |row| Ok(json_of(&row.value(table)?)))
    };
    let (before, after) = (value(row.before, row.table)?, value(row.after, row.table)?);
    let (sign, change) = match (row.before, row.after) {
        (None, _) => ('+', "created"),
        (_, None) => ('-', "deleted"),
        _ => ('~', "updated"),
    };
    let named = row.after.or(row.before);
    let key = named.map_or_else(String::new, |named| named.key_text(row.table));
    if format == Format::Json {
        let told = json!({
            "table": row.table.name,
            "key": key,
            "key_bytes": hexadecimal(row.key),
            "change": change,
            "before": before,
            "after": after,
        });
        writeln!(out, "{told}")?;
        return Ok(());
    }
    let (table, key) = (printable(&row.table.name), printable(&key));
    write!(out, "{sign} {table}\t{key}\t")?;
    match (&before, &after) {
        (Json::Object(before), Json::Object(after)) => {
            let changed = after.iter().filter(|(field, value)| before.get(*field) != Some(*value));
            for (field, value) in changed {
                let old = before.get(field).unwrap_or(&Json::Null);
                let told = format!("{field}: {old} -> {value}; ");
                write!(out, "{}", printable(&told))?;
            }
            let gone = before.keys().filter(|field| !after.contains_key(*field));
            gone.map(|field| format!("{field} is gone; "))
                .try_for_each(|told| write!(out, "{}", printable(&told)))?;
        }
        (Json::Null, value) | (value, Json::Null) => write_value(out, value)?,
        (before, after) => {
            write_value(out, before)?;
            write!(out, " -> ")?;
            write_value(out, after)?;
        }
    }
    writeln!(out)?;
    Ok(())
}

fn write_value(out: &mut dyn Write, value: &Json) -> io::Result<()> {
    write!(out, "{}", printable(&value.to_string()))
}
