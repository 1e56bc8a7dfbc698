//! Every bound of this crate, with its reason and what happens at it.

/// Longest request that one node sends another, and longest answer: a forwarded proposal holds one
/// command, which the library bounds at 1 MiB, and its session. Longer ones are refused before
/// they are sent, and a peer that sends one is cut off.
pub const REQUEST_BYTES_MAX: usize = 2 << 20;

/// Proposals that may be under way at one node at a time; one more is refused as busy.
///
/// Each waits for at most its deadline. So many are enough to fill the log's batches many times.
pub const PROPOSALS_IN_FLIGHT_MAX: usize = 65_536;

/// Bytes of the commands that may be under way at one node at a time; a proposal beyond is refused
/// as busy.
///
/// Half of what a leader appends before it is committed, so that the core refuses no whole batch
/// for one command too many.
pub const PROPOSAL_BYTES_IN_FLIGHT_MAX: usize = 32 << 20;

/// Reads that may wait for a confirmation at one node; one more is refused as busy.
pub const READS_IN_FLIGHT_MAX: usize = fsmdb::limits::READS_WAITING_MAX;

/// Messages and requests of other nodes that may wait at one node.
///
/// One more is dropped, as a network would: Raft sends again, and who asked learns that the answer
/// is lost. What the node's own threads and users bring is bounded elsewhere.
pub const INBOX_MAX: usize = 8192;

/// Bytes of entries that the log thread writes as one, when several batches wait.
///
/// One record of that size is written within a few milliseconds; the next batches wait for it.
pub const LOG_WRITE_BYTES_MAX: usize = 16 << 20;

/// Ticks a node makes up for after a stall; the rest of a longer pause is forgotten, so that it
/// does not start an election only because it was late.
pub const TICKS_CAUGHT_UP_MAX: u32 = 3;

/// Ticks after which a confirmation of a read that has no answer is asked for again: two election
/// timeouts, within which a leader without followers has noticed.
pub const READ_ATTEMPT_TICKS: u32 = 20;

/// Entries a learner may be behind when it is promoted: so few are sent within one round trip, and
/// a voter further behind would hold up commits.
pub const PROMOTE_LAG_MAX: u64 = fsmdb::limits::JOIN_LAG_MAX;

/// Membership operations that one node carries out at a time, each on a thread of its own; one
/// more is refused as busy. The log takes one change after the other anyway.
pub const MEMBER_OPERATIONS_MAX: usize = 8;

/// Longest address of a member, in bytes; a longer one is refused before it is proposed.
pub const ADDRESS_BYTES_MAX: usize = 1024;

/// Longest share of a graceful stop that is spent on handing leadership over; then the node stops
/// as it is, and the others elect.
pub const STOP_HANDOVER_MAX: std::time::Duration = std::time::Duration::from_secs(3);

/// Entries between two digests that a node notes, where digests are kept.
///
/// A note costs a few microseconds and a difference is seen within so many entries.
pub const DIGEST_ENTRIES: u64 = 4096;

/// Notes of digests that a node keeps: so far may replicas be apart and still be compared.
pub const DIGESTS_KEPT: usize = 8;

/// Ticks between two comparisons of digests that a leader makes.
pub const DIGEST_CHECK_TICKS: u32 = 50;

/// Sessions of clients that the database keeps; the one that was used longest ago goes first.
///
/// A client whose session went learns so at its next command, and it is not applied.
pub const SESSIONS_MAX: usize = 10_000;

/// Entries of the log after which a session that was not used is dropped: about seven minutes at
/// ten thousand entries a second. Counted in entries, because replicas have no clock in common.
pub const SESSION_IDLE_ENTRIES: u64 = 1 << 22;

/// Replies kept for one session, and commands of it that may be under way at a time; one more is
/// refused as busy before it is sent.
pub const SESSION_REPLIES_MAX: usize = 64;

/// Bytes of the replies kept for one session. Beyond, the oldest are forgotten: that their commands
/// were applied stays known, and a retry learns that without the reply.
pub const SESSION_REPLY_BYTES_MAX: usize = 1 << 20;

/// Sessions dropped for their idleness by one entry, so that no entry pays for many.
pub const SESSIONS_DROPPED_MAX: usize = 16;
