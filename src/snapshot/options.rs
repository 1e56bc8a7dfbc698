//! What a caller can say of saving and loading.

use std::fmt;
use std::ops::ControlFlow;

use super::codec::EncryptionKey;
use super::format::Progress;
use crate::crew::threads_by_default;
use crate::limits::SNAPSHOT_THREADS_MAX;
use crate::revision::Incarnation;

/// Who is told how far it is; see [`SaveOptions::progress`].
pub(super) type OnProgress<'a> = Box<dyn FnMut(Progress<'_>) -> ControlFlow<()> + 'a>;

/// How a snapshot file is written; the default is neither compressed nor encrypted.
///
/// ```
/// # use fsmdb::{Db, Progress, SaveOptions, Table};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
/// # #[table(name = "nodes")]
/// # struct Node { #[key] id: u64 }
/// # let db = Db::builder().table::<Node>().build()?;
/// let mut told = 0;
/// let options = SaveOptions::new().threads(2).progress(|progress| {
///     told = progress.rows;
///     Progress::CONTINUE
/// });
/// let mut file = Vec::new();
/// db.read().save_with(&mut file, options)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
pub struct SaveOptions<'a> {
    pub(super) threads: Option<usize>,
    pub(super) level: Option<i32>,
    pub(super) key: Option<EncryptionKey>,
    pub(super) progress: Option<OnProgress<'a>>,
}

impl<'a> SaveOptions<'a> {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Encodes and compresses on so many threads, the caller's included; the default is one less
    /// than there are cores. The file is the same whatever their number.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads.clamp(1, SNAPSHOT_THREADS_MAX));
        self
    }

    /// Compresses with zstd at a level from 1, fast, to 22, small; 3 is a good one.
    #[cfg(feature = "zstd")]
    #[must_use]
    pub fn compress(mut self, level: i32) -> Self {
        self.level = Some(level);
        self
    }

    /// Encrypts with XChaCha20-Poly1305. The header, which has the names of tables and the numbers
    /// of rows, stays readable. Two files of the same state then differ: each has its own nonces.
    #[cfg(feature = "encryption")]
    #[must_use]
    pub fn encrypt(mut self, key: &EncryptionKey) -> Self {
        self.key = Some(key.clone());
        self
    }

    /// Tells `progress` how far it is after each frame; it can cancel.
    #[must_use]
    pub fn progress(mut self, progress: impl FnMut(Progress<'_>) -> ControlFlow<()> + 'a) -> Self {
        self.progress = Some(Box::new(progress));
        self
    }

    pub(super) fn thread_count(&self) -> usize {
        self.threads.unwrap_or_else(threads_by_default)
    }
}

impl fmt::Debug for SaveOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaveOptions")
            .field("threads", &self.threads)
            .field("level", &self.level)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// How a snapshot file is read, and how far it is trusted.
///
/// ```
/// # use fsmdb::{Db, LoadOptions, SnapshotError, Table};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
/// # #[table(name = "nodes")]
/// # struct Node { #[key] id: u64 }
/// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
/// # #[table(name = "links")]
/// # struct Link { #[key] from: u64 }
/// # let db = Db::builder().table::<Node>().build()?;
/// # let mut file = Vec::new();
/// # db.read().save(&mut file)?;
/// // A newer version of the program has a table more.
/// let builder = || Db::builder().table::<Node>().table::<Link>();
/// let refused = builder().load(file.as_slice()).unwrap_err();
/// assert!(matches!(refused, SnapshotError::MissingTable { .. }));
/// let options = LoadOptions::new().missing_tables_are_empty();
/// let db = builder().load_with(file.as_slice(), options)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
pub struct LoadOptions<'a> {
    pub(super) threads: Option<usize>,
    pub(super) key: Option<EncryptionKey>,
    pub(super) progress: Option<OnProgress<'a>>,
    pub(super) rows_max: Option<u64>,
    pub(super) bytes_max: Option<u64>,
    pub(super) missing_are_empty: bool,
    pub(super) unknown_are_carried: bool,
    pub(crate) incarnation: Option<Incarnation>,
}

impl<'a> LoadOptions<'a> {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Decodes and builds indexes on so many threads, the caller's included; the default is one
    /// less than there are cores.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads.clamp(1, SNAPSHOT_THREADS_MAX));
        self
    }

    /// The key of an encrypted file; one that is not encrypted is refused, because anybody could
    /// have written it.
    #[cfg(feature = "encryption")]
    #[must_use]
    pub fn decrypt(mut self, key: &EncryptionKey) -> Self {
        self.key = Some(key.clone());
        self
    }

    /// Tells `progress` how far it is after each frame; it can cancel.
    #[must_use]
    pub fn progress(mut self, progress: impl FnMut(Progress<'_>) -> ControlFlow<()> + 'a) -> Self {
        self.progress = Some(Box::new(progress));
        self
    }

    /// Refuses a file of more rows, before they are read.
    #[must_use]
    pub fn rows_max(mut self, rows: u64) -> Self {
        self.rows_max = Some(rows);
        self
    }

    /// Refuses a file as soon as its rows, and the keys that an incremental file deletes, have more
    /// bytes than this, not compressed. What is carried has a limit of its own,
    /// [`limits::CARRIED_BYTES_MAX`](crate::limits::CARRIED_BYTES_MAX).
    #[must_use]
    pub fn bytes_max(mut self, bytes: u64) -> Self {
        self.bytes_max = Some(bytes);
        self
    }

    /// Takes a table of the schema that the file does not have as empty, as after an upgrade that
    /// adds a table. Without this it is an error.
    #[must_use]
    pub fn missing_tables_are_empty(mut self) -> Self {
        self.missing_are_empty = true;
        self
    }

    /// Carries tables that the schema does not have, as after a downgrade: they are kept as they
    /// stand, cannot be read, and are in every file that is saved from here on. Without this they
    /// are an error.
    #[must_use]
    pub fn unknown_tables_are_carried(mut self) -> Self {
        self.unknown_are_carried = true;
        self
    }

    /// Begins a new line of revisions with what is in the whole file or the chain: see
    /// [`Incarnation`]. An incremental file that is applied to a database stays on the line of
    /// that, so there it is refused ([`SnapshotError::KeepsIncarnation`]).
    ///
    /// [`SnapshotError::KeepsIncarnation`]: crate::SnapshotError::KeepsIncarnation
    #[must_use]
    pub fn incarnation(mut self, incarnation: Incarnation) -> Self {
        self.incarnation = Some(incarnation);
        self
    }

    pub(super) fn thread_count(&self) -> usize {
        self.threads.unwrap_or_else(threads_by_default)
    }
}

impl fmt::Debug for LoadOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadOptions")
            .field("threads", &self.threads)
            .field("key", &self.key)
            .field("rows_max", &self.rows_max)
            .field("bytes_max", &self.bytes_max)
            .finish_non_exhaustive()
    }
}
