//! What a file may have of everything: the reader refuses more, the writer does not write it, and
//! whatever a statement accepts can be saved.

use fsmdb::limits::{
    DEPTH_MAX, INDEXES_PER_TABLE_MAX, KEY_FIELDS_MAX, NAME_BYTES_MAX, ROW_BYTES_MAX, SECTIONS_MAX,
    TABLES_MAX,
};
use fsmdb::offline::{Item, OfflineError, OfflineReader, OfflineWriter, Selection, Source, filter};
use fsmdb::{
    Db, IndexDef, KeyBuf, LoadOptions, MigrationError, SaveOptions, SchemaError, SnapshotError,
    Table, Value, encode, inspect,
};
use serde::{Deserialize, Serialize};

use crate::frames::{
    Frame, IndexHeader, SECTION, TABLE_END, TableEnd, TableHeader, all_frames_at, change_header,
    encoded, frames_of, record_of, record_with, records_of, rows_frame, seal_as_it_is,
    seal_with_end,
};
use crate::tables::{Job, Node, Service, commit, empty, file_of, job, node};

/// The schema of a program that does not know of nodes.
fn fewer() -> fsmdb::Builder {
    Db::builder().table::<Job>().table::<Service>()
}

fn carry<'a>() -> LoadOptions<'a> {
    LoadOptions::new().unknown_tables_are_carried()
}

/// A file with a job and three nodes.
fn with_nodes() -> Vec<u8> {
    let db = empty();
    commit(&db, |txn| {
        txn.insert(job(1)).unwrap();
        (1..=3).for_each(|id| drop(txn.insert(node(id)).unwrap()));
    });
    file_of(&db)
}

/// The frames of that file without its ends: header, jobs, nodes.
fn frames_of_nodes() -> Vec<Frame> {
    let mut frames = frames_of(&with_nodes());
    frames.pop();
    frames
}

/// What loading says of a file whose nodes are carried; inspecting says the same.
fn refused_where_carried(file: &[u8]) -> SnapshotError {
    let carried = fewer().load_with(file, carry()).expect_err("nodes are verified when carried");
    let inspected = inspect(file).expect_err("a bad file is refused by inspect");
    assert_eq!(carried.to_string(), inspected.to_string());
    let mut reader = OfflineReader::new(file, None).unwrap();
    let read = std::iter::from_fn(|| reader.read_item().map(|item| item.map(drop)).transpose());
    let read = read.last().unwrap().expect_err("a bad file is refused by the tools");
    assert_eq!(carried.to_string(), read.to_string());
    carried
}

#[test]
fn keys_of_carried_rows_that_repeat_or_descend_are_refused_by_loading_as_by_inspecting() {
    for order in [&[1, 0, 2][..], &[0, 0, 2], &[0, 2, 1]] {
        let mut frames = frames_of_nodes();
        let records = records_of(&frames[2]);
        let ordered: Vec<_> = order.iter().map(|at| records[*at].clone()).collect();
        frames[2] = rows_frame(1, &ordered);
        let error = refused_where_carried(&seal_with_end(&frames, 4));
        assert!(matches!(&error, SnapshotError::Row { table, .. } if table == "nodes"), "{error}");
        // Also when each stands in a frame of its own.
        frames.remove(2);
        let each = ordered.chunks(1).map(|record| rows_frame(1, record));
        frames.splice(2..2, each);
        refused_where_carried(&seal_with_end(&frames, 4));
    }
}

#[test]
fn carried_rows_that_are_none_are_refused_by_loading_as_by_inspecting() {
    let key = 2_u64.to_be_bytes();
    let bad: [(&str, Vec<u8>); 8] = [
        ("empty", record_with(&key, &[])),
        ("no MessagePack", record_with(&key, &[0xC1])),
        ("cut off", record_with(&key, &[0x93, 1, 1])),
        ("going on", record_with(&key, &[0x93, 1, 1, 0xC0, 0xC0])),
        ("no revisions", record_with(&key, &[0x91, 0xC0])),
        ("changed before created", record_of(2, &(1_u64, 0_u64, node(2)))),
        ("later than its table", record_of(2, &(1_u64, 2_u64, node(2)))),
        ("no key", vec![9]),
    ];
    for (what, record) in bad {
        let mut frames = frames_of_nodes();
        let mut records = records_of(&frames[2]);
        records[1] = record;
        frames[2] = rows_frame(1, &records);
        let error = refused_where_carried(&seal_with_end(&frames, 4));
        assert!(error.is_corrupt(), "{what}: {error}");
    }
    let mut frames = frames_of_nodes();
    frames[2].payload.push(0);
    refused_where_carried(&seal_with_end(&frames, 4));
}

