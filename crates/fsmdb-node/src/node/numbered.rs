//! Sessions whose commands their clients number: they can be resumed at any node.
//!
//! # Invariants
//!
//! 1. Nothing is kept here of a session but its id: what a resumed one needs, its client has.
//! 2. No command is sent that the database would refuse for too many numbers after it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use fsmdb::Applied;
use fsmdb::raft::{ProposeError, Refusal};

use super::client::{SessionError, close, read};
use super::pending::Pending;
use super::{Node, Shared};
use crate::session::{EnvelopeRef, Place, Replicated, SessionRefusal};

/// A client session whose commands the client numbers, so that it outlives nodes and the client:
/// one who has written down the id of the session, and the number of each command before it
/// proposes it, asks again at any node, whatever was restarted meanwhile.
///
/// What the client holds to:
///
/// - It numbers commands from 1, and gives a number to one command, for ever: of two commands with
///   one number, the second is not applied, and answered with the reply to the first. So a session
///   has one holder at a time; another one resumes it when the first is gone for good, or has at
///   least stopped giving numbers. That what it sent is still under way does no harm.
/// - It says with each command up to which number it is done: it has written down what became of
///   these, or needs not know it. None of them is applied any more, and their replies are
///   forgotten.
/// - It is at most [`SessionBounds::replies`](crate::session::SessionBounds::replies) numbers ahead
///   of that.
///
/// A session that is not used for many entries expires
/// ([`SessionBounds`](crate::session::SessionBounds)). Then nobody knows of its commands any more:
/// [`SessionRefusal::Expired`] says that the entry which is answered applied nothing; what an
/// earlier one did, perhaps of the same call, must be read from the tables. To propose such a
/// command in another session may apply it twice.
///
/// ```
/// # use std::{collections::BTreeMap, io, path::*, sync::Arc, time::Duration};
/// # use fsmdb::{Applied, Db, Error, Fsm, Machine, Snapshot, Table, WriteTxn};
/// # use fsmdb::raft::{Config, Membership, MemoryLog, Message};
/// # use fsmdb_node::link::*;
/// # use fsmdb_node::node::{Node, Options, Parts, SnapshotStore, SnapshotStoreError};
/// # use fsmdb_node::session::{Sessions, with_tables};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
/// # #[table(name = "jobs")]
/// # struct Job { #[key] name: String }
/// # struct Jobs;
/// # impl Fsm for Jobs {
/// #     type Command = String;
/// #     type Reply = Result<(), Error>;
/// #     fn apply(&self, txn: &mut WriteTxn<'_>, _: Applied, name: String) -> Self::Reply {
/// #         txn.insert(Job { name }).map(drop)
/// #     }
/// # }
/// # struct Nowhere;
/// # impl Transport for Nowhere {
/// #     fn send(&self, _: Message) -> Result<(), LinkError> { Err(LinkError::UnknownPeer) }
/// #     fn send_snapshot(&self, _: Message, _: PathBuf, done: SnapshotDone) { done(false) }
/// #     fn request(&self, _: u64, _: Vec<u8>, _: Duration, done: RequestDone) {
/// #         done(Err(LinkError::UnknownPeer));
/// #     }
/// #     fn set_peers(&self, _: BTreeMap<u64, String>) {}
/// # }
/// # type Stored<T> = Result<T, SnapshotStoreError>;
/// # struct NoFiles;
/// # impl SnapshotStore for NoFiles {
/// #     fn build(&self, _: &Snapshot) -> Stored<(Vec<u8>, u64)> { self.none() }
/// #     fn path(&self, _: &[u8]) -> Stored<PathBuf> { self.none() }
/// #     fn adopt(&self, _: Applied, _: &[u8], _: &Path) -> Stored<Vec<u8>> { self.none() }
/// #     fn open(&self, _: &[u8]) -> Stored<Box<dyn io::Read + Send>> { self.none() }
/// #     fn retain(&self, _: &[u8]) -> Stored<()> { self.none() }
/// # }
/// # impl NoFiles {
/// #     fn none<T>(&self) -> Stored<T> { Err(SnapshotStoreError::new("no files here")) }
/// # }
/// # let db = with_tables(Db::builder().table::<Job>()).build()?;
/// # let parts = Parts {
/// #     config: Config::new(1, 1),
/// #     machine: Machine::new(db, Sessions::new(Jobs))?,
/// #     log: MemoryLog::founding(Membership::of_voters([1])),
/// #     snapshots: Arc::new(NoFiles),
/// #     addresses: BTreeMap::new(),
/// #     logger: slog::Logger::root(slog::Discard, slog::o!()),
/// #     options: Options { tick: Duration::from_millis(10), ..Options::default() },
/// # };
/// # let node = Node::start_with(parts, |_inbound| Ok(Arc::new(Nowhere)))?;
/// let session = node.numbered_session().wait()?;
/// // Written down by the client beside what it is about to do: (session.id(), 1).
/// let (id, sequence) = (session.id(), 1);
/// let (at, _) = session.propose(sequence, 0, &"web".to_owned()).wait()?;
///
/// // Later, elsewhere, by who read that and does not know whether the command was applied:
/// let session = node.resume_session(id);
/// let (before, reply) = session.propose(sequence, 0, &"web".to_owned()).wait()?;
/// assert!(before == at && reply.is_ok());
/// # node.stop();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct NumberedSession<F: Replicated> {
    shared: Arc<Shared<F>>,
    id: u64,
}

