//! Tools for snapshot files that know no type of any row: what they write is what a database would
//! have saved, and what they tell is what a snapshot tells.

use std::ops::ControlFlow;

use fsmdb::offline::{
    Item as Part, OfflineError, OfflineReader, OfflineWriter, Redaction, Selection, Source,
    StoredRow, StoredTombstone, compact, diff, filter, redact, replace,
};
use fsmdb::{
    ChangeKind, Db, LoadOptions, Progress, Revision, SaveOptions, Snapshot, SnapshotError, Table,
    Value, inspect,
};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use crate::chains::{Item, Note, builder, play, put, since, step};
use crate::frames::{Frame, all_frames_at, frames_at, header_of, seal_with_end};
use crate::tables::file_of;

const SECTION: u8 = 5;

fn saved(snap: &Snapshot) -> Vec<u8> {
    let mut file = Vec::new();
    snap.save(&mut file).unwrap();
    file
}

/// The file, read and written again.
fn copied(source: &Source<'_>, options: SaveOptions<'_>) -> Vec<u8> {
    let mut reader = source.reader().unwrap();
    let mut copy = Vec::new();
    let mut writer = OfflineWriter::new(&mut copy, reader.head(), options).unwrap();
    while let Some(item) = reader.read_item().unwrap() {
        writer.write(&item).unwrap();
    }
    assert_eq!(writer.finish().unwrap().tables, reader.summary().unwrap().tables);
    copy
}

fn compacted(chain: &[Vec<u8>]) -> Result<Vec<u8>, OfflineError> {
    let sources: Vec<_> = chain.iter().map(|file| Source::bytes(file)).collect();
    let mut target = Vec::new();
    compact(&sources, &mut target, SaveOptions::new())?;
    Ok(target)
}

/// Every row of a file: its table, key and value.
fn rows_of(file: &[u8]) -> Vec<(String, Vec<u8>, Value)> {
    let mut reader = OfflineReader::new(file, None).unwrap();
    let heads = reader.head().tables.clone();
    let (mut begun, mut rows) = (0, Vec::new());
    while let Some(item) = reader.read_item().unwrap() {
        match item {
            Part::Table(_) => begun += 1,
            Part::Row(row) => {
                let table = &heads[begun - 1];
                rows.push((table.name.clone(), row.key.to_vec(), row.value(table).unwrap()));
            }
            _ => (),
        }
    }
    rows
}

/// What a snapshot says of the difference, in the words of a file.
fn told_by_snapshots(older: &Snapshot, newer: &Snapshot) -> Vec<(String, Vec<u8>, ChangeKind)> {
    let changes = newer.diff_all(older);
    changes.map(|change| (change.table().into(), change.key().to_vec(), change.kind())).collect()
}

