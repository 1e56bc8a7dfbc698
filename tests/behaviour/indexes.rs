//! Each kind of index: what stands in it, in which order, and what it refuses.

use std::collections::{BTreeMap, BTreeSet};

use fsmdb::{Db, Descending, Error, StartsWith, Table};
use serde::{Deserialize, Serialize};

use crate::tables::{Job, Node, Status, commit, empty, ids, job, with_jobs};

/// go-memdb: a collision in a unique index silently overwrote the other row's entry.
#[test]
fn a_unique_index_refuses_a_second_owner_and_names_the_first() {
    let db = with_jobs([job(1)]);
    let mut txn = db.write();
    let refused = txn.insert(Job { name: "job-1".into(), ..job(2) }).unwrap_err();
    let expected = Error::Taken {
        table: "jobs".into(),
        index: "name".into(),
        value: "\"job-1\"".into(),
        owner: "1".into(),
    };
    assert_eq!(refused, expected);
    assert!(refused.is_conflict() && !refused.is_not_found());
    txn.insert(job(2)).unwrap();
    let refused = txn.table_mut::<Job>().update(&2, |job| job.name = "job-1".into());
    assert_eq!(refused.unwrap_err(), expected);
    let refused = txn.upsert(Job { name: "job-1".into(), ..job(2) });
    assert_eq!(refused.unwrap_err(), expected);
    let jobs = txn.table::<Job>();
    assert_eq!(jobs.index(Job::BY_NAME).get("job-1").unwrap().id, 1);
    assert_eq!(jobs.index(Job::BY_NAME).len(), 2);
    txn.snapshot().check().unwrap();
}

#[test]
fn a_row_keeps_its_own_unique_value_over_updates() {
    let db = with_jobs([job(1)]);
    let mut txn = db.write();
    txn.table_mut::<Job>().update(&1, |job| job.priority = 7).unwrap();
    txn.upsert(Job { priority: 8, ..job(1) }).unwrap();
    assert_eq!(txn.table::<Job>().index(Job::BY_NAME).get("job-1").unwrap().priority, 8);
    txn.snapshot().check().unwrap();
}

#[test]
fn a_unique_value_is_free_again_after_its_row_changed_or_went() {
    let db = with_jobs([job(1), job(2)]);
    let mut txn = db.write();
    txn.table_mut::<Job>().update(&1, |job| job.name = "other".into()).unwrap();
    txn.table_mut::<Job>().update(&2, |job| job.name = "job-1".into()).unwrap();
    assert_eq!(txn.table::<Job>().index(Job::BY_NAME).get("job-1").unwrap().id, 2);
    txn.table_mut::<Job>().delete(&2);
    txn.insert(Job { name: "job-1".into(), ..job(3) }).unwrap();
    assert_eq!(txn.table::<Job>().index(Job::BY_NAME).get("job-1").unwrap().id, 3);
    assert!(txn.table::<Job>().index(Job::BY_NAME).get("job-2").is_none());
    txn.snapshot().check().unwrap();
}

