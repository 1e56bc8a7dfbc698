//! The first bytes of a connection, in both directions: who dials whom, in which cluster, for what.
//!
//! Both have a fixed length, so that a stranger makes nobody allocate. Magic and version stand in
//! front, where every version of the protocol looks for them.
//!
//! # Invariants
//!
//! 1. `decode(encode(x)) == x`, and no input makes a function of this file panic.
//! 2. A node that is not whom the dialler meant says why it refuses, and nothing else.

/// What both begin with.
const MAGIC: [u8; 8] = *b"fsmdbpee";

/// Length of a [`Hello`].
pub const HELLO_BYTES: usize = 60;

/// Length of a [`Welcome`].
pub const WELCOME_BYTES: usize = 28;

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
    /// The version of the protocol it speaks.
    pub version: u32,
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
    /// It speaks another version of the protocol.
    #[error("it speaks version {theirs} of the protocol")]
    Version {
        /// Which it speaks.
        theirs: u32,
    },
    /// The dialler's certificate is not that of the node it says it is.
    #[error("the certificate of this node is another node's")]
    Certificate,
    /// A later start of the dialler was here already.
    #[error("a later start of this node was there already")]
    Superseded,
}

/// What the other side answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The version of the protocol it speaks.
    pub version: u32,
    /// Which start of it this is.
    pub incarnation: u64,
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
    /// A node of another version; what stands behind cannot be read.
    #[error("a node of version {theirs} of the protocol")]
    Version {
        /// Which it speaks.
        theirs: u32,
    },
    /// The checksum is wrong, or a field has a value that it cannot have.
    #[error("damaged")]
    Damaged,
}

impl Hello {
    /// The bytes to send.
    #[must_use]
    pub fn encode(&self) -> [u8; HELLO_BYTES] {
        let mut bytes = [0; HELLO_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.version.to_le_bytes());
        bytes[12] = self.purpose as u8;
        bytes[16..32].copy_from_slice(&self.cluster.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.from.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.to.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.incarnation.to_le_bytes());
        close(&mut bytes);
        bytes
    }

    /// Reads what a dialler of protocol version `version` says.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`] when it is none.
    ///
    /// ```
    /// use fsmdb_node::transport::{Hello, Purpose};
    ///
    /// let purpose = Purpose::Messages;
    /// let hello = Hello { version: 1, purpose, cluster: 7, from: 1, to: 2, incarnation: 3 };
    /// assert_eq!(Hello::decode(&hello.encode(), 1), Ok(hello));
    /// assert!(Hello::decode(&hello.encode(), 2).is_err());
    /// ```
    pub fn decode(bytes: &[u8; HELLO_BYTES], version: u32) -> Result<Self, HandshakeError> {
        open(bytes, version)?;
        let purpose = match bytes[12..16] {
            [1, 0, 0, 0] => Purpose::Messages,
            [2, 0, 0, 0] => Purpose::Requests,
            [3, 0, 0, 0] => Purpose::Snapshot,
            _ => return Err(HandshakeError::Damaged),
        };
        Ok(Self {
            version,
            purpose,
            cluster: u128::from_le_bytes(part(bytes, 16)),
            from: u64::from_le_bytes(part(bytes, 32)),
            to: u64::from_le_bytes(part(bytes, 40)),
            incarnation: u64::from_le_bytes(part(bytes, 48)),
        })
    }
}

impl Welcome {
    /// The bytes to send.
    #[must_use]
    pub fn encode(&self) -> [u8; WELCOME_BYTES] {
        let mut bytes = [0; WELCOME_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.version.to_le_bytes());
        bytes[12] = match self.refusal {
            None => 0,
            Some(Refusal::Cluster) => 1,
            Some(Refusal::Receiver) => 2,
            Some(Refusal::Sender) => 3,
            Some(Refusal::Version { .. }) => 4,
            Some(Refusal::Certificate) => 5,
            Some(Refusal::Superseded) => 6,
        };
        bytes[16..24].copy_from_slice(&self.incarnation.to_le_bytes());
        close(&mut bytes);
        bytes
    }

    /// Reads what the other side answers a dialler of protocol version `version`.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`] when it is no answer.
    pub fn decode(bytes: &[u8; WELCOME_BYTES], version: u32) -> Result<Self, HandshakeError> {
        open(bytes, version)?;
        let refusal = match bytes[12..16] {
            [0, 0, 0, 0] => None,
            [1, 0, 0, 0] => Some(Refusal::Cluster),
            [2, 0, 0, 0] => Some(Refusal::Receiver),
            [3, 0, 0, 0] => Some(Refusal::Sender),
            [4, 0, 0, 0] => Some(Refusal::Version { theirs: version }),
            [5, 0, 0, 0] => Some(Refusal::Certificate),
            [6, 0, 0, 0] => Some(Refusal::Superseded),
            _ => return Err(HandshakeError::Damaged),
        };
        Ok(Self { version, incarnation: u64::from_le_bytes(part(bytes, 16)), refusal })
    }
}

fn part<const N: usize>(bytes: &[u8], from: usize) -> [u8; N] {
    let mut part = [0; N];
    part.copy_from_slice(&bytes[from..from + N]);
    part
}

fn close(bytes: &mut [u8]) {
    let (content, sum) = bytes.split_at_mut(bytes.len() - 4);
    sum.copy_from_slice(&crc32c::crc32c(content).to_le_bytes());
}

fn open(bytes: &[u8], version: u32) -> Result<(), HandshakeError> {
    if bytes[..8] != MAGIC {
        return Err(HandshakeError::Magic);
    }
    let theirs = u32::from_le_bytes(part(bytes, 8));
    if theirs != version {
        return Err(HandshakeError::Version { theirs });
    }
    let (content, sum) = bytes.split_at(bytes.len() - 4);
    let is_right = crc32c::crc32c(content).to_le_bytes() == *sum;
    if is_right { Ok(()) } else { Err(HandshakeError::Damaged) }
}