/// As careful a forger as there can be, but for one thing.
#[test]
fn counts_and_digests_of_carried_tables_that_lie_are_refused() {
    let lies: [fn(&mut TableEnd); 3] =
        [|end| end.digest.0[0] ^= 1, |end| end.rows += 1, |end| end.bytes += 1];
    for lie in lies {
        let mut frames: Vec<_> =
            all_frames_at(&with_nodes()).into_iter().map(|(_, frame)| frame).collect();
        frames.pop();
        let ends = frames.iter_mut().filter(|frame| frame.kind == TABLE_END);
        let end = { ends }.nth(1).expect("that of nodes");
        let mut told: TableEnd = rmp_serde::from_slice(&end.payload).unwrap();
        lie(&mut told);
        *end = encoded(TABLE_END, &told);
        let error = refused_where_carried(&seal_as_it_is(&frames, 4));
        assert!(error.is_corrupt(), "{error}");
    }
    let mut frames = frames_of_nodes();
    change_header(&mut frames, |header| header.tables[1].rows = 2);
    let error = refused_where_carried(&seal_with_end(&frames, 4));
    assert!(matches!(error, SnapshotError::RowCount { expected: 2, .. }), "{error}");
}

/// camunda: what a node did not know was lost or changed on its way through it.
#[test]
fn a_file_that_was_carried_and_saved_is_the_same_to_the_byte_and_so_is_one_that_was_filtered() {
    let file = with_nodes();
    let older = fewer().load_with(file.as_slice(), carry()).unwrap();
    let saved = file_of(&older);
    assert!(saved == file, "the fingerprint is that of all tables in the file");
    let mut kept = Vec::new();
    filter(&Source::bytes(&saved), &mut kept, &Selection::new(), SaveOptions::new()).unwrap();
    assert!(kept == saved);
    // A table that is left out and was never there come to the same.
    let mut part = Vec::new();
    let selection = Selection::new().without_table("jobs").without_table("services");
    filter(&Source::bytes(&saved), &mut part, &selection, SaveOptions::new()).unwrap();
    let nodes = Db::builder().table::<Node>().load(part.as_slice()).unwrap();
    assert!(file_of(&nodes) == part);
}

#[test]
fn empty_frames_of_carried_tables_are_not_kept() {
    let mut frames = frames_of_nodes();
    frames.splice(2..2, (0..1000).map(|_| rows_frame(1, &[])));
    let file = seal_with_end(&frames, 4);
    let older = fewer().load_with(file.as_slice(), carry()).unwrap();
    assert!(file_of(&older) == with_nodes());
}

/// Header alone, and the ends of its tables.
fn with_tables(tables: Vec<TableHeader>) -> Vec<u8> {
    let mut frames = frames_of(&file_of(&Db::builder().table::<Node>().build().unwrap()));
    frames.pop();
    change_header(&mut frames, |header| header.tables = tables);
    seal_with_end(&frames, 0)
}

fn table(name: String) -> TableHeader {
    let (key, indexes) = (Vec::new(), Vec::new());
    TableHeader { name, version: 1, rows: 0, modified: 0, key, indexes, removals: None }
}

fn index(name: String) -> IndexHeader {
    IndexHeader { name, unique: false }
}

#[test]
fn a_state_with_more_tables_than_a_file_may_have_is_not_saved_and_nothing_is_written() {
    let file = with_tables((0..TABLES_MAX).map(|n| table(format!("t{n:05}"))).collect());
    let options = || carry().missing_tables_are_empty();
    let exact = Db::builder().load_with(file.as_slice(), options()).unwrap();
    assert!(file_of(&exact).len() > 12, "as many as the limit are saved");
    let db = fewer().load_with(file.as_slice(), options()).unwrap();
    let mut target = Vec::new();
    let error = db.read().save(&mut target).unwrap_err();
    let SnapshotError::TooMany { what: "tables", found, limit } = error else { panic!("{error}") };
    assert_eq!((found, limit), (TABLES_MAX as u64 + 2, TABLES_MAX as u64));
    assert!(target.is_empty());
    let base = db.read();
    let error = db.read().save_since(&base, &mut target, SaveOptions::new()).unwrap_err();
    assert!(matches!(error, SnapshotError::TooMany { what: "tables", .. }), "{error}");
    assert!(target.is_empty());
}

