//! What a transport counts, and how often it complains.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use crate::limits::COMPLAINT_INTERVAL;

/// What a transport has done since it started. Counts only rise; `peers` is as of now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransportStats {
    /// Bytes of frames that were written.
    pub bytes_sent: u64,
    /// Bytes of frames that were taken.
    pub bytes_received: u64,
    /// Frames that were written.
    pub frames_sent: u64,
    /// Frames that were taken.
    pub frames_received: u64,
    /// Messages that were not sent: the queue was full, or the connection ended.
    pub messages_dropped: u64,
    /// Connections that were made to peers.
    pub connects: u64,
    /// Connections that were made to a peer after an earlier one.
    pub reconnects: u64,
    /// Incoming connections that were refused, or whose handshake failed.
    pub handshakes_refused: u64,
    /// Connections that were closed for what the peer sent.
    pub misbehaved: u64,
    /// Bytes of snapshot files, and of changes in their place, that were sent.
    pub snapshot_bytes_sent: u64,
    /// Bytes of snapshot files, and of changes in their place, that arrived, their checksums
    /// verified.
    pub snapshot_bytes_received: u64,
    /// The peers, by id.
    pub peers: BTreeMap<u64, PeerStats>,
}

/// What waits for one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerStats {
    /// Whether messages have a connection.
    pub connected: bool,
    /// Whether requests have a connection.
    pub takes_requests: bool,
    /// Messages in the queue.
    pub queued_messages: usize,
    /// Bytes in the queue.
    pub queued_bytes: usize,
    /// Requests without an answer.
    pub requests_in_flight: usize,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
    frames_sent: AtomicU64,
    frames_received: AtomicU64,
    pub(super) messages_dropped: AtomicU64,
    pub(super) connects: AtomicU64,
    pub(super) reconnects: AtomicU64,
    pub(super) handshakes_refused: AtomicU64,
    pub(super) misbehaved: AtomicU64,
    pub(super) snapshot_bytes_sent: AtomicU64,
    pub(super) snapshot_bytes_received: AtomicU64,
}

/// Adds to a counter.
pub(super) fn count(counter: &AtomicU64, more: usize) {
    counter.fetch_add(more as u64, Relaxed);
}

impl Counters {
    pub(super) fn sent(&self, frames: u64, bytes: usize) {
        self.frames_sent.fetch_add(frames, Relaxed);
        count(&self.bytes_sent, bytes);
    }

    pub(super) fn received(&self, bytes: usize) {
        count(&self.frames_received, 1);
        count(&self.bytes_received, bytes);
    }

    pub(super) fn read(&self, peers: BTreeMap<u64, PeerStats>) -> TransportStats {
        TransportStats {
            bytes_sent: self.bytes_sent.load(Relaxed),
            bytes_received: self.bytes_received.load(Relaxed),
            frames_sent: self.frames_sent.load(Relaxed),
            frames_received: self.frames_received.load(Relaxed),
            messages_dropped: self.messages_dropped.load(Relaxed),
            connects: self.connects.load(Relaxed),
            reconnects: self.reconnects.load(Relaxed),
            handshakes_refused: self.handshakes_refused.load(Relaxed),
            misbehaved: self.misbehaved.load(Relaxed),
            snapshot_bytes_sent: self.snapshot_bytes_sent.load(Relaxed),
            snapshot_bytes_received: self.snapshot_bytes_received.load(Relaxed),
            peers,
        }
    }
}

/// Lets one complaint through in [`COMPLAINT_INTERVAL`], with the count of those since the last.
#[derive(Debug, Default)]
pub(super) struct Patience {
    state: Mutex<(Option<Instant>, u64)>,
}

impl Patience {
    /// How many there were with this one, when it is time to say so.
    pub(super) fn complain(&self) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        state.1 += 1;
        if state.0.is_some_and(|last| now - last < COMPLAINT_INTERVAL) {
            return None;
        }
        state.0 = Some(now);
        Some(std::mem::take(&mut state.1))
    }
}
