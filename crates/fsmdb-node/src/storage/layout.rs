//! The files of raft-engine as they stand on disk, read without it.
//!
//! ```text
//! file     <magic> <version: 8> [<alignment: 8>, from version 2 on] <record>*
//! record   <length: 7> <compression: 1> <where the items begin: 8> [<entries> <checksum: 4>]
//!          <items> <checksum: 4>
//! ```
//!
//! Numbers are big-endian and checksums, CRC-32, little-endian. That of the items is combined with
//! the number of the file from version 2 on, so that what a file held under another number does not
//! count. Nothing guards the headers of a file and its records but that checksums have to match.
//!
//! # Invariants
//!
//! 1. What a file says of its lengths is held against the length of the file before it is used.
//! 2. However long a file is, [`LOG_WINDOW_BYTES`] of it are in memory, twice at most.
//! 3. Nothing is written.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use super::record::{Evidence, STATE_ITEM_BYTES};
use crate::limits::LOG_WINDOW_BYTES;

const MAGIC: &[u8] = b"RAFT-LOG-FILE-HEADER-9986AB3E47F320B394C8E84916EB0ED5";

/// Bytes of the longer of the two headers that a file can have.
const FILE_HEADER_BYTES: usize = MAGIC.len() + 16;

/// Bytes of the header of a record.
pub(super) const RECORD_HEADER_BYTES: usize = 16;

const CHECKSUM_BYTES: u64 = 4;

/// Where a record of a file stands, as its header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) start: u64,
    /// Where its items begin, behind its entries.
    items: u64,
    /// Where the next one begins.
    pub(super) end: u64,
}

impl Record {
    /// Reads a header that stands at `start` of a file so long; `None` when it can be none. We let
    /// raft-engine compress nothing.
    pub(super) fn parse(
        header: [u8; RECORD_HEADER_BYTES],
        start: u64,
        length: u64,
    ) -> Option<Self> {
        let number = u128::from_be_bytes(header);
        let (first, items) = ((number >> 64) as u64, number as u64);
        let (own, is_compressed) = (first >> 8, first as u8 != 0);
        let has_items = items.checked_add(CHECKSUM_BYTES).is_some_and(|least| least < own);
        let fits = own <= length.saturating_sub(start);
        let is_record = !is_compressed && has_items && fits && items >= RECORD_HEADER_BYTES as u64;
        is_record.then(|| Self { start, items: start + items, end: start + own })
    }

    /// Bytes of its entries.
    fn entries_bytes(&self) -> u64 {
        let bytes = self.items - self.start - RECORD_HEADER_BYTES as u64;
        bytes.saturating_sub(CHECKSUM_BYTES)
    }

    /// Bytes of its items and their checksum.
    pub(super) fn items_bytes(&self) -> u64 {
        self.end - self.items
    }
}

/// A file of raft-engine.
pub(super) struct LogFile {
    file: File,
    number: u64,
    pub(super) length: u64,
    /// What was read last, and from where.
    window: Vec<u8>,
    from: u64,
}

