//! The one writer: reads its own writes, publishes at once or not at all, savepoints, net changes.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;

use fsmdb::{Change, ChangeKind, Revision, WriteError, WriteTxn};

use crate::tables::{Job, Node, commit, empty, file_of, ids, job, node, value, with_jobs};

#[test]
fn a_transaction_reads_its_own_writes_and_nobody_else_does() {
    let db = with_jobs([job(1)]);
    let mut txn = db.write();
    txn.insert(job(2)).unwrap();
    txn.table_mut::<Job>().update(&1, |job| job.name = "renamed".into()).unwrap();
    assert_eq!(txn.table::<Job>().index(Job::BY_NAME).get("renamed").unwrap().id, 1);
    assert_eq!(txn.table_mut::<Job>().read().len(), 2);
    assert_eq!(db.read().table::<Job>().len(), 1);
    assert!(db.read().table::<Job>().index(Job::BY_NAME).get("renamed").is_none());
    txn.commit();
    assert_eq!(db.read().table::<Job>().index(Job::BY_NAME).get("renamed").unwrap().id, 1);
}

#[test]
fn a_commit_publishes_all_tables_at_once_under_the_next_revision() {
    let db = empty();
    assert_eq!(db.revision(), Revision(0));
    let mut txn = db.write();
    assert_eq!(txn.revision(), Revision(1));
    txn.insert(job(1)).unwrap();
    txn.insert(node(1)).unwrap();
    assert_eq!(txn.commit(), Revision(1));
    let snap = db.read();
    assert_eq!((snap.revision(), db.revision()), (Revision(1), Revision(1)));
    assert_eq!((snap.table::<Job>().len(), snap.table::<Node>().len()), (1, 1));
    assert_eq!(db.write().commit(), Revision(2), "a commit without changes is a revision too");
}

#[test]
fn a_transaction_that_is_dropped_leaves_the_database_as_it_was() {
    let db = with_jobs([job(1)]);
    let before = file_of(&db);
    let mut txn = db.write();
    txn.insert(job(2)).unwrap();
    txn.table_mut::<Job>().delete_all(..);
    txn.insert(node(7)).unwrap();
    drop(txn);
    assert_eq!(file_of(&db), before);
    assert_eq!(db.write().revision(), Revision(2), "the revision was not used up");
}

/// go-memdb: a forgotten `Abort` held the writer's lock for ever.
#[test]
fn an_early_return_releases_the_writer() {
    fn early(db: &fsmdb::Db) -> Result<(), fsmdb::Error> {
        let mut txn = db.write();
        txn.insert(job(1))?;
        txn.insert(job(1))?;
        txn.commit();
        Ok(())
    }
    let db = empty();
    assert!(early(&db).is_err());
    assert!(db.try_write().is_ok());
    assert!(db.read().table::<Job>().is_empty());
}

#[test]
fn a_panic_rolls_back_and_the_next_writer_works() {
    let db = with_jobs([job(1)]);
    let before = file_of(&db);
    for _ in 0..2 {
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let mut txn = db.write();
            txn.insert(job(2)).unwrap();
            panic!("user code");
        }));
        assert!(panicked.is_err());
        assert_eq!(file_of(&db), before);
    }
    assert!(db.try_write().is_ok(), "the lock is free, poisoned or not");
    commit(&db, |txn| drop(txn.insert(job(2)).unwrap()));
    assert_eq!(db.read().table::<Job>().len(), 2);
}

#[test]
fn a_panic_on_another_thread_rolls_back_and_the_next_writer_works() {
    let db = with_jobs([job(1)]);
    let panicking = db.clone();
    let outcome = thread::spawn(move || {
        let mut txn = panicking.write();
        txn.insert(job(2)).unwrap();
        panic!("user code");
    })
    .join();
    assert!(outcome.is_err());
    commit(&db, |txn| drop(txn.insert(job(3)).unwrap()));
    assert_eq!(ids(db.read().table::<Job>().iter()), [1, 3]);
}

#[test]
fn try_write_says_busy_while_a_transaction_runs_and_works_after_it() {
    let db = empty();
    let txn = db.write();
    assert_eq!(db.clone().try_write().unwrap_err(), WriteError::Busy);
    drop(txn);
    let mut txn = db.try_write().unwrap();
    txn.insert(job(1)).unwrap();
    assert_eq!(txn.commit(), Revision(1));
    assert!(db.try_write().is_ok());
}

