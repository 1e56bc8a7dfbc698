//! What schedulers, agents and the story need of the replicas, wherever those are.
//!
//! There are two kinds: the replicas of a cluster in this process, below, and nodes that are
//! processes of their own, in `member.rs`.

use std::time::Duration;

use anyhow::{Context, Error, Result};
use fsmdb::raft::{Cluster, Consistency, ProposeError};
use fsmdb::{Applied, Builder, Db, Revision, Snapshot};

use crate::command::{Command, Done, Orchestrator, Refusal};
use crate::scenario::{FOUNDERS, NEWCOMER};

/// How long a replica may take to apply what another one has.
pub const REPLICA_PATIENCE: Duration = Duration::from_secs(5);

/// Why a proposal has no outcome.
#[derive(Debug)]
pub enum Missed {
    /// It may have been applied.
    Unknown,
    /// It was not taken, and may be the next time.
    NotTaken,
    /// It will not be taken.
    Never(Error),
}

/// A replica as it was at one applied entry.
#[derive(Debug)]
pub struct Copy {
    pub id: u64,
    pub applied: u64,
    /// Its snapshot file.
    pub bytes: Vec<u8>,
}

/// The replicas of the state.
pub trait Group: Send + Sync {
    /// Proposes once; waits for a leader by itself.
    fn propose(&self, command: &Command) -> Result<(Applied, Result<Done, Refusal>), Missed>;

    /// The state as some replica has it.
    fn read(&self, consistency: Consistency) -> Result<Snapshot>;

    /// All replicas, those that do not run yet too.
    fn replicas(&self) -> Vec<u64>;

    /// The replica that the worker of this number reads from at first.
    fn home(&self, number: usize) -> u64;

    /// The database of a replica, if that runs and is in this process.
    fn db(&self, id: u64) -> Option<Db>;

    /// The description of a database with all the tables that the replicas have.
    fn tables(&self) -> Builder;

    /// Every replica, sound and as soon as it has come to `revision`.
    fn copies(&self, revision: Revision) -> Result<Vec<Copy>>;

    /// How often a leader was elected while this program ran.
    fn elections(&self) -> u64;

    /// How many snapshots replaced the state of a replica, where that is known.
    fn snapshots_installed(&self) -> Option<u64>;

    /// What no other program that worked on the same state was given; nothing where there was
    /// none before this one.
    fn run(&self) -> Option<u64>;

    /// Stops the replicas that are in this process, so that all who wait for them are woken.
    fn shutdown(&self);
}

impl Group for Cluster<Orchestrator> {
    fn propose(&self, command: &Command) -> Result<(Applied, Result<Done, Refusal>), Missed> {
        Self::propose(self, command).map_err(|error| match error {
            ProposeError::Unknown => Missed::Unknown,
            error if error.is_retryable() => Missed::NotTaken,
            error => Missed::Never(error.into()),
        })
    }

    fn read(&self, consistency: Consistency) -> Result<Snapshot> {
        Ok(Self::read(self, consistency)?)
    }

    fn replicas(&self) -> Vec<u64> {
        FOUNDERS.into_iter().chain([NEWCOMER]).collect()
    }

    fn home(&self, number: usize) -> u64 {
        FOUNDERS[number % FOUNDERS.len()]
    }

    fn db(&self, id: u64) -> Option<Db> {
        let runs = self.status(id).is_some_and(|status| status.is_running);
        Self::db(self, id).filter(|_| runs)
    }

    fn tables(&self) -> Builder {
        Orchestrator::tables()
    }

    fn copies(&self, revision: Revision) -> Result<Vec<Copy>> {
        let copies = Group::replicas(self).into_iter().map(|id| {
            let db = Self::db(self, id).with_context(|| format!("no replica {id}"))?;
            copy(id, &db, revision)
        });
        copies.collect()
    }

    fn elections(&self) -> u64 {
        self.counters().elections
    }

    fn snapshots_installed(&self) -> Option<u64> {
        Some(self.counters().snapshots_installed)
    }

    fn run(&self) -> Option<u64> {
        None
    }

    fn shutdown(&self) {
        Self::shutdown(self);
    }
}

/// Saves a replica as soon as it has come to `revision`.
pub fn copy(id: u64, db: &Db, revision: Revision) -> Result<Copy> {
    let state = db.wait_for(revision).wait(REPLICA_PATIENCE)?;
    state.check().with_context(|| format!("replica {id} is inconsistent"))?;
    let mut bytes = Vec::new();
    state.save(&mut bytes)?;
    Ok(Copy { id, applied: state.applied().index, bytes })
}
