//! The highest revision of a key, an index value, a range or a prefix: exact with enough
//! tombstones, never too low and never falling with few, that of the table without.

use std::collections::{BTreeMap, BTreeSet};

use fsmdb::{
    Db, Error, Read, Revision, Savepoint, StartsWith, Table, TableReader, Write, WriteTxn,
};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

macro_rules! table {
    ($row:ident, $name:literal, $tombstones:literal) => {
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Table)]
        #[table(name = $name, tombstones = $tombstones)]
        struct $row {
            #[key]
            id: String,
            #[index]
            group: u8,
            #[index(multi)]
            tags: Vec<u8>,
            #[index(unique)]
            slot: Option<u8>,
        }

        impl From<Put> for $row {
            fn from(Put { id, group, tags, slot }: Put) -> Self {
                Self { id: name_of(id), group, tags, slot }
            }
        }

        impl Rows for $row {
            fn answers(rows: TableReader<'_, Self>) -> Answers {
                let mut answers = Answers::new();
                for id in 0..IDS {
                    answers.insert(Place::Id(id), rows.modified_of(name_of(id).as_str()));
                }
                for value in 0..VALUES {
                    let groups = rows.index(Self::BY_GROUP);
                    answers.insert(Place::Group(value), groups.modified_of(&value));
                    let from = groups.modified_in(value..);
                    answers.insert(Place::GroupsFrom(value), from);
                    let tagged = rows.index(Self::BY_TAGS).modified_of(&value);
                    answers.insert(Place::Tag(value), tagged);
                    let slots = rows.index(Self::BY_SLOT);
                    answers.insert(Place::Slot(value), slots.modified_of(&value));
                    answers.insert(Place::SlotsTo(value), slots.modified_in(..=value));
                }
                for prefix in ["a/", "b/", "c/"] {
                    let under = rows.modified_under(&StartsWith(prefix));
                    answers.insert(Place::Under(prefix), under);
                    let id = name_of(0);
                    let before = rows.modified_in(id.as_str()..prefix);
                    answers.insert(Place::Before(prefix), before);
                }
                answers.insert(Place::All, rows.modified_in(..));
                answers
            }
        }
    };
}

table!(Exact, "exact", 100_000);
table!(Few, "few", 4);
table!(None_, "none", 0);

const IDS: u8 = 9;
const VALUES: u8 = 4;

