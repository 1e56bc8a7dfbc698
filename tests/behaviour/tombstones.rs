//! What a table remembers of removals, and its way through snapshot files, forged ones too.

use fsmdb::{Db, Revision, SnapshotError, StartsWith, Table, inspect, limits};
use serde::{Deserialize, Serialize};

use crate::frames::{
    Frame, Removals, TOMBSTONES, change_header, frames_of, header_of, records_of, rows_frame,
    seal_with_end,
};
use crate::tables::{commit, file_of};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Table)]
#[table(name = "entries", tombstones = 100)]
struct Entry {
    #[key]
    path: String,
    #[index]
    owner: u8,
    #[index(unique)]
    slot: Option<u8>,
}

fn entry(path: &str, owner: u8) -> Entry {
    Entry { path: path.into(), owner, slot: None }
}

fn empty() -> Db {
    Db::builder().table::<Entry>().build().unwrap()
}

fn delete(db: &Db, path: &str) {
    commit(db, |txn| drop(txn.table_mut::<Entry>().delete(path).unwrap()));
}

/// Three rows, of which two were deleted at revisions 2 and 3, and one has moved at 4.
fn small() -> Db {
    let db = empty();
    commit(&db, |txn| {
        txn.insert(Entry { slot: Some(9), ..entry("a/1", 1) }).unwrap();
        txn.insert(entry("a/2", 2)).unwrap();
        txn.insert(entry("b/1", 1)).unwrap();
    });
    delete(&db, "a/1");
    delete(&db, "a/2");
    commit(&db, |txn| drop(txn.upsert(entry("b/1", 3)).unwrap()));
    db
}

fn load(file: &[u8]) -> Result<Db, SnapshotError> {
    Db::builder().table::<Entry>().load(file)
}

#[test]
fn a_revision_outlives_the_rows_that_it_is_of() {
    let (db, copy) = (small(), load(&file_of(&small())).unwrap());
    for db in [&db, &copy] {
        let snap = db.read();
        let entries = snap.table::<Entry>();
        let (owners, slots) = (entries.index(Entry::BY_OWNER), entries.index(Entry::BY_SLOT));
        assert_eq!(entries.modified_under(&StartsWith("a/")), Revision(3));
        assert_eq!(entries.modified_of("a/1"), Revision(2));
        assert_eq!(entries.modified_of("c"), Revision(0));
        assert_eq!(entries.modified_in("a/2"..="b"), Revision(3));
        assert_eq!(owners.modified_of(&1), Revision(4), "the row has left it");
        assert_eq!(owners.modified_of(&2), Revision(3));
        assert_eq!(owners.modified_of(&3), Revision(4));
        assert_eq!(owners.modified_of(&4), Revision(0));
        assert_eq!(slots.modified_of(&9), Revision(2));
        assert_eq!(slots.modified_in(..9), Revision(0));
        db.check().unwrap();
    }
    assert_eq!(inspect(file_of(&db).as_slice()).unwrap().tables[0].tombstones, 5);
}

#[test]
fn what_comes_and_goes_within_a_transaction_leaves_nothing() {
    let db = empty();
    commit(&db, |txn| drop(txn.insert(entry("a", 1)).unwrap()));
    commit(&db, |txn| {
        txn.insert(entry("b", 2)).unwrap();
        txn.table_mut::<Entry>().delete("b").unwrap();
        assert_eq!(txn.table::<Entry>().modified_of("b"), Revision(2), "meanwhile it counts");
    });
    let snap = db.read();
    assert_eq!(snap.table::<Entry>().modified_of("b"), Revision(0));
    assert_eq!(snap.table::<Entry>().index(Entry::BY_OWNER).modified_of(&2), Revision(0));
}

