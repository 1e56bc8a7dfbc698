//! What is written is read again, and what is read is what was written.

use super::*;

proptest! {
    #[test]
    fn every_export_is_read_again_to_the_byte(export in any_export()) {
        let text = write(&export).unwrap();
        prop_assert_eq!(read(text.as_bytes()).unwrap(), export);
    }

    #[test]
    fn every_value_comes_back_in_its_encoding(value in any_value()) {
        let export = export_of(&value);
        let text = write(&export).unwrap();
        prop_assert_eq!(read(text.as_bytes()).unwrap(), export);
    }

    #[test]
    fn no_line_ends_or_control_characters_stand_in_a_text(export in any_export()) {
        let text = write(&export).unwrap();
        prop_assert!(text.lines().all(|line| !line.chars().any(char::is_control)));
        let turned = |c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        prop_assert!(!text.contains(turned));
    }

    #[test]
    fn lines_that_end_as_on_windows_say_the_same(export in any_export()) {
        let text = write(&export).unwrap().replace('\n', "\r\n");
        prop_assert_eq!(read(text.as_bytes()).unwrap(), export);
    }
}

#[test]
fn long_texts_and_bytes_go_on_in_further_lines() {
    for length in [0, 1, 2047, 2048, 2049, 4095, 4096, 4097, 8192, 100_000] {
        let texts = ["x".repeat(length), "\0".repeat(length), "漢".repeat(length), {
            "a\"".repeat(length / 2)
        }];
        let mut values: Vec<_> = texts.into_iter().map(Value::Text).collect();
        values.push(Value::Bytes(vec![0xAB; length]));
        values.push(Value::Extension(-128, vec![0xAB; length]));
        values.push(Value::Map(vec![("\n".repeat(length).as_str().into(), Value::Nil)]));
        for value in values {
            let export = export_of(&Value::Map(vec![("field".into(), value)]));
            let text = write(&export).unwrap();
            assert!(text.lines().all(|line| line.len() < 4200), "{length}");
            assert_eq!(read(text.as_bytes()).unwrap(), export, "{length}");
        }
    }
}

#[test]
fn encodings_that_are_longer_than_they_need_to_be_come_back_as_the_same_value() {
    // A map of 16 bits with a name of 32, and a 5 of 64.
    let long = [0xDE, 0, 1, 0xDB, 0, 0, 0, 1, b'a', 0xD3, 0, 0, 0, 0, 0, 0, 0, 5];
    let mut export = export_of(&Value::Nil);
    export.tables[0].1[0].value = long.to_vec();
    let back = read(write(&export).unwrap().as_bytes()).unwrap();
    assert_eq!(back.tables[0].1[0].value, [0x81, 0xA1, b'a', 5]);
}

#[test]
fn records_are_called_by_their_key_fields_where_these_are_short() {
    let called = |key_fields: &[&str], tenant: Option<&str>, row: &[(&str, Value)]| {
        let row = row.iter().map(|(name, value)| ((*name).into(), value.clone())).collect();
        let mut export = export_of(&Value::Map(row));
        export.tables[0].0.key_fields = key_fields.iter().map(|name| (*name).into()).collect();
        export.tables[0].1[0].tenant = tenant.map(str::to_owned);
        let text = write(&export).unwrap();
        assert_eq!(read(text.as_bytes()).unwrap(), export);
        let line = text.lines().find(|line| line.starts_with("Record")).unwrap();
        line.split(", created").next().unwrap().to_owned()
    };
    let id = ("id", 17.into());
    let zone = ("zone", "eu, created at revision 1".into());
    let rows = [zone.clone(), id.clone()];
    assert_eq!(called(&["id"], None, &rows), "Record 17");
    assert_eq!(called(&[], None, &rows), "Record");
    assert_eq!(called(&["missing"], None, &rows), "Record");
    assert_eq!(called(&["id"], Some("acme"), &rows), "Record 17 of tenant \"acme\"");
    let tenant = [("tenant", "acme".into()), id.clone()];
    let label = "Record 17 of tenant \"acme\"";
    assert_eq!(called(&["tenant", "id"], Some("acme"), &tenant), label);
    assert_eq!(called(&["tenant", "id"], None, &tenant), "Record \"acme\", 17");
    let alone = "Record \"acme\" of tenant \"acme\"";
    assert_eq!(called(&["tenant"], Some("acme"), &tenant), alone);
    let uuid = [("id", Value::Bytes(vec![0xAB; 16]))];
    assert_eq!(called(&["id"], None, &uuid), format!("Record bytes {}", "ab".repeat(16)));
    for value in [Value::Nil, 0.5.into(), "x".repeat(257).into(), Value::List(Vec::new())] {
        assert_eq!(called(&["id"], None, &[("id", value)]), "Record");
    }
}
