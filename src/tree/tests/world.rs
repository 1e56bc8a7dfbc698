//! A store of one table with one index, beside the map that says what should be in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::revision::Revision;
use crate::sync::unmodelled::{AtomicUsize, Ordering};
use crate::tree::{
    Contents, Doomed, IndexChanges, NewRow, Place, RowKind, RowMeta, Store, TableTrees, Version,
    Workspace, Writer,
};

/// A row that knows how many of its kind are alive.
pub(super) struct Counted {
    pub(super) number: u32,
    alive: Arc<AtomicUsize>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Clone)]
pub(super) struct One(pub(super) TableTrees);

impl Contents for One {
    type Scratch = IndexChanges;

    fn for_each_table(&self, visit: &mut dyn FnMut(&TableTrees)) {
        visit(&self.0);
    }
}

pub(super) type Model = BTreeMap<Vec<u8>, u32>;

/// A version and what it must show.
pub(super) struct Held {
    pub(super) trees: One,
    pub(super) model: Model,
    pub(super) version: Version<One>,
    /// Whether it was peeked at inside a transaction. What such a version keeps is not exact: it
    /// keeps what its transaction discarded, whether it can see it or not.
    pub(super) is_peek: bool,
}

/// The database, its newest version, and the rows alive.
pub(super) struct World {
    pub(super) store: Store<One>,
    pub(super) newest: Held,
    pub(super) alive: Arc<AtomicUsize>,
    /// What rows say of when they were made.
    pub(super) revision: u64,
}

/// The entry of a row in the index: the number, then the key.
pub(super) fn entry_of(number: u32, key: &[u8]) -> Vec<u8> {
    let mut entry = vec![(number % 7) as u8];
    entry.extend_from_slice(&key[key.len().saturating_sub(3)..]);
    entry.push(0);
    entry.extend_from_slice(key);
    entry
}

fn new_row(alive: &Arc<AtomicUsize>, (number, revision): (u32, u64)) -> NewRow {
    alive.fetch_add(1, Ordering::Relaxed);
    let meta = RowMeta { created: Revision(0), modified: Revision(revision) };
    NewRow::new(meta, Counted { number, alive: Arc::clone(alive) })
}

impl World {
    pub(super) fn new() -> Self {
        Self::restored(&BTreeMap::new())
    }

    /// A world whose first version has rows, each with its number and the revision that it says.
    pub(super) fn restored(rows: &BTreeMap<Vec<u8>, (u32, u64)>) -> Self {
        let mut trees = One(TableTrees::new(RowKind::of::<Counted>(), 1));
        let (store, alive) = (Store::new(trees.clone()), Arc::default());
        let mut writer = store.write();
        let new = rows.iter().map(|(key, row)| (key, new_row(&alive, *row), 1));
        let mut filled = trees.0.fill(&mut writer, rows.len(), new);
        let entries = rows.iter().enumerate();
        let entries = entries.map(|(at, (key, (number, _)))| (entry_of(*number, key), at));
        let entries: BTreeMap<_, _> = entries.collect();
        let entries = entries.into_iter();
        let bring = |visit: &mut dyn FnMut(&[u8], usize)| {
            entries.for_each(|(key, row)| visit(key.as_ref(), row));
        };
        trees.0.fill_index(&mut writer, 0, bring, &mut filled);
        let mut doomed = Doomed::default();
        let version = writer.publish(&trees, &mut doomed);
        writer.finish(&mut doomed);
        let model = rows.iter().map(|(key, (number, _))| (key.clone(), *number)).collect();
        let newest = Held { trees, model, version, is_peek: false };
        Self { store, newest, alive, revision: 0 }
    }

    pub(super) fn row(&self, number: u32) -> NewRow {
        new_row(&self.alive, (number, self.revision))
    }

    pub(super) fn alive(&self) -> usize {
        self.alive.load(Ordering::Relaxed)
    }

    /// Puts or, without a number, deletes the row at `key`.
    pub(super) fn set<W: Workspace>(
        &self,
        writer: &mut W,
        trees: &mut One,
        model: &mut Model,
        key: &[u8],
        number: Option<u32>,
    ) {
        let before = model.get(key).copied();
        let mut place = Place::default();
        trees.0.find(key, &mut place);
        trees.0.ready(writer, &mut place);
        assert_eq!(trees.0.row_at(&place).map(|row| row.typed::<Counted>().number), before);
        let mut changes = IndexChanges::default();
        let old = before.map(|number| entry_of(number, key));
        let new = number.map(|number| entry_of(number, key));
        let (old, new) = (old.iter().map(Vec::as_slice), new.iter().map(Vec::as_slice));
        changes.plan(0, old, new);
        match number {
            Some(number) => {
                trees.0.put(writer, &place, key, self.row(number), &changes);
                model.insert(key.to_vec(), number);
            }
            None if before.is_some() => {
                trees.0.delete(writer, &place, &changes);
                model.remove(key);
            }
            None => {}
        }
    }

    /// Publishes and returns what was the newest before.
    pub(super) fn commit(&mut self, mut writer: Writer<One>, trees: One, model: Model) -> Held {
        let mut doomed = Doomed::default();
        let version = writer.publish(&trees, &mut doomed);
        let before =
            std::mem::replace(&mut self.newest, Held { trees, model, version, is_peek: false });
        writer.finish(&mut doomed);
        before
    }

    /// A transaction without statements, in which the dead are buried.
    pub(super) fn settle(&mut self) {
        loop {
            let (trees, model) = (self.newest.trees.clone(), self.newest.model.clone());
            let writer = self.store.write();
            self.commit(writer, trees, model);
            let writer = self.store.write();
            if writer.backlog() == 0 {
                return;
            }
        }
    }
}
