//! What a node counts and measures, as OpenMetrics text.
//!
//! The only room that names `prometheus_client`. `names.md` lists every name for users; `link.rs`
//! owns what a transport has counted.
//!
//! # Invariants
//!
//! 1. To count or measure is a few atomic additions; nothing here blocks.
//! 2. Every name in the text is in `names.md` with its type and unit, and the other way round.
//! 3. The only label is `peer`, the id of a node that the transport has an address of.

mod link;

use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

pub(crate) use self::link::Link;

/// A number that goes up and down.
pub(crate) type Level = Gauge<i64>;

/// All that a node counts and measures.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) proposals: Counter,
    pub(crate) forwarded: Counter,
    pub(crate) busy: Counter,
    pub(crate) reads_confirmed: Counter,
    pub(crate) commit_seconds: Latency,
    pub(crate) apply_seconds: Latency,
    pub(crate) sync_seconds: Latency,
    pub(crate) propose_batch: Histogram,
    pub(crate) log_batch: Histogram,
    pub(crate) apply_batch: Histogram,
    pub(crate) queue_proposals: Level,
    pub(crate) queue_proposal_bytes: Level,
    pub(crate) queue_reads: Level,
    pub(crate) queue_log: Level,
    pub(crate) queue_apply: Level,
    pub(crate) commit_index: Level,
    pub(crate) applied_index: Level,
    pub(crate) is_leader: Level,
    pub(crate) snapshot_building: Level,
    pub(crate) snapshot_verifying: Level,
    pub(crate) snapshot_installing: Level,
    pub(crate) snapshots_built: Counter,
    pub(crate) snapshots_failed: Counter,
    pub(crate) snapshots_sent: Counter,
    pub(crate) snapshots_sent_as_changes: Counter,
    pub(crate) snapshot_change_bytes: Counter,
    pub(crate) snapshots_installed: Counter,
    pub(crate) snapshots_refused: Counter,
    pub(crate) snapshot_bytes: Counter,
    pub(crate) leader_changes: Counter,
    pub(crate) elections: Counter,
    pub(crate) digest_alarms: Counter,
    pub(crate) link: Link,
}

/// A histogram of times.
#[derive(Clone, Debug)]
pub(crate) struct Latency(Histogram);

impl Latency {
    pub(crate) fn observe(&self, time: Duration) {
        self.0.observe(time.as_secs_f64());
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut made = Registry::with_prefix("fsmdb");
        let all = &mut made;
        Self {
            proposals: counter(all, "proposals", "Commands that users of this node proposed"),
            forwarded: counter(all, "forwarded", "Proposals that were sent to the leader"),
            busy: counter(all, "busy", "Proposals and reads refused because the node was busy"),
            reads_confirmed: counter(all, "reads_confirmed", "Reads that the leader confirmed"),
            commit_seconds: latency(all, "commit", "From proposal to commit on the leader"),
            apply_seconds: latency(all, "apply", "Applying one group of entries"),
            sync_seconds: latency(all, "log_sync", "One synced write of the log"),
            propose_batch: sizes(all, "propose_batch", "Commands in one append of the leader"),
            log_batch: sizes(all, "log_batch", "Entries in one write of the log"),
            apply_batch: sizes(all, "apply_batch", "Entries in one group that is applied"),
            queue_proposals: level(all, "queue_proposals", "Proposals that are under way"),
            queue_proposal_bytes: bytes_now(all, "queue_proposal", "The commands of those"),
            queue_reads: level(all, "queue_reads", "Reads that wait"),
            queue_log: level(all, "queue_log", "Batches that wait for the log"),
            queue_apply: level(all, "queue_apply", "Groups that wait for the state machine"),
            commit_index: level(all, "commit_index", "The last entry known to be committed"),
            applied_index: level(all, "applied_index", "The last entry that was applied"),
            is_leader: level(all, "is_leader", "1 while this node leads"),
            snapshot_building: level(all, "snapshot_building", "1 while a snapshot is written"),
            snapshot_verifying: level(
                all,
                "snapshot_verifying",
                "1 while a received snapshot is read over",
            ),
            snapshot_installing: level(
                all,
                "snapshot_installing",
                "1 while a received snapshot is read into the state machine",
            ),
            snapshots_built: counter(all, "snapshots_built", "Snapshots of the state written"),
            snapshots_failed: counter(all, "snapshots_failed", "Snapshots that failed"),
            snapshots_sent: counter(all, "snapshots_sent", "Snapshots that arrived at a peer"),
            snapshots_sent_as_changes: counter(
                all,
                "snapshots_sent_as_changes",
                "Snapshots that arrived as what has changed since one that the peer held",
            ),
            snapshot_change_bytes: bytes(
                all,
                "snapshot_change",
                "Bytes of changes that were to be sent in the place of whole snapshots",
            ),
            snapshots_installed: counter(all, "snapshots_installed", "Snapshots installed"),
            snapshots_refused: counter(all, "snapshots_refused", "Received snapshots not taken"),
            snapshot_bytes: bytes(all, "snapshot", "Bytes of snapshots written"),
            leader_changes: counter(all, "leader_changes", "Changes of the leader seen"),
            elections: counter(all, "elections", "Elections that this node stood for"),
            digest_alarms: counter(all, "digest_alarms", "Comparisons of digests that differed"),
            link: Link::registered(all),
            registry: made,
        }
    }

