//! Sessions as users hold them: commands that are applied exactly once.
//!
//! # Invariants
//!
//! 1. A number of a session is given to one command, and proposed with that command alone.
//! 2. A number counts as acknowledged when it, and every number before it, will not be proposed
//!    again by this handle.
//! 3. At most as many commands are under way as the database keeps replies of.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fsmdb::Applied;
use fsmdb::raft::{ProposeError, Refusal};
use thiserror::Error;

use super::job::Proposed;
use super::pending::{Ending, Pending};
use super::{Node, Shared, request};
use crate::session::{EnvelopeRef, EnvelopeReply, Place, Replicated, SessionRefusal};

/// Why a command of a session has no reply.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The session is gone, or the command is done with. The entry that is answered applied
    /// nothing; an earlier one of the same command, perhaps of the same call, may have, before the
    /// session went.
    #[error(transparent)]
    Refused(#[from] SessionRefusal),
    /// The command was applied, once, by this entry; its reply was too long to be kept.
    #[error("applied by entry {at}; its reply is not kept")]
    ReplyNotKept {
        /// The entry.
        at: Applied,
    },
    /// The proposal failed. [`ProposeError::Unknown`] here means that the deadline passed before
    /// any outcome was seen: it was applied once or not at all.
    #[error(transparent)]
    Propose(#[from] ProposeError),
}

impl From<Ending> for SessionError {
    fn from(ending: Ending) -> Self {
        Self::Propose(ending.into())
    }
}

/// A client session, whose replies are kept in the database, so that it goes on over new leaders.
///
/// The numbers of its commands are in this handle, and end with its node or its process: nobody can
/// ask then what became of a command that was under way. A
/// [`NumberedSession`](super::NumberedSession) is for that. Cheap to clone; clones share its
/// numbers. It does not keep its node running.
pub struct Session<F: Replicated> {
    shared: Arc<Shared<F>>,
    id: u64,
    numbers: Arc<Numbers>,
}

impl<F: Replicated> Clone for Session<F> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), id: self.id, numbers: Arc::clone(&self.numbers) }
    }
}

/// Which numbers were given away, and which of them are under way.
#[derive(Debug, Default)]
struct Numbers(Mutex<(u64, BTreeSet<u64>)>);

impl Numbers {
    /// The next number, and up to which all are done with; nothing when so many are under way.
    fn next(self: &Arc<Self>, most: u64) -> Option<(UnderWay, u64)> {
        let mut numbers = self.lock();
        let (last, open) = &mut *numbers;
        let acknowledged = open.first().map_or(*last, |first| first - 1);
        if *last - acknowledged >= most {
            return None;
        }
        *last += 1;
        open.insert(*last);
        Some((UnderWay { numbers: Arc::clone(self), sequence: *last }, acknowledged))
    }

    fn lock(&self) -> MutexGuard<'_, (u64, BTreeSet<u64>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A number that is under way until this is dropped.
struct UnderWay {
    numbers: Arc<Numbers>,
    sequence: u64,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.numbers.lock().1.remove(&self.sequence);
    }
}

impl<F: Replicated> Node<F> {
    /// Opens a session of a client.
    ///
    /// # Errors
    ///
    /// As [`propose`](Node::propose), but never unknown before the deadline: a session that nobody
    /// knows of is dropped by the database in time.
    pub fn session(&self) -> Pending<Session<F>, ProposeError> {
        let shared = Arc::clone(self.shared());
        self.open_session(move |id| Session { shared, id, numbers: Arc::default() })
    }

    /// Opens a session; `made` makes the caller's handle of its id.
    pub(super) fn open_session<S: Send + 'static>(
        &self,
        made: impl FnOnce(u64) -> S + Send + 'static,
    ) -> Pending<S, ProposeError> {
        let read = move |outcome: Proposed<F::Reply>| match outcome?.1 {
            EnvelopeReply::Opened(id) => Ok(made(id)),
            // Nothing else is answered to it.
            _ => Err(ProposeError::Unknown),
        };
        self.shared().propose(&EnvelopeRef::Open, true, self.shared().deadline, read)
    }
}

impl<F: Replicated> Session<F> {
    /// Its id: the index of the entry that opened it.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Proposes a command until its outcome is known, over changes of the leader and lost answers;
    /// it is applied once. Gives the entry that applied it, and the reply.
    ///
    /// # Errors
    ///
    /// [`SessionError`]; [`Refusal::Busy`] when as many commands of it are under way as
    /// [`SessionBounds::replies`](crate::session::SessionBounds::replies) says.
    pub fn propose(&self, command: &F::Command) -> Pending<(Applied, F::Reply), SessionError> {
        self.propose_within(command, self.shared.deadline)
    }

    /// As [`propose`](Session::propose), with a deadline of its own.
    ///
    /// # Errors
    ///
    /// As [`propose`](Session::propose).
    pub fn propose_within(
        &self,
        command: &F::Command,
        within: Duration,
    ) -> Pending<(Applied, F::Reply), SessionError> {
        let most = self.shared.machine.fsm().replies();
        let Some((under_way, acknowledged)) = self.numbers.next(most) else {
            return Pending::ready(Err(ProposeError::Refused(Refusal::Busy).into()));
        };
        let place = Place { session: self.id, sequence: under_way.sequence, acknowledged };
        let envelope = EnvelopeRef::InSession { place, command };
        self.shared.propose(&envelope, true, within, move |outcome| {
            let answer = read(outcome);
            drop(under_way);
            answer
        })
    }

    /// Ends the session, so that the database forgets its replies. Of no effect on clones but that
    /// their commands are refused.
    ///
    /// # Errors
    ///
    /// As [`Node::propose`].
    pub fn close(self) -> Pending<(), ProposeError> {
        close(&self.shared, self.id)
    }
}

/// Ends a session.
pub(super) fn close<F: Replicated>(shared: &Shared<F>, id: u64) -> Pending<(), ProposeError> {
    let envelope = EnvelopeRef::Close { session: id };
    shared.propose(&envelope, true, shared.deadline, |outcome| outcome.map(drop))
}

/// What a client is told of a command of a session.
pub(super) fn read<R: serde::de::DeserializeOwned>(
    outcome: Proposed<R>,
) -> Result<(Applied, R), SessionError> {
    let (at, reply) = outcome?;
    match reply {
        EnvelopeReply::First(reply) => Ok((at, reply)),
        EnvelopeReply::Again { at, reply } => {
            let reply = reply.and_then(|bytes| request::read(&bytes));
            reply.map(|reply| (at, reply)).ok_or(SessionError::ReplyNotKept { at })
        }
        EnvelopeReply::Refused(refusal) => Err(refusal.into()),
        // A command of a session has no other reply.
        _ => Err(ProposeError::Unknown.into()),
    }
}

impl<F: Replicated> fmt::Debug for Session<F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Session").field("id", &self.id).finish_non_exhaustive()
    }
}
