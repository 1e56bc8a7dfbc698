//! Feeds a log to a state machine, entry by entry.

use std::fmt;
use std::io;

use serde::Serialize;

use super::error::MachineError;
use super::fsm::{Fsm, Outcome};
use crate::db::Db;
use crate::limits::COMMAND_BYTES_MAX;
use crate::messagepack::{self, ReadError};
use crate::revision::{Applied, Revision};
use crate::snapshot::LoadOptions;
use crate::txn::Snapshot;

/// A state machine and the database that it owns.
///
/// From [`new`](Machine::new) to its drop the database is written by the log alone: its handles
/// can read and be kept over a restore, [`Db::write`] panics and [`Db::try_write`] refuses.
///
/// Entries are given by one thread at a time, in the order of their indexes, each once: by
/// [`apply`](Machine::apply) if it carries a command and by [`skip`](Machine::skip) if not.
pub struct Machine<F> {
    db: Db,
    fsm: F,
}

impl<F: Fsm> Machine<F> {
    /// Gives `db` into the ownership of a machine that runs `fsm`.
    ///
    /// # Errors
    ///
    /// [`MachineError::Owned`] when another machine owns it, [`MachineError::Foreign`] when it was
    /// written outside a log.
    pub fn new(db: Db, fsm: F) -> Result<Self, MachineError> {
        if !db.take_ownership() {
            return Err(MachineError::Owned);
        }
        // From here on the drop of the machine gives the database back.
        let machine = Self { db, fsm };
        let snap = machine.read();
        check_position(snap.revision(), snap.applied())?;
        Ok(machine)
    }

    /// Encodes a command as [`apply`](Machine::apply) decodes it: MessagePack, named fields.
    ///
    /// # Errors
    ///
    /// [`MachineError::Encode`] or [`MachineError::TooLarge`]: what `apply` would refuse is
    /// refused here, before it is in the log. To know, it decodes what it has encoded: a field
    /// with `skip_serializing_if` and without `default`, for one, cannot be read back.
    pub fn encode(command: &F::Command) -> Result<Vec<u8>, MachineError> {
        Self::encode_as(command)
    }

    /// As [`encode`](Machine::encode), of a value that is written as a command is without being
    /// one: of an enum that borrows what the command owns, for one.
    ///
    /// # Errors
    ///
    /// As [`encode`](Machine::encode): what it has written is read back as a command.
    pub fn encode_as<T: Serialize + ?Sized>(command: &T) -> Result<Vec<u8>, MachineError> {
        let mut bytes = Vec::new();
        messagepack::write(command, &mut bytes)
            .map_err(|message| MachineError::Encode { message })?;
        // A command that commits and cannot be decoded would stop every replica for good.
        Self::check(&bytes)?;
        Ok(bytes)
    }

    /// Checks that bytes from elsewhere, another replica for one, are a command that
    /// [`apply`](Machine::apply) takes. Costs one decode.
    ///
    /// # Errors
    ///
    /// [`MachineError::Encode`] or [`MachineError::TooLarge`].
    pub fn check(command: &[u8]) -> Result<(), MachineError> {
        if command.len() > COMMAND_BYTES_MAX {
            let (bytes, limit) = (command.len(), COMMAND_BYTES_MAX);
            return Err(MachineError::TooLarge { bytes, limit });
        }
        let read = messagepack::read::<F::Command>(command).map(drop);
        read.map_err(|error| MachineError::Encode {
            message: format!("what it writes cannot be read back: {error}"),
        })
    }

    /// Applies the entry at `at`: one transaction, one revision, whatever the reply.
    ///
    /// A refused command is rolled back and the entry still counts as applied. An entry at or
    /// below the applied index is a replay: it changes nothing and gives `None`.
    ///
    /// # Errors
    ///
    /// [`MachineError::Gap`] when an entry is missing, [`MachineError::Decode`] when the bytes are
    /// not a command. The entry is not applied then, and the replica must stop.
    ///
    /// # Panics
    ///
    /// When [`Fsm::apply`] does; the entry is not applied then. When a hook that it gave to
    /// [`WriteTxn::after_commit`](crate::WriteTxn::after_commit) does; it is applied then.
    pub fn apply(&self, at: Applied, command: &[u8]) -> Result<Option<F::Reply>, MachineError> {
        let mut txn = self.db.write_entry(at);
        if is_replay(txn.base_applied(), at)? {
            return Ok(None);
        }
        let command = messagepack::read(command).map_err(|ReadError { offset, message }| {
            MachineError::Decode { at, offset, message }
        })?;
        let reply = self.fsm.apply(&mut txn, at, command);
        if reply.is_refused() {
            txn.rollback_all();
        }
        txn.commit_entry(at);
        Ok(Some(reply))
    }

    /// Counts the entry at `at`, which carries no command, as applied.
    ///
    /// # Errors
    ///
    /// [`MachineError::Gap`] when an entry is missing.
    pub fn skip(&self, at: Applied) -> Result<(), MachineError> {
        let txn = self.db.write_entry(at);
        if !is_replay(txn.base_applied(), at)? {
            txn.commit_entry(at);
        }
        Ok(())
    }

    /// The entry that was applied last.
    #[must_use]
    pub fn applied(&self) -> Applied {
        self.db.read().applied()
    }

