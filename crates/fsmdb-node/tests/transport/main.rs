//! The transport of nodes on loopback: what arrives, what is refused, and what survives it.

#![expect(clippy::disallowed_methods, reason = "deadlines of tests, not of the library")]

mod exchange;
mod proxy;
mod refusals;
mod requests;
mod snapshots;
mod world;
