//! The difference of two snapshots: what all commits between them come to.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};

use fsmdb::{Change, ChangeKind, Db, Difference, Snapshot, Table, decode};
use serde::{Deserialize, Serialize};

use crate::tables::{
    Job, Node, Service, Status, commit, empty, file_of, job, load, node, service, with_jobs,
};

fn told(difference: &Difference<'_, Job>) -> (u64, ChangeKind) {
    (decode::<u64>(difference.key()).unwrap(), difference.kind())
}

fn jobs(newer: &Snapshot, older: &Snapshot) -> Vec<(u64, ChangeKind)> {
    newer.diff::<Job>(older).map(|difference| told(&difference)).collect()
}

/// A change in a form that can be compared: where, and the revisions of both rows.
type Told = (String, Vec<u8>, Option<(u64, u64)>, Option<(u64, u64)>);

fn tell(change: &Change) -> Told {
    fn meta<T>(row: &fsmdb::Row<T>) -> (u64, u64) {
        (row.created().0, row.modified().0)
    }
    let before = change.before::<Job>().map(meta).or(change.before::<Node>().map(meta));
    let after = change.after::<Job>().map(meta).or(change.after::<Node>().map(meta));
    (change.table().to_owned(), change.key().to_vec(), before, after)
}

fn all(newer: &Snapshot, older: &Snapshot) -> Vec<Told> {
    newer.diff_all(older).map(|change| tell(&change)).collect()
}

use ChangeKind::{Created, Deleted, Updated};

#[test]
fn it_has_what_was_created_updated_and_deleted_in_the_order_of_keys() {
    let db = with_jobs((1..100).map(job));
    let older = db.read();
    commit(&db, |txn| drop(txn.insert(job(500)).unwrap()));
    commit(&db, |txn| {
        txn.table_mut::<Job>().update(&40, |job| job.priority = 7).unwrap();
        txn.table_mut::<Job>().delete(&70);
        txn.insert(job(0)).unwrap();
        txn.insert(node(1)).unwrap();
    });
    let newer = db.read();
    let expected = [(0, Created), (40, Updated), (70, Deleted), (500, Created)];
    assert_eq!(jobs(&newer, &older), expected);
    let found: Vec<_> = newer.diff::<Job>(&older).collect();
    assert!(found[0].before().is_none() && found[0].after().unwrap().id == 0);
    assert_eq!(found[1].before().unwrap().priority, 0);
    assert_eq!(found[1].after().unwrap().priority, 7);
    assert!(found[2].after().is_none() && found[2].before().unwrap().id == 70);
    assert_eq!(newer.diff::<Node>(&older).count(), 1);
    assert_eq!(newer.diff::<Service>(&older).count(), 0);
    assert_eq!(format!("{:?}", found[1]), "Difference { key: \"40\", kind: Updated }");
}

#[test]
fn the_other_way_round_created_is_deleted() {
    let db = with_jobs([job(1), job(2)]);
    let older = db.read();
    commit(&db, |txn| {
        txn.table_mut::<Job>().delete(&1);
        txn.upsert(job(2)).unwrap();
        txn.insert(job(3)).unwrap();
    });
    assert_eq!(jobs(&db.read(), &older), [(1, Deleted), (2, Updated), (3, Created)]);
    assert_eq!(jobs(&older, &db.read()), [(1, Created), (2, Updated), (3, Deleted)]);
    let newer = db.read();
    let back = older.diff::<Job>(&newer).nth(1).unwrap();
    assert_eq!((back.before().unwrap().modified().0, back.after().unwrap().modified().0), (2, 1));
}

#[test]
fn both_ends_meet_and_nothing_is_met_twice() {
    let db = with_jobs((0..1000).map(job));
    let older = db.read();
    commit(&db, |txn| {
        for id in (0..1000).step_by(97) {
            txn.table_mut::<Job>().update(&id, |job| job.priority = 1).unwrap();
        }
    });
    let newer = db.read();
    let expected: Vec<_> = (0..1000).step_by(97).map(|id| (id, Updated)).collect();
    let mut backward: Vec<_> = newer.diff::<Job>(&older).rev().map(|found| told(&found)).collect();
    backward.reverse();
    assert_eq!(backward, expected);
    for first in 0..=expected.len() {
        let mut diff = newer.diff::<Job>(&older);
        let mut met: Vec<_> = diff.by_ref().take(first).map(|found| told(&found)).collect();
        let mut rest: Vec<_> = diff.by_ref().rev().map(|found| told(&found)).collect();
        rest.reverse();
        met.append(&mut rest);
        assert_eq!(met, expected);
        assert!(diff.next().is_none() && diff.next_back().is_none(), "it is fused");
    }
}

