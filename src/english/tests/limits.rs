//! Depth, lines, rows and names at their limits, and sources and targets that fail.

use std::io::{self, BufReader, Read};

use super::*;
use crate::limits::{
    DEPTH_MAX, ENGLISH_KEY_FIELDS_MAX, ENGLISH_LINE_BYTES_MAX, ENGLISH_NAME_BYTES_MAX,
    KEY_BYTES_MAX, ROW_BYTES_MAX,
};

const HEAD: &str = "This is an export of a database at revision 1, in plain English, format 1.\n\n\
                    Table \"t\", version 1.\n\n\
                    Record, created at revision 1, last changed at revision 1:\n";

#[test]
fn the_deepest_rows_are_written_and_read_and_deeper_text_is_refused() {
    let wrap: [fn(Value) -> Value; 3] = [
        |inside| Value::List(vec![inside]),
        |inside| Value::Map(vec![("a".into(), inside)]),
        |inside| Value::Map(vec![(inside, Value::Nil)]),
    ];
    for wrap in wrap {
        let deepest = (0..DEPTH_MAX).fold(Value::Nil, |inside, _| wrap(inside));
        let export = export_of(&deepest);
        assert_eq!(read(write(&export).unwrap().as_bytes()).unwrap(), export);
    }
    let deeper: String = (1..=DEPTH_MAX)
        .map(|level| format!("{}item 1 is a list of 1 item:\n", "  ".repeat(level + 1)))
        .collect();
    let text = format!("{HEAD}  it is a list of 1 item:\n{deeper}");
    let error = read(text.as_bytes()).unwrap_err();
    let EnglishError::TooDeep { line, limit } = error else { panic!("{error}") };
    assert_eq!((line, limit), (6 + DEPTH_MAX as u64, DEPTH_MAX));
    let deeper: String = (1..=DEPTH_MAX)
        .map(|level| format!("{}its a is a group of 1 field:\n", "  ".repeat(level)))
        .collect();
    let head = HEAD.replace(":\n", ", with 1 field:\n");
    let error = read(format!("{head}{deeper}").as_bytes()).unwrap_err();
    let EnglishError::TooDeep { line, .. } = error else { panic!("{error}") };
    assert_eq!(line, 5 + DEPTH_MAX as u64);
    let mut export = export_of(&Value::Nil);
    export.tables[0].1[0].value = [vec![0x91; DEPTH_MAX + 1], vec![0xC0]].concat();
    assert!(matches!(write(&export), Err(EnglishWriteError::Row { record: 1, .. })));
}

#[test]
fn a_count_that_lies_takes_nothing() {
    for words in ["a list of 4294967295 items:\n", "a group of 4294967295 fields:\n"] {
        let text = format!("{HEAD}  it is {words}");
        assert!(matches!(read(text.as_bytes()), Err(EnglishError::Truncated { line: 7 })));
    }
}

#[test]
fn a_line_without_an_end_is_refused_when_it_is_too_long() {
    for piece in [1, 100, 1 << 20] {
        let endless = BufReader::with_capacity(piece, io::repeat(b' '));
        let error = Reader::new(endless).unwrap_err();
        assert!(matches!(error, EnglishError::LineTooLong { line: 1, .. }), "{error}");
    }
    let long = format!("{HEAD}{}\r\n", " ".repeat(ENGLISH_LINE_BYTES_MAX + 1));
    assert!(matches!(read(long.as_bytes()), Err(EnglishError::LineTooLong { line: 6, .. })));
    let longest = format!("{HEAD}{}\r\n", " ".repeat(ENGLISH_LINE_BYTES_MAX));
    assert!(matches!(read(longest.as_bytes()), Err(EnglishError::Expected { line: 6, .. })));
}

