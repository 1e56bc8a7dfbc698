//! How much may be under way at a node at a time.
//!
//! # Invariants
//!
//! 1. A permit is given back exactly once, when what it was for has ended in whatever way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts what is under way, in numbers and in bytes.
#[derive(Debug)]
pub(super) struct Admission {
    count: AtomicUsize,
    bytes: AtomicUsize,
    count_max: usize,
    bytes_max: usize,
}

impl Admission {
    pub(super) fn new(count_max: usize, bytes_max: usize) -> Arc<Self> {
        let (count, bytes) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { count, bytes, count_max, bytes_max })
    }

    /// A permit for one more of `bytes`, or nothing when the node is busy. One alone may have more
    /// bytes than the bound.
    pub(super) fn admit(self: &Arc<Self>, bytes: usize) -> Option<Permit> {
        let permit = Permit { admission: Arc::clone(self), bytes };
        let count = self.count.fetch_add(1, Ordering::AcqRel);
        let held = self.bytes.fetch_add(bytes, Ordering::AcqRel);
        // A refused permit gives back what it has just taken, by its drop.
        let fits = count < self.count_max && (held == 0 || held + bytes <= self.bytes_max);
        fits.then_some(permit)
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }
}

/// The right to have one thing under way.
#[derive(Debug)]
pub(super) struct Permit {
    admission: Arc<Admission>,
    bytes: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.count.fetch_sub(1, Ordering::AcqRel);
        self.admission.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}
