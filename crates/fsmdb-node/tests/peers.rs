//! Nodes over directories and TCP that come back to a group that has changed, or come back changed.

#![allow(clippy::disallowed_methods, reason = "tests have deadlines")]

mod places;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fsmdb::raft::{Consistency, Entry, HardState, LogStore as _, Recovered};
use fsmdb::{Applied, Db, Fsm, Machine, Table, WriteTxn};
use fsmdb_node::node::{Options, SessionError};
use fsmdb_node::session::Envelope;
use fsmdb_node::storage::{DataDir, EngineLog, Identity, LogOptions};
use fsmdb_node::transport::{Refusal, Security, TlsConfig, node_name};
use fsmdb_node::{Node, Sessions, Setup, with_tables};
use serde::{Deserialize, Serialize};
use slog::{Discard, Logger, o};
use tempfile::TempDir;

use crate::places::{LIMIT, places, until};

const CLUSTER: u128 = 7;

#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "words")]
struct Word {
    #[key]
    text: String,
}

#[derive(Debug)]
struct Words;

impl Fsm for Words {
    type Command = String;
    type Reply = Result<(), String>;

    fn apply(&self, txn: &mut WriteTxn<'_>, _at: Applied, text: String) -> Self::Reply {
        txn.upsert(Word { text }).map(drop).map_err(|error| error.to_string())
    }
}

fn text(places: &BTreeMap<u64, SocketAddr>) -> BTreeMap<u64, String> {
    places.iter().map(|(id, address)| (*id, address.to_string())).collect()
}

/// Whoever signs certificates for the nodes of a test.
struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pem: Vec<u8>,
}

impl Authority {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("signed").pem().into_bytes();
        Self { issuer: rcgen::Issuer::new(params, key), pem }
    }

    fn node(&self, id: u64) -> Security {
        let key = rcgen::KeyPair::generate().expect("a key");
        let name = node_name(CLUSTER, id);
        let params = rcgen::CertificateParams::new(vec![name]).expect("a name");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        Security::Tls(TlsConfig {
            authorities: self.pem.clone(),
            certificates: certificate.pem().into_bytes(),
            key: key.serialize_pem().into_bytes(),
        })
    }
}

/// Nodes of which the first three found the group.
struct Group {
    folder: TempDir,
    authority: Option<Authority>,
    places: BTreeMap<u64, SocketAddr>,
    founders: BTreeMap<u64, String>,
    nodes: BTreeMap<u64, Node<Words>>,
}

impl Group {
    fn new(authority: Option<Authority>) -> Self {
        let mut group = Self::without_nodes(authority);
        (1..=3).for_each(|id| group.start(id));
        group
    }

