//! Snapshot files of a node: built, received, kept.
//!
//! Files of changes alone are named `incr-<term>-<from>-<to>` beside them (`links.rs`); nothing
//! here takes such a name for a whole snapshot.
//!
//! # Invariants
//!
//! 1. Under the name of a snapshot stands a file that was verified from its first byte to its last,
//!    and that holds the state at the entry in its name.
//! 2. What is not verified yet has a name that ends in `.partial`; the next open of the directory
//!    removes it.
//! 3. The log names a file only after it is durable under its name.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use fsmdb::{Applied, EncryptionKey, SaveOptions, Snapshot, SnapshotError, inspect_with};

use super::durable::{self, PARTIAL, failed};
use super::parcel::{self, Head};
use super::{SnapshotReference, StorageError, reference};
use crate::limits::SNAPSHOT_FILE_BYTES_MAX;

/// Bytes that are read from a file at once.
const READ_BYTES: usize = 128 * 1024;

/// A snapshot file that was built; what [`Event::SnapshotBuilt`] wants.
///
/// [`Event::SnapshotBuilt`]: fsmdb::raft::Event::SnapshotBuilt
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BuiltSnapshot {
    /// The last entry it holds.
    pub at: Applied,
    /// What refers to it, for the log and for messages.
    pub reference: Vec<u8>,
}

/// The snapshot files of a node, from [`DataDir::snapshots`](super::DataDir::snapshots). Clones
/// share one folder.
///
/// ```
/// use fsmdb::{Applied, Db, Fsm, Machine, SaveOptions, Table, WriteTxn};
/// # use fsmdb_node::storage::{DataDir, Identity};
/// # use serde::{Deserialize, Serialize};
/// # use slog::{Discard, Logger, o};
/// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
/// # #[table(name = "jobs")]
/// # struct Job { #[key] id: u64 }
/// # struct Jobs;
/// # impl Fsm for Jobs {
/// #     type Command = Job;
/// #     type Reply = Result<(), fsmdb::Error>;
/// #     fn apply(&self, txn: &mut WriteTxn<'_>, _: Applied, job: Job) -> Self::Reply {
/// #         txn.insert(job).map(drop)
/// #     }
/// # }
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("node-1");
/// # let identity = Identity { cluster: 7, node: 1 };
/// # let directory = DataDir::open(&path, identity, &Logger::root(Discard, o!()))?;
/// let machine = Machine::new(Db::builder().table::<Job>().build()?, Jobs)?;
/// machine.apply(Applied { index: 1, term: 1 }, &Machine::<Jobs>::encode(&Job { id: 7 })?)?;
/// let snapshots = directory.snapshots();
/// let built = snapshots.build(&machine.read(), SaveOptions::new())?;
/// assert!(snapshots.path_of(&built.reference)?.is_file());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct SnapshotFiles {
    folder: PathBuf,
    key: Option<EncryptionKey>,
    received: Arc<AtomicU64>,
    is_cancelled: Arc<AtomicBool>,
    _lock: Arc<File>,
}

