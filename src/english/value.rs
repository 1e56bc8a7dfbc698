//! Reads the lines of one value, and writes it as MessagePack.
//!
//! A list says how many items it has, and its head is written before them; they must then come,
//! line by line. So what is held is never more than what the lines have brought.

use std::io::BufRead;

use super::error::EnglishError;
use super::line::Lines;
use super::quote::{fits, width};
use super::scalar;
use super::write::verb;
use crate::limits::{DEPTH_MAX, ENGLISH_NAME_BYTES_MAX, ENGLISH_PIECE_BYTES_MAX, ROW_BYTES_MAX};
use crate::messagepack::{Item, Items};

/// The value that is being read, with what is needed for it.
#[derive(Debug, Default)]
pub(super) struct Values {
    bytes: Vec<u8>,
    /// A text or bytes that are not at their end yet.
    text: String,
    data: Vec<u8>,
    name: String,
}

impl Values {
    /// What was read since [`Values::clear`].
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Reads the fields of a row, which stand one level below its line, and goes to the line
    /// behind them.
    pub(super) fn read_fields_of_row<R: BufRead>(
        &mut self,
        lines: &mut Lines<R>,
        count: u32,
    ) -> Result<(), EnglishError> {
        self.push(Item::Map(count), lines)?;
        self.read_fields(lines, 1, DEPTH_MAX - 1, count)?;
        lines.advance()
    }

    /// Reads a row that stands in the rest of the line and goes to the line behind it.
    pub(super) fn read_row<R: BufRead>(
        &mut self,
        lines: &mut Lines<R>,
    ) -> Result<(), EnglishError> {
        self.read_value(lines, 1, DEPTH_MAX)?;
        lines.advance()
    }

    /// Reads the value in the rest of the line and in the lines that belong to it, up to its end.
    /// `depth` lists and groups may still be inside each other.
    fn read_value<R: BufRead>(
        &mut self,
        lines: &mut Lines<R>,
        level: usize,
        depth: usize,
    ) -> Result<(), EnglishError> {
        if lines.rest().starts_with('"') {
            return self.read_text(lines, level);
        }
        if lines.rest().starts_with("bytes ") || lines.rest() == "no bytes" {
            self.read_data(lines, level)?;
            return self.push_with(lines, |this| Item::Bytes(&this.data));
        }
        if lines.skip("extension ") {
            let kind = read_kind(lines)?;
            lines.expect(" of ")?;
            self.read_data(lines, level)?;
            return self.push_with(lines, |this| Item::Extension(kind, &this.data));
        }
        if lines.skip("a list of ") {
            let count = lines.count("item")?;
            let depth = open(lines, depth)?;
            self.push(Item::List(count), lines)?;
            return self.read_items(lines, level + 1, depth, count);
        }
        if lines.skip("a group of ") {
            let count = lines.count("field")?;
            let depth = open(lines, depth)?;
            self.push(Item::Map(count), lines)?;
            return self.read_fields(lines, level + 1, depth, count);
        }
        let item = match lines.rest() {
            "an empty list" => Some(Item::List(0)),
            "an empty group" => Some(Item::Map(0)),
            scalar => scalar::read(scalar),
        };
        let item = item.ok_or_else(|| lines.expected("a value"))?;
        lines.skip_rest();
        self.push(item, lines)
    }

    /// Reads the items of a list, each in a line of its own.
    fn read_items<R: BufRead>(
        &mut self,
        lines: &mut Lines<R>,
        level: usize,
        depth: usize,
        count: u32,
    ) -> Result<(), EnglishError> {
        for number in 1..=count {
            lines.advance_to(level)?;
            if !lines.skip("item ") || lines.whole::<u32>()? != number || !lines.skip(" is ") {
                return Err(lines.expected(format!("item {number} of {count}")));
            }
            self.read_value(lines, level, depth)?;
        }
        Ok(())
    }

    /// Reads the fields of a group, each in a line of its own.
    fn read_fields<R: BufRead>(
        &mut self,
        lines: &mut Lines<R>,
        level: usize,
        depth: usize,
        count: u32,
    ) -> Result<(), EnglishError> {
        for number in 1..=count {
            lines.advance_to(level)?;
            if lines.skip("its ") {
                self.read_name(lines)?;
                self.read_value(lines, level, depth)?;
            } else if lines.skip("entry ") {
                self.read_number(lines)?;
                self.read_value(lines, level, depth)?;
            } else if lines.skip("entry:") {
                lines.end()?;
                self.read_pair(lines, level + 1, depth)?;
            } else {
                let what = format!("field {number} of {count}: \"its \" or \"entry\"");
                return Err(lines.expected(what));
            }
        }
        Ok(())
    }

    /// Reads the name of a field and what stands before its value.
    fn read_name<R: BufRead>(&mut self, lines: &mut Lines<R>) -> Result<(), EnglishError> {
        lines.name(&mut self.name)?;
        let holds_several = [" is ", " are "].iter().any(|verb| {
            let value = lines.rest().strip_prefix(verb).unwrap_or_default();
            ["a list of ", "a group of "].iter().any(|words| value.starts_with(words))
                || ["an empty list", "an empty group"].contains(&value)
        });
        lines.expect(verb(&self.name, holds_several))?;
        self.push_with(lines, |this| Item::Text(&this.name))
    }

