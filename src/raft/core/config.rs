//! How a core is set up.

use raft::ReadOnlyOption;

use crate::limits::{
    APPLY_AHEAD_BYTES_MAX, APPLY_AHEAD_ENTRIES_MAX, APPLY_BYTES_MAX, LOG_ENTRIES_MAX,
    LOG_LAG_FACTOR, LOG_SNAPSHOT_BYTES, LOG_SNAPSHOT_ENTRIES, LOG_TAIL_BYTES, LOG_TAIL_ENTRIES,
    MESSAGE_BYTES_TARGET, MESSAGES_IN_FLIGHT_MAX, UNCOMMITTED_BYTES_MAX,
};
use crate::raft::RaftError;

/// Settings of one replica's [`Core`](super::Core). Time is counted in ticks only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The replica's id: not 0, unique in the group, never used again after its removal.
    pub id: u64,
    /// A number no earlier start of this replica used; part of every read context.
    pub boot: u64,
    /// With a seed the election timeouts are a function of it, and the core is deterministic.
    /// Without one raft draws them from the thread's random number generator.
    pub seed: Option<u64>,
    /// Ticks without a leader before an election, at least; at most twice as many.
    pub election_ticks: usize,
    /// Ticks between heartbeats.
    pub heartbeat_ticks: usize,
    /// See [`LOG_SNAPSHOT_ENTRIES`].
    pub snapshot_entries: u64,
    /// See [`LOG_SNAPSHOT_BYTES`].
    pub snapshot_bytes: usize,
    /// See [`LOG_TAIL_ENTRIES`].
    pub tail_entries: u64,
    /// See [`LOG_TAIL_BYTES`].
    pub tail_bytes: usize,
    /// See [`LOG_ENTRIES_MAX`].
    pub log_entries_max: u64,
    /// See [`APPLY_AHEAD_ENTRIES_MAX`].
    pub apply_ahead_entries: u64,
    /// See [`APPLY_AHEAD_BYTES_MAX`].
    pub apply_ahead_bytes: u64,
}

impl Config {
    /// The settings for production, with heartbeats every tick and elections after ten: made for
    /// a tick of 100 ms.
    ///
    /// ```
    /// # use fsmdb::raft::Config;
    /// assert_eq!(Config::new(1, 7).election_ticks, 10);
    /// ```
    #[must_use]
    pub fn new(id: u64, boot: u64) -> Self {
        Self {
            id,
            boot,
            seed: None,
            election_ticks: 10,
            heartbeat_ticks: 1,
            snapshot_entries: LOG_SNAPSHOT_ENTRIES,
            snapshot_bytes: LOG_SNAPSHOT_BYTES,
            tail_entries: LOG_TAIL_ENTRIES,
            tail_bytes: LOG_TAIL_BYTES,
            log_entries_max: LOG_ENTRIES_MAX,
            apply_ahead_entries: APPLY_AHEAD_ENTRIES_MAX,
            apply_ahead_bytes: APPLY_AHEAD_BYTES_MAX,
        }
    }

    pub(super) fn check(&self) -> Result<(), RaftError> {
        let refuse = |reason: &str| Err(RaftError::Config { reason: reason.to_owned() });
        if self.id == 0 {
            return refuse("0 is not a replica id");
        }
        if self.heartbeat_ticks == 0 || self.election_ticks <= self.heartbeat_ticks {
            return refuse(
                "an election must wait for more ticks than a heartbeat, and that for one",
            );
        }
        if self.snapshot_entries == 0 || self.log_entries_max < self.tail_entries {
            return refuse("the longest log must hold the tail, and snapshots need an interval");
        }
        if self.apply_ahead_entries == 0 {
            return refuse("a state machine that is given no entry applies none");
        }
        Ok(())
    }

    /// The longest log in bytes: see [`LOG_LAG_FACTOR`].
    pub(super) fn log_bytes_max(&self) -> usize {
        self.snapshot_bytes.saturating_mul(LOG_LAG_FACTOR as usize)
    }

    /// Pre-vote and check-quorum are always on; reads are always confirmed by a quorum, because a
    /// lease of raft-rs is no lease under paused processes and forced elections.
    pub(super) fn to_raft(&self, applied: u64) -> raft::Config {
        raft::Config {
            id: self.id,
            election_tick: self.election_ticks,
            heartbeat_tick: self.heartbeat_ticks,
            applied,
            max_size_per_msg: MESSAGE_BYTES_TARGET,
            max_inflight_msgs: MESSAGES_IN_FLIGHT_MAX,
            check_quorum: true,
            pre_vote: true,
            read_only_option: ReadOnlyOption::Safe,
            skip_bcast_commit: false,
            batch_append: false,
            max_uncommitted_size: UNCOMMITTED_BYTES_MAX,
            max_committed_size_per_ready: APPLY_BYTES_MAX,
            ..raft::Config::default()
        }
    }

    /// The election timeout in `[election_ticks, 2 * election_ticks)` for one epoch of one
    /// replica: splitmix64 over the inputs, so that equal inputs give equal runs.
    pub(super) fn election_timeout(&self, seed: u64, term: u64, epoch: u64) -> usize {
        let mut mixed = seed ^ self.id.rotate_left(48) ^ term.rotate_left(24) ^ epoch;
        for _ in 0..2 {
            mixed = mixed.wrapping_add(0x9E37_79B9_7F4A_7C15);
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            mixed ^= mixed >> 31;
        }
        let range = self.election_ticks as u64;
        self.election_ticks + usize::try_from(mixed % range).unwrap_or(0)
    }
}
