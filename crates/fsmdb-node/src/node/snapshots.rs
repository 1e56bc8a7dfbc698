//! Snapshot files as a node sees them, and the thread that writes them.
//!
//! # Invariants
//!
//! 1. What the thread was given is answered, unless the node has stopped.
//! 2. Files are forgotten only after the log has recorded a newer snapshot.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fsmdb::{Applied, LoadOptions, Snapshot};

use super::error::SnapshotStoreError;
use super::inbox::Inbox;
use super::mail::Mail;
use crate::metrics::Metrics;

/// Where a node keeps the snapshot files of its state.
///
/// A reference is this store's name for a file, at most a few hundred bytes; it stands in the log
/// and travels to other nodes, so it also says what the file must be, such as its size and hash.
pub trait SnapshotStore: Send + Sync + 'static {
    /// Writes `snapshot` to a file, durably, and answers with its reference and size.
    ///
    /// # Errors
    ///
    /// The words of the store. The node goes on; it tries again later.
    fn build(&self, snapshot: &Snapshot) -> Result<(Vec<u8>, u64), SnapshotStoreError>;

    /// The file of a reference, to be sent.
    ///
    /// # Errors
    ///
    /// The words of the store, when the file is not there.
    fn path(&self, reference: &[u8]) -> Result<PathBuf, SnapshotStoreError>;

    /// Takes a received file into the store, by renaming it, durably. Answers with this store's
    /// own reference to it.
    ///
    /// # Errors
    ///
    /// The words of the store, when the file is not what the reference says; the sender tries
    /// again.
    fn adopt(&self, reference: &[u8], file: &Path) -> Result<Vec<u8>, SnapshotStoreError>;

    /// Opens the file of a reference, to be installed.
    ///
    /// # Errors
    ///
    /// The words of the store. The node stops.
    fn open(&self, reference: &[u8]) -> Result<Box<dyn io::Read + Send>, SnapshotStoreError>;

    /// How its files are read: the key of those that are encrypted, for one.
    fn load_options(&self) -> LoadOptions<'_> {
        LoadOptions::new()
    }

    /// Forgets what nobody needs, now that the log has recorded this reference: not the file of
    /// it, nor newer ones.
    ///
    /// # Errors
    ///
    /// The words of the store. The node goes on.
    fn retain(&self, recorded: &[u8]) -> Result<(), SnapshotStoreError>;
}

/// What the background thread is asked for.
pub(super) enum Work {
    Build(Snapshot),
    Retain(Vec<u8>),
}

/// A snapshot that was built.
pub(super) struct Built {
    pub(super) at: Applied,
    pub(super) reference: Vec<u8>,
}

/// The background thread.
pub(super) fn run<R: Send>(
    store: &dyn SnapshotStore,
    work: &Inbox<Work>,
    inbox: &Arc<Inbox<Mail<R>>>,
    metrics: &Metrics,
) {
    let mut taken = Vec::new();
    while work.take(None, &mut taken) {
        for work in taken.drain(..) {
            match work {
                Work::Build(snapshot) => {
                    let built = Mail::Built(build(store, &snapshot, metrics));
                    if inbox.post(built).is_err() {
                        return;
                    }
                }
                Work::Retain(recorded) => {
                    // What could not be forgotten is forgotten with the next one.
                    if store.retain(&recorded).is_err() {
                        metrics.snapshots_failed.inc();
                    }
                }
            }
        }
    }
}

fn build(
    store: &dyn SnapshotStore,
    snapshot: &Snapshot,
    metrics: &Metrics,
) -> Result<Built, SnapshotStoreError> {
    let outcome = store.build(snapshot);
    match &outcome {
        Ok((_, bytes)) => {
            metrics.snapshots_built.inc();
            metrics.snapshot_bytes.inc_by(*bytes);
        }
        Err(_) => drop(metrics.snapshots_failed.inc()),
    }
    outcome.map(|(reference, _)| Built { at: snapshot.applied(), reference })
}