#[test]
fn names_and_numbers_in_a_header_are_taken_up_to_their_limits_and_no_further() {
    let name = |bytes: usize| "n".repeat(bytes);
    let names = |count: usize| (0..count).map(|n| format!("{n:0NAME_BYTES_MAX$}"));
    let most = TableHeader {
        key: names(KEY_FIELDS_MAX).collect(),
        indexes: names(INDEXES_PER_TABLE_MAX).map(index).collect(),
        ..table(name(NAME_BYTES_MAX))
    };
    let file = with_tables(vec![most.clone()]);
    inspect(file.as_slice()).unwrap();
    let older = Db::builder().load_with(file.as_slice(), carry()).unwrap();
    inspect(file_of(&older).as_slice()).unwrap();
    for beyond in [
        table(name(NAME_BYTES_MAX + 1)),
        TableHeader { key: vec![name(NAME_BYTES_MAX + 1)], ..most.clone() },
        TableHeader { indexes: vec![index(name(NAME_BYTES_MAX + 1))], ..most.clone() },
        TableHeader { key: names(KEY_FIELDS_MAX + 1).collect(), ..most.clone() },
        TableHeader {
            indexes: names(INDEXES_PER_TABLE_MAX + 1).map(index).collect(),
            ..most.clone()
        },
    ] {
        let file = with_tables(vec![beyond]);
        let inspected = inspect(file.as_slice()).unwrap_err();
        assert!(matches!(inspected, SnapshotError::Malformed { offset: 12, .. }), "{inspected}");
        let loaded = Db::builder().load_with(file.as_slice(), carry()).unwrap_err();
        assert_eq!(loaded.to_string(), inspected.to_string());
    }
    let reader = OfflineReader::new(file.as_slice(), None).unwrap();
    let mut head = reader.head().clone();
    head.tables[0].key.push("one more".into());
    let mut target = Vec::new();
    let refused = OfflineWriter::new(&mut target, &head, SaveOptions::new()).unwrap_err();
    assert!(matches!(refused, OfflineError::Unwritable { .. }), "{refused}");
    assert!(target.is_empty());
}

/// A table by hand that says more of its key than a file can.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Talkative<const FIELDS: usize, const BYTES: usize>;

const LONG: &str = match str::from_utf8(&[b'f'; NAME_BYTES_MAX + 1]) {
    Ok(name) => name,
    Err(_) => panic!(),
};

impl<const FIELDS: usize, const BYTES: usize> Table for Talkative<FIELDS, BYTES> {
    type Key = u64;
    const NAME: &'static str = "talkative";
    const VERSION: u32 = 1;
    const KEY_FIELDS: &'static [&'static str] = &[LONG.split_at(BYTES).0; FIELDS];

    fn encode_primary_key(&self, out: &mut KeyBuf) {
        out.extend(&encode::<u64, _>(&0_u64));
    }

    fn indexes() -> Vec<IndexDef<Self>> {
        Vec::new()
    }
}

#[test]
fn a_schema_whose_key_fields_no_file_can_have_is_refused_when_it_is_built() {
    let most = Db::builder().table::<Talkative<KEY_FIELDS_MAX, NAME_BYTES_MAX>>().build();
    inspect(file_of(&most.unwrap()).as_slice()).unwrap();
    let refused = |builder: fsmdb::Builder| match builder.build().unwrap_err() {
        SchemaError::TooMany { what, limit } => (what, limit),
        error => panic!("{error}"),
    };
    let (what, limit) = refused(Db::builder().table::<Talkative<{ KEY_FIELDS_MAX + 1 }, 1>>());
    assert_eq!((what.as_str(), limit), ("key fields of table talkative", KEY_FIELDS_MAX));
    let (what, limit) = refused(Db::builder().table::<Talkative<1, { NAME_BYTES_MAX + 1 }>>());
    let expected = "bytes of a name of a key field of table talkative";
    assert_eq!((what.as_str(), limit), (expected, NAME_BYTES_MAX));
}

