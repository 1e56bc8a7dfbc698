//! The example of the documentation is what is written.

use super::*;

fn map(fields: &[(&str, Value)]) -> Value {
    Value::Map(fields.iter().map(|(name, value)| ((*name).into(), value.clone())).collect())
}

fn example() -> Export {
    let owner = map(&[("first_name", "Ada".into()), ("is_admin", true.into())]);
    let job = map(&[
        ("tenant", "acme".into()),
        ("id", 17.into()),
        ("name", "web".into()),
        ("priority", 50.into()),
        ("ratio", 0.5.into()),
        ("share", 0.1_f32.into()),
        ("deployment", Value::Nil),
        ("tags", Value::List(vec!["edge".into(), Value::Nil])),
        ("owner", owner),
        ("ports", Value::Map(vec![(80.into(), "http".into()), (443.into(), "https".into())])),
        ("places", Value::Map(vec![(Value::List(vec![1.into(), 2.into()]), "here".into())])),
        ("note", "line one\nline two, \"quoted\"".into()),
        ("checksum", Value::Bytes(vec![0xDE, 0xAD, 0xBE, 0xEF])),
    ]);
    let job = OwnedRecord {
        tenant: Some("acme".into()),
        key: None,
        created: 3,
        modified: 40,
        value: encoded(&job),
    };
    let counter = OwnedRecord {
        tenant: None,
        key: Some(vec![0x80, 0, 0, 0, 0, 0, 0, 7]),
        created: 41,
        modified: 42,
        value: encoded(&7.into()),
    };
    let key_fields = vec!["tenant".into(), "id".into()];
    let jobs = TableHead { name: "jobs".into(), version: 1, key_fields };
    let counters = TableHead { name: "counters".into(), version: 3, key_fields: Vec::new() };
    Export {
        head: Head { revision: Revision(42), applied: Applied { index: 42, term: 3 } },
        tables: vec![(counters, vec![counter]), (jobs, vec![job])],
    }
}

#[test]
fn the_example_of_the_documentation_is_what_is_written() {
    let documentation = include_str!("../../../docs/english-format.md");
    let (_, example_on) = documentation.split_once("```text\n").unwrap();
    let (text, _) = example_on.split_once("```").unwrap();
    assert_eq!(write(&example()).unwrap(), text);
    assert_eq!(read(text.as_bytes()).unwrap(), example());
}
