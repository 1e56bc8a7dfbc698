//! A file system that fails as it is told to. Every log in the unit tests is on one.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use raft_engine::env::{DefaultFileSystem, FileSystem, Handle, Permission, WriteExt};

type System = DefaultFileSystem;
type SystemFile = <System as FileSystem>::Handle;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A write fails after so many bytes.
    TornWrite(usize),
    /// The disk is full after so many bytes.
    NoSpace(usize),
    Sync,
}

/// The faults to come: how many operations of its kind succeed before, and how often it occurs.
#[derive(Clone, Copy, Debug, Default)]
struct Plan {
    fault: Option<Fault>,
    skip: usize,
    times: usize,
    syncs: usize,
}

/// The disk, and whoever tells it to fail.
#[derive(Clone, Debug, Default)]
pub(crate) struct FaultyDisk(Arc<Mutex<Plan>>);

impl FaultyDisk {
    pub(super) fn fail(&self, fault: Fault, skip: usize, times: usize) {
        let mut plan = self.0.lock().expect("no panic while planning");
        (plan.fault, plan.skip, plan.times) = (Some(fault), skip, times);
    }

    /// How many syncs were asked for.
    pub(super) fn syncs(&self) -> usize {
        self.0.lock().expect("no panic while planning").syncs
    }

    fn next(&self, is_sync: bool) -> Option<Fault> {
        let mut plan = self.0.lock().expect("no panic while planning");
        plan.syncs += usize::from(is_sync);
        let fault = plan.fault.filter(|fault| (*fault == Fault::Sync) == is_sync)?;
        if plan.skip > 0 {
            plan.skip -= 1;
            return None;
        }
        plan.times = plan.times.checked_sub(1)?;
        Some(fault)
    }
}

pub(crate) struct FaultyFile {
    file: Arc<SystemFile>,
    disk: FaultyDisk,
}

impl Handle for FaultyFile {
    fn truncate(&self, offset: usize) -> io::Result<()> {
        Handle::truncate(&*self.file, offset)
    }

    fn file_size(&self) -> io::Result<usize> {
        Handle::file_size(&*self.file)
    }

    fn sync(&self) -> io::Result<()> {
        match self.disk.next(true) {
            Some(_) => Err(io::Error::other("planned: the sync failed")),
            None => Handle::sync(&*self.file),
        }
    }
}

pub(crate) struct FaultyWriter {
    writer: <System as FileSystem>::Writer,
    disk: FaultyDisk,
}

impl Write for FaultyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (written, error) = match self.disk.next(false) {
            None | Some(Fault::Sync) => return self.writer.write(bytes),
            Some(Fault::TornWrite(written)) => (written, io::Error::other("planned: torn")),
            // The words that raft-engine knows a full disk by.
            Some(Fault::NoSpace(written)) => {
                (written, io::Error::new(io::ErrorKind::StorageFull, "nospace"))
            }
        };
        self.writer.write_all(&bytes[..written.min(bytes.len())])?;
        Err(error)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl Seek for FaultyWriter {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.writer.seek(to)
    }
}

impl WriteExt for FaultyWriter {
    fn truncate(&mut self, offset: usize) -> io::Result<()> {
        self.writer.truncate(offset)
    }

    fn allocate(&mut self, offset: usize, size: usize) -> io::Result<()> {
        self.writer.allocate(offset, size)
    }
}

pub(crate) struct FaultyReader(<System as FileSystem>::Reader);

impl Read for FaultyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Seek for FaultyReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

impl FileSystem for FaultyDisk {
    type Handle = FaultyFile;
    type Reader = FaultyReader;
    type Writer = FaultyWriter;

    fn create<P: AsRef<Path>>(&self, path: P) -> io::Result<FaultyFile> {
        Ok(FaultyFile { file: Arc::new(System {}.create(path)?), disk: self.clone() })
    }

    fn open<P: AsRef<Path>>(&self, path: P, permission: Permission) -> io::Result<FaultyFile> {
        Ok(FaultyFile { file: Arc::new(System {}.open(path, permission)?), disk: self.clone() })
    }

    fn delete<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        System {}.delete(path)
    }

    fn rename<P: AsRef<Path>>(&self, from: P, to: P) -> io::Result<()> {
        System {}.rename(from, to)
    }

    fn new_reader(&self, file: Arc<FaultyFile>) -> io::Result<FaultyReader> {
        Ok(FaultyReader(System {}.new_reader(Arc::clone(&file.file))?))
    }

    fn new_writer(&self, file: Arc<FaultyFile>) -> io::Result<FaultyWriter> {
        let writer = System {}.new_writer(Arc::clone(&file.file))?;
        Ok(FaultyWriter { writer, disk: self.clone() })
    }
}
