//! The shapes of keys against a plain map: byte strings taken raw from the input, with zeros, long
//! common prefixes, prefixes of each other, and lengths up to the limit, under every kind of read.
//!
//! `transactions.rs` looks at savepoints and roll-backs in any order.

#![no_main]

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};
use std::sync::atomic::{AtomicI64, Ordering};

use arbitrary::Arbitrary;
use fsmdb::limits::KEY_BYTES_MAX;
use fsmdb::{Db, Read, Row, Rows, Snapshot, StartsWithBytes, Table};
use libfuzzer_sys::fuzz_target;
use serde::{Deserialize, Serialize};

/// Steps of one input that are taken: each may cost a look at every row.
const STEPS_MAX: usize = 400;
const HELD_MAX: usize = 4;
/// Bytes of keys in one state; nothing is put beyond.
const STATE_BYTES_MAX: usize = 2 << 20;

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

impl Drop for Token {
    fn drop(&mut self) {
        assert_eq!(*self.0, 7);
        LIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug, Serialize, Deserialize, Table)]
#[table(name = "blobs")]
struct Blob {
    #[key]
    key: Vec<u8>,
    #[index]
    label: Vec<u8>,
    number: u32,
    #[serde(skip)]
    token: Token,
}

/// How a key is made.
#[derive(Arbitrary, Debug)]
enum Shape {
    Raw(Vec<u8>),
    /// One byte many times, then some others.
    Repeat(u8, u16, Vec<u8>),
    /// As many of one byte as the limit allows, less a few or more by a few.
    Limit(u8, i8),
    /// An earlier key and more.
    Extend(u8, Vec<u8>),
    /// The beginning of an earlier key.
    Cut(u8, u16),
    /// An earlier key with one byte changed.
    Change(u8, u16, u8),
    /// An earlier key as it was.
    Again(u8),
}

#[derive(Arbitrary, Debug)]
enum Step {
    Put(Shape, Shape),
    Delete(Shape),
    /// Keys that begin alike and go on with a counter of one or two bytes: where it begins, how
    /// far apart, how many.
    PutRun(Shape, bool, u16, u8, u8),
    DeleteRun(Shape, bool, u16, u8, u8),
    DeleteRange(Bound<Shape>, Bound<Shape>),
    DeletePrefix(Shape),
    DeleteLabel(Shape),
    Scan(Bound<Shape>, Bound<Shape>),
    Probe(Shape, u16),
    GetMany(Vec<Shape>),
    Hold,
    Reread(u8),
    Release(u8),
    Commit,
    Abort,
}

type Bytes = Vec<u8>;

#[derive(Clone, Debug, Default)]
struct State {
    rows: BTreeMap<Bytes, (Bytes, u32)>,
    bytes: usize,
}

/// The length of the key of a byte string.
fn encoded(bytes: &[u8]) -> usize {
    bytes.iter().map(|byte| if *byte < 2 { 2 } else { 1 }).sum::<usize>() + 1
}

impl State {
    fn put(&mut self, key: &[u8], label: &[u8], number: u32) -> bool {
        let own = encoded(key);
        if own > KEY_BYTES_MAX || own + encoded(label) > KEY_BYTES_MAX {
            return false;
        }
        self.delete(key);
        self.bytes += key.len() + label.len();
        self.rows.insert(key.to_vec(), (label.to_vec(), number));
        true
    }

    fn delete(&mut self, key: &[u8]) -> bool {
        let before = self.rows.remove(key);
        self.bytes -= before.as_ref().map_or(0, |(label, _)| key.len() + label.len());
        before.is_some()
    }

    fn delete_where(&mut self, doomed: impl Fn(&Bytes, &Bytes) -> bool) -> usize {
        let chosen = self.rows.iter().filter(|(key, (label, _))| doomed(key, label));
        let keys: Vec<_> = chosen.map(|(key, _)| key.clone()).collect();
        keys.iter().filter(|key| self.delete(key)).count()
    }

    /// Keys in the order of labels.
    fn by_label(&self) -> Vec<(&Bytes, &Bytes)> {
        let mut entries: Vec<_> = self.rows.iter().map(|(key, (label, _))| (label, key)).collect();
        entries.sort();
        entries
    }

