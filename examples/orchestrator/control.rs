//! What schedulers, agents and the story share: the cluster, the clock and the ledgers.
//!
//! # Invariants
//!
//! 1. A proposal is repeated until its outcome is known. That is safe because every command can
//!    be repeated (see `command.rs`).
//! 2. The ledgers are written where things happen and never from the database, so that the audit
//!    can hold the database to them.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use fsmdb::Snapshot;
use fsmdb::raft::{Cluster, Consistency, ProposeError};

use crate::command::{Command, Done, Orchestrator, Refusal};
use crate::model::{AllocationId, Exit, Job};

/// How long a thread of this program waits before it looks at the state again.
///
/// The only polling there is. A change feed would wake each thread by what concerns it; it is not
/// in the library yet.
const POLL: Duration = Duration::from_millis(10);

/// How long a proposal is repeated. Several elections fit in.
const PATIENCE: Duration = Duration::from_secs(20);

/// The cluster, with what this program knows about its own deeds.
pub struct Control {
    pub cluster: Cluster<Orchestrator>,
    began: Instant,
    limit: Duration,
    halted: AtomicBool,
    acknowledged: Mutex<Vec<Command>>,
    runs: Mutex<Vec<Run>>,
    counts: Counts,
}

/// A process that an agent has started.
#[derive(Clone, Debug)]
pub struct Run {
    pub allocation: AllocationId,
    pub job: String,
    pub ordinal: u32,
    pub attempt: u32,
    pub exit: Option<Exit>,
}

#[derive(Debug, Default)]
struct Counts {
    refused: AtomicU64,
    unknown: AtomicU64,
    retried: AtomicU64,
}

/// What became of the proposals.
#[derive(Clone, Copy, Debug)]
pub struct Proposals {
    pub acknowledged: u64,
    /// Answered with a refusal, mostly because another scheduler was faster.
    pub refused: u64,
    /// Repeated because the leader was lost before it told the outcome.
    pub unknown: u64,
    /// Repeated because there was no leader to take them.
    pub retried: u64,
}

impl Control {
    pub fn new(cluster: Cluster<Orchestrator>, began: Instant, limit: Duration) -> Self {
        Self {
            cluster,
            began,
            limit,
            halted: AtomicBool::new(false),
            acknowledged: Mutex::default(),
            runs: Mutex::default(),
            counts: Counts::default(),
        }
    }

    /// Proposes `command` until its outcome is known.
    pub fn propose(&self, command: &Command) -> Result<Result<Done, Refusal>> {
        let since = Instant::now();
        loop {
            match self.cluster.propose(command) {
                Ok((_, Ok(done))) => {
                    lock(&self.acknowledged).push(command.clone());
                    return Ok(Ok(done));
                }
                Ok((_, Err(refusal))) => {
                    count(&self.counts.refused);
                    return Ok(Err(refusal));
                }
                Err(ProposeError::Unknown) => count(&self.counts.unknown),
                Err(error) if error.is_retryable() => count(&self.counts.retried),
                Err(error) => return Err(error).context("a proposal cannot be made"),
            }
            ensure!(since.elapsed() < PATIENCE, "no leader took a proposal for {PATIENCE:?}");
            ensure!(!self.is_halted(), "the program ended while a proposal was on its way");
            self.pause();
        }
    }

    /// Proposes a command that nothing can stand in the way of.
    pub fn require(&self, command: &Command) -> Result<()> {
        self.propose(command)?.map(drop).with_context(|| format!("{command:?} was refused"))
    }

    /// The state as the replica that is furthest knows it; possibly stale.
    pub fn snapshot(&self) -> Result<Snapshot> {
        Ok(self.cluster.read(Consistency::Stale)?)
    }

    /// The state as replica `id` knows it, or if that does not run, another one.
    pub fn snapshot_at(&self, id: u64) -> Result<Snapshot> {
        match self.cluster.read_at(id, Consistency::Stale) {
            Ok(snapshot) => Ok(snapshot),
            Err(_) => self.snapshot(),
        }
    }

    /// Waits until the state is as `is_so` wants it.
    pub fn wait_until(&self, what: &str, mut is_so: impl FnMut(&Snapshot) -> bool) -> Result<()> {
        loop {
            let snapshot = self.snapshot()?;
            if is_so(&snapshot) {
                return Ok(());
            }
            ensure!(!self.is_halted(), "the program ended while waiting for {what}");
            if self.began.elapsed() > self.limit {
                let jobs = snapshot.table::<Job>().iter().filter(|job| !job.status.is_final());
                let jobs: Vec<_> = jobs.map(|job| job.name.as_str()).collect();
                let (limit, jobs) = (self.limit, jobs.join(", "));
                bail!("after {limit:?} still waiting for {what}; not ended: {jobs}");
            }
            self.pause();
        }
    }

    pub fn pause(&self) {
        thread::sleep(POLL);
    }

    /// Makes every thread of this program come to its end.
    pub fn halt(&self) {
        self.halted.store(true, Ordering::Release);
    }

    pub fn is_halted(&self) -> bool {
        self.halted.load(Ordering::Acquire)
    }

    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// The clock of commands.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Tells the person at the terminal what happens.
    pub fn say(&self, what: &str) {
        tell(&format!("[{:6.2}s] {what}", self.began.elapsed().as_secs_f64()));
    }

    pub fn record_run(&self, run: Run) {
        lock(&self.runs).push(run);
    }

    pub fn record_exit(&self, allocation: AllocationId, exit: Exit) {
        let mut runs = lock(&self.runs);
        if let Some(run) = runs.iter_mut().rev().find(|run| run.allocation == allocation) {
            run.exit = Some(exit);
        }
    }

    pub fn runs(&self) -> Vec<Run> {
        lock(&self.runs).clone()
    }

    pub fn acknowledged(&self) -> Vec<Command> {
        lock(&self.acknowledged).clone()
    }

    pub fn proposals(&self) -> Proposals {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Proposals {
            acknowledged: lock(&self.acknowledged).len() as u64,
            refused: read(&self.counts.refused),
            unknown: read(&self.counts.unknown),
            retried: read(&self.counts.retried),
        }
    }
}

/// Writes a line to standard error. A reader that has gone away does not end the program.
pub fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

fn count(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// A thread that panicked ends the program with an error anyway; what it recorded is whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
