//! Random interleavings of more threads and transactions than `loom` can hold.
//!
//! `RUSTFLAGS="--cfg fsmdb_shuttle" cargo test --release --no-default-features --features derive
//! --test shuttle`; `FSMDB_SHUTTLE_SCHEDULES` sets how many schedules each model is given.
//!
//! As under `loom`, the published root stands in a modelled lock. `shuttle` treats every atomic
//! access as sequentially consistent: this is about interleavings, `loom` is about memory order.
//! A failure prints its schedule and seed, with which `shuttle::replay` runs it again.
//!
//! All tasks share one thread of the system, and with it the mark that it is panicking. A panic
//! that unwound through a modelled lock would be seen by the other tasks, so the planned one is
//! caught inside its transaction. `tests/loom/` and `tests/stress/` unwind a whole one.

#![cfg(fsmdb_shuttle)]

#[path = "../interleavings/rows.rs"]
mod rows;
mod waits;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use fsmdb::{Db, Revision, Snapshot, WriteTxn};
use rows::{Content, Left, Right, assert_no_row_is_left, content, database, file_of, put};
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::sync::{Arc, Mutex};
use shuttle::{Config, Runner, thread};

const READERS: usize = 8;
const TRANSACTIONS: usize = 30;
const ACTIONS: usize = 12;
const IDS: u8 = 12;
/// Changes of priority that the PCT scheduler makes in one schedule.
const DEPTH: usize = 4;

/// How many schedules a model is given, of `usual` by default.
#[allow(clippy::disallowed_methods)] // a test may read its environment, the library may not
fn schedules(usual: usize) -> usize {
    let asked = std::env::var("FSMDB_SHUTTLE_SCHEDULES").ok();
    asked.map_or(usual, |count| count.parse().expect("FSMDB_SHUTTLE_SCHEDULES is a number"))
}

/// Runs `model` under a scheduler, and finds rows that outlived it.
fn explore(scheduler: impl Scheduler + 'static, model: fn()) {
    Runner::new(scheduler, Config::new()).run(move || {
        model();
        assert_no_row_is_left();
    });
}

/// A version, and what it held when it was taken.
#[derive(Clone)]
struct Held {
    snap: Snapshot,
    content: Content,
}

impl Held {
    fn new(snap: Snapshot) -> Self {
        Self { content: content(&snap), snap }
    }

    fn verify(&self) {
        assert_eq!(content(&self.snap), self.content, "a published version has changed");
    }
}

/// Through which threads hand versions to each other.
type Pool = Arc<Mutex<Vec<Held>>>;

fn write(txn: &mut WriteTxn<'_>) {
    let mut random = thread_rng();
    let id = random.gen_range(0..IDS);
    match random.gen_range(0..10) {
        0..=6 => {
            let value = random.gen_range(0..8);
            put(txn, id, value);
        }
        7 | 8 => {
            let was_there = txn.table_mut::<Left>().delete(&id).is_some();
            assert_eq!(txn.table_mut::<Right>().delete(&id).is_some(), was_there);
        }
        _ => {
            let count = txn.table_mut::<Left>().delete_all(id..);
            assert_eq!(txn.table_mut::<Right>().delete_all(id..), count);
        }
    }
}

fn write_some(txn: &mut WriteTxn<'_>) {
    (0..thread_rng().gen_range(1..5)).for_each(|_| write(txn));
}

/// A statement that panics half-way leaves the transaction as it was.
fn panic_inside(txn: &mut WriteTxn<'_>) {
    let before = content(&txn.snapshot());
    let mut seen = 0;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        txn.table_mut::<Left>().retain(|_| {
            seen += 1;
            if seen == 3 {
                // Without the hook, which would print it.
                resume_unwind(Box::new("planned"));
            }
            false
        })
    }));
    if outcome.is_err() {
        assert_eq!(content(&txn.snapshot()), before);
    } else {
        assert_eq!(txn.table_mut::<Right>().delete_all(..), before.len());
    }
}

/// One transaction; says whether it was committed.
fn transact(db: &Db, pool: &Pool) -> Option<Revision> {
    let mut txn = db.write();
    write_some(&mut txn);
    match thread_rng().gen_range(0..8) {
        0 => return None,
        1 => {
            let savepoint = txn.savepoint();
            let before = content(&txn.snapshot());
            write_some(&mut txn);
            txn.rollback_to(&savepoint);
            assert_eq!(content(&txn.snapshot()), before);
        }
        2 => {
            let (first, early) = (txn.savepoint(), content(&txn.snapshot()));
            write_some(&mut txn);
            let (second, late) = (txn.savepoint(), content(&txn.snapshot()));
            txn.rollback_to(&first);
            assert_eq!(content(&txn.snapshot()), early);
            write_some(&mut txn);
            txn.rollback_to(&second);
            assert_eq!(content(&txn.snapshot()), late);
        }
        3 => panic_inside(&mut txn),
        4 => pool.lock().unwrap().push(Held::new(txn.snapshot())),
        5 => txn.rollback_all(),
        _ => {}
    }
    Some(txn.commit())
}

