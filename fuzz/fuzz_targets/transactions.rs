//! Transactions against a plain map: statements, savepoints in any order, commits, aborts, held
//! snapshots and handles, restores, on a table with a unique, a compound and a multi-valued index.
//!
//! Every row that exists is counted; in the end there is none. `tree_ops.rs` looks at the shapes
//! of keys.

#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, RangeBounds};
use std::sync::atomic::{AtomicI64, Ordering};

use arbitrary::Arbitrary;
use fsmdb::{Db, Read, Row, Rows, Savepoint, SharedRow, Snapshot, Table, WriteTxn};
use libfuzzer_sys::fuzz_target;
use serde::{Deserialize, Serialize};

/// Steps of one input that are taken: each may cost a look at every row.
const STEPS_MAX: usize = 400;
/// Keys are below this.
const IDS: u16 = 4096;
const HELD_MAX: usize = 6;
const SAVEPOINTS_MAX: usize = 8;
const HANDLES_MAX: usize = 64;

static LIVE: AtomicI64 = AtomicI64::new(0);
/// Counts the row that it is a field of; the box makes a sanitizer see rows dropped twice.
#[derive(Debug)]
struct Token(Box<u8>);

impl Default for Token {
    fn default() -> Self {
        LIVE.fetch_add(1, Ordering::Relaxed);
        Self(Box::new(7))
    }
}

impl Clone for Token {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        assert_eq!(*self.0, 7);
        LIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "items", tombstones = 8)]
#[index(name = "group_name", on = (group, name))]
struct Item {
    #[key]
    id: u16,
    #[index(unique)]
    name: u16,
    #[index]
    group: u8,
    #[index(multi)]
    tags: Vec<u8>,
    #[serde(skip)]
    token: Token,
}

#[derive(Arbitrary, Clone, Debug, PartialEq)]
struct Fields {
    name: u16,
    group: u8,
    tags: Vec<u8>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Put {
    Insert,
    Upsert,
    Update,
}

type Range<T> = (Bound<T>, Bound<T>);

#[derive(Arbitrary, Debug)]
enum Step {
    Put(Put, u16, Fields),
    /// Rows from a key on: how many, and how far apart.
    Fill(u16, u16, u8),
    DeleteRun(u16, u16, u8),
    /// As `Fill`, all in one statement; often refused, unless the table is empty.
    InsertAll(u16, u16, u8),
    Delete(u16),
    DeleteRange(Range<u16>),
    DeleteAll,
    DeleteGroup(u8),
    DeleteTags(Range<u8>),
    Retain(u8),
    Savepoint,
    RollbackTo(u8),
    DropSavepoint(u8),
    RollbackAll,
    Hold,
    View,
    Reread(u8),
    Release(u8),
    Share(u16),
    Scan(Range<u16>, Range<u8>, u16),
    Commit,
    Abort,
    Restore(u8),
}

/// A row as the model knows it.
#[derive(Clone, Debug, PartialEq)]
struct Stored {
    fields: Fields,
    created: u64,
    modified: u64,
}

#[derive(Clone, Debug, Default)]
struct State {
    rows: BTreeMap<u16, Stored>,
    names: BTreeMap<u16, u16>,
    revision: u64,
}

impl State {
    fn put(&mut self, how: Put, id: u16, fields: Fields, revision: u64) -> bool {
        let before = self.rows.get(&id);
        let is_refused = match how {
            Put::Insert => before.is_some(),
            Put::Upsert => false,
            Put::Update => before.is_none(),
        };
        if is_refused || self.names.get(&fields.name).is_some_and(|owner| *owner != id) {
            return false;
        }
        let created = before.map_or(revision, |row| row.created);
        if let Some(before) = before {
            self.names.remove(&before.fields.name);
        }
        self.names.insert(fields.name, id);
        self.rows.insert(id, Stored { fields, created, modified: revision });
        true
    }

