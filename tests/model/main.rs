//! The database against a plain model: random statements, transactions, savepoints, snapshots held
//! for long, files and restores, on tables that carry every kind of index at once.
//!
//! The model (`reference.rs`) is sorted vectors that are searched from end to end; after each step
//! everything that can be read is compared with what the model gives (`compare.rs`), and `check()`
//! recomputes every index and digest.

#![cfg(feature = "derive")]

mod compare;
mod reference;
mod rows;
mod steps;

use fsmdb::{Db, Error, Snapshot, WriteTxn};
use proptest::test_runner::{Config, RngSeed};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use compare::{compare_changes, compare_diff, compare_state};
use reference::{Outcome, World};
use rows::{Item, Pair};
use steps::{Statement, Step, Step::*};

prop_state_machine! {
    // A fixed seed, so that a run says something about the change and not about luck.
    #![proptest_config(Config {
        cases: 100,
        rng_seed: RngSeed::Fixed(0x0F5A_1DB0),
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..Config::default()
    })]

    #[test]
    fn random_histories_equal_the_model(sequential 40..70 => System);
}

prop_state_machine! {
    #![proptest_config(Config {
        cases: 3_000,
        failure_persistence: None,
        ..Config::default()
    })]

    #[test]
    #[ignore = "minutes; with another seed each time"]
    fn many_long_histories_equal_the_model(sequential 100..200 => System);
}

/// The database under test. A database lives as long as the process, so that the open transaction
/// can stand beside it.
struct System {
    db: &'static Db,
    txn: Option<WriteTxn<'static>>,
    savepoints: Vec<fsmdb::Savepoint>,
    held: Vec<Snapshot>,
}

fn leak(db: Db) -> &'static Db {
    Box::leak(Box::new(db))
}

impl StateMachineTest for System {
    type SystemUnderTest = Self;
    type Reference = World;

    fn init_test(_: &World) -> Self {
        let builder = Db::builder().table::<Item>().table::<Pair>().keep_digests();
        let db = builder.build().expect("it is sound");
        Self { db: leak(db), txn: None, savepoints: Vec::new(), held: Vec::new() }
    }

    fn apply(mut system: Self, model: &World, step: (Step, rows::Probe)) -> Self {
        system.step(model, step.0);
        let committed = system.db.read();
        compare_state(&committed, &model.committed, &step.1);
        committed.check().expect("every index equals its recomputation");
        if let (Some(txn), Some(open)) = (&mut system.txn, &model.open) {
            compare_state(txn, &open.now, &step.1);
            compare_changes(&txn.changes(), &open.base, &open.now);
            assert_eq!(txn.is_changed(), open.statements > 0);
            txn.snapshot().check().expect("every index equals its recomputation");
        }
        assert_eq!(system.held.len(), model.held.len());
        for (snap, state) in system.held.iter().zip(&model.held) {
            compare_state(snap, state, &step.1);
            snap.check().expect("every index equals its recomputation");
            compare_diff((&committed, &model.committed), (snap, state));
            compare_diff((snap, state), (&committed, &model.committed));
        }
        system
    }
}

impl System {
    fn step(&mut self, model: &World, step: Step) {
        match step {
            Begin => {
                if self.txn.is_none() {
                    self.txn = Some(self.db.write());
                }
            }
            Commit => {
                self.savepoints.clear();
                if let Some(txn) = self.txn.take() {
                    assert_eq!(txn.commit().0, model.committed.revision);
                }
            }
            Rollback => {
                self.savepoints.clear();
                self.txn = None;
            }
            RollbackAll => {
                if let Some(txn) = &mut self.txn {
                    txn.rollback_all();
                }
            }
            Savepoint => self.savepoints.extend(self.txn.as_mut().map(WriteTxn::savepoint)),
            RollbackTo(which) => {
                if let Some(txn) = &mut self.txn
                    && !self.savepoints.is_empty()
                {
                    txn.rollback_to(&self.savepoints[which.index(self.savepoints.len())]);
                }
            }
            Write(statement) => self.write(statement, &model.outcome),
            Hold => self.held.push(match &mut self.txn {
                Some(txn) => txn.snapshot(),
                None => self.db.read(),
            }),
            Drop(which) => {
                if !self.held.is_empty() {
                    self.held.remove(which.index(self.held.len()));
                }
            }
            Reload => self.reload(),
            Restore(which) => {
                if self.txn.is_none() && !self.held.is_empty() {
                    let file = file_of(&self.held[which.index(self.held.len())]);
                    self.db.restore(file.as_slice()).expect("a file that was saved is good");
                }
            }
        }
    }