#[test]
fn write_waits_for_the_transaction_before_it() {
    let db = empty();
    let mut txn = db.write();
    txn.insert(job(1)).unwrap();
    let (started, waiting) = mpsc::channel();
    let second = thread::spawn({
        let db = db.clone();
        move || {
            started.send(()).unwrap();
            let mut txn = db.write();
            assert_eq!(txn.table::<Job>().len(), 1);
            txn.insert(job(2)).unwrap();
            txn.commit()
        }
    });
    waiting.recv().unwrap();
    assert_eq!(txn.commit(), Revision(1));
    assert_eq!(second.join().unwrap(), Revision(2));
}

#[test]
fn writers_on_many_threads_lose_no_update() {
    let db = with_jobs([job(1)]);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let db = db.clone();
            thread::spawn(move || {
                for _ in 0..50 {
                    let add = |job: &mut Job| job.priority += 1;
                    commit(&db, |txn| drop(txn.table_mut::<Job>().update(&1, add).unwrap()));
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(db.read().table::<Job>().get(&1).unwrap().priority, 200);
    assert_eq!(db.revision(), Revision(201));
    db.check().unwrap();
}

#[test]
fn savepoints_nest_and_can_be_used_backwards_and_forwards() {
    let db = empty();
    let mut txn = db.write();
    let savepoints: Vec<_> = (1..=3)
        .map(|id| {
            txn.insert(job(id)).unwrap();
            txn.savepoint()
        })
        .collect();
    let rows = |txn: &WriteTxn<'_>| (ids(txn.table::<Job>().iter()), txn.changes().len());
    txn.table_mut::<Job>().delete_all(..);
    txn.rollback_to(&savepoints[2]);
    assert_eq!(rows(&txn), (vec![1, 2, 3], 3));
    txn.rollback_to(&savepoints[0]);
    assert_eq!(rows(&txn), (vec![1], 1));
    txn.rollback_to(&savepoints[2]);
    assert_eq!(rows(&txn), (vec![1, 2, 3], 3), "going back early does not spoil a later one");
    txn.rollback_to(&savepoints[1].clone());
    txn.rollback_to(&savepoints[1]);
    assert_eq!(rows(&txn), (vec![1, 2], 2));
    txn.insert(job(9)).unwrap();
    txn.snapshot().check().unwrap();
    txn.commit();
    assert_eq!(ids(db.read().table::<Job>().iter()), [1, 2, 9]);
}

#[test]
fn a_savepoint_restores_every_table_and_what_their_changes_were() {
    let db = with_jobs([job(1)]);
    let mut txn = db.write();
    txn.insert(node(1)).unwrap();
    let savepoint = txn.savepoint();
    let modified = txn.table::<Job>().modified();
    txn.table_mut::<Job>().delete(&1);
    txn.table_mut::<Node>().delete(&1);
    txn.rollback_to(&savepoint);
    assert_eq!(txn.table::<Job>().modified(), modified);
    assert_eq!((txn.table::<Job>().len(), txn.table::<Node>().len()), (1, 1));
    let changes = txn.changes();
    assert_eq!((changes.len(), changes[0].table()), (1, "nodes"));
}

#[test]
fn rollback_all_leaves_the_transaction_as_new() {
    let db = with_jobs([job(1)]);
    let before = file_of(&db);
    let called = RefCell::new(false);
    let mut txn = db.write();
    txn.after_commit(|_| *called.borrow_mut() = true);
    txn.table_mut::<Job>().delete_all(..);
    txn.rollback_all();
    assert!(!txn.is_changed() && txn.changes().is_empty());
    assert_eq!(txn.table::<Job>().len(), 1);
    txn.commit();
    assert!(!*called.borrow(), "a hook is undone with the rest");
    let restored = crate::tables::load(&before).unwrap();
    assert_eq!(value(restored.read().table::<Job>().get(&1).unwrap()), job(1));
    assert_eq!(db.read().table::<Job>().modified(), Revision(1));
}

#[test]
fn a_savepoint_of_another_transaction_panics_and_changes_nothing() {
    let db = with_jobs([job(1)]);
    let mut txn = db.write();
    txn.insert(job(2)).unwrap();
    let foreign = txn.savepoint();
    txn.commit();
    let mut txn = db.write();
    txn.insert(job(3)).unwrap();
    let panic = catch_unwind(AssertUnwindSafe(|| txn.rollback_to(&foreign))).unwrap_err();
    let message = panic.downcast_ref::<&str>().unwrap();
    assert_eq!(*message, "the savepoint belongs to another transaction");
    assert_eq!(ids(txn.table::<Job>().iter()), [1, 2, 3]);
    let other = with_jobs([job(1)]);
    let foreign = other.write().savepoint();
    assert!(catch_unwind(AssertUnwindSafe(|| txn.rollback_to(&foreign))).is_err());
}

fn kinds(changes: &[Change]) -> Vec<(String, String, ChangeKind)> {
    let kind = |change: &Change| (change.table().to_owned(), change.printed_key(), change.kind());
    changes.iter().map(kind).collect()
}

#[test]
fn changes_fold_to_one_net_change_a_row_in_the_order_of_tables_and_keys() {
    let db = with_jobs([job(1), job(2), job(3), job(4)]);
    let mut txn = db.write();
    txn.insert(node(5)).unwrap();
    // Twice updated, updated and deleted, deleted and made anew, inserted and updated, inserted
    // and deleted.
    for priority in [1, 2] {
        txn.table_mut::<Job>().update(&4, |job| job.priority = priority).unwrap();
    }
    txn.table_mut::<Job>().update(&2, |job| job.priority = 1).unwrap();
    txn.table_mut::<Job>().delete(&2);
    txn.table_mut::<Job>().delete(&1);
    txn.insert(Job { priority: 8, ..job(1) }).unwrap();
    txn.insert(job(9)).unwrap();
    txn.upsert(Job { priority: 9, ..job(9) }).unwrap();
    txn.insert(job(7)).unwrap();
    txn.table_mut::<Job>().delete(&7);
    let changes = txn.changes();
    let named = |table: &str, key: &str, kind| (table.to_owned(), key.to_owned(), kind);
    let expected = [
        named("jobs", "1", ChangeKind::Updated),
        named("jobs", "2", ChangeKind::Deleted),
        named("jobs", "4", ChangeKind::Updated),
        named("jobs", "9", ChangeKind::Created),
        named("nodes", "5", ChangeKind::Created),
    ];
    assert_eq!(kinds(&changes), expected);
    let [first, second, third, fourth, fifth] = changes.as_slice() else { unreachable!() };
    assert_eq!(first.before::<Job>().unwrap().priority, 0);
    assert_eq!(first.after::<Job>().unwrap().priority, 8);
    assert!(second.after::<Job>().is_none() && second.before::<Job>().unwrap().priority == 0);
    assert_eq!(third.before::<Job>().unwrap().priority, 0);
    assert_eq!(third.after::<Job>().unwrap().priority, 2);
    assert!(fourth.before::<Job>().is_none() && fourth.after::<Job>().unwrap().priority == 9);
    assert!(fifth.is_in::<Node>() && !fifth.is_in::<Job>() && fifth.after::<Job>().is_none());
    assert_eq!(fsmdb::decode::<u64>(fifth.key()), Ok(5));
}

/// go-memdb: `Changes` was nil after an abort and per transaction only.
#[test]
fn changes_are_the_same_before_and_after_the_commit() {
    let db = with_jobs([job(1)]);
    let seen = RefCell::new(Vec::new());
    let mut txn = db.write();
    txn.table_mut::<Job>().update(&1, |job| job.priority = 1).unwrap();
    txn.insert(job(2)).unwrap();
    let before = kinds(&txn.changes());
    txn.after_commit(|committed| *seen.borrow_mut() = kinds(&committed.changes));
    txn.commit();
    assert_eq!(*seen.borrow(), before);
    assert_eq!(before.len(), 2);
}

#[test]
fn hooks_run_in_order_after_publication_with_the_lock_released() {
    let db = empty();
    let order = RefCell::new(Vec::new());
    let mut txn = db.write();
    for hook in 0..3 {
        let (db, order) = (&db, &order);
        txn.after_commit(move |committed| {
            assert_eq!(db.revision(), committed.revision);
            assert_eq!(db.read().table::<Job>().len(), 1);
            assert_eq!(committed.changes.len(), 1);
            assert!(db.try_write().is_ok(), "a hook may write");
            order.borrow_mut().push(hook);
        });
    }
    txn.insert(job(1)).unwrap();
    assert!(order.borrow().is_empty());
    txn.commit();
    assert_eq!(*order.borrow(), [0, 1, 2]);
}

#[test]
fn a_hook_may_commit_a_transaction_of_its_own() {
    let db = empty();
    let mut txn = db.write();
    txn.insert(job(1)).unwrap();
    txn.after_commit(|_| commit(&db, |txn| drop(txn.insert(job(2)).unwrap())));
    assert_eq!(txn.commit(), Revision(1));
    assert_eq!((db.revision(), db.read().table::<Job>().len()), (Revision(2), 2));
}

#[test]
fn hooks_do_not_run_when_the_transaction_rolls_back_or_panics() {
    let db = empty();
    let called = RefCell::new(0);
    let mut txn = db.write();
    txn.after_commit(|_| *called.borrow_mut() += 1);
    drop(txn);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut txn = db.write();
        txn.after_commit(|_| *called.borrow_mut() += 1);
        panic!("user code");
    }));
    assert!(panicked.is_err());
    assert_eq!(*called.borrow(), 0);
}