    fn delete(&mut self, doomed: impl Fn(u16, &Fields) -> bool) -> usize {
        let Self { rows, names, .. } = self;
        let before = rows.len();
        rows.retain(|id, row| {
            let goes = doomed(*id, &row.fields);
            if goes {
                names.remove(&row.fields.name);
            }
            !goes
        });
        before - rows.len()
    }
}

/// What outlives transactions.
struct World {
    db: Db,
    committed: State,
    held: Vec<(Snapshot, State)>,
    handles: Vec<(SharedRow<Item>, u16, Stored)>,
}

fn ids(start: u16, count: u16, stride: u8) -> impl Iterator<Item = u16> + Clone {
    let apart = u16::from(stride);
    (0..count % 1024).map(move |step| start.wrapping_add(step.wrapping_mul(apart)) % IDS)
}

fn at<T>(list: &[T], which: u8) -> Option<usize> {
    usize::from(which).checked_rem(list.len())
}

fn is(row: &Row<Item>, id: u16, stored: &Stored) -> bool {
    let Stored { fields, created, modified } = stored;
    (row.id, row.name, row.group, &row.tags) == (id, fields.name, fields.group, &fields.tags)
        && (row.created().0, row.modified().0) == (*created, *modified)
        && *row.token.0 == 7
}

/// The rows are the expected ones, from the front and from the back.
fn same<'a>(found: impl Fn() -> Rows<'a, Item>, expected: &[(u16, &Stored)]) {
    let mut rows = found();
    for (id, stored) in expected {
        let row = rows.next().expect("a row is missing");
        assert!(is(row, *id, stored), "{row:?} is not {id} {stored:?}");
    }
    assert!(rows.next().is_none(), "a row too many");
    let mut rows = found();
    for (id, stored) in expected.iter().rev() {
        let row = rows.next_back().expect("a row is missing, reversed");
        assert!(is(row, *id, stored), "{row:?} is not {id} {stored:?}, reversed");
    }
    assert!(rows.next_back().is_none(), "a row too many, reversed");
}

/// The rows of an index: `values` gives those of one row.
fn entries<'a, V: Ord>(
    state: &'a State,
    values: impl Fn(&'a Fields) -> Vec<V>,
) -> Vec<(V, (u16, &'a Stored))> {
    let mut entries = Vec::new();
    for (id, row) in &state.rows {
        let own: BTreeSet<_> = values(&row.fields).into_iter().collect();
        entries.extend(own.into_iter().map(|value| (value, (*id, row))));
    }
    entries.sort_by(|(one, _), (other, _)| one.cmp(other));
    entries
}

fn within<'a, V: Ord>(
    entries: &[(V, (u16, &'a Stored))],
    range: &Range<V>,
) -> Vec<(u16, &'a Stored)> {
    entries.iter().filter(|(value, _)| range.contains(value)).map(|(_, row)| *row).collect()
}

fn rows_of<'a, V>(entries: &[(V, (u16, &'a Stored))]) -> Vec<(u16, &'a Stored)> {
    entries.iter().map(|(_, row)| *row).collect()
}

/// Reads everything.
fn compare(read: &impl Read, state: &State) {
    let table = read.table::<Item>();
    assert_eq!(read.revision().0, state.revision);
    let rows: Vec<_> = state.rows.iter().map(|(id, row)| (*id, row)).collect();
    assert_eq!(table.len(), rows.len());
    same(|| table.iter(), &rows);
    let names = entries(state, |row| vec![row.name]);
    let groups = entries(state, |row| vec![row.group]);
    let tags = entries(state, |row| row.tags.clone());
    same(|| table.index(Item::BY_NAME).iter(), &rows_of(&names));
    same(|| table.index(Item::BY_TAGS).iter(), &rows_of(&tags));
    same(|| table.index(Item::BY_GROUP).iter(), &rows_of(&groups));
    assert_eq!(table.index(Item::BY_TAGS).len(), tags.len());
}

