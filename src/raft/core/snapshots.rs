//! When a snapshot is built, which one is sent, and how much of the log it lets us forget.
//!
//! # Invariants
//!
//! 1. At most one snapshot is being built.
//! 2. A snapshot at index i carries the members as of i, not those of today.
//! 3. Compaction never passes what is applied, and, up to a limit, neither the snapshot before the
//!    recorded one, to which a start falls back when the file of the newest is damaged; as far it
//!    waits for replicas that catch up and for snapshots on their way.
//! 4. A receiver is forgotten when the shell reports, on every outcome.
//! 5. What is unwanted is compacted without a tail, and waits for nobody but the state machine.

use std::collections::BTreeMap;

use protobuf::Message as _;
use raft::SnapshotStatus;
use raft::eraftpb;

use super::Core;
use super::event::Action;
use crate::raft::{RaftError, SnapshotMeta};

/// Snapshots built, wanted and on their way.
#[derive(Debug)]
pub(super) struct Snapshots {
    /// The index of the snapshot recorded in the log.
    recorded: u64,
    /// Bytes of entries handed to the state machine since.
    grown_bytes: usize,
    building: bool,
    /// Where the last attempt failed: growth asks again only after as much has come again.
    failed_at: u64,
    /// Receiver to index, until the shell reports.
    receivers: BTreeMap<u64, u64>,
    /// The last entry of which nothing is to be left.
    unwanted: u64,
    /// Whether the recorded one cannot be read any more.
    is_lost: bool,
}

impl Snapshots {
    pub(super) fn new(recorded: u64) -> Self {
        Self {
            recorded,
            grown_bytes: 0,
            building: false,
            failed_at: 0,
            receivers: BTreeMap::new(),
            unwanted: 0,
            is_lost: false,
        }
    }

    pub(super) fn installed(&mut self, index: u64) {
        self.recorded = index;
        self.is_lost = false;
        self.grown_bytes = 0;
    }

    pub(super) fn grow(&mut self, entry: &eraftpb::Entry) {
        self.grown_bytes += entry.compute_size() as usize;
    }

    pub(super) fn failed(&mut self, applied: u64) {
        self.building = false;
        self.failed_at = applied;
        self.grown_bytes = 0;
    }

    pub(super) fn sending(&mut self, to: u64, index: u64) {
        self.receivers.insert(to, index);
    }

    pub(super) fn forget_receivers(&mut self) {
        self.receivers.clear();
    }

    /// Nothing is to be left of the entries up to `index`. Somebody asks, so a snapshot that could
    /// not be built is tried again.
    pub(super) fn unwant(&mut self, index: u64) {
        self.unwanted = self.unwanted.max(index);
        self.failed_at = 0;
    }
}

impl Core {
    /// Asks for a snapshot when a receiver waits for one, the log has grown, or there is none that
    /// can be read.
    pub(super) fn ask_for_snapshot(&mut self, actions: &mut Vec<Action>) {
        let applied = self.applying.applied;
        // The same state would fail again in the same way.
        let failed = self.snapshots.failed_at > 0 && applied <= self.snapshots.failed_at;
        let unwanted =
            self.snapshots.recorded < self.snapshots.unwanted && self.snapshots.unwanted <= applied;
        let wanted = self.node.mut_store().take_wanted() || unwanted || self.snapshots.is_lost;
        let wanted = wanted && !failed;
        let start = self.snapshots.recorded.max(self.snapshots.failed_at);
        let since = applied.saturating_sub(start);
        let grown = since >= self.config.snapshot_entries
            || (since > 0 && self.snapshots.grown_bytes >= self.config.snapshot_bytes);
        if self.snapshots.building || self.applying.installing.is_some() || !(wanted || grown) {
            return;
        }
        if applied >= self.complete_from() && applied > 0 {
            self.snapshots.building = true;
            actions.push(Action::BuildSnapshot);
        }
    }

    /// A snapshot from before the last membership change would lack whom it is for, and one from
    /// before the log would leave a gap. Raft asks again at the next heartbeat.
    fn complete_from(&self) -> u64 {
        let changed = self.memberships.last_key_value().map_or(0, |(index, _)| *index);
        changed.max(self.node.store().first() - 1)
    }

    /// The recorded snapshot that is sent to whoever needs one: none after one was received, until
    /// one is built here, and none once it was said to be lost.
    #[must_use]
    pub fn snapshot(&self) -> Option<&SnapshotMeta> {
        self.node.store().served()
    }

