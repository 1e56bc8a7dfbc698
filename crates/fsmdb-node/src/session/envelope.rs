//! What stands in the log around a user's command, and what is answered.
//!
//! # Invariants
//!
//! 1. [`EnvelopeRef`] is written as the [`Envelope`] that owns the command is.
//! 2. A variant or an optional field may be added; none changes its meaning while logs have it.

use fsmdb::limits::DEPTH_MAX;
use fsmdb::{Applied, Outcome};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Which command of which session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The session.
    pub session: u64,
    /// The number of the command in it, from 1.
    pub sequence: u64,
    /// Up to which number the client needs no reply any more.
    pub acknowledged: u64,
}

/// A command of a node: the user's, perhaps in a session, or one of the node's own.
#[derive(Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Envelope<C> {
    /// The user's, applied as often as it is in the log.
    Plain {
        /// The command.
        command: C,
    },
    /// The user's, applied once however often it is in the log.
    InSession {
        /// Which one it is.
        place: Place,
        /// The command.
        command: C,
    },
    /// Opens a session.
    Open,
    /// Ends a session.
    Close {
        /// The session.
        session: u64,
    },
    /// Says where a member is reached.
    Member {
        /// The member.
        id: u64,
        /// Its address; nothing when it was removed for ever.
        address: Option<String>,
    },
    /// Says which directory a member has, once for all.
    Directory {
        /// The member.
        id: u64,
        /// Random bits of its directory.
        directory: u128,
    },
}

/// An [`Envelope`] that borrows the command.
#[derive(Debug, Serialize)]
pub(crate) enum EnvelopeRef<'a, C> {
    Plain { command: &'a C },
    InSession { place: Place, command: &'a C },
    Open,
    Close { session: u64 },
    Member { id: u64, address: Option<&'a str> },
    Directory { id: u64, directory: u128 },
}

/// What an [`Envelope`] says of a member.
#[derive(Debug, Deserialize)]
pub(crate) enum OfMember {
    Member { id: u64, address: Option<String> },
    Directory { id: u64, directory: u128 },
}

/// What an encoded [`Envelope`] says of a member, or nothing. O(1): no other command begins with
/// the same bytes.
pub(crate) fn of_member_in(command: &[u8]) -> Option<OfMember> {
    // A map of one pair, and its key.
    let begins = [b"\x81\xa6Member".as_slice(), b"\x81\xa9Directory"];
    if !begins.iter().any(|begin| command.starts_with(begin)) {
        return None;
    }
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(command);
    // It is in the log of a leader, and was not checked here yet.
    deserializer.set_max_depth(DEPTH_MAX);
    OfMember::deserialize(&mut deserializer).ok()
}

/// What a command of a node is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum EnvelopeReply<R> {
    /// The user's reply to a plain command.
    Plain(R),
    /// The user's reply to a command of a session, applied now.
    First(R),
    /// A command of a session that an earlier entry applied.
    Again {
        /// That entry.
        at: Applied,
        /// The encoded reply, if it is kept.
        #[serde(with = "serde_bytes")]
        reply: Option<Vec<u8>>,
    },
    /// The session is not there, or its command is done with; nothing was applied.
    Refused(SessionRefusal),
    /// The session that was opened.
    Opened(u64),
    /// A session was closed, or was not there.
    Closed,
    /// Whether the address, or the directory, was taken; not of a member that was removed, and not
    /// another directory than one that was taken before.
    Member(bool),
}

impl<R: Outcome> Outcome for EnvelopeReply<R> {
    /// A refused command of a session is rolled back by the session, which notes the refusal.
    fn is_refused(&self) -> bool {
        matches!(self, Self::Plain(reply) if reply.is_refused())
    }
}

/// Why a command of a session was not applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SessionRefusal {
    /// The session is not there (any more).
    #[error("session {session} has expired; open another and read what its commands did")]
    Expired {
        /// The session.
        session: u64,
    },
    /// The client has said that it needs no reply to this command, or too many came after it.
    #[error("command {sequence} of session {session} is done with")]
    Superseded {
        /// The session.
        session: u64,
        /// The command.
        sequence: u64,
    },
}
