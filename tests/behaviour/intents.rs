//! Optimistic transactions as values: alike on every replica, and through the log.

use std::collections::BTreeSet;

use fsmdb::{
    Applied, Db, Error, Fsm, Intent, IntentError, Machine, OptimisticTxn, StartsWith, Table,
    WriteTxn, limits,
};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Table)]
#[table(name = "jobs", tombstones = 3)]
struct Job {
    #[key]
    id: String,
    #[index]
    status: u8,
    #[index(unique)]
    slot: Option<u8>,
    #[index(multi)]
    tags: BTreeSet<u8>,
}

fn job(id: &str, status: u8) -> Job {
    Job { id: id.into(), status, slot: None, tags: BTreeSet::new() }
}

struct Jobs;

impl Fsm for Jobs {
    type Command = Intent;
    type Reply = Result<(), IntentError>;

    fn apply(&self, txn: &mut WriteTxn<'_>, _: Applied, intent: Intent) -> Self::Reply {
        intent.apply(txn)
    }
}

fn machine() -> Machine<Jobs> {
    Machine::new(Db::builder().table::<Job>().build().unwrap(), Jobs).unwrap()
}

fn apply(machine: &Machine<Jobs>, intent: &Intent) -> Result<(), IntentError> {
    let at = Applied { index: machine.applied().index + 1, term: 1 };
    machine.apply(at, &Machine::<Jobs>::encode(intent).unwrap()).unwrap().unwrap()
}

fn run(machine: &Machine<Jobs>, body: impl FnOnce(&mut OptimisticTxn)) -> Intent {
    let mut txn = machine.db().optimistic();
    body(&mut txn);
    txn.into_intent().unwrap()
}

fn put(machine: &Machine<Jobs>, jobs: impl IntoIterator<Item = Job>) {
    let intent = run(machine, |txn| {
        jobs.into_iter().for_each(|job| drop(txn.upsert(job).unwrap()));
    });
    apply(machine, &intent).unwrap();
}

fn statuses(machine: &Machine<Jobs>) -> Vec<(String, u8)> {
    machine.read().table::<Job>().iter().map(|job| (job.id.clone(), job.status)).collect()
}

#[test]
fn an_intent_is_done_where_what_it_read_still_holds() {
    let machine = machine();
    put(&machine, [job("a", 1), job("c", 1)]);
    let intent = run(&machine, |txn| {
        let count = txn.table::<Job>().index(Job::BY_STATUS).get(&1).count() as u8;
        txn.upsert(job("sum", count)).unwrap();
    });
    assert_eq!(intent.origin().0, 1);
    put(&machine, [job("b", 2)]);
    apply(&machine, &intent).unwrap();
    assert_eq!(statuses(&machine)[3], ("sum".into(), 2));

    put(&machine, [job("d", 1)]);
    let error = apply(&machine, &intent).unwrap_err();
    assert!(error.is_conflict());
    assert_eq!(error.to_string(), "table jobs: row \"sum\" changed since it was read");
}

#[test]
fn a_range_that_was_read_conflicts_with_every_kind_of_change_in_it() {
    let change: [(fn(&mut OptimisticTxn), bool); 5] = [
        (|txn| drop(txn.upsert(job("c", 9)).unwrap()), true),
        (|txn| drop(txn.insert(job("cc", 9)).unwrap()), true),
        (|txn| drop(txn.table_mut::<Job>().delete("c").unwrap()), true),
        (
            |txn| {
                txn.table_mut::<Job>().delete("c").unwrap();
                txn.insert(job("cc", 1)).unwrap();
            },
            true,
        ),
        (|txn| drop(txn.upsert(job("z", 9)).unwrap()), false),
    ];
    for (number, (change, conflicts)) in change.into_iter().enumerate() {
        let machine = machine();
        put(&machine, [job("a", 1), job("c", 1), job("z", 1)]);
        let intent = run(&machine, |txn| {
            let sum = txn.table::<Job>().range("b".."x").map(|job| job.status).sum();
            txn.upsert(job("sum", sum)).unwrap();
        });
        let meanwhile = run(&machine, change);
        apply(&machine, &meanwhile).unwrap();
        assert_eq!(apply(&machine, &intent).is_err(), conflicts, "case {number}");
    }
}

