//! What the program prints in the end, for people and as JSON.

use std::collections::BTreeMap;
use std::fmt;

use fsmdb::Snapshot;
use serde::Serialize;

use crate::audit::Findings;
use crate::control::Control;
use crate::model::{Allocation, Event, Job, JobStatus, Kind, Node, State};
use crate::processes::Deeds;
use crate::tail::Told;

/// Everything that is worth telling about a run.
#[derive(Debug, Serialize)]
pub struct Summary {
    pub ok: bool,
    pub seed: u64,
    pub seconds: f64,
    pub nodes: usize,
    pub jobs: usize,
    pub allocations: usize,
    pub allocations_by_state: BTreeMap<State, usize>,
    pub exit_codes: BTreeMap<i32, usize>,
    pub job_results: Vec<JobResult>,
    pub events: usize,
    pub elections: u64,
    pub entries_applied: u64,
    /// Nothing where that is not known.
    pub snapshots_installed: Option<u64>,
    pub snapshot_bytes: usize,
    pub proposals_acknowledged: u64,
    pub proposals_refused: u64,
    pub proposals_unknown: u64,
    pub proposals_retried: u64,
    pub lost: usize,
    pub duplicates: usize,
    pub replicas: Vec<u64>,
    pub replicas_identical: bool,
    /// How often a worker or a tail went to another replica because its own had ended.
    pub moved: u64,
    pub changes: Told,
    /// What became of the voters, where they are processes of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<Deeds>,
    /// One sentence for each thing that went wrong.
    pub problems: Vec<String>,
}

/// One job in the end.
#[derive(Debug, Serialize)]
pub struct JobResult {
    pub name: String,
    pub kind: Kind,
    pub status: JobStatus,
    pub count: u32,
    /// How many allocations it took.
    pub allocations: usize,
    /// The last line that any of its processes wrote.
    pub output: String,
}

impl Summary {
    /// Of a run that has ended in the state `db`.
    pub fn new(control: &Control, db: &Snapshot, findings: &Findings, seed: u64) -> Self {
        let allocations = db.table::<Allocation>();
        let mut allocations_by_state = BTreeMap::new();
        for allocation in allocations.index(Allocation::BY_STATE).iter() {
            *allocations_by_state.entry(allocation.state).or_default() += 1;
        }
        let codes = allocations.index(Allocation::BY_EXIT_CODE);
        let mut exit_codes = BTreeMap::new();
        for code in 0..=u8::MAX.into() {
            let count = codes.get(&code).count();
            if count > 0 {
                exit_codes.insert(code, count);
            }
        }
        let jobs = db.table::<Job>();
        let job_results = jobs.index(Job::BY_PRIORITY).iter().map(|job| {
            let attempts = allocations.index(Allocation::BY_ATTEMPT);
            let own = || attempts.prefix(&(job.name.as_str(),));
            let mut output = own().rev().map(|last| last.output.clone());
            JobResult {
                name: job.name.clone(),
                kind: job.kind,
                status: job.status,
                count: job.count,
                allocations: own().count(),
                output: output.find(|output| !output.is_empty()).unwrap_or_default(),
            }
        });
        let (proposals, group) = (control.proposals(), &control.group);
        Self {
            ok: findings.is_good(),
            seed,
            seconds: (control.elapsed().as_secs_f64() * 100.0).round() / 100.0,
            nodes: db.table::<Node>().len(),
            jobs: jobs.len(),
            allocations: allocations.len(),
            allocations_by_state,
            exit_codes,
            job_results: job_results.collect(),
            events: db.table::<Event>().len(),
            elections: group.elections(),
            entries_applied: db.applied().index,
            snapshots_installed: group.snapshots_installed(),
            snapshot_bytes: findings.snapshot.len(),
            proposals_acknowledged: proposals.acknowledged,
            proposals_refused: proposals.refused,
            proposals_unknown: proposals.unknown,
            proposals_retried: proposals.retried,
            lost: findings.lost.len(),
            duplicates: findings.duplicates.len(),
            replicas: findings.replicas.iter().map(|replica| replica.id).collect(),
            replicas_identical: findings.replicas_identical(),
            moved: control.moved(),
            changes: findings.told.clone(),
            processes: findings.processes.clone(),
            problems: problems(findings),
        }
    }
}

