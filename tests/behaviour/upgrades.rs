//! Files of another version of the program: rows that are migrated, tables and sections that come
//! and go.

use fsmdb::offline::{Source, compact};
use fsmdb::{Db, LoadOptions, MigrationError, SnapshotError, Table, Value, inspect};
use serde::{Deserialize, Serialize};

use crate::frames::{Frame, SECTION, frames_of, seal_with_end};
use crate::tables::{Job, Node, Service, commit, empty, file_of, job, node};

/// As it was.
#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "tasks", tombstones = 4)]
struct OldTask {
    #[key]
    id: u64,
    title: String,
    minutes: u32,
}

/// As it is: another key, and seconds instead of minutes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Table)]
#[table(name = "tasks", version = 2, tombstones = 4, migrate = migrate)]
struct Task {
    #[key]
    title: String,
    #[index]
    seconds: u32,
}

fn migrate(from: u32, row: &mut Value) -> Result<(), MigrationError> {
    match from {
        1 => {
            let minutes = row.remove("minutes").ok_or("there are no minutes")?;
            let minutes = minutes.as_u64().ok_or("minutes are a number")?;
            row.set("seconds", minutes * 60)?;
            row.remove("id");
            Ok(())
        }
        _ => Err(MigrationError::Missing { from }),
    }
}

fn old(titles: &[&str]) -> Vec<u8> {
    let db = Db::builder().table::<OldTask>().build().unwrap();
    commit(&db, |txn| {
        for (id, title) in titles.iter().enumerate() {
            let row = OldTask { id: id as u64, title: (*title).into(), minutes: id as u32 };
            txn.insert(row).unwrap();
        }
    });
    file_of(&db)
}

#[test]
fn rows_of_an_older_version_are_migrated_and_sorted_by_their_new_keys() {
    let file = old(&["sweep", "cook", "wash"]);
    assert_eq!(inspect(file.as_slice()).unwrap().tables[0].version, 1);
    let db = Db::builder().table::<Task>().keep_digests().load(file.as_slice()).unwrap();
    db.check().unwrap();
    let snap = db.read();
    let rows: Vec<_> = snap.table::<Task>().iter().map(|row| (&*row.title, row.seconds)).collect();
    assert_eq!(rows, [("cook", 60), ("sweep", 0), ("wash", 120)]);
    assert_eq!(snap.table::<Task>().index(Task::BY_SECONDS).get(&120).count(), 1);
    assert_eq!(snap.table::<Task>().get("cook").unwrap().created().0, 1, "revisions stay");
    let again = file_of(&db);
    assert_eq!(file_of(&Db::builder().table::<Task>().load(again.as_slice()).unwrap()), again);
}

#[test]
fn rows_that_get_one_key_by_their_migration_are_refused_by_it() {
    let file = old(&["sweep", "cook", "sweep"]);
    let error = Db::builder().table::<Task>().load(file.as_slice()).unwrap_err();
    assert!(error.to_string().contains("key \"sweep\" exists already"), "{error}");
}

#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "tasks", version = 2)]
struct WithoutMigration {
    #[key]
    title: String,
}

#[test]
fn without_a_migration_an_older_table_is_refused_and_a_newer_one_always() {
    let load = |file: Vec<u8>| Db::builder().table::<WithoutMigration>().load(file.as_slice());
    let error = load(old(&["sweep"])).unwrap_err();
    let SnapshotError::TableVersion { table, found: 1, expected: 2 } = error else {
        panic!("{error}")
    };
    assert_eq!(table, "tasks");
    let newer = Db::builder().table::<Task>().build().unwrap();
    let error = Db::builder().table::<OldTask>().load(file_of(&newer).as_slice()).unwrap_err();
    assert!(matches!(error, SnapshotError::TableVersion { found: 2, expected: 1, .. }), "{error}");
}