#[test]
fn an_intent_survives_its_encoding_and_nothing_else_decodes() {
    let machine = machine();
    put(&machine, [job("a", 1), job("ab", 1)]);
    let intent = run(&machine, |txn| {
        let jobs = txn.table::<Job>();
        let seen = (
            jobs.longest_prefix("abc").is_some(),
            jobs.nth(.., 1).is_some(),
            jobs.prefix(&StartsWith("a")).count(),
            jobs.modified(),
            jobs.is_empty(),
        );
        assert_eq!((seen.0, seen.1, seen.2), (true, true, 2));
        txn.insert(Job { slot: Some(3), ..job("c", 1) }).unwrap();
    });
    let bytes = intent.encode();
    assert_eq!(Intent::decode(&bytes).unwrap(), intent);
    assert_eq!(Intent::decode(&bytes).unwrap().encode(), bytes);
    for end in 0..bytes.len() {
        assert!(matches!(Intent::decode(&bytes[..end]), Err(IntentError::Malformed { .. })));
    }
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << bit;
            // Whatever it means now, it is done whole or not at all.
            let Ok(hostile) = Intent::decode(&bytes) else { continue };
            let before = statuses(&machine);
            let file = |machine: &Machine<Jobs>| {
                let mut file = Vec::new();
                machine.read().save(&mut file).unwrap();
                file
            };
            let scratch = self::machine();
            scratch.install(file(&machine).as_slice()).unwrap();
            if apply(&scratch, &hostile).is_err() {
                assert_eq!(statuses(&scratch), before);
            }
            scratch.db().check().unwrap();
        }
    }
    apply(&machine, &intent).unwrap();
}

#[test]
fn an_intent_of_another_schema_is_refused() {
    #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    #[table(name = "jobs")]
    struct Plain {
        #[key]
        id: String,
    }
    let machine = machine();
    let intent = run(&machine, |txn| {
        let _ = txn.table::<Job>().index(Job::BY_STATUS).get(&1).count();
        txn.insert(job("a", 1)).unwrap();
    });
    let other = Db::builder().table::<Plain>().build().unwrap();
    let mut txn = other.write();
    let error = intent.apply(&mut txn).unwrap_err();
    assert_eq!(error.to_string(), "table jobs, index status: not in the schema");
    assert!(!error.is_conflict() && !txn.is_changed());
}

#[test]
fn too_many_questions_make_no_intent() {
    let machine = machine();
    let txn = machine.db().optimistic();
    for number in 0..=limits::INTENT_READS_MAX {
        assert!(txn.table::<Job>().get(&number.to_string()).is_none());
    }
    let error = txn.into_intent().unwrap_err();
    assert!(matches!(error, IntentError::TooLarge { .. }), "{error}");
}

#[derive(Clone, Debug)]
enum Act {
    Copy(String, String),
    CountTo(u8, String),
    DeleteFrom(String),
    TakeSlot(String, u8),
    SumPrefix(String, String),
    Longest(String, String),
    NthTo(String, usize, String),
    Clear(u8),
    IsYounger(String, String, String),
}

fn id() -> impl Strategy<Value = String> {
    prop::collection::vec(prop_oneof![Just('a'), Just('b')], 0..3)
        .prop_map(|chars| chars.into_iter().collect())
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (id(), id()).prop_map(|(from, to)| Act::Copy(from, to)),
        (0..3_u8, id()).prop_map(|(status, to)| Act::CountTo(status, to)),
        id().prop_map(Act::DeleteFrom),
        (id(), 0..3_u8).prop_map(|(id, slot)| Act::TakeSlot(id, slot)),
        (id(), id()).prop_map(|(prefix, to)| Act::SumPrefix(prefix, to)),
        (id(), id()).prop_map(|(path, to)| Act::Longest(path, to)),
        (id(), 0..3_usize, id()).prop_map(|(from, index, to)| Act::NthTo(from, index, to)),
        (0..3_u8).prop_map(Act::Clear),
        (id(), id(), id()).prop_map(|(one, other, to)| Act::IsYounger(one, other, to)),
    ]
}

/// Does one act and gives what it has seen.
fn perform(txn: &mut impl fsmdb::Write, act: &Act) -> usize {
    let status = |row: Option<&fsmdb::Row<Job>>| row.map_or(2, |row| row.status);
    match act {
        Act::Copy(from, to) => {
            let status = status(txn.table::<Job>().get(from));
            let _ = txn.upsert(job(to, status));
            status.into()
        }
        Act::CountTo(value, to) => {
            let count = txn.table::<Job>().index(Job::BY_STATUS).get(value).count();
            let _ = txn.upsert(job(to, count as u8 % 3));
            count
        }
        Act::DeleteFrom(from) => {
            let first = txn.table::<Job>().range(from..).next().map(|job| job.id.clone());
            first.map_or(0, |id| usize::from(txn.table_mut::<Job>().delete(&id).is_some()))
        }
        Act::TakeSlot(id, slot) => {
            let row = Job { slot: Some(*slot), tags: [*slot].into(), ..job(id, 1) };
            txn.upsert(row).is_ok().into()
        }
        Act::SumPrefix(prefix, to) => {
            let rows = txn.table::<Job>().prefix(&StartsWith(prefix));
            let sum: usize = rows.map(|job| usize::from(job.status)).sum();
            let _ = txn.upsert(job(to, (sum % 3) as u8));
            sum
        }
        Act::Longest(path, to) => {
            let status = status(txn.table::<Job>().longest_prefix(path));
            let _ = txn.upsert(job(to, status));
            status.into()
        }
        Act::NthTo(from, index, to) => {
            let status = status(txn.table::<Job>().nth(from.., *index));
            let _ = txn.upsert(job(to, status));
            status.into()
        }
        Act::IsYounger(one, other, to) => {
            let jobs = txn.table::<Job>();
            let age = |prefix: &str| jobs.modified_under(&StartsWith(prefix));
            let order = age(one).cmp(&age(other)) as i8 + 1;
            let _ = txn.upsert(job(to, order as u8));
            order as usize
        }
        Act::Clear(tag) => txn.table_mut::<Job>().index(Job::BY_TAGS).delete_all(tag),
    }
}

