//! Feeds: everything once and in order, or the word that something is missing.

use fsmdb::{Changes, Db, Event, Feed, FeedError, Lagged, Revision, Snapshot};
use loom::thread;

use crate::rows::{Follower, Left, Right, assert_nobody_waits, builder, content};
use crate::rows::{database, file_of};
use crate::{commit, file_with, model};

/// A thread that follows until it has come to a revision, and gives what it knows then.
fn follower(changes: Changes<()>, until: u64) -> thread::JoinHandle<(Follower, Feed)> {
    thread::spawn(move || {
        let (snap, mut feed) = changes.follow();
        let mut follower = Follower::new(&snap);
        drop(snap);
        while follower.revision < Revision(until) {
            follower.hear(&feed.next().unwrap().unwrap());
            assert_eq!(feed.revision(), follower.revision);
        }
        (follower, feed)
    })
}

/// It knows what the database holds, and there is nothing more to hear.
fn assert_complete((follower, mut feed): (Follower, Feed), db: &Db) {
    assert_eq!(follower.content(), content(&db.read()));
    assert_eq!(follower.revision, db.revision());
    assert!(matches!(feed.try_next(), Ok(None)), "something came twice");
    assert_eq!(feed.revision(), db.revision());
}

#[test]
fn a_snapshot_and_its_feed_have_every_commit_once() {
    model(|| {
        let db = database();
        let follower = follower(db.changes(), 2);
        commit(&db, 1);
        commit(&db, 2);
        assert_complete(follower.join().unwrap(), &db);
        assert_nobody_waits(&db);
    });
}

#[test]
fn one_ring_reaches_two_feeds() {
    model(|| {
        let db = database();
        let followers = [follower(db.changes(), 1), follower(db.changes(), 1)];
        commit(&db, 1);
        for follower in followers {
            assert_complete(follower.join().unwrap(), &db);
        }
        assert_nobody_waits(&db);
    });
}

#[test]
fn two_writers_and_a_feed_that_is_open() {
    model(|| {
        let db = database();
        let mut feed = db.changes().open();
        let other = {
            let db = db.clone();
            thread::spawn(move || commit(&db, 1))
        };
        let reader = thread::spawn(move || {
            let revisions = [(); 2].map(|()| match feed.next() {
                Some(Ok(Event::Commit(commit))) => commit.revision().0,
                other => panic!("{other:?}"),
            });
            assert_eq!(revisions, [1, 2]);
            assert!(matches!(feed.try_next(), Ok(None)));
        });
        commit(&db, 2);
        other.join().unwrap();
        reader.join().unwrap();
        assert_nobody_waits(&db);
    });
}

#[test]
fn a_second_feed_begins_behind_its_version_and_is_never_sent_back() {
    model(|| {
        let db = database();
        let first = db.changes().open();
        let second = {
            let changes = db.changes();
            thread::spawn(move || {
                let (snap, mut feed) = changes.follow();
                let mut follower = Follower::new(&snap);
                while let Some(event) = feed.try_next().unwrap() {
                    follower.hear(&event);
                }
                assert!(feed.revision() >= snap.revision(), "back in time");
                (follower, feed)
            })
        };
        commit(&db, 1);
        let (mut follower, mut feed) = second.join().unwrap();
        while let Some(event) = feed.try_next().unwrap() {
            follower.hear(&event);
        }
        assert_complete((follower, feed), &db);
        drop(first);
        assert_nobody_waits(&db);
    });
}

#[test]
fn a_feed_that_skips_is_never_sent_back() {
    model(|| {
        let db = database();
        let mut feed = db.changes().open();
        let reader = thread::spawn(move || {
            let snap = feed.catch_up();
            let mut follower = Follower::new(&snap);
            while let Some(event) = feed.try_next().unwrap() {
                follower.hear(&event);
            }
            (follower, feed)
        });
        commit(&db, 1);
        let (mut follower, mut feed) = reader.join().unwrap();
        while let Some(event) = feed.try_next().unwrap() {
            follower.hear(&event);
        }
        assert_complete((follower, feed), &db);
        assert_nobody_waits(&db);
    });
}

