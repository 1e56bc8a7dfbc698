//! Positions in the history of a database: [`Revision`] and [`Applied`]; and which history that is:
//! [`Incarnation`].

use std::fmt;
use std::str::FromStr;

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

/// Which line of revisions a database is on.
///
/// Revisions of different incarnations have nothing to do with each other. A new cluster takes a
/// new one, of 16 random bytes, and so should whoever goes back to a backup in the place of a
/// cluster that went on: then what was noted under the old one is known to be of another line. It
/// is in every snapshot file. 0, the default, says nothing.
///
/// It is written as 32 hexadecimal digits.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(into = "String", try_from = "String")]
pub struct Incarnation(pub u128);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for Incarnation {
    type Err = InvalidIncarnation;

    fn from_str(text: &str) -> Result<Self, InvalidIncarnation> {
        let is_one = text.len() == 32 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        let number = is_one.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        number.map(Self).ok_or(InvalidIncarnation)
    }
}

impl TryFrom<String> for Incarnation {
    type Error = InvalidIncarnation;

    fn try_from(text: String) -> Result<Self, InvalidIncarnation> {
        text.parse()
    }
}

impl From<Incarnation> for String {
    fn from(incarnation: Incarnation) -> Self {
        incarnation.to_string()
    }
}

/// A text is no [`Incarnation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an incarnation is 32 hexadecimal digits")]
pub struct InvalidIncarnation;