#[test]
fn a_range_of_keys_is_compared_alone() {
    let db = with_jobs((0..100).map(job));
    let older = db.read();
    commit(&db, |txn| assert_eq!(txn.table_mut::<Job>().delete_all(..), 100));
    let newer = db.read();
    let ids = |diff: fsmdb::Diff<'_, Job>| diff.map(|found| told(&found).0).collect::<Vec<_>>();
    assert_eq!(ids(newer.diff_range(&older, 10..13)), [10, 11, 12]);
    assert_eq!(ids(newer.diff_range(&older, 98..)), [98, 99]);
    assert_eq!(ids(newer.diff_range(&older, ..=1)), [0, 1]);
    assert_eq!(newer.diff_range::<Job, _>(&older, ..).rev().count(), 100);
    assert_eq!(
        newer.diff_range::<Job, _>(&older, (Bound::Excluded(50), Bound::Included(50))).count(),
        0,
        "crossed bounds"
    );
}

#[test]
fn a_row_that_was_written_again_is_updated_whatever_its_value() {
    let db = with_jobs([job(1), job(2), job(3)]);
    let older = db.read();
    commit(&db, |txn| drop(txn.upsert(job(1)).unwrap()));
    commit(&db, |txn| drop(txn.table_mut::<Job>().delete(&2)));
    commit(&db, |txn| drop(txn.insert(job(2)).unwrap()));
    commit(&db, |txn| drop(txn.insert(job(9)).unwrap()));
    commit(&db, |txn| drop(txn.table_mut::<Job>().delete(&9)));
    let newer = db.read();
    assert_eq!(jobs(&newer, &older), [(1, Updated), (2, Updated)], "9 came and went");
    for found in newer.diff::<Job>(&older) {
        assert_eq!(found.before().unwrap().value(), found.after().unwrap().value());
        assert!(found.after().unwrap().modified() > older.revision());
    }
}

#[test]
fn a_change_that_only_an_index_shows_is_a_change() {
    let db = with_jobs((0..200).map(job));
    let older = db.read();
    commit(&db, |txn| {
        let mut jobs = txn.table_mut::<Job>();
        jobs.update(&77, |job| job.status = Status::Running).unwrap();
        jobs.update(&99, |job| job.tags = vec!["edge".into(), "http".into()]).unwrap();
    });
    assert_eq!(jobs(&db.read(), &older), [(77, Updated), (99, Updated)]);
}

#[test]
fn versions_without_a_difference_have_none() {
    let db = empty();
    let older = db.read();
    assert!(jobs(&older, &older).is_empty() && all(&older, &older).is_empty());
    db.write().commit();
    assert!(all(&db.read(), &older).is_empty());
    commit(&db, |txn| drop(txn.insert(job(1)).unwrap()));
    assert_eq!(jobs(&db.read(), &older), [(1, Created)]);
    commit(&db, |txn| drop(txn.table_mut::<Job>().delete(&1)));
    assert!(all(&db.read(), &older).is_empty(), "empty again");
}

#[test]
fn a_table_that_was_filled_at_once_is_created_row_by_row() {
    let db = empty();
    let older = db.read();
    commit(&db, |txn| {
        txn.table_mut().insert_all((0..3000).map(job)).unwrap();
    });
    let newer = db.read();
    let expected: Vec<_> = (0..3000).map(|id| (id, Created)).collect();
    assert_eq!(jobs(&newer, &older), expected);
    assert_eq!(newer.diff_all(&older).rev().count(), 3000);
}

