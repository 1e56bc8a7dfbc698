//! How fresh a read must be.

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
    /// Sees a state that was true once. Costs nothing and never fails on a running replica.
    Stale,
}