#[test]
fn the_oldest_removals_are_forgotten_first_and_a_large_one_forgets_all() {
    let db = empty();
    let rows = || (0..300).map(|n| entry(&format!("{n:03}"), 0));
    commit(&db, |txn| assert_eq!(txn.table_mut::<Entry>().insert_all(rows()).unwrap(), 300));
    // Each leaves two tombstones, but for the value, which all rows share.
    (0..150).for_each(|n| delete(&db, &format!("{n:03}")));
    let snap = db.read();
    let entries = snap.table::<Entry>();
    assert_eq!(entries.modified_of("149"), Revision(151));
    assert_eq!(entries.modified_of("060"), Revision(62));
    let forgotten = entries.modified_of("000");
    assert!((Revision(40)..Revision(62)).contains(&forgotten), "{forgotten}");
    assert_eq!(entries.modified_of("299"), forgotten, "nothing is known below it");
    commit(&db, |txn| assert_eq!(txn.table_mut::<Entry>().delete_all(..), 150));
    let snap = db.read();
    let entries = snap.table::<Entry>();
    assert_eq!(entries.modified_of("x"), Revision(152));
    let copy = load(&file_of(&db)).unwrap();
    assert_eq!(copy.read().table::<Entry>().modified_of("x"), Revision(152));
    db.check().unwrap();
}

#[test]
fn a_view_of_a_transaction_saves_what_that_took_out() {
    let db = small();
    let mut txn = db.write();
    txn.table_mut::<Entry>().delete("b/1").unwrap();
    let view = txn.snapshot();
    drop(txn);
    let mut file = Vec::new();
    view.save(&mut file).unwrap();
    let copy = load(&file).unwrap();
    copy.check().unwrap();
    assert_eq!(copy.read().table::<Entry>().modified_of("b/1"), Revision(5));
}

/// The same rows, declared otherwise.
#[test]
fn a_schema_that_did_not_remember_knows_nothing_before() {
    #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    #[table(name = "entries")]
    struct Forgetful {
        #[key]
        path: String,
        #[index]
        owner: u8,
        #[index(unique)]
        slot: Option<u8>,
    }
    #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    #[table(name = "entries", tombstones = 50)]
    #[index(name = "both", on = (owner, path))]
    struct Indexed {
        #[key]
        path: String,
        #[index(unique)]
        slot: Option<u8>,
        owner: u8,
    }
    let file = file_of(&small());
    let forgetful = Db::builder().table::<Forgetful>().load(file.as_slice()).unwrap();
    let snap = forgetful.read();
    assert_eq!(snap.table::<Forgetful>().modified_of("c"), Revision(4));
    let mut again = Vec::new();
    snap.save(&mut again).unwrap();
    assert_eq!(header_of(&frames_of(&again)).tables[0].removals, None);
    let back = load(&again).unwrap();
    assert_eq!(back.read().table::<Entry>().modified_of("c"), Revision(4));
    // Another index: what was removed from that is unknown, not what was deleted.
    let indexed = Db::builder().table::<Indexed>().load(file.as_slice()).unwrap();
    indexed.check().unwrap();
    let snap = indexed.read();
    let entries = snap.table::<Indexed>();
    assert_eq!(entries.modified_of("a/1"), Revision(2));
    assert_eq!(entries.modified_of("c"), Revision(0));
    assert_eq!(entries.index(Indexed::BY_BOTH).modified_of(&(7, "c")), Revision(4));
}

#[test]
fn a_table_may_not_ask_for_more_than_the_limit() {
    #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    #[table(name = "greedy", tombstones = 1048577)]
    struct Greedy {
        #[key]
        id: u8,
    }
    let error = Db::builder().table::<Greedy>().build().unwrap_err();
    let message = format!("{error}");
    assert!(message.contains("tombstones of table greedy"), "{message}");
    assert!(message.contains(&limits::TOMBSTONES_MAX.to_string()), "{message}");
}

fn record(revision: u64, tree: u32, key: &[u8]) -> Vec<u8> {
    [&revision.to_le_bytes()[..], &tree.to_le_bytes(), key].concat()
}

