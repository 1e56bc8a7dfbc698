//! Whether two versions give different answers to a question.

use std::ops::Bound;

use crate::key::KeyBuf;
use crate::root::{Contents, Root};
use crate::table::{Aspect, Extent, Question, TableState, longest_prefix};
use crate::tree::{RowRef, TreeRef};

/// Whether the answers of `old` and `new`, of one schema, differ.
///
/// Two rows are the same when their values are, whenever they were written.
pub(crate) fn differs(question: &Question, old: &Contents, new: &Contents) -> bool {
    let table = question.tree.table;
    let both = Both { old: old.table(table), new: new.table(table), index: question.tree.index };
    match &question.extent {
        Extent::Key(key) if question.aspect == Aspect::Rows => both.differ_at(key),
        extent => extent.within(|low, high| both.differ(question.aspect, low, high)),
    }
}

/// One tree of one table in two versions.
#[derive(Clone, Copy)]
pub(super) struct Both<'v> {
    pub(super) old: &'v TableState,
    pub(super) new: &'v TableState,
    pub(super) index: Option<usize>,
}

impl<'v> Both<'v> {
    fn trees(self) -> (TreeRef<'v>, TreeRef<'v>) {
        (self.old.tree(self.index), self.new.tree(self.index))
    }

    fn is_same(self, one: Option<RowRef<'_>>, other: Option<RowRef<'_>>) -> bool {
        match (one, other) {
            (None, None) => true,
            (Some(one), Some(other)) => self.old.schema().is_same(one, other),
            _ => false,
        }
    }

    /// Whether the entries at `key` are different.
    pub(super) fn differ_at(self, key: &[u8]) -> bool {
        let (old, new) = self.trees();
        !self.is_same(old.get(key), new.get(key))
    }

    fn differ(self, aspect: Aspect, low: Bound<&[u8]>, high: Bound<&[u8]>) -> bool {
        let (old, new) = self.trees();
        if aspect != Aspect::Modified && old.is_same(new) {
            return false;
        }
        match aspect {
            Aspect::Modified => {
                let modified = |state: &TableState| state.modified_within(self.index, (low, high));
                modified(self.old) != modified(self.new)
            }
            Aspect::Rows => {
                let mut differences = new.diff(old, low, high);
                while let Some(found) = differences.next() {
                    if !self.is_same(found.before, found.after) {
                        return true;
                    }
                }
                false
            }
            Aspect::Count => old.count(low, high) != new.count(low, high),
            Aspect::Any => (old.count(low, high) == 0) != (new.count(low, high) == 0),
            Aspect::Longest => {
                let (Bound::Included(key) | Bound::Excluded(key)) = high else { return true };
                let found = |tree| longest_prefix(tree, KeyBuf::from(key)).map(|(row, _)| row);
                !self.is_same(found(old), found(new))
            }
            Aspect::Nth(index) => {
                let nth = |tree: TreeRef<'v>| {
                    let is_there = index < tree.count(low, high);
                    is_there.then(|| tree.nth(tree.rank(low, true) + index)).flatten()
                };
                !self.is_same(nth(old), nth(new))
            }
        }
    }
}

/// Whether the answer to any of `questions` differs.
pub(super) fn any_differs(questions: &[Question], old: &Root, new: &Root) -> bool {
    // The same version answers the same.
    old.serial() != new.serial() && questions.iter().any(|question| differs(question, old, new))
}
