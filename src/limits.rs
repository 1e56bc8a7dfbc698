//! Every bound of the library, with its reason and what happens at it.
//!
//! A limit is part of the contract: raising one later is easy, lowering one breaks snapshots and
//! logs that were written under the old value.

/// Longest encoded key, in bytes, of a primary key or of one index entry (index value plus
/// primary key).
///
/// Longer than any path (`PATH_MAX` is 4096 with its terminator) yet short enough that a tree
/// node full of such keys stays far below a megabyte. A statement that would make a longer key is
/// refused with [`Error::KeyTooLong`](crate::Error::KeyTooLong).
pub const KEY_BYTES_MAX: usize = 4096;

/// Bytes of an encoded key that are kept on the stack before it spills to the heap.
///
/// Covers a `(namespace, name, uuid)` key of ordinary length; a longer key costs one allocation.
pub const KEY_BYTES_INLINE: usize = 128;

/// Most tables in one schema.
///
/// Far above the 30 tables of the largest state stores we know of; it bounds what a hostile
/// snapshot header can make the loader allocate. At the limit `build()` fails.
pub const TABLES_MAX: usize = 1024;

/// Most indexes on one table.
///
/// Each index costs one tree entry per row. At the limit `build()` fails.
pub const INDEXES_PER_TABLE_MAX: usize = 64;

/// Most tombstones that a table may ask for.
///
/// Each is a key and about a hundred bytes, kept in memory and in snapshots. At the limit `build()`
/// fails; a table at its own limit forgets the oldest.
pub const TOMBSTONES_MAX: usize = 1 << 20;

/// Longest name of a table or index, in bytes.
///
/// Names travel in every error and snapshot header. At the limit `build()` fails.
pub const NAME_BYTES_MAX: usize = 128;

/// Most fields that a table may say its primary key consists of, each with a name of at most
/// [`NAME_BYTES_MAX`] bytes.
///
/// They travel in every snapshot header; no derived key has more than six. At the limit `build()`
/// fails, and a file with more is malformed.
pub const KEY_FIELDS_MAX: usize = 16;

/// Most entries that one row may have in one multi-valued index.
///
/// A row with more is refused with [`Error::TooManyEntries`](crate::Error::TooManyEntries), so
/// that one bad row cannot make a transaction arbitrarily slow.
pub const ENTRIES_PER_ROW_MAX: usize = 16_384;

/// Largest encoding of one row, in bytes of MessagePack, without the revisions that stand around it
/// in a file.
///
/// A snapshot reader holds one row in memory at a time beside the rows already loaded; MessagePack
/// can expand about a hundredfold when decoded, so this bounds the harm of one hostile row. Saving
/// a larger row fails with an error that names it; where digests are kept
/// ([`Builder::keep_digests`](crate::Builder::keep_digests)), a statement refuses it.
pub const ROW_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Most bytes that stand before a row in its record of a snapshot file: the head of an array and
/// two revisions.
///
/// The limit of a record is that of its row and these, so that every row which a statement accepts
/// can be saved, whatever its revisions.
pub const RECORD_HEAD_BYTES_MAX: usize = 1 + 9 + 9;

/// Bytes of the buffer in which statements encode rows for the digest of their table, kept from one
/// statement to the next.
///
/// Nearly every row fits; one that does not costs an allocation, and its memory is given back.
pub const DIGEST_BUFFER_BYTES: usize = 64 * 1024;

/// Most values that one row may consist of when it is read as a [`Value`](crate::Value): each
/// scalar, list, map and key is one.
///
/// A value of one byte takes 32 bytes when it stands by itself, so these take twice the memory of
/// the largest row; 16 MiB of them would take half a gigabyte. A row with more is an error of
/// whoever reads it, a migration. Rows that are read as their type, as all others are, know no
/// such limit.
pub const VALUES_PER_ROW_MAX: usize = 1 << 20;

const _: () = assert!(VALUES_PER_ROW_MAX * 32 <= 2 * ROW_BYTES_MAX);

/// Deepest nesting of one encoded record or command, the same when writing and when reading.
///
/// If writing allowed more than reading, a snapshot could be saved and never restored.
pub const DEPTH_MAX: usize = 128;

/// Deepest nesting of one encoded row: its record in a snapshot file is a level around it.
///
/// A deeper one is refused where digests are kept, and by a migration; elsewhere saving it fails.
pub const ROW_DEPTH_MAX: usize = DEPTH_MAX - 1;

