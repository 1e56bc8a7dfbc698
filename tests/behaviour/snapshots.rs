//! The view of one version: it never changes, never blocks and outlives everything.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use fsmdb::{
    Builder, Change, Db, Error, Machine, Read, Row, Savepoint, SharedRow, Snapshot, Summary, Table,
};
use serde::{Deserialize, Serialize};
use static_assertions::{assert_impl_all, assert_not_impl_any};

use crate::tables::{Job, Node, commit, empty, file_of, ids, job, node, with_jobs};

assert_impl_all!(Snapshot: Send, Sync, Clone, Read);
assert_impl_all!(Db: Send, Sync, Clone);
assert_impl_all!(Row<Job>: Send, Sync);
assert_impl_all!(SharedRow<Job>: Send, Sync, Clone);
assert_impl_all!(Change: Send, Sync, Clone);
assert_impl_all!(Savepoint: Send, Sync, Clone);
assert_impl_all!(Builder: Send);
assert_impl_all!(Machine<()>: Send, Sync);
assert_impl_all!(Error: Send, Sync, Clone, PartialEq);
assert_impl_all!(Summary: Send, Sync, Clone, PartialEq);
assert_not_impl_any!(fsmdb::WriteTxn<'static>: Clone);

#[test]
fn a_snapshot_is_owned_and_static() {
    fn owned<T: Send + Sync + 'static>(value: T) -> T {
        value
    }
    let snap = owned(with_jobs([job(1)]).read());
    let there = thread::spawn(move || snap.table::<Job>().len()).join().unwrap();
    assert_eq!(there, 1);
}

#[test]
fn a_snapshot_never_changes_whatever_is_written_after_it() {
    let db = with_jobs((1..=50).map(job));
    let snap = db.read();
    let before = file_of(&db);
    let image: Vec<_> = snap.table::<Job>().iter().map(Row::share).collect();
    for round in 0..20 {
        commit(&db, |txn| {
            txn.table_mut::<Job>().delete_all(round..round + 2);
            txn.upsert(Job { priority: 7, ..job(40) }).unwrap();
            txn.insert(node(round)).unwrap();
        });
    }
    commit(&db, |txn| assert!(txn.table_mut::<Job>().delete_all(..) > 0));
    let again: Vec<_> = snap.table::<Job>().iter().map(Row::share).collect();
    assert_eq!(again, image);
    assert!(image.iter().zip(&again).all(|(one, other)| SharedRow::ptr_eq(one, other)));
    let mut file = Vec::new();
    snap.save(&mut file).unwrap();
    assert_eq!(file, before);
    assert!(snap.table::<Node>().is_empty());
    snap.check().unwrap();
}

#[test]
fn a_snapshot_and_a_shared_row_outlive_the_database() {
    let db = with_jobs([job(1), job(2)]);
    let snap = db.read();
    drop(db);
    let row = snap.table::<Job>().get(&1).unwrap().share();
    assert_eq!(ids(snap.clone().table::<Job>().iter()), [1, 2]);
    drop(snap);
    assert_eq!((row.id, row.created().0), (1, 1));
    assert_eq!(*row.value(), job(1));
}

#[test]
fn many_versions_held_for_long_stay_what_they_were() {
    let db = empty();
    let versions: Vec<_> = (0..200_u64)
        .map(|id| {
            commit(&db, |txn| {
                txn.insert(job(id)).unwrap();
                txn.table_mut::<Job>().delete(&(id / 2));
            });
            (db.read(), ids(db.read().table::<Job>().iter()))
        })
        .collect();
    // Dropped in an order that has nothing to do with their age.
    let mut kept = versions;
    while let Some(at) = kept.len().checked_sub(1).map(|last| last * 7919 % kept.len()) {
        let (snap, expected) = kept.swap_remove(at);
        assert_eq!(ids(snap.table::<Job>().iter()), expected);
        assert_eq!(snap.table::<Job>().index(Job::BY_NAME).len(), expected.len());
    }
}

/// mapdb, harper: an old snapshot pinned what was no longer reachable by anyone.
#[test]
fn rows_that_no_version_needs_are_freed() {
    let db = Db::builder().table::<Tracked>().build().unwrap();
    let put = |text: &str| commit(&db, |txn| drop(txn.upsert(tracked(1, text)).unwrap()));
    put("first");
    let old = db.read();
    let row = Arc::downgrade(&old.table::<Tracked>().get(&1).unwrap().text);
    put("second");
    put("third");
    assert!(row.upgrade().is_some(), "the old version still has it");
    drop(old);
    commit(&db, |_| ());
    assert!(row.upgrade().is_none(), "nobody has it, and the writer came by");
}

/// A row whose end can be seen.
#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "tracked")]
struct Tracked {
    #[key]
    id: u64,
    text: Arc<str>,
}

fn tracked(id: u64, text: &str) -> Tracked {
    Tracked { id, text: text.into() }
}

