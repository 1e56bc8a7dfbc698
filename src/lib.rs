//! An in-memory MVCC database for the state machine behind a Raft log.
//!
//! Orchestrators, schedulers, control planes and service registries keep their state in memory and
//! replicate the commands that change it. fsmdb is the database for that place: typed tables with
//! named indexes, lock-free snapshots for any number of readers, one atomic writer, and snapshot
//! files of the whole database that are byte-identical on every replica.
//!
//! It is not a disk database (durability is the log plus snapshots), not SQL, and not multi-writer
//! (a replicated log is serial by nature).
//!
//! # One complete example
//!
//! ```
//! use std::collections::BTreeSet;
//!
//! use fsmdb::{Applied, Db, Error, Fsm, Key, Machine, Read, Table, WriteTxn};
//! use serde::{Deserialize, Serialize};
//!
//! // Define: a table is a struct, an index is an attribute.
//! #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Key)]
//! enum Status {
//!     Pending,
//!     Running,
//! }
//!
//! #[derive(Clone, Debug, Serialize, Deserialize, Table)]
//! #[table(name = "jobs", version = 1)]
//! #[index(name = "ns_status", on = (namespace, status))]
//! struct Job {
//!     #[key]
//!     id: u64,
//!     #[index(unique)]
//!     name: String,
//!     #[index]
//!     deployment: Option<u64>,
//!     #[index(multi)]
//!     tags: BTreeSet<String>,
//!     namespace: String,
//!     status: Status,
//! }
//!
//! // Command: one log entry is one transaction is one revision.
//! #[derive(Serialize, Deserialize)]
//! enum Command {
//!     Submit(Job),
//!     Start { id: u64 },
//! }
//!
//! struct Jobs;
//!
//! impl Fsm for Jobs {
//!     type Command = Command;
//!     type Reply = Result<(), Error>;
//!
//!     fn apply(&self, txn: &mut WriteTxn<'_>, _at: Applied, command: Command) -> Self::Reply {
//!         match command {
//!             Command::Submit(job) => txn.insert(job).map(drop),
//!             Command::Start { id } => {
//!                 let mut jobs = txn.table_mut::<Job>();
//!                 jobs.update(&id, |job| job.status = Status::Running).map(drop)
//!             }
//!         }
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Feed it the log.
//! let machine = Machine::new(Db::builder().table::<Job>().build()?, Jobs)?;
//! let web = Job {
//!     id: 7,
//!     name: "web".into(),
//!     deployment: None,
//!     tags: BTreeSet::from(["edge".into(), "http".into()]),
//!     namespace: "prod".into(),
//!     status: Status::Pending,
//! };
//! let log = [Command::Submit(web.clone()), Command::Start { id: 7 }, Command::Submit(web)];
//! let mut replies = Vec::new();
//! for (command, index) in log.iter().zip(1..) {
//!     let entry = Machine::<Jobs>::encode(command)?;
//!     replies.extend(machine.apply(Applied { index, term: 1 }, &entry)?);
//! }
//! assert!(replies[2].as_ref().unwrap_err().is_conflict()); // refused, rolled back, and applied
//!
//! // Read: a snapshot is owned, never changes and never blocks.
//! fn running(db: &impl Read, namespace: &str) -> usize {
//!     db.table::<Job>().index(Job::BY_NS_STATUS).get(&(namespace, Status::Running)).count()
//! }
//! let snap = machine.read();
//! assert_eq!(running(&snap, "prod"), 1);
//! let job = snap.table::<Job>().index(Job::BY_NAME).get("web").unwrap();
//! assert_eq!((job.created().0, job.modified().0), (1, 2));
//!
//! // Save: equal states give equal bytes, and a new replica is fed by them.
//! let mut file = Vec::new();
//! snap.save(&mut file)?;
//! let replica = Machine::new(Db::builder().table::<Job>().build()?, Jobs)?;
//! assert_eq!(replica.install(file.as_slice())?, Applied { index: 3, term: 1 });
//! assert_eq!(running(&replica.read(), "prod"), 1);
//! # Ok(())
//! # }
//! ```
//!
//! # Tour
//!
//! | to | look at |
//! |---|---|
//! | define tables and indexes | [`Table`](trait@Table), [`Key`](trait@Key), [`Db::builder`] |
//! | change the layout of a table | [`Table::migrate_row`], [`Value`], [`MigrationError`] |
//! | read | [`Db::read`], [`Snapshot`], [`TableReader`], [`IndexReader`], [`Read`] |
//! | write | [`Db::write`], [`WriteTxn`], [`TableMut`], [`Savepoint`], [`Change`] |
//! | compare two versions | [`Snapshot::diff`], [`Snapshot::diff_all`], [`Difference`], [`Change`] |
//! | wait for a change | [`Snapshot::watch`], [`Db::wait_for`] |
//! | write without the lock, validated at the commit | [`Db::transact`], [`Db::optimistic`], [`Intent`] |
//! | read the past | [`Db::at`], [`Db::versions`], [`Retention`] |
//! | follow all changes | [`Db::changes`], [`Db::changes_of`], [`Feed`] |
//! | erase a tenant | [`TableMut::erase_prefix`], [`Db::erase`], [`Db::pinned_until`] |
//! | send a transaction as a value: if, then, else | [`Program`], [`WriteTxn::run`] |
//! | try a plan out, then carry it over | [`Snapshot::fork`], [`Fork`], [`Write`], [`Fork::rebase`], [`ChangeSet`] |
//! | save, load, look into a file | [`Snapshot::save`], [`Builder::load`], [`Db::restore`], [`inspect`] |
//! | save what has changed, load a chain | [`Snapshot::save_since`], [`Builder::load_chain`], [`Db::apply_incremental`] |
//! | files that are compressed, encrypted, of another version | [`SaveOptions`], [`LoadOptions`] |
//! | look into files, compare, filter, redact, compact and export them, without the types of rows | [`offline`], and the program `fsmdb-snapshot` |
//! | compare replicas without their rows | [`Builder::keep_digests`], [`Snapshot::digests`], [`Digests`] |
//! | run behind a log | [`Fsm`], [`Machine`] |
//! | prove that you are deterministic | [`testing::check`] |
//! | replicate by Raft | [`raft`] (feature `raft`) |
//!
//! # Guarantees
//!
//! | guarantee | how |
//! |---|---|
//! | a snapshot never changes and never blocks | versioned trees under one root, published in one store |
//! | a statement happens or leaves no trace | everything that can fail or panic comes before the first change |
//! | a transaction happens or leaves no trace | it works on its own root; drop and panic discard it |
//! | an index equals its rows | [`Db::check`] recomputes it |
//! | unique means unique | refused with the table, index, value and owner |
//! | replicas do not drift | no clock, randomness or hash order; [`testing::check`] compares bytes |
//! | a snapshot file has every table, and loads whole or not at all | driven by the schema, checksummed |
//! | nothing grows without bound by accident | [`limits`] |
//!
//! # Features
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `derive` | yes | `#[derive(Table)]` and `#[derive(Key)]` |
//! | `raft` | yes | the sans-I/O Raft core, the in-memory log, the in-process cluster |
//! | `uuid` | no | `uuid::Uuid` as a key |
//! | `zstd` | no | snapshot files that are compressed |
//! | `encryption` | no | snapshot files that are encrypted |

