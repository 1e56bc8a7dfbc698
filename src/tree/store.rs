//! The store of a database: one arena for all its trees, its versions, its writer.
//!
//! A write transaction takes the [`Writer`] out of the store, works on a clone of the newest
//! contents, and publishes them with a [`Version`] or aborts. Savepoints freeze the state of the
//! transaction: the stamp goes up, so what was made before is copied before it is changed again,
//! and the frozen contents stay whole until the transaction ends, in whatever order it goes back
//! and forth between them.
//!
//! # Invariants
//!
//! 1. At most one writer is out of the store.
//! 2. Stamps only go up; each segment of a transaction between two savepoints has its own.
//! 3. At the end of a transaction everything that it made is in the contents that it published, on
//!    the lists (`reclaim.rs`), or freed.
//! 4. The store outlives its versions: each holds it. With the last of them everything is freed.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc as StdArc;

use super::arena::Spare;
use super::edit::{Editor, Item, Retired};
use super::node::NodePtr;
use super::reclaim::{Doomed, Ledger, free};
use super::row::{NewRow, RowPtr};
use super::workspace::{Contents, Mark, Session, Workspace};
use crate::sync::{Arc, AtomicBool, AtomicPtr, AtomicU64, Mutex, Ordering};

/// The stamp of the first transaction of a store. One that is made for a snapshot fills its tables
/// in it.
pub(super) const FIRST_STAMP: u64 = 1;

/// Room for rows that one transaction makes, kept for the next.
const ROWS_MADE_KEPT: usize = 1024;

/// The memory behind the versions of one database. A clone is another handle on it.
pub(crate) struct Store<C: Contents> {
    shared: Arc<Shared<C>>,
}

struct Shared<C: Contents> {
    /// Versions that have died, ever.
    deaths: AtomicU64,
    /// The engine, from a box, while no writer has it; null otherwise.
    engine: AtomicPtr<Engine<C>>,
    /// Where branches leave a chunk to each other; the writer never looks at it.
    spare: StdArc<Spare>,
    marker: PhantomData<Mutex<Box<Engine<C>>>>,
}

impl<C: Contents> Shared<C> {
    /// Takes the engine out, if it is there.
    fn take(&self) -> Option<Box<Engine<C>>> {
        let engine = self.engine.swap(std::ptr::null_mut(), Ordering::Acquire);
        // SAFETY: `put` has made the pointer of a box, and the swap has taken it out, so nobody
        // else makes a box of it.
        (!engine.is_null()).then(|| unsafe { Box::from_raw(engine) })
    }

    /// Puts the engine back, for the next writer.
    fn put(&self, engine: Box<Engine<C>>) {
        self.engine.store(Box::into_raw(engine), Ordering::Release);
    }
}

impl<C: Contents> Drop for Shared<C> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

struct Engine<C: Contents> {
    editor: Editor,
    ledger: Ledger<C>,
    /// The contents of the newest version.
    current: C,
    /// Rows that the running transaction made, also those it has replaced since.
    made: Vec<RowPtr>,
    /// Taken out while a statement uses it.
    scratch: Option<Box<C::Scratch>>,
}

/// A version of the contents: alive until this is dropped.
pub(crate) struct Version<C: Contents> {
    store: Store<C>,
    stamp: u64,
    is_dead: Arc<AtomicBool>,
}

/// The right and the means to make the next version.
pub(crate) struct Writer<C: Contents> {
    store: Store<C>,
    /// `None` once it was given back.
    engine: Option<Box<Engine<C>>>,
    /// The segments that savepoints and roll-backs ended, in ascending order of their stamps.
    segments: Vec<Segment<C>>,
    /// The segment that the running one goes on from; `None` is the version below.
    parent: Option<usize>,
    is_poisoned: bool,
    /// Items that the transaction unlinked, once it is published, and their bytes.
    retired: usize,
    retired_bytes: usize,
}

/// A stretch of a transaction.
struct Segment<C> {
    stamp: u64,
    parent: Option<usize>,
    retired: Vec<Retired>,
    made: Vec<RowPtr>,
    /// The contents at its end.
    contents: C,
}

