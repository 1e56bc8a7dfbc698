//! Notes what is read: which questions a closure asked of a version.
//!
//! A reader that is watched carries a [`Reading`]; others carry none, and pay one test for that.
//! What iterators have handed out is noted when they are dropped: as far as they went, and no
//! further.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound;

use super::question::{Aspect, Extent, Question, Span, TreeId};
use crate::key::KeyBuf;
use crate::limits::QUESTIONS_MAX;
use crate::schema::TableSchema;
use crate::sync::PoisonError;
use crate::sync::unmodelled::Mutex;
use crate::tree::TreeRef;

use super::state::as_bytes;

/// The questions that were asked so far.
#[derive(Debug, Default)]
pub(crate) struct ReadLog {
    asked: Mutex<Asked>,
    /// Whether the reader sees writes of its own over the version.
    is_draft: bool,
}

#[derive(Debug, Default)]
struct Asked {
    trees: BTreeMap<TreeId, BTreeSet<(Extent, Aspect)>>,
    count: usize,
}

impl ReadLog {
    /// The log of a reader that sees writes of its own over the version.
    ///
    /// What it sees then follows from the version, and from its writes, only for some aspects:
    /// which rows there are, and how many. Whether there are any does not: it may have deleted the
    /// one that was there, and another may have come. So it asks more.
    pub(crate) fn of_draft() -> Self {
        Self { is_draft: true, ..Self::default() }
    }

    fn note(&self, tree: TreeId, extent: Extent, aspect: Aspect) {
        if aspect == Aspect::Modified && self.is_draft {
            // What it took out may have made the table forget what others did.
            return self.enter(tree.of_rows(), Extent::Span(Span::whole()), aspect);
        }
        let aspect = match (aspect, &extent) {
            (Aspect::Any, Extent::Value(_) | Extent::Span(_)) if self.is_draft => Aspect::Count,
            (Aspect::Longest | Aspect::Nth(_), _) if self.is_draft => Aspect::Rows,
            (aspect, _) => aspect,
        };
        self.enter(tree, extent, aspect);
    }

    fn enter(&self, tree: TreeId, extent: Extent, aspect: Aspect) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let Asked { trees, count } = &mut *asked;
        let questions = trees.entry(tree).or_default();
        if *count >= QUESTIONS_MAX {
            // Coarser from here on: everything of the tree at once.
            *count -= questions.len();
            questions.clear();
            questions.insert((Extent::Span(Span::whole()), Aspect::Rows));
            *count += questions.len();
            let questions = trees.entry(tree.of_rows()).or_default();
            let is_new = questions.insert((Extent::Span(Span::whole()), Aspect::Modified));
            *count += usize::from(is_new);
            return;
        }
        *count += usize::from(questions.insert((extent, aspect)));
    }

    /// All questions, each once; the log is empty then.
    pub(crate) fn take_questions(&self) -> Vec<Question> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let trees = std::mem::take(&mut *asked).trees.into_iter();
        let questions = trees.flat_map(|(tree, questions)| {
            let questions = questions.into_iter();
            questions.map(move |(extent, aspect)| Question { tree, extent, aspect })
        });
        questions.collect()
    }
}

