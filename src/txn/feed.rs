//! Change feeds: what was committed, one item a commit, in order.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use thiserror::Error;

use super::read::Snapshot;
use crate::key::{AsKey, AsPrefix, KeyBuf, KeyRange, encode, prefix_bounds};
use crate::revision::Revision;
use crate::schema::{Index, Table};
use crate::sync::SignalListener;
use crate::table::{Span, as_bytes};
use crate::watch::{Change, Committed, Filter, Follower, Hub, Taken, What};

/// Describes a feed: of which part of the database, and from when on. From
/// [`Db::changes`](crate::Db::changes) and [`Db::changes_of`](crate::Db::changes_of).
#[must_use = "a feed begins with `open`, `since` or `follow`"]
pub struct Changes<T> {
    hub: Arc<Hub>,
    filter: Filter,
    marker: PhantomData<fn() -> T>,
}

impl<T> Changes<T> {
    pub(crate) fn new(hub: &Arc<Hub>, filter: Filter) -> Self {
        Self { hub: Arc::clone(hub), filter, marker: PhantomData }
    }

    /// Opens a feed of everything that is committed from now on.
    pub fn open(self) -> Feed {
        self.follow().1
    }

    /// Gives the current version, and a feed of everything that is committed after it: nothing is
    /// missing between the two, and nothing is in both. After the last handle on the database is
    /// gone, the version is one without rows.
    pub fn follow(self) -> (Snapshot, Feed) {
        let (follower, current) = self.hub.open_feed();
        let feed = Feed::new(self.hub, self.filter, follower, current.revision);
        (Snapshot::new(current), feed)
    }

    /// Opens a feed of everything that was committed after `revision`, as somebody does who has
    /// seen everything up to it.
    ///
    /// The commits since then must still be there: they are kept while any feed is open, or always
    /// if the builder says so ([`Builder::keep_changes`](crate::Builder::keep_changes)), within the
    /// limits.
    ///
    /// # Errors
    ///
    /// [`FeedError::Gone`] when some are not, [`FeedError::Ahead`] when the database has not come
    /// to that revision.
    pub fn since(self, revision: Revision) -> Result<Feed, FeedError> {
        match self.hub.open_feed_since(revision) {
            Ok(follower) => Ok(Feed::new(self.hub, self.filter, follower, revision)),
            Err((_, newest)) if revision > newest => Err(FeedError::Ahead { revision, newest }),
            Err((floor, _)) => Err(FeedError::Gone { revision, floor }),
        }
    }
}

impl<T: Table> Changes<T> {
    /// Only rows whose primary keys lie in `range`.
    pub fn range<R: KeyRange<T::Key>>(self, range: R) -> Self {
        let (low, high) = range.encode_bounds();
        let span = Span::new(as_bytes(&low), as_bytes(&high));
        Self { filter: Filter::Keys(T::NAME.into(), span), ..self }
    }

    /// Only rows that have a value of the index in `range`, before or after the change.
    pub fn index_range<K, C, R: KeyRange<K>>(self, index: Index<T, K, C>, range: R) -> Self {
        let (low, high) = range.encode_bounds();
        let span = Span::new(as_bytes(&low), as_bytes(&high));
        Self { filter: Filter::Index(T::NAME.into(), index.position(), span), ..self }
    }

    /// Only rows that have `value` in the index, before or after the change.
    pub fn index_value<K, C, Q: AsKey<K> + ?Sized>(self, index: Index<T, K, C>, value: &Q) -> Self {
        self.index_bytes(index.position(), encode(value))
    }

    /// Only rows of which a value of the index begins with the components of `prefix`, before or
    /// after the change.
    pub fn index_prefix<K, C, P: AsPrefix<K> + ?Sized>(
        self,
        index: Index<T, K, C>,
        prefix: &P,
    ) -> Self {
        let mut encoded = KeyBuf::new();
        prefix.encode_prefix(&mut encoded);
        self.index_bytes(index.position(), encoded)
    }

    fn index_bytes(self, index: usize, prefix: KeyBuf) -> Self {
        let (low, high) = prefix_bounds(prefix);
        let span = Span::new(as_bytes(&low), as_bytes(&high));
        Self { filter: Filter::Index(T::NAME.into(), index, span), ..self }
    }
}

impl<T> fmt::Debug for Changes<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").field("filter", &self.filter).finish_non_exhaustive()
    }
}

