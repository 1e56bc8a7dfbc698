//! The state machine behind a replicated log: one command, one transaction, one revision.
//!
//! `fsm.rs` is what a user implements, `feed.rs` gives it the log, `testing.rs` proves that it
//! is deterministic. This room knows nothing of Raft: any log with an index and a term will do.
//!
//! # Invariants
//!
//! 1. One log entry is one transaction and one revision, whose number is the entry's index.
//! 2. The applied position is in the root with the data: after each entry, also one whose command
//!    was refused or that carries none.
//! 3. An entry at or below the applied index changes nothing; an entry is never skipped.
//! 4. The same entries in the same order give the same replies and byte-identical snapshots.
//! 5. A database that a machine owns is written by the log alone.

mod error;
mod feed;
mod fsm;
pub mod testing;

pub use error::MachineError;
pub use feed::Machine;
pub use fsm::{CarriesIntents, Fsm, Outcome};
