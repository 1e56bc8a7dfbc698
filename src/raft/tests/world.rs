//! A whole group in one thread: seeded, with a virtual clock, a network that loses, repeats and
//! reorders, disks that lose what was not synced, and checks at every step.
//!
//! # Invariants checked
//!
//! 1. One leader a term (election safety).
//! 2. Every replica applies the same history (state machine safety).
//! 3. A read is as of an index at or above everything acknowledged before it was asked.
//! 4. Every token is answered at most once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use slog::{Discard, Logger, o};

use super::chain::{Chain, mix};
use crate::raft::core::{Action, Batch, Config, Core, Event, Proposal, Role};
use crate::raft::{
    EntryKind, LogStore, MemberChange, Membership, MemoryLog, Message, RaftError, Recovered,
};

const TICK: u64 = 10;

/// What is on its way, to arrive at a time.
#[derive(Clone, Debug)]
enum Delivery {
    Message(Message),
    Snapshot { message: Message, data: Arc<[u8]> },
    Local { id: u64, boot: u64, event: Event, sync: bool },
    Built { id: u64, boot: u64, chain: Chain },
    Tick { id: u64, boot: u64 },
}

#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) core: Option<Core>,
    pub(super) log: MemoryLog,
    pub(super) chain: Chain,
    pub(super) boot: u64,
    local_free: u64,
    syncs: BTreeSet<u64>,
}

/// How a token ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum End {
    Applied(u64),
    Refused(crate::raft::Refusal),
    Unknown,
    Read(u64),
    ReadRefused,
}

pub(super) struct World {
    pub(super) nodes: BTreeMap<u64, Node>,
    pub(super) now: u64,
    pub(super) loss_percent: u64,
    pub(super) dup_percent: u64,
    pub(super) delay_max: u64,
    /// Longest time one write takes to become durable.
    pub(super) disk_max: u64,
    pub(super) snapshot_entries: u64,
    /// Directed cuts: messages from the first to the second are lost.
    pub(super) cuts: BTreeSet<(u64, u64)>,
    pub(super) ends: BTreeMap<u64, End>,
    pub(super) installs: u64,
    pub(super) snapshots_lost: u64,
    /// Lose this many snapshot messages on purpose.
    pub(super) lose_snapshots: u64,
    pub(super) trace: u64,
    pub(super) messages: u64,
    /// Every context seen in a heartbeat, with who sent it.
    pub(super) contexts: BTreeSet<Vec<u8>>,
    pub(super) tracing: bool,
    queue: BTreeMap<(u64, u64), Delivery>,
    sequence: u64,
    random: u64,
    history: BTreeMap<u64, Chain>,
    leaders: BTreeMap<u64, u64>,
    floors: BTreeMap<u64, u64>,
    acknowledged: u64,
    token: u64,
}

impl World {
    pub(super) fn new(seed: u64, founders: &[u64]) -> Self {
        let mut world = Self {
            nodes: BTreeMap::new(),
            now: 0,
            loss_percent: 0,
            dup_percent: 0,
            delay_max: 3,
            disk_max: 3,
            snapshot_entries: 1_000_000,
            cuts: BTreeSet::new(),
            ends: BTreeMap::new(),
            installs: 0,
            snapshots_lost: 0,
            lose_snapshots: 0,
            trace: 0,
            messages: 0,
            contexts: BTreeSet::new(),
            tracing: false,
            queue: BTreeMap::new(),
            sequence: 0,
            random: mix(seed),
            history: BTreeMap::new(),
            leaders: BTreeMap::new(),
            floors: BTreeMap::new(),
            acknowledged: 0,
            token: 0,
        };
        for &id in founders {
            let members = Membership::of_voters(founders.iter().copied());
            world.nodes.insert(id, Node { log: MemoryLog::founding(members), ..Node::default() });
        }
        world
    }

    /// A group that is running, with a leader.
    pub(super) fn started(seed: u64, founders: &[u64]) -> Self {
        let mut world = Self::new(seed, founders);
        world.start_all();
        world.run_until("a leader", 400, |world| world.leader().is_some());
        world
    }

    pub(super) fn random(&mut self, below: u64) -> u64 {
        self.random = mix(self.random);
        self.random % below.max(1)
    }

