//! How a transport is set up.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{TransportError, Versions};
use crate::limits::{
    HANDSHAKE_TIMEOUT, KEEP_ALIVE_INTERVAL, PEER_SILENCE_MAX, RECONNECT_PAUSE_MAX,
    RECONNECT_PAUSE_MIN, SNAPSHOT_BYTES_PER_SECOND, SNAPSHOT_FILE_BYTES_MAX,
};

/// The versions of the protocol between nodes that this crate speaks. Two nodes speak the highest
/// that both do, so a group is upgraded node by node as long as one release speaks both.
pub const VERSIONS: Versions = Versions { lowest: 1, highest: 1 };

/// Settings of one node's transport.
#[derive(Clone, Debug)]
pub struct TransportConfig {
    /// The node's id: not 0.
    pub id: u64,
    /// The cluster's id. Nodes of different clusters refuse each other.
    pub cluster: u128,
    /// Which start of the node this is: higher with each, as the `boot` of its core. What an
    /// earlier start left behind is closed, and refused when it comes later.
    pub incarnation: u64,
    /// Random bits of the node's directory, drawn when it was made, or 0. Peers that remember
    /// others refuse the node: it was wiped, and has forgotten what it voted for.
    pub directory: u128,
    /// What is known of the directories of peers, until
    /// [`set_directories`](crate::link::Transport::set_directories) says it.
    pub directories: BTreeMap<u64, u128>,
    /// The versions of the protocol; nodes without a common one refuse each other.
    pub versions: Versions,
    /// Where peers reach this node. Port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Where this node reaches its peers, `host:port` each. This node itself may be among them.
    pub peers: BTreeMap<u64, String>,
    /// Who is believed, and whether others can read along.
    pub security: Security,
    /// A folder of the transport's own, for snapshots that arrive; made when it is missing.
    pub folder: PathBuf,
    /// Bytes of a snapshot to send in a second, for each transfer; at least
    /// [`SNAPSHOT_BYTES_PER_SECOND_MIN`](crate::limits::SNAPSHOT_BYTES_PER_SECOND_MIN).
    pub snapshot_bytes_per_second: u64,
    /// Largest snapshot file to send or take.
    pub snapshot_file_bytes_max: u64,
    /// How long things take before they have failed.
    pub timing: Timing,
}

impl TransportConfig {
    /// The settings for production: no peers yet, every bound as [`limits`](crate::limits) has it.
    #[must_use]
    pub fn new(
        id: u64,
        cluster: u128,
        incarnation: u64,
        listen: SocketAddr,
        folder: PathBuf,
        security: Security,
    ) -> Self {
        Self {
            id,
            cluster,
            incarnation,
            directory: 0,
            directories: BTreeMap::new(),
            versions: VERSIONS,
            listen,
            peers: BTreeMap::new(),
            security,
            folder,
            snapshot_bytes_per_second: SNAPSHOT_BYTES_PER_SECOND,
            snapshot_file_bytes_max: SNAPSHOT_FILE_BYTES_MAX,
            timing: Timing::default(),
        }
    }

    pub(super) fn check(&self) -> Result<(), TransportError> {
        if self.id == 0 {
            return Err(TransportError::Id);
        }
        let versions = self.versions;
        if versions.lowest > versions.highest {
            return Err(TransportError::Versions { versions });
        }
        if !self.security.allows(self.listen) {
            return Err(TransportError::ListensInsecurely { address: self.listen });
        }
        for (&peer, address) in &self.peers {
            if peer != self.id && !self.security.allows_text(address) {
                return Err(TransportError::DialsInsecurely { peer, address: address.clone() });
            }
        }
        Ok(())
    }
}

/// How long things take before they have failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// See [`HANDSHAKE_TIMEOUT`].
    pub handshake: Duration,
    /// See [`KEEP_ALIVE_INTERVAL`].
    pub keep_alive: Duration,
    /// See [`PEER_SILENCE_MAX`].
    pub silence: Duration,
    /// See [`RECONNECT_PAUSE_MIN`].
    pub reconnect_min: Duration,
    /// See [`RECONNECT_PAUSE_MAX`].
    pub reconnect_max: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            handshake: HANDSHAKE_TIMEOUT,
            keep_alive: KEEP_ALIVE_INTERVAL,
            silence: PEER_SILENCE_MAX,
            reconnect_min: RECONNECT_PAUSE_MIN,
            reconnect_max: RECONNECT_PAUSE_MAX,
        }
    }
}

/// Who is believed, and whether others can read along.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Security {
    /// TLS 1.3 in which both sides show a certificate.
    Tls(TlsConfig),
    /// Nothing is encrypted and everybody is believed, so only addresses of this machine are
    /// dialled and listened on. For tests and for groups on one machine.
    InsecureOnLoopback,
    /// Nothing is encrypted and everybody who reaches the address is believed: whoever can send
    /// this node a packet can rewrite its database. For networks that are closed by other means.
    InsecureEvenOffLoopback,
}

impl Security {
    /// [`Security::InsecureOnLoopback`].
    #[must_use]
    pub fn insecure_loopback_only() -> Self {
        Self::InsecureOnLoopback
    }

    pub(super) fn allows(&self, address: SocketAddr) -> bool {
        !matches!(self, Self::InsecureOnLoopback) || address.ip().is_loopback()
    }

    /// Whether an address that is not looked up yet may be dialled. What its name stands for is
    /// held against [`allows`](Self::allows) each time.
    pub(super) fn allows_text(&self, address: &str) -> bool {
        let is_local = address.rsplit_once(':').is_some_and(|(host, _)| host == "localhost");
        let parsed = address.parse().map(|address| self.allows(address));
        parsed.unwrap_or(!matches!(self, Self::InsecureOnLoopback) || is_local)
    }
}

/// What a node shows and whom it believes. All of it is text in PEM form.
#[derive(Clone)]
pub struct TlsConfig {
    /// The certificates of the cluster's own authority. Whoever has a certificate of it with the
    /// name of a node is taken for that node, so use no public authority.
    pub authorities: Vec<u8>,
    /// The node's certificate, and those between it and the authority. Its name must be
    /// [`node_name`](super::node_name), and it must be good for servers and for clients.
    pub certificates: Vec<u8>,
    /// The private key of the node's certificate.
    pub key: Vec<u8>,
}

impl fmt::Debug for TlsConfig {
    /// Never shows the key.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TlsConfig").finish_non_exhaustive()
    }
}