#[test]
fn a_panic_in_a_hook_comes_after_the_commit_and_frees_the_writer() {
    let db = empty();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut txn = db.write();
        txn.insert(job(1)).unwrap();
        txn.after_commit(|_| panic!("a hook"));
        txn.commit();
    }));
    assert!(panicked.is_err());
    assert_eq!(db.revision(), Revision(1));
    assert!(db.try_write().is_ok());
}

/// bbolt, go-memdb: deleting while iterating skipped rows or panicked.
#[test]
fn rows_can_be_deleted_while_they_are_iterated() {
    let db = with_jobs((0..500).map(|id| Job { deployment: Some(id % 7), ..job(id) }));
    let mut txn = db.write();
    let view = txn.snapshot();
    let mut met = 0;
    for row in view.table::<Job>().iter() {
        met += 1;
        assert!(txn.table_mut::<Job>().delete(&row.id).is_some());
        // Also the neighbour that comes next, and new rows that must not be met.
        txn.table_mut::<Job>().delete(&(row.id + 1));
        txn.upsert(Job { slot: 5000 + met, ..job(row.id + 1) }).unwrap();
    }
    assert_eq!(met, 500);
    assert_eq!(ids(txn.table::<Job>().iter()), [500]);
    for row in view.table::<Job>().index(Job::BY_DEPLOYMENT).get(&3).rev() {
        txn.upsert(Job { deployment: Some(3), slot: 9000, ..job(row.id) }).unwrap();
        txn.table_mut::<Job>().delete(&row.id);
    }
    assert_eq!(view.table::<Job>().len(), 500);
    txn.snapshot().check().unwrap();
}

