//! What nodes over directories and TCP show of themselves while they work.

#![allow(clippy::disallowed_methods, reason = "tests have deadlines")]

mod places;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use fsmdb::raft::Consistency;
use fsmdb::{Applied, Db, Fsm, Machine, Table, WriteTxn};
use fsmdb_node::node::{NodeStatus, Options};
use fsmdb_node::storage::{Identity, LogOptions};
use fsmdb_node::transport::{Security, Transfer};
use fsmdb_node::{Node, Sessions, Setup, with_tables};
use serde::{Deserialize, Serialize};
use slog::{Discard, Logger, o};
use tempfile::TempDir;

use crate::places::{LIMIT, places, until};

const PAGE_BYTES: usize = 256 << 10;
const PAGES: u64 = 12;

#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "pages")]
struct Page {
    #[key]
    number: u64,
    text: String,
}

#[derive(Debug)]
struct Book;

impl Fsm for Book {
    type Command = Page;
    type Reply = Result<(), String>;

    fn apply(&self, txn: &mut WriteTxn<'_>, _at: Applied, page: Page) -> Self::Reply {
        txn.upsert(page).map(drop).map_err(|error| error.to_string())
    }
}

/// Three founders; a fourth may join. A snapshot goes out at one megabyte a second.
struct Group {
    folder: TempDir,
    places: BTreeMap<u64, SocketAddr>,
    nodes: BTreeMap<u64, Node<Book>>,
}

impl Group {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let mut group = Self { folder, places: places(1..=4), nodes: BTreeMap::new() };
        (1..=3).for_each(|id| group.start(id));
        group
    }

    fn start(&mut self, id: u64) {
        let db = with_tables(Db::builder().table::<Page>().keep_digests()).build();
        let machine = Machine::new(db.expect("a sound schema"), Sessions::new(Book));
        let options =
            Options { tick: Duration::from_millis(50), deadline: LIMIT, ..Options::default() };
        let setup = Setup::new(
            Identity { cluster: 7, node: id },
            machine.expect("nobody owns it"),
            self.folder.path().join(format!("node-{id}")),
            self.places[&id],
            Security::insecure_loopback_only(),
            Logger::root(Discard, o!()),
        )
        .log(LogOptions { prefill_bytes: 0, ..LogOptions::default() })
        .options(options)
        .snapshots(8, 0)
        .snapshot_bytes_per_second(1 << 20);
        let founders = self.places.iter().filter(|(id, _)| **id <= 3);
        let founders = founders.map(|(id, address)| (*id, address.to_string())).collect();
        let setup = if id <= 3 { setup.founds(founders) } else { setup.addresses(founders) };
        self.nodes.insert(id, Node::start(setup).expect("it starts"));
    }

    fn leader(&self) -> u64 {
        let find = || self.nodes.iter().find(|(_, node)| node.status().is_leader());
        until("somebody leads", || find().is_some());
        *find().expect("somebody leads").0
    }

    /// Writes a page at a node, and says by which entry.
    fn write(&self, id: u64, number: u64, length: usize) -> u64 {
        let page = Page { number, text: "x".repeat(length) };
        let (at, reply) = self.nodes[&id].propose(&page).wait().expect("applied");
        assert_eq!(reply, Ok(()));
        at.index
    }

    fn seen(&self, id: u64) -> Seen {
        Seen::read(&self.nodes[&id].metrics())
    }
}

/// The samples of a text, by name with labels.
struct Seen(BTreeMap<String, f64>);

impl Seen {
    /// Holds a text against the rules of OpenMetrics.
    fn read(text: &str) -> Self {
        let (mut samples, mut families) = (BTreeMap::new(), BTreeSet::new());
        let (mut family, mut kind) = (String::new(), String::new());
        let body = text.strip_suffix("# EOF\n").expect("it says that it ends");
        for line in body.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.splitn(3, ' ');
                let mut word = || words.next().expect("three words").to_owned();
                let (what, name, rest) = (word(), word(), word());
                if what == "HELP" {
                    assert!(families.insert(name.clone()), "twice: {name}");
                    (family, kind) = (name, String::new());
                    continue;
                }
                assert_eq!(name, family, "{line}");
                match what.as_str() {
                    "TYPE" => kind = rest,
                    "UNIT" => assert!(name.ends_with(&format!("_{rest}")), "{line}"),
                    _ => panic!("{line}"),
                }
                continue;
            }
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            let (plain, labels) = name.split_once('{').unwrap_or((name, "}"));
            assert!(labels.ends_with('}'), "{line}");
            let suffix = plain.strip_prefix(&family).expect("a sample of its family");
            let is_fit = match kind.as_str() {
                "counter" => suffix == "_total",
                "gauge" => suffix.is_empty(),
                "histogram" => ["_count", "_sum", "_bucket"].contains(&suffix),
                _ => false,
            };
            assert!(is_fit, "of {kind}: {line}");
            let value: f64 = value.parse().expect("a number");
            assert!(kind == "gauge" || value >= 0.0, "{line}");
            assert!(samples.insert(name.to_owned(), value).is_none(), "twice: {line}");
        }
        Self(samples)
    }

    fn of(&self, name: &str) -> f64 {
        let name = format!("fsmdb_{name}");
        *self.0.get(&name).unwrap_or_else(|| panic!("nothing is called {name}"))
    }

    fn of_peer(&self, name: &str, peer: u64) -> f64 {
        self.of(&format!("{name}{{peer=\"{peer}\"}}"))
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(&format!("fsmdb_{name}"))
    }

    fn assert_more_than_0(&self, names: &[&str]) {
        for name in names {
            assert!(self.of(name) > 0.0, "{name} in {:?}", self.0);
        }
    }

    /// How much was done of how much, in one direction. A peer may not be known yet.
    fn progress(&self, direction: &str, peer: u64) -> (f64, f64) {
        let of = |what| {
            let name = format!("fsmdb_snapshot_{direction}_{what}_bytes{{peer=\"{peer}\"}}");
            self.0.get(&name).copied().unwrap_or(-1.0)
        };
        (of("done"), of("size"))
    }
}

