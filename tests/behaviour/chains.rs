//! Incremental snapshot files: a chain of them is what a whole file is, or it is refused.

use std::time::Duration;

use fsmdb::{
    Applied, Db, Event, FeedError, Fsm, HistoryError, Incarnation, LoadOptions, Machine, Progress,
    Retention, Revision, SaveOptions, Snapshot, SnapshotError, Table, Wake, inspect,
};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use crate::tables::file_of;

/// A table with everything that a chain must carry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Table)]
#[table(name = "items", tombstones = 5)]
pub(crate) struct Item {
    #[key]
    pub(crate) id: u8,
    #[index(unique)]
    name: u16,
    #[index]
    pub(crate) group: Option<u8>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Table)]
#[table(name = "notes")]
pub(crate) struct Note {
    #[key]
    pub(crate) id: u8,
    pub(crate) text: String,
}

pub(crate) fn builder() -> fsmdb::Builder {
    Db::builder().table::<Item>().table::<Note>()
}

pub(crate) fn since(newer: &Snapshot, base: &Snapshot) -> Vec<u8> {
    let mut file = Vec::new();
    let summary = newer.save_since(base, &mut file, SaveOptions::new()).unwrap();
    let inspected = inspect(file.as_slice()).unwrap();
    assert_eq!(inspected, summary);
    assert_eq!(summary.base.unwrap().digest, base.digests().unwrap().database());
    assert_eq!(summary.digests().unwrap(), newer.digests().unwrap());
    file
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Put(u8, u16, Option<u8>),
    Swap(u8, u8),
    Delete(u8),
    Write(u8, String),
    Erase(u8),
    Commit,
    Mark,
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let id = 0..12_u8;
    prop_oneof![
        4 => (id.clone(), 0..20_u16, prop::option::of(0..3_u8))
            .prop_map(|(id, name, group)| Step::Put(id, name, group)),
        2 => (id.clone(), id.clone()).prop_map(|(one, other)| Step::Swap(one, other)),
        3 => id.clone().prop_map(Step::Delete),
        2 => (id.clone(), ".{0,4}").prop_map(|(id, text)| Step::Write(id, text)),
        1 => id.prop_map(Step::Erase),
        4 => Just(Step::Commit),
        2 => Just(Step::Mark),
    ]
}

pub(crate) fn play(db: &Db, steps: &[Step]) -> Vec<Snapshot> {
    let mut marks = vec![db.read()];
    let mut txn = Some(db.write());
    for step in steps {
        let open = txn.as_mut().unwrap();
        match step {
            Step::Put(id, name, group) => {
                let _ = open.upsert(Item { id: *id, name: *name, group: *group });
            }
            Step::Swap(one, other) => {
                let items = open.table::<Item>();
                let pair = items.get(one).zip(items.get(other));
                let pair = pair.map(|(one, other)| (one.value().clone(), other.value().clone()));
                if let Some((first, second)) = pair.filter(|_| one != other) {
                    open.table_mut::<Item>().delete(one);
                    open.upsert(Item { id: *other, ..first }).unwrap();
                    open.upsert(Item { id: *one, ..second }).unwrap();
                }
            }
            Step::Delete(id) => {
                open.table_mut::<Item>().delete(id);
                open.table_mut::<Note>().delete(id);
            }
            Step::Write(id, text) => drop(open.upsert(Note { id: *id, text: text.clone() })),
            Step::Erase(id) => drop(open.table_mut::<Item>().delete_all(*id..)),
            Step::Commit | Step::Mark => {
                txn.take().unwrap().commit();
                if matches!(step, Step::Mark) {
                    marks.push(db.read());
                }
                txn = Some(db.write());
            }
        }
    }
    txn.unwrap().commit();
    marks.push(db.read());
    marks
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Chain equals full, byte for byte, however it is applied, with kept digests and without.
    #[test]
    fn a_chain_is_what_the_whole_file_is(
        steps in prop::collection::vec(step(), 0..60),
        keeps in any::<bool>(),
        other_keeps in any::<bool>(),
    ) {
        let build = |keeps| if keeps { builder().keep_digests() } else { builder() };
        let db = build(keeps).build().unwrap();
        let marks = play(&db, &steps);
        let whole = file_of(&db);
        let mut chain = vec![{
            let mut first = Vec::new();
            marks[0].save(&mut first).unwrap();
            first
        }];
        chain.extend(marks.windows(2).map(|pair| since(&pair[1], &pair[0])));
        let files = || chain.iter().map(Vec::as_slice);
        let loaded = build(other_keeps).load_chain(files()).unwrap();
        loaded.check().unwrap();
        prop_assert!(file_of(&loaded) == whole);
        let fed = build(other_keeps).load(chain[0].as_slice()).unwrap();
        for (link, mark) in chain[1..].iter().zip(&marks[1..]) {
            let revision = fed.apply_incremental(link.as_slice(), LoadOptions::new()).unwrap();
            prop_assert_eq!(revision, mark.revision());
            prop_assert_eq!(fed.revision(), mark.revision());
            fed.check().unwrap();
        }
        prop_assert!(file_of(&fed) == whole);
        // One link over several marks is the same as the links between.
        let all = since(&marks[marks.len() - 1], &marks[0]);
        let leap = build(other_keeps).load_chain([chain[0].as_slice(), all.as_slice()]).unwrap();
        prop_assert!(file_of(&leap) == whole);
    }
}

