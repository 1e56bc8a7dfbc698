//! What a snapshot file had that the schema does not know: it is carried from file to file, so that
//! a node of an older version, in the middle of an upgrade or after one that was taken back, loses
//! nothing of a newer one.
//!
//! Nobody looks into it. The room that reads and writes files (`snapshot`) says what it means.
//!
//! # Invariants
//!
//! 1. It never changes; a restore replaces it whole.
//! 2. Tables and sections are in the order of their names.

use std::sync::Arc;

use crate::digest::Digest;

/// Frames as they stand in a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Carried {
    pub(crate) tables: Vec<CarriedTable>,
    /// Names and contents; several of one name follow each other.
    pub(crate) sections: Vec<(String, Arc<[u8]>)>,
}

/// A table that the schema does not have.
#[derive(Clone, Debug)]
pub(crate) struct CarriedTable {
    pub(crate) name: String,
    /// The number and the digest of its rows.
    pub(crate) rows: u64,
    pub(crate) digest: Digest,
    /// What the header says of it, encoded.
    pub(crate) header: Vec<u8>,
    /// Its frames: kinds and payloads.
    pub(crate) frames: Vec<(u8, Arc<[u8]>)>,
}

impl Carried {
    pub(crate) fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.sections.is_empty()
    }
}
