//! The typed view of one index in one version.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Bound;

use super::lookup::{get_many, read_longest_prefix, read_nth};
use super::question::Aspect;
use super::reading::Reading;
use super::rows::Rows;
use super::state::{TableState, as_bytes};
use crate::key::{AsKey, AsPrefix, KeyBuf, KeyRange, TextKey, bounds_under, encode, prefix_bounds};
use crate::revision::Revision;
use crate::schema::{Index, Many, Table, Unique};
use crate::tree::{Row, TypedTree};

/// Reads one index of a table: rows in the order of the index's values, and for equal values in
/// the order of their primary keys.
///
/// In a multi-valued index a row is met once for each of its values in the range asked, and once
/// for one value.
pub struct IndexReader<'a, T, K, C> {
    state: &'a TableState,
    position: usize,
    /// Where it notes what it is asked, when that is watched.
    reading: Option<Reading<'a>>,
    marker: PhantomData<fn() -> (T, K, C)>,
}

impl<'a, T: Table, K, C> IndexReader<'a, T, K, C> {
    pub(crate) fn new(
        state: &'a TableState,
        index: Index<T, K, C>,
        reading: Option<Reading<'a>>,
    ) -> Self {
        Self { state, position: index.position(), reading, marker: PhantomData }
    }

    /// The rows between two bounds, whose iteration is noted if the reader notes; `value` says that
    /// they are those of one value.
    #[inline]
    fn rows(&self, low: Bound<KeyBuf>, high: Bound<KeyBuf>, value: Option<&KeyBuf>) -> Rows<'a, T> {
        let entries = self.tree().range(as_bytes(&low), as_bytes(&high));
        let trace = self.reading.map(|reading| {
            // The value of a unique index is a whole key.
            let value = value.filter(|_| !self.is_unique()).map(KeyBuf::as_slice);
            reading.follow(Some(self.position), self.tree().erased(), (low, high), value)
        });
        Rows::new(entries, trace)
    }

    fn is_unique(&self) -> bool {
        self.state.schema().indexes[self.position].unique
    }

    #[inline]
    fn note(&self, low: Bound<&[u8]>, high: Bound<&[u8]>, aspect: Aspect) {
        if let Some(reading) = self.reading {
            reading.span(Some(self.position), (low, high), aspect);
        }
    }

    #[inline]
    fn tree(&self) -> TypedTree<'a, T> {
        self.state.index(self.position)
    }

    /// All rows that are in the index, in its order.
    #[must_use]
    pub fn iter(&self) -> Rows<'a, T> {
        self.rows(Bound::Unbounded, Bound::Unbounded, None)
    }

    /// The number of entries, O(1): rows, or values of rows in a multi-valued index.
    #[must_use]
    pub fn len(&self) -> usize {
        self.note(Bound::Unbounded, Bound::Unbounded, Aspect::Count);
        self.tree().erased().len()
    }

    /// Whether the index has no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.note(Bound::Unbounded, Bound::Unbounded, Aspect::Any);
        self.tree().erased().len() == 0
    }

    /// The row with the lowest value.
    #[must_use]
    pub fn first(&self) -> Option<&'a Row<T>> {
        self.iter().next()
    }

    /// The row with the highest value.
    #[must_use]
    pub fn last(&self) -> Option<&'a Row<T>> {
        self.iter().next_back()
    }

    /// Whether any row has `value`.
    #[must_use]
    pub fn contains<Q: AsKey<K> + ?Sized>(&self, value: &Q) -> bool {
        let value = encode(value);
        let (low, high) = prefix_bounds(value.clone());
        let (low, high) = (as_bytes(&low), as_bytes(&high));
        if let Some(reading) = self.reading {
            reading.value(self.position, &value, self.is_unique(), Aspect::Any);
        }
        self.tree().range(low, high).next().is_some()
    }

    /// The rows that have `value`, whatever the cardinality of the index.
    pub(crate) fn rows_of<Q: AsKey<K> + ?Sized>(&self, value: &Q) -> Rows<'a, T> {
        let value = encode(value);
        let (low, high) = prefix_bounds(value.clone());
        self.rows(low, high, Some(&value))
    }

    /// The rows whose values lie in `range`, in order. Crossed bounds give no rows.
    #[must_use]
    pub fn range<R: KeyRange<K>>(&self, range: R) -> Rows<'a, T> {
        let (low, high) = range.encode_bounds();
        self.rows(low, high, None)
    }

    /// The number of entries whose values lie in `range`, O(log n).
    #[must_use]
    pub fn count<R: KeyRange<K>>(&self, range: R) -> usize {
        let (low, high) = range.encode_bounds();
        self.note(as_bytes(&low), as_bytes(&high), Aspect::Count);
        self.tree().count(as_bytes(&low), as_bytes(&high))
    }

    /// The number of entries whose values are below `value`, O(log n).
    #[must_use]
    pub fn rank<Q: AsKey<K> + ?Sized>(&self, value: &Q) -> usize {
        let value = encode(value);
        self.note(Bound::Unbounded, Bound::Excluded(&value), Aspect::Count);
        self.tree().erased().rank(Bound::Included(value.as_slice()), true)
    }

    /// The row with `index` others before it among those whose values lie in `range`,
    /// O(log n); `nth(.., 0)` is the first of all.
    #[must_use]
    pub fn nth<R: KeyRange<K>>(&self, range: R, index: usize) -> Option<&'a Row<T>> {
        let (low, high) = range.encode_bounds();
        let bounds = (as_bytes(&low), as_bytes(&high));
        read_nth(self.tree(), bounds, index, self.reading, Some(self.position))
    }

    /// The rows whose values begin with the components of `prefix`: `&("prod",)` for a value
    /// `(String, Status)`, or with a string that is named as one: `&StartsWith("web-")`.
    ///
    /// A component matches whole: `("a",)` never finds `("ab", _)`.
    #[must_use]
    pub fn prefix<P: AsPrefix<K> + ?Sized>(&self, prefix: &P) -> Rows<'a, T> {
        let (low, high) = bounds_under(prefix);
        self.rows(low, high, None)
    }
}

