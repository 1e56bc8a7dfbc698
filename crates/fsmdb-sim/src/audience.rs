//! Who watches the database of one replica: watches, and one who follows its feed.
//!
//! # Invariants checked
//!
//! 1. When the answer to what a watch has read is another one, the watch has ended.
//! 2. What `follower.rs` says of feeds.

use fsmdb::{Db, Read, Wake, Watch};

use crate::follower::{Followed, Follower};
use crate::limits::REGISTERS;
use crate::mutant::Mutant;
use crate::oracle::Oracle;
use crate::state::{Claim, Register, Session};
use crate::violation::{Check, Checked, ensure};

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
    follower: Follower,
}

impl Audience {
    pub(crate) fn new(db: &Db, mutant: Option<Mutant>) -> Self {
        let questions = (1..=REGISTERS).map(Question::Length);
        let questions = questions.chain([Question::ClaimsOf(1), Question::Sessions]);
        let watched = questions.map(|question| Watched::new(question, db)).collect();
        Self { watched, follower: Follower::new(db, mutant) }
    }

    /// Looks at the database after an entry or a restore; says how many watches were woken, and
    /// what came by the feed.
    pub(crate) fn look(&mut self, db: &Db, oracle: &Oracle) -> Checked<(u64, Followed)> {
        let mut wakes = 0;
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
                wakes += 1;
            }
        }
        Ok((wakes, self.follower.look(db, oracle)?))
    }
}
