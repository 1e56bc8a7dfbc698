//! Tests of the Raft room: a seeded world over the core, directed cases, and the cluster.

mod alone;
mod chain;
mod cluster;
mod directed;
mod forged;
mod kv;
mod seeds;
mod stored;
mod world;
