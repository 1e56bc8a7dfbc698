//! What users hold while they wait: a watch, or the wait for a revision.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use super::CLOSED;
use super::hub::Hub;
use crate::revision::Revision;
use crate::root::Root;
use crate::sync::{Reason, Signal, SignalListener};
use crate::table::Question;

/// Why a [`Watch`] has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Wake {
    /// What was read is not what is there any more.
    Changed,
    /// The last handle on the database was dropped, so nothing will change any more.
    Closed,
}

impl Wake {
    fn of(reason: Reason) -> Self {
        if reason == CLOSED { Self::Closed } else { Self::Changed }
    }
}

/// Waits until what a closure has read is not what is there any more; from
/// [`Snapshot::watch`](crate::Snapshot::watch).
///
/// It ends once. After that, read again and watch again: no change in between can be missed,
/// because a watch whose answers have changed before it was made ends at once. Dropping it costs
/// O(log n) for each question that was asked, and it is out.
///
/// It wakes for a change of what was read and for nothing else: not for a neighbour, not for a row
/// that was written again with an equal value, not for a transaction that changes nothing in the
/// end. When a closure has asked more than [`limits::QUESTIONS_MAX`](crate::limits::QUESTIONS_MAX)
/// different questions it may wake for nothing.
pub struct Watch {
    signal: Arc<Signal>,
    hub: Weak<Hub>,
    id: u64,
}

impl Watch {
    /// Watches the answers that `seen` gives to `questions`; `hub` is that of the database.
    pub(crate) fn new(hub: Option<Arc<Hub>>, seen: &Root, questions: Vec<Question>) -> Self {
        let Some(hub) = hub else {
            let signal = Signal::new();
            signal.raise(CLOSED);
            return Self { signal: Arc::new(signal), hub: Weak::new(), id: u64::MAX };
        };
        let (id, signal) = hub.enter(seen, questions);
        Self { signal, hub: Arc::downgrade(&hub), id }
    }

    /// Whether and why it has ended.
    #[must_use]
    pub fn ended(&self) -> Option<Wake> {
        self.signal.raised().map(Wake::of)
    }

    /// Blocks this thread until it ends, at most for `timeout`; `None` when that has passed.
    pub fn wait(&self, timeout: impl Into<Option<Duration>>) -> Option<Wake> {
        self.signal.wait(timeout.into()).map(Wake::of)
    }

    /// Waits in a task, of any runtime, until it ends. Dropping the future leaves the watch as it
    /// is.
    pub fn changed(&self) -> Changed<'_> {
        Changed { signal: &self.signal, listener: None }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.signal.raised().is_none()
            && let Some(hub) = self.hub.upgrade()
        {
            hub.leave(self.id);
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("ended", &self.ended()).finish_non_exhaustive()
    }
}

/// The future of a [`Watch`].
#[must_use = "a future does nothing until it is polled"]
pub struct Changed<'a> {
    signal: &'a Signal,
    listener: Option<SignalListener>,
}

impl Future for Changed<'_> {
    type Output = Wake;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Wake> {
        let Self { signal, listener } = self.get_mut();
        signal.poll(listener, context).map(Wake::of)
    }
}

impl fmt::Debug for Changed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changed").finish_non_exhaustive()
    }
}

/// The entry of somebody who waits for a revision.
pub(crate) struct RevisionWait {
    signal: Arc<Signal>,
    hub: Weak<Hub>,
    revision: Revision,
    id: u64,
    listener: Option<SignalListener>,
}

impl RevisionWait {
    pub(crate) fn new(hub: &Arc<Hub>, revision: Revision) -> Self {
        let (id, signal) = hub.enter_wait(revision);
        Self { signal, hub: Arc::downgrade(hub), revision, id, listener: None }
    }

    /// Whether the revision was reached: `None` when `timeout` has passed, `false` when it never
    /// will be.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> Option<bool> {
        self.signal.wait(timeout).map(|reason| reason != CLOSED)
    }

    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        self.signal.poll(&mut self.listener, context).map(|reason| reason != CLOSED)
    }
}

impl Drop for RevisionWait {
    fn drop(&mut self) {
        if self.signal.raised().is_none()
            && let Some(hub) = self.hub.upgrade()
        {
            hub.leave_wait(self.revision, self.id);
        }
    }
}
