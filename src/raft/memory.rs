//! A log in memory, for in-process clusters and tests.
//!
//! A [`MemoryLog`] is a handle: clones share one log, so it survives the replica that wrote it,
//! as a disk does.
//!
//! # Invariants
//!
//! 1. Writes without `sync` wait in order behind the durable state; a synced write takes all of
//!    them with it.
//! 2. [`MemoryLog::lose_unsynced`] keeps a prefix of the waiting writes, each whole or not at all.
//! 3. At most [`SNAPSHOTS_KEPT`] snapshots are held: the recorded one and the last that came.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Entry, HardState, LogError, LogStore, Recovered, SnapshotMeta};
use crate::limits::SNAPSHOTS_KEPT;

/// A log in memory that outlives the replica writing it.
#[derive(Clone, Debug, Default)]
pub struct MemoryLog {
    shared: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    durable: Recovered,
    waiting: Vec<Write>,
    /// Reference and data, in order of arrival.
    snapshots: Vec<(Vec<u8>, Arc<[u8]>)>,
}

#[derive(Clone, Debug)]
enum Write {
    Append { entries: Vec<Entry>, hard_state: Option<HardState> },
    Install { snapshot: SnapshotMeta, hard_state: HardState },
    Compact { index: u64, snapshot: SnapshotMeta },
}

impl MemoryLog {
    /// An empty log, for a replica that will be joined to a group.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A log as a founding member has it before its first start.
    #[must_use]
    pub fn founding(members: super::Membership) -> Self {
        let log = Self::default();
        log.state().durable = Recovered::founding(members);
        log
    }

    /// Makes every waiting write durable.
    pub fn sync(&self) {
        self.state().flush(usize::MAX);
    }

    /// Simulates a power loss: of the writes that were not synced, the first `keep` survive.
    pub fn lose_unsynced(&self, keep: usize) {
        let mut state = self.state();
        state.flush(keep);
        state.waiting.clear();
    }

    /// How many writes wait for a sync.
    #[must_use]
    pub fn unsynced_count(&self) -> usize {
        self.state().waiting.len()
    }

    /// Stores the data of a snapshot under its reference, before it is recorded.
    pub fn put_snapshot(&self, reference: &[u8], data: Arc<[u8]>) {
        let mut state = self.state();
        state.snapshots.retain(|(name, _)| name != reference);
        state.snapshots.push((reference.to_vec(), data));
        if state.snapshots.len() > SNAPSHOTS_KEPT {
            // By arrival, not by index: one that was received and never installed may be newer
            // than the one that has just come.
            let State { durable, snapshots, .. } = &mut *state;
            let recorded = &durable.snapshot.reference;
            let oldest = snapshots.iter().position(|(name, _)| name != recorded);
            oldest.map(|oldest| snapshots.remove(oldest));
        }
    }

    /// The data stored under `reference`.
    #[must_use]
    pub fn snapshot(&self, reference: &[u8]) -> Option<Arc<[u8]>> {
        let state = self.state();
        let found = state.snapshots.iter().find(|(name, _)| name == reference);
        found.map(|(_, data)| Arc::clone(data))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogStore for MemoryLog {
    fn load(&mut self) -> Result<Recovered, LogError> {
        let mut state = self.state();
        state.flush(usize::MAX);
        Ok(state.durable.clone())
    }

    fn append(
        &mut self,
        entries: &[Entry],
        hard_state: Option<HardState>,
        sync: bool,
    ) -> Result<(), LogError> {
        let mut state = self.state();
        let (first, last) = state.bounds();
        if let Some(entry) = entries.first()
            && (entry.index() < first || entry.index() > last + 1)
        {
            return Err(LogError::OutOfOrder { index: entry.index(), first, last });
        }
        state.write(Write::Append { entries: entries.to_vec(), hard_state }, sync);
        Ok(())
    }

    fn install_snapshot(
        &mut self,
        snapshot: &SnapshotMeta,
        hard_state: HardState,
    ) -> Result<(), LogError> {
        let mut state = self.state();
        state.require_data(snapshot)?;
        state.write(Write::Install { snapshot: snapshot.clone(), hard_state }, true);
        Ok(())
    }

    fn compact_to(&mut self, index: u64, snapshot: &SnapshotMeta) -> Result<(), LogError> {
        let mut state = self.state();
        state.require_data(snapshot)?;
        let (first, last) = state.bounds();
        if index > last || index > snapshot.index {
            return Err(LogError::OutOfOrder { index, first, last });
        }
        state.write(Write::Compact { index, snapshot: snapshot.clone() }, true);
        Ok(())
    }

    /// Nothing is left when the writes that wait are made.
    fn scrub(&mut self) -> Result<Option<u64>, LogError> {
        let mut state = self.state();
        state.flush(usize::MAX);
        Ok(Some(state.durable.truncated_index))
    }
}

impl State {
    /// First and last index as if every waiting write had been made.
    fn bounds(&self) -> (u64, u64) {
        let mut truncated = self.durable.truncated_index;
        let mut last = truncated + self.durable.entries.len() as u64;
        for write in &self.waiting {
            match write {
                Write::Append { entries, .. } => {
                    last = entries.last().map_or(last, Entry::index);
                }
                Write::Install { snapshot, .. } => {
                    (truncated, last) = (snapshot.index, snapshot.index);
                }
                Write::Compact { index, .. } => truncated = truncated.max(*index),
            }
        }
        (truncated + 1, last)
    }

    fn require_data(&self, snapshot: &SnapshotMeta) -> Result<(), LogError> {
        let stored = self.snapshots.iter().any(|(name, _)| *name == snapshot.reference);
        if stored { Ok(()) } else { Err(LogError::MissingSnapshot { index: snapshot.index }) }
    }

    fn write(&mut self, write: Write, sync: bool) {
        self.waiting.push(write);
        if sync {
            self.flush(usize::MAX);
        }
    }

    /// Makes the first `count` waiting writes durable.
    fn flush(&mut self, count: usize) {
        let count = count.min(self.waiting.len());
        for write in self.waiting.drain(..count) {
            perform(&mut self.durable, write);
        }
    }
}

fn perform(log: &mut Recovered, write: Write) {
    match write {
        Write::Append { entries, hard_state } => {
            if let Some(first) = entries.first() {
                let keep = first.index().saturating_sub(log.truncated_index + 1);
                log.entries.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
                log.entries.extend(entries);
            }
            log.hard_state = hard_state.unwrap_or(log.hard_state);
        }
        Write::Install { snapshot, hard_state } => {
            log.truncated_index = snapshot.index;
            log.truncated_term = snapshot.term;
            log.entries.clear();
            log.snapshot = snapshot;
            log.hard_state = hard_state;
        }
        Write::Compact { index, snapshot } => {
            if index > log.truncated_index {
                let count = usize::try_from(index - log.truncated_index).unwrap_or(usize::MAX);
                if let Some(entry) = log.entries.get(count - 1) {
                    log.truncated_term = entry.term();
                }
                log.entries.drain(..count.min(log.entries.len()));
                log.truncated_index = index;
            }
            log.snapshot = snapshot;
        }
    }
}
