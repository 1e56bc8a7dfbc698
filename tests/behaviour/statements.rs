//! A statement happens or leaves no trace: a failure is injected at every index position and at
//! every call of user code, and what can be observed before and after is compared.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use fsmdb::limits::{ENTRIES_PER_ROW_MAX, KEY_BYTES_MAX};
use fsmdb::{
    Cardinality, Db, Descending, Error, Folded, Index, IndexDef, IndexKeys, KeyBuf, Many, Table,
    Unique, WriteTxn, encode,
};
use serde::{Deserialize, Serialize};

use crate::tables::{Job, commit, empty, job, with_jobs};

/// One index of each kind, so that each kind also stands at a position of its own.
const KINDS: usize = 8;

/// How many values the row of a test can spread over the indexes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Probe<const UNIQUE: bool> {
    id: String,
    /// The values at each position, separated by commas; empty means none.
    values: [String; KINDS],
}

impl<const UNIQUE: bool> Probe<UNIQUE> {
    fn new(id: &str) -> Self {
        let values = std::array::from_fn(|position| format!("{id}{position},{id}{position}x"));
        Self { id: id.to_owned(), values }
    }

    fn with(id: &str, position: usize, value: &str) -> Self {
        let mut probe = Self::new(id);
        value.clone_into(&mut probe.values[position]);
        probe
    }
}

thread_local! {
    /// Calls of user code on this thread, and the one at which it panics.
    static CALLS: Cell<usize> = const { Cell::new(0) };
    static PANIC_AT: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Counts one call of user code, and panics if its turn has come.
fn user_code() {
    let call = CALLS.get();
    CALLS.set(call + 1);
    assert!(call != PANIC_AT.get(), "injected");
}

fn extract<const UNIQUE: bool, const POSITION: usize>(row: &Probe<UNIQUE>, keys: &mut IndexKeys) {
    user_code();
    for value in row.values[POSITION].split(',').filter(|value| !value.is_empty()) {
        match POSITION {
            0 | 1 => keys.push::<String, _>(value),
            2 if value.starts_with('-') => {}
            2 => keys.push::<String, _>(value),
            3 => keys.push::<(String, u32), _>(&(value, 7_u32)),
            4 => keys.push::<Folded, _>(value),
            5 => keys.push::<Descending<String>, _>(&Descending(value)),
            6 => keys.push::<String, _>(format!("{value}!").as_str()),
            _ => keys.push::<Option<String>, _>(&Some(value)),
        }
    }
}

fn define<const UNIQUE: bool, const POSITION: usize>(
    name: &'static str,
) -> IndexDef<Probe<UNIQUE>> {
    fn typed<const UNIQUE: bool, const POSITION: usize, C: Cardinality>(
        name: &'static str,
    ) -> IndexDef<Probe<UNIQUE>> {
        let extract = extract::<UNIQUE, POSITION>;
        match POSITION {
            3 => IndexDef::new::<(String, u32), C>(Index::new(name, POSITION), extract),
            4 => IndexDef::new::<Folded, C>(Index::new(name, POSITION), extract),
            5 => IndexDef::new::<Descending<String>, C>(Index::new(name, POSITION), extract),
            7 => IndexDef::new::<Option<String>, C>(Index::new(name, POSITION), extract),
            _ => IndexDef::new::<String, C>(Index::new(name, POSITION), extract),
        }
    }
    if UNIQUE {
        typed::<UNIQUE, POSITION, Unique>(name)
    } else {
        typed::<UNIQUE, POSITION, Many>(name)
    }
}

const NAMES: [&str; KINDS] =
    ["plain", "multi", "conditional", "compound", "folded", "descending", "computed", "optional"];

impl<const UNIQUE: bool> Table for Probe<UNIQUE> {
    type Key = String;
    const NAME: &'static str = "probes";
    const VERSION: u32 = 1;

    fn encode_primary_key(&self, out: &mut KeyBuf) {
        user_code();
        out.extend(&encode::<String, _>(&self.id));
    }

    fn indexes() -> Vec<IndexDef<Self>> {
        vec![
            define::<UNIQUE, 0>(NAMES[0]),
            define::<UNIQUE, 1>(NAMES[1]),
            define::<UNIQUE, 2>(NAMES[2]),
            define::<UNIQUE, 3>(NAMES[3]),
            define::<UNIQUE, 4>(NAMES[4]),
            define::<UNIQUE, 5>(NAMES[5]),
            define::<UNIQUE, 6>(NAMES[6]),
            define::<UNIQUE, 7>(NAMES[7]),
        ]
    }
}

/// Everything that can be seen of a transaction.
fn observe<const UNIQUE: bool>(txn: &mut WriteTxn<'_>) -> String {
    let table = txn.table::<Probe<UNIQUE>>();
    let rows: Vec<_> = table.iter().collect();
    let indexes: Vec<Vec<_>> = (0..KINDS)
        .map(|position| {
            let index = Index::<Probe<UNIQUE>, String, Many>::new(NAMES[position], position);
            table.index(index).iter().map(|row| (&row.id, row.modified())).collect()
        })
        .collect();
    let changes: Vec<_> = txn
        .changes()
        .into_iter()
        .map(|change| {
            let rows = (change.before::<Probe<UNIQUE>>(), change.after::<Probe<UNIQUE>>());
            format!("{change:?} {rows:?}")
        })
        .collect();
    let seen = format!(
        "{rows:?} {indexes:?} {changes:?} {} {:?} {}",
        txn.is_changed(),
        table.modified(),
        txn.revision()
    );
    txn.snapshot().check().expect("every index equals its recomputation");
    seen
}

/// A database with two rows, and a transaction over it that has replaced one and added another.
fn database<const UNIQUE: bool>() -> Db {
    let db = Db::builder().table::<Probe<UNIQUE>>().build().expect("the schema is sound");
    commit(&db, |txn| {
        txn.insert(Probe::<UNIQUE>::new("a")).unwrap();
        txn.insert(Probe::<UNIQUE>::new("b")).unwrap();
    });
    db
}

fn begin<const UNIQUE: bool>(db: &Db) -> WriteTxn<'_> {
    let mut txn = db.write();
    txn.upsert(Probe::<UNIQUE>::with("b", 0, "b-changed")).unwrap();
    txn.insert(Probe::<UNIQUE>::new("c")).unwrap();
    txn
}

