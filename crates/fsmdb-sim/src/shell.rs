//! The shell around the core: carries out its actions with the log, the state machine and the
//! network of the world. The node of `fsmdb-node` has one of its own, of the same contract, with
//! threads and sockets.
//!
//! # Invariants
//!
//! 1. The actions of one event are carried out in their order, before the next event.
//! 2. Nothing is answered before it is done: a batch before it is durable, an entry before it is
//!    applied, a snapshot before its fate is known.

use fsmdb::Applied;
use fsmdb::raft::{Action, Batch, Committed, EntryKind, Event, Message, Role};

use crate::clients::{Answer, End, Request, What};
use crate::limits::INSTALL_CRASHES_PERCENT;
use crate::mutant::Mutant;
use crate::network::Delivery;
use crate::node::{ApplyWork, LogWork, Node};
use crate::state::{Bank, Command, Done, Effect, Register, Stale};
use crate::violation::{Check, Checked, Violation};
use crate::world::World;

impl World {
    /// Gives one event to a core and carries out what comes of it.
    pub(crate) fn step(&mut self, id: u64, event: Event) -> Checked {
        let core = self.nodes.get_mut(&id).and_then(|node| node.core.as_mut());
        let Some(core) = core else { return Ok(()) };
        self.counts.steps += 1;
        for action in core.step(event) {
            self.trace.show(self.now, id, "does", &action);
            self.perform(id, action)?;
        }
        self.scrub(id);
        Ok(())
    }

    pub(crate) fn perform(&mut self, id: u64, action: Action) -> Checked {
        match action {
            Action::Send(message) => self.send(message),
            Action::SendSnapshot(message) => self.send_snapshot(id, message),
            Action::Persist(batch) => self.persist(id, batch),
            Action::Apply(entries) => self.give_apply_work(id, ApplyWork::Entries(entries)),
            Action::Install(meta) => self.give_apply_work(id, ApplyWork::Install(meta)),
            Action::BuildSnapshot => self.build_snapshot(id)?,
            Action::Compact { index, snapshot } => {
                self.give_log_work(id, LogWork::Compact { index, snapshot });
            }
            Action::Refused { token, reason } => {
                let leader = leader_in(&reason);
                self.answer(id, token, End::Refused { leader });
            }
            Action::Unknown { token } => {
                self.counts.unknown += 1;
                self.answer(id, token, End::Unknown);
            }
            Action::ReadReady { tokens, .. } => {
                for token in tokens {
                    self.answer_read(id, token);
                }
            }
            Action::ReadRefused { tokens, reason } => {
                let leader = leader_in(&reason);
                for token in tokens {
                    if self.mutant == Some(Mutant::DeposedAnswersReads) {
                        self.answer_read(id, token);
                    } else {
                        self.answer(id, token, End::Refused { leader });
                    }
                }
            }
            Action::RoleChanged { role, term, leader } => {
                let numbers = [role as u64, term, leader.unwrap_or(0)];
                self.trace.note(self.now, id, "role", &numbers);
                if role == Role::Leader {
                    let log = self.nodes[&id].disk.visible();
                    self.oracle.leads(id, term, &log)?;
                }
            }
            Action::Halt(error) => {
                let text = format!("replica {id} halts: {error}");
                return Err(Violation::new(Check::Stopped, text));
            }
            other => {
                let text = format!("replica {id} wants something unknown: {other:?}");
                return Err(Violation::new(Check::Stopped, text));
            }
        }
        Ok(())
    }

    fn send(&mut self, message: Message) {
        self.counts.messages += 1;
        let ends = (message.from(), message.to());
        let delivery = Delivery::Message(message);
        let sent = self.network.send(self.now, ends, &delivery, &mut self.random);
        self.counts.lost += u64::from(!sent);
    }

