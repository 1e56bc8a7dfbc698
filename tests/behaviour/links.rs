//! Single incremental files: since which versions they are written, to which states and by which
//! programs they are applied, and what is said of those that are refused.

use std::cell::RefCell;

use fsmdb::limits::LINK_ATTEMPTS_MAX;
use fsmdb::offline::{OfflineError, Source, compact};
use fsmdb::{
    Applied, Db, Event, FeedError, Incarnation, LoadOptions, Machine, Retention, Revision,
    SaveOptions, Snapshot, SnapshotError, Table, inspect,
};
use proptest::prelude::*;
use serde::{Deserialize, Serialize, Serializer};

use crate::chains::{Item, Note, Notes, builder, play, put, since, step};
use crate::frames::{
    Bytes, DELETES, END, End, Frame, HEADER, ROWS, TABLE_END, TableEnd, TableHeader, all_frames_at,
    encoded, rows_frame, seal,
};
use crate::tables::{commit, file_of};

/// Why nothing is saved.
fn refusal(newer: &Snapshot, base: &Snapshot) -> String {
    let error = newer.save_since(base, std::io::sink(), SaveOptions::new()).unwrap_err();
    assert!(matches!(error, SnapshotError::NoBase { .. }), "{error}");
    error.to_string()
}

#[test]
fn nothing_is_saved_since_a_version_of_another_database_with_the_same_content() {
    let same = || {
        let db = builder().incarnation(Incarnation(7)).build().unwrap();
        put(&db, 1, "one");
        db
    };
    let (one, other) = (same(), same());
    let base = other.read();
    put(&one, 2, "two");
    assert!(refusal(&one.read(), &base).contains("of another database"));
    let copy = builder().load(file_of(&one).as_slice()).unwrap();
    put(&copy, 3, "three");
    assert!(refusal(&copy.read(), &one.read()).contains("of another database"));
}

#[test]
fn nothing_is_saved_since_a_version_from_before_a_restore() {
    let db = builder().build().unwrap();
    put(&db, 1, "one");
    let (before, file) = (db.read(), file_of(&db));
    db.restore(file.as_slice()).unwrap();
    let restored = db.read();
    assert!(refusal(&restored, &before).contains("before a restore"));
    put(&db, 2, "two");
    assert!(refusal(&db.read(), &before).contains("before a restore"));
    let link = since(&db.read(), &restored);
    let copy = builder().load_chain([file.as_slice(), link.as_slice()]).unwrap();
    assert_eq!(file_of(&copy), file_of(&db));
}

#[test]
fn nothing_is_saved_since_a_view_of_a_transaction_but_a_view_since_what_was_committed_is() {
    let db = builder().build().unwrap();
    put(&db, 1, "one");
    let (base, whole) = (db.read(), file_of(&db));
    let mut txn = db.write();
    txn.upsert(Note { id: 2, text: "two".into() }).unwrap();
    let view = txn.snapshot();
    txn.commit();
    assert!(refusal(&db.read(), &view).contains("a mere view"));
    assert!(refusal(&view, &db.read()).contains("newer"));
    put(&db, 3, "three");
    assert!(refusal(&db.read(), &view).contains("a mere view"));
    let copy = builder().load_chain([whole, since(&view, &base)].iter().map(Vec::as_slice));
    assert_eq!(copy.unwrap().read().table::<Note>().len(), 2);
}

#[test]
fn a_database_that_links_are_applied_to_goes_on_with_links_of_its_own() {
    let db = builder().build().unwrap();
    put(&db, 1, "one");
    let (first, whole) = (db.read(), file_of(&db));
    put(&db, 2, "two");
    let link = since(&db.read(), &first);
    let follower = builder().load(whole.as_slice()).unwrap();
    let base = follower.read();
    follower.apply_incremental(link.as_slice(), LoadOptions::new()).unwrap();
    assert_eq!(since(&follower.read(), &base), link);
    put(&follower, 3, "three");
    let all = since(&follower.read(), &base);
    let copy = builder().load_chain([whole.as_slice(), all.as_slice()]).unwrap();
    assert_eq!(file_of(&copy), file_of(&follower));
}