impl<C: Contents> Clone for Store<C> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<C: Contents> Store<C> {
    /// A store whose first version has the contents `first`, with empty trees.
    pub(crate) fn new(first: C) -> Self {
        let engine = Engine {
            editor: Editor::new(FIRST_STAMP),
            ledger: Ledger::default(),
            current: first,
            made: Vec::new(),
            scratch: None,
        };
        let engine = AtomicPtr::new(Box::into_raw(Box::new(engine)));
        let deaths = AtomicU64::new(0);
        let spare = StdArc::default();
        Self { shared: Arc::new(Shared { deaths, engine, spare, marker: PhantomData }) }
    }

    /// Takes the writer out.
    ///
    /// # Panics
    ///
    /// When another writer is out: callers hold the writer's lock of the database.
    pub(crate) fn write(&self) -> Writer<C> {
        let engine = self.shared.take().expect("one writer at a time (invariant 1)");
        Writer {
            store: self.clone(),
            engine: Some(engine),
            segments: Vec::new(),
            parent: None,
            is_poisoned: false,
            retired: 0,
            retired_bytes: 0,
        }
    }
}

impl<C: Contents> Version<C> {
    /// The stamp of the newest nodes and rows in it.
    pub(super) fn stamp(&self) -> u64 {
        self.stamp
    }

    pub(super) fn spare(&self) -> &StdArc<Spare> {
        &self.store.shared.spare
    }

    /// The store that the version stands in.
    pub(crate) fn store(&self) -> &Store<C> {
        &self.store
    }
}

impl<C: Contents> Drop for Version<C> {
    fn drop(&mut self) {
        // Release: what was read of the version happened before.
        self.is_dead.store(true, Ordering::Release);
        self.store.shared.deaths.fetch_add(1, Ordering::Release);
    }
}

impl<C: Contents> Writer<C> {
    fn engine(&mut self) -> &mut Engine<C> {
        self.engine.as_mut().expect("the engine is here until the writer ends")
    }

    /// As [`return_to`](Session::return_to), to the beginning of the transaction.
    pub(crate) fn restart(&mut self, contents: &C) {
        self.end_segment(contents);
        self.parent = None;
        self.is_poisoned = false;
    }

    fn end_segment(&mut self, contents: &C) {
        let parent = self.parent;
        let engine = self.engine();
        let stamp = engine.editor.stamp;
        engine.editor.stamp += 1;
        let retired = std::mem::take(&mut engine.editor.retired);
        let made = std::mem::take(&mut engine.made);
        let contents = contents.clone();
        self.segments.push(Segment { stamp, parent, retired, made, contents });
        self.parent = Some(self.segments.len() - 1);
    }

    /// A version of the transaction as it is now, which is `contents`: it can be read, and outlive
    /// the transaction, but is not the newest of the database.
    pub(crate) fn peek(&mut self, contents: &C) -> Version<C> {
        self.end_segment(contents);
        let stamp = self.segments[self.segments.len() - 1].stamp;
        self.enter(stamp, Some(contents.clone()))
    }

    fn enter(&mut self, stamp: u64, contents: Option<C>) -> Version<C> {
        let is_dead = self.engine().ledger.enter(stamp, contents);
        Version { store: self.store.clone(), stamp, is_dead }
    }

    /// Makes `contents` the newest version. The caller publishes it, drops the version that it
    /// worked on, and then calls [`finish`](Writer::finish).
    ///
    /// # Panics
    ///
    /// When a statement found the indexes at odds with the schema.
    pub(crate) fn publish(&mut self, contents: &C, doomed: &mut Doomed) -> Version<C> {
        assert!(!self.is_poisoned, "the transaction can only roll back");
        if !self.segments.is_empty() {
            self.settle_segments(doomed);
        }
        let engine = self.engine();
        let retired = engine.editor.retired.len();
        engine.ledger.retire(&mut engine.editor.retired);
        engine.forget_made();
        engine.ledger.keep(std::mem::replace(&mut engine.current, contents.clone()));
        let stamp = engine.editor.stamp;
        engine.editor.stamp += 1;
        let retired_bytes = std::mem::take(&mut engine.editor.retired_bytes);
        (self.retired, self.retired_bytes) = (retired, retired_bytes);
        self.enter(stamp, None)
    }

