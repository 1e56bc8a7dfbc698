//! Snapshot files on disk: read for sending, and put together while they arrive.
//!
//! A file that arrives is named after its sender, its hash and its size, and so found again after
//! the connection, or the process, has ended: `<sender>-<hash>-<size>.partial`. Whole and verified
//! it is `<sender>-<number>.received` until the node takes it.
//!
//! # Invariants
//!
//! 1. What is appended had its checksum verified; what is finished has the hash that was announced,
//!    over all its bytes as they were written or read over.
//! 2. One partial file is kept for each sender: the one it sends, or sent last.
//! 3. Who works on the partial file of a sender holds its lock, also while the connection that
//!    asked for the work is gone already.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use blake3::Hasher;
use tokio::sync::OwnedMutexGuard;

use crate::limits::SNAPSHOT_CHUNK_BYTES;
use crate::link::Parcel;

/// The content of a file, as it is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) size: u64,
    pub(super) hash: [u8; 32],
}

/// What is sent: some bytes and the content of files, as one file.
pub(super) struct Outgoing {
    parts: Vec<Part>,
    /// The part that is read.
    current: usize,
    pub(super) content: Content,
    pub(super) offset: u64,
}

struct Part {
    source: Box<dyn Seekable>,
    length: u64,
}

trait Seekable: io::Read + io::Seek + Send {}

impl<T: io::Read + io::Seek + Send> Seekable for T {}

impl Outgoing {
    /// Reads all of it once, for its hash.
    pub(super) fn open(parcel: &Parcel) -> io::Result<Self> {
        let head: Box<dyn Seekable> = Box::new(io::Cursor::new(parcel.head.clone()));
        let mut parts = vec![Part { source: head, length: parcel.head.len() as u64 }];
        for path in &parcel.files {
            parts.push(Part { source: Box::new(File::open(path)?), length: 0 });
        }
        let mut hasher = Hasher::new();
        let mut size = 0;
        for part in &mut parts {
            part.length = read_into(&mut part.source, &mut hasher, u64::MAX)?;
            size += part.length;
        }
        let content = Content { size, hash: *hasher.finalize().as_bytes() };
        Ok(Self { parts, current: 0, content, offset: 0 })
    }

    /// Goes on from there.
    pub(super) fn seek(&mut self, offset: u64) -> io::Result<()> {
        (self.current, self.offset) = (0, offset);
        let mut left = offset;
        for part in &mut self.parts {
            let skipped = left.min(part.length);
            part.source.seek(SeekFrom::Start(skipped))?;
            left -= skipped;
        }
        Ok(())
    }

    /// The next piece; empty at the end.
    pub(super) fn read(&mut self) -> io::Result<Vec<u8>> {
        let left = self.content.size - self.offset;
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(SNAPSHOT_CHUNK_BYTES);
        let mut chunk = vec![0; length];
        let mut filled = 0;
        while filled < length {
            let Some(part) = self.parts.get_mut(self.current) else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            match part.source.read(&mut chunk[filled..])? {
                0 => self.current += 1,
                count => filled += count,
            }
        }
        self.offset += length as u64;
        Ok(chunk)
    }
}

/// Hashes at most `most` bytes from where the file stands, and says how many there were.
fn read_into(file: &mut impl io::Read, hasher: &mut Hasher, most: u64) -> io::Result<u64> {
    let mut buffer = vec![0; SNAPSHOT_CHUNK_BYTES];
    let mut read = 0;
    loop {
        let left = usize::try_from(most - read).unwrap_or(usize::MAX).min(buffer.len());
        match file.read(&mut buffer[..left])? {
            0 => return Ok(read),
            length => {
                hasher.update(&buffer[..length]);
                read += length as u64;
            }
        }
    }
}

/// A file that arrives.
pub(super) struct Partial {
    path: PathBuf,
    file: File,
    hasher: Hasher,
    content: Content,
    pub(super) length: u64,
    _held: OwnedMutexGuard<()>,
}

impl Partial {
    /// Goes on with what there is of this content, or begins, and lets go of what else there is
    /// of this sender.
    pub(super) fn open(
        folder: &Path,
        from: u64,
        content: Content,
        held: OwnedMutexGuard<()>,
    ) -> io::Result<Self> {
        let hash = blake3::Hash::from_bytes(content.hash).to_hex();
        let path = folder.join(format!("{from}-{hash}-{}.partial", content.size));
        for other in files(folder, &format!("{from}-"), ".partial")? {
            if other != path {
                fs::remove_file(other)?;
            }
        }
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true);
        let mut file = for_its_owner(&mut options).open(&path)?;
        let mut hasher = Hasher::new();
        let length = read_into(&mut file, &mut hasher, content.size)?;
        file.set_len(length)?;
        Ok(Self { path, file, hasher, content, length, _held: held })
    }

    pub(super) fn is_whole(&self) -> bool {
        self.length == self.content.size
    }

    /// Whether so many more bytes belong to the file.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        bytes as u64 <= self.content.size - self.length
    }

    pub(super) fn append(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.file.write_all(chunk)?;
        self.hasher.update(chunk);
        self.length += chunk.len() as u64;
        Ok(())
    }

    /// Makes the file durable and gives it its own name; `None` when it is not what was announced,
    /// and then it is gone.
    pub(super) fn finish(self, into: &Path) -> io::Result<Option<()>> {
        if *self.hasher.finalize().as_bytes() != self.content.hash {
            fs::remove_file(&self.path)?;
            return Ok(None);
        }
        self.file.sync_all()?;
        fs::rename(&self.path, into)?;
        Ok(Some(()))
    }
}

/// Makes the folder, and lets go of what an earlier start received and its node did not take.
pub(super) fn prepare(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)?;
    for file in files(folder, "", ".received")? {
        fs::remove_file(file)?;
    }
    Ok(())
}

/// A snapshot is nobody else's to read.
fn for_its_owner(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

fn files(folder: &Path, start: &str, end: &str) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(start) && name.ends_with(end)) {
            found.push(entry.path());
        }
    }
    Ok(found)
}
