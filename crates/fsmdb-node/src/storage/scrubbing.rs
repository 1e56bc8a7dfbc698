//! The log written anew, so that nothing is left of what it has forgotten.
//!
//! raft-engine marks entries as forgotten. Their bytes stay in the file that it writes, in files
//! that it has not purged, and in purged ones that it keeps to write over. No call of it empties
//! them. So what is alive is copied into a log in a fresh folder, which takes the place of the old
//! one; the old files are removed.
//!
//! ```text
//! log.fresh.partial    being written; removed by the next open
//! log.fresh            whole and durable: this is the log now, the next open puts it in its place
//! ```
//!
//! # Invariants
//!
//! 1. One rename decides which log is the node's: before it nothing has changed, after it the old
//!    one is never written or read again.
//! 2. Any failure is one of the log: it takes no write any more, and the node stops.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use fsmdb::raft::{Entry, LogError, SnapshotMeta};

use super::draft::Draft;
use super::durable::{self, PARTIAL, failed};
use super::engine::{EngineLog, Loaded, open_engine, read};
use super::housekeeping::Shared;
use super::record::{SNAPSHOT, State};
use super::{LogOptions, StorageError};
use crate::limits::LOG_WRITE_BYTES_MAX;

const FRESH: &str = "fresh";

/// Ends what a crash has interrupted: puts a whole fresh log in its place, removes a partial one.
pub(super) fn settle(folder: &Path) -> Result<(), StorageError> {
    let fresh = folder.with_added_extension(FRESH);
    remove_folder(&partial(&fresh))?;
    if fresh.is_dir() {
        remove_folder(folder)?;
        durable::rename(&fresh, folder)?;
    }
    Ok(())
}

impl EngineLog {
    /// Puts a log that holds what is alive in the place of this one. O(bytes of that), and what an
    /// open of it costs; the log takes no other call meanwhile.
    pub(super) fn rewrite(&mut self) -> Result<(), LogError> {
        let shared = Arc::clone(&self.shared);
        let _no_purge = shared.hold_reads();
        let loaded = shared.apart(|| read(&shared))?;
        let written = self.write_fresh(&loaded).and_then(|()| {
            shared.replace(|old| {
                drop(old);
                settle(&self.folder)?;
                open_engine(Arc::clone(&self.disk), self.reopened(), &self.folder)
            })
        });
        if let Err(error) = written {
            let reason = error.to_string();
            shared.fail(&reason);
            return Err(LogError::Write { reason });
        }
        (self.previous, self.recovered) = (None, None);
        self.name_snapshots();
        Ok(())
    }

    /// The next start writes zeros ahead; a log that works does not wait for them.
    fn reopened(&self) -> LogOptions {
        LogOptions { prefill_bytes: 0, ..self.options }
    }

    fn write_fresh(&self, loaded: &Loaded) -> Result<(), StorageError> {
        let fresh = self.folder.with_added_extension(FRESH);
        let folder = partial(&fresh);
        remove_folder(&folder)?;
        durable::create_folder(&folder)?;
        let engine = open_engine(Arc::clone(&self.disk), self.reopened(), &folder)?;
        let shared = self.shared.beside(engine);
        fill(&shared, &self.snapshot, loaded)?;
        drop(shared);
        durable::sync_folder(&folder)?;
        durable::rename(&folder, &fresh)
    }
}

/// Writes what is alive, in parts of which each is no larger than what is written at once; the last
/// one is synced, and whoever reads the log finds it whole then.
///
/// The snapshot is the one that the node goes on from: after a start that found the newest damaged,
/// what was read names that one still.
fn fill(shared: &Shared, snapshot: &SnapshotMeta, loaded: &Loaded) -> Result<(), LogError> {
    let entries = &loaded.recovered.entries;
    let mut state = State { last_index: loaded.state.truncated_index, ..loaded.state };
    let mut draft = Draft::default();
    if snapshot.index > 0 {
        draft.snapshot(SNAPSHOT, snapshot)?;
    }
    draft.write(shared, &state, entries.is_empty())?;
    let mut rest = &entries[..];
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            bytes += entry.command().map_or(0, <[u8]>::len);
            bytes <= LOG_WRITE_BYTES_MAX
        };
        let count = rest.iter().take_while(fits).count().max(1);
        let (part, after) = rest.split_at(count);
        let mut draft = Draft::default();
        draft.entries(part)?;
        state.last_index += part.len() as u64;
        draft.write(shared, &state, after.is_empty())?;
        rest = after;
    }
    Ok(())
}

fn partial(fresh: &Path) -> std::path::PathBuf {
    fresh.with_added_extension(PARTIAL.trim_start_matches('.'))
}

fn remove_folder(folder: &Path) -> Result<(), StorageError> {
    if folder.is_dir() {
        fs::remove_dir_all(folder).map_err(failed("remove", folder))?;
        durable::sync_folder(folder.parent().unwrap_or(Path::new(".")))?;
    }
    Ok(())
}
