//! Why a transport does not start, and why a connection ends.

use std::io;
use std::net::SocketAddr;

use super::frame::{FrameError, Kind};
use super::handshake::{HandshakeError, Refusal, Versions};

/// Why a transport does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The id is 0.
    #[error("0 is not the id of a node")]
    Id,
    /// The lowest version of the protocol is above the highest.
    #[error("the versions {versions} of the protocol are none")]
    Versions {
        /// The versions.
        versions: Versions,
    },
    /// It would listen unencrypted where other machines reach it.
    #[error("unencrypted and reachable from elsewhere: {address}; use TLS or a loopback address")]
    ListensInsecurely {
        /// The address.
        address: SocketAddr,
    },
    /// It would dial unencrypted where it may leave the machine.
    #[error("unencrypted to peer {peer} at {address}; use TLS or a loopback address")]
    DialsInsecurely {
        /// The peer.
        peer: u64,
        /// Its address.
        address: String,
    },
    /// Certificates or key are of no use.
    #[error("{what} refused: {reason}")]
    Tls {
        /// Which of them.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// The node's own certificate does not have the node's name.
    #[error("the certificate of node {id} does not name {name}, and it alone")]
    OwnCertificate {
        /// The node.
        id: u64,
        /// The name that it must have.
        name: String,
    },
    /// The system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Its words.
        source: io::Error,
    },
}

/// Why a connection ended, or did not begin.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the disk failed: {0}")]
    Disk(io::Error),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Handshake(#[from] HandshakeError),
    #[error("refused: {0}")]
    Refused(Refusal),
    #[error("no sign of life, or no handshake, in time")]
    Silent,
    #[error("its address is not one of this machine, and nothing is encrypted")]
    OffLoopback,
    #[error("its certificate does not name it, and it alone")]
    Certificate,
    #[error("it has another directory than is known of it")]
    Directory,
    #[error("newer connections took the place of one that had not said who it is")]
    Crowded,
    #[error("a frame of the wrong kind: {0:?}")]
    Unexpected(Kind),
    #[error("a message from {from} to {to}, or a snapshot's without its file")]
    Misaddressed { from: u64, to: u64 },
    #[error("a newer connection took its place")]
    Superseded,
    #[error("a snapshot refused: {0}")]
    Snapshot(&'static str),
}

impl ConnectionError {
    /// Whether the other side did what no node of this version does.
    pub(super) fn is_misbehaviour(&self) -> bool {
        match self {
            Self::Frame(_) | Self::Handshake(_) | Self::Unexpected(_) => true,
            Self::Misaddressed { .. } | Self::Certificate => true,
            Self::Io(error) => error.kind() == io::ErrorKind::InvalidData,
            _ => false,
        }
    }
}
