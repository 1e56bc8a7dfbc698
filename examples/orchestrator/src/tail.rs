//! Follows what is committed: on one replica while it runs, then on another from there on.
//!
//! # Invariants
//!
//! 1. A tail knows the state by its copy alone, which is made of the items of its feeds. Only when
//!    a feed cannot give what is missing is it made up for, by the difference of the copy and the
//!    state.
//! 2. Whether anything is missing or came twice is found out on the way (each change names what
//!    stood there before) and in the end (by the ledger, and by the state of the replicas).

use std::collections::BTreeSet;
use std::sync::mpsc::{self, Sender};
use std::thread::{Scope, ScopedJoinHandle};

use anyhow::{Context, Result, bail};
use fsmdb::{Builder, Change, Db, Feed, FeedError, Revision, Snapshot};
use serde::Serialize;

use crate::control::{Control, Seat};
use crate::replay::Replay;

/// What the tails were told, all together.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Told {
    pub tails: usize,
    /// Items of feeds: commits, resets, and bookmarks where nothing had changed.
    pub events: usize,
    pub commits: usize,
    /// Snapshots that replaced the state of a replica under a feed.
    pub resets: usize,
    /// Feeds that went on at another replica.
    pub resumes: usize,
    /// Times that a feed could not give what was missing, and the difference of states did.
    pub made_up: usize,
    /// Changes that were missed.
    pub gaps: usize,
    /// Changes that came twice.
    pub repeats: usize,
    /// Whether every copy equals the state in the end.
    pub copies_equal: bool,
    /// One sentence for each thing that is wrong.
    #[serde(skip)]
    pub problems: Vec<String>,
}

/// Somebody who follows what is committed.
pub struct Tail {
    feed: Feed,
    copy: Replay,
    /// The revision of the last item.
    last: Revision,
    /// The revisions of all commits that were told.
    commits: BTreeSet<u64>,
    /// What came in one piece: after the first revision, up to the second.
    pieces: Vec<(Revision, Revision)>,
    told: Told,
}

impl Tail {
    fn follow(db: &Db, tables: Builder) -> Result<Self> {
        let (state, feed) = db.changes().follow();
        let copy = Replay::new(tables)?;
        copy.catch_up(&state)?;
        let (last, pieces) = (state.revision(), vec![(Revision(0), state.revision())]);
        Ok(Self { feed, copy, last, commits: BTreeSet::new(), pieces, told: Told::default() })
    }

    /// Takes what the feed gives until its database is closed.
    fn read(&mut self) -> Result<()> {
        while let Some(event) = self.feed.next() {
            self.told.events += 1;
            match event {
                Ok(fsmdb::Event::Commit(commit)) => {
                    self.told.repeats += usize::from(commit.revision() <= self.last);
                    self.last = commit.revision();
                    self.commits.insert(self.last.0);
                    self.told.commits += 1;
                    self.apply(&commit.changes().collect::<Vec<_>>())?;
                }
                Ok(fsmdb::Event::Bookmark(revision)) => self.last = revision,
                Ok(fsmdb::Event::Reset(reset)) => {
                    self.told.resets += 1;
                    if let Some(changes) = reset.changes() {
                        self.pieces.push((self.last, reset.to()));
                        self.last = reset.to();
                        self.apply(&changes.collect::<Vec<_>>())?;
                    } else {
                        self.skip()?;
                    }
                }
                Ok(event) => bail!("an item of a kind that is not known: {event:?}"),
                Err(_) => self.skip()?,
            }
        }
        Ok(())
    }

    fn apply(&mut self, changes: &[&Change]) -> Result<()> {
        self.told.gaps += self.copy.apply(changes)?;
        Ok(())
    }

    /// Goes to where the database is now, when the feed has lost what lies between.
    fn skip(&mut self) -> Result<()> {
        let state = self.feed.catch_up();
        self.make_up(&state)
    }

    fn make_up(&mut self, state: &Snapshot) -> Result<()> {
        self.copy.catch_up(state)?;
        self.pieces.push((self.last, state.revision()));
        self.last = state.revision();
        self.told.made_up += 1;
        Ok(())
    }