    /// The node has ended: it leads nobody, and nothing waits or is on its way.
    pub(crate) fn end(&self) {
        let queues =
            [&self.queue_proposals, &self.queue_proposal_bytes, &self.queue_reads, &self.queue_log];
        let snapshots =
            [&self.snapshot_building, &self.snapshot_verifying, &self.snapshot_installing];
        let others = [&self.queue_apply, &self.is_leader];
        for level in queues.into_iter().chain(snapshots).chain(others) {
            level.set(0);
        }
        self.link.show(None);
    }

    /// The text of all of them.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // A string takes everything.
        let _ = text::encode(&mut text, &self.registry);
        text
    }
}

fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let made = Counter::default();
    registry.register(name, help, made.clone());
    made
}

fn level(registry: &mut Registry, name: &str, help: &str) -> Level {
    let made = Level::default();
    registry.register(name, help, made.clone());
    made
}

/// A counter of bytes; its name ends in them.
fn bytes(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let made = Counter::default();
    registry.register_with_unit(name, help, Unit::Bytes, made.clone());
    made
}

fn bytes_now(registry: &mut Registry, name: &str, help: &str) -> Level {
    let made = Level::default();
    registry.register_with_unit(name, help, Unit::Bytes, made.clone());
    made
}

/// From 16 microseconds to about 8 seconds.
fn latency(registry: &mut Registry, name: &str, help: &str) -> Latency {
    let made = Histogram::new(exponential_buckets(0.000_016, 2.0, 20));
    registry.register_with_unit(name, help, Unit::Seconds, made.clone());
    Latency(made)
}

/// From 1 to about 65 thousand.
fn sizes(registry: &mut Registry, name: &str, help: &str) -> Histogram {
    let made = Histogram::new(exponential_buckets(1.0, 4.0, 9));
    registry.register(name, help, made.clone());
    made
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::transport::TransportStats;

    /// The names and types in the list for users.
    fn listed() -> BTreeSet<(String, String)> {
        let rows = include_str!("names.md").lines().filter(|line| line.starts_with("| `"));
        let cells = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
        let named = |cells: Vec<&str>| {
            let kind = cells[2].split(',').next().unwrap_or_default();
            let name = cells[1].trim_matches('`');
            let family = name.strip_suffix("_total").unwrap_or(name);
            assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
            (family.to_owned(), kind.to_owned())
        };
        cells.map(named).collect()
    }

    /// The words behind such a comment.
    fn told(text: &str, comment: &str) -> BTreeSet<(String, String)> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(comment));
        let words = lines.map(|line| line.trim().split_once(' ').expect("a name and a word"));
        words.map(|(name, word)| (name.to_owned(), word.to_owned())).collect()
    }

    #[test]
    fn every_name_is_listed_for_users_and_every_unit_is_said() {
        let metrics = Metrics::new();
        metrics.link.show(Some(TransportStats::default()));
        let text = metrics.text();
        let types = told(&text, "# TYPE");
        assert_eq!(types, listed());
        let unit_of = |name: &str| {
            let ends = |unit: &&str| name.ends_with(&format!("_{unit}"));
            ["bytes", "seconds"].into_iter().find(ends).map(str::to_owned)
        };
        let in_names =
            types.into_iter().filter_map(|(name, _)| Some((name.clone(), unit_of(&name)?)));
        assert_eq!(told(&text, "# UNIT"), in_names.collect());
    }

    #[test]
    fn a_node_that_has_ended_shows_nothing_of_its_transport_and_leads_nobody() {
        let metrics = Metrics::new();
        metrics.is_leader.set(1);
        metrics.link.show(Some(TransportStats::default()));
        assert!(metrics.text().contains("fsmdb_transport_connects_total 0\n"));
        metrics.end();
        let text = metrics.text();
        assert!(text.contains("fsmdb_is_leader 0\n") && !text.contains("transport"), "{text}");
    }
}
