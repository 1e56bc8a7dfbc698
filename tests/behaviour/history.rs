//! Versions of the past, and who keeps how much memory.

use std::sync::{Arc, Mutex};

use fsmdb::{Db, HistoryError, Retention, Revision, Table};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Table)]
#[table(name = "jobs")]
struct Job {
    #[key]
    id: u8,
    #[index]
    status: u8,
    #[serde(skip)]
    token: Option<Arc<u8>>,
}

fn builder() -> fsmdb::Builder {
    Db::builder().table::<Job>()
}

fn put(db: &Db, id: u8, status: u8) -> Revision {
    let mut txn = db.write();
    txn.upsert(Job { id, status, token: None }).unwrap();
    txn.commit()
}

fn status(db: &Db, revision: u64) -> Option<u8> {
    let snapshot = db.at(Revision(revision)).unwrap();
    snapshot.table::<Job>().get(&1_u8).map(|job| job.status)
}

#[test]
fn a_database_keeps_the_versions_it_is_told_to() {
    let db = builder().keep_versions(Retention::versions(3)).build().unwrap();
    for round in 1..=6 {
        put(&db, 1, round);
    }
    assert_eq!([3, 4, 5, 6].map(|revision| status(&db, revision)), [3, 4, 5, 6].map(Some));
    let below = HistoryError::BelowFloor { revision: Revision(2), oldest: Revision(3) };
    assert_eq!(db.at(Revision(2)).unwrap_err(), below);
    let ahead = HistoryError::Ahead { revision: Revision(7), newest: Revision(6) };
    assert_eq!(db.at(Revision(7)).unwrap_err(), ahead);
}

#[test]
fn without_being_told_a_database_keeps_the_current_version_alone() {
    let db = builder().build().unwrap();
    put(&db, 1, 1);
    put(&db, 1, 2);
    assert_eq!(status(&db, 2), Some(2));
    let below = HistoryError::BelowFloor { revision: Revision(1), oldest: Revision(2) };
    assert_eq!(db.at(Revision(1)).unwrap_err(), below);
    assert!(db.memory().versions.is_empty());
}

#[test]
fn versions_go_by_age_and_by_bytes_too() {
    let by_age = Retention { versions: 100, bytes: usize::MAX, revisions: 2 };
    let db = builder().keep_versions(by_age).build().unwrap();
    for round in 1..=9 {
        put(&db, 1, round);
    }
    assert!(db.at(Revision(7)).is_ok() && db.at(Revision(6)).is_err());

    let by_bytes = Retention { versions: 100, bytes: 10_000, revisions: u64::MAX };
    let db = builder().keep_versions(by_bytes).build().unwrap();
    for round in 1..=100 {
        put(&db, round, round);
    }
    let kept: usize = db.memory().versions.iter().map(|version| version.bytes).sum();
    assert!(kept > 2_000 && kept <= 10_000, "{kept}");
    assert!(db.memory().versions.iter().all(|version| version.is_kept));
}

#[test]
fn the_versions_of_a_row_are_one_for_each_time_it_was_written() {
    let db = builder().keep_versions(Retention::versions(100)).build().unwrap();
    put(&db, 2, 0);
    put(&db, 1, 1);
    put(&db, 2, 1);
    put(&db, 1, 2);
    let mut txn = db.write();
    txn.table_mut::<Job>().delete(&1_u8).unwrap();
    txn.commit();
    put(&db, 1, 3);
    let versions = db.versions::<Job, _>(&1_u8);
    let plain: Vec<_> = versions
        .iter()
        .map(|version| (version.revision.0, version.row.as_ref().map(|row| row.status)))
        .collect();
    assert_eq!(plain, [(0, None), (2, Some(1)), (4, Some(2)), (5, None), (6, Some(3))]);
}

