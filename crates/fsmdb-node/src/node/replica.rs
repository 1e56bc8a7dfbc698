//! The raft thread: the core, its inbox, its ticks.
//!
//! # Invariants
//!
//! 1. The actions of one event are carried out in their order, before the next event. What takes
//!    long is done by other threads, and its outcome comes back as mail.
//! 2. Every `SendSnapshot` is answered by `SnapshotSent`, whatever became of it.
//! 3. A node whose log or state machine fails stops and says why; it never skips an entry.
//! 4. When the thread ends, by whatever way, the node is posted as not running, whoever waits for
//!    an answer learns that there will be none, and whoever waits for its database to change learns
//!    that it will not. The other threads have ended before it has.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use fsmdb::raft::{Action, Committed, Core, Event, MemberChange, Membership, Role};

use super::Shared;
use super::apply::ApplyJob;
use super::arrivals::Arrival;
use super::book::Book;
use super::clock::{self, Ticker};
use super::digests::Comparing;
use super::erasing::Erasure;
use super::error::{NodeError, SnapshotStoreError};
use super::inbox::Inbox;
use super::job::{Job, Waiter};
use super::log_thread::LogJob;
use super::mail::Mail;
use super::pending::Waiting;
use super::reads::Reads;
use super::request::{Answer, Refused};
use super::sending::Attempts;
use super::snapshots::{Built, SnapshotStore, Work};
use super::status::SnapshotsUnderway;
use crate::link::{Responder, Transport};
use crate::session::Replicated;

/// The queues into the other threads, which end with this.
pub(super) struct Threads<R> {
    pub(super) log: Arc<Inbox<LogJob>>,
    pub(super) apply: Arc<Inbox<ApplyJob<R>>>,
    pub(super) background: Arc<Inbox<Work>>,
    pub(super) arrivals: Arc<Inbox<Arrival>>,
    /// Set at the end: whoever installs a snapshot, or has groups of entries before it, ends soon.
    pub(super) is_stopping: Arc<AtomicBool>,
    pub(super) store: Arc<dyn SnapshotStore>,
    pub(super) handles: Vec<JoinHandle<()>>,
}

impl<R> Threads<R> {
    /// Ends the threads, and waits for them: for a write of the log, one group of entries, and
    /// what the store of snapshots cannot give up.
    fn end(&mut self) {
        self.is_stopping.store(true, Ordering::Release);
        self.store.cancel();
        self.log.close();
        self.apply.close();
        self.background.close();
        self.arrivals.close();
        for handle in self.handles.drain(..) {
            // A thread that panicked has said so by mail, or has nothing left to say.
            let _ = handle.join();
        }
    }
}

impl<R> Drop for Threads<R> {
    fn drop(&mut self) {
        self.end();
    }
}

/// Everything that the raft thread owns.
pub(super) struct Replica<F: Replicated> {
    pub(super) id: u64,
    pub(super) core: Core,
    pub(super) shared: Arc<Shared<F>>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) snapshots: Arc<dyn SnapshotStore>,
    pub(super) threads: Threads<F::Reply>,
    pub(super) ticker: Ticker,
    pub(super) ticks: u64,
    pub(super) role: Role,
    pub(super) leader: Option<u64>,
    pub(super) last_token: u64,
    /// Proposals that the core has, by token.
    pub(super) appended: BTreeMap<u64, Job<F::Reply>>,
    /// Proposals that wait for the next tick or leader.
    pub(super) parked: Vec<Job<F::Reply>>,
    /// Proposals that came in this turn.
    pub(super) arrived: Vec<Job<F::Reply>>,
    pub(super) changes: BTreeMap<u64, Responder>,
    pub(super) timers: Vec<(Instant, Weak<dyn Waiting>)>,
    pub(super) reads: Reads,
    pub(super) comparing: Comparing,
    /// Attempts to send changes in the place of a whole snapshot.
    pub(super) attempts: Attempts,
    /// The entry of the digest alarm in the status.
    pub(super) alarmed_at: Option<u64>,
    /// Erasures of history that wait for the state machine, or the core.
    pub(super) erasures: Vec<Erasure>,
    pub(super) book: Book,
    pub(super) members: Membership,
    /// Whether the file of a snapshot is being checked.
    pub(super) is_checking: bool,
    /// The snapshot whose file was built or read over while an erasure waits, and the last one
    /// beside which an erasure has left nothing.
    pub(super) sound: Option<Vec<u8>>,
    pub(super) relied_on: Option<Vec<u8>>,
    pub(super) is_draining: bool,
    pub(super) is_removed: bool,
}

