//! Watches and waits for a revision: nobody misses what happens while it enters, and nobody is told
//! of what it has read.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use fsmdb::{Db, Revision, Snapshot, WaitError, Wake, Watch};
use loom::thread;

use crate::rows::{Left, Right, assert_nobody_waits, database, file_of, put};
use crate::traced::{commit_traced, read_traced, traced_database};
use crate::{commit, file_with, model, value};

/// The value, and a watch on it.
fn watch(snap: &Snapshot) -> (u8, Watch) {
    snap.watch(|read| read.table::<Left>().get(&0_u8).map_or(0, |row| row.value))
}

/// A thread that watches the value, and waits if it has read the `old` one.
fn watcher(db: &Db, old: u8) -> thread::JoinHandle<(u8, Watch)> {
    let db = db.clone();
    thread::spawn(move || {
        let (seen, watch) = watch(&db.read());
        if seen == old {
            assert_eq!(watch.wait(None), Some(Wake::Changed));
            assert_ne!(value(&db.read()), old, "told before it can be seen");
        }
        (seen, watch)
    })
}

/// A watch has ended if it read the `old` value, and only then.
fn assert_ended(watcher: thread::JoinHandle<(u8, Watch)>, old: u8) {
    let (seen, watch) = watcher.join().unwrap();
    assert_eq!(watch.ended(), (seen == old).then_some(Wake::Changed));
}

#[test]
fn a_commit_ends_the_watches_that_read_before_it_and_no_other() {
    model(|| {
        let db = database();
        let watchers = [watcher(&db, 0), watcher(&db, 0)];
        commit(&db, 1);
        watchers.into_iter().for_each(|watcher| assert_ended(watcher, 0));
        assert_nobody_waits(&db);
    });
}

#[test]
fn a_loop_of_reading_and_waiting_comes_to_the_last_value() {
    model(|| {
        let db = database();
        let reader = {
            let db = db.clone();
            thread::spawn(move || {
                loop {
                    let (seen, watch) = watch(&db.read());
                    if seen == 2 {
                        return;
                    }
                    assert_eq!(watch.wait(None), Some(Wake::Changed));
                }
            })
        };
        commit(&db, 1);
        commit(&db, 2);
        reader.join().unwrap();
        assert_nobody_waits(&db);
    });
}

#[test]
fn a_change_of_something_else_ends_no_watch() {
    model(|| {
        let db = database();
        let watcher = {
            let db = db.clone();
            thread::spawn(move || watch(&db.read()).1)
        };
        let mut txn = db.write();
        put(&mut txn, 1, 1);
        txn.commit();
        let watch = watcher.join().unwrap();
        assert_eq!(watch.ended(), None);
        assert_eq!(db.waiting().watches, 1);
        drop(watch);
        assert_nobody_waits(&db);
    });
}

#[test]
fn of_two_writers_the_one_that_changes_what_was_read_ends_the_watch() {
    model(|| {
        let db = database();
        let (_, lefts) = db.read().watch(|read| read.table::<Left>().len());
        let (_, first) = db.read().watch(|read| read.table::<Right>().get(&0_u8).is_some());
        let other = {
            let db = db.clone();
            thread::spawn(move || {
                let mut txn = db.write();
                put(&mut txn, 1, 1);
                txn.commit();
            })
        };
        let waiter = thread::spawn(move || first.wait(None));
        commit(&db, 1);
        assert_eq!(waiter.join().unwrap(), Some(Wake::Changed));
        other.join().unwrap();
        assert_eq!(lefts.ended(), Some(Wake::Changed));
        assert_nobody_waits(&db);
    });
}

#[test]
fn a_restore_ends_the_watches_that_read_before_it_and_no_other() {
    model(|| {
        let file = file_with(9);
        let db = database();
        commit(&db, 1);
        let watchers = [watcher(&db, 1), watcher(&db, 1)];
        db.restore(file.as_slice()).unwrap();
        watchers.into_iter().for_each(|watcher| assert_ended(watcher, 1));
        assert_nobody_waits(&db);
    });
}

#[test]
fn a_restore_of_what_is_there_ends_no_watch_and_a_later_commit_does() {
    model(|| {
        let db = database();
        commit(&db, 1);
        let file = file_of(&db);
        let watcher = {
            let db = db.clone();
            thread::spawn(move || watch(&db.read()).1)
        };
        db.restore(file.as_slice()).unwrap();
        let watch = watcher.join().unwrap();
        assert_eq!(watch.ended(), None);
        commit(&db, 2);
        assert_eq!(watch.ended(), Some(Wake::Changed));
        assert_nobody_waits(&db);
    });
}

#[test]
fn a_watch_can_be_dropped_while_a_commit_ends_it() {
    model(|| {
        let db = database();
        let (_, first) = watch(&db.read());
        let (_, second) = watch(&db.read());
        let dropper = thread::spawn(move || drop(first));
        let reader = {
            let db = db.clone();
            thread::spawn(move || drop(watch(&db.read())))
        };
        commit(&db, 1);
        dropper.join().unwrap();
        reader.join().unwrap();
        assert_eq!(second.ended(), Some(Wake::Changed));
        assert_nobody_waits(&db);
    });
}