#[test]
fn nobody_follows_from_where_the_log_has_not_been() {
    model(|| {
        let db = database();
        commit(&db, 1);
        let other = {
            let changes = db.changes();
            thread::spawn(move || drop(changes.open()))
        };
        let gone = FeedError::Gone { revision: Revision(0), floor: Revision(1) };
        assert_eq!(db.changes().since(Revision(0)).unwrap_err(), gone);
        other.join().unwrap();
        assert_nobody_waits(&db);
    });
}

/// What a reader of a log of one commit hears: the revisions, in which a gap must be told.
struct Told {
    last: Revision,
}

impl Told {
    fn hear(&mut self, next: Result<Option<Event>, Lagged>) -> bool {
        match next {
            Ok(None) => return false,
            Ok(Some(Event::Commit(commit))) => {
                assert_eq!(commit.revision(), self.last.next(), "a gap, or twice");
                self.last = commit.revision();
            }
            Err(lagged) => {
                assert!(lagged.resume_at > self.last, "it has not missed anything");
                self.last = lagged.resume_at;
            }
            other => panic!("{other:?}"),
        }
        true
    }
}

#[test]
fn a_feed_that_is_too_slow_is_told_and_misses_nothing_else() {
    model(|| {
        let db = builder().feed_limits(1, usize::MAX).build().unwrap();
        let mut feed = db.changes().open();
        let reader = thread::spawn(move || {
            let mut told = Told { last: Revision(0) };
            told.hear(feed.try_next());
            told.hear(feed.try_next());
            (told, feed)
        });
        for value in 1..=3 {
            commit(&db, value);
        }
        let (mut told, mut feed) = reader.join().unwrap();
        while told.hear(feed.try_next()) {}
        assert_eq!(told.last, Revision(3));
        assert!(db.waiting().feed_commits <= 1);
        drop(feed);
        assert_nobody_waits(&db);
    });
}

#[test]
fn an_erasure_leaves_nothing_in_the_hands_of_a_feed_that_takes_beside_it() {
    model(|| {
        let db = database();
        let mut feed = db.changes().open();
        commit(&db, 1);
        commit(&db, 2);
        let end = db.read().table::<Left>().get(&0_u8).unwrap().token.end();
        let reader = thread::spawn(move || {
            // It takes both commits, or none, and gives one.
            let mut told = Told { last: Revision(0) };
            told.hear(feed.try_next());
            (told, feed)
        });
        let mut txn = db.write();
        assert!(txn.table_mut::<Left>().erase(&0_u8) && txn.table_mut::<Right>().erase(&0_u8));
        txn.commit();
        let (mut told, mut feed) = reader.join().unwrap();
        assert!(end.upgrade().is_none(), "the feed has taken it and not given it");
        while told.hear(feed.try_next()) {}
        assert_eq!(told.last, Revision(3));
        assert_eq!((content(&db.read()), db.waiting().feed_commits), (Vec::new(), 0));
        drop(feed);
        assert_nobody_waits(&db);
    });
}

#[test]
fn a_feed_that_begins_or_skips_beside_a_log_that_overflows_misses_nothing_unseen() {
    for is_skip in [false, true] {
        model(move || {
            let db = builder().feed_limits(1, usize::MAX).build().unwrap();
            let mut open = db.changes().open();
            let changes = db.changes();
            let reader = thread::spawn(move || {
                let (snap, feed) = if is_skip { (open.catch_up(), open) } else { changes.follow() };
                (Told { last: snap.revision() }, feed)
            });
            commit(&db, 1);
            commit(&db, 2);
            let (mut told, mut feed) = reader.join().unwrap();
            while told.hear(feed.try_next()) {}
            assert_eq!(told.last, Revision(2));
        });
    }
}

