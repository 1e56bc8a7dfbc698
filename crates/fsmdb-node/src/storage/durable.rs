//! Small files written whole, and folders synced.
//!
//! # Invariants
//!
//! 1. Under the name of a file there is the old content or the new one, whatever fails.
//! 2. What was put in place or taken away is durable on return.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use super::StorageError;

/// The end of the name of a file that is not in place yet.
pub(super) const PARTIAL: &str = ".partial";

/// Makes an error of a step that failed on a path.
pub(super) fn failed(
    step: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> StorageError + use<> {
    let path = path.to_owned();
    move |source| StorageError::Disk { path, step, source }
}

/// Puts a small file in the place of what was there.
pub(super) fn replace(path: &Path, content: &[u8]) -> Result<(), StorageError> {
    let aside = path.with_added_extension(PARTIAL.trim_start_matches('.'));
    let mut file = create_private(&aside).map_err(failed("create", &aside))?;
    file.write_all(content).map_err(failed("write", &aside))?;
    file.sync_all().map_err(failed("sync", &aside))?;
    rename(&aside, path)
}

/// Renames a file within its folder.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), StorageError> {
    fs::rename(from, to).map_err(failed("rename", from))?;
    sync_folder(to.parent().unwrap_or(Path::new(".")))
}

/// Makes what a folder lists durable.
pub(super) fn sync_folder(folder: &Path) -> Result<(), StorageError> {
    if cfg!(unix) {
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(failed("sync the folder", folder))?;
    }
    Ok(())
}

/// Makes a file that only its owner can read, in the place of one that a crash has left.
pub(super) fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Makes a folder that only its owner can enter, if it is not there.
pub(super) fn create_folder(path: &Path) -> Result<(), StorageError> {
    if path.is_dir() {
        return Ok(());
    }
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(failed("create", path))?;
    sync_folder(path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new(".")))
}
