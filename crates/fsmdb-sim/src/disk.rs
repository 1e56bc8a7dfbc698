//! A disk that loses what was not synced: the durable log of one replica and its snapshot files.
//!
//! # Invariants
//!
//! 1. Writes wait in order behind the durable state; a synced write takes all of them with it.
//! 2. A power loss keeps a prefix of the waiting writes, each whole or not at all.
//! 3. Of the recorded snapshots the last [`SNAPSHOTS_KEPT`] are there, and every file that is
//!    stored and not recorded yet.
//! 4. Of the recorded snapshots the one in use is the newest that a start could read.
//! 5. Only a file that can be done without is ever damaged: the older one is whole and the log
//!    reaches back to it.

use std::collections::VecDeque;
use std::sync::Arc;

use fsmdb::inspect;
use fsmdb::raft::{Entry, HardState, LogError, LogStore, Membership, Recovered, SnapshotMeta};

use crate::limits::SNAPSHOTS_KEPT;
use crate::mutant::Mutant;
use crate::random::Random;

/// A snapshot as files: a whole one and the incremental ones that follow it.
pub(crate) type Chain = Arc<[Vec<u8>]>;

#[derive(Clone, Debug)]
struct Stored {
    reference: Vec<u8>,
    chain: Chain,
    /// The entry of the first of them.
    from: u64,
    /// Once a durable log record names it.
    recorded: Option<SnapshotMeta>,
    is_damaged: bool,
}

#[derive(Clone, Debug)]
enum Write {
    Append { entries: Vec<Entry>, hard_state: Option<HardState> },
    Install { snapshot: SnapshotMeta, hard_state: HardState },
    Compact { index: u64, snapshot: SnapshotMeta },
}

/// The disk of one replica.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    durable: Recovered,
    waiting: VecDeque<Write>,
    files: Vec<Stored>,
    /// The entry of the snapshot in use.
    used: u64,
    /// While the power fails no sync is ever answered.
    is_failing: bool,
    mutant: Option<Mutant>,
}

impl Disk {
    /// Empty, for a replica that will be joined.
    pub(crate) fn empty(mutant: Option<Mutant>) -> Self {
        Self { mutant, ..Self::default() }
    }

    /// As a founding member has it.
    pub(crate) fn founding(members: Membership, mutant: Option<Mutant>) -> Self {
        Self { durable: Recovered::founding(members), ..Self::empty(mutant) }
    }

    /// From here on writes reach the disk in part only, until [`lose_power`](Self::lose_power).
    pub(crate) fn begin_failing(&mut self) {
        self.is_failing = true;
    }

    /// Of the waiting writes a prefix survives, and perhaps the newest file is damaged.
    pub(crate) fn lose_power(&mut self, random: &mut Random) -> bool {
        let keep = random.position(self.waiting.len() + 1);
        if self.mutant == Some(Mutant::LoseTheMiddle) && self.waiting.len() > 1 {
            let middle = random.position(self.waiting.len() - 1);
            self.waiting.remove(middle);
        } else {
            self.waiting.truncate(keep);
        }
        self.flush();
        self.is_failing = false;
        // What no record names belongs to nobody after a restart.
        self.files.retain(|file| file.recorded.is_some());
        let damages = random.chance(60) && self.can_be_damaged();
        if damages {
            self.damage(random);
        }
        damages
    }

    /// Whether the newest file can be done without (invariant 5).
    fn can_be_damaged(&self) -> bool {
        let [.., older, newest] = &self.files[..] else { return false };
        let index = older.recorded.as_ref().map_or(0, |meta| meta.index);
        let reaches =
            index >= self.durable.truncated_index || self.mutant == Some(Mutant::OlderFileWithGap);
        let is_newest = newest.reference == self.durable.snapshot.reference;
        reaches && is_newest && !older.is_damaged && !newest.is_damaged
    }

    /// The newest recorded file goes away, or is damaged, while the replica runs; unless it cannot
    /// be done without.
    pub(crate) fn lose_newest(&mut self, random: &mut Random) -> bool {
        let older = self.files.iter().rev().nth(1);
        let is_recorded = older.is_some_and(|older| older.recorded.is_some());
        let newest = &self.durable.snapshot.reference;
        if !is_recorded || !self.can_be_damaged() || self.waits_for_files(newest) {
            return false;
        }
        if random.chance(50) {
            self.files.pop();
        } else {
            self.damage(random);
        }
        true
    }

    /// Whether the power fails.
    pub(crate) fn is_failing(&self) -> bool {
        self.is_failing
    }

    /// The snapshot in use, if its file is damaged or gone.
    pub(crate) fn lost_in_use(&self) -> Option<Vec<u8>> {
        let recorded = self.files.iter().rev().filter(|file| file.recorded.is_some());
        let mut in_use = recorded.filter(|file| !file.is_damaged);
        let meta = &self.durable.snapshot;
        let is_there = in_use.any(|file| file.reference == meta.reference);
        (self.used == meta.index && !meta.reference.is_empty() && !is_there)
            .then(|| meta.reference.clone())
    }

