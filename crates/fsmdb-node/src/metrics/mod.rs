//! What a node counts and measures, as OpenMetrics text.
//!
//! The only room that names `prometheus_client`.
//!
//! # Invariants
//!
//! 1. To count or measure is a few atomic additions; nothing here blocks.

use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

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
    pub(crate) queue_log: Level,
    pub(crate) queue_apply: Level,
    pub(crate) commit_index: Level,
    pub(crate) applied_index: Level,
    pub(crate) is_leader: Level,
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
            commit_seconds: latency(all, "commit_seconds", "From proposal to commit on the leader"),
            apply_seconds: latency(all, "apply_seconds", "Applying one group of entries"),
            sync_seconds: latency(all, "log_sync_seconds", "One synced write of the log"),
            propose_batch: sizes(all, "propose_batch", "Commands in one append of the leader"),
            log_batch: sizes(all, "log_batch", "Entries in one write of the log"),
            apply_batch: sizes(all, "apply_batch", "Entries in one group that is applied"),
            queue_proposals: level(all, "queue_proposals", "Proposals that are under way"),
            queue_log: level(all, "queue_log", "Batches that wait for the log"),
            queue_apply: level(all, "queue_apply", "Groups that wait for the state machine"),
            commit_index: level(all, "commit_index", "The last entry known to be committed"),
            applied_index: level(all, "applied_index", "The last entry that was applied"),
            is_leader: level(all, "is_leader", "1 while this node leads"),
            snapshots_built: counter(all, "snapshots_built", "Snapshots of the state written"),
            snapshots_failed: counter(all, "snapshots_failed", "Snapshots that failed"),
            snapshots_sent: counter(all, "snapshots_sent", "Snapshots that arrived at a peer"),
            snapshots_sent_as_changes: counter(
                all,
                "snapshots_sent_as_changes",
                "Snapshots that arrived as what has changed since one that the peer held",
            ),
            snapshot_change_bytes: counter(
                all,
                "snapshot_change_bytes",
                "Bytes of changes that were to be sent in the place of whole snapshots",
            ),
            snapshots_installed: counter(all, "snapshots_installed", "Snapshots installed"),
            snapshots_refused: counter(all, "snapshots_refused", "Received snapshots not taken"),
            snapshot_bytes: counter(all, "snapshot_bytes", "Bytes of snapshots written"),
            leader_changes: counter(all, "leader_changes", "Changes of the leader seen"),
            elections: counter(all, "elections", "Elections that this node stood for"),
            digest_alarms: counter(all, "digest_alarms", "Comparisons of digests that differed"),
            registry: made,
        }
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

/// From 16 microseconds to about 8 seconds.
fn latency(registry: &mut Registry, name: &str, help: &str) -> Latency {
    let made = Histogram::new(exponential_buckets(0.000_016, 2.0, 20));
    registry.register(name, help, made.clone());
    Latency(made)
}

/// From 1 to about 65 thousand.
fn sizes(registry: &mut Registry, name: &str, help: &str) -> Histogram {
    let made = Histogram::new(exponential_buckets(1.0, 4.0, 9));
    registry.register(name, help, made.clone());
    made
}
