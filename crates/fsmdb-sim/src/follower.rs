//! Who follows the feed of a database and keeps a copy of its rows, also from one replica to the
//! next.
//!
//! # Invariants checked
//!
//! 1. A feed has one item for every commit that changed anything, in order, or says that there was
//!    a restore; who applies its items has what the database has.
//! 2. A feed that is resumed by its bookmark at another replica goes on where it was: nothing comes
//!    twice and nothing is missing. Who cannot go on is told so, and reads anew.

use std::collections::BTreeMap;

use fsmdb::{Change, Db, Event, Feed, FeedError, Revision, Row, Snapshot};

use crate::mutant::Mutant;
use crate::oracle::Oracle;
use crate::state::{Claim, Register};
use crate::violation::{Check, Checked, Violation, ensure};

/// What a follower knows of the rows: the length of each register, the owner of each claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rows {
    lengths: BTreeMap<u64, u64>,
    owners: BTreeMap<u64, u64>,
}

fn length(row: &Row<Register>) -> (u64, u64) {
    (row.id, row.length)
}

fn owner(row: &Row<Claim>) -> (u64, u64) {
    (row.id, row.owner)
}

impl Rows {
    fn of(snapshot: &Snapshot) -> Self {
        let lengths = snapshot.table::<Register>().iter().map(length).collect();
        let owners = snapshot.table::<Claim>().iter().map(owner).collect();
        Self { lengths, owners }
    }

    /// Whether this is what a version has.
    fn are_of(&self, snapshot: &Snapshot) -> bool {
        let (registers, claims) = (snapshot.table::<Register>(), snapshot.table::<Claim>());
        let pair = |(id, value): (&u64, &u64)| (*id, *value);
        registers.iter().map(length).eq(self.lengths.iter().map(pair))
            && claims.iter().map(owner).eq(self.owners.iter().map(pair))
    }

    /// Takes a change, which must begin from what is here.
    fn take(&mut self, change: &Change) -> Checked {
        take(&mut self.lengths, [change.before(), change.after()].map(|row| row.map(length)))?;
        take(&mut self.owners, [change.before(), change.after()].map(|row| row.map(owner)))
    }
}

fn take(rows: &mut BTreeMap<u64, u64>, [before, after]: [Option<(u64, u64)>; 2]) -> Checked {
    let Some((id, _)) = before.or(after) else { return Ok(()) };
    let held = rows.get(&id).map(|value| (id, *value));
    ensure(held == before, Check::Feed, || {
        format!("a change begins from {before:?}, its follower has {held:?}")
    })?;
    match after {
        Some((_, value)) => drop(rows.insert(id, value)),
        None => drop(rows.remove(&id)),
    }
    Ok(())
}

/// What was seen at one look.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Followed {
    pub(crate) items: u64,
    pub(crate) resets: u64,
}

/// Somebody with a copy of the rows of a database.
#[derive(Debug)]
pub(crate) struct Follower {
    /// None while nobody is followed.
    feed: Option<Feed>,
    /// Up to where it has everything.
    position: u64,
    rows: Rows,
    mutant: Option<Mutant>,
}

/// How a follower has gone on at a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resumed {
    /// From its bookmark.
    FromBookmark,
    /// From a new copy: what it had missed is not kept any more.
    Anew,
    /// Not at all: the database has not come to its bookmark.
    TooEarly,
}

impl Follower {
    /// Reads everything, to follow from there.
    pub(crate) fn new(db: &Db, mutant: Option<Mutant>) -> Self {
        let (snapshot, feed) = db.changes().follow();
        let (position, rows) = (snapshot.revision().0, Rows::of(&snapshot));
        Self { feed: Some(feed), position, rows, mutant }
    }

    /// Lets go of the database; the bookmark and the copy stay.
    pub(crate) fn let_go(&mut self) {
        self.feed = None;
    }

    /// Goes on at a database that is another replica's, as a user would.
    pub(crate) fn resume(&mut self, db: &Db) -> Checked<Resumed> {
        let late = u64::from(self.mutant == Some(Mutant::ResumeOneLate));
        match db.changes().since(Revision(self.position + late)) {
            Ok(feed) => {
                self.feed = Some(feed);
                Ok(Resumed::FromBookmark)
            }
            Err(FeedError::Ahead { .. }) => Ok(Resumed::TooEarly),
            Err(FeedError::Gone { .. }) => {
                let before = self.position;
                *self = Self::new(db, self.mutant);
                ensure(self.position >= before, Check::Feed, || {
                    format!("{before} is gone at a database that is at {}", self.position)
                })?;
                Ok(Resumed::Anew)
            }
            Err(error) => Err(Violation::new(Check::Feed, error.to_string())),
        }
    }

    /// Takes what has come, and compares.
    pub(crate) fn look(&mut self, db: &Db, oracle: &Oracle) -> Checked<Followed> {
        let mut seen = Followed::default();
        while let Some(event) = self.next()? {
            self.follow(&event, db, oracle, &mut seen)?;
        }
        let snapshot = db.read();
        let newest = snapshot.revision().0;
        self.pass(newest + 1, oracle)?;
        ensure(self.rows.are_of(&snapshot), Check::Feed, || {
            let rows = Rows::of(&snapshot);
            format!("by the feed it is {:?}, at {newest} it is {rows:?}", self.rows)
        })?;
        Ok(seen)
    }

    fn next(&mut self) -> Checked<Option<Event>> {
        let Some(feed) = &mut self.feed else { return Ok(None) };
        let next = feed.try_next();
        next.map_err(|lagged| Violation::new(Check::Feed, lagged.to_string()))
    }

    fn follow(&mut self, event: &Event, db: &Db, oracle: &Oracle, seen: &mut Followed) -> Checked {
        match event {
            Event::Commit(commit) => {
                let revision = commit.revision().0;
                ensure(revision > self.position, Check::Feed, || {
                    format!("commit {revision} comes after {}", self.position)
                })?;
                self.pass(revision, oracle)?;
                self.position = revision;
                seen.items += 1;
                commit.changes().try_for_each(|change| self.rows.take(change))?;
            }
            Event::Bookmark(revision) => {
                self.pass(revision.0 + 1, oracle)?;
                self.position = revision.0;
            }
            Event::Reset(_) if self.mutant == Some(Mutant::FeedHidesReset) => {}
            Event::Reset(reset) => {
                seen.resets += 1;
                self.position = reset.to().0;
                match reset.changes() {
                    Some(mut changes) => changes.try_for_each(|change| self.rows.take(change))?,
                    None => *self = Self::new(db, self.mutant),
                }
            }
            other => return Err(Violation::new(Check::Feed, format!("unknown item {other:?}"))),
        }
        Ok(())
    }

    /// Nothing may have been committed between the position and `revision`.
    fn pass(&self, revision: u64, oracle: &Oracle) -> Checked {
        let missing = oracle.first_change(self.position + 1, revision);
        ensure(missing.is_none(), Check::Feed, || {
            format!("commit {missing:?} is missing after {}", self.position)
        })
    }
}
