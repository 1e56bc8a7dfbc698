//! Frames: what stands on a connection after its handshake, read and written without I/O.
//!
//! A frame is its length (4 bytes, little-endian, of the payload), its kind, three zero bytes, a
//! CRC32C of those eight bytes and the payload, and the payload.
//!
//! # Invariants
//!
//! 1. `decode(encode(x)) == x`, and no input makes a function of this file panic.
//! 2. A length is held against the bound of its kind before anything is made of it, and nothing of
//!    a payload is looked at before its checksum was.

use fsmdb::raft::Message;

use crate::limits::{
    MESSAGE_BYTES_MAX, REQUEST_BYTES_MAX, SNAPSHOT_CHUNK_BYTES, SNAPSHOT_MESSAGE_BYTES_MAX,
};

/// Bytes of a frame before its payload.
pub const HEAD_BYTES: usize = 12;

/// Bytes before each message in a frame of messages: its length.
const MESSAGE_HEAD_BYTES: usize = 4;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A sign of life, which both sides give all the time.
    KeepAlive = 1,
    /// Messages of Raft, each behind its length.
    Messages = 2,
    /// A request: its number and its body.
    Request = 3,
    /// An answer: the request's number, what became of it, and a body.
    Answer = 4,
    /// A snapshot is offered: the size of its file, its hash, and its message.
    SnapshotOffer = 5,
    /// So many bytes of it are here already.
    SnapshotHave = 6,
    /// A piece of the file: its offset and its bytes.
    SnapshotChunk = 7,
    /// What became of the snapshot.
    SnapshotResult = 8,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::KeepAlive,
            2 => Self::Messages,
            3 => Self::Request,
            4 => Self::Answer,
            5 => Self::SnapshotOffer,
            6 => Self::SnapshotHave,
            7 => Self::SnapshotChunk,
            8 => Self::SnapshotResult,
            _ => return None,
        })
    }

    /// The longest payload of this kind.
    #[must_use]
    pub fn payload_bytes_max(self) -> usize {
        match self {
            Self::KeepAlive => 0,
            Self::Messages => MESSAGE_HEAD_BYTES + MESSAGE_BYTES_MAX,
            Self::Request => 8 + REQUEST_BYTES_MAX,
            Self::Answer => 9 + REQUEST_BYTES_MAX,
            Self::SnapshotOffer => 40 + SNAPSHOT_MESSAGE_BYTES_MAX,
            Self::SnapshotHave => 8,
            Self::SnapshotChunk => 8 + SNAPSHOT_CHUNK_BYTES,
            Self::SnapshotResult => 1,
        }
    }
}

/// Why bytes are not a frame, or a frame not what it says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// No frame begins like this.
    #[error("frame of the unknown kind {kind}")]
    Kind {
        /// The byte that stands for its kind.
        kind: u8,
    },
    /// The frame says that it is longer than one of its kind can be.
    #[error("frame of {length} bytes, of which {most} are allowed")]
    TooLong {
        /// What it says.
        length: usize,
        /// What is allowed.
        most: usize,
    },
    /// The checksum is not that of the bytes.
    #[error("frame of {length} bytes with a wrong checksum")]
    Checksum {
        /// The length of its payload.
        length: usize,
    },
    /// The payload ends too early, or too late.
    #[error("payload of {length} bytes is not {what}")]
    Payload {
        /// What it should be.
        what: &'static str,
        /// Its length.
        length: usize,
    },
    /// A message cannot be read.
    #[error("message of {length} bytes cannot be read: {reason}")]
    Message {
        /// Its length.
        length: usize,
        /// The parser's words.
        reason: String,
    },
}

/// A frame whose checksum is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is.
    pub kind: Kind,
    /// Its content.
    pub payload: &'a [u8],
}

/// What the beginning of some bytes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// The beginning of a frame that has so many bytes in all, as far as can be seen.
    Part(usize),
    /// A frame, and the bytes it stands in.
    Whole(Frame<'a>, usize),
}

/// Reads the frame that `bytes` begin with. O(its length).
///
/// # Errors
///
/// [`FrameError`] when no frame begins like this, as soon as that can be seen.
///
/// ```
/// use fsmdb_node::transport::frame::{Decoded, Frame, Kind, decode, encode};
///
/// let mut bytes = Vec::new();
/// encode(Kind::SnapshotResult, &[&[0]], &mut bytes);
/// let frame = Frame { kind: Kind::SnapshotResult, payload: &[0] };
/// assert_eq!(decode(&bytes), Ok(Decoded::Whole(frame, bytes.len())));
/// assert_eq!(decode(&bytes[..12]), Ok(Decoded::Part(13)));
/// bytes[12] ^= 1;
/// assert!(decode(&bytes).is_err());
/// ```
pub fn decode(bytes: &[u8]) -> Result<Decoded<'_>, FrameError> {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
        return Ok(Decoded::Part(HEAD_BYTES));
    };
    let [a, b, c, d, byte, zeros @ .., e, f, g, h] = *head;
    let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    let kind = Kind::from_byte(byte).filter(|_| zeros == [0; 3]);
    let kind = kind.ok_or(FrameError::Kind { kind: byte })?;
    let most = kind.payload_bytes_max();
    if length > most {
        return Err(FrameError::TooLong { length, most });
    }
    let Some(payload) = rest.get(..length) else {
        return Ok(Decoded::Part(HEAD_BYTES + length));
    };
    if checksum(&head[..8], payload) != u32::from_le_bytes([e, f, g, h]) {
        return Err(FrameError::Checksum { length });
    }
    Ok(Decoded::Whole(Frame { kind, payload }, HEAD_BYTES + length))
}

