//! The iterator over rows that every range, index value and scan hands out.

use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;

use crate::row::{Row, RowRef, typed};
use crate::tree::Entries;

/// Rows in the order of the primary key or index that was asked, from both ends.
///
/// It borrows the version it reads, so no write can disturb it; each step costs O(1) on average.
pub struct Rows<'a, T> {
    entries: Entries<'a, RowRef>,
    marker: PhantomData<fn() -> T>,
}

impl<'a, T> Rows<'a, T> {
    pub(crate) fn new(entries: Entries<'a, RowRef>) -> Self {
        Self { entries, marker: PhantomData }
    }
}

impl<'a, T: Send + Sync + 'static> Iterator for Rows<'a, T> {
    type Item = &'a Row<T>;

    fn next(&mut self) -> Option<Self::Item> {
        self.entries.next().map(|(_, row)| typed(row))
    }
}

impl<T: Send + Sync + 'static> DoubleEndedIterator for Rows<'_, T> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.entries.next_back().map(|(_, row)| typed(row))
    }
}

impl<T: Send + Sync + 'static> FusedIterator for Rows<'_, T> {}

impl<T> fmt::Debug for Rows<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").finish_non_exhaustive()
    }
}
