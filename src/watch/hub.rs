//! Where readers and the writer of a database meet: the current version, and who waits for another.
//!
//! A commit publishes first and tells second. Who wants to be told enters first and looks second:
//! whether the version is still the one that was read. So between the two nobody is missed; the
//! fences make that true for processors as well.
//!
//! # Invariants
//!
//! 1. `interest` is the number of watches and waits in `state` and of feeds that are open (and one
//!    if the log of the feeds is always kept, and one if versions are), or more while one is
//!    entering.
//! 2. Signals are raised without the lock and, by a commit, after the right to write was given
//!    back.
//! 3. After `close` nobody enters any more, and nobody waits.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc as StdArc;

use super::change::Committed;
use super::feed_log::{FeedLimits, FeedLog, Follower, Item, Taken, What};
use super::registry::{Registry, Touched};
use super::{CHANGED, CLOSED, REACHED};
use crate::history::{History, Retention};
use crate::revision::Revision;
use crate::root::{Contents, Root, RootCell};
use crate::sync::{Arc, AtomicBool, AtomicU64, AtomicUsize, Bell, Mutex, MutexGuard, Ordering};
use crate::sync::{PoisonError, Reason, Signal, fence};
use crate::table::Question;
use crate::tree::Writer;

/// The current version of a database, and who waits for another.
pub(crate) struct Hub {
    root: RootCell,
    interest: AtomicUsize,
    state: Mutex<State>,
    /// Whether anybody watched an index when `state` was last looked at: a hint to transactions.
    watches_indexes: AtomicBool,
    feeds: Mutex<FeedLog>,
    /// Whether `feeds` logs; set before a feed looks at the version, so a commit that does not see
    /// it is in that version.
    feeds_log: AtomicBool,
    history: History,
    age: Option<AgeLimit>,
    /// The last erasure since the database was opened or restored.
    erased: Mutex<Option<Erased>>,
    /// Rings when the log of the feeds has grown.
    bell: Bell,
    is_closed: AtomicBool,
}

/// What the builder says of it.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) feeds: FeedLimits,
    pub(crate) retention: Retention,
    pub(crate) age: Option<AgeLimit>,
}

#[derive(Debug, Default)]
struct State {
    registry: Registry,
    /// Who waits for a revision, with a number that makes it unique.
    waits: BTreeMap<(Revision, u64), StdArc<Signal>>,
    /// Waits made so far.
    made: u64,
}

/// What is told of versions that somebody holds for long.
pub(crate) struct AgeLimit {
    /// How many revisions a version may be behind.
    pub(crate) revisions: u64,
    pub(crate) report: Box<dyn Fn(OldSnapshot) + Send + Sync>,
    /// The highest revision that was told of, and one more.
    told: AtomicU64,
}

/// A version that somebody holds for longer than the limit; see
/// [`Builder::report_old_snapshots`](crate::Builder::report_old_snapshots).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OldSnapshot {
    /// Its revision.
    pub revision: Revision,
    /// That of the current version.
    pub newest: Revision,
}

impl AgeLimit {
    pub(crate) fn new(
        revisions: u64,
        report: impl Fn(OldSnapshot) + Send + Sync + 'static,
    ) -> Self {
        Self { revisions, report: Box::new(report), told: AtomicU64::new(0) }
    }
}

/// A commit that has erased.
#[derive(Clone, Debug)]
pub(crate) struct Erased {
    pub(crate) revision: Revision,
    /// The rows that it took out, by the positions of their tables.
    pub(crate) rows: BTreeMap<usize, u64>,
}

/// Signals that are to be raised, and what is to be dropped without a lock.
#[derive(Default)]
#[must_use = "who waits is woken when this is dropped"]
pub(crate) struct Woken {
    signals: Vec<(StdArc<Signal>, Reason)>,
    /// What feeds may not give any more; it goes last, because that runs the user's code.
    forgotten: Vec<Item>,
}

impl Drop for Woken {
    fn drop(&mut self) {
        for (signal, reason) in self.signals.drain(..) {
            signal.raise(reason);
        }
    }
}

