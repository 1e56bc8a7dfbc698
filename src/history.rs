//! Versions that are kept after newer ones have taken their place.
//!
//! A map from revisions to versions, which readers search without a lock while the writer adds the
//! newest and takes out the oldest. What is taken out is given up at once; the nodes of the map, a
//! few words each, go when its own garbage collection comes to them.
//!
//! The only room that names `crossbeam-skiplist`, of which only `insert`, `get`, `front`, `back`,
//! `lower_bound` and `remove` are used: in 0.1.3 `range` leaks every node that it visits
//! (crossbeam#1178). Under a model checker the map stands in a lock.
//!
//! # Invariants
//!
//! 1. The versions are of one line of commits: a restore forgets all. So does a commit that erases,
//!    because each of them may hold what was erased; and so does an incremental snapshot file, of
//!    which nobody knows whether it erases.
//! 2. They are within the limits.
//! 3. Only whoever has the right to write adds and takes out.

use std::fmt;

use crate::revision::Revision;
use crate::root::Root;
use crate::sync::{Arc, AtomicUsize, Mutex, Ordering, PoisonError};
use map::Map;

/// How many versions a database keeps after newer ones have taken their place; the first limit that
/// is reached holds.
///
/// A version that is kept costs the nodes and rows that the next commit has replaced, and the
/// search for one is O(log n) in their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Versions, the current one not counted.
    pub versions: usize,
    /// Bytes of nodes and rows that only kept versions need, without what rows own elsewhere.
    pub bytes: usize,
    /// How many revisions the oldest may be behind the current one.
    pub revisions: u64,
}

impl Retention {
    /// Keeps nothing: only versions that somebody holds live on.
    pub const NONE: Self = Self { versions: 0, bytes: 0, revisions: 0 };

    /// Keeps so many versions, whatever they cost.
    #[must_use]
    pub fn versions(versions: usize) -> Self {
        Self { versions, bytes: usize::MAX, revisions: u64::MAX }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self::NONE
    }
}

/// One version that is kept.
struct Kept {
    /// Gone when it was taken out while somebody searched.
    root: Mutex<Option<Arc<Root>>>,
    /// Bytes that the commit after it has replaced.
    bytes: AtomicUsize,
}

/// The versions that are kept.
pub(crate) struct History {
    retention: Retention,
    versions: Map<Kept>,
    len: AtomicUsize,
    bytes: AtomicUsize,
}

impl History {
    pub(crate) fn new(retention: Retention) -> Self {
        let (len, bytes) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { retention, versions: Map::new(), len, bytes }
    }

    /// Whether anything is kept.
    pub(crate) fn is_on(&self) -> bool {
        self.retention.versions > 0
    }

    /// Keeps `root`, in the place of which one of revision `newest` was published by a commit that
    /// has replaced so many bytes, and gives up what is beyond the limits.
    pub(crate) fn keep(&self, root: &Arc<Root>, newest: Revision, replaced: usize) {
        let kept =
            Kept { root: Mutex::new(Some(Arc::clone(root))), bytes: AtomicUsize::new(replaced) };
        self.versions.insert(root.revision.0, kept);
        self.len.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(replaced, Ordering::Relaxed);
        while let Some(oldest) = self.versions.first() {
            let age = newest.0.saturating_sub(oldest);
            let is_within = self.len.load(Ordering::Relaxed) <= self.retention.versions
                && self.bytes.load(Ordering::Relaxed) <= self.retention.bytes
                && age <= self.retention.revisions;
            if is_within {
                return;
            }
            self.give_up(oldest);
        }
    }

    fn give_up(&self, revision: u64) {
        let found = self.versions.with(revision, |kept| {
            // The version goes now, whoever still holds the place of it.
            drop(take(&kept.root));
            kept.bytes.load(Ordering::Relaxed)
        });
        self.versions.remove(revision);
        self.len.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(found.unwrap_or(0), Ordering::Relaxed);
    }

    /// Gives everything up.
    pub(crate) fn clear(&self) {
        while let Some(oldest) = self.versions.first() {
            self.give_up(oldest);
        }
    }

    /// The version of `revision`, if it is kept.
    pub(crate) fn get(&self, revision: Revision) -> Option<Arc<Root>> {
        let root = |kept: &Kept| kept.root.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.versions.with(revision.0, root).flatten()
    }

    /// The lowest revision that is kept and above `revision`.
    pub(crate) fn after(&self, revision: Revision) -> Option<Revision> {
        self.versions.after(revision.0).map(Revision)
    }

    /// The lowest and the highest revision that are kept.
    pub(crate) fn span(&self) -> Option<(Revision, Revision)> {
        Some((Revision(self.versions.first()?), Revision(self.versions.last()?)))
    }

    /// Versions that are kept, and the bytes that they keep.
    pub(crate) fn held(&self) -> (usize, usize) {
        (self.len.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}

fn take(slot: &Mutex<Option<Arc<Root>>>) -> Option<Arc<Root>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History").field("held", &self.held()).finish_non_exhaustive()
    }
}

#[cfg(not(any(fsmdb_loom, fsmdb_shuttle)))]
mod map {
    use std::ops::Bound;

    use crossbeam_skiplist::SkipMap;

    /// Values by revision.
    pub(super) struct Map<V>(SkipMap<u64, V>);

    impl<V: Send + 'static> Map<V> {
        pub(super) fn new() -> Self {
            Self(SkipMap::new())
        }

        pub(super) fn insert(&self, revision: u64, value: V) {
            self.0.insert(revision, value);
        }

        pub(super) fn remove(&self, revision: u64) {
            self.0.remove(&revision);
        }

        pub(super) fn with<A>(&self, revision: u64, look: impl FnOnce(&V) -> A) -> Option<A> {
            self.0.get(&revision).map(|entry| look(entry.value()))
        }

        pub(super) fn first(&self) -> Option<u64> {
            self.0.front().map(|entry| *entry.key())
        }

        pub(super) fn after(&self, revision: u64) -> Option<u64> {
            self.0.lower_bound(Bound::Excluded(&revision)).map(|entry| *entry.key())
        }

        pub(super) fn last(&self) -> Option<u64> {
            self.0.back().map(|entry| *entry.key())
        }
    }
}

#[cfg(any(fsmdb_loom, fsmdb_shuttle))]
mod map {
    use std::collections::BTreeMap;

    use crate::sync::Mutex;

    const CLEAN: &str = "no code panics under this mutex";

    /// Values by revision.
    pub(super) struct Map<V>(Mutex<BTreeMap<u64, V>>);

    impl<V> Map<V> {
        pub(super) fn new() -> Self {
            Self(Mutex::new(BTreeMap::new()))
        }

        pub(super) fn insert(&self, revision: u64, value: V) {
            self.0.lock().expect(CLEAN).insert(revision, value);
        }

        pub(super) fn remove(&self, revision: u64) {
            self.0.lock().expect(CLEAN).remove(&revision);
        }

        pub(super) fn with<A>(&self, revision: u64, look: impl FnOnce(&V) -> A) -> Option<A> {
            self.0.lock().expect(CLEAN).get(&revision).map(look)
        }

        pub(super) fn first(&self) -> Option<u64> {
            self.0.lock().expect(CLEAN).first_key_value().map(|(revision, _)| *revision)
        }

        pub(super) fn after(&self, revision: u64) -> Option<u64> {
            let map = self.0.lock().expect(CLEAN);
            map.keys().copied().find(|kept| *kept > revision)
        }

        pub(super) fn last(&self) -> Option<u64> {
            self.0.lock().expect(CLEAN).last_key_value().map(|(revision, _)| *revision)
        }
    }
}
