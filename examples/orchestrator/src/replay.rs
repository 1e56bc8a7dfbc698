//! A copy of the state that is made of changes alone. Tables of the nodes stay empty in it.

use anyhow::Result;
use fsmdb::{Builder, Change, Db, Read, Row, Snapshot, Table, WriteTxn, decode};

use crate::model::{Allocation, Event, Job, Node};

/// A database that is written by replaying what has changed in another one.
pub struct Replay {
    db: Db,
}

impl Replay {
    /// An empty copy with these tables, which are those of what will be replayed.
    pub fn new(tables: Builder) -> Result<Self> {
        Ok(Self { db: tables.build()? })
    }

    /// Applies changes that belong together. Says of how many rows the copy did not hold what
    /// stood there before: it has missed something about them, or been told of it twice.
    pub fn apply(&self, changes: &[&Change]) -> Result<usize> {
        let mut txn = self.db.write();
        let mut surprises = 0;
        // All rows go before the first comes, so that none is in the way of a unique index.
        for change in changes {
            let is_as_before = take::<Node>(&mut txn, change)?
                && take::<Job>(&mut txn, change)?
                && take::<Allocation>(&mut txn, change)?
                && take::<Event>(&mut txn, change)?;
            surprises += usize::from(!is_as_before);
        }
        for change in changes {
            put::<Node>(&mut txn, change)?;
            put::<Job>(&mut txn, change)?;
            put::<Allocation>(&mut txn, change)?;
            put::<Event>(&mut txn, change)?;
        }
        txn.commit();
        Ok(surprises)
    }

    /// Becomes like `state`, by the difference to it.
    pub fn catch_up(&self, state: &Snapshot) -> Result<()> {
        let changes: Vec<_> = state.diff_all(&self.db.read()).collect();
        self.apply(&changes.iter().collect::<Vec<_>>()).map(drop)
    }

    /// The tables that do not have the rows of `state`.
    pub fn differing(&self, state: &Snapshot) -> Vec<&'static str> {
        let copy = self.db.read();
        let tables = [
            (Node::NAME, same::<Node>(&copy, state)),
            (Job::NAME, same::<Job>(&copy, state)),
            (Allocation::NAME, same::<Allocation>(&copy, state)),
            (Event::NAME, same::<Event>(&copy, state)),
        ];
        tables.into_iter().filter(|(_, is_same)| !is_same).map(|(name, _)| name).collect()
    }
}

/// Takes out what stands where the change is, and says whether that is what stood there before.
fn take<T: Table + PartialEq>(txn: &mut WriteTxn<'_>, change: &Change) -> Result<bool> {
    if !change.is_in::<T>() {
        return Ok(true);
    }
    let held = txn.table_mut::<T>().delete(&decode::<T::Key>(change.key())?);
    let held = held.as_ref().map(|row| row.value());
    Ok(held == change.before::<T>().map(Row::value))
}

fn put<T: Table + Clone>(txn: &mut WriteTxn<'_>, change: &Change) -> Result<()> {
    if let Some(row) = change.after::<T>() {
        txn.insert(row.value().clone())?;
    }
    Ok(())
}

fn same<T: Table + PartialEq>(one: &impl Read, other: &impl Read) -> bool {
    let (one, other) = (one.table::<T>(), other.table::<T>());
    one.len() == other.len()
        && one.iter().zip(other.iter()).all(|(one, other)| one.value() == other.value())
}