/// A row that does something whenever it is encoded.
#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "traps")]
struct Trap {
    #[key]
    id: u64,
    #[serde(serialize_with = "spring")]
    text: String,
}

type Hook = Box<dyn FnMut()>;

thread_local! {
    static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
}

fn spring<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    // Taken out meanwhile, so that what the hook does springs no trap.
    if let Some(mut hook) = HOOK.take() {
        hook();
        HOOK.set(Some(hook));
    }
    serializer.serialize_str(text)
}

fn trap(db: &Db, id: u64) {
    commit(db, |txn| drop(txn.upsert(Trap { id, text: "x".into() }).unwrap()));
}

/// A database with one row, its file, and a link that puts another.
fn trapped() -> (Db, Vec<u8>, Vec<u8>) {
    let build = || Db::builder().table::<Trap>();
    let db = build().build().unwrap();
    trap(&db, 1);
    let (base, whole) = (db.read(), file_of(&db));
    trap(&db, 2);
    let link = since(&db.read(), &base);
    (build().load(whole.as_slice()).unwrap(), whole, link)
}

/// Applies `link` while `hook` is called for each row that is encoded.
fn apply_with(db: &Db, link: &[u8], hook: Hook) -> Result<Revision, SnapshotError> {
    HOOK.set(Some(hook));
    let applied = db.apply_incremental(link, LoadOptions::new());
    HOOK.set(None);
    applied
}

#[test]
fn others_can_write_while_the_digest_of_the_base_is_computed() {
    let (db, _, link) = trapped();
    let found = std::rc::Rc::new(RefCell::new(Vec::new()));
    let hook = {
        let (db, found) = (db.clone(), std::rc::Rc::clone(&found));
        move || found.borrow_mut().push(db.try_write().is_ok())
    };
    assert_eq!(apply_with(&db, &link, Box::new(hook)).unwrap(), Revision(2));
    assert_eq!(*found.borrow(), [true]);
}

#[test]
fn a_commit_while_the_digest_is_computed_makes_it_the_wrong_base() {
    let (db, _, link) = trapped();
    let hook = {
        let mut writer = Some(db.clone());
        move || {
            if let Some(db) = writer.take() {
                trap(&db, 7);
            }
        }
    };
    let error = apply_with(&db, &link, Box::new(hook)).unwrap_err();
    let SnapshotError::WrongBase { found, .. } = error else { panic!("{error}") };
    assert!(found.starts_with("revision 2 of "), "{found}");
    assert_eq!(db.read().table::<Trap>().len(), 2);
    assert!(db.try_write().is_ok());
}

#[test]
fn a_base_that_is_restored_again_and_again_is_looked_at_under_the_lock_in_the_end() {
    let (db, whole, link) = trapped();
    let counts = std::rc::Rc::new(RefCell::new((0, 0)));
    let hook = {
        let (db, counts) = (db.clone(), std::rc::Rc::clone(&counts));
        move || {
            let mut counts = counts.borrow_mut();
            if db.try_write().is_ok() {
                db.restore(whole.as_slice()).unwrap();
                counts.0 += 1;
            } else {
                counts.1 += 1;
            }
        }
    };
    assert_eq!(apply_with(&db, &link, Box::new(hook)).unwrap(), Revision(2));
    assert_eq!(*counts.borrow(), (LINK_ATTEMPTS_MAX, 1));
    assert_eq!(db.read().table::<Trap>().len(), 2);
}

#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "letters", tombstones = 9)]
struct Letter {
    #[key]
    tenant: String,
    #[key]
    id: u64,
    body: String,
}

fn letter(db: &Db, tenant: &str, id: u64) {
    let row = Letter { tenant: tenant.into(), id, body: format!("of {tenant}") };
    commit(db, |txn| drop(txn.upsert(row).unwrap()));
}