#[test]
fn a_restore_forgets_the_past() {
    let db = builder().keep_versions(Retention::versions(100)).build().unwrap();
    put(&db, 1, 1);
    let mut file = Vec::new();
    db.read().save(&mut file).unwrap();
    put(&db, 1, 2);
    put(&db, 1, 3);
    db.restore(file.as_slice()).unwrap();
    assert_eq!(status(&db, 1), Some(1));
    assert!(db.at(Revision(0)).is_err());
    put(&db, 1, 7);
    assert_eq!((status(&db, 1), status(&db, 2)), (Some(1), Some(7)));
}

#[test]
fn what_a_database_has_kept_goes_with_it_and_with_its_turn() {
    let token = Arc::new(0);
    let db = builder().keep_versions(Retention::versions(10)).build().unwrap();
    for round in 0..50 {
        let mut txn = db.write();
        txn.upsert(Job { id: 1, status: round, token: Some(Arc::clone(&token)) }).unwrap();
        txn.commit();
        assert!(Arc::strong_count(&token) <= 14, "{}", Arc::strong_count(&token));
    }
    assert!(Arc::strong_count(&token) >= 11);
    drop(db);
    assert_eq!(Arc::strong_count(&token), 1);
}

#[test]
fn memory_says_who_holds_what() {
    let db = builder().build().unwrap();
    let mut txn = db.write();
    txn.table_mut().insert_all((0..200).map(|id| Job { id, status: 0, token: None })).unwrap();
    txn.commit();
    let memory = db.memory();
    assert_eq!((memory.tables.len(), memory.tables[0].rows), (1, 200));
    assert_eq!(memory.tables[0].indexes[0].entries, 200);
    assert!(memory.tables[0].row_bytes >= 200 * size_of::<Job>());
    assert!(memory.tables[0].node_bytes >= 200 * 8 && memory.nodes >= memory.tables[0].node_bytes);
    assert!(memory.versions.is_empty());
    let held = db.read();
    for id in 0..100 {
        put(&db, id, 1);
    }
    let versions = db.memory().versions;
    assert_eq!(versions.len(), 1);
    assert_eq!((versions[0].revision, versions[0].is_kept), (held.revision(), false));
    assert!(versions[0].bytes >= 100 * size_of::<Job>(), "{versions:?}");
    drop(held);
    put(&db, 1, 1);
    assert!(db.memory().versions.is_empty());
}

#[test]
fn a_snapshot_that_is_held_for_long_is_told_of_once() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let report = move |old: fsmdb::OldSnapshot| {
        tell.lock().unwrap().push((old.revision.0, old.newest.0));
    };
    let db = builder().report_old_snapshots(3, report).build().unwrap();
    put(&db, 1, 0);
    let first = db.read();
    put(&db, 1, 1);
    put(&db, 1, 1);
    let second = db.read();
    for round in 0..10 {
        put(&db, 1, round);
    }
    assert_eq!(*told.lock().unwrap(), [(1, 5), (3, 7)]);
    assert_eq!(first.table::<Job>().get(&1_u8).unwrap().status, 0);
    drop((first, second));
}

proptest! {
    #[test]
    fn every_version_that_is_kept_is_what_it_was(
        steps in prop::collection::vec((0..4_u8, prop::option::of(0..9_u8)), 1..60),
        limit in 0..12_usize,
    ) {
        let db = builder().keep_versions(Retention::versions(limit)).build().unwrap();
        let content = |snapshot: fsmdb::Snapshot| -> Vec<(u8, u8)> {
            snapshot.table::<Job>().iter().map(|job| (job.id, job.status)).collect()
        };
        let mut model = vec![Vec::new()];
        for (id, status) in steps {
            match status {
                Some(status) => drop(put(&db, id, status)),
                None => {
                    let mut txn = db.write();
                    txn.table_mut::<Job>().delete(&id);
                    txn.commit();
                }
            }
            model.push(content(db.read()));
            let newest = model.len() - 1;
            for (revision, expected) in model.iter().enumerate() {
                let at = db.at(Revision(revision as u64));
                prop_assert_eq!(at.is_ok(), revision + limit >= newest);
                if let Ok(snapshot) = at {
                    prop_assert_eq!(&content(snapshot), expected);
                }
            }
        }
    }
}
