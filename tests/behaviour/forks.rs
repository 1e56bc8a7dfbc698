//! Forks: written like a transaction, seen by nobody, and gone when they are dropped.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use fsmdb::{
    Change, ChangeKind, ChangeSet, Conflict, ConflictKind, Db, Descending, Error, Fork, Read,
    RebaseError, Resolution, Savepoint, Snapshot, StartsWith, Table, Write, decode, encode,
};
use serde::{Deserialize, Serialize};
use static_assertions::{assert_impl_all, assert_not_impl_any};

use crate::tables::{Job, Node, Service, Status, commit, empty, file_of, ids, job, node, service};
use crate::tables::{value, with_jobs};

assert_impl_all!(Fork: Send, Sync, Read, Write);
assert_not_impl_any!(Fork: Clone);
assert_impl_all!(RebaseError: Send, Sync, std::error::Error);
assert_impl_all!(ChangeSet: Send, Sync, Clone, PartialEq);

/// A plan that works on a transaction and on a fork.
fn plan(db: &mut impl Write) -> Result<usize, Error> {
    db.insert(job(100))?;
    db.upsert(Job { priority: 9, ..job(1) })?;
    db.table_mut::<Job>().update(&2, |job| job.status = Status::Running)?;
    db.table_mut::<Job>().delete(&3);
    db.insert(node(1))?;
    Ok(db.table::<Job>().len())
}

fn jobs(db: &impl Read) -> Vec<Job> {
    db.table::<Job>().iter().map(value).collect()
}

#[test]
fn a_fork_is_written_like_a_transaction_and_seen_by_nobody() {
    let db = with_jobs((0..50).map(job));
    let (snap, file) = (db.read(), file_of(&db));
    let mut fork = snap.fork();
    assert_eq!(plan(&mut fork), Ok(50));
    assert_eq!(fork.table::<Job>().index(Job::BY_PRIORITY).get(&Descending(9)).count(), 1);
    assert!(fork.table::<Job>().get(&3).is_none());
    fork.check().unwrap();
    assert_eq!(file_of(&db), file);
    assert_eq!(jobs(&snap), (0..50).map(job).collect::<Vec<_>>());

    commit(&db, |txn| assert_eq!(plan(txn), Ok(50)));
    assert_eq!(jobs(&fork), jobs(&db.read()), "both did the same");
    let of = |snap: &dyn Fn(u64) -> (u64, u64)| [1, 2, 100].map(snap);
    let meta = |db: &Snapshot, id| {
        db.table::<Job>().get(&id).map(|row| (row.created().0, row.modified().0)).unwrap()
    };
    let in_fork = |id: u64| {
        fork.table::<Job>().get(&id).map(|row| (row.created().0, row.modified().0)).unwrap()
    };
    let after = db.read();
    assert_eq!(of(&in_fork), of(&|id| meta(&after, id)), "with the same revisions");
    assert_eq!(Read::revision(&fork), db.revision());
    assert_eq!(fork.origin().revision().0, 1);
}

#[test]
fn every_statement_works_in_a_fork() {
    let db = with_jobs((0..20).map(job));
    let mut fork = db.read().fork();
    assert_eq!(
        fork.table_mut::<Service>().insert_all([service("a", "b"), service("a", "c")]),
        Ok(2)
    );
    assert_eq!(fork.table_mut::<Job>().insert_all((20..30).map(job)), Ok(10));
    assert_eq!(fork.table_mut::<Job>().upsert_all((10..30).chain(12..15).map(job)), Ok(23));
    assert_eq!(fork.table_mut::<Job>().delete_all(..5), 5);
    assert_eq!(fork.table_mut::<Job>().retain(|job| job.id % 2 == 0), 13);
    assert_eq!(fork.table_mut::<Job>().index(Job::BY_NAME).delete_prefix(&StartsWith("job-1")), 5);
    assert_eq!(fork.table_mut::<Job>().index(Job::BY_STATUS).delete_all(&Status::Running), 0);
    assert_eq!(fork.table_mut::<Job>().index(Job::BY_SLOT).delete_range(28..), 1);
    assert_eq!(fork.table_mut::<Service>().delete_prefix(&("a",)), 2);
    assert_eq!(ids(fork.table_mut::<Job>().read().iter()), [6, 8, 20, 22, 24, 26]);
    fork.check().unwrap();
    assert_eq!(db.read().table::<Job>().len(), 20);
}

