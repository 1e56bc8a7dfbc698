//! The story: submit, lose the leader, let a replica join, let the lost one come back, finish. All
//! the while the state is backed up, each time what has changed since the time before.
//!
//! Schedulers and agents work all the while and are told nothing of it. Tails follow the changes:
//! one those of the leader that will be lost, one those of the replica that joins, and one those
//! of the leader until it is lost and later of another replica.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use fsmdb::raft::{Cluster, Consistency};
use fsmdb::{Read, Revision, Snapshot};

use crate::backup::Backup;
use crate::command::{Command, Orchestrator};
use crate::control::Control;
use crate::jobfile::Workload;
use crate::model::{Allocation, Job, JobStatus, Kind, State};
use crate::tail::Tails;

/// The replicas that found the cluster.
pub const FOUNDERS: [u64; 3] = [1, 2, 3];

/// The replica that joins later.
pub const NEWCOMER: u64 = 4;

/// How long the cluster may take to elect a leader, or to bring its replicas to one point.
pub const CLUSTER_PATIENCE: Duration = Duration::from_secs(10);

/// Plays the story to its end: all jobs have come to theirs, all replicas run.
pub fn play(
    control: &Control,
    cluster: &Cluster<Orchestrator>,
    workload: &Workload,
    tails: &mut Tails<'_, '_>,
) -> Result<()> {
    let leader = cluster.wait_for_leader(CLUSTER_PATIENCE)?;
    tails.follow(leader)?;
    tails.follow_until_it_ends(leader)?;
    control.say(&format!("replicas {FOUNDERS:?} run, {leader} leads"));
    register(control, workload)?;
    let (early, late) = workload.jobs.split_at(workload.jobs.len() - workload.jobs.len() / 4);
    submit(control, early)?;
    let mut backup = Backup::begin(now(control)?)?;
    let (count, nodes, source) = (early.len(), workload.nodes.len(), &workload.source);
    control.say(&format!("submitted from {source} to {nodes} nodes: {count} jobs"));

    let (all, third) = (batch_instances(&workload.jobs), batch_instances(early).div_ceil(3));
    control.wait_until("a third of the batch work", |db| batch_done(db) >= third)?;
    control.say(&format!("batch instances done: {third} of {all}"));
    backup.add(now(control)?)?;
    let stopped = replace_leader(control, cluster, late)?;
    backup.add(now(control)?)?;
    join(control, cluster, tails)?;
    backup.add(now(control)?)?;

    let two_thirds = (2 * all).div_ceil(3);
    control.wait_until("two thirds of the batch work", |db| batch_done(db) >= two_thirds)?;
    control.say(&format!("batch instances done: {two_thirds} of {all}"));
    cluster.restart(stopped)?;
    control.say(&format!("replica {stopped} comes back"));
    backup.add(now(control)?)?;

    finish(control)?;
    converge(control, cluster)?;
    backup.add(now(control)?)?;
    control.say(&format!("backup: {}", backup.check(Orchestrator::tables())?));
    tails.go_on_at(NEWCOMER)
}

/// The state as some replica has it, with everything that was acknowledged.
pub fn now(control: &Control) -> Result<Snapshot> {
    control.group.read(Consistency::Linearizable)
}

/// Makes the fleet known.
pub fn register(control: &Control, workload: &Workload) -> Result<()> {
    workload.nodes.iter().try_for_each(|node| {
        control.require(&Command::Register { node: node.clone(), at_ms: control.now_ms() })
    })
}

pub fn submit(control: &Control, jobs: &[Job]) -> Result<()> {
    jobs.iter().try_for_each(|job| {
        control.require(&Command::Submit { job: job.clone(), at_ms: control.now_ms() })
    })
}

/// Stops the leader as a crash would, while `late` jobs are being submitted, and waits until
/// another one leads and has them. Says which replica was stopped.
fn replace_leader(control: &Control, cluster: &Cluster<Orchestrator>, late: &[Job]) -> Result<u64> {
    let lost = cluster.wait_for_leader(CLUSTER_PATIENCE)?;
    let since = control.elapsed();
    thread::scope(|scope| {
        let submitted = scope.spawn(|| submit(control, late));
        cluster.stop(lost)?;
        control.say(&format!("leader {lost} is stopped"));
        let next = cluster.wait_for_leader(CLUSTER_PATIENCE)?;
        ensure!(next != lost, "replica {lost} was stopped and still leads");
        let took = (control.elapsed() - since).as_millis();
        control.say(&format!("replica {next} took over after {took} ms"));
        submitted.join().unwrap_or_else(|_| bail!("submitting the late jobs panicked"))?;
        control.say(&format!("submitted meanwhile: {} jobs", late.len()));
        Ok(lost)
    })
}