/// Posts the end of a node, also when its raft thread panics.
struct End<F: Replicated> {
    shared: Arc<Shared<F>>,
    error: Option<NodeError>,
}

impl<F: Replicated> Drop for End<F> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.error = Some(NodeError::Panicked { thread: "raft" });
        }
        self.shared.inbox.close_and_drop();
        let error = self.error.take();
        self.shared.board.post(|status| {
            (status.is_running, status.error) = (false, error);
            (status.raft.role, status.raft.leader) = (Role::Follower, None);
            status.snapshots = SnapshotsUnderway::default();
        });
        self.shared.metrics.end();
        // Behind the post: who is woken looks for a node that runs, and must not find this one.
        self.shared.machine.close_waits();
    }
}

impl<F: Replicated> Replica<F> {
    /// Runs until told to stop, or until something fails.
    pub(super) fn run(mut self) {
        let mut end = End { shared: Arc::clone(&self.shared), error: None };
        self.connect();
        let mut mail = Vec::new();
        loop {
            match self.turn(&mut mail) {
                Ok(true) => self.post(),
                Ok(false) => break,
                Err(error) => {
                    end.error = Some(error);
                    break;
                }
            }
        }
        end.shared.inbox.close_and_drop();
        for (_, slot) in self.timers.drain(..) {
            if let Some(slot) = slot.upgrade() {
                slot.end(true);
            }
        }
        self.threads.end();
    }

    /// Takes all mail, then the ticks that are due. Answers whether to go on.
    fn turn(&mut self, mail: &mut Vec<Mail<F::Reply>>) -> Result<bool, NodeError> {
        if !self.shared.inbox.take(Some(self.ticker.wait()), mail) {
            return Ok(false);
        }
        for mail in mail.drain(..) {
            match mail {
                Mail::Stop => return Ok(false),
                mail => self.take(mail)?,
            }
        }
        for _ in 0..self.ticker.due() {
            self.step(Event::Tick)?;
            self.tick()?;
        }
        let arrived = std::mem::take(&mut self.arrived);
        self.submit(arrived)?;
        self.ask_for_reads()?;
        self.scrub()?;
        if self.is_removed {
            return Err(NodeError::Removed { id: self.id });
        }
        Ok(true)
    }

    fn take(&mut self, mail: Mail<F::Reply>) -> Result<(), NodeError> {
        match mail {
            Mail::Propose(job) => {
                if let Some(slot) = &job.waiter.slot {
                    self.timers.push((job.waiter.deadline, Arc::downgrade(slot)));
                }
                self.arrived.push(job);
            }
            Mail::Read(read) => {
                let slot: Arc<dyn Waiting> = read.slot.clone();
                self.timers.push((read.deadline, Arc::downgrade(&slot)));
                self.reads.queued.push(read);
            }
            Mail::Ask { to, request, timeout, asker } => {
                let waiting: Arc<dyn Waiting> = asker.0.clone();
                self.timers.push((clock::later(timeout), Arc::downgrade(&waiting)));
                self.ask(to, &request, timeout, asker)?;
            }
            Mail::Message(message) => {
                let from = message.from();
                self.step(Event::Receive(message))?;
                self.heard(from);
            }
            // The thread of arrivals has panicked; its mail says so. The file is not taken then.
            Mail::Snapshot(arrival) => drop(self.threads.arrivals.post(arrival)),
            Mail::Request { from, request, respond } => self.answer(from, request, respond)?,
            Mail::Unreachable(peer) => {
                self.missed(peer);
                self.step(Event::Unreachable(peer))?;
            }
            Mail::Persisted(number) => self.step(Event::Persisted(number))?,
            Mail::Applied(index) => {
                self.step(Event::Applied(index))?;
                self.went_on(index);
                self.release_reads();
            }
            Mail::MembersChanged => self.connect(),
            Mail::Introduced { peer, directory } => self.introduced(peer, directory),
            Mail::Answered { peer, refusal } => self.answered(peer, refusal),
            Mail::Addresses { at, addresses } => self.told(at, addresses),
            Mail::Built(built) => self.built(built)?,
            Mail::Held(sending, held) => self.send_to_holder(sending, &held),
            Mail::SnapshotSent { to, reference, is_taken, are_changes } => {
                self.snapshot_sent(to, reference, is_taken, are_changes)?;
            }
            Mail::Checked { reference, is_sound } => {
                self.is_checking = false;
                if is_sound {
                    self.found_sound(reference);
                } else {
                    self.step(Event::SnapshotLost { reference })?;
                }
            }
            Mail::NotTaken(job, error) => self.not_taken(job, error),
            Mail::Lost(job) => self.lost(job),
            Mail::Confirmed { round, index } => self.confirmed(round, index),
            Mail::Digests { round, from, noted } => self.compare(round, from, noted)?,
            Mail::Failed(error) => return Err(error),
            Mail::Drain => self.is_draining = true,
            // Taken out before.
            Mail::Stop => {}
        }
        Ok(())
    }

