//! The words for each kind of value, and that there is one way to say each.

use super::*;

/// The line of a value, behind `it is`.
fn said(value: Value) -> String {
    let text = write(&export_of(&value)).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("  it is ")).unwrap();
    line.to_owned()
}

/// The value that a line says.
fn meant(words: &str) -> Result<Vec<u8>, EnglishError> {
    let text =
        write(&export_of(&Value::Nil)).unwrap().replace("is nothing", &format!("is {words}"));
    Ok(read(text.as_bytes())?.tables[0].1[0].value.clone())
}

#[test]
fn each_value_is_said_in_one_way() {
    let float = |bits| Value::F64(f64::from_bits(bits));
    for (value, words) in [
        (Value::Nil, "nothing"),
        (true.into(), "yes"),
        (false.into(), "no"),
        (0.into(), "0"),
        (i64::MIN.into(), "-9223372036854775808"),
        (u64::MAX.into(), "18446744073709551615"),
        (0.5.into(), "0.5"),
        (1.0.into(), "1.0"),
        (0.0.into(), "0.0"),
        ((-0.0).into(), "-0.0"),
        (1e15.into(), "1000000000000000.0"),
        (1e16.into(), "1e16"),
        (1.5e300.into(), "1.5e300"),
        (0.00001.into(), "0.00001"),
        (0.000001.into(), "1e-6"),
        (f64::INFINITY.into(), "infinity"),
        (f64::NEG_INFINITY.into(), "minus infinity"),
        (float(0x7FF8_0000_0000_0000), "not a number"),
        (float(0xFFF8_0000_0000_0000), "not a number fff8000000000000"),
        (float(0x7FF0_0000_0000_0001), "not a number 7ff0000000000001"),
        (0.1_f32.into(), "0.1 in single precision"),
        (f32::INFINITY.into(), "infinity in single precision"),
        (Value::F32(f32::from_bits(0x7FC0_0000)), "not a number in single precision"),
        (Value::F32(f32::from_bits(0xFFC0_0001)), "not a number ffc00001 in single precision"),
        ("".into(), "\"\""),
        ("nothing".into(), "\"nothing\""),
        ("a \"b\" \\ c\n\t\r".into(), r#""a \"b\" \\ c\n\t\r""#),
        ("\0\u{1b}\u{202e}\u{feff}é漢".into(), r#""\u{0}\u{1b}\u{202e}\u{feff}é漢""#),
        (Value::Bytes(Vec::new()), "no bytes"),
        (Value::Bytes(vec![0, 0xAB]), "bytes 00ab"),
        (Value::Extension(-1, Vec::new()), "extension -1 of no bytes"),
        (Value::Extension(5, vec![1]), "extension 5 of bytes 01"),
        (Value::List(Vec::new()), "an empty list"),
        (Value::Map(Vec::new()), "an empty group"),
        (Value::List(vec![Value::Nil]), "a list of 1 item:"),
        (Value::List(vec![Value::Nil; 2]), "a list of 2 items:"),
    ] {
        assert_eq!(said(value.clone()), words);
        if !words.ends_with(':') {
            assert_eq!(meant(words).unwrap(), encoded(&value), "{words}");
        }
    }
}

#[test]
fn other_ways_to_say_the_same_are_refused() {
    for words in [
        "Nothing",
        "nothing ",
        " nothing",
        "true",
        "00",
        "+1",
        "-0",
        "1_000",
        "01.5",
        "1.50",
        ".5",
        "1.",
        "5e-1",
        "1E16",
        "1e+16",
        "10e15",
        "1e15",
        "1.0e16",
        "inf",
        "NaN",
        "-infinity",
        "0.10 in single precision",
        "0.5  in single precision",
        "5 in single precision",
        "not a number 7ff8000000000000",
        "not a number 3ff0000000000000",
        "not a number 7FF0000000000001",
        "not a number 7fc00000 in single precision",
        "18446744073709551616",
        "-9223372036854775809",
        "\"a",
        "\"a\" ",
        "\"\t\"",
        "\"\u{202e}\"",
        "\"\\x\"",
        "\"\\u{61}\"",
        "\"\\u{0A}\"",
        "\"\\u{00}\"",
        "\"\\u{d800}\"",
        "\"\\u{110000}\"",
        "\"\\u{1b\"",
        "\"\\",
        "\"\\u{}\"",
        "bytes ",
        "bytes 0",
        "bytes 0G",
        "bytes AB",
        "bytes no bytes",
        "no bytes ",
        "bytes 00 ",
        "extension 128 of no bytes",
        "extension 05 of no bytes",
        "extension 5 of bytes",
        "extension 5 of nothing",
        "a list of 0 items:",
        "a list of 1 items:",
        "a list of 01 item:",
        "a group of 0 fields:",
        "an empty list:",
        "a list of 1 item",
        "a list of 4294967296 items:",
        "\"a\", continued:",
        "bytes 00, continued:",
    ] {
        let error = meant(words).expect_err(words);
        let EnglishError::Expected { line, .. } = error else { panic!("{words}: {error}") };
        assert!((6..=7).contains(&line), "{words}: {error}");
    }
}

#[test]
fn names_stand_in_words_where_these_lead_back_to_them() {
    let row = |name: &str, value: Value| {
        let text = write(&export_of(&Value::Map(vec![(name.into(), value)]))).unwrap();
        text.lines().find_map(|line| line.strip_prefix("  its ")).unwrap().to_owned()
    };
    assert_eq!(row("name", 1.into()), "name is 1");
    assert_eq!(row("first_name_2", 1.into()), "first name 2 is 1");
    assert_eq!(row("tags", Value::List(Vec::new())), "tags are an empty list");
    assert_eq!(row("tag", Value::List(Vec::new())), "tag is an empty list");
    assert_eq!(row("labels", Value::Map(Vec::new())), "labels are an empty group");
    assert_eq!(row("address", Value::Map(Vec::new())), "address is an empty group");
    assert_eq!(row("tags", 1.into()), "tags is 1");
    for name in ["is_live", "you_are", "Name", "first name", "a__b", "_a", "a_", "1a", "", "é"] {
        assert_eq!(row(name, 1.into()), format!("{name:?} is 1"));
    }
}

#[test]
fn fields_said_in_another_way_are_refused() {
    let row = Value::Map(vec![("tags".into(), Value::List(Vec::new())), (5.into(), 1.into())]);
    let export = export_of(&row);
    let text = write(&export).unwrap();
    assert!(text.contains("  its tags are an empty list\n  entry 5 is 1\n"), "{text}");
    for (words, others) in [
        ("its tags are", "its tags is"),
        ("its tags are", "its \"tags\" are"),
        ("its tags are", "its  tags are"),
        ("its tags are", "its Tags are"),
        ("its tags are an empty list", "its tags are nothing"),
        ("its tags are an empty list", "entry:\n    key is \"tags\"\n    value is an empty list"),
        ("entry 5 is 1", "entry 05 is 1"),
        ("entry 5 is 1", "entry \"5\" is 1"),
        ("entry 5 is 1", "entry 0.5 is 1"),
        ("entry 5 is 1", "entry:\n    key is 5\n    value is 1"),
        ("  entry 5", "   entry 5"),
        ("  entry 5", " entry 5"),
        ("  entry 5", "\tentry 5"),
        ("with 2 fields", "with 3 fields"),
        ("with 2 fields", "with 1 field"),
        (", with 2 fields:", ":\n  it is a group of 2 fields:"),
        ("Record,", "Record 5,"),
        ("created at revision 0", "created at revision 1"),
        ("last changed at revision 0", "last changed at revision 00"),
        ("Table \"t\", version 1.", "Table \"t\", version 1, keyed by a b, c."),
        ("End of table \"t\"", "End of table \"u\""),
        (": 1 record.", ": 2 records."),
        (": 1 table.", ": 1 tables."),
        ("at revision 0, in", "at revision 0,  in"),
        ("\n\nTable", "\nTable"),
        ("\n\nTable", "\n\n\nTable"),
        ("\n\nTable", "\nIts last applied entry is index 0 of term 0.\n\nTable"),
    ] {
        let changed = text.replacen(words, others, 1);
        assert_ne!(changed, text, "{words}");
        match read(changed.as_bytes()) {
            Err(EnglishError::Expected { .. }) => {}
            // The key fields are not in the record, so it is called as it was.
            Ok(_) if others.contains("keyed by") => {}
            other => panic!("{others}: {other:?}"),
        }
    }
    let other = text.replacen("format 1.", "format 2.", 1);
    assert!(matches!(read(other.as_bytes()), Err(EnglishError::Format { found: 2, .. })));
    let more = format!("{text}\n");
    assert!(matches!(read(more.as_bytes()), Err(EnglishError::Trailing { .. })));
}

#[test]
fn errors_say_the_line_and_the_column() {
    let error = meant("\"漢\t\"").unwrap_err();
    let expected = "line 6, column 11: expected a character of a text, or the quote that ends it";
    assert_eq!(error.to_string(), expected);
    let error = meant("perhaps").unwrap_err();
    assert_eq!(error.to_string(), "line 6, column 9: expected a value");
    let text = write(&export_of(&Value::Nil)).unwrap();
    let mut reader = Reader::new(text.as_bytes()).unwrap();
    let mut lines = Vec::new();
    while reader.read_entry().unwrap().is_some() {
        lines.push(reader.line());
    }
    assert_eq!(lines, [3, 5, 8], "where the table, the record and the end of the table stand");
    let cut = text.replace("nothing", "\u{1}").into_bytes();
    let invalid: Vec<_> = cut.into_iter().map(|byte| if byte == 1 { 0xFF } else { byte }).collect();
    let error = read(&invalid).unwrap_err();
    assert_eq!(error.to_string(), "line 6, column 9: bytes that are not UTF-8");
}
