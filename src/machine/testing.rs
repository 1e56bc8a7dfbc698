//! The determinism kit: proves on given commands that a state machine is deterministic.
//!
//! Put it into your tests with commands that reach every branch of your `apply`. It applies them
//! twice on machines of their own and on replicas that were restored from a snapshot on the way,
//! and requires identical replies, equal digests and byte-identical snapshots. Iteration in hash
//! order, clocks, randomness and state outside the tables show up as a [`Divergence`] that names
//! the entry.

use std::fmt;

use thiserror::Error;

use super::error::MachineError;
use super::feed::Machine;
use super::fsm::Fsm;
use crate::digest::Digests;
use crate::error::Error as StatementError;
use crate::revision::Applied;
use crate::snapshot::SnapshotError;

/// At how many places, evenly spread, a replica is restored from a snapshot.
const RESTORES: usize = 4;

/// What a successful check has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The commands that were applied.
    pub commands: usize,
    /// How many of them were refused.
    pub refused: usize,
    /// How many replicas were restored from a snapshot on the way.
    pub restored: usize,
    /// The length of the final snapshot in bytes.
    pub snapshot_bytes: usize,
}

/// Where and how a state machine is not deterministic, or why it could not be checked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Divergence {
    /// Two replicas gave different replies to the same command.
    #[error("{replica} replied {second} to entry {index}, the first replica {first}")]
    Reply {
        /// Which replica differs.
        replica: String,
        /// The index of the entry.
        index: u64,
        /// The first replica's reply.
        first: String,
        /// The other's.
        second: String,
    },
    /// Two replicas have different states after the same commands.
    #[error("{replica} differs from the first replica after entry {index} {}, at byte {offset}",
        place_of(table.as_deref()))]
    State {
        /// Which replica differs.
        replica: String,
        /// The index of the first entry after which the snapshots differ.
        index: u64,
        /// The first byte of the snapshot that differs.
        offset: usize,
        /// The first table, in the order of names, of which the replicas have different rows;
        /// `None` when only revisions or tombstones differ.
        table: Option<String>,
    },
    /// Two replicas that keep digests have different ones for the same snapshot.
    ///
    /// The encoding of a row is not a pure function of it: when the row was written, it was another
    /// than it is now.
    #[error("after entry {index} {replica} has another digest of table {table} for the same rows")]
    Digest {
        /// Which replica differs.
        replica: String,
        /// The index of the entry.
        index: u64,
        /// The table's name.
        table: String,
    },
    /// An index or a digest differs from its rows.
    #[error("after entry {index}: {source}")]
    Index {
        /// The index of the entry.
        index: u64,
        /// The difference.
        source: StatementError,
    },
    /// The machine could not take an entry or a snapshot.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// A snapshot could not be written.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

/// Applies `commands` on several replicas, each from `machine`, and compares them after every
/// entry; see the [module](self).
///
/// `machine` must give an empty machine each time. The cost is that of a snapshot for each entry
/// and replica, and of its digests, which is little where
/// [they are kept](crate::Builder::keep_digests); so a few hundred commands on small tables are a
/// good size.
///
/// ```
/// # use fsmdb::{Applied, Db, Error, Fsm, Machine, Table, WriteTxn};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
/// # #[table(name = "counters")]
/// # struct Counter { #[key] name: String, value: u64 }
/// # struct Counters;
/// # impl Fsm for Counters {
/// #     type Command = String;
/// #     type Reply = Result<(), Error>;
/// #     fn apply(&self, txn: &mut WriteTxn<'_>, _: Applied, name: String) -> Self::Reply {
/// #         txn.upsert(Counter { name, value: 1 }).map(drop)
/// #     }
/// # }
/// let machine = || {
///     let db = Db::builder().table::<Counter>().build().expect("the schema is sound");
///     Machine::new(db, Counters).expect("the database is new")
/// };
/// let commands: Vec<String> = (0..20).map(|n| format!("counter {n}")).collect();
/// let report = fsmdb::testing::check(machine, &commands)?;
/// assert_eq!(report.commands, 20);
/// # Ok::<(), fsmdb::testing::Divergence>(())
/// ```
///
/// # Errors
///
/// [`Divergence`] with the first entry at which replicas differ.
pub fn check<F>(
    machine: impl Fn() -> Machine<F>,
    commands: &[F::Command],
) -> Result<Report, Divergence>
where
    F: Fsm,
    F::Reply: PartialEq + fmt::Debug,
{
    let entries: Vec<_> = commands.iter().map(Machine::<F>::encode).collect::<Result<_, _>>()?;
    let first = machine();
    let mut others = vec![("the second replica".to_owned(), machine())];
    let every = entries.len().div_ceil(RESTORES + 1).max(1);
    let mut refused = 0;
    let mut snapshot_bytes = 0;
    for (entry, index) in entries.iter().zip(1_u64..) {
        let at = Applied { index, term: 1 };
        let reply = first.apply(at, entry)?;
        refused += usize::from(reply.as_ref().is_some_and(super::fsm::Outcome::is_refused));
        first.read().check().map_err(|source| Divergence::Index { index, source })?;
        let state = state_of(&first, index)?;
        for (replica, other) in &others {
            compare_reply(replica, index, &reply, &other.apply(at, entry)?)?;
            compare_state(replica, index, &state, &state_of(other, index)?)?;
        }
        if (index as usize).is_multiple_of(every) && index as usize != entries.len() {
            let restored = machine();
            restored.install(state.file.as_slice())?;
            let replica = format!("the replica restored at entry {index}");
            compare_state(&replica, index, &state, &state_of(&restored, index)?)?;
            others.push((replica, restored));
        }
        snapshot_bytes = state.file.len();
    }
    let (commands, restored) = (entries.len(), others.len() - 1);
    Ok(Report { commands, refused, restored, snapshot_bytes })
}

/// What is compared of a replica.
struct State {
    file: Vec<u8>,
    digests: Digests,
}

/// The state of a replica after the entry at `index`.
fn state_of<F: Fsm>(machine: &Machine<F>, index: u64) -> Result<State, Divergence> {
    let (snap, mut file) = (machine.read(), Vec::new());
    snap.save(&mut file)?;
    let digests = snap.digests().map_err(|source| Divergence::Index { index, source })?;
    Ok(State { file, digests })
}

/// Where replicas differ, for a person.
fn place_of(table: Option<&str>) -> String {
    match table {
        Some(table) => format!("in table {table}"),
        None => "in revisions or tombstones alone".into(),
    }
}

fn compare_reply<R: PartialEq + fmt::Debug>(
    replica: &str,
    index: u64,
    first: &R,
    second: &R,
) -> Result<(), Divergence> {
    if first == second {
        return Ok(());
    }
    let (first, second) = (format!("{first:?}"), format!("{second:?}"));
    Err(Divergence::Reply { replica: replica.to_owned(), index, first, second })
}

fn compare_state(
    replica: &str,
    index: u64,
    first: &State,
    second: &State,
) -> Result<(), Divergence> {
    let replica = replica.to_owned();
    let table = first.digests.first_difference(&second.digests).map(str::to_owned);
    if first.file != second.file {
        let bytes = first.file.iter().zip(&second.file);
        let offset = bytes.take_while(|(one, other)| one == other).count();
        return Err(Divergence::State { replica, index, offset, table });
    }
    match table {
        Some(table) => Err(Divergence::Digest { replica, index, table }),
        None => Ok(()),
    }
}