/// The file does not say that its deletes were an erasure.
#[test]
fn what_was_erased_between_two_files_is_kept_nowhere_where_they_are_applied() {
    let leader = Db::builder().table::<Letter>().build().unwrap();
    letter(&leader, "secret", 1);
    letter(&leader, "other", 1);
    let (first, whole) = (leader.read(), file_of(&leader));
    letter(&leader, "secret", 2);
    let (second, link) = (leader.read(), since(&leader.read(), &first));
    commit(&leader, |txn| {
        let erased = txn.table_mut::<Letter>().erase_prefix(&("secret",));
        assert_eq!(erased, 2);
    });
    let erasing = since(&leader.read(), &second);

    let builder = Db::builder().table::<Letter>().keep_versions(Retention::versions(9));
    let follower = builder.keep_changes(9, 1 << 20).load(whole.as_slice()).unwrap();
    letter(&follower, "secret", 9);
    follower.restore(whole.as_slice()).unwrap();
    let mut feed = follower.changes().open();
    follower.apply_incremental(link.as_slice(), LoadOptions::new()).unwrap();
    follower.apply_incremental(erasing.as_slice(), LoadOptions::new()).unwrap();
    assert_eq!(file_of(&follower), file_of(&leader));
    for revision in 0..leader.revision().0 {
        assert!(follower.at(Revision(revision)).is_err(), "revision {revision} is kept");
        let gone = follower.changes().since(Revision(revision)).unwrap_err();
        assert!(matches!(gone, FeedError::Gone { .. }), "{gone}");
    }
    for count in [1, 2] {
        let Some(Event::Reset(reset)) = feed.try_next().unwrap() else { panic!("no reset") };
        assert_eq!(reset.changes().unwrap().count(), count);
    }
    drop(feed);
    let memory = follower.memory();
    assert_eq!(memory.versions.len(), 0, "nobody holds an older version");
}

/// As `Note`, of a newer version of the program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Table)]
#[table(name = "notes")]
struct WideNote {
    #[key]
    id: u8,
    text: String,
    #[serde(default)]
    pinned: bool,
}

/// A table that the older version of the program does not have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Table)]
#[table(name = "letters_sent")]
struct Sent {
    #[key]
    id: u8,
}

fn newer() -> fsmdb::Builder {
    Db::builder().table::<Item>().table::<WideNote>().table::<Sent>()
}

fn lenient() -> LoadOptions<'static> {
    LoadOptions::new().missing_tables_are_empty()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn a_program_with_a_field_and_a_table_more_makes_the_same_of_a_chain_as_of_the_whole_file(
        steps in prop::collection::vec(step(), 0..60),
        keeps in any::<bool>(),
    ) {
        let db = builder().build().unwrap();
        let marks = play(&db, &steps);
        let mut first = Vec::new();
        marks[0].save(&mut first).unwrap();
        let mut chain = vec![first];
        chain.extend(marks.windows(2).map(|pair| since(&pair[1], &pair[0])));
        let build = || if keeps { newer().keep_digests() } else { newer() };
        let files = || chain.iter().map(Vec::as_slice);
        let loaded = build().load_chain_with(files(), lenient()).unwrap();
        loaded.check().unwrap();
        let whole = build().load_with(file_of(&db).as_slice(), lenient()).unwrap();
        prop_assert!(file_of(&loaded) == file_of(&whole));
        // The chain goes on with what the newer program writes on top of it.
        let base = loaded.read();
        commit(&loaded, |txn| {
            txn.upsert(WideNote { id: 3, text: "wide".into(), pinned: true }).unwrap();
            txn.upsert(Sent { id: 1 }).unwrap();
            txn.table_mut::<WideNote>().delete(&4);
        });
        chain.push(since(&loaded.read(), &base));
        let files = chain.iter().map(Vec::as_slice);
        let again = build().load_chain_with(files, lenient()).unwrap();
        prop_assert!(file_of(&again) == file_of(&loaded));
    }
}

/// A whole file and links of `Note`s: one that adds, one that replaces, one that deletes.
fn notes(text: &str) -> (Db, Vec<Vec<u8>>) {
    let db = builder().build().unwrap();
    put(&db, 1, text);
    let mut marks = vec![db.read()];
    put(&db, 2, "two");
    marks.push(db.read());
    put(&db, 1, "uno");
    marks.push(db.read());
    commit(&db, |txn| drop(txn.table_mut::<Note>().delete(&2)));
    marks.push(db.read());
    let mut first = Vec::new();
    marks[0].save(&mut first).unwrap();
    let mut chain = vec![first];
    chain.extend(marks.windows(2).map(|pair| since(&pair[1], &pair[0])));
    (db, chain)
}

