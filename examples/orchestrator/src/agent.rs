//! The agent of one node: runs what is placed there, and says how it ended.
//!
//! It watches what concerns it (what is placed on its node, whether what it runs is to stop) and
//! sleeps while that stays as it is. Each process has a thread that waits for its end.
//!
//! # Invariants
//!
//! 1. A process is started only after the log accepted this agent's claim on the allocation, so
//!    that no allocation runs twice, whatever stale snapshot an agent looks at.
//! 2. Every process that was started has a thread that waits for it, and reports its end until the
//!    log has accepted it.

use std::collections::{BTreeMap, BTreeSet};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use anyhow::Result;
use fsmdb::Read;

use crate::command::Command;
use crate::control::{Control, Run, Seat};
use crate::draw::Draw;
use crate::model::{Allocation, AllocationId, Exit, Job, Node, NodeId, State};
use crate::process::{Guardian, Process};

/// How long a service may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(1);

/// The exit code of a command that does not exist, as shells have it.
const NOT_FOUND: i32 = 127;

/// The signal that a process is ended by when its program is no more.
const KILLED: i32 = 9;

pub struct Agent<'a> {
    control: &'a Control,
    guardian: &'a Guardian,
    node: NodeId,
    name: String,
    /// The replica that this agent reads from, while that runs.
    replica: u64,
    draw: Draw,
    seen: BTreeSet<AllocationId>,
    running: BTreeMap<AllocationId, Running>,
}

struct Running {
    pid: u32,
    job: String,
    asked_to_end: Option<Instant>,
    is_killed: bool,
}

/// What an agent reads, and watches.
struct Duties {
    is_closed: bool,
    placed: Vec<(Allocation, Job)>,
    ended: Vec<AllocationId>,
    unwanted: Vec<AllocationId>,
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

    /// Runs what is placed on the node until that is closed or the program halts.
    pub fn run(self) -> Result<()> {
        thread::scope(|scope| {
            // Dropped before the threads in the scope are waited for.
            let mut agent = self;
            agent.work(scope)
        })
    }

