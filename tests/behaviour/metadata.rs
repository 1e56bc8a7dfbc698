//! What the engine keeps of each row and table: created and modified revisions.

use fsmdb::{Revision, Row};

use crate::tables::{Job, Node, commit, empty, file_of, job, load, node, with_jobs};

fn meta<T>(row: &Row<T>) -> (u64, u64) {
    (row.created().0, row.modified().0)
}

#[test]
fn a_row_is_created_and_modified_at_the_revision_of_its_commit() {
    let db = empty();
    db.write().commit();
    let mut txn = db.write();
    let row = txn.insert(job(1)).unwrap();
    assert_eq!(meta(&row), (2, 2), "the row knows before the commit");
    txn.commit();
    assert_eq!(meta(db.read().table::<Job>().get(&1).unwrap()), (2, 2));
}

#[test]
fn an_update_and_an_upsert_keep_created_and_move_modified() {
    let db = with_jobs([job(1), job(2)]);
    commit(&db, |txn| drop(txn.table_mut::<Job>().update(&1, |job| job.priority = 1).unwrap()));
    commit(&db, |txn| drop(txn.upsert(job(1)).unwrap()));
    let snap = db.read();
    assert_eq!(meta(snap.table::<Job>().get(&1).unwrap()), (1, 3));
    assert_eq!(meta(snap.table::<Job>().get(&2).unwrap()), (1, 1), "its neighbour is untouched");
}

#[test]
fn a_row_that_is_deleted_and_inserted_again_is_created_anew() {
    let db = with_jobs([job(1)]);
    commit(&db, |txn| drop(txn.table_mut::<Job>().delete(&1)));
    commit(&db, |txn| drop(txn.insert(job(1)).unwrap()));
    assert_eq!(meta(db.read().table::<Job>().get(&1).unwrap()), (3, 3));
    commit(&db, |txn| {
        txn.table_mut::<Job>().delete(&1);
        txn.insert(job(1)).unwrap();
    });
    assert_eq!(meta(db.read().table::<Job>().get(&1).unwrap()), (4, 4), "also in one transaction");
}

#[test]
fn the_rows_of_one_commit_have_one_revision_across_tables() {
    let db = empty();
    commit(&db, |txn| {
        txn.insert(job(1)).unwrap();
        txn.insert(node(1)).unwrap();
        txn.upsert(Node { name: "again".into(), ..node(1) }).unwrap();
    });
    let snap = db.read();
    assert_eq!(meta(snap.table::<Job>().get(&1).unwrap()), (1, 1));
    assert_eq!(meta(snap.table::<Node>().get(&1).unwrap()), (1, 1));
}

/// Consul needed a graveyard of tombstones for this.
#[test]
fn the_revision_of_a_table_never_goes_back_across_deletes() {
    let db = empty();
    assert_eq!(db.read().table::<Job>().modified(), Revision(0));
    commit(&db, |txn| drop(txn.insert(job(1)).unwrap()));
    commit(&db, |txn| drop(txn.insert(node(1)).unwrap()));
    assert_eq!(db.read().table::<Job>().modified(), Revision(1), "another table's commit");
    commit(&db, |txn| drop(txn.table_mut::<Job>().delete(&1)));
    let snap = db.read();
    assert!(snap.table::<Job>().is_empty());
    assert_eq!(snap.table::<Job>().modified(), Revision(3));
    assert_eq!(snap.table::<Node>().modified(), Revision(2));
    commit(&db, |txn| {
        txn.table_mut::<Job>().delete(&1);
        txn.table_mut::<Node>().delete_all(100..);
    });
    assert_eq!(db.read().table::<Job>().modified(), Revision(3), "nothing was there to delete");
    assert_eq!(db.read().table::<Node>().modified(), Revision(2));
}

#[test]
fn a_table_is_modified_by_a_bulk_delete() {
    let db = with_jobs([job(1), job(2)]);
    commit(&db, |txn| assert!(txn.table_mut::<Job>().delete_all(..) > 0));
    assert_eq!(db.read().table::<Job>().modified(), Revision(2));
}

#[test]
fn a_transaction_that_rolls_back_leaves_no_revision_behind() {
    let db = with_jobs([job(1)]);
    let mut txn = db.write();
    txn.upsert(job(1)).unwrap();
    txn.rollback_all();
    txn.commit();
    let snap = db.read();
    assert_eq!(meta(snap.table::<Job>().get(&1).unwrap()), (1, 1));
    assert_eq!((snap.table::<Job>().modified(), snap.revision()), (Revision(1), Revision(2)));
}

/// Consul: create and modify indexes were lost by a restore.
#[test]
fn revisions_survive_a_snapshot_file() {
    let db = with_jobs([job(1), job(2)]);
    commit(&db, |txn| drop(txn.upsert(job(2)).unwrap()));
    commit(&db, |txn| drop(txn.table_mut::<Job>().delete(&1)));
    let copy = load(&file_of(&db)).unwrap();
    assert_eq!(copy.revision(), Revision(3));
    let snap = copy.read();
    assert_eq!(meta(snap.table::<Job>().get(&2).unwrap()), (1, 2));
    assert_eq!(snap.table::<Job>().modified(), Revision(3));
    commit(&copy, |txn| drop(txn.upsert(job(2)).unwrap()));
    assert_eq!(meta(copy.read().table::<Job>().get(&2).unwrap()), (1, 4), "and go on from there");
}