    /// Goes on with the changes of another database of the same log, once that has come to where
    /// this tail is. When it ends before, the feed stays the one that has ended.
    fn resume(&mut self, db: &Db) -> Result<()> {
        let revision = self.feed.revision();
        if db.wait_for(revision).wait(None).is_err() {
            return Ok(());
        }
        match db.changes().since(revision) {
            Ok(feed) => self.feed = feed,
            Err(FeedError::Gone { .. }) => {
                let (state, feed) = db.changes().follow();
                self.feed = feed;
                self.make_up(&state)?;
            }
            Err(error) => return Err(error.into()),
        }
        self.told.resumes += 1;
        Ok(())
    }

    /// Whether the entry was told, alone or as part of a piece.
    fn has(&self, entry: u64) -> bool {
        let in_piece = |(from, to): &(Revision, Revision)| (from.0 + 1..=to.0).contains(&entry);
        self.commits.contains(&entry) || self.pieces.iter().any(in_piece)
    }
}

/// The tails of this program, each on a thread of its own.
pub struct Tails<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    control: &'env Control,
    threads: Vec<ScopedJoinHandle<'scope, Result<Tail>>>,
    /// Tells those who have lost their replica where to go on.
    away: Vec<Sender<Db>>,
}

impl<'scope, 'env> Tails<'scope, 'env> {
    pub fn new(scope: &'scope Scope<'scope, 'env>, control: &'env Control) -> Self {
        Self { scope, control, threads: Vec::new(), away: Vec::new() }
    }

    /// Follows replica `id` from now on, and when that ends the next one that runs.
    pub fn follow(&mut self, id: u64) -> Result<()> {
        let (control, mut seat) = (self.control, Seat::at(id));
        let mut tail = Tail::follow(&self.db(id)?, self.control.group.tables())?;
        self.threads.push(self.scope.spawn(move || {
            tail.read()?;
            while let Some(db) = control.db(&mut seat)? {
                tail.resume(&db)?;
                drop(db);
                tail.read()?;
            }
            Ok(tail)
        }));
        Ok(())
    }

    /// Follows replica `id` from now on until it ends, and later the one that
    /// [`go_on_at`](Self::go_on_at) names.
    pub fn follow_until_it_ends(&mut self, id: u64) -> Result<()> {
        let (sender, receiver) = mpsc::channel::<Db>();
        self.away.push(sender);
        let mut tail = Tail::follow(&self.db(id)?, self.control.group.tables())?;
        self.threads.push(self.scope.spawn(move || {
            tail.read()?;
            for db in receiver {
                tail.resume(&db)?;
                drop(db);
                tail.read()?;
            }
            Ok(tail)
        }));
        Ok(())
    }

    /// Tells those who stay away where they can go on.
    pub fn go_on_at(&mut self, id: u64) -> Result<()> {
        let db = self.db(id)?;
        for sender in self.away.drain(..) {
            sender.send(db.clone()).ok().context("a tail is gone")?;
        }
        Ok(())
    }

    /// Waits until all have come to their end, which is that of the replicas.
    pub fn finish(mut self) -> Result<Vec<Tail>> {
        self.away.clear();
        let ended = self
            .threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| bail!("a tail panicked")));
        ended.collect()
    }

    fn db(&self, id: u64) -> Result<Db> {
        self.control.group.db(id).with_context(|| format!("no replica {id}"))
    }
}

/// Holds the tails to the entries that were acknowledged to have changed something, and to the
/// state in the end.
pub fn check(tails: &[Tail], entries: &[u64], state: &Snapshot) -> Told {
    let mut all = Told { copies_equal: true, tails: tails.len(), ..Told::default() };
    for (tail, number) in tails.iter().zip(1..) {
        let Told { events, commits, resets, resumes, made_up, gaps, repeats, .. } = &tail.told;
        let missed: Vec<_> = entries.iter().filter(|entry| !tail.has(**entry)).collect();
        let differing = tail.copy.differing(state);
        all.events += events;
        all.commits += commits;
        all.resets += resets;
        all.resumes += resumes;
        all.made_up += made_up;
        all.gaps += gaps + missed.len();
        all.repeats += repeats;
        all.copies_equal &= differing.is_empty();
        let mut wrong = |is_wrong: bool, what: String| {
            all.problems.extend(is_wrong.then(|| format!("tail {number} {what}")));
        };
        wrong(*gaps > 0, format!("was surprised by {gaps} changes"));
        wrong(*repeats > 0, format!("was told {repeats} times of what it knew"));
        wrong(!missed.is_empty(), format!("was not told of the entries {missed:?}"));
        wrong(!differing.is_empty(), format!("has another state in {differing:?}"));
    }
    all
}

impl Told {
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }
}
