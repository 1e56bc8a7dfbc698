//! get, range, prefix, first and last, forwards and backwards, on primary keys and on every index.

use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};

use fsmdb::{Read, StartsWith, Table};
use serde::{Deserialize, Serialize};

use crate::tables::{Job, Service, Status, commit, empty, ids, job, service, with_jobs};

#[test]
fn get_finds_the_row_with_exactly_that_key() {
    let db = with_jobs([job(1), job(2)]);
    let snap = db.read();
    let jobs = snap.table::<Job>();
    assert_eq!(jobs.get(&2).unwrap().name, "job-2");
    assert!(jobs.get(&3).is_none());
    assert!(jobs.contains(&1) && !jobs.contains(&0));
    assert_eq!((jobs.len(), jobs.is_empty()), (2, false));
}

#[test]
fn a_key_may_be_given_in_any_form_that_encodes_like_it() {
    let db = empty();
    commit(&db, |txn| drop(txn.insert(service("prod", "web")).unwrap()));
    let snap = db.read();
    let services = snap.table::<Service>();
    assert!(services.get(&("prod", "web")).is_some());
    assert!(services.get(&("prod".to_owned(), "web")).is_some());
    assert!(services.get(&(&"prod", &"web".to_owned())).is_some());
}

#[test]
fn a_range_takes_every_shape_of_bounds() {
    let db = with_jobs((1..=9).map(job));
    let snap = db.read();
    let jobs = snap.table::<Job>();
    assert_eq!(ids(jobs.range(3..6)), [3, 4, 5]);
    assert_eq!(ids(jobs.range(3..=6)), [3, 4, 5, 6]);
    assert_eq!(ids(jobs.range(8..)), [8, 9]);
    assert_eq!(ids(jobs.range(..3)), [1, 2]);
    assert_eq!(ids(jobs.range(..=3)), [1, 2, 3]);
    assert_eq!(ids(jobs.range(..)), (1..=9).collect::<Vec<_>>());
    assert_eq!(ids(jobs.range((Bound::Excluded(3), Bound::Included(5)))), [4, 5]);
    assert_eq!(ids(jobs.range((Bound::Excluded(8), Bound::Unbounded))), [9]);
}

#[test]
fn crossed_and_touching_bounds_give_no_rows() {
    let db = with_jobs((1..=9).map(job));
    let snap = db.read();
    let jobs = snap.table::<Job>();
    let crossed = (6, 3);
    assert_eq!(jobs.range(crossed.0..crossed.1).count(), 0);
    assert_eq!(jobs.range(crossed.0..=crossed.1).count(), 0);
    assert_eq!(jobs.range(5..5).count(), 0);
    assert_eq!(jobs.range((Bound::Excluded(5), Bound::Excluded(5))).count(), 0);
    assert_eq!(jobs.range((Bound::Excluded(5), Bound::Included(5))).count(), 0);
    assert_eq!(jobs.range((Bound::Excluded(4), Bound::Excluded(5))).count(), 0);
    assert_eq!(jobs.index(Job::BY_NAME).range("x".."a").count(), 0);
    assert_eq!(jobs.index(Job::BY_STATUS).range(Status::Dead..Status::Pending).count(), 0);
    assert_eq!(jobs.range((Bound::Excluded(u64::MAX), Bound::Unbounded)).count(), 0);
}

#[test]
fn first_and_last_are_the_lowest_and_the_highest() {
    let db = empty();
    assert!(db.read().table::<Job>().first().is_none());
    assert!(db.read().table::<Job>().last().is_none());
    assert!(db.read().table::<Job>().index(Job::BY_NAME).first().is_none());
    let jobs = [Job { name: "z".into(), ..job(1) }, job(2), Job { name: "a".into(), ..job(3) }];
    commit(&db, |txn| jobs.into_iter().for_each(|job| drop(txn.insert(job).unwrap())));
    let snap = db.read();
    let jobs = snap.table::<Job>();
    assert_eq!((jobs.first().unwrap().id, jobs.last().unwrap().id), (1, 3));
    let by_name = jobs.index(Job::BY_NAME);
    assert_eq!((by_name.first().unwrap().id, by_name.last().unwrap().id), (3, 1));
    let by_priority = jobs.index(Job::BY_PRIORITY);
    assert_eq!((by_priority.first().unwrap().id, by_priority.last().unwrap().id), (1, 3));
}

