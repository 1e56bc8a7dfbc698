//! Change feeds: ordered, unique, reliable, atomic, resumable, bookmarkable.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use fsmdb::{Change, ChangeKind, Commit, Db, Event, Feed, FeedError, Revision, Table, decode};
use futures_core::Stream;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Table)]
#[table(name = "jobs")]
struct Job {
    #[key]
    id: u8,
    #[index]
    status: u8,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Table)]
#[table(name = "others")]
struct Other {
    #[key]
    id: u8,
    value: u8,
}

fn builder() -> fsmdb::Builder {
    Db::builder().table::<Job>().table::<Other>()
}

fn put(db: &Db, id: u8, status: u8) -> Revision {
    let mut txn = db.write();
    txn.upsert(Job { id, status }).unwrap();
    txn.commit()
}

fn commit(feed: &mut Feed) -> Commit {
    match feed.try_next() {
        Ok(Some(Event::Commit(commit))) => commit,
        other => panic!("{other:?}"),
    }
}

fn ids(commit: &Commit) -> Vec<u8> {
    commit.changes().map(|change| decode::<u8>(change.key()).unwrap()).collect()
}

#[test]
fn a_feed_has_before_and_after_of_each_row() {
    let db = builder().build().unwrap();
    put(&db, 1, 1);
    let mut feed = db.changes().open();
    let mut txn = db.write();
    txn.upsert(Job { id: 1, status: 2 }).unwrap();
    txn.insert(Job { id: 2, status: 3 }).unwrap();
    txn.insert(Other { id: 9, value: 9 }).unwrap();
    let revision = txn.commit();
    let commit = commit(&mut feed);
    assert_eq!(commit.revision(), revision);
    let changes: Vec<_> = commit.changes().collect();
    assert_eq!(changes[0].before::<Job>().unwrap().status, 1);
    assert_eq!(changes[0].after::<Job>().unwrap().status, 2);
    assert_eq!((changes[1].kind(), changes[2].kind()), (ChangeKind::Created, ChangeKind::Created));
    assert_eq!(changes[2].after::<Other>().unwrap().value, 9);
    assert!(matches!(feed.try_next(), Ok(None)));
    assert_eq!(feed.revision(), revision);
}

#[test]
fn a_feed_of_a_part_is_told_of_that_part() {
    let db = builder().build().unwrap();
    let mut jobs = db.changes_of::<Job>().open();
    let mut range = db.changes_of::<Job>().range(2..4).open();
    let mut value = db.changes_of::<Job>().index_value(Job::BY_STATUS, &7).open();
    let mut values = db.changes_of::<Job>().index_range(Job::BY_STATUS, 5..).open();
    put(&db, 1, 1);
    put(&db, 2, 7);
    put(&db, 2, 6);
    put(&db, 2, 1);
    let mut txn = db.write();
    txn.insert(Other { id: 1, value: 1 }).unwrap();
    txn.commit();
    let revisions = |feed: &mut Feed| {
        let mut revisions = Vec::new();
        while let Some(event) = feed.try_next().unwrap() {
            match event {
                Event::Commit(commit) => revisions.push(commit.revision().0),
                Event::Bookmark(revision) => assert_eq!(revision, Revision(5)),
                other => panic!("{other:?}"),
            }
        }
        revisions
    };
    assert_eq!(revisions(&mut jobs), [1, 2, 3, 4]);
    assert_eq!(revisions(&mut range), [2, 3, 4]);
    assert_eq!(revisions(&mut value), [2, 3], "also what leaves the part");
    assert_eq!(revisions(&mut values), [2, 3, 4]);
}

#[test]
fn a_bookmark_comes_once_when_nothing_concerns_the_feed() {
    let db = builder().build().unwrap();
    let mut feed = db.changes_of::<Other>().open();
    put(&db, 1, 1);
    db.write().commit();
    assert!(matches!(feed.try_next(), Ok(Some(Event::Bookmark(Revision(2))))));
    assert!(matches!(feed.try_next(), Ok(None)));
    assert_eq!(feed.revision(), Revision(2));
}

