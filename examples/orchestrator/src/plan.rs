//! What would be done: the job file tried out on a fork of the state, by the code that does it.
//!
//! The fleet is registered for real. Jobs are submitted and placed in the fork alone, by the same
//! commands and the same scheduler; nobody else sees it, and it is dropped in the end. Nothing ends
//! in a plan, so it is of what runs at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Context, Result, ensure};
use fsmdb::raft::Consistency;
use fsmdb::{Applied, ChangeKind, Fork, Snapshot};
use serde::Serialize;

use crate::command::{self, Command, Done, Refusal};
use crate::control::Control;
use crate::draw::Draw;
use crate::jobfile::Workload;
use crate::model::{Allocation, AllocationId, Job, Node};
use crate::scenario;
use crate::scheduler::{self, Missing};

/// What would be done.
#[derive(Debug, Serialize)]
pub struct Plan {
    pub source: String,
    /// The entry of the log on whose state it stands.
    pub at: u64,
    pub placed: Vec<Placed>,
    pub refused: Vec<Refused>,
    /// One for each of both.
    pub lines: usize,
}

/// An allocation that would be created.
#[derive(Debug, Serialize)]
pub struct Placed {
    pub job: String,
    pub ordinal: u32,
    pub attempt: u32,
    pub node: String,
}

/// What the state machine would not take, as things stand then.
#[derive(Debug, Serialize)]
pub struct Refused {
    pub job: String,
    /// The instance for which there is no node; none if the job itself is refused.
    pub ordinal: Option<u32>,
    /// The reasons, each with the nodes that it holds for.
    pub why: BTreeMap<String, Vec<String>>,
}

pub fn plan(control: &Control, workload: &Workload, seed: u64) -> Result<Plan> {
    scenario::register(control, workload)?;
    let state = control.group.read(Consistency::Linearizable)?;
    let (placed, refused) = Trial::new(&state, seed).run(&workload.jobs)?;
    let after = control.group.read(Consistency::Linearizable)?;
    ensure!(bytes(&state)? == bytes(&after)?, "planning has changed the state");
    let (source, at, lines) =
        (workload.source.clone(), state.applied().index, placed.len() + refused.len());
    Ok(Plan { source, at, placed, refused, lines })
}

fn bytes(state: &Snapshot) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    state.save(&mut bytes)?;
    Ok(bytes)
}

/// A log of its own, and the state that it leads to.
struct Trial {
    fork: Fork,
    at: Applied,
    draw: Draw,
}

impl Trial {
    fn new(state: &Snapshot, seed: u64) -> Self {
        Self { fork: state.fork(), at: state.applied(), draw: Draw::new(seed, 0) }
    }

    fn run(mut self, jobs: &[Job]) -> Result<(Vec<Placed>, Vec<Refused>)> {
        let mut refused = Vec::new();
        for job in jobs {
            if let Err(refusal) = self.apply(Command::Submit { job: job.clone(), at_ms: 0 }) {
                let why = BTreeMap::from([(refusal.to_string(), Vec::new())]);
                refused.push(Refused { job: job.name.clone(), ordinal: None, why });
            }
        }
        while let Some(placement) = scheduler::next_placement(&self.fork, &mut self.draw) {
            let placed = self.apply(Command::Place { placement, at_ms: 0 });
            placed.context("the scheduler wants what the state machine refuses")?;
        }
        let jobs: Vec<_> = {
            let jobs = self.fork.table::<Job>();
            jobs.index(Job::BY_PRIORITY).iter().map(|job| job.value().clone()).collect()
        };
        for job in jobs {
            let missing: Vec<_> = scheduler::missing(&self.fork, &job).collect();
            refused.extend(missing.into_iter().map(|instance| self.without_node(&job, instance)));
        }
        Ok((self.placed(), refused))
    }

    /// Gives a command to the state machine, as the next entry of the log would.
    fn apply(&mut self, command: Command) -> Result<Done, Refusal> {
        let before = self.fork.savepoint();
        let at = Applied { index: self.at.index + 1, ..self.at };
        let reply = command::apply(&mut self.fork, at, command);
        match reply {
            Ok(_) => self.at = at,
            Err(_) => self.fork.rollback_to(&before),
        }
        reply
    }

    /// Asks the state machine why an instance cannot be placed, node by node.
    fn without_node(&mut self, job: &Job, instance: Missing) -> Refused {
        let nodes = self.fork.table::<Node>();
        let nodes: Vec<_> = nodes.iter().map(|node| (node.id, node.name.clone())).collect();
        let mut why: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let ordinal = Some(instance.ordinal);
        for (id, name) in nodes {
            let placement = instance.clone().on(id, AllocationId(self.draw.next()));
            let reason = match self.apply(Command::Place { placement, at_ms: 0 }) {
                Err(Refusal::Unfit { reason, .. }) => reason.into_owned(),
                other => format!("{other:?}"),
            };
            why.entry(reason).or_default().push(name);
        }
        Refused { job: job.name.clone(), ordinal, why }
    }

    /// The allocations that the fork has and its origin has not.
    fn placed(&self) -> Vec<Placed> {
        let changes = self.fork.changes();
        let created = changes.iter().filter(|change| change.kind() == ChangeKind::Created);
        let created = created.filter_map(|change| change.after::<Allocation>());
        let name = |allocation: &Allocation| {
            self.fork.table::<Node>().get(&allocation.node).map(|node| node.name.clone())
        };
        let mut placed: Vec<_> = created
            .map(|allocation| Placed {
                job: allocation.job.clone(),
                ordinal: allocation.ordinal,
                attempt: allocation.attempt,
                node: name(allocation).unwrap_or_default(),
            })
            .collect();
        placed.sort_by(|one, other| (&one.job, one.ordinal).cmp(&(&other.job, other.ordinal)));
        placed
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [job, instance, plan] = ["job", "instance", "plan"];
        writeln!(f, "{job:20} {instance:>8}  {plan}")?;
        for Placed { job, ordinal, attempt, node } in &self.placed {
            writeln!(f, "{job:20} {ordinal:>8}  create on {node}, attempt {attempt}")?;
        }
        for Refused { job, ordinal, why } in &self.refused {
            let ordinal = ordinal.map(|ordinal| ordinal.to_string()).unwrap_or_default();
            let why = why.iter().map(|(reason, nodes)| match nodes.is_empty() {
                true => reason.clone(),
                false => format!("{reason} ({})", nodes.join(", ")),
            });
            let why = why.collect::<Vec<_>>().join("; ");
            writeln!(f, "{job:20} {ordinal:>8}  refuse: {why}")?;
        }
        let nodes: BTreeSet<_> = self.placed.iter().map(|placed| &placed.node).collect();
        let (placed, refused, nodes) = (self.placed.len(), self.refused.len(), nodes.len());
        writeln!(f)?;
        writeln!(f, "nothing was changed: a fork of the state at index {}", self.at)?;
        writeln!(
            f,
            "plan of {}: {} lines, {placed} to create on {nodes} nodes, {refused} to refuse",
            self.source, self.lines
        )
    }
}
