//! What schedulers, agents and the story share: the replicas, the clock and the ledgers.
//!
//! # Invariants
//!
//! 1. A proposal is repeated until its outcome is known. That is safe because every command can
//!    be repeated (see `command.rs`).
//! 2. The ledgers are written where things happen and never from the database, so that the audit
//!    can hold the database to them.
//! 3. Nobody polls: who waits for the state watches what it has read, on the database of one
//!    replica. When that replica ends its watches end, and who waited goes to another one.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, bail, ensure};
use fsmdb::raft::Consistency;
use fsmdb::{Db, Revision, Watch, Watcher};

use crate::command::{Command, Done, Refusal};
use crate::group::{Group, Missed};
use crate::model::{AllocationId, Exit, Job};

/// How long a proposal is repeated. Several elections fit in.
const PATIENCE: Duration = Duration::from_secs(20);

/// The replicas, with what this program knows about its own deeds.
pub struct Control {
    pub group: Arc<dyn Group>,
    began: Instant,
    limit: Duration,
    halted: AtomicBool,
    failure: Mutex<Option<Error>>,
    acknowledged: Mutex<Vec<Command>>,
    /// The log entries that were acknowledged to have changed something.
    entries: Mutex<Vec<u64>>,
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
    moved: AtomicU64,
}

/// The replica whose database a worker reads, while that runs.
#[derive(Debug)]
pub struct Seat {
    replica: u64,
}

impl Seat {
    pub fn at(replica: u64) -> Self {
        Self { replica }
    }
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
    pub fn new(group: Arc<dyn Group>, began: Instant, limit: Duration) -> Self {
        Self {
            group,
            began,
            limit,
            halted: AtomicBool::new(false),
            failure: Mutex::default(),
            acknowledged: Mutex::default(),
            entries: Mutex::default(),
            runs: Mutex::default(),
            counts: Counts::default(),
        }
    }

    /// Proposes `command` until its outcome is known. Says which entry of the log it became.
    pub fn propose(&self, command: &Command) -> Result<(Revision, Result<Done, Refusal>)> {
        let since = Instant::now();
        loop {
            // Waits for a leader by itself.
            match self.group.propose(command) {
                Ok((at, Ok(done))) => {
                    lock(&self.acknowledged).push(command.clone());
                    if done == Done::Now {
                        lock(&self.entries).push(at.index);
                    }
                    return Ok((Revision(at.index), Ok(done)));
                }
                Ok((at, Err(refusal))) => {
                    count(&self.counts.refused);
                    return Ok((Revision(at.index), Err(refusal)));
                }
                Err(Missed::Unknown) => count(&self.counts.unknown),
                Err(Missed::NotTaken) => count(&self.counts.retried),
                Err(Missed::Never(error)) => {
                    return Err(error).context("a proposal cannot be made");
                }
            }
            ensure!(since.elapsed() < PATIENCE, "no leader took a proposal for {PATIENCE:?}");
            ensure!(!self.is_halted(), "the program ended while a proposal was on its way");
        }
    }

    /// Proposes a command that nothing can stand in the way of.
    pub fn require(&self, command: &Command) -> Result<()> {
        let (_, outcome) = self.propose(command)?;
        outcome.map(drop).with_context(|| format!("{command:?} was refused"))
    }

    /// The database of the replica that `seat` is at or, if that does not run, of another one;
    /// nothing when the program halts.
    pub fn db(&self, seat: &mut Seat) -> Result<Option<Db>> {
        let mut ids = [seat.replica].into_iter().chain(self.group.replicas());
        let found = ids.find_map(|id| Some((id, self.group.db(id)?)));
        if self.is_halted() {
            return Ok(None);
        }
        let (id, db) = found.context("no replica runs")?;
        if seat.replica != id {
            seat.replica = id;
            count(&self.counts.moved);
        }
        Ok(Some(db))
    }

    /// Reads where `seat` is and watches what was read; nothing when the program halts.
    ///
    /// No handle on the database is left behind. When its replica ends so does the watch, and the
    /// next call reads at another one.
    pub fn watch<A>(
        &self,
        seat: &mut Seat,
        read: impl FnOnce(&Watcher<'_>) -> A,
    ) -> Result<Option<(A, Watch)>> {
        Ok(self.db(seat)?.map(|db| db.read().watch(read)))
    }

    /// Waits until the replica that `seat` is at has applied `revision`, or has ended.
    pub fn catch_up(&self, seat: &mut Seat, revision: Revision) -> Result<()> {
        if let Some(db) = self.db(seat)? {
            // Ended: the next look at the state is at another replica, and may be a stale one.
            let _ = db.wait_for(revision).wait(None);
        }
        Ok(())
    }

    /// Waits until the state, from that of this moment on, is as `is_so` wants it.
    pub fn wait_until(&self, what: &str, is_so: impl Fn(&Watcher<'_>) -> bool) -> Result<()> {
        let now = self.group.read(Consistency::Linearizable)?.revision();
        let mut seat = Seat::at(self.group.home(0));
        let left = || self.limit.saturating_sub(self.elapsed());
        while let Some(db) = self.db(&mut seat)? {
            // Ended, or late: seen below.
            if let Ok(snapshot) = db.wait_for(now).wait(left()) {
                drop(db);
                let (is_so, watch) = snapshot.watch(&is_so);
                if is_so {
                    return Ok(());
                }
                watch.wait(left());
            }
            if left().is_zero() {
                bail!(self.overdue(what)?);
            }
        }
        bail!("the program ended while waiting for {what}")
    }

    fn overdue(&self, what: &str) -> Result<String> {
        let snapshot = self.group.read(Consistency::Stale)?;
        let jobs = snapshot.table::<Job>().iter().filter(|job| !job.status.is_final());
        let jobs: Vec<_> = jobs.map(|job| job.name.as_str()).collect();
        let (limit, jobs) = (self.limit, jobs.join(", "));
        Ok(format!("after {limit:?} still waiting for {what}; not ended: {jobs}"))
    }

    /// Stops the replicas, so that everybody who waits for it is woken, and ends.
    pub fn halt(&self) {
        self.halted.store(true, Ordering::Release);
        self.group.shutdown();
    }

    /// Takes what a worker ends with: an error ends the program, and the first one is what it says.
    pub fn take(&self, ended: Result<()>) {
        if let Err(error) = ended {
            lock(&self.failure).get_or_insert(error);
            self.halt();
        }
    }

    pub fn failure(&self) -> Option<Error> {
        lock(&self.failure).take()
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

    /// The log entries that were acknowledged to have changed something.
    pub fn entries(&self) -> Vec<u64> {
        lock(&self.entries).clone()
    }

    /// How often somebody went to another replica because the own one had ended.
    pub fn moved(&self) -> u64 {
        self.counts.moved.load(Ordering::Relaxed)
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
