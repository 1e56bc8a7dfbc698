//! How a snapshot file is spoken of: in the log, and between nodes.
//!
//! A line of text: `snap-<term>-<index> <bytes> <blake3>`.
//!
//! # Invariants
//!
//! 1. `parse(print(x)) == x`, and nothing else parses. A name that parses is the name of a file in
//!    the folder of snapshots and of none elsewhere: references come from peers.
//! 2. Names sort as (term, index) do.

use std::fmt;

use fsmdb::Applied;

use super::StorageError;
use crate::limits::SNAPSHOT_REFERENCE_BYTES_MAX;

/// A snapshot file, by its position in the log, its size and the BLAKE3 hash of its bytes.
///
/// ```
/// use fsmdb_node::storage::SnapshotReference;
///
/// let reference = SnapshotReference { term: 3, index: 70, bytes: 512, hash: [7; 32] };
/// assert_eq!(reference.name(), "snap-00000000000000000003-00000000000000000070");
/// assert_eq!(SnapshotReference::parse(&reference.to_bytes())?, reference);
/// # Ok::<(), fsmdb_node::storage::StorageError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotReference {
    /// The term of the last entry it holds.
    pub term: u64,
    /// The index of the last entry it holds.
    pub index: u64,
    /// The length of the file.
    pub bytes: u64,
    /// The hash of the file.
    pub hash: [u8; 32],
}

impl SnapshotReference {
    /// The name of the file.
    #[must_use]
    pub fn name(&self) -> String {
        name_of(Applied { index: self.index, term: self.term })
    }

    /// What stands in [`SnapshotMeta::reference`](fsmdb::raft::SnapshotMeta::reference).
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.to_string().into_bytes()
    }

    /// Reads a reference, also one of a peer that is not trusted.
    ///
    /// # Errors
    ///
    /// [`StorageError::Reference`] when it is not exactly what [`to_bytes`](Self::to_bytes) makes.
    pub fn parse(reference: &[u8]) -> Result<Self, StorageError> {
        let refused = |reason: &str| StorageError::Reference { reason: reason.to_owned() };
        if reference.len() > SNAPSHOT_REFERENCE_BYTES_MAX {
            return Err(refused("it is too long"));
        }
        let text = str::from_utf8(reference).map_err(|_| refused("it is not text"))?;
        let mut parts = text.split(' ');
        let (name, bytes, hash) = (parts.next(), parts.next(), parts.next());
        let at = name.and_then(parse_name).ok_or_else(|| refused("it names no snapshot"))?;
        let bytes = bytes.and_then(|text| text.parse().ok());
        let bytes = bytes.ok_or_else(|| refused("it has no size"))?;
        let hash = hash.and_then(|text| blake3::Hash::from_hex(text).ok());
        let hash = *hash.ok_or_else(|| refused("it has no hash"))?.as_bytes();
        let parsed = Self { term: at.term, index: at.index, bytes, hash };
        if parsed.to_string() == text { Ok(parsed) } else { Err(refused("it is not in its form")) }
    }
}

impl fmt::Display for SnapshotReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash = blake3::Hash::from_bytes(self.hash);
        write!(f, "{} {} {}", self.name(), self.bytes, hash.to_hex())
    }
}

/// The name of the snapshot file as of an entry.
pub(super) fn name_of(at: Applied) -> String {
    format!("snap-{:020}-{:020}", at.term, at.index)
}

/// Whose snapshot a file of this name is, if it is one.
pub(super) fn parse_name(name: &str) -> Option<Applied> {
    let (term, index) = name.strip_prefix("snap-")?.split_once('-')?;
    let at = Applied { index: index.parse().ok()?, term: term.parse().ok()? };
    (name_of(at) == name).then_some(at)
}