/// Why a feed cannot begin where it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FeedError {
    /// Some commits after the revision are not kept any more. Begin with
    /// [`follow`](Changes::follow).
    #[error("changes after revision {revision} are gone; they are kept from {floor} on")]
    Gone {
        /// The revision after which the feed should have begun.
        revision: Revision,
        /// The lowest revision after which one can begin.
        floor: Revision,
    },
    /// The database has not come to that revision: another database, or one that was restored.
    #[error("revision {revision} is ahead of the database, which is at {newest}")]
    Ahead {
        /// The revision after which the feed should have begun.
        revision: Revision,
        /// The revision of the current version.
        newest: Revision,
    },
}

/// Commits between the last item and this revision were dropped, and the next items are those after
/// `resume_at`: because the feed was too slow, or because one of them
/// [erased](crate::TableMut::erase_prefix) rows. What the log has kept of those must not be given
/// any more, so every feed lags behind an erasure, whatever it is about and however fast it is.
///
/// What was missed can be made up for: [`Feed::catch_up`] goes to the current version, and its
/// difference to the last version that was seen is the net change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the feed lags: what was committed before revision {resume_at} is gone")]
#[non_exhaustive]
pub struct Lagged {
    /// The revision after which the feed goes on.
    pub resume_at: Revision,
}

/// An item of a feed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A commit that has changed something in the part that the feed is about.
    Commit(Commit),
    /// Nothing more has happened up to this revision. Given when the feed has come to its end, and
    /// after commits that did not concern it.
    Bookmark(Revision),
    /// The database was restored from a snapshot file, or an incremental one was applied to it.
    Reset(Reset),
}

/// One commit, as a feed sees it.
#[derive(Clone)]
pub struct Commit {
    committed: Arc<Committed>,
    filter: Arc<Filter>,
}

impl Commit {
    /// The revision that it made.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.committed.revision
    }

    /// The net change of each row that the feed is about, in the order of tables and keys.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.committed.changes.iter().filter(|change| self.filter.accepts(change))
    }
}

impl fmt::Debug for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commit")
            .field("revision", &self.revision().0)
            .field("changes", &self.changes().collect::<Vec<_>>())
            .finish()
    }
}

/// A restore, or an incremental snapshot file that was applied, as a feed sees it.
#[derive(Clone, Debug)]
pub struct Reset {
    from: Revision,
    to: Revision,
    difference: Option<Commit>,
}

impl Reset {
    /// The revision before it.
    #[must_use]
    pub fn from(&self) -> Revision {
        self.from
    }

    /// The revision after it, which may be lower.
    #[must_use]
    pub fn to(&self) -> Revision {
        self.to
    }

    /// What it has changed in the part that the feed is about; `None` when that was more than the
    /// feeds may keep, and one has to read anew.
    #[must_use]
    pub fn changes(&self) -> Option<impl Iterator<Item = &Change>> {
        self.difference.as_ref().map(Commit::changes)
    }
}

/// What was committed, one item a commit, in order: an iterator that waits for the next item, and a
/// stream for tasks.
///
/// - ordered: items come in the order of commits;
/// - unique: no commit comes twice;
/// - reliable: none is left out, or the feed says [`Lagged`], because it was too slow or because
///   rows were erased;
/// - atomic: a commit is one item;
/// - resumable: [`Changes::since`] goes on behind the last revision that was seen;
/// - bookmarkable: an item [`Event::Bookmark`] says how far that is when nothing happens.
///
/// Items come after their commit can be read. A feed never delays a commit, and keeps no memory of
/// its own but a few items; what all feeds together keep is bounded. It ends when the last handle
/// on the database is dropped.
///
/// ```
/// # use fsmdb::{Db, Event, Table};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
/// # #[table(name = "nodes")]
/// # struct Node { #[key] id: u64, name: String }
/// # let db = Db::builder().table::<Node>().build()?;
/// let (snap, mut feed) = db.changes_of::<Node>().follow();
/// assert!(snap.table::<Node>().is_empty());
///
/// let mut txn = db.write();
/// txn.insert(Node { id: 1, name: "alpha".into() })?;
/// txn.insert(Node { id: 2, name: "beta".into() })?;
/// let revision = txn.commit();
///
/// let Some(Ok(Event::Commit(commit))) = feed.next() else { panic!() };
/// assert_eq!(commit.revision(), revision);
/// let names: Vec<_> = commit.changes().map(|change|
/// &change.after::<Node>().unwrap().name).collect(); assert_eq!(names, ["alpha", "beta"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Feed {
    hub: Arc<Hub>,
    filter: Arc<Filter>,
    follower: Follower,
    /// The revision up to which everything was given.
    revision: Revision,
    listener: Option<SignalListener>,
}

