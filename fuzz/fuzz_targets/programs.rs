//! Hostile programs: no panic, bounded replies, the transaction untouched when one is refused.
//!
//! Three kinds of input: raw bytes; programs made by the typed constructors; and the encoding of
//! such a program with a few bytes changed, so that names, keys, bounds and rows are wrong one at a
//! time. What runs leaves consistent indexes, and does the same on a second database.

#![no_main]

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::OnceLock;

use arbitrary::Arbitrary;
use fsmdb::limits::PROGRAM_ROWS_MAX;
use fsmdb::{
    Cmp, Compare, Db, Op, OpResult, Program, ProgramReply, Revision, Select, StartsWith, Table,
    WriteTxn,
};
use libfuzzer_sys::fuzz_target;
use serde::{Deserialize, Serialize};

#[derive(Arbitrary, Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "n")]
#[index(name = "zs", on = (zone, size))]
struct Node {
    #[key]
    id: u8,
    #[index(unique)]
    name: u8,
    #[index]
    zone: Option<String>,
    size: i8,
    #[index(multi)]
    tags: BTreeSet<u8>,
}

#[derive(Arbitrary, Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "e")]
struct Event {
    #[key]
    at: String,
    #[key]
    number: u16,
    texts: Vec<String>,
}

#[derive(Arbitrary, Debug)]
enum Rows {
    Ids(Bound<u8>, Bound<u8>),
    Name(u8),
    Names(Bound<u8>, Bound<u8>),
    ZoneSizes(Option<String>),
    Tags(Bound<u8>, Bound<u8>),
    Events(String),
}

#[derive(Arbitrary, Debug)]
enum Test {
    Exists(u8),
    Absent(String, u16),
    Created(u8, u8, u64),
    Modified(u8, u8, u64),
    Equals(Node),
    Count(Rows, u8, u64),
    TableModified(u8, u64),
}

#[derive(Arbitrary, Debug)]
enum Action {
    Insert(Node),
    Upsert(Node),
    InsertEvent(Event),
    Delete(u8),
    DeleteAll(Rows),
    Get(u8),
    Rows(Rows, u32),
    Count(Rows),
    Program(Plan),
}

#[derive(Arbitrary, Debug)]
struct Plan {
    tests: Vec<Test>,
    then: Vec<Action>,
    otherwise: Vec<Action>,
}

#[derive(Arbitrary, Debug)]
enum Input {
    Raw(Vec<u8>),
    Built(Plan),
    Changed { plan: Plan, edits: Vec<(u16, u8)>, cut: Option<u16> },
}

fn select(rows: Rows) -> Select {
    match rows {
        Rows::Ids(low, high) => Select::range::<Node>((low, high)),
        Rows::Name(name) => Select::value(Node::BY_NAME, &name),
        Rows::Names(low, high) => Select::value_range(Node::BY_NAME, (low, high)),
        Rows::ZoneSizes(zone) => Select::value_prefix(Node::BY_ZS, &(zone,)),
        Rows::Tags(low, high) => Select::value_range(Node::BY_TAGS, (low, high)),
        Rows::Events(start) => Select::prefix::<Event>(&(StartsWith(&start),)),
    }
}

fn cmp(which: u8) -> Cmp {
    let all = [Cmp::Equal, Cmp::NotEqual, Cmp::Less, Cmp::AtMost, Cmp::Greater, Cmp::AtLeast];
    all[usize::from(which) % all.len()]
}

fn compare(test: Test) -> Option<Compare> {
    Some(match test {
        Test::Exists(id) => Compare::exists::<Node>(&id),
        Test::Absent(at, number) => Compare::absent::<Event>(&(at, number)),
        Test::Created(id, is, at) => Compare::created::<Node>(&id, cmp(is), Revision(at)),
        Test::Modified(id, is, at) => Compare::modified::<Node>(&id, cmp(is), Revision(at)),
        Test::Equals(node) => Compare::equals(&node).ok()?,
        Test::Count(rows, is, count) => Compare::count(select(rows), cmp(is), count),
        Test::TableModified(is, at) => Compare::table_modified::<Node>(cmp(is), Revision(at)),
    })
}