#[test]
fn a_feed_goes_on_where_another_has_ended() {
    let db = builder().keep_changes(100, 1 << 20).build().unwrap();
    for id in 1..=5 {
        put(&db, id, 0);
    }
    let mut feed = db.changes().since(Revision(3)).unwrap();
    assert_eq!(ids(&commit(&mut feed)), [4]);
    let seen = feed.revision();
    drop(feed);
    put(&db, 6, 0);
    let mut feed = db.changes().since(seen).unwrap();
    assert_eq!((ids(&commit(&mut feed)), ids(&commit(&mut feed))), (vec![5], vec![6]));
    let ahead = FeedError::Ahead { revision: Revision(7), newest: Revision(6) };
    assert_eq!(db.changes().since(Revision(7)).unwrap_err(), ahead);
}

#[test]
fn a_feed_after_a_restore_that_went_back_unseen_begins_there() {
    let db = builder().build().unwrap();
    put(&db, 1, 0);
    let mut file = Vec::new();
    db.read().save(&mut file).unwrap();
    let before = db.changes().open();
    put(&db, 2, 0);
    drop(before);
    db.restore(file.as_slice()).unwrap();
    let mut feed = db.changes().open();
    assert!(matches!(feed.try_next(), Ok(None)), "a bookmark of what is not there any more");
    assert_eq!(feed.revision(), Revision(1));
    assert_eq!((put(&db, 3, 0), ids(&commit(&mut feed))), (Revision(2), vec![3]));
}

#[test]
fn what_is_gone_cannot_be_followed() {
    let db = builder().build().unwrap();
    put(&db, 1, 0);
    let gone = |floor| FeedError::Gone { revision: Revision(0), floor: Revision(floor) };
    assert_eq!(db.changes().since(Revision(0)).unwrap_err(), gone(1));
    assert!(db.changes().since(Revision(1)).is_ok());
    let open = db.changes().open();
    put(&db, 2, 0);
    assert!(db.changes().since(Revision(1)).is_ok());
    drop(open);
    assert_eq!(db.waiting().feed_commits, 0);
    assert_eq!(db.changes().since(Revision(0)).unwrap_err(), gone(2));
}

#[test]
fn a_slow_feed_is_told_once_and_goes_on() {
    let db = builder().feed_limits(3, usize::MAX).build().unwrap();
    let mut feed = db.changes().open();
    for id in 1..=5 {
        put(&db, id, 0);
    }
    assert_eq!(db.waiting().feed_commits, 3);
    assert_eq!(feed.try_next().unwrap_err().resume_at, Revision(2));
    assert_eq!(ids(&commit(&mut feed)), [3]);
    assert_eq!(ids(&commit(&mut feed)), [4]);
    for id in 6..=9 {
        put(&db, id, 0);
    }
    // It had taken the fifth already.
    assert_eq!(ids(&commit(&mut feed)), [5]);
    assert_eq!(feed.try_next().unwrap_err().resume_at, Revision(6));
    let snapshot = feed.catch_up();
    assert_eq!(snapshot.revision(), Revision(9));
    assert!(matches!(feed.try_next(), Ok(None)));
}

#[test]
fn the_log_stays_within_its_bytes() {
    let db = builder().feed_limits(usize::MAX, 4096).build().unwrap();
    let feed = db.changes().open();
    for round in 0..200 {
        put(&db, round, 1);
        assert!(db.waiting().feed_bytes <= 4096);
    }
    assert!(db.waiting().feed_commits > 5);
    drop(feed);
    assert_eq!((db.waiting().feeds, db.waiting().feed_bytes), (0, 0));
}

#[test]
fn a_restore_is_an_item_with_its_difference() {
    let db = builder().build().unwrap();
    put(&db, 1, 1);
    put(&db, 2, 2);
    let mut file = Vec::new();
    db.read().save(&mut file).unwrap();
    put(&db, 2, 3);
    put(&db, 3, 3);
    let mut feed = db.changes_of::<Job>().open();
    db.restore(file.as_slice()).unwrap();
    put(&db, 4, 4);
    let Ok(Some(Event::Reset(reset))) = feed.try_next() else { panic!() };
    assert_eq!((reset.from(), reset.to()), (Revision(4), Revision(2)));
    let kinds: Vec<_> = reset.changes().unwrap().map(Change::kind).collect();
    assert_eq!(kinds, [ChangeKind::Updated, ChangeKind::Deleted]);
    assert_eq!(ids(&commit(&mut feed)), [4]);
    assert_eq!(feed.revision(), Revision(3));
    // Revision 3 is that of the restored database now.
    assert!(db.changes().since(Revision(1)).is_err());
    assert!(db.changes().since(Revision(2)).is_ok());
}

