//! One replica on one thread: the core, its log, its state machine, its inbox.
//!
//! # Invariants
//!
//! 1. The actions of one event are carried out in their order, before the next event.
//! 2. What takes long (saving and installing snapshots) happens on a thread beside; its outcome
//!    comes back as mail.
//! 3. Every `SendSnapshot` is answered by `SnapshotSent`, whatever became of it.
//! 4. A replica whose log or state machine fails stops and says why; it never skips an entry.
//! 5. When the thread ends, by whatever way, the replica is posted as not running, whoever waits
//!    for an answer learns that there will be none, and whoever waits for its database to change
//!    learns that it will not.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::board::Board;
use super::clock::Ticker;
use super::network::{Answer, Counts, Mail, Network};
use crate::db::Db;
use crate::limits::INBOX_BATCH_MAX;
use crate::machine::{Fsm, Machine};
use crate::raft::{
    Action, Batch, Committed, Core, EntryKind, Event, LogStore, MemoryLog, Message, Proposal,
    SnapshotMeta, Status,
};
use crate::revision::Applied;

/// Everything one replica owns.
pub(super) struct Replica<F: Fsm> {
    pub(super) id: u64,
    pub(super) core: Core,
    pub(super) machine: Arc<Machine<F>>,
    pub(super) log: MemoryLog,
    pub(super) inbox: Receiver<Mail<F::Reply>>,
    pub(super) network: Arc<Network<F::Reply>>,
    pub(super) board: Arc<Board>,
    pub(super) tick: Duration,
    pub(super) waiters: BTreeMap<u64, Sender<Answer<F::Reply>>>,
    pub(super) last_token: u64,
    pub(super) posted: Status,
    pub(super) beside: Vec<JoinHandle<()>>,
}

/// Posts the end of a replica, also when its thread panics.
struct End {
    id: u64,
    board: Arc<Board>,
    db: Db,
    close: Box<dyn Fn() + Send>,
    error: Option<String>,
}

impl Drop for End {
    fn drop(&mut self) {
        if thread::panicking() {
            self.error = Some("panicked; its words are on standard error".to_owned());
        }
        (self.close)();
        self.board.post_end(self.id, self.error.take());
        // Behind the post: who is woken looks for a replica that runs, and must not find this one.
        self.db.close_waits();
    }
}

impl<F: Fsm> Replica<F> {
    /// Runs until told to stop, or until something fails.
    pub(super) fn run(mut self) {
        let (id, network) = (self.id, Arc::clone(&self.network));
        let close: Box<dyn Fn() + Send> = Box::new(move || network.close(id));
        let (board, db) = (Arc::clone(&self.board), self.machine.db().clone());
        let mut end = End { id, board, db, close, error: None };
        let mut ticker = Ticker::new(self.tick);
        loop {
            match self.turn(&mut ticker) {
                Ok(true) => self.post(),
                Ok(false) => break,
                Err(reason) => {
                    end.error = Some(reason);
                    break;
                }
            }
        }
        // Dropping the inbox frees a thread that waits to deliver its outcome.
        let beside = std::mem::take(&mut self.beside);
        (end.close)();
        drop(self);
        for handle in beside {
            // A thread beside that panicked has nothing left to say here.
            let _ = handle.join();
        }
    }

    /// Takes a handful of mail, then the ticks that are due. Answers whether to go on.
    fn turn(&mut self, ticker: &mut Ticker) -> Result<bool, String> {
        let mut proposals = Vec::new();
        let mut reads = Vec::new();
        let mut mail = match self.inbox.recv_timeout(ticker.wait()) {
            Ok(mail) => Some(mail),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Ok(false),
        };
        let mut count = 0;
        while let Some(next) = mail.take() {
            match next {
                Mail::Stop => return Ok(false),
                Mail::Propose { command, answer } => {
                    let token = self.wait_for(answer);
                    proposals.push(Proposal { token, command });
                }
                Mail::Read { answer } => reads.push(self.wait_for(answer)),
                other => self.take(other)?,
            }
            count += 1;
            if count < INBOX_BATCH_MAX {
                mail = self.inbox.try_recv().ok();
            }
        }
        if !proposals.is_empty() {
            self.step(Event::Propose(proposals))?;
        }
        if !reads.is_empty() {
            self.step(Event::Read(reads))?;
        }
        for _ in 0..ticker.due() {
            self.step(Event::Tick)?;
        }
        Ok(true)
    }

