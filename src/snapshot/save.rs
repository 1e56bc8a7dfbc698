//! Writes one version as a snapshot file.

use std::io::Write;

use serde::Serialize;

use super::error::SnapshotError;
use super::format::{
    End, Header, IndexHeader, OnProgress, Progress, RemovalsHeader, Summary, TableHeader, kind,
};
use super::frame::FrameWriter;
use super::reader::RECORDS_HEADER_BYTES;
use crate::limits::{FRAME_BYTES_TARGET, ROW_BYTES_MAX};
use crate::messagepack;
use crate::root::Root;
use crate::table::{Floors, Removals, TableState};
use crate::tree::RowRef;

/// Writes `root` to `target`, telling `progress` after each frame.
pub(crate) fn save<W: Write>(
    root: &Root,
    target: W,
    progress: OnProgress<'_>,
) -> Result<Summary, SnapshotError> {
    let header = header_of(root);
    let mut saver = Saver {
        frames: FrameWriter::new(target)?,
        summary: Summary::new(&header),
        rows_total: header.tables.iter().map(|table| table.rows).sum(),
        payload: Vec::with_capacity(FRAME_BYTES_TARGET),
        records_in_payload: 0,
        progress,
    };
    saver.frames.frame(kind::HEADER, &to_messagepack(&header))?;
    for (position, table) in tables_by_name(root).enumerate() {
        saver.table(position, table)?;
    }
    let end = End { rows: saver.summary.rows, offset: saver.frames.offset() };
    saver.frames.frame(kind::END, &to_messagepack(&end))?;
    saver.summary.bytes = saver.frames.finish()?;
    Ok(saver.summary)
}

struct Saver<'a, W> {
    frames: FrameWriter<W>,
    summary: Summary,
    rows_total: u64,
    payload: Vec<u8>,
    records_in_payload: u32,
    progress: OnProgress<'a>,
}

impl<W: Write> Saver<'_, W> {
    fn table(&mut self, position: usize, table: &TableState) -> Result<(), SnapshotError> {
        let mut record = Vec::new();
        let mut rows = table.rows().keyed();
        while let Some((key, row)) = rows.next() {
            encode_row(table, key, row, &mut record)?;
            self.push(kind::ROWS, position, table, &record)?;
            self.summary.count(position, record.len());
        }
        self.close_frame(kind::ROWS, position, table)?;
        for (revision, tree, key) in removals_of(table).iter() {
            record.clear();
            record.extend_from_slice(&revision.0.to_le_bytes());
            record.extend_from_slice(&tree.to_le_bytes());
            record.extend_from_slice(key);
            self.push(kind::TOMBSTONES, position, table, &record)?;
            self.summary.tables[position].tombstones += 1;
        }
        self.close_frame(kind::TOMBSTONES, position, table)
    }

    /// Adds a record to the frame, after closing that if it is full.
    fn push(
        &mut self,
        kind: u8,
        position: usize,
        table: &TableState,
        record: &[u8],
    ) -> Result<(), SnapshotError> {
        if self.payload.len() + record.len() > FRAME_BYTES_TARGET {
            self.close_frame(kind, position, table)?;
        }
        if self.payload.is_empty() {
            self.payload.resize(RECORDS_HEADER_BYTES, 0);
        }
        let length = u32::try_from(record.len()).expect("a record is below its limit");
        self.payload.extend_from_slice(&length.to_le_bytes());
        self.payload.extend_from_slice(record);
        self.records_in_payload += 1;
        Ok(())
    }

    fn close_frame(
        &mut self,
        kind: u8,
        position: usize,
        table: &TableState,
    ) -> Result<(), SnapshotError> {
        if self.records_in_payload == 0 {
            return Ok(());
        }
        let position = u32::try_from(position).expect("tables are below their limit");
        self.payload[..4].copy_from_slice(&position.to_le_bytes());
        self.payload[4..8].copy_from_slice(&self.records_in_payload.to_le_bytes());
        self.frames.frame(kind, &self.payload)?;
        self.payload.clear();
        self.records_in_payload = 0;
        let bytes = self.frames.offset();
        let report = Progress {
            table: &table.schema().name,
            rows: self.summary.rows,
            rows_total: self.rows_total,
            bytes,
        };
        match (self.progress)(report) {
            std::ops::ControlFlow::Continue(()) => Ok(()),
            std::ops::ControlFlow::Break(()) => Err(SnapshotError::Cancelled { offset: bytes }),
        }
    }
}

fn removals_of(table: &TableState) -> Removals {
    table.removals().closed(table.schema().tombstones)
}

fn encode_row(
    table: &TableState,
    key: &[u8],
    row: RowRef<'_>,
    record: &mut Vec<u8>,
) -> Result<(), SnapshotError> {
    record.clear();
    let schema = table.schema();
    let named = || (schema.name.to_string(), schema.print_key(key));
    schema.rows.encode(row, record).map_err(|message| {
        let (table, key) = named();
        SnapshotError::RowEncode { table, key, message }
    })?;
    if record.len() > ROW_BYTES_MAX {
        let (table, key) = named();
        let (bytes, limit) = (record.len() as u64, ROW_BYTES_MAX as u64);
        return Err(SnapshotError::RowTooLarge { table, key, bytes, limit });
    }
    Ok(())
}

/// The tables in the order in which files have them, whatever the order of the builder.
fn tables_by_name(root: &Root) -> impl Iterator<Item = &TableState> {
    root.schema.positions_by_name().map(|position| root.table(position))
}

fn header_of(root: &Root) -> Header {
    let tables = tables_by_name(root).map(|table| {
        let schema = table.schema();
        let indexes = schema.indexes.iter();
        let removals = removals_of(table);
        let (Floors { rows, entries }, tombstones) = (removals.floors, removals.len() as u64);
        TableHeader {
            name: schema.name.to_string(),
            version: schema.version,
            rows: table.len() as u64,
            modified: table.modified(),
            indexes: indexes
                .map(|index| IndexHeader { name: index.name.to_string(), unique: index.unique })
                .collect(),
            removals: (schema.tombstones > 0).then_some(RemovalsHeader {
                rows,
                entries,
                tombstones,
            }),
        }
    });
    Header {
        revision: root.revision,
        applied: root.applied,
        fingerprint: root.schema.fingerprint(),
        tables: tables.collect(),
    }
}

fn to_messagepack<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    messagepack::write(value, &mut bytes).expect("headers are flat structs, writing to memory");
    bytes
}