    fn work<'scope>(&mut self, scope: &'scope Scope<'scope, '_>) -> Result<()>
    where
        'a: 'scope,
    {
        let (control, mut seat) = (self.control, Seat::at(self.replica));
        self.report_left(&mut seat)?;
        while let Some((duties, watch)) = control.watch(&mut seat, |read| self.duties(read))? {
            for id in duties.ended {
                self.running.remove(&id);
            }
            if duties.is_closed {
                break;
            }
            for (allocation, job) in duties.placed {
                self.take(scope, &allocation, &job)?;
            }
            self.stop(&duties.unwanted);
            watch.wait(self.patience());
        }
        Ok(())
    }

    /// Reports what an agent of an earlier program has left behind: it ended with that program.
    fn report_left(&self, seat: &mut Seat) -> Result<()> {
        let Some(db) = self.control.db(seat)? else { return Ok(()) };
        let state = db.read();
        drop(db);
        let allocations = state.table::<Allocation>().index(Allocation::BY_NODE_STATE);
        let left = allocations.prefix(&(self.node,)).filter(|allocation| allocation.is_live());
        for allocation in left {
            let Some(claim) = allocation.claim else { continue };
            let output = "ended with its agent".to_owned();
            report(self.control, allocation.id, claim, Exit::Signal(KILLED), output)?;
        }
        Ok(())
    }

    fn duties(&self, db: &impl Read) -> Duties {
        let (jobs, allocations) = (db.table::<Job>(), db.table::<Allocation>());
        let placed = allocations.index(Allocation::BY_NODE_STATE).get(&(self.node, State::Pending));
        let placed = placed.filter(|allocation| !self.seen.contains(&allocation.id));
        let with_job = |allocation: &Allocation| {
            jobs.get(&allocation.job).map(|job| (allocation.clone(), job.value().clone()))
        };
        let is_over = |id: &AllocationId| allocations.get(id).is_some_and(|found| !found.is_live());
        let is_unwanted =
            |running: &Running| jobs.get(&running.job).is_some_and(|job| job.stopping);
        let unwanted = self.running.iter().filter(|(_, running)| is_unwanted(running));
        Duties {
            is_closed: db.table::<Node>().get(&self.node).is_some_and(|node| node.closed),
            placed: placed.filter_map(|allocation| with_job(allocation)).collect(),
            ended: self.running.keys().copied().filter(is_over).collect(),
            unwanted: unwanted.map(|(id, _)| *id).collect(),
        }
    }

    /// Claims what is placed here, and starts it if the claim was accepted.
    fn take<'scope>(
        &mut self,
        scope: &'scope Scope<'scope, '_>,
        allocation: &Allocation,
        job: &Job,
    ) -> Result<()>
    where
        'a: 'scope,
    {
        self.seen.insert(allocation.id);
        let claim = self.draw.next();
        let command = Command::Claim { allocation: allocation.id, claim };
        match self.control.propose(&command)? {
            (_, Ok(_)) => self.start(scope, allocation, job, claim),
            (_, Err(_)) => Ok(()),
        }
    }

    fn start<'scope>(
        &mut self,
        scope: &'scope Scope<'scope, '_>,
        allocation: &Allocation,
        job: &Job,
        claim: u64,
    ) -> Result<()>
    where
        'a: 'scope,
    {
        let (id, control) = (allocation.id, self.control);
        let environment = [
            ("JOB", job.name.clone()),
            ("ORDINAL", allocation.ordinal.to_string()),
            ("ATTEMPT", allocation.attempt.to_string()),
            ("NODE", self.name.clone()),
        ];
        let process = match Process::start(self.guardian, &job.command, &environment) {
            Ok(process) => process,
            Err(error) => {
                let exit = Exit::Code(NOT_FOUND);
                return report(control, id, claim, exit, format!("{error:#}"));
            }
        };
        control.record_run(Run {
            allocation: id,
            job: job.name.clone(),
            ordinal: allocation.ordinal,
            attempt: allocation.attempt,
            exit: None,
        });
        let (pid, at_ms, job) = (process.pid(), control.now_ms(), job.name.clone());
        let running = Running { pid, job, asked_to_end: None, is_killed: false };
        self.running.insert(id, running);
        control.require(&Command::Started { allocation: id, claim, pid, at_ms })?;
        scope.spawn(move || control.take(see_to_its_end(control, id, claim, process)));
        Ok(())
    }

    /// Asks the processes of services that shall stop to end, and kills those that do not.
    fn stop(&mut self, unwanted: &[AllocationId]) {
        for (id, running) in &mut self.running {
            match running.asked_to_end {
                Some(since) if since.elapsed() >= GRACE && !running.is_killed => {
                    self.guardian.kill(running.pid);
                    running.is_killed = true;
                }
                None if unwanted.contains(id) => {
                    self.guardian.terminate(running.pid);
                    running.asked_to_end = Some(Instant::now());
                }
                _ => {}
            }
        }
    }

    /// How long until something that was asked to end has to be killed.
    fn patience(&self) -> Option<Duration> {
        let waiting = self.running.values().filter(|running| !running.is_killed);
        let asked = waiting.filter_map(|running| running.asked_to_end);
        asked.map(|since| GRACE.saturating_sub(since.elapsed())).min()
    }
}

/// Leaves no process behind when the program ends early.
impl Drop for Agent<'_> {
    fn drop(&mut self) {
        for running in self.running.values() {
            self.guardian.kill(running.pid);
        }
    }
}

/// Waits until a process has ended, and reports that.
fn see_to_its_end(
    control: &Control,
    id: AllocationId,
    claim: u64,
    process: Process<'_>,
) -> Result<()> {
    let (exit, output) = process.wait()?;
    control.record_exit(id, exit);
    if control.is_halted() {
        return Ok(());
    }
    report(control, id, claim, exit, output)
}

fn report(
    control: &Control,
    id: AllocationId,
    claim: u64,
    exit: Exit,
    output: String,
) -> Result<()> {
    let at_ms = control.now_ms();
    control.require(&Command::Ended { allocation: id, claim, exit, output, at_ms })
}