#[test]
fn every_iterator_runs_backwards() {
    let db = with_jobs((1..=5).map(|id| Job { priority: -(id as i32), ..job(id) }));
    let snap = db.read();
    let jobs = snap.table::<Job>();
    let reversed = |rows: fsmdb::Rows<'_, Job>| rows.rev().map(|row| row.id).collect::<Vec<_>>();
    assert_eq!(reversed(jobs.iter()), [5, 4, 3, 2, 1]);
    assert_eq!(reversed(jobs.range(2..4)), [3, 2]);
    assert_eq!(reversed(jobs.index(Job::BY_NAME).iter()), [5, 4, 3, 2, 1]);
    assert_eq!(reversed(jobs.index(Job::BY_STATUS).get(&Status::Pending)), [5, 4, 3, 2, 1]);
    assert_eq!(reversed(jobs.index(Job::BY_NS_STATUS).prefix(&("default",))), [5, 4, 3, 2, 1]);
    assert_eq!(reversed(jobs.index(Job::BY_PRIORITY).iter()), [5, 4, 3, 2, 1]);
}

#[test]
fn an_iterator_used_from_both_ends_meets_each_row_once_and_stays_ended() {
    let db = with_jobs((1..=7).map(job));
    let snap = db.read();
    let mut rows = snap.table::<Job>().range(2..=6);
    let mut met = Vec::new();
    while let Some(front) = rows.next() {
        met.push(front.id);
        met.extend(rows.next_back().map(|row| row.id));
    }
    assert_eq!(met, [2, 6, 3, 5, 4]);
    assert!(rows.next().is_none() && rows.next_back().is_none() && rows.next().is_none());
}

#[test]
fn a_table_reader_is_an_iterable_and_its_rows_outlive_it() {
    let db = with_jobs([job(1), job(2)]);
    let snap = db.read();
    let row = {
        let jobs = snap.table::<Job>();
        assert_eq!(jobs.into_iter().count(), 2);
        jobs.get(&1).unwrap()
    };
    assert_eq!(row.id, 1);
}

/// go-memdb: an exact `Get("id", "a")` was a prefix seek that also found `"a\0b"`.
#[test]
fn get_never_finds_a_longer_key_that_begins_the_same() {
    let db = with_jobs([
        Job { name: "a".into(), ..job(1) },
        Job { name: "a\0b".into(), ..job(2) },
        Job { name: "a\u{1}".into(), ..job(3) },
        Job { name: "ab".into(), ..job(4) },
        Job { name: String::new(), ..job(5) },
        Job { name: "\0".into(), ..job(6) },
    ]);
    let snap = db.read();
    let by_name = snap.table::<Job>().index(Job::BY_NAME);
    for (name, id) in [("a", 1), ("a\0b", 2), ("a\u{1}", 3), ("ab", 4), ("", 5), ("\0", 6)] {
        assert_eq!(by_name.get(name).unwrap().id, id, "{name:?}");
        assert_eq!(ids(by_name.range(name..=name)), [id], "{name:?}");
    }
    assert_eq!(ids(by_name.iter()), [5, 6, 1, 2, 3, 4]);
}

/// Nomad: prefix lookups by namespace matched longer names, three times.
#[test]
fn a_component_prefix_never_matches_a_longer_component() {
    let db = empty();
    commit(&db, |txn| {
        for (namespace, name) in [("a", "x"), ("ab", "x"), ("a\0", "x"), ("a", "y"), ("", "x")] {
            txn.insert(service(namespace, name)).unwrap();
        }
        for (id, namespace) in [(1, "a"), (2, "ab"), (3, "a"), (4, "a\0")] {
            txn.insert(Job { namespace: namespace.into(), ..job(id) }).unwrap();
        }
    });
    let snap = db.read();
    let names: Vec<_> = snap
        .table::<Service>()
        .prefix(&("a",))
        .map(|row| (row.namespace.as_str(), row.name.as_str()))
        .collect();
    assert_eq!(names, [("a", "x"), ("a", "y")]);
    assert_eq!(snap.table::<Service>().prefix(&("",)).count(), 1);
    assert_eq!(ids(snap.table::<Job>().index(Job::BY_NS_STATUS).prefix(&("a",))), [1, 3]);
    assert_eq!(ids(snap.table::<Job>().index(Job::BY_NS_RECENT).prefix(&("a\0",))), [4]);
}

