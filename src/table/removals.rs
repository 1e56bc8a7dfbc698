//! When something was last taken out of a table, and from where.
//!
//! What is in a tree says when it was modified; what is no more says nothing. So that the highest
//! revision of a stretch of keys does not go back when a row of it is deleted, a table can remember
//! the keys that were taken out of each of its trees, as tombstones: as many as its schema says,
//! the oldest are forgotten first. Below them is a floor: up to that revision something may have
//! been taken out anywhere. A table that asks for no tombstones remembers nothing.
//!
//! Tombstones are part of the state: on replicas of one schema and one beginning the same changes
//! leave the same ones, and a snapshot carries them. A transaction first notes what its statements
//! took out. When it commits, what the version below it had, and its own has not, leaves
//! tombstones: what came and went within one transaction leaves nothing.
//!
//! A tombstone is a key of somebody. So a transaction that erases leaves none in the table: where
//! it took something out, the floor rises to it. And it takes out the tombstones that others have
//! left of what it erases: those of rows by their keys, and those of entries all, because nobody
//! can tell from a value whose it was.
//!
//! # Invariants
//!
//! 1. A key that a commit took out of a tree after the floor of its kind, and that was not there
//!    since, has a tombstone of its last such commit.
//! 2. Both maps hold the same tombstones, each key of a tree once, not more than the limit.
//! 3. Every tombstone is younger than the floor of its kind.
//! 4. A published version has nothing pending; a view of a transaction may have.
//! 5. After an erasure no tombstone, and no inner node of a map, has a key of what was erased.

use std::ops::Bound;
use std::sync::Arc;

use im::{OrdMap, OrdSet};

use crate::revision::Revision;

/// One tree of a table: 0 is the primary one, and the index at position `i` is `i + 1`.
pub(crate) type TreeNumber = u32;

/// The number of a tree among those of its table.
pub(crate) fn number_of(index: Option<usize>) -> TreeNumber {
    index.map_or(0, |position| position as TreeNumber + 1)
}

/// The position of the index that a tree is, if it is one.
pub(super) fn index_of(tree: TreeNumber) -> Option<usize> {
    tree.checked_sub(1).map(|position| position as usize)
}

type Place = (TreeNumber, Arc<[u8]>);

/// What is remembered of removals; a clone shares it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Removals {
    pub(crate) floors: Floors,
    /// `None` until there is one.
    tombstones: Option<Arc<Tombstones>>,
    /// What the statements of a transaction took out.
    pending: Option<Arc<Pending>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Pending {
    /// That of the transaction.
    revision: Revision,
    /// The keys, whole; of each, how many bytes are the value.
    keys: OrdMap<Place, usize>,
    /// Whether one of the statements erases: then none of the keys becomes a tombstone.
    is_erased: bool,
}

/// Up to when removals may be forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Floors {
    /// Those of rows.
    pub(crate) rows: Revision,
    /// Those of entries of indexes.
    pub(crate) entries: Revision,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tombstones {
    /// The key of an index is a value, without the primary key behind it.
    by_place: OrdMap<Place, Revision>,
    by_age: OrdSet<(Revision, Place)>,
}

impl Floors {
    fn of(&self, tree: TreeNumber) -> Revision {
        if tree == 0 { self.rows } else { self.entries }
    }

    /// Nothing is known of what was removed from a tree, or from any, up to `revision`.
    fn rise(&mut self, tree: TreeNumber, revision: Revision) {
        let floor = if tree == 0 { &mut self.rows } else { &mut self.entries };
        *floor = revision.max(*floor);
    }
}

/// Whether a key is below the upper one of two bounds.
fn is_before_end(key: &[u8], high: Bound<&[u8]>) -> bool {
    match high {
        Bound::Unbounded => true,
        Bound::Included(end) => key <= end,
        Bound::Excluded(end) => key < end,
    }
}

/// Whether a key is above the lower one of two bounds.
fn is_behind_start(key: &[u8], low: Bound<&[u8]>) -> bool {
    match low {
        Bound::Unbounded => true,
        Bound::Included(start) => key >= start,
        Bound::Excluded(start) => key > start,
    }
}

impl Removals {
    /// Notes that a statement took `key` out of a tree, of which `value` bytes are the value.
    pub(super) fn note(&mut self, tree: TreeNumber, key: &[u8], value: usize, revision: Revision) {
        let pending = Arc::make_mut(self.pending.get_or_insert_default());
        pending.revision = revision;
        pending.keys.insert((tree, key.into()), value);
    }

    /// Makes tombstones, `limit` at most, of what is pending, where `is_gone` says so of a tree and
    /// a key.
    pub(super) fn settle(&mut self, limit: usize, is_gone: impl Fn(TreeNumber, &[u8]) -> bool) {
        let Some(pending) = self.pending.take() else { return };
        for ((tree, key), value) in &pending.keys {
            let is_known = pending.revision > self.floors.of(*tree);
            if !is_known || !is_gone(*tree, key) {
                continue;
            }
            if pending.is_erased {
                let mut floors = self.floors;
                floors.rise(*tree, pending.revision);
                self.forget(floors);
            } else {
                self.bury(limit, *tree, &key[..*value], pending.revision);
            }
        }
    }

    /// Forgets what was taken out between two bounds of the primary tree, and all that was taken
    /// out of indexes, on behalf of a transaction of `revision`, which will leave no tombstones.
    /// O(tombstones).
    pub(super) fn erase(&mut self, (low, high): (Bound<&[u8]>, Bound<&[u8]>), revision: Revision) {
        let mut floors = self.floors;
        for (revision, tree, key) in self.iter() {
            if tree != number_of(None) || (is_behind_start(key, low) && is_before_end(key, high)) {
                floors.rise(tree, revision);
            }
        }
        self.forget(floors);
        let pending = Arc::make_mut(self.pending.get_or_insert_default());
        (pending.revision, pending.is_erased) = (revision, true);
    }

