//! What stands alone on the rest of a line: nothing, yes and no, numbers.
//!
//! Decimal numbers have a point or an exponent, so that they are not taken for whole ones, and the
//! fewest digits that give the same number again. A NaN that says more than that it is none has its
//! bits written out.

use std::fmt::{Display, LowerExp, Write};

use crate::messagepack::Item;

const SINGLE: &str = " in single precision";
const NO_NUMBER: &str = "not a number";

/// The NaNs that calculations give and that need no bits; those of the standard library may be
/// others on another platform.
const NAN_SINGLE: u32 = 0x7FC0_0000;
const NAN_DOUBLE: u64 = 0x7FF8_0000_0000_0000;

/// From here on decimal numbers are written with an exponent.
const EXPONENT_MAX: i32 = 16;
/// Below this one as well.
const EXPONENT_MIN: i32 = -5;

/// Appends a scalar that is no text, no bytes and no extension; says whether it is one.
pub(super) fn push(item: Item<'_>, out: &mut String) -> bool {
    match item {
        Item::Nil => out.push_str("nothing"),
        Item::Bool(true) => out.push_str("yes"),
        Item::Bool(false) => out.push_str("no"),
        Item::Int(value) => push_display(value, out),
        Item::UInt(value) => push_display(value, out),
        Item::F32(value) => {
            if value.is_nan() {
                let bits = value.to_bits();
                push_no_number(format!("{bits:08x}"), bits == NAN_SINGLE, out);
            } else {
                push_decimal(value, value.is_infinite(), value < 0.0, out);
            }
            out.push_str(SINGLE);
        }
        Item::F64(value) => {
            if value.is_nan() {
                let bits = value.to_bits();
                push_no_number(format!("{bits:016x}"), bits == NAN_DOUBLE, out);
            } else {
                push_decimal(value, value.is_infinite(), value < 0.0, out);
            }
        }
        _ => return false,
    }
    true
}

/// Reads a scalar as it is written, and only so.
pub(super) fn read(text: &str) -> Option<Item<'static>> {
    let item = match text {
        "nothing" => Item::Nil,
        "yes" => Item::Bool(true),
        "no" => Item::Bool(false),
        _ => match text.strip_suffix(SINGLE) {
            Some(number) => Item::F32(read_single(number)?),
            None if text.starts_with(|c: char| c == '-' || c.is_ascii_digit())
                && !text.contains(['.', 'e']) =>
            {
                read_whole(text)?
            }
            None => Item::F64(read_double(text)?),
        },
    };
    // Rust reads more than is written: other digits for the same number, signs, other words.
    let mut written = String::new();
    (push(item, &mut written) && written == text).then_some(item)
}

fn push_display(value: impl Display, out: &mut String) {
    let written = write!(out, "{value}");
    debug_assert!(written.is_ok(), "a string takes everything");
}

fn push_no_number(bits: String, is_usual: bool, out: &mut String) {
    out.push_str(NO_NUMBER);
    if !is_usual {
        out.push(' ');
        out.push_str(&bits);
    }
}

fn push_decimal(value: impl Display + LowerExp, infinite: bool, negative: bool, out: &mut String) {
    if infinite {
        out.push_str(if negative { "minus infinity" } else { "infinity" });
        return;
    }
    // The words of `Debug` are not promised to stay; these are our own.
    let scientific = format!("{value:e}");
    let exponent: i32 =
        scientific.split_once('e').and_then(|(_, digits)| digits.parse().ok()).unwrap_or_default();
    if !(EXPONENT_MIN..EXPONENT_MAX).contains(&exponent) {
        out.push_str(&scientific);
        return;
    }
    let start = out.len();
    push_display(value, out);
    if !out[start..].contains('.') {
        out.push_str(".0");
    }
}

fn read_whole(text: &str) -> Option<Item<'static>> {
    let signed = text.parse().map(Item::Int);
    signed.or_else(|_| text.parse().map(Item::UInt)).ok()
}

fn read_single(text: &str) -> Option<f32> {
    match text {
        NO_NUMBER => Some(f32::from_bits(NAN_SINGLE)),
        "infinity" => Some(f32::INFINITY),
        "minus infinity" => Some(f32::NEG_INFINITY),
        _ => match text.strip_prefix("not a number ") {
            Some(bits) => u32::from_str_radix(bits, 16).ok().map(f32::from_bits),
            None => text.parse().ok(),
        },
    }
}

fn read_double(text: &str) -> Option<f64> {
    match text {
        NO_NUMBER => Some(f64::from_bits(NAN_DOUBLE)),
        "infinity" => Some(f64::INFINITY),
        "minus infinity" => Some(f64::NEG_INFINITY),
        _ => match text.strip_prefix("not a number ") {
            Some(bits) => u64::from_str_radix(bits, 16).ok().map(f64::from_bits),
            None => text.parse().ok(),
        },
    }
}
