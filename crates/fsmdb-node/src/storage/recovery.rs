//! What a node finds when it starts: a state machine and the log that goes on from it.
//!
//! # Invariants
//!
//! 1. The state machine stands where the log says its snapshot is, or nothing is answered.
//! 2. A snapshot that is damaged is skipped only when the log holds every entry after the one
//!    before it.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use fsmdb::raft::{LogStore, Recovered, SnapshotMeta};
use fsmdb::{Applied, Fsm, LoadOptions, Machine};
use slog::{error, info};

use super::durable::failed;
use super::{DataDir, EngineLog, StorageError};

/// Bytes that are read from a file at once.
const READ_BYTES: usize = 128 * 1024;

/// Rebuilds an empty state machine from the snapshot that the log names, and answers with what
/// [`Core::new`](fsmdb::raft::Core::new) wants beside it: `machine.applied().index` and this.
///
/// When the newest snapshot is damaged and the log holds every entry after the one before it, that
/// one is taken, and the node's log says so as an error: somebody should look at the disk. Entries
/// after the snapshot come out of the core again. Behind a snapshot that was received there is none
/// to go back to until the next one is built: no entries lead up to it. O(bytes of the snapshot).
///
/// ```
/// use fsmdb::raft::{Config, Core, Membership};
/// use fsmdb::{Applied, Db, Fsm, LoadOptions, Machine, Table, WriteTxn};
/// use fsmdb_node::storage::{DataDir, EngineLog, Identity, LogOptions, recover};
/// # use serde::{Deserialize, Serialize};
/// # use slog::{Discard, Logger, o};
/// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
/// # #[table(name = "jobs")]
/// # struct Job { #[key] id: u64 }
/// # struct Jobs;
/// # impl Fsm for Jobs {
/// #     type Command = Job;
/// #     type Reply = Result<(), fsmdb::Error>;
/// #     fn apply(&self, txn: &mut WriteTxn<'_>, _: Applied, job: Job) -> Self::Reply {
/// #         txn.insert(job).map(drop)
/// #     }
/// # }
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("node-1");
/// # let logger = Logger::root(Discard, o!());
/// let identity = Identity { cluster: 7, node: 1 };
/// let mut directory = DataDir::open(&path, identity, &logger)?;
/// let options = LogOptions { prefill_bytes: 0, ..LogOptions::default() };
/// let mut log = EngineLog::open(&mut directory, options)?;
/// if log.is_empty() {
///     log.found(Membership::of_voters([1]))?;
/// }
/// let machine = Machine::new(Db::builder().table::<Job>().build()?, Jobs)?;
/// let recovered = recover(&directory, &mut log, &machine, LoadOptions::new)?;
/// let config = Config::new(identity.node, directory.boot());
/// let core = Core::new(config, recovered, machine.applied().index, &logger)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`StorageError::NoSnapshot`] and [`StorageError::EntriesForgotten`] when there is nothing sound
/// to go on from, [`StorageError::Log`] when the log fails.
pub fn recover<F: Fsm>(
    directory: &DataDir,
    log: &mut EngineLog,
    machine: &Machine<F>,
    options: impl Fn() -> LoadOptions<'static>,
) -> Result<Recovered, StorageError> {
    let mut recovered = log.load()?;
    let newest = &recovered.snapshot;
    if newest.index > 0
        && let Err(cause) = install(directory, machine, newest, options())
    {
        let (index, reason) = (newest.index, cause.to_string());
        error!(directory.logger(), "SNAPSHOT DAMAGED, going back to the one before";
            "index" => index, "term" => newest.term, "reason" => &reason);
        recovered.snapshot = go_back(directory, log, machine, &recovered, reason, options())?;
        log.fall_back();
    }
    info!(directory.logger(), "recovered";
        "snapshot" => recovered.snapshot.index, "entries" => recovered.entries.len(),
        "term" => recovered.hard_state.term, "commit" => recovered.hard_state.commit);
    Ok(recovered)
}

/// Rebuilds the machine from the snapshot before the newest, if that leads to the same state.
fn go_back<F: Fsm>(
    directory: &DataDir,
    log: &EngineLog,
    machine: &Machine<F>,
    recovered: &Recovered,
    reason: String,
    options: LoadOptions<'_>,
) -> Result<SnapshotMeta, StorageError> {
    let index = recovered.snapshot.index;
    let Some(previous) = log.previous() else {
        let older = "the log names none".to_owned();
        return Err(StorageError::NoSnapshot { index, reason, older });
    };
    if previous.index < recovered.truncated_index {
        let (older, first) = (previous.index, recovered.truncated_index + 1);
        return Err(StorageError::EntriesForgotten { index, reason, older, first });
    }
    match install(directory, machine, previous, options) {
        Ok(()) => Ok(previous.clone()),
        Err(cause) => Err(StorageError::NoSnapshot { index, reason, older: cause.to_string() }),
    }
}

fn install<F: Fsm>(
    directory: &DataDir,
    machine: &Machine<F>,
    snapshot: &SnapshotMeta,
    options: LoadOptions<'_>,
) -> Result<(), StorageError> {
    let at = Applied { index: snapshot.index, term: snapshot.term };
    let refused =
        |path: PathBuf| move |source| StorageError::Machine { path, source: Box::new(source) };
    // The founding has no data: nothing was applied before it.
    if snapshot.reference.is_empty() {
        return machine.skip(at).map_err(refused(directory.log_path()));
    }
    let path = directory.snapshots().path_of(&snapshot.reference)?;
    let file = File::open(&path).map_err(failed("open", &path))?;
    let source = BufReader::with_capacity(READ_BYTES, file);
    let found = machine.install_chain([source], options).map_err(refused(path.clone()))?;
    if found != at {
        let reason = format!("it holds the state at {found}");
        let expected = super::reference::name_of(at);
        return Err(StorageError::WrongSnapshot { path, expected, reason });
    }
    Ok(())
}
