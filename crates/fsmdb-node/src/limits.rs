//! Every bound of this crate, with its reason and what happens at it.

/// Longest request that one node sends another, and longest answer: a forwarded proposal holds one
/// command, which the library bounds at 1 MiB, and its session. Longer ones are refused before
/// they are sent, and a peer that sends one is cut off.
pub const REQUEST_BYTES_MAX: usize = 2 << 20;

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

/// Longest identity file that is read; it has under 300 bytes. A longer one is refused as broken.
pub const IDENTITY_BYTES_MAX: u64 = 4096;

/// Longest reference to a snapshot file that is parsed: two numbers of 20 digits in its name, its
/// size, its hash. A longer one is refused.
pub const SNAPSHOT_REFERENCE_BYTES_MAX: usize = 256;
