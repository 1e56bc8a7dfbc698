//! Snapshot files on disk: written aside and put in place whole, or not at all.
//!
//! The only room that touches files, and that names `tempfile`.
//!
//! # Invariants
//!
//! 1. Under the name of a snapshot file there is the old content or the new one, whole and synced,
//!    whatever fails and whenever the machine stops.
//! 2. Nobody but its owner can read it (mode 0600).
//! 3. When saving fails, what was written aside is removed. A crash may leave it, under a name that
//!    ends in `.partial`.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::error::SnapshotError;

/// The steps of putting a file in place, each of which can fail.
trait Disk {
    fn create(&self, folder: &Path) -> io::Result<NamedTempFile>;
    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<usize>;
    fn sync(&self, file: &File) -> io::Result<()>;
    fn rename(&self, file: NamedTempFile, path: &Path) -> io::Result<()>;
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
}

/// The disk of the operating system.
struct System;

impl Disk for System {
    fn create(&self, folder: &Path) -> io::Result<NamedTempFile> {
        tempfile::Builder::new().prefix(".snapshot-").suffix(".partial").tempfile_in(folder)
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<usize> {
        file.write(bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename(&self, file: NamedTempFile, path: &Path) -> io::Result<()> {
        file.persist(path).map(drop).map_err(|failed| failed.error)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
    }
}

/// Writes to a file through a disk.
struct Target<'a, D> {
    disk: &'a D,
    file: &'a mut File,
}

impl<D: Disk> Write for Target<'_, D> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.disk.write(self.file, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes what `write` writes to a file that then takes the place of the one at `path`.
pub(crate) fn replace<T>(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<T, SnapshotError>,
) -> Result<T, SnapshotError> {
    replace_on(&System, path, write)
}

fn replace_on<D: Disk, T>(
    disk: &D,
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<T, SnapshotError>,
) -> Result<T, SnapshotError> {
    let failed = |step: &'static str| {
        move |source| SnapshotError::Disk { path: path.to_owned(), step, source }
    };
    let folder = folder_of(path);
    let mut file = disk.create(&folder).map_err(failed("create"))?;
    let written = write(&mut Target { disk, file: file.as_file_mut() })?;
    disk.sync(file.as_file()).map_err(failed("sync"))?;
    disk.rename(file, path).map_err(failed("rename"))?;
    disk.sync_folder(&folder).map_err(failed("sync the folder of"))?;
    Ok(written)
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Opens a snapshot file for reading.
pub(crate) fn open(path: &Path) -> Result<impl Read + use<>, SnapshotError> {
    let file = File::open(path).map_err(|source| SnapshotError::Disk {
        path: path.to_owned(),
        step: "open",
        source,
    })?;
    Ok(BufReader::with_capacity(READ_BYTES, file))
}

/// Bytes that are read from a file at once.
const READ_BYTES: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs;

    use super::*;

    /// Fails at one of its steps, or stops there as if the machine had lost power.
    struct Failing {
        steps: Cell<usize>,
        fails_at: usize,
    }

    impl Failing {
        fn step(&self) -> io::Result<()> {
            self.steps.set(self.steps.get() + 1);
            if self.steps.get() == self.fails_at {
                Err(io::Error::other("planned"))
            } else {
                Ok(())
            }
        }
    }

    impl Disk for Failing {
        fn create(&self, folder: &Path) -> io::Result<NamedTempFile> {
            self.step()?;
            System.create(folder)
        }

        fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<usize> {
            self.step()?;
            System.write(file, &bytes[..bytes.len().min(3)])
        }

        fn sync(&self, file: &File) -> io::Result<()> {
            self.step()?;
            System.sync(file)
        }

        fn rename(&self, file: NamedTempFile, path: &Path) -> io::Result<()> {
            self.step()?;
            System.rename(file, path)
        }

        fn sync_folder(&self, folder: &Path) -> io::Result<()> {
            self.step()?;
            System.sync_folder(folder)
        }
    }

    fn write_new(target: &mut dyn Write) -> Result<usize, SnapshotError> {
        let all = target.write_all(b"new content");
        all.map(|()| 11).map_err(|source| SnapshotError::Io { offset: 0, source })
    }

    #[test]
    fn whatever_step_fails_the_old_file_or_the_new_one_is_there_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.snapshot");
        let mut is_new = Vec::new();
        for fails_at in 1.. {
            fs::write(&path, b"old content").unwrap();
            let disk = Failing { steps: Cell::new(0), fails_at };
            let saved = replace_on(&disk, &path, write_new);
            let found = fs::read(&path).unwrap();
            assert!(found == b"old content" || found == b"new content", "step {fails_at}");
            let others = fs::read_dir(folder.path()).unwrap().count();
            assert_eq!(others, 1, "nothing is left aside after step {fails_at}");
            is_new.push(found == b"new content");
            if saved.is_ok() {
                break;
            }
        }
        // Create, four writes, sync, rename; only the sync of the folder comes after.
        assert_eq!(is_new, [false, false, false, false, false, false, false, true, true]);
    }

    #[test]
    #[cfg(unix)]
    fn only_the_owner_can_read_what_was_saved() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.snapshot");
        fs::write(&path, b"old content").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(replace(&path, write_new).unwrap(), 11);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_failure_names_the_file_and_the_step() {
        let folder = tempfile::tempdir().unwrap();
        let nowhere = folder.path().join("missing").join("state.snapshot");
        let error = replace(&nowhere, write_new).unwrap_err();
        assert!(error.to_string().starts_with("cannot create"), "{error}");
        assert!(open(&nowhere).err().unwrap().to_string().starts_with("cannot open"));
        // A folder cannot be replaced by a file.
        let error = replace(folder.path(), write_new).unwrap_err();
        assert!(error.to_string().starts_with("cannot rename"), "{error}");
    }
}