/// `None` for what the constructors refuse.
fn op(action: Action) -> Option<Op> {
    Some(match action {
        Action::Insert(node) => Op::insert(&node).ok()?,
        Action::Upsert(node) => Op::upsert(&node).ok()?,
        Action::InsertEvent(event) => Op::insert(&event).ok()?,
        Action::Delete(id) => Op::delete::<Node>(&id),
        Action::DeleteAll(rows) => Op::delete_all(select(rows)),
        Action::Get(id) => Op::get::<Node>(&id),
        Action::Rows(rows, limit) => Op::rows(select(rows), limit % 20_000),
        Action::Count(rows) => Op::count(select(rows)),
        Action::Program(plan) => Op::program(program(plan)).ok()?,
    })
}

fn program(plan: Plan) -> Program {
    Program::when(plan.tests.into_iter().filter_map(compare))
        .then(plan.then.into_iter().filter_map(op))
        .otherwise(plan.otherwise.into_iter().filter_map(op))
}

fn decoded(input: Input) -> Option<Program> {
    match input {
        Input::Raw(bytes) => Program::decode(&bytes).ok(),
        Input::Built(plan) => Some(program(plan)),
        Input::Changed { plan, edits, cut } => {
            let mut bytes = program(plan).encode().ok()?;
            for (at, byte) in edits {
                let length = bytes.len();
                bytes[usize::from(at) % length] = byte;
            }
            bytes.truncate(cut.map_or(usize::MAX, usize::from));
            Program::decode(&bytes).ok()
        }
    }
}

fn filled() -> Db {
    let db = Db::builder().table::<Node>().table::<Event>().build().expect("the schema is sound");
    let mut txn = db.write();
    for id in 0..8_u8 {
        let zone = (id % 3 != 0).then(|| format!("z{}", id % 2));
        let tags = (0..id % 4).collect();
        let node = Node { id, name: id, zone, size: id as i8 - 4, tags };
        txn.insert(node).expect("the rows are sound");
        let event = Event { at: "day".into(), number: id.into(), texts: Vec::new() };
        txn.insert(event).expect("the rows are sound");
    }
    txn.commit();
    db
}

fn file_of(txn: &mut WriteTxn<'_>) -> Vec<u8> {
    let mut file = Vec::new();
    txn.snapshot().save(&mut file).expect("what is in memory can be saved");
    file
}

/// The rows of a reply, which decode and are within the limits.
fn rows_in(reply: &ProgramReply) -> usize {
    let rows = |result: &OpResult| match result {
        OpResult::Rows(rows) if rows.table() == Node::NAME => {
            rows.decode::<Node>().expect("what was read can be decoded").len()
        }
        OpResult::Rows(rows) => rows.decode::<Event>().expect("as above").len(),
        OpResult::Program(reply) => rows_in(reply),
        _ => 0,
    };
    reply.results.iter().map(rows).sum()
}

fuzz_target!(|input: Input| {
    let Some(program) = decoded(input) else { return };
    if let Ok(bytes) = program.encode() {
        assert_eq!(Program::decode(&bytes).as_ref(), Ok(&program));
    }
    static DATABASES: OnceLock<[Db; 2]> = OnceLock::new();
    let databases = DATABASES.get_or_init(|| [filled(), filled()]);
    let outcomes = databases.each_ref().map(|db| {
        let mut txn = db.write();
        txn.table_mut::<Node>().delete(&7);
        let (before, changes) = (file_of(&mut txn), txn.changes().len());
        let reply = txn.run(&program);
        let after = file_of(&mut txn);
        match &reply {
            Err(_) => assert_eq!((&after, txn.changes().len()), (&before, changes)),
            Ok(reply) => {
                txn.snapshot().check().expect("what a program leaves is consistent");
                assert!(rows_in(reply) <= PROGRAM_ROWS_MAX);
            }
        }
        (reply, after)
    });
    assert_eq!(outcomes[0], outcomes[1], "the same on every replica");
});
