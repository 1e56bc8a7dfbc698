//! One line of an export at a time, and what stands in it from left to right.
//!
//! A line is read in pieces of the reader's buffer and refused as soon as it is too long, so it
//! takes no more memory than its limit.

use std::io::{self, BufRead};
use std::str::FromStr;

use super::error::EnglishError;
use super::quote::{self, ends_name, is_plain};
use crate::limits::{ENGLISH_LINE_BYTES_MAX, ENGLISH_NAME_BYTES_MAX};

/// The lines of `R`, and the place in the one that is being read.
#[derive(Debug)]
pub(super) struct Lines<R> {
    input: R,
    bytes: Vec<u8>,
    /// The line, without its end.
    text: String,
    /// How far it was read, in bytes.
    at: usize,
    /// Which line it is, from 1.
    number: u64,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, bytes: Vec::new(), text: String::new(), at: 0, number: 0 }
    }

    /// Goes to the next line, which there must be.
    pub(super) fn advance(&mut self) -> Result<(), EnglishError> {
        let there_is = self.try_advance()?;
        there_is.then_some(()).ok_or(EnglishError::Truncated { line: self.number })
    }

    /// Goes to the next line; says whether there is one.
    pub(super) fn try_advance(&mut self) -> Result<bool, EnglishError> {
        let line = self.number + 1;
        self.bytes.clear();
        while self.bytes.last() != Some(&b'\n') {
            let chunk = match self.input.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(EnglishError::Io { line: self.number, source }),
                Ok([]) if self.bytes.is_empty() => {
                    self.number = line;
                    return Ok(false);
                }
                Ok([]) => return Err(EnglishError::Truncated { line }),
                Ok(chunk) => chunk,
            };
            let end = chunk.iter().position(|byte| *byte == b'\n').map(|end| end + 1);
            let taken = end.unwrap_or(chunk.len());
            // Its end takes up to two bytes more.
            if self.bytes.len() + taken > ENGLISH_LINE_BYTES_MAX + 2 {
                return Err(EnglishError::LineTooLong { line, limit: ENGLISH_LINE_BYTES_MAX });
            }
            self.bytes.extend_from_slice(&chunk[..taken]);
            self.input.consume(taken);
        }
        self.number = line;
        self.at = 0;
        self.take_text()?;
        Ok(true)
    }

    fn take_text(&mut self) -> Result<(), EnglishError> {
        let line = self.bytes.strip_suffix(b"\n").unwrap_or(&self.bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > ENGLISH_LINE_BYTES_MAX {
            let limit = ENGLISH_LINE_BYTES_MAX;
            return Err(EnglishError::LineTooLong { line: self.number, limit });
        }
        self.text.clear();
        match std::str::from_utf8(line) {
            Ok(text) => self.text.push_str(text),
            Err(error) => {
                let before = String::from_utf8_lossy(&line[..error.valid_up_to()]);
                let column = before.chars().count() as u64 + 1;
                return Err(EnglishError::NotUtf8 { line: self.number, column });
            }
        }
        Ok(())
    }

    /// Which line is being read, from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// What was not read yet.
    pub(super) fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    /// The error that something else should stand here.
    pub(super) fn expected(&self, what: impl Into<String>) -> EnglishError {
        let column = self.text[..self.at].chars().count() as u64 + 1;
        EnglishError::Expected { line: self.number, column, expected: what.into() }
    }

    /// Steps over `words` if they stand here.
    pub(super) fn skip(&mut self, words: &str) -> bool {
        let stands = self.rest().starts_with(words);
        if stands {
            self.at += words.len();
        }
        stands
    }

    /// Steps over `words`, which must stand here.
    pub(super) fn expect(&mut self, words: &str) -> Result<(), EnglishError> {
        if self.skip(words) { Ok(()) } else { Err(self.expected(format!("{words:?}"))) }
    }

    /// Steps over `length` bytes that were seen in the rest.
    pub(super) fn step_over(&mut self, length: usize) {
        self.at += length;
    }

    /// Steps over the rest of the line.
    pub(super) fn skip_rest(&mut self) {
        self.at = self.text.len();
    }

    /// The line must end here.
    pub(super) fn end(&self) -> Result<(), EnglishError> {
        if self.rest().is_empty() { Ok(()) } else { Err(self.expected("the end of the line")) }
    }

    /// Goes to the next line, which must be indented by `level`.
    pub(super) fn advance_to(&mut self, level: usize) -> Result<(), EnglishError> {
        self.advance()?;
        let spaces = self.text.bytes().take(2 * level).take_while(|byte| *byte == b' ').count();
        self.at = spaces;
        if spaces < 2 * level {
            return Err(self.expected(format!("an indentation by {} spaces", 2 * level)));
        }
        Ok(())
    }

    /// Reads a whole number without a sign and without zeros before it.
    pub(super) fn whole<N: FromStr>(&mut self) -> Result<N, EnglishError> {
        let digits = self.rest().bytes().take_while(u8::is_ascii_digit).count();
        let text = &self.rest()[..digits];
        let number = if digits > 1 && text.starts_with('0') { None } else { text.parse().ok() };
        let number = number.ok_or_else(|| self.expected("a whole number"))?;
        self.at += digits;
        Ok(number)
    }

    /// Reads `1 thing` or `2 things`; none are said in another way.
    pub(super) fn count<N: FromStr + From<u8> + PartialEq>(
        &mut self,
        thing: &str,
    ) -> Result<N, EnglishError> {
        let start = self.at;
        let number: N = self.whole()?;
        self.expect(" ")?;
        self.expect(thing)?;
        if number != 1.into() {
            self.expect("s")?;
        }
        if number == 0.into() {
            self.at = start;
            return Err(self.expected("a number above 0"));
        }
        Ok(number)
    }

    /// Reads a quoted text on to `out`, and gives how many bytes stand between its quotes.
    pub(super) fn quoted(&mut self, out: &mut String) -> Result<usize, EnglishError> {
        self.expect("\"")?;
        let start = self.at;
        while let Some((c, length)) = quote::read_char(self.rest()) {
            out.push(c);
            self.at += length;
        }
        let length = self.at - start;
        if !self.skip("\"") {
            return Err(self.expected("a character of a text, or the quote that ends it"));
        }
        Ok(length)
    }

    /// Reads the name of a field.
    pub(super) fn name(&mut self, out: &mut String) -> Result<(), EnglishError> {
        out.clear();
        let start = self.at;
        if self.rest().starts_with('"') {
            let width = self.quoted(out)?;
            if width > ENGLISH_NAME_BYTES_MAX || is_plain(out) {
                self.at = start;
                return Err(self.expected("a name in quotes that is short and needs them"));
            }
            return Ok(());
        }
        let is_letter = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        loop {
            let word = self.rest().bytes().take_while(is_letter).count();
            out.push_str(&self.rest()[..word]);
            self.at += word;
            let Some(next) = self.rest().strip_prefix(' ') else { break };
            let next = &next[..next.bytes().take_while(is_letter).count()];
            if next.is_empty() || ends_name(next) {
                break;
            }
            out.push('_');
            self.at += 1;
        }
        if !is_plain(out) {
            self.at = start;
            return Err(self.expected("a name in small letters, or one in quotes"));
        }
        Ok(())
    }

    /// Reads bytes written as digits on to `out`, at least one.
    pub(super) fn digits(&mut self, out: &mut Vec<u8>) -> Result<usize, EnglishError> {
        let start = out.len();
        let value = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        while let Some([high, low]) = self.rest().as_bytes().first_chunk() {
            let (Some(high), Some(low)) = (value(*high), value(*low)) else { break };
            out.push(high << 4 | low);
            self.at += 2;
        }
        if out.len() == start {
            return Err(self.expected("bytes as pairs of the digits 0 to f"));
        }
        Ok(out.len() - start)
    }
}
