//! The layout of a snapshot file, written down a second time from its documentation, so that tests
//! can take files apart and seal changed ones with right checksums.

use serde::{Deserialize, Serialize};

pub(crate) const PRELUDE_BYTES: usize = 12;
const HEAD_BYTES: usize = 9;

pub(crate) const HEADER: u8 = 1;
pub(crate) const ROWS: u8 = 2;
pub(crate) const END: u8 = 3;
pub(crate) const TOMBSTONES: u8 = 4;
pub(crate) const SECTION: u8 = 5;
pub(crate) const TABLE_END: u8 = 6;
pub(crate) const DELETES: u8 = 7;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) payload: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) revision: u64,
    pub(crate) applied: Applied,
    pub(crate) incarnation: String,
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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) key: Vec<String>,
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
    pub(crate) hash: Bytes,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TableEnd {
    pub(crate) table: u32,
    pub(crate) rows: u64,
    pub(crate) deletes: u64,
    pub(crate) bytes: u64,
    pub(crate) digest: Bytes,
}

/// MessagePack `bin`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Visitor)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// Takes a well-formed file apart, without the ends of tables.
pub(crate) fn frames_of(file: &[u8]) -> Vec<Frame> {
    frames_at(file).into_iter().map(|(_, frame)| frame).collect()
}

/// Takes a well-formed file apart and says where each frame begins, without the ends of tables.
pub(crate) fn frames_at(file: &[u8]) -> Vec<(usize, Frame)> {
    all_frames_at(file).into_iter().filter(|(_, frame)| frame.kind != TABLE_END).collect()
}

/// Takes a well-formed file apart and says where each frame begins.
pub(crate) fn all_frames_at(file: &[u8]) -> Vec<(usize, Frame)> {
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
    *b"fsmdbSNP\x02\0\0\0"
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

/// Seals `frames` with the ends of tables and an end frame whose totals, digests and hash are
/// right, as a careful forger would.
pub(crate) fn seal_with_end(frames: &[Frame], rows: u64) -> Vec<u8> {
    seal_as_it_is(&with_table_ends(frames), rows)
}

/// Seals frames that have the ends of their tables, with an end frame whose totals and hash are
/// right; the ends of tables stay as they are.
pub(crate) fn seal_as_it_is(frames: &[Frame], rows: u64) -> Vec<u8> {
    let so_far = seal(frames);
    let hash = Bytes(blake3::hash(&so_far).as_bytes().to_vec());
    let end = encoded(END, &End { rows, offset: so_far.len() as u64, hash });
    seal(&[frames, &[end]].concat())
}

/// Puts an end behind the last frame of each table of the header, as far as that can be told.
pub(crate) fn with_table_ends(frames: &[Frame]) -> Vec<Frame> {
    let header = frames.first().filter(|frame| frame.kind == HEADER);
    let header = header.and_then(|frame| rmp_serde::from_slice::<Header>(&frame.payload).ok());
    let tables = header.map_or(0, |header| header.tables.len() as u32);
    let table_of = |frame: &Frame| match frame.kind {
        ROWS | TOMBSTONES if frame.payload.len() >= 8 => Some(u32_at(&frame.payload, 0)),
        _ => None,
    };
    let mut all = Vec::new();
    let (mut next, mut rest) = (0, frames.iter().peekable());
    while let Some(frame) = rest.next() {
        // The ends of tables that have no frame of their own.
        while let Some(table) = table_of(frame).filter(|table| *table < tables && next < *table) {
            all.push(table_end(next, &[]));
            next += 1;
            assert!(next <= table);
        }
        if frame.kind == SECTION {
            all.extend((next..tables).map(|table| table_end(table, &[])));
            next = tables;
        }
        all.push(frame.clone());
        let follows = rest.peek().and_then(|frame| table_of(frame));
        if table_of(frame) == Some(next) && next < tables && follows != Some(next) {
            let of_table = frames.iter().filter(|frame| table_of(frame) == Some(next));
            all.push(table_end(next, &of_table.collect::<Vec<_>>()));
            next += 1;
        }
    }
    all.extend((next..tables).map(|table| table_end(table, &[])));
    all
}

fn table_end(table: u32, frames: &[&Frame]) -> Frame {
    let (mut rows, mut bytes, mut digest) = (0, 0, 0_u128);
    for frame in frames.iter().filter(|frame| frame.kind == ROWS) {
        let mut at = 8;
        rows += u64::from(u32_at(&frame.payload, 4));
        bytes +=
            (frame.payload.len() as u64 - 8).wrapping_sub(4 * u64::from(u32_at(&frame.payload, 4)));
        while at + 4 <= frame.payload.len() {
            let end = at + 4 + u32_at(&frame.payload, at) as usize;
            let Some(record) = frame.payload.get(at + 4..end) else { break };
            digest = digest.wrapping_add(digest_of(record));
            at = end;
        }
    }
    let digest = Bytes(digest.to_be_bytes().to_vec());
    encoded(TABLE_END, &TableEnd { table, rows, deletes: 0, bytes, digest })
}

/// The digest of the row in a record.
fn digest_of(record: &[u8]) -> u128 {
    let Some((length, rest)) = record.split_first_chunk() else { return 0 };
    let Some(row) = rest.get(usize::from(u16::from_le_bytes(*length))..) else { return 0 };
    // Three values in an array, of which the last is the row.
    let mut start = std::io::Cursor::new(row.get(1..).unwrap_or_default());
    for _ in 0..2 {
        if rmp_serde::from_read::<_, u64>(&mut start).is_err() {
            return 0;
        }
    }
    xxhash_rust::xxh3::xxh3_128(&row[1 + start.position() as usize..])
}

/// A record of a row whose key is one number.
pub(crate) fn record_of<T: Serialize>(key: u64, row: &T) -> Vec<u8> {
    record_with(&key.to_be_bytes(), &rmp_serde::to_vec_named(row).unwrap())
}

/// A record of a row from its key and the MessagePack behind it.
pub(crate) fn record_with(key: &[u8], row: &[u8]) -> Vec<u8> {
    [&u16::try_from(key.len()).unwrap().to_le_bytes()[..], key, row].concat()
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
