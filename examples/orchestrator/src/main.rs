//! An orchestrator: nodes, jobs, allocations and events in fsmdb, three replicas, two schedulers,
//! an agent for each node, real processes, and a leader that is lost on the way. The replicas are
//! in this process or, if asked for, processes of their own with a disk.
//!
//! ```text
//! cargo run --release -p orchestrator
//! cargo run --release -p orchestrator -- --jobs my-jobs.toml --seed 7 -o json
//! cargo run --release -p orchestrator -- --plan
//! cargo run --release -p orchestrator -- --processes --nodes 3 --data-dir my-data
//! ```
//!
//! | file | what it has |
//! |---|---|
//! | `model.rs` | the tables and their indexes |
//! | `command.rs` | the state machine: commands, and what they do to the tables |
//! | `jobfile.rs` | the job file, with errors that name file, line and field |
//! | `scheduler.rs` | placement from snapshots, optimistic |
//! | `agent.rs`, `process.rs` | real processes, claimed through the log |
//! | `control.rs` | proposals until their outcome is known, watches, ledgers, clock |
//! | `tail.rs`, `replay.rs` | change feeds followed from replica to replica, and a copy made of them |
//! | `group.rs` | what is asked of the replicas, and those in this process |
//! | `scenario.rs` | the story: leader lost, replica joins, lost one comes back |
//! | `replica.rs`, `voters.rs` | a replica as a child process; those processes, killed and restarted |
//! | `member.rs` | this program's own node among them: a learner |
//! | `processes.rs` | their story: leader killed, all restarted from disk |
//! | `backup.rs` | a chain of incremental snapshot files, and its restore |
//! | `plan.rs` | the job file tried out on a fork of the state |
//! | `audit.rs`, `summary.rs` | what was lost, doubled or different; what is printed |
//!
//! Exit code 0: everything was done once and all replicas are byte-identical. 1: something was
//! lost, doubled, different or did not end as the job file says. 2: the program could not do its
//! work, for example because of a mistake in the job file.

#![allow(clippy::disallowed_methods)] // A program may read the clock; the library may not.
#![allow(unreachable_pub)] // A program exports nothing; `pub` says what a file offers the others.

mod agent;
mod audit;
mod backup;
mod command;
mod control;
mod draw;
mod group;
mod jobfile;
mod member;
mod model;
mod plan;
mod process;
mod processes;
mod replay;
mod replica;
mod scenario;
mod scheduler;
mod summary;
mod tail;
mod voters;

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use clap::builder::RangedU64ValueParser;
use clap::{Parser, Subcommand, ValueEnum};
use fsmdb::Snapshot;
use fsmdb::raft::{Cluster, Consistency};
use serde::Serialize;

use crate::agent::Agent;
use crate::audit::Findings;
use crate::command::Orchestrator;
use crate::control::Control;
use crate::draw::Draw;
use crate::jobfile::Workload;
use crate::member::Member;
use crate::process::Guardian;
use crate::processes::Deeds;
use crate::scenario::{CLUSTER_PATIENCE, FOUNDERS};
use crate::summary::Summary;
use crate::tail::Tails;

/// How many schedulers compete.
const SCHEDULERS: usize = 2;

/// The tick of the cluster: a lost leader is replaced after 10 to 19 of them.
const TICK: Duration = Duration::from_millis(20);

/// Entries between two snapshots of the log, and entries kept behind one. So few that a run of a
/// few hundred entries compacts its log several times.
const LOG_ENTRIES: (u64, u64) = (64, 16);

/// How long the cluster tries before a call fails; `control.rs` tries again.
const CALL_LIMIT: Duration = Duration::from_secs(5);

/// How long after its limit the program ends even if a thread does not come to its end.
const LAST_CALL: Duration = Duration::from_secs(10);

/// Runs a workload of real processes on a replicated state machine, loses the leader in the
/// middle, and checks that nothing was lost or done twice.
#[derive(Debug, Parser)]
#[command(name = "orchestrator", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    /// The job file; the one that ships with the program if absent.
    #[arg(long, value_name = "FILE")]
    jobs: Option<PathBuf>,
    /// Prints what would be done, and does nothing.
    #[arg(long)]
    plan: bool,
    /// Decides ids, ties between nodes and election timeouts.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The form of the summary on standard output.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Seconds after which the program gives up.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = limit_range())]
    limit: u64,
    /// Runs the replicas as processes of their own, over TCP and disk.
    #[arg(long, conflicts_with = "plan")]
    processes: bool,
    /// How many of those processes vote.
    #[arg(long, default_value_t = 3, value_parser = voters_range(), requires = "processes")]
    nodes: u64,
    /// Where they keep their data, for this run and the next one; a temporary folder if absent.
    #[arg(long, value_name = "DIR", requires = "processes")]
    data_dir: Option<PathBuf>,
}

/// What this process is, if not the whole program.
#[derive(Debug, Subcommand)]
enum Role {
    /// One of the processes of `--processes`; the program starts them itself.
    #[command(hide = true)]
    Replica(replica::Arguments),
}

/// Of fewer than three, none may be lost.
fn voters_range() -> RangedU64ValueParser {
    RangedU64ValueParser::new().range(3..=9)
}

fn limit_range() -> RangedU64ValueParser {
    RangedU64ValueParser::new().range(1..=3600)
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Text,
    Json,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = match &arguments.role {
        Some(Role::Replica(arguments)) => replica::run(arguments).map(|()| true),
        None => run(&arguments),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            control::tell(&format!("error: {error:#}"));
            ExitCode::from(2)
        }
    }
}