    /// Raises the floors, and takes the tombstones out that are not above them.
    fn forget(&mut self, floors: Floors) {
        self.floors = floors;
        let Some(before) = self.tombstones.take() else { return };
        // Made anew: an inner node of the old maps may have a key that is in them no more.
        let mut left = Tombstones::default();
        for (revision, place) in &before.by_age {
            if *revision > floors.of(place.0) {
                left.insert(place.clone(), *revision);
            }
        }
        self.tombstones = (!left.by_age.is_empty()).then(|| Arc::new(left));
    }

    /// What this becomes by what `newer` has beside it: floors, and tombstones that are younger
    /// than these; `limit` at most.
    pub(crate) fn followed_by(&self, newer: &Self, limit: usize) -> Self {
        let (mut both, mut floors) = (self.clone(), self.floors);
        floors.rows = floors.rows.max(newer.floors.rows);
        floors.entries = floors.entries.max(newer.floors.entries);
        both.forget(floors);
        if limit == 0 {
            return both;
        }
        for (revision, tree, key) in newer.iter() {
            // Old ones make room for new ones of the same key, so only the end is within the limit.
            both.bury(usize::MAX, tree, key, revision);
        }
        let Self { floors, tombstones, .. } = &mut both;
        while let Some(all) = tombstones.as_mut().filter(|all| all.by_age.len() > limit) {
            Arc::make_mut(all).forget_oldest(floors);
        }
        both
    }

    /// Whether a transaction has taken something out.
    pub(super) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Remembers that `key` was taken out of a tree, with `limit` tombstones at most.
    pub(crate) fn bury(&mut self, limit: usize, tree: TreeNumber, key: &[u8], revision: Revision) {
        if limit == 0 || revision <= self.floors.of(tree) {
            return;
        }
        let tombstones = Arc::make_mut(self.tombstones.get_or_insert_default());
        tombstones.insert((tree, key.into()), revision);
        if tombstones.by_age.len() > limit {
            tombstones.forget_oldest(&mut self.floors);
        }
    }

    /// The highest revision that may have taken something out of a tree between two bounds.
    pub(crate) fn newest(
        &self,
        tree: TreeNumber,
        (low, high): (Bound<&[u8]>, Bound<&[u8]>),
    ) -> Revision {
        let is_within = |(at, key): &Place| *at == tree && is_before_end(key, high);
        let low: Bound<Place> = match low {
            Bound::Included(key) => Bound::Included((tree, key.into())),
            Bound::Excluded(key) => Bound::Excluded((tree, key.into())),
            Bound::Unbounded => Bound::Included((tree, [].into())),
        };
        let from = (low, Bound::Unbounded);
        let mut newest = self.floors.of(tree);
        if let Some(tombstones) = &self.tombstones {
            let places = tombstones.by_place.range(from.clone());
            let within = places.take_while(|(place, _)| is_within(place));
            newest = within.map(|(_, revision)| *revision).fold(newest, Revision::max);
        }
        if let Some(pending) = &self.pending
            && pending.keys.range(from).next().is_some_and(|(place, _)| is_within(place))
        {
            newest = newest.max(pending.revision);
        }
        newest
    }

    /// The tombstones, the oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Revision, TreeNumber, &[u8])> {
        let all = self.tombstones.iter().flat_map(|tombstones| tombstones.by_age.iter());
        all.map(|(revision, (tree, key))| (*revision, *tree, &**key))
    }

    /// The number of tombstones.
    pub(crate) fn len(&self) -> usize {
        self.tombstones.as_ref().map_or(0, |tombstones| tombstones.by_age.len())
    }

    /// With tombstones of all that is pending: for a view of a transaction, which has no end.
    pub(crate) fn closed(&self, limit: usize) -> Self {
        let mut closed = self.clone();
        closed.settle(limit, |_, _| true);
        closed
    }

    /// What breaks an invariant, in a table that was modified at `modified`.
    pub(super) fn fault(&self, limit: usize, trees: usize, modified: Revision) -> Option<String> {
        let Floors { rows, entries } = self.floors;
        if rows.max(entries) > modified {
            return Some(format!("removals to {rows} and {entries}, the table at {modified}"));
        }
        let Tombstones { by_place, by_age } = self.tombstones.as_deref()?;
        if by_age.len() != by_place.len() || by_age.len() > limit {
            return Some(format!("{} tombstones of {limit}, {}", by_age.len(), by_place.len()));
        }
        by_age.iter().find_map(|(revision, place)| {
            let is_young = *revision > self.floors.of(place.0) && *revision <= modified;
            let is_known = (place.0 as usize) < trees && by_place.get(place) == Some(revision);
            (!is_young || !is_known).then(|| format!("a tombstone of {revision} in {}", place.0))
        })
    }
}

impl Tombstones {
    fn insert(&mut self, place: Place, revision: Revision) {
        if let Some(before) = self.by_place.insert(place.clone(), revision) {
            self.by_age.remove(&(before, place.clone()));
        }
        self.by_age.insert((revision, place));
    }

    fn remove(&mut self, place: Place) {
        if let Some(revision) = self.by_place.remove(&place) {
            self.by_age.remove(&(revision, place));
        }
    }

    /// Forgets all of the oldest revision.
    fn forget_oldest(&mut self, floors: &mut Floors) {
        let Some(oldest) = self.by_age.get_min().map(|(revision, _)| *revision) else { return };
        while let Some((revision, place)) = self.by_age.get_min().cloned() {
            if revision != oldest {
                return;
            }
            floors.rise(place.0, revision);
            self.remove(place);
        }
    }
}