    pub(super) fn start_all(&mut self) {
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            if self.nodes[&id].core.is_none() {
                self.start(id).expect("a replica starts from what it wrote");
            }
        }
    }

    pub(super) fn add_node(&mut self, id: u64) {
        self.nodes.insert(id, Node { log: MemoryLog::new(), ..Node::default() });
        self.start(id).expect("a joiner starts empty");
    }

    pub(super) fn config(&self, id: u64, boot: u64) -> Config {
        let mut config = Config::new(id, boot);
        config.seed = Some(42);
        config.snapshot_entries = self.snapshot_entries;
        config.tail_entries = self.snapshot_entries / 4;
        config.log_entries_max = self.snapshot_entries * 2;
        config.apply_ahead_entries = 7;
        config
    }

    pub(super) fn start(&mut self, id: u64) -> Result<(), RaftError> {
        let boot = self.nodes[&id].boot + 1;
        let config = self.config(id, boot);
        let now = self.now;
        let node = self.nodes.get_mut(&id).expect("known");
        let recovered: Recovered = node.log.load()?;
        let snapshot = &recovered.snapshot;
        node.chain = match node.log.snapshot(&snapshot.reference) {
            Some(data) => Chain::decode(&data),
            None => Chain { index: snapshot.index, term: snapshot.term, hash: 0 },
        };
        let applied = node.chain.index;
        let core = Core::new(config, recovered, applied, &Logger::root(Discard, o!()))?;
        (node.boot, node.local_free) = (boot, now);
        node.syncs.clear();
        node.core = Some(core);
        let jitter = self.random(TICK);
        self.enqueue(jitter, Delivery::Tick { id, boot });
        Ok(())
    }

    /// Power loss: of the unsynced writes a random prefix survives.
    pub(super) fn crash(&mut self, id: u64) {
        let waiting = self.nodes[&id].log.unsynced_count() as u64;
        let keep = self.random(waiting + 1);
        self.crash_keeping(id, usize::try_from(keep).expect("small"));
    }

    pub(super) fn crash_keeping(&mut self, id: u64, keep: usize) {
        let node = self.nodes.get_mut(&id).expect("known");
        node.core = None;
        node.log.lose_unsynced(keep);
    }

    pub(super) fn cut_off(&mut self, id: u64) {
        for other in self.nodes.keys().copied().filter(|other| *other != id) {
            self.cuts.insert((id, other));
            self.cuts.insert((other, id));
        }
    }

    /// The leader of the highest term among those running.
    pub(super) fn leader(&self) -> Option<u64> {
        let statuses = self.nodes.values().filter_map(|node| node.core.as_ref()).map(Core::status);
        let leaders = statuses.filter(|status| status.role == Role::Leader);
        leaders.max_by_key(|status| status.term).map(|status| status.id)
    }

    pub(super) fn core(&self, id: u64) -> &Core {
        self.nodes[&id].core.as_ref().expect("running")
    }

    pub(super) fn propose(&mut self, id: u64) -> u64 {
        self.token += 1;
        let token = self.token;
        let command = token.to_be_bytes().to_vec();
        self.step(id, Event::Propose(vec![Proposal { token, command }]));
        token
    }

    pub(super) fn read(&mut self, id: u64) -> u64 {
        self.token += 1;
        self.floors.insert(self.token, self.acknowledged);
        self.step(id, Event::Read(vec![self.token]));
        self.token
    }

    pub(super) fn change(&mut self, id: u64, steps: &[MemberChange]) -> u64 {
        self.token += 1;
        self.step(id, Event::Change { token: self.token, steps: steps.to_vec() });
        self.token
    }

    /// Proposes at the leader until one is applied.
    pub(super) fn commit_one(&mut self) -> u64 {
        for _ in 0..200 {
            if let Some(leader) = self.leader() {
                let token = self.propose(leader);
                self.run(60);
                if let Some(End::Applied(index)) = self.ends.get(&token) {
                    return *index;
                }
            }
            self.run(20);
        }
        panic!("no progress at {}: {:?}", self.now, self.nodes);
    }

    pub(super) fn run(&mut self, time: u64) {
        let until = self.now + time;
        while let Some((&(at, sequence), _)) = self.queue.first_key_value() {
            if at > until {
                break;
            }
            let delivery = self.queue.remove(&(at, sequence)).expect("just seen");
            self.now = at;
            self.deliver(delivery);
        }
        self.now = until;
    }

    pub(super) fn run_until(&mut self, what: &str, time: u64, done: impl Fn(&Self) -> bool) {
        for _ in 0..time {
            if done(self) {
                return;
            }
            self.run(5);
        }
        panic!("not reached: {what}: {:?}", self.nodes);
    }

    /// No faults any more; every replica runs; all members end in the same state.
    pub(super) fn heal_and_check(&mut self) {
        (self.loss_percent, self.dup_percent, self.lose_snapshots) = (0, 0, 0);
        (self.delay_max, self.disk_max) = (3, 3);
        self.cuts.clear();
        self.start_all();
        self.run(1500);
        let index = self.commit_one();
        self.run_until("all members hold the last entry", 2000, |world| {
            let Some(leader) = world.leader() else { return false };
            let members = world.core(leader).membership().clone();
            let settled = !members.is_joint() && members.contains(leader);
            settled
                && world.nodes.iter().filter(|(id, _)| members.contains(**id)).all(|(_, node)| {
                    node.core.as_ref().is_some_and(|core| core.status().applied >= index)
                })
        });
    }

    fn enqueue(&mut self, delay: u64, delivery: Delivery) {
        self.sequence += 1;
        self.queue.insert((self.now + delay, self.sequence), delivery);
    }

    /// Something the shell of one replica does takes time, and happens in order.
    fn enqueue_local(&mut self, id: u64, event: Event, sync: bool) {
        let longest = if sync { self.disk_max } else { self.delay_max };
        let delay = self.random(longest + 1);
        let now = self.now;
        let node = self.nodes.get_mut(&id).expect("known");
        node.local_free = node.local_free.max(now + delay);
        let (at, boot) = (node.local_free - now, node.boot);
        self.enqueue(at, Delivery::Local { id, boot, event, sync });
    }

    fn running(&self, id: u64, boot: u64) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.core.is_some() && node.boot == boot)
    }

    fn deliver(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Tick { id, boot } if self.running(id, boot) => {
                self.step(id, Event::Tick);
                self.enqueue(TICK, Delivery::Tick { id, boot });
            }
            Delivery::Local { id, boot, event, sync } if self.running(id, boot) => {
                if sync {
                    self.nodes[&id].log.sync();
                }
                self.step(id, event);
            }
            Delivery::Built { id, boot, chain } if self.running(id, boot) => {
                let reference = chain.encode();
                let log = &self.nodes[&id].log;
                log.put_snapshot(&reference, chain.encode().into());
                let (index, term) = (chain.index, chain.term);
                self.step(id, Event::SnapshotBuilt { index, term, reference });
            }
            Delivery::Message(message) => self.step(message.to(), Event::Receive(message)),
            Delivery::Snapshot { message, data } => self.deliver_snapshot(message, data),
            _ => {}
        }
    }

    fn deliver_snapshot(&mut self, message: Message, data: Arc<[u8]>) {
        let (from, to) = (message.from(), message.to());
        let ok = self.nodes.get(&to).is_some_and(|node| node.core.is_some());
        if ok {
            let reference = message.snapshot_reference().to_vec();
            let log = &self.nodes[&to].log;
            log.put_snapshot(&reference, data);
            self.step(to, Event::Receive(message));
        }
        self.step(from, Event::SnapshotSent { to, ok });
    }

    pub(super) fn step(&mut self, id: u64, event: Event) {
        let Some(core) = self.nodes.get_mut(&id).and_then(|node| node.core.as_mut()) else {
            return;
        };
        let actions = core.step(event);
        for action in actions {
            if self.tracing {
                for byte in format!("{id}{action:?}").bytes() {
                    self.trace = mix(self.trace ^ u64::from(byte));
                }
            }
            self.perform(id, action);
        }
    }

    fn perform(&mut self, id: u64, action: Action) {
        match action {
            Action::Send(message) => self.send(&message),
            Action::SendSnapshot(message) => self.send_snapshot(message),
            Action::Persist(batch) => self.persist(id, &batch),
            Action::Apply(list) => {
                for committed in list {
                    let entry = &committed.entry;
                    let node = self.nodes.get_mut(&id).expect("known");
                    let data = match entry.kind() {
                        EntryKind::Command => entry.command().expect("a command"),
                        EntryKind::Empty | EntryKind::Change => &[],
                    };
                    node.chain.push(entry.index(), entry.term(), data);
                    self.check_history(id);
                    if let Some(token) = committed.token {
                        self.acknowledged = self.acknowledged.max(entry.index());
                        self.end(token, End::Applied(entry.index()));
                    }
                }
                let index = self.nodes[&id].chain.index;
                self.enqueue_local(id, Event::Applied(index), false);
            }
            Action::Install(meta) => {
                self.installs += 1;
                let node = self.nodes.get_mut(&id).expect("known");
                let data = node.log.snapshot(&meta.reference).expect("stored before");
                node.chain = Chain::decode(&data);
                assert_eq!(node.chain.index, meta.index);
                self.check_history(id);
                self.enqueue_local(id, Event::Applied(meta.index), false);
            }
            Action::BuildSnapshot => {
                let (chain, boot) = (self.nodes[&id].chain, self.nodes[&id].boot);
                let delay = self.random(30);
                self.enqueue(delay, Delivery::Built { id, boot, chain });
            }
            Action::Compact { index, snapshot } => {
                let node = self.nodes.get_mut(&id).expect("known");
                node.log.compact_to(index, &snapshot).expect("compaction is in range");
            }
            Action::Refused { token, reason } => self.end(token, End::Refused(reason)),
            Action::Unknown { token } => self.end(token, End::Unknown),
            Action::ReadReady { tokens, index } => {
                for token in tokens {
                    let floor = self.floors[&token];
                    assert!(index >= floor, "stale read: {index} below {floor}");
                    assert!(self.nodes[&id].chain.index >= index, "released before applied");
                    self.end(token, End::Read(index));
                }
            }
            Action::ReadRefused { tokens, .. } => {
                for token in tokens {
                    self.end(token, End::ReadRefused);
                }
            }
            Action::RoleChanged { role, term, .. } => {
                if role == Role::Leader {
                    let leader = *self.leaders.entry(term).or_insert(id);
                    assert_eq!(leader, id, "two leaders in term {term}");
                }
            }
            Action::Halt(error) => panic!("replica {id} halted: {error}"),
        }
    }

    fn persist(&mut self, id: u64, batch: &Batch) {
        let node = self.nodes.get_mut(&id).expect("known");
        if let Some((meta, hard_state)) = &batch.snapshot {
            node.log.install_snapshot(meta, *hard_state).expect("data was stored");
        }
        node.log.append(&batch.entries, batch.hard_state, false).expect("in order");
        self.enqueue_local(id, Event::Persisted(batch.number), batch.must_sync);
    }

    fn end(&mut self, token: u64, end: End) {
        let before = self.ends.insert(token, end);
        assert_eq!(before, None, "token {token} answered twice");
    }

    fn check_history(&mut self, id: u64) {
        let chain = self.nodes[&id].chain;
        let agreed = self.history.entry(chain.index).or_insert(chain);
        assert_eq!(*agreed, chain, "replica {id} differs at {}", chain.index);
    }

    fn send(&mut self, message: &Message) {
        self.messages += 1;
        let heartbeat = raft::eraftpb::MessageType::MsgHeartbeat;
        if message.0.get_msg_type() == heartbeat && !message.0.context.is_empty() {
            self.contexts.insert(message.0.context.to_vec());
        }
        let lost = self.cuts.contains(&(message.from(), message.to()))
            || self.random(100) < self.loss_percent;
        if lost {
            return;
        }
        let copies = if self.random(100) < self.dup_percent { 2 } else { 1 };
        for _ in 0..copies {
            let delay = 1 + self.random(self.delay_max);
            self.enqueue(delay, Delivery::Message(message.clone()));
        }
    }

    fn send_snapshot(&mut self, message: Message) {
        let (from, to) = (message.from(), message.to());
        let data = self.nodes[&from].log.snapshot(message.snapshot_reference());
        let lost = self.cuts.contains(&(from, to))
            || self.random(100) < self.loss_percent
            || self.lose_snapshots > 0;
        match data {
            Some(data) if !lost => {
                let delay = 5 + self.random(self.delay_max * 4);
                self.enqueue(delay, Delivery::Snapshot { message, data });
            }
            _ => {
                self.snapshots_lost += 1;
                self.lose_snapshots = self.lose_snapshots.saturating_sub(1);
                self.enqueue_local(from, Event::SnapshotSent { to, ok: false }, false);
            }
        }
    }
}
