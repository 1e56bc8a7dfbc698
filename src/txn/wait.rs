//! The wait for a revision.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use thiserror::Error;

use super::read::Snapshot;
use crate::revision::Revision;
use crate::watch::{Hub, RevisionWait};

/// Waits until the database has reached a revision; from [`Db::wait_for`](crate::Db::wait_for).
///
/// A thread waits by [`wait`](WaitFor::wait), a task of any runtime awaits it. It is woken by the
/// commit that reaches the revision, and by no other.
#[must_use = "nobody waits before `wait` or `.await`"]
pub struct WaitFor {
    hub: Arc<Hub>,
    revision: Revision,
    wait: Option<RevisionWait>,
}

/// Why a wait for a revision ended without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The time given has passed.
    #[error("revision {wanted} was not reached in time; the database is at {reached}")]
    TimedOut {
        /// The revision that was waited for.
        wanted: Revision,
        /// That of the current version.
        reached: Revision,
    },
    /// The last handle on the database was dropped, so it will not be reached any more.
    #[error("the database was closed before revision {wanted}")]
    Closed {
        /// The revision that was waited for.
        wanted: Revision,
    },
}

impl WaitFor {
    pub(crate) fn new(hub: &Arc<Hub>, revision: Revision) -> Self {
        Self { hub: Arc::clone(hub), revision, wait: None }
    }

    /// The current version if it will do.
    fn reached(&self) -> Option<Snapshot> {
        let root = self.hub.load();
        (root.revision >= self.revision).then(|| Snapshot::new(root))
    }

    /// Blocks this thread until the revision is reached, at most for `timeout`, and gives the
    /// version that is current then: of this revision or a later one.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`], [`WaitError::Closed`].
    pub fn wait(self, timeout: impl Into<Option<Duration>>) -> Result<Snapshot, WaitError> {
        let (wanted, timeout) = (self.revision, timeout.into());
        loop {
            if let Some(snapshot) = self.reached() {
                return Ok(snapshot);
            }
            match RevisionWait::new(&self.hub, wanted).wait(timeout) {
                None => {
                    let reached = self.hub.load().revision;
                    return Err(WaitError::TimedOut { wanted, reached });
                }
                Some(false) => return Err(WaitError::Closed { wanted }),
                // Reached; or gone back by a restore meanwhile, and then another wait begins.
                Some(true) => {}
            }
        }
    }
}

impl Future for WaitFor {
    type Output = Result<Snapshot, WaitError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            if let Some(snapshot) = self.reached() {
                return Poll::Ready(Ok(snapshot));
            }
            let (hub, wanted) = (Arc::clone(&self.hub), self.revision);
            let wait = self.wait.get_or_insert_with(|| RevisionWait::new(&hub, wanted));
            match wait.poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(false) => return Poll::Ready(Err(WaitError::Closed { wanted })),
                // Reached; or gone back meanwhile, and then another wait begins.
                Poll::Ready(true) => self.wait = None,
            }
        }
    }
}

impl fmt::Debug for WaitFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitFor").field("revision", &self.revision.0).finish_non_exhaustive()
    }
}
