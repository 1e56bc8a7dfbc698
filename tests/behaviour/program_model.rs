//! Random programs against a plain map: the same replies, refusals and rows.

use std::collections::BTreeMap;

use fsmdb::{
    Cmp, Compare, Db, Op, OpResult, Program, ProgramReply, Revision, Select, Table, WriteTxn,
};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Table)]
#[table(name = "items")]
struct Item {
    #[key]
    id: u8,
    #[index(unique)]
    name: u8,
    #[index(multi)]
    tags: Vec<u8>,
}

/// Which rows: by key, by name, by tag.
#[derive(Clone, Debug)]
enum Which {
    Ids(u8, u8),
    Name(u8),
    Tags(u8, u8),
}

#[derive(Clone, Debug)]
enum Test {
    Exists(u8),
    Absent(u8),
    Created(u8, Cmp, u64),
    Modified(u8, Cmp, u64),
    Equals(Item),
    Count(Which, Cmp, u64),
    TableModified(Cmp, u64),
}

#[derive(Clone, Debug)]
enum Action {
    Insert(Item),
    Upsert(Item),
    Delete(u8),
    DeleteAll(Which),
    Get(u8),
    Rows(Which, u32),
    Count(Which),
    Nested(Plan),
}

#[derive(Clone, Debug)]
struct Plan {
    tests: Vec<Test>,
    then: Vec<Action>,
    otherwise: Vec<Action>,
}

impl Which {
    fn select(&self) -> Select {
        match *self {
            Self::Ids(low, high) => Select::range::<Item>(low..high),
            Self::Name(name) => Select::value(Item::BY_NAME, &name),
            Self::Tags(low, high) => Select::value_range(Item::BY_TAGS, low..=high),
        }
    }

    /// The ids of the rows in the order in which they are found.
    fn find(&self, model: &Model) -> Vec<u8> {
        let rows = || model.rows.iter();
        match *self {
            Self::Ids(low, high) => {
                rows().map(|(id, _)| *id).filter(|id| (low..high).contains(id)).collect()
            }
            Self::Name(name) => {
                rows().filter(|(_, row)| row.item.name == name).map(|(id, _)| *id).collect()
            }
            Self::Tags(low, high) => {
                let entries =
                    rows().flat_map(|(id, row)| row.item.tags.iter().map(|tag| (*tag, *id)));
                let mut entries: Vec<_> =
                    entries.filter(|(tag, _)| (low..=high).contains(tag)).collect();
                entries.sort_unstable();
                entries.dedup();
                entries.into_iter().map(|(_, id)| id).collect()
            }
        }
    }
}

