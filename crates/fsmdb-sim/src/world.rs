//! The world: replicas, clients, the network, one clock and one stream of random numbers.
//!
//! # Invariants
//!
//! 1. Everything that happens follows from the plan: one thread, no clock, no hash order.
//! 2. The first violation ends the run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fsmdb::raft::{Config, Core, Event, Membership, Role};
use slog::{Discard, Logger, o};

use crate::Plan;
use crate::audience::Audience;
use crate::clients::{Client, What};
use crate::counts::Counts;
use crate::disk::Disk;
use crate::limits::{CLIENT_WAKE_MAX, CLIENTS_MAX, TICK};
use crate::mutant::Mutant;
use crate::network::{Delivery, Network};
use crate::node::Node;
use crate::oracle::Oracle;
use crate::random::{Random, hash_of, mix};
use crate::state::Command;
use crate::subscriber::Subscriber;
use crate::trace::Trace;
use crate::violation::{Check, Checked, Violation};

/// One run.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) random: Random,
    pub(crate) network: Network,
    pub(crate) nodes: BTreeMap<u64, Node>,
    pub(crate) clients: BTreeMap<u64, Client>,
    pub(crate) oracle: Oracle,
    pub(crate) counts: Counts,
    pub(crate) trace: Trace,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) retired: BTreeSet<u64>,
    pub(crate) subscriber: Subscriber,
    /// The last entry of which somebody wants nothing left.
    pub(crate) unwanted: u64,
    /// Every command that was proposed, by its encoding.
    pub(crate) commands: BTreeMap<Vec<u8>, Command>,
    /// Longest time that one write takes to become durable.
    pub(crate) disk_max: u64,
    /// Whether clients begin anything new.
    pub(crate) is_open: bool,
    /// The last number given to an attempt, a token or a snapshot on its way.
    pub(crate) last_number: u64,
    snapshot_entries: u64,
    core_seed: u64,
    clock: Arc<AtomicU64>,
}

impl World {
    pub(crate) fn new(plan: &Plan) -> Self {
        let mut random = Random::new(mix(plan.seed ^ 0xF5DB));
        let founders = random.pick(&[1, 1, 2, 3, 3, 3, 4, 5]).unwrap_or(3);
        let mut world = Self {
            now: 0,
            core_seed: random.next(),
            snapshot_entries: 6 + random.below(20),
            random,
            network: Network::default(),
            nodes: BTreeMap::new(),
            clients: BTreeMap::new(),
            oracle: Oracle::default(),
            counts: Counts::default(),
            trace: Trace::new(plan.prints),
            mutant: plan.mutant,
            retired: BTreeSet::new(),
            subscriber: Subscriber::default(),
            unwanted: 0,
            commands: BTreeMap::new(),
            disk_max: 3,
            is_open: true,
            last_number: 0,
            clock: Arc::default(),
        };
        world.network.heal();
        for id in 1..=founders {
            let disk = Disk::founding(Membership::of_voters(1..=founders), plan.mutant);
            world.nodes.insert(id, Node::new(id, disk, plan.mutant, &world.clock));
        }
        for id in 1..=2 + world.random.below(CLIENTS_MAX - 1) {
            world.clients.insert(id, Client::new(id));
            world.network.put(0, Delivery::Wake { client: id });
        }
        world.network.put(0, Delivery::Subscriber);
        world
    }

