//! The files of the log read over before raft-engine opens them.
//!
//! Of the newest file of a queue raft-engine takes what is sound up to the first record that is
//! not, and cuts the rest off: a crash tears what was not synced, and in any order of its pages. A
//! flipped bit looks the same, and synced records would go with it. What tells them apart is the
//! [`Evidence`](super::record::Evidence) in each record: where those before it end that were
//! durable when it was written. Damage before the end of any sound record's evidence is no crash's.
//!
//! Damage to the last records, of which no later one says that they were durable, is taken for a
//! torn end.
//!
//! # Invariants
//!
//! 1. Nothing that is proved to have been durable is cut off: the open is refused, and the files
//!    are left as they are.
//! 2. What is cut off is all from the first record on that is not whole, so that of several writes
//!    none is there without those before it.
//! 3. What an open reads is durable before anybody relies on it: the process before may have
//!    ended between a write and its sync.
//! 4. Only what stands in the files decides, and what they can make it cost is linear in their
//!    length.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use raft_engine::env::{FileSystem, Handle, Permission};
use slog::{Logger, info};

use super::StorageError;
use super::durable::failed;
use super::housekeeping::Disk;
use super::layout::{LogFile, RECORD_HEADER_BYTES, Record};
use crate::limits::LOG_WINDOW_BYTES;

/// The ends of the names of files, by the queue they belong to: what is appended, and what is
/// moved out of the way of purges.
const QUEUES: [&str; 2] = [".raftlog", ".rewrite"];

/// What is behind the end of most files that a crash has left: room that was made ahead.
static ZEROS: [u8; LOG_WINDOW_BYTES] = [0; LOG_WINDOW_BYTES];

/// Digits that the name of a file begins with.
const NUMBER_DIGITS: usize = 16;

/// What was found in the newest file of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Whole,
    /// From there on it was not written whole.
    Torn(u64),
    /// Something is broken there that was durable.
    Damaged(u64),
}

/// Reads over the files of a log, cuts off a torn end, and makes the rest durable. Answers whether
/// raft-engine is left to begin the newest file, which it does not sync. O(bytes).
///
/// # Errors
///
/// [`StorageError::BrokenLog`] with file and byte when something is damaged that was durable,
/// [`StorageError::Disk`].
pub(super) fn examine(
    disk: &Disk,
    folder: &Path,
    stamp: u64,
    logger: &Logger,
) -> Result<bool, StorageError> {
    let mut is_begun_anew = false;
    for queue in QUEUES {
        let files = list(folder, queue)?;
        let Some(((number, newest), older)) = files.split_last() else { continue };
        for (number, path) in older {
            let found = LogFile::open(path, *number).and_then(|mut file| end_of_records(&mut file));
            if let Some(at) = found.map_err(failed("read", path))? {
                return Err(damaged(folder, path, at));
            }
        }
        let is_appended = queue == QUEUES[0];
        let verdict = LogFile::open(newest, *number).and_then(|mut file| {
            if is_appended { judge(&mut file, stamp) } else { torn(end_of_records(&mut file)?) }
        });
        match verdict.map_err(failed("read", newest))? {
            Verdict::Whole => settle(disk, newest, None)?,
            Verdict::Torn(at) => {
                info!(logger, "the end of the log was not written whole, and is cut off";
                    "file" => %newest.display(), "byte" => at);
                settle(disk, newest, Some(at))?;
                is_begun_anew |= at == 0;
            }
            Verdict::Damaged(at) => return Err(damaged(folder, newest, at)),
        }
    }
    Ok(is_begun_anew)
}

fn torn(end: Option<u64>) -> io::Result<Verdict> {
    Ok(end.map_or(Verdict::Whole, Verdict::Torn))
}

fn damaged(folder: &Path, path: &Path, at: u64) -> StorageError {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let reason = format!("{name} is damaged at byte {at}, and what stood there was durable");
    StorageError::BrokenLog { path: folder.to_owned(), reason }
}

