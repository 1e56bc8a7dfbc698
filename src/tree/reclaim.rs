//! Who still needs what was unlinked: precise dead lists.
//!
//! Something born at stamp b and unlinked at stamp r is needed only by versions that are alive with
//! a stamp in [b, r). The newest of them has it on its dead list. When that version dies, each item
//! of its list either moves to the list of the next older version, if it was born by then, or is
//! freed. So a version that is held for long keeps what it sees and nothing else, and nobody counts
//! references. Freeing is paced: a commit frees at most a fixed multiple of what it unlinked, so no
//! commit pays for the death of a version that kept much.
//!
//! # Invariants
//!
//! 1. An item is on the list of the newest live version with a stamp below the one at which it was
//!    unlinked, or, when that version has died since, in the queue of the dying.
//! 2. A version is alive until its [`Version`](super::Version) is dropped; that is told by a flag
//!    that the holder raises after its last read, and the writer lowers nothing before it has seen.
//! 3. Items leave the lists before they are freed, so a panic in the `Drop` of a row frees nothing
//!    twice.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::arena::Arena;
use super::edit::{Item, Retired};
use super::row::RowPtr;
use crate::limits::{RECLAIM_ITEMS_BASE, RECLAIM_ITEMS_FACTOR};
use crate::sync::{Arc, AtomicBool, Ordering};

/// A version that is, or may be, alive.
pub(super) struct Record<C> {
    stamp: u64,
    is_dead: Arc<AtomicBool>,
    /// The contents of the version, once it is not the newest: so that whoever drops it last, a
    /// reader perhaps, does not have to free them.
    contents: Option<C>,
    /// What no newer version needs.
    dead_list: Vec<Retired>,
}

/// The versions that may be alive, and what is waiting to be freed.
pub(super) struct Ledger<C> {
    /// In ascending order of their stamps.
    records: VecDeque<Record<C>>,
    /// The lists of versions that died, with their stamps.
    dying: VecDeque<(u64, Vec<Retired>)>,
    /// Deaths that were found, of those that were told.
    found: u64,
    /// An empty list with memory, for the next version.
    spare: Vec<Vec<Retired>>,
    /// A flag for the next version.
    spare_flag: Option<Arc<AtomicBool>>,
}

/// Rows on their way out. They are freed when this is dropped, which runs the user's `Drop`, so
/// that it can be done after the writer's lock was released.
#[derive(Debug, Default)]
pub(crate) struct Doomed {
    rows: SmallVec<[RowPtr; 24]>,
}

impl Doomed {
    pub(super) fn push(&mut self, row: RowPtr) {
        self.rows.push(row);
    }

    /// The rows, which are not freed then.
    pub(super) fn into_rows(mut self) -> Vec<RowPtr> {
        std::mem::take(&mut self.rows).into_vec()
    }
}

impl Drop for Doomed {
    fn drop(&mut self) {
        // Popped one by one, so that the unwinding of a panic goes on with the rest.
        struct Rest<'a>(&'a mut SmallVec<[RowPtr; 24]>);
        impl Drop for Rest<'_> {
            fn drop(&mut self) {
                while let Some(row) = self.0.pop() {
                    // SAFETY: the lists owned one handle of the row, and no version that is alive
                    // can reach it (invariant 1).
                    unsafe { row.release() };
                }
            }
        }
        let rest = Rest(&mut self.rows);
        while let Some(row) = rest.0.pop() {
            // SAFETY: as above.
            unsafe { row.release() };
        }
    }
}

impl<C> Default for Ledger<C> {
    fn default() -> Self {
        Self {
            records: VecDeque::new(),
            dying: VecDeque::new(),
            found: 0,
            spare: Vec::new(),
            spare_flag: None,
        }
    }
}

impl<C> Ledger<C> {
    /// Enters a version, whose stamp is greater than all before, and gives the flag by which its
    /// holder tells its death. Its contents come with it if it is not to be the newest.
    pub(super) fn enter(&mut self, stamp: u64, contents: Option<C>) -> Arc<AtomicBool> {
        let is_dead = self.flag();
        let flag = Arc::clone(&is_dead);
        debug_assert!(self.records.back().is_none_or(|record| record.stamp < stamp));
        let dead_list = self.spare.pop().unwrap_or_default();
        self.records.push_back(Record { stamp, is_dead, contents, dead_list });
        flag
    }

    /// A lowered flag: one of a version that is forgotten, if there is one.
    fn flag(&mut self) -> Arc<AtomicBool> {
        let Some(mut flag) = self.spare_flag.take() else {
            return Arc::new(AtomicBool::new(false));
        };
        match Arc::get_mut(&mut flag) {
            Some(lowered) => *lowered = AtomicBool::new(false),
            None => flag = Arc::new(AtomicBool::new(false)),
        }
        flag
    }

