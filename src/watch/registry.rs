//! Which watch asked what: so that a commit finds those that it concerns by what it changed.
//!
//! # Invariants
//!
//! 1. A watch that is in `watches` stands at each of its questions in `trees`, and nowhere else.
//! 2. A watch leaves when it is told, or when it is dropped; so it is told once.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::answer::{Both, differs};
use super::askers::Askers;
use super::change::Change;
use super::points::Points;
use super::spans::Spans;
use crate::root::{Contents, Root};
use crate::sync::Signal;
use crate::table::{Aspect, Extent, Question, Span, TreeId};

/// What a transaction has touched, in the order of its statements; a key may come twice.
pub(crate) trait Touched {
    /// Calls `visit` with the table and the primary key of each row that was put or deleted.
    fn for_each_key(&self, visit: &mut dyn FnMut(usize, &[u8]));
    /// Calls `visit` with the table, the index and the key of each entry that was put, replaced or
    /// removed; or says that it does not know.
    fn for_each_entry(&self, visit: &mut dyn FnMut(usize, usize, &[u8])) -> bool;
    /// Calls `visit` with each table that was empty and got many rows at once.
    fn for_each_fill(&self, visit: &mut dyn FnMut(usize));
    /// Whether rows were erased, so that nothing of them may be kept for anybody.
    fn is_erasure(&self) -> bool;
    /// Whether an incremental snapshot file has brought it, whose writer may have erased rows.
    fn is_link(&self) -> bool;
    /// The net change of each row, when the transaction has made `after`.
    fn net(&self, after: &Contents) -> Vec<Change>;
}

/// The watches of a database.
#[derive(Debug, Default)]
pub(super) struct Registry {
    watches: BTreeMap<u64, Watched>,
    trees: BTreeMap<TreeId, TreeWatches>,
    /// Watches made so far.
    made: u64,
    /// Commits that were asked about, so that each asks a question once.
    round: u64,
}

#[derive(Debug)]
struct Watched {
    signal: Arc<Signal>,
    /// The serial number of the version that it has read.
    seen: u64,
    questions: Arc<[Question]>,
}

/// The questions that were asked of one tree.
#[derive(Debug, Default)]
struct TreeWatches {
    keys: Points<Askers>,
    values: Points<Askers>,
    /// How many questions there are for values of each length.
    value_lengths: BTreeMap<usize, usize>,
    spans: Spans<Askers>,
}

impl Registry {
    /// Whether anybody watches an index.
    pub(super) fn watches_indexes(&self) -> bool {
        self.trees.keys().any(|tree| tree.index.is_some())
    }

    pub(super) fn len(&self) -> usize {
        self.watches.len()
    }

    /// Enters a watch and gives the number by which it is removed.
    pub(super) fn insert(
        &mut self,
        signal: Arc<Signal>,
        seen: u64,
        questions: Arc<[Question]>,
    ) -> u64 {
        let id = self.made;
        self.made += 1;
        for question in questions.iter() {
            let tree = self.trees.entry(question.tree).or_default();
            tree.askers(&question.extent).insert((question.aspect, id));
        }
        self.watches.insert(id, Watched { signal, seen, questions });
        id
    }

    /// Takes a watch out, if it is still there, and gives its signal.
    pub(super) fn remove(&mut self, id: u64) -> Option<Arc<Signal>> {
        let Watched { signal, questions, .. } = self.watches.remove(&id)?;
        for Question { tree: at, extent, aspect } in questions.iter() {
            let Some(tree) = self.trees.get_mut(at) else { continue };
            tree.forget(extent, (*aspect, id));
            if tree.is_empty() {
                self.trees.remove(at);
            }
        }
        Some(signal)
    }

    /// Takes all watches out and gives their signals.
    pub(super) fn remove_all(&mut self) -> Vec<Arc<Signal>> {
        self.trees.clear();
        std::mem::take(&mut self.watches).into_values().map(|watched| watched.signal).collect()
    }

