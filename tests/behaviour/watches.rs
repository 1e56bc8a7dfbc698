//! Watches: they end when what was read has changed, and only then.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake as WakeTask, Waker};
use std::time::Duration;

use fsmdb::{Applied, Db, Fsm, Machine, Revision, Row, StartsWith, Table};
use fsmdb::{WaitError, Wake, Watch, Watcher, WriteTxn, limits};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Table)]
#[table(name = "jobs", tombstones = 100_000)]
struct Job {
    #[key]
    id: String,
    #[index]
    status: u8,
    #[index(unique)]
    slot: Option<u16>,
    #[index(multi)]
    tags: BTreeSet<u8>,
    note: u8,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Table)]
#[table(name = "others")]
struct Other {
    #[key]
    id: u8,
    value: u8,
}

fn job(id: &str, status: u8) -> Job {
    Job { id: id.into(), status, slot: None, tags: BTreeSet::new(), note: 0 }
}

fn database() -> Db {
    Db::builder().table::<Job>().table::<Other>().build().unwrap()
}

fn put(db: &Db, jobs: impl IntoIterator<Item = Job>) {
    let mut txn = db.write();
    jobs.into_iter().for_each(|job| drop(txn.upsert(job).unwrap()));
    txn.commit();
}

fn delete(db: &Db, id: &str) {
    let mut txn = db.write();
    txn.table_mut::<Job>().delete(id).unwrap();
    txn.commit();
}