    fn without_nodes(authority: Option<Authority>) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let places = places(1..=5);
        let mut founders = text(&places);
        founders.retain(|id, _| *id <= 3);
        Self { folder, authority, places, founders, nodes: BTreeMap::new() }
    }

    fn setup(&self, id: u64) -> Setup<Words> {
        let db = with_tables(Db::builder().table::<Word>().keep_digests()).build();
        let machine = Machine::new(db.expect("a sound schema"), Sessions::new(Words));
        let insecure = || Security::insecure_loopback_only();
        let setup = Setup::new(
            Identity { cluster: CLUSTER, node: id },
            machine.expect("nobody owns it"),
            self.path(id),
            self.places[&id],
            self.authority.as_ref().map_or_else(insecure, |authority| authority.node(id)),
            Logger::root(Discard, o!()),
        );
        let (tick, deadline) = (Duration::from_millis(50), LIMIT);
        let setup = setup
            .log(LogOptions { prefill_bytes: 0, ..LogOptions::default() })
            .options(Options { tick, deadline, ..Options::default() });
        let founders = self.founders.clone();
        if id <= 3 { setup.founds(founders) } else { setup.addresses(founders) }
    }

    /// Starts a node with the settings that it has had from the beginning.
    fn start(&mut self, id: u64) {
        self.start_with(id, |setup| setup);
    }

    fn start_with(&mut self, id: u64, change: impl FnOnce(Setup<Words>) -> Setup<Words>) {
        let node = Node::start(change(self.setup(id))).expect("it starts");
        self.nodes.insert(id, node);
    }

    fn stop(&mut self, id: u64) {
        self.nodes.remove(&id).expect("it runs").stop();
    }

    /// Changes the log of a node that is stopped.
    fn change_log(&self, id: u64, change: impl FnOnce(&mut EngineLog, Recovered)) {
        let identity = Identity { cluster: CLUSTER, node: id };
        let logger = Logger::root(Discard, o!());
        let mut directory = DataDir::open(self.path(id), identity, &logger).expect("its own");
        let mut log = EngineLog::open(&mut directory, LogOptions::default()).expect("a sound log");
        let recovered = log.load().expect("a sound log");
        change(&mut log, recovered);
    }

    /// Takes from a log what it says is committed, as a crash may do.
    fn forget_commit(&self, id: u64) {
        self.change_log(id, |log, Recovered { hard_state, snapshot, entries, .. }| {
            assert!(!entries.is_empty());
            let hard_state = HardState { commit: snapshot.index, ..hard_state };
            log.append(&[], Some(hard_state), true).expect("written");
        });
    }

    /// Appends to the log of a leader where members are, as it does when nobody hears it any more.
    fn append_unheard(&self, id: u64, addresses: &BTreeMap<u64, SocketAddr>) {
        self.change_log(id, |log, Recovered { hard_state, entries, .. }| {
            let last = entries.last().expect("it worked").index();
            let entry = |(index, (member, address)): (u64, (&u64, &SocketAddr))| {
                let said = Envelope::Member { id: *member, address: Some(address.to_string()) };
                let data = Machine::<Sessions<Words>>::encode(&said).expect("short");
                let mut bytes = Vec::new();
                for (field, number) in [(2, hard_state.term), (3, index)] {
                    bytes.extend([field << 3, u8::try_from(number).expect("small")]);
                }
                bytes.extend([4 << 3 | 2, u8::try_from(data.len()).expect("short")]);
                bytes.extend(data);
                Entry::decode(&bytes).expect("an entry")
            };
            let unheard: Vec<_> = (last + 1..).zip(addresses).map(entry).collect();
            log.append(&unheard, None, true).expect("written");
        });
    }

    fn path(&self, id: u64) -> PathBuf {
        self.folder.path().join(format!("node-{id}"))
    }

    fn add_voter(&mut self, id: u64) {
        self.start(id);
        let node = &self.nodes[&1];
        node.add_learner(id, &self.places[&id].to_string()).wait().expect("added");
        node.promote(id).wait().expect("promoted");
    }

    /// Proposes at a node, until it is applied.
    fn say(&self, id: u64, word: &str) {
        let node = &self.nodes[&id];
        let said =
            || -> Result<_, SessionError> { node.session().wait()?.propose(&word.into()).wait() };
        assert_eq!(said().expect("applied").1, Ok(()));
    }

    fn hears(&self, id: u64, word: &str) -> bool {
        self.nodes[&id].read_stale().table::<Word>().contains(word)
    }
}

#[test]
fn a_node_that_was_away_learns_of_a_leader_that_joined_meanwhile() {
    for authority in [None, Some(Authority::new())] {
        let mut group = Group::new(authority);
        group.say(1, "early");
        group.stop(3);
        group.add_voter(4);
        group.add_voter(5);
        group.nodes[&2].transfer(4).wait().expect("handed over");
        group.stop(1);
        group.say(2, "late");
        assert_eq!(group.nodes[&2].status().raft.leader, Some(4));
        group.start(3);
        until("it catches up", || group.hears(3, "late"));
        assert_eq!(group.nodes[&3].address_of(4), Some(group.places[&4].to_string()));
        let fresh = group.nodes[&3].read(Consistency::Linearizable).wait().expect("confirmed");
        assert!(fresh.table::<Word>().contains("late"));
        // It counts: without it three of five are not there.
        group.stop(5);
        group.say(4, "with its vote");
    }
}

