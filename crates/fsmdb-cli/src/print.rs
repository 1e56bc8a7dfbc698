//! How rows and their values are printed.

use std::fmt::Write as _;
use std::io::{self, Write};

use fsmdb::Value;
use serde_json::{Map, Value as Json, json};

/// Bytes as digits, two each.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    let mut digits = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(digits, "{byte:02x}").expect("a string takes everything");
    }
    digits
}

/// Text that does nothing to a terminal: what controls one is escaped.
pub(crate) fn printable(text: &str) -> String {
    let turns = |c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut printed = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || turns(c) {
            printed.extend(c.escape_default());
        } else {
            printed.push(c);
        }
    }
    printed
}

/// A value as JSON. Bytes are their digits, numbers that JSON does not have are text, and a map
/// whose keys are not all text or whole numbers is a list of pairs.
pub(crate) fn json_of(value: &Value) -> Json {
    match value {
        Value::Nil => Json::Null,
        Value::Bool(value) => json!(value),
        Value::Int(value) => json!(value),
        Value::UInt(value) => json!(value),
        Value::F32(value) if value.is_finite() => json!(value),
        Value::F64(value) if value.is_finite() => json!(value),
        Value::F32(value) => json!(value.to_string()),
        Value::F64(value) => json!(value.to_string()),
        Value::Text(text) => json!(text),
        Value::Bytes(bytes) => json!(hexadecimal(bytes)),
        Value::List(values) => values.iter().map(json_of).collect(),
        Value::Map(entries) => {
            let named = entries.iter().map(|(key, value)| match key {
                Value::Text(_) | Value::Int(_) | Value::UInt(_) => {
                    Some((text_of(key)?, json_of(value)))
                }
                _ => None,
            });
            let named: Option<Map<String, Json>> = named.collect();
            match named.filter(|named| named.len() == entries.len()) {
                Some(named) => Json::Object(named),
                None => entries
                    .iter()
                    .map(|(key, value)| json!([json_of(key), json_of(value)]))
                    .collect(),
            }
        }
        Value::Extension(kind, bytes) => json!({ "extension": kind, "bytes": hexadecimal(bytes) }),
        // Whatever there may be one day: as the library prints it.
        other => json!(format!("{other:?}")),
    }
}

/// What is compared with what stands on the command line; `None` of what holds several.
pub(crate) fn text_of(value: &Value) -> Option<String> {
    Some(match value {
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::UInt(value) => value.to_string(),
        Value::F32(value) => value.to_string(),
        Value::F64(value) => value.to_string(),
        Value::Text(text) => text.clone(),
        Value::Bytes(bytes) => hexadecimal(bytes),
        _ => return None,
    })
}

/// Prints rows of cells below a head, in columns.
pub(crate) fn table(out: &mut dyn Write, head: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let head = head.iter().map(|cell| (*cell).to_owned()).collect();
    for row in [&head].into_iter().chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            write!(line, "{cell:width$}  ").expect("a string takes everything");
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}
