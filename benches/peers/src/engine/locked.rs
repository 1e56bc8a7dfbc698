//! A map in a readers-writer lock: what the same work costs without snapshots. A bound, no peer.

use std::sync::Arc;

use parking_lot::{RwLock, RwLockReadGuard};

use super::map::{Family, MapView, OrderedMap, Trio};
use super::{Engine, Triple};
use crate::row::{Key, Row, Write};

/// A map in a lock; a view holds the lock.
pub(crate) struct Locked<F: Family>(RwLock<F::Map<16>>);

impl<F: Family> Engine for Locked<F> {
    const SNAPSHOTS: bool = false;

    type View<'a> = MapView<RwLockReadGuard<'a, F::Map<16>>>;
    type Triple = LockedTriple<F>;

    fn empty() -> Self {
        Self(RwLock::default())
    }

    fn view(&self) -> Self::View<'_> {
        MapView(self.0.read())
    }

    fn upsert(&self, write: &Write) {
        self.0.write().insert(write.id, Arc::new(Row::new(write)));
    }

    fn delete(&self, key: &Key) -> bool {
        self.0.write().remove(key)
    }

    fn upsert_all(&self, writes: &[Write]) {
        let mut map = self.0.write();
        for write in writes {
            map.insert(write.id, Arc::new(Row::new(write)));
        }
    }

    fn load_sorted(writes: &[Write]) -> Self {
        let rows = writes.iter().map(|write| (write.id, Arc::new(Row::new(write))));
        Self(RwLock::new(OrderedMap::collect(rows)))
    }
}

/// Three maps in one lock.
pub(crate) struct LockedTriple<F: Family>(RwLock<Trio<F>>);

impl<F: Family> Triple for LockedTriple<F> {
    fn empty() -> Self {
        Self(RwLock::new(Trio::default()))
    }

    fn upsert(&self, write: &Write) {
        self.0.write().upsert(write);
    }

    fn upsert_all(&self, writes: &[Write]) {
        let mut maps = self.0.write();
        writes.iter().for_each(|write| maps.upsert(write));
    }

    fn counts(&self) -> [usize; 3] {
        self.0.read().counts()
    }

    fn with_status(&self, status: u64) -> usize {
        self.0.read().with_status(status)
    }
}
