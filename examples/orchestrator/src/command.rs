//! The state machine: what a log entry says, and what it does to the tables.
//!
//! # Invariants
//!
//! 1. `apply` sees the tables, the position and the command, nothing else. Ids and times are
//!    drawn by the proposer and travel in the command.
//! 2. Every command can be proposed again after an unknown outcome: what has happened before is
//!    answered with [`Done::Before`] and changes nothing.
//! 3. A refused command leaves no trace; the library rolls it back.

use std::borrow::Cow;

use fsmdb::{Applied, Builder, Db, Fsm, Machine, Read, Write, WriteTxn};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::model::{
    Allocation, AllocationId, Event, EventKind, Exit, Job, JobStatus, Kind, Node, NodeId, State,
};

/// What can be proposed to the log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Command {
    Register {
        node: Node,
        at_ms: u64,
    },
    Submit {
        job: Job,
        at_ms: u64,
    },
    Place {
        placement: Placement,
        at_ms: u64,
    },
    Claim {
        allocation: AllocationId,
        claim: u64,
    },
    Started {
        allocation: AllocationId,
        claim: u64,
        pid: u32,
        at_ms: u64,
    },
    Ended {
        allocation: AllocationId,
        claim: u64,
        exit: Exit,
        output: String,
        at_ms: u64,
    },
    Stop {
        job: String,
        at_ms: u64,
    },
    /// Nothing will run any more: schedulers and agents may go home.
    Close {
        at_ms: u64,
    },
}

/// A scheduler's decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    pub allocation: AllocationId,
    pub job: String,
    pub ordinal: u32,
    pub attempt: u32,
    pub replaces: Option<AllocationId>,
    pub node: NodeId,
}

/// The answer to a command that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Done {
    /// It happened with this entry.
    Now,
    /// It happened with an earlier entry; this one changed nothing.
    Before,
}

