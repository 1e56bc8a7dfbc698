//! Index functions that lie, and rows that change under the table: a panic and a roll-back, never
//! a broken database.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};

use fsmdb::{
    AsKey, Db, Error, Index, IndexDef, IndexKeys, KeyBuf, Many, Read, Table, Unique, WriteTxn,
};
use serde::{Deserialize, Serialize};

/// What a function of the schema says instead of the truth.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lie {
    /// Another value.
    Other,
    /// The value that another row has.
    Of(u64),
    /// No value.
    Nothing,
    /// The values and one more.
    OneMore,
    /// The values and those of another row.
    BothOf(u64),
    /// The value of another index.
    Crossed,
    /// A panic.
    Panic,
}

const LIES: [Lie; 9] = [
    Lie::Other,
    Lie::Of(1),
    Lie::Of(120),
    Lie::Nothing,
    Lie::OneMore,
    Lie::BothOf(1),
    Lie::BothOf(120),
    Lie::Crossed,
    Lie::Panic,
];

/// Rows of a table, so many that its trees have more than one level.
const ROWS: u64 = 130;

/// Calls of index functions that one statement makes at most: three indexes, before and after.
const CALLS: u64 = 6;

thread_local! {
    /// The next calls that tell the truth, and after how many lies it is told again.
    static LIE: Cell<Option<(Lie, u64, u64)>> = const { Cell::new(None) };
    /// Added to every primary key.
    static SHIFT: Cell<u64> = const { Cell::new(0) };
    /// Whether panics of this thread are expected.
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
    /// Held by every row of this thread.
    static ALIVE: RefCell<Arc<()>> = RefCell::default();
}

