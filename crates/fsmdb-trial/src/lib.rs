//! Real processes under faults, and the checkers of what their clients saw.
//!
//! # Rooms
//!
//! - `registers`: the state machine that is tried, with its journal.
//! - `replicas`: the processes, started, killed, paused, replaced.
//! - `proxy`: the network between them, which can be cut, delayed, slowed and broken.
//! - `client`: clients that ask them and note everything; `clock` and `numbers` serve them.
//! - `history`: what clients asked and were answered, in real time.
//! - `witnessed`: checks a history against the journal that the replicas kept.
//! - `search`: checks a history alone, by searching for an order that explains it.
//! - `wire`: the lines that clients and replicas exchange.
//! - `limits`: every bound of this crate with its reason.

#![deny(unsafe_code)]

pub mod client;
pub mod clock;
pub mod history;
pub mod limits;
pub mod numbers;
pub mod proxy;
pub mod registers;
pub mod replicas;
pub mod search;
pub mod wire;
pub mod witnessed;