    /// A start goes on from the snapshot at this entry: newer ones could not be read.
    pub(crate) fn goes_on_from(&mut self, index: u64) {
        self.used = index;
    }

    /// Lets nothing be left, durably, of the entries up to `index`, nor of snapshots older than the
    /// one in use; `fold` makes one file of many.
    pub(crate) fn scrub(&mut self, index: u64, fold: impl Fn(&Chain) -> Option<Chain>) {
        self.flush();
        let (used, mutant) = (self.used, self.mutant);
        self.files.retain_mut(|file| {
            let Some(meta) = &file.recorded else { return true };
            if meta.index < used {
                return mutant == Some(Mutant::EraseKeepsOlderFile);
            }
            if file.from < index {
                // What cannot be read is not in use.
                let Some(chain) = fold(&file.chain) else { return false };
                (file.from, file.chain) = (begins_at(&chain), chain);
            }
            true
        });
    }

    /// Whether nothing is left of the entries up to `index`, and of snapshots from before it.
    pub(crate) fn has_erased(&self, index: u64) -> bool {
        let mut recorded = self.files.iter().filter(|file| file.recorded.is_some());
        self.durable.truncated_index >= index && recorded.all(|file| file.from >= index)
    }

    /// Tears the newest recorded file, or flips a bit of it.
    fn damage(&mut self, random: &mut Random) {
        let Some(file) = self.files.last_mut() else { return };
        let mut parts = file.chain.to_vec();
        let at = random.position(parts.len());
        damage(&mut parts[at], random);
        file.chain = parts.into();
        file.is_damaged = true;
    }

    /// Stores files under a reference that nothing names yet.
    pub(crate) fn put(&mut self, reference: &[u8], chain: Chain) {
        if self.mutant == Some(Mutant::InstallBeforeDurable) {
            // The one name that there is now holds something that the log does not know of.
            let recorded = &self.durable.snapshot.reference;
            let current = self.files.iter_mut().find(|file| file.reference == *recorded);
            if let Some(current) = current {
                current.chain = Arc::clone(&chain);
            }
        }
        if self.chain(reference).is_none() {
            let (reference, from) = (reference.to_vec(), begins_at(&chain));
            let stored = Stored { reference, chain, from, recorded: None, is_damaged: false };
            self.files.insert(0, stored);
        }
    }

    /// Forgets files that nobody will record.
    pub(crate) fn discard(&mut self, reference: &[u8]) {
        self.files.retain(|file| file.reference != reference || file.recorded.is_some());
    }

    /// Whether a write that is not durable yet records files of this reference.
    pub(crate) fn waits_for_files(&self, reference: &[u8]) -> bool {
        self.waiting.iter().any(|write| match write {
            Write::Append { .. } => false,
            Write::Install { snapshot, .. } | Write::Compact { snapshot, .. } => {
                snapshot.reference == reference
            }
        })
    }

    /// The files stored under a reference.
    pub(crate) fn chain(&self, reference: &[u8]) -> Option<Chain> {
        let file = self.files.iter().find(|file| file.reference == reference);
        file.map(|file| Arc::clone(&file.chain))
    }

    /// Some files that are not those of `reference`.
    pub(crate) fn other_chain(&self, reference: &[u8]) -> Option<Chain> {
        let other = self.files.iter().find(|file| file.reference != reference);
        other.map(|file| Arc::clone(&file.chain))
    }

    /// The recorded snapshots that the log reaches back to, the newest first.
    pub(crate) fn recorded(&self) -> Vec<(SnapshotMeta, Chain)> {
        let reaches = |meta: &SnapshotMeta| {
            meta.index >= self.durable.truncated_index
                || self.mutant == Some(Mutant::OlderFileWithGap)
        };
        let recorded = self.files.iter().rev().filter_map(|file| {
            let meta = file.recorded.clone().filter(reaches)?;
            Some((meta, Arc::clone(&file.chain)))
        });
        recorded.collect()
    }

    /// What a start would find if every waiting write were durable.
    pub(crate) fn visible(&self) -> Recovered {
        let mut log = self.durable.clone();
        for write in &self.waiting {
            perform(&mut log, write.clone(), self.mutant);
        }
        log
    }

    /// First and last index as if every waiting write had been made.
    fn bounds(&self) -> (u64, u64) {
        let mut truncated = self.durable.truncated_index;
        let mut last = truncated + self.durable.entries.len() as u64;
        for write in &self.waiting {
            match write {
                Write::Append { entries, .. } => last = entries.last().map_or(last, Entry::index),
                Write::Install { snapshot, .. } => {
                    (truncated, last) = (snapshot.index, snapshot.index);
                }
                Write::Compact { index, .. } => truncated = truncated.max(*index),
            }
        }
        (truncated + 1, last)
    }

