//! What the connections of one node share: who the peers are, and whose connections are current.
//!
//! # Invariants
//!
//! 1. Of one peer and purpose, at most one accepted connection is current. The newest is; what an
//!    older one still brings is dropped.
//! 2. A connection of a peer whose directory is not the one that is known of it carries nothing, in
//!    either direction.
//! 3. No lock of this file is held while a callback of the node runs, but that of the seat whose
//!    frame it is; and only tasks of the transport's own take that one from outside.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use slog::{Logger, error, info, warn};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::config::{Security, Timing, TransportConfig};
use super::counters::{Counters, Patience, PeerStats, TransportStats, Underway, count};
use super::dial;
use super::directories::Directories;
use super::error::{ConnectionError, TransportError};
use super::handshake::{Hello, Purpose, Refusal, Versions};
use super::messages::{self, MessageQueue};
use super::requests::{self, RequestBook};
use super::tls::Gate;
use crate::limits::SNAPSHOT_BYTES_PER_SECOND_MIN;
use crate::link::Inbound;

/// Locks, whatever a panic left behind: the state behind each lock is right between any two lines.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One peer that is dialled.
pub(super) struct Peer {
    pub(super) id: u64,
    pub(super) address: String,
    pub(super) messages: MessageQueue,
    pub(super) requests: RequestBook,
    /// Whether a snapshot is on its way.
    pub(super) transferring: AtomicBool,
    tasks: Mutex<Vec<AbortHandle>>,
    transfers: Mutex<Vec<AbortHandle>>,
}

impl Peer {
    fn new(id: u64, address: String) -> Self {
        Self {
            id,
            address,
            messages: MessageQueue::default(),
            requests: RequestBook::default(),
            transferring: AtomicBool::new(false),
            tasks: Mutex::default(),
            transfers: Mutex::default(),
        }
    }

    /// A transfer that ends when the peer is let go. All but one of them end at once.
    pub(super) fn add_transfer(&self, transfer: AbortHandle) {
        let mut transfers = lock(&self.transfers);
        transfers.retain(|transfer| !transfer.is_finished());
        transfers.push(transfer);
    }

    fn abort(&self) {
        let tasks = std::mem::take(&mut *lock(&self.tasks));
        let transfers = std::mem::take(&mut *lock(&self.transfers));
        for task in tasks.iter().chain(&transfers) {
            task.abort();
        }
    }
}

/// The place of one accepted connection.
#[derive(Default)]
pub(super) struct Seat {
    left: Mutex<bool>,
    leaving: Notify,
}

impl Seat {
    /// Runs `deliver` unless a newer connection took the place; none can meanwhile.
    pub(super) fn deliver(&self, deliver: impl FnOnce()) -> Result<(), ConnectionError> {
        let left = lock(&self.left);
        if *left {
            return Err(ConnectionError::Superseded);
        }
        deliver();
        Ok(())
    }

    /// Ends when another connection took the place.
    pub(super) async fn left(&self) {
        self.leaving.notified().await;
    }

    fn leave(&self) {
        *lock(&self.left) = true;
        self.leaving.notify_one();
    }
}

/// The accepted connections of one peer, and the latest start of it that was seen.
#[derive(Default)]
struct Seats {
    incarnation: u64,
    by_purpose: BTreeMap<Purpose, Arc<Seat>>,
}

#[derive(Default)]
struct Peers {
    closed: bool,
    by_id: BTreeMap<u64, Arc<Peer>>,
    directories: Directories,
}

/// What the connections of one node share.
pub(super) struct Mesh {
    pub(super) id: u64,
    pub(super) cluster: u128,
    pub(super) incarnation: u64,
    pub(super) directory: u128,
    pub(super) versions: Versions,
    pub(super) timing: Timing,
    pub(super) folder: PathBuf,
    pub(super) snapshot_rate: u64,
    pub(super) file_bytes_max: u64,
    pub(super) gate: Gate,
    pub(super) inbound: Arc<dyn Inbound>,
    pub(super) log: Logger,
    pub(super) counters: Arc<Counters>,
    pub(super) sending: Underway,
    pub(super) receiving: Underway,
    pub(super) runtime: Handle,
    /// With misbehaviour, with connections that end, and with peers that were wiped.
    patience: Patience,
    ends: Patience,
    wiped: Patience,
    security: Security,
    peers: Mutex<Peers>,
    /// Taken after `peers`, when both are.
    seats: Mutex<BTreeMap<u64, Seats>>,
    partials: Mutex<BTreeMap<u64, Arc<tokio::sync::Mutex<()>>>>,
}