#[test]
fn a_feed_can_be_dropped_while_a_commit_tells_it() {
    model(|| {
        let db = database();
        let (feed, other) = (db.changes().open(), follower(db.changes(), 1));
        let dropper = thread::spawn(move || drop(feed));
        commit(&db, 1);
        dropper.join().unwrap();
        assert_complete(other.join().unwrap(), &db);
        assert_nobody_waits(&db);
    });
}

#[test]
fn the_log_goes_with_the_last_feed_also_beside_a_commit() {
    model(|| {
        let db = database();
        let feed = db.changes().open();
        let dropper = thread::spawn(move || drop(feed));
        let opener = {
            let changes = db.changes();
            thread::spawn(move || {
                let (snap, mut feed) = changes.follow();
                let mut follower = Follower::new(&snap);
                while let Some(event) = feed.try_next().unwrap() {
                    follower.hear(&event);
                }
            })
        };
        commit(&db, 1);
        dropper.join().unwrap();
        opener.join().unwrap();
        assert_nobody_waits(&db);
    });
}

#[test]
fn who_was_away_goes_on_where_it_was() {
    model(|| {
        let db = builder().keep_changes(8, usize::MAX).build().unwrap();
        let reader = {
            let db = db.clone();
            thread::spawn(move || {
                let (mut follower, feed) = follow_now(&db);
                drop(feed);
                let mut feed = db.changes().since(follower.revision).unwrap();
                while follower.revision < Revision(2) {
                    follower.hear(&feed.next().unwrap().unwrap());
                }
                (follower, feed)
            })
        };
        commit(&db, 1);
        commit(&db, 2);
        assert_complete(reader.join().unwrap(), &db);
        assert_eq!(db.waiting().feeds, 0);
    });
}

/// Follows, and takes in what there is at the moment.
fn follow_now(db: &Db) -> (Follower, Feed) {
    let (snap, mut feed): (Snapshot, Feed) = db.changes().follow();
    let mut follower = Follower::new(&snap);
    while let Some(event) = feed.try_next().unwrap() {
        follower.hear(&event);
    }
    (follower, feed)
}

#[test]
fn a_restore_is_one_item_in_its_place() {
    model(|| {
        let file = file_with(9);
        let db = database();
        commit(&db, 1);
        let reader = {
            let db = db.clone();
            thread::spawn(move || follow_now(&db))
        };
        db.restore(file.as_slice()).unwrap();
        commit(&db, 2);
        let (mut follower, mut feed) = reader.join().unwrap();
        while let Some(event) = feed.try_next().unwrap() {
            follower.hear(&event);
        }
        assert_complete((follower, feed), &db);
        assert_nobody_waits(&db);
    });
}

#[test]
fn a_restore_that_goes_back_is_heard_of_before_what_comes_after_it() {
    model(|| {
        let db = database();
        let file = file_of(&db);
        commit(&db, 1);
        let reader = {
            let db = db.clone();
            thread::spawn(move || follow_now(&db))
        };
        db.restore(file.as_slice()).unwrap();
        let (mut follower, mut feed) = reader.join().unwrap();
        while let Some(event) = feed.try_next().unwrap() {
            follower.hear(&event);
        }
        assert_complete((follower, feed), &db);
        assert_nobody_waits(&db);
    });
}

#[test]
fn the_end_of_the_database_ends_a_feed_after_its_last_item() {
    model(|| {
        let db = database();
        // What threads have together by an `Arc` of `std` may go only after both have ended.
        let kept = db.changes();
        let mut feed = db.changes().open();
        let reader = thread::spawn(move || {
            assert!(matches!(feed.next(), Some(Ok(Event::Commit(_)))));
            assert!(feed.next().is_none());
        });
        commit(&db, 1);
        drop(db);
        reader.join().unwrap();
        drop(kept);
    });
}

#[test]
fn a_feed_that_opens_beside_the_end_of_the_database_ends() {
    model(|| {
        let db = database();
        let (kept, changes) = (db.changes(), db.changes());
        let readers = [changes, db.changes()]
            .map(|changes| thread::spawn(move || assert!(changes.open().next().is_none())));
        drop(db);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        drop(kept);
    });
}
