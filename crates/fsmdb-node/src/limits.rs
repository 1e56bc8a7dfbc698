//! Every bound of this crate, with its reason and what happens at it.

use std::time::Duration;

use fsmdb::limits::COMMAND_BYTES_MAX;

/// Longest request that one node sends another, and longest answer: a forwarded proposal holds one
/// command and where it stands in its session. Longer ones are refused before they are sent, and a
/// peer that sends one is cut off.
pub const REQUEST_BYTES_MAX: usize = COMMAND_BYTES_MAX + (64 << 10);

/// Deepest nesting of a request, an answer, or a reply in one: as deep as a command may be. Deeper
/// ones are not read, as if they were not understood; reading them could overflow the stack.
pub const REQUEST_DEPTH_MAX: usize = fsmdb::limits::DEPTH_MAX;

/// Size at which the log begins a new file. Small files let the space of forgotten entries be used
/// again soon; each new one costs a sync of the folder. The last record may pass it.
pub const LOG_FILE_BYTES: u64 = 16 << 20;

/// Size of the log above which [`Housekeeper::run`](crate::storage::Housekeeper::run) takes away
/// files whose entries are forgotten. Below it nothing is looked for.
pub const LOG_PURGE_BYTES: u64 = 256 << 20;

/// Zeros that the first open of a log writes ahead, half as much again: overwriting blocks that
/// were written before needs no commit of the file system's journal, so a sync is shorter and
/// calmer. When the disk is too full for them, the log does without.
pub const LOG_PREFILL_BYTES: u64 = 128 << 20;

/// Threads that read the files of a log back at its open.
pub const LOG_RECOVERY_THREADS: usize = 2;

/// Bytes of a file of the log that are in memory while it is read over before an open. Longer files
/// are read in so many reads more.
pub const LOG_WINDOW_BYTES: usize = 64 << 10;

/// Longest identity file that is read; it has under 300 bytes. A longer one is refused as broken.
pub const IDENTITY_BYTES_MAX: u64 = 4096;

/// Longest reference to a snapshot file that is parsed: two numbers of 20 digits in its name, its
/// size, its hash. A longer one is refused.
pub const SNAPSHOT_REFERENCE_BYTES_MAX: usize = 256;
/// Longest encoded message of Raft that is sent or taken. An append holds at least one entry, and
/// that one command, however long; twice the longest command leaves room for what stands around.
/// Longer ones are not sent, and a peer that sends one is cut off.
pub const MESSAGE_BYTES_MAX: usize = 2 * COMMAND_BYTES_MAX;

/// Messages that wait for one peer. Beyond, the newest is dropped and the peer is reported as
/// unreachable: Raft sends again, and fresher.
pub const PEER_QUEUE_MESSAGES_MAX: usize = 4096;

/// Bytes of messages that wait for one peer, with the same end. Room for a few of the longest.
pub const PEER_QUEUE_BYTES_MAX: usize = 4 * MESSAGE_BYTES_MAX;

/// Bytes after which no further message or request joins a write. Larger writes save nothing, and
/// the keep-alive behind them waits.
pub const BATCH_BYTES_TARGET: usize = 1 << 20;

/// Bytes of a message that the thread which queues it writes itself, when nothing waits before it.
///
/// A longer one is left to the threads of the transport, so that the raft thread copies little.
pub const AT_ONCE_BYTES_MAX: usize = 64 << 10;

/// Requests to one peer that are not answered, and requests of one peer that are being worked on.
/// Beyond, the next one is told [`LinkError::Full`](crate::link::LinkError::Full).
pub const REQUESTS_IN_FLIGHT_MAX: usize = 4096;

/// Bytes of requests that wait to be written to one peer, and of answers that wait for one. A
/// request beyond is told `Full`; an answer beyond is lost.
pub const REQUEST_QUEUE_BYTES_MAX: usize = 64 << 20;

/// Longest time a request waits for its answer, whatever was asked: it holds its caller's memory.
pub const REQUEST_TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// Incoming connections whose handshake is not done. Beyond, the oldest of them is closed for the
/// new one: strangers cost no memory without end, and who says nothing keeps no peer out.
pub const CONNECTIONS_UNAUTHENTICATED_MAX: usize = 64;

/// Time for a connection and its handshake, unless the configuration says otherwise. Then it is
/// closed.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Time between two signs of life, unless the configuration says otherwise.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);

/// Time without a byte that is read, or taken in a write, after which a connection is taken for
/// dead and closed, unless the configuration says otherwise. A few signs of life may be late.
pub const PEER_SILENCE_MAX: Duration = Duration::from_secs(5);

/// First pause before a peer is dialled again, unless the configuration says otherwise; doubled
/// with each failure.
pub const RECONNECT_PAUSE_MIN: Duration = Duration::from_millis(50);

/// Longest such pause, unless the configuration says otherwise: a peer that returns is found in
/// this time.
pub const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(2);

/// Pause of the listener when the system has no connection to give, for want of descriptors.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Threads of a transport's runtime: one can encrypt a snapshot while the other carries heartbeats.
pub const TRANSPORT_THREADS: usize = 2;