fn section(name: &str) -> Frame {
    Frame { kind: SECTION, payload: [&[name.len() as u8], name.as_bytes()].concat() }
}

#[test]
fn more_sections_than_the_limit_are_refused_by_readers_and_by_the_writer() {
    let mut frames = frames_of(&file_of(&Db::builder().build().unwrap()));
    frames.pop();
    frames.extend((0..SECTIONS_MAX).map(|_| section("")));
    let file = seal_with_end(&frames, 0);
    let db = Db::builder().load(file.as_slice()).unwrap();
    assert!(file_of(&db) == file, "as many as the limit are kept");
    frames.push(section(""));
    let file = seal_with_end(&frames, 0);
    for error in [Db::builder().load(file.as_slice()).err(), inspect(file.as_slice()).err()] {
        let Some(SnapshotError::TooMany { what: "sections", found, limit }) = error else {
            panic!("{error:?}")
        };
        assert_eq!((found, limit), (SECTIONS_MAX as u64 + 1, SECTIONS_MAX as u64));
    }
    let reader = OfflineReader::new(file.as_slice(), None).unwrap();
    let mut writer = OfflineWriter::new(Vec::new(), reader.head(), SaveOptions::new()).unwrap();
    let item = Item::Section { name: "", content: b"" };
    (0..SECTIONS_MAX).for_each(|_| writer.write(&item).unwrap());
    assert!(matches!(writer.write(&item), Err(OfflineError::Unwritable { .. })));
}

