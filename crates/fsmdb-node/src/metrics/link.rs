//! What a transport has counted, and what waits and is on its way for each peer.
//!
//! # Invariants
//!
//! 1. The text is of the last look at the transport, all of it of the same one.
//! 2. A node without a transport that counts, or that has ended, shows none of these.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use crate::transport::{PeerStats, Transfer, TransportStats};

/// What was seen at the last look at the transport.
#[derive(Clone, Debug, Default)]
pub(crate) struct Link(Arc<Mutex<Option<TransportStats>>>);

impl Link {
    /// One that is encoded with all else in the registry.
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let made = Self::default();
        registry.register_collector(Box::new(made.clone()));
        made
    }

    pub(crate) fn show(&self, stats: Option<TransportStats>) {
        *self.lock() = stats;
    }

    fn lock(&self) -> MutexGuard<'_, Option<TransportStats>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A name without its unit, the unit, what it means, and where its value is.
type Shown<S> = (&'static str, Option<Unit>, &'static str, fn(&S) -> u64);

const COUNTERS: [Shown<TransportStats>; 11] = [
    ("transport_sent", Some(Unit::Bytes), "Frames that were written.", |all| all.bytes_sent),
    ("transport_received", Some(Unit::Bytes), "Frames that were taken.", |all| all.bytes_received),
    ("transport_frames_sent", None, "Frames that were written.", |all| all.frames_sent),
    ("transport_frames_received", None, "Frames that were taken.", |all| all.frames_received),
    ("transport_messages_dropped", None, "Messages that were not sent.", |all| {
        all.messages_dropped
    }),
    ("transport_connects", None, "Connections that were made to peers.", |all| all.connects),
    ("transport_reconnects", None, "Those after an earlier one.", |all| all.reconnects),
    ("transport_handshakes_refused", None, "Incoming connections that were refused.", |all| {
        all.handshakes_refused
    }),
    ("transport_misbehaved", None, "Connections closed for what the peer sent.", |all| {
        all.misbehaved
    }),
    ("transport_snapshot_sent", Some(Unit::Bytes), "Snapshots that were sent.", |all| {
        all.snapshot_bytes_sent
    }),
    ("transport_snapshot_received", Some(Unit::Bytes), "Snapshots that arrived.", |all| {
        all.snapshot_bytes_received
    }),
];

const LEVELS: [Shown<PeerStats>; 9] = [
    ("peer_connected", None, "1 while messages have a connection.", |peer| peer.connected.into()),
    ("peer_takes_requests", None, "1 while requests have a connection.", |peer| {
        peer.takes_requests.into()
    }),
    ("peer_queue_messages", None, "Messages that wait for the peer.", |peer| {
        peer.queued_messages as u64
    }),
    ("peer_queue", Some(Unit::Bytes), "Messages that wait for the peer.", |peer| {
        peer.queued_bytes as u64
    }),
    ("peer_requests", None, "Requests without an answer.", |peer| peer.requests_in_flight as u64),
    ("snapshot_sending_done", Some(Unit::Bytes), "Written of the snapshot to the peer.", |peer| {
        done(peer.sending)
    }),
    ("snapshot_sending_size", Some(Unit::Bytes), "The snapshot to the peer, or 0.", |peer| {
        size(peer.sending)
    }),
    (
        "snapshot_receiving_done",
        Some(Unit::Bytes),
        "Stored of the snapshot from the peer.",
        |peer| done(peer.receiving),
    ),
    ("snapshot_receiving_size", Some(Unit::Bytes), "The snapshot from the peer, or 0.", |peer| {
        size(peer.receiving)
    }),
];

fn done(transfer: Option<Transfer>) -> u64 {
    transfer.map_or(0, |transfer| transfer.done_bytes)
}

fn size(transfer: Option<Transfer>) -> u64 {
    transfer.map_or(0, |transfer| transfer.size_bytes)
}

impl Collector for Link {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(stats) = self.lock().clone() else { return Ok(()) };
        for (name, unit, help, of) in &COUNTERS {
            let kind = MetricType::Counter;
            let encoder = encoder.encode_descriptor(name, help, unit.as_ref(), kind)?;
            ConstCounter::new(of(&stats)).encode(encoder)?;
        }
        for (name, unit, help, of) in &LEVELS {
            let kind = MetricType::Gauge;
            let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), kind)?;
            for (id, peer) in &stats.peers {
                let labels = [("peer", *id)];
                ConstGauge::new(of(peer)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