impl Feed {
    fn new(hub: Arc<Hub>, filter: Filter, follower: Follower, revision: Revision) -> Self {
        Self { hub, filter: Arc::new(filter), follower, revision, listener: None }
    }

    /// The revision up to which everything was given: what to give to [`Changes::since`] to go on
    /// from here.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The next item if there is one now.
    ///
    /// # Errors
    ///
    /// [`Lagged`], once for each time.
    pub fn try_next(&mut self) -> Result<Option<Event>, Lagged> {
        loop {
            while let Some(item) = self.follower.next() {
                if let Some(event) = self.event(item.what) {
                    return Ok(Some(event));
                }
            }
            match self.hub.take(&mut self.follower) {
                Taken::Lagged(resume_at) => {
                    self.revision = resume_at;
                    return Err(Lagged { resume_at });
                }
                Taken::Nothing(newest) => {
                    let newest = newest.filter(|newest| *newest != self.revision);
                    self.revision = newest.unwrap_or(self.revision);
                    return Ok(newest.map(Event::Bookmark));
                }
                Taken::Items => {}
            }
        }
    }

    /// What an item is to this feed; nothing if it does not concern it.
    fn event(&mut self, what: What) -> Option<Event> {
        let revision = what.revision();
        let commit = |committed| Commit { committed, filter: Arc::clone(&self.filter) };
        let event = match what {
            What::Reset { from, to, difference } => {
                Event::Reset(Reset { from, to, difference: difference.map(commit) })
            }
            What::Commit(committed) => {
                let commit = commit(committed);
                commit.changes().next()?;
                Event::Commit(commit)
            }
        };
        self.revision = revision;
        Some(event)
    }

    /// Waits for the next item, at most for `timeout`: `None` when that has passed or the database
    /// is closed.
    ///
    /// # Errors
    ///
    /// [`Lagged`], once for each time.
    pub fn next_within(
        &mut self,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<Option<Event>, Lagged> {
        let timeout = timeout.into();
        let mut was_woken = false;
        loop {
            let listener = self.hub.bell().listen();
            let is_closed = self.hub.is_closed();
            let next = self.try_next();
            if !matches!(next, Ok(None)) {
                if was_woken {
                    self.hub.bell().ring();
                }
                return next;
            }
            if is_closed || !listener.wait(timeout) {
                return Ok(None);
            }
            was_woken = true;
        }
    }

    /// Goes to behind the current version, and gives it: the items up to there are left out.
    ///
    /// What a feed has missed that [`Lagged`] is the difference of this version and the last one
    /// that was seen. After the last handle on the database is gone, it is a version without rows.
    pub fn catch_up(&mut self) -> Snapshot {
        self.follower.clear();
        let current = self.hub.skip(&mut self.follower);
        self.revision = current.revision;
        Snapshot::new(current)
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Event, Lagged>>> {
        let mut was_woken = false;
        loop {
            let is_closed = self.hub.is_closed();
            let next = self.try_next();
            if let Some(next) = next.transpose() {
                // A ring that this feed has not heard yet goes to the next.
                self.listener = None;
                if was_woken {
                    self.hub.bell().ring();
                }
                return Poll::Ready(Some(next));
            }
            if is_closed {
                return Poll::Ready(None);
            }
            match &mut self.listener {
                None => self.listener = Some(self.hub.bell().listen()),
                Some(listener) => match Pin::new(listener).poll(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(()) => {
                        self.listener = None;
                        was_woken = true;
                    }
                },
            }
        }
    }
}

/// Waits for the next item; ends when the database is closed.
impl Iterator for Feed {
    type Item = Result<Event, Lagged>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_within(None).transpose()
    }
}

impl Stream for Feed {
    type Item = Result<Event, Lagged>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll(context)
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.hub.close_feed(&self.follower);
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed")
            .field("filter", &self.filter)
            .field("revision", &self.revision.0)
            .finish_non_exhaustive()
    }
}