impl Plan {
    fn program(&self) -> Program {
        let op = |action: &Action| match action {
            Action::Insert(item) => Op::insert(item).unwrap(),
            Action::Upsert(item) => Op::upsert(item).unwrap(),
            Action::Delete(id) => Op::delete::<Item>(id),
            Action::DeleteAll(which) => Op::delete_all(which.select()),
            Action::Get(id) => Op::get::<Item>(id),
            Action::Rows(which, limit) => Op::rows(which.select(), *limit),
            Action::Count(which) => Op::count(which.select()),
            Action::Nested(plan) => Op::program(plan.program()).unwrap(),
        };
        let compare = |test: &Test| match test {
            Test::Exists(id) => Compare::exists::<Item>(id),
            Test::Absent(id) => Compare::absent::<Item>(id),
            Test::Created(id, is, at) => Compare::created::<Item>(id, *is, Revision(*at)),
            Test::Modified(id, is, at) => Compare::modified::<Item>(id, *is, Revision(*at)),
            Test::Equals(item) => Compare::equals(item).unwrap(),
            Test::Count(which, is, count) => Compare::count(which.select(), *is, *count),
            Test::TableModified(is, at) => Compare::table_modified::<Item>(*is, Revision(*at)),
        };
        Program::when(self.tests.iter().map(compare))
            .then(self.then.iter().map(op))
            .otherwise(self.otherwise.iter().map(op))
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Stored {
    item: Item,
    created: u64,
    modified: u64,
}

#[derive(Clone, Debug, Default)]
struct Model {
    rows: BTreeMap<u8, Stored>,
    modified: u64,
    revision: u64,
}

/// What an operation gives, in plain values.
#[derive(Debug, PartialEq)]
enum Plain {
    Inserted,
    Upserted(bool),
    Deleted(u64),
    Counted(u64),
    Rows(Vec<Stored>, bool),
    Nested(bool, Vec<Plain>),
}

fn is(found: u64, cmp: Cmp, given: u64) -> bool {
    match cmp {
        Cmp::Equal => found == given,
        Cmp::NotEqual => found != given,
        Cmp::Less => found < given,
        Cmp::AtMost => found <= given,
        Cmp::Greater => found > given,
        Cmp::AtLeast => found >= given,
    }
}

impl Model {
    fn holds(&self, test: &Test) -> bool {
        let revision = |id, of: fn(&Stored) -> u64| self.rows.get(id).map_or(0, of);
        match test {
            Test::Exists(id) => self.rows.contains_key(id),
            Test::Absent(id) => !self.rows.contains_key(id),
            Test::Created(id, cmp, at) => is(revision(id, |row| row.created), *cmp, *at),
            Test::Modified(id, cmp, at) => is(revision(id, |row| row.modified), *cmp, *at),
            Test::Equals(item) => self.rows.get(&item.id).is_some_and(|row| row.item == *item),
            Test::Count(which, cmp, count) => is(which.find(self).len() as u64, *cmp, *count),
            Test::TableModified(cmp, at) => is(self.modified, *cmp, *at),
        }
    }

    fn put(&mut self, item: &Item, may_replace: bool) -> Option<bool> {
        let before = self.rows.get(&item.id);
        let taken =
            self.rows.values().any(|row| row.item.name == item.name && row.item.id != item.id);
        if taken || (before.is_some() && !may_replace) {
            return None;
        }
        let created = before.map_or(self.revision, |row| row.created);
        let stored = Stored { item: item.clone(), created, modified: self.revision };
        self.modified = self.revision;
        Some(self.rows.insert(item.id, stored).is_some())
    }

    fn delete(&mut self, ids: &[u8]) -> u64 {
        let gone = ids.iter().filter(|id| self.rows.remove(id).is_some()).count();
        if gone > 0 {
            self.modified = self.revision;
        }
        gone as u64
    }

    fn read(&self, ids: &[u8], limit: usize) -> Plain {
        let rows = ids.iter().take(limit).map(|id| self.rows[id].clone()).collect();
        Plain::Rows(rows, ids.len() > limit)
    }

    /// `None` when an operation is refused; the model is spoiled then.
    fn run(&mut self, plan: &Plan) -> Option<(bool, Vec<Plain>)> {
        let succeeded = plan.tests.iter().all(|test| self.holds(test));
        let actions = if succeeded { &plan.then } else { &plan.otherwise };
        let mut results = Vec::new();
        for action in actions {
            results.push(match action {
                Action::Insert(item) => {
                    self.put(item, false)?;
                    Plain::Inserted
                }
                Action::Upsert(item) => Plain::Upserted(self.put(item, true)?),
                Action::Delete(id) => Plain::Deleted(self.delete(&[*id])),
                Action::DeleteAll(which) => {
                    let ids = which.find(self);
                    Plain::Deleted(self.delete(&ids))
                }
                Action::Get(id) if self.rows.contains_key(id) => self.read(&[*id], 1),
                Action::Get(_) => self.read(&[], 1),
                Action::Rows(which, limit) => self.read(&which.find(self), *limit as usize),
                Action::Count(which) => Plain::Counted(which.find(self).len() as u64),
                Action::Nested(plan) => {
                    let (succeeded, results) = self.run(plan)?;
                    Plain::Nested(succeeded, results)
                }
            });
        }
        Some((succeeded, results))
    }
}

fn stored(row: &fsmdb::Row<Item>) -> Stored {
    let (created, modified) = (row.created().0, row.modified().0);
    Stored { item: row.value().clone(), created, modified }
}

fn plain(reply: &ProgramReply) -> (bool, Vec<Plain>) {
    let result = |result: &OpResult| match result {
        OpResult::Inserted => Plain::Inserted,
        OpResult::Upserted { replaced } => Plain::Upserted(*replaced),
        OpResult::Deleted(count) => Plain::Deleted(*count),
        OpResult::Counted(count) => Plain::Counted(*count),
        OpResult::Rows(rows) => {
            let decoded = rows.decode::<Item>().unwrap();
            Plain::Rows(decoded.iter().map(|row| stored(row)).collect(), rows.more())
        }
        OpResult::Program(reply) => {
            let (succeeded, results) = plain(reply);
            Plain::Nested(succeeded, results)
        }
        other => panic!("{other:?}"),
    };
    (reply.succeeded, reply.results.iter().map(result).collect())
}

fn id() -> impl Strategy<Value = u8> {
    0..12_u8
}

fn item() -> impl Strategy<Value = Item> {
    let tags = prop::collection::vec(0..5_u8, 0..4);
    (id(), id(), tags).prop_map(|(id, name, tags)| Item { id, name, tags })
}

fn which() -> impl Strategy<Value = Which> {
    prop_oneof![
        (id(), id()).prop_map(|(low, high)| Which::Ids(low, high)),
        id().prop_map(Which::Name),
        (0..5_u8, 0..5_u8).prop_map(|(low, high)| Which::Tags(low, high)),
    ]
}

fn cmp() -> impl Strategy<Value = Cmp> {
    use Cmp::{AtLeast, AtMost, Equal, Greater, Less, NotEqual};
    prop::sample::select(vec![Equal, NotEqual, Less, AtMost, Greater, AtLeast])
}

fn test() -> impl Strategy<Value = Test> {
    prop_oneof![
        id().prop_map(Test::Exists),
        id().prop_map(Test::Absent),
        (id(), cmp(), 0..6_u64).prop_map(|(id, cmp, at)| Test::Created(id, cmp, at)),
        (id(), cmp(), 0..6_u64).prop_map(|(id, cmp, at)| Test::Modified(id, cmp, at)),
        item().prop_map(Test::Equals),
        (which(), cmp(), 0..4_u64).prop_map(|(which, cmp, count)| Test::Count(which, cmp, count)),
        (cmp(), 0..6_u64).prop_map(|(cmp, at)| Test::TableModified(cmp, at)),
    ]
}

fn plan() -> impl Strategy<Value = Plan> {
    let action = prop_oneof![
        2 => item().prop_map(Action::Insert),
        4 => item().prop_map(Action::Upsert),
        1 => id().prop_map(Action::Delete),
        1 => which().prop_map(Action::DeleteAll),
        1 => id().prop_map(Action::Get),
        1 => (which(), 0..6_u32).prop_map(|(which, limit)| Action::Rows(which, limit)),
        1 => which().prop_map(Action::Count),
    ];
    let action = action.prop_recursive(2, 12, 3, |inner| {
        let actions = || prop::collection::vec(inner.clone(), 0..3);
        (prop::collection::vec(test(), 0..2), actions(), actions())
            .prop_map(|(tests, then, otherwise)| Action::Nested(Plan { tests, then, otherwise }))
    });
    let actions = prop::collection::vec(action, 0..5);
    (prop::collection::vec(test(), 0..3), actions.clone(), actions)
        .prop_map(|(tests, then, otherwise)| Plan { tests, then, otherwise })
}

fn compare(txn: &mut WriteTxn<'_>, model: &Model) -> Result<(), TestCaseError> {
    let rows: Vec<_> = txn.table::<Item>().iter().map(stored).collect();
    prop_assert_eq!(rows, model.rows.values().cloned().collect::<Vec<_>>());
    prop_assert_eq!(txn.table::<Item>().modified().0, model.modified);
    prop_assert!(txn.snapshot().check().is_ok());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn programs_do_what_they_do_to_a_plain_map(
        transactions in prop::collection::vec(prop::collection::vec(plan(), 1..4), 1..6)
    ) {
        let db = Db::builder().table::<Item>().build().unwrap();
        let mut model = Model::default();
        for plans in transactions {
            let mut txn = db.write();
            let before = model.clone();
            model.revision += 1;
            for plan in plans {
                let program = Program::decode(&plan.program().encode().unwrap()).unwrap();
                let mut after = model.clone();
                match (txn.run(&program), after.run(&plan)) {
                    (Ok(reply), Some(expected)) => {
                        prop_assert_eq!(plain(&reply), expected);
                        model = after;
                    }
                    (Err(error), None) => prop_assert!(error.is_conflict(), "{}", error),
                    (found, expected) => prop_assert!(false, "{found:?}, not {expected:?}"),
                }
                compare(&mut txn, &model)?;
            }
            txn.commit();
            if model.rows == before.rows {
                model.modified = before.modified;
            }
        }
    }
}