/// The file of `small()` with other tombstones.
fn forged(removals: Option<Removals>, records: &[Vec<u8>]) -> Vec<u8> {
    let mut frames = frames_of(&file_of(&small()));
    frames.truncate(2);
    change_header(&mut frames, |header| header.tables[0].removals = removals);
    let Frame { payload, .. } = rows_frame(0, records);
    frames.push(Frame { kind: TOMBSTONES, payload });
    seal_with_end(&frames, 1)
}

fn counted(tombstones: u64) -> Option<Removals> {
    Some(Removals { rows: 1, entries: 2, tombstones })
}

fn refused(file: &[u8]) -> String {
    let inspected = inspect(file).unwrap_err();
    let error = load(file).unwrap_err();
    assert_eq!(format!("{inspected}"), format!("{error}"));
    assert!(matches!(error, SnapshotError::Malformed { .. }), "{error}");
    format!("{error}")
}

#[test]
fn tombstones_that_cannot_be_are_refused() {
    let sound = record(3, 1, b"x");
    load(&forged(counted(1), std::slice::from_ref(&sound))).unwrap();
    let frames = frames_of(&file_of(&small()));
    let own = records_of(&frames[2]);
    assert!(own.is_sorted_by(|one, next| one < next) && own.len() == 5);

    let not_of_table = [
        record(2, 1, b"x"),
        record(1, 0, b"x"),
        record(5, 1, b"x"),
        record(u64::MAX, 0, b"x"),
        record(3, 3, b"x"),
        record(3, u32::MAX, b"x"),
    ];
    for bad in not_of_table {
        assert!(refused(&forged(counted(1), &[bad])).contains("not one of its table"));
    }
    assert!(refused(&forged(None, std::slice::from_ref(&sound))).contains("not one of its table"));
    for bad in [record(3, 1, b"x"), record(3, 1, b"w"), record(3, 0, b"y"), record(2, 0, b"y")] {
        let message = refused(&forged(counted(2), &[sound.clone(), bad]));
        assert!(message.contains("repeated or out of order"), "{message}");
    }
    for bad in [&b""[..], &[0; 11]] {
        assert!(refused(&forged(counted(1), &[bad.to_vec()])).contains("too short"));
    }
    let long = record(3, 1, &[7; limits::KEY_BYTES_MAX + 1]);
    assert!(refused(&forged(counted(1), &[long])).contains("longer than the limit"));
    for lie in [0, 2, u64::MAX] {
        let message = refused(&forged(counted(lie), std::slice::from_ref(&sound)));
        assert!(message.contains("differ from the header"), "{message}");
    }
    let late = Some(Removals { rows: 5, entries: 0, tombstones: 0 });
    assert!(refused(&forged(late, &[])).contains("after it was modified"));
}

#[test]
fn tombstones_come_after_the_rows_in_frames_that_are_not_too_long() {
    let mut frames = frames_of(&file_of(&small()));
    frames.pop();
    frames.swap(1, 2);
    assert!(refused(&seal_with_end(&frames, 1)).contains("out of order"));
    let mut frames = frames_of(&file_of(&small()));
    frames.pop();
    frames[2].payload.resize(100_000, 0);
    let error = load(&seal_with_end(&frames, 1)).unwrap_err();
    assert!(matches!(error, SnapshotError::FrameTooLarge { .. }), "{error}");
}

/// Split over frames they are the same.
#[test]
fn tombstones_may_stand_in_any_number_of_frames() {
    let file = file_of(&small());
    let mut frames = frames_of(&file);
    frames.pop();
    let tombstones = frames.pop().unwrap();
    for record in records_of(&tombstones) {
        frames.push(Frame { kind: TOMBSTONES, ..rows_frame(0, &[record]) });
    }
    let db = load(&seal_with_end(&frames, 1)).unwrap();
    assert_eq!(file_of(&db), file);
    let last = frames.pop().unwrap();
    frames.push(last.clone());
    frames.push(last);
    assert!(refused(&seal_with_end(&frames, 1)).contains("out of order"));
}
