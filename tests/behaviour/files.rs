//! Snapshot files: byte-identical for equal states, whole or not at all, with progress.

use std::io::{self, Read, Write};

use fsmdb::{
    Applied, Db, LoadOptions, Progress, Revision, SaveOptions, SnapshotError, Table, inspect,
};
use serde::{Deserialize, Serialize};

use crate::frames::{HEADER, ROWS, frames_of, header_of};
use crate::tables::{
    Job, Node, Service, Status, commit, empty, file_of, job, load, node, service, value, with_jobs,
};

/// A database with rows in every table and two commits behind it.
fn filled() -> Db {
    let db = with_jobs((1..=4).map(|id| Job { tags: vec!["t".into()], ..job(id) }));
    commit(&db, |txn| {
        txn.insert(service("prod", "web")).unwrap();
        txn.insert(node(1)).unwrap();
        txn.table_mut::<Job>().update(&2, |job| job.status = Status::Running).unwrap();
        txn.table_mut::<Job>().delete(&3);
    });
    db
}

#[test]
fn saving_what_was_loaded_gives_the_same_bytes() {
    let db = filled();
    let file = file_of(&db);
    let copy = load(&file).unwrap();
    assert_eq!(file_of(&copy), file);
    assert_eq!(file_of(&load(&file_of(&copy)).unwrap()), file);
    copy.check().unwrap();
    let (snap, other) = (db.read(), copy.read());
    assert!(snap.table::<Job>().iter().eq(other.table::<Job>().iter()));
    assert!(snap.table::<Service>().iter().eq(other.table::<Service>().iter()));
    let by_tag = |snap: &fsmdb::Snapshot| {
        crate::tables::ids(snap.table::<Job>().index(Job::BY_TAGS).get("t"))
    };
    assert_eq!(by_tag(&snap), by_tag(&other));
}

#[test]
fn an_empty_database_round_trips() {
    let file = file_of(&empty());
    let copy = load(&file).unwrap();
    assert_eq!(file_of(&copy), file);
    assert_eq!((copy.revision(), copy.read().table::<Job>().len()), (Revision(0), 0));
    let nothing = Db::builder().build().unwrap();
    let file = file_of(&nothing);
    assert_eq!(file_of(&Db::builder().load(file.as_slice()).unwrap()), file);
}

#[test]
fn equal_states_reached_by_different_histories_give_the_same_bytes() {
    let straight = empty();
    commit(&straight, |txn| (1..=100).for_each(|id| drop(txn.insert(job(id)).unwrap())));
    let winding = empty();
    let mut txn = winding.write();
    let savepoint = txn.savepoint();
    txn.insert(job(7)).unwrap();
    txn.rollback_to(&savepoint);
    for id in (1..=150).rev() {
        txn.insert(Job { priority: 3, slot: 1000 + id as u32, ..job(id) }).unwrap();
    }
    txn.table_mut::<Job>().delete_all(101..);
    for id in 1..=100 {
        txn.upsert(job(id)).unwrap();
    }
    txn.commit();
    assert_eq!(file_of(&straight), file_of(&winding));
}

#[test]
fn a_version_saves_the_same_whenever_it_is_saved() {
    let db = filled();
    let snap = db.read();
    let first = file_of(&db);
    commit(&db, |txn| assert!(txn.table_mut::<Job>().delete_all(..) > 0));
    let mut second = Vec::new();
    snap.save(&mut second).unwrap();
    assert_eq!(second, first);
    assert_ne!(file_of(&db), first);
}

#[test]
fn the_order_of_tables_in_the_builder_does_not_matter() {
    let file = file_of(&filled());
    let other = Db::builder().table::<Node>().table::<Job>().table::<Service>();
    let db = other.load(file.as_slice()).unwrap();
    assert_eq!(file_of(&db), file);
    assert_eq!(value(db.read().table::<Node>().get(&1).unwrap()), node(1));
    assert_eq!(header_of(&frames_of(&file)).tables.len(), 3);
}

