//! A persistent map that readers get through `ArcSwap`: clone the root, change it, store it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::map::{Family, MapView, OrderedMap, Trio};
use super::{Engine, Triple};
use crate::row::{Key, Row, Write};

/// One value that is replaced as a whole under a writer's lock.
pub(crate) struct Cell<T> {
    writer: Mutex<()>,
    current: ArcSwap<T>,
}

impl<T: Clone> Cell<T> {
    fn new(value: T) -> Self {
        Self { writer: Mutex::new(()), current: ArcSwap::from_pointee(value) }
    }

    fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let _guard = self.writer.lock();
        let mut next = T::clone(&self.current.load());
        let result = change(&mut next);
        self.current.store(Arc::new(next));
        result
    }
}

/// A persistent map with its primary index.
pub(crate) struct Published<F: Family>(Cell<F::Map<16>>);

impl<F: Family> Engine for Published<F> {
    const BACKWARD: bool = F::BACKWARD;

    type View<'a> = MapView<Arc<F::Map<16>>>;
    type Triple = PublishedTriple<F>;

    fn empty() -> Self {
        Self(Cell::new(Default::default()))
    }

    fn view(&self) -> Self::View<'_> {
        MapView(self.0.current.load_full())
    }

    fn upsert(&self, write: &Write) {
        self.0.change(|map| map.insert(write.id, Arc::new(Row::new(write))));
    }

    fn delete(&self, key: &Key) -> bool {
        self.0.change(|map| map.remove(key))
    }

    fn upsert_all(&self, writes: &[Write]) {
        self.0.change(|map| {
            for write in writes {
                map.insert(write.id, Arc::new(Row::new(write)));
            }
        });
    }

    fn load_sorted(writes: &[Write]) -> Self {
        let rows = writes.iter().map(|write| (write.id, Arc::new(Row::new(write))));
        Self(Cell::new(OrderedMap::collect(rows)))
    }

    fn fork(view: &Self::View<'_>, writes: &[Write]) -> bool {
        let mut fork = F::Map::<16>::clone(&view.0);
        for write in writes {
            fork.insert(write.id, Arc::new(Row::new(write)));
        }
        true
    }
}

/// Three persistent maps, published together.
pub(crate) struct PublishedTriple<F: Family>(Cell<Trio<F>>);

impl<F: Family> Triple for PublishedTriple<F> {
    fn empty() -> Self {
        Self(Cell::new(Trio::default()))
    }

    fn upsert(&self, write: &Write) {
        self.0.change(|maps| maps.upsert(write));
    }

    fn upsert_all(&self, writes: &[Write]) {
        self.0.change(|maps| writes.iter().for_each(|write| maps.upsert(write)));
    }

    fn counts(&self) -> [usize; 3] {
        self.0.current.load().counts()
    }

    fn with_status(&self, status: u64) -> usize {
        self.0.current.load().with_status(status)
    }
}
