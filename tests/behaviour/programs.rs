//! Programs: comparisons, both branches, every operation, all or nothing, and as commands.

use fsmdb::testing::check;
use fsmdb::{
    Applied, Cmp, Compare, Db, Descending, Fsm, Machine, Op, OpResult, Program, ProgramError,
    ProgramReply, ProgramStep, Revision, Select, StartsWith, WriteTxn,
};

use crate::tables::{
    Job, Node, Service, Status, commit, empty, file_of, ids, job, node, service, value, with_jobs,
};

const ALL: [Cmp; 6] =
    [Cmp::Equal, Cmp::NotEqual, Cmp::Less, Cmp::AtMost, Cmp::Greater, Cmp::AtLeast];

/// Jobs 1 to 5: created by revision 1, of which 3 and up were written again by revision 2.
fn five_jobs() -> Db {
    let tagged = |id: u64| Job {
        tags: (0..id).map(|tag| format!("tag-{tag}")).collect(),
        deployment: id.is_multiple_of(2).then_some(7),
        ..job(id)
    };
    let db = with_jobs((1..=5).map(tagged));
    commit(&db, |txn| {
        for id in 3..=5 {
            let run = |job: &mut Job| job.status = Status::Running;
            txn.table_mut::<Job>().update(&id, run).expect("it exists");
        }
    });
    db
}

fn run(db: &Db, program: &Program) -> ProgramReply {
    let mut txn = db.write();
    let reply = txn.run(program).expect("the program is sound");
    txn.commit();
    reply
}

fn holds(db: &Db, compare: Compare) -> bool {
    run(db, &Program::when([compare])).succeeded
}

/// What a single operation gives.
fn result(db: &Db, op: Op) -> OpResult {
    let reply = run(db, &Program::default().then([op]));
    assert!(reply.succeeded && reply.results.len() == 1);
    reply.results.into_iter().next().expect("one result")
}

fn found(db: &Db, rows: Select, limit: u32) -> Vec<u64> {
    let rows = result(db, Op::rows(rows, limit)).rows::<Job>().expect("they are jobs");
    rows.iter().map(|row| row.id).collect()
}

#[test]
fn relations_are_those_of_numbers() {
    let db = five_jobs();
    for (given, expected) in [
        (1, [false, true, false, false, true, true]),
        (2, [true, false, false, true, false, true]),
        (3, [false, true, true, true, false, false]),
    ] {
        let found = ALL.map(|is| holds(&db, Compare::modified::<Job>(&3, is, Revision(given))));
        assert_eq!(found, expected, "2 against {given}");
        let rows = || Select::range::<Job>(2..=3);
        assert_eq!(ALL.map(|is| holds(&db, Compare::count(rows(), is, given))), expected);
    }
}

#[test]
fn each_comparison_holds_and_does_not_hold() {
    let db = five_jobs();
    let stored = value(db.read().table::<Job>().get(&4).unwrap());
    let other = Job { priority: 1, ..stored.clone() };
    let (one, two) = (Revision(1), Revision(2));
    for (compare, expected) in [
        (Compare::exists::<Job>(&1), true),
        (Compare::exists::<Job>(&9), false),
        (Compare::absent::<Job>(&1), false),
        (Compare::absent::<Job>(&9), true),
        (Compare::exists::<Service>(&("prod", "web")), false),
        (Compare::created::<Job>(&4, Cmp::Equal, one), true),
        (Compare::created::<Job>(&4, Cmp::Equal, two), false),
        (Compare::modified::<Job>(&4, Cmp::Equal, two), true),
        (Compare::modified::<Job>(&4, Cmp::Equal, one), false),
        (Compare::created::<Job>(&9, Cmp::Equal, Revision(0)), true),
        (Compare::modified::<Job>(&9, Cmp::Less, one), true),
        (Compare::modified::<Job>(&9, Cmp::Less, Revision(0)), false),
        (Compare::equals(&stored).unwrap(), true),
        (Compare::equals(&other).unwrap(), false),
        (Compare::equals(&job(9)).unwrap(), false),
        (Compare::count(Select::range::<Job>(..), Cmp::Equal, 5), true),
        (Compare::count(Select::range::<Job>(4..), Cmp::Equal, 5), false),
        (Compare::count(Select::value(Job::BY_DEPLOYMENT, &7_u64), Cmp::Equal, 2), true),
        (Compare::count(Select::value(Job::BY_TAGS, "tag-1"), Cmp::Equal, 4), true),
        (Compare::count(Select::value_range(Job::BY_TAGS, "tag-3"..), Cmp::Equal, 3), true),
        (Compare::any(Select::value(Job::BY_NAME, "job-3")), true),
        (Compare::any(Select::value(Job::BY_NAME, "job-")), false),
        (Compare::any(Select::value_prefix(Job::BY_NAME, &StartsWith("job-"))), true),
        (Compare::none(Select::value(Job::BY_NAME, "job-3")), false),
        (Compare::none(Select::value(Job::BY_NAME, "job-9")), true),
        (Compare::none(Select::prefix::<Service>(&("prod",))), true),
        (Compare::table_modified::<Job>(Cmp::Equal, two), true),
        (Compare::table_modified::<Job>(Cmp::Less, two), false),
        (Compare::table_modified::<Node>(Cmp::Equal, Revision(0)), true),
    ] {
        let description = format!("{compare:?}");
        let txn = &mut db.write();
        let reply = txn.run(&Program::when([compare])).unwrap();
        assert_eq!(reply.succeeded, expected, "{description}");
        assert!(!txn.is_changed());
    }
}

