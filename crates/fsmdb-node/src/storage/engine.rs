//! The log on disk: raft-engine behind [`LogStore`].
//!
//! # Invariants
//!
//! 1. Each method that writes, but `scrub`, is one record of raft-engine, with one checksum: after
//!    a crash all of it is there or none of it. A scrub writes another log, of many records, which
//!    one rename puts in the place of this one.
//! 2. Nothing is given to raft-engine that it would answer with a panic: order and place of every
//!    entry are checked before.
//! 3. A log is handed out only after every live entry was read: raft-engine checks an entry when it
//!    is read, and finds a flipped bit no earlier.
//! 4. What raft-engine has besides what the state names (entries that were forgotten and come back,
//!    because the file that said so was purged) is never shown.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fsmdb::raft::{Entry, HardState, LogError, LogStore, Membership, Recovered, SnapshotMeta};
use raft_engine::{Command, Config, Engine, ReadableSize, RecoveryMode};

use super::draft::Draft;
use super::durable::{self, failed};
use super::housekeeping::{Disk, Housekeeper, Shared, words_of};
use super::record::{
    GROUP, PREVIOUS, SNAPSHOT, STATE, State, StoredEntry, Terms, decode_entry, decode_snapshot,
};
use super::{DataDir, SnapshotReference, StorageError, examining, scrubbing};
use crate::limits::{LOG_FILE_BYTES, LOG_PREFILL_BYTES, LOG_PURGE_BYTES, LOG_RECOVERY_THREADS};

/// How much disk a log takes. The default is for a node that has a disk to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// See [`LOG_FILE_BYTES`].
    pub file_bytes: u64,
    /// See [`LOG_PURGE_BYTES`]; never below `file_bytes`.
    pub purge_bytes: u64,
    /// See [`LOG_PREFILL_BYTES`]; below `file_bytes` nothing is written ahead.
    pub prefill_bytes: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            file_bytes: LOG_FILE_BYTES,
            purge_bytes: LOG_PURGE_BYTES,
            prefill_bytes: LOG_PREFILL_BYTES,
        }
    }
}

impl LogOptions {
    fn to_engine(self, folder: &Path) -> Config {
        Config {
            dir: folder.to_string_lossy().into_owned(),
            recovery_mode: RecoveryMode::TolerateTailCorruption,
            recovery_threads: LOG_RECOVERY_THREADS,
            batch_compression_threshold: ReadableSize(0),
            target_file_size: ReadableSize(self.file_bytes),
            purge_threshold: ReadableSize(self.purge_bytes.max(self.file_bytes)),
            enable_log_recycle: true,
            prefill_for_recycle: self.prefill_bytes > 0,
            prefill_limit: (self.prefill_bytes > 0).then_some(ReadableSize(self.prefill_bytes)),
            ..Config::default()
        }
    }
}

/// The durable log of a node. It can be moved to the thread that writes.
///
/// A log whose write or sync has failed answers every later call with that failure, writes nothing
/// and is never closed: the process must end, and start again. raft-engine answers a failed sync,
/// and a failed sync of a new file's folder, with a panic; it is caught here, except where panics
/// abort the process, which does the same thing sooner. A disk that fails only when a sound log is
/// dropped can abort the process too: raft-engine then panics twice.
///
/// ```
/// use fsmdb::raft::{HardState, LogStore, Membership};
/// use fsmdb_node::storage::{DataDir, EngineLog, Identity, LogOptions};
/// use slog::{Discard, Logger, o};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("node-1");
/// let identity = Identity { cluster: 7, node: 1 };
/// let mut directory = DataDir::open(&path, identity, &Logger::root(Discard, o!()))?;
/// let options = LogOptions { prefill_bytes: 0, ..LogOptions::default() };
/// let mut log = EngineLog::open(&mut directory, options)?;
/// log.found(Membership::of_voters([1, 2, 3]))?;
/// log.append(&[], Some(HardState { term: 2, vote: 1, commit: 1 }), true)?;
/// assert_eq!(log.load()?.hard_state.vote, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct EngineLog {
    pub(super) shared: Arc<Shared>,
    node: u64,
    state: State,
    terms: Terms,
    pub(super) snapshot: SnapshotMeta,
    pub(super) previous: Option<SnapshotMeta>,
    /// What the open has read, until somebody takes it.
    pub(super) recovered: Option<Recovered>,
    pub(super) folder: PathBuf,
    pub(super) disk: Arc<Disk>,
    pub(super) options: LogOptions,
}