#[test]
fn a_string_prefix_is_found_where_it_is_named_as_one() {
    let db = with_jobs([
        Job { name: "web-1".into(), ..job(1) },
        Job { name: "web".into(), ..job(2) },
        Job { name: "we".into(), ..job(3) },
        Job { name: "Web-2".into(), label: "WEB".into(), ..job(4) },
    ]);
    commit(&db, |txn| {
        for (namespace, name) in [("prod", "web"), ("prod", "web-2"), ("production", "web")] {
            txn.insert(service(namespace, name)).unwrap();
        }
    });
    let snap = db.read();
    let jobs = snap.table::<Job>();
    assert_eq!(ids(jobs.index(Job::BY_NAME).prefix(&StartsWith("web"))), [2, 1]);
    assert_eq!(jobs.index(Job::BY_NAME).prefix(&StartsWith("")).count(), 4);
    assert_eq!(ids(jobs.index(Job::BY_LABEL).prefix(&StartsWith("wE"))), [4]);
    let services = snap.table::<Service>();
    assert_eq!(services.prefix(&(StartsWith("prod"),)).count(), 3);
    assert_eq!(services.prefix(&("prod", StartsWith("web"))).count(), 2);
    assert_eq!(services.prefix(&("prod", StartsWith("web-"))).count(), 1);
}

/// go-memdb: `LowerBound` had no upper bound and left the prefix that was asked.
#[test]
fn a_range_on_an_index_ends_at_its_upper_bound() {
    let db = with_jobs((1..=4).map(|id| Job { deployment: Some(id / 2), ..job(id) }));
    let snap = db.read();
    let by_deployment = snap.table::<Job>().index(Job::BY_DEPLOYMENT);
    assert_eq!(ids(by_deployment.range(0..1)), [1]);
    assert_eq!(ids(by_deployment.range(0..=1)), [1, 2, 3]);
    assert_eq!(ids(by_deployment.range((Bound::Excluded(0), Bound::Excluded(2)))), [2, 3]);
    assert_eq!(ids(by_deployment.range((Bound::Excluded(1), Bound::Unbounded))), [4]);
}

#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "extremes")]
struct Extreme {
    #[key]
    id: u8,
    #[index]
    signed: i64,
    #[index]
    unsigned: u64,
    #[index]
    flag: bool,
    #[index(name = "text")]
    text: String,
}

#[test]
fn the_lowest_and_highest_values_of_a_type_are_inside_ranges_that_reach_them() {
    let db = fsmdb::Db::builder().table::<Extreme>().build().unwrap();
    commit(&db, |txn| {
        for (id, signed, unsigned) in [(0, i64::MIN, 0), (127, -1, 1), (255, i64::MAX, u64::MAX)] {
            let text = char::from(id).to_string();
            txn.insert(Extreme { id, signed, unsigned, flag: id > 0, text }).unwrap();
        }
    });
    let snap = db.read();
    let table = snap.table::<Extreme>();
    let met = |rows: fsmdb::Rows<'_, Extreme>| rows.map(|row| row.id).collect::<Vec<_>>();
    assert_eq!(met(table.range(..=255)), [0, 127, 255]);
    assert_eq!(met(table.range((Bound::Excluded(254), Bound::Unbounded))), [255]);
    assert_eq!(met(table.index(Extreme::BY_UNSIGNED).get(&u64::MAX)), [255]);
    assert_eq!(met(table.index(Extreme::BY_UNSIGNED).range(u64::MAX..=u64::MAX)), [255]);
    let above = (Bound::Excluded(u64::MAX), Bound::Unbounded);
    assert_eq!(met(table.index(Extreme::BY_UNSIGNED).range(above)), [0_u8; 0]);
    assert_eq!(met(table.index(Extreme::BY_SIGNED).range(..0)), [0, 127]);
    assert_eq!(met(table.index(Extreme::BY_SIGNED).range(i64::MIN..)), [0, 127, 255]);
    assert_eq!(met(table.index(Extreme::BY_FLAG).range(true..)), [127, 255]);
    assert_eq!(met(table.index(Extreme::BY_TEXT).range("\u{7f}"..)), [127, 255]);
}

#[test]
fn whatever_is_read_can_be_a_snapshot_or_a_transaction() {
    fn names(db: &impl Read) -> Vec<String> {
        db.table::<Job>().iter().map(|row| row.name.clone()).collect()
    }
    let db = with_jobs([job(1)]);
    let mut txn = db.write();
    txn.insert(job(2)).unwrap();
    assert_eq!(names(&txn), ["job-1", "job-2"]);
    assert_eq!(names(&txn.snapshot()), ["job-1", "job-2"]);
    assert_eq!(names(&db.read()), ["job-1"]);
    assert_eq!(Read::revision(&txn).0, 2);
    assert_eq!(Read::revision(&db.read()).0, 1);
}

#[test]
fn a_table_that_is_not_in_the_schema_panics_with_the_way_out() {
    let db = fsmdb::Db::builder().table::<Job>().build().unwrap();
    let snap = db.read();
    let panic = catch_unwind(AssertUnwindSafe(|| snap.table::<Service>().len())).unwrap_err();
    let message = panic.downcast_ref::<String>().unwrap();
    assert!(message.contains("table services is not in the schema: add .table::<"), "{message}");
}
