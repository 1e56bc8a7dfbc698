//! The texts of errors: one line, lower case, with the table, the index, the printed key, the
//! owner, and the way out.

use fsmdb::{Applied, Digest, Error, KeyError, MachineError, SnapshotError, WriteError};

use crate::tables::{Job, Node, Service, empty, job, node, service};

#[test]
fn an_existing_key_names_table_and_key_and_the_way_out() {
    let db = empty();
    let mut txn = db.write();
    txn.insert(service("prod", "we\"b")).unwrap();
    let error = txn.insert(service("prod", "we\"b")).unwrap_err();
    let text = r#"table services: key ("prod", "we\"b") exists already; "#.to_owned()
        + "upsert replaces it, update changes it";
    assert_eq!(error.to_string(), text);
}

#[test]
fn a_taken_value_names_table_value_index_and_owner() {
    let db = empty();
    let mut txn = db.write();
    txn.insert(job(1)).unwrap();
    let error = txn.insert(Job { slot: 1, ..job(2) }).unwrap_err();
    let text = "table jobs: 1 in unique index slot is taken by the row with key 1";
    assert_eq!(error.to_string(), text);
}

#[test]
fn an_absent_row_names_table_and_key() {
    let db = empty();
    let mut txn = db.write();
    let error = txn.table_mut::<Service>().update(&("a", "b"), |_| ()).unwrap_err();
    assert_eq!(error.to_string(), r#"table services: no row with key ("a", "b")"#);
    assert!(error.is_not_found() && !error.is_conflict());
}

#[test]
fn a_changed_key_names_both_keys_and_the_way_out() {
    let db = empty();
    let mut txn = db.write();
    txn.insert(node(1)).unwrap();
    let error = txn.table_mut::<Node>().update(&1, |node| node.id = 2).unwrap_err();
    let text = "table nodes: update changed key 1 to 2; delete and insert instead";
    assert_eq!(error.to_string(), text);
}

#[test]
fn a_key_that_is_too_long_names_the_index_or_the_primary_key() {
    let db = empty();
    let mut txn = db.write();
    let long = "x".repeat(4096);
    let error = txn.insert(Node { id: 1, name: long.clone() }).unwrap_err();
    assert_eq!(error.to_string(), "table nodes: a key of name needs 4097 bytes, the limit is 4096");
    let error = txn.insert(service(&long, "")).unwrap_err();
    let text = "table services: a key of the primary key needs 4098 bytes, the limit is 4096";
    assert_eq!(error.to_string(), text);
}

#[test]
fn a_statement_error_survives_a_reply_by_serde() {
    let error = Error::Taken {
        table: "jobs".into(),
        index: "name".into(),
        value: "\"web\"".into(),
        owner: "7".into(),
    };
    let json = serde_json::to_string(&error).unwrap();
    assert_eq!(serde_json::from_str::<Error>(&json).unwrap(), error);
}

#[test]
fn every_error_is_one_line_in_lower_case() {
    let position = Applied { index: 7, term: 2 };
    let name = || "jobs".to_owned();
    let texts = [
        WriteError::Busy.to_string(),
        WriteError::OwnedByMachine.to_string(),
        Error::TooManyEntries { table: name(), index: name(), key: name(), entries: 2, limit: 1 }
            .to_string(),
        Error::Inconsistent { table: name(), index: name(), key: name(), detail: name() }
            .to_string(),
        Error::RowEncode { table: name(), key: name(), message: name() }.to_string(),
        Error::RowTooLarge { table: name(), key: name(), bytes: 2, limit: 1 }.to_string(),
        "no digest".parse::<Digest>().unwrap_err().to_string(),
        KeyError::Truncated { offset: 3 }.to_string(),
        KeyError::Trailing { offset: 3 }.to_string(),
        MachineError::Owned.to_string(),
        MachineError::Gap { got: position, applied: position }.to_string(),
        MachineError::TooLarge { bytes: 2, limit: 1 }.to_string(),
        MachineError::Stale { found: position, applied: position }.to_string(),
        SnapshotError::NotASnapshot.to_string(),
        SnapshotError::Truncated { offset: 1 }.to_string(),
        SnapshotError::Checksum { offset: 1 }.to_string(),
        SnapshotError::Trailing { offset: 1 }.to_string(),
        SnapshotError::NotWritable.to_string(),
        SnapshotError::Cancelled { offset: 1 }.to_string(),
    ];
    for text in texts {
        assert!(!text.contains('\n') && !text.ends_with('.'), "{text}");
        assert!(text.starts_with(|first: char| !first.is_uppercase()), "{text}");
    }
    let gap = MachineError::Gap { got: position, applied: Applied::default() };
    let text = "entry index 7 of term 2 does not follow the applied index 0 of term 0";
    assert_eq!(gap.to_string(), text);
}

#[test]
fn an_error_that_wraps_another_names_it_as_its_source() {
    let inner = Error::NotFound { table: "jobs".into(), key: "1".into() };
    let outer = SnapshotError::Rule(inner.clone());
    let source = std::error::Error::source(&outer).unwrap();
    assert_eq!(source.to_string(), inner.to_string());
    assert!(outer.is_corrupt());
    let io = SnapshotError::Io { offset: 5, source: std::io::Error::other("gone") };
    assert_eq!(io.to_string(), "at byte 5: gone");
    assert!(std::error::Error::source(&io).is_some());
}