#[test]
fn two_threads_wait_with_one_watch() {
    model(|| {
        let db = database();
        let (_, watch) = watch(&db.read());
        let watch = std::sync::Arc::new(watch);
        let waiters = [watch.clone(), watch]
            .map(|watch| thread::spawn(move || assert_eq!(watch.wait(None), Some(Wake::Changed))));
        commit(&db, 1);
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        assert_nobody_waits(&db);
    });
}

/// A thread that waits for a revision.
fn waiter(db: &Db, wanted: u64) -> thread::JoinHandle<()> {
    let wait = db.wait_for(Revision(wanted));
    thread::spawn(move || {
        let snap = wait.wait(None).unwrap();
        assert!(snap.revision() >= Revision(wanted));
        assert_eq!(u64::from(value(&snap)), snap.revision().0);
    })
}

#[test]
fn waits_end_with_the_commit_that_reaches_their_revision() {
    model(|| {
        let db = database();
        let waiters = [waiter(&db, 1), waiter(&db, 2)];
        commit(&db, 1);
        commit(&db, 2);
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        assert_nobody_waits(&db);
    });
}

#[test]
fn a_restore_reaches_a_revision_too() {
    model(|| {
        let source = database();
        commit(&source, 1);
        commit(&source, 2);
        let file = file_of(&source);
        let db = database();
        let waiters = [waiter(&db, 1), waiter(&db, 2)];
        db.restore(file.as_slice()).unwrap();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        assert_nobody_waits(&db);
    });
}

#[test]
fn a_restore_that_goes_back_does_not_strand_a_wait() {
    model(|| {
        let db = database();
        let file = file_of(&db);
        let waiter = {
            let wait = db.wait_for(Revision(1));
            thread::spawn(move || assert!(wait.wait(None).unwrap().revision() >= Revision(1)))
        };
        commit(&db, 1);
        db.restore(file.as_slice()).unwrap();
        commit(&db, 2);
        waiter.join().unwrap();
        assert_nobody_waits(&db);
    });
}

#[test]
fn a_wait_can_be_given_up_while_a_commit_reaches_it() {
    model(|| {
        let db = database();
        // A task that waits, and is dropped.
        let task = {
            let wait = db.wait_for(Revision(1));
            thread::spawn(move || {
                let mut wait = pin!(wait);
                let _ = wait.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            })
        };
        // A thread whose time has passed.
        let thread = {
            let wait = db.wait_for(Revision(1));
            thread::spawn(move || match wait.wait(Duration::ZERO) {
                Ok(snap) => assert_eq!(value(&snap), 1),
                Err(error) => assert!(matches!(error, WaitError::TimedOut { .. })),
            })
        };
        commit(&db, 1);
        task.join().unwrap();
        thread.join().unwrap();
        assert_nobody_waits(&db);
    });
}

#[test]
fn the_end_of_the_database_ends_watches_and_waits() {
    model(|| {
        let db = database();
        let snap = db.read();
        let watcher = thread::spawn(move || {
            let (_, watch) = watch(&snap);
            assert_eq!(watch.wait(None), Some(Wake::Closed));
        });
        let waiter = {
            let wait = db.wait_for(Revision(1));
            thread::spawn(move || {
                let closed = WaitError::Closed { wanted: Revision(1) };
                assert_eq!(wait.wait(None).unwrap_err(), closed);
            })
        };
        drop(db);
        watcher.join().unwrap();
        waiter.join().unwrap();
    });
}

#[test]
fn who_waits_when_the_database_ends_after_a_commit_gets_the_version_or_learns_of_the_end() {
    model(|| {
        let db = traced_database();
        let first = commit_traced(&db, 1);
        let early = db.read();
        // What threads have together by an `Arc` of `std` may go only after both have ended.
        let kept = db.changes();
        let waiter = {
            let wait = db.wait_for(Revision(2));
            thread::spawn(move || match wait.wait(None) {
                Ok(snap) => assert_eq!(read_traced(&snap), 2),
                Err(error) => assert_eq!(error, WaitError::Closed { wanted: Revision(2) }),
            })
        };
        let second = commit_traced(&db, 2);
        drop(db);
        waiter.join().unwrap();
        assert!(!first.is(), "freed while it was held");
        assert_eq!(read_traced(&early), 1);
        drop((early, kept));
        assert!(first.is() && second.is());
    });
}

#[test]
fn a_watch_dropped_beside_the_end_of_the_database_leaves_no_trouble() {
    model(|| {
        let db = database();
        let (_, first) = watch(&db.read());
        let (_, second) = watch(&db.read());
        let dropper = thread::spawn(move || drop(first));
        let waiter = thread::spawn(move || assert_eq!(second.wait(None), Some(Wake::Closed)));
        drop(db);
        dropper.join().unwrap();
        waiter.join().unwrap();
    });
}
