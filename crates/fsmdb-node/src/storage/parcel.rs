//! Changes as they are sent in the place of a snapshot file, and what becomes of them.
//!
//! ```text
//! magic     8 bytes "fsmdbCHG"
//! version   u32, 1
//! count     u32, of files
//! base      u64, the entry of the snapshot that they begin from
//! lengths   a u64 for each file, in their order
//! files     incremental snapshot files, one after the other
//! ```
//!
//! Numbers are little-endian. The receiver puts the files together with its own file of the base.
//! Equal states give equal bytes, so what comes out is the very file that the reference names, and
//! is held to its size and hash like one that was sent whole.
//!
//! # Invariants
//!
//! 1. No input makes a function of this file panic. Memory follows the frames of the files, and
//!    nothing longer is written than the reference says.
//! 2. What does not come to the file that the reference names is refused, and nothing of it is
//!    left.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek as _, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use fsmdb::SaveOptions;
use fsmdb::offline::{OfflineError, Source, compact};

use crate::limits::CHANGES_FILES_MAX;

/// What a parcel begins with; a snapshot file begins with something else.
const MAGIC: [u8; 8] = *b"fsmdbCHG";

const VERSION: u32 = 1;

/// Bytes before the lengths.
const FIXED_BYTES: usize = 24;

/// Bytes that are read from and written to a file at once.
const BUFFER_BYTES: usize = 128 * 1024;

/// What stands before the files of a parcel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The entry of the snapshot that they begin from.
    pub(super) base: u64,
    pub(super) lengths: Vec<u64>,
}

impl Head {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        let count = u32::try_from(self.lengths.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&count.to_le_bytes());
        for number in std::iter::once(&self.base).chain(&self.lengths) {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// Reads the head of a file; nothing when the file is no parcel.
    pub(super) fn read(file: &mut impl Read) -> io::Result<Option<Self>> {
        let mut fixed = [0; FIXED_BYTES];
        let mut filled = 0;
        while filled < FIXED_BYTES {
            match file.read(&mut fixed[filled..])? {
                0 => break,
                count => filled += count,
            }
        }
        if filled < MAGIC.len() || fixed[..MAGIC.len()] != MAGIC {
            return Ok(None);
        }
        let number = |at: usize| {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(&fixed[at..at + 4]);
            u32::from_le_bytes(bytes)
        };
        let (version, count) = (number(8), number(12));
        let base = u64::from(number(16)) | u64::from(number(20)) << 32;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if filled < FIXED_BYTES || version != VERSION || !(1..=CHANGES_FILES_MAX).contains(&count) {
            let reason = format!("changes of version {version} in {count} files");
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        let mut lengths = Vec::with_capacity(count);
        for _ in 0..count {
            let mut bytes = [0; 8];
            file.read_exact(&mut bytes)?;
            lengths.push(u64::from_le_bytes(bytes));
        }
        Ok(Some(Self { base, lengths }))
    }

    fn bytes(&self) -> u64 {
        (FIXED_BYTES + 8 * self.lengths.len()) as u64
    }

    /// Where the files stand in a parcel of so many bytes, which they fill.
    fn places(&self, bytes: u64) -> Option<Vec<(u64, u64)>> {
        let mut start = self.bytes();
        let mut places = Vec::with_capacity(self.lengths.len());
        for length in &self.lengths {
            places.push((start, *length));
            start = start.checked_add(*length)?;
        }
        (start == bytes).then_some(places)
    }
}

/// The head of a parcel of files that are so long, the first of which begins from entry `base`.
pub(crate) fn head_of(base: u64, lengths: Vec<u64>) -> Vec<u8> {
    Head { base, lengths }.encode()
}

/// The head that a file of these bytes begins with, written again, and where its files stand if
/// they fill it.
#[cfg(fuzzing)]
pub fn head_in(bytes: &[u8]) -> Option<(Vec<u8>, Option<Vec<(u64, u64)>>)> {
    let head = Head::read(&mut &*bytes).ok().flatten()?;
    Some((head.encode(), head.places(bytes.len() as u64)))
}

/// Writes what the files of a parcel make of their base: at most `most` bytes, until it is
/// cancelled.
pub(super) fn compose(
    parcel: &Path,
    head: &Head,
    base: &Path,
    target: &mut File,
    most: u64,
    is_cancelled: &AtomicBool,
) -> Result<(), OfflineError> {
    let bytes = parcel.metadata()?.len();
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "lengths of other files");
    let part = |path, start, length| {
        Source::from_fn(move || {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(start))?;
            let source = UntilCancelled { source: file.take(length), is_cancelled };
            Ok(BufReader::with_capacity(BUFFER_BYTES, source))
        })
    };
    let mut chain = vec![part(base, 0, u64::MAX)];
    for (start, length) in head.places(bytes).ok_or_else(wrong)? {
        chain.push(part(parcel, start, length));
    }
    let mut target = BufWriter::with_capacity(BUFFER_BYTES, Bounded { target, left: most });
    compact(&chain, &mut target, SaveOptions::new())?;
    Ok(target.flush()?)
}

