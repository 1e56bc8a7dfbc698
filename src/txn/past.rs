//! Versions of the past, as far as they are kept.

use std::fmt;

use thiserror::Error;

use super::read::Snapshot;
use crate::key::AsKey;
use crate::revision::Revision;
use crate::schema::Table;
use crate::tree::SharedRow;
use crate::watch::Hub;

/// Why a revision cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// It is below the oldest version that is kept.
    #[error("revision {revision} is not kept any more; the oldest is {oldest}")]
    BelowFloor {
        /// The revision that was asked for.
        revision: Revision,
        /// The oldest that can be read.
        oldest: Revision,
    },
    /// No commit made it, though older and newer ones are kept.
    #[error("no version has revision {revision}")]
    NoSuchRevision {
        /// The revision that was asked for.
        revision: Revision,
    },
    /// The database has not come to it.
    #[error("revision {revision} is ahead of the database, which is at {newest}")]
    Ahead {
        /// The revision that was asked for.
        revision: Revision,
        /// The revision of the current version.
        newest: Revision,
    },
}

/// A row from one revision on; from [`Db::versions`](crate::Db::versions).
#[derive(Clone)]
pub struct RowVersion<T> {
    /// The revision from which the row is like this: that of the commit, or of the oldest version
    /// that is kept.
    pub revision: Revision,
    /// The row; `None` where there was none.
    pub row: Option<SharedRow<T>>,
}

impl<T: fmt::Debug> fmt::Debug for RowVersion<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowVersion")
            .field("revision", &self.revision.0)
            .field("row", &self.row)
            .finish()
    }
}

/// The version of `revision`.
pub(crate) fn at(hub: &Hub, revision: Revision) -> Result<Snapshot, HistoryError> {
    let current = hub.load();
    let newest = current.revision;
    if revision == newest {
        return Ok(Snapshot::new(current));
    }
    if let Some(root) = hub.history().get(revision) {
        return Ok(Snapshot::new(root));
    }
    let oldest = hub.history().span().map_or(newest, |(oldest, _)| oldest);
    Err(if revision > newest {
        HistoryError::Ahead { revision, newest }
    } else if revision < oldest {
        HistoryError::BelowFloor { revision, oldest }
    } else {
        HistoryError::NoSuchRevision { revision }
    })
}

/// The versions of one row, the oldest first.
pub(crate) fn versions<T: Table, Q: AsKey<T::Key> + ?Sized>(
    hub: &Hub,
    key: &Q,
) -> Vec<RowVersion<T>> {
    let mut versions: Vec<RowVersion<T>> = Vec::new();
    let mut add = |snapshot: &Snapshot| {
        let row = snapshot.table::<T>().get(key).map(|row| row.share());
        let is_same = versions.last().is_some_and(|last| match (&last.row, &row) {
            (None, None) => true,
            (Some(one), Some(other)) => SharedRow::ptr_eq(one, other),
            _ => false,
        });
        if !is_same {
            versions.push(RowVersion { revision: snapshot.revision(), row });
        }
    };
    // Loaded first, so that what is kept meanwhile does not come behind it.
    let current = hub.load();
    let mut next = hub.history().span().map(|(oldest, _)| oldest);
    while let Some(revision) = next.filter(|revision| *revision < current.revision) {
        if let Some(root) = hub.history().get(revision) {
            add(&Snapshot::new(root));
        }
        next = hub.history().after(revision);
    }
    add(&Snapshot::new(current));
    versions
}
