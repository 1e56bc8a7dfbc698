//! The digests of a version, and of a fork.

use super::draft::Drafting;
use super::fork::Fork;
use super::read::Snapshot;
use crate::digest::{Digests, TableDigest};
use crate::error::Error;
use crate::revision::Revision;
use crate::root::Contents;

impl Snapshot {
    /// A digest of each table: databases with the same rows have the same digests, whatever the
    /// order and the transactions in which they came by them. See [`Digests`].
    ///
    /// O(tables) where digests are kept
    /// ([`Builder::keep_digests`](crate::Builder::keep_digests)); otherwise every row is encoded,
    /// O(rows).
    ///
    /// ```
    /// # use fsmdb::{Db, Table};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    /// # #[table(name = "nodes")]
    /// # struct Node { #[key] id: u64 }
    /// let db = Db::builder().table::<Node>().keep_digests().build()?;
    /// let mut txn = db.write();
    /// txn.insert(Node { id: 1 })?;
    /// let of_txn = txn.snapshot().digests()?; // of a transaction that is still open
    /// txn.commit();
    /// assert_eq!(db.read().digests()?, of_txn);
    ///
    /// let mut file = Vec::new();
    /// db.read().save(&mut file)?;
    /// let copy = Db::builder().table::<Node>().load(file.as_slice())?;
    /// assert_eq!(copy.read().digests()?, of_txn);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::RowEncode`] or [`Error::RowTooLarge`] naming the first row of a table without an
    /// encoding; never where digests are kept, because such a row is refused there.
    pub fn digests(&self) -> Result<Digests, Error> {
        digests_of(self.contents(), self.revision())
    }
}

impl Fork {
    /// A digest of each table with the writes of this fork; see [`Snapshot::digests`].
    ///
    /// # Errors
    ///
    /// As [`Snapshot::digests`].
    ///
    /// # Panics
    ///
    /// When a statement panicked half-way because an index function of the schema is not pure.
    pub fn digests(&self) -> Result<Digests, Error> {
        self.draft().work.assert_whole();
        digests_of(self.draft().contents(), self.revision())
    }
}

/// The digests of `contents`, which are those of `revision`.
pub(super) fn digests_of(contents: &Contents, revision: Revision) -> Result<Digests, Error> {
    let tables = contents.schema.positions_by_name().map(|position| {
        let table = contents.table(position);
        let (name, rows) = (table.schema().name.to_string(), table.len() as u64);
        Ok(TableDigest { table: name, rows, digest: table.digest()? })
    });
    let mut tables = tables.collect::<Result<Vec<_>, Error>>()?;
    for table in contents.carried.iter().flat_map(|carried| &carried.tables) {
        let (name, rows) = (table.name.clone(), table.rows);
        tables.push(TableDigest { table: name, rows, digest: table.digest });
    }
    tables.sort_by(|one, other| one.table.cmp(&other.table));
    Ok(Digests { revision, applied: contents.applied, tables })
}
