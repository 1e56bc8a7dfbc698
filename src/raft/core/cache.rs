//! All live entries in memory, as raft-rs reads them.
//!
//! # Invariants
//!
//! 1. Entries are one unbroken run from `truncated.index + 1`.
//! 2. A snapshot is never made here: one that was built is served, otherwise the wish is noted and
//!    raft is told to ask again.
//! 3. A served snapshot is not older than the log, not older than asked for, and its members
//!    contain the receiver (a follower ignores any other for ever).

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};

use protobuf::Message as _;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use crate::raft::{Recovered, SnapshotMeta};

/// The log of one replica in memory.
pub(super) struct Cache {
    initial: RaftState,
    truncated: (u64, u64),
    entries: VecDeque<Entry>,
    /// The last entry that the state machine holds, and the bytes of those after it.
    applied: u64,
    unapplied_bytes: usize,
    served: Option<SnapshotMeta>,
    wanted: RefCell<BTreeSet<u64>>,
}

impl Cache {
    pub(super) fn new(recovered: Recovered) -> Self {
        let mut hard_state = HardState::default();
        hard_state.term = recovered.hard_state.term;
        hard_state.vote = recovered.hard_state.vote;
        hard_state.commit = recovered.hard_state.commit.max(recovered.snapshot.index);
        let conf_state: ConfState = recovered.snapshot.membership.to_raft();
        let mut cache = Self {
            initial: RaftState::new(hard_state, conf_state),
            truncated: (recovered.truncated_index, recovered.truncated_term),
            entries: VecDeque::new(),
            applied: recovered.snapshot.index,
            unapplied_bytes: 0,
            served: (!recovered.snapshot.reference.is_empty()).then_some(recovered.snapshot),
            wanted: RefCell::default(),
        };
        let entries: Vec<Entry> = recovered.entries.into_iter().map(|entry| entry.0).collect();
        cache.append(&entries);
        cache
    }

    pub(super) fn first(&self) -> u64 {
        self.truncated.0 + 1
    }

    pub(super) fn last(&self) -> u64 {
        self.truncated.0 + self.entries.len() as u64
    }

    /// Appends, replacing everything from the first index on.
    pub(super) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(first.index > self.truncated.0 && first.index <= self.last() + 1, "invariant 1");
        while self.last() >= first.index {
            let replaced = self.entries.pop_back();
            self.unapplied_bytes -= replaced.map_or(0, |entry| self.unapplied(&entry));
        }
        self.unapplied_bytes += entries.iter().map(|entry| self.unapplied(entry)).sum::<usize>();
        self.entries.extend(entries.iter().cloned());
    }

    /// What an entry adds to the bytes that are not applied.
    fn unapplied(&self, entry: &Entry) -> usize {
        if entry.index > self.applied { size(entry) } else { 0 }
    }

    /// The state machine holds everything up to `index`.
    pub(super) fn apply_to(&mut self, index: u64) {
        for index in self.applied + 1..=index {
            self.unapplied_bytes -= self.entry(index).map_or(0, size);
        }
        self.applied = self.applied.max(index);
    }

    /// The bytes of the entries that the state machine does not hold.
    pub(super) fn unapplied_bytes(&self) -> usize {
        self.unapplied_bytes
    }

    /// Forgets everything in favour of a received snapshot.
    pub(super) fn reset(&mut self, index: u64, term: u64) {
        self.entries.clear();
        (self.applied, self.unapplied_bytes) = (index, 0);
        self.truncated = (index, term);
        self.served = None;
    }

    /// Forgets entries up to and including `index`.
    pub(super) fn compact(&mut self, index: u64) {
        while self.truncated.0 < index {
            let Some(entry) = self.entries.pop_front() else { return };
            self.truncated = (entry.index, entry.term);
        }
    }

    /// The smallest index such that the entries after it, up to `to`, fit into `bytes_max`.
    pub(super) fn tail_start(&self, to: u64, bytes_max: usize) -> u64 {
        let mut start = to;
        let mut bytes = 0;
        while start > self.truncated.0 {
            let Some(entry) = self.entry(start) else { break };
            bytes += size(entry);
            if bytes > bytes_max {
                break;
            }
            start -= 1;
        }
        start
    }

    pub(super) fn serve(&mut self, snapshot: SnapshotMeta) {
        self.served = Some(snapshot);
    }

    /// Serves the snapshot of this reference no longer; whether it did before.
    pub(super) fn withdraw(&mut self, reference: &[u8]) -> bool {
        self.served.take_if(|served| served.reference == reference).is_some()
    }

    /// The snapshot that is sent to whoever needs one.
    pub(super) fn served(&self) -> Option<&SnapshotMeta> {
        self.served.as_ref()
    }

    /// Whether somebody waits for a snapshot that is not there. Forgets the wish: raft repeats it.
    pub(super) fn take_wanted(&mut self) -> bool {
        !std::mem::take(self.wanted.get_mut()).is_empty()
    }

    pub(super) fn entry(&self, index: u64) -> Option<&Entry> {
        let offset = index.checked_sub(self.truncated.0 + 1)?;
        self.entries.get(usize::try_from(offset).ok()?)
    }
}

fn size(entry: &Entry) -> usize {
    entry.compute_size() as usize
}

impl Storage for Cache {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(self.initial.clone())
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.truncated.0 {
            return Err(StorageError::Compacted.into());
        }
        if high > self.last() + 1 {
            return Err(StorageError::Unavailable.into());
        }
        let limit = max_size.into().unwrap_or(u64::MAX);
        let mut taken: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        for entry in (low..high).filter_map(|index| self.entry(index)) {
            bytes += size(entry) as u64;
            if bytes > limit && !taken.is_empty() {
                break;
            }
            taken.push(entry.clone());
        }
        Ok(taken)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.truncated.0 {
            return Ok(self.truncated.1);
        }
        if index < self.truncated.0 {
            return Err(StorageError::Compacted.into());
        }
        self.entry(index).map(|entry| entry.term).ok_or_else(|| StorageError::Unavailable.into())
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        if let Some(meta) = &self.served
            && meta.index >= self.truncated.0.max(request_index)
            && meta.membership.contains(to)
        {
            let mut snapshot = Snapshot::default();
            snapshot.set_data(meta.reference.clone().into());
            snapshot.mut_metadata().index = meta.index;
            snapshot.mut_metadata().term = meta.term;
            snapshot.mut_metadata().set_conf_state(meta.membership.to_raft());
            return Ok(snapshot);
        }
        self.wanted.borrow_mut().insert(to);
        Err(StorageError::SnapshotTemporarilyUnavailable.into())
    }
}