/// go-memdb: entries of a changed value stayed behind.
#[test]
fn an_update_moves_the_row_in_every_index() {
    let before = Job {
        deployment: Some(1),
        tags: vec!["a".into(), "b".into()],
        label: "Old".into(),
        name: "x.old".into(),
        ..job(1)
    };
    let db = with_jobs([before]);
    commit(&db, |txn| {
        let after = Job {
            status: Status::Running,
            deployment: Some(2),
            tags: vec!["b".into(), "c".into()],
            label: "New".into(),
            name: "x.new".into(),
            slot: 9,
            priority: 5,
            namespace: "prod".into(),
            ..job(1)
        };
        txn.upsert(after).unwrap();
    });
    let snap = db.read();
    let jobs = snap.table::<Job>();
    assert_eq!(jobs.index(Job::BY_STATUS).get(&Status::Pending).count(), 0);
    assert_eq!(jobs.index(Job::BY_STATUS).get(&Status::Running).count(), 1);
    assert_eq!(ids(jobs.index(Job::BY_DEPLOYMENT).iter()), [1]);
    assert!(!jobs.index(Job::BY_TAGS).contains("a"));
    assert!(jobs.index(Job::BY_TAGS).contains("b") && jobs.index(Job::BY_TAGS).contains("c"));
    assert!(jobs.index(Job::BY_SLOT).get(&1).is_none());
    assert_eq!(jobs.index(Job::BY_SLOT).get(&9).unwrap().id, 1);
    assert!(
        !jobs.index(Job::BY_LABEL).contains("OLD") && jobs.index(Job::BY_LABEL).contains("new")
    );
    assert!(
        !jobs.index(Job::BY_DOMAIN).contains("old") && jobs.index(Job::BY_DOMAIN).contains("new")
    );
    assert_eq!(jobs.index(Job::BY_NS_STATUS).prefix(&("default",)).count(), 0);
    assert_eq!(jobs.index(Job::BY_NS_STATUS).get(&("prod", Status::Running)).count(), 1);
    snap.check().unwrap();
}

#[test]
fn a_non_unique_index_is_in_the_order_of_value_and_then_primary_key() {
    let statuses = [Status::Dead, Status::Pending, Status::Dead, Status::Running, Status::Pending];
    let db = with_jobs(statuses.into_iter().zip(1..).map(|(status, id)| Job { status, ..job(id) }));
    let snap = db.read();
    let by_status = snap.table::<Job>().index(Job::BY_STATUS);
    assert_eq!(ids(by_status.iter()), [2, 5, 4, 1, 3]);
    assert_eq!(ids(by_status.get(&Status::Dead)), [1, 3]);
    assert_eq!(ids(by_status.range(Status::Running..)), [4, 1, 3]);
    assert_eq!((by_status.first().unwrap().id, by_status.last().unwrap().id), (2, 3));
    assert_eq!(by_status.len(), 5);
}

/// go-memdb: one row was met twice in a scan, and `DeleteAll` failed half-way over it.
#[test]
fn a_multi_valued_index_tolerates_duplicates_and_meets_a_row_once_for_a_value() {
    let tags = |tags: &[&str]| tags.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>();
    let db = with_jobs([
        Job { tags: tags(&["b", "a", "b", "b"]), ..job(1) },
        Job { tags: tags(&["b"]), ..job(2) },
        Job { tags: tags(&[]), ..job(3) },
    ]);
    let snap = db.read();
    let by_tag = snap.table::<Job>().index(Job::BY_TAGS);
    assert_eq!(ids(by_tag.get("b")), [1, 2]);
    assert_eq!(ids(by_tag.get("a")), [1]);
    assert_eq!(ids(by_tag.iter()), [1, 1, 2]);
    assert_eq!(ids(by_tag.range("a"..="b")), [1, 1, 2]);
    assert_eq!(by_tag.len(), 3);
    let mut txn = db.write();
    assert_eq!(txn.table_mut::<Job>().index(Job::BY_TAGS).delete_range("a".."z"), 2);
    assert_eq!(ids(txn.table::<Job>().iter()), [3]);
    txn.snapshot().check().unwrap();
}

/// go-memdb: `DeletePrefix` on a multi-value index left ghost rows under the other values.
#[test]
fn deleting_by_one_value_of_a_multi_valued_index_leaves_no_ghosts_under_the_others() {
    let tags = |tags: &[&str]| tags.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>();
    let db = with_jobs([
        Job { tags: tags(&["web-1", "db"]), ..job(1) },
        Job { tags: tags(&["db"]), ..job(2) },
        Job { tags: tags(&["web-1", "web-2"]), ..job(3) },
    ]);
    let mut txn = db.write();
    let deleted = txn.table_mut::<Job>().index(Job::BY_TAGS).delete_prefix(&StartsWith("web-"));
    assert_eq!(deleted, 2);
    assert_eq!(ids(txn.table::<Job>().index(Job::BY_TAGS).iter()), [2]);
    assert_eq!(txn.changes().len(), 2);
    txn.snapshot().check().unwrap();
}

