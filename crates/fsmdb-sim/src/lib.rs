//! A replicated state machine of fsmdb under a seeded world: the real core, the real machine over a
//! real database and real snapshot files, and around them a network that loses, repeats and
//! reorders, disks that lose what was not synced, clocks that jump, and clients that ask again.
//!
//! One seed is one run, on one thread: the same seed gives the same run, event by event. After each
//! step what is promised is checked ([`Check`]); at the end everything is healed and the group must
//! go on. [`Mutant`]s are bugs that are planted into the shell, to prove that the checks see them.
//!
//! What is not run here: the node of `fsmdb-node`. The shell around the core is one of this crate,
//! of the same contract; the sessions are a table of its state machine and not `Sessions`; the log
//! is a list in memory and not raft-engine; there are no threads and no sockets. `fsmdb-trial` runs
//! those, in real processes.
//!
//! Only the public API of fsmdb is used. `world.rs` is where to begin to read.

#![forbid(unsafe_code)]

mod audience;
mod chaos;
mod clients;
mod counts;
mod disk;
mod ending;
mod erasing;
mod follower;
pub mod limits;
mod model;
mod mutant;
mod network;
mod node;
mod oracle;
mod random;
mod shell;
mod state;
mod subscriber;
mod trace;
mod transfers;
mod violation;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use counts::Counts;
pub use mutant::Mutant;
pub use violation::{Check, Violation};

use self::violation::Checked;
use self::world::World;

/// What to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Everything follows from it.
    pub seed: u64,
    /// How many faults; see [`limits::ROUNDS_DEFAULT`].
    pub rounds: u64,
    /// The bug that is planted, if any.
    pub mutant: Option<Mutant>,
    /// Whether every event is printed.
    pub prints: bool,
}

impl Plan {
    /// A run of this seed without a planted bug.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        Self { seed, rounds: limits::ROUNDS_DEFAULT, mutant: None, prints: false }
    }

    /// As this, with a planted bug.
    #[must_use]
    pub fn with_mutant(self, mutant: Mutant) -> Self {
        Self { mutant: Some(mutant), ..self }
    }
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// What happened in it.
    pub counts: Counts,
    /// A hash of every event: equal for equal runs.
    pub trace: u64,
    /// The first guarantee that did not hold, if one did not.
    pub violation: Option<Violation>,
}

/// Runs a plan to its end or to the first violation.
///
/// ```
/// use fsmdb_sim::{Plan, run};
///
/// let plan = Plan { rounds: 5, ..Plan::of_seed(7) };
/// let outcome = run(&plan);
/// assert_eq!(outcome.violation, None);
/// assert_eq!(run(&plan).trace, outcome.trace);
/// ```
#[must_use]
pub fn run(plan: &Plan) -> Outcome {
    let mut world = World::new(plan);
    let done = catch_unwind(AssertUnwindSafe(|| run_world(&mut world, plan.rounds)));
    let violation = match done {
        Ok(checked) => checked.err(),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Some(Violation::new(Check::Panic, text.unwrap_or("something panicked")))
        }
    };
    world.counts.elections = world.oracle.elections();
    let outcome = Outcome { counts: world.counts, trace: world.trace.hash(), violation };
    if outcome.violation.as_ref().is_some_and(|violation| violation.check == Check::Panic) {
        // What panicked may be half-way through a change, and its drop might look at it.
        std::mem::forget(world);
    }
    outcome
}

fn run_world(world: &mut World, rounds: u64) -> Checked {
    world.start_all()?;
    for _ in 0..rounds {
        world.round()?;
    }
    world.end()
}