/// Everything that is read at an open.
pub(super) struct Loaded {
    pub(super) recovered: Recovered,
    pub(super) state: State,
    terms: Terms,
    previous: Option<SnapshotMeta>,
}

impl EngineLog {
    /// Opens the log of a node, begins one if there never was any, and reads it whole: O(bytes of
    /// its files). What a crash has torn at the end is cut off: records that were not synced. What
    /// is left is durable on return.
    ///
    /// # Errors
    ///
    /// [`StorageError::BrokenLog`], with file and byte, when a file is damaged elsewhere than at
    /// the end of the last, or there where a later record says that it was durable;
    /// [`StorageError::LogGone`] when there was a log and is none; [`LogError::Corrupt`] with the
    /// index of the first entry that is damaged or missing, and [`LogError::Lost`] when the log
    /// ends before what it says is committed, both in [`StorageError::Log`];
    /// [`StorageError::Disk`].
    pub fn open(directory: &mut DataDir, options: LogOptions) -> Result<Self, StorageError> {
        #[cfg(not(test))]
        let disk = Disk;
        #[cfg(test)]
        let disk = Disk::default();
        Self::open_on(Arc::new(disk), directory, options)
    }

    pub(super) fn open_on(
        disk: Arc<Disk>,
        directory: &mut DataDir,
        options: LogOptions,
    ) -> Result<Self, StorageError> {
        let folder = directory.log_path();
        scrubbing::settle(&folder)?;
        durable::create_folder(&folder)?;
        let is_begun_anew =
            examining::examine(&disk, &folder, directory.stamp(), directory.logger())?;
        let engine = open_engine(Arc::clone(&disk), options, &folder)?;
        let shared = Shared::new(engine, directory);
        if is_begun_anew {
            shared.vouch_for_nothing();
        }
        let begun = shared.read(|engine| Ok(engine.get(GROUP, STATE).is_some()))?;
        if !begun {
            if directory.has_log() {
                return Err(StorageError::LogGone { path: folder });
            }
            if shared.read(|engine| Ok(engine.last_index(GROUP)))?.is_some() {
                let reason = "entries without a state".to_owned();
                return Err(StorageError::BrokenLog { path: folder, reason });
            }
            Draft::default().write(&shared, &State::default(), true)?;
        }
        if !directory.has_log() {
            directory.begin_log()?;
        }
        let node = directory.identity().node;
        let Loaded { recovered, state, terms, previous } = load(&shared)?;
        forget_again(&shared, &state)?;
        let snapshot = recovered.snapshot.clone();
        let (shared, recovered) = (Arc::new(shared), Some(recovered));
        let log = Self {
            shared,
            node,
            state,
            terms,
            snapshot,
            previous,
            recovered,
            folder,
            disk,
            options,
        };
        log.name_snapshots();
        Ok(log)
    }

