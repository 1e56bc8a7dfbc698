//! One replica: the core, the state machine, the disk, and the work that waits for the two.
//!
//! # Invariants
//!
//! 1. The log does its work in order and the state machine its own in order; a crash takes what
//!    neither has done.
//! 2. What was answered as durable is remembered beside the disk, and a start is held to it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use fsmdb::offline::{self, Selection, Source};
use fsmdb::raft::{Batch, Committed, Core, HardState, LogStore, Recovered, SnapshotMeta};
use fsmdb::{Applied, LoadOptions, Machine, SaveOptions, Snapshot, SnapshotError};

use crate::audience::Audience;
use crate::clients::Request;
use crate::disk::{Chain, Disk};
use crate::limits::CHAIN_FILES_MAX;
use crate::mutant::Mutant;
use crate::random::Random;
use crate::state::Bank;
use crate::violation::{Check, Checked, Violation, ensure};

/// What the log has to do.
#[derive(Debug)]
pub(crate) enum LogWork {
    Batch(Batch),
    Compact {
        index: u64,
        snapshot: SnapshotMeta,
    },
    /// Nothing is to be left of the entries up to this one.
    Scrub {
        index: u64,
    },
}

/// What the state machine has to do.
#[derive(Debug)]
pub(crate) enum ApplyWork {
    Entries(Vec<Committed>),
    Install(SnapshotMeta),
}

/// A snapshot that was built in the background.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    pub(crate) at: Applied,
    pub(crate) chain: Chain,
    pub(crate) snapshot: Snapshot,
}

/// What was answered as durable.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Promise {
    hard_state: HardState,
    /// Term and index of the last entry.
    last: (u64, u64),
    /// Written, and durable with the next sync.
    unsynced: Option<HardState>,
}

impl Promise {
    /// A batch was answered.
    pub(crate) fn answered(&mut self, batch: &Batch) {
        self.unsynced = batch.hard_state.or(self.unsynced);
        if let Some((meta, beside)) = &batch.snapshot {
            // Entries that it contradicts go, although their terms may be later: nobody committed
            // them.
            self.last = (meta.term, meta.index);
            self.hard_state = *beside;
        }
        if batch.must_sync {
            self.hard_state = self.unsynced.take().unwrap_or(self.hard_state);
            if let Some(entry) = batch.entries.last() {
                self.last = (entry.term(), entry.index());
            }
        }
    }

    /// Whether what a replica starts from has it all.
    pub(crate) fn check(&self, id: u64, found: &Recovered) -> Checked {
        let last = found.entries.last().map(|entry| (entry.term(), entry.index()));
        let last = last.unwrap_or((found.truncated_term, found.truncated_index));
        let (was, is) = (self.hard_state, found.hard_state);
        let keeps_vote = is.term > was.term || was.vote == 0 || is.vote == was.vote;
        let holds =
            is.term >= was.term && is.commit >= was.commit && keeps_vote && last >= self.last;
        ensure(holds, Check::Durability, || {
            format!(
                "replica {id} starts with {is:?} and {last:?} after {was:?} and {:?}",
                self.last
            )
        })
    }
}

/// A replica.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: u64,
    /// The number of its starts.
    pub(crate) boot: u64,
    pub(crate) core: Option<Core>,
    pub(crate) machine: Machine<Bank>,
    pub(crate) disk: Disk,
    pub(crate) promise: Promise,
    pub(crate) log_work: VecDeque<(u64, LogWork)>,
    pub(crate) apply_work: VecDeque<ApplyWork>,
    /// For planted bugs: the batches that were answered before they were written.
    pub(crate) answered_early: BTreeSet<u64>,
    /// When the last work that was given to each will be done.
    pub(crate) log_free: u64,
    pub(crate) apply_free: u64,
    /// Who waits for each token, with the version that was current when it was asked.
    pub(crate) asked: BTreeMap<u64, (Request, Option<Snapshot>)>,
    /// The last snapshot that was built here, for an incremental one.
    pub(crate) base: Option<(Snapshot, Chain)>,
    pub(crate) files_built: u64,
    pub(crate) audience: Audience,
    /// The attempts to send a snapshot that are not answered, with what was sent.
    pub(crate) sending: BTreeMap<u64, Vec<u8>>,
    /// The last entry that is to be erased, and is not.
    pub(crate) erasure: Option<u64>,
    /// The last entry that anybody has asked this start to erase.
    pub(crate) erased_to: u64,
    /// Until when the whole process stands still.
    pub(crate) paused_until: u64,
    /// Whether it is known to have been removed.
    pub(crate) is_removed: bool,
    pub(crate) log_number: u64,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) clock: Arc<AtomicU64>,
}