    /// Puts what the segments on the way to the end unlinked before what the last one did, and
    /// discards the others.
    fn settle_segments(&mut self, doomed: &mut Doomed) {
        let mut segments: Vec<_> =
            std::mem::take(&mut self.segments).into_iter().map(Some).collect();
        let mut next = self.parent.take();
        let engine = self.engine();
        while let Some(at) = next {
            let mut segment = segments[at].take().expect("segments form a tree");
            engine.editor.retired.append(&mut segment.retired);
            next = segment.parent;
        }
        engine.discard(segments.into_iter().flatten().rev(), doomed);
    }

    /// About how many bytes the version that was published has replaced, rows without what their
    /// values own elsewhere.
    pub(crate) fn replaced_bytes(&self) -> usize {
        self.retired_bytes
    }

    /// Calls `visit` with the contents of each version but the newest that is, or may be, alive,
    /// the oldest first, and the bytes that only it and older ones need; until that says no.
    pub(crate) fn visit_versions(&mut self, visit: &mut dyn FnMut(&C, &dyn Fn() -> usize) -> bool) {
        let told = self.store.shared.deaths.load(Ordering::Acquire);
        let engine = self.engine();
        engine.ledger.bury(told);
        engine.ledger.visit(visit);
    }

    /// Bytes of the chunks that nodes stand in, used or not; and of what waits to be freed.
    pub(crate) fn memory(&mut self) -> (usize, usize) {
        let engine = self.engine();
        (engine.editor.arena.held_bytes(), engine.ledger.dying_bytes())
    }

    /// Ends the transaction without a new version; its state was `contents`.
    pub(crate) fn abort(&mut self, contents: &C, doomed: &mut Doomed) {
        self.end_segment(contents);
        self.engine().editor.retired_bytes = 0;
        let segments = std::mem::take(&mut self.segments);
        self.engine().discard(segments.into_iter().rev(), doomed);
        self.finish(doomed);
    }

    /// Whether no version is alive but the newest.
    pub(crate) fn is_alone(&mut self) -> bool {
        let told = self.store.shared.deaths.load(Ordering::Acquire);
        let engine = self.engine();
        engine.ledger.bury(told);
        engine.ledger.versions() <= 1
    }

    /// Unlinks everything in `contents`, the newest version, before empty contents are published in
    /// its place: what older versions do not see can then be freed while they live on.
    pub(crate) fn unlink_all(&mut self, contents: &C) {
        let editor = &mut self.engine().editor;
        contents.for_each_table(&mut |table| {
            table.for_each_row(|row| editor.retire_row(row));
            let mut nodes = Vec::new();
            for root in table.trees().iter().filter_map(|tree| tree.root) {
                collect(root, None, &mut nodes);
            }
            nodes.into_iter().for_each(|node| editor.retire(node));
        });
    }

    /// As [`finish`](Writer::finish), freeing all that can be freed, however much it is.
    pub(crate) fn finish_all(&mut self, doomed: &mut Doomed) {
        self.retired = usize::MAX / 4;
        self.finish(doomed);
    }

    /// Ends the transaction after its version was published: buries the versions that have died,
    /// frees some of what they kept, and gives the engine back. The rows are freed when the caller
    /// drops `doomed`, best without any lock.
    pub(crate) fn finish(&mut self, doomed: &mut Doomed) {
        let told = self.store.shared.deaths.load(Ordering::Acquire);
        let budget = Ledger::<C>::budget(self.retired);
        let engine = self.engine();
        engine.ledger.bury(told);
        engine.ledger.reclaim(&mut engine.editor.arena, budget, doomed);
        self.give_back();
    }

    fn give_back(&mut self) {
        if let Some(engine) = self.engine.take() {
            self.store.shared.put(engine);
        }
    }
}

/// What tests ask.
#[cfg(test)]
impl<C: Contents> Writer<C> {
    /// Items of dead versions that wait for their turn to be freed.
    pub(super) fn backlog(&self) -> usize {
        self.engine.as_ref().map_or(0, |engine| engine.ledger.backlog())
    }

    /// Everything on the lists.
    pub(super) fn waiting(&self) -> impl Iterator<Item = Item> {
        let ledger = self.engine.iter().map(|engine| &engine.ledger);
        ledger.flat_map(Ledger::waiting).map(|retired| retired.item())
    }