/// Reads parts, by every kind of read.
fn scan(read: &impl Read, state: &State, ids: Range<u16>, bytes: Range<u8>, probe: u16) {
    let table = read.table::<Item>();
    let keyed: Vec<_> = state.rows.iter().map(|(id, row)| (*id, (*id, row))).collect();
    let inside = within(&keyed, &ids);
    same(|| table.range(ids), &inside);
    assert_eq!(table.count(ids), inside.len());
    assert_eq!(table.rank(&probe), state.rows.range(..probe).count());
    let nth = table.nth(ids, usize::from(probe));
    assert_eq!(nth.map(|row| row.id), inside.get(usize::from(probe)).map(|(id, _)| *id));
    let keys: Vec<_> = (0..19).map(|step: u16| probe.wrapping_add(step * step) % IDS).collect();
    for (key, row) in keys.iter().zip(table.get_many(&keys)) {
        let expected = state.rows.get(key);
        assert_eq!(row.is_some(), expected.is_some());
        assert!(row.zip(expected).is_none_or(|(row, expected)| is(row, *key, expected)));
        assert_eq!(table.contains(key), expected.is_some());
    }

    let names = entries(state, |fields| vec![fields.name]);
    let (inside, index) = (within(&names, &ids), table.index(Item::BY_NAME));
    same(|| index.range(ids), &inside);
    assert_eq!(index.count(ids), inside.len());
    assert_eq!(index.get(&probe).map(|row| row.id), state.names.get(&probe).copied());

    let tags = entries(state, |fields| fields.tags.clone());
    let (inside, index) = (within(&tags, &bytes), table.index(Item::BY_TAGS));
    same(|| index.range(bytes), &inside);
    assert_eq!(index.count(bytes), inside.len());
    let nth = index.nth(bytes, usize::from(probe % 64));
    assert_eq!(nth.map(|row| row.id), inside.get(usize::from(probe % 64)).map(|(id, _)| *id));
    let tag = probe as u8;
    assert_eq!(index.rank(&tag), tags.iter().filter(|(value, _)| *value < tag).count());
    same(|| index.get(&tag), &within(&tags, &(Bound::Included(tag), Bound::Included(tag))));

    let pairs = entries(state, |fields| vec![(fields.group, fields.name)]);
    let (low, high) = (Bound::Included((tag, 0)), Bound::Included((tag, u16::MAX)));
    same(|| table.index(Item::BY_GROUP_NAME).prefix(&(tag,)), &within(&pairs, &(low, high)));
}

/// One transaction and the model of it.
struct Open<'db> {
    txn: WriteTxn<'db>,
    now: State,
    savepoints: Vec<(Savepoint, State)>,
}

