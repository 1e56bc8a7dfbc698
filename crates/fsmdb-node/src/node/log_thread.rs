//! The thread that writes the log.
//!
//! # Invariants
//!
//! 1. Batches are written in order. All that wait are written before the last is answered, with one
//!    sync if any of them must be durable.
//! 2. A failed write is never tried again: the node stops.
//! 3. Nothing here takes long, except to write the log anew, which somebody has asked for. What
//!    reads or writes whole snapshots is done by other threads: votes wait for this one.

use std::sync::Arc;

use fsmdb::raft::{Batch, Entry, HardState, LogError, LogStore, SnapshotMeta};

use super::clock;
use super::inbox::Inbox;
use super::mail::Mail;
use super::snapshots::Work;
use crate::limits::LOG_WRITE_BYTES_MAX;
use crate::link::Responder;
use crate::metrics::Metrics;

/// What the log thread is asked for.
pub(super) enum LogJob {
    Write(Batch),
    Compact {
        index: u64,
        snapshot: SnapshotMeta,
    },
    /// Let nothing be left of what was compacted, for these.
    Scrub(Vec<Responder>),
}

/// The log thread.
pub(super) struct Writer<L, R> {
    pub(super) log: L,
    pub(super) jobs: Arc<Inbox<LogJob>>,
    pub(super) inbox: Arc<Inbox<Mail<R>>>,
    pub(super) background: Arc<Inbox<Work>>,
    pub(super) metrics: Arc<Metrics>,
}

/// Batches that become one write.
#[derive(Default)]
struct Gathered {
    entries: Vec<Entry>,
    bytes: usize,
    hard_state: Option<HardState>,
    is_synced: bool,
    /// The last batch in it.
    number: Option<u64>,
}

impl Gathered {
    /// Whether the batch goes on where this ends, so that both are one write.
    fn takes(&self, batch: &Batch) -> bool {
        let next = self.entries.last().map(|entry| entry.index() + 1);
        let follows = match (next, batch.entries.first()) {
            (Some(next), Some(first)) => first.index() == next,
            _ => true,
        };
        follows && batch.snapshot.is_none() && self.bytes < LOG_WRITE_BYTES_MAX
    }

    fn add(&mut self, batch: Batch) {
        let length = |entry: &Entry| entry.command().map_or(0, <[u8]>::len);
        self.bytes += batch.entries.iter().map(length).sum::<usize>();
        self.entries.extend(batch.entries);
        self.hard_state = batch.hard_state.or(self.hard_state);
        self.is_synced |= batch.must_sync;
        self.number = Some(batch.number);
    }
}

impl<L: LogStore, R: Send> Writer<L, R> {
    pub(super) fn run(mut self) {
        let jobs = Arc::clone(&self.jobs);
        let mut taken = Vec::new();
        while jobs.take(None, &mut taken) {
            if let Err(error) = self.carry_out(std::mem::take(&mut taken)) {
                // The raft thread has ended already, and nobody asks.
                let _ = self.inbox.post(Mail::Failed(error.into()));
                return;
            }
        }
    }

    fn carry_out(&mut self, jobs: Vec<LogJob>) -> Result<(), LogError> {
        let mut gathered = Gathered::default();
        // A sync at the end covers what was written before it, so only the last write is synced.
        let (mut owes_sync, mut last) = (false, None);
        for job in jobs {
            match job {
                LogJob::Write(mut batch) => {
                    if !gathered.takes(&batch) {
                        owes_sync |= gathered.is_synced;
                        self.write(&mut gathered, false)?;
                    }
                    if let Some((snapshot, hard_state)) = batch.snapshot.take() {
                        self.log.install_snapshot(&snapshot, hard_state)?;
                        // Stopping: the next start forgets them.
                        let _ = self.background.post(Work::Retain(snapshot.reference));
                        owes_sync = false;
                    }
                    last = Some(batch.number);
                    gathered.add(batch);
                }
                LogJob::Compact { index, snapshot } => {
                    let is_synced = gathered.is_synced | std::mem::take(&mut owes_sync);
                    self.write(&mut gathered, is_synced)?;
                    self.log.compact_to(index, &snapshot)?;
                    // Stopping: the next start forgets them.
                    let _ = self.background.post(Work::Retain(snapshot.reference));
                }
                LogJob::Scrub(askers) => {
                    let is_synced = gathered.is_synced | std::mem::take(&mut owes_sync);
                    self.write(&mut gathered, is_synced)?;
                    let scrubbed = self.log.scrub()?;
                    // Stopping: dropped, who asked learns that the answer is lost.
                    let _ = self.background.post(Work::Erase { scrubbed, askers });
                }
            }
        }
        let is_synced = gathered.is_synced || owes_sync;
        self.write(&mut gathered, is_synced)?;
        if let Some(number) = last {
            // The raft thread has ended already, and nobody asks.
            let _ = self.inbox.post(Mail::Persisted(number));
        }
        Ok(())
    }

    fn write(&mut self, gathered: &mut Gathered, is_synced: bool) -> Result<(), LogError> {
        let Gathered { entries, hard_state, number, .. } = std::mem::take(gathered);
        if number.is_none() {
            return Ok(());
        }
        let started = clock::now();
        self.log.append(&entries, hard_state, is_synced)?;
        if is_synced {
            self.metrics.sync_seconds.observe(clock::now() - started);
        }
        self.metrics.log_batch.observe(entries.len() as f64);
        Ok(())
    }
}
