//! Every bound of this crate, with its reason and what happens at it.

/// Most states that [`search`](crate::search) visits for one key. A history that explains itself
/// takes about as many as it has calls; one that needs more than this is answered "undecided",
/// which no test takes for a pass.
pub const SEARCH_STATES_MAX: usize = 4_000_000;