    fn take(&mut self, mail: Mail<F::Reply>) -> Result<(), String> {
        match mail {
            Mail::Raft(message) => self.step(Event::Receive(message)),
            Mail::Snapshot { message, data } => {
                let reference = message.snapshot_reference();
                self.log.put_snapshot(reference, data);
                self.step(Event::Receive(message))
            }
            Mail::Change { steps, answer } => {
                let token = self.wait_for(answer);
                self.step(Event::Change { token, steps })
            }
            Mail::Transfer(to) => self.step(Event::Transfer(to)),
            Mail::Built(Ok((at, data))) => {
                Counts::add(&self.network.counts.snapshots_built, 1);
                self.board.post_snapshot(self.id, None);
                let reference = format!("snapshot-{}-{}", at.term, at.index).into_bytes();
                self.log.put_snapshot(&reference, data.into());
                self.step(Event::SnapshotBuilt { index: at.index, term: at.term, reference })
            }
            Mail::Built(Err(reason)) => {
                self.board.post_snapshot(self.id, Some(reason));
                self.step(Event::SnapshotFailed)
            }
            Mail::Installed(Ok(at)) => {
                Counts::add(&self.network.counts.snapshots_installed, 1);
                self.step(Event::Applied(at.index))
            }
            Mail::Installed(Err(reason)) => Err(reason),
            // Taken out before.
            Mail::Propose { .. } | Mail::Read { .. } | Mail::Stop => Ok(()),
        }
    }