    /// Runs a statement in the open transaction, or in one of its own.
    fn write(&mut self, statement: Statement, expected: &Outcome) {
        let outcome = match &mut self.txn {
            Some(txn) => run(txn, statement),
            None => {
                let mut txn = self.db.write();
                let outcome = run(&mut txn, statement);
                txn.commit();
                outcome
            }
        };
        assert_eq!(&outcome, expected);
    }

    /// Saves, loads with the tables in another order, and goes on with what was loaded.
    fn reload(&mut self) {
        let file = file_of(&self.db.read());
        let builder = Db::builder().table::<Pair>().table::<Item>().keep_digests();
        let copy = builder.load(file.as_slice()).expect("a file that was saved is good");
        assert_eq!(file_of(&copy.read()), file);
        assert_eq!(copy.digests(), self.db.digests());
        copy.check().expect("every index equals its recomputation");
        if self.txn.is_none() {
            self.db = leak(copy);
        }
    }
}

fn file_of(snap: &Snapshot) -> Vec<u8> {
    let mut file = Vec::new();
    let summary = snap.save(&mut file).expect("memory does not fail");
    assert_eq!(fsmdb::inspect(file.as_slice()).expect("what was saved is good"), summary);
    file
}

/// What happened, in the words of the model.
fn outcome<T>(result: Result<T, Error>) -> Outcome {
    match result {
        Ok(_) => Outcome::Done(1),
        Err(Error::KeyExists { .. }) => Outcome::KeyExists,
        Err(Error::NotFound { .. }) => Outcome::NotFound,
        Err(Error::KeyChanged { .. }) => Outcome::KeyChanged,
        Err(Error::Taken { index, owner, .. }) => Outcome::Taken { index, owner },
        Err(other) => panic!("the model knows no {other}"),
    }
}

fn run(txn: &mut WriteTxn<'_>, statement: Statement) -> Outcome {
    use Statement as S;
    let mut items = txn.table_mut::<Item>();
    let done = match statement {
        S::Insert(item) => return outcome(items.insert(item)),
        S::Upsert(item) => return outcome(items.upsert(item)),
        S::Update(id, item) => return outcome(items.update(&id, |row| *row = item)),
        S::Delete(id) => usize::from(items.delete(&id).is_some()),
        S::DeleteRange(low, high) => items.delete_all((low, high)),
        S::DeleteGroup(group) => items.index(Item::BY_GROUP).delete_all(group),
        S::DeleteTags(low, high) => items.index(Item::BY_TAGS).delete_range(low..=high),
        S::DeleteName(name) => items.index(Item::BY_NAME).delete_all(name),
        S::DeleteRanks(group) => items.index(Item::BY_GROUP_RANK).delete_prefix(&(group,)),
        S::Retain(modulus) => items.retain(|row| row.id % modulus != 0),
        S::PutPair(pair) => return outcome(txn.upsert(pair)),
        S::DeletePairs(left) => txn.table_mut::<Pair>().delete_prefix(&(left,)),
    };
    Outcome::Done(done)
}

/// The model alone keeps its rows sorted, and finds conflicts.
#[test]
fn the_model_refuses_what_it_should() {
    let item = rows::plain(1);
    let mut state = reference::State::default();
    assert_eq!(state.insert(item.clone(), 1), Outcome::Done(1));
    assert_eq!(state.insert(item.clone(), 2), Outcome::KeyExists);
    let other = Item { id: 0, ..item };
    let taken = Outcome::Taken { index: "name".into(), owner: "1".into() };
    assert_eq!(state.insert(other.clone(), 2), taken);
    let other = Item { name: "other".into(), slot: 9, ..other };
    assert_eq!(state.insert(other, 2), Outcome::Done(1));
    assert!(state.items.is_sorted_by_key(|row| row.value.id) && state.items.len() == 2);
    assert!(World::apply(World::default(), &(Hold, rows::Probe::default())).held.len() == 1);
}
