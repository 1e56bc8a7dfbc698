//! What is dropped is freed: after snapshots, watches, waits, feeds and differences have gone,
//! memory is what it was.
//!
//! Each test counts the bytes that its own thread has allocated and not freed, and starts no other.
//! The first round of each warms what is kept for good.

#![cfg(feature = "derive")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use fsmdb::{Change, Db, Event, Feed, Revision, Snapshot, Table, Watch};
use serde::{Deserialize, Serialize};

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: usize, sign: isize) {
    // A thread that is ending has no thread-locals any more; nothing is measured there.
    let _ = LIVE.try_with(|live| live.set(live.get() + sign * bytes as isize));
}

/// Bytes that this thread has allocated and not freed.
fn live() -> isize {
    LIVE.get()
}

// SAFETY: every call goes to the system allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: `pointer` came from `System` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Bytes that may be more or less after a round: a buffer or two that has grown. Mostly it is none.
const SLACK: isize = 1024;

const ROUNDS: usize = 5;
const ROWS: u32 = 200;
const WATCHES: u32 = 1_000;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Table)]
#[table(name = "jobs")]
struct Job {
    #[key]
    id: u32,
    #[index]
    status: u8,
    #[index(unique)]
    name: String,
    #[index(multi)]
    tags: BTreeSet<u8>,
}

fn job(id: u32, status: u8) -> Job {
    let tags = [status, (id % 7) as u8].into();
    Job { id, status, name: format!("job number {id}"), tags }
}

fn put(db: &Db, jobs: impl IntoIterator<Item = Job>) -> Revision {
    let mut txn = db.write();
    jobs.into_iter().for_each(|job| drop(txn.upsert(job).unwrap()));
    txn.commit()
}

/// Brings the rows to what they are between rounds, and lets the engine free what it has to: at
/// most so much in one commit.
fn settle(db: &Db) {
    let mut txn = db.write();
    txn.table_mut::<Job>().delete_all(ROWS..);
    txn.commit();
    put(db, (0..ROWS).map(|id| job(id, 0)));
    for status in [1, 0].repeat(20) {
        put(db, [job(0, status)]);
    }
    for _ in 0..20 {
        db.write().commit();
    }
}

fn filled(builder: fsmdb::Builder) -> Db {
    let db = builder.table::<Job>().build().unwrap();
    put(&db, (0..ROWS).map(|id| job(id, 0)));
    db
}

/// Watches of every kind of question, one by one.
fn watches(snap: &Snapshot) -> Vec<Watch> {
    let watch = |number: u32| {
        let (id, status) = (number % (2 * ROWS), (number % 5) as u8);
        let (_, watch) = snap.watch(|read| {
            let jobs = read.table::<Job>();
            match number % 13 {
                0 => jobs.get(&id).is_some(),
                1 => jobs.contains(&id),
                2 => jobs.range(id..id + 10).map(|job| job.status).sum::<u8>() > 0,
                3 => jobs.len() > 3,
                4 => jobs.is_empty(),
                5 => jobs.first().is_some() && jobs.last().is_some(),
                6 => jobs.iter().take(3).any(|job| job.status == status),
                7 => jobs.index(Job::BY_STATUS).get(&status).count() > 1,
                8 => jobs.index(Job::BY_STATUS).contains(&status),
                9 => jobs.index(Job::BY_NAME).get(&format!("job number {id}")).is_some(),
                10 => jobs.index(Job::BY_TAGS).get(&status).any(|job| job.id == id),
                11 => jobs.range(id..).nth(3).is_some(),
                _ => jobs.index(Job::BY_STATUS).range(status..).next_back().is_some(),
            }
        });
        watch
    };
    (0..WATCHES).map(watch).collect()
}

/// Holds the bytes that are live after each round to those after the first.
fn assert_flat(db: &Db, mut round: impl FnMut(&Db)) {
    let mut baseline = None;
    for number in 0..ROUNDS {
        round(db);
        settle(db);
        let now = live();
        let baseline = *baseline.get_or_insert(now);
        let grown = now - baseline;
        assert!(grown.abs() <= SLACK, "{grown} bytes more after round {number}");
    }
    let waiting = db.waiting();
    assert_eq!((waiting.watches, waiting.revisions, waiting.feeds), (0, 0, 0));
}

#[test]
fn watches_that_fired_or_were_dropped_leave_nothing() {
    let db = filled(Db::builder());
    assert_flat(&db, |db| {
        let mut watches = watches(&db.read());
        assert_eq!(db.waiting().watches, watches.len());
        let dropped = watches.split_off(watches.len() / 2);
        put(db, [job(3, 4), job(ROWS + 1, 3)]);
        assert!(watches.iter().any(|watch| watch.ended().is_some()));
        let is_held = |watch: &&Watch| watch.ended().is_none();
        let held = watches.iter().chain(&dropped).filter(is_held).count();
        assert_eq!(db.waiting().watches, held, "a watch that fired is in the registry");
        drop(dropped);
        // One has waited in vain, in a thread and in a task.
        let rest = watches.iter().find(is_held).unwrap();
        assert_eq!(rest.wait(Duration::ZERO), None);
        let _ = pin!(rest.changed()).poll(&mut Context::from_waker(Waker::noop()));
    });
}

