//! Tools for snapshot files that need no Rust type of any row: what a person on call does with a
//! backup, and what the command line program `fsmdb-snapshot` is made of.
//!
//! Rows are their keys and their MessagePack, as they stand in a file; [`Value`](crate::Value) says
//! what is in one.
//!
//! | to | use |
//! |---|---|
//! | say what is in a file, and verify it | [`inspect`](crate::inspect) |
//! | read one thing after the other, and write them | [`OfflineReader`], [`OfflineWriter`] |
//! | see what has changed from one file to another | [`diff()`] |
//! | keep some tables or rows | [`filter()`] |
//! | take values out before a file is given away | [`redact()`] |
//! | make one file of a chain | [`compact()`] |
//! | turn a file into English text and back | [`export_english`], [`import_english`] |
//!
//! Every tool verifies what it reads, as [`inspect`](crate::inspect) does, holds a frame of each
//! file at a time and not more rows, and gives an error instead of a file that would not load:
//! what was written until then has no end, and every reader refuses it. [`replace`] puts a file in
//! place whole or not at all.
//!
//! # Invariants
//!
//! 1. What is read and written again is the same file; what a database would have saved is written
//!    as that, to the byte.
//! 2. A whole file that is written has the digests of its own rows.
//! 3. Memory follows the frames that are open, and the tombstones of one table.

mod compact;
mod diff;
mod english;
mod error;
mod filter;
mod head;
mod item;
mod read;
mod redact;
mod source;
mod write;

use std::io::{BufWriter, Write};
use std::path::Path;

pub use compact::compact;
pub use diff::{DiffTotals, RowDifference, diff};
pub use english::{export_english, import_english};
pub use error::OfflineError;
pub use filter::{Selection, filter};
pub use head::{Head, IndexHead, RemovalsHead, TableHead};
pub use item::{Item, StoredRow, StoredTombstone};
pub use read::OfflineReader;
pub use redact::{Redacted, Redaction, redact};
pub use source::Source;
pub use write::OfflineWriter;

use super::error::SnapshotError;
use super::file;

/// Bytes that are given to a file at once.
const WRITE_BYTES: usize = 128 * 1024;

/// Writes what `write` writes to a file that then takes the place of the one at `path`: there is
/// the old content or the new one, whole and synced, whatever fails, and nobody but its owner can
/// read it.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("nodes.txt");
/// use fsmdb::offline::{OfflineError, replace};
///
/// replace(&path, |target| Ok(target.write_all(b"whole")?))?;
/// let refused = replace(&path, |target| {
///     target.write_all(b"half")?;
///     Err::<(), _>(OfflineError::NoTable { table: "nodes".into() })
/// });
/// assert!(refused.is_err());
/// assert_eq!(std::fs::read(&path)?, b"whole");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// What `write` gives, and [`SnapshotError::Disk`] when a step fails.
pub fn replace<T>(
    path: impl AsRef<Path>,
    write: impl FnOnce(&mut dyn Write) -> Result<T, OfflineError>,
) -> Result<T, OfflineError> {
    let mut refusal = None;
    let written = file::replace(path.as_ref(), |target| {
        let mut target = BufWriter::with_capacity(WRITE_BYTES, target);
        let written = write(&mut target).and_then(|written| {
            target.flush()?;
            Ok(written)
        });
        written.map_err(|error| match error {
            OfflineError::Snapshot(error) => error,
            other => {
                refusal = Some(other);
                SnapshotError::Cancelled { offset: 0 }
            }
        })
    });
    match refusal {
        Some(error) => Err(error),
        None => Ok(written?),
    }
}