#![deny(unsafe_code)]

mod carried;
mod crew;
mod db;
mod digest;
mod english;
mod error;
mod history;
mod key;
pub mod limits;
mod machine;
mod messagepack;
#[cfg(feature = "raft")]
pub mod raft;
mod revision;
mod root;

mod schema;
mod snapshot;
mod sync;
mod table;
#[allow(unsafe_code)]
mod tree;
mod txn;
mod value;
mod watch;

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// For the fuzz targets alone.
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::snapshot::seal::{seal, unseal};
}

pub use db::{Builder, Db, Waiting};
pub use digest::{Digest, DigestError, Digests, TableDigest};
pub use error::{Error, SchemaError, WriteError};
#[cfg(feature = "derive")]
pub use fsmdb_derive::{Key, Table};
pub use history::Retention;
pub use key::{
    AsKey, AsPrefix, Descending, Elements, Folded, Key, KeyBuf, KeyError, KeyRange, KeyReader,
    PrefixEnd, StartsWith, StartsWithBytes, TextKey, decode, encode,
};
pub use machine::{CarriesIntents, Fsm, Machine, MachineError, Outcome, testing};
pub use revision::{Applied, Incarnation, InvalidIncarnation, Revision};
pub use schema::{Cardinality, Index, IndexDef, IndexKeys, Many, MigrationError, Table, Unique};
pub use snapshot::offline;
pub use snapshot::{
    Base, EncryptionKey, LoadOptions, Progress, SaveOptions, SnapshotError, Summary, TableSummary,
    inspect, inspect_with,
};
pub use table::{IndexReader, Rows, TableReader};
pub use tree::{Row, SharedRow};
pub use txn::{
    ChangeSet, ChangeSetError, Changes, Cmp, Commit, CommitError, Compare, Conflict, ConflictKind,
    Diff, DiffAll, Difference, ErasedTable, Erasure, Event, Feed, FeedError, Fork, FoundRows,
    HistoryError, IndexMemory, IndexMut, Intent, IntentError, Lagged, Memory, Op, OpResult,
    OptimisticTxn, Program, ProgramError, ProgramPath, ProgramReply, ProgramStep, Read,
    ReadConflict, RebaseError, Reset, Resolution, RowVersion, Savepoint, Select, Snapshot,
    TableMemory, TableMut, TransactError, VersionMemory, WaitError, WaitFor, Watcher, Write,
    WriteTxn,
};
pub use value::{Value, ValueError};
pub use watch::{Change, ChangeKind, Changed, Committed, OldSnapshot, Wake, Watch};