/// go-memdb: `DeletePrefix` with an upper-case prefix on a lower-cased index panicked.
#[test]
fn a_case_folded_index_is_found_in_any_case_and_deleted_by_any() {
    let label = |id, label: &str| Job { label: label.into(), ..job(id) };
    let db =
        with_jobs([label(1, "Straße"), label(2, "STRASSE"), label(3, "ΣΊΣΥΦΟΣ"), label(4, "x")]);
    let snap = db.read();
    let by_label = snap.table::<Job>().index(Job::BY_LABEL);
    assert_eq!(ids(by_label.get("strasse")), [1, 2]);
    assert_eq!(ids(by_label.get("σίσυφος")), [3]);
    assert_eq!(ids(by_label.prefix(&StartsWith("STR"))), [1, 2]);
    let computed = snap.table::<Job>().index(Job::BY_LABEL_FOLDED);
    assert_eq!(ids(computed.iter()), ids(by_label.iter()));
    let mut txn = db.write();
    let mut jobs = txn.table_mut::<Job>();
    assert_eq!(jobs.index(Job::BY_LABEL).delete_prefix(&StartsWith("STRA")), 2);
    assert_eq!(jobs.index(Job::BY_LABEL).delete_all("X"), 1);
    assert_eq!(ids(jobs.read().iter()), [3]);
}

#[test]
fn an_absent_optional_value_has_no_entry() {
    let db = with_jobs([
        Job { deployment: Some(7), ..job(1) },
        job(2),
        Job { deployment: Some(0), name: "x.example".into(), ..job(3) },
    ]);
    let snap = db.read();
    let jobs = snap.table::<Job>();
    assert_eq!(ids(jobs.index(Job::BY_DEPLOYMENT).iter()), [3, 1]);
    assert_eq!(ids(jobs.index(Job::BY_DEPLOYMENT).get(&7)), [1]);
    assert_eq!(ids(jobs.index(Job::BY_DOMAIN).get("example")), [3]);
    assert_eq!(jobs.index(Job::BY_DOMAIN).len(), 1);
    drop(snap);
    commit(&db, |txn| {
        txn.table_mut::<Job>().update(&1, |job| job.deployment = None).unwrap();
        txn.table_mut::<Job>().update(&2, |job| job.deployment = Some(7)).unwrap();
    });
    assert_eq!(ids(db.read().table::<Job>().index(Job::BY_DEPLOYMENT).get(&7)), [2]);
    db.check().unwrap();
}

#[test]
fn a_conditional_index_holds_only_rows_that_pass_its_filter() {
    let dead = |id, slot| Job { status: Status::Dead, slot, ..job(id) };
    let db = with_jobs([Job { slot: 5, ..job(1) }, dead(2, 5), dead(3, 5)]);
    let mut txn = db.write();
    assert_eq!(txn.table::<Job>().index(Job::BY_SLOT).len(), 1);
    // A dead job may not come alive in a slot that is taken; when the owner dies, one may.
    let refused = txn.table_mut::<Job>().update(&2, |job| job.status = Status::Running);
    assert!(
        matches!(refused, Err(Error::Taken { index, owner, .. }) if index == "slot" && owner == "1")
    );
    txn.table_mut::<Job>().update(&1, |job| job.status = Status::Dead).unwrap();
    txn.table_mut::<Job>().update(&2, |job| job.status = Status::Running).unwrap();
    assert_eq!(txn.table::<Job>().index(Job::BY_SLOT).get(&5).unwrap().id, 2);
    txn.snapshot().check().unwrap();
}

