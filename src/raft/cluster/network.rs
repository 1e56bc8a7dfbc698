//! The channels between replicas, and from users to replicas.
//!
//! # Invariants
//!
//! 1. A replica never waits for another one: what does not fit is dropped and the sender learns.
//! 2. Mail between cut replicas is dropped; mail of users is not affected.
//! 3. A stopped replica has no inbox here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Snapshot;
use crate::raft::{MemberChange, Message, Refusal};
use crate::revision::Applied;

/// What a user is told.
pub(super) enum Answer<R> {
    Applied(Applied, R),
    Changed(Result<(), String>),
    Read { index: u64, snapshot: Snapshot },
    Refused(Refusal),
    Unknown,
}

/// What lies in an inbox.
pub(super) enum Mail<R> {
    Raft(Message),
    Snapshot { message: Message, data: Arc<[u8]> },
    Propose { command: Vec<u8>, answer: Sender<Answer<R>> },
    Change { steps: Vec<MemberChange>, answer: Sender<Answer<R>> },
    Read { answer: Sender<Answer<R>> },
    Transfer(u64),
    Built(Result<(Applied, Vec<u8>), String>),
    Installed(Result<Applied, String>),
    Stop,
}

/// Why mail did not reach an inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Undelivered {
    Full,
    Gone,
}

/// What happened in a cluster since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Terms in which a leader was seen.
    pub elections: u64,
    /// Entries applied, over all replicas.
    pub entries_applied: u64,
    /// Snapshots built, for compaction or for a receiver.
    pub snapshots_built: u64,
    /// Snapshots that reached their receiver's inbox.
    pub snapshots_sent: u64,
    /// Snapshots that did not.
    pub snapshots_lost: u64,
    /// Snapshots that replaced a state machine.
    pub snapshots_installed: u64,
    /// Messages dropped: inbox full, replica stopped, or cut.
    pub messages_dropped: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) entries_applied: AtomicU64,
    pub(super) snapshots_built: AtomicU64,
    pub(super) snapshots_sent: AtomicU64,
    pub(super) snapshots_lost: AtomicU64,
    pub(super) snapshots_installed: AtomicU64,
    pub(super) messages_dropped: AtomicU64,
}

impl Counts {
    pub(super) fn add(count: &AtomicU64, more: u64) {
        count.fetch_add(more, Ordering::Relaxed);
    }

    pub(super) fn read(&self, elections: u64) -> Counters {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counters {
            elections,
            entries_applied: load(&self.entries_applied),
            snapshots_built: load(&self.snapshots_built),
            snapshots_sent: load(&self.snapshots_sent),
            snapshots_lost: load(&self.snapshots_lost),
            snapshots_installed: load(&self.snapshots_installed),
            messages_dropped: load(&self.messages_dropped),
        }
    }
}

/// All inboxes, and who cannot reach whom.
pub(super) struct Network<R> {
    inboxes: Mutex<BTreeMap<u64, SyncSender<Mail<R>>>>,
    cuts: Mutex<BTreeSet<(u64, u64)>>,
    pub(super) counts: Counts,
}

impl<R> Network<R> {
    pub(super) fn new() -> Self {
        Self { inboxes: Mutex::default(), cuts: Mutex::default(), counts: Counts::default() }
    }

    pub(super) fn open(&self, id: u64, inbox: SyncSender<Mail<R>>) {
        lock(&self.inboxes).insert(id, inbox);
    }

    pub(super) fn close(&self, id: u64) {
        lock(&self.inboxes).remove(&id);
    }

    pub(super) fn inbox(&self, id: u64) -> Option<SyncSender<Mail<R>>> {
        lock(&self.inboxes).get(&id).cloned()
    }

    pub(super) fn cut(&self, from: u64, to: u64) {
        lock(&self.cuts).insert((from, to));
    }

    pub(super) fn heal(&self, from: u64, to: u64) {
        lock(&self.cuts).remove(&(from, to));
    }

    pub(super) fn heal_all(&self) {
        lock(&self.cuts).clear();
    }

    /// From one replica to another.
    pub(super) fn deliver(&self, from: u64, to: u64, mail: Mail<R>) -> Result<(), Undelivered> {
        let outcome = if lock(&self.cuts).contains(&(from, to)) {
            Err(Undelivered::Gone)
        } else {
            self.post(to, mail)
        };
        if outcome.is_err() {
            Counts::add(&self.counts.messages_dropped, 1);
        }
        outcome
    }

    /// From a user to a replica.
    pub(super) fn post(&self, to: u64, mail: Mail<R>) -> Result<(), Undelivered> {
        let inbox = self.inbox(to).ok_or(Undelivered::Gone)?;
        inbox.try_send(mail).map_err(|error| match error {
            TrySendError::Full(_) => Undelivered::Full,
            TrySendError::Disconnected(_) => Undelivered::Gone,
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
