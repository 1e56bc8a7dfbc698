//! Snapshot files as a node sees them, and the thread that writes and removes them; received ones
//! are taken by another, in `arrivals.rs`.
//!
//! # Invariants
//!
//! 1. What the thread was given is answered, unless the node has stopped.
//! 2. Files are forgotten only after the log has recorded a newer snapshot.
//! 3. Files are built and erased by one thread, in the order of the log: what was being built when
//!    the log recorded a newer snapshot is there before the erasure that looks for it. A file that
//!    arrives meanwhile is the store's to look after: see [`SnapshotStore::erase`].
//! 4. When the node stops, nothing here goes on for long: the store is told by
//!    [`SnapshotStore::cancel`].
//! 5. The changes that lead to a snapshot are written before it is told of: whoever waits for it is
//!    sent those. Without them its whole file is sent.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fsmdb::{Applied, LoadOptions, Snapshot};

use super::door;
use super::error::SnapshotStoreError;
use super::inbox::Inbox;
use super::mail::Mail;
use super::marks::Marks;
use super::request::Answer;
use crate::link::{Parcel, Responder};
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

    /// Writes what has changed from `base`, of which a file was built or installed before, to
    /// `snapshot`, whose file is that of `reference`: to be sent in its place to who holds the file
    /// of `base`. The one provided here writes nothing, and so do others when it is not worth it.
    ///
    /// # Errors
    ///
    /// The words of the store. The node goes on.
    fn build_changes(
        &self,
        base: &Snapshot,
        snapshot: &Snapshot,
        reference: &[u8],
    ) -> Result<(), SnapshotStoreError> {
        let _ = (base, snapshot, reference);
        Ok(())
    }

    /// What can be sent to a node that holds another file in the place of that of a reference, from
    /// the newest of these to the oldest. Must not wait for a disk. The one provided here has none.
    fn changes(&self, reference: &[u8]) -> Vec<Changes> {
        let _ = reference;
        Vec::new()
    }

    /// The entries of the snapshots whose files are here, to be told to who could send changes in
    /// the place of the file of a reference; [`adopt`](Self::adopt) is given them then. Must not
    /// wait for a disk. The one provided here names none.
    fn held(&self, reference: &[u8]) -> Vec<u64> {
        let _ = reference;
        Vec::new()
    }

    /// The file of a reference, to be sent.
    ///
    /// # Errors
    ///
    /// The words of the store, when the file is not there.
    fn path(&self, reference: &[u8]) -> Result<PathBuf, SnapshotStoreError>;

    /// Reads the file of a reference whole: it must be what the reference says. Asked for when a
    /// snapshot did not arrive, as one that is damaged never does, and before an erasure lets the
    /// log go that leads to it.
    ///
    /// # Errors
    ///
    /// The words of the store, when the file is another one, or not there. Another snapshot is
    /// built then. The one provided here takes every file for sound.
    fn check(&self, _reference: &[u8]) -> Result<(), SnapshotStoreError> {
        Ok(())
    }

    /// Takes a received file into the store, by renaming it, durably: the state at the entry `at`;
    /// or the file that received changes come to. Answers with this store's own reference to it.
    /// Called beside all others.
    ///
    /// # Errors
    ///
    /// The words of the store, when the reference is of another entry or the file is not what it
    /// says; the sender tries again. A file that is taken and is of another entry stops the node
    /// when it is installed.
    fn adopt(
        &self,
        at: Applied,
        reference: &[u8],
        file: &Path,
    ) -> Result<Vec<u8>, SnapshotStoreError>;

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

    /// Removes, durably, every file of a snapshot older than the recorded one, and whatever was
    /// received in part: they may hold what was erased. An older file that is being taken by
    /// [`adopt`](Self::adopt) at the same time is not taken, or is gone as well.
    ///
    /// # Errors
    ///
    /// The words of the store. The node goes on; the one provided here says that this store cannot.
    fn erase(&self) -> Result<(), SnapshotStoreError> {
        Err(SnapshotStoreError::new("this store of snapshots cannot erase"))
    }

    /// The node stops: what builds or takes a file ends soon, with an error, also what is called
    /// from here on. A node that starts later has a store of its own. The one provided here does
    /// nothing; the node then stops when such a call returns.
    fn cancel(&self) {}
}

