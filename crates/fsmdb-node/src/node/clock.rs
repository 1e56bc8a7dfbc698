//! The clock of a node: the only file of this crate's node that asks for the time.
//!
//! # Invariants
//!
//! 1. The time never reaches a core or a state machine, only the number of ticks that are due.
//! 2. After a stall at most [`TICKS_CAUGHT_UP_MAX`] ticks are made up for.

use std::time::{Duration, Instant};

use crate::limits::TICKS_CAUGHT_UP_MAX;

#[allow(
    clippy::disallowed_methods,
    reason = "ticks and deadlines of the shell; nothing in here reaches a state machine"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The time after `duration`, or after a century when that is beyond what the clock can say.
pub(crate) fn later(duration: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    let now = now();
    now.checked_add(duration).unwrap_or_else(|| now + CENTURY)
}

/// What is left until `at`; zero when it has passed.
pub(crate) fn left(at: Instant) -> Duration {
    at.saturating_duration_since(now())
}

/// Counts the ticks of one node.
#[derive(Debug)]
pub(super) struct Ticker {
    tick: Duration,
    next: Instant,
}

impl Ticker {
    pub(super) fn new(tick: Duration) -> Self {
        Self { tick, next: later(tick) }
    }

    /// How long until a tick is due.
    pub(super) fn wait(&self) -> Duration {
        left(self.next)
    }

    /// How many ticks are due. The rest of a long stall is forgotten.
    pub(super) fn due(&mut self) -> u32 {
        let now = now();
        let mut count = 0;
        while self.next <= now && count < TICKS_CAUGHT_UP_MAX {
            self.next += self.tick;
            count += 1;
        }
        if self.next <= now {
            self.next = now + self.tick;
        }
        count
    }
}
