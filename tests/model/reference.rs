//! The plain model: sorted vectors of rows, searched from end to end. It has no index, no sharing
//! and no cleverness.

use std::ops::Bound;

use proptest::prelude::*;
use proptest_state_machine::ReferenceStateMachine;

use crate::rows::{Item, Pair, Probe};
use crate::steps::{HELD_MAX, Statement, Step, step};

/// A row with its metadata.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stored<T> {
    pub(crate) value: T,
    pub(crate) created: u64,
    pub(crate) modified: u64,
}

/// One version of the database.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct State {
    pub(crate) revision: u64,
    pub(crate) items: Vec<Stored<Item>>,
    pub(crate) items_modified: u64,
    pub(crate) pairs: Vec<Stored<Pair>>,
    pub(crate) pairs_modified: u64,
}

impl State {
    /// As it is once a transaction that began with `base` is committed: a table in which everything
    /// came and went has not changed.
    fn after(mut self, base: &Self) -> Self {
        if self.items == base.items {
            self.items_modified = base.items_modified;
        }
        if self.pairs == base.pairs {
            self.pairs_modified = base.pairs_modified;
        }
        self
    }
}

/// An open transaction.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    pub(crate) base: State,
    pub(crate) now: State,
    pub(crate) statements: usize,
    savepoints: Vec<(State, usize)>,
}

/// What a statement came to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// It put or deleted this many rows.
    Done(usize),
    KeyExists,
    NotFound,
    KeyChanged,
    Taken {
        index: String,
        owner: String,
    },
}

/// Everything that the model knows.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) committed: State,
    pub(crate) open: Option<Open>,
    pub(crate) held: Vec<State>,
    /// Of the last statement.
    pub(crate) outcome: Outcome,
}

impl Default for World {
    fn default() -> Self {
        let committed = State::default();
        Self { committed, open: None, held: Vec::new(), outcome: Outcome::Done(0) }
    }
}

fn order(pair: &Pair) -> (&str, &str) {
    (&pair.left, &pair.right)
}

/// Whether `value` lies between the bounds.
pub(crate) fn within<V: Ord>(value: &V, (low, high): &(Bound<V>, Bound<V>)) -> bool {
    let above = match low {
        Bound::Unbounded => true,
        Bound::Included(low) => value >= low,
        Bound::Excluded(low) => value > low,
    };
    let below = match high {
        Bound::Unbounded => true,
        Bound::Included(high) => value <= high,
        Bound::Excluded(high) => value < high,
    };
    above && below
}

impl State {
    /// The row that has a unique value of `item`, by the order of the indexes.
    fn conflict(&self, item: &Item) -> Option<Outcome> {
        let others = || self.items.iter().map(|row| &row.value).filter(|row| row.id != item.id);
        let taken = |index: &str, owner: &Item| Outcome::Taken {
            index: index.to_owned(),
            owner: owner.id.to_string(),
        };
        if let Some(owner) = others().find(|other| other.name == item.name) {
            return Some(taken("name", owner));
        }
        let mut codes = item.codes.clone();
        codes.sort_unstable();
        for code in codes {
            if let Some(owner) = others().find(|other| other.codes.contains(&code)) {
                return Some(taken("codes", owner));
            }
        }
        let same_slot = |other: &&Item| other.live && item.live && other.slot == item.slot;
        others().find(same_slot).map(|owner| taken("slot", owner))
    }

    fn put(&mut self, item: Item, revision: u64) -> Outcome {
        if let Some(conflict) = self.conflict(&item) {
            return conflict;
        }
        let at = self.items.iter().position(|row| row.value.id == item.id);
        let created = at.map_or(revision, |at| self.items[at].created);
        let row = Stored { value: item, created, modified: revision };
        match at {
            Some(at) => self.items[at] = row,
            None => self.items.push(row),
        }
        self.items.sort_by_key(|row| row.value.id);
        self.items_modified = revision;
        Outcome::Done(1)
    }

    pub(crate) fn insert(&mut self, item: Item, revision: u64) -> Outcome {
        if self.items.iter().any(|row| row.value.id == item.id) {
            return Outcome::KeyExists;
        }
        self.put(item, revision)
    }

    fn update(&mut self, id: u8, item: Item, revision: u64) -> Outcome {
        if !self.items.iter().any(|row| row.value.id == id) {
            return Outcome::NotFound;
        }
        if item.id != id {
            return Outcome::KeyChanged;
        }
        self.put(item, revision)
    }

    fn delete_items(&mut self, revision: u64, doomed: impl Fn(&Item) -> bool) -> Outcome {
        let before = self.items.len();
        self.items.retain(|row| !doomed(&row.value));
        let deleted = before - self.items.len();
        if deleted > 0 {
            self.items_modified = revision;
        }
        Outcome::Done(deleted)
    }