impl Mesh {
    pub(super) fn new(
        config: &TransportConfig,
        inbound: Arc<dyn Inbound>,
        log: Logger,
        runtime: Handle,
    ) -> Result<Self, TransportError> {
        Ok(Self {
            id: config.id,
            cluster: config.cluster,
            incarnation: config.incarnation,
            directory: config.directory,
            versions: config.versions,
            timing: config.timing,
            folder: config.folder.clone(),
            snapshot_rate: config.snapshot_bytes_per_second.max(SNAPSHOT_BYTES_PER_SECOND_MIN),
            file_bytes_max: config.snapshot_file_bytes_max,
            gate: Gate::new(&config.security, config.cluster, config.id)?,
            inbound,
            log,
            counters: Arc::default(),
            sending: Underway::default(),
            receiving: Underway::default(),
            runtime,
            patience: Patience::default(),
            ends: Patience::default(),
            wiped: Patience::default(),
            security: config.security.clone(),
            peers: Mutex::default(),
            seats: Mutex::default(),
            partials: Mutex::default(),
        })
    }

    pub(super) fn peer(&self, id: u64) -> Option<Arc<Peer>> {
        lock(&self.peers).by_id.get(&id).map(Arc::clone)
    }

    pub(super) fn allows(&self, address: SocketAddr) -> bool {
        self.security.allows(address)
    }

    /// Dials who is new, and lets go who is gone or has moved.
    pub(super) fn set_peers(self: &Arc<Self>, addresses: BTreeMap<u64, String>) {
        let mut peers = lock(&self.peers);
        if peers.closed {
            return;
        }
        let mut gone = std::mem::take(&mut peers.by_id);
        for (id, address) in addresses {
            if id == self.id || id == 0 {
                continue;
            }
            if !self.security.allows_text(&address) {
                warn!(self.log, "a peer is left out: unencrypted, its address must be of loopback";
                    "peer" => id, "address" => address);
                continue;
            }
            let kept = gone.remove(&id);
            let peer = match kept {
                Some(kept) if kept.address == address => kept,
                moved => {
                    gone.extend(moved.map(|moved| (id, moved)));
                    self.begin(Peer::new(id, address))
                }
            };
            peers.by_id.insert(id, peer);
        }
        let Peers { by_id, directories, .. } = &mut *peers;
        directories.retain(|id| by_id.contains_key(&id));
        drop(peers);
        self.let_go(gone);
    }

    /// Holds peers to these directories, and breaks with those that came with another one.
    pub(super) fn set_directories(self: &Arc<Self>, told: BTreeMap<u64, u128>) {
        let mut peers = lock(&self.peers);
        if peers.closed {
            return;
        }
        let (mut gone, mut seats) = (BTreeMap::new(), Vec::new());
        for id in peers.directories.tell(told) {
            let Some(peer) = peers.by_id.remove(&id) else { continue };
            let anew = self.begin(Peer::new(id, peer.address.clone()));
            peers.by_id.insert(id, anew);
            gone.insert(id, peer);
            seats.extend(lock(&self.seats).remove(&id));
        }
        drop(peers);
        for seat in seats.iter().flat_map(|seats| seats.by_purpose.values()) {
            seat.leave();
        }
        self.let_go(gone);
    }

    /// Whether a peer may come with this directory.
    pub(super) fn admits(&self, peer: u64, directory: u128) -> bool {
        let is_admitted = lock(&self.peers).directories.admit(peer, directory);
        if !is_admitted {
            self.note_wiped(peer);
        }
        is_admitted
    }

    fn begin(self: &Arc<Self>, peer: Peer) -> Arc<Peer> {
        let peer = Arc::new(peer);
        let start = |purpose| dial::maintain(Arc::clone(self), Arc::clone(&peer), purpose);
        let tasks = vec![
            self.runtime.spawn(start(Purpose::Messages)).abort_handle(),
            self.runtime.spawn(start(Purpose::Requests)).abort_handle(),
            self.runtime
                .spawn(messages::report_losses(Arc::clone(self), Arc::clone(&peer)))
                .abort_handle(),
            self.runtime.spawn(requests::expire(Arc::clone(&peer))).abort_handle(),
        ];
        *lock(&peer.tasks) = tasks;
        peer
    }