    fn persist(&mut self, id: u64, batch: Batch) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let is_early = match self.mutant {
            Some(Mutant::PersistedBeforeSync) => true,
            Some(Mutant::EagerMembership) => {
                let is_commit_only = batch.entries.is_empty() && batch.snapshot.is_none();
                is_commit_only && batch.must_sync && node.log_work.is_empty()
            }
            _ => false,
        };
        if is_early {
            node.answered_early.insert(batch.number);
            let (boot, batch) = (node.boot, batch.clone());
            self.network.put(self.now, Delivery::Durable { id, boot, batch });
        }
        let is_install = batch.snapshot.is_some();
        self.give_log_work(id, LogWork::Batch(batch));
        if is_install && self.is_open && self.random.chance(INSTALL_CRASHES_PERCENT) {
            self.cut_power_soon(id);
        }
    }

    /// Lets a replica lose power before, or right after, the log has done what it has to do.
    fn cut_power_soon(&mut self, id: u64) {
        let Some(node) = self.nodes.get(&id) else { return };
        let boot = node.boot;
        let longest = node.log_free.saturating_sub(self.now) + 2;
        let at = self.now + self.random.below(longest);
        self.network.put(at, Delivery::PowerCut { id, boot });
    }

    /// What the batch promises is as good as kept: the core may rely on it.
    pub(crate) fn batch_is_durable(&mut self, id: u64, batch: &Batch) -> Checked {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.promise.answered(batch);
        }
        self.step(id, Event::Persisted(batch.number))
    }

    /// The log comes to it some time after what it has to do before.
    pub(crate) fn give_log_work(&mut self, id: u64, work: LogWork) {
        let syncs = match &work {
            LogWork::Batch(batch) => batch.must_sync,
            LogWork::Compact { .. } | LogWork::Scrub { .. } => false,
        };
        let delay = self.random.below(if syncs { self.disk_max } else { 3 } + 1);
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.log_number += 1;
        let (boot, number) = (node.boot, node.log_number);
        node.log_work.push_back((number, work));
        node.log_free = node.log_free.max(now + delay);
        self.network.put(node.log_free, Delivery::Log { id, boot, number });
    }

    /// Writes everything up to `number`, sometimes with what came after it in the same write.
    pub(crate) fn do_log_work(&mut self, id: u64, number: u64) -> Checked {
        let takes_all = self.random.chance(30);
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let mut written = Vec::new();
        while let Some((next, _)) = node.log_work.front() {
            if *next > number && !takes_all {
                break;
            }
            let Some((_, work)) = node.log_work.pop_front() else { break };
            written.extend(node.write(work)?);
        }
        self.counts.batches += written.len() as u64;
        // Not before: what was never durable anywhere may come again as something else.
        for entry in written.iter().flat_map(|batch| &batch.entries) {
            self.oracle.logged(id, entry)?;
        }
        written.retain(|batch| !node.answered_early.remove(&batch.number));
        // Only the last is answered; the promise is of all.
        let Some((last, before)) = written.split_last() else { return Ok(()) };
        for batch in before {
            node.promise.answered(batch);
        }
        self.trace.note(self.now, id, "writes", &[last.number, written.len() as u64]);
        self.batch_is_durable(id, last)
    }

    fn give_apply_work(&mut self, id: u64, work: ApplyWork) {
        let delay = self.random.below(6);
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.apply_work.push_back(work);
        node.apply_free = node.apply_free.max(now + delay);
        self.network.put(node.apply_free, Delivery::Apply { id, boot: node.boot });
    }

    pub(crate) fn do_apply_work(&mut self, id: u64) -> Checked {
        let work = self.nodes.get_mut(&id).and_then(|node| node.apply_work.pop_front());
        let last = match work {
            None => return Ok(()),
            Some(ApplyWork::Entries(entries)) => {
                let mut last = 0;
                for committed in entries {
                    last = committed.entry.index();
                    self.apply(id, &committed)?;
                }
                last
            }
            Some(ApplyWork::Install(meta)) => {
                let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
                node.install(&meta)?;
                self.counts.installs += 1;
                self.trace.note(self.now, id, "installs", &[meta.index, meta.term]);
                let at = Applied { index: meta.index, term: meta.term };
                self.oracle.holds(id, at, &node.machine.read())?;
                self.look(id)?;
                meta.index
            }
        };
        self.step(id, Event::Applied(last))
    }

    /// Gives one entry to the state machine and tells who waits for it.
    fn apply(&mut self, id: u64, committed: &Committed) -> Checked {
        let Committed { entry, token, membership } = committed;
        let at = Applied { index: entry.index(), term: entry.term() };
        let skips = self.mutant == Some(Mutant::SkipEntry) && self.random.chance(1);
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let stopped = |text: String| Violation::new(Check::Stopped, text);
        let failed = |error| stopped(format!("replica {id} cannot apply {at}: {error}"));
        self.counts.entries += 1;
        let mut end = None;
        match entry.command().filter(|_| entry.kind() == EntryKind::Command) {
            Some(bytes) if !skips => {
                let reply = node.machine.apply(at, bytes).map_err(failed)?;
                let reply = reply.ok_or_else(|| stopped(format!("{at} was applied before")))?;
                let command = self.commands.get(bytes).cloned();
                let command = command.ok_or_else(|| stopped(format!("{at} is of nobody")))?;
                let snapshot = node.machine.read();
                self.oracle.applied(id, at, Some((&command, &reply)), &snapshot)?;
                end = Some(reply);
            }
            _ => {
                node.machine.skip(at).map_err(failed)?;
                self.oracle.applied(id, at, None, &node.machine.read())?;
            }
        }
        if let Some(Ok(members)) = membership {
            node.is_removed = !members.contains(id);
            self.counts.changes += 1;
        }
        self.trace.note(self.now, id, "applies", &[at.index, at.term]);
        self.look(id)?;
        if let Some(reply) = end {
            self.reply(id, *token, reply);
        }
        Ok(())
    }

    /// Sends a reply to whom it belongs.
    fn reply(&mut self, id: u64, token: Option<u64>, reply: Result<Done, Stale>) {
        let mut token = token;
        if self.mutant == Some(Mutant::AnswerByOrder) {
            let asked = &self.nodes[&id].asked;
            let mut writes = asked.iter().filter(|(_, (r, _))| matches!(r.what, What::Write(_)));
            token = writes.next().map(|(token, _)| *token);
        }
        if let Some(token) = token {
            self.answer(id, token, End::Done(reply));
        }
    }

    /// Whoever watches the database of a replica looks at it.
    fn look(&mut self, id: u64) -> Checked {
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let (wakes, followed) = node.audience.look(node.machine.db(), &self.oracle)?;
        self.counts.wakes += wakes;
        self.counts.feed_items += followed.items;
        self.counts.feed_resets += followed.resets;
        self.subscriber_looks(id)
    }

    /// A request reaches a replica.
    pub(crate) fn take_request(&mut self, to: u64, request: Request) -> Checked {
        let token = self.number();
        let Some(node) = self.nodes.get_mut(&to).filter(|node| node.is_running()) else {
            return Ok(());
        };
        self.trace.note(self.now, to, "request", &[request.client, request.attempt]);
        let snapshot = match &request.what {
            What::StaleRead { register } => {
                let end = read_of(node, *register);
                self.send_answer(to, request.clone(), end);
                return Ok(());
            }
            What::Read { register, .. } if answers_at_once(node) => {
                let end = read_of(node, *register);
                self.send_answer(to, request.clone(), end);
                return Ok(());
            }
            What::Read { .. } => {
                (self.mutant == Some(Mutant::ReadFromOldSnapshot)).then(|| node.machine.read())
            }
            What::Write(_) => None,
        };
        node.asked.insert(token, (request.clone(), snapshot));
        let What::Write(command) = request.what else {
            return self.step(to, Event::Read(vec![token]));
        };
        let bytes = fsmdb::Machine::<Bank>::encode(&command);
        let bytes = bytes.map_err(|error| Violation::new(Check::Stopped, error.to_string()))?;
        self.commands.insert(bytes.clone(), command.clone());
        let proposal = fsmdb::raft::Proposal { token, command: bytes };
        self.step(to, Event::Propose(vec![proposal]))?;
        if self.mutant == Some(Mutant::AckBeforeApply) {
            self.acknowledge_early(to, token, &command);
        }
        Ok(())
    }

    /// For a planted bug: what is appended is as good as done.
    fn acknowledge_early(&mut self, id: u64, token: u64, command: &Command) {
        let Some(core) = self.nodes.get(&id).and_then(|node| node.core.as_ref()) else { return };
        let index = core.status().last_index;
        let done = Done { sequence: command.sequence, index, effect: Effect::Length(1) };
        self.answer(id, token, End::Done(Ok(done)));
    }

    fn answer(&mut self, id: u64, token: u64, end: End) {
        let asked = self.nodes.get_mut(&id).and_then(|node| node.asked.remove(&token));
        if let Some((request, _)) = asked {
            self.send_answer(id, request, end);
        }
    }

    /// Answers a confirmed read from the state as it is now.
    fn answer_read(&mut self, id: u64, token: u64) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Some((request, old)) = node.asked.remove(&token) else { return };
        let What::Read { register, .. } = request.what else { return };
        let snapshot = old.unwrap_or_else(|| node.machine.read());
        let end = values_of(&snapshot, register);
        self.send_answer(id, request, end);
    }

    fn send_answer(&mut self, from: u64, request: Request, end: End) {
        let delivery = Delivery::Answer(Answer { request, end });
        self.network.send(self.now, (from, 0), &delivery, &mut self.random);
    }

    /// An answer reaches its client.
    pub(crate) fn take_answer(&mut self, answer: Answer) -> Checked {
        let Answer { request, end } = answer;
        let Some(client) = self.clients.get_mut(&request.client) else { return Ok(()) };
        self.trace.note(self.now, 0, "answer", &[request.client, request.attempt]);
        match (request.what, end) {
            (What::Write(command), End::Done(reply)) if client.waits_for(&command) => {
                let done = reply.map_err(|stale| {
                    let text = format!("{command:?} is {stale:?} and was never answered");
                    Violation::new(Check::ExactlyOnce, text)
                })?;
                (client.known, client.waits) = (client.known + 1, None);
                self.counts.acknowledged += 1;
                self.oracle.acknowledged(&command, &done)
            }
            (What::Write(command), End::Unknown) if client.waits_for(&command) => {
                if self.mutant == Some(Mutant::UnknownIsSuccess) {
                    (client.known, client.waits) = (client.known + 1, None);
                }
                client.hurry(None);
                Ok(())
            }
            (What::Write(command), End::Refused { leader }) if client.waits_for(&command) => {
                client.hurry(leader);
                Ok(())
            }
            (What::Read { register, floor }, End::Read { revision, values }) => {
                client.waits.take_if(|(what, _)| matches!(what, What::Read { .. }));
                self.counts.reads += 1;
                self.oracle.read(register, Some(floor), revision, &values)
            }
            (What::StaleRead { register }, End::Read { revision, values }) => {
                client.waits.take_if(|(what, _)| matches!(what, What::StaleRead { .. }));
                self.counts.stale_reads += 1;
                self.oracle.read(register, None, revision, &values)
            }
            (What::Read { .. }, End::Refused { leader }) => {
                client.waits.take_if(|(what, _)| matches!(what, What::Read { .. }));
                client.target = leader.unwrap_or(client.target);
                Ok(())
            }
            // The answer to an earlier attempt for something that is over.
            _ => Ok(()),
        }
    }
}

/// For planted bugs: whether a replica answers linearizable reads without asking anybody.
fn answers_at_once(node: &Node) -> bool {
    let Some(core) = &node.core else { return false };
    match node.mutant {
        Some(Mutant::ReadWithoutRound) => core.status().role == Role::Leader,
        Some(Mutant::ReadAtFollower) => core.status().role == Role::Follower,
        Some(Mutant::RemovedAnswersReads) => node.is_removed,
        _ => false,
    }
}

fn read_of(node: &Node, register: u64) -> End {
    values_of(&node.machine.read(), register)
}

fn values_of(snapshot: &fsmdb::Snapshot, register: u64) -> End {
    let row = snapshot.table::<Register>().get(&register);
    let values = row.map(|row| row.values.clone()).unwrap_or_default();
    End::Read { revision: snapshot.revision().0, values }
}

fn leader_in(reason: &fsmdb::raft::Refusal) -> Option<u64> {
    match reason {
        fsmdb::raft::Refusal::NotLeader { leader } => *leader,
        _ => None,
    }
}