fn told_by_files(older: &[u8], newer: &[u8]) -> Vec<(String, Vec<u8>, ChangeKind)> {
    let mut told = Vec::new();
    let totals = diff(&Source::bytes(older), &Source::bytes(newer), |row| {
        let kind = match (row.before, row.after) {
            (None, _) => ChangeKind::Created,
            (_, None) => ChangeKind::Deleted,
            _ => ChangeKind::Updated,
        };
        told.push((row.table.name.clone(), row.key.to_vec(), kind));
        ControlFlow::Continue(())
    })
    .unwrap();
    let count = |kind| told.iter().filter(|(_, _, found)| *found == kind).count() as u64;
    assert_eq!(totals.created, count(ChangeKind::Created));
    assert_eq!(totals.updated, count(ChangeKind::Updated));
    assert_eq!(totals.deleted, count(ChangeKind::Deleted));
    assert_eq!(totals.is_empty(), told.is_empty());
    told
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn files_are_copied_compacted_and_compared_as_a_database_would(
        steps in prop::collection::vec(step(), 0..60),
        incarnation in 0..2_u128,
    ) {
        let db = builder().incarnation(fsmdb::Incarnation(incarnation)).build().unwrap();
        let marks = play(&db, &steps);
        let mut chain = vec![saved(&marks[0])];
        chain.extend(marks.windows(2).map(|pair| since(&pair[1], &pair[0])));
        for (file, length) in chain.iter().zip(1..) {
            prop_assert!(copied(&Source::bytes(file), SaveOptions::new()) == *file);
            prop_assert!(compacted(&chain[..length]).unwrap() == saved(&marks[length - 1]));
        }
        let (first, last) = (&marks[0], &marks[marks.len() - 1]);
        for (older, newer) in [(first, last), (last, first), (&marks[marks.len() / 2], last)] {
            let expected = told_by_snapshots(older, newer);
            prop_assert_eq!(told_by_files(&saved(older), &saved(newer)), expected);
        }
    }

    #[test]
    fn a_filter_keeps_exactly_what_it_is_asked_for(
        steps in prop::collection::vec(step(), 0..60),
        prefix in 0..12_u8,
        group in 0..3_i64,
        drops_notes in any::<bool>(),
    ) {
        let db = builder().build().unwrap();
        play(&db, &steps);
        let file = file_of(&db);
        let (source, mut kept) = (Source::bytes(&file), Vec::new());
        let mut selection = Selection::new()
            .key_prefix(fsmdb::encode(&prefix).as_slice())
            .key_prefix(fsmdb::encode(&11_u8).as_slice())
            .rows(|table, row| {
                table.name == "notes" || row.field("group") != Some(Value::Int(group))
            });
        if drops_notes {
            selection = selection.without_table("notes");
        }
        let summary = filter(&source, &mut kept, &selection, SaveOptions::new()).unwrap();
        prop_assert_eq!(inspect(kept.as_slice()).unwrap(), summary);
        let is_kept = |(table, key, value): &(String, Vec<u8>, Value)| {
            let is_asked = *key == fsmdb::encode(&prefix).as_slice()
                || *key == fsmdb::encode(&11_u8).as_slice();
            let is_of_group = table == "items" && value.get("group") == Some(&Value::Int(group));
            is_asked && !is_of_group && !(drops_notes && table == "notes")
        };
        let expected: Vec<_> = rows_of(&file).into_iter().filter(is_kept).collect();
        prop_assert_eq!(rows_of(&kept), expected);
        let options = LoadOptions::new().missing_tables_are_empty();
        let part = builder().load_with(kept.as_slice(), options).unwrap();
        part.check().unwrap();
        // What it keeps of everything is everything.
        let mut all = Vec::new();
        filter(&source, &mut all, &Selection::new(), SaveOptions::new()).unwrap();
        prop_assert!(all == file);
    }
}

/// Rows, deletes and tombstones of many frames and batches.
fn large() -> (Db, Snapshot, Snapshot) {
    let db = Db::builder().table::<Page>().build().unwrap();
    let page = |id: u32, length: usize| {
        let name = format!("{id:04}-{}", "n".repeat(180));
        Page { name, text: "t".repeat(length) }
    };
    let mut txn = db.write();
    for id in 0..2500 {
        txn.insert(page(id, if id % 500 == 0 { 80_000 } else { id as usize % 300 })).unwrap();
    }
    txn.insert(page(9000, 3 * 1024 * 1024)).unwrap();
    txn.commit();
    let before = db.read();
    let mut txn = db.write();
    for id in 0..1200 {
        txn.table_mut::<Page>().delete(page(id, 0).name.as_str());
    }
    for id in 1200..2300 {
        txn.upsert(page(id, 7)).unwrap();
    }
    txn.commit();
    let after = db.read();
    (db, before, after)
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Table)]
#[table(name = "pages", tombstones = 2000)]
struct Page {
    #[key]
    name: String,
    text: String,
}

#[test]
fn frames_end_where_saving_ends_them() {
    let (_db, before, after) = large();
    let chain = [saved(&before), since(&after, &before)];
    for file in chain.iter().chain([&saved(&after)]) {
        assert!(frames_at(file).len() > 5, "there are many frames");
        assert!(copied(&Source::bytes(file), SaveOptions::new()) == *file);
    }
    assert!(compacted(&chain).unwrap() == saved(&after));
}

