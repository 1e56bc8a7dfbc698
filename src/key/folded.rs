//! `Folded`: a string key that is compared without regard to case.
//!
//! This file owns case folding and is the only one that names `unicase`.
//!
//! # Invariants
//!
//! 1. A `Folded` always holds folded text, and folding it again changes nothing. Decoding refuses
//!    text that is not folded.
//! 2. Folding works on each character by itself, so the folding of a prefix is a prefix of the
//!    folding of the whole.
//! 3. The folding tables are compiled in from the locked version of `unicase`, not read from the
//!    system or its locale. Replicas of one build therefore agree. An update of that dependency
//!    can bring newer tables, so it is to be treated as a change of the snapshot format.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use unicase::UniCase;

use super::text::{push_escaped, push_text, read_text};
use super::{AsKey, Key, KeyBuf, KeyError, KeyReader};

/// A string in which case does not count: `Web`, `WEB` and `web` are the same key.
///
/// Holds the full Unicode case folding of the text it was made from, so the original spelling is
/// lost; keep that in another field. Folding is not normalization: `é` as one character and as
/// `e` with an accent remain two keys. It knows no languages: the Turkish dotless `ı` is not `i`.
///
/// Any string finds it, in any case:
///
/// ```
/// use fsmdb::{Folded, encode};
///
/// let key = Folded::new("Straße");
/// assert_eq!(key.as_str(), "strasse");
/// assert_eq!(encode::<Folded, _>("STRASSE"), encode::<Folded, _>(&key));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String")]
pub struct Folded(String);

impl Folded {
    /// Folds `text`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(fold(text))
    }

    /// The folded text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Folded {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Folded {
    fn from(text: String) -> Self {
        Self::new(&text)
    }
}

impl fmt::Display for Folded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn fold(text: &str) -> String {
    UniCase::new(text).to_folded_case()
}

/// Appends the folding of `text`, escaped but not terminated: "starts with `text` in any case".
pub(super) fn push_folded_prefix(text: &str, out: &mut KeyBuf) {
    push_escaped(fold(text).as_bytes(), out);
}

impl AsKey<Folded> for Folded {
    fn encode_key(&self, out: &mut KeyBuf) {
        push_text(&self.0, out);
    }
}

macro_rules! folds_at_encode {
    ($($form:ty),+) => {$(
        impl AsKey<Folded> for $form {
            fn encode_key(&self, out: &mut KeyBuf) {
                push_text(&fold(self), out);
            }
        }
    )+};
}

folds_at_encode!(str, String, Box<str>, Arc<str>, Cow<'_, str>);

impl Key for Folded {
    fn decode_key(reader: &mut KeyReader<'_>) -> Result<Self, KeyError> {
        let offset = reader.position();
        let text = read_text(reader)?;
        if fold(&text) == text {
            Ok(Self(text))
        } else {
            Err(KeyError::Invalid { offset, expected: "case-folded text" })
        }
    }
}