/// The answer to a command that was not accepted; it left no trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Error)]
pub enum Refusal {
    #[error("there is no {what} {name}")]
    Unknown { what: Cow<'static, str>, name: String },
    #[error("{what} {name} exists already, with other content")]
    Exists { what: Cow<'static, str>, name: String },
    #[error("job {job} wants no attempt {attempt} of its instance {ordinal}")]
    NotWanted { job: String, ordinal: u32, attempt: u32 },
    #[error("job {job} cannot run on node {node}: {reason}")]
    Unfit { job: String, node: String, reason: Cow<'static, str> },
    #[error("allocation {allocation} is {state:?}, or another run has claimed it")]
    NotYours { allocation: AllocationId, state: State },
    /// The database said no: a unique index stands in the way.
    #[error(transparent)]
    Statement(#[from] fsmdb::Error),
}

/// How many commits, and bytes of them, a replica keeps for feeds that come from another one. So
/// few that one which was away for long has to make up for a gap.
pub const CHANGES_KEPT: (usize, usize) = (64, 4 << 20);

/// The state machine. It has no state of its own: everything is in the tables.
pub struct Orchestrator;

impl Orchestrator {
    /// A fresh, empty replica of the state.
    pub fn machine() -> anyhow::Result<Machine<Self>> {
        let (commits, bytes) = CHANGES_KEPT;
        let db = Self::tables().keep_changes(commits, bytes).build()?;
        Ok(Machine::new(db, Self)?)
    }

    /// The description of a database with the tables of the state.
    pub fn tables() -> Builder {
        let tables = Db::builder().table::<Node>().table::<Job>().table::<Allocation>();
        tables.table::<Event>().keep_digests()
    }
}

impl Fsm for Orchestrator {
    type Command = Command;
    type Reply = Result<Done, Refusal>;

    fn apply(&self, txn: &mut WriteTxn<'_>, at: Applied, command: Command) -> Self::Reply {
        apply(txn, at, command)
    }
}

/// Does what a command says: in the transaction of its log entry, or in a fork, to see what would
/// come of it. What a refused command has written is for the caller to roll back.
pub fn apply(db: &mut impl Write, at: Applied, command: Command) -> Result<Done, Refusal> {
    match command {
        Command::Register { node, at_ms } => register(db, at, node, at_ms),
        Command::Submit { job, at_ms } => submit(db, at, job, at_ms),
        Command::Place { placement, at_ms } => place(db, at, placement, at_ms),
        Command::Claim { allocation, claim } => take(db, allocation, claim),
        Command::Started { allocation, claim, pid, at_ms } => {
            started(db, at, allocation, claim, pid, at_ms)
        }
        Command::Ended { allocation, claim, exit, output, at_ms } => {
            ended(db, at, allocation, claim, Ending { exit, output, at_ms })
        }
        Command::Stop { job, at_ms } => stop(db, at, &job, at_ms),
        Command::Close { at_ms } => close(db, at, at_ms),
    }
}

fn register(db: &mut impl Write, at: Applied, node: Node, at_ms: u64) -> Result<Done, Refusal> {
    if let Some(before) = db.table::<Node>().get(&node.id) {
        let (is_closed, is_same) =
            (before.closed, Node { closed: node.closed, ..before.value().clone() } == node);
        if !is_same || !is_closed {
            let refusal = Refusal::Exists { what: "node".into(), name: node.name };
            return before_or(is_same, refusal);
        }
        // An earlier program on the same state has closed it.
        db.table_mut::<Node>().update(&node.id, |node| node.closed = false)?;
        let note = format!("{} again", node.name);
        return record_node(db, at, note, at_ms);
    }
    let note = format!("{} with {} cpu, {} MiB", node.name, node.cpu, node.memory);
    db.insert(node)?;
    record_node(db, at, note, at_ms)
}

fn submit(db: &mut impl Write, at: Applied, job: Job, at_ms: u64) -> Result<Done, Refusal> {
    let name = job.name.clone();
    if let Some(before) = db.table::<Job>().get(&name) {
        let same = before.command == job.command && before.count == job.count;
        return before_or(same, Refusal::Exists { what: "job".into(), name });
    }
    let note = format!("{} times", job.count);
    db.insert(job)?;
    let kind = EventKind::Submitted;
    record(db, at, Record { kind, job: Some(name), of: None, at_ms, note })
}

/// Places an attempt if the job still wants it and the node still has room. Schedulers decide on
/// snapshots, so both may have changed since; and another scheduler may have been faster, which
/// the unique indexes find out.
fn place(
    db: &mut impl Write,
    at: Applied,
    placement: Placement,
    at_ms: u64,
) -> Result<Done, Refusal> {
    let id = placement.allocation;
    if let Some(before) = db.table::<Allocation>().get(&id) {
        let same = (&before.job, before.ordinal, before.attempt, before.node)
            == (&placement.job, placement.ordinal, placement.attempt, placement.node);
        let name = id.to_string();
        return before_or(same, Refusal::Exists { what: "allocation".into(), name });
    }
    let job = job_of(db, &placement.job)?;
    let node = db.table::<Node>().get(&placement.node).ok_or_else(|| Refusal::Unknown {
        what: "node".into(),
        name: placement.node.0.to_string(),
    })?;
    if !is_wanted(db, &job, &placement) {
        let Placement { job, ordinal, attempt, .. } = placement;
        return Err(Refusal::NotWanted { job, ordinal, attempt });
    }
    if let Some(reason) = misfit(db, &job, node) {
        let node = node.name.clone();
        return Err(Refusal::Unfit { job: placement.job, node, reason: reason.into() });
    }
    let note = format!("{}[{}] on {}", placement.job, placement.ordinal, node.name);
    let name = placement.job.clone();
    db.insert(Allocation {
        id,
        job: placement.job,
        ordinal: placement.ordinal,
        attempt: placement.attempt,
        replaces: placement.replaces,
        node: placement.node,
        state: State::Pending,
        claim: None,
        pid: None,
        exit: None,
        output: String::new(),
        placed_at_ms: at_ms,
        ended_at_ms: None,
    })?;
    refresh(db, &name)?;
    let kind = EventKind::Placed;
    record(db, at, Record { kind, job: Some(name), of: Some(id), at_ms, note })
}

/// Whether the job wants this attempt: the first, or the one after an attempt that failed.
fn is_wanted(db: &impl Read, job: &Job, placement: &Placement) -> bool {
    let in_bounds = placement.ordinal < job.count && placement.attempt <= job.attempts;
    let follows = match placement.replaces {
        None => placement.attempt == 1,
        Some(id) => db.table::<Allocation>().get(&id).is_some_and(|failed| {
            failed.state == State::Failed
                && (&failed.job, failed.ordinal) == (&placement.job, placement.ordinal)
                && failed.attempt + 1 == placement.attempt
        }),
    };
    in_bounds && follows && !job.stopping && !job.status.is_final()
}

/// Why `job` cannot run on `node`, if it cannot; schedulers ask the same of what they read.
pub fn misfit(db: &impl Read, job: &Job, node: &Node) -> Option<&'static str> {
    let allocations = db.table::<Allocation>().index(Allocation::BY_NODE_STATE);
    let live = || allocations.prefix(&(node.id,)).filter(|allocation| allocation.is_live());
    let jobs = db.table::<Job>();
    let used = live().filter_map(|allocation| jobs.get(&allocation.job));
    let (cpu, memory) = used.fold((0, 0), |sum, job| (sum.0 + job.cpu, sum.1 + job.memory));
    if node.closed {
        return Some("the node is closed");
    }
    if !job.accepts(node) {
        return Some("a constraint is not met");
    }
    if cpu + job.cpu > node.cpu || memory + job.memory > node.memory {
        return Some("no room is left");
    }
    let taken = job.spread && live().any(|allocation| allocation.job == job.name);
    taken.then_some("the job is to be spread and runs there already")
}

fn take(db: &mut impl Write, id: AllocationId, claim: u64) -> Result<Done, Refusal> {
    let allocation = allocation_of(db, id)?;
    if allocation.claim == Some(claim) {
        return Ok(Done::Before);
    }
    if allocation.state != State::Pending {
        return Err(Refusal::NotYours { allocation: id, state: allocation.state });
    }
    db.table_mut::<Allocation>().update(&id, |allocation| {
        allocation.state = State::Claimed;
        allocation.claim = Some(claim);
    })?;
    Ok(Done::Now)
}

fn started(
    db: &mut impl Write,
    at: Applied,
    id: AllocationId,
    claim: u64,
    pid: u32,
    at_ms: u64,
) -> Result<Done, Refusal> {
    let allocation = claimed(db, id, claim)?;
    if allocation.pid == Some(pid) {
        return Ok(Done::Before);
    }
    if allocation.state != State::Claimed {
        return Err(Refusal::NotYours { allocation: id, state: allocation.state });
    }
    db.table_mut::<Allocation>().update(&id, |allocation| {
        allocation.state = State::Running;
        allocation.pid = Some(pid);
    })?;
    refresh(db, &allocation.job)?;
    let (kind, note) = (EventKind::Started, format!("process {pid}"));
    record(db, at, Record { kind, job: Some(allocation.job), of: Some(id), at_ms, note })
}

struct Ending {
    exit: Exit,
    output: String,
    at_ms: u64,
}

fn ended(
    db: &mut impl Write,
    at: Applied,
    id: AllocationId,
    claim: u64,
    ending: Ending,
) -> Result<Done, Refusal> {
    let Ending { exit, output, at_ms } = ending;
    let allocation = claimed(db, id, claim)?;
    if !allocation.is_live() {
        let refusal = Refusal::NotYours { allocation: id, state: allocation.state };
        return before_or(allocation.exit == Some(exit), refusal);
    }
    let job = job_of(db, &allocation.job)?;
    let state = match (job.kind, exit) {
        (Kind::Service, _) if job.stopping => State::Stopped,
        (Kind::Batch, Exit::Code(0)) => State::Complete,
        _ => State::Failed,
    };
    db.table_mut::<Allocation>().update(&id, |allocation| {
        allocation.state = state;
        allocation.exit = Some(exit);
        allocation.output = output;
        allocation.ended_at_ms = Some(at_ms);
    })?;
    refresh(db, &allocation.job)?;
    let (kind, note) = (EventKind::Ended, exit.to_string());
    record(db, at, Record { kind, job: Some(allocation.job), of: Some(id), at_ms, note })
}

/// Tells a service to stop. What no agent has taken yet is stopped at once; the agents stop the
/// rest.
fn stop(db: &mut impl Write, at: Applied, name: &str, at_ms: u64) -> Result<Done, Refusal> {
    if job_of(db, name)?.stopping {
        return Ok(Done::Before);
    }
    db.table_mut::<Job>().update(name, |job| job.stopping = true)?;
    let allocations = db.table::<Allocation>().index(Allocation::BY_ATTEMPT).prefix(&(name,));
    let pending = allocations.filter(|allocation| allocation.state == State::Pending);
    for id in pending.map(|allocation| allocation.id).collect::<Vec<_>>() {
        db.table_mut::<Allocation>().update(&id, |allocation| {
            allocation.state = State::Stopped;
            allocation.ended_at_ms = Some(at_ms);
        })?;
    }
    refresh(db, name)?;
    let (kind, job, note) = (EventKind::Stopping, Some(name.to_owned()), String::new());
    record(db, at, Record { kind, job, of: None, at_ms, note })
}

/// Closes every node.
fn close(db: &mut impl Write, at: Applied, at_ms: u64) -> Result<Done, Refusal> {
    let open = db.table::<Node>().iter().filter(|node| !node.closed).map(|node| node.id);
    let open: Vec<_> = open.collect();
    if open.is_empty() {
        return Ok(Done::Before);
    }
    let note = format!("{} nodes", open.len());
    for id in open {
        db.table_mut::<Node>().update(&id, |node| node.closed = true)?;
    }
    record(db, at, Record { kind: EventKind::Closed, job: None, of: None, at_ms, note })
}

/// Derives the status of a job from its allocations.
fn refresh(db: &mut impl Write, name: &str) -> Result<(), Refusal> {
    let job = job_of(db, name)?;
    let status = status_of(db, &job);
    if status != job.status {
        db.table_mut::<Job>().update(name, |job| job.status = status)?;
    }
    Ok(())
}

fn status_of(db: &impl Read, job: &Job) -> JobStatus {
    let attempts = db.table::<Allocation>().index(Allocation::BY_ATTEMPT);
    let live = db.table::<Allocation>().index(Allocation::BY_LIVE_SLOT);
    if live.prefix(&(job.name.as_str(),)).next().is_some() {
        return JobStatus::Running;
    }
    let mut failed = false;
    for ordinal in 0..job.count {
        let last = attempts.prefix(&(job.name.as_str(), ordinal)).next_back();
        match last.map(|last| (last.state, last.attempt)) {
            Some((State::Failed, attempt)) if attempt == job.attempts => failed = true,
            Some((State::Complete | State::Stopped, _)) => {}
            _ if job.stopping => {}
            _ => return JobStatus::Pending,
        }
    }
    if failed { JobStatus::Failed } else { JobStatus::Complete }
}

fn job_of(db: &impl Read, name: &str) -> Result<Job, Refusal> {
    let job = db.table::<Job>().get(name).map(|job| job.value().clone());
    job.ok_or_else(|| Refusal::Unknown { what: "job".into(), name: name.to_owned() })
}

fn allocation_of(db: &impl Read, id: AllocationId) -> Result<Allocation, Refusal> {
    let allocation = db.table::<Allocation>().get(&id).map(|row| row.value().clone());
    allocation.ok_or_else(|| Refusal::Unknown { what: "allocation".into(), name: id.to_string() })
}

/// The allocation if the run `claim` has it.
fn claimed(db: &impl Read, id: AllocationId, claim: u64) -> Result<Allocation, Refusal> {
    let allocation = allocation_of(db, id)?;
    if allocation.claim == Some(claim) {
        return Ok(allocation);
    }
    Err(Refusal::NotYours { allocation: id, state: allocation.state })
}

fn before_or(same: bool, refusal: Refusal) -> Result<Done, Refusal> {
    if same { Ok(Done::Before) } else { Err(refusal) }
}

fn record_node(
    db: &mut impl Write,
    at: Applied,
    note: String,
    at_ms: u64,
) -> Result<Done, Refusal> {
    record(db, at, Record { kind: EventKind::Registered, job: None, of: None, at_ms, note })
}

struct Record {
    kind: EventKind,
    job: Option<String>,
    of: Option<AllocationId>,
    at_ms: u64,
    note: String,
}

fn record(db: &mut impl Write, at: Applied, record: Record) -> Result<Done, Refusal> {
    let Record { kind, job, of: allocation, at_ms, note } = record;
    db.insert(Event { entry: at.index, kind, job, allocation, at_ms, note })?;
    Ok(Done::Now)
}