#[test]
#[cfg(all(feature = "zstd", feature = "encryption"))]
fn a_copy_can_be_compressed_and_encrypted_and_plain_again() {
    let (_db, before, after) = large();
    let key = fsmdb::EncryptionKey::new([7; 32]);
    for file in [saved(&after), since(&after, &before)] {
        let options = SaveOptions::new().compress(3).encrypt(&key);
        let sealed = copied(&Source::bytes(&file), options);
        assert!(sealed.len() < file.len());
        let source = Source::bytes(&sealed).decrypt(&key);
        assert!(copied(&source, SaveOptions::new()) == file);
        assert!(matches!(
            Source::bytes(&sealed).reader(),
            Err(OfflineError::Snapshot(SnapshotError::NoKey))
        ));
    }
    let mut compressed = Vec::new();
    after.save_with(&mut compressed, SaveOptions::new().compress(3)).unwrap();
    let source = Source::bytes(&compressed);
    assert!(copied(&source, SaveOptions::new().compress(3)) == compressed);
}

#[test]
fn the_golden_file_is_copied_and_one_without_keys_is_refused() {
    let golden = include_bytes!("../data/format-2.snapshot");
    assert!(copied(&Source::bytes(golden), SaveOptions::new()) == golden);
    let old = include_bytes!("../data/format-1.snapshot");
    let error = Source::bytes(old).reader().unwrap_err();
    assert!(matches!(error, OfflineError::NoKeys { found: 1 }), "{error}");
}

/// A file that has a section, and a table that its schema does not have.
fn with_unknown() -> Vec<u8> {
    let db = builder().build().unwrap();
    put(&db, 3, "three");
    let mut frames: Vec<Frame> = frames_at(&file_of(&db)).into_iter().map(|(_, f)| f).collect();
    frames.pop();
    for content in ["one", "two"] {
        let payload = [b"\x05extra", content.as_bytes()].concat();
        frames.push(Frame { kind: SECTION, payload });
    }
    seal_with_end(&frames, 1)
}

#[test]
fn what_is_unknown_goes_through_and_is_left_out_where_nobody_can_tell_whose_it_is() {
    let file = with_unknown();
    assert_eq!(inspect(file.as_slice()).unwrap().sections, ["extra"]);
    assert!(copied(&Source::bytes(&file), SaveOptions::new()) == file);
    let load = || {
        let options = LoadOptions::new().unknown_tables_are_carried();
        Db::builder().table::<Item>().load_with(file.as_slice(), options).unwrap()
    };
    let db = load();
    assert!(copied(&Source::bytes(&file_of(&db)), SaveOptions::new()) == file_of(&db));
    let base = db.read();
    let mut txn = db.write();
    let item = r#"{"id":1,"name":2,"group":null}"#;
    txn.insert(serde_json::from_str::<Item>(item).unwrap()).unwrap();
    txn.commit();
    let chain = [saved(&base), since(&db.read(), &base)];
    assert!(compacted(&chain).unwrap() == file_of(&db));
    let sections = |selection: Selection<'_>| {
        let mut part = Vec::new();
        filter(&Source::bytes(&file), &mut part, &selection, SaveOptions::new()).unwrap();
        inspect(part.as_slice()).unwrap().sections.len()
    };
    assert_eq!(sections(Selection::new().table("notes")), 1);
    assert_eq!(sections(Selection::new().key_prefix([3])), 0);
    let (mut public, what) = (Vec::new(), Redaction::new().field("text"));
    redact(&Source::bytes(&file), &mut public, &what, SaveOptions::new()).unwrap();
    assert_eq!(inspect(public.as_slice()).unwrap().sections.len(), 0);
}

