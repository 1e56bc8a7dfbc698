//! Optimistic transactions on the database: begun, committed, tried again.

use super::Db;
use crate::limits::TRANSACT_ATTEMPTS_MAX;
use crate::revision::Revision;
use crate::txn::{CommitError, OptimisticTxn, TransactError};

impl Db {
    /// Starts a transaction that holds no lock while it works; see [`OptimisticTxn`]. It is given
    /// to [`commit`](Db::commit).
    #[must_use]
    pub fn optimistic(&self) -> OptimisticTxn {
        OptimisticTxn::new(self.read())
    }

    /// Publishes the writes of an optimistic transaction if no commit since its beginning has
    /// changed what it has read. One that has written nothing is serialisable as it is: its
    /// revision is that of its beginning, and nothing is published.
    ///
    /// # Errors
    ///
    /// [`CommitError`]; nothing has changed then.
    pub fn commit(&self, txn: OptimisticTxn) -> Result<Revision, CommitError> {
        if !txn.is_changed() {
            return Ok(txn.origin().revision());
        }
        let mut write = self.write_unless_owned()?;
        txn.apply(&mut write)?;
        Ok(write.commit())
    }

    /// Runs `body` in an optimistic transaction and commits it; on a conflict it is run again, on a
    /// newer version, up to [`limits::TRANSACT_ATTEMPTS_MAX`](crate::limits::TRANSACT_ATTEMPTS_MAX)
    /// times. So `body` should change nothing but the transaction.
    ///
    /// ```
    /// # use fsmdb::{Db, Error, Table};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    /// # #[table(name = "accounts")]
    /// # struct Account { #[key] id: u64, balance: u64 }
    /// # let db = Db::builder().table::<Account>().build()?;
    /// # let mut txn = db.write();
    /// # txn.insert(Account { id: 1, balance: 10 })?;
    /// # txn.insert(Account { id: 2, balance: 0 })?;
    /// # txn.commit();
    /// let moved = db.transact(|txn| {
    ///     let amount = txn.table::<Account>().get(&1_u64).map_or(0, |account| account.balance);
    ///     let mut accounts = txn.table_mut::<Account>();
    ///     accounts.update(&1_u64, |account| account.balance -= amount)?;
    ///     accounts.update(&2_u64, |account| account.balance += amount)?;
    ///     Ok::<_, Error>(amount)
    /// })?;
    /// assert_eq!(moved, 10);
    /// assert_eq!(db.read().table::<Account>().get(&2_u64).unwrap().balance, 10);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TransactError::Aborted`] with the error of `body`; [`TransactError::Commit`], with the
    /// last conflict when there were too many.
    pub fn transact<A, E>(
        &self,
        mut body: impl FnMut(&mut OptimisticTxn) -> Result<A, E>,
    ) -> Result<A, TransactError<E>> {
        let mut attempts = 1;
        loop {
            let mut txn = self.optimistic();
            let answer = body(&mut txn).map_err(TransactError::Aborted)?;
            match self.commit(txn) {
                Ok(_) => return Ok(answer),
                Err(error) if error.is_conflict() && attempts < TRANSACT_ATTEMPTS_MAX => {
                    attempts += 1;
                }
                Err(error) => return Err(TransactError::Commit(error)),
            }
        }
    }
}