#[test]
fn a_feed_ends_with_the_database() {
    let db = builder().build().unwrap();
    let feed = db.changes().open();
    let reader = std::thread::spawn(move || feed.map(|event| event.unwrap()).count());
    put(&db, 1, 1);
    put(&db, 2, 1);
    drop(db);
    assert_eq!(reader.join().unwrap(), 2);
}

#[test]
fn many_threads_are_all_told_of_everything_in_order() {
    let db = builder().build().unwrap();
    let readers: Vec<_> = (0..40)
        .map(|_| {
            let feed = db.changes().open();
            std::thread::spawn(move || {
                let mut revisions = Vec::new();
                for event in feed {
                    let Ok(Event::Commit(commit)) = event else { panic!("{event:?}") };
                    revisions.push(commit.revision().0);
                }
                revisions
            })
        })
        .collect();
    for round in 0..500_u32 {
        put(&db, round as u8, (round / 256) as u8);
        if round % 100 == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    drop(db);
    for reader in readers {
        assert_eq!(reader.join().unwrap(), (1..=500).collect::<Vec<_>>());
    }
}

#[test]
fn a_wait_for_the_next_item_ends_in_time() {
    let db = builder().build().unwrap();
    let mut feed = db.changes().open();
    assert!(feed.next_within(Duration::from_millis(2)).unwrap().is_none());
    put(&db, 1, 1);
    assert!(feed.next_within(Duration::ZERO).unwrap().is_some());
}

struct CountWakes(AtomicUsize);

impl Wake for CountWakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn tasks_stream_it() {
    let db = builder().build().unwrap();
    let mut feeds: Vec<_> = (0..5).map(|_| db.changes().open()).collect();
    let wakes = Arc::new(CountWakes(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&wakes));
    let mut context = Context::from_waker(&waker);
    for feed in &mut feeds {
        assert!(Pin::new(feed).poll_next(&mut context).is_pending());
    }
    put(&db, 1, 1);
    for (feed, woken) in feeds.iter_mut().zip(1..) {
        // Each that was woken wakes the next.
        assert_eq!(wakes.0.load(Ordering::SeqCst), woken);
        assert!(matches!(
            Pin::new(feed).poll_next(&mut context),
            Poll::Ready(Some(Ok(Event::Commit(_))))
        ));
    }
    drop(db);
    let end = Pin::new(&mut feeds[0]).poll_next(&mut context);
    assert!(matches!(end, Poll::Ready(None)), "{end:?}");
}

/// A change as values: table, key, value before and after.
type Plain = (bool, u8, Option<u8>, Option<u8>);

fn plain(change: &Change) -> Plain {
    let is_job = change.is_in::<Job>();
    let (before, after) = if is_job {
        let status = |row: Option<&fsmdb::Row<Job>>| row.map(|row| row.status);
        (status(change.before()), status(change.after()))
    } else {
        let value = |row: Option<&fsmdb::Row<Other>>| row.map(|row| row.value);
        (value(change.before()), value(change.after()))
    };
    (is_job, decode::<u8>(change.key()).unwrap(), before, after)
}

#[derive(Clone, Debug, PartialEq)]
enum Happened {
    Commit(Revision, Vec<Plain>),
    Reset(Revision, Revision),
}

impl Happened {
    fn revision(&self) -> Revision {
        match self {
            Self::Commit(revision, _) | Self::Reset(_, revision) => *revision,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Part {
    All,
    Jobs,
    Keys(u8, u8),
    Status(u8),
}

impl Part {
    fn open(self, db: &Db, since: Option<Revision>) -> Result<Feed, FeedError> {
        let begin = |changes: fsmdb::Changes<Job>| match since {
            None => Ok(changes.open()),
            Some(since) => changes.since(since),
        };
        match self {
            Self::All => match since {
                None => Ok(db.changes().open()),
                Some(since) => db.changes().since(since),
            },
            Self::Jobs => begin(db.changes_of::<Job>()),
            Self::Keys(low, high) => begin(db.changes_of::<Job>().range(low..high)),
            Self::Status(status) => {
                begin(db.changes_of::<Job>().index_value(Job::BY_STATUS, &status))
            }
        }
    }

    fn has(self, (is_job, key, before, after): &Plain) -> bool {
        match self {
            Self::All => true,
            Self::Jobs => *is_job,
            Self::Keys(low, high) => *is_job && (low..high).contains(key),
            Self::Status(status) => *is_job && [before, after].contains(&&Some(status)),
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<(bool, u8, Option<u8>)>),
    Restore,
    Save,
    Open(Part),
    Read(usize, usize),
    Resume(usize),
    Skip(usize),
    Close(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let part = prop_oneof![
        2 => Just(Part::All),
        1 => Just(Part::Jobs),
        1 => (0..6_u8, 0..6_u8).prop_map(|(low, high)| Part::Keys(low, high)),
        1 => (0..3_u8).prop_map(Part::Status),
    ];
    let statement = (any::<bool>(), 0..6_u8, prop::option::weighted(0.7, 0..3_u8));
    prop_oneof![
        10 => prop::collection::vec(statement, 0..4).prop_map(Step::Commit),
        1 => Just(Step::Restore),
        1 => Just(Step::Save),
        3 => part.prop_map(Step::Open),
        8 => (any::<usize>(), 1..6_usize).prop_map(|(feed, count)| Step::Read(feed, count)),
        2 => any::<usize>().prop_map(Step::Resume),
        1 => any::<usize>().prop_map(Step::Skip),
        1 => any::<usize>().prop_map(Step::Close),
    ]
}

/// A feed, and how much of what happened it has been told, or need not be told any more.
struct Reader {
    part: Part,
    feed: Feed,
    at: usize,
}

/// What the database holds, in plain values.
fn content(db: &Db) -> BTreeMap<(bool, u8), u8> {
    let snapshot = db.read();
    let jobs = snapshot.table::<Job>().iter().map(|row| ((true, row.id), row.status));
    let others = snapshot.table::<Other>().iter().map(|row| ((false, row.id), row.value));
    jobs.chain(others).collect()
}

impl Reader {
    /// The next thing that it must be told.
    fn next(&self, happened: &[Happened]) -> Option<usize> {
        (self.at..happened.len()).find(|at| match &happened[*at] {
            Happened::Reset(..) => true,
            Happened::Commit(_, changes) => changes.iter().any(|change| self.part.has(change)),
        })
    }

    /// Reads one item and compares; whether there was one.
    fn read(&mut self, db: &Db, happened: &[Happened]) -> bool {
        let next = self.next(happened);
        match self.feed.try_next() {
            Ok(Some(Event::Commit(commit))) => {
                let next = next.expect("nothing is told that did not happen");
                let Happened::Commit(revision, changes) = &happened[next] else { panic!() };
                let expected: Vec<_> =
                    changes.iter().filter(|change| self.part.has(change)).cloned().collect();
                assert_eq!(commit.revision(), *revision);
                assert_eq!(commit.changes().map(plain).collect::<Vec<_>>(), expected);
                self.at = next + 1;
            }
            Ok(Some(Event::Reset(reset))) => {
                let next = next.expect("nothing is told that did not happen");
                let Happened::Reset(from, to) = happened[next] else { panic!() };
                assert_eq!((reset.from(), reset.to()), (from, to));
                assert!(reset.changes().is_some());
                self.at = next + 1;
            }
            Ok(Some(Event::Bookmark(revision))) => {
                assert_eq!(self.feed.revision(), revision);
                let is_passed = |at: &usize| happened[*at].revision() <= revision;
                assert!(next.is_none_or(|next| !is_passed(&next)), "something was left out");
            }
            Ok(None) => {
                assert_eq!(next.map(|at| &happened[at]), None, "something was left out");
                assert_eq!(self.feed.revision(), db.revision());
                return false;
            }
            Ok(Some(other)) => panic!("{other:?}"),
            Err(lagged) => {
                let is_logged = |at: &usize| match &happened[*at] {
                    Happened::Commit(_, changes) => !changes.is_empty(),
                    Happened::Reset(..) => true,
                };
                let logged: Vec<_> = (0..happened.len()).filter(is_logged).collect();
                let gone = logged[logged.len() - db.waiting().feed_commits - 1];
                assert_eq!(happened[gone].revision(), lagged.resume_at);
                assert!(gone >= self.at, "it lags behind something that it has not seen");
                self.at = gone + 1;
            }
        }
        true
    }
}

const CASES: u32 = if cfg!(debug_assertions) { 192 } else { 2_000 };

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn the_six_guarantees_hold(
        steps in prop::collection::vec(step(), 1..80),
        (limit, is_kept) in (1..12_usize, any::<bool>()),
    ) {
        let builder = builder();
        let builder = if is_kept {
            builder.keep_changes(limit, usize::MAX)
        } else {
            builder.feed_limits(limit, usize::MAX)
        };
        let db = builder.build().unwrap();
        let mut file = Vec::new();
        db.read().save(&mut file).unwrap();
        let mut happened: Vec<Happened> = Vec::new();
        let mut readers: Vec<Reader> = Vec::new();
        // Replays everything onto the empty database.
        let mut replica = (db.changes().open(), BTreeMap::new());
        for step in steps {
            match step {
                Step::Commit(statements) => {
                    let mut txn = db.write();
                    for (is_job, id, value) in statements {
                        match (is_job, value) {
                            (true, Some(status)) => drop(txn.upsert(Job { id, status })),
                            (false, Some(value)) => drop(txn.upsert(Other { id, value })),
                            (true, None) => drop(txn.table_mut::<Job>().delete(&id)),
                            (false, None) => drop(txn.table_mut::<Other>().delete(&id)),
                        }
                    }
                    let changes: Vec<_> = txn.changes().iter().map(plain).collect();
                    happened.push(Happened::Commit(txn.commit(), changes));
                }
                Step::Save => {
                    file.clear();
                    db.read().save(&mut file).unwrap();
                }
                Step::Restore => {
                    let from = db.revision();
                    db.restore(file.as_slice()).unwrap();
                    happened.push(Happened::Reset(from, db.revision()));
                }
                Step::Open(part) => {
                    let (feed, at) = (part.open(&db, None).unwrap(), happened.len());
                    readers.push(Reader { part, feed, at });
                }
                Step::Read(at, count) if !readers.is_empty() => {
                    let at = at % readers.len();
                    (0..count).all(|_| readers[at].read(&db, &happened));
                }
                Step::Resume(at) if !readers.is_empty() => {
                    let at = at % readers.len();
                    let Reader { part, feed, at } = readers.swap_remove(at);
                    let seen = feed.revision();
                    drop(feed);
                    let resets = happened[at..].iter().any(|h| matches!(h, Happened::Reset(..)));
                    match part.open(&db, Some(seen)) {
                        Ok(feed) if !resets => readers.push(Reader { part, feed, at }),
                        // It cannot know that a revision is one of another past.
                        Ok(_) | Err(FeedError::Ahead { .. }) if resets => {}
                        Err(FeedError::Gone { .. }) => {}
                        other => panic!("{other:?}"),
                    }
                }
                Step::Skip(at) if !readers.is_empty() => {
                    let at = at % readers.len();
                    let snapshot = readers[at].feed.catch_up();
                    prop_assert_eq!(snapshot.revision(), db.revision());
                    readers[at].at = happened.len();
                }
                Step::Close(at) if !readers.is_empty() => {
                    readers.swap_remove(at % readers.len());
                }
                _ => {}
            }
            prop_assert!(db.waiting().feed_commits <= limit);
            loop {
                match replica.0.try_next() {
                    Ok(None) => break,
                    Ok(Some(Event::Commit(commit))) => apply(&mut replica.1, commit.changes()),
                    Ok(Some(Event::Reset(reset))) => {
                        apply(&mut replica.1, reset.changes().unwrap());
                    }
                    Ok(Some(_)) => {}
                    Err(lagged) => panic!("it reads everything at once: {lagged}"),
                }
            }
            prop_assert_eq!(&replica.1, &content(&db));
        }
        for mut reader in readers {
            while reader.read(&db, &happened) {}
        }
        drop(replica);
        let kept = if is_kept { db.waiting().feed_commits } else { 0 };
        prop_assert_eq!((db.waiting().feeds, db.waiting().feed_commits), (0, kept));
    }
}

fn apply<'a, C: Iterator<Item = &'a Change>>(content: &mut BTreeMap<(bool, u8), u8>, changes: C) {
    let mut met = BTreeSet::new();
    for (is_job, key, before, after) in changes.map(plain) {
        assert!(met.insert((is_job, key)), "one change a row");
        assert_eq!(content.get(&(is_job, key)).copied(), before);
        match after {
            Some(value) => drop(content.insert((is_job, key), value)),
            None => drop(content.remove(&(is_job, key))),
        }
    }
}