/// Appends a frame whose payload is `parts`, one after the other. O(its length).
///
/// # Panics
///
/// When the payload is longer than one of this kind can be.
pub fn encode(kind: Kind, parts: &[&[u8]], into: &mut Vec<u8>) {
    let start = begin(kind, into);
    for part in parts {
        into.extend_from_slice(part);
    }
    seal(start, into);
}

/// Appends the head of a frame whose payload is appended next.
pub(super) fn begin(kind: Kind, into: &mut Vec<u8>) -> usize {
    let start = into.len();
    into.extend_from_slice(&[0, 0, 0, 0, kind as u8, 0, 0, 0, 0, 0, 0, 0]);
    start
}

/// Ends the frame that began at `start`.
pub(super) fn seal(start: usize, bytes: &mut [u8]) {
    let (head, payload) = bytes[start..].split_at_mut(HEAD_BYTES);
    let most = Kind::from_byte(head[4]).map_or(0, Kind::payload_bytes_max);
    assert!(payload.len() <= most, "a payload of {} bytes, at most {most}", payload.len());
    let length = u32::try_from(payload.len()).expect("the bounds of payloads are below 4 GiB");
    head[..4].copy_from_slice(&length.to_le_bytes());
    let sum = checksum(&head[..8], payload);
    head[8..].copy_from_slice(&sum.to_le_bytes());
}

fn checksum(head: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(head), payload)
}

/// Whether a message of so many bytes still fits behind a payload of so many.
pub(super) fn has_room(payload: usize, message: usize) -> bool {
    payload + MESSAGE_HEAD_BYTES + message <= Kind::Messages.payload_bytes_max()
}

/// Appends an encoded message to the payload of a frame of messages.
pub(super) fn push_message(message: &[u8], into: &mut Vec<u8>) {
    let length = u32::try_from(message.len()).expect("a message is below 4 GiB");
    into.extend_from_slice(&length.to_le_bytes());
    into.extend_from_slice(message);
}

/// The messages of the payload of a frame of [`Kind::Messages`]. O(its length).
///
/// # Errors
///
/// [`FrameError`] at the first that cannot be read; then none of them counts.
///
/// ```
/// use fsmdb_node::transport::frame::messages;
///
/// assert_eq!(messages(&[]), Ok(Vec::new()));
/// assert!(messages(&[9, 0, 0, 0, 1]).is_err());
/// ```
pub fn messages(mut payload: &[u8]) -> Result<Vec<Message>, FrameError> {
    let mut messages = Vec::new();
    while !payload.is_empty() {
        let cut = FrameError::Payload { what: "a run of messages", length: payload.len() };
        let split = payload.split_first_chunk::<MESSAGE_HEAD_BYTES>();
        let (head, rest) = split.ok_or_else(|| cut.clone())?;
        let length = usize::try_from(u32::from_le_bytes(*head)).unwrap_or(usize::MAX);
        let (bytes, rest) = rest.split_at_checked(length).ok_or_else(|| cut.clone())?;
        // No message is empty, and a frame of nothing else would be many times its length here.
        if bytes.is_empty() {
            return Err(cut);
        }
        messages.push(message(bytes)?);
        payload = rest;
    }
    Ok(messages)
}

/// Reads one message that a peer sent. O(its length).
///
/// # Errors
///
/// [`FrameError::TooLong`] beyond [`MESSAGE_BYTES_MAX`]; [`FrameError::Message`] when the bytes
/// are not a message, as [`Message::decode`] says.
///
/// ```
/// use fsmdb_node::transport::frame::message;
///
/// assert!(message(&[0x0b; 100_000]).is_err()); // groups within groups
/// ```
pub fn message(bytes: &[u8]) -> Result<Message, FrameError> {
    let length = bytes.len();
    if length > MESSAGE_BYTES_MAX {
        return Err(FrameError::TooLong { length, most: MESSAGE_BYTES_MAX });
    }
    Message::decode(bytes)
        .map_err(|error| FrameError::Message { length, reason: error.to_string() })
}

/// The number that a payload begins with, and the rest.
pub(super) fn number<'a>(
    payload: &'a [u8],
    what: &'static str,
) -> Result<(u64, &'a [u8]), FrameError> {
    let split = payload.split_first_chunk::<8>();
    let (number, rest) = split.ok_or(FrameError::Payload { what, length: payload.len() })?;
    Ok((u64::from_le_bytes(*number), rest))
}
