//! Where a snapshot file comes from that is read more than once.

use std::fmt;
use std::io::{self, Read};
use std::path::PathBuf;

use super::error::OfflineError;
use super::read::OfflineReader;
use crate::snapshot::codec::EncryptionKey;
use crate::snapshot::error::SnapshotError;
use crate::snapshot::file;

type Opened<'a> = Result<Box<dyn Read + 'a>, SnapshotError>;

/// A file that can be opened as often as a tool needs: the head of what it writes has counts that
/// only the rows tell, so most of them read twice.
///
/// It must be the same each time. What has changed in between is found, and is an error.
///
/// ```
/// use fsmdb::offline::Source;
///
/// let file = Source::bytes(b"not a snapshot");
/// assert!(file.reader().is_err());
/// let missing = Source::path("there/is/none.snapshot");
/// assert!(missing.reader().unwrap_err().to_string().starts_with("cannot open"));
/// let piped = Source::from_fn(|| Ok(std::io::empty()));
/// assert!(piped.reader().is_err());
/// ```
pub struct Source<'a> {
    open: Box<dyn Fn() -> Opened<'a> + 'a>,
    key: Option<EncryptionKey>,
}

impl<'a> Source<'a> {
    /// A file in memory.
    #[must_use]
    pub fn bytes(bytes: &'a [u8]) -> Self {
        Self { open: Box::new(move || Ok(Box::new(bytes))), key: None }
    }

    /// The file at a path.
    #[must_use]
    pub fn path(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self { open: Box::new(move || Ok(Box::new(file::open(&path)?))), key: None }
    }

    /// Whatever `open` gives; it should be buffered.
    #[must_use]
    pub fn from_fn<R: Read + 'a>(open: impl Fn() -> io::Result<R> + 'a) -> Self {
        let open = move || match open() {
            Ok(source) => {
                let source: Box<dyn Read + 'a> = Box::new(source);
                Ok(source)
            }
            Err(source) => Err(SnapshotError::Io { offset: 0, source }),
        };
        Self { open: Box::new(open), key: None }
    }

    /// The key of an encrypted file.
    #[cfg(feature = "encryption")]
    #[must_use]
    pub fn decrypt(mut self, key: &EncryptionKey) -> Self {
        self.key = Some(key.clone());
        self
    }

    /// Opens it as a snapshot file.
    ///
    /// # Errors
    ///
    /// As [`OfflineReader::new`], and when it cannot be opened.
    pub fn reader(&self) -> Result<OfflineReader<Box<dyn Read + 'a>>, OfflineError> {
        OfflineReader::new(self.open()?, self.key.as_ref())
    }

    /// Opens it as a whole snapshot file.
    pub(super) fn whole(&self) -> Result<OfflineReader<Box<dyn Read + 'a>>, OfflineError> {
        let reader = self.reader()?;
        match reader.head().base {
            Some(_) => Err(SnapshotError::Incremental.into()),
            None => Ok(reader),
        }
    }

    pub(super) fn open(&self) -> Opened<'a> {
        (self.open)()
    }
}

impl fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("key", &self.key).finish_non_exhaustive()
    }
}
