//! The story when every voter is a process of its own: submit, kill the leader without warning,
//! start it again, finish; then stop all of them, start them from their disks, and look whether
//! anything is missing.
//!
//! What earlier programs have left in the directory goes on: jobs that have ended stay as they are,
//! the others are run.

use std::fmt;
use std::thread;

use anyhow::{Result, bail};
use serde::Serialize;

use crate::backup::Backup;
use crate::command::Command;
use crate::control::Control;
use crate::jobfile::Workload;
use crate::member::Member;
use crate::model::Job;
use crate::scenario::{CLUSTER_PATIENCE, batch_done, batch_instances, finish, now, submit};
use crate::tail::Tails;

/// What became of the voters.
#[derive(Clone, Debug, Serialize)]
pub struct Deeds {
    pub voters: Vec<u64>,
    /// The leader that was killed, and came back.
    pub killed: u64,
    /// Jobs that had ended before this program began.
    pub jobs_found_ended: usize,
    /// Commands that this program has started.
    pub started: usize,
    /// Whether the state was the same after all voters were stopped and started again.
    pub state_kept: bool,
}

impl fmt::Display for Deeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { voters, killed, jobs_found_ended, started, state_kept } = self;
        let kept = if *state_kept { "kept" } else { "NOT kept" };
        write!(
            f,
            "{voters:?}, leader {killed} killed and back, all restarted from disk, state {kept}; \
             {jobs_found_ended} jobs found ended, {started} commands started"
        )
    }
}

/// Plays the story to its end: all jobs have come to theirs, all voters run.
pub fn play(
    control: &Control,
    member: &Member,
    workload: &Workload,
    tails: &mut Tails<'_, '_>,
) -> Result<Deeds> {
    let leader = member.wait_for_leader(None, CLUSTER_PATIENCE)?;
    tails.follow(member.id())?;
    let (voters, first) = (member.voters().ids(), now(control)?);
    let jobs_found_ended = first.table::<Job>().iter().filter(|job| job.status.is_final()).count();
    let (own, at) = (member.id(), first.applied());
    control.say(&format!("processes {voters:?} run, {leader} leads; {own} follows here, at {at}"));
    if jobs_found_ended > 0 {
        control.say(&format!("found from before: {jobs_found_ended} jobs that have ended"));
    }
    let (early, late) = workload.jobs.split_at(workload.jobs.len() - workload.jobs.len() / 4);
    submit(control, early)?;
    let mut backup = Backup::begin(now(control)?)?;
    let (count, nodes, source) = (early.len(), workload.nodes.len(), &workload.source);
    control.say(&format!("submitted from {source} to {nodes} nodes: {count} jobs"));

    let (all, third) = (batch_instances(&workload.jobs), batch_instances(early).div_ceil(3));
    control.wait_until("a third of the batch work", |db| batch_done(db) >= third)?;
    control.say(&format!("batch instances done: {third} of {all}"));
    backup.add(now(control)?)?;
    let killed = kill_leader(control, member, late)?;
    backup.add(now(control)?)?;

    let two_thirds = (2 * all).div_ceil(3);
    control.wait_until("two thirds of the batch work", |db| batch_done(db) >= two_thirds)?;
    control.say(&format!("batch instances done: {two_thirds} of {all}"));
    member.voters().start_all()?;
    control.say(&format!("process {killed} comes back from its disk"));

    finish(control)?;
    control.require(&Command::Close { at_ms: control.now_ms() })?;
    backup.add(now(control)?)?;
    control.say(&format!("backup: {}", backup.check(control.group.tables())?));
    let state_kept = restart_all(control, member)?;
    let started = control.runs().len();
    Ok(Deeds { voters, killed, jobs_found_ended, started, state_kept })
}

/// Kills the leader while `late` jobs are being submitted, and waits until another one leads and
/// has them. Says which it was.
fn kill_leader(control: &Control, member: &Member, late: &[Job]) -> Result<u64> {
    let lost = member.wait_for_leader(None, CLUSTER_PATIENCE)?;
    let since = control.elapsed();
    thread::scope(|scope| {
        let submitted = scope.spawn(|| submit(control, late));
        let process = member.voters().kill(lost)?;
        control.say(&format!("leader {lost} is killed (kill -9 {process})"));
        let next = member.wait_for_leader(Some(lost), CLUSTER_PATIENCE)?;
        let took = (control.elapsed() - since).as_millis();
        control.say(&format!("process {next} took over after {took} ms"));
        submitted.join().unwrap_or_else(|_| bail!("submitting the late jobs panicked"))?;
        control.say(&format!("submitted meanwhile: {} jobs", late.len()));
        Ok(lost)
    })
}

/// Stops all voters and starts them from their directories. Says whether the state that each of
/// them has then is what it was.
fn restart_all(control: &Control, member: &Member) -> Result<bool> {
    let before = now(control)?;
    member.voters().stop_all()?;
    control.say(&format!("all processes are stopped, at {}", before.applied()));
    member.voters().start_all()?;
    // Confirmed by a leader that has what its disk gave it, and nothing else.
    let after = now(control)?;
    control.say(&format!("all processes came back from their disks, at {}", after.applied()));
    let digests = before.digests()?;
    for copy in member.voters().copies(after.revision())? {
        let restored = control.group.tables().load_chain([copy.bytes.as_slice()])?;
        if restored.digests()?.database() != digests.database() {
            return Ok(false);
        }
    }
    Ok(digests.database() == after.digests()?.database())
}
