//! Decodes the rows of a file, on any thread.

use std::sync::Arc;

use super::error::SnapshotError;
use super::reader::Step;
use super::records::{RawRow, Records};
use crate::digest::Digest;
use crate::messagepack;
use crate::revision::Revision;
use crate::schema::TableSchema;
use crate::table::KeyedRows;

/// What a thread needs to decode the rows of one table.
pub(super) struct Decoder {
    pub(super) schema: Arc<TableSchema>,
    /// The version of its rows in the file.
    pub(super) version: u32,
    /// The latest revision that a row may have.
    pub(super) modified: Revision,
}

/// A step with its rows decoded.
pub(super) enum Decoded {
    Rows(Result<DecodedRows, SnapshotError>),
    Other(Step),
}

pub(super) struct DecodedRows {
    pub(super) table: usize,
    pub(super) rows: KeyedRows,
    pub(super) digest: Digest,
    /// The number and place of the first row.
    pub(super) first: (u64, u64),
}

impl Decoded {
    pub(super) fn of(step: Step, version: u32, decoders: &[Option<Decoder>]) -> Self {
        match step {
            Step::Rows(records) => match &decoders[records.table] {
                Some(decoder) => Self::Rows(decoder.decode(&records, version)),
                None => Self::Other(Step::Rows(records)),
            },
            other => Self::Other(other),
        }
    }
}

impl Decoder {
    fn decode(&self, records: &Records, version: u32) -> Result<DecodedRows, SnapshotError> {
        let mut decoded = DecodedRows {
            table: records.table,
            rows: KeyedRows::with_room_for(records.count as usize),
            digest: Digest::default(),
            first: (records.first, records.frame().offset),
        };
        for raw in records.rows() {
            let raw = raw?;
            if raw.row == records.first {
                decoded.first.1 = raw.offset;
            }
            self.row(raw, &mut decoded)?;
            if version > 1 {
                let start = messagepack::value_of_record(raw.record);
                decoded.digest = decoded.digest.plus(Digest::of_value(&raw.record[start..]));
            }
        }
        Ok(decoded)
    }

    fn row(&self, raw: RawRow<'_>, decoded: &mut DecodedRows) -> Result<(), SnapshotError> {
        let schema = &self.schema;
        let failed = |offset: u64, message: String| SnapshotError::Row {
            table: schema.name.to_string(),
            row: raw.row,
            offset: raw.offset + offset,
            message,
        };
        let row = schema.rows.decode(raw.record);
        let row = row.map_err(|error| failed(error.offset, error.message))?;
        if row.borrow().meta().modified > self.modified {
            return Err(failed(0, "the row was modified after its table".into()));
        }
        let key = schema.key_of(row.borrow());
        if raw.key.is_some_and(|found| *found != *key) {
            return Err(failed(0, format!("its key is {}, not this", schema.print_key(&key))));
        }
        if decoded.rows.last_key().is_some_and(|last| *last >= *key) {
            return Err(self.out_of_order(raw.row, raw.offset, &key));
        }
        decoded.rows.push(&key, row);
        Ok(())
    }

    pub(super) fn out_of_order(&self, row: u64, offset: u64, key: &[u8]) -> SnapshotError {
        let (table, key) = (self.schema.name.to_string(), self.schema.print_key(key));
        SnapshotError::RowOrder { table, row, offset, key }
    }
}
