//! The layout of a snapshot file, written down a second time from its documentation, so that tests
//! can take files apart and seal changed ones with right checksums.

use serde::{Deserialize, Serialize};

pub(crate) const PRELUDE_BYTES: usize = 12;
const HEAD_BYTES: usize = 9;

pub(crate) const HEADER: u8 = 1;
pub(crate) const ROWS: u8 = 2;
pub(crate) const END: u8 = 3;
pub(crate) const TOMBSTONES: u8 = 4;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) payload: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) revision: u64,
    pub(crate) applied: Applied,
    pub(crate) fingerprint: u64,
    pub(crate) tables: Vec<TableHeader>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Applied {
    pub(crate) index: u64,
    pub(crate) term: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TableHeader {
    pub(crate) name: String,
    pub(crate) version: u32,
    pub(crate) rows: u64,
    pub(crate) modified: u64,
    pub(crate) indexes: Vec<IndexHeader>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) removals: Option<Removals>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Removals {
    pub(crate) rows: u64,
    pub(crate) entries: u64,
    pub(crate) tombstones: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct IndexHeader {
    pub(crate) name: String,
    pub(crate) unique: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct End {
    pub(crate) rows: u64,
    pub(crate) offset: u64,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// Takes a well-formed file apart.
pub(crate) fn frames_of(file: &[u8]) -> Vec<Frame> {
    frames_at(file).into_iter().map(|(_, frame)| frame).collect()
}

/// Takes a well-formed file apart and says where each frame begins.
pub(crate) fn frames_at(file: &[u8]) -> Vec<(usize, Frame)> {
    assert_eq!(file[..PRELUDE_BYTES], prelude());
    let mut frames = Vec::new();
    let mut at = PRELUDE_BYTES;
    while at < file.len() {
        let end = at + HEAD_BYTES + u32_at(file, at) as usize;
        let frame = Frame { kind: file[at + 4], payload: file[at + HEAD_BYTES..end].to_vec() };
        frames.push((at, frame));
        at = end;
    }
    frames
}

fn prelude() -> [u8; PRELUDE_BYTES] {
    *b"fsmdbSNP\x01\0\0\0"
}

/// A file of `frames` with right checksums, chained as the format wants it.
pub(crate) fn seal(frames: &[Frame]) -> Vec<u8> {
    let mut file = prelude().to_vec();
    let mut sum = crc32c::crc32c(&file);
    for Frame { kind, payload } in frames {
        let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
        let covered = [&sum.to_le_bytes()[..], &length, &[*kind], payload].concat();
        sum = crc32c::crc32c(&covered);
        file.extend([&length[..], &[*kind], &sum.to_le_bytes()].concat());
        file.extend(payload);
    }
    file
}

/// Seals `frames` with an end frame whose totals are right, as a careful forger would.
pub(crate) fn seal_with_end(frames: &[Frame], rows: u64) -> Vec<u8> {
    let offset = seal(frames).len() as u64;
    let mut frames = frames.to_vec();
    frames.push(encoded(END, &End { rows, offset }));
    seal(&frames)
}

pub(crate) fn encoded<T: Serialize>(kind: u8, content: &T) -> Frame {
    Frame { kind, payload: rmp_serde::to_vec_named(content).unwrap() }
}

pub(crate) fn header_of(frames: &[Frame]) -> Header {
    assert_eq!(frames[0].kind, HEADER);
    rmp_serde::from_slice(&frames[0].payload).unwrap()
}

/// Replaces the header by one that `change` has changed.
pub(crate) fn change_header(frames: &mut [Frame], change: impl FnOnce(&mut Header)) {
    let mut header = header_of(frames);
    change(&mut header);
    frames[0] = encoded(HEADER, &header);
}

/// A frame with `records` of the table at `table`.
pub(crate) fn rows_frame(table: u32, records: &[Vec<u8>]) -> Frame {
    let count = u32::try_from(records.len()).unwrap();
    let mut payload = [table.to_le_bytes(), count.to_le_bytes()].concat();
    for record in records {
        payload.extend(u32::try_from(record.len()).unwrap().to_le_bytes());
        payload.extend(record);
    }
    Frame { kind: ROWS, payload }
}

/// The records of a rows frame.
pub(crate) fn records_of(frame: &Frame) -> Vec<Vec<u8>> {
    assert!(matches!(frame.kind, ROWS | TOMBSTONES));
    let mut records = Vec::new();
    let mut at = 8;
    while at < frame.payload.len() {
        let length = u32_at(&frame.payload, at) as usize;
        records.push(frame.payload[at + 4..at + 4 + length].to_vec());
        at += 4 + length;
    }
    assert_eq!(u32_at(&frame.payload, 4) as usize, records.len());
    records
}
