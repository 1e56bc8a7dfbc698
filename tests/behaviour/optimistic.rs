//! Optimistic transactions: they commit if what they read still holds, and are serialisable.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use fsmdb::{
    Applied, CommitError, Db, Error, Fsm, Machine, OptimisticTxn, Read, Table, TransactError,
    Write, WriteError, WriteTxn, limits,
};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Table)]
#[table(name = "jobs", tombstones = 3)]
struct Job {
    #[key]
    id: u8,
    #[index]
    status: u8,
    #[index(unique)]
    slot: Option<u8>,
    #[index(multi)]
    tags: BTreeSet<u8>,
}

fn job(id: u8, status: u8) -> Job {
    Job { id, status, slot: None, tags: BTreeSet::new() }
}

fn database() -> Db {
    Db::builder().table::<Job>().build().unwrap()
}

fn put(db: &Db, jobs: impl IntoIterator<Item = Job>) {
    let mut txn = db.write();
    jobs.into_iter().for_each(|job| drop(txn.upsert(job).unwrap()));
    txn.commit();
}

fn statuses(db: &Db) -> Vec<(u8, u8)> {
    db.read().table::<Job>().iter().map(|job| (job.id, job.status)).collect()
}

fn is_conflict(result: Result<fsmdb::Revision, CommitError>) -> bool {
    match result {
        Err(error) => error.is_conflict(),
        Ok(_) => false,
    }
}

#[test]
fn it_reads_its_beginning_and_its_own_writes_and_holds_no_lock() {
    let db = database();
    put(&db, [job(1, 1)]);
    let mut txn = db.optimistic();
    txn.insert(job(2, 2)).unwrap();
    put(&db, [job(3, 3)]);
    assert_eq!((txn.table::<Job>().len(), db.read().table::<Job>().len()), (2, 2));
    txn.table_mut::<Job>().update(&2_u8, |job| job.status = 9).unwrap();
    assert_eq!(txn.changes().len(), 1);
    assert!(is_conflict(db.commit(txn)), "it has counted the rows");
    assert_eq!(statuses(&db), [(1, 1), (3, 3)]);
}

#[test]
fn a_commit_that_touches_nothing_it_read_is_no_conflict() {
    let db = database();
    put(&db, [job(1, 1), job(5, 1)]);
    let mut txn = db.optimistic();
    let status = txn.table::<Job>().get(&1_u8).unwrap().status;
    txn.upsert(job(2, status + 1)).unwrap();
    put(&db, [job(3, 3), job(5, 2)]);
    let revision = db.commit(txn).unwrap();
    assert_eq!((revision, db.revision()), (revision, revision));
    assert_eq!(statuses(&db), [(1, 1), (2, 2), (3, 3), (5, 2)]);
    db.check().unwrap();
}

