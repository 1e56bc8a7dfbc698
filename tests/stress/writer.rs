//! The writer: random transactions that know what the table comes to after each statement.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;

use fsmdb::{Db, Error, Row, Savepoint, SharedRow, Snapshot, WriteTxn};

use crate::Round;
use crate::draw::Draw;
use crate::rows::{Digest, Item, verify};

const FILLED: u32 = 20_000;
const FILES_MAX: usize = 3;
const VIEWS_MAX: usize = 8;

/// How the statements of one transaction are drawn.
struct Taste {
    /// Ids are below this.
    ids: u64,
    /// Names are made of numbers below this.
    names: u64,
    /// Deletes among a hundred statements.
    deletes: u64,
}

pub(crate) struct Writer<'a> {
    draw: Draw,
    round: &'a Round,
    files: Vec<(Vec<u8>, Digest)>,
    /// Savepoints and handles of earlier transactions, kept to be dropped late.
    old_savepoints: Vec<Savepoint>,
    old_rows: Vec<SharedRow<Item>>,
    /// Views that stay with the writer.
    views: Vec<(Snapshot, Digest)>,
    transactions: u64,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(draw: Draw, round: &'a Round) -> Self {
        Self {
            draw,
            round,
            files: Vec::new(),
            old_savepoints: Vec::new(),
            old_rows: Vec::new(),
            views: Vec::new(),
            transactions: 0,
        }
    }

    /// The number of transactions; what the writer still holds is dropped.
    pub(crate) fn end(self) -> u64 {
        self.views.iter().for_each(|(view, digest)| verify(view, *digest));
        self.transactions
    }

    /// Does one of the things that a writer does.
    pub(crate) fn step(&mut self, db: &Db) {
        self.transactions += 1;
        match self.draw.below(200) {
            0 => self.fill(db),
            1 => self.empty(db),
            2..5 => self.save(db),
            5 => self.restore(db),
            6 => db.check().expect("the database is whole"),
            7..10 => {
                self.old_savepoints.clear();
                self.old_rows.clear();
                self.views.drain(..).for_each(|(view, digest)| verify(&view, digest));
            }
            _ => self.transaction(db),
        }
    }

    /// Grows the table to a great size: from below, in one transaction or in several.
    fn fill(&mut self, db: &Db) {
        if self.draw.once_in(2) {
            return self.fill_from_below(db);
        }
        let part = self.draw.spread(u64::from(FILLED)) as u32;
        let mut next = 0;
        while next < FILLED {
            let mut txn = db.write();
            let mut now = Digest::written(&txn);
            for id in next..FILLED.min(next + part.max(2000)) {
                let item = Item::new(&mut self.draw, id, 1 << 50);
                put(&mut txn, &mut now, item).expect("names hardly repeat");
            }
            next += part.max(2000);
            finish(txn, now);
        }
    }

    fn fill_from_below(&mut self, db: &Db) {
        let mut txn = db.write();
        txn.table_mut::<Item>().delete_all(..);
        let (mut now, is_reversed) = (Digest::default(), self.draw.once_in(2));
        let mut ids: Vec<_> = (0..FILLED).collect();
        if is_reversed {
            ids.reverse();
        }
        let mut items = Vec::new();
        for id in ids {
            items.push(Item::new(&mut self.draw, id, 1 << 50));
            now.add(&items[items.len() - 1]);
        }
        let count = txn.table_mut::<Item>().insert_all(items).expect("names hardly repeat");
        assert_eq!(count as u64, now.rows);
        self.view(&mut txn, now);
        finish(txn, now);
    }

    /// Shrinks the table to nothing: at once, row by row, or group by group.
    fn empty(&mut self, db: &Db) {
        let mut txn = db.write();
        let table = txn.table::<Item>();
        let ids: Vec<_> = table.iter().map(|row| row.id).collect();
        let rows = ids.len();
        let count = match self.draw.below(4) {
            0 => txn.table_mut::<Item>().delete_all(..),
            1 => {
                let mut items = txn.table_mut::<Item>();
                ids.iter().filter(|id| items.delete(*id).is_some()).count()
            }
            2 => {
                let mut items = txn.table_mut::<Item>();
                ids.iter().rev().filter(|id| items.delete(*id).is_some()).count()
            }
            _ => (0..40_u16)
                .map(|group| txn.table_mut::<Item>().index(Item::BY_GROUP).delete_all(&group))
                .sum(),
        };
        assert_eq!((count, txn.table::<Item>().len()), (rows, 0));
        finish(txn, Digest::default());
    }

    fn save(&mut self, db: &Db) {
        let snapshot = db.read();
        let mut file = Vec::new();
        snapshot.save(&mut file).expect("memory does not fail");
        self.files.push((file, Digest::written(&snapshot)));
        if self.files.len() > FILES_MAX {
            self.files.remove(0);
        }
    }

    fn restore(&mut self, db: &Db) {
        let Some(at) = self.draw.position(self.files.len()) else { return };
        let (file, digest) = &self.files[at];
        self.round.restores.fetch_add(1, Ordering::SeqCst);
        db.restore(file.as_slice()).expect("what was saved loads");
        self.round.restores.fetch_add(1, Ordering::SeqCst);
        verify(&db.read(), *digest);
    }

    fn transaction(&mut self, db: &Db) {
        let taste = Taste {
            ids: [50, 3000, 30_000][self.draw.below(3) as usize],
            names: [200, 20_000, 1 << 40][self.draw.below(3) as usize],
            deletes: [5, 25, 60][self.draw.below(3) as usize],
        };
        let mut txn = db.write();
        let start = Digest::written(&txn);
        let mut now = start;
        let mut savepoints: Vec<(Savepoint, Digest)> = Vec::new();
        for _ in 0..self.draw.spread(2000) {
            match self.draw.below(400) {
                0..8 => savepoints.push((txn.savepoint(), now)),
                8..13 => {
                    if let Some(at) = self.draw.position(savepoints.len()) {
                        txn.rollback_to(&savepoints[at].0);
                        now = savepoints[at].1;
                    }
                }
                13 => savepoints.truncate(self.draw.below(4) as usize),
                14 => {
                    txn.rollback_all();
                    now = start;
                }
                15..18 => self.view(&mut txn, now),
                18 => self.delete_many(&mut txn, &mut now),
                19 => unwind(&mut txn),
                _ => self.statement(&mut txn, &mut now, &taste),
            }
        }
        if self.draw.once_in(8) {
            compare_changes(&txn, start, now);
        }
        if self.draw.once_in(16) {
            verify(&txn, now);
        }
        self.old_savepoints.extend(savepoints.pop().map(|(savepoint, _)| savepoint));
        if self.draw.once_in(5) {
            drop(txn);
            assert_eq!(Digest::written(&db.read()), start, "an abort changes nothing");
        } else {
            finish(txn, now);
        }
    }

    /// Takes a view of the transaction, for a reader or to be kept.
    fn view(&mut self, txn: &mut WriteTxn<'_>, now: Digest) {
        let view = txn.snapshot();
        if self.draw.once_in(2) {
            let mut views = self.round.views.lock().expect("nobody panicked");
            views.push((view, now));
            if views.len() > VIEWS_MAX {
                views.remove(0);
            }
        } else if self.views.len() < VIEWS_MAX {
            self.views.push((view, now));
        }
    }

    /// Deletes the rows of a range, of a group or of some tags.
    fn delete_many(&mut self, txn: &mut WriteTxn<'_>, now: &mut Digest) {
        let low = self.draw.below(30_000) as u32;
        let high = low.saturating_add(self.draw.spread(30_000) as u32);
        let (group, tag) = (self.draw.below(40) as u16, self.draw.below(100) as u16);
        let table = txn.table::<Item>();
        let which = self.draw.below(3);
        let doomed: BTreeMap<_, _> = match which {
            0 => table.range(low..high).map(|row| (row.id, row.share())).collect(),
            1 => {
                let rows = table.index(Item::BY_GROUP).get(&group);
                rows.map(|row| (row.id, row.share())).collect()
            }
            _ => {
                let rows = table.index(Item::BY_TAGS).range(tag..=tag + 2);
                rows.map(|row| (row.id, row.share())).collect()
            }
        };
        let mut items = txn.table_mut::<Item>();
        let count = match which {
            0 => items.delete_all(low..high),
            1 => items.index(Item::BY_GROUP).delete_all(&group),
            _ => items.index(Item::BY_TAGS).delete_range(tag..=tag + 2),
        };
        assert_eq!(count, doomed.len());
        doomed.values().for_each(|row| now.remove(row));
    }

    fn statement(&mut self, txn: &mut WriteTxn<'_>, now: &mut Digest, taste: &Taste) {
        let id = self.draw.below(taste.ids) as u32;
        if self.draw.below(100) < taste.deletes {
            if let Some(row) = txn.table_mut::<Item>().delete(&id) {
                row.verify();
                now.remove(&row);
                self.keep(row);
            }
            return;
        }
        let item = Item::new(&mut self.draw, id, taste.names);
        let outcome = match self.draw.below(3) {
            0 => put(txn, now, item),
            1 => match txn.insert(item) {
                Ok(row) => {
                    now.add(&row);
                    self.keep(row);
                    Ok(())
                }
                Err(error) => Err(error),
            },
            _ => {
                let before = txn.table::<Item>().get(&id).map(Row::share);
                let (keeps_name, keeps_group) = (self.draw.once_in(2), self.draw.once_in(2));
                let change = |old: &mut Item| {
                    let before = std::mem::replace(old, item);
                    old.name = if keeps_name { before.name.clone() } else { old.name.clone() };
                    old.group = if keeps_group { before.group } else { old.group };
                    old.seal();
                };
                txn.table_mut::<Item>().update(&id, change).map(|row| {
                    now.remove(&before.expect("an update changes what is there"));
                    now.add(&row);
                })
            }
        };
        let expected = |error: &Error| error.is_conflict() || error.is_not_found();
        assert!(outcome.as_ref().err().is_none_or(expected), "{outcome:?}");
    }

    fn keep(&mut self, row: SharedRow<Item>) {
        if self.old_rows.len() < 100 && self.draw.once_in(16) {
            self.old_rows.push(row);
        }
    }
}

