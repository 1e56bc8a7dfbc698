//! A node of a Raft group over [`fsmdb`]: the shell around the library's sans-I/O core.
//!
//! The core decides; this crate owns what it must not know: threads, clocks, files and sockets.
//!
//! # Rooms
//!
//! - `link`: what a node asks of a transport and what a transport hands to a node.
//! - `storage`: the directory of a node, its log on disk, its snapshot files, what a start finds.
//! - `limits`: every bound of this crate with its reason.

#![deny(unsafe_code)]

pub mod limits;
pub mod link;
pub mod storage;
