//! Every bound of this crate, with its reason and what happens at it.

/// Longest request that one node sends another, and longest answer: a forwarded proposal holds one
/// command, which the library bounds at 1 MiB, and its session. Longer ones are refused before
/// they are sent, and a peer that sends one is cut off.
pub const REQUEST_BYTES_MAX: usize = 2 << 20;
