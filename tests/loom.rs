//! Every interleaving of a few threads, up to a bound of preemptions, through the public API.
//!
//! ```text
//! RUSTFLAGS="--cfg fsmdb_loom" LOOM_MAX_PREEMPTIONS=3 CARGO_TARGET_DIR=target/loom \
//!     cargo test --release --no-default-features --features derive --test loom
//! ```
//!
//! What is modelled is the protocol above the root cell: the writer's lock, publication, ownership.
//! The cell itself is an axiom here (a lock in place of `arc-swap`), and so is the `std` `Arc` that
//! shares rows and tree nodes, which nobody changes once they are published.
//!
//! One thing loom cannot do: its `Mutex` does not come back from being poisoned, so a panic that
//! unwinds through a transaction is shown by `behaviour/transactions.rs` on real threads. Here a
//! panic is caught inside of the transaction.

#![cfg(fsmdb_loom)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use fsmdb::{Applied, Db, Error, Fsm, Machine, Revision, Snapshot, Table, WriteError, WriteTxn};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use serde::{Deserialize, Serialize};

/// How many times a thread may be preempted when `LOOM_MAX_PREEMPTIONS` does not say. Planted
/// defects of this protocol are found at 2.
const PREEMPTIONS: usize = 3;

#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "left")]
struct Left {
    #[key]
    id: u64,
    #[index]
    count: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "right")]
struct Right {
    #[key]
    id: u64,
}

fn model(check: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(PREEMPTIONS));
    builder.check(check);
}

fn empty() -> Db {
    Db::builder().table::<Left>().table::<Right>().build().expect("the schema is sound")
}

/// Puts the next row into both tables.
fn grow(txn: &mut WriteTxn<'_>) {
    let id = txn.table::<Left>().len() as u64;
    txn.insert(Left { id, count: id }).expect("nothing conflicts");
    txn.insert(Right { id }).expect("nothing conflicts");
}

fn commit_growth(db: &Db) -> Revision {
    let mut txn = db.write();
    grow(&mut txn);
    txn.commit()
}

/// How many rows there are, which is the same in both tables and the index.
fn size(snap: &Snapshot) -> u64 {
    let (left, right) = (snap.table::<Left>(), snap.table::<Right>());
    assert_eq!(left.len(), right.len(), "half of a commit");
    assert_eq!(left.index(Left::BY_COUNT).len(), left.len(), "half of a statement");
    left.len() as u64
}

fn file_of(db: &Db) -> Vec<u8> {
    let mut file = Vec::new();
    db.read().save(&mut file).expect("memory does not fail");
    file
}

#[test]
fn readers_see_whole_commits_in_their_order_and_what_was_acknowledged() {
    model(|| {
        let db = empty();
        let acknowledged = Arc::new(AtomicU64::new(0));
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let (db, acknowledged) = (db.clone(), Arc::clone(&acknowledged));
                thread::spawn(move || {
                    let mut last = 0;
                    for _ in 0..2 {
                        let promised = acknowledged.load(Ordering::Acquire);
                        let snap = db.read();
                        let revision = snap.revision().0;
                        assert!(revision >= promised, "an acknowledged commit is missing");
                        assert!(revision >= last, "time went back");
                        assert_eq!(size(&snap), revision);
                        last = revision;
                    }
                })
            })
            .collect();
        for _ in 0..2 {
            let revision = commit_growth(&db);
            acknowledged.store(revision.0, Ordering::Release);
            assert_eq!(db.revision(), revision);
        }
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}

#[test]
fn a_snapshot_stays_what_it_is_while_others_commit_and_the_last_holder_frees_it() {
    model(|| {
        let db = empty();
        commit_growth(&db);
        let snap = db.read();
        let row = std::sync::Arc::downgrade(&snap.table::<Left>().get(&0).unwrap().share());
        let holder = thread::spawn({
            let snap = snap.clone();
            move || assert_eq!(size(&snap), 1)
        });
        let mut txn = db.write();
        txn.upsert(Left { id: 0, count: 9 }).unwrap();
        drop(snap);
        txn.commit();
        holder.join().unwrap();
        assert!(row.upgrade().is_none(), "the row of the old version is still held");
        assert_eq!(db.read().table::<Left>().get(&0).unwrap().count, 9);
    });
}