impl Node {
    pub(crate) fn new(id: u64, disk: Disk, mutant: Option<Mutant>, clock: &Arc<AtomicU64>) -> Self {
        let machine = empty_machine(id, mutant, clock);
        let audience = Audience::new(machine.db(), mutant);
        Self {
            id,
            boot: 0,
            core: None,
            machine,
            disk,
            promise: Promise::default(),
            log_work: VecDeque::new(),
            answered_early: BTreeSet::new(),
            apply_work: VecDeque::new(),
            log_free: 0,
            apply_free: 0,
            asked: BTreeMap::new(),
            base: None,
            files_built: 0,
            audience,
            sending: BTreeMap::new(),
            erasure: None,
            erased_to: 0,
            paused_until: 0,
            is_removed: false,
            log_number: 0,
            mutant,
            clock: Arc::clone(clock),
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.core.is_some()
    }

    /// Whether the log is still to record files of this reference.
    pub(crate) fn waits_for_files(&self, reference: &[u8]) -> bool {
        self.log_work.iter().any(|(_, work)| match work {
            LogWork::Compact { snapshot, .. } => snapshot.reference == reference,
            LogWork::Scrub { .. } => false,
            LogWork::Batch(batch) => {
                batch.snapshot.as_ref().is_some_and(|(meta, _)| meta.reference == reference)
            }
        }) || self.disk.waits_for_files(reference)
    }

    /// Power loss: everything in memory is gone, and what the log was about to write is there in
    /// part. Says whether a file was damaged.
    pub(crate) fn crash(&mut self, random: &mut Random) -> Checked<bool> {
        self.core = None;
        self.promise.unsynced = None;
        self.asked.clear();
        self.apply_work.clear();
        self.answered_early.clear();
        self.sending.clear();
        (self.erasure, self.erased_to) = (None, 0);
        self.base = None;
        self.disk.begin_failing();
        let begun = random.position(self.log_work.len() + 1);
        for (_, work) in std::mem::take(&mut self.log_work).into_iter().take(begun) {
            self.write(work)?;
        }
        if self.mutant == Some(Mutant::ComeBackEmpty) && random.chance(10) {
            self.disk = Disk::empty(self.mutant);
        }
        Ok(self.disk.lose_power(random))
    }

    /// Gives one piece of work to the log.
    pub(crate) fn write(&mut self, work: LogWork) -> Checked<Option<Batch>> {
        let outcome = match &work {
            LogWork::Compact { index, snapshot } => self.disk.compact_to(*index, snapshot),
            LogWork::Scrub { index } => {
                self.erase(*index)?;
                Ok(())
            }
            LogWork::Batch(batch) => {
                let snapshot = batch.snapshot.as_ref();
                let installed = snapshot.map_or(Ok(()), |(meta, hard_state)| {
                    self.disk.install_snapshot(meta, *hard_state)
                });
                installed.and_then(|()| {
                    self.disk.append(&batch.entries, batch.hard_state, batch.must_sync)
                })
            }
        };
        outcome.map_err(|error| {
            Violation::new(Check::Stopped, format!("log of replica {}: {error}", self.id))
        })?;
        Ok(match work {
            LogWork::Batch(batch) => Some(batch),
            LogWork::Compact { .. } | LogWork::Scrub { .. } => None,
        })
    }

    /// Rebuilds the state machine from the newest snapshot that can be read. Answers the log to
    /// start from, and whether an older snapshot had to do.
    pub(crate) fn recover(&mut self, random: &mut Random) -> Checked<(Recovered, bool)> {
        let failed = |text: String| Violation::new(Check::Start, text);
        let found = self.disk.load().map_err(|error| failed(error.to_string()))?;
        let mut recovered = found;
        self.machine = empty_machine(self.id, self.mutant, &self.clock);
        if recovered.snapshot.reference.is_empty() {
            let SnapshotMeta { index, term, .. } = recovered.snapshot;
            if index > 0 {
                let skipped = self.machine.skip(Applied { index, term });
                skipped.map_err(|error| failed(error.to_string()))?;
            }
            return Ok((recovered, false));
        }
        let mut reasons = String::new();
        for (meta, chain) in self.disk.recorded() {
            match self.load(&chain, random) {
                Ok(()) if self.mutant == Some(Mutant::BelieveTornFile) && !reasons.is_empty() => {
                    self.pretend(recovered.snapshot.index, meta.term);
                    return Ok((recovered, true));
                }
                Ok(()) => {
                    let is_older = meta != recovered.snapshot;
                    self.disk.goes_on_from(meta.index);
                    recovered.snapshot = meta;
                    return Ok((recovered, is_older));
                }
                Err(reason) => reasons = reason,
            }
            self.machine = empty_machine(self.id, self.mutant, &self.clock);
        }
        Err(failed(format!("replica {} has no snapshot that can be read: {reasons}", self.id)))
    }

    /// For a planted bug: counts entries as applied that were not.
    fn pretend(&self, index: u64, term: u64) {
        for index in self.machine.applied().index + 1..=index {
            // It fails when the term goes back, and the checks see that too.
            let _ = self.machine.skip(Applied { index, term });
        }
    }

    /// Loads a chain at once, or link after link.
    fn load(&self, chain: &Chain, random: &mut Random) -> Result<(), String> {
        let leaves_out = self.mutant == Some(Mutant::ChainWithoutLastLink) && chain.len() > 1;
        let links = &chain[..chain.len() - usize::from(leaves_out)];
        if random.chance(50) {
            let sources = links.iter().map(Vec::as_slice);
            let options = LoadOptions::new().threads(1);
            let loaded = self.machine.install_chain(sources, options);
            return loaded.map(drop).map_err(|error| error.to_string());
        }
        let (whole, links) = links.split_first().ok_or("an empty chain")?;
        self.machine.install(whole.as_slice()).map_err(|error| error.to_string())?;
        for link in links {
            let options = LoadOptions::new().threads(1);
            let loaded = self.machine.install_incremental(link.as_slice(), options);
            loaded.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Replaces the state by a received snapshot.
    pub(crate) fn install(&mut self, meta: &SnapshotMeta) -> Checked {
        let stopped = |text: String| Violation::new(Check::Stopped, text);
        let chain = self.disk.chain(&meta.reference).ok_or_else(|| {
            stopped(format!("replica {} has no data of snapshot {}", self.id, meta.index))
        })?;
        if self.mutant == Some(Mutant::WatchersLeftBehind) {
            self.machine = empty_machine(self.id, self.mutant, &self.clock);
        }
        let sources = chain.iter().map(Vec::as_slice);
        let options = LoadOptions::new().threads(1);
        let installed = self.machine.install_chain(sources, options);
        installed.map_err(|error| {
            stopped(format!("replica {} cannot install {}: {error}", self.id, meta.index))
        })?;
        Ok(())
    }

    /// Writes the state as files: a whole one, or an incremental one behind those of the last time.
    pub(crate) fn build(&mut self, random: &mut Random) -> Checked<Built> {
        let stopped = |text: String| Violation::new(Check::Stopped, text);
        let snapshot = self.machine.read();
        let mut file = Vec::new();
        let options = || SaveOptions::new().threads(1);
        let forgotten = self.forgotten_table();
        let base = self.base.take().filter(|(base, chain)| {
            chain.len() < CHAIN_FILES_MAX
                && base.revision() < snapshot.revision()
                && forgotten.is_none()
        });
        let mut chain = Vec::new();
        let saved = match base.filter(|_| random.chance(60)) {
            Some((base, links)) => {
                match snapshot.save_since(&base, &mut file, options()) {
                    // What was installed since is on a line of its own.
                    Err(SnapshotError::NoBase { .. }) => snapshot.save_with(&mut file, options()),
                    saved => {
                        chain = links.to_vec();
                        saved
                    }
                }
            }
            None => snapshot.save_with(&mut file, options()),
        };
        saved.map_err(|error| stopped(format!("snapshot of replica {}: {error}", self.id)))?;
        if let Some(table) = forgotten {
            file = without_rows_of(&file, table);
        }
        chain.push(file);
        Ok(Built { at: snapshot.applied(), chain: chain.into(), snapshot })
    }

    /// For planted bugs: the table whose rows a snapshot or a restore forgets.
    fn forgotten_table(&self) -> Option<&'static str> {
        match self.mutant {
            Some(Mutant::SessionsNotInSnapshot) => Some("sessions"),
            Some(Mutant::RestoreForgetsTable) => Some("claims"),
            _ => None,
        }
    }
}

pub(crate) fn empty_machine(
    id: u64,
    mutant: Option<Mutant>,
    clock: &Arc<AtomicU64>,
) -> Machine<Bank> {
    let db = Bank::builder().build().expect("the schema is sound");
    Machine::new(db, Bank::new(mutant, id, clock)).expect("nobody has the database yet")
}

/// For planted bugs: the file as if a table had no rows.
fn without_rows_of(file: &[u8], table: &str) -> Vec<u8> {
    let selection = Selection::new().rows(|head, _| head.name != table);
    let mut part = Vec::new();
    let options = SaveOptions::new().threads(1);
    offline::filter(&Source::bytes(file), &mut part, &selection, options)
        .expect("what was saved can be read");
    part
}