    /// Gives one event to the core, and every event that follows from carrying out its actions.
    fn step(&mut self, event: Event) -> Result<(), String> {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for action in self.core.step(event) {
                self.perform(action, &mut events)?;
            }
        }
        Ok(())
    }

    fn perform(&mut self, action: Action, events: &mut VecDeque<Event>) -> Result<(), String> {
        match action {
            Action::Send(message) => {
                let to = message.to();
                if self.network.deliver(self.id, to, Mail::Raft(message)).is_err() {
                    events.push_back(Event::Unreachable(to));
                }
            }
            Action::SendSnapshot(message) => events.push_back(self.send_snapshot(message)),
            Action::Persist(batch) => events.push_back(self.persist(&batch)?),
            Action::Apply(entries) => events.push_back(self.apply(entries)?),
            Action::Install(snapshot) => self.install(&snapshot)?,
            Action::BuildSnapshot => self.build_snapshot()?,
            Action::Compact { index, snapshot } => {
                let outcome = self.log.compact_to(index, &snapshot);
                outcome.map_err(|error| error.to_string())?;
            }
            Action::Refused { token, reason } => self.answer(token, Answer::Refused(reason)),
            Action::Unknown { token } => self.answer(token, Answer::Unknown),
            Action::ReadReady { tokens, index } => {
                let snapshot = self.machine.read();
                for token in tokens {
                    let snapshot = snapshot.clone();
                    self.answer(token, Answer::Read { index, snapshot });
                }
            }
            Action::ReadRefused { tokens, reason } => {
                for token in tokens {
                    self.answer(token, Answer::Refused(reason.clone()));
                }
            }
            Action::RoleChanged { .. } => {}
            Action::Halt(error) => return Err(error.to_string()),
        }
        Ok(())
    }

    fn persist(&mut self, batch: &Batch) -> Result<Event, String> {
        if let Some((snapshot, hard_state)) = &batch.snapshot {
            let outcome = self.log.install_snapshot(snapshot, *hard_state);
            outcome.map_err(|error| error.to_string())?;
        }
        let outcome = self.log.append(&batch.entries, batch.hard_state, batch.must_sync);
        outcome.map_err(|error| error.to_string())?;
        Ok(Event::Persisted(batch.number))
    }

    fn apply(&mut self, entries: Vec<Committed>) -> Result<Event, String> {
        let mut last = 0;
        Counts::add(&self.network.counts.entries_applied, entries.len() as u64);
        for Committed { entry, token, membership } in entries {
            let at = Applied { index: entry.index(), term: entry.term() };
            last = at.index;
            let failed = |error: crate::machine::MachineError| {
                format!("state machine failed at {}: {error}", at.index)
            };
            let answer = match (entry.kind(), entry.command()) {
                (EntryKind::Command, Some(command)) => {
                    let reply = self.machine.apply(at, command).map_err(failed)?;
                    reply.map_or(Answer::Unknown, |reply| Answer::Applied(at, reply))
                }
                _ => {
                    self.machine.skip(at).map_err(failed)?;
                    Answer::Changed(membership.map_or(Ok(()), |change| change.map(|_| ())))
                }
            };
            if let Some(token) = token {
                self.answer(token, answer);
            }
        }
        Ok(Event::Applied(last))
    }

    /// Hands the snapshot to its receiver. The outcome is known at once: inboxes do not lose mail.
    fn send_snapshot(&self, message: Message) -> Event {
        let to = message.to();
        let data = self.log.snapshot(message.snapshot_reference());
        let sent = data.map(|data| {
            let mail = Mail::Snapshot { message, data };
            self.network.deliver(self.id, to, mail).is_ok()
        });
        let ok = sent.unwrap_or(false);
        let counts = &self.network.counts;
        Counts::add(if ok { &counts.snapshots_sent } else { &counts.snapshots_lost }, 1);
        Event::SnapshotSent { to, ok }
    }

    fn install(&mut self, snapshot: &SnapshotMeta) -> Result<(), String> {
        let data = self.log.snapshot(&snapshot.reference);
        let data = data.ok_or_else(|| format!("data of snapshot {} is gone", snapshot.index))?;
        let machine = Arc::clone(&self.machine);
        self.beside("install", move || {
            let outcome = machine.install(&data[..]);
            Mail::Installed(outcome.map_err(|error| format!("snapshot not installed: {error}")))
        })
    }

    fn build_snapshot(&mut self) -> Result<(), String> {
        let snapshot = self.machine.read();
        self.beside("snapshot", move || {
            let mut data = Vec::new();
            let outcome = snapshot.save(&mut data).map(|_| (snapshot.applied(), data));
            Mail::Built(outcome.map_err(|error| error.to_string()))
        })
    }

    /// Runs `work` on a thread of its own and posts what it answers to this replica.
    fn beside(
        &mut self,
        name: &str,
        work: impl FnOnce() -> Mail<F::Reply> + Send + 'static,
    ) -> Result<(), String> {
        self.beside.retain(|handle| !handle.is_finished());
        let Some(inbox) = self.network.inbox(self.id) else { return Ok(()) };
        let thread = thread::Builder::new().name(format!("fsmdb-{}-{name}", self.id));
        let handle = thread.spawn(move || {
            // The replica stopped meanwhile; nobody misses the outcome.
            let _ = inbox.send(work());
        });
        self.beside.push(handle.map_err(|error| format!("no thread for {name}: {error}"))?);
        Ok(())
    }

    fn wait_for(&mut self, answer: Sender<Answer<F::Reply>>) -> u64 {
        self.last_token += 1;
        self.waiters.insert(self.last_token, answer);
        self.last_token
    }

    fn answer(&mut self, token: u64, answer: Answer<F::Reply>) {
        if let Some(waiter) = self.waiters.remove(&token) {
            // The user may have stopped waiting.
            let _ = waiter.send(answer);
        }
    }

    fn post(&mut self) {
        let status = self.core.status();
        if status != self.posted {
            self.posted = status.clone();
            self.board.post(status);
        }
    }
}