#[test]
fn a_snapshot_outlives_the_last_handle() {
    model(|| {
        let db = empty();
        commit_growth(&db);
        let reader = thread::spawn({
            let db = db.clone();
            move || {
                let snap = db.read();
                drop(db);
                size(&snap)
            }
        });
        commit_growth(&db);
        drop(db);
        assert!([1, 2].contains(&reader.join().unwrap()));
    });
}

#[test]
fn two_writers_lose_no_update() {
    model(|| {
        let db = empty();
        let other = thread::spawn({
            let db = db.clone();
            move || commit_growth(&db)
        });
        let one = commit_growth(&db);
        let other = other.join().unwrap();
        assert!([(1, 2), (2, 1)].contains(&(one.0, other.0)));
        assert_eq!((size(&db.read()), db.revision()), (2, Revision(2)));
        db.check().unwrap();
    });
}

#[test]
fn try_write_is_busy_or_alone() {
    model(|| {
        let db = empty();
        let other = thread::spawn({
            let db = db.clone();
            move || match db.try_write() {
                Ok(mut txn) => {
                    grow(&mut txn);
                    txn.commit();
                    1
                }
                Err(error) => {
                    assert_eq!(error, WriteError::Busy);
                    0
                }
            }
        });
        let mut txn = db.write();
        grow(&mut txn);
        drop(txn);
        commit_growth(&db);
        let others = other.join().unwrap();
        assert_eq!(size(&db.read()), 1 + others);
        assert!(db.try_write().is_ok(), "the lock is free again");
    });
}

#[test]
fn a_writer_that_panics_publishes_nothing_and_lets_the_next_one_in() {
    model(|| {
        let db = empty();
        commit_growth(&db);
        let panicking = thread::spawn({
            let db = db.clone();
            move || {
                let mut txn = db.write();
                let before = txn.table::<Left>().len();
                grow(&mut txn);
                let statement = AssertUnwindSafe(|| {
                    txn.table_mut::<Left>().update(&0, |_| std::panic::resume_unwind(Box::new(())))
                });
                assert!(catch_unwind(statement).is_err());
                assert_eq!(txn.table::<Left>().len(), before + 1);
            }
        });
        let reader = thread::spawn({
            let db = db.clone();
            move || {
                let snap = db.read();
                assert_eq!(size(&snap), snap.revision().0);
            }
        });
        assert_eq!(commit_growth(&db), Revision(2));
        panicking.join().unwrap();
        reader.join().unwrap();
        assert_eq!((size(&db.read()), db.revision()), (2, Revision(2)));
    });
}

#[test]
fn a_restore_is_seen_whole_and_does_not_mix_with_a_commit() {
    let file = {
        // Outside of the model, where loom has no state: the file is made by a model of its own.
        let made = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let out = std::sync::Arc::clone(&made);
        loom::model(move || {
            let db = empty();
            (0..5).for_each(|_| drop(commit_growth(&db)));
            *out.lock().unwrap() = file_of(&db);
        });
        let file = made.lock().unwrap().clone();
        file
    };
    model(move || {
        let db = empty();
        let restoring = thread::spawn({
            let (db, file) = (db.clone(), file.clone());
            move || {
                db.restore(file.as_slice()).unwrap();
            }
        });
        let reader = thread::spawn({
            let db = db.clone();
            move || {
                let (one, other) = (db.read(), db.read());
                // Nothing, the commit, the file, the file and then the commit.
                for snap in [&one, &other] {
                    assert_eq!(size(snap), snap.revision().0);
                    assert!([0, 1, 5, 6].contains(&size(snap)));
                }
            }
        });
        let revision = commit_growth(&db);
        restoring.join().unwrap();
        reader.join().unwrap();
        let last = if revision == Revision(1) { 5 } else { 6 };
        assert_eq!((size(&db.read()), db.revision()), (last, Revision(last)));
    });
}

