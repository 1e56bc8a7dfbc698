//! For the fuzz target alone: frames with right checksums around hostile content, so that the
//! fuzzer gets past them.

use super::format::kind;
use super::frame::FrameWriter;

/// A snapshot file whose frames have the given kinds (modulo the known ones) and payloads.
#[must_use]
pub fn seal(frames: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut writer = FrameWriter::new(&mut file).expect("memory does not fail");
    for (index, (frame_kind, payload)) in frames.iter().enumerate() {
        let frame_kind = if index == 0 { kind::HEADER } else { *frame_kind };
        writer.frame(frame_kind, payload.clone()).expect("memory does not fail");
    }
    writer.finish().expect("memory does not fail");
    file
}

/// The frames of a well-formed file, to be changed and sealed again.
#[must_use]
pub fn unseal(file: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    let Ok(mut reader) = super::frame::FrameReader::new(file) else { return frames };
    while let Ok(frame) = reader.next() {
        frames.push((frame.kind, frame.payload));
    }
    frames
}