#[test]
fn a_statement_that_is_refused_leaves_a_fork_as_it_was() {
    let db = with_jobs((0..5).map(job));
    let mut fork = db.read().fork();
    fork.upsert(Job { name: "taken".into(), ..job(1) }).unwrap();
    let (before, changes) = (jobs(&fork), fork.changes().len());
    let taken = fork.insert(Job { name: "taken".into(), ..job(9) }).unwrap_err();
    let expected = Error::Taken {
        table: "jobs".into(),
        index: "name".into(),
        value: "\"taken\"".into(),
        owner: "1".into(),
    };
    assert_eq!(taken, expected);
    assert!(fork.insert(job(2)).unwrap_err().is_conflict());
    assert!(fork.table_mut::<Job>().update(&77, |_| ()).unwrap_err().is_not_found());
    let all = [job(6), job(7), Job { slot: 0, ..job(8) }];
    assert!(fork.table_mut::<Job>().insert_all(all).unwrap_err().is_conflict());
    let panics = catch_unwind(AssertUnwindSafe(|| {
        fork.table_mut::<Job>().retain(|job| if job.id == 3 { panic!("planned") } else { false })
    }));
    assert!(panics.is_err());
    assert_eq!((jobs(&fork), fork.changes().len()), (before, changes));
    // The name that the fork freed is free in it, and nowhere else.
    fork.insert(Job { name: "job-1".into(), ..job(9) }).unwrap();
    commit(&db, |txn| {
        assert!(txn.insert(Job { name: "job-1".into(), ..job(9) }).unwrap_err().is_conflict());
    });
    fork.check().unwrap();
}

#[test]
fn savepoints_of_a_fork_go_back_and_forth() {
    let db = with_jobs((0..100).map(job));
    let mut fork = db.read().fork();
    let start = fork.savepoint();
    let mut points: Vec<(Savepoint, Vec<Job>, usize)> = Vec::new();
    for round in 0..10_u64 {
        fork.table_mut::<Job>().delete_all(round * 3..round * 3 + 2);
        fork.upsert(Job { priority: 1, ..job(200 + round) }).unwrap();
        let point = Write::savepoint(&mut fork);
        points.push((point, jobs(&fork), fork.changes().len()));
    }
    for at in [3, 9, 0, 5, 9, 1] {
        let (point, expected, changes) = &points[at];
        fork.rollback_to(point);
        assert_eq!((&jobs(&fork), fork.changes().len()), (expected, *changes));
        fork.check().unwrap();
        fork.upsert(Job { priority: 2, ..job(200) }).unwrap();
    }
    let mut child = fork.fork();
    let foreign = catch_unwind(AssertUnwindSafe(|| child.rollback_to(&start)));
    assert!(foreign.is_err(), "a savepoint is of one fork");
    Write::rollback_to(&mut fork, &start);
    assert!(fork.changes().is_empty() && !fork.is_changed());
    assert_eq!(jobs(&fork), jobs(&db.read()));
}

#[test]
fn nested_forks_go_their_own_ways() {
    let db = with_jobs((0..40).map(job));
    let mut parent = db.read().fork();
    parent.table_mut::<Job>().delete_all(..10);
    let mut child = parent.fork();
    parent.upsert(Job { priority: 1, ..job(20) }).unwrap();
    child.upsert(Job { priority: 2, ..job(20) }).unwrap();
    let mut grandchild = child.fork();
    grandchild.table_mut::<Job>().delete_all(30..);
    child.insert(job(50)).unwrap();
    parent.insert(node(1)).unwrap();
    let mut twin = parent.fork();
    assert_eq!(jobs(&twin), jobs(&parent));
    twin.table_mut::<Job>().delete_all(..);
    let priority = |fork: &Fork| fork.table::<Job>().get(&20).map(|job| job.priority);
    assert_eq!([&parent, &child, &grandchild].map(priority), [Some(1), Some(2), Some(2)]);
    assert_eq!([&parent, &child, &grandchild].map(|fork| jobs(fork).len()), [30, 31, 20]);
    assert_eq!([&parent, &child, &twin].map(|fork| fork.table::<Node>().len()), [1, 0, 1]);
    for fork in [&parent, &child, &grandchild, &twin] {
        fork.check().unwrap();
        assert_eq!(fork.origin().revision().0, 1);
    }
    assert_eq!(parent.changes().len(), 12, "deletes, an update and a node");
    assert_eq!(child.changes().len(), 12, "deletes, an update and an insert");
    assert_eq!(grandchild.changes().len(), 21);
    drop(parent);
    drop(child);
    assert_eq!(grandchild.table::<Job>().index(Job::BY_PRIORITY).get(&Descending(2)).count(), 1);
    grandchild.check().unwrap();
    twin.check().unwrap();
}