fn file_of<const UNIQUE: bool>(db: &Db) -> Vec<u8> {
    crate::tables::file_of(db)
}

/// Runs `fail` in a transaction and shows that it left no trace: after other statements, before a
/// savepoint that is gone back to, before a commit, and as the first statement of all.
fn assert_no_trace<const UNIQUE: bool>(what: &str, fail: impl Fn(&mut WriteTxn<'_>)) {
    let db = database::<UNIQUE>();
    let mut txn = begin::<UNIQUE>(&db);
    let savepoint = txn.savepoint();
    let before = observe::<UNIQUE>(&mut txn);
    fail(&mut txn);
    assert_eq!(observe::<UNIQUE>(&mut txn), before, "{what}");
    txn.insert(Probe::<UNIQUE>::new("d")).unwrap();
    fail(&mut txn);
    txn.rollback_to(&savepoint);
    assert_eq!(observe::<UNIQUE>(&mut txn), before, "{what}, after the savepoint");
    fail(&mut txn);
    txn.commit();
    let untouched = database::<UNIQUE>();
    begin::<UNIQUE>(&untouched).commit();
    assert_eq!(file_of::<UNIQUE>(&db), file_of::<UNIQUE>(&untouched), "{what}, committed");
    db.check().unwrap();
    let mut txn = db.write();
    let before = observe::<UNIQUE>(&mut txn);
    fail(&mut txn);
    assert_eq!(observe::<UNIQUE>(&mut txn), before, "{what}, as the first statement");
}

/// The statements that can put a row at a key that is free and at one that is not.
fn puts<const UNIQUE: bool>(
    values_of: impl Fn(&str) -> Probe<UNIQUE> + Copy,
    check: impl Fn(Error) + Copy,
) {
    assert_no_trace::<UNIQUE>("insert", |txn| check(txn.insert(values_of("new")).unwrap_err()));
    assert_no_trace::<UNIQUE>("upsert of a new row", |txn| {
        check(txn.upsert(values_of("new")).unwrap_err());
    });
    for id in ["b", "c"] {
        assert_no_trace::<UNIQUE>("upsert", |txn| check(txn.upsert(values_of(id)).unwrap_err()));
        assert_no_trace::<UNIQUE>("update", |txn| {
            let change = |row: &mut Probe<UNIQUE>| *row = values_of(id);
            check(txn.table_mut().update(id, change).unwrap_err());
        });
    }
}

/// go-memdb: an index error half-way left a partial row that a commit published, in 14 of 50 runs.
#[test]
fn a_unique_violation_at_any_position_leaves_no_trace() {
    for position in 0..KINDS {
        // The last value conflicts, with a row of the version before and with one of this
        // transaction.
        for (owner, taken) in [("a", format!("a{position}")), ("c", format!("c{position}x"))] {
            let values_of =
                |id: &str| Probe::<true>::with(id, position, &format!("{id}-1,{id}-2,{taken}"));
            let check = |error: Error| match error {
                Error::Taken { table, index, value, owner: found } => {
                    assert_eq!((table.as_str(), index.as_str()), ("probes", NAMES[position]));
                    assert!(value.contains(&taken), "{value}");
                    assert_eq!(found, format!("{owner:?}"));
                }
                other => panic!("{other}"),
            };
            assert_no_trace::<true>("insert", |txn| {
                check(txn.insert(values_of("new")).unwrap_err());
            });
            assert_no_trace::<true>("upsert", |txn| {
                check(txn.upsert(values_of("b")).unwrap_err());
            });
            assert_no_trace::<true>("update", |txn| {
                let change = |row: &mut Probe<true>| *row = values_of("b");
                check(txn.table_mut().update("b", change).unwrap_err());
            });
        }
    }
}

#[test]
fn a_key_that_is_too_long_at_any_position_leaves_no_trace() {
    let long = "k".repeat(KEY_BYTES_MAX);
    for position in 0..KINDS {
        let check = |error: Error| match error {
            Error::KeyTooLong { index, bytes, limit, .. } => {
                assert_eq!(index.as_deref(), Some(NAMES[position]));
                assert!(bytes > limit && limit == KEY_BYTES_MAX);
            }
            other => panic!("{other}"),
        };
        puts::<true>(|id| Probe::with(id, position, &format!("{id}-1,{long}")), check);
        puts::<false>(|id| Probe::with(id, position, &format!("{id}-1,{long}")), check);
    }
}

#[test]
fn too_many_entries_at_any_position_leave_no_trace() {
    let values = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let many = values(ENTRIES_PER_ROW_MAX + 1);
    for position in 0..KINDS {
        assert_no_trace::<false>("insert", |txn| {
            let refused = txn.insert(Probe::<false>::with("new", position, &many)).unwrap_err();
            let expected = Error::TooManyEntries {
                table: "probes".into(),
                index: NAMES[position].into(),
                key: "\"new\"".into(),
                entries: ENTRIES_PER_ROW_MAX + 1,
                limit: ENTRIES_PER_ROW_MAX,
            };
            assert_eq!(refused, expected);
        });
    }
    let db = database::<false>();
    let mut txn = db.write();
    txn.insert(Probe::<false>::with("full", 1, &values(ENTRIES_PER_ROW_MAX))).unwrap();
    assert!(txn.table_mut::<Probe<false>>().delete("full").is_some());
}

#[test]
fn a_primary_key_that_is_too_long_leaves_no_trace() {
    let id = "k".repeat(KEY_BYTES_MAX);
    assert_no_trace::<false>("insert", |txn| {
        let refused = txn.insert(Probe::<false> { id: id.clone(), ..Probe::new("new") });
        assert!(matches!(refused, Err(Error::KeyTooLong { index: None, .. })), "{refused:?}");
        let refused = txn.upsert(Probe::<false> { id: id.clone(), ..Probe::new("new") });
        assert!(matches!(refused, Err(Error::KeyTooLong { index: None, .. })), "{refused:?}");
    });
}

#[test]
fn the_longest_key_that_the_limit_allows_is_stored_and_found() {
    // One byte ends a string; the entry of a non-unique index has the primary key behind it.
    let db = Db::builder().table::<Probe<false>>().build().unwrap();
    let mut txn = db.write();
    let id = "k".repeat(KEY_BYTES_MAX - 1);
    let row = Probe::<false> { id: id.clone(), values: Default::default() };
    txn.insert(row).unwrap();
    assert!(txn.table::<Probe<false>>().get(&id).is_some());
    let value = "v".repeat(KEY_BYTES_MAX - 1 - "x\0".len());
    let row = Probe::<false> { id: "x".into(), values: Default::default() };
    let with = |value: &str| Probe {
        values: [value, "", "", "", "", "", "", ""].map(Into::into),
        ..row.clone()
    };
    txn.insert(with(&value)).unwrap();
    assert!(txn.upsert(with(&format!("{value}v"))).is_err());
    let index = Index::<Probe<false>, String, Many>::new("plain", 0);
    assert_eq!(txn.table::<Probe<false>>().index(index).get(&value).count(), 1);
    txn.snapshot().check().unwrap();
}

#[test]
fn an_absent_row_an_existing_key_and_a_changed_key_leave_no_trace() {
    assert_no_trace::<true>("refused by the primary key", |txn| {
        assert!(matches!(txn.insert(Probe::<true>::new("a")), Err(Error::KeyExists { .. })));
        let mut table = txn.table_mut::<Probe<true>>();
        let refused = table.update("nobody", |_| panic!("there is no row to change"));
        assert!(refused.unwrap_err().is_not_found());
        let refused = table.update("b", |row| row.id = "a".into()).unwrap_err();
        let expected = Error::KeyChanged {
            table: "probes".into(),
            key: "\"b\"".into(),
            changed: "\"a\"".into(),
        };
        assert_eq!(refused, expected);
        assert!(table.delete("nobody").is_none());
    });
}

/// Runs `statement` with a panic injected at its first call of user code, then at its second, and
/// so on until it comes through; says how many calls it makes.
fn panic_at_every_call<const UNIQUE: bool>(
    what: &str,
    statement: impl Fn(&mut WriteTxn<'_>),
) -> usize {
    let run = |txn: &mut WriteTxn<'_>, panic_at: usize| {
        CALLS.set(0);
        PANIC_AT.set(panic_at);
        let outcome = catch_unwind(AssertUnwindSafe(|| statement(txn)));
        PANIC_AT.set(usize::MAX);
        outcome.is_err()
    };
    let db = database::<UNIQUE>();
    let mut txn = begin::<UNIQUE>(&db);
    assert!(!run(&mut txn, usize::MAX), "{what} succeeds without a panic");
    let calls = CALLS.get();
    drop(txn);
    for call in 0..calls {
        assert_no_trace::<UNIQUE>(&format!("{what}, panic at call {call}"), |txn| {
            assert!(run(txn, call), "{what}, no panic at call {call}");
        });
    }
    calls
}

fn panics_leave_no_trace<const UNIQUE: bool>() {
    let calls = panic_at_every_call::<UNIQUE>("insert", |txn| {
        txn.insert(Probe::<UNIQUE>::new("new")).unwrap();
    });
    assert!(calls > KINDS, "the primary key and every index are computed");
    panic_at_every_call::<UNIQUE>("upsert", |txn| {
        txn.upsert(Probe::<UNIQUE>::with("a", 3, "other,another")).unwrap();
    });
    panic_at_every_call::<UNIQUE>("update", |txn| {
        let mut table = txn.table_mut::<Probe<UNIQUE>>();
        table.update("b", |row| row.values = Probe::<UNIQUE>::new("z").values).unwrap();
    });
    panic_at_every_call::<UNIQUE>("delete", |txn| {
        txn.table_mut::<Probe<UNIQUE>>().delete("a").unwrap();
    });
    panic_at_every_call::<UNIQUE>("delete_all", |txn| {
        assert!(txn.table_mut::<Probe<UNIQUE>>().delete_all(..) >= 3);
    });
    panic_at_every_call::<UNIQUE>("delete_all of an index", |txn| {
        let index = Index::<Probe<UNIQUE>, String, Many>::new("multi", 1);
        assert_eq!(txn.table_mut::<Probe<UNIQUE>>().index(index).delete_range("a".."c"), 2);
    });
}

#[test]
fn a_panic_at_any_call_of_user_code_leaves_no_trace_in_unique_indexes() {
    panics_leave_no_trace::<true>();
}

#[test]
fn a_panic_at_any_call_of_user_code_leaves_no_trace_in_other_indexes() {
    panics_leave_no_trace::<false>();
}

#[test]
fn a_panic_in_a_closure_given_to_a_statement_leaves_no_trace() {
    assert_no_trace::<true>("update", |txn| {
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            txn.table_mut::<Probe<true>>().update("a", |row| {
                row.values[0] = "half-way".into();
                panic!("injected");
            })
        }));
        assert!(panicked.is_err());
    });
    assert_no_trace::<true>("retain", |txn| {
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            txn.table_mut::<Probe<true>>().retain(|row| {
                assert!(row.id != "c", "injected");
                false
            })
        }));
        assert!(panicked.is_err());
    });
}

