//! Where replicas post their state, and everybody else waits for it.
//!
//! # Invariants
//!
//! 1. A waiter is woken by every change; nobody polls.
//! 2. A replica that ended, for whatever reason, is posted as not running.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::clock::Deadline;
use crate::raft::{Role, Status};

/// A replica as its cluster sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplicaStatus {
    /// What the replica last said of itself.
    pub status: Status,
    /// Whether its thread runs.
    pub is_running: bool,
    /// Why it stopped by itself, if it did.
    pub error: Option<String>,
    /// Why the last snapshot of its state could not be built. While it cannot, the log is not
    /// compacted and no new replica can be fed by this one.
    pub snapshot_error: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct Posted {
    pub(super) replicas: BTreeMap<u64, ReplicaStatus>,
    pub(super) elections: u64,
    last_leader_term: u64,
}

impl Posted {
    /// The running leader of the highest term.
    pub(super) fn leader(&self) -> Option<&Status> {
        let running = self.replicas.values().filter(|replica| replica.is_running);
        let leaders = running.map(|replica| &replica.status).filter(|s| s.role == Role::Leader);
        leaders.max_by_key(|status| status.term)
    }

    pub(super) fn is_running(&self, id: u64) -> bool {
        self.replicas.get(&id).is_some_and(|replica| replica.is_running)
    }
}

#[derive(Debug, Default)]
pub(super) struct Board {
    posted: Mutex<Posted>,
    changed: Condvar,
}

impl Board {
    pub(super) fn posted(&self) -> MutexGuard<'_, Posted> {
        self.posted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn post(&self, status: Status) {
        let mut posted = self.posted();
        if status.role == Role::Leader && status.term > posted.last_leader_term {
            posted.last_leader_term = status.term;
            posted.elections += 1;
        }
        let replica = posted.replicas.entry(status.id).or_default();
        (replica.is_running, replica.error, replica.status) = (true, None, status);
        drop(posted);
        self.changed.notify_all();
    }

    pub(super) fn post_snapshot(&self, id: u64, error: Option<String>) {
        self.posted().replicas.entry(id).or_default().snapshot_error = error;
        self.changed.notify_all();
    }

    pub(super) fn post_end(&self, id: u64, error: Option<String>) {
        let mut posted = self.posted();
        let replica = posted.replicas.entry(id).or_default();
        (replica.is_running, replica.status.role) = (false, Role::Follower);
        replica.error = error;
        drop(posted);
        self.changed.notify_all();
    }

    /// Waits until `look` finds something, or the deadline passes.
    pub(super) fn wait<T>(
        &self,
        deadline: Deadline,
        mut look: impl FnMut(&Posted) -> Option<T>,
    ) -> Option<T> {
        let mut posted = self.posted();
        loop {
            if let Some(found) = look(&posted) {
                return Some(found);
            }
            let left = deadline.left();
            if left.is_zero() {
                return None;
            }
            let woken = self.changed.wait_timeout(posted, left);
            posted = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for any change, or the deadline.
    pub(super) fn wait_for_change(&self, deadline: Deadline) {
        let posted = self.posted();
        // Woken, or timed out: the caller looks again either way.
        drop(self.changed.wait_timeout(posted, deadline.left()));
    }
}