#[derive(Clone, Debug)]
struct Token(#[expect(dead_code, reason = "it is counted")] Arc<()>);

impl Default for Token {
    fn default() -> Self {
        Self(ALIVE.with_borrow(Arc::clone))
    }
}

fn live() -> usize {
    ALIVE.with_borrow(Arc::strong_count) - 1
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Row {
    id: u64,
    name: u64,
    group: u64,
    tags: Vec<u64>,
    text: String,
    #[serde(skip)]
    #[allow(dead_code)] // It is counted.
    token: Token,
}

fn row(id: u64) -> Row {
    let tags = (0..id % 3).map(|tag| id + tag).collect();
    Row { id, name: id, group: id % 7, tags, text: format!("row {id}"), token: Token::default() }
}

/// The lie that this call tells.
fn lie() -> Option<Lie> {
    let (lie, truths, lies) = LIE.get()?;
    if truths > 0 {
        LIE.set(Some((lie, truths - 1, lies)));
        return None;
    }
    LIE.set((lies > 1).then_some((lie, 0, lies - 1)));
    Some(lie)
}

/// Pushes the `values` of a row, or what the lie says; `of` gives those of a row by its id.
fn push(keys: &mut IndexKeys, row: &Row, of: fn(&Row) -> Vec<u64>, crossed: fn(&Row) -> Vec<u64>) {
    let mut values = of(row);
    match lie() {
        None => {}
        Some(Lie::Other) => values = vec![row.id + 50_000],
        Some(Lie::Of(id)) => values = of(&self::row(id)),
        Some(Lie::Nothing) => values.clear(),
        Some(Lie::OneMore) => values.push(row.id + 60_000),
        Some(Lie::BothOf(id)) => values.extend(of(&self::row(id))),
        Some(Lie::Crossed) => values = crossed(row),
        Some(Lie::Panic) => panic!("a lie"),
    }
    values.iter().for_each(|value| keys.push::<u64, u64>(value));
}

impl Row {
    const BY_NAME: Index<Self, u64, Unique> = Index::new("name", 0);
    const BY_GROUP: Index<Self, u64, Many> = Index::new("group", 1);
    const BY_TAGS: Index<Self, u64, Many> = Index::new("tags", 2);

    fn names(&self) -> Vec<u64> {
        vec![self.name]
    }

    fn groups(&self) -> Vec<u64> {
        vec![self.group]
    }

    fn all_tags(&self) -> Vec<u64> {
        self.tags.clone()
    }
}

impl Table for Row {
    type Key = u64;

    const NAME: &'static str = "rows";
    const VERSION: u32 = 1;

    fn encode_primary_key(&self, out: &mut KeyBuf) {
        (self.id + SHIFT.get()).encode_key(out);
    }

    fn indexes() -> Vec<IndexDef<Self>> {
        vec![
            IndexDef::new(Self::BY_NAME, |row, keys| push(keys, row, Self::names, Self::groups)),
            IndexDef::new(Self::BY_GROUP, |row, keys| push(keys, row, Self::groups, Self::names)),
            IndexDef::new(Self::BY_TAGS, |row, keys| push(keys, row, Self::all_tags, Self::names)),
        ]
    }
}

fn empty() -> Db {
    Db::builder().table::<Row>().keep_digests().build().unwrap()
}

/// A database whose trees have more than one level.
fn filled() -> Db {
    let db = empty();
    let mut txn = db.write();
    for id in 0..ROWS {
        txn.insert(row(id)).unwrap();
    }
    txn.commit();
    db
}

fn file_of(db: &Db) -> Vec<u8> {
    let mut file = Vec::new();
    db.read().save(&mut file).unwrap();
    file
}

fn rows_of(db: &Db) -> Vec<(u64, u64, u64, Vec<u64>)> {
    let snapshot = db.read();
    let table = snapshot.table::<Row>();
    table.iter().map(|row| (row.id, row.name, row.group, row.tags.clone())).collect()
}

/// Reads every row by every way, so that a sanitizer sees what is dangling.
fn read_all(read: &impl Read) {
    let table = read.table::<Row>();
    let whole = |row: &Row| assert_eq!(row.text, format!("row {}", row.id));
    table.iter().for_each(|row| whole(row));
    table.index(Row::BY_NAME).iter().for_each(|row| whole(row));
    table.index(Row::BY_GROUP).iter().rev().for_each(|row| whole(row));
    table.index(Row::BY_TAGS).iter().for_each(|row| whole(row));
}

type Statement = fn(&mut WriteTxn<'_>) -> Result<(), Error>;

const STATEMENTS: [(&str, Statement); 7] = [
    ("insert", |txn| txn.insert(row(1000)).map(drop)),
    ("replace", |txn| txn.upsert(row(100)).map(drop)),
    ("move", |txn| txn.upsert(Row { name: 9000, group: 8, tags: vec![1], ..row(101) }).map(drop)),
    ("update", |txn| {
        txn.table_mut::<Row>().update(&102, |row| row.name = 9001)?;
        Ok(())
    }),
    ("delete", |txn| {
        txn.table_mut::<Row>().delete(&103);
        Ok(())
    }),
    ("delete a range", |txn| {
        txn.table_mut::<Row>().delete_all(110..130);
        Ok(())
    }),
    ("delete a group", |txn| {
        txn.table_mut::<Row>().index(Row::BY_GROUP).delete_all(&3);
        Ok(())
    }),
];

/// As `catch_unwind`, without a message: thousands of backtraces take minutes.
fn caught<T>(run: impl FnOnce() -> T) -> Result<T, ()> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let hook = take_hook();
        set_hook(Box::new(move |info| {
            if !IS_QUIET.get() {
                hook(info);
            }
        }));
    });
    IS_QUIET.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(run));
    IS_QUIET.set(false);
    outcome.map_err(drop)
}

/// Every statement with every lie at every call, a single one or all from there on.
fn each_lie(mut run: impl FnMut(&str, Statement, &dyn Fn())) {
    for (name, statement) in STATEMENTS {
        for lie in LIES {
            for truths in 0..CALLS {
                for lies in [1, u64::MAX] {
                    let name = format!("{name}: {lie:?} after {truths}, {lies} times");
                    run(&name, statement, &|| LIE.set(Some((lie, truths, lies))));
                }
            }
        }
    }
}

/// Runs a statement with the lie, and tells the truth again; whether it panicked.
fn run(txn: &mut WriteTxn<'_>, statement: Statement, arm: &dyn Fn()) -> bool {
    arm();
    let outcome = caught(|| statement(txn));
    LIE.set(None);
    outcome.is_err()
}