#[test]
fn the_changes_of_a_fork_are_net() {
    let db = with_jobs((0..5).map(job));
    let mut fork = db.read().fork();
    fork.insert(job(9)).unwrap();
    fork.table_mut::<Job>().delete(&9);
    fork.upsert(Job { priority: 1, ..job(1) }).unwrap();
    let mut child = fork.fork();
    child.upsert(Job { priority: 2, ..job(1) }).unwrap();
    child.table_mut::<Job>().delete(&2);
    child.insert(job(7)).unwrap();
    let kinds = |fork: &Fork| -> Vec<_> {
        let id = |change: &Change| decode::<u64>(change.key()).unwrap();
        fork.changes().iter().map(|change| (id(change), change.kind())).collect()
    };
    use ChangeKind::{Created, Deleted, Updated};
    assert_eq!(kinds(&fork), [(1, Updated)]);
    assert_eq!(kinds(&child), [(1, Updated), (2, Deleted), (7, Created)]);
    let first = &child.changes()[0];
    let priority = |row: Option<&fsmdb::Row<Job>>| row.map(|row| row.priority);
    assert_eq!((priority(first.before()), priority(first.after())), (Some(0), Some(2)));
}

#[test]
fn a_fork_of_what_a_transaction_sees() {
    let db = with_jobs((0..5).map(job));
    let mut txn = db.write();
    txn.insert(job(5)).unwrap();
    let mut fork = txn.snapshot().fork();
    txn.table_mut::<Job>().delete_all(..);
    fork.insert(job(6)).unwrap();
    drop(txn);
    assert_eq!(ids(fork.table::<Job>().iter()), [0, 1, 2, 3, 4, 5, 6]);
    fork.check().unwrap();
}

/// A row whose end can be seen.
#[derive(Serialize, Deserialize, Table)]
#[table(name = "tracked")]
struct Tracked {
    #[key]
    id: u64,
    #[index]
    group: u64,
    #[serde(skip)]
    #[expect(dead_code, reason = "it is counted")]
    token: Token,
}

/// Counts itself as long as it lives.
#[derive(Default)]
struct Token(Option<Arc<AtomicUsize>>);