#[test]
fn a_descending_index_has_the_highest_first() {
    let db = with_jobs(
        (1..=4).map(|id| Job { priority: [3, -1, 3, i32::MIN][id as usize - 1], ..job(id) }),
    );
    let snap = db.read();
    let by_priority = snap.table::<Job>().index(Job::BY_PRIORITY);
    assert_eq!(ids(by_priority.iter()), [1, 3, 2, 4]);
    assert_eq!(ids(by_priority.get(&Descending(3))), [1, 3]);
    // In the index's own order 0 comes before what is below it.
    assert_eq!(ids(by_priority.range(Descending(0)..)), [2, 4]);
    assert_eq!(ids(by_priority.range(..Descending(0))), [1, 3]);
}

#[test]
fn a_compound_index_is_in_the_order_of_its_components_each_in_its_direction() {
    let at =
        |id, namespace: &str, priority| Job { namespace: namespace.into(), priority, ..job(id) };
    let db = with_jobs([at(1, "b", 1), at(2, "a", 1), at(3, "a", 9), at(4, "a", 1)]);
    let snap = db.read();
    let recent = snap.table::<Job>().index(Job::BY_NS_RECENT);
    assert_eq!(ids(recent.iter()), [3, 2, 4, 1]);
    assert_eq!(ids(recent.prefix(&("a",))), [3, 2, 4]);
    assert_eq!(ids(recent.get(&("a", Descending(1)))), [2, 4]);
    assert_eq!(ids(recent.range(("a", Descending(5))..("b", Descending(i32::MAX)))), [2, 4]);
}

#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "containers")]
#[index(name = "either", with = Containers::either, key = u32, multi, unique)]
struct Containers {
    #[key]
    id: u64,
    #[index(multi)]
    set: BTreeSet<u16>,
    #[index(multi)]
    map: BTreeMap<String, bool>,
    #[index(multi, fold)]
    names: Vec<String>,
    #[index(multi, descending)]
    array: [i8; 2],
    #[index(unique)]
    maybe: Option<String>,
    #[index(fold, name = "nick")]
    nick: Option<String>,
    left: Option<u32>,
    right: Option<u32>,
}

impl Containers {
    fn either(&self) -> impl Iterator<Item = u32> {
        self.left.into_iter().chain(self.right)
    }
}

fn containers(id: u64) -> Containers {
    Containers {
        id,
        set: BTreeSet::new(),
        map: BTreeMap::new(),
        names: Vec::new(),
        array: [0, 0],
        maybe: None,
        nick: None,
        left: None,
        right: None,
    }
}

#[test]
fn every_container_can_be_indexed_by_its_elements() {
    let db = Db::builder().table::<Containers>().build().unwrap();
    let mut txn = db.write();
    let full = Containers {
        set: BTreeSet::from([3, 1]),
        map: BTreeMap::from([("a".into(), true), ("b".into(), false)]),
        names: vec!["Web".into(), "WEB".into()],
        array: [5, -5],
        nick: Some("Zoë".into()),
        ..containers(1)
    };
    txn.insert(full).unwrap();
    txn.insert(containers(2)).unwrap();
    let table = txn.table::<Containers>();
    let met = |rows: fsmdb::Rows<'_, Containers>| rows.map(|row| row.id).collect::<Vec<_>>();
    assert_eq!(met(table.index(Containers::BY_SET).range(2..)), [1]);
    assert_eq!(table.index(Containers::BY_SET).len(), 2);
    assert_eq!(met(table.index(Containers::BY_MAP).get(&("a", true))), [1]);
    assert_eq!(met(table.index(Containers::BY_MAP).prefix(&("b",))), [1]);
    assert_eq!(met(table.index(Containers::BY_NAMES).get("wEb")), [1]);
    assert_eq!(table.index(Containers::BY_NAMES).len(), 1);
    assert_eq!(met(table.index(Containers::BY_ARRAY).iter()), [1, 2, 1]);
    assert_eq!(met(table.index(Containers::BY_NICK).get("ZOË")), [1]);
    txn.snapshot().check().unwrap();
}

