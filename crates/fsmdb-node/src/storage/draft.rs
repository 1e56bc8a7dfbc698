//! A record of the log while it is put together, and how it is written.

use fsmdb::raft::{Entry, LogError, SnapshotMeta};
use raft_engine::{Command, LogBatch};

use super::housekeeping::Shared;
use super::record::{GROUP, STATE, State, StoredEntry, encode_entry, encode_snapshot, entry_bytes};

/// A record without its state.
#[derive(Default)]
pub(super) struct Draft {
    batch: LogBatch,
    /// Bytes of its entries, as raft-engine writes them.
    entries_bytes: u64,
}

impl Draft {
    pub(super) fn command(&mut self, command: Command) {
        self.batch.add_command(GROUP, command);
    }

    /// Adds entries that follow each other.
    pub(super) fn entries(&mut self, entries: &[Entry]) -> Result<(), LogError> {
        let messages = entries.iter().map(encode_entry).collect::<Result<Vec<_>, _>>()?;
        self.entries_bytes += messages.iter().map(entry_bytes).sum::<u64>();
        let added = self.batch.add_entries::<StoredEntry>(GROUP, &messages);
        added.map_err(|error| LogError::Write { reason: error.to_string() })
    }

    pub(super) fn snapshot(
        &mut self,
        name: &[u8],
        snapshot: &SnapshotMeta,
    ) -> Result<(), LogError> {
        let put = self.batch.put(GROUP, name.to_vec(), encode_snapshot(snapshot)?);
        put.map_err(|error| LogError::Write { reason: error.to_string() })
    }

    /// Writes the record with the state after it, the last thing in it. raft-engine syncs nothing
    /// with an empty record; this one never is.
    pub(super) fn write(
        mut self,
        shared: &Shared,
        state: &State,
        sync: bool,
    ) -> Result<(), LogError> {
        let state = state.encode(shared.evidence(self.entries_bytes));
        let bytes = shared.write(|engine| {
            self.batch.put(GROUP, STATE.to_vec(), state)?;
            engine.write(&mut self.batch, sync)
        })?;
        shared.written(bytes, sync);
        Ok(())
    }
}