#[test]
fn all_comparisons_must_hold_and_none_always_hold() {
    let db = five_jobs();
    let (yes, no) = (Compare::exists::<Job>(&1), Compare::exists::<Job>(&9));
    assert!(run(&db, &Program::when([])).succeeded);
    assert!(run(&db, &Program::when([yes.clone(), yes.clone()])).succeeded);
    assert!(!run(&db, &Program::when([yes.clone(), no.clone()])).succeeded);
    assert!(!run(&db, &Program::when([no, yes])).succeeded);
}

#[test]
fn one_branch_is_run_and_the_other_is_not() {
    for (id, expected) in [(1, [1, 2, 3, 4, 5].as_slice()), (9, &[1, 2, 3, 4, 5, 9])] {
        let db = five_jobs();
        let program = Program::when([Compare::absent::<Job>(&id)])
            .then([Op::insert(&job(id)).unwrap()])
            .otherwise([Op::get::<Job>(&id), Op::count(Select::range::<Job>(..))]);
        let reply = run(&db, &program);
        assert_eq!((reply.succeeded, reply.results.len()), (id == 9, if id == 9 { 1 } else { 2 }));
        assert_eq!(ids(db.read().table::<Job>().iter()), expected);
    }
}

#[test]
fn each_operation_does_what_its_statement_does() {
    let db = five_jobs();
    assert_eq!(result(&db, Op::insert(&job(6)).unwrap()), OpResult::Inserted);
    let changed = Job { status: Status::Dead, ..job(6) };
    assert_eq!(result(&db, Op::upsert(&changed).unwrap()), OpResult::Upserted { replaced: true });
    assert_eq!(result(&db, Op::upsert(&job(7)).unwrap()), OpResult::Upserted { replaced: false });
    assert_eq!(result(&db, Op::delete::<Job>(&7)), OpResult::Deleted(1));
    assert_eq!(result(&db, Op::delete::<Job>(&7)), OpResult::Deleted(0));

    let row = result(&db, Op::get::<Job>(&6)).row::<Job>().unwrap().unwrap();
    assert_eq!((row.created(), row.modified()), (Revision(3), Revision(4)));
    assert_eq!(value(&row), changed);
    assert_eq!(*db.read().table::<Job>().get(&6).unwrap(), *row);
    assert!(result(&db, Op::get::<Job>(&7)).row::<Job>().unwrap().is_none());

    assert_eq!(result(&db, Op::count(Select::range::<Job>(3..))), OpResult::Counted(4));
    let rows = result(&db, Op::rows(Select::range::<Job>(..), 6));
    assert_eq!(rows.count(), Ok(6));
    assert!(matches!(rows, OpResult::Rows(rows) if !rows.more() && rows.table() == "jobs"));
    let rows = result(&db, Op::rows(Select::range::<Job>(..), 5));
    assert!(matches!(rows, OpResult::Rows(rows) if rows.more() && rows.len() == 5));

    assert_eq!(result(&db, Op::delete_all(Select::range::<Job>(2..4))), OpResult::Deleted(2));
    assert_eq!(ids(db.read().table::<Job>().iter()), [1, 4, 5, 6]);
    assert_eq!(result(&db, Op::delete_all(Select::range::<Job>(..))), OpResult::Deleted(4));
    db.check().unwrap();
}