#[test]
fn absent_values_of_a_unique_index_do_not_conflict() {
    let db = Db::builder().table::<Containers>().build().unwrap();
    let mut txn = db.write();
    for id in 1..4 {
        txn.insert(containers(id)).unwrap();
    }
    txn.insert(Containers { maybe: Some(String::new()), ..containers(4) }).unwrap();
    let refused = txn.insert(Containers { maybe: Some(String::new()), ..containers(5) });
    assert!(matches!(refused, Err(Error::Taken { owner, .. }) if owner == "4"));
}

#[test]
fn each_value_of_a_unique_multi_valued_index_has_one_owner() {
    let db = Db::builder().table::<Containers>().build().unwrap();
    let mut txn = db.write();
    let with = |id, left, right| Containers { left, right, ..containers(id) };
    txn.insert(with(1, Some(1), Some(2))).unwrap();
    txn.insert(with(2, Some(3), Some(3))).unwrap();
    let refused = txn.insert(with(3, Some(4), Some(2))).unwrap_err();
    assert!(matches!(&refused, Error::Taken { value, owner, .. } if value == "2" && owner == "1"));
    txn.table_mut::<Containers>().update(&1, |row| row.right = None).unwrap();
    txn.insert(with(3, Some(4), Some(2))).unwrap();
    assert_eq!(txn.table::<Containers>().index(Containers::BY_EITHER).get(&2).unwrap().id, 3);
    txn.snapshot().check().unwrap();
}

#[test]
fn retain_and_delete_by_an_index_delete_exactly_the_rows_that_reading_it_finds() {
    let db = with_jobs((1..=6).map(|id| Job { deployment: Some(id % 3), ..job(id) }));
    let mut txn = db.write();
    let mut jobs = txn.table_mut::<Job>();
    assert_eq!(jobs.index(Job::BY_DEPLOYMENT).delete_all(&1), 2);
    assert_eq!(jobs.index(Job::BY_DEPLOYMENT).delete_all(&1), 0);
    assert_eq!(ids(jobs.read().iter()), [2, 3, 5, 6]);
    assert_eq!(jobs.index(Job::BY_NAME).delete_all("job-2"), 1);
    assert_eq!(jobs.retain(|row| row.id != 5), 1);
    assert_eq!(jobs.delete_all(6..), 1);
    assert_eq!(ids(jobs.read().iter()), [3]);
    assert_eq!(jobs.delete_all(..), 1);
    assert!(jobs.read().is_empty() && jobs.read().index(Job::BY_NAME).is_empty());
    txn.snapshot().check().unwrap();
}

#[test]
fn deleting_by_component_prefix_spares_longer_components() {
    let db = empty();
    commit(&db, |txn| {
        for (namespace, name) in [("a", "x"), ("a", "y"), ("ab", "x")] {
            txn.insert(crate::tables::service(namespace, name)).unwrap();
        }
        assert_eq!(txn.table_mut::<crate::tables::Service>().delete_prefix(&("a",)), 2);
    });
    assert_eq!(db.read().table::<crate::tables::Service>().first().unwrap().namespace, "ab");
}

#[test]
fn one_row_reached_by_several_indexes_is_the_same_row() {
    let db = with_jobs([Job { tags: vec!["t".into()], ..job(1) }]);
    let snap = db.read();
    let jobs = snap.table::<Job>();
    let row = jobs.get(&1).unwrap();
    assert!(std::ptr::eq(row, jobs.index(Job::BY_NAME).get("job-1").unwrap()));
    assert!(std::ptr::eq(row, jobs.index(Job::BY_TAGS).get("t").next().unwrap()));
    let shared = row.share();
    assert!(std::ptr::eq(row, &raw const *shared));
}

#[test]
fn the_same_value_in_two_tables_does_not_conflict() {
    let db = empty();
    let mut txn = db.write();
    txn.insert(Node { id: 1, name: "same".into() }).unwrap();
    txn.insert(Job { name: "same".into(), ..job(1) }).unwrap();
    assert_eq!(txn.table::<Node>().len() + txn.table::<Job>().len(), 2);
}
