//! How entries and states are written in the log.
//!
//! An entry is one of raft-engine's own, so that its indexes, conflicts and compactions are right;
//! a message of protobuf's that holds bytes carries it, because no other room may know how raft
//! encodes one: the index in 8 bytes, big-endian, and the entry as it encodes itself. State and
//! snapshots are values under a name.
//!
//! # Invariants
//!
//! 1. Every write has a state, which says where the log begins and ends with that write in it, and
//!    what was durable before it.
//! 2. `decode(encode(x)) == x`.
//! 3. The state is the last thing in its record, so that it is found from the end.

use fsmdb::raft::{Entry, HardState, LogError, Membership, SnapshotMeta};
use protobuf::Message as _;
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

const STATE_VERSION: u8 = 3;
const STATE_BYTES: usize = 1 + 9 * 8;

/// Bytes of what a state says of the log. It stands alone, or before other words about the records
/// before it, in states of earlier versions.
const STATE_OWN_BYTES: usize = 1 + 6 * 8;
const STATES_BEFORE: [(u8, usize); 2] = [(1, STATE_OWN_BYTES), (2, 1 + 8 * 8)];

/// What stands before an encoded state in a record of raft-engine: the group, that this is a value
/// and that it is put, the name, the length.
const STATE_FRAME: &[u8] = &[GROUP as u8, 3, 1, 5, b's', b't', b'a', b't', b'e', STATE_BYTES as u8];

/// Bytes of a state in a record of raft-engine, with what stands before it.
pub(super) const STATE_ITEM_BYTES: usize = STATE_FRAME.len() + STATE_BYTES;

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

/// Bytes of an encoded entry, as raft-engine writes it.
pub(super) fn entry_bytes(message: &BytesValue) -> u64 {
    message.compute_size().into()
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

/// What a record says of those before it.
///
/// A record behind a damaged one proves by it that the damaged one was durable, and was not cut off
/// by a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Evidence {
    /// Of this directory, and known to nobody who writes commands: no command holds a record that
    /// proves anything.
    pub(super) stamp: u64,
    /// Bytes of the records before that were not made durable yet.
    pub(super) unsynced: u64,
    /// Bytes of the entries of the record that says this. A command can hold the header of another
    /// record that ends where its own does; that one would have fewer.
    pub(super) entries_bytes: u64,
}

impl Evidence {
    /// Reads it from the last [`STATE_ITEM_BYTES`] of the items of a record; `None` of one that was
    /// written by an earlier version of this program, or is none.
    pub(super) fn find(item: &[u8]) -> Option<Self> {
        let state = item.strip_prefix(STATE_FRAME)?;
        if state.len() != STATE_BYTES || state[0] != STATE_VERSION {
            return None;
        }
        let mut numbers = numbers(&state[STATE_OWN_BYTES..]);
        let (stamp, unsynced) = (numbers.next()?, numbers.next()?);
        Some(Self { stamp, unsynced, entries_bytes: numbers.next()? })
    }
}

/// The numbers in an encoded state.
fn numbers(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes
        .chunks_exact(8)
        .map(|chunk| chunk.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

impl State {
    pub(super) fn encode(&self, evidence: Evidence) -> Vec<u8> {
        let HardState { term, vote, commit } = self.hard_state;
        let log = [self.truncated_index, self.truncated_term, self.last_index];
        let written = [evidence.stamp, evidence.unsynced, evidence.entries_bytes];
        let all = [term, vote, commit].into_iter().chain(log).chain(written);
        let mut bytes = vec![STATE_VERSION];
        bytes.extend(all.flat_map(u64::to_le_bytes));
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, LogError> {
        let form = (bytes.first().copied().unwrap_or_default(), bytes.len());
        if form != (STATE_VERSION, STATE_BYTES) && !STATES_BEFORE.contains(&form) {
            let reason = "its state is of another version of this program".to_owned();
            return Err(LogError::Corrupt { index: 0, reason });
        }
        let mut numbers = numbers(&bytes[1..]);
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
