//! The thread that applies: the one writer of the state machine.
//!
//! # Invariants
//!
//! 1. Entries are applied in the order of the log; a snapshot is installed between them. Nothing is
//!    skipped: when the state machine fails, the node stops.
//! 2. A proposal is answered after its entry was published.
//! 3. Digests are noted, and states marked for snapshot files, at the same entries on every node.
//! 4. What waits is bounded by the core: it hands out no more until it is told what was applied.
//! 5. When the node stops, the group that is being applied is the last, and a snapshot that is
//!    being installed is given up.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use fsmdb::raft::{Committed, EntryKind, ProposeError, SnapshotMeta};
use fsmdb::{Applied, Digests, Machine};

use super::clock;
use super::error::NodeError;
use super::inbox::Inbox;
use super::job::Waiter;
use super::mail::Mail;
use super::marks::Marks;
use super::snapshots::SnapshotStore;
use crate::limits::DIGESTS_KEPT;
use crate::metrics::Metrics;
use crate::session::{EnvelopeReply, Replicated, Sessions};

/// What the apply thread is asked for.
pub(super) enum ApplyJob<R> {
    Entries(Vec<(Committed, Option<Waiter<R>>)>),
    Install(SnapshotMeta),
}

/// The digests that a node has noted, oldest first.
#[derive(Debug, Default)]
pub(super) struct Notes(Mutex<VecDeque<Digests>>);

impl Notes {
    fn add(&self, digests: Digests) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() == DIGESTS_KEPT {
            notes.pop_front();
        }
        notes.push_back(digests);
    }

    /// Forgets what was noted of a state that a snapshot has replaced.
    fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(super) fn all(&self) -> Vec<Digests> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// The apply thread.
pub(super) struct Applier<F: Replicated> {
    pub(super) machine: Arc<Machine<Sessions<F>>>,
    pub(super) jobs: Arc<Inbox<ApplyJob<F::Reply>>>,
    pub(super) inbox: Arc<Inbox<Mail<F::Reply>>>,
    pub(super) snapshots: Arc<dyn SnapshotStore>,
    pub(super) notes: Arc<Notes>,
    pub(super) marks: Arc<Marks>,
    /// Entries between two notes; nothing when digests are not kept.
    pub(super) digest_entries: Option<u64>,
    pub(super) is_stopping: Arc<AtomicBool>,
    pub(super) metrics: Arc<Metrics>,
}

impl<F: Replicated> Applier<F> {
    pub(super) fn run(self) {
        let mut taken = Vec::new();
        while self.jobs.take(None, &mut taken) {
            for job in taken.drain(..) {
                if self.is_stopping.load(Ordering::Acquire) {
                    return;
                }
                let outcome = match job {
                    ApplyJob::Entries(entries) => self.apply(entries),
                    ApplyJob::Install(snapshot) => self.install(&snapshot),
                };
                let mail = outcome.map_or_else(Mail::Failed, Mail::Applied);
                let is_over = matches!(mail, Mail::Failed(_));
                if self.inbox.post(mail).is_err() || is_over {
                    return;
                }
            }
        }
    }

    fn apply(&self, entries: Vec<(Committed, Option<Waiter<F::Reply>>)>) -> Result<u64, NodeError> {
        let started = clock::now();
        self.metrics.apply_batch.observe(entries.len() as f64);
        let (mut last, mut are_members_changed) = (0, false);
        for (Committed { entry, .. }, waiter) in entries {
            let at = Applied { index: entry.index(), term: entry.term() };
            last = at.index;
            match (entry.kind(), entry.command()) {
                (EntryKind::Command, Some(command)) => {
                    let reply = self.machine.apply(at, command)?;
                    are_members_changed |= matches!(reply, Some(EnvelopeReply::Member(true)));
                    if let Some(waiter) = waiter {
                        // A replay has no reply; nobody of this start waits for one.
                        waiter.answer(
                            reply.map_or(Err(ProposeError::Unknown), |reply| Ok((at, reply))),
                        );
                    }
                }
                _ => self.machine.skip(at)?,
            }
            self.note(at.index)?;
            if self.marks.is_at(at.index) {
                self.marks.set(self.machine.read());
            }
        }
        if let Some(erased) = self.machine.db().erased_at() {
            // In the database of a machine that is the index of the entry.
            self.marks.erased(erased.0);
        }
        self.metrics.apply_seconds.observe(clock::now() - started);
        if are_members_changed {
            // The raft thread has ended already, and nobody asks.
            let _ = self.inbox.post(Mail::MembersChanged);
        }
        Ok(last)
    }

    fn note(&self, index: u64) -> Result<(), NodeError> {
        if self.digest_entries.is_none_or(|entries| !index.is_multiple_of(entries)) {
            return Ok(());
        }
        let failed = |error: fsmdb::Error| NodeError::Digests { index, error: Arc::new(error) };
        self.notes.add(self.machine.read().digests().map_err(failed)?);
        Ok(())
    }

    fn install(&self, snapshot: &SnapshotMeta) -> Result<u64, NodeError> {
        self.metrics.snapshot_installing.set(1);
        install(&self.machine, &*self.snapshots, snapshot, &self.is_stopping)?;
        self.metrics.snapshot_installing.set(0);
        self.notes.clear();
        self.marks.begin(self.machine.read());
        self.metrics.snapshots_installed.inc();
        // The raft thread has ended already, and nobody asks.
        let _ = self.inbox.post(Mail::MembersChanged);
        Ok(snapshot.index)
    }
}

/// Reads until the node stops.
struct UntilStopped<'a> {
    file: Box<dyn io::Read + Send>,
    is_stopping: &'a AtomicBool,
}

impl io::Read for UntilStopped<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_stopping.load(Ordering::Acquire) {
            return Err(io::Error::other("the node stops"));
        }
        self.file.read(buffer)
    }
}

/// Brings a state machine to a snapshot: a received one, or the one that a log begins from. Fails
/// when the node stops meanwhile.
pub(super) fn install<F: Replicated>(
    machine: &Machine<Sessions<F>>,
    store: &dyn SnapshotStore,
    snapshot: &SnapshotMeta,
    is_stopping: &AtomicBool,
) -> Result<(), NodeError> {
    let at = Applied { index: snapshot.index, term: snapshot.term };
    if snapshot.reference.is_empty() {
        // The founding snapshot has no data; a log that was never written begins from nothing.
        return if at.index > 0 { Ok(machine.skip(at)?) } else { Ok(()) };
    }
    let failed = |error| NodeError::Snapshot { index: snapshot.index, error };
    let file = store.open(&snapshot.reference).map_err(failed)?;
    let file = UntilStopped { file, is_stopping };
    let found = machine.install_chain([file], store.load_options())?;
    if found == at {
        return Ok(());
    }
    let reason = format!("its file is of entry {found}");
    Err(failed(super::error::SnapshotStoreError::new(reason)))
}
