//! The node.
mod admission;
mod clock;
mod error;
mod inbox;
mod pending;
pub use error::*;