#[test]
fn a_founder_that_was_wiped_is_refused_and_comes_back_under_a_new_id() {
    let mut group = Group::new(None);
    group.say(1, "early");
    let ids = [1, 2, 3];
    until("directories are written down", || {
        group.nodes.values().all(|node| ids.iter().all(|id| node.directory_of(*id).is_some()))
    });
    let known = group.nodes[&1].directory_of(3);
    // Whoever remembers shall not from memory, but from a log that says that this is committed.
    for word in ["a", "b", "c"] {
        group.say(1, word);
        until("it is everywhere", || ids.iter().all(|id| group.hears(*id, word)));
    }
    ids.iter().for_each(|id| group.stop(*id));
    fs::remove_dir_all(group.path(3)).expect("it can be wiped");
    ids.iter().for_each(|id| group.start(*id));
    let refused = BTreeMap::from([(1, Refusal::Directory), (2, Refusal::Directory)]);
    until("it learns why", || group.nodes[&3].status().refused_by == refused);
    group.say(1, "without it");
    let status = group.nodes[&3].status();
    assert_eq!((status.raft.leader, status.raft.last_index), (None, 1), "it was told nothing");
    assert!(group.nodes[&1].status().refused_by.is_empty());
    assert_eq!(group.nodes[&1].directory_of(3), known);
    group.nodes[&1].remove(3).wait().expect("removed");
    until("it is forgotten", || group.nodes[&1].directory_of(3).is_none());
    group.stop(3);
    group.add_voter(4);
    until("it catches up", || group.hears(4, "without it"));
    until("its directory is written down", || group.nodes[&2].directory_of(4).is_some());
    group.stop(2);
    group.start(2);
    group.say(4, "and goes on");
    until("all agree", || group.hears(1, "and goes on") && group.hears(2, "and goes on"));
}

#[test]
fn directories_are_written_down_when_every_member_has_shown_its_own() {
    let mut group = Group::without_nodes(None);
    [1, 2].iter().for_each(|id| group.start(*id));
    group.say(1, "early");
    until("addresses are written down", || {
        group.nodes.values().all(|node| node.address_of(3).is_some())
    });
    // A new leader looks at once what is not written down.
    let heir = if group.nodes[&1].status().is_leader() { 2 } else { 1 };
    group.nodes[&1].transfer(heir).wait().expect("handed over");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(1) {
        group.say(heir, "later");
    }
    let has_any = |node: &Node<Words>| (1..=3).any(|id| node.directory_of(id).is_some());
    assert!(!group.nodes.values().any(has_any), "a build that does not know them may come yet");
    group.start(3);
    until("they are written down", || {
        group.nodes.values().all(|node| (1..=3).all(|id| node.directory_of(id).is_some()))
    });
}

#[test]
fn a_group_on_other_addresses_is_found_where_its_members_say_that_they_moved() {
    let mut group = Group::new(None);
    group.say(1, "early");
    let ids = [1, 2, 3];
    let founded = group.founders.clone();
    until("addresses are written down", || {
        group
            .nodes
            .values()
            .all(|node| ids.iter().all(|id| node.address_of(*id).as_ref() == founded.get(id)))
    });
    ids.iter().for_each(|id| group.stop(*id));
    let moved = places(ids);
    group.places.extend(moved.clone());
    for id in ids {
        group.start_with(id, |setup| setup.moved(text(&moved)));
    }
    group.say(2, "from elsewhere");
    until("it is written down", || {
        let is_moved =
            |id: &u64, node: &Node<Words>| node.address_of(*id) == Some(moved[id].to_string());
        group.nodes.values().all(|node| ids.iter().all(|id| is_moved(id, node)))
    });
    // From now on the old settings do, although they name the old addresses, and although nobody
    // knows after this stop that the new ones are committed.
    ids.iter().for_each(|id| group.stop(*id));
    ids.iter().for_each(|id| group.forget_commit(*id));
    ids.iter().for_each(|id| group.start(*id));
    group.say(3, "again");
    until("all are there", || ids.iter().all(|id| group.hears(*id, "again")));
}

#[test]
fn addresses_in_a_log_that_nobody_committed_hold_up_nobody() {
    let mut group = Group::new(None);
    group.say(1, "early");
    let founded = group.founders.clone();
    until("addresses are written down", || {
        let knows = |node: &Node<Words>, id| node.address_of(id) == founded.get(&id).cloned();
        group.nodes.values().all(|node| (1..=3).all(|id| knows(node, id)))
    });
    if !group.nodes[&1].status().is_leader() {
        group.nodes[&2].transfer(1).wait().expect("handed over");
    }
    until("it leads", || group.nodes[&1].status().is_leader());
    [2, 3, 1].iter().for_each(|id| group.stop(*id));
    // Nobody listens there.
    group.append_unheard(1, &places([2, 3]));
    [2, 3].iter().for_each(|id| group.start(*id));
    group.say(2, "without it");
    group.start(1);
    until("it finds them where they are", || group.hears(1, "without it"));
    assert_eq!(group.nodes[&1].address_of(2), founded.get(&2).cloned());
}