#[test]
fn rows_are_found_and_deleted_by_indexes_of_every_kind() {
    let db = five_jobs();
    assert_eq!(found(&db, Select::value(Job::BY_NAME, "job-2"), 9), [2]);
    assert_eq!(found(&db, Select::value_range(Job::BY_NAME, "job-2".."job-4"), 9), [2, 3]);
    assert_eq!(found(&db, Select::value(Job::BY_STATUS, &Status::Running), 2), [3, 4]);
    assert_eq!(found(&db, Select::value(Job::BY_DEPLOYMENT, &7), 9), [2, 4]);
    assert_eq!(found(&db, Select::value_range(Job::BY_TAGS, "tag-3"..), 9), [4, 5, 5]);
    assert_eq!(found(&db, Select::value_prefix(Job::BY_NS_STATUS, &("default",)), 3), [1, 2, 3]);
    let lowest = Descending(0);
    assert_eq!(found(&db, Select::value(Job::BY_PRIORITY, &lowest), 1), [1]);
    // A row that a multi-valued index shows several times is deleted once.
    let tagged = Select::value_prefix(Job::BY_TAGS, &StartsWith("tag-"));
    assert_eq!(result(&db, Op::count(tagged.clone())), OpResult::Counted(15));
    let doomed = Select::value_range(Job::BY_TAGS, "tag-2"..);
    assert_eq!(result(&db, Op::delete_all(doomed)), OpResult::Deleted(3));
    assert_eq!(result(&db, Op::delete_all(tagged)), OpResult::Deleted(2));
    assert!(db.read().table::<Job>().is_empty());
    db.check().unwrap();
}

#[test]
fn compound_keys_and_prefixes_select_as_they_do_in_a_table() {
    let db = empty();
    let put = [("dev", "web"), ("prod", "db"), ("prod", "web"), ("production", "web")];
    let ops = put.map(|(space, name)| Op::insert(&service(space, name)).unwrap());
    run(&db, &Program::default().then(ops));
    let names = |rows| {
        let rows = result(&db, Op::rows(rows, 9)).rows::<Service>().unwrap();
        rows.iter().map(|row| format!("{}/{}", row.namespace, row.name)).collect::<Vec<_>>()
    };
    assert_eq!(names(Select::prefix::<Service>(&("prod",))), ["prod/db", "prod/web"]);
    assert_eq!(names(Select::prefix::<Service>(&("prod", StartsWith("w")))), ["prod/web"]);
    assert_eq!(names(Select::range::<Service>(("prod", "e")..)), ["prod/web", "production/web"]);
    assert!(holds(&db, Compare::exists::<Service>(&("dev", "web"))));
}

#[test]
fn an_operation_sees_what_those_before_it_wrote() {
    let db = five_jobs();
    let mut txn = db.write();
    txn.insert(job(10)).unwrap();
    let seen = Program::when([
        Compare::exists::<Job>(&11),
        Compare::absent::<Job>(&1),
        Compare::created::<Job>(&11, Cmp::Equal, txn.revision()),
        Compare::table_modified::<Job>(Cmp::Equal, txn.revision()),
    ])
    .then([Op::count(Select::range::<Job>(..))]);
    let program = Program::when([Compare::exists::<Job>(&10), Compare::absent::<Job>(&11)])
        .then([
            Op::insert(&job(11)).unwrap(),
            Op::get::<Job>(&11),
            Op::delete::<Job>(&1),
            Op::get::<Job>(&1),
            Op::count(Select::value_prefix(Job::BY_NAME, &StartsWith("job-1"))),
            Op::program(seen).unwrap(),
        ])
        .otherwise([Op::delete_all(Select::range::<Job>(..))]);
    let reply = txn.run(&program).unwrap();
    assert!(reply.succeeded);
    let written = reply.results[1].row::<Job>().unwrap().unwrap();
    assert_eq!((written.created(), written.modified()), (txn.revision(), txn.revision()));
    assert!(reply.results[3].row::<Job>().unwrap().is_none());
    assert_eq!(reply.results[4], OpResult::Counted(2));
    let nested = reply.results[5].program().unwrap();
    assert_eq!((nested.succeeded, &nested.results[..]), (true, &[OpResult::Counted(6)][..]));
    assert_eq!(txn.changes().len(), 3);
}

/// Operations that are all fine, after each other.
fn sound() -> Vec<Op> {
    let nested = Program::when([Compare::absent::<Job>(&1)]).otherwise([Op::upsert(&Job {
        priority: 9,
        ..job(1)
    })
    .unwrap()]);
    vec![
        Op::insert(&job(20)).unwrap(),
        Op::upsert(&Job { priority: 5, ..job(2) }).unwrap(),
        Op::delete::<Job>(&3),
        Op::delete_all(Select::value(Job::BY_DEPLOYMENT, &7)),
        Op::insert(&service("prod", "web")).unwrap(),
        Op::program(nested).unwrap(),
    ]
}