pub(crate) fn put(db: &Db, id: u8, text: &str) -> Revision {
    let mut txn = db.write();
    txn.upsert(Note { id, text: text.into() }).unwrap();
    txn.commit()
}

/// Three versions of a database, as a whole file and two links.
fn chain() -> (Db, [Vec<u8>; 3]) {
    let db = builder().keep_digests().build().unwrap();
    put(&db, 1, "one");
    let first = db.read();
    put(&db, 2, "two");
    let second = db.read();
    put(&db, 3, "three");
    let mut whole = Vec::new();
    first.save(&mut whole).unwrap();
    let links = [whole, since(&second, &first), since(&db.read(), &second)];
    (db, links)
}

#[test]
fn a_link_that_does_not_fit_is_refused_and_nothing_has_changed() {
    let (_, [whole, second, third]) = chain();
    let load = |chain: &[&[u8]]| builder().load_chain(chain.iter().copied());
    assert!(load(&[&whole, &second, &third]).is_ok());
    for broken in
        [&[&whole[..], &third][..], &[&whole, &second, &second], &[&whole, &third, &second]]
    {
        let error = load(broken).unwrap_err();
        assert!(matches!(error, SnapshotError::WrongBase { .. }), "{error}");
        assert!(!error.is_corrupt());
    }
    assert!(matches!(load(&[&second]), Err(SnapshotError::Incremental)));
    assert!(matches!(load(&[&whole, &whole]), Err(SnapshotError::NotIncremental)));
    assert!(matches!(load(&[]), Err(SnapshotError::Empty)));
    let db = builder().load(whole.as_slice()).unwrap();
    let error = db.apply_incremental(third.as_slice(), LoadOptions::new()).unwrap_err();
    let SnapshotError::WrongBase { expected, found } = error else { panic!("{error}") };
    assert!(expected.starts_with("revision 2 of ") && found.starts_with("revision 1 of "));
    assert_eq!(file_of(&db), whole);
    assert!(db.try_write().is_ok());
    // The same revision with other rows is another state.
    let other = builder().build().unwrap();
    put(&other, 1, "another");
    let error = other.apply_incremental(second.as_slice(), LoadOptions::new()).unwrap_err();
    assert!(matches!(error, SnapshotError::WrongBase { .. }), "{error}");
}

#[test]
fn every_bit_flip_and_truncation_of_a_link_is_detected_without_effect() {
    let (_, [whole, mut link, _]) = chain();
    let db = builder().load(whole.as_slice()).unwrap();
    for bit in 0..link.len() * 8 {
        link[bit / 8] ^= 1 << (bit % 8);
        assert!(db.apply_incremental(link.as_slice(), LoadOptions::new()).is_err(), "bit {bit}");
        link[bit / 8] ^= 1 << (bit % 8);
    }
    for length in 0..link.len() {
        assert!(db.apply_incremental(&link[..length], LoadOptions::new()).is_err());
    }
    assert_eq!(file_of(&db), whole);
    db.apply_incremental(link.as_slice(), LoadOptions::new()).unwrap();
}

#[test]
fn nothing_is_saved_since_a_version_that_is_no_base() {
    let (db, _) = chain();
    let older = db.read();
    put(&db, 9, "nine");
    let save = |newer: &Snapshot, base: &Snapshot| {
        newer.save_since(base, std::io::sink(), SaveOptions::new()).unwrap_err().to_string()
    };
    assert!(save(&older, &db.read()).ends_with("it is newer"));
    let other = Db::builder().table::<Note>().build().unwrap();
    assert!(save(&db.read(), &other.read()).ends_with("it is of another database"));
    let later = builder().incarnation(Incarnation(7)).build().unwrap();
    assert!(save(&db.read(), &later.read()).ends_with("it is of another incarnation"));
}

#[test]
fn a_link_without_changes_is_applied_as_nothing() {
    let (db, _) = chain();
    let (snap, whole) = (db.read(), file_of(&db));
    let link = since(&snap, &snap);
    assert_eq!(inspect(link.as_slice()).unwrap().rows, 0);
    assert_eq!(db.apply_incremental(link.as_slice(), LoadOptions::new()).unwrap(), Revision(3));
    assert_eq!(file_of(&db), whole);
}