/// Nomad and Consul write restorers by hand, and 2 of Nomad's 30 tables are lost by a snapshot.
#[test]
fn every_table_of_the_schema_is_in_the_file_without_being_named() {
    let header = header_of(&frames_of(&file_of(&empty())));
    let names: Vec<_> = header.tables.iter().map(|table| table.name.as_str()).collect();
    assert_eq!(names, ["jobs", "nodes", "services"]);
    let indexes: Vec<_> =
        header.tables[0].indexes.iter().map(|index| index.name.as_str()).collect();
    assert_eq!(indexes[..3], ["name", "status", "deployment"]);
    assert!(header.tables[0].indexes[0].unique && !header.tables[0].indexes[1].unique);
}

#[test]
fn inspect_says_what_save_said() {
    let mut file = Vec::new();
    let saved = filled().read().save(&mut file).unwrap();
    let inspected = inspect(file.as_slice()).unwrap();
    assert_eq!(inspected, saved);
    assert_eq!(inspected.bytes, file.len() as u64);
    assert_eq!((inspected.revision, inspected.applied), (Revision(2), Applied::default()));
    assert_eq!(inspected.format_version, 2);
    let rows: Vec<_> =
        inspected.tables.iter().map(|table| (table.name.as_str(), table.rows)).collect();
    assert_eq!(rows, [("jobs", 3), ("nodes", 1), ("services", 1)]);
    assert_eq!(inspected.rows, 5);
    let records: u64 = inspected.tables.iter().map(|table| table.bytes).sum();
    assert!(records < inspected.bytes);
    assert_eq!(inspected.tables[2].version, 3);
    assert_eq!(inspected.tables[0].modified, Revision(2));
    let printed = inspected.to_string();
    assert!(printed.starts_with("revision 2, applied index 0 of term 0, 5 rows, "), "{printed}");
    assert!(printed.contains("\n  services (version 3): 1 rows, "), "{printed}");
}

#[test]
fn the_fingerprint_is_equal_for_equal_schemas_alone() {
    let fingerprint = |file: &[u8]| inspect(file).unwrap().schema_fingerprint;
    let one = fingerprint(&file_of(&empty()));
    assert_eq!(fingerprint(&file_of(&filled())), one);
    let reordered =
        Db::builder().table::<Node>().table::<Service>().table::<Job>().build().unwrap();
    assert_eq!(fingerprint(&file_of(&reordered)), one);
    let fewer = Db::builder().table::<Node>().table::<Service>().build().unwrap();
    assert_ne!(fingerprint(&file_of(&fewer)), one);
}

/// A database whose file has several frames of rows.
fn large() -> Db {
    let db = empty();
    let name = "n".repeat(500);
    commit(&db, |txn| {
        for id in 0..600 {
            txn.insert(Node { id, name: format!("{name}{id}") }).unwrap();
        }
    });
    db
}

#[test]
fn progress_is_told_after_each_frame_of_rows_and_ends_at_all_of_them() {
    let db = large();
    let mut file = Vec::new();
    let mut saved = Vec::new();
    let options = SaveOptions::new().progress(|progress| {
        assert_eq!((progress.table, progress.rows_total), ("nodes", 600));
        saved.push((progress.rows, progress.bytes));
        Progress::CONTINUE
    });
    let summary = db.read().save_with(&mut file, options);
    let bytes = summary.unwrap().bytes;
    let frames = frames_of(&file).iter().filter(|frame| frame.kind == ROWS).count();
    assert!(frames > 3 && saved.len() == frames, "{frames} frames");
    assert!(saved.is_sorted_by(|one, other| one.0 < other.0 && one.1 < other.1));
    assert!(saved.last().unwrap().0 == 600 && saved.last().unwrap().1 < bytes);
    let mut loaded = Vec::new();
    let builder = Db::builder().table::<Job>().table::<Service>().table::<Node>();
    let options = LoadOptions::new().progress(|progress| {
        loaded.push((progress.rows, progress.bytes));
        Progress::CONTINUE
    });
    let copy = builder.load_with(file.as_slice(), options);
    assert_eq!(file_of(&copy.unwrap()), file);
    assert_eq!(loaded, saved);
}

