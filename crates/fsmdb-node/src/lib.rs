//! A node of a Raft group over [`fsmdb`]: the shell around the library's sans-I/O core.
//!
//! The core decides; this crate owns what it must not know: threads, clocks, files and sockets.
//! [`Node::start`] begins a node over a directory and a TCP address; [`Node::start_with`] one over
//! any log and transport.
//!
//! # Rooms
//!
//! - `setup`: a node of its directory, its log on disk and its TCP transport.
//! - `node`: the node: its threads, proposals, reads, members.
//! - `session`: commands that are applied exactly once, however often they are sent.
//! - `storage`: the directory of a node, its log on disk, its snapshot files, what a start finds.
//! - `transport`: messages, requests and snapshots between nodes, over TCP with mutual TLS.
//! - `link`: what a node asks of a transport and what a transport hands to a node.
//! - `metrics`: what is counted and measured, as OpenMetrics text.
//! - `limits`: every bound of this crate with its reason.

#![deny(unsafe_code)]

pub mod limits;
pub mod link;
mod metrics;
pub mod node;
pub mod session;
mod setup;
pub mod storage;
pub mod transport;

/// For the fuzz targets alone.
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::node::read_again;
    pub use crate::storage::head_in;
}

pub use node::Node;
pub use session::{Sessions, with_tables};
pub use setup::Setup;