#[test]
fn a_rolled_back_transaction_frees_exactly_what_it_made() {
    let db = Db::builder().table::<Tracked>().build().unwrap();
    commit(&db, |txn| drop(txn.insert(tracked(1, "kept")).unwrap()));
    let kept = Arc::downgrade(&db.read().table::<Tracked>().get(&1).unwrap().text);
    let mut txn = db.write();
    let made: Vec<_> = (0..100)
        .map(|id| {
            let row = txn.upsert(tracked(id, "made")).map(drop);
            row.unwrap();
            Arc::downgrade(&txn.table::<Tracked>().get(&id).unwrap().text)
        })
        .collect();
    drop(txn);
    assert!(made.iter().all(|row| row.upgrade().is_none()), "what it made is gone");
    assert!(kept.upgrade().is_some(), "what it replaced is still there");
    assert_eq!(&*db.read().table::<Tracked>().get(&1).unwrap().text, "kept");
}

#[test]
fn a_panic_inside_a_transaction_frees_what_it_made() {
    let db = Db::builder().table::<Tracked>().build().unwrap();
    let mut row = None;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut txn = db.write();
        txn.insert(tracked(1, "made")).unwrap();
        row = Some(Arc::downgrade(&txn.table::<Tracked>().get(&1).unwrap().text));
        resume_unwind(Box::new("planned"));
    }));
    assert!(outcome.is_err());
    assert!(row.expect("it got so far").upgrade().is_none());
    assert!(db.read().table::<Tracked>().is_empty());
    commit(&db, |txn| drop(txn.insert(tracked(1, "next")).unwrap()));
}

#[test]
fn a_snapshot_that_outlives_the_database_keeps_what_it_sees_and_nothing_else() {
    let db = Db::builder().table::<Tracked>().build().unwrap();
    let token =
        |snap: &Snapshot, id: u64| Arc::downgrade(&snap.table::<Tracked>().get(&id).unwrap().text);
    let put = |ids: std::ops::Range<u64>, text: &str| {
        commit(&db, |txn| ids.for_each(|id| drop(txn.upsert(tracked(id, text)).unwrap())));
    };
    put(0..200, "old");
    let snap = db.read();
    let old: Vec<_> = (0..200).map(|id| token(&snap, id)).collect();
    put(100..300, "new");
    let new: Vec<_> = (100..300).map(|id| token(&db.read(), id)).collect();
    let middle = db.read();
    put(0..10, "last");
    drop(middle);
    drop(db);
    assert!(new.iter().all(|row| row.upgrade().is_none()), "only the database had them");
    assert!(old.iter().all(|row| row.upgrade().is_some()));
    assert_eq!(snap.table::<Tracked>().iter().filter(|row| &*row.text == "old").count(), 200);
    snap.check().unwrap();
    drop(snap);
    assert!(old.iter().all(|row| row.upgrade().is_none()));
}

#[test]
fn a_shared_row_lives_as_long_as_its_last_handle() {
    let db = Db::builder().table::<Tracked>().build().unwrap();
    commit(&db, |txn| drop(txn.insert(tracked(1, "shared")).unwrap()));
    let handle = db.read().table::<Tracked>().get(&1).unwrap().share();
    let row = Arc::downgrade(&handle.text);
    let other = thread::spawn({
        let handle = handle.clone();
        move || handle.text.len()
    });
    commit(&db, |txn| drop(txn.table_mut::<Tracked>().delete(&1)));
    commit(&db, |_| ());
    drop(db);
    assert_eq!(other.join().unwrap(), 6);
    assert_eq!(&*handle.text, "shared");
    drop(handle);
    assert!(row.upgrade().is_none());
}

#[test]
fn readers_on_other_threads_see_whole_commits_in_their_order() {
    let db = empty();
    let (stop, start) = (AtomicBool::new(false), Barrier::new(3));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = 0;
                start.wait();
                while !stop.load(Ordering::Relaxed) {
                    let snap = db.read();
                    let revision = snap.revision().0;
                    assert!(revision >= last, "time went back");
                    last = revision;
                    assert_eq!(snap.table::<Job>().len() as u64, revision);
                    assert_eq!(snap.table::<Node>().len() as u64, revision);
                    assert_eq!(snap.table::<Job>().index(Job::BY_NAME).len() as u64, revision);
                }
            });
        }
        start.wait();
        for id in 0..300 {
            commit(&db, |txn| {
                txn.insert(job(id)).unwrap();
                txn.insert(node(id)).unwrap();
            });
            assert_eq!(db.read().revision().0, id + 1, "an acknowledged commit is visible");
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_reader_is_not_blocked_by_a_transaction_that_stays_open() {
    let db = with_jobs([job(1)]);
    let mut txn = db.write();
    txn.insert(job(2)).unwrap();
    let there = thread::spawn({
        let db = db.clone();
        move || db.read().table::<Job>().len()
    });
    assert_eq!(there.join().unwrap(), 1);
    txn.commit();
}