    pub(crate) fn ids(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    pub(crate) fn start_all(&mut self) -> Checked {
        for id in self.ids() {
            if !self.nodes[&id].is_running() {
                self.start(id)?;
            }
        }
        Ok(())
    }

    /// Adds an empty replica, to be joined.
    pub(crate) fn add_node(&mut self, id: u64) -> Checked {
        let node = Node::new(id, Disk::empty(self.mutant), self.mutant, &self.clock);
        self.nodes.insert(id, node);
        self.start(id)
    }

    /// Starts a replica from its disk.
    pub(crate) fn start(&mut self, id: u64) -> Checked {
        let (now, random) = (self.now, &mut self.random);
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let (mut recovered, is_older) = node.recover(random)?;
        match self.mutant {
            Some(Mutant::ForgetVote) => recovered.hard_state.vote = 0,
            Some(Mutant::ForgetCommit) => recovered.hard_state.commit = recovered.snapshot.index,
            _ => {}
        }
        if !recovered.snapshot.reference.is_empty() {
            self.counts.starts += 1;
        }
        self.counts.older_starts += u64::from(is_older);
        node.promise.check(id, &recovered)?;
        node.boot += 1;
        let mut config = Config::new(id, node.boot);
        config.seed = Some(self.core_seed);
        config.snapshot_entries = self.snapshot_entries;
        config.tail_entries = self.snapshot_entries / 4;
        config.log_entries_max = self.snapshot_entries * 2;
        config.apply_ahead_entries = self.snapshot_entries / 2;
        let snapshot = node.machine.read();
        let numbers = [node.boot, snapshot.applied().index, recovered.hard_state.commit];
        self.trace.note(now, id, "starts", &numbers);
        let applied = snapshot.applied();
        let core = Core::new(config, recovered, applied.index, &Logger::root(Discard, o!()));
        let core = core.map_err(|error| {
            Violation::new(Check::Start, format!("replica {id} does not start: {error}"))
        })?;
        node.core = Some(core);
        node.audience = Audience::new(node.machine.db(), self.mutant);
        (node.log_free, node.apply_free, node.paused_until) = (now, now, 0);
        let boot = node.boot;
        if applied.index > 0 {
            self.oracle.holds(id, applied, &snapshot)?;
        }
        let jitter = self.random.below(TICK);
        self.network.put(now + jitter, Delivery::Tick { id, boot });
        Ok(())
    }

    /// Power loss.
    pub(crate) fn crash(&mut self, id: u64) -> Checked {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.is_running()) else {
            return Ok(());
        };
        let is_damaged = node.crash(&mut self.random)?;
        self.counts.crashes += 1;
        self.trace.note(self.now, id, "crashes", &[u64::from(is_damaged)]);
        Ok(())
    }

    /// The leader of the highest term among those running.
    pub(crate) fn leader(&self) -> Option<u64> {
        let statuses = self.nodes.values().filter_map(|node| node.core.as_ref()).map(Core::status);
        let leaders = statuses.filter(|status| status.role == Role::Leader);
        leaders.max_by_key(|status| status.term).map(|status| status.id)
    }