#[test]
fn a_range_that_finds_nothing_deletes_nothing_and_leaves_no_trace() {
    assert_no_trace::<false>("delete of nothing", |txn| {
        let mut table = txn.table_mut::<Probe<false>>();
        assert_eq!(table.delete_all("x".to_owned().."z".to_owned()), 0);
        assert_eq!(table.retain(|_| true), 0);
        let index = Index::<Probe<false>, String, Many>::new("plain", 0);
        assert_eq!(table.index(index).delete_all("nothing"), 0);
    });
}

#[test]
fn a_refused_statement_on_one_table_does_not_touch_the_others() {
    let db = empty();
    let mut txn = db.write();
    txn.insert(crate::tables::node(1)).unwrap();
    txn.insert(job(1)).unwrap();
    assert!(txn.insert(job(1)).is_err());
    assert_eq!(txn.changes().len(), 2);
    txn.commit();
    assert_eq!(db.read().table::<crate::tables::Node>().len(), 1);
}

#[test]
fn a_statement_after_a_refused_one_sees_the_values_that_it_did_not_take() {
    let db = with_jobs([job(1), job(2)]);
    let mut txn = db.write();
    // Refused at `slot`, the last position; `name` must be free again.
    assert!(txn.insert(Job { name: "fresh".into(), slot: 2, ..job(3) }).is_err());
    txn.insert(Job { name: "fresh".into(), ..job(4) }).unwrap();
    // A refused update must keep the old value taken.
    assert!(
        txn.table_mut::<Job>().update(&1, |job| (job.name, job.slot) = ("free".into(), 2)).is_err()
    );
    assert!(txn.insert(Job { name: "job-1".into(), ..job(5) }).is_err());
    txn.snapshot().check().unwrap();
}