    fn write(&mut self, write: Write, sync: bool) {
        self.waiting.push_back(write);
        if sync && !self.is_failing {
            self.flush();
        }
    }

    fn flush(&mut self) {
        while let Some(write) = self.waiting.pop_front() {
            let recorded = match &write {
                Write::Append { .. } => None,
                Write::Install { snapshot, .. } | Write::Compact { snapshot, .. } => {
                    Some(snapshot.clone())
                }
            };
            perform(&mut self.durable, write, self.mutant);
            if let Some(meta) = recorded {
                self.record(meta);
            }
        }
    }

    /// Moves the recorded file behind all others and drops the oldest recorded one.
    fn record(&mut self, meta: SnapshotMeta) {
        let Some(at) = self.files.iter().position(|file| file.reference == meta.reference) else {
            return;
        };
        let mut file = self.files.remove(at);
        self.used = meta.index;
        file.recorded = Some(meta);
        self.files.push(file);
        let recorded = self.files.iter().filter(|file| file.recorded.is_some()).count();
        if recorded > SNAPSHOTS_KEPT {
            let oldest = self.files.iter().position(|file| file.recorded.is_some());
            oldest.map(|oldest| self.files.remove(oldest));
        }
    }

    fn require(&self, snapshot: &SnapshotMeta) -> Result<(), LogError> {
        let found = self.chain(&snapshot.reference).map(|_| ());
        found.ok_or(LogError::MissingSnapshot { index: snapshot.index })
    }
}

impl LogStore for Disk {
    fn load(&mut self) -> Result<Recovered, LogError> {
        self.flush();
        Ok(self.durable.clone())
    }

    fn append(
        &mut self,
        entries: &[Entry],
        hard_state: Option<HardState>,
        sync: bool,
    ) -> Result<(), LogError> {
        let (first, last) = self.bounds();
        if let Some(entry) = entries.first()
            && (entry.index() < first || entry.index() > last + 1)
        {
            return Err(LogError::OutOfOrder { index: entry.index(), first, last });
        }
        let mut hard_state = hard_state;
        if self.mutant == Some(Mutant::HardStateFirst) {
            self.write(Write::Append { entries: Vec::new(), hard_state: hard_state.take() }, false);
        }
        self.write(Write::Append { entries: entries.to_vec(), hard_state }, sync);
        Ok(())
    }

    fn install_snapshot(
        &mut self,
        snapshot: &SnapshotMeta,
        hard_state: HardState,
    ) -> Result<(), LogError> {
        self.require(snapshot)?;
        if self.mutant == Some(Mutant::InstallInTwoWrites) {
            let first = Write::Append { entries: Vec::new(), hard_state: Some(hard_state) };
            self.write(first, false);
        }
        self.write(Write::Install { snapshot: snapshot.clone(), hard_state }, true);
        Ok(())
    }

    fn compact_to(&mut self, index: u64, snapshot: &SnapshotMeta) -> Result<(), LogError> {
        self.require(snapshot)?;
        let (first, last) = self.bounds();
        if index > last || index > snapshot.index {
            return Err(LogError::OutOfOrder { index, first, last });
        }
        let index = if self.mutant == Some(Mutant::CompactTooFar) { last } else { index };
        self.write(Write::Compact { index, snapshot: snapshot.clone() }, false);
        Ok(())
    }
}

fn perform(log: &mut Recovered, write: Write, mutant: Option<Mutant>) {
    match write {
        Write::Append { entries, hard_state } => {
            if let Some(first) = entries.first() {
                let at = first.index().saturating_sub(log.truncated_index + 1);
                let at = usize::try_from(at).unwrap_or(usize::MAX);
                let tail = log.entries.split_off(at.min(log.entries.len()));
                let count = entries.len();
                log.entries.extend(entries);
                if mutant == Some(Mutant::KeepTail) {
                    log.entries.extend(tail.into_iter().skip(count));
                }
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
                let count = count.min(log.entries.len());
                if let Some(entry) = count.checked_sub(1).and_then(|last| log.entries.get(last)) {
                    log.truncated_term = entry.term();
                }
                log.entries.drain(..count);
                log.truncated_index = index;
            }
            log.snapshot = snapshot;
        }
    }
}

/// The entry of the first file, or 0 when that cannot be read.
pub(crate) fn begins_at(chain: &Chain) -> u64 {
    let first = chain.first().and_then(|file| inspect(file.as_slice()).ok());
    first.map_or(0, |first| first.applied.index)
}

/// Tears a file off or flips one of its bits.
pub(crate) fn damage(file: &mut Vec<u8>, random: &mut Random) {
    let at = random.position(file.len());
    if random.chance(50) {
        file.truncate(at);
    } else if let Some(byte) = file.get_mut(at) {
        *byte ^= 1 << random.below(8);
    }
}
