//! Digests: what is kept equals what the rows add up to, whatever their history; what cannot be
//! encoded is refused before anything has changed.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use fsmdb::limits::{DEPTH_MAX, ROW_BYTES_MAX};
use fsmdb::testing::{Divergence, check};
use fsmdb::{
    Applied, Db, Digest, Digests, Error, Fsm, Machine, Read, SnapshotError, Table, Write, WriteTxn,
    inspect,
};
use proptest::prelude::*;
use serde::ser::{Error as _, SerializeStruct};
use serde::{Deserialize, Serialize, Serializer};

use crate::tables::{Job, Node, Service, commit, empty, file_of, job, node, service, value};

/// A database with the tables of `empty`, which keeps digests; they are given in another order.
fn keeping() -> Db {
    let builder = Db::builder().table::<Node>().table::<Job>().table::<Service>().keep_digests();
    builder.build().unwrap()
}

/// The digests of a database that keeps none, into which the rows of `read` are put one by one,
/// the last first.
fn from_scratch(read: &impl Read) -> Digests {
    let db = empty();
    read.table::<Job>().iter().rev().for_each(|row| {
        commit(&db, |txn| drop(txn.insert(value(row)).unwrap()));
    });
    read.table::<Node>().iter().rev().for_each(|row| {
        commit(&db, |txn| drop(txn.insert(value(row)).unwrap()));
    });
    read.table::<Service>().iter().rev().for_each(|row| {
        commit(&db, |txn| drop(txn.insert(value(row)).unwrap()));
    });
    db.digests().unwrap()
}

/// Checks that the digests which are kept are those of the rows.
fn compare(digests: &Digests, read: &impl Read) {
    let expected = from_scratch(read);
    assert_eq!(digests.first_difference(&expected), None);
    assert_eq!(digests.tables, expected.tables);
    assert_eq!(digests.database(), expected.database());
}

/// Statements on rows whose ids, and whose unique values, collide.
#[derive(Clone, Debug)]
enum Statement {
    Insert(u64, u32),
    Upsert(u64, u32),
    Update(u64, i32),
    Delete(u64),
    DeleteAll(u64, u64),
    InsertAll(Vec<u64>),
    UpsertAll(Vec<u64>, i32),
    /// Empties the table and fills it at once.
    Fill(Vec<u64>, i32),
    Node(u64),
}

/// Runs a statement, which may be refused.
fn run(write: &mut impl Write, statement: &Statement) {
    let mut jobs = write.table_mut::<Job>();
    let _: Result<(), Error> = match statement {
        Statement::Insert(id, slot) => jobs.insert(Job { slot: *slot, ..job(*id) }).map(drop),
        Statement::Upsert(id, slot) => jobs.upsert(Job { slot: *slot, ..job(*id) }).map(drop),
        Statement::Update(id, priority) => {
            jobs.update(id, |job| job.priority = *priority).map(drop)
        }
        Statement::Delete(id) => {
            jobs.delete(id);
            Ok(())
        }
        Statement::DeleteAll(low, high) => {
            jobs.delete_all((*low)..(*high).max(*low));
            Ok(())
        }
        Statement::InsertAll(ids) => jobs.insert_all(ids.iter().map(|id| job(*id))).map(drop),
        Statement::UpsertAll(ids, priority) => {
            let rows = ids.iter().map(|id| Job { priority: *priority, ..job(*id) });
            jobs.upsert_all(rows).map(drop)
        }
        Statement::Fill(ids, priority) => {
            jobs.delete_all(..);
            jobs.insert_all(ids.iter().map(|id| Job { priority: *priority, ..job(*id) })).map(drop)
        }
        Statement::Node(id) => write.upsert(node(*id)).map(drop),
    };
}

fn run_all(write: &mut impl Write, statements: &[Statement]) {
    statements.iter().for_each(|statement| run(write, statement));
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Statement>),
    /// All of them, or the ones behind a savepoint, are undone.
    RollBack(Vec<Statement>, Vec<Statement>, bool),
    /// A fork and a fork of it, while the database goes on; carried over by a rebase and a change
    /// set.
    Fork(Vec<Statement>, Vec<Statement>),
    Optimistic(Vec<Statement>, Vec<Statement>),
    Hold,
    Restore,
}

