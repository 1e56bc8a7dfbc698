//! Positions in the history of a database: [`Revision`] and [`Applied`].

use std::fmt;

use serde::{Deserialize, Serialize};

/// The number of a committed version of the database; each commit has a higher one.
///
/// In a database that a [`Machine`](crate::Machine) owns it is the log index of the entry that
/// made the version. In an embedded database it counts commits. Revision 0 is the empty database.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision after this one.
    ///
    /// # Panics
    ///
    /// After 2^64 - 1 commits.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("revision overflow after 2^64 commits"))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The last log entry that a state machine has applied: index and term.
///
/// It lives in the same root as the data, so that no crash can part them. The default (0, 0)
/// means that nothing was applied.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Applied {
    /// Index of the entry in the log, from 1.
    pub index: u64,
    /// Term in which the entry was proposed.
    pub term: u64,
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "index {} of term {}", self.index, self.term)
    }
}