/// What has changed from one snapshot to another.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Changes {
    /// The entry of the snapshot that they begin from.
    pub base: u64,
    /// What is sent.
    pub parcel: Parcel,
    /// How long it is.
    pub bytes: u64,
}

impl Changes {
    /// Changes since the snapshot at entry `base`.
    #[must_use]
    pub fn new(base: u64, parcel: Parcel, bytes: u64) -> Self {
        Self { base, parcel, bytes }
    }
}

/// What the background thread is asked for.
pub(super) enum Work {
    Build(Snapshot),
    Retain(Vec<u8>),
    Check(Vec<u8>),
    /// The log is scrubbed up to this entry, if it can be.
    Erase {
        scrubbed: Option<u64>,
        askers: Vec<Responder>,
    },
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
    marks: &Marks,
    metrics: &Metrics,
) {
    let mut taken = Vec::new();
    while work.take(None, &mut taken) {
        for work in taken.drain(..) {
            match work {
                Work::Build(snapshot) => {
                    metrics.snapshot_building.set(1);
                    let built = build(store, &snapshot, metrics);
                    if let Ok(built) = &built
                        && let Some(base) = marks.built(&snapshot)
                        && store.build_changes(&base, &snapshot, &built.reference).is_err()
                    {
                        metrics.snapshots_failed.inc();
                    }
                    metrics.snapshot_building.set(0);
                    if inbox.post(Mail::Built(built)).is_err() {
                        return;
                    }
                }
                Work::Retain(recorded) => {
                    // What could not be forgotten is forgotten with the next one.
                    if store.retain(&recorded).is_err() {
                        metrics.snapshots_failed.inc();
                    }
                }
                Work::Check(reference) => {
                    let is_sound = store.check(&reference).is_ok();
                    if !is_sound {
                        metrics.snapshots_failed.inc();
                    }
                    if inbox.post(Mail::Checked { reference, is_sound }).is_err() {
                        return;
                    }
                }
                Work::Erase { scrubbed, askers } => {
                    marks.erased(scrubbed.unwrap_or(0));
                    let answer = erase(store, scrubbed);
                    askers.into_iter().for_each(|asker| door::send(asker, &answer));
                }
            }
        }
    }
}

fn erase(store: &dyn SnapshotStore, scrubbed: Option<u64>) -> Answer {
    match (scrubbed, store.erase()) {
        (Some(index), Ok(())) => Answer::Erased { index },
        (None, _) => Answer::NotErased { reason: "this log cannot be scrubbed".to_owned() },
        (_, Err(error)) => Answer::NotErased { reason: error.reason },
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

#[cfg(test)]
mod tests {
    use super::*;

    type Stored<T> = Result<T, SnapshotStoreError>;

    /// A store that has no file, and may be one that can erase.
    struct Empty {
        erases: bool,
    }

    impl Empty {
        fn none<T>() -> Stored<T> {
            Err(SnapshotStoreError::new("no files here"))
        }
    }

    impl SnapshotStore for Empty {
        fn build(&self, _: &Snapshot) -> Stored<(Vec<u8>, u64)> {
            Self::none()
        }

        fn path(&self, _: &[u8]) -> Stored<PathBuf> {
            Self::none()
        }

        fn adopt(&self, _: Applied, _: &[u8], _: &Path) -> Stored<Vec<u8>> {
            Self::none()
        }

        fn open(&self, _: &[u8]) -> Stored<Box<dyn io::Read + Send>> {
            Self::none()
        }

        fn retain(&self, _: &[u8]) -> Stored<()> {
            Self::none()
        }

        fn erase(&self) -> Stored<()> {
            if self.erases { Ok(()) } else { Self::none() }
        }
    }

    #[test]
    fn nothing_is_called_erased_unless_the_log_and_the_store_have_done_it() {
        let erased = |scrubbed, erases| erase(&Empty { erases }, scrubbed);
        assert_eq!(erased(Some(7), true), Answer::Erased { index: 7 });
        assert!(matches!(erased(None, true), Answer::NotErased { .. }));
        let reason = "no files here".to_owned();
        assert_eq!(erased(Some(7), false), Answer::NotErased { reason });
    }
}