    /// What the node does by the clock, beside the core.
    fn tick(&mut self) -> Result<(), NodeError> {
        self.ticks += 1;
        let now = clock::now();
        self.timers.retain(|(at, slot)| {
            let Some(slot) = slot.upgrade().filter(|slot| slot.is_open()) else { return false };
            if *at <= now {
                slot.end(false);
            }
            *at > now
        });
        let is_draining = self.is_draining;
        self.parked.retain(|job| job.waiter.is_open() && !is_draining);
        self.unpark()?;
        self.tick_reads();
        self.announce();
        self.ask_for_addresses();
        self.tick_digests();
        self.look_at_transport();
        Ok(())
    }

    /// Shows what the transport has counted, and which snapshots are on their way.
    fn look_at_transport(&self) {
        let (stats, shared) = (self.transport.stats(), &self.shared);
        let underway = SnapshotsUnderway::new(stats.as_ref(), &shared.metrics);
        shared.metrics.link.show(stats);
        if shared.board.status().snapshots != underway {
            shared.board.post(|status| status.snapshots = underway);
        }
    }

    /// Gives one event to the core, and every event that follows from carrying out its actions.
    pub(super) fn step(&mut self, event: Event) -> Result<(), NodeError> {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for action in self.core.step(event) {
                self.perform(action, &mut events)?;
            }
        }
        Ok(())
    }

    fn perform(&mut self, action: Action, events: &mut VecDeque<Event>) -> Result<(), NodeError> {
        match action {
            Action::Send(message) => {
                let to = message.to();
                if self.transport.send(message).is_err() {
                    events.push_back(Event::Unreachable(to));
                }
            }
            Action::SendSnapshot(message) => self.send_snapshot(message),
            Action::Persist(batch) => self.hand_to_log(LogJob::Write(batch)),
            Action::Apply(entries) => self.hand_to_apply(entries),
            Action::Install(snapshot) => {
                self.members = snapshot.membership.clone();
                self.shared.board.post(|status| status.snapshot_index = snapshot.index);
                // The apply thread has failed; its mail says why.
                let _ = self.threads.apply.post(ApplyJob::Install(snapshot));
            }
            Action::BuildSnapshot => {
                // A mark is a state of which the others build files as well.
                let mark = self.shared.marks.take(self.core.snapshot_from());
                let work = Work::Build(mark.unwrap_or_else(|| self.shared.machine.read()));
                // The background thread has panicked; its mail says so.
                let _ = self.threads.background.post(work);
            }
            Action::Compact { index, snapshot } => {
                self.shared.board.post(|status| status.snapshot_index = snapshot.index);
                self.hand_to_log(LogJob::Compact { index, snapshot });
            }
            Action::Refused { token, reason } => self.refused(token, reason),
            Action::Unknown { token } => self.unknown(token),
            Action::ReadReady { tokens, index } => self.read_ready(tokens, index),
            Action::ReadRefused { tokens, reason } => self.read_refused(tokens, &reason),
            Action::RoleChanged { role, leader, .. } => self.role_changed(role, leader),
            Action::Halt(error) => return Err(error.into()),
            other => {
                let reason = format!("an action this shell does not know: {other:?}");
                return Err(fsmdb::raft::RaftError::Contract { reason }.into());
            }
        }
        Ok(())
    }

    pub(super) fn hand_to_log(&mut self, job: LogJob) {
        // The log thread has failed; its mail says why.
        let _ = self.threads.log.post(job);
    }

    fn hand_to_apply(&mut self, entries: Vec<Committed>) {
        let now = clock::now();
        let mut group = Vec::with_capacity(entries.len());
        for committed in entries {
            let waiter = committed.token.and_then(|token| self.appended.remove(&token));
            let waiter: Option<Waiter<F::Reply>> = waiter.map(|job| job.waiter);
            if let Some(waiter) = &waiter {
                self.shared.metrics.commit_seconds.observe(now - waiter.asked);
            }
            if let Some(outcome) = &committed.membership {
                let change = committed.token.and_then(|token| self.changes.remove(&token));
                self.members_changed(change, outcome);
            }
            group.push((committed, waiter));
        }
        // The apply thread has failed; its mail says why, and waiters learn it by their drop.
        let _ = self.threads.apply.post(ApplyJob::Entries(group));
    }

    fn members_changed(&mut self, change: Option<Responder>, outcome: &Result<Membership, String>) {
        let answer = match outcome {
            Ok(_) => Answer::Done,
            Err(reason) => Answer::Refused(Refused::Invalid { reason: reason.clone() }),
        };
        if let Some(respond) = change {
            super::door::send(respond, &answer);
        }
        let Ok(members) = outcome else { return };
        let before = std::mem::replace(&mut self.members, members.clone());
        let gone = all_of(&before).into_iter().filter(|id| !members.contains(*id));
        for id in gone.collect::<Vec<_>>() {
            self.book.lose(id);
            if id == self.id {
                self.is_removed = true;
            } else if self.role == Role::Leader {
                self.propose_address(id, None);
            }
        }
    }

    fn built(&mut self, built: Result<Built, SnapshotStoreError>) -> Result<(), NodeError> {
        let error = built.as_ref().err().map(|error| error.reason.clone());
        self.shared.board.post(|status| status.snapshot_error = error);
        let Ok(Built { at, reference }) = built else { return self.step(Event::SnapshotFailed) };
        let (index, term) = (at.index, at.term);
        self.step(Event::SnapshotBuilt { index, term, reference: reference.clone() })?;
        self.found_sound(reference);
        Ok(())
    }

    /// Has the file of a snapshot read that did not arrive, or is to be relied on, unless one is
    /// being read: who retries asks again.
    pub(super) fn check_snapshot(&mut self, reference: Vec<u8>) {
        if !std::mem::replace(&mut self.is_checking, true) {
            // The background thread has panicked; its mail says so.
            let _ = self.threads.background.post(Work::Check(reference));
        }
    }

    fn role_changed(&mut self, role: Role, leader: Option<u64>) {
        let metrics = &self.shared.metrics;
        if role == Role::Candidate && self.role != Role::Candidate {
            metrics.elections.inc();
        }
        if leader != self.leader && leader.is_some() {
            metrics.leader_changes.inc();
        }
        if role != Role::Leader {
            self.book.unannounce();
            self.comparing = Comparing::default();
        }
        (self.role, self.leader) = (role, leader);
        // What waits for a leader goes on in this very turn.
        self.arrived.append(&mut self.parked);
        self.reads.is_held = false;
    }

    fn post(&mut self) {
        let status = self.core.status();
        let queues = self.shared.queues(self.threads.log.len(), self.threads.apply.len());
        self.shared.measure(&status, &queues);
        let posted = self.shared.board.status();
        if posted.raft != status || posted.queues != queues || !posted.is_running {
            self.shared.board.post(|posted| {
                (posted.raft, posted.queues, posted.is_running) = (status, queues, true);
            });
        }
    }

    /// Carries a change of the members to the core.
    pub(super) fn change(
        &mut self,
        steps: Vec<MemberChange>,
        respond: Responder,
    ) -> Result<(), NodeError> {
        let demoted = steps.iter().find_map(|step| match step {
            MemberChange::AddLearner(id) if self.members.is_voter(*id) => Some(*id),
            _ => None,
        });
        if let Some(id) = demoted {
            let reason = format!("node {id} is a voter");
            super::door::send(respond, &Answer::Refused(Refused::Invalid { reason }));
            return Ok(());
        }
        let token = self.next_token();
        self.changes.insert(token, respond);
        self.step(Event::Change { token, steps })
    }

    pub(super) fn next_token(&mut self) -> u64 {
        self.last_token += 1;
        self.last_token
    }
}

/// Everybody in a membership.
pub(super) fn all_of(members: &Membership) -> Vec<u64> {
    let voters = members.voters.iter().chain(&members.voters_outgoing);
    let mut all: Vec<u64> = voters.chain(&members.learners).copied().collect();
    all.sort_unstable();
    all.dedup();
    all
}
