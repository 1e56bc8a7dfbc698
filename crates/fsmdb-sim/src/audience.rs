//! Who watches the database of one replica: watches, and one who follows its feed.
//!
//! # Invariants checked
//!
//! 1. When the answer to what a watch has read is another one, the watch has ended.
//! 2. A feed has one item for every commit that changed anything, in order, or says that there was
//!    a restore; who applies its items has what the database has.

use std::collections::BTreeMap;

use fsmdb::{Change, Db, Event, Feed, Read, Wake, Watch};

use crate::limits::REGISTERS;
use crate::mutant::Mutant;
use crate::oracle::Oracle;
use crate::state::{Claim, Register, Session};
use crate::violation::{Check, Checked, Violation, ensure};

/// What is asked of a database.
#[derive(Clone, Copy, Debug)]
enum Question {
    Length(u64),
    ClaimsOf(u64),
    Sessions,
}

impl Question {
    fn answer(self, read: &impl Read) -> u64 {
        match self {
            Self::Length(id) => read.table::<Register>().get(&id).map_or(0, |row| row.length),
            Self::ClaimsOf(owner) => {
                read.table::<Claim>().index(Claim::BY_OWNER).get(&owner).count() as u64
            }
            Self::Sessions => read.table::<Session>().len() as u64,
        }
    }
}

#[derive(Debug)]
struct Watched {
    question: Question,
    answer: u64,
    watch: Watch,
}

impl Watched {
    fn new(question: Question, db: &Db) -> Self {
        let (answer, watch) = db.read().watch(|read| question.answer(read));
        Self { question, answer, watch }
    }
}

/// All who watch one replica.
#[derive(Debug)]
pub(crate) struct Audience {
    watched: Vec<Watched>,
    feed: Feed,
    /// Up to where the follower of the feed has everything.
    position: u64,
    lengths: BTreeMap<u64, u64>,
    mutant: Option<Mutant>,
}

/// What an audience has seen at one look.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) wakes: u64,
    pub(crate) items: u64,
    pub(crate) resets: u64,
}

impl Audience {
    pub(crate) fn new(db: &Db, mutant: Option<Mutant>) -> Self {
        let questions = (1..=REGISTERS).map(Question::Length);
        let questions = questions.chain([Question::ClaimsOf(1), Question::Sessions]);
        let watched = questions.map(|question| Watched::new(question, db)).collect();
        let (snapshot, feed) = db.changes().follow();
        let rows = snapshot.table::<Register>();
        let lengths = rows.iter().map(|row| (row.id, row.length)).collect();
        Self { watched, feed, position: snapshot.revision().0, lengths, mutant }
    }

    /// Looks at the database after an entry or a restore.
    pub(crate) fn look(&mut self, db: &Db, oracle: &Oracle) -> Checked<Seen> {
        let mut seen = Seen::default();
        let snapshot = db.read();
        for watched in &mut self.watched {
            let now = watched.question.answer(&snapshot);
            let ended = watched.watch.ended();
            ensure(now == watched.answer || ended == Some(Wake::Changed), Check::Watch, || {
                let Watched { question, answer, .. } = watched;
                format!("{question:?} was {answer}, is {now}, and nobody was woken")
            })?;
            if ended.is_some() {
                *watched = Watched::new(watched.question, db);
                seen.wakes += 1;
            }
        }
        while let Some(event) = self.next()? {
            self.follow(&event, db, oracle, &mut seen)?;
        }
        let newest = snapshot.revision().0;
        self.pass(newest + 1, oracle)?;
        let rows = snapshot.table::<Register>();
        let lengths: BTreeMap<u64, u64> = rows.iter().map(|row| (row.id, row.length)).collect();
        ensure(lengths == self.lengths, Check::Feed, || {
            format!("by the feed it is {:?}, at {newest} it is {lengths:?}", self.lengths)
        })?;
        Ok(seen)
    }

    fn next(&mut self) -> Checked<Option<Event>> {
        let next = self.feed.try_next();
        next.map_err(|lagged| Violation::new(Check::Feed, lagged.to_string()))
    }

    fn follow(&mut self, event: &Event, db: &Db, oracle: &Oracle, seen: &mut Seen) -> Checked {
        match event {
            Event::Commit(commit) => {
                let revision = commit.revision().0;
                ensure(revision > self.position, Check::Feed, || {
                    format!("commit {revision} comes after {}", self.position)
                })?;
                self.pass(revision, oracle)?;
                self.position = revision;
                seen.items += 1;
                commit.changes().for_each(|change| self.take(change));
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
                    Some(changes) => changes.for_each(|change| self.take(change)),
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

    fn take(&mut self, change: &Change) {
        match (change.before::<Register>(), change.after::<Register>()) {
            (_, Some(after)) => drop(self.lengths.insert(after.id, after.length)),
            (Some(before), None) => drop(self.lengths.remove(&before.id)),
            (None, None) => {}
        }
    }
}