#[test]
fn a_chain_with_rows_of_an_older_version_is_loaded_once_it_was_made_one_file() {
    let db = Db::builder().table::<OldTask>().build().unwrap();
    let put = |id: u64, title: &str| {
        let row = OldTask { id, title: title.into(), minutes: id as u32 };
        commit(&db, |txn| drop(txn.upsert(row).unwrap()));
    };
    put(1, "sweep");
    let (base, whole) = (db.read(), file_of(&db));
    put(1, "cook");
    put(2, "wash");
    let mut link = Vec::new();
    db.read().save_since(&base, &mut link, fsmdb::SaveOptions::new()).unwrap();
    let error = Db::builder().table::<Task>().load_chain([&whole[..], &link]).unwrap_err();
    let SnapshotError::OlderLink { table, found: 1, expected: 2 } = &error else {
        panic!("{error}")
    };
    assert_eq!(table, "tasks");
    assert!(error.to_string().contains("compact") && !error.is_corrupt(), "{error}");
    let chain = [Source::bytes(&whole), Source::bytes(&link)];
    let mut one = Vec::new();
    compact(&chain, &mut one, fsmdb::SaveOptions::new()).unwrap();
    let db = Db::builder().table::<Task>().load(one.as_slice()).unwrap();
    let snap = db.read();
    let rows: Vec<_> = snap.table::<Task>().iter().map(|row| (&*row.title, row.seconds)).collect();
    assert_eq!(rows, [("cook", 60), ("wash", 120)]);
}

fn fewer() -> fsmdb::Builder {
    Db::builder().table::<Job>().table::<Service>()
}

/// nomad: a snapshot of a newer version broke an older one.
#[test]
fn a_table_that_an_older_version_does_not_know_is_carried_through_it() {
    let db = empty();
    commit(&db, |txn| {
        txn.insert(job(1)).unwrap();
        (0..5).for_each(|id| drop(txn.insert(node(id)).unwrap()));
    });
    let file = file_of(&db);
    let refused = fewer().load(file.as_slice()).unwrap_err();
    assert!(matches!(refused, SnapshotError::UnknownTable { .. }), "{refused}");
    let carry = || LoadOptions::new().unknown_tables_are_carried();
    let older = fewer().load_with(file.as_slice(), carry()).unwrap();
    let carried = inspect(file_of(&older).as_slice()).unwrap();
    assert_eq!(carried.tables, inspect(file.as_slice()).unwrap().tables);
    assert_eq!(older.digests().unwrap(), db.digests().unwrap());
    commit(&older, |txn| drop(txn.insert(job(2)).unwrap()));
    commit(&db, |txn| drop(txn.insert(job(2)).unwrap()));
    let builder = fewer().table::<Node>();
    let back = builder.load(file_of(&older).as_slice()).unwrap();
    back.check().unwrap();
    assert_eq!(back.read().table::<Node>().len(), 5);
    assert_eq!(file_of(&back), file_of(&db), "and nothing of it was changed");
}

#[test]
fn a_chain_with_a_carried_table_is_applied_and_saved() {
    let file = file_of(&{
        let db = empty();
        commit(&db, |txn| drop(txn.insert(node(1)).unwrap()));
        db
    });
    let carry = || LoadOptions::new().unknown_tables_are_carried();
    let db = fewer().load_with(file.as_slice(), carry()).unwrap();
    let base = db.read();
    commit(&db, |txn| drop(txn.insert(job(2)).unwrap()));
    let mut link = Vec::new();
    db.read().save_since(&base, &mut link, fsmdb::SaveOptions::new()).unwrap();
    inspect(link.as_slice()).unwrap();
    let chain = [file.as_slice(), link.as_slice()];
    let copy = fewer().load_chain_with(chain, carry()).unwrap();
    assert_eq!(file_of(&copy), file_of(&db));
}

#[test]
fn a_table_that_is_new_may_be_taken_as_empty() {
    let db = fewer().build().unwrap();
    commit(&db, |txn| drop(txn.insert(job(1)).unwrap()));
    let file = file_of(&db);
    let options = LoadOptions::new().missing_tables_are_empty();
    let newer = fewer().table::<Node>().load_with(file.as_slice(), options).unwrap();
    assert_eq!(newer.read().table::<Job>().len(), 1);
    commit(&newer, |txn| drop(txn.insert(node(1)).unwrap()));
    newer.check().unwrap();
}

fn section(name: &str, content: &[u8]) -> Frame {
    let payload = [&[name.len() as u8], name.as_bytes(), content].concat();
    Frame { kind: SECTION, payload }
}

