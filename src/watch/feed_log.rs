//! The commits that feeds read, and the bell that says there is another.
//!
//! There is one log for all feeds. A commit appends one item, whoever reads; each feed remembers
//! how far it has come. So a feed that is slow costs nothing but the items that the log keeps
//! anyway, within its limits, and one that has fallen out of them is told.
//!
//! A commit that erases appends none: an item has keys and old rows. It takes out all that is there
//! instead, also what feeds have taken and not given yet, and every feed is told that it lags.
//!
//! # Invariants
//!
//! 1. Items are in the order in which their versions were published, each version once.
//! 2. Every change after `floor` is in the items.
//! 3. The items are within the limits, or there is one alone.
//! 4. A feed that begins, or skips, loads its version under the lock of the log: nothing is pushed
//!    or dropped between the version and the position behind it. The log may be one commit behind
//!    that version, and says nothing of the newest revision until it has come there.
//! 5. What a feed takes comes into its batch under the lock of the log, which has the batches of
//!    all feeds: after an erasure nothing older is in any of them. A batch is locked second.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use super::change::{Change, Committed};
use crate::limits::{FEED_BATCH_MAX, FEED_BYTES_DEFAULT, FEED_COMMITS_DEFAULT};
use crate::revision::Revision;
use crate::root::Root;
use crate::sync::{Mutex, MutexGuard, PoisonError};
use crate::tree::Found;

/// How much of the past is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FeedLimits {
    pub(crate) commits: usize,
    pub(crate) bytes: usize,
    /// Whether the log is kept while no feed is open.
    pub(crate) is_kept: bool,
}

impl Default for FeedLimits {
    fn default() -> Self {
        Self { commits: FEED_COMMITS_DEFAULT, bytes: FEED_BYTES_DEFAULT, is_kept: false }
    }
}

/// One version that was published.
#[derive(Clone)]
pub(crate) struct Item {
    /// The serial number of the version.
    pub(crate) serial: u64,
    pub(crate) what: What,
}

#[derive(Clone)]
pub(crate) enum What {
    Commit(Arc<Committed>),
    /// A snapshot file was restored or applied; the difference, unless it is larger than the
    /// limits.
    Reset {
        from: Revision,
        to: Revision,
        difference: Option<Arc<Committed>>,
    },
}

impl What {
    /// A restore, with the difference that it makes unless that is larger than the limits.
    pub(super) fn reset(old: &Root, new: &Root, limits: FeedLimits) -> Self {
        let difference = difference(old, new, limits);
        Self::Reset { from: old.revision, to: new.revision, difference }
    }

    pub(crate) fn revision(&self) -> Revision {
        match self {
            Self::Commit(commit) => commit.revision,
            Self::Reset { to, .. } => *to,
        }
    }

    fn bytes(&self) -> usize {
        let commit = match self {
            Self::Commit(commit) => Some(commit),
            Self::Reset { difference, .. } => difference.as_ref(),
        };
        size_of::<Item>() + commit.map_or(0, |commit| commit.held_bytes())
    }
}

/// The versions that were published since somebody wanted to know.
pub(super) struct FeedLog {
    items: VecDeque<Item>,
    limits: FeedLimits,
    /// How many items have gone.
    gone: u64,
    /// The serial number of the last of them.
    gone_serial: u64,
    bytes: usize,
    floor: Revision,
    /// The newest version that was logged, with changes or without: serial number and revision.
    last: (u64, Revision),
    /// What each feed that is open has taken and not given yet, by its number.
    open: BTreeMap<u64, Batch>,
    /// Feeds that were opened so far.
    opened: u64,
}

/// How far a feed has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Position {
    /// The number of the next item.
    next: u64,
    /// The serial number of the version after which it follows.
    after: u64,
}

/// Items that a feed has taken out of the log and not given yet. A clone is another hand on them.
#[derive(Clone, Default)]
struct Batch {
    items: Arc<Mutex<VecDeque<Item>>>,
}

impl Batch {
    fn items(&self) -> MutexGuard<'_, VecDeque<Item>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A feed that is open: how far it has come, and what it has taken and not given yet.
pub(crate) struct Follower {
    number: u64,
    position: Position,
    batch: Batch,
}

impl Follower {
    /// Sets where it goes on.
    pub(super) fn go_to(&mut self, position: Position) {
        self.position = position;
    }

    /// The next of the items that it has taken.
    pub(crate) fn next(&self) -> Option<Item> {
        self.batch.items().pop_front()
    }

    /// Drops what it has taken and not given.
    pub(crate) fn clear(&self) {
        let items = std::mem::take(&mut *self.batch.items());
        // Behind the lock: rows may go with them, which runs the user's code.
        drop(items);
    }
}

/// What a feed has found.
pub(crate) enum Taken {
    /// It has taken the next items.
    Items,
    /// There are no further items; and the newest revision, unless the log has not come to where
    /// the feed is: a commit is published first and logged second.
    Nothing(Option<Revision>),
    /// The next items have gone. It goes on after this revision.
    Lagged(Revision),
}

impl FeedLog {
    pub(super) fn new(limits: FeedLimits, serial: u64, revision: Revision) -> Self {
        Self {
            items: VecDeque::new(),
            limits,
            gone: 0,
            gone_serial: 0,
            bytes: 0,
            floor: revision,
            last: (serial, revision),
            open: BTreeMap::new(),
            opened: 0,
        }
    }

    /// Whether commits are to be logged.
    pub(super) fn is_on(&self) -> bool {
        !self.open.is_empty() || self.limits.is_kept
    }

