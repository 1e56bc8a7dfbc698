//! The root of a version, and the cell that publishes the current one.
//!
//! # Invariants
//!
//! 1. One root covers every table, the row metadata and the applied entry; a commit publishes it
//!    in one store.
//! 2. A published root never changes.
//! 3. `load` gives the root of the last `store` that finished before it, or a later one; it takes
//!    no lock that a writer holds while it works.
//! 4. Contents are read only while their root, or the transaction that works on them, is held: the
//!    root's version keeps the trees and rows that they lead to.
//! 5. Of two roots on one line, the one with the higher serial number was made of the other by
//!    commits and links alone. No file has the line, and nothing that applies an entry asks for it.
//!
//! The only room that names `arc-swap`. Under the cfg `fsmdb_rwlock_root`, for machines whose
//! memory model `arc-swap` is not trusted on, and under `fsmdb_loom`, where the protocol above the
//! cell is model-checked, the cell is a lock that is held for the length of one clone.

use std::sync::Arc as StdArc;

use im::Vector;

use crate::carried::Carried;
use crate::revision::{Applied, Incarnation, Revision};
use crate::schema::Schema;
use crate::sync::Arc;
use crate::sync::unmodelled::{AtomicU64, Ordering};
use crate::table::{Planner, TableState};
use crate::tree::{self, Doomed, Store, TableTrees, Version};

/// One version of the whole database, published or peeked at.
pub(crate) struct Root {
    contents: Contents,
    /// Keeps what the contents lead to (invariant 4).
    version: Version<Contents>,
    /// One more than that of the version that was published before it.
    serial: u64,
}

/// What a version consists of. A clone is O(1), and can be read only as long as the version that
/// it came from, or the transaction that works on it.
#[derive(Clone)]
pub(crate) struct Contents {
    pub(crate) schema: StdArc<Schema>,
    pub(crate) revision: Revision,
    pub(crate) applied: Applied,
    pub(crate) incarnation: Incarnation,
    pub(crate) line: Line,
    /// What a file had that the schema does not know.
    pub(crate) carried: Option<StdArc<Carried>>,
    /// The tables at their positions in the schema.
    tables: Vector<StdArc<TableState>>,
}

/// The line of versions that one is on: it begins when a database is built, loaded or restored, and
/// commits and links stay on it (invariant 5). It is an affair of this process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    number: u64,
    /// The line that it has left; its own if none.
    left: u64,
}

impl Line {
    fn new() -> Self {
        let number = Self::draw();
        Self { number, left: number }
    }

    fn draw() -> u64 {
        static DRAWN: AtomicU64 = AtomicU64::new(0);
        DRAWN.fetch_add(1, Ordering::Relaxed)
    }

    /// The line of a view of a transaction that runs on this one: what is published never comes
    /// from a view, whether or not the transaction commits.
    pub(crate) fn of_view(self) -> Self {
        Self { number: Self::draw(), left: self.number }
    }

    /// Whether what is on this line comes from what is on `older` and was not published later.
    pub(crate) fn comes_from(self, older: Self) -> bool {
        older.number == self.number || older.number == self.left
    }
}

impl Root {
    pub(crate) fn new(contents: Contents, version: Version<Contents>, serial: u64) -> Self {
        Self { contents, version, serial }
    }

    /// The first version of a new store, with empty tables.
    pub(crate) fn first(contents: Contents) -> Self {
        let mut writer = Store::new(contents.clone()).write();
        let mut doomed = Doomed::default();
        let version = writer.publish(&contents, &mut doomed);
        writer.finish(&mut doomed);
        Self { contents, version, serial: 0 }
    }

    /// Its number among the versions that the database has published: they are in this order, also
    /// across a restore. A view of a transaction has that of the version below it.
    pub(crate) fn serial(&self) -> u64 {
        self.serial
    }

    /// The same version, to be published after the one with the serial number `before`.
    pub(crate) fn after(self, before: u64) -> Self {
        Self { serial: before + 1, ..self }
    }

    /// The same version on another line of revisions, before anybody has seen it.
    pub(crate) fn in_incarnation(mut self, incarnation: Incarnation) -> Self {
        self.contents.incarnation = incarnation;
        self
    }