fn problems(findings: &Findings) -> Vec<String> {
    let Findings { lost, duplicates, unexpected, told, .. } = findings;
    let found = [lost, duplicates, unexpected, &told.problems];
    let mut problems: Vec<_> = found.into_iter().flatten().cloned().collect();
    for replica in &findings.replicas {
        if let Some(offset) = replica.differs_at {
            let (id, applied) = (replica.id, replica.applied);
            problems.push(format!("replica {id} at index {applied} differs at byte {offset}"));
        }
    }
    if findings.processes.as_ref().is_some_and(|deeds| !deeds.state_kept) {
        problems.push("the state is another one after the restart from disk".to_owned());
    }
    problems
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = ["job", "kind", "status", "count", "allocations"];
        let [job, kind, status, count, allocations] = title;
        writeln!(f, "{job:20} {kind:8} {status:9} {count:>5} {allocations:>11}  last output")?;
        for job in &self.job_results {
            let (kind, status) = (lower(job.kind), lower(job.status));
            let JobResult { name, count, allocations, output, .. } = job;
            writeln!(f, "{name:20} {kind:8} {status:9} {count:5} {allocations:11}  {output}")?;
        }
        let states = self.allocations_by_state.iter();
        let states = states.map(|(state, count)| format!("{count} {}", lower(state)));
        let codes = self.exit_codes.iter().map(|(code, count)| format!("{count} x {code}"));
        let line = |f: &mut fmt::Formatter<'_>, what: &str, value: String| {
            writeln!(f, "{what:18} {value}")
        };
        writeln!(f)?;
        line(f, "jobs", format!("{} on {} nodes", self.jobs, self.nodes))?;
        line(f, "allocations", format!("{} ({})", self.allocations, join(states)))?;
        line(f, "exit codes", join(codes))?;
        line(f, "proposals", self.proposals())?;
        line(f, "lost", self.lost.to_string())?;
        line(f, "duplicates", self.duplicates.to_string())?;
        line(f, "elections", self.elections.to_string())?;
        line(f, "entries applied", self.entries_applied.to_string())?;
        line(f, "snapshot", format!("{} bytes", self.snapshot_bytes))?;
        let identical = if self.replicas_identical { "byte-identical" } else { "NOT identical" };
        line(f, "replicas", format!("{:?}, snapshots {identical}", self.replicas))?;
        line(f, "moved", format!("{} times to another replica", self.moved))?;
        line(f, "changes", self.changes())?;
        if let Some(deeds) = &self.processes {
            line(f, "processes", deeds.to_string())?;
        }
        line(f, "time", format!("{:.2} s", self.seconds))?;
        for problem in &self.problems {
            line(f, "PROBLEM", problem.clone())?;
        }
        line(f, "result", if self.ok { "ok" } else { "FAILED" }.to_owned())
    }
}

impl Summary {
    fn proposals(&self) -> String {
        let (acknowledged, refused) = (self.proposals_acknowledged, self.proposals_refused);
        let (unknown, retried) = (self.proposals_unknown, self.proposals_retried);
        format!(
            "{acknowledged} acknowledged, {refused} refused, \
             {unknown} repeated after an unknown outcome, {retried} for want of a leader"
        )
    }

    fn changes(&self) -> String {
        let Told { tails, events, commits, resets, resumes, made_up, gaps, repeats, .. } =
            self.changes;
        let copies = if self.changes.copies_equal { "equal" } else { "NOT equal" };
        format!(
            "{tails} tails, {events} events, {commits} commits, {resets} resets, \
             {resumes} resumes, {made_up} by difference, gaps {gaps}, repeats {repeats}, \
             copies {copies}"
        )
    }
}

fn lower(value: impl fmt::Debug) -> String {
    format!("{value:?}").to_lowercase()
}

fn join(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}
