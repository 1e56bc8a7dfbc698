//! The durable log behind a narrow door.
//!
//! # Invariants
//!
//! 1. `append` with index i discards every entry at or above i before it writes.
//! 2. Each method is one atomic write: after a crash either all of it is there or none of it.
//! 3. Writes are ordered: a synced write makes every write before it durable.
//! 4. After a failed write the log is not used again; the replica stops.
//! 5. `load` answers with the membership recorded in the snapshot, never a later one: membership
//!    changes after the snapshot are replayed from the entries.

use super::{Entry, LogError, Membership};

/// What raft must remember over a restart, besides the entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The latest term seen.
    pub term: u64,
    /// The candidate voted for in that term; 0 for none.
    pub vote: u64,
    /// The highest index known to be committed.
    pub commit: u64,
}

/// A snapshot of the state machine, by reference.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The last index the snapshot holds; 0 for none.
    pub index: u64,
    /// The term of the entry at that index.
    pub term: u64,
    /// The members as of that index.
    pub membership: Membership,
    /// Where the shell keeps the data: a file name with size and hash, never the data itself.
    /// Empty for the founding snapshot, which has none.
    pub reference: Vec<u8>,
}

impl SnapshotMeta {
    /// The snapshot every founding member starts from: index 1, term 1, no data.
    ///
    /// Index 0 is not legal for a log that has members, so the founding takes index 1; on a fresh
    /// state machine it is a [`skip`](crate::machine::Machine::skip).
    #[must_use]
    pub fn founding(membership: Membership) -> Self {
        Self { index: 1, term: 1, membership, reference: Vec::new() }
    }
}

/// What a log holds when a replica starts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recovered {
    /// The last hard state written.
    pub hard_state: HardState,
    /// The snapshot the state machine is rebuilt from.
    pub snapshot: SnapshotMeta,
    /// Index of the last entry that was compacted away; at most the snapshot's.
    pub truncated_index: u64,
    /// Term of that entry.
    pub truncated_term: u64,
    /// The entries after it, without a gap.
    pub entries: Vec<Entry>,
}

impl Recovered {
    /// The log of a founding member before its first start.
    #[must_use]
    pub fn founding(membership: Membership) -> Self {
        Self {
            hard_state: HardState { term: 1, vote: 0, commit: 1 },
            snapshot: SnapshotMeta::founding(membership),
            truncated_index: 1,
            truncated_term: 1,
            entries: Vec::new(),
        }
    }
}

/// A durable log of one replica.
///
/// A shell calls it for [`Action::Persist`](super::Action::Persist) and
/// [`Action::Compact`](super::Action::Compact), in the order the core gave them.
pub trait LogStore: Send + 'static {
    /// Reads everything back. A log that was never written answers [`Recovered::default`].
    ///
    /// # Errors
    ///
    /// [`LogError`] when the medium fails or holds something else than a log.
    fn load(&mut self) -> Result<Recovered, LogError>;

    /// Writes entries, then the hard state, as one; durable on return when `sync`.
    ///
    /// # Errors
    ///
    /// [`LogError`] when the medium fails or the entries leave a gap.
    fn append(
        &mut self,
        entries: &[Entry],
        hard_state: Option<HardState>,
        sync: bool,
    ) -> Result<(), LogError>;

    /// Replaces the whole log by a received snapshot, durably and as one write: entries cleared,
    /// truncated to the snapshot's index and term, hard state and membership recorded.
    ///
    /// The snapshot's data is durable before this is called.
    ///
    /// # Errors
    ///
    /// [`LogError`] when the medium fails or the data is not there.
    fn install_snapshot(
        &mut self,
        snapshot: &SnapshotMeta,
        hard_state: HardState,
    ) -> Result<(), LogError>;

    /// Records a snapshot this replica built and forgets entries up to and including `index`, as
    /// one write. `index` may be below the snapshot's: what lies between is the tail kept for
    /// replicas that are a little behind.
    ///
    /// # Errors
    ///
    /// [`LogError`] when the medium fails or the data is not there.
    fn compact_to(&mut self, index: u64, snapshot: &SnapshotMeta) -> Result<(), LogError>;

    /// Lets nothing be left on the medium of entries that were forgotten or replaced, nor of the
    /// name of any snapshot but the recorded one, durably. Answers with the last entry that was
    /// forgotten, or with nothing from a log that cannot do this, which is what it does unless it
    /// says otherwise.
    ///
    /// # Errors
    ///
    /// [`LogError`] when the medium fails.
    fn scrub(&mut self) -> Result<Option<u64>, LogError> {
        Ok(None)
    }
}