fn is_part((done, size): (f64, f64)) -> bool {
    done > 0.0 && done < size
}

#[test]
fn a_snapshot_on_its_way_shows_how_far_it_is_on_both_sides() {
    let mut group = Group::new();
    let leader = group.leader();
    let mut written = 0;
    for number in 0..PAGES {
        written = group.write(leader, number, PAGE_BYTES);
    }
    let has_snapshot =
        |status: NodeStatus| status.snapshot_index >= written && status.raft.first_index > 1;
    until("a snapshot of it stands in the place of the log", || {
        group.write(leader, PAGES, 1);
        has_snapshot(group.nodes[&leader].status())
    });
    assert_eq!(group.seen(leader).progress("sending", 1 + leader % 3), (0.0, 0.0));
    group.start(4);
    let address = group.places[&4].to_string();
    group.nodes[&leader].add_learner(4, &address).wait().expect("added");
    let underway = |id: u64| group.nodes[&id].status().snapshots;
    until("both sides show a part of it", || {
        let sending = group.seen(leader).progress("sending", 4);
        let receiving = group.seen(4).progress("receiving", leader);
        is_part(sending) && is_part(receiving)
    });
    until("and so do both states", || {
        let part = |transfer: Option<&Transfer>| {
            transfer.is_some_and(|part| is_part((part.done_bytes as f64, part.size_bytes as f64)))
        };
        part(underway(leader).sending.get(&4)) && part(underway(4).receiving.get(&leader))
    });
    let size_bytes = underway(leader).sending[&4].size_bytes;
    assert!(size_bytes >= PAGES * PAGE_BYTES as u64, "{size_bytes}");
    until("it is installed", || group.seen(4).of("snapshots_installed_total") > 0.0);
    until("nothing is on its way", || {
        underway(leader).sending.is_empty() && underway(4).receiving.is_empty()
    });
    let (sender, receiver) = (group.seen(leader), group.seen(4));
    assert_eq!(sender.progress("sending", 4), (0.0, 0.0));
    assert_eq!(receiver.progress("receiving", leader), (0.0, 0.0));
    sender.assert_more_than_0(&["snapshots_sent_total", "transport_snapshot_sent_bytes_total"]);
    receiver.assert_more_than_0(&["transport_snapshot_received_bytes_total"]);
}

#[test]
fn every_promised_measure_of_a_group_over_tcp_is_in_the_text() {
    let group = Group::new();
    let leader = group.leader();
    let others: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    let node = &group.nodes[&leader];
    for number in 0..10 {
        group.write(if number == 0 { others[0] } else { leader }, number, 10);
    }
    node.read(Consistency::Linearizable).wait().expect("confirmed");
    until("a snapshot is built", || group.seen(leader).of("snapshots_built_total") > 0.0);
    group.seen(leader).assert_more_than_0(&[
        "proposals_total",
        "commit_seconds_count",
        "commit_seconds_sum",
        "apply_seconds_count",
        "log_sync_seconds_count",
        "log_sync_seconds_sum",
        "propose_batch_count",
        "log_batch_count",
        "apply_batch_count",
        "reads_confirmed_total",
        "commit_index",
        "applied_index",
        "is_leader",
        "leader_changes_total",
        "elections_total",
        "snapshot_bytes_total",
        "transport_sent_bytes_total",
        "transport_received_bytes_total",
        "transport_frames_sent_total",
        "transport_frames_received_total",
        "transport_connects_total",
    ]);
    group.seen(others[0]).assert_more_than_0(&["forwarded_total", "leader_changes_total"]);
    until("all are connected", || {
        let seen = group.seen(leader);
        let is = |name, peer: &u64| seen.of_peer(name, *peer) == 1.0;
        others.iter().all(|peer| is("peer_connected", peer) && is("peer_takes_requests", peer))
    });
    let seen = group.seen(leader);
    for name in ["queue_log", "queue_apply", "snapshot_verifying", "snapshot_installing"] {
        assert!(seen.of(name) >= 0.0, "{name}");
    }
    for peer in &others {
        assert!(seen.of_peer("peer_queue_bytes", *peer) >= 0.0);
        assert!(seen.of_peer("peer_queue_messages", *peer) >= 0.0);
        assert!(seen.of_peer("peer_requests", *peer) >= 0.0);
    }
    // Without the others nothing is confirmed, and it waits.
    others.iter().for_each(|id| group.nodes[id].stop());
    let _read = node.read(Consistency::Linearizable);
    let _proposed = node.propose(&Page { number: 99, text: "x".repeat(PAGE_BYTES) });
    let what_waits = || {
        let seen = group.seen(leader);
        (seen.of("queue_reads"), seen.of("queue_proposals"))
    };
    until("a read and a proposal wait", || what_waits() == (1.0, 1.0));
    until("they have nobody", || {
        let seen = group.seen(leader);
        others.iter().all(|peer| seen.of_peer("peer_connected", *peer) == 0.0)
    });
    assert!(group.seen(leader).of("queue_proposal_bytes") > PAGE_BYTES as f64);
    node.stop();
    let seen = group.seen(leader);
    assert_eq!((seen.of("is_leader"), seen.of("queue_reads")), (0.0, 0.0));
    assert!(!seen.has("transport_connects_total"), "it has no transport any more");
}