    /// Whether nothing was ever written: a node that is to found a group, or waits to be joined.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.state == State::default() && self.snapshot.index == 0
    }

    /// Writes what a founding member starts from, durably. Every founding member does so, with the
    /// same members, before its first start; one that joins later starts empty.
    ///
    /// # Errors
    ///
    /// [`StorageError::AlreadyFounded`] when there is something in the log,
    /// [`StorageError::Membership`] when this node is not among the members, or they cannot be.
    pub fn found(&mut self, membership: Membership) -> Result<(), StorageError> {
        let node = self.node;
        if !self.is_empty() {
            return Err(StorageError::AlreadyFounded { node, last: self.state.last_index });
        }
        let known = if membership.contains(node) { Ok(()) } else { Err("it is no member".into()) };
        let checked = known.and_then(|()| membership.check());
        checked.map_err(|reason| StorageError::Membership { node, reason })?;
        let Recovered { hard_state, snapshot, truncated_index, truncated_term, .. } =
            Recovered::founding(membership);
        let state = State { hard_state, truncated_index, truncated_term, last_index: 1 };
        let mut draft = Draft::default();
        draft.snapshot(SNAPSHOT, &snapshot)?;
        draft.write(&self.shared, &state, true)?;
        (self.state, self.snapshot, self.recovered) = (state, snapshot, None);
        Ok(())
    }

    /// Writes several batches, in order, as one record: cheaper than one call for each, and as
    /// atomic. What a thread does that found several waiting.
    ///
    /// # Errors
    ///
    /// As [`append`](LogStore::append); then none of them is written.
    pub fn append_all(
        &mut self,
        batches: &[(&[Entry], Option<HardState>)],
        sync: bool,
    ) -> Result<(), LogError> {
        let mut state = self.state;
        let mut draft = Draft::default();
        let mut terms = Vec::new();
        for &(entries, hard_state) in batches {
            for (at, entry) in entries.iter().enumerate() {
                let is_first = at == 0;
                let (first, last) = (state.truncated_index + 1, state.last_index);
                let index = entry.index();
                let fits =
                    if is_first { (first..=last + 1).contains(&index) } else { index == last + 1 };
                if !fits {
                    return Err(LogError::OutOfOrder { index, first, last });
                }
                state.last_index = index;
                terms.push((index, entry.term()));
            }
            draft.entries(entries)?;
            state.hard_state = hard_state.unwrap_or(state.hard_state);
        }
        draft.write(&self.shared, &state, sync)?;
        for (index, term) in terms {
            self.terms.push(index, term);
        }
        (self.state, self.recovered) = (state, None);
        Ok(())
    }

    /// What takes away files that nobody needs any more, for another thread.
    #[must_use]
    pub fn housekeeper(&self) -> Housekeeper {
        Housekeeper { shared: Arc::clone(&self.shared) }
    }

    /// The snapshot before the one that the log names.
    pub(super) fn previous(&self) -> Option<&SnapshotMeta> {
        self.previous.as_ref()
    }

    /// Goes on from the snapshot before, because the one that the log names is damaged. Nothing is
    /// written: until another one is recorded, each start finds the same.
    pub(super) fn fall_back(&mut self) {
        if let Some(previous) = self.previous.take() {
            self.snapshot = previous;
            self.name_snapshots();
        }
    }

    pub(super) fn name_snapshots(&self) {
        let metas = [Some(&self.snapshot), self.previous.as_ref()];
        let references = metas.into_iter().flatten();
        let parsed = references.filter_map(|meta| SnapshotReference::parse(&meta.reference).ok());
        let mut named = self.shared.named();
        named.names = parsed.map(|reference| reference.name()).collect();
        named.index = self.snapshot.index;
    }

    /// Whether the file that a snapshot refers to is there, as long as it should be.
    fn require_data(&self, snapshot: &SnapshotMeta) -> Result<(), LogError> {
        let found = SnapshotReference::parse(&snapshot.reference).is_ok_and(|reference| {
            let path = self.shared.snapshots.join(reference.name());
            let is_whole = path.metadata().is_ok_and(|found| found.len() == reference.bytes);
            is_whole && (reference.index, reference.term) == (snapshot.index, snapshot.term)
        });
        if found { Ok(()) } else { Err(LogError::MissingSnapshot { index: snapshot.index }) }
    }
}

impl fmt::Debug for EngineLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("EngineLog");
        shown.field("folder", &self.folder).field("state", &self.state);
        shown.field("snapshot", &self.snapshot.index).finish_non_exhaustive()
    }
}

impl LogStore for EngineLog {
    /// What the open has read; read again when something was written since.
    fn load(&mut self) -> Result<Recovered, LogError> {
        match self.recovered.take() {
            Some(recovered) => Ok(recovered),
            None => load(&self.shared).map(|loaded| loaded.recovered),
        }
    }

    fn append(
        &mut self,
        entries: &[Entry],
        hard_state: Option<HardState>,
        sync: bool,
    ) -> Result<(), LogError> {
        self.append_all(&[(entries, hard_state)], sync)
    }

    fn install_snapshot(
        &mut self,
        snapshot: &SnapshotMeta,
        hard_state: HardState,
    ) -> Result<(), LogError> {
        self.require_data(snapshot)?;
        let SnapshotMeta { index, term, .. } = *snapshot;
        let state =
            State { hard_state, truncated_index: index, truncated_term: term, last_index: index };
        let mut draft = Draft::default();
        draft.command(Command::Clean);
        draft.snapshot(SNAPSHOT, snapshot)?;
        draft.write(&self.shared, &state, true)?;
        self.terms = Terms::default();
        // The one before is no way back: the entries that lead from there to here are forgotten.
        (self.state, self.snapshot, self.previous) = (state, snapshot.clone(), None);
        self.recovered = None;
        self.name_snapshots();
        Ok(())
    }