fn transact_times(count: usize, db: &Db, pool: &Pool) {
    for _ in 0..count {
        transact(db, pool);
    }
}

/// Takes, holds, clones, hands over and drops versions.
fn read(db: &Db, pool: &Pool, is_monotonic: bool) {
    let (mut held, mut last) = (Vec::<Held>::new(), Revision(0));
    let mut kept = Vec::new();
    for _ in 0..ACTIONS {
        let which = thread_rng().gen_range(0..held.len().max(1));
        match thread_rng().gen_range(0..8) {
            0..=2 => {
                let snap = db.read();
                assert!(!is_monotonic || snap.revision() >= last, "back in time");
                last = snap.revision();
                kept.extend(snap.table::<Left>().first().map(|row| (row.share(), row.value)));
                held.push(Held::new(snap));
            }
            3 => held.extend(held.get(which).cloned()),
            4 if !held.is_empty() => pool.lock().unwrap().push(held.swap_remove(which)),
            5 => {
                let taken = pool.lock().unwrap().pop();
                held.extend(taken);
            }
            6 if !held.is_empty() => drop(held.swap_remove(which)),
            _ => held.iter().for_each(Held::verify),
        }
    }
    held.iter().for_each(Held::verify);
    drop(held);
    assert!(kept.iter().all(|(row, value)| row.value == *value), "a row has changed");
}

fn readers(db: &Db, pool: &Pool, is_monotonic: bool) -> Vec<thread::JoinHandle<()>> {
    let reader = |_| {
        let (db, pool) = (db.clone(), pool.clone());
        thread::spawn(move || read(&db, &pool, is_monotonic))
    };
    (0..READERS).map(reader).collect()
}

/// Eight readers beside one writer.
fn one_writer() {
    let (db, pool) = (database(), Pool::default());
    let readers = readers(&db, &pool, true);
    for _ in 0..TRANSACTIONS {
        let before = db.revision();
        let after = transact(&db, &pool);
        assert_eq!(db.revision(), after.unwrap_or(before));
    }
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    db.check().unwrap();
}

/// The database goes while its versions are read, held and handed over.
fn versions_outlive_the_database() {
    let (db, pool) = (database(), Pool::default());
    transact_times(5, &db, &pool);
    let holders: Vec<_> = (0..READERS)
        .map(|_| {
            let (snap, pool) = (db.read(), pool.clone());
            thread::spawn(move || {
                let held = Held::new(snap);
                pool.lock().unwrap().push(held.clone());
                let other = pool.lock().unwrap().pop();
                other.iter().for_each(Held::verify);
                held.verify();
            })
        })
        .collect();
    transact_times(5, &db, &pool);
    drop(db);
    holders.into_iter().for_each(|holder| holder.join().unwrap());
    pool.lock().unwrap().iter().for_each(Held::verify);
}

/// A file is restored again and again between the transactions of another thread.
fn restores() {
    let (db, pool) = (database(), Pool::default());
    transact_times(3, &db, &pool);
    let (file, restored) = (file_of(&db), content(&db.read()));
    let readers = readers(&db, &pool, false);
    let writer = {
        let (db, pool) = (db.clone(), pool.clone());
        thread::spawn(move || transact_times(10, &db, &pool))
    };
    (0..4).for_each(|_| db.restore(file.as_slice()).unwrap());
    writer.join().unwrap();
    db.restore(file.as_slice()).unwrap();
    assert_eq!(content(&db.read()), restored);
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    db.check().unwrap();
}

#[test]
fn readers_beside_a_writer_by_random_schedules() {
    explore(RandomScheduler::new(schedules(12_000)), one_writer);
}

#[test]
fn readers_beside_a_writer_by_priorities() {
    explore(PctScheduler::new(DEPTH, schedules(12_000)), one_writer);
}

#[test]
fn versions_outlive_the_database_by_random_schedules() {
    explore(RandomScheduler::new(schedules(12_000)), versions_outlive_the_database);
}

#[test]
fn versions_outlive_the_database_by_priorities() {
    explore(PctScheduler::new(DEPTH, schedules(12_000)), versions_outlive_the_database);
}

#[test]
fn restores_by_random_schedules() {
    explore(RandomScheduler::new(schedules(6_000)), restores);
}

#[test]
fn restores_by_priorities() {
    explore(PctScheduler::new(DEPTH, schedules(6_000)), restores);
}