/// A new replica has nothing, so it is fed by a snapshot and then by the log. It is a member once
/// its log and its state have caught up. Nothing reaches it before its changes are followed.
fn join(
    control: &Control,
    cluster: &Cluster<Orchestrator>,
    tails: &mut Tails<'_, '_>,
) -> Result<()> {
    let before = cluster.counters().snapshots_installed;
    FOUNDERS.iter().for_each(|founder| cluster.partition(*founder, NEWCOMER));
    cluster.add_learner(NEWCOMER)?;
    tails.follow(NEWCOMER)?;
    FOUNDERS.iter().for_each(|founder| cluster.heal(*founder, NEWCOMER));
    cluster.join(NEWCOMER)?;
    ensure!(cluster.counters().snapshots_installed > before, "the new replica got no snapshot");
    let db = cluster.db(NEWCOMER).context("the new replica has no state")?;
    let applied = db.read().applied();
    control.say(&format!("replica {NEWCOMER} joined from a snapshot, it is at {applied}"));
    Ok(())
}

/// Waits for the batch jobs, then stops the services and waits for them.
pub fn finish(control: &Control) -> Result<()> {
    control.wait_until("the batch jobs to end and the services to run", |db| {
        db.table::<Job>().iter().all(|job| job.status.is_final() || runs_whole(db, job))
    })?;
    control.say("the batch jobs have ended, the services run");
    let db = control.group.read(Consistency::Linearizable)?;
    let services = db.table::<Job>().index(Job::BY_KIND_STATUS).prefix(&(Kind::Service,));
    for service in services.filter(|job| !job.status.is_final()) {
        let job = service.name.clone();
        control.require(&Command::Stop { job, at_ms: control.now_ms() })?;
    }
    control.wait_until("the services to stop", |db| {
        db.table::<Job>().iter().all(|job| job.status.is_final())
    })?;
    control.say("the services are stopped");
    Ok(())
}

/// Sends schedulers and agents home, and waits until all replicas hold everything that was
/// acknowledged.
fn converge(control: &Control, cluster: &Cluster<Orchestrator>) -> Result<()> {
    control.require(&Command::Close { at_ms: control.now_ms() })?;
    let applied = control.group.read(Consistency::Linearizable)?.applied();
    for id in FOUNDERS.into_iter().chain([NEWCOMER]) {
        let db = cluster.db(id).with_context(|| format!("no replica {id}"))?;
        let reached = db.wait_for(Revision(applied.index)).wait(CLUSTER_PATIENCE);
        let status = cluster.status(id).unwrap_or_default();
        let error = status.error.as_deref().unwrap_or("no error");
        ensure!(status.is_running, "replica {id} does not run: {error}");
        reached.with_context(|| format!("replica {id} stays behind"))?;
    }
    control.say(&format!("all replicas have applied {applied}"));
    Ok(())
}

pub fn batch_instances(jobs: &[Job]) -> u32 {
    jobs.iter().filter(|job| job.kind == Kind::Batch).map(|job| job.count).sum()
}

/// How many batch instances have come to an end that stays.
pub fn batch_done(db: &impl Read) -> u32 {
    let jobs = db.table::<Job>().index(Job::BY_KIND_STATUS).prefix(&(Kind::Batch,));
    jobs.map(|job| count_instances(db, job, |state| state == State::Complete)).sum()
}

/// Whether every instance of a service runs, or has used up its attempts. A service that is to
/// fail is waited for instead: it may run for a moment before it does.
fn runs_whole(db: &impl Read, job: &Job) -> bool {
    job.kind == Kind::Service
        && job.expect == JobStatus::Complete
        && count_instances(db, job, |state| state == State::Running) == job.count
}

/// The instances whose last attempt is in a state that `counts`, or has failed for good.
fn count_instances(db: &impl Read, job: &Job, counts: impl Fn(State) -> bool) -> u32 {
    let attempts = db.table::<Allocation>().index(Allocation::BY_ATTEMPT);
    let last = |ordinal| attempts.prefix(&(job.name.as_str(), ordinal)).next_back();
    let settled = (0..job.count).filter_map(last).filter(|last| {
        let failed = last.state == State::Failed && last.attempt == job.attempts;
        failed || counts(last.state)
    });
    u32::try_from(settled.count()).unwrap_or(u32::MAX)
}