#[test]
fn the_snapshot_of_a_transaction_does_not_change_with_it_and_outlives_it() {
    let db = with_jobs([job(1)]);
    let mut txn = db.write();
    txn.insert(job(2)).unwrap();
    let view = txn.snapshot();
    assert_eq!(view.revision(), txn.revision());
    txn.table_mut::<Job>().delete_all(..);
    drop(txn);
    assert_eq!(ids(view.table::<Job>().iter()), [1, 2]);
    assert_eq!(ids(db.read().table::<Job>().iter()), [1]);
    view.check().unwrap();
}

#[test]
fn a_large_transaction_commits_whole() {
    let db = empty();
    commit(&db, |txn| (0..10_000).for_each(|id| drop(txn.insert(node(id)).unwrap())));
    let snap = db.read();
    assert_eq!(snap.table::<Node>().len(), 10_000);
    assert_eq!(snap.table::<Node>().index(Node::BY_NAME).get("node-9999").unwrap().id, 9999);
    let mut txn = db.write();
    assert_eq!(txn.table_mut::<Node>().delete_all(5_000..), 5_000);
    assert_eq!(txn.changes().len(), 5_000);
    txn.commit();
    db.check().unwrap();
}

#[test]
fn what_is_printed_for_debugging_is_short_and_says_where_it_stands() {
    let db = with_jobs([job(1)]);
    let mut txn = db.write();
    txn.insert(job(2)).unwrap();
    assert_eq!(format!("{txn:?}"), "WriteTxn { revision: 2, statements: 1, .. }");
    assert_eq!(format!("{:?}", txn.savepoint()), "Savepoint { statements: 1, .. }");
    assert_eq!(format!("{:?}", txn.table::<Job>()), "TableReader { table: \"jobs\", rows: 2 }");
    let change = txn.changes().remove(0);
    assert_eq!(format!("{change:?}"), "Change { table: \"jobs\", key: \"2\", kind: Created }");
}