/// Revisions; see [`TableReader::modified_under`](crate::TableReader::modified_under) on when they
/// are exact and what they cost.
impl<T: Table, K, C> IndexReader<'_, T, K, C> {
    /// The revision of the last commit that put, changed or deleted a row that had `value` before
    /// or has it since.
    #[must_use]
    pub fn modified_of<Q: AsKey<K> + ?Sized>(&self, value: &Q) -> Revision {
        let value = encode(value);
        if let Some(reading) = self.reading {
            reading.modified_value(self.position, &value, self.state.schema());
        }
        let (low, high) = prefix_bounds(value);
        self.state.modified_within(Some(self.position), (as_bytes(&low), as_bytes(&high)))
    }

    /// As [`modified_of`](IndexReader::modified_of), of all values that lie in `range`.
    #[must_use]
    pub fn modified_in<R: KeyRange<K>>(&self, range: R) -> Revision {
        let (low, high) = range.encode_bounds();
        self.modified_within(as_bytes(&low), as_bytes(&high))
    }

    /// As [`modified_of`](IndexReader::modified_of), of all values that begin with the components
    /// of `prefix`.
    #[must_use]
    pub fn modified_under<P: AsPrefix<K> + ?Sized>(&self, prefix: &P) -> Revision {
        let (low, high) = bounds_under(prefix);
        self.modified_within(as_bytes(&low), as_bytes(&high))
    }

    fn modified_within(&self, low: Bound<&[u8]>, high: Bound<&[u8]>) -> Revision {
        if let Some(reading) = self.reading {
            reading.modified(Some(self.position), (low, high), self.state.schema());
        }
        self.state.modified_within(Some(self.position), (low, high))
    }
}

impl<'a, T: Table, K> IndexReader<'a, T, K, Unique> {
    /// The row that has `value`, O(log n).
    #[must_use]
    pub fn get<Q: AsKey<K> + ?Sized>(&self, value: &Q) -> Option<&'a Row<T>> {
        let value = encode(value);
        if let Some(reading) = self.reading {
            reading.key(Some(self.position), &value, Aspect::Rows);
        }
        self.tree().get(&value)
    }

    /// The rows that have `values`, each in the place of its value; see
    /// [`TableReader::get_many`](crate::TableReader::get_many).
    #[must_use]
    pub fn get_many<Q: AsKey<K>>(&self, values: &[Q]) -> Vec<Option<&'a Row<T>>> {
        get_many(self.tree(), values, self.reading, Some(self.position))
    }

    /// The row whose value is the longest that `value` starts with; see
    /// [`TableReader::longest_prefix`](crate::TableReader::longest_prefix).
    #[must_use]
    pub fn longest_prefix<Q: AsKey<K> + ?Sized>(&self, value: &Q) -> Option<&'a Row<T>>
    where
        K: TextKey,
    {
        read_longest_prefix(self.tree(), encode(value), self.reading, Some(self.position))
    }
}

impl<'a, T: Table, K> IndexReader<'a, T, K, Many> {
    /// The rows that have `value`, in the order of their primary keys.
    #[must_use]
    pub fn get<Q: AsKey<K> + ?Sized>(&self, value: &Q) -> Rows<'a, T> {
        self.rows_of(value)
    }
}

impl<T, K, C> Clone for IndexReader<'_, T, K, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, K, C> Copy for IndexReader<'_, T, K, C> {}

impl<T, K, C> fmt::Debug for IndexReader<'_, T, K, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.state.schema().indexes[self.position].name;
        f.debug_struct("IndexReader").field("index", name).finish_non_exhaustive()
    }
}