impl LogFile {
    pub(super) fn open(path: &Path, number: u64) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { file, number, length, window: Vec::new(), from: 0 })
    }

    /// Where the first record stands, and what checksums are combined with; `None` when the header
    /// is not one that raft-engine writes for us.
    pub(super) fn header(&mut self) -> io::Result<Option<(u64, u32)>> {
        let bytes = self.bytes(0, FILE_HEADER_BYTES)?;
        let Some((version, rest)) = bytes.strip_prefix(MAGIC).and_then(<[u8]>::split_first_chunk)
        else {
            return Ok(None);
        };
        Ok(match (u64::from_be_bytes(*version), rest.first_chunk()) {
            // Of a file whose header was broken, raft-engine makes one of this version.
            (1, _) => Some((FILE_HEADER_BYTES as u64 - 8, 0)),
            (2, Some(alignment)) if u64::from_be_bytes(*alignment) == 0 => {
                Some((FILE_HEADER_BYTES as u64, self.signature()))
            }
            _ => None,
        })
    }

    /// What checksums are combined with from version 2 on.
    pub(super) fn signature(&self) -> u32 {
        self.number as u32
    }

    /// The record whose header stands at `start`, if there can be one.
    pub(super) fn record(&mut self, start: u64) -> io::Result<Option<Record>> {
        let length = self.length;
        let header = self.bytes(start, RECORD_HEADER_BYTES)?.first_chunk();
        Ok(header.and_then(|header| Record::parse(*header, start, length)))
    }

    /// What a record says of those before it: where those end that were durable when it was
    /// written; `None` of one that does not say so for this log.
    pub(super) fn durable_before(
        &mut self,
        record: &Record,
        stamp: u64,
    ) -> io::Result<Option<u64>> {
        let bytes = STATE_ITEM_BYTES as u64 + CHECKSUM_BYTES;
        if record.items_bytes() < bytes {
            return Ok(None);
        }
        let mut item = [0; STATE_ITEM_BYTES];
        self.file.seek(SeekFrom::Start(record.end - bytes))?;
        self.file.read_exact(&mut item)?;
        let entries_bytes = record.entries_bytes();
        let evidence = Evidence::find(&item)
            .filter(|evidence| evidence.stamp == stamp && evidence.entries_bytes == entries_bytes);
        Ok(evidence.map(|evidence| record.start.saturating_sub(evidence.unsynced)))
    }

    /// Whether the items of a record are what was written, with one of these signatures.
    pub(super) fn are_items_sound(
        &mut self,
        record: &Record,
        signatures: &[u32],
    ) -> io::Result<bool> {
        let (found, expected) = self.checksum(record.items..record.end)?;
        Ok(signatures.iter().any(|signature| found == expected ^ signature))
    }

    /// Whether the entries of a record are what was written.
    pub(super) fn are_entries_sound(&mut self, record: &Record) -> io::Result<bool> {
        let start = record.start + RECORD_HEADER_BYTES as u64;
        if start == record.items {
            return Ok(true);
        }
        if record.items - start <= CHECKSUM_BYTES {
            return Ok(false);
        }
        let (found, expected) = self.checksum(start..record.items)?;
        Ok(found == expected)
    }

    /// The checksum of what stands there, and the one that stands at its end.
    fn checksum(&mut self, range: Range<u64>) -> io::Result<(u32, u32)> {
        let mut hasher = crc32fast::Hasher::new();
        let mut left = range.end - CHECKSUM_BYTES - range.start;
        let mut buffer = vec![0; least(left, LOG_WINDOW_BYTES)];
        self.file.seek(SeekFrom::Start(range.start))?;
        while left > 0 {
            let part = &mut buffer[..least(left, LOG_WINDOW_BYTES)];
            self.file.read_exact(part)?;
            hasher.update(part);
            left -= part.len() as u64;
        }
        let mut expected = [0; CHECKSUM_BYTES as usize];
        self.file.read_exact(&mut expected)?;
        Ok((hasher.finalize(), u32::from_le_bytes(expected)))
    }

    /// Up to so many bytes from there, fewer at the end of the file.
    fn bytes(&mut self, at: u64, count: usize) -> io::Result<&[u8]> {
        let window = self.from..self.from + self.window.len() as u64;
        let end = at.saturating_add(count as u64).min(self.length);
        if at < window.start || end > window.end {
            self.fill(at)?;
        }
        let skipped = least(at - self.from, self.window.len());
        let rest = &self.window[skipped..];
        Ok(&rest[..rest.len().min(count)])
    }

    /// What is in memory from there on: room for the header of a record, unless the file ends.
    pub(super) fn rest(&mut self, at: u64) -> io::Result<&[u8]> {
        self.bytes(at, RECORD_HEADER_BYTES)?;
        Ok(&self.window[least(at - self.from, self.window.len())..])
    }

    fn fill(&mut self, at: u64) -> io::Result<()> {
        self.window.resize(least(self.length.saturating_sub(at), LOG_WINDOW_BYTES), 0);
        self.from = at;
        self.file.seek(SeekFrom::Start(at))?;
        match self.file.read_exact(&mut self.window) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                Err(io::Error::new(error.kind(), "it has become shorter"))
            }
            read => read,
        }
    }
}

fn least(long: u64, most: usize) -> usize {
    usize::try_from(long).map_or(most, |long| long.min(most))
}