    /// The current version; its `save` writes what [`install`](Machine::install) reads.
    #[must_use]
    pub fn read(&self) -> Snapshot {
        self.db.read()
    }

    /// A handle on the database, which can read and stays valid over an install.
    #[must_use]
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// The state machine that applies the commands.
    #[must_use]
    pub fn fsm(&self) -> &F {
        &self.fsm
    }

    /// Ends all watches, waits and feeds as the drop of the last handle does: for a replica that
    /// has ended, whose database nothing will change any more. It can still be read.
    pub fn close_waits(&self) {
        self.db.close_waits();
    }

    /// Replaces the whole state by that of a snapshot file, atomically, and gives its position.
    ///
    /// Readers keep the versions that they hold; every handle sees the new state from here on.
    ///
    /// # Errors
    ///
    /// [`MachineError::Stale`] when the snapshot is behind the applied entry,
    /// [`MachineError::Foreign`] when it is of a database that was written outside a log,
    /// [`MachineError::Snapshot`] when it cannot be read; nothing has changed then.
    pub fn install<R: io::Read>(&self, source: R) -> Result<Applied, MachineError> {
        self.install_with(source, LoadOptions::new())
    }

    /// As [`install`](Machine::install), decrypted, limited, told of and cancelled as `options`
    /// say.
    ///
    /// ```
    /// # use fsmdb::{Applied, Db, Fsm, LoadOptions, Machine, Table, WriteTxn};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    /// # #[table(name = "nodes")]
    /// # struct Node { #[key] id: u64 }
    /// # struct Nodes;
    /// # impl Fsm for Nodes {
    /// #     type Command = u64;
    /// #     type Reply = ();
    /// #     fn apply(&self, txn: &mut WriteTxn<'_>, _: Applied, id: u64) {
    /// #         txn.upsert(Node { id }).unwrap();
    /// #     }
    /// # }
    /// # let machine = || Machine::new(Db::builder().table::<Node>().build().unwrap(), Nodes);
    /// # let (leader, follower) = (machine()?, machine()?);
    /// # let at = Applied { index: 1, term: 1 };
    /// # leader.apply(at, &Machine::<Nodes>::encode(&7)?)?;
    /// let mut file = Vec::new();
    /// leader.read().save(&mut file)?;
    /// let options = LoadOptions::new().rows_max(1_000_000);
    /// assert_eq!(follower.install_with(file.as_slice(), options)?, at);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`install`](Machine::install).
    pub fn install_with<R: io::Read>(
        &self,
        source: R,
        options: LoadOptions<'_>,
    ) -> Result<Applied, MachineError> {
        self.install_chain([source], options)
    }

    /// As [`install`](Machine::install), of a chain: a whole snapshot file and the incremental ones
    /// that follow it.
    ///
    /// # Errors
    ///
    /// As [`install`](Machine::install); [`SnapshotError::WrongBase`] at the first link that does
    /// not fit.
    ///
    /// [`SnapshotError::WrongBase`]: crate::SnapshotError::WrongBase
    pub fn install_chain<R: io::Read>(
        &self,
        sources: impl IntoIterator<Item = R>,
        options: LoadOptions<'_>,
    ) -> Result<Applied, MachineError> {
        self.db.install(sources, options, |revision, found| {
            check_position(revision, found)?;
            let applied = self.applied();
            if found.index < applied.index {
                return Err(MachineError::Stale { found, applied });
            }
            Ok(found)
        })
    }

    /// Applies an incremental snapshot file, which must be based on the current state, and gives
    /// its position: what the entries up to there would have done. As
    /// [`Db::apply_incremental`] otherwise, also for kept versions and feeds.
    ///
    /// # Errors
    ///
    /// As [`install`](Machine::install); [`SnapshotError::WrongBase`] when the state is another
    /// one, [`SnapshotError::KeepsIncarnation`] when `options` have an incarnation. Nothing has
    /// changed then.
    ///
    /// [`SnapshotError::WrongBase`]: crate::SnapshotError::WrongBase
    /// [`SnapshotError::KeepsIncarnation`]: crate::SnapshotError::KeepsIncarnation
    pub fn install_incremental<R: io::Read>(
        &self,
        source: R,
        options: LoadOptions<'_>,
    ) -> Result<Applied, MachineError> {
        self.db.install_incremental(source, options, |revision, applied| {
            check_position(revision, applied).map(|()| applied)
        })
    }
}

/// Whether `at` was applied before; an error when it is neither that nor the next entry.
fn is_replay(applied: Applied, at: Applied) -> Result<bool, MachineError> {
    if at.index < applied.index || at == applied {
        return Ok(true);
    }
    if at.index - applied.index != 1 || at.term < applied.term {
        return Err(MachineError::Gap { got: at, applied });
    }
    Ok(false)
}

/// In a database that a log writes, the revision is the index of the applied entry.
fn check_position(revision: Revision, applied: Applied) -> Result<(), MachineError> {
    if revision.0 == applied.index {
        Ok(())
    } else {
        Err(MachineError::Foreign { revision, applied })
    }
}

impl<F> Drop for Machine<F> {
    fn drop(&mut self) {
        self.db.release_ownership();
    }
}

impl<F> fmt::Debug for Machine<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").field("db", &self.db).finish_non_exhaustive()
    }
}
