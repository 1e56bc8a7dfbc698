//! Decodes the rows of a file, on any thread.

use std::sync::Arc;

use serde::de::IgnoredAny;

use super::error::SnapshotError;
use super::reader::Step;
use super::records::{RawRow, Records};
use crate::digest::Digest;
use crate::messagepack;
use crate::revision::Revision;
use crate::schema::{RowMigrationError, TableSchema};
use crate::table::{KeyedRows, TableState};
use crate::tree::{NewRow, RowMeta, RowRef};

/// What a thread needs to decode the rows of one table.
pub(super) struct Decoder {
    pub(super) schema: Arc<TableSchema>,
    /// The version of its rows in the file.
    pub(super) version: u32,
    /// The latest revision that a row may have.
    pub(super) modified: Revision,
    /// Whether each row is encoded anew, to see whether that gives the bytes of the file.
    pub(super) compares: bool,
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
    /// Whether every row was encoded anew and gave the bytes of the file.
    pub(super) is_same: bool,
    encoding: Vec<u8>,
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
            is_same: self.compares && !self.is_migrated(),
            encoding: Vec::new(),
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
        if !self.is_migrated() {
            // Migrated rows are asked when they are in order.
            let asked = TableState::new(Arc::clone(&self.schema)).ask(&mut decoded.rows);
            asked.map_err(SnapshotError::Rule)?;
        }
        Ok(decoded)
    }

    fn row(&self, raw: RawRow<'_>, decoded: &mut DecodedRows) -> Result<(), SnapshotError> {
        let schema = &self.schema;
        let failed = |offset: u64, message: String| self.failed(raw, offset, message);
        let row = if self.is_migrated() { self.migrated(raw) } else { self.typed(raw) };
        let row = row?;
        if row.borrow().meta().modified > self.modified {
            return Err(failed(0, "the row was modified after its table".into()));
        }
        if decoded.is_same {
            decoded.is_same = self.is_same(raw, row.borrow(), &mut decoded.encoding);
        }
        let key = schema.key_of(row.borrow());
        if self.is_migrated() {
            // It may have another key than it had; they are sorted when all are there.
            decoded.rows.push(&key, row);
            return Ok(());
        }
        if raw.key.is_some_and(|found| *found != *key) {
            return Err(failed(0, format!("its key is {}, not this", schema.print_key(&key))));
        }
        if decoded.rows.last_key().is_some_and(|last| *last >= *key) {
            return Err(self.out_of_order(raw.row, raw.offset, &key));
        }
        decoded.rows.push(&key, row);
        Ok(())
    }

    /// Whether `row` gives the bytes that it was made of when it is encoded anew. It does not when
    /// its type has a field more than the one that wrote it, or one less.
    fn is_same(&self, raw: RawRow<'_>, row: RowRef<'_>, encoding: &mut Vec<u8>) -> bool {
        encoding.clear();
        let is_encoded = self.schema.rows.encode_value(row, encoding).is_ok();
        is_encoded && *encoding == raw.record[messagepack::value_of_record(raw.record)..]
    }

    /// Whether the rows are of an older version of the table.
    pub(super) fn is_migrated(&self) -> bool {
        self.version != self.schema.version
    }

    fn failed(&self, raw: RawRow<'_>, offset: u64, message: String) -> SnapshotError {
        let table = self.schema.name.to_string();
        SnapshotError::Row { table, row: raw.row, offset: raw.offset + offset, message }
    }

    fn typed(&self, raw: RawRow<'_>) -> Result<NewRow, SnapshotError> {
        let row = self.schema.rows.decode(raw.record);
        row.map_err(|error| self.failed(raw, error.offset, error.message))
    }

    /// The row as the migrations of the table make it.
    fn migrated(&self, raw: RawRow<'_>) -> Result<NewRow, SnapshotError> {
        let meta = messagepack::read::<(Revision, Revision, IgnoredAny)>(raw.record);
        let (created, modified, _) =
            meta.map_err(|error| self.failed(raw, error.offset, error.message))?;
        if created > modified {
            let message = "a row that was modified before it was created".to_owned();
            return Err(self.failed(raw, 0, message));
        }
        let start = messagepack::value_of_record(raw.record);
        let meta = RowMeta { created, modified };
        let row = self.schema.rows.migrate(self.version, &raw.record[start..], meta);
        row.map_err(|error| match error {
            RowMigrationError::Missing { .. } | RowMigrationError::Newer { .. } => {
                SnapshotError::TableVersion {
                    table: self.schema.name.to_string(),
                    found: self.version,
                    expected: self.schema.version,
                }
            }
            RowMigrationError::TooLarge { key, bytes, limit } => {
                let table = self.schema.name.to_string();
                let (bytes, limit) = (bytes as u64, limit as u64);
                SnapshotError::RowTooLarge { table, key, bytes, limit }
            }
            other => self.failed(raw, start as u64, other.to_string()),
        })
    }

    pub(super) fn out_of_order(&self, row: u64, offset: u64, key: &[u8]) -> SnapshotError {
        let (table, key) = (self.schema.name.to_string(), self.schema.print_key(key));
        SnapshotError::RowOrder { table, row, offset, key }
    }
}