fn statement() -> impl Strategy<Value = Statement> {
    let ids = || prop::collection::vec(0..12_u64, 0..6);
    prop_oneof![
        (0..12_u64, 0..14_u32).prop_map(|(id, slot)| Statement::Insert(id, slot)),
        (0..12_u64, 0..14_u32).prop_map(|(id, slot)| Statement::Upsert(id, slot)),
        (0..12_u64, -2..3_i32).prop_map(|(id, priority)| Statement::Update(id, priority)),
        (0..12_u64).prop_map(Statement::Delete),
        (0..12_u64, 0..12_u64).prop_map(|(low, high)| Statement::DeleteAll(low, high)),
        ids().prop_map(Statement::InsertAll),
        (ids(), -2..3_i32).prop_map(|(ids, priority)| Statement::UpsertAll(ids, priority)),
        (ids(), -2..3_i32).prop_map(|(ids, priority)| Statement::Fill(ids, priority)),
        (0..3_u64).prop_map(Statement::Node),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let statements = || prop::collection::vec(statement(), 0..5);
    prop_oneof![
        3 => statements().prop_map(Step::Commit),
        2 => (statements(), statements(), any::<bool>())
            .prop_map(|(before, behind, all)| Step::RollBack(before, behind, all)),
        2 => (statements(), statements()).prop_map(|(mine, theirs)| Step::Fork(mine, theirs)),
        2 => (statements(), statements())
            .prop_map(|(mine, theirs)| Step::Optimistic(mine, theirs)),
        1 => Just(Step::Hold),
        1 => Just(Step::Restore),
    ]
}

/// Does one step; `held` is a file of an earlier version.
fn step_once(db: &Db, step: &Step, held: &mut Vec<u8>) {
    match step {
        Step::Commit(statements) => commit(db, |txn| run_all(txn, statements)),
        Step::RollBack(before, behind, is_all) => {
            let mut txn = db.write();
            run_all(&mut txn, before);
            let savepoint = txn.savepoint();
            let digests = txn.snapshot().digests().unwrap();
            run_all(&mut txn, behind);
            let view = txn.snapshot();
            compare(&view.digests().unwrap(), &view);
            txn.rollback_to(&savepoint);
            assert_eq!(txn.snapshot().digests().unwrap(), digests);
            if *is_all {
                txn.rollback_all();
                assert_eq!(txn.snapshot().digests().unwrap().tables, db.digests().unwrap().tables);
            }
            txn.commit();
        }
        Step::Fork(mine, theirs) => {
            let mut fork = db.read().fork();
            run_all(&mut fork, mine);
            let mut child = fork.fork();
            run_all(&mut child, theirs);
            compare(&fork.digests().unwrap(), &fork);
            compare(&child.digests().unwrap(), &child);
            child.check().unwrap();
            commit(db, |txn| run_all(txn, theirs));
            let Ok(rebased) = child.rebase_with(&db.read(), |_| fsmdb::Resolution::Mine) else {
                return;
            };
            commit(db, |txn| rebased.change_set().unwrap().apply(txn).unwrap());
            assert_eq!(rebased.digests().unwrap().tables, db.digests().unwrap().tables);
        }
        Step::Optimistic(mine, theirs) => {
            let mut txn = db.optimistic();
            run_all(&mut txn, mine);
            commit(db, |txn| run_all(txn, theirs));
            let before = db.digests().unwrap();
            if db.commit(txn).is_err() {
                assert_eq!(db.digests().unwrap(), before);
            }
        }
        Step::Hold => *held = file_of(db),
        Step::Restore => db.restore(held.as_slice()).unwrap(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_kept_is_what_the_rows_give_whatever_their_history(
        steps in prop::collection::vec(step(), 1..20),
    ) {
        let db = keeping();
        let mut held = file_of(&db);
        for step in &steps {
            step_once(&db, step, &mut held);
            compare(&db.digests().unwrap(), &db.read());
            db.check().unwrap();
        }
    }

    #[test]
    fn databases_have_equal_digests_if_and_only_if_they_have_equal_rows(
        one in prop::collection::vec(statement(), 0..6),
        other in prop::collection::vec(statement(), 0..6),
    ) {
        let (first, second) = (keeping(), empty());
        commit(&first, |txn| run_all(txn, &one));
        commit(&second, |txn| run_all(txn, &other));
        let rows = |db: &Db| {
            let snap = db.read();
            let jobs: Vec<_> = snap.table::<Job>().iter().map(value).collect();
            (jobs, snap.table::<Node>().iter().map(value).collect::<Vec<_>>())
        };
        let (mine, theirs) = (rows(&first), rows(&second));
        let (ours, others) = (first.digests().unwrap(), second.digests().unwrap());
        let expected = if mine.0 != theirs.0 {
            Some("jobs")
        } else if mine.1 != theirs.1 {
            Some("nodes")
        } else {
            None
        };
        prop_assert_eq!(ours.first_difference(&others), expected);
        prop_assert_eq!(ours.database() == others.database(), expected.is_none());
    }
}

/// Replicas of different builds and platforms compare digests, so they can never change. These come
/// from the reference implementation of the hash, in C, over encodings put together by hand.
#[test]
fn the_digests_of_known_rows_are_known() {
    let db = empty();
    commit(&db, |txn| {
        txn.insert(node(1)).unwrap();
        txn.insert(node(2)).unwrap();
        txn.insert(service("prod", "web")).unwrap();
    });
    let digests = db.digests().unwrap();
    let written = digests.tables.iter();
    let written: Vec<_> =
        written.map(|table| (table.table.as_str(), table.rows, table.digest.to_string())).collect();
    let expected = [
        ("jobs", 0, "0".repeat(32)),
        ("nodes", 2, "5f9626f4f379beb217d1a8c70e484455".into()),
        ("services", 1, "50b3cd80fbcee63e2bdc46f40ab0500e".into()),
    ];
    assert_eq!(written, expected);
    assert_eq!(digests.database().to_string(), "c1e47a9fa565940065f5b069474068b1");
    assert_eq!((digests.revision.0, digests.applied), (1, Applied::default()));
}

#[test]
fn any_other_row_is_another_digest() {
    let digest = |rows: &[Node]| {
        let db = empty();
        commit(&db, |txn| rows.iter().for_each(|row| drop(txn.insert(row.clone()).unwrap())));
        db.digests().unwrap().tables[1].digest
    };
    let named = |id, name: &str| Node { id, name: name.into() };
    let (one, two) = (named(1, "one"), named(2, "two"));
    let base = digest(&[one.clone(), two.clone()]);
    assert_eq!(base, digest(&[two.clone(), one.clone()]));
    let others = [
        digest(&[]),
        digest(std::slice::from_ref(&one)),
        digest(std::slice::from_ref(&two)),
        digest(&[named(1, "two"), named(2, "one")]),
        digest(&[named(1, "onf"), two.clone()]),
        digest(&[one.clone(), two.clone(), named(3, "")]),
    ];
    assert!(others.iter().all(|other| *other != base), "{others:?}");
}

#[test]
fn the_first_difference_is_the_lowest_name_that_is_not_the_same_on_both_sides() {
    let db = keeping();
    let before = db.digests().unwrap();
    commit(&db, |txn| {
        txn.insert(service("a", "b")).unwrap();
        txn.insert(node(1)).unwrap();
    });
    let after = db.digests().unwrap();
    assert_eq!(before.first_difference(&after), Some("nodes"));
    assert_eq!(after.first_difference(&after.clone()), None);

    // Tables that only one side has.
    let fewer = Db::builder().table::<Node>().table::<Service>().build().unwrap();
    let fewer = fewer.digests().unwrap();
    assert_eq!(fewer.first_difference(&before), Some("jobs"));
    assert_eq!(before.first_difference(&fewer), Some("jobs"));
    let fewest = Db::builder().table::<Node>().build().unwrap().digests().unwrap();
    assert_eq!(fewest.first_difference(&fewer), Some("services"));
    assert_ne!(fewest.database(), fewer.database());
}

#[test]
fn digests_travel_as_text_and_as_bytes() {
    let db = keeping();
    commit(&db, |txn| drop(txn.insert(node(1)).unwrap()));
    let digests = db.digests().unwrap();
    let digest = digests.tables[1].digest;

    let json = serde_json::to_string(&digests).unwrap();
    assert!(json.contains(&format!("\"{digest}\"")), "{json}");
    assert_eq!(serde_json::from_str::<Digests>(&json).unwrap(), digests);
    let bytes = rmp_serde::to_vec_named(&digests).unwrap();
    assert_eq!(rmp_serde::from_slice::<Digests>(&bytes).unwrap(), digests);
    let alone = rmp_serde::to_vec(&digest).unwrap();
    let big_endian = u128::from_str_radix(&digest.to_string(), 16).unwrap().to_be_bytes();
    assert_eq!(alone, [&[0xC4, 16][..], &big_endian].concat());
    assert!(rmp_serde::from_slice::<Digest>(&[0xC4, 2, 1, 2]).is_err());

    // An enum without a tag buffers, and forgets what the format is meant for.
    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Reply {
        Of(Digest),
    }
    let reply = rmp_serde::to_vec(&Reply::Of(digest)).unwrap();
    let Reply::Of(read) = rmp_serde::from_slice(&reply).unwrap();
    assert_eq!(read, digest);
}

#[test]
fn only_what_is_written_is_read_as_a_digest() {
    let text = "0123456789abcdef0123456789abcdef";
    assert_eq!(text.parse::<Digest>().unwrap().to_string(), text);
    assert_eq!(Digest::default().to_string(), "0".repeat(32));
    assert_eq!(format!("{:?}", Digest::default()), format!("Digest({})", "0".repeat(32)));
    for wrong in ["", &text[1..], &format!("0{text}"), &text.to_uppercase(), "+1", "é"] {
        let padded = format!("{wrong:>32}");
        for wrong in [wrong, &padded, &padded.replace(' ', "+")] {
            if wrong == text {
                continue;
            }
            let error = wrong.parse::<Digest>().unwrap_err();
            assert_eq!(error.text, wrong);
            let json = serde_json::to_string(wrong).unwrap();
            assert!(serde_json::from_str::<Digest>(&json).is_err(), "{wrong}");
        }
    }
}

thread_local! {
    /// How many values of this thread were encoded.
    static ENCODED: Cell<u64> = const { Cell::new(0) };
    /// What is added to every value that is encoded.
    static SHIFT: Cell<u64> = const { Cell::new(0) };
}

/// What a row says when it is to be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
enum Mood {
    Plain,
    Fails,
    Panics,
    /// As it is at the time.
    Moody,
}

#[derive(Clone, Debug, Deserialize, Table)]
#[table(name = "counted")]
struct Counted {
    #[key]
    id: u64,
    #[index]
    group: u64,
    mood: Mood,
    tree: Tree,
    text: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Tree(Vec<Tree>);

impl Tree {
    fn of_depth(depth: usize) -> Self {
        (1..depth).fold(Self::default(), |tree, _| Self(vec![tree]))
    }
}

impl Serialize for Counted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ENCODED.set(ENCODED.get() + 1);
        let id = match self.mood {
            Mood::Plain => self.id,
            Mood::Fails => return Err(S::Error::custom("it is in no mood for it")),
            Mood::Panics => panic!("it is in no mood for it"),
            Mood::Moody if SHIFT.get() == u64::MAX => {
                return Err(S::Error::custom("it is in no mood for it any more"));
            }
            Mood::Moody => self.id + SHIFT.get(),
        };
        let mut fields = serializer.serialize_struct("Counted", 5)?;
        fields.serialize_field("id", &id)?;
        fields.serialize_field("group", &self.group)?;
        fields.serialize_field("mood", &matches!(self.mood, Mood::Plain))?;
        fields.serialize_field("tree", &self.tree)?;
        fields.serialize_field("text", &self.text)?;
        fields.end()
    }
}

fn counted(id: u64) -> Counted {
    Counted { id, group: id % 3, mood: Mood::Plain, tree: Tree::default(), text: "x".into() }
}

fn counting(keeps_digests: bool) -> Db {
    let builder = Db::builder().table::<Counted>();
    let builder = if keeps_digests { builder.keep_digests() } else { builder };
    builder.build().unwrap()
}

/// How many rows `run` encodes.
fn encodings(run: impl FnOnce()) -> u64 {
    let before = ENCODED.get();
    run();
    ENCODED.get() - before
}

#[test]
fn a_statement_encodes_what_it_puts_and_what_it_takes_out_and_nothing_without_the_option() {
    for (keeps_digests, expected) in [(false, [0; 7]), (true, [1, 2, 2, 1, 10, 20, 10])] {
        let db = counting(keeps_digests);
        let mut txn = db.write();
        let found = [
            encodings(|| drop(txn.insert(counted(1)).unwrap())),
            encodings(|| drop(txn.upsert(counted(1)).unwrap())),
            encodings(|| {
                drop(txn.table_mut::<Counted>().update(&1, |row| row.group = 7).unwrap());
            }),
            encodings(|| drop(txn.table_mut::<Counted>().delete(&1).unwrap())),
            encodings(|| {
                txn.table_mut::<Counted>().insert_all((0..10).map(counted)).unwrap();
            }),
            encodings(|| {
                txn.table_mut::<Counted>().upsert_all((0..10).map(counted)).unwrap();
            }),
            encodings(|| {
                txn.table_mut::<Counted>().index(Counted::BY_GROUP).delete_range(..);
            }),
        ];
        assert_eq!(found, expected);
        txn.insert(counted(1)).unwrap();
        assert_eq!(encodings(|| assert_eq!(txn.commit().0, 1)), 0);
        let asked = encodings(|| drop(db.digests().unwrap()));
        assert_eq!(asked, u64::from(!keeps_digests));
    }
}

/// Checks that every statement refuses or panics at `row` and leaves the transaction as it was.
fn refused_everywhere(row: &Counted, is_refusal: impl Fn(Result<(), Error>) -> bool) {
    let db = counting(true);
    commit(&db, |txn| {
        (0..4).for_each(|id| drop(txn.insert(counted(id)).unwrap()));
    });
    let bad = |id: u64| Counted { id, ..row.clone() };
    type Put<'a> = &'a dyn Fn(&mut WriteTxn<'_>) -> Result<(), Error>;
    let puts: [Put<'_>; 6] = [
        &|txn| txn.insert(bad(7)).map(drop),
        &|txn| txn.upsert(bad(2)).map(drop),
        &|txn| txn.table_mut::<Counted>().update(&2, |row| *row = bad(2)).map(drop),
        &|txn| txn.table_mut::<Counted>().upsert_all([counted(5), bad(2)]).map(drop),
        &|txn| txn.table_mut::<Counted>().insert_all([counted(5), bad(7)]).map(drop),
        &|txn| {
            txn.table_mut::<Counted>().delete_all(..);
            txn.table_mut::<Counted>().insert_all([counted(5), bad(7), counted(8)]).map(drop)
        },
    ];
    for (number, put) in puts.iter().enumerate() {
        let mut txn = db.write();
        txn.upsert(Counted { group: 9, ..counted(3) }).unwrap();
        if number == 5 {
            txn.table_mut::<Counted>().delete_all(..);
        }
        let (changes, view) = (txn.changes().len(), txn.snapshot());
        let outcome = catch_unwind(AssertUnwindSafe(|| put(&mut txn)));
        assert!(outcome.map_or_else(|_| row.mood == Mood::Panics, &is_refusal), "{number}");
        assert_eq!(txn.changes().len(), changes, "{number}");
        let now = txn.snapshot();
        assert_eq!(now.digests(), view.digests(), "{number}");
        assert_eq!(now.diff::<Counted>(&view).count(), 0, "{number}");
        now.check().unwrap();
        txn.insert(counted(100)).unwrap();
        txn.commit();
        db.check().unwrap();
        commit(&db, |txn| {
            txn.table_mut::<Counted>().delete_all(4..);
            txn.table_mut::<Counted>().upsert_all((0..4).map(counted)).unwrap();
        });
    }

    // Nobody is asked to encode it where no digest is kept, until somebody asks for one.
    let db = counting(false);
    commit(&db, |txn| drop(txn.insert(bad(7)).unwrap()));
    let asked = catch_unwind(AssertUnwindSafe(|| db.digests().map(drop)));
    assert!(asked.map_or_else(|_| row.mood == Mood::Panics, is_refusal));
}

#[test]
fn a_row_that_cannot_be_encoded_is_refused_and_named() {
    refused_everywhere(&Counted { mood: Mood::Fails, ..counted(0) }, |outcome| {
        let error = outcome.unwrap_err();
        let text = error.to_string();
        assert!(!error.is_conflict());
        text.starts_with("table counted: the row with key ")
            && text.ends_with(" cannot be encoded: it is in no mood for it")
            && matches!(&error, Error::RowEncode { key, .. } if key == "7" || key == "2")
    });
}

#[test]
fn a_row_that_nests_too_deep_is_refused() {
    // The row itself is a level, and so is its record in a file.
    let deeper = Counted { tree: Tree::of_depth(DEPTH_MAX), ..counted(0) };
    refused_everywhere(&deeper, |outcome| {
        let Err(Error::RowEncode { message, .. }) = outcome else { return false };
        message.contains("nesting deeper than the limit")
    });
    let db = counting(true);
    let deepest = Counted { tree: Tree::of_depth(DEPTH_MAX - 1), ..counted(0) };
    commit(&db, |txn| drop(txn.insert(deepest).unwrap()));
    inspect(file_of(&db).as_slice()).unwrap();
}

#[test]
fn a_row_that_is_too_large_is_refused() {
    let bytes_of = |row: &Counted| rmp_serde::to_vec_named(row).unwrap().len();
    let text = |length: usize| Counted { text: "x".repeat(length), ..counted(0) };
    let largest = text(ROW_BYTES_MAX - (bytes_of(&text(1 << 16)) - (1 << 16)));
    assert_eq!(bytes_of(&largest), ROW_BYTES_MAX);
    let db = counting(true);
    let mut txn = db.write();
    txn.insert(largest.clone()).unwrap();
    let larger = Counted { text: largest.text + "x", ..counted(0) };
    let refused = txn.upsert(larger).unwrap_err();
    let limit = ROW_BYTES_MAX;
    let (table, key, bytes) = ("counted".into(), "0".into(), limit + 1);
    assert_eq!(refused, Error::RowTooLarge { table, key, bytes, limit });
    let text =
        format!("table counted: the row with key 0 needs {bytes} bytes, the limit is {limit}");
    assert_eq!(refused.to_string(), text);
    txn.commit();
    db.check().unwrap();
}

#[test]
fn a_panic_of_the_encoding_changes_nothing() {
    refused_everywhere(&Counted { mood: Mood::Panics, ..counted(0) }, |_| false);
}

#[test]
fn a_row_that_is_encoded_otherwise_than_before_is_found_or_panics_before_anything_changed() {
    let moody = |id| Counted { mood: Mood::Moody, ..counted(id) };
    let db = counting(true);
    commit(&db, |txn| {
        txn.insert(moody(1)).unwrap();
        txn.insert(counted(2)).unwrap();
    });
    SHIFT.set(100);
    let error = db.check().unwrap_err();
    let Error::Inconsistent { table, index, key, .. } = &error else { panic!("{error}") };
    assert_eq!((table.as_str(), index.as_str(), key.as_str()), ("counted", "digest", "all rows"));

    SHIFT.set(u64::MAX);
    assert!(matches!(db.check(), Err(Error::RowEncode { .. })));
    let mut txn = db.write();
    for statement in [
        |txn: &mut WriteTxn<'_>| drop(txn.table_mut::<Counted>().delete(&1)),
        |txn: &mut WriteTxn<'_>| drop(txn.upsert(counted(1))),
        |txn: &mut WriteTxn<'_>| assert!(txn.table_mut::<Counted>().delete_all(..) > 0),
    ] {
        assert!(catch_unwind(AssertUnwindSafe(|| statement(&mut txn))).is_err());
        assert!(txn.changes().is_empty());
        assert_eq!(txn.table::<Counted>().len(), 2);
    }
    txn.insert(counted(3)).unwrap();
    txn.commit();
    SHIFT.set(0);
    db.check().unwrap();
}

#[test]
fn a_file_with_a_row_that_cannot_be_encoded_again_is_refused_where_digests_are_kept() {
    /// Reads what it does not write.
    #[derive(Deserialize, Table)]
    #[table(name = "silent")]
    struct Silent {
        #[key]
        id: u64,
    }
    thread_local!(static IS_SILENT: Cell<bool> = const { Cell::new(false) });
    impl Serialize for Silent {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            if IS_SILENT.get() {
                return Err(S::Error::custom("silence"));
            }
            let mut fields = serializer.serialize_struct("Silent", 1)?;
            fields.serialize_field("id", &self.id)?;
            fields.end()
        }
    }
    let db = Db::builder().table::<Silent>().build().unwrap();
    commit(&db, |txn| drop(txn.insert(Silent { id: 5 }).unwrap()));
    let file = file_of(&db);
    IS_SILENT.set(true);
    Db::builder().table::<Silent>().load(file.as_slice()).unwrap();
    let keeping = Db::builder().table::<Silent>().keep_digests();
    let refused = keeping.load(file.as_slice()).unwrap_err();
    let SnapshotError::Rule(Error::RowEncode { key, .. }) = &refused else { panic!("{refused}") };
    assert_eq!(key, "5");
}

/// Encodes what it writes otherwise on every machine but the first, and afterwards as it should.
struct Shifty {
    number: u64,
}

impl Fsm for Shifty {
    type Command = u64;
    type Reply = Result<(), Error>;

    fn apply(&self, txn: &mut WriteTxn<'_>, _: Applied, id: u64) -> Self::Reply {
        SHIFT.set(self.number);
        let put = txn.upsert(Counted { mood: Mood::Moody, ..counted(id) });
        SHIFT.set(0);
        put.map(drop)
    }
}

#[test]
fn the_kit_finds_an_encoding_that_is_not_pure() {
    let numbers = AtomicU64::new(0);
    let machine = || {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        Machine::new(counting(true), Shifty { number }).unwrap()
    };
    let found = check(machine, &[1, 2]).unwrap_err();
    let Divergence::Digest { replica, index: 1, table } = &found else { panic!("{found}") };
    assert_eq!((replica.as_str(), table.as_str()), ("the second replica", "counted"));

    // The first replica is compared with its own rows.
    let machine = || Machine::new(counting(true), Shifty { number: 1 }).unwrap();
    let found = check(machine, &[1, 2]).unwrap_err();
    let Divergence::Index { index: 1, source } = &found else { panic!("{found}") };
    assert!(matches!(source, Error::Inconsistent { index, .. } if index == "digest"));
}

#[test]
fn replicas_that_keep_digests_have_the_same_ones_after_every_entry_and_an_install() {
    struct Nodes;
    impl Fsm for Nodes {
        type Command = (u64, String);
        type Reply = Result<(), Error>;

        fn apply(&self, txn: &mut WriteTxn<'_>, _: Applied, command: (u64, String)) -> Self::Reply {
            let (id, name) = command;
            txn.upsert(Node { id, name }).map(drop)
        }
    }
    let machine = || Machine::new(keeping(), Nodes).unwrap();
    let commands: Vec<_> = (0..30).map(|n| (n % 7, format!("node {}", n % 5))).collect();
    let report = check(machine, &commands).unwrap();
    assert!(report.refused > 0 && report.restored > 0);

    let (one, other) = (machine(), machine());
    for (command, index) in commands.iter().zip(1..) {
        let entry = Machine::<Nodes>::encode(command).unwrap();
        let _ = one.apply(Applied { index, term: 1 }, &entry).unwrap();
    }
    other.install(file_of(one.db()).as_slice()).unwrap();
    assert_eq!(one.read().digests().unwrap(), other.read().digests().unwrap());
    assert_eq!(other.read().digests().unwrap().applied.index, 30);
}
