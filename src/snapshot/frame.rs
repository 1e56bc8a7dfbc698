//! Frames, and the chunks that they are cut into: the length, kind, checksum and payload that
//! everything in a snapshot file stands in.

use std::io::{self, Read, Write};

use super::codec::{self, Cipher, SEAL_BYTES};
use super::error::SnapshotError;
use super::format::{FORMAT_VERSION, FORMAT_VERSION_OLDEST, FileHash, MAGIC, flag, kind};
use crate::limits::{
    CHUNK_BYTES_MAX, END_BYTES_MAX, FRAME_BYTES_MAX, FRAME_BYTES_TARGET, HEADER_BYTES_MAX,
    KEY_BYTES_MAX,
};

/// Length, kind and checksum.
pub(super) const CHUNK_HEAD_BYTES: usize = 9;

/// A frame of keys is closed before it is larger than its target, and has one at least.
const KEY_FRAME_BYTES_MAX: usize = FRAME_BYTES_TARGET + KEY_BYTES_MAX + 1024;

/// How much is allocated for a payload before any of it was read.
const PAYLOAD_BYTES_FIRST: usize = 64 * 1024;

/// The checksum of a chunk, chained to that of the chunk before it.
fn checksum(previous: u32, length: u32, kind: u8, payload: &[u8]) -> u32 {
    let mut sum = crc32c::crc32c(&previous.to_le_bytes());
    sum = crc32c::crc32c_append(sum, &length.to_le_bytes());
    sum = crc32c::crc32c_append(sum, &[kind]);
    crc32c::crc32c_append(sum, payload)
}

fn prelude(version: u32) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..].copy_from_slice(&version.to_le_bytes());
    bytes
}

/// A piece of a frame, compressed if it is to be, not yet encrypted.
#[derive(Debug)]
pub(super) struct Chunk {
    /// The kind of its frame, with flags.
    kind: u8,
    payload: Vec<u8>,
}

/// Cuts a frame into its chunks, and compresses them at a level if there is one.
pub(super) fn chunks_of(frame_kind: u8, payload: Vec<u8>, level: Option<i32>) -> Vec<Chunk> {
    let mut chunks = Vec::with_capacity(1);
    if level.is_none() && payload.len() <= CHUNK_BYTES_MAX {
        chunks.push(Chunk { kind: frame_kind, payload });
        return chunks;
    }
    let mut rest = payload.as_slice();
    loop {
        let (raw, after) = rest.split_at(rest.len().min(CHUNK_BYTES_MAX));
        let more = if after.is_empty() { 0 } else { flag::MORE };
        let compressed = level.and_then(|level| codec::compress(raw, level));
        chunks.push(match compressed {
            Some(payload) => Chunk { kind: frame_kind | more | flag::COMPRESSED, payload },
            None => Chunk { kind: frame_kind | more, payload: raw.to_vec() },
        });
        rest = after;
        if rest.is_empty() {
            return chunks;
        }
    }
}

/// Writes the prelude and then chunks.
pub(super) struct FrameWriter<W> {
    target: W,
    offset: u64,
    previous: u32,
    hash: blake3::Hasher,
    cipher: Option<Cipher>,
    /// Chunks that were encrypted.
    sealed: u64,
}

impl<W: Write> FrameWriter<W> {
    pub(super) fn new(target: W) -> Result<Self, SnapshotError> {
        Self::of_version(target, FORMAT_VERSION)
    }

    /// A writer of a file that says that it is of this version.
    pub(super) fn of_version(target: W, version: u32) -> Result<Self, SnapshotError> {
        let prelude = prelude(version);
        let (hash, previous) = (blake3::Hasher::new(), crc32c::crc32c(&prelude));
        let mut writer = Self { target, offset: 0, previous, hash, cipher: None, sealed: 0 };
        writer.write_all(&prelude)?;
        Ok(writer)
    }

    /// How many bytes were written.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The hash of all that was written.
    pub(super) fn hash(&self) -> FileHash {
        FileHash(self.hash.finalize().into())
    }

    /// Encrypts all chunks from here on.
    pub(super) fn encrypt(&mut self, cipher: Cipher) {
        self.cipher = Some(cipher);
    }

    /// Writes a frame that is neither compressed nor handed over in chunks.
    pub(super) fn frame(&mut self, kind: u8, payload: Vec<u8>) -> Result<(), SnapshotError> {
        chunks_of(kind, payload, None).into_iter().try_for_each(|chunk| self.chunk(chunk))
    }