#[test]
fn a_file_of_some_tables_is_what_a_database_of_those_saves() {
    let db = builder().build().unwrap();
    put(&db, 3, "three");
    let (file, mut part) = (file_of(&db), Vec::new());
    let selection = Selection::new().without_table("items");
    filter(&Source::bytes(&file), &mut part, &selection, SaveOptions::new()).unwrap();
    let notes = Db::builder().table::<Note>().load(part.as_slice()).unwrap();
    assert!(file_of(&notes) == part, "the fingerprint is that of the tables that are left");
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Table)]
#[table(name = "jobs", tombstones = 9)]
#[index(name = "owner_of", on = (owner))]
struct Job {
    #[key]
    place: (String, u32),
    namespace: String,
    owner: Option<String>,
    secret: String,
}

fn jobs() -> Db {
    let db = Db::builder().table::<Job>().build().unwrap();
    let mut txn = db.write();
    for (number, namespace) in ["acme", "other", "acme", "umbrella"].iter().enumerate() {
        let place = ((*namespace).to_owned(), number as u32);
        let (owner, secret) = (Some(format!("ada-{number}")), "hunter2".to_owned());
        let namespace = (*namespace).to_owned();
        txn.insert(Job { place, namespace, owner, secret }).unwrap();
    }
    txn.commit();
    let mut txn = db.write();
    txn.table_mut::<Job>().delete(&("umbrella", 3_u32));
    txn.commit();
    db
}

#[test]
fn the_rows_of_a_tenant_leave_no_trace_of_others() {
    let db = jobs();
    let (file, mut part) = (file_of(&db), Vec::new());
    assert!(file.windows(8).any(|bytes| bytes == b"umbrella"), "a tombstone has its key");
    let selection = Selection::new().tenant("acme").tenant_field("namespace");
    let source = Source::bytes(&file);
    let summary = filter(&source, &mut part, &selection, SaveOptions::new()).unwrap();
    assert_eq!((summary.rows, summary.tables[0].tombstones), (2, 0));
    for trace in ["other", "umbrella", "ada-1", "ada-3"] {
        assert!(!part.windows(trace.len()).any(|bytes| bytes == trace.as_bytes()), "{trace}");
    }
    let loaded = Db::builder().table::<Job>().load(part.as_slice()).unwrap();
    loaded.check().unwrap();
    assert_eq!(loaded.read().table::<Job>().len(), 2);
    let by_key = Selection::new().tenant("acme");
    let summary = filter(&source, Vec::new(), &by_key, SaveOptions::new()).unwrap();
    assert_eq!(summary.rows, 0, "the first key field is a pair, and no text");
    let mut keyless = all_frames_at(&file).into_iter().map(|(_, f)| f).collect::<Vec<_>>();
    crate::frames::change_header(&mut keyless, |header| header.tables[0].key.clear());
    let without_ends = keyless.into_iter().filter(|f| ![3, 6].contains(&f.kind));
    let keyless = seal_with_end(&without_ends.collect::<Vec<_>>(), 3);
    assert!(
        header_of(&frames_at(&keyless).into_iter().map(|(_, f)| f).collect::<Vec<_>>()).tables[0]
            .key
            .is_empty()
    );
    let error = filter(&Source::bytes(&keyless), Vec::new(), &by_key, SaveOptions::new());
    assert!(matches!(error, Err(OfflineError::NoKeyFields { table }) if table == "jobs"));
    let nowhere = Selection::new().table("nowhere");
    let error = filter(&source, Vec::new(), &nowhere, SaveOptions::new());
    assert!(matches!(error, Err(OfflineError::NoTable { table }) if table == "nowhere"));
}

