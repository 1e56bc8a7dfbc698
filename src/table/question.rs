//! What a read asked, so that one can know later whether the answer has changed.
//!
//! A question names a tree, an extent of its keys, and an aspect of what stands there. It does not
//! hold the answer: two versions are asked the same question, and their answers compared
//! (`Contents` in `root.rs` has the trees).

use std::ops::Bound;

use super::state::as_bytes;
use crate::key::{KeyBuf, prefix_bounds};

/// One question to one tree of one table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Question {
    pub(crate) tree: TreeId,
    pub(crate) extent: Extent,
    pub(crate) aspect: Aspect,
}

/// A tree of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TreeId {
    /// The position of the table in the schema.
    pub(crate) table: usize,
    /// The position of the index in the table; `None` is the primary tree.
    pub(crate) index: Option<usize>,
}

impl TreeId {
    /// The primary tree of the same table.
    pub(crate) fn of_rows(self) -> Self {
        Self { index: None, ..self }
    }
}

/// Which keys of a tree were asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Extent {
    /// The entry at this key.
    Key(Box<[u8]>),
    /// The entries of a non-unique index that have this value.
    Value(Box<[u8]>),
    /// The entries of a stretch.
    Span(Span),
}

impl Extent {
    /// Calls `look` with the bounds of the entries.
    pub(crate) fn within<A>(&self, look: impl FnOnce(Bound<&[u8]>, Bound<&[u8]>) -> A) -> A {
        match self {
            Self::Key(key) => look(Bound::Included(key), Bound::Included(key)),
            Self::Value(value) => {
                let (low, high) = prefix_bounds(KeyBuf::from(&**value));
                look(as_bytes(&low), as_bytes(&high))
            }
            Self::Span(span) => {
                let (low, high) = span.bounds();
                look(low, high)
            }
        }
    }
}

/// What was asked of the entries of an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Aspect {
    /// Which rows there are, and what is in them.
    Rows,
    /// How many there are.
    Count,
    /// Whether there are any.
    Any,
    /// Which row has the longest key that the end of the extent, a string, starts with.
    Longest,
    /// Which row has so many others of the extent before it.
    Nth(usize),
    /// When the table was changed last, or the entries of an extent were, or may have been.
    Modified,
}

/// A stretch of keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    pub(crate) low: Edge,
    pub(crate) high: Option<Edge>,
}

/// A place between keys: before the key, or after it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Edge {
    pub(crate) key: Box<[u8]>,
    pub(crate) is_after: bool,
}

impl Edge {
    fn new(key: &[u8], is_after: bool) -> Self {
        Self { key: key.into(), is_after }
    }

    /// Whether the place is behind `key`.
    pub(crate) fn is_behind(&self, key: &[u8]) -> bool {
        match (*self.key).cmp(key) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => self.is_after,
            std::cmp::Ordering::Greater => true,
        }
    }
}

impl Span {
    /// All keys.
    pub(crate) fn whole() -> Self {
        Self::new(Bound::Unbounded, Bound::Unbounded)
    }

    pub(crate) fn new(low: Bound<&[u8]>, high: Bound<&[u8]>) -> Self {
        let low = match low {
            Bound::Unbounded => Edge::new(&[], false),
            Bound::Included(key) => Edge::new(key, false),
            Bound::Excluded(key) => Edge::new(key, true),
        };
        let high = match high {
            Bound::Unbounded => None,
            Bound::Included(key) => Some(Edge::new(key, true)),
            Bound::Excluded(key) => Some(Edge::new(key, false)),
        };
        Self { low, high }
    }

    pub(crate) fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        let low = match &self.low {
            Edge { key, is_after: false } => Bound::Included(&**key),
            Edge { key, is_after: true } => Bound::Excluded(&**key),
        };
        let high = match &self.high {
            None => Bound::Unbounded,
            Some(Edge { key, is_after: false }) => Bound::Excluded(&**key),
            Some(Edge { key, is_after: true }) => Bound::Included(&**key),
        };
        (low, high)
    }

    /// Whether `key` lies in it.
    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        !self.low.is_behind(key) && self.high.as_ref().is_none_or(|high| high.is_behind(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::RangeBounds;

    #[test]
    fn a_span_has_the_keys_of_its_bounds() {
        let keys: [&[u8]; 5] = [b"", b"a", b"aa", b"b", b"c"];
        let mut bounds = vec![Bound::Unbounded];
        for key in keys {
            bounds.extend([Bound::Included(key), Bound::Excluded(key)]);
        }
        for low in &bounds {
            for high in &bounds {
                let span = Span::new(*low, *high);
                for key in keys {
                    let range = (*low, *high);
                    let expected = RangeBounds::<[u8]>::contains(&range, key);
                    assert_eq!(span.contains(key), expected, "{key:?} in {span:?}");
                }
                let (again_low, again_high) = span.bounds();
                assert_eq!(Span::new(again_low, again_high), span);
            }
        }
    }
}