    /// Reads the whole number that is the key of an entry and what stands before its value.
    fn read_number<R: BufRead>(&mut self, lines: &mut Lines<R>) -> Result<(), EnglishError> {
        let (number, _) = lines.rest().split_once(" is ").unwrap_or_default();
        let item = scalar::read(number);
        let Some(item @ (Item::Int(_) | Item::UInt(_))) = item else {
            return Err(lines.expected("a whole number and \" is \""));
        };
        let length = number.len();
        lines.step_over(length);
        lines.expect(" is ")?;
        self.push(item, lines)
    }

    /// Reads a key that is neither a short name nor a whole number, and its value.
    fn read_pair<R: BufRead>(
        &mut self,
        lines: &mut Lines<R>,
        level: usize,
        depth: usize,
    ) -> Result<(), EnglishError> {
        lines.advance_to(level)?;
        lines.expect("key is ")?;
        let start = self.bytes.len();
        self.read_value(lines, level, depth)?;
        let fits_line = match Items::of(&self.bytes[start..]).next() {
            Ok(Item::Text(name)) => fits(name, ENGLISH_NAME_BYTES_MAX),
            Ok(Item::Int(_) | Item::UInt(_)) => true,
            _ => false,
        };
        if fits_line {
            return Err(lines.expected("this key in the line of its value"));
        }
        lines.advance_to(level)?;
        lines.expect("value is ")?;
        self.read_value(lines, level, depth)
    }

    /// Reads a text, over as many lines as it has.
    fn read_text<R: BufRead>(
        &mut self,
        lines: &mut Lines<R>,
        level: usize,
    ) -> Result<(), EnglishError> {
        self.text.clear();
        let mut before = None;
        loop {
            let start = self.text.len();
            let length = lines.quoted(&mut self.text)?;
            let first = self.text[start..].chars().next();
            // A piece is as long as it can be.
            let belongs = before.is_none_or(|before: usize| {
                first.is_some_and(|c| before + width(c) > ENGLISH_PIECE_BYTES_MAX)
            });
            if length > ENGLISH_PIECE_BYTES_MAX || !belongs {
                return Err(lines.expected(format!("pieces of {ENGLISH_PIECE_BYTES_MAX} bytes")));
            }
            check_size(self.bytes.len() + self.text.len(), lines)?;
            if !lines.skip(CONTINUED) {
                break;
            }
            lines.end()?;
            before = Some(length);
            lines.advance_to(level + 1)?;
        }
        lines.end()?;
        self.push_with(lines, |this| Item::Text(&this.text))
    }

    /// Reads bytes, over as many lines as they have.
    fn read_data<R: BufRead>(
        &mut self,
        lines: &mut Lines<R>,
        level: usize,
    ) -> Result<(), EnglishError> {
        self.data.clear();
        if lines.skip("no bytes") {
            return lines.end();
        }
        lines.expect("bytes ")?;
        loop {
            let length = lines.digits(&mut self.data)?;
            check_size(self.bytes.len() + self.data.len(), lines)?;
            let most = ENGLISH_PIECE_BYTES_MAX / 2;
            let goes_on = lines.skip(CONTINUED);
            if length > most || (goes_on && length < most) {
                return Err(lines.expected(format!("pieces of {most} bytes")));
            }
            lines.end()?;
            if !goes_on {
                return Ok(());
            }
            lines.advance_to(level + 1)?;
        }
    }

    fn push<R: BufRead>(&mut self, item: Item<'_>, lines: &Lines<R>) -> Result<(), EnglishError> {
        // What is too long for one item is too long for a row.
        let written = item.write(&mut self.bytes);
        check_size(if written.is_ok() { self.bytes.len() } else { usize::MAX }, lines)
    }

    /// Writes an item that is made of what was read into this.
    fn push_with<R: BufRead>(
        &mut self,
        lines: &Lines<R>,
        item: impl FnOnce(&Self) -> Item<'_>,
    ) -> Result<(), EnglishError> {
        let mut bytes = std::mem::take(&mut self.bytes);
        let written = item(self).write(&mut bytes);
        self.bytes = bytes;
        check_size(if written.is_ok() { self.bytes.len() } else { usize::MAX }, lines)
    }
}

const CONTINUED: &str = ", continued:";

/// Reads the end of the line that opens a list or group, and gives the depth that is left inside.
fn open<R: BufRead>(lines: &mut Lines<R>, depth: usize) -> Result<usize, EnglishError> {
    lines.expect(":")?;
    lines.end()?;
    depth.checked_sub(1).ok_or(EnglishError::TooDeep { line: lines.number(), limit: DEPTH_MAX })
}

/// Reads the number of an extension.
fn read_kind<R: BufRead>(lines: &mut Lines<R>) -> Result<i8, EnglishError> {
    let (kind, _) = lines.rest().split_once(' ').unwrap_or_default();
    let number = match scalar::read(kind) {
        Some(Item::Int(number)) => i8::try_from(number).ok(),
        _ => None,
    };
    let number = number.ok_or_else(|| lines.expected("a number from -128 to 127"))?;
    let length = kind.len();
    lines.step_over(length);
    Ok(number)
}

fn check_size<R: BufRead>(bytes: usize, lines: &Lines<R>) -> Result<(), EnglishError> {
    if bytes > ROW_BYTES_MAX {
        return Err(EnglishError::RowTooLarge { line: lines.number(), limit: ROW_BYTES_MAX });
    }
    Ok(())
}