impl Drop for Token {
    fn drop(&mut self) {
        if let Some(alive) = &self.0 {
            alive.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn tracked(alive: &Arc<AtomicUsize>, id: u64) -> Tracked {
    alive.fetch_add(1, Ordering::Relaxed);
    Tracked { id, group: id % 7, token: Token(Some(Arc::clone(alive))) }
}

fn tracked_db(alive: &Arc<AtomicUsize>, rows: u64) -> Db {
    let db = Db::builder().table::<Tracked>().build().unwrap();
    commit(&db, |txn| {
        txn.table_mut().insert_all((0..rows).map(|id| tracked(alive, id))).unwrap();
    });
    db
}

#[test]
fn forks_that_are_dropped_in_any_order_leave_nothing_behind() {
    // Each order of dropping a fork, its child, a child's child and a second child.
    let orders: Vec<Vec<usize>> = (0..24_usize)
        .map(|order| {
            let mut left = vec![0, 1, 2, 3];
            [order / 6, order / 2 % 3, order % 2, 0].map(|at| left.remove(at)).to_vec()
        })
        .collect();
    for order in orders {
        let alive = Arc::default();
        let db = tracked_db(&alive, 300);
        let mut first = db.read().fork();
        let put = |fork: &mut Fork, from: u64| {
            (from..from + 40).for_each(|id| drop(fork.upsert(tracked(&alive, id)).unwrap()));
            fork.table_mut::<Tracked>().delete_all(from + 10..from + 20);
        };
        put(&mut first, 0);
        let mut second = first.fork();
        put(&mut second, 20);
        let mut third = second.fork();
        let mut fourth = first.fork();
        put(&mut third, 30);
        put(&mut first, 0);
        put(&mut fourth, 280);
        assert_eq!(alive.load(Ordering::Relaxed), 300 + 5 * 40);
        commit(&db, |txn| {
            (0..50).for_each(|id| drop(txn.upsert(tracked(&alive, id)).unwrap()));
        });
        let mut db = Some(db);
        if order[0] % 2 == 0 {
            db = None;
        }
        let mut forks = BTreeMap::from_iter((0..).zip([first, second, third, fourth]));
        for at in order {
            forks.remove(&at);
            forks.values().for_each(|fork| fork.check().unwrap());
        }
        if let Some(db) = db {
            commit(&db, |_| ());
            commit(&db, |_| ());
            assert_eq!(alive.load(Ordering::Relaxed), 300, "of the forks nothing is left");
        }
        assert_eq!(alive.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn what_a_dropped_fork_alone_made_is_freed_at_once() {
    let alive = Arc::default();
    let db = tracked_db(&alive, 10);
    let mut fork = db.read().fork();
    (0..100).for_each(|id| drop(fork.upsert(tracked(&alive, id)).unwrap()));
    let row = fork.table::<Tracked>().get(&50).unwrap().share();
    let mut child = fork.fork();
    drop(child.upsert(tracked(&alive, 500)).unwrap());
    drop(child);
    assert_eq!(alive.load(Ordering::Relaxed), 110);
    drop(fork);
    assert_eq!(alive.load(Ordering::Relaxed), 11, "a shared row lives on");
    drop(row);
    assert_eq!(alive.load(Ordering::Relaxed), 10);
}

#[test]
fn a_panic_in_a_fork_frees_what_it_made() {
    let alive = Arc::default();
    let db = tracked_db(&alive, 10);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut fork = db.read().fork();
        drop(fork.upsert(tracked(&alive, 1)).unwrap());
        let mut child = fork.fork();
        drop(child.upsert(tracked(&alive, 2)).unwrap());
        fork.table_mut::<Tracked>().retain(|_| resume_unwind(Box::new("planned")));
    }));
    assert!(outcome.is_err());
    assert_eq!(alive.load(Ordering::Relaxed), 10);
}

#[test]
fn a_fork_outlives_the_database_on_another_thread() {
    let alive = Arc::default();
    let db = tracked_db(&alive, 500);
    let mut fork = db.read().fork();
    fork.table_mut::<Tracked>().delete_all(..100);
    let child = fork.fork();
    drop(db);
    let there = thread::spawn({
        let alive = Arc::clone(&alive);
        move || {
            (0..100).for_each(|id| drop(fork.insert(tracked(&alive, 1000 + id)).unwrap()));
            fork.check().unwrap();
            fork.table::<Tracked>().len()
        }
    });
    assert_eq!(child.table::<Tracked>().len(), 400);
    assert_eq!(there.join().unwrap(), 500);
    child.check().unwrap();
    drop(child);
    assert_eq!(alive.load(Ordering::Relaxed), 0);
}

#[test]
fn thousands_of_nested_forks_are_dropped_without_a_deep_stack() {
    let db = empty();
    let forks = thread::Builder::new().stack_size(128 * 1024).spawn(move || {
        let mut fork = db.read().fork();
        let mut all = Vec::new();
        for id in 0..2_000 {
            fork.insert(node(id)).unwrap();
            let child = fork.fork();
            all.push(std::mem::replace(&mut fork, child));
        }
        assert_eq!(fork.table::<Node>().len(), 2_000);
        drop(all);
        drop(fork);
    });
    forks.unwrap().join().unwrap();
}

#[test]
fn a_writer_goes_on_beside_forks() {
    let db = with_jobs((0..200).map(job));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let mut fork = db.read().fork();
                    let before = fork.table::<Job>().len();
                    for id in 0..50 {
                        fork.upsert(Job { priority: 3, ..job(id) }).unwrap();
                    }
                    fork.table_mut::<Job>().delete_all(..10);
                    assert_eq!(fork.table::<Job>().len(), before - 10);
                    fork.check().unwrap();
                }
            });
        }
        for round in 0..200 {
            commit(&db, |txn| drop(txn.upsert(Job { priority: 1, ..job(round % 200) }).unwrap()));
        }
    });
    db.check().unwrap();
    assert_eq!(db.read().table::<Job>().len(), 200);
}