#[test]
fn a_watch_that_fired_holds_nothing_in_the_registry() {
    let db = filled(Db::builder());
    drop(watches(&db.read()));
    settle(&db);
    let before = live();
    let watches = watches(&db.read());
    let (count, entered) = (watches.len(), live() - before);
    let mut txn = db.write();
    txn.table_mut::<Job>().delete_all(..);
    txn.commit();
    put(&db, (0..2 * ROWS).map(|id| job(id, (1 + id % 9) as u8)));
    let fired: Vec<_> = watches.into_iter().filter(|watch| watch.ended().is_some()).collect();
    assert!(fired.len() > count * 9 / 10, "{}", fired.len());
    assert_eq!(db.waiting().watches, 0);
    settle(&db);
    // What they hold is what users have in hand: a signal each.
    let each = (live() - before) / fired.len() as isize;
    assert!(each < 200, "{each} bytes for each that fired, of {entered} in all before");
}

#[test]
fn waits_that_were_reached_or_abandoned_leave_nothing() {
    let db = filled(Db::builder());
    assert_flat(&db, |db| {
        let now = db.revision().0;
        for ahead in 0..200 {
            let wait = db.wait_for(Revision(now + ahead % 3));
            assert_eq!(wait.wait(Duration::ZERO).is_ok(), ahead % 3 == 0);
        }
        let mut waits: Vec<_> = (0..200).map(|ahead| db.wait_for(Revision(now + ahead))).collect();
        for wait in &mut waits {
            let _ = pin!(wait).poll(&mut Context::from_waker(Waker::noop()));
        }
        assert_eq!(db.waiting().revisions, 199);
        for id in 0..50 {
            put(db, [job(id, 2)]);
        }
        assert_eq!(db.waiting().revisions, 149);
    });
}

fn drain(feed: &mut Feed, at_most: usize) -> usize {
    let next = |feed: &mut Feed| feed.try_next().ok().flatten();
    (0..at_most).map_while(|_| next(feed)).filter(|event| matches!(event, Event::Commit(_))).count()
}

#[test]
fn feeds_read_in_part_or_lagging_leave_nothing() {
    let db = filled(Db::builder().feed_limits(40, usize::MAX));
    assert_flat(&db, |db| {
        let (snap, mut whole) = db.changes().follow();
        let mut part = db.changes_of::<Job>().range(..50).open();
        let unread = db.changes_of::<Job>().index_value(Job::BY_STATUS, &7).open();
        let mut lagging = db.changes().open();
        for id in 0..30 {
            put(db, [job(id, 7)]);
        }
        assert_eq!(drain(&mut whole, 100), 30);
        assert_eq!(drain(&mut part, 5), 5);
        for id in 0..100 {
            put(db, [job(id, 8)]);
        }
        assert!(lagging.try_next().is_err());
        drop(lagging.catch_up());
        assert_eq!(db.waiting().feed_commits, 40);
        drop((snap, whole, unread));
        let seen = part.revision();
        drop(part);
        assert_eq!(db.waiting().feeds, 1);
        assert!(db.changes().since(seen).is_err(), "gone");
        drop(lagging);
        assert_eq!(db.waiting().feed_bytes, 0);
    });
}

#[test]
fn a_feed_that_is_never_read_stays_within_its_limits() {
    let (commits, bytes) = (50, 64 * 1024);
    let db = filled(Db::builder().feed_limits(commits, bytes));
    let feed = db.changes().open();
    let touch = |times: usize| {
        for id in (0..ROWS).cycle().take(times) {
            put(&db, [job(id, (id % 3) as u8)]);
        }
    };
    touch(2 * ROWS as usize);
    let before = live();
    for _ in 0..5 {
        touch(ROWS as usize);
        let waiting = db.waiting();
        assert!(waiting.feed_commits <= commits && waiting.feed_bytes <= bytes, "{waiting:?}");
        let grown = live() - before;
        assert!(grown.abs() <= SLACK, "{grown} bytes more");
    }
    drop(feed);
    assert_eq!(db.waiting().feed_bytes, 0);
}

#[test]
fn snapshots_differences_and_restores_leave_nothing() {
    let db = filled(Db::builder());
    let mut file = Vec::new();
    db.read().save(&mut file).unwrap();
    assert_flat(&db, |db| {
        let mut held = Vec::new();
        let mut feed = db.changes().open();
        for id in 0..60 {
            put(db, [job(id, 3), job(ROWS + id, 3)]);
            held.push(db.read());
        }
        let changes: Vec<Change> = held[59].diff_all(&held[0]).collect();
        assert!(!changes.is_empty());
        // In the middle first, then the rest while the changes still hold rows.
        held.drain(20..40);
        let watches = watches(&held[0]);
        db.restore(file.as_slice()).unwrap();
        let rows: Vec<_> = held[1].table::<Job>().iter().map(fsmdb::Row::share).collect();
        drop(held);
        assert!(matches!(feed.next(), Some(Ok(Event::Commit(_)))));
        put(db, [job(1, 1)]);
        drop((changes, watches, rows, feed));
    });
}

#[test]
fn a_database_that_ends_with_everything_open_leaves_nothing() {
    let mut baseline = None;
    for number in 0..ROUNDS {
        let db = filled(Db::builder());
        let (snap, mut feed) = db.changes().follow();
        let watches = watches(&snap);
        let mut waits: Vec<_> = (0..50).map(|ahead| db.wait_for(Revision(5 + ahead))).collect();
        for wait in &mut waits {
            let _ = pin!(wait).poll(&mut Context::from_waker(Waker::noop()));
        }
        put(&db, (0..50).map(|id| job(id, 1)));
        drop(db);
        assert!(watches.iter().all(|watch| watch.ended().is_some()));
        assert!(matches!(feed.next(), Some(Ok(Event::Commit(_)))));
        assert!(feed.next().is_none());
        drop((watches, feed));
        assert_eq!(snap.table::<Job>().len(), ROWS as usize);
        drop((snap, waits));
        let grown = live() - *baseline.get_or_insert_with(live);
        assert!(grown.abs() <= SLACK, "{grown} bytes more after round {number}");
    }
}
