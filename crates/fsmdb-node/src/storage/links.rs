//! Files of changes: what leads from the state of one snapshot file to that of the next.
//!
//! They stand beside the snapshots as `incr-<term>-<from>-<to>`, in which the term is that of the
//! last entry. One after the other they lead from an older snapshot to the newest, and are sent in
//! its place to a node that holds the older one.
//!
//! # Invariants
//!
//! 1. Under the name of such a file stands one that was put in place whole. Whether it fits is seen
//!    by who puts it together with its base, and then the whole file is sent instead.
//! 2. What is listed is on disk, unless somebody else removed it; what is not is not sent.
//! 3. Beside the newest recorded snapshot there are those that lead to it, as long as together they
//!    are worth sending, and newer ones. After an erasure none begins before that snapshot.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use fsmdb::{Applied, Progress, SaveOptions, Snapshot, SnapshotError};

use super::durable::failed;
use super::{SnapshotReference, StorageError};
use crate::limits::{CHANGES_FILES_MAX, CHANGES_SHARE};

/// A file of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Link {
    /// The entry that it begins from.
    pub(crate) from: u64,
    /// The last entry that it holds.
    pub(crate) to: u64,
    term: u64,
    pub(crate) bytes: u64,
}

impl Link {
    fn name(&self) -> String {
        format!("incr-{:020}-{:020}-{:020}", self.term, self.from, self.to)
    }

    /// Which file of changes a file of this name and length is, if it is one.
    fn parse(name: &str, bytes: u64) -> Option<Self> {
        let mut parts = name.strip_prefix("incr-")?.split('-');
        let mut number = || parts.next()?.parse().ok();
        let (term, from, to) = (number()?, number()?, number()?);
        let link = Self { from, to, term, bytes };
        (link.name() == name && from < to).then_some(link)
    }
}

/// The files of changes in a folder.
#[derive(Debug)]
pub(crate) struct Links {
    folder: PathBuf,
    /// In the order of where they begin.
    known: Mutex<Vec<Link>>,
}

impl Links {
    pub(crate) fn open(folder: PathBuf) -> Result<Self, StorageError> {
        let mut known = Vec::new();
        for entry in fs::read_dir(&folder).map_err(failed("list", &folder))? {
            let entry = entry.map_err(failed("list", &folder))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let bytes = entry.metadata().map_err(failed("look at", &entry.path()))?.len();
            known.extend(Link::parse(&name, bytes));
        }
        known.sort_unstable();
        Ok(Self { folder, known: Mutex::new(known) })
    }

    fn known(&self) -> MutexGuard<'_, Vec<Link>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn path(&self, link: &Link) -> PathBuf {
        self.folder.join(link.name())
    }

    /// Writes what has changed from `base` to `snapshot`, whose file has so many bytes; nothing
    /// when that is too much to be worth it, when the one does not come from the other, or when
    /// it is cancelled.
    /// O(changes).
    pub(crate) fn build(
        &self,
        base: &Snapshot,
        snapshot: &Snapshot,
        whole: u64,
        is_cancelled: impl Fn() -> bool,
    ) -> Result<(), StorageError> {
        let Applied { index: to, term } = snapshot.applied();
        let mut link = Link { from: base.applied().index, to, term, bytes: 0 };
        let (path, most) = (self.path(&link), whole / CHANGES_SHARE);
        if link.from >= to {
            return Ok(());
        }
        let options = SaveOptions::new().progress(|progress| {
            let is_over = progress.bytes > most || is_cancelled();
            if is_over { Progress::CANCEL } else { Progress::CONTINUE }
        });
        match snapshot.save_since_to_path(base, &path, options) {
            Ok(summary) => link.bytes = summary.bytes,
            Err(SnapshotError::Cancelled { .. } | SnapshotError::NoBase { .. }) => return Ok(()),
            Err(source) => {
                return Err(StorageError::Snapshot { path, source: Box::new(source) });
            }
        }
        if link.bytes > most {
            return remove(&path);
        }
        self.add(link);
        Ok(())
    }

    /// The files that lead to a snapshot, the last one first, as far as they are worth sending.
    pub(crate) fn leading_to(&self, newest: &SnapshotReference) -> Vec<Link> {
        chain(&self.known(), newest)
    }

    /// Removes all but those that lead to the recorded snapshot, and newer ones.
    pub(crate) fn retain(&self, recorded: &SnapshotReference) -> Result<(), StorageError> {
        let leading = self.leading_to(recorded);
        self.remove_all_but(|link| link.to > recorded.index || leading.contains(link))
    }

    /// Removes all that begin from a state before an entry.
    pub(crate) fn erase(&self, before: u64) -> Result<(), StorageError> {
        self.remove_all_but(|link| link.from >= before)
    }

    fn remove_all_but(&self, is_kept: impl Fn(&Link) -> bool) -> Result<(), StorageError> {
        let mut known = self.known();
        let (kept, gone): (Vec<Link>, Vec<Link>) =
            known.iter().copied().partition(|link| is_kept(link));
        // Not sent any more from here on; what cannot be removed is tried again.
        *known = kept;
        drop(known);
        let mut outcome = Ok(());
        for link in gone {
            let removed = remove(&self.path(&link));
            if removed.is_err() {
                self.add(link);
                outcome = outcome.and(removed);
            }
        }
        outcome
    }

    fn add(&self, link: Link) {
        let mut known = self.known();
        known.retain(|known| known.name() != link.name());
        known.push(link);
        known.sort_unstable();
    }
}

