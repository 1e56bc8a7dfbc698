//! What a transport counts, which snapshots are on their way, and how often it complains.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use super::mesh::lock;
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

/// What waits for one peer, and what is on its way.
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
    /// The snapshot that is being sent to the peer: what was written of it.
    pub sending: Option<Transfer>,
    /// The snapshot that comes from the peer: what is verified of it and stored. It is there until
    /// the node has taken the file, or has not.
    pub receiving: Option<Transfer>,
}

/// How much of one snapshot, or of changes in its place, is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transfer {
    /// Bytes that are done, those of earlier connections included.
    pub done_bytes: u64,
    /// Bytes of the whole.
    pub size_bytes: u64,
}

/// The snapshots that are on their way in one direction, by peer.
#[derive(Debug, Default)]
pub(super) struct Underway(Mutex<BTreeMap<u64, Arc<Progress>>>);

#[derive(Debug)]
struct Progress {
    done_bytes: AtomicU64,
    size_bytes: u64,
}

/// One snapshot on its way; shown until this is dropped, or another one takes its place.
pub(super) struct Shown<'a> {
    all: &'a Underway,
    peer: u64,
    progress: Arc<Progress>,
}

impl Underway {
    pub(super) fn show(&self, peer: u64, size_bytes: u64, done_bytes: u64) -> Shown<'_> {
        let progress = Arc::new(Progress { done_bytes: AtomicU64::new(done_bytes), size_bytes });
        lock(&self.0).insert(peer, Arc::clone(&progress));
        Shown { all: self, peer, progress }
    }

    pub(super) fn of(&self, peer: u64) -> Option<Transfer> {
        let progress = Arc::clone(lock(&self.0).get(&peer)?);
        let done_bytes = progress.done_bytes.load(Relaxed);
        Some(Transfer { done_bytes, size_bytes: progress.size_bytes })
    }
}

impl Shown<'_> {
    /// So much is done.
    pub(super) fn set(&self, done_bytes: u64) {
        self.progress.done_bytes.store(done_bytes, Relaxed);
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        let mut all = lock(&self.all.0);
        if all.get(&self.peer).is_some_and(|shown| Arc::ptr_eq(shown, &self.progress)) {
            all.remove(&self.peer);
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_late_does_not_hide_what_took_its_place() {
        let underway = Underway::default();
        let shown = |done_bytes, size_bytes| Some(Transfer { done_bytes, size_bytes });
        let old = underway.show(2, 10, 0);
        old.set(4);
        assert_eq!((underway.of(2), underway.of(3)), (shown(4, 10), None));
        let new = underway.show(2, 20, 5);
        old.set(6);
        drop(old);
        assert_eq!(underway.of(2), shown(5, 20));
        drop(new);
        assert_eq!(underway.of(2), None);
    }
}