struct Grower;

impl Fsm for Grower {
    type Command = bool;
    type Reply = Result<u64, Error>;

    fn apply(&self, txn: &mut WriteTxn<'_>, at: Applied, accepted: bool) -> Self::Reply {
        grow(txn);
        if accepted {
            Ok(at.index)
        } else {
            Err(Error::NotFound { table: "left".into(), key: "refused".into() })
        }
    }
}

fn entry(accepted: bool) -> Vec<u8> {
    Machine::<Grower>::encode(&accepted).expect("a bool is small")
}

#[test]
fn after_a_machine_took_the_database_nobody_else_writes() {
    model(|| {
        let db = empty();
        let other = thread::spawn({
            let db = db.clone();
            move || match db.try_write() {
                Ok(mut txn) => {
                    grow(&mut txn);
                    txn.commit();
                }
                Err(error) => {
                    assert!([WriteError::Busy, WriteError::OwnedByMachine].contains(&error))
                }
            }
        });
        // A machine may refuse a database that was written by hand; it may not share one.
        if let Ok(machine) = Machine::new(db.clone(), Grower) {
            let before = size(&machine.read());
            machine.apply(Applied { index: 1, term: 1 }, &entry(true)).unwrap();
            assert_eq!(size(&machine.read()), before + 1);
            assert_eq!(machine.applied().index, 1);
            other.join().unwrap();
            assert_eq!(size(&db.read()), before + 1);
            assert_eq!(db.try_write().unwrap_err(), WriteError::OwnedByMachine);
        } else {
            other.join().unwrap();
            assert_eq!(size(&db.read()), 1);
        }
        assert!(db.try_write().is_ok(), "the machine is gone and has released the database");
    });
}

#[test]
fn of_two_machines_one_gets_the_database() {
    model(|| {
        let db = empty();
        let other = thread::spawn({
            let db = db.clone();
            move || Machine::new(db, Grower).ok()
        });
        let one = Machine::new(db.clone(), Grower).ok();
        let other = other.join().unwrap();
        assert!(one.is_some() != other.is_some(), "neither or both");
        drop((one, other));
        assert!(Machine::new(db, Grower).is_ok());
    });
}

#[test]
fn readers_see_the_applied_position_with_the_data_of_its_entry() {
    model(|| {
        let machine = Machine::new(empty(), Grower).unwrap();
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let db = machine.db().clone();
                thread::spawn(move || {
                    let snap = db.read();
                    let applied = snap.applied().index;
                    // Entries 1 and 3 are accepted, 2 is refused.
                    assert_eq!(size(&snap), [0, 1, 1, 2][applied as usize]);
                    assert_eq!(snap.revision().0, applied);
                })
            })
            .collect();
        for index in 1..=3 {
            let at = Applied { index, term: 1 };
            machine.apply(at, &entry(index != 2)).unwrap();
            assert_eq!(machine.applied(), at);
        }
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}

#[test]
fn an_install_is_seen_whole_and_never_goes_back() {
    model(|| {
        let source = Machine::new(empty(), Grower).unwrap();
        for index in 1..=3 {
            source.apply(Applied { index, term: 1 }, &entry(true)).unwrap();
        }
        let file = file_of(source.db());
        let machine = Machine::new(empty(), Grower).unwrap();
        machine.apply(Applied { index: 1, term: 1 }, &entry(true)).unwrap();
        let reader = thread::spawn({
            let db = machine.db().clone();
            move || {
                let mut last = 0;
                for _ in 0..2 {
                    let snap = db.read();
                    let applied = snap.applied().index;
                    assert!(applied >= last && size(&snap) == applied);
                    last = applied;
                }
            }
        });
        machine.install(file.as_slice()).unwrap();
        machine.apply(Applied { index: 4, term: 1 }, &entry(true)).unwrap();
        reader.join().unwrap();
        assert_eq!(size(&machine.read()), 4);
    });
}