impl Open<'_> {
    fn put(&mut self, how: Put, id: u16, fields: Fields) {
        let revision = self.txn.revision().0;
        let Fields { name, group, tags } = fields.clone();
        let item = Item { id, name, group, tags, token: Token::default() };
        let mut table = self.txn.table_mut::<Item>();
        let outcome = match how {
            Put::Insert => table.insert(item).map(drop),
            Put::Upsert => table.upsert(item).map(drop),
            Put::Update => table.update(&id, |old| *old = item).map(drop),
        };
        let is_done = self.now.put(how, id, fields, revision);
        assert_eq!(outcome.is_ok(), is_done, "{outcome:?}");
    }

    fn run(&mut self, start: u16, count: u16, stride: u8, is_put: bool) {
        for id in ids(start, count, stride) {
            if is_put {
                let tags = (0..id % 3).map(|tag| (id / 8 + tag) as u8).collect();
                let fields = Fields { name: id ^ 0x1555, group: id as u8 % 16, tags };
                self.put(Put::Upsert, id, fields);
            } else {
                self.delete_one(id);
            }
        }
    }

    fn insert_all(&mut self, start: u16, count: u16, stride: u8) {
        let revision = self.txn.revision().0;
        let ids = ids(start, count, stride);
        let fields =
            |id: u16| Fields { name: id / 2 * 3, group: id as u8, tags: vec![id as u8, 1] };
        let items = ids.clone().map(|id| {
            let Fields { name, group, tags } = fields(id);
            Item { id, name, group, tags, token: Token::default() }
        });
        let outcome = self.txn.table_mut::<Item>().insert_all(items);
        let mut now = self.now.clone();
        if ids.clone().all(|id| now.put(Put::Insert, id, fields(id), revision)) {
            assert_eq!(outcome, Ok(ids.count()));
            self.now = now;
        } else {
            assert!(outcome.is_err_and(|error| error.is_conflict()));
        }
    }

    fn delete_one(&mut self, id: u16) {
        let row = self.txn.table_mut::<Item>().delete(&id);
        let expected = self.now.rows.remove(&id);
        assert_eq!(row.is_some(), expected.is_some());
        if let Some((row, expected)) = row.zip(expected) {
            assert!(is(&row, id, &expected));
            self.now.names.remove(&expected.fields.name);
        }
    }

    fn delete(&mut self, step: &Step) {
        let mut table = self.txn.table_mut::<Item>();
        let (found, expected) = match step {
            Step::DeleteRange(range) => {
                (table.delete_all(*range), self.now.delete(|id, _| range.contains(&id)))
            }
            Step::DeleteGroup(group) => {
                let count = table.index(Item::BY_GROUP).delete_all(group);
                (count, self.now.delete(|_, fields| fields.group == *group))
            }
            Step::DeleteTags(range) => {
                let count = table.index(Item::BY_TAGS).delete_range(*range);
                let doomed = |fields: &Fields| fields.tags.iter().any(|tag| range.contains(tag));
                (count, self.now.delete(|_, fields| doomed(fields)))
            }
            Step::Retain(modulus) => {
                let goes = |id: u16| id % (u16::from(*modulus) + 2) == 0;
                (table.retain(|row| !goes(row.id)), self.now.delete(|id, _| goes(id)))
            }
            Step::DeleteAll => (table.delete_all(..), self.now.delete(|_, _| true)),
            _ => return,
        };
        assert_eq!(found, expected);
    }

    fn savepoint(&mut self, step: &Step, base: &State) {
        match step {
            Step::Savepoint if self.savepoints.len() < SAVEPOINTS_MAX => {
                self.savepoints.push((self.txn.savepoint(), self.now.clone()));
            }
            Step::RollbackTo(which) => {
                if let Some(at) = at(&self.savepoints, *which) {
                    self.txn.rollback_to(&self.savepoints[at].0);
                    self.now = self.savepoints[at].1.clone();
                }
            }
            Step::DropSavepoint(which) => {
                drop(at(&self.savepoints, *which).map(|at| self.savepoints.swap_remove(at)));
            }
            Step::RollbackAll => {
                self.txn.rollback_all();
                self.now = State { revision: self.now.revision, ..base.clone() };
            }
            _ => {}
        }
    }

    /// The net changes are the difference between the model before and the model now.
    fn compare_changes(&self, base: &State) {
        let mut changed: BTreeMap<_, (Option<&Stored>, Option<&Stored>)> = BTreeMap::new();
        for (id, row) in &base.rows {
            changed.entry(*id).or_default().0 = Some(row);
        }
        for (id, row) in &self.now.rows {
            changed.entry(*id).or_default().1 = Some(row);
        }
        changed.retain(|_, (before, after)| before != after);
        let changes = self.txn.changes();
        assert_eq!(changes.len(), changed.len());
        let same = |row: Option<&Row<Item>>, id: u16, stored: Option<&Stored>| match (row, stored) {
            (Some(row), Some(stored)) => is(row, id, stored),
            (row, stored) => row.is_none() && stored.is_none(),
        };
        for (change, (id, (before, after))) in changes.iter().zip(changed) {
            assert!(same(change.before::<Item>(), id, before), "{change:?}");
            assert!(same(change.after::<Item>(), id, after), "{change:?}");
        }
    }
}

