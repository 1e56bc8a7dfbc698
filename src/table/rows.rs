//! The iterator over rows that every range, index value and scan hands out.

use std::fmt;
use std::iter::FusedIterator;

use super::reading::Trace;
use crate::tree::{Row, TypedEntries};

/// Rows in the order of the primary key or index that was asked, from both ends.
///
/// It borrows the version it reads, so no write can disturb it; each step costs O(1) on average,
/// and nothing is allocated.
#[derive(Clone)]
pub struct Rows<'a, T> {
    entries: TypedEntries<'a, T>,
    /// Notes what was handed out, in a reader that is watched.
    trace: Option<Box<Trace<'a>>>,
}

impl<'a, T> Rows<'a, T> {
    pub(crate) fn new(entries: TypedEntries<'a, T>, trace: Option<Box<Trace<'a>>>) -> Self {
        Self { entries, trace }
    }
}

impl<'a, T: Send + Sync + 'static> Rows<'a, T> {
    /// Takes several of the next rows at once: those that stand together in one node, a few dozen;
    /// `None` at the end.
    ///
    /// Plain iteration has the next rows on their way from memory while one is read. This hands
    /// them out as they are, so it is the faster way to pass over rows of which few are read, and
    /// the slower one to read all.
    ///
    /// ```
    /// # use fsmdb::{Db, Table};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    /// # #[table(name = "nodes")]
    /// # struct Node { #[key] id: u64 }
    /// # let db = Db::builder().table::<Node>().build()?;
    /// # let mut txn = db.write();
    /// # txn.table_mut().insert_all((0..1000).map(|id| Node { id }))?;
    /// # txn.commit();
    /// let snap = db.read();
    /// let mut rows = snap.table::<Node>().iter();
    /// let mut sampled = Vec::new();
    /// while let Some(slice) = rows.next_slice() {
    ///     sampled.push(slice[0].id);
    /// }
    /// assert!(sampled.len() > 10);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn next_slice(&mut self) -> Option<&'a [&'a Row<T>]> {
        let rows = self.entries.next_slice();
        if let Some(trace) = &mut self.trace {
            trace.front(rows.len());
        }
        (!rows.is_empty()).then_some(rows)
    }
}

impl<'a, T: Send + Sync + 'static> Iterator for Rows<'a, T> {
    type Item = &'a Row<T>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let row = self.entries.next();
        if let Some(trace) = &mut self.trace {
            trace.front(usize::from(row.is_some()));
        }
        row
    }

    #[inline]
    fn fold<B, F: FnMut(B, Self::Item) -> B>(mut self, init: B, fold: F) -> B {
        if let Some(trace) = &mut self.trace {
            trace.front(0);
        }
        self.entries.fold(init, fold)
    }

    /// Counts without looking at the rows.
    fn count(mut self) -> usize {
        if let Some(trace) = &mut self.trace {
            trace.counted();
        }
        let mut count = 0;
        loop {
            match self.entries.next_slice().len() {
                0 => return count,
                more => count += more,
            }
        }
    }
}

impl<T: Send + Sync + 'static> DoubleEndedIterator for Rows<'_, T> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        let row = self.entries.next_back();
        if let Some(trace) = &mut self.trace {
            trace.back(usize::from(row.is_some()));
        }
        row
    }
}

impl<T: Send + Sync + 'static> FusedIterator for Rows<'_, T> {}

impl<T> fmt::Debug for Rows<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").finish_non_exhaustive()
    }
}
