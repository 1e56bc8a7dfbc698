//! Texts in quotes, and the names that need none.
//!
//! Each character has one way to be written. Letters of all scripts stand as they are; characters
//! that nobody sees, that end a line or that turn its direction are escaped.

use std::fmt::Write;

use crate::limits::ENGLISH_NAME_BYTES_MAX;

/// Appends `text` in quotes.
pub(super) fn push_quoted(text: &str, out: &mut String) {
    out.push('"');
    text.chars().for_each(|c| push_char(c, out));
    out.push('"');
}

/// Appends one character of a quoted text.
pub(super) fn push_char(c: char, out: &mut String) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if is_hidden(c) => {
            let written = write!(out, "\\u{{{:x}}}", u32::from(c));
            debug_assert!(written.is_ok(), "a string takes everything");
        }
        c => out.push(c),
    }
}

/// How many bytes [`push_char`] appends.
pub(super) fn width(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' => 2,
        c if is_hidden(c) => {
            let digits = (u32::BITS - u32::from(c).leading_zeros()).div_ceil(4).max(1);
            "\\u{}".len() + digits as usize
        }
        c => c.len_utf8(),
    }
}

/// Whether `text` takes at most `limit` bytes between its quotes.
pub(super) fn fits(text: &str, limit: usize) -> bool {
    // No character is written shorter than it is.
    text.len() <= limit && text.chars().map(width).sum::<usize>() <= limit
}

/// Whether a character shows nothing by itself, breaks the line, or turns what stands around it.
/// The joiners that scripts and emoji need stay.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Reads one character at the front of the inside of a quoted text, and how many bytes it takes.
/// Nothing at the closing quote, and where none stands in the one way to write it.
pub(super) fn read_char(rest: &str) -> Option<(char, usize)> {
    let first = rest.chars().next()?;
    if first != '\\' {
        // What is to be escaped is never as short as it is.
        let length = first.len_utf8();
        return (width(first) == length).then_some((first, length));
    }
    let (c, length) = read_escape(rest)?;
    let mut written = String::new();
    push_char(c, &mut written);
    (rest[..length] == written).then_some((c, length))
}

fn read_escape(rest: &str) -> Option<(char, usize)> {
    let escaped = match rest.as_bytes().get(1)? {
        b'"' => '"',
        b'\\' => '\\',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let digits = rest.strip_prefix("\\u{")?;
            let end = digits.bytes().take(7).position(|byte| byte == b'}')?;
            let code = u32::from_str_radix(&digits[..end], 16).ok()?;
            return Some((char::from_u32(code)?, "\\u{}".len() + end));
        }
        _ => return None,
    };
    Some((escaped, 2))
}

/// Whether a name is words in small letters with `_` between: it stands without quotes and with
/// spaces. Those with a word that begins what follows a name do not.
pub(super) fn is_plain(name: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty()
            && !ends_name(word)
            && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    name.len() <= ENGLISH_NAME_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.split('_').all(is_word)
}

/// Whether a word stands behind names and not in them.
pub(super) fn ends_name(word: &str) -> bool {
    matches!(word, "is" | "are")
}

/// Appends a name, in quotes if need be.
pub(super) fn push_name(name: &str, out: &mut String) {
    if is_plain(name) {
        out.extend(name.chars().map(|c| if c == '_' { ' ' } else { c }));
    } else {
        push_quoted(name, out);
    }
}