impl World {
    /// What has to do with snapshots and handles.
    fn keep(&mut self, open: &mut Open<'_>, step: &Step) {
        match step {
            Step::Hold | Step::View if self.held.len() == HELD_MAX => {}
            Step::Hold => self.held.push((self.db.read(), self.committed.clone())),
            Step::View => self.held.push((open.txn.snapshot(), open.now.clone())),
            Step::Reread(which) => {
                let held = at(&self.held, *which).map(|at| &self.held[at]);
                held.inspect(|(snapshot, state)| compare(snapshot, state));
            }
            Step::Release(which) => {
                drop(at(&self.held, *which).map(|at| self.held.swap_remove(at)));
            }
            Step::Share(id) if self.handles.len() < HANDLES_MAX => {
                let from = open.now.rows.range(id % IDS..).next();
                if let Some((id, stored)) = from {
                    let row = open.txn.table::<Item>().get(id).expect("the model has it");
                    self.handles.push((row.share(), *id, stored.clone()));
                }
            }
            _ => {}
        }
    }

    /// Takes steps until one ends the transaction.
    fn transaction(&mut self, steps: &mut impl Iterator<Item = Step>) {
        let db = self.db.clone();
        let txn = db.write();
        let now = State { revision: txn.revision().0, ..self.committed.clone() };
        let mut open = Open { txn, now, savepoints: Vec::new() };
        for step in steps {
            match step {
                Step::Put(how, id, fields) => open.put(how, id % IDS, fields),
                Step::Fill(start, count, stride) => open.run(start, count, stride, true),
                Step::DeleteRun(start, count, stride) => open.run(start, count, stride, false),
                Step::InsertAll(start, count, stride) => open.insert_all(start, count, stride),
                Step::Delete(id) => open.delete_one(id % IDS),
                Step::Scan(ids, bytes, probe) => scan(&open.txn, &open.now, ids, bytes, probe),
                Step::Commit => {
                    compare(&open.txn, &open.now);
                    open.compare_changes(&self.committed);
                    open.txn.commit();
                    self.committed = open.now;
                    db.check().expect("the database is whole");
                    compare(&db.read(), &self.committed);
                    return;
                }
                Step::Abort => break,
                Step::Restore(which) => {
                    drop(open);
                    if let Some(at) = at(&self.held, which) {
                        let (snapshot, state) = &self.held[at];
                        let mut file = Vec::new();
                        snapshot.save(&mut file).expect("memory does not fail");
                        db.restore(file.as_slice()).expect("what was saved loads");
                        self.committed = state.clone();
                    }
                    return;
                }
                step => {
                    open.delete(&step);
                    open.savepoint(&step, &self.committed);
                    self.keep(&mut open, &step);
                }
            }
        }
    }
}

fuzz_target!(|steps: Vec<Step>| {
    let db = Db::builder().table::<Item>().build().expect("the schema is sound");
    let (held, handles) = (Vec::new(), Vec::new());
    let mut world = World { db, committed: State::default(), held, handles };
    let mut steps = steps.into_iter().take(STEPS_MAX).peekable();
    while steps.peek().is_some() {
        world.transaction(&mut steps);
    }
    let World { db, committed, held, handles } = world;
    compare(&db.read(), &committed);
    drop(db);
    held.iter().for_each(|(snapshot, state)| compare(snapshot, state));
    drop(held);
    assert!(handles.iter().all(|(row, id, stored)| is(row, *id, stored)));
    drop(handles);
    assert_eq!(LIVE.load(Ordering::Relaxed), 0, "rows are left, or were dropped twice");
});
