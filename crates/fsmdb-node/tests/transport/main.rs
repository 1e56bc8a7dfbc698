//! The transport of nodes on loopback: what arrives, what is refused, and what survives it.

mod exchange;
mod proxy;
mod refusals;
mod requests;
mod snapshots;
mod world;
