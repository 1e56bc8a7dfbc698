//! Snapshot files whose writing and taking can be held up.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use fsmdb::raft::MemoryLog;
use fsmdb::{Applied, SaveOptions, Snapshot};
use fsmdb_node::link::Parcel;
use fsmdb_node::node::{Changes, SnapshotStore, SnapshotStoreError};
use tempfile::TempDir;

/// Snapshot files in a folder. The in-memory log wants to have the data itself; it gets none.
pub(crate) struct Files {
    folder: TempDir,
    log: MemoryLog,
    pub(crate) builds: Gate,
    pub(crate) adopts: Gate,
    /// Closed, files are read very slowly.
    pub(crate) opens: Gate,
    is_cancelled: AtomicBool,
    cannot_cancel: AtomicBool,
}

/// Where a thread of a node can be held.
#[derive(Default)]
pub(crate) struct Gate {
    is_closed: AtomicBool,
    reached: AtomicU64,
}

impl Gate {
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn open(&self) {
        self.is_closed.store(false, Ordering::SeqCst);
    }

    /// Waits until somebody has come here after so many others.
    pub(crate) fn wait_for_more_than(&self, before: u64) {
        super::until("somebody comes to the gate", || self.reached() > before);
    }

    pub(crate) fn reached(&self) -> u64 {
        self.reached.load(Ordering::SeqCst)
    }

    fn pass(&self, is_cancelled: &AtomicBool) -> Result<(), SnapshotStoreError> {
        self.reached.fetch_add(1, Ordering::SeqCst);
        while self.is_closed.load(Ordering::SeqCst) {
            if is_cancelled.load(Ordering::SeqCst) {
                return Err(words("cancelled"));
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl Files {
    pub(super) fn new(log: MemoryLog) -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder can be made"),
            log,
            builds: Gate::default(),
            adopts: Gate::default(),
            opens: Gate::default(),
            is_cancelled: AtomicBool::default(),
            cannot_cancel: AtomicBool::default(),
        }
    }

    /// A node starts on them.
    pub(super) fn starts(&self) {
        self.is_cancelled.store(false, Ordering::SeqCst);
    }

    /// Lets a node that stops wait for whoever is at a gate.
    pub(crate) fn forbid_to_cancel(&self) {
        self.cannot_cancel.store(true, Ordering::SeqCst);
    }

    /// The newest file, and its reference.
    pub(crate) fn newest(&self) -> (Vec<u8>, PathBuf) {
        let listed = self.folder.path().read_dir().expect("it is there");
        let newest = listed.map(|entry| entry.expect("listed").path()).max();
        let newest = newest.expect("one was built");
        let name = newest.file_name().expect("it is a file").to_string_lossy();
        (name.into_owned().into_bytes(), newest)
    }

    fn path_of(&self, reference: &[u8]) -> PathBuf {
        self.folder.path().join(String::from_utf8_lossy(reference).into_owned())
    }
}

fn name_of(at: Applied) -> String {
    format!("{:020}-{}", at.index, at.term)
}

fn words(error: impl std::fmt::Display) -> SnapshotStoreError {
    SnapshotStoreError::new(error.to_string())
}

/// Gives a byte now and then.
struct Slow(File);

impl io::Read for Slow {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        thread::sleep(Duration::from_millis(100));
        let most = buffer.len().min(1);
        self.0.read(&mut buffer[..most])
    }
}

impl SnapshotStore for Files {
    fn build(&self, snapshot: &Snapshot) -> Result<(Vec<u8>, u64), SnapshotStoreError> {
        self.builds.pass(&self.is_cancelled)?;
        let at = snapshot.applied();
        let reference = name_of(at).into_bytes();
        let path = self.path_of(&reference);
        snapshot.save_to_path(&path, SaveOptions::new()).map_err(words)?;
        self.log.put_snapshot(&reference, Arc::new([]));
        Ok((reference, path.metadata().map_err(words)?.len()))
    }

    /// Changes since an entry of which nobody has a snapshot: so each receiver is asked.
    fn changes(&self, _reference: &[u8]) -> Vec<Changes> {
        vec![Changes::new(1, Parcel::default(), 0)]
    }

    fn path(&self, reference: &[u8]) -> Result<PathBuf, SnapshotStoreError> {
        let path = self.path_of(reference);
        if path.exists() { Ok(path) } else { Err(words("it is gone")) }
    }

    fn adopt(
        &self,
        at: Applied,
        reference: &[u8],
        file: &Path,
    ) -> Result<Vec<u8>, SnapshotStoreError> {
        self.adopts.pass(&self.is_cancelled)?;
        if reference != name_of(at).into_bytes() {
            return Err(words("it is of another entry"));
        }
        std::fs::rename(file, self.path_of(reference)).map_err(words)?;
        self.log.put_snapshot(reference, Arc::new([]));
        Ok(reference.to_vec())
    }

    fn open(&self, reference: &[u8]) -> Result<Box<dyn io::Read + Send>, SnapshotStoreError> {
        self.opens.reached.fetch_add(1, Ordering::SeqCst);
        let is_slow = self.opens.is_closed.load(Ordering::SeqCst);
        let file = File::open(self.path_of(reference)).map_err(words)?;
        Ok(if is_slow { Box::new(Slow(file)) } else { Box::new(file) })
    }

    fn retain(&self, recorded: &[u8]) -> Result<(), SnapshotStoreError> {
        let recorded = self.path_of(recorded);
        for entry in self.folder.path().read_dir().map_err(words)? {
            let path = entry.map_err(words)?.path();
            if path < recorded {
                std::fs::remove_file(path).map_err(words)?;
            }
        }
        Ok(())
    }

    /// Older files went when this was recorded.
    fn erase(&self) -> Result<(), SnapshotStoreError> {
        Ok(())
    }

    fn cancel(&self) {
        let cancels = !self.cannot_cancel.load(Ordering::SeqCst);
        self.is_cancelled.store(cancels, Ordering::SeqCst);
    }
}
