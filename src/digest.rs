//! Digests of tables: what replicas compare instead of their rows.
//!
//! The digest of a row is the XXH3-128 of the encoding of its value, MessagePack by field name;
//! that of a table is the sum of those of its rows. The only room that names `xxhash-rust`.
//!
//! # Invariants
//!
//! 1. Equal rows give equal digests, in whatever order they are added, on every platform and in
//!    every build. Revisions are no part of them, so how rows came to be does not matter.
//! 2. `minus` takes back what `plus` has added.
//! 3. What the digest of a database is made of can be read in one way alone.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_128;

use crate::revision::{Applied, Revision};

/// A digest of 128 bits: of a table, or of a database.
///
/// It is written as 32 lower-case hexadecimal digits, in formats that are not meant for people as
/// 16 bytes. The digest of an empty table is zero.
///
/// It guards against accidents, which it misses with a chance of about one in 2^128, and not
/// against attackers: who chooses the rows can make two states that have the same.
///
/// ```
/// use fsmdb::Digest;
///
/// let digest: Digest = "0123456789abcdef0123456789abcdef".parse()?;
/// assert_eq!(digest.to_string(), "0123456789abcdef0123456789abcdef");
/// assert_ne!(digest, Digest::default());
/// assert!("0123".parse::<Digest>().is_err());
/// # Ok::<(), fsmdb::DigestError>(())
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(u128);

/// The number of digits of a written digest.
const DIGITS: usize = 32;

impl Digest {
    /// The digest of a row, of the encoding of its value.
    pub(crate) fn of_value(encoding: &[u8]) -> Self {
        Self(xxh3_128(encoding))
    }

    /// That of the rows of both.
    pub(crate) fn plus(self, rows: Self) -> Self {
        Self(self.0.wrapping_add(rows.0))
    }

    /// That of the rows without `rows`.
    pub(crate) fn minus(self, rows: Self) -> Self {
        Self(self.0.wrapping_sub(rows.0))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0DIGITS$x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// Why a text is not a [`Digest`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text:?} is not a digest, which has 32 lower-case hexadecimal digits")]
#[non_exhaustive]
pub struct DigestError {
    /// The text.
    pub text: String,
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_digest = text.len() == DIGITS && text.bytes().all(is_digit);
        let number = u128::from_str_radix(text, 16).ok().filter(|_| is_digest);
        number.map(Self).ok_or_else(|| DigestError { text: text.to_owned() })
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_bytes(&self.0.to_be_bytes())
        }
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(DigestVisitor)
        } else {
            deserializer.deserialize_bytes(DigestVisitor)
        }
    }
}

/// Takes both forms, because an enum without a tag asks a format that is not meant for people as if
/// it were.
struct DigestVisitor;

impl Visitor<'_> for DigestVisitor {
    type Value = Digest;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a digest of 32 hexadecimal digits or 16 bytes")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Digest, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Digest, E> {
        let bytes = bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))?;
        Ok(Digest(u128::from_be_bytes(bytes)))
    }
}

/// The digests of one version, from [`Snapshot::digests`](crate::Snapshot::digests): a value that
/// replicas can send each other to find out whether they have parted, and in which table.
///
/// They speak of the rows alone: not of the revisions of rows, nor of
/// [tombstones](crate::Table::TOMBSTONES), which [`testing::check`](crate::testing::check) compares
/// as well. Two versions of which only `revision` or `applied` differ have the same rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Digests {
    /// The revision of the version.
    pub revision: Revision,
    /// The last log entry applied in it.
    pub applied: Applied,
    /// Each table, in the order of names.
    pub tables: Vec<TableDigest>,
}

/// The digest of one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TableDigest {
    /// The table's name.
    pub table: String,
    /// The number of its rows.
    pub rows: u64,
    /// The digest of its rows.
    pub digest: Digest,
}

impl Digests {
    /// One digest for all tables: of their names, counts and digests, whatever the revision.
    ///
    /// ```
    /// # use fsmdb::{Db, Table};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    /// # #[table(name = "nodes")]
    /// # struct Node { #[key] id: u64 }
    /// let db = Db::builder().table::<Node>().build()?;
    /// let empty = db.digests()?.database();
    /// let mut txn = db.write();
    /// txn.insert(Node { id: 1 })?;
    /// txn.commit();
    /// assert_ne!(db.digests()?.database(), empty);
    ///
    /// let mut txn = db.write();
    /// txn.table_mut::<Node>().delete(&1_u64);
    /// txn.commit();
    /// assert_eq!(db.digests()?.database(), empty);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn database(&self) -> Digest {
        let mut bytes = Vec::new();
        for TableDigest { table, rows, digest } in &self.tables {
            // The length before the name, and the rest of one length (invariant 3).
            bytes.extend_from_slice(&(table.len() as u64).to_be_bytes());
            bytes.extend_from_slice(table.as_bytes());
            bytes.extend_from_slice(&rows.to_be_bytes());
            bytes.extend_from_slice(&digest.0.to_be_bytes());
        }
        Digest(xxh3_128(&bytes))
    }

    /// The name of the first table, in the order of names, that differs between the two or that
    /// only one of them has; O(tables).
    #[must_use]
    pub fn first_difference<'a>(&'a self, other: &'a Self) -> Option<&'a str> {
        let (mut mine, mut theirs) = (self.tables.iter(), other.tables.iter());
        loop {
            return match (mine.next(), theirs.next()) {
                (None, None) => None,
                (Some(mine), Some(theirs)) if mine == theirs => continue,
                // Of two names the lower one is that of a table that the other side does not have.
                (Some(mine), Some(theirs)) => Some((&*mine.table).min(&*theirs.table)),
                (Some(only), None) | (None, Some(only)) => Some(&only.table),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another hash, or another version of it, would make replicas of two builds differ.
    #[test]
    fn the_hash_is_that_of_the_specification() {
        let known = [
            (String::new(), "99aa06d3014798d86001c324468d497f"),
            ("a".into(), "a96faf705af16834e6c632b61e964e1f"),
            ("z".repeat(1000), "66a9b2d587876ce7cd3a574700eddf41"),
        ];
        for (text, digest) in known {
            assert_eq!(Digest::of_value(text.as_bytes()).to_string(), digest);
        }
    }

    #[test]
    fn a_sum_wraps_and_goes_back() {
        let (one, other) = (Digest::of_value(b"one"), Digest(u128::MAX));
        assert_eq!(one.plus(other).minus(one), other);
        assert_eq!(one.plus(other), other.plus(one));
        assert_eq!(other.plus(Digest(1)), Digest::default());
        assert_eq!(Digest::default().minus(Digest(1)), other);
    }
}