#[test]
fn a_redacted_file_has_the_values_nowhere_and_loads() {
    let db = jobs();
    let file = file_of(&db);
    let source = Source::bytes(&file);
    let mut public = Vec::new();
    let owner = Redaction::new().field("owner");
    let redacted = redact(&source, &mut public, &owner, SaveOptions::new()).unwrap();
    assert_eq!(redacted.values, 3);
    assert!(!public.windows(4).any(|bytes| bytes == b"ada-"), "nor in a tombstone of the index");
    let loaded = Db::builder().table::<Job>().load(public.as_slice()).unwrap();
    loaded.check().unwrap();
    let row = loaded.read().table::<Job>().get(&("acme", 0_u32)).unwrap().value().clone();
    assert_eq!((row.owner, row.secret.as_str()), (None, "hunter2"));
    let text = Redaction::new().field_of("jobs", "secret").field("owner").by_text();
    let mut public = Vec::new();
    assert_eq!(redact(&source, &mut public, &text, SaveOptions::new()).unwrap().values, 6);
    let loaded = Db::builder().table::<Job>().load(public.as_slice()).unwrap();
    let row = loaded.read().table::<Job>().get(&("acme", 0_u32)).unwrap().value().clone();
    assert_eq!((row.owner.as_deref(), row.secret.as_str()), (Some("redacted"), "redacted"));
    // Nothing to take out: the rows are those that they were.
    let mut same = Vec::new();
    let none = Redaction::new().field("missing");
    assert_eq!(redact(&source, &mut same, &none, SaveOptions::new()).unwrap().values, 0);
    assert_eq!(rows_of(&same), rows_of(&file));
    let key = Redaction::new().field("place");
    let error = redact(&source, Vec::new(), &key, SaveOptions::new()).unwrap_err();
    assert!(matches!(error, OfflineError::KeyField { field, .. } if field == "place"));
}

#[test]
fn a_chain_that_is_none_is_refused() {
    let db = builder().build().unwrap();
    put(&db, 1, "one");
    let first = db.read();
    put(&db, 2, "two");
    let second = db.read();
    put(&db, 3, "three");
    let (whole, link) = (saved(&first), since(&second, &first));
    let last = since(&db.read(), &second);
    let refusal = |chain: &[&Vec<u8>]| {
        let chain: Vec<_> = chain.iter().map(|file| (*file).clone()).collect();
        match compacted(&chain).unwrap_err() {
            OfflineError::Snapshot(error) => error,
            other => panic!("{other}"),
        }
    };
    assert!(matches!(refusal(&[]), SnapshotError::Empty));
    assert!(matches!(refusal(&[&link]), SnapshotError::Incremental));
    assert!(matches!(refusal(&[&whole, &whole]), SnapshotError::NotIncremental));
    for broken in [&[&whole, &last][..], &[&whole, &link, &link], &[&whole, &last, &link]] {
        let SnapshotError::WrongBase { expected, found } = refusal(broken) else { panic!() };
        assert!(expected.starts_with("revision ") && found.contains("digest"), "{found}");
    }
    let other = Db::builder().table::<Note>().build().unwrap();
    let base = other.read();
    let foreign = since(&other.read(), &base);
    let error = compacted(&[whole.clone(), foreign]).unwrap_err();
    assert!(matches!(error, OfflineError::OtherTables { file: 2 }), "{error}");
    for tool in [
        diff(&Source::bytes(&link), &Source::bytes(&whole), |_| ControlFlow::Continue(())).err(),
        filter(&Source::bytes(&link), Vec::new(), &Selection::new(), SaveOptions::new()).err(),
        redact(&Source::bytes(&link), Vec::new(), &Redaction::new(), SaveOptions::new()).err(),
    ] {
        let error = tool.unwrap();
        assert!(matches!(error, OfflineError::Snapshot(SnapshotError::Incremental)), "{error}");
    }
}

/// A forger has put the right hashes around changes that do not come to what the link says.
#[test]
fn a_link_that_lies_about_what_it_makes_is_refused() {
    let db = builder().build().unwrap();
    put(&db, 1, "one");
    let base = db.read();
    put(&db, 2, "two");
    let (whole, link) = (saved(&base), since(&db.read(), &base));
    let mut source = OfflineReader::new(link.as_slice(), None).unwrap();
    let mut forged = Vec::new();
    let mut writer = OfflineWriter::new(&mut forged, source.head(), SaveOptions::new()).unwrap();
    while let Some(item) = source.read_item().unwrap() {
        let Part::Row(row) = item else {
            writer.write(&item).unwrap();
            continue;
        };
        let other: Vec<u8> = row.encoded.iter().map(|b| b ^ u8::from(*b == b'w')).collect();
        let row = StoredRow::new(row.key, row.created, row.modified, &other);
        writer.write(&Part::Row(row)).unwrap();
    }
    writer.finish().unwrap();
    assert!(inspect(forged.as_slice()).is_ok(), "by itself it is a file");
    let error = compacted(&[whole, forged]).unwrap_err();
    assert!(error.is_corrupt());
    assert!(matches!(error, OfflineError::Snapshot(SnapshotError::Digest { .. })), "{error}");
}

