//! What a record is called: the values of its key fields, where they are short.
//!
//! They stand among the fields as well, so the reader computes the label again and compares. In a
//! table whose key begins with the tenant, that part is left out.

use std::fmt::Write;

use super::quote::{fits, push_quoted};
use crate::messagepack::{Item, Items, ReadError};

/// Longest text in a label, in bytes between its quotes.
const TEXT_BYTES_MAX: usize = 256;
/// Most bytes of one part of a label; a UUID has sixteen.
const BYTES_MAX: usize = 32;

/// Appends a space and the label of the row in `value`; nothing if it has none.
pub(super) fn push_label(
    key_fields: &[String],
    tenant: Option<&str>,
    value: &[u8],
    out: &mut String,
) -> Result<(), ReadError> {
    let mut parts = key_parts(key_fields, value)?;
    if parts.len() > 1 && tenant.is_some_and(|tenant| parts[0] == Some(Item::Text(tenant))) {
        parts.remove(0);
    }
    let start = out.len();
    for part in parts {
        out.push_str(if out.len() == start { " " } else { ", " });
        if !push_part(part, out) {
            out.truncate(start);
            break;
        }
    }
    Ok(())
}

/// The values of the key fields, those of the first fields of their names.
fn key_parts<'a>(
    key_fields: &[String],
    value: &'a [u8],
) -> Result<Vec<Option<Item<'a>>>, ReadError> {
    let mut parts = vec![None; key_fields.len()];
    let mut items = Items::of(value);
    if let (false, Item::Map(count)) = (parts.is_empty(), items.next()?) {
        for _ in 0..count {
            let name = items;
            items.skip()?;
            let field = items;
            items.skip()?;
            let Ok(Item::Text(name)) = { name }.next() else { continue };
            for (key_field, part) in key_fields.iter().zip(&mut parts) {
                if part.is_none() && key_field == name {
                    *part = Some({ field }.next()?);
                }
            }
        }
    }
    Ok(parts)
}

/// Appends one part; says whether it can be one.
fn push_part(part: Option<Item<'_>>, out: &mut String) -> bool {
    let written = match part {
        Some(Item::Int(value)) => write!(out, "{value}"),
        Some(Item::UInt(value)) => write!(out, "{value}"),
        Some(Item::Text(text)) if fits(text, TEXT_BYTES_MAX) => {
            push_quoted(text, out);
            Ok(())
        }
        Some(Item::Bytes(bytes)) if (1..=BYTES_MAX).contains(&bytes.len()) => {
            out.push_str("bytes ");
            bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
        }
        _ => return false,
    };
    written.is_ok()
}