/// Size at which a frame of rows is closed, in bytes.
///
/// Large enough that the checksum and the system call are cheap and that compression finds what
/// repeats, small enough that a reader needs little memory. A single row larger than this gets a
/// frame of its own.
pub const FRAME_BYTES_TARGET: usize = 64 * 1024;

/// Largest frame a reader accepts, in bytes: one row of the largest size with its key and envelope.
///
/// A longer one is refused before anything is allocated for it.
pub const FRAME_BYTES_MAX: usize = ROW_BYTES_MAX + KEY_BYTES_MAX + 1024;

// Beside the row and its key there are the heads of frame, record, key and row.
const _: () = assert!(RECORD_HEAD_BYTES_MAX + 8 + 4 + 2 <= 1024);

/// Largest payload of one chunk of a snapshot file, in bytes, before it is compressed and
/// encrypted; stored, a chunk has less than 1 MiB.
///
/// What a reader holds of a file at a time, whatever a length in the file says. A longer frame goes
/// on in further chunks.
pub const CHUNK_BYTES_MAX: usize = 1024 * 1024 - 1024;

/// Rows that are handed to a thread at once when a snapshot file is written.
///
/// Enough work that handing it over costs nothing, and little enough that all threads have some. It
/// is part of the format: frames end where a batch ends, however many threads there are.
pub const SNAPSHOT_BATCH_ROWS: usize = 1024;

/// Bytes that one thread encodes before it hands them over, when rows are large.
///
/// Bounds the memory of saving by the number of threads.
pub const SNAPSHOT_BATCH_BYTES: usize = 1024 * 1024;

/// Most threads that save or load one snapshot file; more are not started.
///
/// One thread reads or writes, and that is the limit long before.
pub const SNAPSHOT_THREADS_MAX: usize = 64;

/// Bytes of frames that are read ahead of the one that is taken next when a snapshot file is loaded
/// on several threads; no further frame is read while there are as many.
///
/// Two frames of the largest size. So memory does not grow with the number of threads when frames
/// are large; those of the usual size are bounded by their number long before.
pub const READ_AHEAD_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Most bytes that are carried from a snapshot file for those who know what they are: sections and
/// tables that the schema does not have, and [`CARRIED_ITEM_BYTES`] for each frame of them.
///
/// They are kept in memory as they stand. They are counted as they are read, and loading a file
/// with more fails at the frame that is one too many.
pub const CARRIED_BYTES_MAX: usize = 256 * 1024 * 1024;

/// What a frame that is carried counts beside its content: it stands in lists, with a name and an
/// allocation of its own.
pub const CARRIED_ITEM_BYTES: usize = 128;

/// Most frames of sections that a snapshot file may have.
///
/// An empty one takes ten bytes in a file and ten times that in memory. Far more than the two names
/// that are reserved need, at up to 16 MiB each. A file with more is refused.
pub const SECTIONS_MAX: usize = 65_536;

/// Largest encoded command of a state machine, in bytes.
///
/// A log entry is copied to every replica and kept until compaction; larger data belongs in
/// several commands. Proposing a larger one fails before it reaches the log.
pub const COMMAND_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Largest end of a table, and of a file, that a reader accepts, in bytes.
///
/// They have less than a hundred; there is room for fields that a newer version adds.
pub const END_BYTES_MAX: usize = 64 * 1024;

/// Largest header a reader accepts, in bytes: room for [`TABLES_MAX`] tables with
/// [`INDEXES_PER_TABLE_MAX`] indexes and [`KEY_FIELDS_MAX`] fields of the key each and the longest
/// names, so that every schema can be saved.
pub const HEADER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Most values, keys of maps and fields among them, that the header of a snapshot file consists of:
/// room for the largest schema.
///
/// A value of one byte takes up to 32 when it is decoded, so that a small header could else need
/// much memory. A header with more is malformed.
pub const HEADER_VALUES_MAX: usize = TABLES_MAX * (8 * INDEXES_PER_TABLE_MAX + 64);

// The name, the flag and the field names around them take less than 32 bytes beside the name.
const _: () = {
    let names = INDEXES_PER_TABLE_MAX + KEY_FIELDS_MAX + 2;
    assert!(HEADER_BYTES_MAX > TABLES_MAX * names * (NAME_BYTES_MAX + 32));
};