#[test]
fn every_bit_flip_and_truncation_is_found_by_every_tool() {
    let db = builder().build().unwrap();
    put(&db, 1, "one");
    let mut file = file_of(&db);
    let check = |file: &[u8], what: &str| {
        let source = Source::bytes(file);
        let whole = source.reader().and_then(OfflineReader::finish);
        assert!(whole.is_err(), "{what}");
        let filtered = filter(&source, Vec::new(), &Selection::new(), SaveOptions::new());
        let redacted = redact(&source, Vec::new(), &Redaction::new(), SaveOptions::new());
        let compared = diff(&source, &source, |_| ControlFlow::Continue(()));
        assert!(filtered.is_err() && redacted.is_err() && compared.is_err(), "{what}");
        assert!(compacted(&[file.to_vec()]).is_err(), "{what}");
    };
    for bit in 0..file.len() * 8 {
        file[bit / 8] ^= 1 << (bit % 8);
        check(&file, &format!("bit {bit}"));
        file[bit / 8] ^= 1 << (bit % 8);
    }
    for length in 0..file.len() {
        check(&file[..length], &format!("cut at {length}"));
    }
}

#[test]
fn a_writer_refuses_what_no_reader_would_take() {
    let db = builder().build().unwrap();
    put(&db, 1, "one");
    let file = file_of(&db);
    let head = Source::bytes(&file).reader().unwrap().head().clone();
    let refused = |items: &[Part<'_>]| {
        let mut target = Vec::new();
        let mut writer = OfflineWriter::new(&mut target, &head, SaveOptions::new()).unwrap();
        let failed = items.iter().find_map(|item| writer.write(item).err());
        let error = failed.or_else(|| writer.finish().err()).expect("it is refused");
        assert!(inspect(target.as_slice()).is_err());
        error.to_string()
    };
    let (items, notes) = (Part::Table(&head.tables[0]), Part::Table(&head.tables[1]));
    let end = Part::TableEnd { digest: fsmdb::Digest::default() };
    let row = |key, modified, encoded| {
        Part::Row(StoredRow::new(key, Revision(1), Revision(modified), encoded))
    };
    assert!(refused(&[notes]).contains("begins out of order"));
    assert!(refused(&[end]).contains("has not begun"));
    assert!(refused(&[items, end]).contains("notes: it has not ended"));
    assert!(refused(&[items, end, notes, end]).contains("its head says 1"));
    let good = row(&[1], 1, &[0x80]);
    assert!(refused(&[items, end, notes, good, good]).contains("repeated or out of order"));
    assert!(refused(&[items, end, notes, row(&[1], 9, &[0x80])]).contains("too late"));
    assert!(refused(&[items, end, notes, row(&[1], 1, &[0x81])]).contains("row 01"));
    assert!(refused(&[items, Part::Deleted(&[1])]).contains("deletes nothing"));
    assert!(refused(&[Part::Section { name: "early", content: &[] }]).contains("no place"));
    let mut wrong = head.clone();
    let tombstone =
        |revision, tree| Part::Tombstone(StoredTombstone::new(Revision(revision), tree, &[1]));
    // The database has forgotten nothing, and its items were never modified.
    assert!(refused(&[items, tombstone(1, 0)]).contains("not one of its table"));
    let mut later = head.clone();
    later.tables[0].modified = Revision(1);
    let mut writer = OfflineWriter::new(Vec::new(), &later, SaveOptions::new()).unwrap();
    writer.write(&items).unwrap();
    writer.write(&tombstone(1, 2)).unwrap();
    for wrong in [tombstone(1, 0), tombstone(1, 2), tombstone(1, 3), tombstone(2, 0)] {
        assert!(writer.write(&wrong).unwrap_err().to_string().contains("items: a tombstone is"));
    }
    wrong.tables.swap(0, 1);
    assert!(OfflineWriter::new(Vec::new(), &wrong, SaveOptions::new()).is_err());
}

