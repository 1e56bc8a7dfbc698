//! What nodes ask each other beside Raft's messages, and what they answer.
//!
//! # Invariants
//!
//! 1. A request is answered by the node that gets it; none is passed on (hop limit 1).
//! 2. Bytes come from authenticated peers only, and neither way are there more than
//!    [`REQUEST_BYTES_MAX`]. No type here is recursive, but what skips a field that it does not
//!    know is: nothing is read that is deeper than [`REQUEST_DEPTH_MAX`].
//! 3. A variant or an optional field may be added; none changes its meaning. A request that is not
//!    understood is not answered: who asked learns that the answer is lost.

use std::collections::BTreeMap;

use fsmdb::raft::{MemberChange, Membership, ProposeError, Refusal, Status};
use fsmdb::{Applied, Digests, TableDigest};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::limits::{REQUEST_BYTES_MAX, REQUEST_DEPTH_MAX};

/// What one node asks another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Request {
    /// Propose this encoded command, if you lead.
    Propose {
        #[serde(with = "serde_bytes")]
        command: Vec<u8>,
    },
    /// Confirm that you lead, and say how far.
    ReadIndex,
    /// Change the members, if you lead.
    Change { steps: Vec<MemberChange> },
    /// Hand leadership over, if you lead.
    Transfer { to: u64 },
    /// Say how you are.
    Report,
    /// Say which digests you have noted.
    Digests,
    /// Your tables differ: these are right after this entry.
    Diverged { index: u64, tables: Vec<TableDigest> },
    /// Say where the members are.
    Addresses,
    /// Let nothing be left of the log up to this entry, nor of snapshots from before it.
    EraseHistory { index: u64 },
    /// Say of which snapshots you hold the files, to be sent changes in the place of this one.
    SnapshotsHeld {
        #[serde(with = "serde_bytes")]
        reference: Vec<u8>,
    },
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) is_leader: bool,
    pub(super) applied: u64,
    pub(super) last_index: u64,
    pub(super) membership: Membership,
    /// Of a leader: what each of the others has durably, and whether it answers.
    pub(super) matched: BTreeMap<u64, (u64, bool)>,
}

impl Report {
    pub(super) fn of(status: &Status) -> Self {
        let matched = status.peers.iter().map(|(id, peer)| (*id, (peer.matched, peer.is_active)));
        Self {
            is_leader: status.role == fsmdb::raft::Role::Leader,
            applied: status.applied,
            last_index: status.last_index,
            membership: status.membership.clone(),
            matched: matched.collect(),
        }
    }
}

/// What a node answers another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Answer {
    /// The command was applied; its encoded reply.
    Applied {
        at: Applied,
        #[serde(with = "serde_bytes")]
        reply: Vec<u8>,
    },
    /// Nothing was appended.
    Refused(Refused),
    /// It may have been appended, or its reply is too long to be sent.
    Unknown,
    /// Confirmed: everything acknowledged before is at or below this index.
    ReadIndex(u64),
    /// Done, or under way.
    Done,
    Report(Report),
    Digests {
        build: String,
        noted: Vec<Digests>,
    },
    /// Where the members are, as of this applied entry.
    Addresses {
        at: u64,
        addresses: BTreeMap<u64, String>,
    },
    /// Nothing is left of the log up to this entry, nor of snapshots from before it.
    Erased {
        index: u64,
    },
    NotErased {
        reason: String,
    },
    /// The files of the snapshots at these entries are here.
    SnapshotsHeld {
        indexes: Vec<u64>,
    },
}

/// A [`Refusal`] as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Refused {
    NotLeader { leader: Option<u64> },
    Transferring { to: u64 },
    Busy,
    ChangePending,
    Invalid { reason: String },
    TooLarge { bytes: usize, limit: usize },
    Encode { reason: String },
    Stopped { id: u64 },
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotLeader { leader } => Self::NotLeader { leader },
            Refusal::Transferring { to } => Self::Transferring { to },
            Refusal::Busy => Self::Busy,
            Refusal::ChangePending => Self::ChangePending,
            Refusal::TooLarge { bytes, limit } => Self::TooLarge { bytes, limit },
            other => Self::Invalid { reason: other.to_string() },
        }
    }
}

impl From<ProposeError> for Refused {
    /// Of an error after which nothing was appended.
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::NotLeader { leader } => Self::NotLeader { leader },
            ProposeError::TooLarge { bytes, limit } => Self::TooLarge { bytes, limit },
            ProposeError::Refused(refusal) => refusal.into(),
            ProposeError::Stopped { id } => Self::Stopped { id },
            ProposeError::Timeout => Self::Busy,
            other => Self::Encode { reason: other.to_string() },
        }
    }
}

impl From<Refused> for ProposeError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NotLeader { leader } => Self::NotLeader { leader },
            Refused::TooLarge { bytes, limit } => Self::TooLarge { bytes, limit },
            Refused::Encode { reason } => Self::Encode { reason },
            Refused::Stopped { id } => Self::Stopped { id },
            Refused::Transferring { to } => Self::Refused(Refusal::Transferring { to }),
            Refused::Busy => Self::Refused(Refusal::Busy),
            Refused::ChangePending => Self::Refused(Refusal::ChangePending),
            Refused::Invalid { reason } => Self::Refused(Refusal::InvalidChange { reason }),
        }
    }
}

/// The bytes of a request or answer; nothing when there are too many.
pub(super) fn encode<T: Serialize>(value: &T) -> Option<Vec<u8>> {
    let bytes = rmp_serde::to_vec_named(value).ok()?;
    (bytes.len() <= REQUEST_BYTES_MAX).then_some(bytes)
}

/// Reads what [`encode`] wrote.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    if bytes.len() <= REQUEST_BYTES_MAX { read(bytes) } else { None }
}

/// Reads a value that is no deeper than [`REQUEST_DEPTH_MAX`].
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes);
    deserializer.set_max_depth(REQUEST_DEPTH_MAX);
    T::deserialize(&mut deserializer).ok()
}

/// What bytes of a peer are as a request, an answer and a reply, each written again and read again.
/// Whether the two readings of each are equal; nothing for what is none.
#[cfg(fuzzing)]
pub fn read_again(bytes: &[u8]) -> [Option<bool>; 3] {
    use crate::session::EnvelopeReply;

    fn again<T: Serialize + DeserializeOwned + PartialEq>(bytes: &[u8]) -> Option<bool> {
        let value = decode::<T>(bytes)?;
        Some(decode::<T>(&encode(&value)?).as_ref() == Some(&value))
    }
    type Reply = EnvelopeReply<Result<String, String>>;
    [again::<Request>(bytes), again::<Answer>(bytes), again::<Reply>(bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request with a field that nobody knows, so many lists one in the other.
    fn with_unknown_field(depth: usize) -> Vec<u8> {
        let mut bytes = b"\x81\xacEraseHistory\x82\xa5index\x07\xa6nobody".to_vec();
        bytes.extend(std::iter::repeat_n(0x91, depth));
        bytes.push(0xc0);
        bytes
    }

    #[test]
    fn a_field_of_a_newer_build_is_skipped_and_not_to_any_depth() {
        let known = Some(Request::EraseHistory { index: 7 });
        assert_eq!(decode(&with_unknown_field(REQUEST_DEPTH_MAX / 2)), known);
        for depth in [REQUEST_DEPTH_MAX, 1000, 100_000] {
            assert_eq!(decode::<Request>(&with_unknown_field(depth)), None);
        }
    }
}