/// Longest text, key or other single value in the header of a snapshot file, in bytes; a name has
/// less, and a field that a newer version adds has room.
///
/// A header with a longer one is malformed, and nothing of it is decoded.
pub const HEADER_VALUE_BYTES_MAX: usize = 64 * 1024;

/// Most bytes that an error says of what a decoder found where something else should stand.
///
/// Its own message has all of a text that is out of place.
pub const READ_ERROR_BYTES_MAX: usize = 1024;

/// Entries of the Raft log after which a replica builds a snapshot of its state machine.
///
/// A restart replays at most this many entries beyond the snapshot, within a second, and the log
/// held in memory stays of this order: up to twice as many. With a fifth of it a group under full
/// load built more than two snapshots a second. Reached, the core asks its shell for one in the
/// background.
pub const LOG_SNAPSHOT_ENTRIES: u64 = 100_000;

/// Bytes of the Raft log after which a replica builds a snapshot, however few the entries.
///
/// Keeps the log in memory bounded when commands are large: to about twice as many.
pub const LOG_SNAPSHOT_BYTES: usize = 256 * 1024 * 1024;

/// Entries kept behind a snapshot when the log is compacted, at least: those behind the snapshot
/// before are kept too, so that a start can go on from that one when the file of the newest is
/// damaged.
///
/// A replica that was away for a moment catches up from them instead of fetching a snapshot.
pub const LOG_TAIL_ENTRIES: u64 = 10_000;

/// Bytes kept behind a snapshot when the log is compacted, with the same exception; the smaller of
/// both tails wins.
pub const LOG_TAIL_BYTES: usize = 64 * 1024 * 1024;

/// How many times longer than the interval of snapshots a log may get for replicas that lag, and,
/// in bytes, for a state machine that does: then a follower takes no more entries until it is
/// further, and the leader sends them again.
pub const LOG_LAG_FACTOR: u64 = 4;

/// Most entries a leader keeps for replicas that lag behind the tail.
///
/// Up to here compaction waits for a replica that answers, and for one that is being fed by a
/// snapshot. Beyond, the laggard is fed by a (new) snapshot.
pub const LOG_ENTRIES_MAX: u64 = LOG_LAG_FACTOR * LOG_SNAPSHOT_ENTRIES;

/// Bytes of entries in one append message.
///
/// Large enough that the envelope is free, small enough that a lost message is cheap to repeat.
pub const MESSAGE_BYTES_TARGET: u64 = 1024 * 1024;

/// Append messages to one replica that may be unanswered; at the limit the leader waits for it.
pub const MESSAGES_IN_FLIGHT_MAX: usize = 256;

/// Bytes of committed entries handed to the state machine at once.
///
/// Bounds the time a raft thread spends applying before it looks at its clock again.
pub const APPLY_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Entries handed to the state machine that it has not applied yet.
///
/// Bounds what waits in front of a state machine that is slower than the log. Beyond, committed
/// entries stay in the log until the state machine is further; the log itself goes on.
pub const APPLY_AHEAD_ENTRIES_MAX: u64 = 65_536;

/// Bytes of such entries, with the same end: some groups wait while one is applied. An entry that
/// is longer is handed out when nothing else waits.
pub const APPLY_AHEAD_BYTES_MAX: u64 = 4 * APPLY_BYTES_MAX;

/// Bytes of entries a leader appends before they are committed; beyond, proposals are refused as
/// busy and the proposer waits.
pub const UNCOMMITTED_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Linearizable reads that may wait for confirmation on one leader; beyond, they are refused as
/// busy.
pub const READS_WAITING_MAX: usize = 65_536;

/// Highest revision or log position that a snapshot file may have.
///
/// Half of what the number can hold, so that counting on from it cannot overflow; a file beyond it
/// is malformed.
pub const REVISION_MAX: u64 = u64::MAX >> 1;

/// Highest term or index a replica believes in a message.
///
/// Raft adds to both; a forged message near the end of the range could make that overflow.
pub const RAFT_INDEX_MAX: u64 = REVISION_MAX;

/// Terms that a message may be ahead of the replica that gets it; one further ahead is dropped.
///
/// A replica takes over a later term, and then no election of an earlier one counts: one forged
/// message at [`RAFT_INDEX_MAX`] would be the end of all elections. So many at one a millisecond
/// take seven weeks; a replica that was away for longer is given a new id, and one that has never
/// heard a term takes any.
pub const TERM_AHEAD_MAX: u64 = 1 << 32;

