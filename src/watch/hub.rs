//! Where readers and the writer of a database meet: the current version, and who waits for another.
//!
//! A commit publishes first and tells second. Who wants to be told enters first and looks second:
//! whether the version is still the one that was read. So between the two nobody is missed; the
//! fences make that true for processors as well.
//!
//! # Invariants
//!
//! 1. `interest` is the number of watches and waits in `state`, or more while one is entering.
//! 2. Signals are raised without the lock and, by a commit, after the right to write was given back.
//! 3. After `close` nobody enters any more, and nobody waits.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc as StdArc;

use super::registry::{Registry, Touched};
use super::{CHANGED, CLOSED, REACHED};
use crate::revision::Revision;
use crate::root::{Root, RootCell};
use crate::sync::{Arc, AtomicUsize, Mutex, MutexGuard, Ordering, Reason, Signal, fence};
use crate::table::Question;

/// The current version of a database, and who waits for another.
pub(crate) struct Hub {
    root: RootCell,
    interest: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    registry: Registry,
    /// Who waits for a revision, with a number that makes it unique.
    waits: BTreeMap<(Revision, u64), StdArc<Signal>>,
    /// Waits made so far.
    made: u64,
    is_closed: bool,
}

/// Signals that are to be raised.
#[derive(Debug, Default)]
#[must_use = "who waits is woken when this is dropped"]
pub(crate) struct Woken {
    signals: Vec<(StdArc<Signal>, Reason)>,
}

impl Drop for Woken {
    fn drop(&mut self) {
        for (signal, reason) in self.signals.drain(..) {
            signal.raise(reason);
        }
    }
}

impl Hub {
    pub(crate) fn new(root: Root) -> Self {
        let state = Mutex::new(State::default());
        Self { root: RootCell::new(root), interest: AtomicUsize::new(0), state }
    }

    /// The current version.
    #[inline]
    pub(crate) fn load(&self) -> Arc<Root> {
        self.root.load()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Publishes the version that `touched` says how a transaction made of `old`, and gives those
    /// who wait for that.
    ///
    /// The caller has the right to write.
    #[inline]
    pub(crate) fn publish(&self, old: &Root, new: Root, touched: &dyn Touched) -> Woken {
        self.root.store(new);
        // Before the look at who has entered: who has not yet will see the version.
        fence(Ordering::SeqCst);
        if self.interest.load(Ordering::Relaxed) == 0 {
            return Woken::default();
        }
        self.tell(old, |registry, old, new| registry.changed(old, new, touched))
    }

    /// Publishes a version that has come from elsewhere.
    ///
    /// The caller has the right to write.
    pub(crate) fn replace(&self, old: &Root, new: Root) -> Woken {
        self.root.store(new);
        fence(Ordering::SeqCst);
        self.tell(old, Registry::replaced)
    }

    #[cold]
    fn tell(
        &self,
        old: &Root,
        find: impl FnOnce(&mut Registry, &Root, &Root) -> Vec<StdArc<Signal>>,
    ) -> Woken {
        let new = self.root.load();
        let mut state = self.state();
        let changed = find(&mut state.registry, old, &new);
        let mut signals: Vec<_> = changed.into_iter().map(|signal| (signal, CHANGED)).collect();
        while let Some(first) = state.waits.first_entry()
            && first.key().0 <= new.revision
        {
            signals.push((first.remove(), REACHED));
        }
        self.interest.fetch_sub(signals.len(), Ordering::Relaxed);
        Woken { signals }
    }

    /// Enters a watch that has asked `questions` of `seen`. It gives the number by which it leaves,
    /// and the signal, which is raised already if the answers have changed since.
    pub(super) fn enter(&self, seen: &Root, questions: Vec<Question>) -> (u64, StdArc<Signal>) {
        let signal = StdArc::new(Signal::new());
        let asked = questions.clone();
        let mut state = self.state();
        if state.is_closed {
            drop(state);
            signal.raise(CLOSED);
            return (u64::MAX, signal);
        }
        self.interest.fetch_add(1, Ordering::Relaxed);
        let id = state.registry.insert(StdArc::clone(&signal), seen.serial(), questions);
        drop(state);
        fence(Ordering::SeqCst);
        let current = self.root.load();
        if super::answer::any_differs(&asked, seen, &current) {
            self.leave(id);
            signal.raise(CHANGED);
        }
        (id, signal)
    }

    /// Takes a watch out, if it was not told yet.
    pub(super) fn leave(&self, id: u64) {
        let left = self.state().registry.remove(id);
        if left.is_some() {
            self.interest.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Enters who waits for `revision`; gives the number by which it leaves.
    pub(super) fn enter_wait(&self, revision: Revision) -> (u64, StdArc<Signal>) {
        let signal = StdArc::new(Signal::new());
        let mut state = self.state();
        if state.is_closed {
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
        let mut state = self.state();
        state.is_closed = true;
        let mut signals = state.registry.remove_all();
        signals.extend(std::mem::take(&mut state.waits).into_values());
        self.interest.fetch_sub(signals.len(), Ordering::Relaxed);
        drop(state);
        for signal in signals {
            signal.raise(CLOSED);
        }
    }

    /// Puts a version in place when nobody can wait for one any more.
    pub(crate) fn end_with(&self, root: Root) {
        self.root.store(root);
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("state", &self.state).finish_non_exhaustive()
    }
}
