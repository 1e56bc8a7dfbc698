//! Messages between replicas and entries of the log, as this library shows them.
//!
//! Thin covers over the types of the `raft` crate, so that no shell has to name that crate.
//!
//! # Invariants
//!
//! 1. `decode(encode(x)) == x`. The bytes are the protobuf encoding of raft-rs.
//! 2. Decoding checks form only. What a message may do to a replica is judged by
//!    [`Core::step`](super::Core::step).
//! 3. No bytes reach the parser but those without groups, in which it would go as deep as they do.

use protobuf::Message as _;
use raft::eraftpb::{self, EntryType, MessageType};

use super::{RaftError, form};

/// One message from one replica to another.
#[derive(Clone, Debug, PartialEq)]
pub struct Message(pub(super) eraftpb::Message);

impl Message {
    /// The replica the message goes to.
    #[must_use]
    pub fn to(&self) -> u64 {
        self.0.to
    }

    /// The replica that sent it.
    #[must_use]
    pub fn from(&self) -> u64 {
        self.0.from
    }

    /// The term it was sent in.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.0.term
    }

    /// Whether it carries a snapshot reference; such a message travels with its data.
    #[must_use]
    pub fn is_snapshot(&self) -> bool {
        self.0.get_msg_type() == MessageType::MsgSnapshot
    }

    /// The reference inside a snapshot message; empty in any other.
    #[must_use]
    pub fn snapshot_reference(&self) -> &[u8] {
        self.0.get_snapshot().get_data()
    }

    /// The index of the snapshot inside a snapshot message; 0 in any other.
    #[must_use]
    pub fn snapshot_index(&self) -> u64 {
        self.0.get_snapshot().get_metadata().index
    }

    /// The term of the snapshot inside a snapshot message; 0 in any other.
    #[must_use]
    pub fn snapshot_term(&self) -> u64 {
        self.0.get_snapshot().get_metadata().term
    }

    /// Replaces the reference, for a receiver that keeps the data under a name of its own.
    pub fn set_snapshot_reference(&mut self, reference: &[u8]) {
        self.0.mut_snapshot().set_data(reference.to_vec().into());
    }

    /// The bytes to send.
    ///
    /// # Errors
    ///
    /// [`RaftError::Decode`] when the message is too large for its format (2 GiB).
    pub fn encode(&self) -> Result<Vec<u8>, RaftError> {
        self.0.write_to_bytes().map_err(|error| undecodable("message", &error))
    }

    /// Reads a message back, on bounded stack whatever the bytes are. O(their length), in memory
    /// too: cap what a peer may send.
    ///
    /// # Errors
    ///
    /// [`RaftError::Decode`] when the bytes are not a message, or one with groups in it: no message
    /// has any, and the parser would recurse into them.
    ///
    /// ```
    /// use fsmdb::raft::{Message, RaftError};
    ///
    /// let refused = Message::decode(&[0x0b; 100_000]); // groups within groups
    /// assert!(matches!(refused, Err(RaftError::Decode { what: "message", .. })));
    /// ```
    pub fn decode(bytes: &[u8]) -> Result<Self, RaftError> {
        if !form::is_flat_message(bytes) {
            return Err(formless("message"));
        }
        let message = eraftpb::Message::parse_from_bytes(bytes);
        message.map(Self).map_err(|error| undecodable("message", &error))
    }
}

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A command of the state machine.
    Command,
    /// The empty entry a new leader appends.
    Empty,
    /// A change of the membership.
    Change,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry(pub(super) eraftpb::Entry);

impl Entry {
    /// Its place in the log, from 1.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.0.index
    }

    /// The term of the leader that appended it.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.0.term
    }

    /// What it is for.
    #[must_use]
    pub fn kind(&self) -> EntryKind {
        match self.0.get_entry_type() {
            EntryType::EntryNormal if self.0.data.is_empty() => EntryKind::Empty,
            EntryType::EntryNormal => EntryKind::Command,
            EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => EntryKind::Change,
        }
    }

    /// The command; `None` for an entry the state machine does not see.
    #[must_use]
    pub fn command(&self) -> Option<&[u8]> {
        (self.kind() == EntryKind::Command).then_some(&self.0.data[..])
    }

    /// The bytes to store.
    ///
    /// # Errors
    ///
    /// [`RaftError::Decode`] when the entry is too large for its format (2 GiB).
    pub fn encode(&self) -> Result<Vec<u8>, RaftError> {
        self.0.write_to_bytes().map_err(|error| undecodable("entry", &error))
    }

    /// Reads an entry back, as [`Message::decode`] reads a message.
    ///
    /// # Errors
    ///
    /// [`RaftError::Decode`] when the bytes are not an entry, or one with groups in it.
    pub fn decode(bytes: &[u8]) -> Result<Self, RaftError> {
        if !form::is_flat_entry(bytes) {
            return Err(formless("entry"));
        }
        let entry = eraftpb::Entry::parse_from_bytes(bytes);
        entry.map(Self).map_err(|error| undecodable("entry", &error))
    }
}

fn undecodable(what: &'static str, error: &protobuf::ProtobufError) -> RaftError {
    RaftError::Decode { what, reason: error.to_string() }
}

fn formless(what: &'static str) -> RaftError {
    RaftError::Decode { what, reason: "it has groups, or lengths beyond its end".to_owned() }
}