    pub(crate) fn contents(&self) -> &Contents {
        &self.contents
    }

    pub(crate) fn version(&self) -> &Version<Contents> {
        &self.version
    }
}

impl std::ops::Deref for Root {
    type Target = Contents;

    fn deref(&self) -> &Contents {
        &self.contents
    }
}

impl tree::Contents for Contents {
    type Scratch = Planner;

    fn for_each_table(&self, visit: &mut dyn FnMut(&TableTrees)) {
        self.tables().for_each(|table| visit(table.trees()));
    }
}

impl Contents {
    /// The empty database of `schema`.
    pub(crate) fn empty(schema: StdArc<Schema>) -> Self {
        let tables = schema.tables().iter().map(|table| TableState::new(StdArc::clone(table)));
        let tables = tables.map(StdArc::new).collect();
        Self {
            schema,
            revision: Revision(0),
            applied: Applied::default(),
            incarnation: Incarnation::default(),
            line: Line::new(),
            carried: None,
            tables,
        }
    }

    /// Ends the noting of removals since `base`, which the transaction began with.
    pub(crate) fn settle_removals(&mut self, base: &Self) {
        if self.schema.with_tombstones().is_empty() {
            return;
        }
        let schema = StdArc::clone(&self.schema);
        for position in schema.with_tombstones() {
            if self.table(*position).has_pending_removals() {
                self.table_mut(*position).settle_removals(base.table(*position));
            }
        }
    }

    /// Begins anew with the noting of removals, on a view of a transaction.
    pub(crate) fn close_removals(&mut self) {
        let schema = StdArc::clone(&self.schema);
        for position in schema.with_tombstones() {
            if self.table(*position).has_pending_removals() {
                self.table_mut(*position).close_removals();
            }
        }
    }

    /// Puts a whole table in place.
    pub(crate) fn set_table(&mut self, position: usize, table: TableState) {
        self.tables.set(position, StdArc::new(table));
    }

    pub(crate) fn table(&self, position: usize) -> &TableState {
        &self.tables[position]
    }

    /// The table at `position` for writing: copied first if a published version shares it.
    pub(crate) fn table_mut(&mut self, position: usize) -> &mut TableState {
        StdArc::make_mut(&mut self.tables[position])
    }

    pub(crate) fn tables(&self) -> impl Iterator<Item = &TableState> {
        self.tables.iter().map(|table| &**table)
    }
}

#[cfg(not(any(fsmdb_loom, fsmdb_shuttle, fsmdb_rwlock_root)))]
mod cell {
    use super::{Arc, Root};

    /// Holds the current root.
    pub(crate) struct RootCell {
        root: arc_swap::ArcSwap<Root>,
    }

    impl RootCell {
        pub(crate) fn new(root: Root) -> Self {
            Self { root: arc_swap::ArcSwap::from_pointee(root) }
        }

        pub(crate) fn load(&self) -> Arc<Root> {
            self.root.load_full()
        }

        pub(crate) fn store(&self, root: Root) {
            self.root.store(Arc::new(root));
        }
    }
}

#[cfg(any(fsmdb_loom, fsmdb_shuttle, fsmdb_rwlock_root))]
mod cell {
    use super::{Arc, Root};
    use crate::sync::RwLock;

    /// Holds the current root.
    pub(crate) struct RootCell {
        root: RwLock<Arc<Root>>,
    }

    impl RootCell {
        pub(crate) fn new(root: Root) -> Self {
            Self { root: RwLock::new(Arc::new(root)) }
        }

        pub(crate) fn load(&self) -> Arc<Root> {
            Arc::clone(&self.root.read().expect("no code panics while it holds the cell"))
        }

        pub(crate) fn store(&self, root: Root) {
            let root = Arc::new(root);
            let mut slot = self.root.write().expect("no code panics while it holds the cell");
            // The old root is dropped after the lock is released: its rows run user code.
            let old = std::mem::replace(&mut *slot, root);
            drop(slot);
            drop(old);
        }
    }
}

pub(crate) use cell::RootCell;
