//! What the log and whoever cleans up behind it share, and the cleaning.
//!
//! # Invariants
//!
//! 1. Once a write or sync has failed, raft-engine is neither called nor dropped again: closing its
//!    files would sync them, and a sync that is made after a failed one proves nothing. Files and
//!    locks, that of the directory too, stay open until the process ends.
//! 2. Entries are never read while files are purged.
//! 3. raft-engine reads entries on a thread that ends then. It keeps the last block that a thread
//!    has read, by the number of the file and the place in it, and takes it for that of any other
//!    log with such a file: another node's in this process, or this one's before it was opened
//!    again.

use std::fmt;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread;

use fsmdb::Applied;
use fsmdb::raft::LogError;
use raft_engine::Engine;

use super::durable::{self, failed};
use super::record::Evidence;
use super::{DataDir, StorageError, reference};

#[cfg(not(test))]
pub(super) use raft_engine::env::DefaultFileSystem as Disk;

#[cfg(test)]
pub(super) use super::tests::disk::FaultyDisk as Disk;

/// Takes away what nobody needs any more: files of the log whose entries are forgotten, and
/// snapshots that are older than those the log names.
///
/// Another thread than the one that appends calls it, now and then: it may take tens of
/// milliseconds, and appends go on meanwhile.
#[derive(Clone, Debug)]
pub struct Housekeeper {
    pub(super) shared: Arc<Shared>,
}

/// What a run of the [`Housekeeper`] has found and done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Swept {
    /// Bytes of the files of the log, counted as if each were full.
    pub log_bytes: u64,
    /// Snapshot files that were removed.
    pub snapshots_removed: usize,
}

impl Housekeeper {
    /// Cleans up once. Below [`LogOptions::purge_bytes`](super::LogOptions::purge_bytes) the files
    /// of the log are left alone.
    ///
    /// # Errors
    ///
    /// [`StorageError::Disk`] when a file cannot be removed: nothing is lost, try again later.
    /// [`StorageError::Log`] when the log could not move entries that are still needed; when a
    /// sync of them failed the log takes no write any more, and the node must stop.
    pub fn run(&self) -> Result<Swept, StorageError> {
        let _no_reads = self.shared.hold_reads();
        let log_bytes = self.shared.purge()?;
        let snapshots_removed = self.sweep_snapshots()?;
        Ok(Swept { log_bytes, snapshots_removed })
    }

    /// Cleans up once, and removes every file of `arriving`, the folder of snapshots that are being
    /// received: whoever sends one sends it again. All of it is durable on return.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn erase(&self, arriving: &Path) -> Result<(), StorageError> {
        self.run()?;
        durable::sync_folder(&self.shared.snapshots)?;
        if !arriving.is_dir() {
            return Ok(());
        }
        for entry in fs::read_dir(arriving).map_err(failed("list", arriving))? {
            let path = entry.map_err(failed("list", arriving))?.path();
            match fs::remove_file(&path) {
                // Taken, renamed or removed by whoever receives it.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                removed => removed.map_err(failed("remove", &path))?,
            }
        }
        durable::sync_folder(arriving)
    }

    /// Whether a snapshot at this entry is older than the one that the log names: nobody needs it.
    #[must_use]
    pub fn is_outdated(&self, index: u64) -> bool {
        index < self.shared.named().index
    }

    /// The index of the snapshot that the log names, and the entries of all whose files it needs.
    pub(crate) fn recorded(&self) -> (u64, Vec<Applied>) {
        let named = self.shared.named();
        let entries = named.names.iter().filter_map(|name| reference::parse_name(name));
        (named.index, entries.collect())
    }

    fn sweep_snapshots(&self) -> Result<usize, StorageError> {
        let folder = &self.shared.snapshots;
        let mut removed = 0;
        for entry in fs::read_dir(folder).map_err(failed("list", folder))? {
            let entry = entry.map_err(failed("list", folder))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(at) = reference::parse_name(&name) else { continue };
            // Asked for each, because the log may name another one meanwhile; it only ever names
            // what is newer than the one it names now, or that one.
            if self.shared.named().needs(at.index, &name) {
                continue;
            }
            fs::remove_file(entry.path()).map_err(failed("remove", &entry.path()))?;
            removed += 1;
        }
        Ok(removed)
    }
}

/// The snapshots that the log names.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// The index of the newest of them.
    pub(super) index: u64,
    pub(super) names: Vec<String>,
}

impl Named {
    /// Newer ones may be on their way into the log.
    fn needs(&self, index: u64, name: &str) -> bool {
        index >= self.index || self.names.iter().any(|named| named == name)
    }
}

/// A log on disk, and what is needed beside it.
pub(super) struct Shared {
    /// Nothing between the end of a log and the one that takes its place, and for ever when that
    /// failed.
    engine: RwLock<Option<Engine<Disk>>>,
    /// Why the log takes no write any more.
    failure: Mutex<Option<String>>,
    reading: Mutex<()>,
    named: Mutex<Named>,
    pub(super) snapshots: PathBuf,
    lock: Arc<File>,
    stamp: u64,
    /// Bytes of records since the last sync. What an open has read is durable.
    unsynced: AtomicU64,
}

impl Shared {
    pub(super) fn new(engine: Engine<Disk>, directory: &DataDir) -> Self {
        let (snapshots, lock) = (directory.snapshots_path(), directory.lock());
        Self::with(engine, snapshots, lock, directory.stamp())
    }

    /// A log for the same directory.
    pub(super) fn beside(&self, engine: Engine<Disk>) -> Self {
        Self::with(engine, self.snapshots.clone(), Arc::clone(&self.lock), self.stamp)
    }

