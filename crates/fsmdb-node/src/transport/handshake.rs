//! The first bytes of a connection, in both directions: who dials whom, in which cluster, for what.
//!
//! Both have a fixed length, so that a stranger makes nobody allocate, and one form, whatever the
//! version of the protocol: each says which versions it speaks, and what comes after the handshake
//! is of the highest that both do.
//!
//! # Invariants
//!
//! 1. `decode(encode(x)) == x`, and no input makes a function of this file panic.
//! 2. A node that is not whom the dialler meant says why it refuses, and nothing else.

use std::fmt;

/// What both begin with.
const MAGIC: [u8; 8] = *b"fsmdbpee";

/// Length of a [`Hello`].
pub const HELLO_BYTES: usize = 80;

/// Length of a [`Welcome`].
pub const WELCOME_BYTES: usize = 52;

/// The versions of the protocol that a node speaks, all from the lowest to the highest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The lowest.
    pub lowest: u32,
    /// The highest.
    pub highest: u32,
}

impl Versions {
    /// The one that two nodes speak with each other: the highest that both know.
    ///
    /// ```
    /// use fsmdb_node::transport::Versions;
    ///
    /// let versions = |lowest, highest| Versions { lowest, highest };
    /// assert_eq!(versions(1, 3).common(versions(2, 5)), Some(3));
    /// assert_eq!(versions(1, 1).common(versions(2, 5)), None);
    /// ```
    #[must_use]
    pub fn common(self, other: Self) -> Option<u32> {
        let (lowest, highest) = (self.lowest.max(other.lowest), self.highest.min(other.highest));
        (lowest <= highest).then_some(highest)
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.lowest, self.highest)
    }
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Messages of Raft, from the dialler.
    Messages = 1,
    /// Requests from the dialler, and their answers.
    Requests = 2,
    /// One snapshot from the dialler.
    Snapshot = 3,
}

/// What a dialler says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The versions of the protocol it speaks.
    pub versions: Versions,
    /// What it wants.
    pub purpose: Purpose,
    /// Its cluster.
    pub cluster: u128,
    /// Its id.
    pub from: u64,
    /// Whom it means to reach.
    pub to: u64,
    /// Which start of it this is.
    pub incarnation: u64,
    /// Random bits of its directory; 0 when it does not say.
    pub directory: u128,
}

/// Why a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It is a node of another cluster.
    #[error("it belongs to another cluster")]
    Cluster,
    /// It is another node.
    #[error("another node has this address")]
    Receiver,
    /// It does not know the dialler.
    #[error("it does not know this node")]
    Sender,
    /// There is no version of the protocol that both speak.
    #[error("it speaks versions {theirs} of the protocol, this node {ours}")]
    Version {
        /// Which the other speaks.
        theirs: Versions,
        /// Which the node speaks that says this.
        ours: Versions,
    },
    /// The dialler's certificate is not that of the node it says it is.
    #[error("the certificate of this node is another node's")]
    Certificate,
    /// A later start of the dialler was here already.
    #[error("a later start of this node was there already")]
    Superseded,
    /// The dialler has another directory than when the group came to know it: what it voted for,
    /// and what it acknowledged, is forgotten.
    #[error(
        "this node has another directory than the group knows of it; remove it from the group, and \
         add it under a new id"
    )]
    Directory,
}

/// What the other side answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The versions of the protocol it speaks.
    pub versions: Versions,
    /// Which start of it this is.
    pub incarnation: u64,
    /// Random bits of its directory; 0 when it does not say.
    pub directory: u128,
    /// Why it refuses, if it does.
    pub refusal: Option<Refusal>,
}

/// Why bytes are no handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// Something else than a node of this database.
    #[error("these are not the first bytes of a node")]
    Magic,
    /// The checksum is wrong, or a field has a value that it cannot have.
    #[error("damaged")]
    Damaged,
}

impl Hello {
    /// The bytes to send.
    #[must_use]
    pub fn encode(&self) -> [u8; HELLO_BYTES] {
        let mut bytes = [0; HELLO_BYTES];
        bytes[12] = self.purpose as u8;
        bytes[16..32].copy_from_slice(&self.cluster.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.from.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.to.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.incarnation.to_le_bytes());
        bytes[56..72].copy_from_slice(&self.directory.to_le_bytes());
        close(&mut bytes, self.versions);
        bytes
    }