#[test]
fn a_refusal_at_any_place_leaves_the_transaction_as_it_was() {
    let db = five_jobs();
    let refused = || Op::insert(&job(5)).unwrap();
    for position in 0..=sound().len() {
        let mut ops = sound();
        ops.insert(position, refused());
        let nested = || Op::program(Program::default().then(ops.clone())).unwrap();
        let top = vec![ProgramStep::Then(position)];
        let inside = vec![ProgramStep::Else(1), ProgramStep::Then(position)];
        let no = Compare::exists::<Job>(&99);
        for (program, steps) in [
            (Program::default().then(ops.clone()), top),
            (Program::when([no]).otherwise([Op::delete::<Job>(&1), nested()]), inside),
        ] {
            let mut txn = db.write();
            txn.insert(node(1)).unwrap();
            let savepoint = txn.savepoint();
            txn.insert(node(2)).unwrap();
            let before = (file_of_txn(&mut txn), format!("{:?}", txn.changes()));
            let error = txn.run(&program).unwrap_err();
            assert!(error.is_conflict());
            assert_eq!(error.at().unwrap().steps(), steps);
            assert!(error.to_string().contains("table jobs: key 5 exists already"), "{error}");
            assert_eq!((file_of_txn(&mut txn), format!("{:?}", txn.changes())), before);
            txn.rollback_to(&savepoint);
            assert_eq!(txn.table::<Node>().len(), 1);
            txn.run(&Program::default().then(sound())).expect("the transaction goes on");
            txn.commit();
            db.check().unwrap();
            // Back to the rows that the next round needs.
            commit(&db, |txn| {
                txn.table_mut::<Job>().delete_all(..);
                txn.table_mut::<Service>().delete_all(..);
                txn.table_mut::<Node>().delete_all(..);
                for row in five_jobs().read().table::<Job>() {
                    txn.insert(value(row)).unwrap();
                }
            });
        }
    }
}

fn file_of_txn(txn: &mut WriteTxn<'_>) -> Vec<u8> {
    let mut file = Vec::new();
    txn.snapshot().save(&mut file).unwrap();
    file
}

#[test]
fn the_refusal_names_the_operation_the_table_and_the_key() {
    let db = five_jobs();
    let taken = Job { name: "job-1".into(), ..job(30) };
    let inner = Program::when([]).then([Op::get::<Job>(&1), Op::insert(&taken).unwrap()]);
    let program = Program::when([Compare::exists::<Job>(&77)])
        .otherwise([Op::count(Select::range::<Job>(..)), Op::program(inner).unwrap()]);
    let error = db.write().run(&program).unwrap_err();
    assert_eq!(
        error.to_string(),
        "else 1, then 1: table jobs: \"job-1\" in unique index name is taken by the row with key 1"
    );
    let steps = [ProgramStep::Else(1), ProgramStep::Then(1)];
    assert_eq!(error.at().unwrap().steps(), steps);
}

#[test]
fn a_program_travels_as_bytes_and_as_text() {
    let nested = Program::when([Compare::none(Select::range::<Job>(3..=4))]).then(sound());
    let program = Program::when([
        Compare::exists::<Service>(&("prod", "web")),
        Compare::equals(&job(1)).unwrap(),
        Compare::modified::<Job>(&1, Cmp::AtMost, Revision(u64::MAX)),
        Compare::count(Select::value(Job::BY_LABEL, "Straße"), Cmp::NotEqual, u64::MAX),
        Compare::table_modified::<Node>(Cmp::AtLeast, Revision(3)),
    ])
    .then(sound())
    .otherwise([Op::rows(Select::range::<Job>(..), 10), Op::program(nested).unwrap()]);
    let bytes = program.encode().unwrap();
    assert_eq!(Program::decode(&bytes).as_ref(), Ok(&program));
    assert_eq!(Program::decode(&bytes).unwrap().encode().unwrap(), bytes);
    let text = serde_json::to_string(&program).unwrap();
    assert_eq!(serde_json::from_str::<Program>(&text).unwrap(), program);
    for length in 0..bytes.len() {
        assert!(matches!(Program::decode(&bytes[..length]), Err(ProgramError::Decode { .. })));
    }

    let db = five_jobs();
    let reply = db.write().run(&program).unwrap();
    let text = serde_json::to_string(&reply).unwrap();
    assert_eq!(serde_json::from_str::<ProgramReply>(&text).unwrap(), reply);
    let refusal = db.write().run(&Program::default().then([Op::insert(&job(1)).unwrap()]));
    let text = serde_json::to_string(&refusal).unwrap();
    assert_eq!(serde_json::from_str::<Result<ProgramReply, ProgramError>>(&text).unwrap(), refusal);
}

