//! The directory of one node: made, locked and named.
//!
//! # Invariants
//!
//! 1. One process has the directory at a time. The lock is held until everything that was opened
//!    in it is dropped, and until the process ends once a log in it has failed.
//! 2. Each open has a boot number that no open before it had, durable before it is told.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use slog::{Logger, info};

use super::durable::{self, PARTIAL, failed};
use super::identity::{Identity, Record};
use super::{SnapshotFiles, StorageError};
use crate::limits::IDENTITY_BYTES_MAX;

const LOCK: &str = "lock";
const IDENTITY: &str = "identity";

/// The directory of one node, locked.
///
/// ```
/// use fsmdb_node::storage::{DataDir, Identity};
/// use slog::{Discard, Logger, o};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("node-1");
/// let identity = Identity { cluster: 0x8f14e45fceea167a5a36dedd4bea2543, node: 1 };
/// let logger = Logger::root(Discard, o!());
/// let directory = DataDir::open(&path, identity, &logger)?;
/// assert_eq!(directory.boot(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    record: Record,
    lock: Arc<File>,
    logger: Logger,
}

impl DataDir {
    /// Opens the directory of a node, and makes it when it is not there or empty.
    ///
    /// What a crash has left half-written is removed. Three files are synced.
    ///
    /// # Errors
    ///
    /// [`StorageError::Locked`] while another process has it, or something in this one, where a
    /// log that has failed keeps it to the end; [`StorageError::Foreign`] when it is of another
    /// node or cluster, [`StorageError::Permissions`] when its mode gives others than its owner
    /// any right, [`StorageError::Unidentified`] and [`StorageError::BrokenIdentity`] when it
    /// cannot be told whose it is, [`StorageError::Disk`].
    pub fn open(
        path: impl AsRef<Path>,
        identity: Identity,
        logger: &Logger,
    ) -> Result<Self, StorageError> {
        let path = path.as_ref().to_owned();
        durable::create_folder(&path)?;
        check_mode(&path)?;
        let lock = Arc::new(lock(&path)?);
        let record = match read_identity(&path)? {
            Some(record) if record.identity != identity => {
                let (found, expected) = (record.identity, identity);
                return Err(StorageError::Foreign { path, found, expected });
            }
            Some(record) => record,
            None => {
                check_empty(&path)?;
                Record { identity, incarnation: random(&path)?, boot: 0, has_log: false }
            }
        };
        let mut directory = Self { path, record, lock, logger: logger.clone() };
        directory.record.boot += 1;
        directory.write_identity()?;
        durable::create_folder(&directory.snapshots_path())?;
        remove_partial(&directory.path)?;
        remove_partial(&directory.snapshots_path())?;
        info!(logger, "data directory opened";
            "path" => %directory.path.display(), "node" => identity.node,
            "boot" => directory.record.boot);
        Ok(directory)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whose it is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.record.identity
    }

    /// What others know this directory by, a hash of random bits that were drawn when it was made:
    /// a node that was wiped and came back has another.
    #[must_use]
    pub fn incarnation(&self) -> u128 {
        let drawn = self.record.incarnation.to_le_bytes();
        let hash = blake3::derive_key("fsmdb-node: what others know a directory by", &drawn);
        hash.first_chunk().map_or(0, |bytes| u128::from_le_bytes(*bytes))
    }

    /// The number of this open, from 1; what [`Config::new`](fsmdb::raft::Config::new) wants.
    #[must_use]
    pub fn boot(&self) -> u64 {
        self.record.boot
    }

    /// The snapshot files in it.
    #[must_use]
    pub fn snapshots(&self) -> SnapshotFiles {
        SnapshotFiles::new(self.snapshots_path(), self.lock())
    }

    pub(super) fn log_path(&self) -> PathBuf {
        self.path.join("log")
    }

    pub(super) fn snapshots_path(&self) -> PathBuf {
        self.path.join("snapshots")
    }

    /// What marks the records of its log: of the random bits, of which only a hash is in any
    /// message.
    pub(super) fn stamp(&self) -> u64 {
        self.record.incarnation as u64
    }

    pub(super) fn lock(&self) -> Arc<File> {
        Arc::clone(&self.lock)
    }

    pub(super) fn logger(&self) -> &Logger {
        &self.logger
    }

    pub(super) fn has_log(&self) -> bool {
        self.record.has_log
    }

    /// Notes durably that the log was begun.
    pub(super) fn begin_log(&mut self) -> Result<(), StorageError> {
        self.record.has_log = true;
        self.write_identity()
    }

    fn write_identity(&self) -> Result<(), StorageError> {
        durable::replace(&self.path.join(IDENTITY), self.record.print().as_bytes())
    }
}

/// Refuses a directory in which others could change a file or put another in its place, or read
/// what is in the log.
fn check_mode(path: &Path) -> Result<(), StorageError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(path).map_err(failed("look at", path))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(StorageError::Permissions { path: path.to_owned(), mode: mode & 0o7777 });
        }
    }
    Ok(())
}

fn lock(path: &Path) -> Result<File, StorageError> {
    let name = path.join(LOCK);
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&name);
    let file = file.map_err(failed("create", &name))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StorageError::Locked { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed("lock", &name)(source)),
    }
}

fn read_identity(path: &Path) -> Result<Option<Record>, StorageError> {
    let path = path.join(IDENTITY);
    if !path.try_exists().map_err(failed("look at", &path))? {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let file = File::open(&path).map_err(failed("open", &path))?;
    file.take(IDENTITY_BYTES_MAX).read_to_end(&mut bytes).map_err(failed("read", &path))?;
    let text = str::from_utf8(&bytes).map_err(|_| "it is not text".to_owned());
    match text.and_then(Record::parse) {
        Ok(record) => Ok(Some(record)),
        Err(reason) => Err(StorageError::BrokenIdentity { path, reason }),
    }
}

/// A directory without an identity may hold what an open that crashed has left, and nothing else.
fn check_empty(path: &Path) -> Result<(), StorageError> {
    for entry in fs::read_dir(path).map_err(failed("list", path))? {
        let name = entry.map_err(failed("list", path))?.file_name();
        let name = name.to_string_lossy();
        if name != LOCK && name != format!("{IDENTITY}{PARTIAL}") {
            return Err(StorageError::Unidentified { path: path.to_owned(), found: name.into() });
        }
    }
    Ok(())
}

fn remove_partial(folder: &Path) -> Result<(), StorageError> {
    for entry in fs::read_dir(folder).map_err(failed("list", folder))? {
        let path = entry.map_err(failed("list", folder))?.path();
        if path.is_file() && path.to_string_lossy().ends_with(PARTIAL) {
            fs::remove_file(&path).map_err(failed("remove", &path))?;
        }
    }
    Ok(())
}

fn random(path: &Path) -> Result<u128, StorageError> {
    let mut bytes = [0; 16];
    let drawn = getrandom::fill(&mut bytes).map_err(std::io::Error::other);
    drawn.map_err(failed("draw an incarnation for", path))?;
    Ok(u128::from_le_bytes(bytes))
}