#[test]
fn a_newer_program_refuses_a_link_of_another_state() {
    let ((_, chain), (_, other)) = (notes("one"), notes("another"));
    let load = |files: [&Vec<u8>; 2]| newer().load_chain_with(files.map(Vec::as_slice), lenient());
    assert!(load([&chain[0], &chain[1]]).is_ok());
    for files in [[&chain[0], &other[1]], [&chain[0], &chain[2]], [&chain[0], &chain[3]]] {
        let error = load(files).unwrap_err();
        assert!(matches!(error, SnapshotError::WrongBase { .. }), "{error}");
    }
}

#[test]
fn a_digest_that_a_link_promises_wrongly_is_found_wherever_it_can_be_had() {
    let (_, mut chain) = notes("one");
    let forge = |link: &[u8]| {
        let mut frames = frames_of_link(link);
        let last = frames.iter_mut().rfind(|frame| frame.kind == TABLE_END).unwrap();
        change(last, |end: &mut TableEnd| end.digest.0[0] ^= 1);
        sealed(frames)
    };
    let same = |chain: &[Vec<u8>]| builder().load_chain(chain.iter().map(Vec::as_slice));
    let wide =
        |chain: &[Vec<u8>]| newer().load_chain_with(chain.iter().map(Vec::as_slice), lenient());
    for (place, is_trusted) in [(3, true), (2, true), (1, false)] {
        chain.truncate(place + 1);
        chain[place] = forge(&chain[place]);
        let error = same(&chain).unwrap_err();
        assert!(matches!(error, SnapshotError::Digest { .. }), "{error}");
        match wide(&chain) {
            Ok(_) => assert!(is_trusted, "link {place}"),
            Err(error) => {
                assert!(!is_trusted && matches!(error, SnapshotError::Digest { .. }), "{error}");
            }
        }
    }
}

#[test]
fn a_link_without_a_table_that_is_empty_here_is_applied() {
    let (_, chain) = notes("one");
    let more = || builder().table::<Sent>();
    let db = more().load_with(chain[0].as_slice(), lenient()).unwrap();
    let error = db.apply_incremental(chain[1].as_slice(), LoadOptions::new()).unwrap_err();
    assert!(matches!(&error, SnapshotError::MissingTable { table } if table == "letters_sent"));
    for link in &chain[1..] {
        db.apply_incremental(link.as_slice(), lenient()).unwrap();
    }
    assert_eq!(db.read().table::<Note>().len(), 1);
    db.check().unwrap();
    // Rows that are encoded here in another way are another base.
    let db = newer().load_with(chain[0].as_slice(), lenient()).unwrap();
    let error = db.apply_incremental(chain[1].as_slice(), lenient()).unwrap_err();
    assert!(matches!(error, SnapshotError::WrongBase { .. }), "{error}");
}

/// The header of an incremental file.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct LinkHeader {
    revision: u64,
    applied: Applied,
    incarnation: String,
    fingerprint: u64,
    base: LinkBase,
    tables: Vec<TableHeader>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct LinkBase {
    revision: u64,
    digest: Bytes,
}

fn frames_of_link(link: &[u8]) -> Vec<Frame> {
    all_frames_at(link).into_iter().map(|(_, frame)| frame).collect()
}

fn change<T: Serialize + for<'de> Deserialize<'de>>(frame: &mut Frame, with: impl FnOnce(&mut T)) {
    let mut content = rmp_serde::from_slice(&frame.payload).unwrap();
    with(&mut content);
    *frame = encoded(frame.kind, &content);
}

fn change_header(frames: &mut [Frame], with: impl FnOnce(&mut LinkHeader)) {
    assert_eq!(frames[0].kind, HEADER);
    change(&mut frames[0], with);
}

