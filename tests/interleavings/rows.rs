//! The tables of the models under `loom` and under `shuttle`, and what is true of every version.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use fsmdb::{Db, Event, Revision, Snapshot, Table, WriteTxn};
use serde::{Deserialize, Serialize};

std::thread_local! {
    /// Rows that exist; all threads of a model run on the thread of its test.
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

/// Counts the row that it is part of, and shows the row's end.
#[derive(Debug)]
pub(crate) struct Token(Arc<u8>);

impl Token {
    fn new(value: u8) -> Self {
        LIVE.set(LIVE.get() + 1);
        Self(Arc::new(value))
    }

    #[cfg(fsmdb_loom)]
    pub(crate) fn value(&self) -> u8 {
        *self.0
    }

    /// By which the end can be seen.
    #[cfg(fsmdb_loom)]
    pub(crate) fn end(&self) -> std::sync::Weak<u8> {
        Arc::downgrade(&self.0)
    }
}

impl Clone for Token {
    fn clone(&self) -> Self {
        Self::new(*self.0)
    }
}

impl Serialize for Token {
    fn serialize<S: serde::Serializer>(&self, target: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(target)
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: serde::Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        u8::deserialize(source).map(Self::new)
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        LIVE.set(LIVE.get() - 1);
    }
}

/// After a model nothing may hold a row any more.
pub(crate) fn assert_no_row_is_left() {
    assert_eq!(LIVE.get(), 0, "rows are left");
}

#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "lefts")]
pub(crate) struct Left {
    #[key]
    pub(crate) id: u8,
    #[index]
    pub(crate) value: u8,
    pub(crate) token: Token,
}

#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "rights")]
pub(crate) struct Right {
    #[key]
    pub(crate) id: u8,
    pub(crate) value: u8,
    token: Token,
}

pub(crate) fn builder() -> fsmdb::Builder {
    Db::builder().table::<Left>().table::<Right>()
}

pub(crate) fn database() -> Db {
    builder().build().unwrap()
}

/// Puts the same value under `id` in both tables.
pub(crate) fn put(txn: &mut WriteTxn<'_>, id: u8, value: u8) {
    txn.upsert(Left { id, value, token: Token::new(value) }).unwrap();
    txn.upsert(Right { id, value, token: Token::new(value) }).unwrap();
}

/// The snapshot file of the current version.
pub(crate) fn file_of(db: &Db) -> Vec<u8> {
    let mut file = Vec::new();
    db.read().save(&mut file).unwrap();
    file
}

/// What a version holds: the rows of the left table.
pub(crate) type Content = Vec<(u8, u8)>;

/// The content, on which both tables and the index must agree.
pub(crate) fn content(snap: &Snapshot) -> Content {
    let (lefts, rights) = (snap.table::<Left>(), snap.table::<Right>());
    let content: Content = lefts.iter().map(|row| (row.id, row.value)).collect();
    assert!(rights.iter().map(|row| (row.id, row.value)).eq(content.iter().copied()), "half");
    assert_eq!((lefts.len(), rights.len()), (content.len(), content.len()));
    let mut by_value: Vec<_> = content.iter().map(|&(id, value)| (value, id)).collect();
    by_value.sort_unstable();
    let index = lefts.index(Left::BY_VALUE);
    assert!(index.iter().map(|row| (row.value, row.id)).eq(by_value.iter().copied()), "index");
    for row in lefts {
        assert!(row.created() <= row.modified() && row.modified() <= snap.revision());
        assert!(index.get(&row.value).any(|found| found.id == row.id));
    }
    content
}

/// Who has one version and follows a feed from there: every change must begin where the one before
/// it has ended.
pub(crate) struct Follower {
    rows: BTreeMap<u8, u8>,
    pub(crate) revision: Revision,
}

impl Follower {
    pub(crate) fn new(snap: &Snapshot) -> Self {
        Self { rows: content(snap).into_iter().collect(), revision: snap.revision() }
    }

    /// Takes in what a feed says.
    pub(crate) fn hear(&mut self, event: &Event) {
        match event {
            Event::Commit(commit) => {
                assert!(commit.revision() > self.revision, "twice, or out of order");
                self.apply(commit.changes());
                self.revision = commit.revision();
            }
            Event::Bookmark(revision) => {
                assert!(*revision > self.revision, "a bookmark before what was given");
                self.revision = *revision;
            }
            Event::Reset(reset) => {
                assert!(reset.from() >= self.revision, "twice, or out of order");
                self.apply(reset.changes().expect("few rows are within the limits"));
                self.revision = reset.to();
            }
            other => panic!("{other:?}"),
        }
    }

    #[allow(single_use_lifetimes)] // The elided form is not stable.
    fn apply<'c>(&mut self, changes: impl Iterator<Item = &'c fsmdb::Change>) {
        let mut rights = self.rows.clone();
        for change in changes {
            let id: u8 = fsmdb::decode(change.key()).unwrap();
            let (rows, before, after) = if change.is_in::<Left>() {
                let value = |row: Option<&fsmdb::Row<Left>>| row.map(|row| row.value);
                (&mut self.rows, value(change.before()), value(change.after()))
            } else {
                let value = |row: Option<&fsmdb::Row<Right>>| row.map(|row| row.value);
                (&mut rights, value(change.before()), value(change.after()))
            };
            let was = match after {
                Some(after) => rows.insert(id, after),
                None => rows.remove(&id),
            };
            assert_eq!(was, before, "a change is missing, or came twice");
        }
        assert_eq!(self.rows, rights, "half a commit");
    }

    pub(crate) fn content(&self) -> Content {
        self.rows.iter().map(|(id, value)| (*id, *value)).collect()
    }
}

/// Nobody waits for the database, and nothing is kept for anybody.
pub(crate) fn assert_nobody_waits(db: &Db) {
    let waiting = db.waiting();
    assert_eq!((waiting.watches, waiting.revisions), (0, 0), "somebody still waits");
    let kept = (waiting.feeds, waiting.feed_commits, waiting.feed_bytes);
    assert_eq!(kept, (0, 0, 0), "something is kept for feeds that are gone");
}