fn remove(path: &Path) -> Result<(), StorageError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(failed("remove", path)),
    }
}

fn chain(known: &[Link], newest: &SnapshotReference) -> Vec<Link> {
    let mut chain: Vec<Link> = Vec::new();
    let (mut at, mut bytes) = (newest.index, 0_u64);
    while chain.len() < CHANGES_FILES_MAX {
        let is_next =
            |link: &&Link| link.to == at && (at < newest.index || link.term == newest.term);
        // Of two that end there the shorter step.
        let Some(link) = known.iter().rfind(is_next) else { break };
        bytes = bytes.saturating_add(link.bytes);
        if bytes > newest.bytes / CHANGES_SHARE {
            break;
        }
        at = link.from;
        chain.push(*link);
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(from: u64, to: u64, bytes: u64) -> Link {
        Link { from, to, term: 3, bytes }
    }

    fn snapshot(index: u64, bytes: u64) -> SnapshotReference {
        SnapshotReference { term: 3, index, bytes, hash: [0; 32] }
    }

    #[test]
    fn a_name_is_of_a_file_of_changes_or_of_none() {
        let found = link(10, 20, 7);
        assert_eq!(Link::parse(&found.name(), 7), Some(found));
        for name in [
            "snap-00000000000000000003-00000000000000000020",
            "incr-3-10-20",
            "incr-00000000000000000003-00000000000000000010",
            "incr-00000000000000000003-00000000000000000010-00000000000000000020-1",
            "incr-00000000000000000003-00000000000000000020-00000000000000000020",
            "incr-00000000000000000003-00000000000000000030-00000000000000000020",
        ] {
            assert_eq!(Link::parse(name, 7), None, "{name}");
        }
    }

    #[test]
    fn a_chain_goes_back_from_its_snapshot_as_far_as_it_is_worth_it() {
        let known = [link(5, 40, 90), link(10, 20, 30), link(20, 30, 30), link(30, 40, 30)];
        assert_eq!(chain(&known, &snapshot(40, 120)), [known[3], known[2]]);
        assert_eq!(chain(&known, &snapshot(40, 180)), [known[3], known[2], known[1]]);
        assert_eq!(chain(&known, &snapshot(40, 59)), []);
        assert_eq!(chain(&known, &snapshot(50, 1000)), []);
        let other = SnapshotReference { term: 4, ..snapshot(40, 1000) };
        assert_eq!(chain(&known, &other), []);
    }

    #[test]
    fn what_leads_to_no_snapshot_that_is_needed_is_removed() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let all = [link(5, 9, 10), link(10, 20, 10), link(20, 30, 10), link(30, 40, 10)];
        for link in &all {
            fs::write(folder.path().join(link.name()), [0; 10]).expect("written");
        }
        fs::write(folder.path().join("snap-1"), [0; 10]).expect("written");
        let links = Links::open(folder.path().to_owned()).expect("it can be listed");
        assert_eq!(*links.known(), all);
        links.retain(&snapshot(30, 100)).expect("removed");
        assert_eq!(*links.known(), all[1..]);
        assert_eq!(links.leading_to(&snapshot(30, 100)), [all[2], all[1]]);
        links.erase(30).expect("removed");
        assert_eq!(*links.known(), all[3..]);
        let left = fs::read_dir(folder.path()).expect("listed").count();
        assert_eq!(left, 2, "the last and what is none");
    }
}