/// The file of `frames`, with an end that is right.
fn sealed(mut frames: Vec<Frame>) -> Vec<u8> {
    frames.retain(|frame| frame.kind != END);
    let counts = frames.iter().filter(|frame| frame.kind == ROWS);
    let counts = counts.map(|frame| u32::from_le_bytes(frame.payload[4..8].try_into().unwrap()));
    let rows = counts.map(u64::from).sum();
    let so_far = seal(&frames);
    let hash = Bytes(blake3::hash(&so_far).as_bytes().to_vec());
    frames.push(encoded(END, &End { rows, offset: so_far.len() as u64, hash }));
    seal(&frames)
}

/// Where the first frame of the second table begins: behind the end of the first.
fn second_table_of(file: &[u8]) -> u64 {
    let frames = all_frames_at(file);
    let first_end = frames.iter().position(|(_, frame)| frame.kind == TABLE_END).unwrap();
    frames[first_end + 1].0 as u64
}

#[test]
fn a_link_that_changes_something_at_the_revision_of_its_base_is_refused_by_table_and_place() {
    let (_, chain) = notes("one");
    let db = builder().load_chain(chain[..2].iter().map(Vec::as_slice)).unwrap();
    let digest = inspect(chain[1].as_slice()).unwrap().digests().unwrap().database();
    let mut frames = frames_of_link(&chain[1]);
    change_header(&mut frames, |header| {
        header.base.revision = header.revision;
        let digits = digest.to_string();
        let byte = |at: usize| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap();
        header.base.digest = Bytes((0..16).map(byte).collect());
    });
    let file = sealed(frames);
    let error = db.apply_incremental(file.as_slice(), LoadOptions::new()).unwrap_err();
    let SnapshotError::Malformed { offset, message } = error else { panic!("{error}") };
    assert_eq!(offset, second_table_of(&file));
    assert!(message.starts_with("table notes "), "{message}");
}

#[test]
fn a_link_that_takes_a_table_back_in_time_is_refused_by_table_and_place() {
    let (_, chain) = notes("one");
    let db = builder().load_chain(chain[..3].iter().map(Vec::as_slice)).unwrap();
    let mut frames = frames_of_link(&chain[3]);
    change_header(&mut frames, |header| header.tables[1].modified = 1);
    let file = sealed(frames);
    let before = file_of(&db);
    let error = db.apply_incremental(file.as_slice(), LoadOptions::new()).unwrap_err();
    let SnapshotError::Malformed { offset, message } = error else { panic!("{error}") };
    assert_eq!(offset, second_table_of(&file));
    assert!(message.starts_with("table notes was modified at "), "{message}");
    assert_eq!(file_of(&db), before);
}

#[test]
fn a_link_with_other_tables_than_the_state_that_it_names_is_refused() {
    let (_, chain) = notes("one");
    let mut frames = frames_of_link(&chain[1]);
    change_header(&mut frames, |header| drop(header.tables.remove(0)));
    let end = frames.iter().position(|frame| frame.kind == TABLE_END).unwrap();
    frames.remove(end);
    for frame in &mut frames {
        match frame.kind {
            ROWS => frame.payload[0] = 0,
            TABLE_END => change(frame, |end: &mut TableEnd| end.table = 0),
            _ => {}
        }
    }
    let file = sealed(frames);
    inspect(file.as_slice()).unwrap();
    let files = [chain[0].as_slice(), file.as_slice()];
    let error = builder().load_chain_with(files, lenient()).unwrap_err();
    assert!(matches!(&error, SnapshotError::OtherTables { table } if table == "items"), "{error}");
    assert!(error.is_corrupt());
}

fn deletes(table: u32, keys: &[&[u8]]) -> Frame {
    let keys: Vec<_> = keys.iter().map(|key| key.to_vec()).collect();
    Frame { kind: DELETES, ..rows_frame(table, &keys) }
}

