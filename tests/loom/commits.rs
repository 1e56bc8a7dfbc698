//! Who holds the writer, what is published when, and what readers and handles see of it.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use fsmdb::{Applied, Db, Fsm, Machine, Revision, WriteError, WriteTxn};
use loom::thread;

use crate::rows::{Left, database, put};
use crate::{commit, file_with, model, value};

#[test]
fn readers_see_whole_commits_in_order() {
    model(|| {
        let db = database();
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let db = db.clone();
                thread::spawn(move || {
                    let (first, second) = (db.read(), db.read());
                    assert!(first.revision() <= second.revision());
                    assert!(value(&first) <= value(&second));
                    assert_eq!(u64::from(value(&second)), second.revision().0);
                })
            })
            .collect();
        commit(&db, 1);
        commit(&db, 2);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}

#[test]
fn an_acknowledged_commit_is_visible_to_whoever_hears_of_it() {
    model(|| {
        let db = database();
        let acknowledged = loom::sync::Arc::new(loom::sync::atomic::AtomicU64::new(0));
        let reader = {
            let (db, acknowledged) = (db.clone(), acknowledged.clone());
            thread::spawn(move || {
                let heard = acknowledged.load(loom::sync::atomic::Ordering::Acquire);
                assert!(db.read().revision().0 >= heard);
            })
        };
        let revision = commit(&db, 1);
        acknowledged.store(revision.0, loom::sync::atomic::Ordering::Release);
        reader.join().unwrap();
    });
}

#[test]
fn the_last_holder_of_a_version_can_drop_it_while_the_next_is_published() {
    model(|| {
        let db = database();
        commit(&db, 1);
        let snap = db.read();
        let dropper = thread::spawn(move || {
            assert_eq!(value(&snap), 1);
            drop(snap);
        });
        commit(&db, 2);
        drop(db);
        dropper.join().unwrap();
    });
}

#[test]
fn writers_take_turns_and_lose_nothing() {
    model(|| {
        let db = database();
        let other = {
            let db = db.clone();
            thread::spawn(move || increment(&db))
        };
        increment(&db);
        other.join().unwrap();
        assert_eq!(value(&db.read()), 2);
        assert_eq!(db.revision(), Revision(2));
    });
}

fn increment(db: &Db) {
    let mut txn = db.write();
    let now = txn.table::<Left>().get(&0_u8).map_or(0, |row| row.value);
    put(&mut txn, 0, now + 1);
    txn.commit();
}

#[test]
fn a_panic_in_the_writer_publishes_nothing_and_lets_the_next_one_in() {
    model(|| {
        let db = database();
        let reader = {
            let db = db.clone();
            thread::spawn(move || assert_ne!(value(&db.read()), 1))
        };
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let mut txn = db.write();
            put(&mut txn, 0, 1);
            // Without the hook, which would print it.
            resume_unwind(Box::new("planned"));
        }));
        assert!(panicked.is_err());
        assert_eq!(commit(&db, 2), Revision(1));
        reader.join().unwrap();
        assert_eq!(value(&db.read()), 2);
    });
}

#[test]
fn a_restore_is_seen_whole_and_holders_keep_what_they_have() {
    model(|| {
        let file = file_with(9);
        let db = database();
        commit(&db, 1);
        let held = db.read();
        let reader = {
            let db = db.clone();
            thread::spawn(move || assert!([1, 9].contains(&value(&db.read()))))
        };
        db.restore(file.as_slice()).unwrap();
        assert_eq!((value(&held), value(&db.read())), (1, 9));
        reader.join().unwrap();
    });
}

struct Nothing;

impl Fsm for Nothing {
    type Command = ();
    type Reply = ();