fn watch<A>(db: &Db, read: impl FnOnce(&Watcher<'_>) -> A) -> Watch {
    db.read().watch(read).1
}

#[test]
fn a_row_wakes_when_it_is_put_changed_or_deleted_and_no_neighbour_does() {
    let db = database();
    put(&db, [job("a", 1), job("c", 1)]);
    let read = |read: &Watcher<'_>| read.table::<Job>().get("b").is_some();
    let absent = watch(&db, read);
    put(&db, [job("a", 2), job("ba", 1)]);
    delete(&db, "c");
    assert_eq!(absent.ended(), None);
    put(&db, [job("b", 1)]);
    assert_eq!(absent.ended(), Some(Wake::Changed));

    let there = watch(&db, read);
    put(&db, [job("a", 3)]);
    assert_eq!(there.ended(), None);
    put(&db, [job("b", 2)]);
    assert_eq!(there.ended(), Some(Wake::Changed));

    let deleted = watch(&db, read);
    delete(&db, "b");
    assert_eq!(deleted.ended(), Some(Wake::Changed));
}

#[test]
fn an_equal_row_written_again_wakes_nobody() {
    let db = database();
    put(&db, [job("a", 1)]);
    let watches = [
        watch(&db, |read| read.table::<Job>().get("a").map(|job| job.status)),
        watch(&db, |read| read.table::<Job>().iter().count()),
        watch(&db, |read| read.table::<Job>().iter().map(|job| job.note).sum::<u8>()),
        watch(&db, |read| read.table::<Job>().index(Job::BY_STATUS).get(&1).last().is_some()),
    ];
    put(&db, [job("a", 1)]);
    assert!(watches.iter().all(|watch| watch.ended().is_none()));
}

#[test]
fn a_transaction_that_nets_out_wakes_nobody() {
    let db = database();
    put(&db, [job("a", 1)]);
    let all = watch(&db, |read| read.table::<Job>().iter().map(|job| job.note).sum::<u8>());
    let absent = watch(&db, |read| read.table::<Job>().contains("b"));
    let mut txn = db.write();
    txn.insert(job("b", 1)).unwrap();
    txn.table_mut::<Job>().delete("b").unwrap();
    txn.upsert(job("a", 9)).unwrap();
    txn.upsert(job("a", 1)).unwrap();
    let before = txn.savepoint();
    txn.insert(job("c", 1)).unwrap();
    txn.rollback_to(&before);
    txn.commit();
    assert_eq!((all.ended(), absent.ended()), (None, None));
    drop(db.write());
    assert_eq!((all.ended(), absent.ended()), (None, None));
}

#[test]
fn a_count_wakes_by_another_number_alone() {
    let db = database();
    put(&db, [job("a", 1), job("b", 1)]);
    let running = watch(&db, |read| read.table::<Job>().index(Job::BY_STATUS).get(&1).count());
    let len = watch(&db, |read| read.table::<Job>().len());
    put(&db, [Job { note: 7, ..job("a", 1) }]);
    let mut txn = db.write();
    txn.table_mut::<Job>().delete("b").unwrap();
    txn.insert(job("c", 1)).unwrap();
    txn.commit();
    assert_eq!((running.ended(), len.ended()), (None, None));
    put(&db, [job("c", 2)]);
    assert_eq!((running.ended(), len.ended()), (Some(Wake::Changed), None));
    delete(&db, "c");
    assert_eq!(len.ended(), Some(Wake::Changed));
}

#[test]
fn only_what_an_iterator_has_handed_out_is_watched() {
    let db = database();
    put(&db, ["b", "d", "f", "h"].map(|id| job(id, 1)));
    let jobs = |read: &Watcher<'_>| read.table::<Job>().iter().take(2).count();
    let (first, last, unused) = (
        watch(&db, |read| read.table::<Job>().iter().take(2).map(|job| job.note).sum::<u8>()),
        watch(&db, |read| read.table::<Job>().last().map(|job| job.note)),
        watch(&db, |read| drop(read.table::<Job>().iter())),
    );
    let both = watch(&db, |read| {
        let mut rows = read.table::<Job>().iter();
        (rows.next().is_some(), rows.next_back().is_some())
    });
    put(&db, [job("e", 1), job("g", 1)]);
    assert!([&first, &last, &unused, &both].iter().all(|watch| watch.ended().is_none()));
    put(&db, [job("c", 1)]);
    assert_eq!((first.ended(), last.ended()), (Some(Wake::Changed), None));
    put(&db, [job("i", 1)]);
    assert_eq!(last.ended(), Some(Wake::Changed));
    assert_eq!(both.ended(), Some(Wake::Changed));
    assert_eq!(unused.ended(), None);
    let again = watch(&db, jobs);
    put(&db, [job("a", 1)]);
    assert_eq!(again.ended(), Some(Wake::Changed));
}

#[test]
fn a_change_before_the_watch_was_entered_ends_it_at_once() {
    let db = database();
    let before = db.read();
    put(&db, [job("a", 1)]);
    let (_, missed) = before.watch(|read| read.table::<Job>().len());
    assert_eq!(missed.ended(), Some(Wake::Changed));
    let (_, unharmed) = before.watch(|read| read.table::<Other>().len());
    assert_eq!(unharmed.ended(), None);
}

#[test]
fn who_has_read_the_newest_version_is_not_woken_by_the_commit_that_made_it() {
    let watch = std::cell::OnceCell::new();
    let db = database();
    let mut txn = db.write();
    txn.insert(job("a", 1)).unwrap();
    let (handle, seen) = (db.clone(), &watch);
    txn.after_commit(move |_| {
        let (_, watch) = handle.read().watch(|read| read.table::<Job>().len());
        seen.set(watch).unwrap();
    });
    txn.commit();
    assert_eq!(watch.get().unwrap().ended(), None);
}

#[test]
fn a_restore_wakes_those_whose_rows_differ() {
    let db = database();
    put(&db, [job("a", 1), job("b", 1)]);
    let mut file = Vec::new();
    db.read().save(&mut file).unwrap();
    put(&db, [job("b", 2)]);
    let same = watch(&db, |read| read.table::<Job>().get("a").map(|job| job.status));
    let count = watch(&db, |read| read.table::<Job>().len());
    let other = watch(&db, |read| read.table::<Job>().get("b").map(|job| job.status));
    let by = watch(&db, |read| read.table::<Job>().index(Job::BY_STATUS).get(&2).count());
    db.restore(file.as_slice()).unwrap();
    assert_eq!((same.ended(), count.ended()), (None, None));
    assert_eq!((other.ended(), by.ended()), (Some(Wake::Changed), Some(Wake::Changed)));
    // The watches that are left go on over the new store.
    put(&db, [job("a", 2)]);
    assert_eq!((same.ended(), count.ended()), (Some(Wake::Changed), None));
}

#[test]
fn the_end_of_the_database_ends_every_wait() {
    let db = database();
    let snapshot = db.read();
    let (_, watch) = snapshot.watch(|read| read.table::<Job>().len());
    let waiting = db.wait_for(Revision(9));
    let thread = std::thread::spawn(move || waiting.wait(None));
    drop(db);
    assert_eq!(watch.wait(None), Some(Wake::Closed));
    assert_eq!(thread.join().unwrap().unwrap_err(), WaitError::Closed { wanted: Revision(9) });
    let (_, late) = snapshot.watch(|read| read.table::<Job>().len());
    assert_eq!(late.ended(), Some(Wake::Closed));
}

#[test]
fn a_fill_wakes_by_what_it_has_brought() {
    let db = database();
    let there = watch(&db, |read| read.table::<Job>().get("5").is_some());
    let not = watch(&db, |read| read.table::<Job>().get("x").is_some());
    let by = watch(&db, |read| read.table::<Job>().index(Job::BY_STATUS).get(&3).next().is_some());
    let none = watch(&db, |read| read.table::<Job>().index(Job::BY_STATUS).contains(&9));
    let mut txn = db.write();
    txn.table_mut().insert_all((0..8).map(|id| job(&id.to_string(), id))).unwrap();
    txn.commit();
    assert_eq!((there.ended(), by.ended()), (Some(Wake::Changed), Some(Wake::Changed)));
    assert_eq!((not.ended(), none.ended()), (None, None));
}

#[test]
fn a_watch_of_an_index_that_was_entered_beside_a_transaction_is_told_by_it() {
    let db = database();
    put(&db, [job("a", 1)]);
    let mut txn = db.write();
    txn.upsert(job("a", 2)).unwrap();
    let read = |status: u8| {
        watch(&db, |read| read.table::<Job>().index(Job::BY_STATUS).get(&status).last().is_some())
    };
    let watches = [read(1), read(2), read(3)];
    txn.upsert(job("b", 4)).unwrap();
    txn.commit();
    assert_eq!(watches.map(|watch| watch.ended().is_some()), [true, true, false]);
    // From here on statements note what they change; not what is rolled back.
    let watches = [read(1), read(2), read(4), read(5)];
    let mut txn = db.write();
    txn.upsert(job("b", 1)).unwrap();
    let before = txn.savepoint();
    txn.upsert(job("a", 5)).unwrap();
    txn.rollback_to(&before);
    txn.upsert(job("a", 2)).unwrap();
    txn.commit();
    assert_eq!(watches.map(|watch| watch.ended().is_some()), [true, false, true, false]);
}

#[test]
fn too_many_questions_become_one() {
    let db = database();
    let asked = limits::QUESTIONS_MAX + 10;
    let (_, watch) = db.read().watch(|read| {
        let jobs = read.table::<Job>();
        (0..asked).filter(|id| jobs.get(&id.to_string()).is_some()).count()
    });
    put(&db, [job("not asked for", 1)]);
    assert_eq!(watch.ended(), Some(Wake::Changed));
}

struct CountWakes(AtomicUsize);

impl WakeTask for CountWakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn tasks_wait_too() {
    let db = database();
    let (_, watch) = db.read().watch(|read| read.table::<Job>().len());
    let wakes = Arc::new(CountWakes(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&wakes));
    let mut context = Context::from_waker(&waker);
    let mut changed = pin!(watch.changed());
    let mut reached = pin!(db.wait_for(Revision(2)));
    assert_eq!(changed.as_mut().poll(&mut context), Poll::Pending);
    assert!(reached.as_mut().poll(&mut context).is_pending());
    put(&db, [job("a", 1)]);
    assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
    assert_eq!(changed.as_mut().poll(&mut context), Poll::Ready(Wake::Changed));
    assert!(reached.as_mut().poll(&mut context).is_pending());
    put(&db, [job("a", 1)]);
    assert_eq!(wakes.0.load(Ordering::SeqCst), 2);
    let Poll::Ready(Ok(snapshot)) = reached.as_mut().poll(&mut context) else { panic!() };
    assert_eq!(snapshot.revision(), Revision(2));
}

#[test]
fn a_wait_for_a_revision_is_told_by_the_commit_that_reaches_it() {
    let db = database();
    assert_eq!(db.wait_for(Revision(0)).wait(Duration::ZERO).unwrap().revision(), Revision(0));
    let early = db.wait_for(Revision(2)).wait(Duration::from_millis(5));
    let expected = WaitError::TimedOut { wanted: Revision(2), reached: Revision(0) };
    assert_eq!(early.unwrap_err(), expected);
    let waiting: Vec<_> = (1..=3)
        .map(|revision| {
            let wait = db.wait_for(Revision(revision));
            std::thread::spawn(move || wait.wait(Duration::from_secs(60)).unwrap().revision())
        })
        .collect();
    for id in 0..3_u8 {
        put(&db, [job("a", id)]);
    }
    for (thread, wanted) in waiting.into_iter().zip(1..) {
        assert!(thread.join().unwrap() >= Revision(wanted));
    }
}

struct Puts;

impl Fsm for Puts {
    type Command = Job;
    type Reply = Result<(), fsmdb::Error>;

    fn apply(&self, txn: &mut WriteTxn<'_>, _: Applied, job: Job) -> Self::Reply {
        txn.upsert(job).map(drop)
    }
}

#[test]
fn an_install_reaches_revisions_and_wakes() {
    let make = || Machine::new(database(), Puts).unwrap();
    let (leader, follower) = (make(), make());
    for index in 1..=3 {
        let command = Machine::<Puts>::encode(&job("a", index as u8)).unwrap();
        leader.apply(Applied { index, term: 1 }, &command).unwrap();
    }
    let mut file = Vec::new();
    leader.read().save(&mut file).unwrap();
    let (_, watch) = follower.read().watch(|read| read.table::<Job>().get("a").is_some());
    let wait = follower.db().wait_for(Revision(2));
    let thread = std::thread::spawn(move || wait.wait(None).unwrap().revision());
    follower.install(file.as_slice()).unwrap();
    assert_eq!(watch.wait(None), Some(Wake::Changed));
    assert_eq!(thread.join().unwrap(), Revision(3));
}

#[test]
fn dropped_watches_and_waits_leave_nothing_behind() {
    let db = database();
    put(&db, [job("a", 1)]);
    let watches: Vec<_> = (0..100)
        .map(|id| {
            watch(&db, |read| {
                let jobs = read.table::<Job>();
                let by = jobs.index(Job::BY_STATUS);
                (
                    jobs.get(&id.to_string()).is_some(),
                    by.get(&id).count(),
                    jobs.range("b"..).count(),
                )
            })
        })
        .collect();
    assert_eq!(db.waiting().watches, 100);
    put(&db, [job("7", 200)]);
    assert_eq!(db.waiting().watches, 99);
    drop(watches);
    assert_eq!(db.waiting().watches, 0);
    drop(db.wait_for(Revision(1000)).wait(Duration::from_millis(1)));
    assert_eq!(db.waiting().revisions, 0);
}

/// What a closure asks.
#[derive(Clone, Debug)]
enum Ask {
    Get(String),
    Contains(String),
    GetMany(Vec<String>),
    Len,
    IsEmpty,
    Range(String, String, usize),
    RangeBack(String, String, usize),
    Prefix(String),
    Count(String, String),
    Rank(String),
    Nth(String, usize),
    Longest(String),
    First,
    Last,
    Slot(u16),
    SlotContains(u16),
    Status(u8, usize),
    StatusCount(u8),
    StatusContains(u8),
    StatusRange(u8, u8),
    Tag(u8),
    TagRank(u8),
    ModifiedOf(String),
    ModifiedIn(String, String),
    ModifiedUnder(String),
    StatusModified(u8),
    TagsModified(u8, u8),
    Both(Box<Ask>, Box<Ask>),
}

fn rows<'a, R: Iterator<Item = &'a Row<Job>>>(rows: R) -> Vec<Job> {
    rows.map(|row| row.value().clone()).collect()
}

/// Rows and a number for each question.
type Answer = Vec<(Vec<Job>, usize)>;

fn answer(ask: &Ask, read: &impl fsmdb::Read) -> Answer {
    if let Ask::Both(one, other) = ask {
        return [answer(one, read), answer(other, read)].concat();
    }
    vec![answer_one(ask, read)]
}

fn answer_one(ask: &Ask, read: &impl fsmdb::Read) -> (Vec<Job>, usize) {
    let jobs = read.table::<Job>();
    let (status, slot) = (jobs.index(Job::BY_STATUS), jobs.index(Job::BY_SLOT));
    let tags = jobs.index(Job::BY_TAGS);
    match ask {
        Ask::Get(id) => (rows(jobs.get(id).into_iter()), 0),
        Ask::Contains(id) => (vec![], jobs.contains(id).into()),
        Ask::GetMany(ids) => (rows(jobs.get_many(ids).into_iter().flatten()), 0),
        Ask::Len => (vec![], jobs.len()),
        Ask::IsEmpty => (vec![], jobs.is_empty().into()),
        Ask::Range(low, high, limit) => (rows(jobs.range(low..high).take(*limit)), 0),
        Ask::RangeBack(low, high, limit) => (rows(jobs.range(low..=high).rev().take(*limit)), 0),
        Ask::Prefix(prefix) => (rows(jobs.prefix(&StartsWith(prefix))), 0),
        Ask::Count(low, high) => (vec![], jobs.count(low..high)),
        Ask::Rank(id) => (vec![], jobs.rank(id)),
        Ask::Nth(low, index) => (rows(jobs.nth(low.., *index).into_iter()), 0),
        Ask::Longest(id) => (rows(jobs.longest_prefix(id).into_iter()), 0),
        Ask::First => (rows(jobs.first().into_iter()), 0),
        Ask::Last => (rows(jobs.last().into_iter()), 0),
        Ask::Slot(value) => (rows(slot.get(value).into_iter()), 0),
        Ask::SlotContains(value) => (vec![], slot.contains(value).into()),
        Ask::Status(value, limit) => (rows(status.get(value).take(*limit)), 0),
        Ask::StatusCount(value) => (vec![], status.get(value).count()),
        Ask::StatusContains(value) => (vec![], status.contains(value).into()),
        Ask::StatusRange(low, high) => (rows(status.range(low..high)), 0),
        Ask::Tag(value) => (rows(tags.get(value)), 0),
        Ask::TagRank(value) => (vec![], tags.rank(value)),
        Ask::ModifiedOf(id) => (vec![], jobs.modified_of(id).0 as usize),
        Ask::ModifiedIn(low, high) => (vec![], jobs.modified_in(low..high).0 as usize),
        Ask::ModifiedUnder(prefix) => (vec![], jobs.modified_under(&StartsWith(prefix)).0 as usize),
        Ask::StatusModified(value) => (vec![], status.modified_of(value).0 as usize),
        Ask::TagsModified(low, high) => (vec![], tags.modified_in(low..high).0 as usize),
        Ask::Both(..) => unreachable!("answered one by one"),
    }
}

fn id() -> impl Strategy<Value = String> {
    prop::collection::vec(prop_oneof![Just('a'), Just('b')], 0..4)
        .prop_map(|chars| chars.into_iter().collect())
}

fn any_job() -> impl Strategy<Value = Job> {
    let tags = prop::collection::btree_set(0..3_u8, 0..3);
    (id(), 0..3_u8, prop::option::of(0..4_u16), tags, 0..2_u8)
        .prop_map(|(id, status, slot, tags, note)| Job { id, status, slot, tags, note })
}

fn ask() -> impl Strategy<Value = Ask> {
    let simple = prop_oneof![
        id().prop_map(Ask::Get),
        id().prop_map(Ask::Contains),
        prop::collection::vec(id(), 0..4).prop_map(Ask::GetMany),
        Just(Ask::Len),
        Just(Ask::IsEmpty),
        (id(), id(), 0..6_usize).prop_map(|(low, high, limit)| Ask::Range(low, high, limit)),
        (id(), id(), 0..6_usize).prop_map(|(low, high, limit)| Ask::RangeBack(low, high, limit)),
        id().prop_map(Ask::Prefix),
        (id(), id()).prop_map(|(low, high)| Ask::Count(low, high)),
        id().prop_map(Ask::Rank),
        (id(), 0..4_usize).prop_map(|(low, index)| Ask::Nth(low, index)),
        id().prop_map(Ask::Longest),
        Just(Ask::First),
        Just(Ask::Last),
        (0..4_u16).prop_map(Ask::Slot),
        (0..4_u16).prop_map(Ask::SlotContains),
        (0..3_u8, 0..4_usize).prop_map(|(value, limit)| Ask::Status(value, limit)),
        (0..3_u8).prop_map(Ask::StatusCount),
        (0..3_u8).prop_map(Ask::StatusContains),
        (0..3_u8, 0..4_u8).prop_map(|(low, high)| Ask::StatusRange(low, high)),
        (0..3_u8).prop_map(Ask::Tag),
        (0..3_u8).prop_map(Ask::TagRank),
        id().prop_map(Ask::ModifiedOf),
        (id(), id()).prop_map(|(low, high)| Ask::ModifiedIn(low, high)),
        id().prop_map(Ask::ModifiedUnder),
        (0..3_u8).prop_map(Ask::StatusModified),
        (0..3_u8, 0..4_u8).prop_map(|(low, high)| Ask::TagsModified(low, high)),
    ];
    simple.prop_recursive(2, 4, 2, |ask| {
        (ask.clone(), ask).prop_map(|(one, other)| Ask::Both(Box::new(one), Box::new(other)))
    })
}

/// One statement of a transaction.
#[derive(Clone, Debug)]
enum Statement {
    Put(Job),
    Delete(String),
    DeleteAll,
    Fill(Vec<Job>),
    /// Puts a row again as it is.
    Touch(String),
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Statement>),
    Watch(Ask),
    /// Watches what an older version said.
    WatchOld(Ask),
    Drop(usize),
    Save,
    Restore,
}

