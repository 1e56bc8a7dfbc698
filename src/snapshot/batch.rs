//! Batches of rows, and the frames that a thread makes of one.

use super::error::SnapshotError;
use super::format::kind;
use super::frame::{Chunk, chunks_of};
use super::records::{RecordWriter, write_row_head};
use crate::digest::Digest;
use crate::limits::{FRAME_BYTES_TARGET, ROW_BYTES_MAX, SNAPSHOT_BATCH_BYTES, SNAPSHOT_BATCH_ROWS};
use crate::table::TableState;
use crate::tree::RowRef;

/// Rows of one table with their keys.
pub(super) struct Batch<'a> {
    table: &'a TableState,
    keys: Vec<u8>,
    /// Where each key ends in `keys`.
    ends: Vec<usize>,
    rows: Vec<RowRef<'a>>,
}

/// Rows of a batch as frames.
pub(super) struct Encoded {
    pub(super) frames: Vec<EncodedFrame>,
    /// The row that comes next, if not all are in the frames.
    pub(super) next: usize,
    /// Why it could not go on.
    pub(super) error: Option<SnapshotError>,
}

pub(super) struct EncodedFrame {
    pub(super) chunks: Vec<Chunk>,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) digest: Digest,
}

impl<'a> Batch<'a> {
    pub(super) fn new(table: &'a TableState) -> Self {
        let (keys, ends) = (Vec::new(), Vec::with_capacity(SNAPSHOT_BATCH_ROWS));
        Self { table, keys, ends, rows: Vec::with_capacity(SNAPSHOT_BATCH_ROWS) }
    }

    pub(super) fn push(&mut self, key: &[u8], row: RowRef<'a>) {
        self.keys.extend_from_slice(key);
        self.ends.push(self.keys.len());
        self.rows.push(row);
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.rows.len() == SNAPSHOT_BATCH_ROWS
    }

    fn key(&self, row: usize) -> &[u8] {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.keys[start..self.ends[row]]
    }

    /// Encodes the rows from `from` on, up to the frame after [`SNAPSHOT_BATCH_BYTES`].
    pub(super) fn encode(&self, place: usize, from: usize, level: Option<i32>) -> Encoded {
        let mut encoded = Encoded { frames: Vec::new(), next: from, error: None };
        let (mut records, mut open) = (RecordWriter::default(), FrameTotals::default());
        let mut bytes = 0;
        while encoded.next < self.rows.len() {
            let mut digest = Digest::default();
            let pushed =
                records.push(place as u32, |out| self.write(encoded.next, &mut digest, out));
            let length = match pushed {
                Ok(length) => length,
                Err(error) => {
                    encoded.error = Some(error);
                    return encoded;
                }
            };
            if records.bytes() > FRAME_BYTES_TARGET && records.count() > 1 {
                let payload = records.take(Some(length));
                bytes += payload.len();
                encoded.frames.push(std::mem::take(&mut open).close(payload, level));
                if bytes >= SNAPSHOT_BATCH_BYTES {
                    // The row that did not fit is encoded again: this is rare.
                    return encoded;
                }
            }
            open.add(length, digest);
            encoded.next += 1;
        }
        if records.count() > 0 {
            encoded.frames.push(open.close(records.take(None), level));
        }
        encoded
    }

    /// Appends the record of a row.
    fn write(
        &self,
        row: usize,
        digest: &mut Digest,
        out: &mut Vec<u8>,
    ) -> Result<(), SnapshotError> {
        let (schema, key) = (self.table.schema(), self.key(row));
        write_row_head(key, out);
        let named = || (schema.name.to_string(), schema.print_key(key));
        let value = schema.rows.encode(self.rows[row], out).map_err(|message| {
            let (table, key) = named();
            SnapshotError::RowEncode { table, key, message }
        })?;
        let bytes = out.len() - value;
        if bytes > ROW_BYTES_MAX {
            let (table, key) = named();
            let (bytes, limit) = (bytes as u64, ROW_BYTES_MAX as u64);
            return Err(SnapshotError::RowTooLarge { table, key, bytes, limit });
        }
        *digest = Digest::of_value(&out[value..]);
        Ok(())
    }
}

/// The totals of a frame that is being filled.
#[derive(Default)]
struct FrameTotals {
    rows: u64,
    bytes: u64,
    digest: Digest,
}

impl FrameTotals {
    fn add(&mut self, bytes: usize, digest: Digest) {
        self.rows += 1;
        self.bytes += bytes as u64;
        self.digest = self.digest.plus(digest);
    }

    fn close(self, payload: Vec<u8>, level: Option<i32>) -> EncodedFrame {
        let Self { rows, bytes, digest } = self;
        EncodedFrame { chunks: chunks_of(kind::ROWS, payload, level), rows, bytes, digest }
    }
}