    /// Takes out the watches whose answers changed between `old` and `new`, of which `touched` says
    /// how one came from the other, and gives their signals. O(log n) for each change, and for each
    /// watch that it might concern.
    pub(super) fn changed(
        &mut self,
        old: &Root,
        new: &Root,
        touched: &dyn Touched,
    ) -> Vec<Arc<Signal>> {
        if self.watches.is_empty() {
            return Vec::new();
        }
        self.round += 1;
        let mut found = Found { old, new, round: self.round, ids: Vec::new() };
        let mut tables = Vec::new();
        touched.for_each_key(&mut |table, key| {
            if tables.last() != Some(&table) {
                tables.push(table);
            }
            let id = TreeId { table, index: None };
            if let Some(watched) = self.trees.get_mut(&id) {
                found.entry(watched, id, key);
            }
        });
        touched.for_each_fill(&mut |table| {
            tables.push(table);
            found.every_entry(&mut self.trees, TreeId { table, index: None });
        });
        let is_known = touched.for_each_entry(&mut |table, index, key| {
            let id = TreeId { table, index: Some(index) };
            if let Some(watched) = self.trees.get_mut(&id) {
                found.entry(watched, id, key);
            }
        });
        tables.sort_unstable();
        tables.dedup();
        for table in tables.into_iter().filter(|_| !is_known) {
            let indexes =
                TreeId { table, index: Some(0) }..=TreeId { table, index: Some(usize::MAX) };
            let watched: Vec<_> = self.trees.range(indexes).map(|(id, _)| *id).collect();
            watched.into_iter().for_each(|id| found.every_entry(&mut self.trees, id));
        }
        let ids = self.unseen(found.ids, new.serial());
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    /// As [`changed`](Registry::changed), where nobody knows how one version came from the other:
    /// every watch is asked.
    pub(super) fn replaced(&mut self, old: &Root, new: &Root) -> Vec<Arc<Signal>> {
        let watches = self.watches.iter();
        let ids = watches.filter(|(_, watched)| {
            watched.questions.iter().any(|question| differs(question, old, new))
        });
        let ids = ids.map(|(id, _)| *id).collect();
        let ids = self.unseen(ids, new.serial());
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    /// Those that have not read the version with this serial number, or a later one.
    fn unseen(&self, mut ids: Vec<u64>, serial: u64) -> Vec<u64> {
        ids.sort_unstable();
        ids.dedup();
        let is_unseen = |id: &u64| self.watches.get(id).is_some_and(|watch| watch.seen < serial);
        ids.into_iter().filter(is_unseen).collect()
    }
}

impl TreeWatches {
    fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.values.is_empty() && self.spans.is_empty()
    }

    fn askers(&mut self, extent: &Extent) -> &mut Askers {
        match extent {
            Extent::Key(key) => self.keys.entry(key),
            Extent::Value(value) => {
                if self.values.get_mut(value).is_none() {
                    *self.value_lengths.entry(value.len()).or_default() += 1;
                }
                self.values.entry(value)
            }
            Extent::Span(span) => self.spans.entry(span),
        }
    }

    fn forget(&mut self, extent: &Extent, asker: (Aspect, u64)) {
        let askers = match extent {
            Extent::Key(key) => self.keys.get_mut(key),
            Extent::Value(value) => self.values.get_mut(value),
            Extent::Span(span) => self.spans.get_mut(span),
        };
        let Some(askers) = askers else { return };
        if !askers.remove(asker) {
            return;
        }
        match extent {
            Extent::Key(key) => drop(self.keys.remove(key)),
            Extent::Value(value) => {
                self.values.remove(value);
                let count = self.value_lengths.entry(value.len()).or_default();
                *count -= 1;
                if *count == 0 {
                    self.value_lengths.remove(&value.len());
                }
            }
            Extent::Span(span) => drop(self.spans.remove(span)),
        }
    }
}

/// The watches that were found to be concerned.
struct Found<'a> {
    old: &'a Root,
    new: &'a Root,
    round: u64,
    /// Some perhaps several times.
    ids: Vec<u64>,
}

/// Whether the entry at a key has changed, once somebody wants to know.
struct Entry<'a> {
    both: Both<'a>,
    key: &'a [u8],
    is_changed: Option<bool>,
}

impl Entry<'_> {
    fn is_changed(&mut self) -> bool {
        let (both, key) = (self.both, self.key);
        *self.is_changed.get_or_insert_with(|| both.differ_at(key))
    }
}

impl Found<'_> {
    /// Looks for who is concerned by every entry of a tree that has changed.
    fn every_entry(&mut self, trees: &mut BTreeMap<TreeId, TreeWatches>, id: TreeId) {
        let Some(watched) = trees.get_mut(&id) else { return };
        let (old, new) = (self.old.table(id.table), self.new.table(id.table));
        let all = Bound::Unbounded;
        let mut changed = new.tree(id.index).diff(old.tree(id.index), all, all);
        while let Some(found) = changed.next() {
            self.entry(watched, id, found.key);
        }
    }

    /// Looks for who is concerned by the entry at `key`, which may have changed.
    fn entry(&mut self, watched: &mut TreeWatches, id: TreeId, key: &[u8]) {
        let (old, new) = (self.old.table(id.table), self.new.table(id.table));
        let mut entry = Entry { both: Both { old, new, index: id.index }, key, is_changed: None };
        if let Some(askers) = watched.keys.get_mut(key) {
            self.ask(askers, id, &mut entry, || Extent::Key(key.into()));
        }
        for length in watched.value_lengths.keys().take_while(|length| **length <= key.len()) {
            let value = &key[..*length];
            if let Some(askers) = watched.values.get_mut(value) {
                self.ask(askers, id, &mut entry, || Extent::Value(value.into()));
            }
        }
        if !watched.spans.is_empty() {
            watched.spans.visit_mut(key, |span, askers| {
                self.ask(askers, id, &mut entry, || Extent::Span(Span::clone(span)));
            });
        }
    }

    /// Adds those of `askers` whose answers have changed: to the question for rows, if this entry
    /// has; to another, if a look at both versions says so, and that once for all entries.
    fn ask(
        &mut self,
        askers: &mut Askers,
        tree: TreeId,
        entry: &mut Entry<'_>,
        extent: impl Fn() -> Extent,
    ) {
        let is_first = askers.round != self.round;
        askers.round = self.round;
        // Mostly all of them have asked the same.
        let mut last = None;
        askers.for_each(|aspect, id| {
            let is_changed = match (aspect, last) {
                (Aspect::Rows, _) => entry.is_changed(),
                _ if !is_first => return,
                (aspect, Some((known, is_changed))) if known == aspect => is_changed,
                (aspect, _) => {
                    let question = Question { tree, extent: extent(), aspect };
                    differs(&question, self.old, self.new)
                }
            };
            last = Some((aspect, is_changed));
            if is_changed {
                self.ids.push(id);
            }
        });
    }
}