impl<F: Replicated> Clone for NumberedSession<F> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), id: self.id }
    }
}

impl<F: Replicated> fmt::Debug for NumberedSession<F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("NumberedSession").field("id", &self.id).finish_non_exhaustive()
    }
}

impl<F: Replicated> Node<F> {
    /// Opens a session whose commands the client numbers.
    ///
    /// # Errors
    ///
    /// As [`session`](Node::session).
    pub fn numbered_session(&self) -> Pending<NumberedSession<F>, ProposeError> {
        let shared = Arc::clone(self.shared());
        self.open_session(move |id| NumberedSession { shared, id })
    }

    /// Goes on with a numbered session, which may have been opened at any node of the group, by
    /// its id. Asks nobody: whether it has expired, its next command says. O(1).
    #[must_use]
    pub fn resume_session(&self, id: u64) -> NumberedSession<F> {
        NumberedSession { shared: Arc::clone(self.shared()), id }
    }
}

impl<F: Replicated> NumberedSession<F> {
    /// Its id: the index of the entry that opened it. To be written down by the client.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Proposes the command of this number until its outcome is known, over changes of the leader
    /// and lost answers; it is applied once, however often it is proposed under the number. Gives
    /// the entry that applied it, now or earlier, and the reply.
    ///
    /// Up to `acknowledged` the client is done: it will not ask for these commands again.
    ///
    /// # Errors
    ///
    /// [`SessionError`], after each of which but [`SessionError::ReplyNotKept`] and
    /// [`SessionError::Refused`] the same command may be proposed again under its number, whatever
    /// has become of the attempt. [`SessionRefusal::Superseded`] when the client has acknowledged
    /// the number; [`Refusal::Busy`], and nothing was sent, when it is further beyond
    /// `acknowledged` than [`SessionBounds::replies`](crate::session::SessionBounds::replies)
    /// says.
    pub fn propose(
        &self,
        sequence: u64,
        acknowledged: u64,
        command: &F::Command,
    ) -> Pending<(Applied, F::Reply), SessionError> {
        self.propose_within(sequence, acknowledged, command, self.shared.deadline)
    }

    /// As [`propose`](NumberedSession::propose), with a deadline of its own.
    ///
    /// # Errors
    ///
    /// As [`propose`](NumberedSession::propose).
    pub fn propose_within(
        &self,
        sequence: u64,
        acknowledged: u64,
        command: &F::Command,
        within: Duration,
    ) -> Pending<(Applied, F::Reply), SessionError> {
        let session = self.id;
        match sequence.checked_sub(acknowledged) {
            None | Some(0) => {
                let refusal = SessionRefusal::Superseded { session, sequence };
                return Pending::ready(Err(refusal.into()));
            }
            Some(ahead) if ahead > self.shared.machine.fsm().replies() => {
                return Pending::ready(Err(ProposeError::Refused(Refusal::Busy).into()));
            }
            Some(_) => {}
        }
        let place = Place { session, sequence, acknowledged };
        let envelope = EnvelopeRef::InSession { place, command };
        self.shared.propose(&envelope, true, within, read)
    }

    /// Ends the session, so that the database forgets its replies. Whoever else has it finds its
    /// commands refused.
    ///
    /// # Errors
    ///
    /// As [`Node::propose`].
    pub fn close(self) -> Pending<(), ProposeError> {
        close(&self.shared, self.id)
    }
}
