//! Who frees what, and that nobody reads it any more.

use loom::thread;

use crate::rows::{Left, database};
use crate::traced::{Trace, Traced, commit_traced, put_traced, read_traced, traced_database};
use crate::{commit, model};

#[test]
fn three_commits_free_what_two_readers_have_left_and_nothing_else() {
    model(|| {
        let db = traced_database();
        let first = commit_traced(&db, 1);
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let db = db.clone();
                thread::spawn(move || {
                    let snap = db.read();
                    assert_eq!(u64::from(read_traced(&snap)), snap.revision().0);
                })
            })
            .collect();
        let [second, third, fourth] = [2, 3, 4].map(|value| commit_traced(&db, value));
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        assert!(!fourth.is());
        assert_eq!(read_traced(&db.read()), 4);
        let last = commit_traced(&db, 5);
        assert!(first.is() && second.is() && third.is() && fourth.is() && !last.is());
    });
}

#[test]
fn a_reader_of_two_versions_keeps_each_until_it_drops_it() {
    model(|| {
        let db = traced_database();
        let first = commit_traced(&db, 1);
        let early = db.read();
        let reader = {
            let db = db.clone();
            thread::spawn(move || {
                let late = db.read();
                let value = read_traced(&late);
                assert_eq!(read_traced(&early), 1);
                drop(early);
                assert_eq!(read_traced(&late), value);
            })
        };
        let [second, third] = [2, 3].map(|value| commit_traced(&db, value));
        reader.join().unwrap();
        let last = commit_traced(&db, 4);
        assert!(first.is() && second.is() && third.is() && !last.is());
    });
}

#[test]
fn what_holders_see_is_freed_after_the_last_of_them_and_by_the_next_commit() {
    model(|| {
        let db = traced_database();
        let first = commit_traced(&db, 1);
        let released = loom::sync::Arc::new(loom::sync::atomic::AtomicU64::new(0));
        let snap = db.read();
        let holders = [snap.clone(), snap].map(|snap| {
            let released = released.clone();
            thread::spawn(move || {
                assert_eq!(read_traced(&snap), 1);
                released.fetch_add(1, loom::sync::atomic::Ordering::Relaxed);
                drop(snap);
            })
        });
        let [second, third] = [2, 3].map(|value| commit_traced(&db, value));
        if first.is() {
            let released = released.load(loom::sync::atomic::Ordering::Relaxed);
            assert_eq!(released, 2, "freed while it was held");
        }
        holders.into_iter().for_each(|holder| holder.join().unwrap());
        let last = commit_traced(&db, 4);
        assert!(first.is() && second.is() && third.is() && !last.is());
    });
}

#[test]
fn a_row_that_two_versions_share_waits_for_both() {
    model(|| {
        let db = traced_database();
        let shared = commit_traced(&db, 1);
        let early = db.read();
        let mut txn = db.write();
        txn.upsert(Traced { id: 1, value: 0, trace: Trace::default() }).unwrap();
        txn.commit();
        let late = db.read();
        let other = thread::spawn(move || {
            assert_eq!(read_traced(&early), 1);
            early
        });
        let one = thread::spawn(move || assert_eq!(read_traced(&late), 1));
        commit_traced(&db, 3);
        commit_traced(&db, 4);
        one.join().unwrap();
        commit_traced(&db, 5);
        let early = other.join().unwrap();
        assert!(!shared.is(), "freed while it was held");
        assert_eq!(read_traced(&early), 1);
        drop(early);
        commit_traced(&db, 6);
        assert!(shared.is());
    });
}

#[test]
fn the_last_holder_drops_while_another_clones() {
    model(|| {
        let db = traced_database();
        let first = commit_traced(&db, 1);
        let snap = db.read();
        let dropper = {
            let snap = snap.clone();
            thread::spawn(move || assert_eq!(read_traced(&snap), 1))
        };
        let cloner = thread::spawn(move || {
            let copy = snap.clone();
            drop(snap);
            assert_eq!(read_traced(&copy), 1);
            copy
        });
        commit_traced(&db, 2);
        dropper.join().unwrap();
        let copy = cloner.join().unwrap();
        commit_traced(&db, 3);
        assert!(!first.is(), "freed while it was held");
        assert_eq!(read_traced(&copy), 1);
        drop(copy);
        commit_traced(&db, 4);
        assert!(first.is());
    });
}

#[test]
fn versions_outlive_the_database_and_the_last_of_them_frees_all() {
    model(|| {
        let db = traced_database();
        let first = commit_traced(&db, 1);
        let early = db.read();
        let second = commit_traced(&db, 2);
        let late = db.read();
        let one = thread::spawn(move || assert_eq!(read_traced(&early), 1));
        let other = thread::spawn(move || assert_eq!(read_traced(&late), 2));
        let third = commit_traced(&db, 3);
        drop(db);
        one.join().unwrap();
        other.join().unwrap();
        assert!(first.is() && second.is() && third.is());
    });
}

#[test]
fn a_shared_row_outlives_its_version_and_frees_itself() {
    // The count of handles on a row is not modelled, so this row has no modelled cell.
    model(|| {
        let db = database();
        commit(&db, 1);
        let snap = db.read();
        let token = snap.table::<Left>().get(&0_u8).unwrap().token.end();
        let reader = thread::spawn(move || {
            let row = snap.table::<Left>().get(&0_u8).unwrap().share();
            drop(snap);
            let copy = row.clone();
            drop(row);
            assert_eq!((copy.value, copy.token.value()), (1, 1));
            copy
        });
        commit(&db, 2);
        commit(&db, 3);
        let row = reader.join().unwrap();
        commit(&db, 4);
        assert_eq!((row.value, row.token.value()), (1, 1));
        drop(db);
        assert!(token.upgrade().is_some(), "freed while it was shared");
        drop(row);
        assert!(token.upgrade().is_none(), "the last handle did not free the row");
    });
}

#[test]
fn a_view_of_a_transaction_outlives_its_rollback() {
    model(|| {
        let db = traced_database();
        let first = commit_traced(&db, 1);
        let mut txn = db.write();
        let discarded = put_traced(&mut txn, 9);
        let view = txn.snapshot();
        let reader = thread::spawn(move || assert_eq!(read_traced(&view), 9));
        drop(txn);
        assert_eq!(read_traced(&db.read()), 1);
        commit_traced(&db, 2);
        reader.join().unwrap();
        let last = commit_traced(&db, 3);
        assert!(first.is() && discarded.is() && !last.is());
    });
}

#[test]
fn after_a_restore_the_old_rows_go_with_their_last_holder() {
    model(|| {
        let source = traced_database();
        commit_traced(&source, 7);
        let mut file = Vec::new();
        source.read().save(&mut file).unwrap();
        drop(source);
        let db = traced_database();
        let first = commit_traced(&db, 1);
        let reader = {
            let db = db.clone();
            thread::spawn(move || assert!([1, 7, 8].contains(&read_traced(&db.read()))))
        };
        db.restore(file.as_slice()).unwrap();
        let last = commit_traced(&db, 8);
        reader.join().unwrap();
        assert!(first.is() && !last.is());
        assert_eq!(read_traced(&db.read()), 8);
    });
}