    pub(super) fn chunk(&mut self, chunk: Chunk) -> Result<(), SnapshotError> {
        let Chunk { kind: chunk_kind, payload } = chunk;
        let stored = match &self.cipher {
            Some(cipher) => {
                self.sealed += 1;
                cipher.seal(self.sealed, chunk_kind, &payload)
            }
            None => payload,
        };
        let length = u32::try_from(stored.len()).expect("a chunk is below its limit of 2^32");
        self.previous = checksum(self.previous, length, chunk_kind, &stored);
        let mut head = [0; CHUNK_HEAD_BYTES];
        head[..4].copy_from_slice(&length.to_le_bytes());
        head[4] = chunk_kind;
        head[5..].copy_from_slice(&self.previous.to_le_bytes());
        self.write_all(&head)?;
        self.write_all(&stored)
    }

    pub(super) fn finish(mut self) -> Result<u64, SnapshotError> {
        let offset = self.offset;
        self.target.flush().map_err(|source| SnapshotError::Io { offset, source })?;
        Ok(offset)
    }

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        let offset = self.offset;
        self.target.write_all(bytes).map_err(|source| SnapshotError::Io { offset, source })?;
        self.hash.update(bytes);
        self.offset += bytes.len() as u64;
        Ok(())
    }
}

/// Reads the prelude and then frames, each verified before it is given out.
pub(super) struct FrameReader<R> {
    source: R,
    version: u32,
    offset: u64,
    previous: u32,
    /// Of all bytes before the end frame.
    hash: blake3::Hasher,
    cipher: Option<Cipher>,
    /// Chunks that were opened.
    opened: u64,
    /// Whether the header says that chunks may be compressed.
    is_compressed: bool,
}

/// A verified frame.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    /// Where the frame begins in the file.
    pub(super) offset: u64,
    pub(super) payload: Vec<u8>,
    /// Whether its payload stands in the file as it is.
    is_plain: bool,
    /// Whether that is in several chunks.
    is_cut: bool,
}

impl Frame {
    /// A frame that is in no file.
    pub(super) fn detached(kind: u8, payload: Vec<u8>) -> Self {
        Self { kind, offset: 0, payload, is_plain: false, is_cut: false }
    }

    /// Where in the file a byte of the payload stands; that is the beginning of the frame when it
    /// does not stand there as it is.
    pub(super) fn place_of(&self, position: usize) -> u64 {
        if !self.is_plain {
            return self.offset;
        }
        let heads = if self.is_cut { 1 + position / CHUNK_BYTES_MAX } else { 1 };
        self.offset + (heads * CHUNK_HEAD_BYTES + position) as u64
    }
}

/// What stands before the payload of a chunk.
struct Head {
    offset: u64,
    length: u32,
    kind: u8,
    checksum: u32,
}

impl Head {
    fn frame_kind(&self) -> u8 {
        self.kind & !(flag::MORE | flag::COMPRESSED)
    }

    fn goes_on(&self) -> bool {
        self.kind & flag::MORE != 0
    }

    fn is_compressed(&self) -> bool {
        self.kind & flag::COMPRESSED != 0
    }
}

pub(super) fn malformed(offset: u64, message: &str) -> SnapshotError {
    SnapshotError::Malformed { offset, message: message.to_owned() }
}