/// The files of a queue by their numbers, as raft-engine lists them.
fn list(folder: &Path, queue: &str) -> Result<Vec<(u64, PathBuf)>, StorageError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed("list", folder))? {
        let entry = entry.map_err(failed("list", folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let number = name.get(..NUMBER_DIGITS).filter(|_| name.ends_with(queue));
        if let Some(number) = number.and_then(|digits| digits.parse().ok()) {
            files.push((number, entry.path()));
        }
    }
    files.sort_unstable();
    // What stands before a gap is left over from a purge, and raft-engine does not read it.
    let gap = files.windows(2).rposition(|pair| pair[0].0 + 1 != pair[1].0);
    files.drain(..gap.map_or(0, |last| last + 1));
    Ok(files)
}

/// Cuts a file, and makes what is left of it durable.
fn settle(disk: &Disk, path: &Path, cut: Option<u64>) -> Result<(), StorageError> {
    let file = disk.open(path, Permission::ReadWrite).map_err(failed("open", path))?;
    if let Some(at) = cut {
        let at = usize::try_from(at).map_err(io::Error::other);
        let cut = at.and_then(|at| file.truncate(at));
        cut.map_err(failed("cut", path))?;
    }
    file.sync().map_err(failed("sync", path))
}

/// Where the sound records of a file end, when that is not where it ends itself.
fn end_of_records(file: &mut LogFile) -> io::Result<Option<u64>> {
    let Some((mut at, signature)) = file.header()? else { return Ok(Some(0)) };
    while at < file.length {
        match file.record(at)? {
            Some(record) if file.are_items_sound(&record, &[signature])? => at = record.end,
            _ => return Ok(Some(at)),
        }
    }
    Ok(None)
}

/// What the newest file of what is appended holds.
pub(super) fn judge(file: &mut LogFile, stamp: u64) -> io::Result<Verdict> {
    let header = file.header()?;
    let (first, signature) = header.unwrap_or((0, file.signature()));
    let (mut at, mut durable) = (first, 0);
    while header.is_some() && at < file.length {
        let Some(record) = file.record(at)? else { break };
        if !file.are_items_sound(&record, &[signature])? {
            break;
        }
        durable = durable.max(file.durable_before(&record, stamp)?.unwrap_or_default());
        at = record.end;
    }
    let is_broken = at < file.length || header.is_none();
    // Of a file whose header is broken nobody knows which it had.
    let plain = if header.is_none() { 0 } else { signature };
    if is_broken && is_proved_durable(file, at, stamp, [signature, plain])? {
        return Ok(Verdict::Damaged(at));
    }
    // An entry that is broken in what was durable is found when it is read, and called by its
    // index; or nobody needs it any more. So is one in a record that says nothing of others, as
    // earlier versions wrote them: what it stands behind may have been durable.
    let mut walked = first;
    while walked < at {
        let Some(record) = file.record(walked)? else { break };
        let says_so = record.start >= durable && file.durable_before(&record, stamp)?.is_some();
        if says_so && !file.are_entries_sound(&record)? {
            return Ok(Verdict::Torn(walked));
        }
        walked = record.end;
    }
    torn(is_broken.then_some(at))
}

/// Whether a sound record anywhere behind `broken` says that what stood there was durable.
fn is_proved_durable(
    file: &mut LogFile,
    broken: u64,
    stamp: u64,
    signatures: [u32; 2],
) -> io::Result<bool> {
    // Records do not overlap, so sound ones have no more to be verified. What asks for more is a
    // command that was made for it, and no evidence.
    let mut left = file.length;
    let mut at = broken + 1;
    while let Some(record) = next_header(file, &mut at)? {
        if file.durable_before(&record, stamp)?.is_none_or(|durable| durable <= broken) {
            continue;
        }
        let Some(rest) = left.checked_sub(record.items_bytes()) else { return Ok(false) };
        left = rest;
        if file.are_items_sound(&record, &signatures)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What could be the next record from `at` on, which is moved behind its first byte.
fn next_header(file: &mut LogFile, at: &mut u64) -> io::Result<Option<Record>> {
    let length = file.length;
    while *at < length {
        let from = *at;
        let rest = file.rest(from)?;
        if rest.len() >= RECORD_HEADER_BYTES && ZEROS.starts_with(rest) {
            *at += (rest.len() - RECORD_HEADER_BYTES + 1) as u64;
            continue;
        }
        let headers = rest.windows(RECORD_HEADER_BYTES).filter_map(<[u8]>::first_chunk);
        let mut count = 0;
        for (start, header) in (from..).zip(headers) {
            count += 1;
            if let Some(record) = Record::parse(*header, start, length) {
                *at = start + 1;
                return Ok(Some(record));
            }
        }
        if count == 0 {
            break;
        }
        *at += count;
    }
    Ok(None)
}