impl SnapshotFiles {
    pub(super) fn new(folder: PathBuf, lock: Arc<File>) -> Self {
        let (received, is_cancelled) = Default::default();
        Self { folder, key: None, received, is_cancelled, _lock: lock }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Reads files that are encrypted with `key`, and refuses others.
    #[must_use]
    pub fn decrypt(mut self, key: &EncryptionKey) -> Self {
        self.key = Some(key.clone());
        self
    }

    /// Writes a snapshot to its file, puts it in place durably, and reads it back whole: a file
    /// that is damaged must be found before the log forgets what it replaces. O(bytes); for a
    /// thread beside.
    ///
    /// # Errors
    ///
    /// [`StorageError::Snapshot`] when it cannot be written or is not read back as it was,
    /// [`StorageError::NothingApplied`] when its database has applied no entry,
    /// [`StorageError::Disk`].
    pub fn build(
        &self,
        snapshot: &Snapshot,
        options: SaveOptions<'_>,
    ) -> Result<BuiltSnapshot, StorageError> {
        let at = snapshot.applied();
        if at.index == 0 {
            return Err(StorageError::NothingApplied);
        }
        let path = self.folder.join(reference::name_of(at));
        let saved = snapshot.save_to_path(&path, options);
        saved.map_err(|source| damaged(&path, source))?;
        let reference = self.verify(&path, at)?.to_bytes();
        Ok(BuiltSnapshot { at, reference })
    }

    /// A new file for a snapshot that is received, and its path, which [`adopt`](Self::adopt)
    /// takes. Only its owner can read it. A crash leaves it for the next open to remove; whoever
    /// gives up removes it.
    ///
    /// # Errors
    ///
    /// [`StorageError::Disk`].
    pub fn receive(&self) -> Result<(File, PathBuf), StorageError> {
        let number = self.received.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join(format!("received-{number:020}{PARTIAL}"));
        let file = durable::create_private(&path).map_err(failed("create", &path))?;
        Ok((file, path))
    }

    /// Puts a received file in place, durably, after it was verified against the reference that
    /// came with it, and answers with the reference to keep. The received path is gone then. When
    /// a whole file of the same entry is there, that one is kept and referred to. O(bytes); for a
    /// thread beside.
    ///
    /// # Errors
    ///
    /// [`StorageError::Reference`] and [`StorageError::WrongSnapshot`] when the reference is none
    /// or of another file, [`StorageError::Snapshot`] with the byte where the file is damaged,
    /// [`StorageError::Disk`].
    pub fn adopt(
        &self,
        received: &Path,
        reference: &[u8],
    ) -> Result<SnapshotReference, StorageError> {
        let expected = SnapshotReference::parse(reference)?;
        self.verify_received(received, &expected)?;
        self.place(received, &expected)
    }

    /// The first half of [`adopt`](Self::adopt), and the long one: changes nothing.
    pub(crate) fn verify_received(
        &self,
        received: &Path,
        expected: &SnapshotReference,
    ) -> Result<(), StorageError> {
        let at = Applied { index: expected.index, term: expected.term };
        let found = self.verify(received, at)?;
        if found == *expected {
            return Ok(());
        }
        let reason = format!("it has {} bytes and another hash or size", found.bytes);
        Err(wrong(received, at, reason))
    }

    /// The second half of [`adopt`](Self::adopt), of a file that was verified.
    pub(crate) fn place(
        &self,
        received: &Path,
        expected: &SnapshotReference,
    ) -> Result<SnapshotReference, StorageError> {
        let path = self.folder.join(expected.name());
        // Equal states can have files that differ, compressed or encrypted otherwise, and the log
        // may refer to the one that is here.
        if path.is_file()
            && let Ok(present) =
                self.verify(&path, Applied { index: expected.index, term: expected.term })
        {
            fs::remove_file(received).map_err(failed("remove", received))?;
            return Ok(present);
        }
        let synced = File::open(received).and_then(|file| file.sync_all());
        synced.map_err(failed("sync", received))?;
        durable::rename(received, &path)?;
        Ok(*expected)
    }

    /// Lets whatever reads a file here end soon, with an error, and all that is asked for later:
    /// the node stops. Clones share it. What writes a file asks [`is_cancelled`].
    ///
    /// [`is_cancelled`]: Self::is_cancelled
    pub fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Release);
    }

    /// Whether [`cancel`](Self::cancel) was called; for [`SaveOptions::progress`].
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Acquire)
    }

    /// Writes the file that received changes come to at `whole`, for [`adopt`](Self::adopt), which
    /// verifies it; nothing, and `false`, when what was received is no parcel of changes. Where
    /// that fails nothing is left of it. The received one stays where it is. O(bytes of the base
    /// and the changes); for a thread beside.
    pub(crate) fn compose(
        &self,
        received: &Path,
        expected: &SnapshotReference,
        held: &[Applied],
        whole: &Path,
    ) -> Result<bool, StorageError> {
        let at = Applied { index: expected.index, term: expected.term };
        let refused = |reason: String| wrong(received, at, format!("changes: {reason}"));
        let mut parcel = File::open(received).map_err(failed("open", received))?;
        let head = match Head::read(&mut parcel) {
            Ok(Some(head)) => head,
            Ok(None) => return Ok(false),
            Err(error) => return Err(refused(error.to_string())),
        };
        let base = held.iter().find(|held| held.index == head.base);
        let missing = || refused(format!("no snapshot of entry {} is here", head.base));
        let base = self.folder.join(reference::name_of(*base.ok_or_else(missing)?));
        let most = expected.bytes.min(SNAPSHOT_FILE_BYTES_MAX);
        let mut file = durable::create_private(whole).map_err(failed("create", whole))?;
        let is_cancelled = &self.is_cancelled;
        let composed = parcel::compose(received, &head, &base, &mut file, most, is_cancelled);
        if composed.is_err() {
            // An erasure has removed it before, or the next start does.
            let _ = fs::remove_file(whole);
        }
        composed.map(|()| true).map_err(|error| refused(error.to_string()))
    }

    /// The path of the file that a reference names, which is there unless it was removed.
    ///
    /// # Errors
    ///
    /// [`StorageError::Reference`] when it is no reference.
    pub fn path_of(&self, reference: &[u8]) -> Result<PathBuf, StorageError> {
        Ok(self.folder.join(SnapshotReference::parse(reference)?.name()))
    }

    /// Reads the file that a reference names whole: it must be the one that was referred to.
    /// O(bytes) unless it has another length; for a thread beside.
    ///
    /// # Errors
    ///
    /// [`StorageError::WrongSnapshot`] when it is another one, [`StorageError::Reference`] when the
    /// reference is none, [`StorageError::Disk`] when the file cannot be read.
    pub fn check(&self, reference: &[u8]) -> Result<(), StorageError> {
        let expected = SnapshotReference::parse(reference)?;
        let at = Applied { index: expected.index, term: expected.term };
        let path = self.folder.join(expected.name());
        let file = File::open(&path).map_err(failed("open", &path))?;
        let bytes = file.metadata().map_err(failed("look at", &path))?.len();
        if bytes != expected.bytes {
            return Err(wrong(&path, at, format!("it has {bytes} bytes")));
        }
        let is_cancelled = &self.is_cancelled;
        let mut source = Hashing { file, hasher: blake3::Hasher::new(), bytes: 0, is_cancelled };
        io::copy(&mut source, &mut io::sink()).map_err(failed("read", &path))?;
        if *source.hasher.finalize().as_bytes() != expected.hash {
            return Err(wrong(&path, at, "its bytes were changed".to_owned()));
        }
        Ok(())
    }

    /// Reads a file whole: it must be a snapshot, sound, and hold the state at an entry.
    fn verify(&self, path: &Path, at: Applied) -> Result<SnapshotReference, StorageError> {
        let file = File::open(path).map_err(failed("open", path))?;
        let is_cancelled = &self.is_cancelled;
        let mut source = Hashing { file, hasher: blake3::Hasher::new(), bytes: 0, is_cancelled };
        let buffered = BufReader::with_capacity(READ_BYTES, &mut source);
        let summary = inspect_with(buffered, self.key.as_ref());
        let summary = summary.map_err(|source| damaged(path, source))?;
        io::copy(&mut source, &mut io::sink()).map_err(failed("read", path))?;
        if summary.base.is_some() {
            return Err(wrong(path, at, "it holds changes alone".to_owned()));
        }
        if summary.applied != at {
            return Err(wrong(path, at, format!("it holds the state at {}", summary.applied)));
        }
        let (bytes, hash) = (source.bytes, *source.hasher.finalize().as_bytes());
        Ok(SnapshotReference { term: at.term, index: at.index, bytes, hash })
    }
}

fn damaged(path: &Path, source: SnapshotError) -> StorageError {
    StorageError::Snapshot { path: path.into(), source: Box::new(source) }
}

fn wrong(path: &Path, at: Applied, reason: String) -> StorageError {
    StorageError::WrongSnapshot { path: path.into(), expected: reference::name_of(at), reason }
}

/// Hashes what is read, until it is cancelled.
struct Hashing<'a> {
    file: File,
    hasher: blake3::Hasher,
    bytes: u64,
    is_cancelled: &'a AtomicBool,
}

impl Read for Hashing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_cancelled.load(Ordering::Acquire) {
            return Err(io::Error::other("cancelled: the node stops"));
        }
        let count = self.file.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.bytes += count as u64;
        Ok(count)
    }
}