#[test]
fn a_rebase_takes_what_either_side_changed() {
    let db = with_jobs((0..8).map(job));
    let mut fork = db.read().fork();
    let priority = |id, priority| Job { priority, ..job(id) };
    fork.upsert(priority(0, 1)).unwrap(); // mine alone
    fork.table_mut::<Job>().delete(&1); // mine alone
    fork.insert(job(10)).unwrap(); // mine alone
    fork.upsert(priority(2, 5)).unwrap(); // both the same
    fork.table_mut::<Job>().delete(&3); // both the same
    fork.insert(priority(11, 5)).unwrap(); // both the same
    fork.upsert(job(4)).unwrap(); // written and not changed
    fork.upsert(priority(5, 6)).unwrap(); // theirs is written and not changed
    commit(&db, |txn| {
        txn.upsert(priority(2, 5)).unwrap();
        txn.table_mut::<Job>().delete(&3);
        txn.insert(priority(11, 5)).unwrap();
        txn.upsert(priority(4, 7)).unwrap();
        txn.upsert(job(5)).unwrap();
        txn.upsert(priority(6, 7)).unwrap(); // theirs alone
        txn.insert(job(12)).unwrap(); // theirs alone
    });
    let before = jobs(&fork);
    let rebased = fork.rebase(&db.read()).unwrap();
    assert_eq!(jobs(&fork), before);
    let expected = [
        priority(0, 1),
        priority(2, 5),
        priority(4, 7),
        priority(5, 6),
        priority(6, 7),
        job(7),
        job(10),
        priority(11, 5),
        job(12),
    ];
    assert_eq!(jobs(&rebased), expected);
    rebased.check().unwrap();
    let ids: Vec<u64> =
        rebased.changes().iter().map(|change| decode(change.key()).unwrap()).collect();
    assert_eq!(ids, [0, 1, 5, 10], "its changes are those against the newer version");
    assert_eq!((rebased.origin().revision().0, rebased.revision().0), (2, 3));
    let table = rebased.table::<Job>();
    let meta = |id: u64| table.get(&id).map(|row| (row.created().0, row.modified().0));
    assert_eq!([meta(0), meta(10), meta(2)], [Some((1, 3)), Some((3, 3)), Some((1, 2))]);
    // Nothing in between is the same as nothing changed.
    assert_eq!(jobs(&rebased.rebase(&db.read()).unwrap()), expected);
}

