//! How fresh a read must be.

use std::time::Duration;

/// How fresh a read must be.
///
/// There is no lease: the one of raft-rs is not safe under paused processes and forced elections,
/// and a confirmed read costs one round trip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Consistency {
    /// Sees everything that was acknowledged before the read was asked. Costs a round trip of the
    /// leader to a majority.
    #[default]
    Linearizable,
    /// Sees everything that was acknowledged `age` ago or earlier, but for at most the last
    /// `entries` entries of it. Costs nothing while a confirmation of at most that age is at hand,
    /// and otherwise what a linearizable read costs. An in-process cluster confirms each.
    Bounded {
        /// How long ago the confirmation may have been asked for.
        age: Duration,
        /// How many entries of what was confirmed may be missing.
        entries: u64,
    },
    /// Sees a state that was true once. Costs nothing and never fails on a running replica.
    Stale,
}