fn name_of(id: u8) -> String {
    format!("{}/{id}", ["a", "b", "c"][usize::from(id / 3)])
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Id(u8),
    Group(u8),
    GroupsFrom(u8),
    Tag(u8),
    Slot(u8),
    SlotsTo(u8),
    Under(&'static str),
    Before(&'static str),
    All,
}

type Answers = BTreeMap<Place, Revision>;

trait Rows: Table {
    fn answers(rows: TableReader<'_, Self>) -> Answers;
}

#[derive(Clone, Debug)]
struct Put {
    id: u8,
    group: u8,
    tags: Vec<u8>,
    slot: Option<u8>,
}

#[derive(Clone, Debug)]
enum Step {
    Put(Put),
    Delete(u8),
    DeleteAll,
    /// Deletes all and puts these, which begin with their numbers.
    Fill(Vec<(u8, Vec<u8>)>),
    Savepoint,
    RollBack,
    Abort,
    Commit,
    Reload,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let tags = prop::collection::vec(0..VALUES, 0..3);
    let put = (0..IDS, 0..VALUES, tags, prop::option::of(0..VALUES))
        .prop_map(|(id, group, tags, slot)| Step::Put(Put { id, group, tags, slot }));
    let step = prop_oneof![
        12 => put,
        6 => (0..IDS).prop_map(Step::Delete),
        1 => Just(Step::DeleteAll),
        1 => prop::collection::vec((0..VALUES, prop::collection::vec(0..VALUES, 0..2)), 0..5)
            .prop_map(Step::Fill),
        1 => Just(Step::Savepoint),
        1 => Just(Step::RollBack),
        1 => Just(Step::Abort),
        8 => Just(Step::Commit),
        2 => Just(Step::Reload),
    ];
    prop::collection::vec(step, 1..60)
}

/// When each place was touched last, and the rows as they are.
#[derive(Clone, Debug, Default)]
struct Model {
    touched: BTreeMap<Place, Revision>,
    rows: BTreeMap<u8, Put>,
    /// The rows that statements of the transaction have written.
    written: BTreeSet<u8>,
}

impl Model {
    fn touch(&mut self, place: Place, revision: Revision) {
        self.touched.insert(place, revision);
    }

    fn touch_row(&mut self, id: u8, revision: Revision) {
        self.touch(Place::Id(id), revision);
        self.touch(Place::All, revision);
        self.touch(Place::Under(["a/", "b/", "c/"][usize::from(id / 3)]), revision);
        for prefix in ["b/", "c/"].into_iter().filter(|prefix| name_of(id).as_str() < *prefix) {
            self.touch(Place::Before(prefix), revision);
        }
        let Some(Put { group, tags, slot, .. }) = self.rows.get(&id).cloned() else { return };
        self.touch(Place::Group(group), revision);
        (0..=group).for_each(|from| self.touch(Place::GroupsFrom(from), revision));
        tags.iter().for_each(|tag| self.touch(Place::Tag(*tag), revision));
        let Some(slot) = slot else { return };
        self.touch(Place::Slot(slot), revision);
        (slot..VALUES).for_each(|to| self.touch(Place::SlotsTo(to), revision));
    }

    fn put(&mut self, put: &Put, revision: Revision) {
        self.written.insert(put.id);
        self.touch_row(put.id, revision);
        self.rows.insert(put.id, put.clone());
        self.touch_row(put.id, revision);
    }

    fn delete(&mut self, id: u8, revision: Revision) {
        if self.rows.contains_key(&id) {
            self.written.insert(id);
            self.touch_row(id, revision);
            self.rows.remove(&id);
        }
    }

    /// After the commit of the transaction that made `draft`: what came and went leaves nothing.
    fn committed(&self, draft: &Self, revision: Revision) -> Self {
        let mut model = self.clone();
        for id in &draft.written {
            if self.rows.contains_key(id) {
                model.touch_row(*id, revision);
            }
            model.rows.remove(id);
            if let Some(row) = draft.rows.get(id) {
                model.rows.insert(*id, row.clone());
                model.touch_row(*id, revision);
            }
        }
        model
    }

    /// The exact answers.
    fn answers(&self, like: &Answers) -> Answers {
        let answer = |place| self.touched.get(place).copied().unwrap_or_default();
        like.keys().map(|place| (*place, answer(place))).collect()
    }
}

fn put(db: &mut impl Write, put: &Put) -> bool {
    let exact = Write::upsert(db, Exact::from(put.clone()));
    if let Err(error) = exact {
        assert!(matches!(error, Error::Taken { .. }), "{error}");
        return false;
    }
    Write::upsert(db, Few::from(put.clone())).unwrap();
    Write::upsert(db, None_::from(put.clone())).unwrap();
    true
}

fn fill<T: Table + From<Put>>(txn: &mut WriteTxn<'_>, rows: &[Put]) {
    let count = txn.table_mut::<T>().insert_all(rows.iter().cloned().map(T::from)).unwrap();
    assert_eq!(count, rows.len());
}

/// Does what stands of a transaction in another database, by an optimistic one.
fn repeat(other: &Db, net: &[Result<Put, u8>]) {
    let mut txn = other.optimistic();
    for step in net {
        match step {
            Ok(row) => assert!(put(&mut txn, row)),
            Err(id) => delete(&mut txn, *id),
        }
    }
    if txn.is_changed() {
        other.commit(txn).unwrap();
    } else {
        other.write().commit();
    }
}

fn delete(db: &mut impl Write, id: u8) {
    Write::table_mut::<Exact>(db).delete(name_of(id).as_str());
    Write::table_mut::<Few>(db).delete(name_of(id).as_str());
    Write::table_mut::<None_>(db).delete(name_of(id).as_str());
}

/// Compares what is said with what is so; `before` is what was said last.
fn compare(read: &impl Read, model: &Model, before: &mut Answers) {
    let exact = Exact::answers(read.table());
    assert_eq!(exact, model.answers(&exact));
    let few = Few::answers(read.table());
    let modified = read.table::<Few>().modified();
    for (place, said) in &few {
        assert!(exact[place] <= *said && *said <= modified, "{place:?}: {said}, {modified}");
        assert!(before.get(place).is_none_or(|before| before <= said), "{place:?} fell to {said}");
    }
    *before = few;
    let none = None_::answers(read.table());
    let modified = read.table::<None_>().modified();
    assert!(none.values().all(|said| *said == modified), "that of the table");
}

fn built(builder: fsmdb::Builder) -> fsmdb::Builder {
    builder.table::<Exact>().table::<Few>().table::<None_>()
}

fn file_of(db: &Db) -> Vec<u8> {
    let mut file = Vec::new();
    db.read().save(&mut file).unwrap();
    file
}

/// What a transaction has done so far, beside what it should say.
struct Run<'db> {
    txn: WriteTxn<'db>,
    beginning: Savepoint,
    savepoint: Option<(Savepoint, Model, usize)>,
    model: Model,
    /// The statements that stand: rows put, keys deleted.
    net: Vec<Result<Put, u8>>,
}

impl<'db> Run<'db> {
    fn new(db: &'db Db, model: &Model) -> Self {
        let mut txn = db.write();
        let beginning = txn.savepoint();
        Self { txn, beginning, savepoint: None, model: model.clone(), net: Vec::new() }
    }

    fn step(&mut self, step: Step, before: &Model) {
        let revision = self.txn.revision();
        match step {
            Step::Put(row) => {
                if put(&mut self.txn, &row) {
                    self.model.put(&row, revision);
                    self.net.push(Ok(row));
                }
            }
            Step::Delete(id) => {
                delete(&mut self.txn, id);
                self.model.delete(id, revision);
                self.net.push(Err(id));
            }
            Step::DeleteAll => {
                self.txn.table_mut::<Exact>().delete_all(..);
                self.txn.table_mut::<Few>().delete_all(..);
                self.txn.table_mut::<None_>().delete_all(..);
                (0..IDS).for_each(|id| self.model.delete(id, revision));
                self.net.extend((0..IDS).map(Err));
            }
            Step::Fill(rows) => {
                self.step(Step::DeleteAll, before);
                let rows = rows.into_iter().zip(0..IDS);
                let rows: Vec<_> =
                    rows.map(|((group, tags), id)| Put { id, group, tags, slot: None }).collect();
                fill::<Exact>(&mut self.txn, &rows);
                fill::<Few>(&mut self.txn, &rows);
                fill::<None_>(&mut self.txn, &rows);
                rows.iter().for_each(|row| self.model.put(row, revision));
                self.net.extend(rows.into_iter().map(Ok));
            }
            Step::Savepoint => {
                let savepoint = self.txn.savepoint();
                self.savepoint = Some((savepoint, self.model.clone(), self.net.len()));
            }
            Step::RollBack => {
                if let Some((savepoint, then, count)) = &self.savepoint {
                    self.txn.rollback_to(savepoint);
                    self.model = then.clone();
                    self.net.truncate(*count);
                }
            }
            Step::Abort => {
                self.txn.rollback_to(&self.beginning);
                (self.model, self.savepoint) = (before.clone(), None);
                self.net.clear();
            }
            Step::Commit | Step::Reload => unreachable!("these end a transaction"),
        }
    }
}

impl Run<'_> {
    /// Commits, and gives what is there now.
    fn commit(self, before: &Model) -> Model {
        let revision = self.txn.commit();
        before.committed(&self.model, revision)
    }
}

/// Loads what `db` saves, and shows that nothing is lost on the way.
fn reloaded(db: &Db, said: &Answers) -> Db {
    let file = file_of(db);
    let copy = built(Db::builder()).load(file.as_slice()).unwrap();
    assert_eq!(file_of(&copy), file);
    copy.check().unwrap();
    assert_eq!(Few::answers(copy.read().table()), *said);
    copy
}

fn run(steps: Vec<Step>) {
    let mut db = built(Db::builder()).build().unwrap();
    let other = built(Db::builder()).build().unwrap();
    let (mut model, mut said) = (Model::default(), Answers::new());
    let mut steps = steps.into_iter().peekable();
    while steps.peek().is_some() {
        let mut fork = db.read().fork();
        let mut run = Run::new(&db, &model);
        let mut end = Step::Commit;
        for step in steps.by_ref() {
            if matches!(step, Step::Commit | Step::Reload) {
                end = step;
                break;
            }
            run.step(step, &model);
            compare(&run.txn, &run.model, &mut said.clone());
        }
        // A fork in which the same is done says the same.
        for step in &run.net {
            match step {
                Ok(row) => assert!(put(&mut fork, row)),
                Err(id) => delete(&mut fork, *id),
            }
        }
        compare(&fork, &run.model, &mut said.clone());
        repeat(&other, &run.net);
        model = run.commit(&model);
        assert_eq!(file_of(&other), file_of(&db), "net changes leave the same tombstones");
        compare(&db.read(), &model, &mut said);
        db.check().unwrap();
        if matches!(end, Step::Reload) {
            db = reloaded(&db, &said);
        }
        compare(&db.read(), &model, &mut said);
    }
}

const CASES: u32 = if cfg!(debug_assertions) { 200 } else { 4_000 };

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn revisions_of_places_are_exact_or_never_too_low(steps in steps()) {
        run(steps);
    }
}
