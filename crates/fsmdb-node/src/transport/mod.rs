//! Messages, requests and snapshots between nodes, over TCP with mutual TLS.
//!
//! Each node dials each peer: once for messages, once for requests, and once for each snapshot;
//! what comes back on a connection is answers. So between two nodes there are two connections in
//! each direction, and no byte of a snapshot stands before a heartbeat.
//!
//! | file | owns |
//! |---|---|
//! | `config.rs`, `error.rs` | what callers can say, and what they are told |
//! | `frame.rs`, `handshake.rs` | the bytes, without I/O |
//! | `tls.rs` | who is at the other end |
//! | `stream.rs` | frames on a stream, with limits |
//! | `mesh.rs` | who the peers are, whose connection is current |
//! | `directories.rs` | which directory each peer has |
//! | `dial.rs`, `listen.rs` | connections, until both sides know each other |
//! | `messages.rs` | messages of Raft, both ways |
//! | `requests.rs`, `answers.rs` | requests, on the asking and on the answering side |
//! | `departures.rs`, `arrivals.rs`, `partial.rs` | snapshots that are sent, that arrive, on disk |
//! | `counters.rs` | what is counted, what is on its way, and how often is complained |
//!
//! # Invariants
//!
//! 1. Only this room names `tokio`, `tokio_rustls`, `rustls` and `rustls_pki_types`, and none of
//!    them in a public signature.
//! 2. Every byte of a peer is checked before it means anything, in the order: length, checksum,
//!    form, sender and receiver. One that fails ends its connection, and nothing else.
//! 3. Every wait has a limit and every queue a bound; all of them are in [`limits`](crate::limits).

mod answers;
mod arrivals;
mod config;
mod counters;
mod departures;
mod dial;
mod directories;
mod error;
pub mod frame;
mod handshake;
mod listen;
mod mesh;
mod messages;
mod partial;
mod requests;
mod stream;
mod tls;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fsmdb::raft::Message;
use slog::Logger;
use tokio::runtime::{Builder, Handle, Runtime};

pub use config::{Security, Timing, TlsConfig, TransportConfig, VERSIONS};
pub use counters::{PeerStats, Transfer, TransportStats};
pub use error::TransportError;
pub use handshake::{
    HELLO_BYTES, HandshakeError, Hello, Purpose, Refusal, Versions, WELCOME_BYTES, Welcome,
};
pub use tls::node_name;

use self::mesh::Mesh;
use self::requests::Asker;
use crate::limits::{
    MESSAGE_BYTES_MAX, REQUEST_BYTES_MAX, TRANSPORT_DISK_THREADS, TRANSPORT_SHUTDOWN_TIMEOUT,
    TRANSPORT_THREADS,
};
use crate::link::{Inbound, LinkError, Outcome, Parcel, RequestDone, SnapshotDone, Transport};

/// The transport of a node over TCP, on threads of its own.
///
/// Dropped, it ends: what waits has failed, and every callback has been called.
///
/// ```
/// use std::path::PathBuf;
/// use std::sync::Arc;
///
/// use fsmdb::raft::Message;
/// use fsmdb_node::link::{Inbound, Responder, SnapshotDone};
/// use fsmdb_node::transport::{Security, TcpTransport, TransportConfig};
/// use slog::{Discard, Logger, o};
///
/// struct Node;
///
/// impl Inbound for Node {
///     fn message(&self, _: Message) {}
///     fn snapshot(&self, _: Message, _: PathBuf, done: SnapshotDone) {
///         done(false);
///     }
///     fn request(&self, _: u64, body: Vec<u8>, respond: Responder) {
///         respond(body);
///     }
///     fn unreachable(&self, _: u64) {}
/// }
///
/// let folder = tempfile::tempdir()?;
/// let listen = "127.0.0.1:0".parse()?;
/// let security = Security::insecure_loopback_only();
/// let config = TransportConfig::new(1, 0xfe, 1, listen, folder.path().into(), security);
/// let transport = TcpTransport::start(config, Arc::new(Node), Logger::root(Discard, o!()))?;
/// assert_ne!(transport.local_address().port(), 0);
/// transport.shutdown();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TcpTransport {
    mesh: Arc<Mesh>,
    local_address: SocketAddr,
    runtime: Option<Runtime>,
}

