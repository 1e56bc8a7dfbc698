//! Watchers, waiters and feeds beside committers and restores.

use fsmdb::{Db, Event, Revision, Wake};
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::thread;

use crate::rows::{Follower, Left, assert_nobody_waits, builder, content, database, file_of, put};
use crate::{DEPTH, IDS, READERS, explore, schedules, write_some};

const COMMITS: usize = 8;
/// Which row says that nothing will come any more: no transaction writes it.
const LAST: u8 = IDS + 1;

fn commit_times(count: usize, db: &Db) {
    for _ in 0..count {
        let mut txn = db.write();
        write_some(&mut txn);
        txn.commit();
    }
}

fn committers(db: &Db) -> Vec<thread::JoinHandle<()>> {
    let committer = |_| {
        let db = db.clone();
        thread::spawn(move || commit_times(COMMITS, &db))
    };
    (0..2).map(committer).collect()
}

fn join(threads: Vec<thread::JoinHandle<()>>) {
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Reads, watches and waits until the last row is there; drops some watches before they end.
fn watch_on(db: &Db, is_monotonic: bool) {
    let id = thread_rng().gen_range(0..IDS);
    loop {
        let snap = db.read();
        let ((seen, count, is_over), watch) = snap.watch(|read| {
            let lefts = read.table::<Left>();
            let seen = lefts.get(&id).map(|row| row.value);
            (seen, lefts.index(Left::BY_VALUE).get(&3).count(), lefts.contains(&LAST))
        });
        if is_over {
            return;
        }
        if thread_rng().gen_bool(0.2) {
            continue;
        }
        assert_eq!(watch.wait(None), Some(Wake::Changed));
        let now = db.read();
        let lefts = now.table::<Left>();
        let value = lefts.get(&id).map(|row| row.value);
        let is_same = value == seen
            && lefts.index(Left::BY_VALUE).get(&3).count() == count
            && !lefts.contains(&LAST);
        // What was changed may have been changed back by a later commit, or by a restore.
        let is_next = is_monotonic && now.revision() == snap.revision().next();
        assert!(!(is_same && is_next), "woken for nothing");
    }
}

fn end(db: &Db) {
    let mut txn = db.write();
    put(&mut txn, LAST, 1);
    txn.commit();
}

fn watchers(count: usize, db: &Db, is_monotonic: bool) -> Vec<thread::JoinHandle<()>> {
    let watcher = |_| {
        let db = db.clone();
        thread::spawn(move || watch_on(&db, is_monotonic))
    };
    (0..count).map(watcher).collect()
}

/// Eight watchers beside two committers: each comes to the end.
fn watches() {
    let db = database();
    let (watchers, committers) = (watchers(READERS, &db, true), committers(&db));
    join(committers);
    end(&db);
    join(watchers);
    assert_nobody_waits(&db);
}

/// Eight wait for random revisions, some of them again and again.
fn waits() {
    let db = database();
    let waiter = |_| {
        let db = db.clone();
        thread::spawn(move || {
            let mut wanted = 0;
            while wanted < 2 * COMMITS as u64 {
                wanted = thread_rng().gen_range(wanted..=2 * COMMITS as u64).max(wanted + 1);
                let snap = db.wait_for(Revision(wanted)).wait(None).unwrap();
                assert!(snap.revision().0 >= wanted);
                wanted = snap.revision().0;
            }
        })
    };
    let waiters: Vec<_> = (0..READERS).map(waiter).collect();
    join(committers(&db));
    join(waiters);
    assert_nobody_waits(&db);
}

/// Follows until the last row is there, by waiting or by asking; goes on anew when it lags, and
/// sometimes after it was away.
fn follow_on(db: &Db, is_bounded: bool) {
    let (snap, mut feed) = db.changes().follow();
    let mut follower = Follower::new(&snap);
    drop(snap);
    while !follower.content().iter().any(|(id, _)| *id == LAST) {
        let next = if thread_rng().gen_bool(0.5) {
            feed.next().expect("the database is open").map(Some)
        } else {
            thread::yield_now();
            feed.try_next()
        };
        match next {
            Ok(Some(event)) => follower.hear(&event),
            Ok(None) => {}
            Err(lagged) => {
                assert!(is_bounded, "{lagged}");
                follower = Follower::new(&feed.catch_up());
            }
        }
        if thread_rng().gen_bool(0.1) {
            let again = db.changes().since(follower.revision);
            feed = match again {
                Ok(feed) => feed,
                Err(error) => {
                    assert!(is_bounded, "{error}");
                    let (snap, feed) = db.changes().follow();
                    follower = Follower::new(&snap);
                    feed
                }
            };
        }
    }
    assert_eq!(follower.content(), content(&db.read()));
    assert!(matches!(feed.try_next(), Ok(None | Some(Event::Bookmark(_)))), "something came twice");
}

fn followers(db: &Db, is_bounded: bool) -> Vec<thread::JoinHandle<()>> {
    let follower = |_| {
        let db = db.clone();
        thread::spawn(move || follow_on(&db, is_bounded))
    };
    (0..READERS).map(follower).collect()
}

/// Eight feeds beside two committers: each has everything once.
fn feeds() {
    let db = database();
    let (followers, committers) = (followers(&db, false), committers(&db));
    join(committers);
    end(&db);
    join(followers);
    assert_nobody_waits(&db);
}

/// The same with a log of two commits, so that some lag.
fn slow_feeds() {
    let db = builder().feed_limits(2, usize::MAX).build().unwrap();
    let (followers, committers) = (followers(&db, true), committers(&db));
    join(committers);
    assert!(db.waiting().feed_commits <= 2);
    end(&db);
    join(followers);
    assert_nobody_waits(&db);
}

/// Watchers and feeds beside a committer and restores.
fn restored() {
    let db = database();
    commit_times(3, &db);
    let file = file_of(&db);
    let mut threads = watchers(READERS / 2, &db, false);
    for _ in 0..READERS / 2 {
        let db = db.clone();
        threads.push(thread::spawn(move || {
            let (snap, mut feed) = db.changes().follow();
            let mut follower = Follower::new(&snap);
            while !follower.content().iter().any(|(id, _)| *id == LAST) {
                follower.hear(&feed.next().unwrap().unwrap());
            }
            assert_eq!(follower.content(), content(&db.read()));
        }));
    }
    let committer = {
        let db = db.clone();
        thread::spawn(move || commit_times(COMMITS, &db))
    };
    (0..4).for_each(|_| db.restore(file.as_slice()).unwrap());
    committer.join().unwrap();
    end(&db);
    join(threads);
    assert_nobody_waits(&db);
}

/// The database goes while eight watch, wait and follow.
fn all_end_with_the_database() {
    let db = database();
    commit_times(2, &db);
    let waiting = |number| {
        let (snap, wait, changes) = (db.read(), db.wait_for(Revision(1_000)), db.changes());
        thread::spawn(move || match number % 3 {
            0 => {
                let (_, watch) = snap.watch(|read| read.table::<Left>().contains(&LAST));
                assert_eq!(watch.wait(None), Some(Wake::Closed));
            }
            1 => assert!(wait.wait(None).is_err()),
            _ => {
                let mut feed = changes.open();
                while let Some(event) = feed.next() {
                    event.unwrap();
                }
            }
        })
    };
    let threads: Vec<_> = (0..READERS).map(waiting).collect();
    commit_times(2, &db);
    drop(db);
    join(threads);
}

macro_rules! by_both {
    ($($name:ident: $random:ident, $priorities:ident, $usual:expr;)*) => {$(
        #[test]
        fn $random() {
            explore(RandomScheduler::new(schedules($usual)), $name);
        }

        #[test]
        fn $priorities() {
            explore(PctScheduler::new(DEPTH, schedules($usual)), $name);
        }
    )*};
}

by_both! {
    watches: watches_by_random_schedules, watches_by_priorities, 2_000;
    waits: waits_by_random_schedules, waits_by_priorities, 2_000;
    feeds: feeds_by_random_schedules, feeds_by_priorities, 2_000;
    slow_feeds: slow_feeds_by_random_schedules, slow_feeds_by_priorities, 2_000;
    restored: watches_and_feeds_beside_restores_by_random_schedules,
        watches_and_feeds_beside_restores_by_priorities, 2_000;
    all_end_with_the_database: the_end_of_the_database_by_random_schedules,
        the_end_of_the_database_by_priorities, 2_000;
}
