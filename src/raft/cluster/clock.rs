//! The clock of the in-process cluster: the only file of this room that asks for the time.
//!
//! # Invariants
//!
//! 1. The time never reaches a core, only the number of ticks that are due.
//! 2. After a stall at most [`TICKS_CAUGHT_UP_MAX`] ticks are made up for.

use std::time::{Duration, Instant};

use crate::limits::TICKS_CAUGHT_UP_MAX;

#[allow(
    clippy::disallowed_methods,
    reason = "ticks and deadlines of the shell; nothing in here reaches a state machine"
)]
fn now() -> Instant {
    Instant::now()
}

/// The time after `duration`, or after a century when that is beyond what the clock can say.
fn later(duration: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    let now = now();
    now.checked_add(duration).unwrap_or_else(|| now + CENTURY)
}

/// A point in time after which nobody waits any longer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(Instant);

impl Deadline {
    pub(super) fn after(duration: Duration) -> Self {
        Self(later(duration))
    }

    /// The earlier of this deadline and `duration` from now.
    pub(super) fn or_after(self, duration: Duration) -> Self {
        Self(self.0.min(later(duration)))
    }

    /// What is left; zero when it has passed.
    pub(super) fn left(self) -> Duration {
        self.0.saturating_duration_since(now())
    }

    pub(super) fn has_passed(self) -> bool {
        self.left().is_zero()
    }
}

/// Counts the ticks of one replica.
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
        self.next.saturating_duration_since(now())
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
