//! Programs that no constructor makes: at and over the limits, from forged bytes, with names and
//! keys that mean nothing, over schemas whose code panics.

use std::panic::{AssertUnwindSafe, catch_unwind};

use fsmdb::limits::{
    KEY_BYTES_MAX, NAME_BYTES_MAX, PROGRAM_BYTES_MAX, PROGRAM_COMPARES_MAX, PROGRAM_DEPTH_MAX,
    PROGRAM_OPS_MAX, PROGRAM_REPLY_BYTES_MAX, PROGRAM_ROWS_MAX,
};
use fsmdb::{
    Compare, Db, Error, Op, OpResult, Program, ProgramError, ProgramReply, ProgramStep, Select,
    Table,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::tables::{Job, Node, job, node, with_jobs};

fn jobs() -> Db {
    with_jobs((1..=3).map(job))
}

fn forged(program: Value) -> Program {
    serde_json::from_value(program).expect("the form of a program")
}

fn with_op(op: Value) -> Program {
    forged(json!({ "compare": [], "then": [op], "else": [] }))
}

fn with_compare(compare: Value) -> Program {
    forged(json!({ "compare": [compare], "then": [], "else": [] }))
}

/// Runs a program that must leave everything as it is if it is refused.
fn run(db: &Db, program: &Program) -> Result<ProgramReply, ProgramError> {
    let mut txn = db.write();
    txn.insert(node(1)).unwrap();
    let reply = txn.run(program);
    if reply.is_err() {
        assert_eq!(txn.changes().len(), 1);
    }
    txn.snapshot().check().expect("indexes equal their rows");
    reply
}

/// What is over its limit, how much of it, and where.
fn over(reply: Result<ProgramReply, ProgramError>) -> (String, usize, String) {
    match reply {
        Err(ProgramError::Limit { at, what, found, .. }) => (what, found, at.to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn comparisons_and_operations_are_counted_through_nested_programs() {
    let db = jobs();
    let compares = |count| vec![Compare::exists::<Job>(&1); count];
    let ops = |count| vec![Op::count(Select::range::<Job>(..)); count];
    let nested = |program| Op::program(program).unwrap();

    let most = || Program::when(compares(PROGRAM_COMPARES_MAX - 1));
    assert!(run(&db, &most().then([nested(Program::when(compares(1)))])).unwrap().succeeded);
    let (what, found, at) = over(run(&db, &most().then([nested(Program::when(compares(2)))])));
    assert_eq!((&*what, found, &*at), ("comparisons", PROGRAM_COMPARES_MAX + 1, "then 0"));

    // Both branches count, whichever is taken.
    let half = PROGRAM_OPS_MAX / 2;
    let reply = run(&db, &Program::default().then(ops(half)).otherwise(ops(half))).unwrap();
    assert_eq!(reply.results.len(), half);
    let large = Program::default().then(ops(half)).otherwise(ops(half + 1));
    assert_eq!(over(run(&db, &large)).1, PROGRAM_OPS_MAX + 1);
    assert!(large.encode().is_err());
    let inner = Program::default().then(ops(half));
    let large = Program::default().then(ops(half)).otherwise([nested(inner)]);
    assert_eq!(over(run(&db, &large)).1, PROGRAM_OPS_MAX + 1);
}

fn nested(depth: usize) -> Value {
    let mut program = json!({ "compare": [], "then": [], "else": [] });
    for _ in 1..depth {
        let op = json!({ "program": { "program": program } });
        program = json!({ "compare": [], "then": [op], "else": [] });
    }
    program
}

#[test]
fn programs_stand_inside_each_other_up_to_the_limit() {
    let db = jobs();
    let deepest = forged(nested(PROGRAM_DEPTH_MAX));
    assert!(run(&db, &deepest).is_ok());
    assert_eq!(Program::decode(&deepest.encode().unwrap()), Ok(deepest.clone()));
    let refused = Op::program(deepest).unwrap_err();
    assert!(matches!(refused, ProgramError::Limit { limit: PROGRAM_DEPTH_MAX, .. }), "{refused}");
    for depth in [PROGRAM_DEPTH_MAX + 1, 20] {
        let program = forged(nested(depth));
        assert_eq!(over(run(&db, &program)).0, "programs inside each other");
        assert!(program.encode().is_err());
    }
    // What would overflow the stack of a decoder does not reach it.
    let mut bytes = Vec::new();
    for _ in 0..100_000 {
        bytes.extend(b"\x83\xA7compare\x90\xA4else\x90\xA4then\x91\x81\xA7program\x81\xA7program");
    }
    let error = Program::decode(&bytes).unwrap_err();
    assert!(error.to_string().contains("nesting deeper than the limit"), "{error}");
}

#[test]
fn bytes_are_bounded() {
    let db = jobs();
    let bulky = |bytes: usize| {
        let row = Node { name: "n".repeat(bytes), ..node(2) };
        Program::when([Compare::exists::<Job>(&9)]).then([Op::insert(&row).unwrap()])
    };
    assert!(run(&db, &bulky(PROGRAM_BYTES_MAX - 1000)).is_ok());
    let large = bulky(PROGRAM_BYTES_MAX);
    assert_eq!(over(run(&db, &large)).0, "bytes of names, keys and rows");
    assert!(large.encode().is_err());
    // The names of fields count in what is encoded and not in memory.
    let long = vec![Op::count(Select::range::<Job>(..)); PROGRAM_OPS_MAX - 1];
    let between = bulky(PROGRAM_BYTES_MAX - 20_000).then(long);
    assert!(run(&db, &between).is_ok());
    assert!(matches!(between.encode(), Err(ProgramError::Limit { .. })));
    let zeros = vec![0; PROGRAM_BYTES_MAX + 1];
    assert!(matches!(Program::decode(&zeros), Err(ProgramError::Limit { .. })));
    assert!(matches!(Program::decode(&zeros[1..]), Err(ProgramError::Decode { .. })));
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Table)]
#[table(name = "blobs")]
struct Blob {
    #[key]
    id: u32,
    text: String,
}

#[test]
fn the_rows_and_bytes_of_a_reply_are_bounded() {
    let db = Db::builder().table::<Blob>().build().unwrap();
    let mut txn = db.write();
    let small = |id| Blob { id, text: String::new() };
    let count = PROGRAM_ROWS_MAX as u32;
    txn.table_mut::<Blob>().insert_all((0..count + 1).map(small)).unwrap();
    let rows = |limit| Op::rows(Select::range::<Blob>(..), limit);
    let reply = txn.run(&Program::default().then([rows(count)])).unwrap();
    assert!(matches!(&reply.results[0], OpResult::Rows(rows) if rows.more()));
    assert_eq!(reply.results[0].rows::<Blob>().unwrap().len(), PROGRAM_ROWS_MAX);
    let (what, found, at) = over(txn.run(&Program::default().then([rows(count + 1)])));
    assert_eq!((&*what, found, &*at), ("rows asked for", PROGRAM_ROWS_MAX + 1, "then 0"));
    let twice = Program::default().then([rows(count), Op::get::<Blob>(&1)]);
    let (what, found, at) = over(txn.run(&twice));
    assert_eq!((&*what, found, &*at), ("rows in a reply", PROGRAM_ROWS_MAX + 1, "then 1"));

    let long = Blob { id: 0, text: "x".repeat(PROGRAM_REPLY_BYTES_MAX / 4) };
    txn.upsert(long).unwrap();
    let reads = |times| Program::default().then(vec![Op::get::<Blob>(&0); times]);
    assert!(txn.run(&reads(3)).is_ok());
    let (what, _, at) = over(txn.run(&reads(4)));
    assert_eq!((&*what, &*at), ("bytes of rows in a reply", "then 3"));
}

#[test]
fn names_that_the_schema_does_not_have_are_refused_in_both_branches() {
    let db = jobs();
    let foreign = Program::when([Compare::exists::<Job>(&1)])
        .then([Op::delete::<Job>(&1)])
        .otherwise([Op::get::<Blob>(&1)]);
    let error = run(&db, &foreign).unwrap_err();
    assert_eq!(error.at().unwrap().steps(), [ProgramStep::Else(0)]);
    assert_eq!(
        error.to_string(),
        "else 0: there is no table \"blobs\"; was the program made for another schema?"
    );
    let rows = json!({ "table": "jobs", "index": "nowhere", "from": [], "to": null });
    let error =
        run(&db, &with_compare(json!({ "count": { "rows": rows, "is": "less", "count": 1 } })));
    let error = error.unwrap_err();
    assert!(matches!(&error, ProgramError::UnknownIndex { index, .. } if index == "nowhere"));
    assert_eq!(error.at().unwrap().to_string(), "compare 0");
    let longest = "n".repeat(NAME_BYTES_MAX);
    for (name, is_too_long) in [(longest.clone(), false), (longest + "n", true)] {
        let error = run(&db, &with_op(json!({ "get": { "table": name, "key": [] } }))).unwrap_err();
        assert_eq!(matches!(error, ProgramError::Limit { .. }), is_too_long, "{error}");
    }
}

fn selection(index: &Value, from: &[u8], to: Option<&[u8]>) -> Value {
    json!({ "table": "jobs", "index": index, "from": from, "to": to })
}

#[test]
fn keys_and_bounds_that_mean_nothing_find_nothing() {
    let db = jobs();
    let long = vec![0_u8; 5 * KEY_BYTES_MAX];
    for key in [&[][..], &[7], &[0; 7], &[0, 0, 0, 0, 0, 0, 0, 1, 0], &[255; 40], &long] {
        for index in [Value::Null, json!("name"), json!("tags"), json!("ns_status")] {
            let rows = |from: &[u8], to: Option<&[u8]>| selection(&index, from, to);
            // Crossed bounds, equal bounds, and one key's neighbourhood.
            for rows in [rows(&[255; 9], Some(key)), rows(key, Some(key)), rows(key, Some(&[]))] {
                let compare = json!({ "count": { "rows": rows, "is": "equal", "count": 0 } });
                assert!(run(&db, &with_compare(compare)).unwrap().succeeded);
                let delete = run(&db, &with_op(json!({ "delete_all": { "rows": rows } })));
                assert_eq!(delete.unwrap().results, [OpResult::Deleted(0)]);
            }
            let read = with_op(json!({ "rows": { "rows": rows(key, None), "limit": 10_000 } }));
            assert!(run(&db, &read).unwrap().results[0].rows::<Job>().is_ok());
        }
        let absent = with_compare(json!({ "absent": { "table": "jobs", "key": key } }));
        assert!(run(&db, &absent).unwrap().succeeded);
        let created = json!({ "table": "jobs", "key": key, "is": "equal", "revision": 0 });
        assert!(run(&db, &with_compare(json!({ "created": created }))).unwrap().succeeded);
        let get = run(&db, &with_op(json!({ "get": { "table": "jobs", "key": key } })));
        assert_eq!(get.unwrap().results[0].row::<Job>(), Ok(None));
        let delete = run(&db, &with_op(json!({ "delete": { "table": "jobs", "key": key } })));
        assert_eq!(delete.unwrap().results, [OpResult::Deleted(0)]);
    }
}

#[test]
fn bytes_that_are_no_row_are_refused_wherever_they_stand() {
    let db = jobs();
    let deep: Vec<u8> = vec![0x91; 1000];
    for row in [&[][..], &[0xC0], &[0xC1], &[0x80], &[0x81, 0xA2, b'i'], b"\x81\xA2id\x01", &deep] {
        for op in ["insert", "upsert"] {
            let error = run(&db, &with_op(json!({ op: { "table": "nodes", "row": row } })));
            let error = error.unwrap_err();
            assert!(matches!(&error, ProgramError::Row { table, .. } if table == "nodes"));
            assert!(error.to_string().starts_with("then 0: table nodes"), "{error}");
        }
        let equals = with_compare(json!({ "equals": { "table": "nodes", "row": row } }));
        let error = run(&db, &equals).unwrap_err();
        assert!(error.to_string().starts_with("compare 0: table nodes"), "{error}");
    }
    // The row of another table, and a row with a key that is too long.
    let mut other = serde_json::to_value(Program::default().then([Op::insert(&job(9)).unwrap()]));
    other.as_mut().unwrap()["then"][0]["insert"]["table"] = json!("services");
    assert!(matches!(run(&db, &forged(other.unwrap())), Err(ProgramError::Row { .. })));
    let long = Node { name: "n".repeat(KEY_BYTES_MAX), ..node(9) };
    let error = run(&db, &Program::default().then([Op::upsert(&long).unwrap()])).unwrap_err();
    let source = Error::KeyTooLong {
        table: "nodes".into(),
        index: Some("name".into()),
        bytes: KEY_BYTES_MAX + 1,
        limit: KEY_BYTES_MAX,
    };
    assert!(matches!(error, ProgramError::Statement { source: found, .. } if *found == source));
}

#[test]
fn a_row_written_by_another_encoder_is_compared_by_its_value() {
    let db = jobs();
    commit_node(&db);
    // Fields in another order and a number in nine bytes where one is enough.
    let row = b"\x82\xA4name\xA6node-7\xA2id\xCF\0\0\0\0\0\0\0\x07";
    let equals = with_compare(json!({ "equals": { "table": "nodes", "row": row.as_slice() } }));
    assert!(run(&db, &equals).unwrap().succeeded);
}

fn commit_node(db: &Db) {
    let mut txn = db.write();
    txn.insert(node(7)).unwrap();
    txn.commit();
}

#[test]
fn what_is_not_known_is_refused_and_not_skipped() {
    for program in [
        json!({ "compare": [], "then": [] }),
        json!({ "compare": [], "then": [], "else": [], "more": 1 }),
        json!({ "compare": [{ "likes": {} }], "then": [], "else": [] }),
        json!({ "compare": [], "then": [{ "get": { "table": "a", "key": [], "if": 1 } }],
            "else": [] }),
        json!({ "compare": [], "then": [{ "get": { "table": "a", "key": [256] } }], "else": [] }),
        json!({ "compare": [], "then": [{ "get": { "table": "a", "key": "text" } }], "else": [] }),
        json!({ "compare": [], "then": [{ "count": { "rows": { "table": "a" } } }], "else": [] }),
    ] {
        assert!(serde_json::from_value::<Program>(program.clone()).is_err(), "{program}");
    }
}

/// A row whose code panics when its number says so.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Trap {
    id: u64,
    #[serde(deserialize_with = "trapped")]
    trap: u8,
}

fn trapped<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    let trap = u8::deserialize(deserializer)?;
    assert_ne!(trap, 1, "a decoder that panics");
    Ok(trap)
}

impl Table for Trap {
    type Key = u64;
    const NAME: &'static str = "traps";
    const VERSION: u32 = 0;

    fn encode_primary_key(&self, out: &mut fsmdb::KeyBuf) {
        assert_ne!(self.trap, 2, "a key function that panics");
        fsmdb::AsKey::<u64>::encode_key(&self.id, out);
    }

    fn indexes() -> Vec<fsmdb::IndexDef<Self>> {
        let by_trap = fsmdb::Index::<Self, u8, fsmdb::Many>::new("trap", 0);
        vec![fsmdb::IndexDef::new(by_trap, |row, keys| {
            assert_ne!(row.trap, 3, "an index function that panics");
            keys.push::<u8, _>(&row.trap);
        })]
    }
}

#[test]
fn a_panic_of_the_schemas_code_leaves_the_transaction_as_it_was() {
    let db = Db::builder().table::<Trap>().build().unwrap();
    for trap in 1..=3 {
        let mut txn = db.write();
        txn.insert(Trap { id: 1, trap: 0 }).unwrap();
        let program = Program::default().then([
            Op::upsert(&Trap { id: 1, trap: 9 }).unwrap(),
            Op::insert(&Trap { id: 2, trap: 9 }).unwrap(),
            Op::upsert(&Trap { id: 3, trap }).unwrap(),
        ]);
        catch_unwind(AssertUnwindSafe(|| txn.run(&program))).unwrap_err();
        assert_eq!(txn.table::<Trap>().len(), 1);
        assert_eq!(txn.table::<Trap>().get(&1).unwrap().trap, 0);
        assert_eq!(txn.changes().len(), 1);
        txn.snapshot().check().unwrap();
    }
}