#[test]
fn after_any_lie_a_rollback_leaves_the_database_whole() {
    let db = filled();
    let before = file_of(&db);
    each_lie(|name, statement, arm| {
        let mut txn = db.write();
        txn.upsert(Row { group: 5, ..row(99) }).unwrap();
        run(&mut txn, statement, arm);
        read_all(&txn);
        drop(txn);
        db.check().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(file_of(&db), before, "{name}");
    });
    drop(db);
    assert_eq!(live(), 0);
}

#[test]
fn a_transaction_in_which_a_lie_was_found_commits_nothing_half_done() {
    let (mut committed, mut refused) = (0, 0);
    each_lie(|name, statement, arm| {
        let db = filled();
        let mut txn = db.write();
        if !run(&mut txn, statement, arm) {
            return;
        }
        // Either the statement had changed nothing yet, or it cannot be committed.
        let before = rows_of(&db);
        match caught(|| txn.commit()) {
            Ok(_) => committed += 1,
            Err(_) => refused += 1,
        }
        assert_eq!(rows_of(&db), before, "{name}");
        db.check().unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut txn = db.write();
        txn.insert(row(2000)).unwrap();
        txn.commit();
        db.check().unwrap_or_else(|error| panic!("{name}: {error}"));
        drop(db);
        assert_eq!(live(), 0, "{name}");
    });
    assert!(committed > 0 && refused > 0, "{committed} and {refused}");
}

#[test]
fn a_transaction_in_which_a_lie_was_found_can_be_started_over() {
    let db = filled();
    each_lie(|name, statement, arm| {
        let before = file_of(&db);
        let mut txn = db.write();
        let savepoint = txn.savepoint();
        run(&mut txn, statement, arm);
        txn.rollback_to(&savepoint);
        read_all(&txn);
        assert!(txn.changes().is_empty(), "{name}");
        txn.rollback_all();
        txn.upsert(row(100)).unwrap();
        txn.table_mut::<Row>().delete(&101).unwrap();
        txn.insert(row(101)).unwrap();
        txn.commit();
        db.check().unwrap_or_else(|error| panic!("{name}: {error}"));
        db.restore(before.as_slice()).unwrap();
    });
}

#[test]
fn a_view_of_a_broken_transaction_can_be_read_for_as_long_as_it_is_held() {
    let db = filled();
    let mut views = Vec::new();
    each_lie(|_, statement, arm| {
        let mut txn = db.write();
        txn.upsert(Row { group: 6, ..row(98) }).unwrap();
        if run(&mut txn, statement, arm) {
            views.push(txn.snapshot());
        }
        drop(txn);
        // Another commit, so that what the transaction made would be freed and used again.
        let mut txn = db.write();
        txn.upsert(row(100)).unwrap();
        txn.commit();
        views.drain(..views.len().saturating_sub(8)).for_each(|view| read_all(&view));
    });
    drop(db);
    views.iter().for_each(read_all);
    drop(views);
    assert_eq!(live(), 0);
}

/// A lie about a row that comes in is not found at once: the row stands where the function said.
#[test]
fn rows_that_came_in_by_lies_are_found_when_they_leave() {
    each_lie(|name, statement, arm| {
        let db = filled();
        let mut txn = db.write();
        if run(&mut txn, statement, arm) {
            return;
        }
        txn.commit();
        let held = db.read();
        read_all(&held);
        let is_whole = db.check().is_ok();
        let ids: BTreeSet<_> = held.table::<Row>().iter().map(|row| row.id).collect();
        for id in [100, 101, 102, 103, 120, 1000, 1] {
            let delete = || {
                let mut txn = db.write();
                txn.table_mut::<Row>().delete(&id);
                txn.commit();
            };
            let outcome = caught(delete);
            assert!(outcome.is_ok() || !is_whole, "{name}: {id}");
            let is_left = db.read().table::<Row>().contains(&id);
            assert_eq!(is_left, outcome.is_err() && ids.contains(&id), "{name}: {id}");
            read_all(&db.read());
        }
        read_all(&held);
        drop((db, held));
        assert_eq!(live(), 0, "{name}");
    });
}