    fn has(&self, row: &Row<Blob>) -> bool {
        let stored = self.rows.get(&row.key);
        stored.is_some_and(|(label, number)| (label, *number) == (&row.label, row.number))
            && *row.token.0 == 7
    }
}

/// The keys that an input has made so far.
#[derive(Default)]
struct Shapes {
    made: Vec<Bytes>,
}

impl Shapes {
    fn earlier(&self, which: u8) -> Bytes {
        let at = usize::from(which) % self.made.len().max(1);
        self.made.get(at).cloned().unwrap_or_default()
    }

    fn make(&mut self, shape: Shape) -> Bytes {
        let mut key = match shape {
            Shape::Raw(bytes) => bytes,
            Shape::Repeat(byte, count, tail) => {
                let mut key = vec![byte; usize::from(count % 600)];
                key.extend(tail);
                key
            }
            Shape::Limit(byte, more) => {
                let each = if byte < 2 { 2 } else { 1 };
                vec![byte; ((KEY_BYTES_MAX as isize + isize::from(more)) / each) as usize]
            }
            Shape::Extend(which, more) => [self.earlier(which), more].concat(),
            Shape::Cut(which, length) => {
                let mut key = self.earlier(which);
                key.truncate(usize::from(length) % (key.len() + 1));
                key
            }
            Shape::Change(which, at, byte) => {
                let mut key = self.earlier(which);
                let length = key.len().max(1);
                if let Some(old) = key.get_mut(usize::from(at) % length) {
                    *old = byte;
                }
                key
            }
            Shape::Again(which) => return self.earlier(which),
        };
        key.truncate(KEY_BYTES_MAX + 200);
        if self.made.len() < 256 {
            self.made.push(key.clone());
        }
        key
    }

    fn bounds(&mut self, low: Bound<Shape>, high: Bound<Shape>) -> (Bound<Bytes>, Bound<Bytes>) {
        (low.map(|shape| self.make(shape)), high.map(|shape| self.make(shape)))
    }
}

/// Keys that begin alike.
fn run(base: Bytes, is_wide: bool, start: u16, stride: u8, count: u8) -> Vec<Bytes> {
    let numbers = (0..u16::from(count))
        .map(|step| start.wrapping_add(step.wrapping_mul(u16::from(stride))).to_be_bytes());
    numbers.map(|number| [&base[..], &number[usize::from(!is_wide)..]].concat()).collect()
}

/// The rows have the expected keys, from the front, from the back, and from both ends in turn.
fn same<'a>(state: &State, found: impl Fn() -> Rows<'a, Blob>, expected: &[&Bytes]) {
    let check = |row: Option<&Row<Blob>>, key: Option<&&Bytes>| match (row, key) {
        (Some(row), Some(key)) => assert!(row.key == **key && state.has(row), "{row:?}, {key:?}"),
        (row, key) => assert!(row.is_none() && key.is_none(), "{row:?}, {key:?}"),
    };
    let (mut forward, mut backward, mut both) = (found(), found(), found());
    for at in 0..=expected.len() {
        check(forward.next(), expected.get(at));
        let from_end = expected.len().checked_sub(at + 1);
        check(backward.next_back(), from_end.map(|at| &expected[at]));
        let (row, at) = match at % 2 {
            0 => (both.next(), Some(at / 2).filter(|_| at < expected.len())),
            _ if at < expected.len() => (both.next_back(), expected.len().checked_sub(at / 2 + 1)),
            _ => (both.next_back(), None),
        };
        check(row, at.map(|at| &expected[at]));
    }
}

/// Reads everything.
fn compare(read: &impl Read, state: &State) {
    let table = read.table::<Blob>();
    let keys: Vec<_> = state.rows.keys().collect();
    same(state, || table.iter(), &keys);
    let labels: Vec<_> = state.by_label().into_iter().map(|(_, key)| key).collect();
    same(state, || table.index(Blob::BY_LABEL).iter(), &labels);
    assert_eq!((table.len(), table.index(Blob::BY_LABEL).len()), (keys.len(), keys.len()));
}

