//! Every interleaving, within a bound of pre-emptions, of the threads that share a database.
//!
//! `RUSTFLAGS="--cfg fsmdb_loom" cargo test --release --no-default-features --features derive
//! --test loom`; `LOOM_MAX_PREEMPTIONS` raises the bound from 3.
//!
//! Under this cfg the published root stands in a modelled lock (see `src/root.rs`), so the models
//! are of the protocol above the cell: who holds the writer, what is published when, and what
//! readers and handles see of it. Rows and tree nodes never change once published, and stay out.
//! In the models of the engine, at the end, rows carry a modelled cell that whoever frees them
//! writes: a free that is not ordered after every read is found by `loom` itself.

#![cfg(fsmdb_loom)]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use fsmdb::{Applied, Db, Fsm, Machine, Revision, Snapshot, Table, WriteError, WriteTxn};
use loom::thread;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "lefts")]
struct Left {
    #[key]
    id: u8,
    #[index]
    value: u8,
    /// By which the end of the row can be seen.
    token: std::sync::Arc<u8>,
}

#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "rights")]
struct Right {
    #[key]
    id: u8,
    value: u8,
}

fn model(body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(3);
    // Not of the model.
    let executions = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counter = executions.clone();
    builder.check(move || {
        counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        body();
    });
    println!("{} executions", executions.load(std::sync::atomic::Ordering::Relaxed));
}

fn database() -> Db {
    Db::builder().table::<Left>().table::<Right>().build().unwrap()
}

/// Writes the same value to both tables.
fn write_both(txn: &mut WriteTxn<'_>, value: u8) {
    txn.upsert(Left { id: 0, value, token: std::sync::Arc::new(value) }).unwrap();
    txn.upsert(Right { id: 0, value }).unwrap();
}

fn commit(db: &Db, value: u8) -> Revision {
    let mut txn = db.write();
    write_both(&mut txn, value);
    txn.commit()
}

/// The value, which both tables and the index must agree on.
fn value(snap: &Snapshot) -> u8 {
    let left = snap.table::<Left>().get(&0_u8).map_or(0, |row| row.value);
    let right = snap.table::<Right>().get(&0_u8).map_or(0, |row| row.value);
    assert_eq!(left, right, "half a commit is visible");
    assert_eq!(
        snap.table::<Left>().index(Left::BY_VALUE).get(&left).count(),
        usize::from(left > 0)
    );
    left
}

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
    write_both(&mut txn, now + 1);
    txn.commit();
}

#[test]
fn a_panic_in_the_writer_publishes_nothing_and_lets_the_next_one_in() {
    // The panic is the test's own, so its message is noise.
    std::panic::set_hook(Box::new(|info| {
        if !info.to_string().contains("planned") {
            eprintln!("{info}");
        }
    }));
    model(|| {
        let db = database();
        let reader = {
            let db = db.clone();
            thread::spawn(move || assert_ne!(value(&db.read()), 1))
        };
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let mut txn = db.write();
            write_both(&mut txn, 1);
            resume_unwind(Box::new("planned"));
        }));
        assert!(panicked.is_err());
        assert_eq!(commit(&db, 2), Revision(1));
        reader.join().unwrap();
        assert_eq!(value(&db.read()), 2);
    });
    drop(std::panic::take_hook());
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

/// A snapshot file of a database of its own.
fn file_with(value: u8) -> Vec<u8> {
    let db = database();
    commit(&db, value);
    let mut file = Vec::new();
    db.read().save(&mut file).unwrap();
    file
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
                write_both(&mut txn, 7);
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
                    write_both(&mut txn, 5);
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
        let row = std::sync::Arc::downgrade(&snap.table::<Left>().get(&0_u8).unwrap().token);
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
    write_both(&mut txn, before + 1);
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
        write_both(txn, index);
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

/// A modelled cell that readers read and that whoever frees the row writes.
#[derive(Debug)]
struct Trace(std::sync::Arc<loom::cell::UnsafeCell<u8>>);

// SAFETY: loom lets one thread run at a time and reports accesses that are not ordered.
unsafe impl Send for Trace {}
// SAFETY: as above.
unsafe impl Sync for Trace {}

impl Default for Trace {
    fn default() -> Self {
        Self(std::sync::Arc::new(loom::cell::UnsafeCell::new(0)))
    }
}

impl Clone for Trace {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Trace {
    fn read(&self) {
        // SAFETY: not written before the row is dropped, which the model proves.
        self.0.with(|cell| assert_eq!(unsafe { *cell }, 0, "a freed row was read"));
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // SAFETY: nobody reads a row that is dropped, which the model proves.
        self.0.with_mut(|cell| unsafe { *cell = 1 });
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "traced")]
struct Traced {
    #[key]
    id: u8,
    value: u8,
    #[serde(skip)]
    trace: Trace,
}

fn traced_database() -> Db {
    Db::builder().table::<Traced>().build().unwrap()
}

/// Puts in the one row, or replaces it; gives the means to ask whether it has been freed.
fn put_traced(txn: &mut WriteTxn<'_>, value: u8) -> Freed {
    let trace = Trace::default();
    let freed = Freed(std::sync::Arc::downgrade(&trace.0));
    txn.upsert(Traced { id: 0, value, trace }).unwrap();
    freed
}

fn commit_traced(db: &Db, value: u8) -> Freed {
    let mut txn = db.write();
    let freed = put_traced(&mut txn, value);
    txn.commit();
    freed
}

struct Freed(std::sync::Weak<loom::cell::UnsafeCell<u8>>);

impl Freed {
    fn is(&self) -> bool {
        self.0.strong_count() == 0
    }
}

/// The value of the one row.
fn read_traced(snap: &Snapshot) -> u8 {
    let Some(row) = snap.table::<Traced>().get(&0_u8) else { return 0 };
    row.trace.read();
    row.value
}

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
        let token = std::sync::Arc::downgrade(&snap.table::<Left>().get(&0_u8).unwrap().token);
        let reader = thread::spawn(move || {
            let row = snap.table::<Left>().get(&0_u8).unwrap().share();
            drop(snap);
            let copy = row.clone();
            drop(row);
            assert_eq!((copy.value, *copy.token), (1, 1));
            copy
        });
        commit(&db, 2);
        commit(&db, 3);
        let row = reader.join().unwrap();
        commit(&db, 4);
        assert_eq!((row.value, *row.token), (1, 1));
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