/// Threads of a transport that wait for the disk, and for the addresses of names: some for each of
/// the peers that a group has. Further work waits for one.
pub const TRANSPORT_DISK_THREADS: usize = 16;

/// How long the end of a transport waits for what runs; then its threads are left behind.
pub const TRANSPORT_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes that a connection reads at once.
pub const READ_BYTES: usize = 64 << 10;

/// Memory that a connection keeps for its next frame; what a longer frame needed is given back.
pub const READ_BYTES_KEPT: usize = 4 << 20;

/// Least time between two lines of the log about one kind of misbehaviour; those between are
/// counted.
pub const COMPLAINT_INTERVAL: Duration = Duration::from_secs(1);

/// Longest encoded snapshot message: a reference, a membership, no entries. A longer one is not
/// sent, and a peer that sends one is cut off.
pub const SNAPSHOT_MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Largest snapshot file that is sent or taken, unless the configuration says otherwise: what a
/// peer can make a node store. A larger one is refused before its first byte.
pub const SNAPSHOT_FILE_BYTES_MAX: u64 = 256 << 30;

/// Bytes of a snapshot file in one frame, each with its checksum.
pub const SNAPSHOT_CHUNK_BYTES: usize = 1 << 20;

/// How many times larger than its changes a snapshot file is at least, for them to be sent in its
/// place. Larger ones are not kept: whoever gets them writes the whole file anyway.
pub const CHANGES_SHARE: u64 = 2;

/// Files of changes that lead from one snapshot to a later one and are sent together; also how many
/// are kept. A receiver whose snapshot is older gets the whole file.
pub const CHANGES_FILES_MAX: usize = 64;

/// Attempts to send one receiver changes in the place of one snapshot: one, and one that goes on
/// where the first was cut. Then it gets the whole file.
pub const CHANGES_ATTEMPTS_MAX: u32 = 2;

/// Ticks that a receiver has for saying of which snapshots it holds the files. Then it gets the
/// whole file.
pub const HELD_ANSWER_TICKS: u32 = 10;

/// Bytes of a snapshot that are sent in a second, unless the configuration says otherwise: half of
/// a gigabit, so that messages beside it stay quick.
pub const SNAPSHOT_BYTES_PER_SECOND: u64 = 64 << 20;

/// Least rate that a configuration can ask for; a lower one is raised, so that a chunk always
/// arrives within [`SNAPSHOT_CHUNK_TIMEOUT`].
pub const SNAPSHOT_BYTES_PER_SECOND_MIN: u64 = 128 << 10;

/// Time for one chunk to be written or to arrive. Then the transfer has failed; what has arrived
/// is kept for the next one.
pub const SNAPSHOT_CHUNK_TIMEOUT: Duration = Duration::from_secs(30);

/// Time for the receiver to read over what it has of a file, and for its node to take one. Then
/// the transfer has failed.
pub const SNAPSHOT_TAKE_TIMEOUT: Duration = Duration::from_secs(600);
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

/// Erasures of history that wait at one node for its state machine or a snapshot. Each holds a few
/// words; the work of all is done once. Beyond, the one of the latest entry is refused as busy: an
/// entry that never comes keeps no place.
pub const ERASURES_WAITING_MAX: usize = 64;

/// Longest address of a member, in bytes; a longer one is refused before it is proposed.
pub const ADDRESS_BYTES_MAX: usize = 1024;

/// Longest share of a graceful stop that is spent on handing leadership over; then the node stops
/// as it is, and the others elect.
pub const STOP_HANDOVER_MAX: Duration = Duration::from_secs(3);

/// Ticks without a word of a leader after which a node asks the peers it knows for their address
/// books, and between two times that it asks: three election timeouts, so that a mere election asks
/// nobody.
pub const ADDRESSES_ASKED_TICKS: u32 = 30;

/// Ticks for which a peer is looked for at the address that the log gave at the start, and then for
/// as long at the one that the database gives, while it is reached at neither: an election timeout,
/// in which a connection is tried several times.
pub const ADDRESS_TRIED_TICKS: u32 = 10;

/// Members in an address book that is taken from a peer; a longer one is not taken. No group has so
/// many.
pub const ADDRESSES_TOLD_MAX: usize = 1024;

/// Ticks between two times that a leader looks whether the rows of members are as the members are.
/// What a lost proposal did not write is written so much later.
pub const ANNOUNCE_TICKS: u32 = 50;

/// Entries between two digests that a node notes, where digests are kept.
///
/// A note costs a few microseconds and a difference is seen within so many entries: what is named
/// is the noted entry, not the one that made the difference.
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

/// Replies kept for one session, and commands of it that may be under way at a time, unless its
/// bounds say otherwise; one more is refused as busy before it is sent.
pub const SESSION_REPLIES_MAX: usize = 64;

/// Bytes of the replies kept for one session. Beyond, the oldest are forgotten: that their commands
/// were applied stays known, and a retry learns that without the reply.
pub const SESSION_REPLY_BYTES_MAX: usize = 1 << 20;

/// Sessions dropped for their idleness by one entry, so that no entry pays for many.
pub const SESSIONS_DROPPED_MAX: usize = 16;