#[test]
fn saving_and_loading_can_be_cancelled_at_any_frame() {
    let db = large();
    let file = file_of(&db);
    for stop_after in 1..4 {
        let cancel = |calls: &mut i32| {
            *calls += 1;
            if *calls == stop_after { Progress::CANCEL } else { Progress::CONTINUE }
        };
        let (mut part, mut calls) = (Vec::new(), 0);
        let saved = db
            .read()
            .save_with(&mut part, SaveOptions::new().progress(|_| cancel(&mut calls)))
            .unwrap_err();
        let SnapshotError::Cancelled { offset } = saved else { panic!("{saved}") };
        assert_eq!((offset, part.as_slice()), (part.len() as u64, &file[..part.len()]));
        assert!(matches!(load(&part), Err(SnapshotError::Truncated { .. })), "a part is no file");
        let mut calls = 0;
        let builder = Db::builder().table::<Job>().table::<Service>().table::<Node>();
        let loaded = builder
            .load_with(file.as_slice(), LoadOptions::new().progress(|_| cancel(&mut calls)))
            .unwrap_err();
        assert!(matches!(loaded, SnapshotError::Cancelled { offset: at } if at == offset));
        assert!(!loaded.is_corrupt());
    }
}

/// Gives `good` bytes and then fails; every read is as short as the caller allows.
struct Failing<'a> {
    good: &'a [u8],
    step: usize,
}

impl Read for Failing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.good.is_empty() {
            return Err(io::Error::other("the disk is gone"));
        }
        let count = buffer.len().min(self.step).min(self.good.len());
        self.good.read(&mut buffer[..count])
    }
}

#[test]
fn a_source_that_fails_at_any_byte_gives_io_with_the_offset_and_changes_nothing() {
    let file = file_of(&filled());
    let db = with_jobs([job(99)]);
    let before = file_of(&db);
    for good in 0..=file.len() {
        let error = db.restore(Failing { good: &file[..good], step: 7 }).unwrap_err();
        let SnapshotError::Io { offset, source } = &error else { panic!("{good}: {error}") };
        assert!(*offset <= good as u64, "{good}: {offset}");
        assert_eq!(source.to_string(), "the disk is gone");
        assert!(!error.is_corrupt());
        let error = inspect(Failing { good: &file[..good], step: 1000 }).unwrap_err();
        assert!(matches!(error, SnapshotError::Io { .. }), "{good}: {error}");
    }
    assert_eq!(file_of(&db), before);
}

/// Reads one byte at a time and is interrupted before each.
struct Slow<'a> {
    bytes: &'a [u8],
    interrupted: bool,
}

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.interrupted = !self.interrupted;
        if self.interrupted {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let count = buffer.len().min(1);
        self.bytes.read(&mut buffer[..count])
    }
}

#[test]
fn a_source_that_gives_single_bytes_and_interrupts_loads() {
    let file = file_of(&filled());
    let slow = || Slow { bytes: &file, interrupted: false };
    let db = empty();
    db.restore(slow()).unwrap();
    assert_eq!(file_of(&db), file);
    assert_eq!(inspect(slow()).unwrap().bytes, file.len() as u64);
}

/// Takes `room` bytes and then fails, or fails when it is flushed.
struct Full {
    room: usize,
    written: Vec<u8>,
    fails_to_flush: bool,
}

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.room - self.written.len()).min(10);
        if count == 0 && !bytes.is_empty() {
            return Err(io::Error::other("no space left"));
        }
        self.written.extend(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.fails_to_flush { Err(io::Error::other("no space left")) } else { Ok(()) }
    }
}

#[test]
fn a_target_that_fails_at_any_byte_gives_io_with_the_offset() {
    let db = filled();
    let file = file_of(&db);
    for room in 0..file.len() {
        let mut target = Full { room, written: Vec::new(), fails_to_flush: false };
        let error = db.read().save(&mut target).unwrap_err();
        assert!(
            matches!(error, SnapshotError::Io { offset, .. } if offset <= room as u64),
            "{error}"
        );
        assert_eq!(target.written, file[..room]);
    }
    let mut target = Full { room: file.len(), written: Vec::new(), fails_to_flush: true };
    let error = db.read().save(&mut target).unwrap_err();
    assert!(matches!(error, SnapshotError::Io { offset, .. } if offset == file.len() as u64));
}