    fn apply(&self, _: &mut WriteTxn<'_>, _: Applied, (): ()) {}
}

#[test]
fn a_machine_takes_over_between_transactions_and_never_inside_one() {
    model(|| {
        let db = database();
        let owner = {
            let db = db.clone();
            thread::spawn(move || {
                // Refused when the other thread has written before.
                let Ok(machine) = Machine::new(db, Nothing) else { return };
                machine.skip(Applied { index: 1, term: 1 }).unwrap();
                assert_eq!(machine.read().revision(), Revision(1));
                assert_eq!(value(&machine.read()), 0, "somebody wrote past the log");
            })
        };
        match db.try_write() {
            Ok(mut txn) => {
                put(&mut txn, 0, 7);
                txn.commit();
            }
            Err(error) => {
                assert!(matches!(error, WriteError::Busy | WriteError::OwnedByMachine));
            }
        }
        owner.join().unwrap();
    });
}

#[test]
fn try_write_is_busy_or_alone_and_the_lock_is_free_in_the_end() {
    model(|| {
        let db = database();
        let other = {
            let db = db.clone();
            thread::spawn(move || match db.try_write() {
                Ok(mut txn) => {
                    put(&mut txn, 0, 5);
                    txn.commit();
                    true
                }
                Err(error) => {
                    assert_eq!(error, WriteError::Busy);
                    false
                }
            })
        };
        drop(db.write());
        let revision = commit(&db, 6);
        let wrote = other.join().unwrap();
        assert_eq!(db.revision(), Revision(1 + u64::from(wrote)));
        assert_eq!(value(&db.read()), if revision == db.revision() { 6 } else { 5 });
        assert!(db.try_write().is_ok());
    });
}

#[test]
fn three_writers_wait_for_each_other_and_none_is_forgotten() {
    model(|| {
        let db = database();
        let others: Vec<_> = (0..2)
            .map(|_| {
                let db = db.clone();
                thread::spawn(move || increment(&db))
            })
            .collect();
        increment(&db);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!((value(&db.read()), db.revision()), (3, Revision(3)));
    });
}

#[test]
fn the_last_holder_of_a_version_frees_its_rows() {
    model(|| {
        let db = database();
        commit(&db, 1);
        let snap = db.read();
        let row = snap.table::<Left>().get(&0_u8).unwrap().token.end();
        let holder = {
            let snap = snap.clone();
            thread::spawn(move || assert_eq!(value(&snap), 1))
        };
        drop(snap);
        commit(&db, 2);
        holder.join().unwrap();
        // The writer frees what the version kept when it next comes by.
        commit(&db, 3);
        assert!(row.upgrade().is_none(), "somebody still holds the row of a version that is gone");
    });
}

#[test]
fn a_restore_does_not_mix_with_a_commit() {
    model(|| {
        let file = file_with(9);
        let db = database();
        let restoring = {
            let db = db.clone();
            thread::spawn(move || db.restore(file.as_slice()).unwrap())
        };
        let before = increment_and_see(&db);
        restoring.join().unwrap();
        // Commit and then restore, or restore and then commit.
        assert!([0, 9].contains(&before));
        assert_eq!(value(&db.read()), if before == 0 { 9 } else { 10 });
        db.check().unwrap();
    });
}

/// The value before one was added to it.
fn increment_and_see(db: &Db) -> u8 {
    let mut txn = db.write();
    let before = txn.table::<Left>().get(&0_u8).map_or(0, |row| row.value);
    put(&mut txn, 0, before + 1);
    txn.commit();
    before
}

#[test]
fn of_two_machines_one_gets_the_database() {
    model(|| {
        let db = database();
        let other = {
            let db = db.clone();
            thread::spawn(move || Machine::new(db, Counter).ok())
        };
        let one = Machine::new(db.clone(), Counter).ok();
        let other = other.join().unwrap();
        assert!(one.is_some() != other.is_some(), "neither or both");
        drop((one, other));
        assert!(db.try_write().is_ok(), "the database is free again");
    });
}

/// Writes the index of the entry into both tables, and refuses every second one.
struct Counter;

impl Fsm for Counter {
    type Command = ();
    type Reply = Result<(), ()>;

    fn apply(&self, txn: &mut WriteTxn<'_>, at: Applied, (): ()) -> Self::Reply {
        let index = u8::try_from(at.index).unwrap();
        put(txn, 0, index);
        if index.is_multiple_of(2) { Err(()) } else { Ok(()) }
    }
}

fn apply(machine: &Machine<Counter>, index: u64) {
    let entry = Machine::<Counter>::encode(&()).unwrap();
    machine.apply(Applied { index, term: 1 }, &entry).unwrap().unwrap().ok();
}

#[test]
fn readers_see_the_applied_position_with_the_data_of_its_entry() {
    model(|| {
        let machine = Machine::new(database(), Counter).unwrap();
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let db = machine.db().clone();
                thread::spawn(move || {
                    let snap = db.read();
                    let applied = snap.applied().index;
                    assert_eq!(u64::from(value(&snap)), [0, 1, 1, 3][applied as usize]);
                    assert_eq!(snap.revision().0, applied);
                })
            })
            .collect();
        (1..=3).for_each(|index| apply(&machine, index));
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}

#[test]
fn an_install_is_seen_whole_and_never_goes_back() {
    model(|| {
        let source = Machine::new(database(), Counter).unwrap();
        (1..=3).for_each(|index| apply(&source, index));
        let mut file = Vec::new();
        source.read().save(&mut file).unwrap();
        let machine = Machine::new(database(), Counter).unwrap();
        apply(&machine, 1);
        let reader = {
            let db = machine.db().clone();
            thread::spawn(move || {
                let (first, second) = (db.read(), db.read());
                assert!(first.applied() <= second.applied());
                for snap in [&first, &second] {
                    let applied = snap.applied().index;
                    assert_eq!(u64::from(value(snap)), [0, 1, 1, 3, 3, 5][applied as usize]);
                }
            })
        };
        machine.install(file.as_slice()).unwrap();
        apply(&machine, 4);
        apply(&machine, 5);
        reader.join().unwrap();
        assert_eq!((value(&machine.read()), machine.applied().index), (5, 5));
    });
}
