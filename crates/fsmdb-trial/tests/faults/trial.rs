//! One trial: replicas behind proxies, clients at work, and the checks at its end.
//!
//! # Invariants
//!
//! 1. What the test itself asks is in the history too, under a client of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fsmdb_trial::client::{Line, Load};
use fsmdb_trial::clock::Clock;
use fsmdb_trial::history::{Answer, Call, CallId, End, Operation};
use fsmdb_trial::proxy::Network;
use fsmdb_trial::replicas::Replicas;
use fsmdb_trial::wire::{Reply, Request};
use fsmdb_trial::{search, witnessed};
use tempfile::TempDir;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const REPLICAS: u64 = 3;
/// A register that no client of the load has.
const OWN_KEY: u64 = u64::MAX;

const CLIENTS: u64 = 6;
/// How often a write of the test's own is tried.
const WRITES_MAX: u64 = 20;
/// Clients with odd numbers try once, so that nothing they send is sent again.
const OWN_CLIENT: u64 = 1_001;

pub(crate) struct Trial {
    pub(crate) load: Load,
    pub(crate) replicas: Replicas,
    pub(crate) network: Arc<Network>,
    pub(crate) clock: Clock,
    asked: Vec<Call>,
    directory: TempDir,
}

impl Trial {
    pub(crate) fn start(seed: u64) -> Self {
        Self::start_prepared(seed, |_| {})
    }

    /// Starts a trial in a folder that was prepared.
    pub(crate) fn start_prepared(seed: u64, prepare: impl FnOnce(&Path)) -> Self {
        let hosts = vec!["127.0.0.1".to_owned(); REPLICAS as usize];
        Self::start_on(seed, &hosts, true, prepare)
    }

    /// Starts a trial with a replica on each host, with proxies or without.
    pub(crate) fn start_on(
        seed: u64,
        hosts: &[String],
        is_proxied: bool,
        prepare: impl FnOnce(&Path),
    ) -> Self {
        let (clock, network) = (Clock::start(), Arc::new(Network::default()));
        let directory = tempfile::tempdir().expect("a folder");
        prepare(directory.path());
        let between = is_proxied.then(|| Arc::clone(&network));
        let replicas = Replicas::start_at(BINARY, directory.path(), hosts, between, clock);
        let replicas = replicas.expect("started");
        replicas.leader(PATIENCE).expect("a leader");
        let load = Load::start(&replicas.addresses(), CLIENTS, 4, seed, clock).expect("clients");
        let mut trial = Self { load, replicas, network, clock, asked: Vec::new(), directory };
        trial.goes_on("at the beginning");
        trial
    }

    pub(crate) fn leader(&self) -> u64 {
        self.replicas.leader(PATIENCE).expect("a leader")
    }

    /// Waits for a leader that is not `old`.
    pub(crate) fn leader_after(&self, old: u64) -> u64 {
        let other = |id: &u64| *id != old;
        let found = self.clock.wait(PATIENCE, || {
            let others = self.replicas.ids().into_iter().filter(other);
            let mut all = others.filter_map(|id| self.replicas.status(id));
            all.find(|status| status.leads).map(|status| status.id)
        });
        found.expect("another leader")
    }

    pub(crate) fn others(&self, id: u64) -> Vec<u64> {
        self.replicas.ids().into_iter().filter(|other| *other != id).collect()
    }

    /// Waits until clients had more answers.
    pub(crate) fn goes_on(&mut self, when: &str) {
        let before = self.load.answered();
        let answered = || (self.load.answered() > before + 100).then_some(());
        let went_on = self.clock.wait(PATIENCE, answered);
        let fallen = self.replicas.fallen().expect("looked at");
        assert!(fallen.is_empty(), "{when}: a replica ended by itself: {fallen:?}");
        assert!(went_on.is_some(), "{when}: no more answers");
    }

    /// Sends a call of the test's own, whose answer is waited for later.
    pub(crate) fn send(&mut self, replica: u64, operation: Operation) -> (Line, usize) {
        let sequence = self.asked.len() as u64 + 1;
        let (id, key) = (CallId { client: OWN_CLIENT, sequence }, OWN_KEY);
        let address = self.replicas.address(replica).expect("a known replica");
        let mut line = Line::connect(address, PATIENCE).expect("a replica that listens");
        self.asked.push(Call { id, key, operation, began: self.clock.now(), end: None });
        line.tell(&Request::Call { id, key, operation }).expect("sent");
        (line, self.asked.len() - 1)
    }

    /// The answer to a call that was sent; `None` when it was refused or is unknown.
    pub(crate) fn hear(&mut self, (mut line, place): (Line, usize)) -> Option<Answer> {
        match line.hear() {
            Ok(Reply::Done { revision, answer }) => {
                let at = self.clock.now();
                self.asked[place].end = Some(End { at, answer, revision });
                Some(answer)
            }
            _ => None,
        }
    }

    /// Writes to the test's own register until it is acknowledged: a leader may lose its office
    /// while it writes.
    pub(crate) fn put(&mut self, replica: u64, value: u64) {
        for _ in 0..WRITES_MAX {
            let sent = self.send(replica, Operation::Put(value));
            if self.hear(sent) == Some(Answer::Done(true)) {
                return;
            }
        }
        panic!("replica {replica} acknowledges nothing");
    }

    /// Lets everything be well, and checks what everybody saw; answers how many calls were
    /// answered.
    pub(crate) fn finish(self) -> usize {
        let Self { load, replicas, network, asked, directory, .. } = self;
        network.heal();
        let leader = replicas.leader(PATIENCE).expect("a leader");
        let mut history = load.stop();
        history.extend(asked);
        let agreed = replicas.agree(PATIENCE).expect("agreement");
        let journal = replicas.journal(leader).expect("a journal");
        for id in replicas.ids() {
            assert_eq!(replicas.journal(id).expect("a journal"), journal, "replica {id}");
        }
        let answered = history.iter().filter(|call| call.end.is_some()).count();
        let (calls, applied) = (history.len(), journal.len());
        println!("{calls} calls, {answered} answered, {applied} applied, {agreed:?}");
        witnessed::check(&history, &journal).expect("strictly serializable");
        search::check(&history).expect("linearizable without the journal too");
        drop(replicas);
        directory.close().expect("the folder goes");
        answered
    }
}

const BINARY: &str = env!("CARGO_BIN_EXE_fsmdb-replica");
