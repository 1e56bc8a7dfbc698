//! Replication of a state machine over Raft.
//!
//! [`Core`] is one replica as a pure state machine over the crate `raft`: events go in, actions
//! come out. [`LogStore`] is the door to a durable log, [`MemoryLog`] one in memory. [`Cluster`]
//! runs replicas on threads of one process, with channels between them.
//!
//! # Invariants
//!
//! 1. Only this room names `raft`, `protobuf` and `slog`; none but `slog::Logger` appears in a
//!    public signature.
//! 2. `core` knows no thread, clock, channel or file. The clock of `cluster` is in one file.
//! 3. Maps whose order can be seen are sorted maps.
//!
//! # How many replicas
//!
//! Three survive the loss of one, five of two. **Two survive the loss of none**: both must answer
//! for every write, and removing one of two needs both alive. One replica alone is a group too.
//! For a warm standby beside one or two voters add a learner.

mod cluster;
mod consistency;
mod core;
mod error;
mod form;
mod log;
mod membership;
mod memory;
mod message;
#[cfg(test)]
mod tests;

pub use self::core::{
    Action, Batch, Committed, Config, Core, Event, PeerState, PeerStatus, Proposal, Role, Status,
};
pub use cluster::{Builder, Cluster, ClusterTransactError, Counters, ReplicaStatus};
pub use consistency::Consistency;
pub use error::{ClusterError, LogError, ProposeError, RaftError, ReadError, Refusal};
pub use log::{HardState, LogStore, Recovered, SnapshotMeta};
pub use membership::{MemberChange, Membership};
pub use memory::MemoryLog;
pub use message::{Entry, EntryKind, Message};