#[test]
fn upsert_returns_what_it_replaced_and_insert_what_it_made() {
    let db = empty();
    let mut txn = db.write();
    assert!(txn.upsert(job(1)).unwrap().is_none());
    let replaced = txn.upsert(Job { priority: 1, ..job(1) }).unwrap().unwrap();
    assert_eq!(replaced.priority, 0);
    assert_eq!(txn.insert(job(2)).unwrap().value(), &job(2));
    let deleted = txn.table_mut::<Job>().delete(&1).unwrap();
    assert_eq!(deleted.priority, 1);
    assert!(txn.table_mut::<Job>().delete(&1).is_none());
    let updated = txn.table_mut::<Job>().update(&2, |job| job.priority = 9).unwrap();
    assert_eq!(updated.priority, 9);
}

#[test]
fn many_rows_are_upserted_all_or_none() {
    let db = with_jobs((0..100).map(job));
    let mut txn = db.write();
    let changed = |id: u64| Job { priority: 5, ..job(id) };
    assert_eq!(txn.table_mut::<Job>().upsert_all((50..250).map(changed)), Ok(200));
    assert_eq!(txn.table_mut::<Job>().upsert_all(std::iter::empty()), Ok(0));
    let twice = [job(7), job(7), changed(7)];
    assert_eq!(txn.table_mut::<Job>().upsert_all(twice), Ok(3), "the last one counts");
    let (len, changes) = (txn.table::<Job>().len(), txn.changes().len());
    assert_eq!((len, changes), (250, 201));
    let taken = (300..340).map(|id| Job { slot: if id == 339 { 0 } else { id as u32 }, ..job(id) });
    assert!(txn.table_mut::<Job>().upsert_all(taken).unwrap_err().is_conflict());
    assert_eq!((txn.table::<Job>().len(), txn.changes().len()), (len, changes));
    txn.commit();
    db.check().unwrap();
    let snap = db.read();
    let table = snap.table::<Job>();
    let meta =
        |id: u64| table.get(&id).map(|row| (row.created().0, row.modified().0, row.priority));
    assert_eq!([meta(0), meta(7), meta(60)], [Some((1, 1, 0)), Some((1, 2, 5)), Some((1, 2, 5))]);
    assert_eq!(meta(249), Some((2, 2, 5)));
}