#[test]
fn the_largest_row_is_read_and_a_larger_one_refused() {
    let largest = Value::Text("x".repeat(ROW_BYTES_MAX - 5));
    let export = export_of(&largest);
    assert_eq!(export.tables[0].1[0].value.len(), ROW_BYTES_MAX);
    let text = write(&export).unwrap();
    assert!(read(text.as_bytes()).unwrap() == export);
    let more = text.replacen("xxxx\"\n", "xxxxx\"\n", 1);
    let error = read(more.as_bytes()).unwrap_err();
    assert!(matches!(error, EnglishError::RowTooLarge { .. }), "{error}");
    let mut export = export;
    export.tables[0].1[0].value.push(0);
    assert!(matches!(write(&export), Err(EnglishWriteError::Row { .. })));
}

#[test]
fn the_longest_tenant_and_key_fit_in_a_line() {
    let mut export = export_of(&Value::Map(vec![("a".into(), "\0".repeat(51).into())]));
    export.tables[0].0.key_fields = vec!["a".into(); ENGLISH_KEY_FIELDS_MAX];
    let record = &mut export.tables[0].1[0];
    record.tenant = Some("\u{1f}".repeat(KEY_BYTES_MAX));
    record.key = Some(vec![0xAB; KEY_BYTES_MAX]);
    assert_eq!(read(write(&export).unwrap().as_bytes()).unwrap(), export);
}

#[test]
fn names_that_no_reader_would_take_are_not_written() {
    let mut export = export_of(&Value::Nil);
    export.tables[0].0.key_fields = vec!["a".into(); ENGLISH_KEY_FIELDS_MAX + 1];
    let error = write(&export).unwrap_err();
    assert!(matches!(error, EnglishWriteError::TooManyKeyFields { .. }), "{error}");
    export.tables[0].0.key_fields = vec!["a".repeat(ENGLISH_NAME_BYTES_MAX)];
    assert_eq!(read(write(&export).unwrap().as_bytes()).unwrap(), export);
    export.tables[0].0.key_fields = vec!["a".repeat(ENGLISH_NAME_BYTES_MAX + 1)];
    let error = write(&export).unwrap_err();
    assert!(matches!(error, EnglishWriteError::NameTooLong { .. }), "{error}");
    export.tables[0].0.key_fields.clear();
    export.tables[0].1[0].tenant = Some("x".repeat(ENGLISH_LINE_BYTES_MAX));
    let error = write(&export).unwrap_err();
    assert!(matches!(error, EnglishWriteError::LineTooLong { .. }), "{error}");
}

#[test]
fn a_row_that_is_no_value_is_an_error_before_its_first_line() {
    for value in [&[][..], &[0xC1], &[0x92, 0xC0], &[0xC0, 0xC0], &[0x92, 0xC0, 0xA1, 0xFF]] {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, Head::default()).unwrap();
        let head = TableHead { name: "t".into(), version: 1, key_fields: Vec::new() };
        let mut table = writer.table(&head).unwrap();
        let record = OwnedRecord { value: value.to_vec(), ..OwnedRecord::default() };
        let error = table.record(&record.borrow()).unwrap_err();
        assert!(error.to_string().starts_with("table t, record 1: "), "{error}");
        assert!(!String::from_utf8(out).unwrap().contains("Record"));
    }
}

/// Fails after so many bytes.
#[derive(Debug)]
struct Failing(usize);

impl Read for Failing {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.0);
        bytes[..taken].copy_from_slice(&HEAD.as_bytes()[HEAD.len() - self.0..][..taken]);
        self.0 -= taken;
        if taken == 0 { Err(io::Error::other("the device is gone")) } else { Ok(taken) }
    }
}

impl io::Write for Failing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(1).ok_or_else(|| io::Error::other("the device is full"))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_device_that_fails_is_said() {
    let mut reader = Reader::new(BufReader::new(Failing(HEAD.len()))).unwrap();
    assert!(matches!(reader.read_entry(), Ok(Some(Entry::Table(_)))));
    let error = reader.read_entry().unwrap_err();
    assert_eq!(error.to_string(), "after line 5: the device is gone");
    assert!(matches!(reader.read_entry(), Ok(None)), "nothing is read behind an error");
    let mut writer = Writer::new(Failing(3), Head::default()).unwrap();
    writer.table(&TableHead::default()).unwrap();
    assert_eq!(writer.finish().unwrap_err().to_string(), "the device is full");
}
