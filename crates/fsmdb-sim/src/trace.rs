//! What happened in a run, as one number, and printed if somebody looks.
//!
//! # Invariants
//!
//! 1. Every event that reaches a replica, a disk or a client is noted, so two runs with equal
//!    hashes were the same run.
//! 2. Printing changes nothing: neither the hash nor the run.

use std::fmt::Debug;

use crate::random::mix;

/// The events of one run.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    prints: bool,
}

impl Trace {
    pub(crate) fn new(prints: bool) -> Self {
        Self { hash: 0, prints }
    }

    /// Notes an event: what it was, at which replica (0 for the world), and its numbers.
    pub(crate) fn note(&mut self, now: u64, at: u64, what: &'static str, numbers: &[u64]) {
        let name = what.bytes().fold(0_u64, |hash, byte| hash.rotate_left(7) ^ u64::from(byte));
        for number in [now, at, name].iter().chain(numbers) {
            self.hash = mix(self.hash.rotate_left(9) ^ number);
        }
        if self.prints {
            println!("{now:>7} {at:>2} {what} {numbers:?}");
        }
    }

    /// Prints something that the hash has already by another way.
    pub(crate) fn show(&self, now: u64, at: u64, what: &'static str, value: &dyn Debug) {
        if self.prints {
            println!("{now:>7} {at:>2} {what} {value:?}");
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }
}
