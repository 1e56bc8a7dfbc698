//! The tables: nodes, jobs, allocations, events.
//!
//! # Invariants
//!
//! 1. `(job, ordinal, attempt)` is unique: an attempt is placed at most once, by whichever
//!    scheduler comes first.
//! 2. `(job, ordinal)` is unique among live allocations, and a failed allocation is replaced at
//!    most once.
//! 3. An allocation leaves a final state never.
//!
//! The first two are unique indexes: the database refuses what would break them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use fsmdb::{Key, Table};
use serde::{Deserialize, Serialize};

/// The key of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Key)]
#[serde(transparent)]
pub struct NodeId(pub u32);

/// The key of an allocation, drawn by the scheduler that proposes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Key)]
#[serde(transparent)]
pub struct AllocationId(pub u64);

impl fmt::Display for AllocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A machine that runs allocations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Table)]
#[table(name = "nodes", version = 1)]
pub struct Node {
    #[key]
    pub id: NodeId,
    #[index(unique, fold)]
    pub name: String,
    /// What constraints ask for: `zone`, `disk`. One index entry for each pair.
    #[index(multi)]
    pub attributes: BTreeMap<String, String>,
    /// In thousandths of a core.
    pub cpu: u32,
    /// In MiB.
    pub memory: u32,
    /// Set once nothing shall run there any more; its agent ends then.
    pub closed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Key)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Runs until it is told to stop.
    Service,
    /// Runs until its command ends.
    Batch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Key)]
#[serde(rename_all = "lowercase")]
pub enum JobStatus {
    /// Nothing of it is live, and something of it must still be placed.
    Pending,
    /// Some allocation of it is live.
    Running,
    /// Everything of it came to a good end.
    Complete,
    /// Something of it has used up its attempts.
    Failed,
}

impl JobStatus {
    pub fn is_final(self) -> bool {
        matches!(self, Self::Complete | Self::Failed)
    }
}

/// What is to run, how often and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Table)]
#[table(name = "jobs", version = 1)]
#[index(name = "kind_status", on = (kind, status))]
pub struct Job {
    #[key]
    pub name: String,
    pub kind: Kind,
    #[index]
    pub status: JobStatus,
    /// The order in which schedulers look at jobs.
    #[index(descending)]
    pub priority: u32,
    #[index(multi)]
    pub tags: BTreeSet<String>,
    /// How many of it run, told apart by their ordinals `0..count`.
    pub count: u32,
    /// How often each of them is tried.
    pub attempts: u32,
    /// For each allocation, in thousandths of a core.
    pub cpu: u32,
    /// For each allocation, in MiB.
    pub memory: u32,
    /// Whether no two of its live allocations may share a node.
    pub spread: bool,
    /// The attributes that a node must have.
    pub constraints: BTreeMap<String, String>,
    pub command: Vec<String>,
    /// The final status that the job file promises.
    pub expect: JobStatus,
    /// Set once the operator wants it to stop.
    pub stopping: bool,
}

impl Job {
    /// Whether `node` has every attribute that the constraints name.
    pub fn accepts(&self, node: &Node) -> bool {
        self.constraints.iter().all(|(name, value)| node.attributes.get(name) == Some(value))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Key)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Placed on a node; no agent has taken it yet.
    Pending,
    /// Taken by the node's agent, which alone may start its process.
    Claimed,
    /// Its process runs.
    Running,
    /// The command of a batch job ended with exit code 0.
    Complete,
    /// The process ended in any other way.
    Failed,
    /// Its service was told to stop.
    Stopped,
}

impl State {
    pub fn is_live(self) -> bool {
        matches!(self, Self::Pending | Self::Claimed | Self::Running)
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// One attempt at running one instance of a job on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Table)]
#[table(name = "allocations", version = 1)]
#[index(name = "attempt", on = (job, ordinal, attempt), unique)]
#[index(name = "live_slot", on = (job, ordinal), unique, filter = Allocation::is_live)]
#[index(name = "node_state", on = (node, state))]
pub struct Allocation {
    #[key]
    pub id: AllocationId,
    pub job: String,
    pub ordinal: u32,
    /// From 1.
    pub attempt: u32,
    /// The failed allocation that this one stands in for.
    #[index(unique)]
    pub replaces: Option<AllocationId>,
    pub node: NodeId,
    #[index]
    pub state: State,
    /// The agent's word that this run is its own; a second run would have another.
    pub claim: Option<u64>,
    pub pid: Option<u32>,
    /// Found by the exit code, where there is one.
    #[index(name = "exit_code", with = exit_code, key = i32, optional)]
    pub exit: Option<Exit>,
    /// The last line that the process wrote.
    pub output: String,
    /// In milliseconds since the program began, by the clock of the proposer.
    pub placed_at_ms: u64,
    pub ended_at_ms: Option<u64>,
}

impl Allocation {
    pub fn is_live(&self) -> bool {
        self.state.is_live()
    }
}

fn exit_code(exit: &Option<Exit>) -> Option<i32> {
    match exit {
        Some(Exit::Code(code)) => Some(*code),
        Some(Exit::Signal(_)) | None => None,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Key)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    Registered,
    Submitted,
    Placed,
    Started,
    Ended,
    Stopping,
    Closed,
}

/// What happened, in the order of the log: the key is the log entry that made it happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Table)]
#[table(name = "events", version = 1)]
pub struct Event {
    #[key]
    pub entry: u64,
    #[index]
    pub kind: EventKind,
    #[index]
    pub job: Option<String>,
    #[index]
    pub allocation: Option<AllocationId>,
    /// In milliseconds since the program began, by the clock of the proposer.
    pub at_ms: u64,
    pub note: String,
}