    fn compact_to(&mut self, index: u64, snapshot: &SnapshotMeta) -> Result<(), LogError> {
        self.require_data(snapshot)?;
        let State { truncated_index, last_index, .. } = self.state;
        if index > last_index || index > snapshot.index {
            let (first, last) = (truncated_index + 1, last_index);
            return Err(LogError::OutOfOrder { index, first, last });
        }
        let mut state = self.state;
        let mut draft = Draft::default();
        if index > truncated_index {
            state.truncated_index = index;
            state.truncated_term = self.terms.get(index).unwrap_or(state.truncated_term);
            draft.command(Command::Compact { index: index + 1 });
        }
        let mut previous = self.previous.clone();
        if self.snapshot.index > 0 && self.snapshot.index < snapshot.index {
            draft.snapshot(PREVIOUS, &self.snapshot)?;
            previous = Some(self.snapshot.clone());
        }
        draft.snapshot(SNAPSHOT, snapshot)?;
        draft.write(&self.shared, &state, true)?;
        self.terms.forget(state.truncated_index);
        (self.state, self.snapshot, self.previous) = (state, snapshot.clone(), previous);
        self.recovered = None;
        self.name_snapshots();
        Ok(())
    }

    /// Writes the log anew: O(bytes of what is alive).
    fn scrub(&mut self) -> Result<Option<u64>, LogError> {
        self.rewrite()?;
        Ok(Some(self.state.truncated_index))
    }
}

/// Opens raft-engine in a folder that is there, or begins a log in it.
pub(super) fn open_engine(
    disk: Arc<Disk>,
    options: LogOptions,
    folder: &Path,
) -> Result<Engine<Disk>, StorageError> {
    let config = options.to_engine(folder);
    let opened = catch_unwind(AssertUnwindSafe(|| Engine::open_with_file_system(config, disk)));
    let broken = |reason| StorageError::BrokenLog { path: folder.to_owned(), reason };
    let engine = match opened {
        Ok(Ok(engine)) => engine,
        Ok(Err(raft_engine::Error::Io(source))) => return Err(failed("open", folder)(source)),
        Ok(Err(error)) => return Err(broken(error.to_string())),
        Err(panic) => return Err(broken(words_of(&*panic))),
    };
    // It syncs the folder when it begins another file, and not when it begins the first.
    durable::sync_folder(folder)?;
    Ok(engine)
}

fn load(shared: &Shared) -> Result<Loaded, LogError> {
    let _no_purge = shared.hold_reads();
    shared.apart(|| read(shared))
}

pub(super) fn read(shared: &Shared) -> Result<Loaded, LogError> {
    let value = |name| shared.read(|engine| Ok(engine.get(GROUP, name)));
    let state = State::decode(&value(STATE)?.unwrap_or_default())?;
    let snapshot = value(SNAPSHOT)?.map(|bytes| decode_snapshot(&bytes)).transpose()?;
    let previous = value(PREVIOUS)?.map(|bytes| decode_snapshot(&bytes)).transpose()?;
    let snapshot = snapshot.unwrap_or_default();
    let State { hard_state, truncated_index, truncated_term, last_index } = state;
    let corrupt = |index, reason: &str| LogError::Corrupt { index, reason: reason.to_owned() };
    let commit = hard_state.commit.max(snapshot.index);
    if commit > last_index {
        return Err(LogError::Lost { commit, last: last_index });
    }
    if snapshot.index < truncated_index || last_index < truncated_index {
        return Err(corrupt(snapshot.index + 1, "entries after the snapshot are missing"));
    }
    if shared.read(|engine| Ok(engine.last_index(GROUP)))?.is_some_and(|last| last > last_index) {
        return Err(corrupt(last_index + 1, "there are entries after the last"));
    }
    let mut terms = Terms::default();
    let mut entries = Vec::new();
    for index in truncated_index + 1..=last_index {
        let read = shared.read(|engine| Ok(engine.get_entry::<StoredEntry>(GROUP, index)))?;
        let message = read.map_err(|error| corrupt(index, &error.to_string()))?;
        let message = message.ok_or_else(|| corrupt(index, "it is missing"))?;
        let entry = decode_entry(index, &message)?;
        terms.push(index, entry.term());
        entries.push(entry);
    }
    let recovered = Recovered { hard_state, snapshot, truncated_index, truncated_term, entries };
    Ok(Loaded { recovered, state, terms, previous })
}

/// Forgets what was forgotten before and has come back: the next entry would leave a hole behind
/// it, which raft-engine does not take.
fn forget_again(shared: &Shared, state: &State) -> Result<(), LogError> {
    let first = shared.read(|engine| Ok(engine.first_index(GROUP)))?;
    if first.is_none_or(|first| first > state.truncated_index) {
        return Ok(());
    }
    let mut draft = Draft::default();
    draft.command(Command::Compact { index: state.truncated_index + 1 });
    draft.write(shared, state, true)
}