/// Snapshots of the state machine an in-memory log keeps: the recorded one and one that is being
/// sent or received.
pub const SNAPSHOTS_KEPT: usize = 2;

/// Mail that may wait at one replica of an in-process cluster.
///
/// A full inbox drops the message and tells the sender's raft that the replica is unreachable;
/// raft sends again. Requests of users are refused as busy.
pub const INBOX_MAX: usize = 4096;

/// Mail one replica takes from its inbox before it looks at its clock and acts.
///
/// Proposals among it become one append, reads share one round of confirmation.
pub const INBOX_BATCH_MAX: usize = 256;

/// Ticks a replica makes up for after a stall; the rest of a longer pause is forgotten, so that it
/// does not start an election only because it was late.
pub const TICKS_CAUGHT_UP_MAX: u32 = 3;

/// Entries a learner may be behind when it is promoted.
///
/// So few are sent within one round trip; a voter further behind would hold up commits.
pub const JOIN_LAG_MAX: u64 = 64;

/// Bytes of key remainders in one node of a tree; a node that would hold more is split, however few
/// its entries.
///
/// Eight keys of the greatest length fit, so every tree branches; and no copy of a node takes
/// longer than a few microseconds.
pub const NODE_REMAINDER_BYTES_MAX: usize = 8 * KEY_BYTES_MAX;

/// Chunks of 64 KiB without a live node that an engine keeps for the next use, at least; beyond
/// this and the share that [`ARENA_SPARE_RATIO`] gives, they are given back.
///
/// A table that grows and shrinks around a chunk's size should not ask the allocator each time.
pub const ARENA_SPARE_CHUNKS: usize = 4;

/// One in so many chunks of an engine may be spare.
pub const ARENA_SPARE_RATIO: usize = 16;

/// Items that a commit may free beside [`RECLAIM_ITEMS_FACTOR`] times what it unlinked itself.
///
/// So much is freed within a few microseconds, and a backlog shrinks also when commits are small.
pub const RECLAIM_ITEMS_BASE: usize = 64;

/// How many items a commit may free for each that it unlinked.
///
/// More than one, so that a backlog shrinks; few, so that no commit pays for the death of a version
/// that kept much.
pub const RECLAIM_ITEMS_FACTOR: usize = 2;

/// Handles that may be held on one row. Beyond, the process is aborted, as `std::sync::Arc` does:
/// so many can only be leaked, and the count must not wrap.
pub const ROW_HANDLES_MAX: u32 = i32::MAX as u32;

/// Rows for which a bulk insert makes room before it has seen them, on the word of the iterator
/// that brings them. Beyond, room is made as they come.
pub const BULK_ROWS_RESERVED: usize = 1 << 20;

/// Different questions that one watch, or one optimistic transaction, asks of a version and that
/// are kept apart.
///
/// Beyond, all that is asked of one tree counts as one question: whether anything in it has
/// changed. The watch may then wake for nothing, and the transaction conflict for nothing; neither
/// misses anything.
pub const QUESTIONS_MAX: usize = 65_536;

/// Questions that one [`Intent`](crate::Intent) may have asked.
///
/// Each is checked by every replica, a lookup or a pass over the range that was read; a transaction
/// that reads more belongs in a command of its own. Beyond it no intent is made, and none is read.
pub const INTENT_READS_MAX: usize = 16_384;

/// How often [`Db::transact`](crate::Db::transact) runs its closure before it gives up.
///
/// Each time another commit has changed what was read; with so many in a row the data is contended
/// beyond what trying again can help.
pub const TRANSACT_ATTEMPTS_MAX: u32 = 64;

/// Commits that the log of the change feeds keeps, unless the builder says otherwise.
///
/// A feed that is further behind is told that it lags. Enough for a second of a busy writer.
pub const FEED_COMMITS_DEFAULT: usize = 65_536;

/// Bytes of changes that the log of the change feeds keeps, unless the builder says otherwise:
/// keys and rows, without what rows own elsewhere.
pub const FEED_BYTES_DEFAULT: usize = 64 * 1024 * 1024;

/// Commits that a feed takes out of the log at once.
///
/// So many it may hold beside the log; and so many it can read between two looks at the lock that
/// the writer takes for each commit.
pub const FEED_BATCH_MAX: usize = 64;