impl<R: Read> FrameReader<R> {
    pub(super) fn new(source: R) -> Result<Self, SnapshotError> {
        let (hash, cipher) = (blake3::Hasher::new(), None);
        let (offset, opened, is_compressed) = (0, 0, false);
        let mut reader =
            Self { source, version: 0, offset, previous: 0, hash, cipher, opened, is_compressed };
        let mut found = [0; 12];
        reader.read_exact(&mut found)?;
        let (magic, version) = found.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(SnapshotError::NotASnapshot);
        }
        reader.version = u32::from_le_bytes(version.try_into().expect("four bytes"));
        if !(FORMAT_VERSION_OLDEST..=FORMAT_VERSION).contains(&reader.version) {
            let (found, supported) = (reader.version, FORMAT_VERSION);
            return Err(SnapshotError::FormatVersion { found, supported });
        }
        reader.previous = crc32c::crc32c(&found);
        reader.hash.update(&found);
        Ok(reader)
    }

    /// The version of the file's format.
    pub(super) fn version(&self) -> u32 {
        self.version
    }

    /// How many bytes were read.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The hash of all bytes so far, those of the end frame left out.
    pub(super) fn hash(&self) -> FileHash {
        FileHash(self.hash.finalize().into())
    }

    /// Expects compressed chunks from here on.
    pub(super) fn decompress(&mut self) {
        self.is_compressed = true;
    }

    /// Opens all chunks from here on.
    pub(super) fn decrypt(&mut self, cipher: Cipher) {
        self.cipher = Some(cipher);
    }

    /// Reads and verifies the next frame.
    pub(super) fn next(&mut self) -> Result<Frame, SnapshotError> {
        let mut head = self.head()?;
        let (offset, kind, is_cut) = (head.offset, head.frame_kind(), head.goes_on());
        let limit = self.limit_of(kind);
        let (mut payload, mut is_plain) = (Vec::new(), self.cipher.is_none());
        loop {
            let stored = self.stored(&head)?;
            let raw = self.opened(&head, stored)?;
            is_plain &= !head.is_compressed();
            if head.goes_on() && raw.len() != CHUNK_BYTES_MAX {
                return Err(malformed(head.offset, "it goes on in another and is not full"));
            }
            if payload.is_empty() {
                payload = raw;
            } else {
                // It grows by doubling, but not beyond what it may have.
                let room = payload.len().min(limit.saturating_sub(payload.len())).max(raw.len());
                if payload.capacity() - payload.len() < raw.len() {
                    payload.reserve_exact(room);
                }
                payload.extend_from_slice(&raw);
            }
            if payload.len() > limit {
                let (bytes, limit) = (payload.len() as u64, limit as u64);
                return Err(SnapshotError::FrameTooLarge { offset, bytes, limit });
            }
            if !head.goes_on() {
                return Ok(Frame { kind, offset, payload, is_plain, is_cut });
            }
            head = self.head()?;
            if head.frame_kind() != kind {
                return Err(malformed(head.offset, "another kind of frame goes on in it"));
            }
        }
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

    /// The most bytes that the payload of a frame may have.
    fn limit_of(&self, frame_kind: u8) -> usize {
        match frame_kind {
            kind::ROWS | kind::SECTION => FRAME_BYTES_MAX,
            kind::TOMBSTONES | kind::DELETES => KEY_FRAME_BYTES_MAX,
            kind::TABLE_END | kind::END => END_BYTES_MAX,
            _ => HEADER_BYTES_MAX,
        }
    }

    /// The most bytes that a chunk of a frame may have as it is stored.
    fn chunk_limit_of(&self, frame_kind: u8) -> usize {
        match self.version {
            1 => self.limit_of(frame_kind),
            _ => self.limit_of(frame_kind).min(CHUNK_BYTES_MAX) + SEAL_BYTES,
        }
    }

    fn head(&mut self) -> Result<Head, SnapshotError> {
        let offset = self.offset;
        let mut bytes = [0; CHUNK_HEAD_BYTES];
        self.read_exact(&mut bytes)?;
        let length = u32::from_le_bytes(bytes[..4].try_into().expect("four bytes"));
        let checksum = u32::from_le_bytes(bytes[5..].try_into().expect("four bytes"));
        let head = Head { offset, length, kind: bytes[4], checksum };
        let limit = self.chunk_limit_of(head.frame_kind()) as u64;
        if u64::from(length) > limit {
            return Err(SnapshotError::FrameTooLarge { offset, bytes: length.into(), limit });
        }
        if self.version == 1 && head.kind != head.frame_kind() {
            return Err(malformed(offset, "its kind is unknown in format 1"));
        }
        if head.frame_kind() == kind::END && head.kind != kind::END {
            return Err(malformed(offset, "an end frame is one chunk as it stands"));
        }
        if head.kind != kind::END {
            self.hash.update(&bytes);
        }
        Ok(head)
    }

    /// The payload of a chunk as it is stored, verified; memory follows the bytes that are really
    /// there.
    fn stored(&mut self, head: &Head) -> Result<Vec<u8>, SnapshotError> {
        let offset = self.offset;
        let length = head.length as usize;
        let mut stored = Vec::with_capacity(length.min(PAYLOAD_BYTES_FIRST));
        let read = (&mut self.source)
            .take(head.length.into())
            .read_to_end(&mut stored)
            .map_err(|source| SnapshotError::Io { offset, source })?;
        self.offset += read as u64;
        if read < length {
            return Err(SnapshotError::Truncated { offset: self.offset });
        }
        let sum = checksum(self.previous, head.length, head.kind, &stored);
        if sum != head.checksum {
            return Err(SnapshotError::Checksum { offset: head.offset });
        }
        self.previous = sum;
        if head.kind != kind::END {
            self.hash.update(&stored);
        }
        Ok(stored)
    }

    /// Undoes encryption and compression.
    fn opened(&mut self, head: &Head, stored: Vec<u8>) -> Result<Vec<u8>, SnapshotError> {
        let raw = match &self.cipher {
            Some(cipher) => {
                self.opened += 1;
                let opened = cipher.open(self.opened, head.kind, &stored);
                opened.ok_or(SnapshotError::Sealed { offset: head.offset })?
            }
            None => stored,
        };
        if !head.is_compressed() {
            return Ok(raw);
        }
        if !self.is_compressed {
            return Err(malformed(head.offset, "it is compressed, and the header does not say so"));
        }
        let message = "its payload is not compressed as it should be, or too long";
        codec::decompress(&raw).ok_or_else(|| malformed(head.offset, message))
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