/// Puts an item and counts it in, and the one it replaces out.
fn put(txn: &mut WriteTxn<'_>, now: &mut Digest, item: Item) -> Result<(), Error> {
    let copy = item.clone();
    if let Some(before) = txn.upsert(item)? {
        before.verify();
        now.remove(&before);
    }
    now.add(&copy);
    Ok(())
}

/// Unwinds out of a statement, which leaves no trace.
fn unwind(txn: &mut WriteTxn<'_>) {
    let first = txn.table::<Item>().first().map(|row| row.id);
    let Some(id) = first else { return };
    let statement = || {
        let mut items = txn.table_mut::<Item>();
        items.update(&id, |_| resume_unwind(Box::new("on purpose"))).map(drop)
    };
    assert!(catch_unwind(AssertUnwindSafe(statement)).is_err());
}

/// Writes what the table comes to, and commits.
fn finish(mut txn: WriteTxn<'_>, now: Digest) {
    assert_eq!(txn.table::<Item>().len() as u64, now.rows);
    txn.upsert(now.total()).expect("nothing is in the way");
    txn.commit();
}

/// The net changes are the difference between the beginning and now.
fn compare_changes(txn: &WriteTxn<'_>, start: Digest, now: Digest) {
    let mut sum = start;
    for change in txn.changes() {
        if let Some(before) = change.before::<Item>() {
            before.verify();
            sum.remove(before);
        }
        if let Some(after) = change.after::<Item>() {
            after.verify();
            sum.add(after);
        }
    }
    assert_eq!(sum, now, "the changes are not what changed");
}