#[test]
fn a_rebase_tells_all_conflicts_at_once() {
    let db = with_jobs((0..8).map(job));
    let mut fork = db.read().fork();
    let priority = |id, priority| Job { priority, ..job(id) };
    fork.upsert(priority(0, 1)).unwrap(); // changed and changed
    fork.upsert(priority(1, 1)).unwrap(); // changed and deleted
    fork.table_mut::<Job>().delete(&2); // deleted and changed
    fork.insert(priority(9, 1)).unwrap(); // created and created
    fork.upsert(Job { name: "wanted".into(), ..job(4) }).unwrap(); // taken there
    fork.upsert(priority(5, 1)).unwrap(); // no conflict
    fork.insert(node(1)).unwrap(); // no conflict
    commit(&db, |txn| {
        txn.upsert(priority(0, 2)).unwrap();
        txn.table_mut::<Job>().delete(&1);
        txn.upsert(priority(2, 2)).unwrap();
        txn.insert(priority(9, 2)).unwrap();
        txn.insert(Job { name: "wanted".into(), ..job(20) }).unwrap();
    });
    let (newer, before) = (db.read(), jobs(&fork));
    let refused = fork.rebase(&newer).unwrap_err();
    assert_eq!(jobs(&fork), before, "the fork is unharmed");
    let keys: Vec<_> = refused.conflicts().iter().map(Conflict::printed_key).collect();
    assert_eq!(keys, ["0", "1", "2", "4", "9"]);
    let of = |at: usize| {
        let conflict = &refused.conflicts()[at];
        assert!(conflict.is_in::<Job>() && !conflict.is_in::<Node>());
        assert!(conflict.mine::<Node>().is_none());
        let priority = |row: Option<&fsmdb::Row<Job>>| row.map(|row| row.priority);
        [priority(conflict.before()), priority(conflict.mine()), priority(conflict.theirs())]
    };
    assert_eq!(of(0), [Some(0), Some(1), Some(2)]);
    assert_eq!(of(1), [Some(0), Some(1), None]);
    assert_eq!(of(2), [Some(0), None, Some(2)]);
    assert_eq!(of(4), [None, Some(1), Some(2)]);
    let taken = refused.conflicts()[3].kind();
    assert!(matches!(taken, ConflictKind::Refused(Error::Taken { owner, .. }) if owner == "20"));
    assert_eq!(refused.conflicts()[0].kind(), &ConflictKind::BothChanged);
    assert_eq!(refused.conflicts()[0].key(), &*encode::<u64, _>(&0_u64));
    let expected = "5 of the fork's rows conflict with the newer version; the first: \
                    table jobs: the row with key 0 was changed on both sides";
    assert_eq!(refused.to_string(), expected);

    // Whoever decides is asked about four of them; the name stays taken.
    let mut asked = 0;
    let decided = fork.rebase_with(&newer, |_| {
        asked += 1;
        Resolution::Mine
    });
    assert_eq!((asked, decided.unwrap_err().conflicts().len()), (4, 1));
    fork.table_mut::<Job>().update(&4, |job| job.name = "job-4".into()).unwrap();
    let mine = fork.rebase_with(&newer, |_| Resolution::Mine).unwrap();
    let theirs = fork.rebase_with(&newer, |_| Resolution::Theirs).unwrap();
    let shown = |fork: &Fork| {
        let table = fork.table::<Job>();
        [0, 1, 2, 5, 9].map(|id| table.get(&id).map(|job| job.priority))
    };
    assert_eq!(shown(&mine), [Some(1), Some(1), None, Some(1), Some(1)]);
    assert_eq!(shown(&theirs), [Some(2), None, Some(2), Some(1), Some(2)]);
    mine.check().unwrap();
    theirs.check().unwrap();
}

#[test]
fn rows_that_swap_a_unique_value_are_rebased_and_applied() {
    let db = with_jobs((0..4).map(job));
    let mut fork = db.read().fork();
    for (id, name, slot) in [(0, "swap", 90), (1, "job-0", 0), (0, "job-1", 1)] {
        fork.table_mut::<Job>()
            .update(&id, |job| (job.name, job.slot) = (name.into(), slot))
            .unwrap();
    }
    commit(&db, |txn| drop(txn.insert(node(1)).unwrap()));
    let rebased = fork.rebase(&db.read()).unwrap();
    assert_eq!(jobs(&rebased), jobs(&fork));
    rebased.check().unwrap();
    commit(&db, |txn| fork.change_set().unwrap().apply(txn).unwrap());
    assert_eq!(jobs(&db.read()), jobs(&fork));
    let created = db.read().table::<Job>().get(&0).unwrap().created();
    assert_eq!(created.0, 1, "it was there all the time");
    db.check().unwrap();
}

#[test]
#[should_panic(expected = "table nodes is not in the schema")]
fn a_rebase_onto_a_database_without_the_table_panics() {
    let mut fork = empty().read().fork();
    fork.insert(node(1)).unwrap();
    let other = Db::builder().table::<Job>().build().unwrap();
    let _ = fork.rebase(&other.read());
}
