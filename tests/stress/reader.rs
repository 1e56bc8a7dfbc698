//! A reader: it holds snapshots and row handles for random times and reads them again and again.

use std::sync::atomic::Ordering;

use fsmdb::{Db, Row, SharedRow, Snapshot};

use crate::Round;
use crate::draw::Draw;
use crate::rows::{Digest, Item, verify};

const SNAPSHOTS_MAX: usize = 12;
const HANDLES_MAX: usize = 400;

/// What one reader holds.
pub(crate) struct Held {
    draw: Draw,
    snapshots: Vec<(Snapshot, Digest)>,
    handles: Vec<SharedRow<Item>>,
}

impl Held {
    pub(crate) fn new(draw: Draw) -> Self {
        Self { draw, snapshots: Vec::new(), handles: Vec::new() }
    }

    /// Reads until the round is over. The handle on the database is dropped then.
    pub(crate) fn read_on(mut self, db: Db, round: &Round) -> Self {
        while !round.is_over.load(Ordering::Relaxed) {
            match self.draw.below(10) {
                0..5 => self.read(&db),
                5 => {
                    let mut views = round.views.lock().expect("nobody panicked");
                    self.take(&mut views);
                }
                6 => self.verify_one(),
                7 => self.share(),
                8 => self.let_go(),
                _ => std::thread::yield_now(),
            }
        }
        self
    }

    /// Takes views of transactions over.
    pub(crate) fn take(&mut self, views: &mut Vec<(Snapshot, Digest)>) {
        self.snapshots.append(views);
    }

    fn read(&mut self, db: &Db) {
        let snapshot = db.read();
        let digest = Digest::written(&snapshot);
        if self.draw.once_in(3) {
            verify(&snapshot, digest);
        }
        if self.draw.once_in(2) {
            self.snapshots.push((snapshot, digest));
        }
        while self.snapshots.len() > SNAPSHOTS_MAX {
            self.let_go();
        }
    }

    fn verify_one(&mut self) {
        if let Some(at) = self.draw.position(self.snapshots.len()) {
            let (snapshot, digest) = &self.snapshots[at];
            verify(snapshot, *digest);
        }
    }

    /// Drops a snapshot, any of them, and some of the handles.
    fn let_go(&mut self) {
        if let Some(at) = self.draw.position(self.snapshots.len()) {
            self.snapshots.swap_remove(at);
        }
        while self.draw.once_in(2)
            && let Some(at) = self.draw.position(self.handles.len())
        {
            self.handles.swap_remove(at).verify();
        }
    }

    /// Makes handles of some rows of a snapshot, from either end and by random keys.
    fn share(&mut self) {
        let Some(at) = self.draw.position(self.snapshots.len()) else { return };
        let table = self.snapshots[at].0.table::<Item>();
        let some = self.draw.spread(32) as usize;
        match self.draw.below(3) {
            0 => self.handles.extend(table.iter().rev().take(some).map(Row::share)),
            1 => {
                let groups = table.index(Item::BY_GROUP).get(&(some as u16));
                self.handles.extend(groups.take(some).map(Row::share));
            }
            _ => {
                let keys: Vec<_> = (0..some).map(|_| self.draw.below(3000) as u32).collect();
                let found = table.get_many(&keys);
                for (key, row) in keys.iter().zip(found) {
                    assert!(row.is_none_or(|row| row.id == *key), "the row of another key");
                    self.handles.extend(row.map(Row::share));
                }
            }
        }
        while self.handles.len() > HANDLES_MAX {
            let at = self.draw.below(self.handles.len() as u64) as usize;
            self.handles.swap_remove(at).verify();
        }
    }

    /// Reads everything a last time and drops the snapshots in any order.
    pub(crate) fn end(mut self) -> Vec<SharedRow<Item>> {
        while !self.snapshots.is_empty() {
            self.verify_one();
            self.share();
            self.let_go();
        }
        self.handles.iter().for_each(|row| row.verify());
        self.handles
    }
}