/// A log written before a program's form was changed must still be read the same.
#[test]
fn the_encoded_form_stays() {
    let program = Program::when([Compare::modified::<Node>(&1, Cmp::Equal, Revision(2))])
        .then([Op::delete_all(Select::value(Node::BY_NAME, "a"))]);
    let text = serde_json::to_string(&program).unwrap();
    let expected = concat!(
        r#"{"compare":[{"modified":{"table":"nodes","key":[0,0,0,0,0,0,0,1],"is":"equal","#,
        r#""revision":2}}],"then":[{"delete_all":{"rows":{"table":"nodes","index":"name","#,
        r#""from":[97,0],"to":[97,1]}}}],"else":[]}"#,
    );
    assert_eq!(text, expected);
}

struct Programs;

impl Fsm for Programs {
    type Command = Program;
    type Reply = Result<ProgramReply, ProgramError>;

    fn apply(&self, txn: &mut WriteTxn<'_>, _at: Applied, program: Program) -> Self::Reply {
        txn.run(&program)
    }
}

#[test]
fn a_program_is_a_command_and_replicas_agree_on_it() {
    let machine = || Machine::new(empty(), Programs).expect("the database is new");
    let acquire = |id: u64, name: &str| {
        let row = Job { name: name.into(), tags: vec!["a".into(), "b".into()], ..job(id) };
        Program::when([Compare::absent::<Job>(&id)])
            .then([Op::insert(&row).unwrap(), Op::rows(Select::value(Job::BY_TAGS, "b"), 3)])
            .otherwise([Op::get::<Job>(&id), Op::delete::<Job>(&id)])
    };
    let mut log = Vec::new();
    for round in 0..60_u64 {
        log.push(acquire(round % 7, &format!("name-{}", round % 5)));
        log.push(
            Program::when([Compare::modified::<Job>(&3, Cmp::Less, Revision(round))])
                .then([Op::upsert(&Job { priority: round as i32, ..job(3) }).unwrap()])
                .otherwise([Op::delete_all(Select::value_range(Job::BY_NAME, "name-3"..))]),
        );
    }
    log.push(Program::default().then(sound()));
    let report = check(machine, &log).unwrap();
    assert_eq!(report.commands, log.len());
    assert!(report.refused > 5 && report.refused < 60, "{report:?}");

    // A refused program is an entry that was applied.
    let machine = machine();
    let put = Program::default().then([Op::insert(&job(1)).unwrap()]);
    let entry = Machine::<Programs>::encode(&put).unwrap();
    assert!(machine.apply(Applied { index: 1, term: 1 }, &entry).unwrap().unwrap().is_ok());
    assert!(machine.apply(Applied { index: 2, term: 1 }, &entry).unwrap().unwrap().is_err());
    assert_eq!(machine.applied().index, 2);
    assert_eq!(machine.read().table::<Job>().get(&1).unwrap().modified(), Revision(1));
}

#[test]
fn the_same_program_on_the_same_state_gives_the_same_bytes() {
    let program = Program::when([Compare::any(Select::value(Job::BY_STATUS, &Status::Running))])
        .then(sound())
        .then([Op::rows(Select::value_prefix(Job::BY_TAGS, &StartsWith("")), 100)]);
    let outcomes = [five_jobs(), five_jobs()].map(|db| {
        let reply = run(&db, &program);
        (serde_json::to_vec(&reply).unwrap(), file_of(&db))
    });
    assert_eq!(outcomes[0], outcomes[1]);
}

#[test]
fn results_are_read_as_what_they_are() {
    let db = five_jobs();
    let jobs = result(&db, Op::get::<Job>(&1));
    let error = jobs.rows::<Node>().unwrap_err();
    assert_eq!(error.to_string(), "the result is rows of table jobs, not rows of table nodes");
    assert_eq!(error.at(), None);
    assert!(jobs.program().is_err());
    let count = result(&db, Op::count(Select::range::<Job>(..)));
    assert_eq!(count.count(), Ok(5));
    assert!(matches!(count.row::<Job>(), Err(ProgramError::OtherResult { .. })));
    let nested = result(&db, Op::program(Program::default()).unwrap());
    assert!(nested.count().is_err());
    assert_eq!(nested.program().unwrap().results, []);
}