    /// The entry of the recorded snapshot, built here or received; none while it is lost.
    #[must_use]
    pub fn snapshot_index(&self) -> Option<u64> {
        (!self.snapshots.is_lost).then_some(self.snapshots.recorded)
    }

    /// The first entry that the snapshot which was asked for last may be as of: a shell that still
    /// holds the state at an entry from there on can build it of that instead of the newest.
    #[must_use]
    pub fn snapshot_from(&self) -> u64 {
        let Snapshots { recorded, unwanted, .. } = self.snapshots;
        let applied = self.applying.applied;
        let unwanted = if unwanted <= applied { unwanted } else { 0 };
        self.complete_from().max(recorded + 1).max(unwanted).min(applied)
    }

    pub(super) fn snapshot_built(
        &mut self,
        index: u64,
        term: u64,
        reference: Vec<u8>,
        actions: &mut Vec<Action>,
    ) -> Result<(), RaftError> {
        self.snapshots.building = false;
        let truncated = self.node.store().first() - 1;
        if index < truncated.max(self.snapshots.recorded) || self.applying.installing.is_some() {
            // A received snapshot overtook it.
            return Ok(());
        }
        let known = self.node.raft.raft_log.term(index).unwrap_or(0);
        if index > self.applying.handed || known != term || reference.is_empty() {
            let reason = format!("a snapshot of {index} in term {term} cannot be: term is {known}");
            return Err(RaftError::Contract { reason });
        }
        let Some((&since, membership)) = self.memberships.range(..=index).next_back() else {
            return Ok(());
        };
        let snapshot = SnapshotMeta { index, term, membership: membership.clone(), reference };
        self.memberships = self.memberships.split_off(&since);
        let target = self.compaction_target(index).max(truncated);
        self.snapshots.installed(index);
        self.node.mut_store().serve(snapshot.clone());
        self.node.mut_store().compact(target);
        actions.push(Action::Compact { index: target, snapshot });
        Ok(())
    }

    /// Compacts what is unwanted, all that the recorded snapshot holds, once it holds that.
    pub(super) fn compact_unwanted(&mut self, actions: &mut Vec<Action>) {
        let unwanted = self.snapshots.unwanted;
        let log = self.node.store();
        if log.first() > unwanted || self.applying.installing.is_some() {
            return;
        }
        let Some(snapshot) = log.served().filter(|snapshot| snapshot.index >= unwanted) else {
            return;
        };
        let (snapshot, index) = (snapshot.clone(), snapshot.index.min(self.applying.applied));
        if index >= unwanted {
            self.node.mut_store().compact(index);
            actions.push(Action::Compact { index, snapshot });
        }
    }

    /// The last entry that nobody needs once a snapshot at `index` takes the place of the recorded
    /// one.
    fn compaction_target(&self, index: u64) -> u64 {
        let log = self.node.store();
        let truncated = log.first() - 1;
        let tail = index.saturating_sub(self.config.tail_entries);
        let tail = tail.max(log.tail_start(index, self.config.tail_bytes));
        let mut target = tail.min(self.applying.applied);
        let longest = log.last().saturating_sub(self.config.log_entries_max);
        let bytes_max = self.config.log_bytes_max();
        let longest = longest.max(log.tail_start(log.last(), bytes_max)).min(target);
        if self.snapshots.recorded > 0 {
            target = target.min(self.snapshots.recorded);
        }
        if self.is_leader() {
            let progress = self.node.raft.prs().iter();
            let catching_up = progress
                .filter(|(id, peer)| **id != self.config.id && peer.recent_active)
                .map(|(_, peer)| peer.matched)
                .filter(|matched| *matched >= truncated);
            let receiving = self.snapshots.receivers.values().copied();
            target = catching_up.chain(receiving).min().map_or(target, |held| target.min(held));
        }
        target.max(longest)
    }

    /// Forgets the recorded snapshot if it is this one. That its data is damaged says nothing of
    /// the state machine, so a build that has failed is tried again.
    pub(super) fn snapshot_lost(&mut self, reference: &[u8]) {
        if self.node.mut_store().withdraw(reference) {
            self.snapshots.is_lost = true;
            self.snapshots.failed_at = 0;
        }
    }

    pub(super) fn snapshot_sent(&mut self, to: u64, ok: bool) {
        self.snapshots.receivers.remove(&to);
        let status = if ok { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.node.report_snapshot(to, status);
    }
}