#[test]
fn the_incarnation_is_in_files_and_a_new_one_can_begin_with_a_restore() {
    let db = builder().incarnation(Incarnation(5)).build().unwrap();
    let base = db.read();
    put(&db, 1, "one");
    let (file, mut first) = (file_of(&db), Vec::new());
    base.save(&mut first).unwrap();
    let link = since(&db.read(), &base);
    assert_eq!(inspect(file.as_slice()).unwrap().incarnation, Incarnation(5));
    let copy = builder().load(file.as_slice()).unwrap();
    assert_eq!(copy.incarnation(), Incarnation(5));
    let options = || LoadOptions::new().incarnation(Incarnation(6));
    let chain = || [first.as_slice(), link.as_slice()];
    let begun = builder().load_chain_with(chain(), options()).unwrap();
    assert_eq!((begun.incarnation(), begun.revision()), (Incarnation(6), Revision(1)));
    db.restore_chain(chain(), options()).unwrap();
    assert_eq!(db.incarnation(), Incarnation(6));
    let error = db.apply_incremental(link.as_slice(), LoadOptions::new()).unwrap_err();
    assert!(matches!(error, SnapshotError::WrongBase { .. }), "{error}");
    assert_eq!("0000000000000000000000000000000a".parse(), Ok(Incarnation(10)));
    for text in ["a", "+000000000000000000000000000000a", "g000000000000000000000000000000a"] {
        assert!(text.parse::<Incarnation>().is_err(), "{text}");
    }
}

#[test]
fn watches_and_waits_see_a_link_as_one_commit_and_feeds_and_kept_versions_as_a_restore() {
    let (_, [whole, second, third]) = chain();
    let kept = builder().keep_versions(Retention::versions(9)).keep_changes(9, 1 << 20);
    let db = kept.load(whole.as_slice()).unwrap();
    let unwatched = db.read();
    let (found, watch) = db.read().watch(|snap| snap.table::<Note>().get(&2).is_some());
    assert!(!found);
    let (_, other) = db.read().watch(|snap| snap.table::<Note>().get(&7).is_some());
    let waiting = db.wait_for(Revision(2));
    let mut feed = db.changes_of::<Note>().open();
    db.apply_incremental(second.as_slice(), LoadOptions::new()).unwrap();
    assert_eq!(watch.wait(Duration::from_secs(10)), Some(Wake::Changed));
    assert_eq!(other.wait(Duration::from_millis(1)), None);
    assert_eq!(waiting.wait(None).unwrap().revision(), Revision(2));
    let Some(Event::Reset(reset)) = feed.try_next().unwrap() else { panic!("no reset") };
    assert_eq!((reset.from(), reset.to()), (Revision(1), Revision(2)));
    assert_eq!(reset.changes().unwrap().count(), 1);
    assert_eq!(unwatched.table::<Note>().len(), 1);
    assert!(matches!(db.at(Revision(1)), Err(HistoryError::BelowFloor { .. })));
    let gone = db.changes().since(Revision(1)).unwrap_err();
    assert!(matches!(gone, FeedError::Gone { .. }), "{gone}");
    db.apply_incremental(third.as_slice(), LoadOptions::new()).unwrap();
    assert!(db.at(Revision(2)).is_err());
    put(&db, 4, "four");
    assert_eq!(db.at(Revision(3)).unwrap().table::<Note>().len(), 3);
}

pub(crate) struct Notes;

impl Fsm for Notes {
    type Command = (u8, String);
    type Reply = ();

    fn apply(&self, txn: &mut fsmdb::WriteTxn<'_>, _: Applied, (id, text): (u8, String)) {
        txn.upsert(Note { id, text }).unwrap();
    }
}

#[test]
fn a_machine_is_fed_by_links_and_goes_on_with_the_log() {
    let machine = || Machine::new(builder().keep_digests().build().unwrap(), Notes).unwrap();
    let (leader, follower) = (machine(), machine());
    let apply = |machine: &Machine<Notes>, index: u64| {
        let entry = Machine::<Notes>::encode(&(index as u8, format!("entry {index}"))).unwrap();
        machine.apply(Applied { index, term: 1 }, &entry).unwrap();
    };
    (1..=3).for_each(|index| apply(&leader, index));
    let base = leader.read();
    let mut whole = Vec::new();
    base.save(&mut whole).unwrap();
    (4..=6).for_each(|index| apply(&leader, index));
    let link = since(&leader.read(), &base);
    let early = follower.install_incremental(link.as_slice(), LoadOptions::new());
    assert!(early.unwrap_err().to_string().contains("is based on revision 3"));
    follower.install(whole.as_slice()).unwrap();
    let at = follower.install_incremental(link.as_slice(), LoadOptions::new()).unwrap();
    assert_eq!((at, follower.applied()), (Applied { index: 6, term: 1 }, at));
    apply(&leader, 7);
    apply(&follower, 7);
    assert_eq!(file_of(follower.db()), file_of(leader.db()));
    assert_eq!(follower.db().digests().unwrap(), leader.db().digests().unwrap());
    let restarted = machine();
    restarted.install_chain([whole.as_slice(), link.as_slice()], LoadOptions::new()).unwrap();
    apply(&restarted, 7);
    assert_eq!(file_of(restarted.db()), file_of(leader.db()));
}

#[test]
fn progress_of_a_link_is_told_and_it_can_be_cancelled() {
    let (_, [whole, second, _]) = chain();
    let db = builder().load(whole.as_slice()).unwrap();
    let options = LoadOptions::new().progress(|_| Progress::CANCEL);
    let error = db.apply_incremental(second.as_slice(), options).unwrap_err();
    assert!(matches!(error, SnapshotError::Cancelled { .. }), "{error}");
    assert_eq!(file_of(&db), whole);
}