    /// Reads what a dialler says.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`] when it is none.
    ///
    /// ```
    /// use fsmdb_node::transport::{Hello, Purpose, VERSIONS};
    ///
    /// let (versions, purpose) = (VERSIONS, Purpose::Messages);
    /// let (incarnation, directory) = (3, 0x5a);
    /// let hello = Hello { versions, purpose, cluster: 7, from: 1, to: 2, incarnation, directory };
    /// assert_eq!(Hello::decode(&hello.encode()), Ok(hello));
    /// assert!(Hello::decode(&[0; 80]).is_err());
    /// ```
    pub fn decode(bytes: &[u8; HELLO_BYTES]) -> Result<Self, HandshakeError> {
        let versions = open(bytes)?;
        let purpose = match bytes[12..16] {
            [1, 0, 0, 0] => Purpose::Messages,
            [2, 0, 0, 0] => Purpose::Requests,
            [3, 0, 0, 0] => Purpose::Snapshot,
            _ => return Err(HandshakeError::Damaged),
        };
        Ok(Self {
            versions,
            purpose,
            cluster: u128::from_le_bytes(part(bytes, 16)),
            from: u64::from_le_bytes(part(bytes, 32)),
            to: u64::from_le_bytes(part(bytes, 40)),
            incarnation: u64::from_le_bytes(part(bytes, 48)),
            directory: u128::from_le_bytes(part(bytes, 56)),
        })
    }
}

impl Welcome {
    /// The bytes to send.
    #[must_use]
    pub fn encode(&self) -> [u8; WELCOME_BYTES] {
        let mut bytes = [0; WELCOME_BYTES];
        bytes[12] = match self.refusal {
            None => 0,
            Some(Refusal::Cluster) => 1,
            Some(Refusal::Receiver) => 2,
            Some(Refusal::Sender) => 3,
            Some(Refusal::Version { .. }) => 4,
            Some(Refusal::Certificate) => 5,
            Some(Refusal::Superseded) => 6,
            Some(Refusal::Directory) => 7,
        };
        bytes[16..24].copy_from_slice(&self.incarnation.to_le_bytes());
        bytes[24..40].copy_from_slice(&self.directory.to_le_bytes());
        close(&mut bytes, self.versions);
        bytes
    }

    /// Reads what the other side answers a dialler that speaks the versions `ours`.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`] when it is no answer.
    pub fn decode(bytes: &[u8; WELCOME_BYTES], ours: Versions) -> Result<Self, HandshakeError> {
        let versions = open(bytes)?;
        let refusal = match bytes[12..16] {
            [0, 0, 0, 0] => None,
            [1, 0, 0, 0] => Some(Refusal::Cluster),
            [2, 0, 0, 0] => Some(Refusal::Receiver),
            [3, 0, 0, 0] => Some(Refusal::Sender),
            [4, 0, 0, 0] => Some(Refusal::Version { theirs: versions, ours }),
            [5, 0, 0, 0] => Some(Refusal::Certificate),
            [6, 0, 0, 0] => Some(Refusal::Superseded),
            [7, 0, 0, 0] => Some(Refusal::Directory),
            _ => return Err(HandshakeError::Damaged),
        };
        let incarnation = u64::from_le_bytes(part(bytes, 16));
        let directory = u128::from_le_bytes(part(bytes, 24));
        Ok(Self { versions, incarnation, directory, refusal })
    }
}

fn part<const N: usize>(bytes: &[u8], from: usize) -> [u8; N] {
    let mut part = [0; N];
    part.copy_from_slice(&bytes[from..from + N]);
    part
}

/// Writes what both have in the same places: magic and highest version in front, the lowest version
/// and a checksum at the end.
fn close(bytes: &mut [u8], versions: Versions) {
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&versions.highest.to_le_bytes());
    let (content, sum) = bytes.split_at_mut(bytes.len() - 4);
    let end = content.len();
    content[end - 4..].copy_from_slice(&versions.lowest.to_le_bytes());
    sum.copy_from_slice(&crc32c::crc32c(content).to_le_bytes());
}

fn open(bytes: &[u8]) -> Result<Versions, HandshakeError> {
    if bytes[..8] != MAGIC {
        return Err(HandshakeError::Magic);
    }
    let (content, sum) = bytes.split_at(bytes.len() - 4);
    if crc32c::crc32c(content).to_le_bytes() != *sum {
        return Err(HandshakeError::Damaged);
    }
    let highest = u32::from_le_bytes(part(bytes, 8));
    let lowest = u32::from_le_bytes(part(bytes, content.len() - 4));
    if lowest <= highest { Ok(Versions { lowest, highest }) } else { Err(HandshakeError::Damaged) }
}