impl Hub {
    pub(crate) fn new(root: Root, options: Options) -> Self {
        let Options { feeds, retention, age } = options;
        let history = History::new(retention);
        let always = usize::from(feeds.is_kept) + usize::from(history.is_on());
        let interest = AtomicUsize::new(always);
        let feeds_log = AtomicBool::new(feeds.is_kept);
        let feeds = Mutex::new(FeedLog::new(feeds, root.serial(), root.revision));
        let state = Mutex::new(State::default());
        Self {
            root: RootCell::new(root),
            interest,
            state,
            watches_indexes: AtomicBool::new(false),
            feeds,
            feeds_log,
            history,
            age,
            erased: Mutex::new(None),
            bell: Bell::new(),
            is_closed: AtomicBool::new(false),
        }
    }

    /// The current version.
    #[inline]
    pub(crate) fn load(&self) -> Arc<Root> {
        self.root.load()
    }

    /// Whether a transaction should note the entries of indexes that it changes. If it does not,
    /// they are found by comparing trees.
    #[inline]
    pub(crate) fn wants_entries(&self) -> bool {
        self.watches_indexes.load(Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes the version that `touched` says how a transaction made of `old`, of which it has
    /// replaced so many bytes, and gives those who wait for that.
    ///
    /// The caller has the right to write.
    #[inline]
    pub(crate) fn publish(
        &self,
        old: &Arc<Root>,
        new: Root,
        replaced: usize,
        touched: &dyn Touched,
    ) -> Woken {
        self.root.store(new);
        // Before the look at who has entered: who has not yet will see the version.
        fence(Ordering::SeqCst);
        if self.interest.load(Ordering::Relaxed) == 0 {
            return Woken::default();
        }
        self.tell_commit(old, replaced, touched)
    }

    #[cold]
    fn tell_commit(&self, old: &Arc<Root>, replaced: usize, touched: &dyn Touched) -> Woken {
        let new = self.root.load();
        let (is_erasure, is_link) = (touched.is_erasure(), touched.is_link());
        if is_erasure || is_link {
            // Each of them may hold what was erased.
            self.history.clear();
        } else if self.history.is_on() {
            self.history.keep(old, new.revision, replaced);
        }
        // A feed that opens after this has loaded the new version.
        let is_told = self.feeds_log.load(Ordering::Relaxed);
        let mut forgotten = Vec::new();
        if is_told && is_erasure {
            forgotten = self.feeds().forget(new.serial(), new.revision);
        } else if is_told && is_link {
            self.log_reset(old, &new);
        } else if is_told {
            let (revision, changes) = (new.revision, touched.net(&new));
            let is_empty = changes.is_empty();
            let commit = || What::Commit(StdArc::new(Committed { revision, changes }));
            self.feeds().push(new.serial(), revision, (!is_empty).then(commit));
        }
        let mut woken = self.tell(is_told, &new, |registry| registry.changed(old, &new, touched));
        woken.forgotten = forgotten;
        woken
    }

    /// Publishes a version that has come from elsewhere.
    ///
    /// The caller has the right to write.
    pub(crate) fn replace(&self, old: &Root, new: Root) -> Woken {
        // Revisions go another way from here on.
        self.history.clear();
        *self.erased() = None;
        if let Some(age) = &self.age {
            age.told.store(0, Ordering::Relaxed);
        }
        self.root.store(new);
        fence(Ordering::SeqCst);
        let new = self.root.load();
        let is_told = self.feeds().is_on();
        if is_told {
            self.log_reset(old, &new);
        }
        self.tell(is_told, &new, |registry| registry.replaced(old, &new))
    }

    /// Logs that `new` has come from a file.
    fn log_reset(&self, old: &Root, new: &Root) {
        let limits = self.feeds().limits();
        let reset = What::reset(old, new, limits);
        self.feeds().push(new.serial(), new.revision, Some(reset));
    }

    /// Finds whom a version that was published concerns, and rings for the feeds.
    fn tell(
        &self,
        is_told: bool,
        new: &Root,
        find: impl FnOnce(&mut Registry) -> Vec<StdArc<Signal>>,
    ) -> Woken {
        let mut state = self.state();
        let changed = find(&mut state.registry);
        let mut signals: Vec<_> = changed.into_iter().map(|signal| (signal, CHANGED)).collect();
        while let Some(first) = state.waits.first_entry()
            && first.key().0 <= new.revision
        {
            signals.push((first.remove(), REACHED));
        }
        self.interest.fetch_sub(signals.len(), Ordering::Relaxed);
        self.watches_indexes.store(state.registry.watches_indexes(), Ordering::Relaxed);
        drop(state);
        if is_told {
            self.bell.ring();
        }
        Woken { signals, forgotten: Vec::new() }
    }

    fn feeds(&self) -> MutexGuard<'_, FeedLog> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a feed behind the version that is given with it.
    pub(crate) fn open_feed(&self) -> (Follower, Arc<Root>) {
        self.enter_feed(|feeds, current, feed| {
            feed.go_to(feeds.behind(current.serial()));
            Arc::clone(current)
        })
    }

    /// Opens a feed behind `revision`.
    ///
    /// # Errors
    ///
    /// The lowest revision behind which one can follow, and the newest.
    pub(crate) fn open_feed_since(
        &self,
        revision: Revision,
    ) -> Result<Follower, (Revision, Revision)> {
        let (feed, opened) = self.enter_feed(|feeds, current, feed| {
            let newest = current.revision;
            let position = if revision == newest {
                feeds.behind(current.serial())
            } else {
                feeds.since(revision, newest).map_err(|floor| (floor, newest))?
            };
            feed.go_to(position);
            Ok(())
        });
        if let Err(refused) = opened {
            self.close_feed(&feed);
            return Err(refused);
        }
        Ok(feed)
    }

    /// Enters a feed, which `begin` says where to begin.
    fn enter_feed<A>(
        &self,
        begin: impl FnOnce(&FeedLog, &Arc<Root>, &mut Follower) -> A,
    ) -> (Follower, A) {
        self.interest.fetch_add(1, Ordering::Relaxed);
        // Held until the version is loaded and the log has begun: another feed must not take an old
        // floor for the new one, and what the log drops meanwhile would be missed unseen.
        let mut feeds = self.feeds();
        let (mut feed, begins) = feeds.enter();
        self.feeds_log.store(true, Ordering::Relaxed);
        // As in `enter`: a commit that has not seen this feed is in the version that is loaded now.
        fence(Ordering::SeqCst);
        let current = self.root.load();
        if begins {
            feeds.begin(current.serial(), current.revision);
        }
        let answer = begin(&feeds, &current, &mut feed);
        drop(feeds);
        (feed, answer)
    }

    pub(crate) fn close_feed(&self, feed: &Follower) {
        let mut feeds = self.feeds();
        feeds.close(feed);
        self.feeds_log.store(feeds.is_on(), Ordering::Relaxed);
        drop(feeds);
        self.interest.fetch_sub(1, Ordering::Relaxed);
    }

    /// Gives a feed its next items.
    pub(crate) fn take(&self, feed: &mut Follower) -> Taken {
        self.feeds().take(feed)
    }

    /// Moves a feed to behind the current version, which is given.
    pub(crate) fn skip(&self, feed: &mut Follower) -> Arc<Root> {
        // Held while the version is loaded: what the log drops meanwhile would be missed unseen.
        let feeds = self.feeds();
        let current = self.root.load();
        feed.go_to(feeds.behind(current.serial()));
        current
    }

    /// Finds the versions that somebody has held for longer than the limit and that were not told
    /// of yet, now that one of revision `newest` was published.
    ///
    /// The caller has the right to write, and gives it back before it reports them.
    pub(crate) fn find_old(
        &self,
        writer: &mut Writer<Contents>,
        newest: Revision,
    ) -> Vec<OldSnapshot> {
        let mut old = Vec::new();
        let Some(age) = &self.age else { return old };
        let mut told = age.told.load(Ordering::Relaxed);
        writer.visit_versions(&mut |contents, _| {
            let revision = contents.revision;
            let is_old = newest.0.saturating_sub(revision.0) > age.revisions;
            if is_old && revision.0 >= told && self.history.get(revision).is_none() {
                told = revision.0 + 1;
                old.push(OldSnapshot { revision, newest });
            }
            is_old
        });
        age.told.store(told, Ordering::Relaxed);
        old
    }

    /// Tells of versions that were found to be old.
    pub(crate) fn report(&self, old: Vec<OldSnapshot>) {
        if let Some(age) = &self.age {
            old.into_iter().for_each(|old| (age.report)(old));
        }
    }

    /// The last commit that has erased; whoever has the right to write changes it.
    pub(crate) fn erased(&self) -> MutexGuard<'_, Option<Erased>> {
        self.erased.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The versions that are kept.
    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    pub(crate) fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Whether the last handle on the database was dropped.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Feeds that are open, commits that are kept for them, and bytes of these.
    pub(crate) fn held_for_feeds(&self) -> (usize, usize, usize) {
        self.feeds().held()
    }

    /// Enters a watch that has asked `questions` of `seen`. It gives the number by which it leaves,
    /// and the signal, which is raised already if the answers have changed since.
    pub(super) fn enter(&self, seen: &Root, questions: Vec<Question>) -> (u64, StdArc<Signal>) {
        let signal = StdArc::new(Signal::new());
        let questions: StdArc<[Question]> = questions.into();
        let mut state = self.state();
        if self.is_closed() {
            drop(state);
            signal.raise(CLOSED);
            return (u64::MAX, signal);
        }
        self.interest.fetch_add(1, Ordering::Relaxed);
        let asked = StdArc::clone(&questions);
        let id = state.registry.insert(StdArc::clone(&signal), seen.serial(), asked);
        self.watches_indexes.store(state.registry.watches_indexes(), Ordering::Relaxed);
        drop(state);
        fence(Ordering::SeqCst);
        let current = self.root.load();
        if super::answer::any_differs(&questions, seen, &current) {
            self.leave(id);
            signal.raise(CHANGED);
        }
        (id, signal)
    }

    /// Takes a watch out, if it was not told yet.
    pub(super) fn leave(&self, id: u64) {
        let mut state = self.state();
        let left = state.registry.remove(id);
        // Or transactions would go on noting entries for nobody.
        self.watches_indexes.store(state.registry.watches_indexes(), Ordering::Relaxed);
        drop(state);
        if left.is_some() {
            self.interest.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Enters who waits for `revision`; gives the number by which it leaves.
    pub(super) fn enter_wait(&self, revision: Revision) -> (u64, StdArc<Signal>) {
        let signal = StdArc::new(Signal::new());
        let mut state = self.state();
        if self.is_closed() {
            drop(state);
            signal.raise(CLOSED);
            return (u64::MAX, signal);
        }
        self.interest.fetch_add(1, Ordering::Relaxed);
        let id = state.made;
        state.made += 1;
        state.waits.insert((revision, id), StdArc::clone(&signal));
        drop(state);
        fence(Ordering::SeqCst);
        if self.root.load().revision >= revision {
            self.leave_wait(revision, id);
            signal.raise(REACHED);
        }
        (id, signal)
    }

    /// Takes out who waits for a revision, if it was not told yet.
    pub(super) fn leave_wait(&self, revision: Revision, id: u64) {
        let left = self.state().waits.remove(&(revision, id));
        if left.is_some() {
            self.interest.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// How many watches there are, and waits for a revision.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let state = self.state();
        (state.registry.len(), state.waits.len())
    }

    /// Tells everybody that nothing will change any more.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        let mut state = self.state();
        let mut signals = state.registry.remove_all();
        signals.extend(std::mem::take(&mut state.waits).into_values());
        self.interest.fetch_sub(signals.len(), Ordering::Relaxed);
        drop(state);
        for signal in signals {
            signal.raise(CLOSED);
        }
        self.bell.ring_all();
    }

    /// Puts a version in place when nobody can wait for one any more.
    pub(crate) fn end_with(&self, root: Root) {
        self.history.clear();
        self.root.store(root);
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("state", &self.state).finish_non_exhaustive()
    }
}