    pub(crate) fn is_running(&self, id: u64, boot: u64) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.is_running() && node.boot == boot)
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, time: u64) -> Checked {
        let until = self.now + time;
        while let Some((at, delivery)) = self.network.next(until) {
            self.now = at;
            self.clock.store(at, Ordering::Relaxed);
            self.deliver(delivery)?;
        }
        self.now = until;
        Ok(())
    }

    /// The replica that a delivery is for, if it stands still now: until when.
    fn is_held_up(&self, delivery: &Delivery) -> Option<u64> {
        let id = match delivery {
            Delivery::Message(message) | Delivery::Snapshot { message, .. } => message.to(),
            Delivery::SnapshotAnswer { id, .. }
            | Delivery::Unreachable { id, .. }
            | Delivery::Tick { id, .. }
            | Delivery::Log { id, .. }
            | Delivery::Apply { id, .. }
            | Delivery::Durable { id, .. }
            | Delivery::Built { id, .. } => *id,
            Delivery::Request { to, .. } => *to,
            Delivery::PowerCut { .. }
            | Delivery::Subscriber
            | Delivery::Answer(_)
            | Delivery::Wake { .. } => return None,
        };
        let node = self.nodes.get(&id)?;
        (node.is_running() && node.paused_until > self.now).then_some(node.paused_until)
    }

    fn deliver(&mut self, delivery: Delivery) -> Checked {
        if let Some(until) = self.is_held_up(&delivery) {
            self.network.put(until, delivery);
            return Ok(());
        }
        match delivery {
            Delivery::Tick { id, boot } if self.is_running(id, boot) => {
                self.network.put(self.now + TICK, Delivery::Tick { id, boot });
                self.step(id, Event::Tick)
            }
            Delivery::Message(message) => {
                let (from, to) = (message.from(), message.to());
                if !self.nodes.get(&to).is_some_and(Node::is_running) {
                    if self.random.chance(30)
                        && let Some(boot) = self.nodes.get(&from).map(|node| node.boot)
                    {
                        self.network
                            .put(self.now + 1, Delivery::Unreachable { id: from, boot, to });
                    }
                    return Ok(());
                }
                let bytes = message.encode();
                let bytes =
                    bytes.map_err(|error| Violation::new(Check::Stopped, error.to_string()))?;
                self.trace.note(self.now, to, "receives", &[from, hash_of(&bytes)]);
                self.trace.show(self.now, to, "receives", &message);
                self.step(to, Event::Receive(message))
            }
            Delivery::Unreachable { id, boot, to } if self.is_running(id, boot) => {
                self.step(id, Event::Unreachable(to))
            }
            Delivery::Snapshot { message, data, boot, attempt } => {
                self.receive_snapshot(message, data, boot, attempt)
            }
            Delivery::SnapshotAnswer { id, boot, attempt, to, ok } if self.is_running(id, boot) => {
                self.snapshot_answered(id, attempt, to, ok)
            }
            Delivery::Log { id, boot, number } if self.is_running(id, boot) => {
                self.do_log_work(id, number)
            }
            Delivery::Durable { id, boot, batch } if self.is_running(id, boot) => {
                self.batch_is_durable(id, &batch)
            }
            Delivery::Apply { id, boot } if self.is_running(id, boot) => self.do_apply_work(id),
            Delivery::Built { id, boot, built } if self.is_running(id, boot) => {
                self.snapshot_built(id, built)
            }
            Delivery::PowerCut { id, boot } if self.is_open && self.is_running(id, boot) => {
                self.counts.install_crashes += 1;
                self.crash(id)
            }
            Delivery::Subscriber => self.subscriber_wakes(),
            Delivery::Request { to, request } => self.take_request(to, request),
            Delivery::Answer(answer) => self.take_answer(answer),
            Delivery::Wake { client } => self.wake(client),
            // It was for a start of the replica that is over.
            _ => Ok(()),
        }
    }

    /// A client looks: it begins something, or asks again.
    fn wake(&mut self, id: u64) -> Checked {
        let again = self.now + 1 + self.random.below(CLIENT_WAKE_MAX);
        self.network.put(again, Delivery::Wake { client: id });
        let running: Vec<u64> = self.ids();
        let Some(client) = self.clients.get_mut(&id) else { return Ok(()) };
        let what = if client.waits.is_some() {
            let what = client.retry(self.now, self.mutant);
            if what.is_some() {
                self.counts.retries += 1;
                if self.random.chance(50) {
                    client.target = self.random.pick(&running).unwrap_or(1);
                }
            }
            what
        } else if self.is_open && self.random.chance(70) {
            client.begin(self.now, self.oracle.floor(), &mut self.random);
            if self.random.chance(15) {
                client.target = self.random.pick(&running).unwrap_or(1);
            }
            client.waits.as_ref().map(|(what, _)| what.clone())
        } else {
            None
        };
        let to = client.target;
        if let Some(what) = what {
            self.send_request(id, to, what);
        }
        Ok(())
    }

    /// Sends what a client wants to a replica.
    pub(crate) fn send_request(&mut self, client: u64, to: u64, what: What) {
        let attempt = self.number();
        let request = crate::clients::Request { client, attempt, what };
        let delivery = Delivery::Request { to, request };
        self.network.send(self.now, (0, to), &delivery, &mut self.random);
    }
}