impl TcpTransport {
    /// Listens, and begins to dial the peers.
    ///
    /// # Errors
    ///
    /// [`TransportError`] when the configuration cannot work or would not be safe, the address is
    /// taken, or the folder cannot be made.
    pub fn start(
        config: TransportConfig,
        inbound: Arc<dyn Inbound>,
        log: Logger,
    ) -> Result<Self, TransportError> {
        config.check()?;
        let failed = |what| move |source| TransportError::Io { what, source };
        partial::prepare(&config.folder).map_err(failed("the folder for snapshots"))?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(TRANSPORT_THREADS)
            .max_blocking_threads(TRANSPORT_DISK_THREADS)
            .thread_name(format!("fsmdb-peers-{}", config.id))
            .enable_io()
            .enable_time()
            .build()
            .map_err(failed("the threads of the transport"))?;
        let mesh = Mesh::new(&config, inbound, log, runtime.handle().clone())?;
        let mesh = Arc::new(mesh);
        let entered = runtime.enter();
        let listener = bind(config.listen).map_err(failed("the address to listen on"))?;
        let local_address = listener.local_addr().map_err(failed("the address listened on"))?;
        drop(entered);
        mesh.set_directories(config.directories);
        runtime.spawn(listen::listen(Arc::clone(&mesh), listener));
        mesh.set_peers(config.peers);
        Ok(Self { mesh, local_address, runtime: Some(runtime) })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// What it has done so far. O(peers).
    #[must_use]
    pub fn stats(&self) -> TransportStats {
        self.mesh.stats()
    }

    /// Ends it, as dropping does. When it returns no more is handed to the node, unless a callback
    /// took longer than [`TRANSPORT_SHUTDOWN_TIMEOUT`] or this is one of its own threads.
    pub fn shutdown(self) {
        drop(self);
    }
}

/// Binds at once, so that an address that is taken is an error of the start.
fn bind(address: SocketAddr) -> io::Result<tokio::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

impl Drop for TcpTransport {
    fn drop(&mut self) {
        self.mesh.close();
        let Some(runtime) = self.runtime.take() else { return };
        if Handle::try_current().is_ok() {
            runtime.shutdown_background(); // a thread of a runtime must not wait for one
        } else {
            runtime.shutdown_timeout(TRANSPORT_SHUTDOWN_TIMEOUT);
        }
    }
}

impl fmt::Debug for TcpTransport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TcpTransport")
            .field("id", &self.mesh.id)
            .field("local_address", &self.local_address)
            .finish_non_exhaustive()
    }
}

impl Transport for TcpTransport {
    fn send(&self, message: Message) -> Result<(), LinkError> {
        let sent = self.queue(&message);
        if sent.is_err() {
            messages::note_dropped(&self.mesh);
        }
        sent
    }

    fn send_snapshot(&self, message: Message, path: PathBuf, done: SnapshotDone) {
        self.send_parcel(message, Parcel { head: Vec::new(), files: vec![path] }, done);
    }

    fn send_parcel(&self, message: Message, parcel: Parcel, done: SnapshotDone) {
        let peer = self.mesh.peer(message.to());
        let outcome = Outcome::new(done);
        let mesh = Arc::clone(&self.mesh);
        let sending = departures::send(mesh, peer.clone(), message, parcel, outcome);
        let transfer = self.mesh.runtime.spawn(sending);
        if let Some(peer) = peer {
            peer.add_transfer(transfer.abort_handle());
        }
    }

    fn request(&self, to: u64, body: Vec<u8>, timeout: Duration, done: RequestDone) {
        let asker = Asker::new(done);
        let refused = match self.mesh.peer(to) {
            _ if body.len() > REQUEST_BYTES_MAX => Err((asker, LinkError::TooLong)),
            Some(peer) => peer.requests.push(body, timeout, asker),
            None if self.mesh.is_closed() => Err((asker, LinkError::NotConnected)),
            None => Err((asker, LinkError::UnknownPeer)),
        };
        if let Err((asker, error)) = refused {
            // Not on this thread, which may hold what the callback needs.
            self.mesh.runtime.spawn(async move { asker.refuse(error) });
        }
    }

    fn set_peers(&self, addresses: BTreeMap<u64, String>) {
        self.mesh.set_peers(addresses);
    }

    fn set_directories(&self, directories: BTreeMap<u64, u128>) {
        self.mesh.set_directories(directories);
    }

    fn stats(&self) -> Option<TransportStats> {
        Some(self.mesh.stats())
    }
}

impl TcpTransport {
    fn queue(&self, message: &Message) -> Result<(), LinkError> {
        if message.is_snapshot() || message.from() != self.mesh.id {
            return Err(LinkError::Unfit);
        }
        let peer = self.mesh.peer(message.to()).ok_or_else(|| {
            if self.mesh.is_closed() { LinkError::NotConnected } else { LinkError::UnknownPeer }
        })?;
        let encoded = message.encode().map_err(|_| LinkError::TooLong)?;
        if encoded.len() > MESSAGE_BYTES_MAX {
            return Err(LinkError::TooLong);
        }
        peer.messages.push(encoded, &self.mesh.counters)
    }
}