/// Random enough, and the same in every run.
fn write_some(txn: &mut fsmdb::WriteTxn<'_>, seed: u64) {
    for step in 0..seed % 40 {
        let id = (seed * 31 + step * 17) % 300;
        match (seed + step) % 4 {
            0 => drop(txn.table_mut::<Job>().delete(&id)),
            1 => drop(txn.upsert(node(id)).unwrap()),
            2 => drop(txn.table_mut::<Node>().delete(&id)),
            _ => drop(txn.upsert(Job { priority: 3, ..job(id) }).unwrap()),
        }
    }
}

#[test]
fn it_equals_the_net_changes_of_the_commit_or_commits_between() {
    let db = with_jobs((0..200).map(job));
    let mut versions = vec![db.read()];
    let mut folded: Vec<BTreeMap<(bool, Vec<u8>), (Told, Told)>> = Vec::new();
    for seed in 1..60 {
        let mut txn = db.write();
        write_some(&mut txn, seed);
        let changes: Vec<_> = txn.changes().iter().map(tell).collect();
        let view = txn.snapshot();
        assert_eq!(all(&view, versions.last().unwrap()), changes, "seen in the transaction");
        txn.commit();
        let newer = db.read();
        assert_eq!(all(&newer, versions.last().unwrap()), changes);
        versions.push(newer);
        folded.push(BTreeMap::new());
        for change in &changes {
            let key = (change.0 == "nodes", change.1.clone());
            for first in &mut folded {
                let entry = first.entry(key.clone());
                entry.or_insert_with(|| (change.clone(), change.clone())).1 = change.clone();
            }
        }
    }
    let newest = db.read();
    for (older, folded) in versions.iter().zip(&folded) {
        let net = folded.values().map(|((table, key, before, _), (.., after))| {
            (table.clone(), key.clone(), *before, *after)
        });
        let net: Vec<_> = net.filter(|(.., before, after)| before != after).collect();
        assert_eq!(all(&newest, older), net);
    }
}

#[test]
fn all_tables_come_in_the_order_of_the_schema_from_both_ends() {
    let db = empty();
    let older = db.read();
    commit(&db, |txn| {
        txn.insert(node(2)).unwrap();
        txn.insert(service("a", "b")).unwrap();
        txn.insert(node(1)).unwrap();
        txn.insert(job(1)).unwrap();
    });
    let newer = db.read();
    let tables = |changes: Vec<Change>| -> Vec<_> {
        changes.iter().map(|change| (change.table().to_owned(), change.printed_key())).collect()
    };
    let forward = tables(newer.diff_all(&older).collect());
    let names: Vec<_> = forward.iter().map(|(table, _)| table.as_str()).collect();
    assert_eq!(names, ["jobs", "services", "nodes", "nodes"]);
    assert_eq!((forward[2].1.as_str(), forward[3].1.as_str()), ("1", "2"));
    let mut backward = tables(newer.diff_all(&older).rev().collect());
    backward.reverse();
    assert_eq!(backward, forward);
    let mut both = newer.diff_all(&older);
    let (first, last) = (both.next().unwrap(), both.next_back().unwrap());
    assert_eq!((first.table(), last.printed_key().as_str()), ("jobs", "2"));
    assert_eq!(both.count(), 2);
}

#[test]
fn changes_outlive_the_snapshots_that_they_were_found_in() {
    let db = with_jobs([job(1)]);
    let older = db.read();
    commit(&db, |txn| drop(txn.table_mut::<Job>().delete(&1)));
    let changes: Vec<_> = db.read().diff_all(&older).collect();
    drop((older, db));
    assert_eq!(changes[0].before::<Job>().unwrap().id, 1);
}

#[test]
fn views_of_a_transaction_are_compared_with_each_other_and_with_what_is_published() {
    let db = with_jobs((0..500).map(job));
    let base = db.read();
    let mut txn = db.write();
    txn.table_mut::<Job>().delete(&3);
    let first = txn.snapshot();
    let savepoint = txn.savepoint();
    txn.insert(job(900)).unwrap();
    let second = txn.snapshot();
    txn.rollback_to(&savepoint);
    txn.table_mut::<Job>().update(&5, |job| job.priority = 1).unwrap();
    let third = txn.snapshot();
    assert_eq!(jobs(&first, &base), [(3, Deleted)]);
    assert_eq!(jobs(&second, &first), [(900, Created)]);
    assert_eq!(jobs(&third, &second), [(5, Updated), (900, Deleted)], "on two ways");
    txn.commit();
    let newest = db.read();
    assert!(jobs(&newest, &third).is_empty());
    assert_eq!(jobs(&newest, &second), [(5, Updated), (900, Deleted)]);
    let mut txn = db.write();
    txn.table_mut::<Job>().delete_all(..);
    let lost = txn.snapshot();
    drop(txn);
    commit(&db, |txn| drop(txn.insert(job(600)).unwrap()));
    assert_eq!(jobs(&db.read(), &lost).len(), 500, "a view of what was rolled back");
}

