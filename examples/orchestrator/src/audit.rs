//! Holds the final state to what this program itself saw happen.
//!
//! The ledgers (see `control.rs`) know what was acknowledged and which processes ran. The database
//! must agree: nothing acknowledged is gone, nothing ran twice, every job ended as its file says,
//! and all replicas are byte for byte the same.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use fsmdb::{Revision, Snapshot};

use crate::command::Command;
use crate::control::Control;
use crate::group::Copy;
use crate::jobfile::Workload;
use crate::model::{Allocation, AllocationId, Job, Node};
use crate::processes::Deeds;
use crate::tail::Told;

/// How often the replicas are compared before a difference in their applied index counts.
const COMPARISONS: usize = 100;

/// What the audit found. The lists of what is wrong should be empty.
#[derive(Debug, Default)]
pub struct Findings {
    /// Acknowledged and not in the state.
    pub lost: Vec<String>,
    /// Placed or run more than once.
    pub duplicates: Vec<String>,
    /// Jobs that did not end as the job file says.
    pub unexpected: Vec<String>,
    pub replicas: Vec<Replica>,
    /// What those who follow the changes were told.
    pub told: Told,
    /// What became of the replicas that are processes, if they are.
    pub processes: Option<Deeds>,
    /// The snapshot file of the first replica.
    pub snapshot: Vec<u8>,
}

/// A replica in the end.
#[derive(Debug)]
pub struct Replica {
    pub id: u64,
    pub applied: u64,
    /// Where its snapshot begins to differ from that of the first replica, if it does.
    pub differs_at: Option<usize>,
}

impl Findings {
    pub fn replicas_identical(&self) -> bool {
        self.replicas.iter().all(|replica| replica.differs_at.is_none())
    }

    pub fn is_good(&self) -> bool {
        self.lost.is_empty()
            && self.duplicates.is_empty()
            && self.unexpected.is_empty()
            && self.replicas_identical()
            && self.told.is_good()
            && self.processes.as_ref().is_none_or(|deeds| deeds.state_kept)
    }
}

/// Holds the state `db` and the replicas to the ledgers.
pub fn audit(control: &Control, workload: &Workload, db: &Snapshot) -> Result<Findings> {
    let mut findings = Findings::default();
    for command in control.acknowledged() {
        if let Some(lost) = lost(db, &command) {
            findings.lost.push(lost);
        }
    }
    check_runs(control, db, &mut findings);
    check_placements(&control.acknowledged(), &mut findings);
    for wanted in &workload.jobs {
        let Some(job) = db.table::<Job>().get(&wanted.name) else { continue };
        if job.status != wanted.expect {
            let (name, status, expect) = (&job.name, job.status, wanted.expect);
            findings.unexpected.push(format!("job {name} ended {status:?}, not {expect:?}"));
        }
    }
    compare_replicas(control, &mut findings)?;
    Ok(findings)
}

/// What the state lacks of an acknowledged command.
fn lost(db: &Snapshot, command: &Command) -> Option<String> {
    let allocation = |id: &AllocationId| db.table::<Allocation>().get(id);
    let kept = match command {
        Command::Register { node, .. } => db.table::<Node>().contains(&node.id),
        Command::Submit { job, .. } => db.table::<Job>().contains(&job.name),
        Command::Place { placement, .. } => {
            allocation(&placement.allocation).is_some_and(|found| {
                (&found.job, found.ordinal, found.attempt, found.node)
                    == (&placement.job, placement.ordinal, placement.attempt, placement.node)
            })
        }
        Command::Claim { allocation: id, claim } => {
            allocation(id).is_some_and(|found| found.claim == Some(*claim))
        }
        Command::Started { allocation: id, pid, .. } => {
            allocation(id).is_some_and(|found| found.pid == Some(*pid))
        }
        Command::Ended { allocation: id, exit, .. } => {
            allocation(id).is_some_and(|found| found.exit == Some(*exit) && !found.is_live())
        }
        Command::Stop { job, .. } => db.table::<Job>().get(job).is_some_and(|job| job.stopping),
        Command::Close { .. } => db.table::<Node>().iter().all(|node| node.closed),
    };
    (!kept).then(|| format!("{command:?} was acknowledged and is not in the state"))
}

/// Every process that ran is in the state, with the exit that its agent saw, and ran once.
fn check_runs(control: &Control, db: &Snapshot, findings: &mut Findings) {
    let mut slots: BTreeMap<(String, u32, u32), usize> = BTreeMap::new();
    let mut allocations = BTreeSet::new();
    for run in control.runs() {
        let found = db.table::<Allocation>().get(&run.allocation);
        let exit = found.map(|allocation| allocation.exit);
        if exit != Some(run.exit) {
            let (id, slot, saw) = (run.allocation, (&run.job, run.ordinal, run.attempt), run.exit);
            let what =
                format!("{slot:?}, allocation {id}: the agent saw {saw:?}, the state {exit:?}");
            findings.lost.push(what);
        }
        if !allocations.insert(run.allocation) {
            findings.duplicates.push(format!("allocation {} ran twice", run.allocation));
        }
        *slots.entry((run.job, run.ordinal, run.attempt)).or_default() += 1;
    }
    for ((job, ordinal, attempt), times) in slots.into_iter().filter(|(_, times)| *times > 1) {
        let what = format!("{job}[{ordinal}] attempt {attempt} ran {times} times");
        findings.duplicates.push(what);
    }
}

/// No attempt was acknowledged under two allocations.
fn check_placements(acknowledged: &[Command], findings: &mut Findings) {
    let mut placed = BTreeMap::new();
    for command in acknowledged {
        let Command::Place { placement, .. } = command else { continue };
        let slot = (&placement.job, placement.ordinal, placement.attempt);
        let before = placed.insert(slot, placement.allocation);
        if before.is_some_and(|before| before != placement.allocation) {
            let (job, ordinal, attempt) = slot;
            let what = format!("{job}[{ordinal}] attempt {attempt} was placed twice");
            findings.duplicates.push(what);
        }
    }
}

/// Saves every replica at one applied index and compares the bytes.
fn compare_replicas(control: &Control, findings: &mut Findings) -> Result<()> {
    let mut copies = control.group.copies(Revision(0))?;
    for _ in 0..COMPARISONS {
        let furthest = copies.iter().map(|copy| copy.applied).max().unwrap_or_default();
        if copies.iter().all(|copy| copy.applied == furthest) {
            break;
        }
        copies = control.group.copies(Revision(furthest))?;
    }
    for Copy { id, applied, bytes } in copies {
        if findings.replicas.is_empty() {
            findings.snapshot = bytes.clone();
        }
        let differs_at = difference(&findings.snapshot, &bytes);
        findings.replicas.push(Replica { id, applied, differs_at });
    }
    let count = control.group.replicas().len();
    ensure!(findings.replicas.len() == count, "there should be {count} replicas");
    Ok(())
}

fn difference(first: &[u8], second: &[u8]) -> Option<usize> {
    let differs = first.iter().zip(second).position(|(first, second)| first != second);
    let shorter = first.len().min(second.len());
    differs.or_else(|| (first.len() != second.len()).then_some(shorter))
}