const CASES: u32 = if cfg!(debug_assertions) { 128 } else { 2_000 };

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    /// Intents made at replicas that are behind are done alike everywhere, also at a replica that
    /// was fed by a snapshot and has other trees; and those that are done are serialisable.
    #[test]
    fn replicas_decide_alike(
        rounds in prop::collection::vec(
            prop::collection::vec(prop::collection::vec(act(), 1..4), 1..4),
            1..8,
        ),
    ) {
        let (leader, follower) = (machine(), machine());
        let serial = Db::builder().table::<Job>().build().unwrap();
        let file = |machine: &Machine<Jobs>| {
            let mut file = Vec::new();
            machine.read().save(&mut file).unwrap();
            file
        };
        for closures in rounds {
            // All of them read the same version.
            let intents: Vec<_> = closures
                .iter()
                .map(|acts| {
                    let mut txn = follower.db().optimistic();
                    let seen: Vec<_> = acts.iter().map(|act| perform(&mut txn, act)).collect();
                    (txn.into_intent().unwrap(), acts, seen)
                })
                .collect();
            let fed = machine();
            fed.install(file(&leader).as_slice()).unwrap();
            for (intent, acts, seen) in intents {
                let reply = apply(&leader, &intent);
                prop_assert_eq!(&apply(&follower, &intent), &reply);
                prop_assert_eq!(&apply(&fed, &intent), &reply);
                let Err(error) = reply else {
                    let mut txn = serial.write();
                    let again: Vec<_> = acts.iter().map(|act| perform(&mut txn, act)).collect();
                    txn.commit();
                    prop_assert_eq!(again, seen);
                    continue;
                };
                prop_assert!(error.is_conflict(), "{error}");
            }
            prop_assert_eq!(file(&leader), file(&follower));
            prop_assert_eq!(file(&leader), file(&fed));
            let rows = |db: &Db| -> Vec<Job> {
                db.read().table::<Job>().iter().map(|row| row.value().clone()).collect()
            };
            prop_assert_eq!(rows(leader.db()), rows(&serial));
            leader.db().check().unwrap();
        }
    }
}

#[cfg(feature = "raft")]
mod through_the_log {
    use std::time::Duration;

    use fsmdb::CarriesIntents;
    use fsmdb::raft::Cluster;
    use slog::{Discard, Logger, o};

    use super::*;

    impl CarriesIntents for Jobs {
        fn carry(intent: Intent) -> Intent {
            intent
        }

        fn carried(reply: Result<(), IntentError>) -> Result<(), IntentError> {
            reply
        }
    }

    #[test]
    fn closures_at_every_replica_lose_no_update() {
        let logger = Logger::root(Discard, o!());
        let cluster = Cluster::builder(|_| machine(), &logger)
            .replicas([1, 2, 3])
            .tick(Duration::from_millis(10))
            .start()
            .unwrap();
        cluster.wait_for_leader(Duration::from_secs(10)).unwrap();
        let begun = cluster.transact(1, |txn| txn.insert(job("sum", 0)).map(drop));
        let (_, at) = begun.unwrap();
        cluster.wait_for_applied(at.unwrap().index, Duration::from_secs(10)).unwrap();
        let last = std::thread::scope(|scope| {
            let threads: Vec<_> = (1..=3)
                .map(|id| {
                    let cluster = &cluster;
                    scope.spawn(move || {
                        let mut last = 0;
                        for _ in 0..10 {
                            let (_, at) = cluster
                                .transact(id, |txn| {
                                    let mut jobs = txn.table_mut::<Job>();
                                    jobs.update("sum", |job| job.status += 1)?;
                                    Ok::<_, Error>(())
                                })
                                .unwrap();
                            last = at.unwrap().index;
                        }
                        last
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).max().unwrap()
        });
        cluster.wait_for_applied(last, Duration::from_secs(10)).unwrap();
        for id in 1..=3 {
            let snapshot = cluster.db(id).unwrap().read();
            assert_eq!(snapshot.table::<Job>().get("sum").unwrap().status, 30);
        }
    }
}
