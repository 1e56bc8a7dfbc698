//! The agent of one node: runs what is placed there, and says how it ended.
//!
//! # Invariants
//!
//! 1. A process is started only after the log accepted this agent's claim on the allocation, so
//!    that no allocation runs twice, whatever stale snapshot an agent looks at.
//! 2. Every process that was started is in the agent's own ledger, and its end is reported until
//!    the log has accepted it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::Result;
use fsmdb::Snapshot;

use crate::command::Command;
use crate::control::{Control, Run};
use crate::draw::Draw;
use crate::model::{Allocation, AllocationId, Exit, Job, Node, NodeId, State};
use crate::process::{Guardian, Process};

/// How long a service may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(1);

/// The exit code of a command that does not exist, as shells have it.
const NOT_FOUND: i32 = 127;

pub struct Agent<'a> {
    control: &'a Control,
    guardian: &'a Guardian,
    node: NodeId,
    name: String,
    /// The replica that this agent reads from.
    replica: u64,
    draw: Draw,
    seen: BTreeSet<AllocationId>,
    running: BTreeMap<AllocationId, Running<'a>>,
}

struct Running<'a> {
    process: Process<'a>,
    claim: u64,
    job: String,
    asked_to_end: Option<Instant>,
}

impl<'a> Agent<'a> {
    pub fn new(
        control: &'a Control,
        guardian: &'a Guardian,
        node: &Node,
        replica: u64,
        draw: Draw,
    ) -> Self {
        let (node, name) = (node.id, node.name.clone());
        let (seen, running) = (BTreeSet::new(), BTreeMap::new());
        Self { control, guardian, node, name, replica, draw, seen, running }
    }

    /// Runs what is placed on the node until the program halts.
    pub fn run(mut self) -> Result<()> {
        while !self.control.is_halted() {
            let snapshot = self.control.snapshot_at(self.replica)?;
            self.start_placed(&snapshot)?;
            self.stop_unwanted(&snapshot);
            self.report_ended()?;
            self.control.pause();
        }
        Ok(())
    }

    fn start_placed(&mut self, snapshot: &Snapshot) -> Result<()> {
        let allocations = snapshot.table::<Allocation>().index(Allocation::BY_NODE_STATE);
        for allocation in allocations.get(&(self.node, State::Pending)) {
            if !self.seen.insert(allocation.id) {
                continue;
            }
            let claim = self.draw.next();
            let command = Command::Claim { allocation: allocation.id, claim };
            if self.control.propose(&command)?.is_ok()
                && let Some(job) = snapshot.table::<Job>().get(&allocation.job)
            {
                self.start(allocation, job, claim)?;
            }
        }
        Ok(())
    }

    fn start(&mut self, allocation: &Allocation, job: &Job, claim: u64) -> Result<()> {
        let id = allocation.id;
        let environment = [
            ("JOB", job.name.clone()),
            ("ORDINAL", allocation.ordinal.to_string()),
            ("ATTEMPT", allocation.attempt.to_string()),
            ("NODE", self.name.clone()),
        ];
        let process = match Process::start(self.guardian, &job.command, &environment) {
            Ok(process) => process,
            Err(error) => {
                return self.report(id, claim, Exit::Code(NOT_FOUND), format!("{error:#}"));
            }
        };
        self.control.record_run(Run {
            allocation: id,
            job: job.name.clone(),
            ordinal: allocation.ordinal,
            attempt: allocation.attempt,
            exit: None,
        });
        let (pid, at_ms) = (process.pid(), self.control.now_ms());
        let running = Running { process, claim, job: job.name.clone(), asked_to_end: None };
        self.running.insert(id, running);
        self.control.require(&Command::Started { allocation: id, claim, pid, at_ms })
    }

    /// Asks the processes of services that shall stop to end, and kills those that do not.
    fn stop_unwanted(&mut self, snapshot: &Snapshot) {
        for running in self.running.values_mut() {
            match running.asked_to_end {
                Some(since) if since.elapsed() > GRACE => running.process.kill(),
                Some(_) => {}
                None => {
                    let job = snapshot.table::<Job>().get(&running.job);
                    if job.is_some_and(|job| job.stopping) {
                        running.process.terminate();
                        running.asked_to_end = Some(Instant::now());
                    }
                }
            }
        }
    }

    fn report_ended(&mut self) -> Result<()> {
        let ids: Vec<_> = self.running.keys().copied().collect();
        for id in ids {
            let Some(running) = self.running.get_mut(&id) else { continue };
            if let Some(exit) = running.process.exit()? {
                let (claim, output) = (running.claim, running.process.output());
                self.running.remove(&id);
                self.control.record_exit(id, exit);
                self.report(id, claim, exit, output)?;
            }
        }
        Ok(())
    }

    fn report(&self, id: AllocationId, claim: u64, exit: Exit, output: String) -> Result<()> {
        let at_ms = self.control.now_ms();
        self.control.require(&Command::Ended { allocation: id, claim, exit, output, at_ms })
    }
}