/// What a transaction reads, what another commits meanwhile, and whether they conflict.
#[test]
fn phantoms_are_found() {
    type Reading = fn(&OptimisticTxn) -> usize;
    let cases: [(Reading, fn(&mut WriteTxn<'_>), bool); 9] = [
        (|txn| txn.table::<Job>().range(3..6).count(), |txn| insert(txn, 4, 0), true),
        (|txn| txn.table::<Job>().range(3..6).count(), |txn| insert(txn, 7, 0), false),
        (|txn| txn.table::<Job>().get(&4_u8).map_or(0, |_| 1), |txn| insert(txn, 4, 0), true),
        (
            |txn| txn.table::<Job>().index(Job::BY_STATUS).get(&1).count(),
            |txn| insert(txn, 9, 1),
            true,
        ),
        (
            |txn| txn.table::<Job>().index(Job::BY_STATUS).get(&1).count(),
            |txn| insert(txn, 9, 2),
            false,
        ),
        (|txn| txn.table::<Job>().iter().take(1).count(), |txn| insert(txn, 9, 2), false),
        (|txn| txn.table::<Job>().iter().take(1).count(), |txn| insert(txn, 0, 2), true),
        (|txn| txn.table::<Job>().len(), |txn| replace(txn, 1, 7), false),
        (|txn| txn.table::<Job>().iter().map(|_| 1).sum(), |txn| replace(txn, 1, 7), true),
    ];
    fn insert(txn: &mut WriteTxn<'_>, id: u8, status: u8) {
        txn.insert(job(id, status)).unwrap();
    }
    fn replace(txn: &mut WriteTxn<'_>, id: u8, status: u8) {
        txn.upsert(job(id, status)).unwrap();
    }
    for (number, (read, meanwhile, conflicts)) in cases.into_iter().enumerate() {
        let db = database();
        put(&db, [job(1, 1)]);
        let mut txn = db.optimistic();
        read(&txn);
        txn.upsert(job(200, 0)).unwrap();
        let mut other = db.write();
        meanwhile(&mut other);
        other.commit();
        assert_eq!(is_conflict(db.commit(txn)), conflicts, "case {number}");
    }
}

#[test]
fn a_statement_reads_too() {
    let cases: [(fn(&mut OptimisticTxn), bool); 6] = [
        (|txn| drop(txn.upsert(job(1, 5))), true),
        (|txn| drop(txn.table_mut::<Job>().delete(&1_u8)), true),
        (|txn| drop(txn.table_mut::<Job>().update(&1_u8, |job| job.status = 3)), true),
        (|txn| drop(txn.insert(job(1, 5))), true),
        (
            |txn| {
                txn.table_mut::<Job>().index(Job::BY_STATUS).delete_all(&7);
            },
            true,
        ),
        (
            |txn| {
                txn.table_mut::<Job>().delete_all(5..);
            },
            false,
        ),
    ];
    for (number, (statement, conflicts)) in cases.into_iter().enumerate() {
        let db = database();
        put(&db, [job(1, 1)]);
        let mut txn = db.optimistic();
        statement(&mut txn);
        txn.upsert(job(200, 0)).unwrap();
        put(&db, [job(1, 7)]);
        assert_eq!(is_conflict(db.commit(txn)), conflicts, "case {number}");
    }
}

#[test]
fn a_unique_value_that_was_taken_meanwhile_is_a_conflict() {
    let db = database();
    let mut txn = db.optimistic();
    txn.insert(Job { slot: Some(1), ..job(1, 0) }).unwrap();
    put(&db, [Job { slot: Some(1), ..job(2, 0) }]);
    let error = db.commit(txn).unwrap_err();
    let CommitError::Conflict(conflict) = error else { panic!("{error}") };
    assert_eq!((conflict.index.as_deref(), &*conflict.what), (Some("slot"), "value 1"));

    // One that was refused has read the value: when it is free again, that is a conflict.
    let mut txn = db.optimistic();
    txn.insert(Job { slot: Some(1), ..job(3, 0) }).unwrap_err();
    txn.upsert(job(9, 9)).unwrap();
    put(&db, [Job { slot: None, ..job(2, 0) }]);
    assert!(is_conflict(db.commit(txn)));
}

#[test]
fn rows_that_swap_a_unique_value_are_carried_over() {
    let db = database();
    put(&db, [Job { slot: Some(1), ..job(1, 0) }, Job { slot: Some(2), ..job(2, 0) }]);
    let mut txn = db.optimistic();
    txn.upsert(Job { slot: None, ..job(1, 0) }).unwrap();
    txn.upsert(Job { slot: Some(1), ..job(2, 0) }).unwrap();
    txn.upsert(Job { slot: Some(2), ..job(1, 0) }).unwrap();
    db.commit(txn).unwrap();
    let snapshot = db.read();
    assert_eq!(snapshot.table::<Job>().index(Job::BY_SLOT).get(&2).unwrap().id, 1);
    assert_eq!(snapshot.table::<Job>().get(&1_u8).unwrap().created().0, 1);
    db.check().unwrap();
}

#[test]
fn handles_on_rows_of_the_transaction_stay_what_they_were() {
    let db = database();
    let mut txn = db.optimistic();
    let held = txn.insert(Job { tags: [1, 2].into(), ..job(1, 1) }).unwrap();
    drop(txn.insert(job(2, 2)).unwrap());
    put(&db, [job(9, 9)]);
    let revision = db.commit(txn).unwrap();
    assert_eq!((held.modified().0, held.status), (1, 1));
    let snapshot = db.read();
    let rows: Vec<_> = snapshot.table::<Job>().range(..9).collect();
    assert_eq!(rows.iter().map(|row| row.modified()).collect::<Vec<_>>(), [revision; 2]);
    assert_eq!(rows[0].value(), held.value());
    db.check().unwrap();
}

#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "tokens")]
struct Token {
    #[key]
    id: u8,
    /// By which the end of the row can be seen.
    #[serde(skip)]
    _token: Arc<()>,
}

#[test]
fn every_row_is_dropped_once() {
    let token = Arc::new(());
    let row = |id| Token { id, _token: Arc::clone(&token) };
    let db = Db::builder().table::<Token>().build().unwrap();
    for round in 0..20 {
        let mut txn = db.optimistic();
        txn.insert(row(round)).unwrap();
        let before = Write::savepoint(&mut txn);
        txn.insert(row(100)).unwrap();
        Write::rollback_to(&mut txn, &before);
        txn.upsert(row(round)).unwrap();
        if round % 3 == 0 {
            assert!(!txn.table::<Token>().is_empty());
            let _ = txn.table::<Token>().len();
            let mut other = db.write();
            other.insert(row(200 + round)).unwrap();
            other.commit();
        }
        let result = db.commit(txn);
        assert_eq!(is_conflict(result), round % 3 == 0);
    }
    let rows = db.read().table::<Token>().len();
    assert_eq!(rows, 20);
    db.write().commit();
    assert!(Arc::strong_count(&token) <= 1 + rows + 4, "{}", Arc::strong_count(&token));
    drop(db);
    assert_eq!(Arc::strong_count(&token), 1);
}

#[test]
fn a_transaction_that_only_reads_commits_nothing() {
    let db = database();
    put(&db, [job(1, 1)]);
    let txn = db.optimistic();
    assert_eq!(txn.table::<Job>().len(), 1);
    put(&db, [job(2, 1)]);
    assert_eq!(db.commit(txn).unwrap().0, 1);
    assert_eq!(db.revision().0, 2);
}

#[test]
fn transact_tries_again_and_gives_up_in_the_end() {
    let db = database();
    put(&db, [job(1, 0)]);
    let tries = AtomicU32::new(0);
    let meddle = |until: u32| {
        db.transact(|txn| {
            let status = txn.table::<Job>().get(&1_u8).unwrap().status;
            if tries.fetch_add(1, Ordering::Relaxed) < until {
                put(&db, [job(1, status + 1)]);
            }
            txn.table_mut::<Job>().update(&1_u8, |job| job.status = status + 100)?;
            Ok::<_, Error>(status)
        })
    };
    assert_eq!(meddle(3), Ok(3));
    assert_eq!(statuses(&db), [(1, 103)]);
    tries.store(0, Ordering::Relaxed);
    put(&db, [job(1, 0)]);
    let Err(TransactError::Commit(CommitError::Conflict(conflict))) = meddle(u32::MAX) else {
        panic!()
    };
    assert_eq!((&*conflict.table, &*conflict.what), ("jobs", "row 1"));
    assert_eq!(tries.load(Ordering::Relaxed), limits::TRANSACT_ATTEMPTS_MAX);
}

#[test]
fn transact_hands_the_refusal_of_its_closure_on() {
    let db = database();
    let refused: Result<(), _> = db.transact(|txn| {
        txn.insert(job(1, 1)).unwrap();
        Err("no")
    });
    assert_eq!(refused, Err(TransactError::Aborted("no")));
    assert_eq!(db.revision().0, 0);
}

struct Nothing;

impl Fsm for Nothing {
    type Command = u8;
    type Reply = ();

    fn apply(&self, _: &mut WriteTxn<'_>, _: Applied, _: u8) {}
}

#[test]
fn a_database_that_a_machine_owns_is_not_committed_to() {
    let machine = Machine::new(database(), Nothing).unwrap();
    let mut txn = machine.db().optimistic();
    txn.insert(job(1, 1)).unwrap();
    let error = machine.db().commit(txn).unwrap_err();
    assert_eq!(error, CommitError::Write(WriteError::OwnedByMachine));
}

#[test]
fn threads_lose_no_update() {
    let db = database();
    put(&db, (0..4).map(|id| job(id, 0)));
    let threads: Vec<_> = (0..4_u8)
        .map(|thread| {
            let db = db.clone();
            std::thread::spawn(move || {
                for round in 0..50_u8 {
                    let id = (round + thread) % 4;
                    loop {
                        let done = db.transact(|txn| {
                            txn.table_mut::<Job>().update(&id, |job| job.status += 1)?;
                            Ok::<_, Error>(())
                        });
                        if done.is_ok() {
                            break;
                        }
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let sum: u32 = statuses(&db).iter().map(|(_, status)| u32::from(*status)).sum();
    assert_eq!(sum, 200);
}

/// One step of a closure that can be run again: what it does depends on what it reads.
#[derive(Clone, Debug)]
enum Act {
    CopyStatus(u8, u8),
    CountTo(u8, u8),
    DeleteFirst(u8),
    FillGap(u8),
    TakeSlot(u8, u8),
    Sum(u8),
    Clear(u8),
    Age(u8, u8),
    StatusAge(u8, u8),
    IsEmpty(u8),
    HasStatus(u8, u8),
    Nth(u8, u8),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (0..6_u8, 0..6_u8).prop_map(|(from, to)| Act::CopyStatus(from, to)),
        (0..3_u8, 0..6_u8).prop_map(|(status, to)| Act::CountTo(status, to)),
        (0..6_u8).prop_map(Act::DeleteFirst),
        (0..6_u8).prop_map(Act::FillGap),
        (0..6_u8, 0..3_u8).prop_map(|(id, slot)| Act::TakeSlot(id, slot)),
        (0..6_u8).prop_map(Act::Sum),
        (0..3_u8).prop_map(Act::Clear),
        (0..6_u8).prop_map(Act::IsEmpty),
        (0..6_u8, 0..6_u8).prop_map(|(low, to)| Act::Age(low, to)),
        (0..3_u8, 0..6_u8).prop_map(|(status, to)| Act::StatusAge(status, to)),
        (0..3_u8, 0..6_u8).prop_map(|(status, to)| Act::HasStatus(status, to)),
        (0..6_u8, 0..3_u8).prop_map(|(from, index)| Act::Nth(from, index)),
    ]
}

/// Does `acts` and gives what they have seen.
fn perform(txn: &mut impl Write, acts: &[Act]) -> Vec<usize> {
    acts.iter().map(|act| perform_one(txn, act)).collect()
}

fn perform_one(txn: &mut impl Write, act: &Act) -> usize {
    let own = Read::revision(txn).0 as usize;
    match act {
        Act::CopyStatus(from, to) => {
            let status = Read::table::<Job>(txn).get(from).map_or(9, |job| job.status);
            let _ = txn.upsert(job(*to, status));
            status.into()
        }
        Act::CountTo(status, to) => {
            let count = Read::table::<Job>(txn).index(Job::BY_STATUS).get(status).count();
            let _ = txn.upsert(job(*to, count as u8 % 3));
            count
        }
        Act::DeleteFirst(from) => {
            let first = Read::table::<Job>(txn).range(from..).next().map(|job| job.id);
            first.map_or(0, |id| {
                txn.table_mut::<Job>().delete(&id);
                id.into()
            })
        }
        Act::FillGap(from) => {
            let gap = (*from..8).find(|id| !Read::table::<Job>(txn).contains(id));
            gap.map_or(0, |id| usize::from(txn.insert(job(id, 1)).is_ok()) + usize::from(id))
        }
        Act::TakeSlot(id, slot) => {
            let row = Job { slot: Some(*slot), tags: [*slot].into(), ..job(*id, 2) };
            txn.upsert(row).is_ok().into()
        }
        Act::Sum(to) => {
            let sum = Read::table::<Job>(txn).iter().map(|job| usize::from(job.status)).sum();
            let _ = txn.upsert(job(*to, (sum % 3) as u8));
            sum
        }
        Act::IsEmpty(to) => {
            let is_empty = Read::table::<Job>(txn).is_empty();
            let _ = txn.upsert(job(*to, is_empty.into()));
            is_empty.into()
        }
        Act::Age(low, to) => {
            let age = Read::table::<Job>(txn).modified_in(*low..low + 2).0 as usize;
            let age = if age == own { 9 } else { age };
            let _ = txn.upsert(job(*to, (age % 3) as u8));
            age
        }
        Act::StatusAge(status, to) => {
            let jobs = Read::table::<Job>(txn);
            let age = jobs.index(Job::BY_STATUS).modified_of(status).0 as usize;
            let age = if age == own { 9 } else { age };
            let _ = txn.upsert(job(*to, (age % 3) as u8));
            age
        }
        Act::HasStatus(status, to) => {
            let has = Read::table::<Job>(txn).index(Job::BY_STATUS).contains(status);
            let _ = txn.upsert(job(*to, has.into()));
            has.into()
        }
        Act::Nth(from, index) => {
            let nth = Read::table::<Job>(txn).nth(from.., usize::from(*index)).map(|job| job.id);
            nth.map_or(0, |id| {
                txn.table_mut::<Job>().delete(&id);
                1 + usize::from(id)
            })
        }
        Act::Clear(tag) => {
            let mut jobs = txn.table_mut::<Job>();
            jobs.index(Job::BY_TAGS).delete_all(tag)
        }
    }
}

const CASES: u32 = if cfg!(debug_assertions) { 192 } else { 2_000 };

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    /// Transactions that run beside each other, and of which some commit, are as if those had run
    /// one after the other in the order of their commits: each sees the same, and leaves the same.
    #[test]
    fn they_are_serialisable(
        first in prop::collection::vec(act(), 0..6),
        runs in prop::collection::vec(
            (prop::collection::vec(prop::collection::vec(act(), 1..4), 1..4), any::<u64>()),
            1..6,
        ),
    ) {
        let (db, serial) = (database(), database());
        for db in [&db, &serial] {
            let mut txn = db.write();
            perform(&mut txn, &first);
            txn.commit();
        }
        for (closures, order) in runs {
            let mut open: Vec<_> = closures
                .iter()
                .map(|acts| {
                    let mut txn = db.optimistic();
                    let seen = perform(&mut txn, acts);
                    (txn, acts, seen)
                })
                .collect();
            let mut order = order;
            while !open.is_empty() {
                let (txn, acts, seen) = open.swap_remove(order as usize % open.len());
                order /= 7;
                let is_changed = txn.is_changed();
                match db.commit(txn) {
                    // It has only read, and stands where it began.
                    Ok(_) if !is_changed => continue,
                    Ok(_) => {}
                    Err(error) => {
                        prop_assert!(error.is_conflict(), "{error}");
                        continue;
                    }
                }
                let mut txn = serial.write();
                prop_assert_eq!(perform(&mut txn, acts), seen);
                txn.commit();
                let content = |db: &Db| -> Vec<Job> {
                    db.read().table::<Job>().iter().map(|row| row.value().clone()).collect()
                };
                prop_assert_eq!(content(&db), content(&serial));
                db.check().unwrap();
            }
        }
    }
}