/// rqlite: a failed restore duplicated committed rows.
#[test]
fn a_restore_replaces_everything_and_every_handle_sees_it() {
    let file = file_of(&filled());
    let db = with_jobs((50..60).map(job));
    let (handle, old) = (db.clone(), db.read());
    db.restore(file.as_slice()).unwrap();
    assert_eq!(file_of(&handle), file);
    assert_eq!((handle.revision(), db.revision()), (Revision(2), Revision(2)));
    assert_eq!(old.table::<Job>().len(), 10, "a snapshot from before stays valid");
    old.check().unwrap();
    commit(&handle, |txn| drop(txn.insert(job(77)).unwrap()));
    assert_eq!(db.read().table::<Job>().get(&77).unwrap().created(), Revision(3));
    db.check().unwrap();
}

/// etcd: two snapshots in short time.
#[test]
fn a_restore_can_follow_a_restore() {
    let (one, other) = (file_of(&filled()), file_of(&with_jobs([job(1)])));
    let db = empty();
    for file in [&one, &other, &one, &one] {
        db.restore(file.as_slice()).unwrap();
        assert_eq!(&file_of(&db), file);
    }
}

#[test]
fn a_restore_that_fails_leaves_the_old_state_and_the_writer_free() {
    let db = filled();
    let before = file_of(&db);
    let mut file = file_of(&with_jobs([job(1)]));
    file.pop();
    assert!(db.restore(file.as_slice()).unwrap_err().is_corrupt());
    assert!(db.restore(&b"no snapshot"[..]).unwrap_err().is_corrupt());
    assert_eq!(file_of(&db), before);
    assert!(db.try_write().is_ok());
}

#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
struct Tree {
    children: Vec<Tree>,
}

