//! The iterator over rows that every range, index value and scan hands out.

use std::fmt;
use std::iter::FusedIterator;

use crate::tree::{Row, TypedEntries};

/// Rows in the order of the primary key or index that was asked, from both ends.
///
/// It borrows the version it reads, so no write can disturb it; each step costs O(1) on average,
/// and nothing is allocated.
#[derive(Clone)]
pub struct Rows<'a, T> {
    entries: TypedEntries<'a, T>,
}

impl<'a, T> Rows<'a, T> {
    pub(crate) fn new(entries: TypedEntries<'a, T>) -> Self {
        Self { entries }
    }
}

impl<'a, T: Send + Sync + 'static> Iterator for Rows<'a, T> {
    type Item = &'a Row<T>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.entries.next()
    }

    #[inline]
    fn fold<B, F: FnMut(B, Self::Item) -> B>(self, init: B, fold: F) -> B {
        self.entries.fold(init, fold)
    }
}

impl<T: Send + Sync + 'static> DoubleEndedIterator for Rows<'_, T> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        self.entries.next_back()
    }
}

impl<T: Send + Sync + 'static> FusedIterator for Rows<'_, T> {}

impl<T> fmt::Debug for Rows<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").finish_non_exhaustive()
    }
}