#[test]
fn a_restore_makes_other_rows_of_all() {
    let db = with_jobs((0..300).map(job));
    let file = file_of(&db);
    let older = db.read();
    commit(&db, |txn| drop(txn.table_mut::<Job>().delete(&9)));
    db.restore(file.as_slice()).unwrap();
    let newer = db.read();
    let expected: Vec<_> = (0..300).map(|id| (id, Updated)).collect();
    assert_eq!(jobs(&newer, &older), expected);
    let is_same = |found: Difference<'_, Job>| found.before() == found.after();
    assert!(newer.diff::<Job>(&older).all(is_same), "though nothing of them differs");
    commit(&db, |txn| drop(txn.insert(job(900)).unwrap()));
    assert_eq!(jobs(&db.read(), &newer), [(900, Created)], "and goes on from there");
}

#[test]
fn databases_with_the_same_tables_are_compared_whatever_their_order() {
    let one = with_jobs([job(1), job(2)]);
    commit(&one, |txn| drop(txn.insert(node(1)).unwrap()));
    let builder = Db::builder().table::<Node>().table::<Service>().table::<Job>();
    let other = builder.build().unwrap();
    commit(&other, |txn| drop(txn.insert(job(2)).unwrap()));
    let (one, other) = (one.read(), other.read());
    assert_eq!(jobs(&one, &other), [(1, Created), (2, Updated)]);
    let kinds = |newer: &Snapshot, older: &Snapshot| -> Vec<_> {
        let changes = newer.diff_all(older);
        changes.map(|change| (change.table().to_owned(), change.kind())).collect()
    };
    let named = |table: &str, kind| (table.to_owned(), kind);
    assert_eq!(
        kinds(&one, &other),
        [named("jobs", Created), named("jobs", Updated), named("nodes", Created)]
    );
    assert_eq!(
        kinds(&other, &one),
        [named("nodes", Deleted), named("jobs", Deleted), named("jobs", Updated)]
    );
}

/// Has the name, version and indexes of [`Node`], but is another type.
#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "nodes")]
struct OtherNode {
    #[key]
    id: u64,
    #[index(unique)]
    name: String,
}

#[test]
fn databases_with_other_tables_are_refused() {
    let ours = with_jobs([job(1)]).read();
    let fewer = Db::builder().table::<Job>().build().unwrap().read();
    let message = |run: &dyn Fn()| {
        let panic = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        text.or(panic.downcast_ref::<String>().cloned()).unwrap()
    };
    let refusal = "snapshots that are compared have the same tables";
    assert_eq!(message(&|| drop(ours.diff_all(&fewer))), refusal);
    assert_eq!(jobs(&ours, &fewer), [(1, Created)], "the table that both have can be compared");
    let missing = message(&|| drop(ours.diff::<Node>(&fewer)));
    assert!(missing.starts_with("table nodes is not in the schema"), "{missing}");
    let builder = Db::builder().table::<Job>().table::<Service>().table::<OtherNode>();
    let other = builder.build().unwrap().read();
    assert_eq!(message(&|| drop(ours.diff_all(&other))), refusal);
}

#[test]
fn a_loaded_database_is_compared_with_the_one_that_was_saved() {
    let db = with_jobs((0..50).map(job));
    let copy = load(&file_of(&db)).unwrap();
    commit(&copy, |txn| drop(txn.table_mut::<Job>().delete(&7)));
    let (newer, older) = (copy.read(), db.read());
    let differing: Vec<_> = newer
        .diff::<Job>(&older)
        .filter(|found| found.before() != found.after())
        .map(|found| told(&found))
        .collect();
    assert_eq!(differing, [(7, Deleted)], "rows are told apart by who asks for it");
}
