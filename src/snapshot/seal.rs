//! For the fuzz targets alone: frames with right checksums, digests and hashes around hostile
//! content, so that the fuzzer gets past them.

use super::format::{End, FORMAT_VERSION, TableEnd, kind};
use super::frame::{Frame, FrameReader, FrameWriter};
use super::reader::encode;
use super::records::Records;
use crate::digest::Digest;
use crate::messagepack;

/// A snapshot file whose frames have the given kinds (without flags) and payloads, with what
/// depends on other bytes put right: the digests of tables and the end frame.
#[must_use]
pub fn seal(frames: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut writer = FrameWriter::new(&mut file).expect("memory does not fail");
    let mut digest = Digest::default();
    for (index, (frame_kind, payload)) in frames.iter().enumerate() {
        let frame_kind = if index == 0 { kind::HEADER } else { *frame_kind & 0x3F };
        let mut payload = payload.clone();
        match frame_kind {
            kind::ROWS => digest = digest.plus(digest_of(&payload)),
            kind::TABLE_END => {
                if let Ok(end) = messagepack::read::<TableEnd>(&payload) {
                    payload = encode(&TableEnd { digest, ..end });
                }
                digest = Digest::default();
            }
            kind::END => {
                if let Ok(end) = messagepack::read::<End>(&payload) {
                    let (offset, hash) = (writer.offset(), Some(writer.hash()));
                    payload = encode(&End { offset, hash, ..end });
                }
            }
            _ => (),
        }
        writer.frame(frame_kind, payload).expect("memory does not fail");
    }
    writer.finish().expect("memory does not fail");
    file
}

/// The sum of the rows in a frame, as far as they can be read.
fn digest_of(payload: &[u8]) -> Digest {
    let frame = Frame::detached(kind::ROWS, payload.to_vec());
    let Ok(records) = Records::new(frame, FORMAT_VERSION) else { return Digest::default() };
    let rows = records.rows().map_while(Result::ok);
    let values = rows.map(|row| &row.record[messagepack::value_of_record(row.record)..]);
    values.map(Digest::of_value).fold(Digest::default(), Digest::plus)
}

/// The frames of a well-formed file, to be changed and sealed again.
#[must_use]
pub fn unseal(file: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    let Ok(mut reader) = FrameReader::new(file) else { return frames };
    while let Ok(frame) = reader.next() {
        frames.push((frame.kind, frame.payload));
    }
    frames
}