/// Reads a range of keys and of labels.
fn scan(read: &impl Read, state: &State, range: (Bound<Bytes>, Bound<Bytes>)) {
    let table = read.table::<Blob>();
    let keys: Vec<_> = state.rows.keys().filter(|key| range.contains(*key)).collect();
    same(state, || table.range(range.clone()), &keys);
    assert_eq!(table.count(range.clone()), keys.len());
    let step = keys.len() / 16 + 1;
    for at in (0..=keys.len()).step_by(step) {
        let row = table.nth(range.clone(), at);
        assert_eq!(row.map(|row| &row.key), keys.get(at).copied());
    }
    let (labels, index) = (state.by_label(), table.index(Blob::BY_LABEL));
    let inside = labels.iter().filter(|(label, _)| range.contains(*label));
    let keys: Vec<_> = inside.map(|(_, key)| *key).collect();
    same(state, || index.range(range.clone()), &keys);
    assert_eq!(index.count(range.clone()), keys.len());
    for at in (0..=keys.len()).step_by(step) {
        let row = index.nth(range.clone(), at);
        assert_eq!(row.map(|row| &row.key), keys.get(at).copied());
    }
}

/// Reads what has to do with one key.
fn probe(read: &impl Read, state: &State, wanted: &Bytes, at: u16) {
    let table = read.table::<Blob>();
    let row = table.get(wanted);
    assert_eq!(row.is_some(), state.rows.contains_key(wanted));
    assert!(row.is_none_or(|row| row.key == *wanted && state.has(row)));
    assert_eq!(table.rank(wanted), state.rows.range::<Bytes, _>(..wanted).count());
    let prefixes = (0..=wanted.len()).rev().map(|length| &wanted[..length]);
    let longest = prefixes.into_iter().find(|prefix| state.rows.contains_key(*prefix));
    assert_eq!(table.longest_prefix(wanted).map(|row| row.key.as_slice()), longest);
    let start = &wanted[..usize::from(at) % (wanted.len() + 1)];
    let keys: Vec<_> = state.rows.keys().filter(|key| key.starts_with(start)).collect();
    same(state, || table.prefix(&StartsWithBytes(start)), &keys);

    let (labels, index) = (state.by_label(), table.index(Blob::BY_LABEL));
    let of = |chosen: &dyn Fn(&Bytes) -> bool| -> Vec<&Bytes> {
        labels.iter().filter(|(label, _)| chosen(label)).map(|(_, key)| *key).collect()
    };
    same(state, || index.get(wanted), &of(&|label| label == wanted));
    same(state, || index.prefix(&StartsWithBytes(start)), &of(&|label| label.starts_with(start)));
    assert_eq!(index.rank(wanted), of(&|label| label < wanted).len());
}

fn get_many(read: &impl Read, state: &State, keys: &[Bytes]) {
    let found = read.table::<Blob>().get_many(keys);
    assert_eq!(found.len(), keys.len());
    for (key, row) in keys.iter().zip(found) {
        assert_eq!(row.is_some(), state.rows.contains_key(key));
        assert!(row.is_none_or(|row| row.key == *key && state.has(row)));
    }
}

struct World {
    db: Db,
    committed: State,
    held: Vec<(Snapshot, State)>,
    shapes: Shapes,
    /// Goes up with every put, so that each row can be told from the others.
    number: u32,
}

/// One transaction and the model of it.
struct Open<'db> {
    txn: fsmdb::WriteTxn<'db>,
    now: State,
}