/// Most comparisons of one program, those of nested programs included.
///
/// Each costs a lookup or two under the writer's lock; far more than a person writes, and few
/// enough that a hostile program ends within milliseconds. A larger program is refused before its
/// first comparison, with [`ProgramError::Limit`](crate::ProgramError::Limit).
pub const PROGRAM_COMPARES_MAX: usize = 1024;

/// Most operations of one program, in both branches, those of nested programs included.
///
/// Eight times what etcd allows, with the same reason; more rows belong in several programs, or in
/// a command of one's own. A larger program is refused before its first comparison.
pub const PROGRAM_OPS_MAX: usize = 1024;

/// Most programs inside each other, the outermost included.
///
/// A program runs by recursion, a small frame a level. A deeper one cannot be built, and is refused
/// when it came from bytes.
pub const PROGRAM_DEPTH_MAX: usize = 4;

/// Most bytes of one program: of its encoding, and of the names, keys and rows in it.
///
/// Half of a command, so that a command that carries a program has room for more. A larger one is
/// refused.
pub const PROGRAM_BYTES_MAX: usize = COMMAND_BYTES_MAX / 2;

/// Most rows in one reply of a program, all of its results together.
///
/// They are encoded under the writer's lock, and what reads many rows should read a snapshot. A
/// range that asks for more is refused, and so is a program whose ranges find more together; a
/// range that only has more ends at its own limit and says so.
pub const PROGRAM_ROWS_MAX: usize = 10_000;

/// Most bytes of rows in one reply of a program.
///
/// As large as the largest row, so that a program can read each. A program that finds more is
/// refused.
pub const PROGRAM_REPLY_BYTES_MAX: usize = ROW_BYTES_MAX;

// A level of nesting is a program, a list of operations and an operation; within the last are its
// fields and a selection.
const _: () = assert!(3 * PROGRAM_DEPTH_MAX + 3 < DEPTH_MAX);

/// Most rows that one [`ChangeSet`](crate::ChangeSet) may put or delete.
///
/// A plan of more belongs in several commands, so that none holds up the log. Beyond it no change
/// set is made of a fork, and none is read.
pub const CHANGES_MAX: usize = 65_536;

/// Most bytes of keys, rows and table names in one [`ChangeSet`](crate::ChangeSet).
///
/// So that its encoding, which adds less than 16 bytes for each row, fits in a command. Beyond it
/// no change set is made of a fork, and none is read.
pub const CHANGE_SET_BYTES_MAX: usize = COMMAND_BYTES_MAX - 1024 * 1024 - 64 * 1024;

// The rest is for what stands around the change set in its command.
const _: () = assert!(CHANGE_SET_BYTES_MAX + 16 * CHANGES_MAX < COMMAND_BYTES_MAX);

/// Most times that the digest of the current version is computed before the right to write is
/// taken, for an incremental snapshot file that is to be applied.
///
/// After a commit in between the file fits no more; only a restore of the same revision leads to
/// another attempt. Behind the last one the digest is computed while nobody else can write.
pub const LINK_ATTEMPTS_MAX: usize = 3;

/// Longest line of an export as English text, in bytes, without its end.
///
/// A reader holds one. Values are cut into several lines long before; a name or a tenant so long
/// that its line would be longer is an error when it is written, and a longer line one when it is
/// read.
pub const ENGLISH_LINE_BYTES_MAX: usize = 64 * 1024;

/// Most bytes of one text or of the digits of bytes on one line of such an export; what is longer
/// goes on in the next line.
pub const ENGLISH_PIECE_BYTES_MAX: usize = 4096;

/// Longest name of a field that stands in the line of its value in such an export; a longer one
/// has a line of its own.
pub const ENGLISH_NAME_BYTES_MAX: usize = 512;

/// Most fields by which such an export calls the records of a table.
///
/// They are looked for in each record. More than any key has that is derived; a table with more is
/// not written.
pub const ENGLISH_KEY_FIELDS_MAX: usize = KEY_FIELDS_MAX;

// The longest line of a value: its indentation, a name, a piece, and words.
const _: () = assert!(
    4 * (DEPTH_MAX + 1) + ENGLISH_NAME_BYTES_MAX + ENGLISH_PIECE_BYTES_MAX + 256
        < ENGLISH_LINE_BYTES_MAX
);

// The longest line of a record has its tenant, six bytes for each that is escaped, and its key in
// digits.
const _: () = assert!(8 * KEY_BYTES_MAX + 16 * 1024 < ENGLISH_LINE_BYTES_MAX);