    fn put_pair(&mut self, pair: Pair, revision: u64) -> Outcome {
        let same = |row: &&Stored<Pair>| order(&row.value) == order(&pair);
        let mut others = self.pairs.iter().filter(|row| !same(row));
        let owner = others.find(|row| pair.number.is_some() && row.value.number == pair.number);
        if let Some(owner) = owner {
            let owner = format!("{:?}", order(&owner.value));
            return Outcome::Taken { index: "number".into(), owner };
        }
        let created = self.pairs.iter().find(same).map_or(revision, |row| row.created);
        self.pairs.retain(|row| order(&row.value) != order(&pair));
        self.pairs.push(Stored { value: pair, created, modified: revision });
        self.pairs.sort_by(|one, other| order(&one.value).cmp(&order(&other.value)));
        self.pairs_modified = revision;
        Outcome::Done(1)
    }

    fn run(&mut self, statement: &Statement, revision: u64) -> Outcome {
        match statement {
            Statement::Insert(item) => self.insert(item.clone(), revision),
            Statement::Upsert(item) => self.put(item.clone(), revision),
            Statement::Update(id, item) => self.update(*id, item.clone(), revision),
            Statement::Delete(id) => self.delete_items(revision, |item| item.id == *id),
            Statement::DeleteRange(low, high) => {
                self.delete_items(revision, |item| within(&item.id, &(*low, *high)))
            }
            Statement::DeleteGroup(group) | Statement::DeleteRanks(group) => {
                self.delete_items(revision, |item| item.group == *group)
            }
            Statement::DeleteTags(low, high) => self.delete_items(revision, |item| {
                item.tags.iter().any(|tag| (low..=high).contains(&tag))
            }),
            Statement::DeleteName(name) => self.delete_items(revision, |item| item.name == *name),
            Statement::Retain(modulus) => {
                self.delete_items(revision, |item| item.id % modulus == 0)
            }
            Statement::PutPair(pair) => self.put_pair(pair.clone(), revision),
            Statement::DeletePairs(left) => {
                let before = self.pairs.len();
                self.pairs.retain(|row| row.value.left != *left);
                let deleted = before - self.pairs.len();
                if deleted > 0 {
                    self.pairs_modified = revision;
                }
                Outcome::Done(deleted)
            }
        }
    }
}

impl Open {
    fn new(base: &State) -> Self {
        let now = State { revision: base.revision + 1, ..base.clone() };
        Self { base: base.clone(), now, statements: 0, savepoints: Vec::new() }
    }

    fn run(&mut self, statement: &Statement) -> Outcome {
        let outcome = self.now.run(statement, self.now.revision);
        if let Outcome::Done(rows) = outcome {
            self.statements += rows;
        }
        outcome
    }
}

impl World {
    fn write(&mut self, statement: &Statement) {
        self.outcome = match &mut self.open {
            Some(open) => open.run(statement),
            None => {
                let mut open = Open::new(&self.committed);
                let outcome = open.run(statement);
                self.committed = open.now;
                outcome
            }
        };
    }
}

impl ReferenceStateMachine for World {
    type State = Self;
    type Transition = (Step, Probe);

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self::default()).boxed()
    }

    fn transitions(_: &Self) -> BoxedStrategy<(Step, Probe)> {
        (step(), Probe::any()).boxed()
    }

    fn preconditions(state: &Self, (step, _): &(Step, Probe)) -> bool {
        !matches!(step, Step::Hold) || state.held.len() < HELD_MAX
    }

    fn apply(mut state: Self, (step, _): &(Step, Probe)) -> Self {
        match step {
            Step::Begin => {
                let committed = &state.committed;
                state.open.get_or_insert_with(|| Open::new(committed));
            }
            Step::Commit => {
                if let Some(open) = state.open.take() {
                    state.committed = open.now.after(&open.base);
                }
            }
            Step::Rollback => state.open = None,
            Step::RollbackAll => {
                if let Some(open) = &mut state.open {
                    let savepoints = std::mem::take(&mut open.savepoints);
                    *open = Open { savepoints, ..Open::new(&state.committed) };
                }
            }
            Step::Savepoint => {
                if let Some(open) = &mut state.open {
                    open.savepoints.push((open.now.clone(), open.statements));
                }
            }
            Step::RollbackTo(which) => {
                if let Some(open) = &mut state.open
                    && !open.savepoints.is_empty()
                {
                    let at = which.index(open.savepoints.len());
                    (open.now, open.statements) = open.savepoints[at].clone();
                }
            }
            Step::Write(statement) => state.write(statement),
            Step::Hold => {
                let now = state.open.as_ref().map_or(&state.committed, |open| &open.now);
                state.held.push(now.clone());
            }
            Step::Drop(which) => {
                if !state.held.is_empty() {
                    state.held.remove(which.index(state.held.len()));
                }
            }
            Step::Reload => {}
            Step::Restore(which) => {
                if state.open.is_none() && !state.held.is_empty() {
                    state.committed = state.held[which.index(state.held.len())].clone();
                }
            }
        }
        state
    }
}