/// Where the reader of one table notes what it is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading<'a> {
    log: &'a ReadLog,
    table: usize,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(log: &'a ReadLog, table: usize) -> Self {
        Self { log, table }
    }

    fn tree(self, index: Option<usize>) -> TreeId {
        TreeId { table: self.table, index }
    }

    /// A statement depends on the row at `key`.
    #[cold]
    pub(crate) fn row(self, key: &[u8]) {
        self.key(None, key, Aspect::Rows);
    }

    /// A statement depends on whether the value of a unique index is free.
    #[cold]
    pub(super) fn free(self, index: usize, entry: &[u8]) {
        self.key(Some(index), entry, Aspect::Any);
    }

    /// A statement depends on all rows.
    #[cold]
    pub(crate) fn everything(self) {
        self.log.note(self.tree(None), Extent::Span(Span::whole()), Aspect::Rows);
    }

    /// The entry at `key` was looked at.
    #[cold]
    pub(super) fn key(self, index: Option<usize>, key: &[u8], aspect: Aspect) {
        self.log.note(self.tree(index), Extent::Key(key.into()), aspect);
    }

    /// The entries with `value` were asked for, in an index that is unique or not.
    #[cold]
    pub(super) fn value(self, index: usize, value: &[u8], is_unique: bool, aspect: Aspect) {
        let extent =
            if is_unique { Extent::Key(value.into()) } else { Extent::Value(value.into()) };
        self.log.note(self.tree(Some(index)), extent, aspect);
    }

    /// Something of a stretch was asked.
    #[cold]
    pub(super) fn span(
        self,
        index: Option<usize>,
        (low, high): (Bound<&[u8]>, Bound<&[u8]>),
        aspect: Aspect,
    ) {
        self.log.note(self.tree(index), Extent::Span(Span::new(low, high)), aspect);
    }

    /// When something of a stretch was changed was asked.
    #[cold]
    pub(super) fn modified(
        self,
        index: Option<usize>,
        bounds: (Bound<&[u8]>, Bound<&[u8]>),
        schema: &TableSchema,
    ) {
        if schema.tombstones > 0 {
            return self.span(index, bounds, Aspect::Modified);
        }
        self.modified_table();
    }

    /// As [`modified`](Reading::modified), of one row.
    #[cold]
    pub(super) fn modified_key(self, key: &[u8], schema: &TableSchema) {
        if schema.tombstones > 0 {
            return self.key(None, key, Aspect::Modified);
        }
        self.modified_table();
    }

    /// As [`modified`](Reading::modified), of one value of an index.
    #[cold]
    pub(super) fn modified_value(self, index: usize, value: &[u8], schema: &TableSchema) {
        if schema.tombstones > 0 {
            return self.value(index, value, schema.indexes[index].unique, Aspect::Modified);
        }
        self.modified_table();
    }

    fn modified_table(self) {
        self.span(None, (Bound::Unbounded, Bound::Unbounded), Aspect::Modified);
    }

    /// The row with the longest key that `key` starts with was asked for; no key below `shortest`
    /// matters.
    #[cold]
    pub(super) fn longest(self, index: Option<usize>, key: &[u8], shortest: &[u8]) {
        let span = Span::new(Bound::Included(shortest), Bound::Included(key));
        self.log.note(self.tree(index), Extent::Span(span), Aspect::Longest);
    }

    /// Follows an iterator over the entries of `view` between two bounds; `value` says that these
    /// are the entries of one value of a non-unique index.
    #[cold]
    pub(super) fn follow(
        self,
        index: Option<usize>,
        view: TreeRef<'a>,
        (low, high): (Bound<KeyBuf>, Bound<KeyBuf>),
        value: Option<&[u8]>,
    ) -> Box<Trace<'a>> {
        let value = value.map(Box::from);
        Box::new(Trace {
            reading: self,
            index,
            view,
            low,
            high,
            value,
            front: 0,
            back: 0,
            is_whole: false,
            is_counted: false,
        })
    }
}

/// What an iterator has handed out.
#[derive(Clone)]
pub(crate) struct Trace<'a> {
    reading: Reading<'a>,
    index: Option<usize>,
    view: TreeRef<'a>,
    low: Bound<KeyBuf>,
    high: Bound<KeyBuf>,
    value: Option<Box<[u8]>>,
    /// Entries handed out at the front, and at the back.
    front: usize,
    back: usize,
    /// Whether it was seen that there are no more.
    is_whole: bool,
    /// Whether the others were counted.
    is_counted: bool,
}

impl Trace<'_> {
    pub(super) fn front(&mut self, handed_out: usize) {
        self.front += handed_out;
        self.is_whole |= handed_out == 0;
    }

    pub(super) fn back(&mut self, handed_out: usize) {
        self.back += handed_out;
        self.is_whole |= handed_out == 0;
    }

    pub(super) fn counted(&mut self) {
        self.is_counted = true;
    }

    fn note(&self, extent: Extent, aspect: Aspect) {
        self.reading.log.note(self.reading.tree(self.index), extent, aspect);
    }

    /// All that it could have handed out.
    fn whole(&self) -> Extent {
        match &self.value {
            Some(value) => Extent::Value(value.clone()),
            None => Extent::Span(Span::new(as_bytes(&self.low), as_bytes(&self.high))),
        }
    }
}

impl Drop for Trace<'_> {
    fn drop(&mut self) {
        if self.is_counted {
            self.note(self.whole(), Aspect::Count);
        }
        if self.is_whole {
            return self.note(self.whole(), Aspect::Rows);
        }
        let (low, high) = (as_bytes(&self.low), as_bytes(&self.high));
        let mut key = Vec::new();
        if let Some(last) = self.front.checked_sub(1) {
            self.view.key_at(self.view.rank(low, true) + last, &mut key);
            self.note(Extent::Span(Span::new(low, Bound::Included(&key))), Aspect::Rows);
        }
        if self.back > 0 {
            self.view.key_at(self.view.rank(high, false) - self.back, &mut key);
            self.note(Extent::Span(Span::new(Bound::Included(&key), high)), Aspect::Rows);
        }
    }
}

impl fmt::Debug for Trace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace")
            .field("front", &self.front)
            .field("back", &self.back)
            .finish_non_exhaustive()
    }
}