#[test]
fn deletes_of_an_incremental_file_count_for_the_limit_of_bytes() {
    let db = empty();
    commit(&db, |txn| (0..1000).for_each(|id| drop(txn.insert(node(id)).unwrap())));
    let (base, whole) = (db.read(), file_of(&db));
    commit(&db, |txn| assert_eq!(txn.table_mut::<Node>().delete_all(..), 1000));
    let mut link = Vec::new();
    db.read().save_since(&base, &mut link, SaveOptions::new()).unwrap();
    let copy = crate::tables::load(&whole).unwrap();
    let limited = |bytes| LoadOptions::new().bytes_max(bytes);
    let error = copy.apply_incremental(link.as_slice(), limited(7_999)).unwrap_err();
    let SnapshotError::TooMany { what: "bytes", found, limit: 7_999 } = error else {
        panic!("{error}")
    };
    assert_eq!(found, 8_000, "a key has eight bytes");
    copy.apply_incremental(link.as_slice(), limited(8_000)).unwrap();
    assert!(file_of(&copy) == file_of(&db));
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Table)]
#[table(name = "texts")]
struct Text {
    #[key]
    id: u64,
    text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tree: Option<Box<Tree>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Tree(Vec<Tree>);

fn text(bytes: usize) -> Text {
    Text { id: 1, text: "x".repeat(bytes), tree: None }
}

/// How many bytes of a large row are not its text.
fn around_text() -> usize {
    rmp_serde::to_vec_named(&text(1 << 16)).unwrap().len() - (1 << 16)
}

/// Saves, inspects, loads and copies what is in `db`.
fn assert_it_can_be_saved(db: &Db) {
    let file = file_of(db);
    inspect(file.as_slice()).unwrap();
    let copy = Db::builder().table::<Text>().load(file.as_slice()).unwrap();
    assert!(file_of(&copy) == file);
    let mut kept = Vec::new();
    filter(&Source::bytes(&file), &mut kept, &Selection::new(), SaveOptions::new()).unwrap();
    assert!(kept == file);
}

#[test]
fn the_largest_row_that_a_statement_accepts_can_be_saved() {
    let db = Db::builder().table::<Text>().keep_digests().build().unwrap();
    // Revisions of several bytes each stand before the value.
    while db.revision().0 < 300 {
        db.write().commit();
    }
    commit(&db, |txn| {
        txn.insert(text(ROW_BYTES_MAX - around_text())).unwrap();
        let larger = text(ROW_BYTES_MAX - around_text() + 1);
        assert!(txn.upsert(larger).is_err());
    });
    assert_it_can_be_saved(&db);
    // Without digests nobody looks before it is saved.
    let careless = Db::builder().table::<Text>().build().unwrap();
    commit(&careless, |txn| drop(txn.insert(text(ROW_BYTES_MAX - around_text() + 1)).unwrap()));
    let error = careless.read().save(&mut Vec::new()).unwrap_err();
    let SnapshotError::RowTooLarge { bytes, limit, .. } = error else { panic!("{error}") };
    assert_eq!((bytes, limit), (ROW_BYTES_MAX as u64 + 1, ROW_BYTES_MAX as u64));
}

#[test]
fn a_row_larger_than_the_limit_is_refused_in_a_file_too() {
    let db = Db::builder().table::<Text>().build().unwrap();
    commit(&db, |txn| drop(txn.insert(text(0)).unwrap()));
    let header = frames_of(&file_of(&db))[0].clone();
    let file_with = |bytes: usize| {
        let record = record_of(1, &(1_u64, 1_u64, text(bytes - around_text())));
        let rows = rows_frame(0, &[record]).payload;
        // A frame of rows goes on in chunks.
        let mut pieces: Vec<_> = rows
            .chunks(fsmdb::limits::CHUNK_BYTES_MAX)
            .map(|piece| Frame { kind: 0x82, payload: piece.to_vec() })
            .collect();
        pieces.last_mut().unwrap().kind = 2;
        let ends =
            crate::frames::with_table_ends(&[header.clone(), Frame { kind: 2, payload: rows }]);
        let end = ends.last().unwrap().clone();
        seal_as_it_is(&[&[header.clone()][..], &pieces, &[end]].concat(), 1)
    };
    Db::builder().table::<Text>().load(file_with(ROW_BYTES_MAX).as_slice()).unwrap();
    let file = file_with(ROW_BYTES_MAX + 1);
    assert!(Db::builder().table::<Text>().load(file.as_slice()).unwrap_err().is_corrupt());
    assert!(inspect(file.as_slice()).unwrap_err().is_corrupt());
}

#[test]
fn the_deepest_row_that_a_statement_accepts_can_be_saved() {
    let deep = |depth: usize| {
        let tree = (1..depth).fold(Tree(Vec::new()), |tree, _| Tree(vec![tree]));
        Text { tree: Some(Box::new(tree)), ..text(0) }
    };
    let db = Db::builder().table::<Text>().keep_digests().build().unwrap();
    let mut txn = db.write();
    let deepest = (1..=DEPTH_MAX + 2).rev().find(|depth| txn.upsert(deep(*depth)).is_ok());
    assert!(deepest.unwrap() + 3 >= DEPTH_MAX, "{deepest:?}");
    txn.commit();
    assert_it_can_be_saved(&db);
}

/// A row that its migration makes this long; it was short before.
#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "texts", version = 2, migrate = lengthen)]
struct Longer {
    #[key]
    id: u64,
    text: String,
}

fn lengthen(_: u32, row: &mut Value) -> Result<(), MigrationError> {
    let bytes = row.get("text").and_then(Value::as_text).and_then(|text| text.parse().ok());
    row.set("text", "y".repeat(bytes.ok_or("a number of bytes is needed")?))?;
    Ok(())
}

#[test]
fn rows_that_a_migration_makes_larger_than_the_limit_are_refused() {
    let of = |bytes: usize| {
        let db = Db::builder().table::<Text>().build().unwrap();
        let row = Text { id: 7, text: bytes.to_string(), tree: None };
        commit(&db, |txn| drop(txn.insert(row).unwrap()));
        Db::builder().table::<Longer>().load(file_of(&db).as_slice())
    };
    let largest = ROW_BYTES_MAX - around_text();
    inspect(file_of(&of(largest).unwrap()).as_slice()).unwrap();
    let error = of(largest + 1).unwrap_err();
    let SnapshotError::RowTooLarge { table, key, bytes, limit } = error else { panic!("{error}") };
    assert_eq!((table.as_str(), key.as_str()), ("texts", "7"));
    assert_eq!((bytes, limit), (ROW_BYTES_MAX as u64 + 1, ROW_BYTES_MAX as u64));
}