/// Says whether everything went as it should.
fn run(arguments: &Arguments) -> Result<bool> {
    let began = Instant::now();
    let workload = jobfile::read(arguments.jobs.as_deref())?;
    let limit = Duration::from_secs(arguments.limit);
    let _watchdog = watchdog(limit + LAST_CALL);

    if arguments.processes {
        return run_processes(arguments, &workload, began);
    }
    // Opened here once, so that the factory below has nothing left that could fail.
    Orchestrator::machine().context("the tables are not sound")?;
    let factory = |_id| Orchestrator::machine().expect("it was built a moment ago");
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    let cluster = Cluster::builder(factory, &logger)
        .replicas(FOUNDERS)
        .tick(TICK)
        .seed(arguments.seed)
        .deadline(CALL_LIMIT)
        .log_entries(LOG_ENTRIES.0, LOG_ENTRIES.1)
        .start()?;
    let cluster = Arc::new(cluster);
    let control = Control::new(cluster.clone(), began, limit);

    if arguments.plan {
        cluster.wait_for_leader(CLUSTER_PATIENCE)?;
        let plan = plan::plan(&control, &workload, arguments.seed)?;
        return print(arguments.output, &plan).map(|()| true);
    }
    let guardian = Guardian::start()?;
    let story = |tails: &mut Tails<'_, '_>| {
        scenario::play(&control, &cluster, &workload, tails).map(|()| None)
    };
    let (state, findings) = work(&control, &guardian, &workload, arguments.seed, story)?;
    conclude(arguments, &control, &state, &findings)
}

/// The same with voters that are processes of their own.
fn run_processes(arguments: &Arguments, workload: &Workload, began: Instant) -> Result<bool> {
    let temporary = tempfile::tempdir()?;
    let directory = arguments.data_dir.as_deref().unwrap_or(temporary.path());
    let member = Arc::new(Member::start(directory, arguments.nodes)?);
    let limit = Duration::from_secs(arguments.limit);
    let control = Control::new(member.clone(), began, limit);
    // Before any agent looks: an earlier run has closed its node.
    scenario::register(&control, workload)?;
    let guardian = Guardian::start()?;
    let story =
        |tails: &mut Tails<'_, '_>| processes::play(&control, &member, workload, tails).map(Some);
    let (state, findings) = work(&control, &guardian, workload, arguments.seed, story)?;
    conclude(arguments, &control, &state, &findings)
}

fn conclude(
    arguments: &Arguments,
    control: &Control,
    state: &Snapshot,
    findings: &Findings,
) -> Result<bool> {
    let summary = Summary::new(control, state, findings, arguments.seed);
    print(arguments.output, &summary)?;
    Ok(summary.ok)
}

fn print(form: Output, told: &(impl fmt::Display + Serialize)) -> Result<()> {
    let printed = match form {
        Output::Text => told.to_string(),
        Output::Json => serde_json::to_string_pretty(told)? + "\n",
    };
    io::stdout().write_all(printed.as_bytes()).context("standard output cannot be written")
}

/// Plays the story while schedulers and agents work and tails follow the changes. Gives the state
/// in the end, and what is found about it.
fn work<'env>(
    control: &'env Control,
    guardian: &'env Guardian,
    workload: &Workload,
    seed: u64,
    story: impl for<'scope> FnOnce(&mut Tails<'scope, 'env>) -> Result<Option<Deeds>>,
) -> Result<(Snapshot, Findings)> {
    // Nothing that another run on the same state has drawn is drawn again.
    let seed = control.group.run().map_or(seed, |run| Draw::new(seed, run).next());
    thread::scope(|scope| {
        // Also when the story ends with an error or a panic, all threads come to their end.
        let halt = HaltOnDrop(control);
        let mut tails = Tails::new(scope, control);
        let mut workers = Vec::new();
        let replica = |number: usize| control.group.home(number);
        for number in 0..SCHEDULERS {
            let draw = Draw::new(seed, number as u64);
            let run = move || control.take(scheduler::run(control, replica(number), draw));
            workers.push(scope.spawn(run));
        }
        for (node, number) in workload.nodes.iter().zip(0..) {
            let draw = Draw::new(seed, (SCHEDULERS + number) as u64);
            let agent = Agent::new(control, guardian, node, replica(number), draw);
            workers.push(scope.spawn(move || control.take(agent.run())));
        }
        let mut deeds = None;
        control.take(story(&mut tails).map(|told| deeds = told));
        for worker in workers {
            let ended = worker.join().map_err(|_| anyhow!("a worker panicked"));
            control.take(ended);
        }
        let audited = match control.failure() {
            Some(error) => Err(error),
            None => audited(control, workload),
        };
        drop(halt);
        let tails = tails.finish();
        let (state, mut findings) = audited?;
        findings.processes = deeds;
        findings.told = tail::check(&tails?, &control.entries(), &state);
        Ok((state, findings))
    })
}

fn audited(control: &Control, workload: &Workload) -> Result<(Snapshot, Findings)> {
    let state = control.group.read(Consistency::Linearizable)?;
    let findings = audit::audit(control, workload, &state)?;
    Ok((state, findings))
}

struct HaltOnDrop<'a>(&'a Control);

impl Drop for HaltOnDrop<'_> {
    fn drop(&mut self) {
        self.0.halt();
    }
}

/// Ends the program after `limit` even if a thread hangs; the guardian ends its processes.
fn watchdog(limit: Duration) -> mpsc::Sender<()> {
    let (ended, program) = mpsc::channel();
    thread::spawn(move || {
        if program.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
            control::tell(&format!("error: the program did not end within {limit:?}"));
            std::process::exit(2);
        }
    });
    ended
}