    pub(super) fn live_nodes(&self) -> usize {
        self.engine.as_ref().map_or(0, |engine| engine.editor.arena.live())
    }
}

impl<C: Contents> Workspace for Writer<C> {
    fn editor(&mut self) -> &mut Editor {
        &mut self.engine().editor
    }

    fn settle(&mut self, row: NewRow, entries: usize) -> RowPtr {
        let engine = self.engine();
        let row = row.settle(engine.editor.stamp, entries);
        engine.made.push(row);
        row
    }

    fn poison(&mut self) {
        self.is_poisoned = true;
    }
}

impl<C: Contents> Session<C> for Writer<C> {
    fn take_scratch(&mut self) -> Box<C::Scratch> {
        self.engine().scratch.take().unwrap_or_default()
    }

    fn put_scratch(&mut self, scratch: Box<C::Scratch>) {
        self.engine().scratch = Some(scratch);
    }

    fn mark(&mut self, contents: &C) -> Mark {
        self.end_segment(contents);
        Mark { segment: self.parent }
    }

    fn return_to(&mut self, mark: Mark, contents: &C) {
        self.end_segment(contents);
        self.parent = mark.segment;
    }
}

impl<C: Contents> Drop for Writer<C> {
    /// Gives the engine back. What an unfinished bulk load has made is freed with it.
    fn drop(&mut self) {
        self.give_back();
    }
}

impl<C: Contents> Engine<C> {
    /// Forgets which rows the transaction made, and the memory for that after a large one.
    fn forget_made(&mut self) {
        self.made.clear();
        self.made.shrink_to(ROWS_MADE_KEPT);
        self.editor.retired.shrink_to(ROWS_MADE_KEPT);
    }

    /// Frees what segments made that nobody goes on from, the newest first: a node leads only to
    /// older ones, so those it leads to are still there when it is looked at.
    ///
    /// What versions peeked at in this transaction may see is freed after them: as if it had been
    /// born just after the version below, and unlinked now.
    fn discard(&mut self, segments: impl Iterator<Item = Segment<C>>, doomed: &mut Doomed) {
        let mut made = Vec::new();
        let mut first = u64::MAX;
        for segment in segments {
            first = first.min(segment.stamp);
            made.extend(segment.made.into_iter().map(Item::Row));
            segment.contents.for_each_table(&mut |table| {
                let mut nodes = Vec::new();
                for root in table.trees().iter().filter_map(|tree| tree.root) {
                    collect(root, Some(segment.stamp), &mut nodes);
                }
                made.extend(nodes.into_iter().map(Item::Node));
            });
        }
        let is_peeked = self.ledger.newest().is_some_and(|newest| newest >= first);
        if is_peeked {
            let mut items = made.into_iter().map(|item| Retired::new(item, first)).collect();
            self.ledger.retire(&mut items);
            return;
        }
        for item in made {
            free(item, &mut self.editor.arena, doomed);
        }
    }
}

/// Collects the nodes below `node`, itself included: all, or those that were born at `stamp`.
fn collect(node: NodePtr, stamp: Option<u64>, out: &mut Vec<NodePtr>) {
    // A node leads only to older ones.
    if stamp.is_some_and(|stamp| node.birth() < stamp) {
        return;
    }
    if !node.is_leaf() {
        (0..node.len()).for_each(|index| collect(node.child(index), stamp, out));
    }
    if stamp.is_none_or(|stamp| node.birth() == stamp) {
        out.push(node);
    }
}

impl<C: Contents> Drop for Engine<C> {
    /// Frees all rows: those of the newest version and those on the lists. The nodes go with the
    /// arena.
    fn drop(&mut self) {
        let mut doomed = Doomed::default();
        self.made.drain(..).for_each(|row| doomed.push(row));
        for retired in self.ledger.drain() {
            if let Item::Row(row) = retired.item() {
                doomed.push(row);
            }
        }
        self.current.for_each_table(&mut |table| table.for_each_row(|row| doomed.push(row)));
    }
}

impl<C: Contents> fmt::Debug for Store<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl<C: Contents> fmt::Debug for Version<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Version").finish_non_exhaustive()
    }
}

impl<C: Contents> fmt::Debug for Writer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("segments", &self.segments.len()).finish_non_exhaustive()
    }
}