#[test]
fn a_table_that_is_filled_with_lies_is_filled_or_not_and_nothing_is_lost() {
    let file = file_of(&filled());
    for lie in LIES {
        for truths in [0, 1, 5, ROWS - 1, ROWS, ROWS + 1, 2 * ROWS + 77, 3 * ROWS - 1] {
            for lies in [1, 3, u64::MAX] {
                let db = filled();
                LIE.set(Some((lie, truths, lies)));
                let restored = caught(|| db.restore(file.as_slice()));
                LIE.set(None);
                read_all(&db.read());
                if !matches!(restored, Ok(Ok(()))) {
                    db.check().unwrap();
                }
                let mut txn = db.write();
                let _ = caught(|| txn.table_mut::<Row>().delete_all(..));
                LIE.set(Some((lie, truths, lies)));
                let _ = caught(|| txn.table_mut::<Row>().insert_all((0..ROWS).rev().map(row)));
                LIE.set(None);
                read_all(&txn);
                let _ = caught(|| txn.commit());
                read_all(&db.read());
                let delete = || {
                    let mut txn = db.write();
                    txn.table_mut::<Row>().delete_all(..);
                    txn.commit();
                };
                let _ = caught(delete);
                read_all(&db.read());
                drop(db);
                assert_eq!(live(), 0, "{lie:?} after {truths}, {lies} times");
            }
        }
    }
}

#[test]
fn primary_keys_that_lie_break_nothing() {
    for shift in [1, 100, 10_000] {
        for (name, statement) in STATEMENTS {
            let db = filled();
            let mut txn = db.write();
            SHIFT.set(shift);
            let _ = caught(|| statement(&mut txn));
            SHIFT.set(0);
            read_all(&txn);
            let view = txn.snapshot();
            let _ = caught(|| txn.commit());
            read_all(&db.read());
            let mut txn = db.write();
            let empty = |txn: &mut WriteTxn<'_>| txn.table_mut::<Row>().delete_all(..);
            let _ = caught(|| empty(&mut txn));
            read_all(&txn);
            drop(txn);
            read_all(&view);
            drop((db, view));
            assert_eq!(live(), 0, "{name}, shifted by {shift}");
        }
    }
}

/// A row that can be changed where it stands.
#[derive(Debug, Serialize, Deserialize, Table)]
#[table(name = "moods")]
#[index(name = "mood", with = Mood::now, key = u64)]
struct Mood {
    #[key]
    id: u64,
    mood: AtomicU64,
    #[serde(skip)]
    #[allow(dead_code)] // It is counted.
    token: Token,
}

impl Mood {
    fn new(id: u64) -> Self {
        Self { id, mood: AtomicU64::new(id), token: Token::default() }
    }

    fn now(&self) -> u64 {
        self.mood.load(Ordering::Relaxed)
    }
}

#[test]
fn a_row_that_changed_where_it_stands_cannot_leave_until_it_has_changed_back() {
    let db = Db::builder().table::<Mood>().build().unwrap();
    let mut txn = db.write();
    for id in 0..300 {
        txn.insert(Mood::new(id)).unwrap();
    }
    txn.commit();
    let row = db.read().table::<Mood>().get(&7).unwrap().share();
    for mood in [8, 0, 299, 5000] {
        row.mood.store(mood, Ordering::Relaxed);
        assert!(matches!(db.check(), Err(Error::Inconsistent { .. })));
        for replace in [false, true] {
            let write = || {
                let mut txn = db.write();
                let mut moods = txn.table_mut::<Mood>();
                if replace {
                    moods.upsert(Mood::new(7)).unwrap();
                } else {
                    moods.delete(&7);
                }
                txn.commit();
            };
            assert!(caught(write).is_err(), "{mood}");
        }
        assert_eq!(db.read().table::<Mood>().len(), 300);
        row.mood.store(7, Ordering::Relaxed);
        db.check().unwrap();
    }
    let mut txn = db.write();
    assert_eq!(txn.table_mut::<Mood>().delete(&7).unwrap().now(), 7);
    txn.commit();
    db.check().unwrap();
    drop(db);
    assert_eq!((row.now(), live()), (7, 1));
    drop(row);
    assert_eq!(live(), 0);
}
