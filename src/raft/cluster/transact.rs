//! Optimistic transactions through the log.

use thiserror::Error;

use super::Cluster;
use crate::limits::TRANSACT_ATTEMPTS_MAX;
use crate::machine::CarriesIntents;
use crate::raft::ProposeError;
use crate::revision::{Applied, Revision};
use crate::{IntentError, OptimisticTxn};

/// Why a transaction did not go through the log.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClusterTransactError<E> {
    /// The closure has refused, on a version that was whole.
    #[error(transparent)]
    Aborted(E),
    /// The intent was not made, or refused: with a conflict, that often in a row.
    #[error(transparent)]
    Intent(IntentError),
    /// The proposal failed. Its outcome may be unknown.
    #[error(transparent)]
    Propose(ProposeError),
    /// The replica is not there, or did not catch up in time with what it conflicted with.
    #[error("replica {id} is not there, or behind")]
    Replica {
        /// The replica's id.
        id: u64,
    },
}

impl<F: CarriesIntents> Cluster<F> {
    /// Runs `body` in an optimistic transaction on the state of a replica, which may be behind, and
    /// proposes what it has read and written as an [`Intent`](crate::Intent); every replica checks
    /// it alike. On a conflict `body` is run again, once the replica has come to where it
    /// conflicted, up to
    /// [`limits::TRANSACT_ATTEMPTS_MAX`](crate::limits::TRANSACT_ATTEMPTS_MAX) times.
    ///
    /// Gives the answer of `body` and the entry that did it; a transaction that has only read has
    /// none, and is as serialisable as a stale read.
    ///
    /// # Errors
    ///
    /// [`ClusterTransactError`]. After [`ProposeError::Unknown`] the transaction may have been
    /// done.
    pub fn transact<A, E>(
        &self,
        id: u64,
        mut body: impl FnMut(&mut OptimisticTxn) -> Result<A, E>,
    ) -> Result<(A, Option<Applied>), ClusterTransactError<E>> {
        let mut attempts = 1;
        loop {
            let db = self.db(id).ok_or(ClusterTransactError::Replica { id })?;
            let mut txn = db.optimistic();
            let answer = body(&mut txn).map_err(ClusterTransactError::Aborted)?;
            if !txn.is_changed() {
                return Ok((answer, None));
            }
            let intent = txn.into_intent().map_err(ClusterTransactError::Intent)?;
            let proposed = self.propose(&F::carry(intent));
            let (at, reply) = proposed.map_err(ClusterTransactError::Propose)?;
            match F::carried(reply) {
                Ok(()) => return Ok((answer, Some(at))),
                Err(error) if error.is_conflict() && attempts < TRANSACT_ATTEMPTS_MAX => {
                    attempts += 1;
                    let caught_up = db.wait_for(Revision(at.index)).wait(self.options.deadline);
                    caught_up.map_err(|_| ClusterTransactError::Replica { id })?;
                }
                Err(error) => return Err(ClusterTransactError::Intent(error)),
            }
        }
    }
}