#[test]
fn writing_tells_its_progress_and_can_be_cancelled_and_a_visit_broken_off() {
    let (_db, before, after) = large();
    let (older, newer) = (saved(&before), saved(&after));
    let mut told = Vec::new();
    let options = SaveOptions::new().progress(|progress| {
        told.push((progress.rows, progress.rows_total));
        Progress::CONTINUE
    });
    copied(&Source::bytes(&newer), options);
    assert!(told.is_sorted() && told.last() == Some(&(1301, 1301)), "{told:?}");
    let options = SaveOptions::new().progress(|_| Progress::CANCEL);
    let error = filter(&Source::bytes(&newer), Vec::new(), &Selection::new(), options);
    assert!(matches!(error, Err(OfflineError::Snapshot(SnapshotError::Cancelled { .. }))));
    let mut visited = 0;
    let error = diff(&Source::bytes(&older), &Source::bytes(&newer), |_| {
        visited += 1;
        ControlFlow::Break(())
    });
    assert!(matches!(error, Err(OfflineError::Snapshot(SnapshotError::Cancelled { .. }))));
    assert_eq!(visited, 1);
}

#[test]
fn a_file_is_replaced_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part.snapshot");
    let db = jobs();
    let file = file_of(&db);
    let source = Source::bytes(&file);
    let selection = Selection::new();
    replace(&path, |target| filter(&source, target, &selection, SaveOptions::new())).unwrap();
    assert!(std::fs::read(&path).unwrap() == file);
    assert_eq!(Source::path(&path).reader().unwrap().finish().unwrap().rows, 3);
    let refused = replace(&path, |target| {
        let options = SaveOptions::new().progress(|_| Progress::CANCEL);
        filter(&source, target, &selection, options)
    });
    assert!(matches!(refused, Err(OfflineError::Snapshot(SnapshotError::Cancelled { .. }))));
    assert!(std::fs::read(&path).unwrap() == file);
}

#[test]
fn a_key_is_called_by_its_fields_or_by_its_bytes() {
    let db = builder().build().unwrap();
    put(&db, 200, "two hundred");
    let file = file_of(&db);
    let mut reader = Source::bytes(&file).reader().unwrap();
    let mut notes = reader.head().tables[1].clone();
    while let Some(item) = reader.read_item().unwrap() {
        if let Part::Row(row) = item {
            assert_eq!(row.key_text(&notes), "200");
            notes.key = vec!["id".into(), "text".into()];
            assert_eq!(row.key_text(&notes), "200/two hundred");
            for key in [&["nowhere".to_owned()][..], &[]] {
                notes.key = key.to_vec();
                assert_eq!(row.key_text(&notes), "c8");
            }
        }
    }
}

#[test]
fn a_chain_with_an_unknown_table_that_has_tombstones_is_compacted() {
    let db = builder().build().unwrap();
    let mut txn = db.write();
    let item = r#"{"id":1,"name":2,"group":null}"#;
    txn.insert(serde_json::from_str::<Item>(item).unwrap()).unwrap();
    txn.commit();
    let mut txn = db.write();
    txn.table_mut::<Item>().delete(&1);
    txn.commit();
    let options = LoadOptions::new().unknown_tables_are_carried();
    let db = Db::builder().table::<Note>().load_with(file_of(&db).as_slice(), options).unwrap();
    let base = db.read();
    put(&db, 2, "two");
    let chain = [saved(&base), since(&db.read(), &base)];
    assert!(inspect(chain[0].as_slice()).unwrap().tables[0].tombstones > 0);
    assert!(compacted(&chain).unwrap() == file_of(&db));
}
