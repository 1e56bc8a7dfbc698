//! Frames: the length, kind, checksum and payload that everything in a snapshot file stands in.

use std::io::{self, Read, Write};

use super::error::SnapshotError;
use super::format::{FORMAT_VERSION, MAGIC, kind};
use crate::limits::{FRAME_BYTES_MAX, FRAME_BYTES_TARGET, HEADER_BYTES_MAX, KEY_BYTES_MAX};

/// Length, kind and checksum.
pub(super) const FRAME_HEADER_BYTES: usize = 9;

/// A frame is closed before it is larger than its target, and has one tombstone at least.
const TOMBSTONE_FRAME_BYTES_MAX: usize = FRAME_BYTES_TARGET + KEY_BYTES_MAX + 1024;

/// How much is allocated for a payload before any of it was read.
const PAYLOAD_BYTES_FIRST: usize = 64 * 1024;

/// The checksum of a frame, chained to that of the frame before it.
fn checksum(previous: u32, length: u32, kind: u8, payload: &[u8]) -> u32 {
    let mut sum = crc32c::crc32c(&previous.to_le_bytes());
    sum = crc32c::crc32c_append(sum, &length.to_le_bytes());
    sum = crc32c::crc32c_append(sum, &[kind]);
    crc32c::crc32c_append(sum, payload)
}

fn prelude() -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes
}

/// Writes the prelude and then frames.
pub(super) struct FrameWriter<W> {
    target: W,
    offset: u64,
    previous: u32,
}

impl<W: Write> FrameWriter<W> {
    pub(super) fn new(target: W) -> Result<Self, SnapshotError> {
        let prelude = prelude();
        let mut writer = Self { target, offset: 0, previous: crc32c::crc32c(&prelude) };
        writer.write_all(&prelude)?;
        Ok(writer)
    }

    /// How many bytes were written.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn frame(&mut self, kind: u8, payload: &[u8]) -> Result<(), SnapshotError> {
        debug_assert!(payload.len() <= FRAME_BYTES_MAX, "the writer keeps to the reader's limit");
        let length = u32::try_from(payload.len()).expect("a frame is below its limit of 2^32");
        self.previous = checksum(self.previous, length, kind, payload);
        let mut head = [0; FRAME_HEADER_BYTES];
        head[..4].copy_from_slice(&length.to_le_bytes());
        head[4] = kind;
        head[5..].copy_from_slice(&self.previous.to_le_bytes());
        self.write_all(&head)?;
        self.write_all(payload)
    }

    pub(super) fn finish(mut self) -> Result<u64, SnapshotError> {
        let offset = self.offset;
        self.target.flush().map_err(|source| SnapshotError::Io { offset, source })?;
        Ok(offset)
    }

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        let offset = self.offset;
        self.target.write_all(bytes).map_err(|source| SnapshotError::Io { offset, source })?;
        self.offset += bytes.len() as u64;
        Ok(())
    }
}

/// Reads the prelude and then frames, each verified before it is given out.
pub(super) struct FrameReader<R> {
    source: R,
    offset: u64,
    previous: u32,
    payload: Vec<u8>,
}

/// A verified frame; its payload is in the reader until the next one is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    /// Where the frame begins in the file.
    pub(super) offset: u64,
}

impl<R: Read> FrameReader<R> {
    pub(super) fn new(source: R) -> Result<Self, SnapshotError> {
        let mut reader =
            Self { source, offset: 0, previous: crc32c::crc32c(&prelude()), payload: Vec::new() };
        let mut found = [0; 12];
        reader.read_exact(&mut found)?;
        let (magic, version) = found.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(SnapshotError::NotASnapshot);
        }
        let found = u32::from_le_bytes(version.try_into().expect("four bytes"));
        if found != FORMAT_VERSION {
            return Err(SnapshotError::FormatVersion { found, supported: FORMAT_VERSION });
        }
        Ok(reader)
    }

    /// How many bytes were read.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The payload of the last frame.
    pub(super) fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Where the payload of the last frame begins in the file.
    pub(super) fn payload_offset(&self) -> u64 {
        self.offset - self.payload.len() as u64
    }

    /// Reads and verifies the next frame.
    pub(super) fn next(&mut self) -> Result<Frame, SnapshotError> {
        let offset = self.offset;
        let mut head = [0; FRAME_HEADER_BYTES];
        self.read_exact(&mut head)?;
        let length = u32::from_le_bytes(head[..4].try_into().expect("four bytes"));
        let frame_kind = head[4];
        let expected = u32::from_le_bytes(head[5..].try_into().expect("four bytes"));
        let limit = match frame_kind {
            kind::ROWS => FRAME_BYTES_MAX,
            kind::TOMBSTONES => TOMBSTONE_FRAME_BYTES_MAX,
            _ => HEADER_BYTES_MAX,
        } as u64;
        if u64::from(length) > limit {
            return Err(SnapshotError::FrameTooLarge { offset, bytes: length.into(), limit });
        }
        self.read_payload(length)?;
        let sum = checksum(self.previous, length, frame_kind, &self.payload);
        if sum != expected {
            return Err(SnapshotError::Checksum { offset });
        }
        self.previous = sum;
        Ok(Frame { kind: frame_kind, offset })
    }

    /// Refuses bytes after the last frame.
    pub(super) fn finish(mut self) -> Result<u64, SnapshotError> {
        let offset = self.offset;
        match self.read_exact(&mut [0]) {
            Err(SnapshotError::Truncated { .. }) => Ok(offset),
            Ok(()) => Err(SnapshotError::Trailing { offset }),
            Err(error) => Err(error),
        }
    }

    /// Reads `length` bytes, letting memory follow the bytes that are really there.
    fn read_payload(&mut self, length: u32) -> Result<(), SnapshotError> {
        let offset = self.offset;
        self.payload.clear();
        self.payload.reserve(PAYLOAD_BYTES_FIRST.min(length as usize));
        let read = (&mut self.source)
            .take(length.into())
            .read_to_end(&mut self.payload)
            .map_err(|source| SnapshotError::Io { offset, source })?;
        self.offset += read as u64;
        if read < length as usize {
            return Err(SnapshotError::Truncated { offset: self.offset });
        }
        Ok(())
    }

    fn read_exact(&mut self, bytes: &mut [u8]) -> Result<(), SnapshotError> {
        let offset = self.offset;
        self.source.read_exact(bytes).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => SnapshotError::Truncated { offset },
            _ => SnapshotError::Io { offset, source },
        })?;
        self.offset += bytes.len() as u64;
        Ok(())
    }
}