    /// The stamp of the newest version that may be alive.
    pub(super) fn newest(&self) -> Option<u64> {
        self.records.back().map(|record| record.stamp)
    }

    /// Takes in what was unlinked after the newest version was entered.
    pub(super) fn retire(&mut self, items: &mut Vec<Retired>) {
        match self.records.back_mut() {
            Some(record) if record.dead_list.is_empty() => {
                std::mem::swap(&mut record.dead_list, items);
            }
            Some(record) => record.dead_list.append(items),
            None => self.dying.push_back((0, std::mem::take(items))),
        }
    }

    /// Keeps what was the newest contents until the version that was published with them is buried:
    /// the one that has none yet. Views of transactions, which have, may have come after it.
    pub(super) fn keep(&mut self, contents: C) {
        let newest = self.records.iter_mut().rev().find(|record| record.contents.is_none());
        if let Some(record) = newest {
            record.contents = Some(contents);
        }
    }

    /// Finds the versions that have died, of which `told` were told so far.
    pub(super) fn bury(&mut self, told: u64) {
        let mut at = self.records.len();
        while self.found < told && at > 0 {
            at -= 1;
            // Acquire: what the holder read of the version happened before the flag.
            if !self.records[at].is_dead.load(Ordering::Acquire) {
                continue;
            }
            self.found += 1;
            let Some(record) = self.records.remove(at) else { break };
            self.spare_flag = Some(record.is_dead);
            if record.dead_list.is_empty() {
                self.spare_list(record.dead_list);
            } else {
                self.dying.push_back((record.stamp, record.dead_list));
            }
        }
    }

    /// Frees or passes on at most `budget` items of versions that have died.
    pub(super) fn reclaim(&mut self, arena: &mut Arena, budget: usize, doomed: &mut Doomed) {
        let mut budget = budget;
        while budget > 0 {
            let Some((stamp, list)) = self.dying.front_mut() else { return };
            let older = self.records.partition_point(|record| record.stamp < *stamp);
            let mut older = older.checked_sub(1).map(|at| &mut self.records[at]);
            while budget > 0
                && let Some(retired) = list.pop()
            {
                budget -= 1;
                match &mut older {
                    Some(record) if retired.birth() <= record.stamp => {
                        record.dead_list.push(retired);
                    }
                    _ => {
                        free(retired.item(), arena, doomed);
                    }
                }
            }
            if list.is_empty()
                && let Some((_, list)) = self.dying.pop_front()
            {
                self.spare_list(list);
            }
        }
    }

    /// How many items a commit that unlinked `retired` may free.
    pub(super) fn budget(retired: usize) -> usize {
        RECLAIM_ITEMS_BASE.saturating_add(RECLAIM_ITEMS_FACTOR * retired)
    }

    /// Versions that may be alive.
    pub(super) fn versions(&self) -> usize {
        self.records.len()
    }

    /// Calls `visit` with the contents of each version but the newest, the oldest first, and the
    /// bytes on its list; until that says no.
    pub(super) fn visit(&self, visit: &mut dyn FnMut(&C, &dyn Fn() -> usize) -> bool) {
        for record in &self.records {
            if let Some(contents) = &record.contents
                && !visit(contents, &|| bytes(&record.dead_list))
            {
                return;
            }
        }
    }

    /// Bytes of what dead versions kept and that waits to be freed.
    pub(super) fn dying_bytes(&self) -> usize {
        self.dying.iter().map(|(_, list)| bytes(list)).sum()
    }

    fn spare_list(&mut self, list: Vec<Retired>) {
        if self.spare.is_empty() && list.capacity() <= RECLAIM_ITEMS_BASE * 4 {
            self.spare.push(list);
        }
    }

    /// Everything on the lists, when no version is alive any more.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Retired> {
        let records = self.records.drain(..).flat_map(|record| record.dead_list);
        records.chain(self.dying.drain(..).flat_map(|(_, list)| list))
    }

    /// Items of dead versions that wait for their turn.
    #[cfg(test)]
    pub(super) fn backlog(&self) -> usize {
        self.dying.iter().map(|(_, list)| list.len()).sum()
    }

    /// All items on the lists.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Retired> {
        let records = self.records.iter().flat_map(|record| &record.dead_list);
        records.chain(self.dying.iter().flat_map(|(_, list)| list))
    }
}

fn bytes(items: &[Retired]) -> usize {
    let bytes = |retired: &Retired| match retired.item() {
        Item::Node(node) => node.bytes(),
        Item::Row(row) => row.bytes(),
    };
    items.iter().map(bytes).sum()
}

/// Frees one item; a row only when `doomed` is dropped.
pub(super) fn free(item: Item, arena: &mut Arena, doomed: &mut Doomed) {
    match item {
        Item::Node(node) => node.free(arena),
        Item::Row(row) => doomed.push(row),
    }
}