    /// Enters a feed, which has no position yet; whether the log begins with that.
    pub(super) fn enter(&mut self) -> (Follower, bool) {
        let begins = !self.is_on();
        let (number, batch) = (self.opened, Batch::default());
        self.opened += 1;
        self.open.insert(number, batch.clone());
        (Follower { number, position: Position::default(), batch }, begins)
    }

    /// Begins the log behind a version.
    pub(super) fn begin(&mut self, serial: u64, revision: Revision) {
        self.floor = revision;
        self.last = (serial, revision);
    }

    /// The position behind the version with this serial number, which was published.
    pub(super) fn behind(&self, serial: u64) -> Position {
        Position { next: self.gone, after: serial }
    }

    /// The position behind `revision`, when the newest version is `newest`.
    ///
    /// # Errors
    ///
    /// The lowest revision behind which one can follow.
    pub(super) fn since(&self, revision: Revision, newest: Revision) -> Result<Position, Revision> {
        // Before a restore revisions went another way.
        let reset = self.items.iter().rposition(|item| matches!(item.what, What::Reset { .. }));
        let (start, floor) = match reset {
            Some(at) => (at + 1, self.items[at].what.revision()),
            None => (0, self.floor),
        };
        if revision < floor || revision > newest {
            return Err(floor);
        }
        let mut before = start.checked_sub(1).map_or(self.gone_serial, |at| self.items[at].serial);
        for item in self.items.range(start..) {
            if item.what.revision() > revision {
                break;
            }
            before = item.serial;
        }
        Ok(self.behind(before))
    }

    /// Ends a feed. With the last one everything goes, unless it is to be kept.
    pub(super) fn close(&mut self, feed: &Follower) {
        self.open.remove(&feed.number);
        if !self.is_on() {
            self.gone += self.items.len() as u64;
            self.gone_serial = self.items.back().map_or(self.gone_serial, |item| item.serial);
            self.items = VecDeque::new();
            self.bytes = 0;
        }
    }

    /// Logs a version that was published, and what it has changed, if anything.
    pub(super) fn push(&mut self, serial: u64, revision: Revision, what: Option<What>) {
        self.last = (serial, revision);
        let Some(what) = what.filter(|_| self.is_on()) else { return };
        self.bytes += what.bytes();
        self.items.push_back(Item { serial, what });
        while self.items.len() > 1
            && (self.items.len() > self.limits.commits || self.bytes > self.limits.bytes)
            && let Some(gone) = self.items.pop_front()
        {
            self.gone += 1;
            self.gone_serial = gone.serial;
            self.bytes -= gone.what.bytes();
            self.floor = gone.what.revision();
        }
    }

    /// Takes everything out, also what feeds have taken and not given, because of an erasure that
    /// has made this version; and gives it, for the caller to drop without a lock. The erasure
    /// counts as an item that has gone, so every feed that follows after an older version lags.
    pub(super) fn forget(&mut self, serial: u64, revision: Revision) -> Vec<Item> {
        self.gone += self.items.len() as u64 + 1;
        self.gone_serial = serial;
        self.floor = revision;
        self.last = (serial, revision);
        self.bytes = 0;
        let mut items: Vec<Item> = self.items.drain(..).collect();
        self.open.values().for_each(|batch| items.extend(batch.items().drain(..)));
        items
    }

    /// Gives a feed its next items.
    pub(super) fn take(&self, feed: &mut Follower) -> Taken {
        let position = &mut feed.position;
        if position.next < self.gone {
            position.next = self.gone;
            if self.gone_serial > position.after {
                position.after = self.gone_serial;
                return Taken::Lagged(self.floor);
            }
        }
        let mut items = feed.batch.items();
        for item in self.items.range((position.next - self.gone) as usize..) {
            if items.len() == FEED_BATCH_MAX {
                break;
            }
            position.next += 1;
            if item.serial > position.after {
                position.after = item.serial;
                items.push_back(item.clone());
            }
        }
        if !items.is_empty() {
            return Taken::Items;
        }
        let (serial, revision) = self.last;
        Taken::Nothing((serial >= position.after).then_some(revision))
    }

    pub(super) fn limits(&self) -> FeedLimits {
        self.limits
    }

    /// Feeds that are open, items, and bytes that they keep.
    pub(super) fn held(&self) -> (usize, usize, usize) {
        (self.open.len(), self.items.len(), self.bytes)
    }
}

/// The difference that a restore makes, unless it is larger than the limits of the feeds.
fn difference(old: &Root, new: &Root, limits: FeedLimits) -> Option<Arc<Committed>> {
    let mut changes = Vec::new();
    let mut bytes = 0;
    for (old, new) in old.tables().zip(new.tables()) {
        let mut differences = new.rows().diff(old.rows(), Bound::Unbounded, Bound::Unbounded);
        while let Some(Found { key, before, after }) = differences.next() {
            let is_same = before.zip(after).is_some_and(|(before, after)| {
                before.meta() == after.meta() && new.schema().is_same(before, after)
            });
            if is_same {
                continue;
            }
            let change = Change::new(new.schema(), key, before, after);
            bytes += change.held_bytes();
            changes.push(change);
            if bytes > limits.bytes {
                return None;
            }
        }
    }
    Some(Arc::new(Committed { revision: new.revision, changes }))
}

impl fmt::Debug for FeedLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FeedLog")
            .field("items", &self.items.len())
            .field("bytes", &self.bytes)
            .field("open", &self.open.len())
            .finish_non_exhaustive()
    }
}