    fn with(engine: Engine<Disk>, snapshots: PathBuf, lock: Arc<File>, stamp: u64) -> Self {
        Self {
            engine: RwLock::new(Some(engine)),
            failure: Mutex::default(),
            reading: Mutex::default(),
            named: Mutex::default(),
            snapshots,
            lock,
            stamp,
            unsynced: AtomicU64::new(0),
        }
    }

    /// What the next record, with so many bytes of entries, says of those before it. One thread
    /// writes at a time.
    pub(super) fn evidence(&self, entries_bytes: u64) -> Evidence {
        let unsynced = self.unsynced.load(Ordering::Relaxed);
        Evidence { stamp: self.stamp, unsynced, entries_bytes }
    }

    /// Until the next sync nothing that stands in a file is known to be durable.
    pub(super) fn vouch_for_nothing(&self) {
        self.unsynced.store(u64::MAX, Ordering::Relaxed);
    }

    /// Notes a record that was written.
    pub(super) fn written(&self, bytes: usize, is_synced: bool) {
        let unsynced = self.unsynced.load(Ordering::Relaxed).saturating_add(bytes as u64);
        self.unsynced.store(if is_synced { 0 } else { unsynced }, Ordering::Relaxed);
    }

    /// Notes why the log takes no write any more.
    pub(super) fn fail(&self, reason: &str) {
        self.failure().get_or_insert_with(|| reason.to_owned());
    }

    /// Puts another log in the place of this one, which is closed by `open`. Nobody writes or reads
    /// meanwhile. After an error the caller says that the log has failed.
    pub(super) fn replace(
        &self,
        open: impl FnOnce(Option<Engine<Disk>>) -> Result<Engine<Disk>, StorageError>,
    ) -> Result<(), StorageError> {
        let mut engine = self.engine.write().unwrap_or_else(PoisonError::into_inner);
        let old = engine.take();
        self.unsynced.store(0, Ordering::Relaxed);
        match catch_unwind(AssertUnwindSafe(|| open(old))) {
            Ok(opened) => *engine = Some(opened?),
            Err(panic) => return Err(LogError::Write { reason: words_of(&*panic) }.into()),
        }
        Ok(())
    }

    pub(super) fn hold_reads(&self) -> MutexGuard<'_, ()> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn named(&self) -> MutexGuard<'_, Named> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failure(&self) -> MutexGuard<'_, Option<String>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls raft-engine for a write. It answers a failed sync with a panic; here that is an error
    /// like any other, unless panics abort the process, and either way the node stops.
    pub(super) fn write<T>(
        &self,
        call: impl FnOnce(&Engine<Disk>) -> raft_engine::Result<T>,
    ) -> Result<T, LogError> {
        self.call(call, true)
    }

    /// Calls raft-engine for something that can fail without harm, as long as it does not panic.
    pub(super) fn read<T>(
        &self,
        call: impl FnOnce(&Engine<Disk>) -> raft_engine::Result<T>,
    ) -> Result<T, LogError> {
        self.call(call, false)
    }

    fn call<T>(
        &self,
        call: impl FnOnce(&Engine<Disk>) -> raft_engine::Result<T>,
        is_write: bool,
    ) -> Result<T, LogError> {
        if let Some(reason) = &*self.failure() {
            return Err(LogError::Write { reason: format!("it failed before: {reason}") });
        }
        let held = self.engine.read().unwrap_or_else(PoisonError::into_inner);
        let Some(engine) = &*held else {
            return Err(LogError::Write { reason: "the log is closed".to_owned() });
        };
        let (reason, is_fatal) = match catch_unwind(AssertUnwindSafe(|| call(engine))) {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => (reason_of(&error), is_write),
            Err(panic) => (words_of(&*panic), true),
        };
        if is_fatal {
            *self.failure() = Some(reason.clone());
        }
        Err(LogError::Write { reason })
    }

    /// Does work that reads entries, on a thread of its own, and waits for it.
    pub(super) fn apart<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, LogError> + Send,
    ) -> Result<T, LogError> {
        thread::scope(|scope| {
            let spawned = thread::Builder::new().name("fsmdb-log".into()).spawn_scoped(scope, work);
            let failed = |reason| Err(LogError::Write { reason });
            match spawned.map(thread::ScopedJoinHandle::join) {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(panic)) => failed(words_of(&*panic)),
                Err(error) => failed(format!("no thread to read it with: {error}")),
            }
        })
    }

    /// Takes away files of the log, and says how many bytes are left. What is still needed of them
    /// is read and written again.
    fn purge(&self) -> Result<u64, LogError> {
        self.apart(|| {
            self.read(|engine| {
                // It answers with the groups whose old entries are in the way. Compacting is
                // decided by the core; until it does, the files stay.
                engine.purge_expired_files()?;
                Ok(engine.get_used_size() as u64)
            })
        })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let engine = self.engine.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if self.failure().is_some() {
            // The lock beside its files: another log would find them locked, and not say why.
            std::mem::forget((engine, Arc::clone(&self.lock)));
            return;
        }
        // It closes two files, and panics when the sync of one fails; when that of both fails, the
        // process aborts. Whatever had to be durable is so already.
        drop(catch_unwind(AssertUnwindSafe(|| drop(engine))));
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failure = self.failure().clone();
        f.debug_struct("Shared").field("failure", &failure).finish_non_exhaustive()
    }
}

/// Why raft-engine could not; of a full disk it says no more than `nospace`.
fn reason_of(error: &raft_engine::Error) -> String {
    match error {
        raft_engine::Error::Io(source) if source.kind() == ErrorKind::StorageFull => {
            "no space left on its disk; make some before the next start".to_owned()
        }
        other => other.to_string(),
    }
}

/// What a panic said.
pub(super) fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "it panicked".to_owned())
}
