//! The one clock of a trial.

use std::thread;
use std::time::{Duration, Instant};

/// A clock that all clients share; copies show the same time.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that begins now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place of this crate that reads a clock")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Nanoseconds since the beginning.
    #[must_use]
    pub fn now(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Looks again and again until `look` finds something or `patience` has passed.
    pub fn wait<T>(&self, patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        let end = self.0.elapsed() + patience;
        loop {
            if let Some(found) = look() {
                return Some(found);
            }
            if self.0.elapsed() >= end {
                return None;
            }
            thread::sleep(LOOK_AGAIN);
        }
    }
}

/// Time between two looks at other processes, which cannot wake this one.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