fn statement() -> impl Strategy<Value = Statement> {
    prop_oneof![
        8 => any_job().prop_map(Statement::Put),
        4 => id().prop_map(Statement::Delete),
        1 => Just(Statement::DeleteAll),
        1 => prop::collection::vec(any_job(), 0..12).prop_map(Statement::Fill),
        2 => id().prop_map(Statement::Touch),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec(statement(), 0..4).prop_map(Step::Commit),
        8 => ask().prop_map(Step::Watch),
        2 => ask().prop_map(Step::WatchOld),
        1 => any::<usize>().prop_map(Step::Drop),
        1 => Just(Step::Save),
        1 => Just(Step::Restore),
    ]
}

fn run(txn: &mut WriteTxn<'_>, statement: Statement) {
    let mut jobs = txn.table_mut::<Job>();
    match statement {
        Statement::Put(job) => drop(jobs.upsert(job)),
        Statement::Delete(id) => drop(jobs.delete(&id)),
        Statement::DeleteAll => drop(jobs.delete_all(..)),
        Statement::Fill(rows) => {
            jobs.delete_all(..);
            drop(jobs.insert_all(rows));
        }
        Statement::Touch(id) => drop(jobs.update(&id, |_| {})),
    }
}

const CASES: u32 = if cfg!(debug_assertions) { 192 } else { 2_000 };

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    /// A watch ends if and only if the answer is not the one that was read.
    #[test]
    fn a_watch_ends_exactly_when_the_answer_changes(steps in prop::collection::vec(step(), 1..60)) {
        let db = database();
        let mut watches: Vec<(Ask, Answer, Watch)> = Vec::new();
        let (mut file, mut old) = (Vec::new(), db.read());
        db.read().save(&mut file).unwrap();
        for step in steps {
            match step {
                Step::Commit(statements) => {
                    let mut txn = db.write();
                    statements.into_iter().for_each(|statement| run(&mut txn, statement));
                    txn.commit();
                }
                Step::Watch(ask) => {
                    let snapshot = db.read();
                    let (seen, watch) = snapshot.watch(|read| answer(&ask, read));
                    prop_assert_eq!(&seen, &answer(&ask, &snapshot));
                    watches.push((ask, seen, watch));
                }
                Step::WatchOld(ask) => {
                    let (seen, watch) = old.watch(|read| answer(&ask, read));
                    watches.push((ask, seen, watch));
                }
                Step::Drop(at) if !watches.is_empty() => {
                    watches.swap_remove(at % watches.len());
                }
                Step::Drop(_) => {}
                Step::Save => {
                    file.clear();
                    old = db.read();
                    old.save(&mut file).unwrap();
                }
                Step::Restore => db.restore(file.as_slice()).unwrap(),
            }
            let now = db.read();
            for (ask, seen, watch) in &watches {
                let is_same = answer(ask, &now) == *seen;
                let expected = (!is_same).then_some(Wake::Changed);
                prop_assert_eq!(watch.ended(), expected, "{:?} of {:?}", ask, now);
            }
            watches.retain(|(_, _, watch)| watch.ended().is_none());
            prop_assert_eq!(db.waiting().watches, watches.len());
        }
    }
}