    /// On a thread of the transport's own, because callers may hold locks that callbacks take.
    fn let_go(self: &Arc<Self>, gone: BTreeMap<u64, Arc<Peer>>) {
        if gone.is_empty() {
            return;
        }
        let mesh = Arc::clone(self);
        self.runtime.spawn(async move {
            for (id, peer) in gone {
                peer.abort();
                count(&mesh.counters.messages_dropped, peer.messages.close());
                peer.requests.close();
                mesh.evict(id);
            }
        });
    }

    /// Closes the accepted connections of a peer that is not known any more.
    fn evict(&self, id: u64) {
        let peers = lock(&self.peers);
        if peers.by_id.contains_key(&id) {
            return; // it has moved, and its connections to here are as good as before
        }
        let seats = lock(&self.seats).remove(&id);
        drop(peers);
        for seat in seats.iter().flat_map(|seats| seats.by_purpose.values()) {
            seat.leave();
        }
    }

    /// Gives an authenticated dialler its place; who sat there leaves.
    pub(super) fn seat(&self, hello: &Hello) -> Result<Arc<Seat>, Refusal> {
        let mut peers = lock(&self.peers);
        if !peers.by_id.contains_key(&hello.from) {
            return Err(Refusal::Sender);
        }
        if !peers.directories.admit(hello.from, hello.directory) {
            self.note_wiped(hello.from);
            return Err(Refusal::Directory);
        }
        let mut all = lock(&self.seats);
        drop(peers);
        let seats = all.entry(hello.from).or_default();
        if hello.incarnation < seats.incarnation {
            return Err(Refusal::Superseded);
        }
        let seat = Arc::new(Seat::default());
        let mut leaving = Vec::new();
        if hello.incarnation > seats.incarnation {
            seats.incarnation = hello.incarnation;
            leaving.extend(std::mem::take(&mut seats.by_purpose).into_values());
        }
        leaving.extend(seats.by_purpose.insert(hello.purpose, Arc::clone(&seat)));
        drop(all);
        leaving.iter().for_each(|seat| seat.leave());
        Ok(seat)
    }

    /// Who may touch the partial file of a sender.
    pub(super) fn partial(&self, from: u64) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(lock(&self.partials).entry(from).or_default())
    }

    pub(super) fn is_closed(&self) -> bool {
        lock(&self.peers).closed
    }

    /// Ends all that goes out; what comes in ends with the runtime.
    pub(super) fn close(&self) {
        let mut peers = lock(&self.peers);
        peers.closed = true;
        let gone = std::mem::take(&mut peers.by_id);
        drop(peers);
        for peer in gone.values() {
            peer.abort();
            count(&self.counters.messages_dropped, peer.messages.close());
            peer.requests.close();
        }
    }

    pub(super) fn stats(&self) -> TransportStats {
        let peers = lock(&self.peers).by_id.clone();
        let of = |peer: &Peer| {
            let (connected, queued_messages, queued_bytes) = peer.messages.depth();
            let (takes_requests, requests_in_flight) = peer.requests.depth();
            PeerStats {
                connected,
                takes_requests,
                queued_messages,
                queued_bytes,
                requests_in_flight,
                sending: self.sending.of(peer.id),
                receiving: self.receiving.of(peer.id),
            }
        };
        self.counters.read(peers.iter().map(|(id, peer)| (*id, of(peer))).collect())
    }

    /// Says why an accepted connection ended; what nobody should send is counted.
    pub(super) fn note_end(&self, peer: u64, error: &ConnectionError) {
        if !error.is_misbehaviour() {
            if let Some(times) = self.ends.complain() {
                info!(self.log, "a connection from a peer ended";
                    "peer" => peer, "reason" => %error, "times" => times);
            }
            return;
        }
        count(&self.counters.misbehaved, 1);
        if let Some(times) = self.patience.complain() {
            warn!(self.log, "a connection was closed for what came over it";
                "peer" => peer, "reason" => %error, "times" => times);
        }
    }

    fn note_wiped(&self, peer: u64) {
        if let Some(times) = self.wiped.complain() {
            error!(self.log, "a peer has another directory than is known of it: it was wiped, and \
                forgot its votes; remove it from the group, and add it under a new id";
                "peer" => peer, "times" => times);
        }
    }

    /// Says why an incoming connection was not accepted.
    pub(super) fn note_refusal(&self, address: SocketAddr, error: &ConnectionError) {
        count(&self.counters.handshakes_refused, 1);
        if let Some(times) = self.patience.complain() {
            warn!(self.log, "a connection was refused";
                "address" => address, "reason" => %error, "times" => times);
        }
    }
}