#[test]
fn a_key_that_a_link_deletes_and_puts_is_refused_by_who_applies_it_and_by_who_compacts_it() {
    let (_, chain) = notes("one");
    let replaces = &chain[2];
    let mut frames = frames_of_link(replaces);
    let rows = frames.iter().position(|frame| frame.kind == ROWS).unwrap();
    frames.insert(rows, deletes(1, &[&[1]]));
    let last = frames.iter_mut().rfind(|frame| frame.kind == TABLE_END).unwrap();
    change(last, |end: &mut TableEnd| end.deletes = 1);
    let file = sealed(frames);
    let db = builder().load_chain(chain[..2].iter().map(Vec::as_slice)).unwrap();
    let before = file_of(&db);
    let error = db.apply_incremental(file.as_slice(), LoadOptions::new()).unwrap_err();
    let SnapshotError::DeletedAndPut { table, key } = &error else { panic!("{error}") };
    assert_eq!((&**table, &**key), ("notes", "1"));
    assert!(error.is_corrupt());
    assert_eq!(file_of(&db), before);
    let chain = [&chain[0], &chain[1], &file].map(|file| Source::bytes(file));
    let error = compact(&chain, std::io::sink(), SaveOptions::new()).unwrap_err();
    let OfflineError::Snapshot(SnapshotError::DeletedAndPut { table, key }) = error else {
        panic!("{error}")
    };
    assert_eq!((&*table, &*key), ("notes", "01"));
}

#[test]
fn deleted_keys_ascend_also_when_they_are_empty() {
    let (_, chain) = notes("one");
    let load = |keys: &[&[u8]]| {
        let mut frames = frames_of_link(&chain[3]);
        let place = frames.iter().position(|frame| frame.kind == DELETES).unwrap();
        frames[place] = deletes(1, keys);
        let last = frames.iter_mut().rfind(|frame| frame.kind == TABLE_END).unwrap();
        change(last, |end: &mut TableEnd| end.deletes = keys.len() as u64);
        inspect(sealed(frames).as_slice())
    };
    load(&[&[], &[2]]).unwrap();
    for keys in [[&[][..], &[]], [&[2], &[2]], [&[2], &[]]] {
        let error = load(&keys).unwrap_err();
        assert!(error.to_string().contains("repeated or out of order"), "{error}");
    }
}

#[test]
fn a_link_that_is_applied_leads_to_no_other_incarnation() {
    let (_, chain) = notes("one");
    let options = || LoadOptions::new().incarnation(Incarnation(9));
    let db = builder().load(chain[0].as_slice()).unwrap();
    let error = db.apply_incremental(chain[1].as_slice(), options()).unwrap_err();
    assert!(matches!(error, SnapshotError::KeepsIncarnation) && !error.is_corrupt(), "{error}");
    assert_eq!(file_of(&db), chain[0]);
    let machine = Machine::new(builder().build().unwrap(), Notes).unwrap();
    let error = machine.install_incremental(chain[1].as_slice(), options()).unwrap_err();
    assert!(error.to_string().contains("no other incarnation"), "{error}");
}

#[test]
fn a_restore_and_an_install_take_options_as_a_load_does() {
    let (_, chain) = notes("one");
    let tight = || LoadOptions::new().rows_max(0);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.snapshot");
    std::fs::write(&path, &chain[0]).unwrap();
    let db = builder().table::<Sent>().build().unwrap();
    for refused in [db.restore_with(chain[0].as_slice(), tight()), db.restore_path(&path, tight())]
    {
        assert!(matches!(refused, Err(SnapshotError::MissingTable { .. })), "{refused:?}");
    }
    for lenient in [
        db.restore_with(chain[0].as_slice(), lenient()),
        db.restore_path(&path, lenient().incarnation(Incarnation(3))),
    ] {
        lenient.unwrap();
        assert_eq!(db.read().table::<Note>().len(), 1);
    }
    assert_eq!(db.incarnation(), Incarnation(3));
    let missing = db.restore_path(folder.path().join("none"), LoadOptions::new());
    assert!(matches!(missing, Err(SnapshotError::Disk { .. })));

    let machine = || Machine::new(builder().build().unwrap(), Notes).unwrap();
    let (leader, follower) = (machine(), machine());
    let entry = Machine::<Notes>::encode(&(1, "one".to_owned())).unwrap();
    let at = Applied { index: 1, term: 1 };
    leader.apply(at, &entry).unwrap();
    let file = file_of(leader.db());
    assert!(follower.install_with(file.as_slice(), tight()).is_err());
    assert_eq!(follower.install_with(file.as_slice(), LoadOptions::new()).unwrap(), at);
    assert_eq!(file_of(follower.db()), file);
}