#[test]
fn sections_that_are_unknown_are_kept_and_written_back() {
    let db = empty();
    commit(&db, |txn| drop(txn.insert(node(1)).unwrap()));
    let with = |sections: Vec<Frame>| {
        let mut frames = frames_of(&file_of(&db));
        frames.pop();
        frames.extend(sections);
        seal_with_end(&frames, 1)
    };
    let file = with(vec![section("leases", b"one"), section("leases", b"two"), section("x", b"")]);
    assert_eq!(inspect(file.as_slice()).unwrap().sections, ["leases", "x"]);
    let copy = crate::tables::load(&file).unwrap();
    assert_eq!(file_of(&copy), file);
    commit(&copy, |txn| drop(txn.insert(node(2)).unwrap()));
    assert_eq!(inspect(file_of(&copy).as_slice()).unwrap().sections, ["leases", "x"]);
    copy.restore(file_of(&db).as_slice()).unwrap();
    assert!(inspect(file_of(&copy).as_slice()).unwrap().sections.is_empty());
    let unordered = with(vec![section("x", b""), section("leases", b"")]);
    assert!(inspect(unordered.as_slice()).unwrap_err().is_corrupt());
    let nameless = with(vec![Frame { kind: SECTION, payload: vec![9, b'x'] }]);
    assert!(crate::tables::load(&nameless).unwrap_err().is_corrupt());
}

/// A newer program's table that remembers what it has removed.
#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "zones", tombstones = 9)]
struct Zone {
    #[key]
    id: u64,
}

#[test]
fn tombstones_of_a_carried_table_are_carried_and_do_not_harm_an_incremental_file() {
    let newer = fewer().table::<Zone>().build().unwrap();
    commit(&newer, |txn| (0..9).for_each(|id| drop(txn.insert(Zone { id }).unwrap())));
    commit(&newer, |txn| assert_eq!(txn.table_mut::<Zone>().delete_all(3..6), 3));
    let file = file_of(&newer);
    let carry = || LoadOptions::new().unknown_tables_are_carried();
    let db = fewer().load_with(file.as_slice(), carry()).unwrap();
    let base = db.read();
    commit(&db, |txn| drop(txn.insert(job(2)).unwrap()));
    let mut link = Vec::new();
    db.read().save_since(&base, &mut link, fsmdb::SaveOptions::new()).unwrap();
    let chain = [file.as_slice(), link.as_slice()];
    let copy = fewer().load_chain_with(chain, carry()).unwrap();
    assert_eq!(file_of(&copy), file_of(&db));
    let back = fewer().table::<Zone>().load(file_of(&copy).as_slice()).unwrap();
    assert_eq!(inspect(file_of(&back).as_slice()).unwrap().tables[2].tombstones, 3);
    back.check().unwrap();
}

#[test]
fn rows_of_format_1_have_no_keys_and_are_not_carried() {
    let file = include_bytes!("../data/format-1.snapshot");
    let options = LoadOptions::new().unknown_tables_are_carried();
    let error = Db::builder().table::<Node>().load_with(&file[..], options).unwrap_err();
    assert!(matches!(&error, SnapshotError::UnknownTable { table } if table == "services"));
}

#[test]
fn an_incremental_file_that_changes_a_carried_table_is_refused_and_its_sections_are_taken() {
    let newer = fewer().table::<Zone>().build().unwrap();
    commit(&newer, |txn| drop(txn.insert(Zone { id: 1 }).unwrap()));
    let (base, whole) = (newer.read(), file_of(&newer));
    commit(&newer, |txn| drop(txn.insert(Zone { id: 2 }).unwrap()));
    let mut link = Vec::new();
    newer.read().save_since(&base, &mut link, fsmdb::SaveOptions::new()).unwrap();
    let carry = || LoadOptions::new().unknown_tables_are_carried();
    let older = fewer().load_with(whole.as_slice(), carry()).unwrap();
    let before = file_of(&older);
    let error = older.apply_incremental(link.as_slice(), carry()).unwrap_err();
    assert!(matches!(&error, SnapshotError::UnknownTable { table } if table == "zones"), "{error}");
    assert_eq!(file_of(&older), before);
}
