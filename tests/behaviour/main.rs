//! What the library promises, a module a behaviour, each test named after what it shows.
//!
//! Tests of pitfalls that other stores are known for say in a comment whose they were.

#![cfg(feature = "derive")]

mod allocations;
mod bombs;
mod chains;
mod change_sets;
mod derives;
mod diff;
mod digests;
mod erase;
mod errors;
mod feeds;
mod file_limits;
mod files;
mod forks;
mod frames;
mod golden;
mod history;
mod hostile_files;
mod impure;
mod indexes;
mod intents;
mod links;
mod lookups;
mod machine;
mod metadata;
mod offline;
mod offline_text;
mod optimistic;
mod program_model;
mod programs;
mod programs_hostile;
mod reads;
mod revisions;
mod schema;
#[cfg(all(feature = "zstd", feature = "encryption"))]
mod sealed;
mod snapshots;
mod statements;
mod tables;
mod tombstones;
mod transactions;
mod traps;
mod upgrades;
mod watches;
