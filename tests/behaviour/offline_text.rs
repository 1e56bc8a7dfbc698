//! A snapshot file as English text and back: the same file, or an error that names the line.

use std::fmt::Write;

use fsmdb::offline::{OfflineError, Source, export_english, import_english};
use fsmdb::{Db, SaveOptions, inspect};
use proptest::prelude::*;

use crate::chains::{Item, Note, builder, play, put, step};
use crate::tables::file_of;

fn exported(file: &[u8], tenant_field: Option<&str>) -> String {
    let mut text = Vec::new();
    let summary = export_english(&Source::bytes(file), tenant_field, &mut text).unwrap();
    assert_eq!(summary, inspect(file).unwrap());
    String::from_utf8(text).unwrap()
}

fn imported(text: &str, template: Option<&[u8]>) -> Result<Vec<u8>, OfflineError> {
    let template = template.map(Source::bytes);
    let (text, mut file) = (Source::bytes(text.as_bytes()), Vec::new());
    let summary = import_english(&text, template.as_ref(), &mut file, SaveOptions::new())?;
    assert_eq!(summary, inspect(file.as_slice()).unwrap());
    Ok(file)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn what_is_exported_and_imported_is_the_same_file(
        steps in prop::collection::vec(step(), 0..60),
        says_tenant in any::<bool>(),
    ) {
        let db = builder().incarnation(fsmdb::Incarnation(9)).build().unwrap();
        play(&db, &steps);
        let file = file_of(&db);
        let text = exported(&file, says_tenant.then_some("text"));
        prop_assert!(imported(&text, Some(&file)).unwrap() == file);
        let alone = imported(&text, None).unwrap();
        let loaded = builder().load(alone.as_slice()).unwrap();
        loaded.check().unwrap();
        prop_assert_eq!(loaded.digests().unwrap(), db.digests().unwrap());
        prop_assert_eq!(exported(&file_of(&loaded), says_tenant.then_some("text")), text);
    }
}

fn notes() -> Vec<u8> {
    let db = builder().build().unwrap();
    put(&db, 1, "one");
    put(&db, 2, "two");
    let mut txn = db.write();
    let item = r#"{"id":1,"name":2,"group":null}"#;
    txn.insert(serde_json::from_str::<Item>(item).unwrap()).unwrap();
    txn.commit();
    let mut txn = db.write();
    txn.table_mut::<Item>().delete(&1);
    txn.commit();
    file_of(&db)
}

#[test]
fn a_row_that_was_changed_by_hand_is_imported_and_removals_are_unknown_since() {
    let file = notes();
    assert!(inspect(file.as_slice()).unwrap().tables[0].tombstones > 0);
    let text = exported(&file, None);
    let changed = text.replace("\"two\"", "\"deux\"");
    let back = imported(&changed, Some(&file)).unwrap();
    let summary = inspect(back.as_slice()).unwrap();
    assert!(summary.tables[0].tombstones > 0, "nothing has changed in the first table");
    assert_eq!(summary.tables[1].modified, summary.revision);
    let loaded = builder().load(back.as_slice()).unwrap();
    assert_eq!(loaded.read().table::<Note>().get(&2).unwrap().text, "deux");
    // Another row in the table with tombstones, and they do not hold any more.
    let record = "\nRecord 1, created at revision 3, last changed at revision 3, stored under 01, \
                  with 3 fields:\n  its id is 1\n  its name is 2\n  its group is nothing\n";
    let (mut more, end) = (String::new(), "\nEnd of table \"items\": 0 records.");
    let (before, after) = text.split_once(end).unwrap();
    write!(more, "{before}{record}\nEnd of table \"items\": 1 record.{after}").unwrap();
    let summary = inspect(imported(&more, Some(&file)).unwrap().as_slice()).unwrap();
    assert_eq!((summary.tables[0].rows, summary.tables[0].tombstones), (1, 0));
}

#[test]
fn a_table_that_the_text_does_not_have_is_left_out() {
    let file = notes();
    let text = exported(&file, None);
    let (head, rest) = text.split_once("\nTable \"items\"").unwrap();
    let (_, notes) = rest.split_once("records.\n").unwrap();
    let text = format!("{head}{notes}").replace("2 tables", "1 table");
    let part = imported(&text, Some(&file)).unwrap();
    let loaded = Db::builder().table::<Note>().load(part.as_slice()).unwrap();
    assert!(file_of(&loaded) == part);
}

#[test]
fn what_is_no_export_is_refused_with_its_line() {
    let file = notes();
    let text = exported(&file, None);
    let refused = |text: &str, template| imported(text, template).unwrap_err();
    let error = refused(&text.replace("its text is", "its text was"), None);
    assert!(error.is_corrupt() && error.to_string().contains("line 1"), "{error}");
    let error = refused(&text.replace(", stored under 01", ""), None);
    assert!(error.to_string().contains("does not say under which key"), "{error}");
    let error = refused(&text.replace("stored under 02", "stored under 00"), None);
    assert!(error.to_string().contains("out of order"), "{error}");
    let error = refused(&text.replace("\"notes\"", "\"aaa\""), None);
    assert!(error.to_string().contains("order of their names"), "{error}");
    let error = refused(&text.replace("\"notes\"", "\"zzz\""), Some(&file));
    assert!(error.to_string().contains("no table zzz of version 1"), "{error}");
    assert!(refused(&text[..text.len() - 9], None).to_string().contains("cut off"));
    assert!(refused("", None).is_corrupt());
    let mut target = Vec::new();
    let failed = export_english(&Source::bytes(&file[..90]), None, &mut target);
    assert!(failed.unwrap_err().is_corrupt());
    assert!(imported(&String::from_utf8(target).unwrap(), None).is_err(), "it has no end");
}