impl Open<'_> {
    fn put(&mut self, key: Bytes, label: Bytes, number: u32) {
        if self.now.bytes > STATE_BYTES_MAX {
            return;
        }
        let is_done = self.now.put(&key, &label, number);
        let outcome = self.txn.upsert(Blob { key, label, number, token: Token::default() });
        assert_eq!(outcome.is_ok(), is_done);
    }

    fn delete(&mut self, key: &Bytes) {
        let row = self.txn.table_mut::<Blob>().delete(key);
        assert!(row.as_ref().is_none_or(|row| row.key == *key && self.now.has(row)));
        assert_eq!(row.is_some(), self.now.delete(key));
    }

    /// The statements.
    fn write(&mut self, step: Step, shapes: &mut Shapes, number: &mut u32) {
        *number += 1;
        match step {
            Step::Put(key, label) => {
                let (key, label) = (shapes.make(key), shapes.make(label));
                self.put(key, label, *number);
            }
            Step::Delete(key) => self.delete(&shapes.make(key)),
            Step::PutRun(base, is_wide, start, stride, count) => {
                for key in run(shapes.make(base), is_wide, start, stride, count) {
                    *number += 1;
                    let from = usize::from(count) % (key.len() + 1);
                    let label = key[from..].iter().take(9).rev().copied().collect();
                    self.put(key, label, *number);
                }
            }
            Step::DeleteRun(base, is_wide, start, stride, count) => {
                let keys = run(shapes.make(base), is_wide, start, stride, count);
                keys.iter().for_each(|key| self.delete(key));
            }
            Step::DeleteRange(low, high) => {
                let range = shapes.bounds(low, high);
                let count = self.txn.table_mut::<Blob>().delete_all(range.clone());
                assert_eq!(count, self.now.delete_where(|key, _| range.contains(key)));
            }
            Step::DeletePrefix(start) => {
                let start = shapes.make(start);
                let mut table = self.txn.table_mut::<Blob>();
                let count = table.delete_prefix(&StartsWithBytes(&start));
                assert_eq!(count, self.now.delete_where(|key, _| key.starts_with(&start)));
            }
            Step::DeleteLabel(label) => {
                let wanted = shapes.make(label);
                let mut table = self.txn.table_mut::<Blob>();
                let count = table.index(Blob::BY_LABEL).delete_all(&wanted);
                assert_eq!(count, self.now.delete_where(|_, label| *label == wanted));
            }
            _ => {}
        }
    }
}

impl World {
    /// Takes steps until one ends the transaction.
    fn transaction(&mut self, steps: &mut impl Iterator<Item = Step>) {
        let db = self.db.clone();
        let mut open = Open { txn: db.write(), now: self.committed.clone() };
        for step in steps {
            match step {
                Step::Scan(low, high) => {
                    scan(&open.txn, &open.now, self.shapes.bounds(low, high));
                }
                Step::Probe(key, at) => {
                    probe(&open.txn, &open.now, &self.shapes.make(key), at);
                }
                Step::GetMany(shapes) => {
                    let keys = shapes.into_iter().take(40).map(|shape| self.shapes.make(shape));
                    get_many(&open.txn, &open.now, &keys.collect::<Vec<_>>());
                }
                Step::Hold if self.held.len() < HELD_MAX => {
                    self.held.push((open.txn.snapshot(), open.now.clone()));
                }
                Step::Reread(which) if !self.held.is_empty() => {
                    let (snapshot, state) = &self.held[usize::from(which) % self.held.len()];
                    compare(snapshot, state);
                }
                Step::Release(which) if !self.held.is_empty() => {
                    self.held.swap_remove(usize::from(which) % self.held.len());
                }
                Step::Commit => {
                    open.txn.commit();
                    self.committed = open.now;
                    db.check().expect("the database is whole");
                    compare(&db.read(), &self.committed);
                    return;
                }
                Step::Abort => return,
                step => open.write(step, &mut self.shapes, &mut self.number),
            }
        }
        compare(&open.txn, &open.now);
    }
}

fuzz_target!(|steps: Vec<Step>| {
    let db = Db::builder().table::<Blob>().build().expect("the schema is sound");
    let (committed, held, shapes) = (State::default(), Vec::new(), Shapes::default());
    let mut world = World { db, committed, held, shapes, number: 0 };
    let mut steps = steps.into_iter().take(STEPS_MAX).peekable();
    while steps.peek().is_some() {
        world.transaction(&mut steps);
    }
    let World { db, committed, held, .. } = world;
    compare(&db.read(), &committed);
    drop(db);
    held.iter().for_each(|(snapshot, state)| compare(snapshot, state));
    drop(held);
    assert_eq!(LIVE.load(Ordering::Relaxed), 0, "rows are left, or were dropped twice");
});