/// Reads until it is cancelled.
struct UntilCancelled<'a, R> {
    source: R,
    is_cancelled: &'a AtomicBool,
}

impl<R: Read> Read for UntilCancelled<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_cancelled.load(Ordering::Acquire) {
            return Err(io::Error::other("cancelled: the node stops"));
        }
        self.source.read(buffer)
    }
}

/// Takes so many bytes, and no more.
struct Bounded<W> {
    target: W,
    left: u64,
}

impl<W: Write> Write for Bounded<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            let reason = "more than the snapshot that was to come out";
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
        }
        let written = self.target.write(bytes)?;
        self.left -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.target.flush()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_head_is_read_as_it_was_written_and_a_snapshot_has_none() {
        let head = Head { base: u64::MAX - 7, lengths: vec![5, 1 << 40] };
        let mut bytes = head.encode();
        assert_eq!(bytes.len() as u64, head.bytes());
        bytes.extend([7; 9]);
        assert_eq!(Head::read(&mut &bytes[..]).expect("it is one"), Some(head));
        assert_eq!(
            Head::read(&mut &b"fsmdbSNP\x02\0\0\0 and more that follows"[..]).unwrap(),
            None
        );
        assert_eq!(Head::read(&mut &b"fsmd"[..]).expect("too short"), None);
    }

    #[test]
    fn a_head_of_another_version_or_of_no_files_or_too_many_is_refused() {
        let head = Head { base: 9, lengths: vec![5] }.encode();
        for (at, byte) in [(8, 2), (12, 0), (12, 65)] {
            let mut other = head.clone();
            other[at] = byte;
            Head::read(&mut &other[..]).expect_err("it is none");
        }
        for cut in 8..head.len() {
            Head::read(&mut &head[..cut]).expect_err("it is cut");
        }
    }

    #[test]
    fn the_files_fill_the_parcel() {
        let head = Head { base: 9, lengths: vec![5, 0, 6] };
        assert_eq!(head.places(59), Some(vec![(48, 5), (53, 0), (53, 6)]));
        assert_eq!(head.places(60), None);
        assert_eq!(head.places(58), None);
        let head = Head { base: 9, lengths: vec![u64::MAX, 45] };
        assert_eq!(head.places(39 + 45), None);
    }

    proptest! {
        #[test]
        fn what_follows_the_magic_is_read_or_refused(
            bytes in prop::collection::vec(0_u8..4, 0..99),
        ) {
            let bytes = [&MAGIC[..], &bytes].concat();
            if let Ok(Some(head)) = Head::read(&mut &bytes[..]) {
                prop_assert!(bytes.starts_with(&head.encode()));
                drop(head.places(bytes.len() as u64));
            }
        }
    }
}
