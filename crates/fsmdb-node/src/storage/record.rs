//! How entries and states are written in the log.
//!
//! An entry is one of raft-engine's own, so that its indexes, conflicts and compactions are right;
//! a message of protobuf's that holds bytes carries it, because no other room may know how raft
//! encodes one: the index in 8 bytes, big-endian, and the entry as it encodes itself. State and
//! snapshots are values under a name.
//!
//! # Invariants
//!
//! 1. Every write has a state, which says where the log begins and ends with that write in it.
//! 2. `decode(encode(x)) == x`.

use fsmdb::raft::{Entry, HardState, LogError, Membership, SnapshotMeta};
use protobuf::well_known_types::BytesValue;
use raft_engine::MessageExt;
use serde::{Deserialize, Serialize};

/// The number of the only group in the log.
pub(super) const GROUP: u64 = 1;

/// The name of the [`State`].
pub(super) const STATE: &[u8] = b"state";

/// The name of the snapshot that the state machine is rebuilt from.
pub(super) const SNAPSHOT: &[u8] = b"snapshot";

/// The name of the snapshot before it.
pub(super) const PREVIOUS: &[u8] = b"previous";

const STATE_VERSION: u8 = 1;
const STATE_BYTES: usize = 1 + 6 * 8;

/// Entries as raft-engine sees them.
pub(super) struct StoredEntry;

impl MessageExt for StoredEntry {
    type Entry = BytesValue;

    fn index(entry: &BytesValue) -> u64 {
        entry.value.first_chunk().map_or(0, |index| u64::from_be_bytes(*index))
    }
}

pub(super) fn encode_entry(entry: &Entry) -> Result<BytesValue, LogError> {
    let refused = |error| LogError::Write { reason: format!("entry {}: {error}", entry.index()) };
    let encoded = entry.encode().map_err(refused)?;
    let mut message = BytesValue::new();
    message.value.reserve_exact(8 + encoded.len());
    message.value.extend_from_slice(&entry.index().to_be_bytes());
    message.value.extend_from_slice(&encoded);
    Ok(message)
}

/// Reads back the entry that stands at `index`.
pub(super) fn decode_entry(index: u64, message: &BytesValue) -> Result<Entry, LogError> {
    let corrupt = |reason: String| LogError::Corrupt { index, reason };
    let encoded = message.value.get(8..).unwrap_or_default();
    let entry = Entry::decode(encoded).map_err(|error| corrupt(error.to_string()))?;
    if entry.index() != index {
        return Err(corrupt(format!("entry {} stands in its place", entry.index())));
    }
    Ok(entry)
}

/// The log but for its entries and snapshots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) hard_state: HardState,
    /// The last entry that was forgotten.
    pub(super) truncated_index: u64,
    /// Its term.
    pub(super) truncated_term: u64,
    /// The last entry.
    pub(super) last_index: u64,
}

impl State {
    pub(super) fn encode(&self) -> Vec<u8> {
        let HardState { term, vote, commit } = self.hard_state;
        let log = [self.truncated_index, self.truncated_term, self.last_index];
        let mut bytes = vec![STATE_VERSION];
        bytes.extend([term, vote, commit].into_iter().chain(log).flat_map(u64::to_le_bytes));
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, LogError> {
        if bytes.len() != STATE_BYTES || bytes[0] != STATE_VERSION {
            let reason = "its state is of another version of this program".to_owned();
            return Err(LogError::Corrupt { index: 0, reason });
        }
        let mut numbers = bytes[1..]
            .chunks_exact(8)
            .map(|chunk| chunk.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)));
        let mut next = || numbers.next().unwrap_or_default();
        let (term, vote, commit) = (next(), next(), next());
        Ok(Self {
            hard_state: HardState { term, vote, commit },
            truncated_index: next(),
            truncated_term: next(),
            last_index: next(),
        })
    }
}

/// A [`SnapshotMeta`] as it is stored.
#[derive(Serialize, Deserialize)]
struct StoredSnapshot {
    index: u64,
    term: u64,
    membership: Membership,
    reference: Vec<u8>,
}

pub(super) fn encode_snapshot(snapshot: &SnapshotMeta) -> Result<Vec<u8>, LogError> {
    let SnapshotMeta { index, term, membership, reference } = snapshot.clone();
    let stored = StoredSnapshot { index, term, membership, reference };
    let encoded = rmp_serde::to_vec_named(&stored);
    encoded.map_err(|error| LogError::Write { reason: format!("snapshot {index}: {error}") })
}

pub(super) fn decode_snapshot(bytes: &[u8]) -> Result<SnapshotMeta, LogError> {
    let stored = rmp_serde::from_slice::<StoredSnapshot>(bytes);
    let StoredSnapshot { index, term, membership, reference } = stored.map_err(|error| {
        LogError::Corrupt { index: 0, reason: format!("what it says of its snapshot: {error}") }
    })?;
    Ok(SnapshotMeta { index, term, membership, reference })
}

/// The terms of the entries, as runs of equal ones: an index, and the term from there on.
#[derive(Clone, Debug, Default)]
pub(super) struct Terms {
    runs: Vec<(u64, u64)>,
}

impl Terms {
    /// Notes the entry that takes the place of all from its index on.
    pub(super) fn push(&mut self, index: u64, term: u64) {
        while self.runs.pop_if(|(first, _)| *first >= index).is_some() {}
        if self.runs.last().is_none_or(|(_, last)| *last != term) {
            self.runs.push((index, term));
        }
    }

    /// The term of an entry that is not forgotten.
    pub(super) fn get(&self, index: u64) -> Option<u64> {
        let after = self.runs.partition_point(|(first, _)| *first <= index);
        after.checked_sub(1).map(|at| self.runs[at].1)
    }

    /// Forgets the entries up to an index.
    pub(super) fn forget(&mut self, index: u64) {
        let after = self.runs.partition_point(|(first, _)| *first <= index + 1);
        self.runs.drain(..after.saturating_sub(1));
    }
}