impl Tree {
    fn of_depth(depth: usize) -> Self {
        (0..depth).fold(Self::default(), |child, _| Self { children: vec![child] })
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Leaf,
    Node(Box<Shape>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Table)]
#[table(name = "deep")]
struct Deep {
    #[key]
    id: u64,
    tree: Tree,
    shape: Shape,
}

/// rmpv encoded a depth of 3,000 and refused to decode beyond 1,024.
#[test]
fn whatever_depth_can_be_saved_can_be_loaded_and_deeper_rows_are_refused_by_name() {
    let mut refused = [0, 0];
    for depth in 1..240 {
        let shape = (0..depth).fold(Shape::Leaf, |shape, _| Shape::Node(Box::new(shape)));
        let rows = [
            Deep { id: 7, tree: Tree::of_depth(depth), shape: Shape::Leaf },
            Deep { id: 7, tree: Tree::default(), shape },
        ];
        for (kind, row) in rows.into_iter().enumerate() {
            let db = Db::builder().table::<Deep>().build().unwrap();
            commit(&db, |txn| drop(txn.insert(row.clone()).unwrap()));
            let mut file = Vec::new();
            match db.read().save(&mut file) {
                Ok(saved) => {
                    assert_eq!(refused[kind], 0, "a deeper row after a refused one");
                    let copy = Db::builder().table::<Deep>().load(file.as_slice());
                    let copy = copy.unwrap_or_else(|error| panic!("depth {depth}: {error}"));
                    assert_eq!(copy.read().table::<Deep>().get(&7).unwrap().value(), &row);
                    assert_eq!(inspect(file.as_slice()).unwrap(), saved, "depth {depth}");
                }
                Err(SnapshotError::RowEncode { table, key, .. }) => {
                    assert_eq!((table.as_str(), key.as_str()), ("deep", "7"));
                    refused[kind] += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(refused.iter().all(|count| *count > 50), "{refused:?}");
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Table)]
#[table(name = "blobs")]
struct Blob {
    #[key]
    id: u64,
    bytes: String,
}

#[test]
fn a_row_larger_than_the_limit_is_refused_by_name_and_the_largest_is_saved() {
    let limit = fsmdb::limits::ROW_BYTES_MAX;
    let save = |bytes: usize| {
        let db = Db::builder().table::<Blob>().build().unwrap();
        commit(&db, |txn| drop(txn.insert(Blob { id: 3, bytes: "b".repeat(bytes) }).unwrap()));
        let mut file = Vec::new();
        db.read().save(&mut file).map(|summary| (summary, file))
    };
    let (summary, _) = save(1_000_000).unwrap();
    // What stands before the row's MessagePack is its key with the length of that, and the head of
    // an array with two small revisions.
    let before = 2 + 8 + 1 + 1 + 1;
    let envelope = summary.tables[0].bytes as usize - 1_000_000 - before;
    let (summary, file) = save(limit - envelope).unwrap();
    assert_eq!(summary.tables[0].bytes, (limit + before) as u64);
    assert_eq!(inspect(file.as_slice()).unwrap(), summary);
    Db::builder().table::<Blob>().load(file.as_slice()).unwrap();
    let error = save(limit - envelope + 1).unwrap_err();
    let SnapshotError::RowTooLarge { table, key, bytes, limit: told } = error else {
        panic!("{error}")
    };
    assert_eq!((table.as_str(), key.as_str()), ("blobs", "3"));
    assert_eq!((bytes, told), (limit as u64 + 1, limit as u64));
}

#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "moody")]
struct Moody {
    #[key]
    id: u64,
    #[serde(serialize_with = "refuse_odd")]
    value: u64,
}

fn refuse_odd<S: serde::Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    if value % 2 == 1 {
        Err(serde::ser::Error::custom("odd"))
    } else {
        serializer.serialize_u64(*value)
    }
}

#[test]
fn a_row_that_cannot_be_encoded_is_refused_by_name() {
    let db = Db::builder().table::<Moody>().build().unwrap();
    commit(&db, |txn| (1..4).for_each(|id| drop(txn.insert(Moody { id, value: id * 4 }).unwrap())));
    db.read().save(io::sink()).unwrap();
    commit(&db, |txn| drop(txn.upsert(Moody { id: 2, value: 5 }).unwrap()));
    let error = db.read().save(io::sink()).unwrap_err();
    let SnapshotError::RowEncode { table, key, message } = &error else { panic!("{error}") };
    assert_eq!((table.as_str(), key.as_str()), ("moody", "2"));
    assert!(message.contains("odd"), "{message}");
    assert!(!error.is_corrupt());
}

#[test]
fn a_field_may_be_added_with_a_default_and_a_removed_one_is_ignored() {
    #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    #[table(name = "nodes")]
    struct NewNode {
        #[key]
        id: u64,
        #[serde(default)]
        zone: String,
    }
    let db = Db::builder().table::<Node>().build().unwrap();
    commit(&db, |txn| drop(txn.insert(node(1)).unwrap()));
    let copy = Db::builder().table::<NewNode>().load(file_of(&db).as_slice()).unwrap();
    assert_eq!(copy.read().table::<NewNode>().get(&1).unwrap().zone, "");
}

#[test]
fn the_frames_of_a_file_are_a_header_rows_by_table_and_an_end() {
    let file = file_of(&filled());
    let frames = frames_of(&file);
    let kinds: Vec<_> = frames.iter().map(|frame| frame.kind).collect();
    assert_eq!(kinds, [HEADER, ROWS, ROWS, ROWS, crate::frames::END]);
    let sealed = crate::frames::seal_with_end(&frames[..4], 5);
    assert_eq!(sealed, file, "the layout is what its documentation says");
}

#[test]
fn a_file_tells_the_names_of_the_key_fields_as_rows_have_them() {
    #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    #[table(name = "renamed")]
    struct Renamed {
        #[key]
        #[serde(rename = "tenant-id", alias = "tenant")]
        tenant: String,
        #[key]
        r#type: u8,
    }
    #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    #[serde(rename_all = "camelCase")]
    #[table(name = "unknown")]
    struct Unknown {
        #[key]
        some_id: u8,
    }
    assert_eq!(Renamed::KEY_FIELDS, ["tenant-id", "type"]);
    assert!(Unknown::KEY_FIELDS.is_empty(), "it is not guessed");
    let db = Db::builder().table::<Renamed>().table::<Unknown>().build().unwrap();
    let summary = inspect(file_of(&db).as_slice()).unwrap();
    assert_eq!(summary.tables[0].key, ["tenant-id", "type"]);
    assert!(summary.tables[1].key.is_empty());
}
