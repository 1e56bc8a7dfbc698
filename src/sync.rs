//! The synchronisation primitives of the library, from `std` or, under a private cfg, from a model
//! checker: `loom` under `fsmdb_loom`, `shuttle` under `fsmdb_shuttle`; and the writer's lock, made
//! of them.
//!
//! Only state that threads share and change goes through this room: the published root, the
//! writer's lock, the ownership flag. Rows and tree nodes are immutable once published, so they
//! keep the `std` `Arc` and stay out of the model.

#[cfg(not(any(fsmdb_loom, fsmdb_shuttle)))]
use std::sync::Condvar;
#[cfg(not(any(fsmdb_loom, fsmdb_shuttle)))]
pub(crate) use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

#[cfg(fsmdb_loom)]
use loom::sync::Condvar;
#[cfg(fsmdb_loom)]
pub(crate) use loom::sync::{
    Arc, Mutex, MutexGuard, RwLock,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
#[cfg(fsmdb_shuttle)]
use shuttle::sync::Condvar;
#[cfg(fsmdb_shuttle)]
pub(crate) use shuttle::sync::{
    Arc, Mutex, MutexGuard, RwLock,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
#[cfg(all(fsmdb_rwlock_root, not(any(fsmdb_loom, fsmdb_shuttle))))]
pub(crate) use std::sync::RwLock;

/// The right to write, which one transaction has at a time.
///
/// Unlike a mutex it cannot be poisoned: a transaction that panicked has published nothing, so
/// there is nothing half-done to protect others from. No user code runs while the mutex inside is
/// held.
#[derive(Debug)]
pub(crate) struct WriterLock {
    is_taken: Mutex<bool>,
    released: Condvar,
}

/// Gives the right to write back when it is dropped.
#[derive(Debug)]
pub(crate) struct WriterGuard<'a> {
    lock: &'a WriterLock,
}

impl WriterLock {
    pub(crate) fn new() -> Self {
        Self { is_taken: Mutex::new(false), released: Condvar::new() }
    }

    /// Takes the right to write, waiting for whoever has it.
    pub(crate) fn lock(&self) -> WriterGuard<'_> {
        let mut is_taken = self.state();
        while *is_taken {
            is_taken = self.released.wait(is_taken).expect("no code panics under this mutex");
        }
        *is_taken = true;
        WriterGuard { lock: self }
    }

    /// Takes the right to write if no one has it.
    pub(crate) fn try_lock(&self) -> Option<WriterGuard<'_>> {
        let mut is_taken = self.state();
        let was_taken = std::mem::replace(&mut *is_taken, true);
        (!was_taken).then(|| WriterGuard { lock: self })
    }

    fn state(&self) -> MutexGuard<'_, bool> {
        self.is_taken.lock().expect("no code panics under this mutex")
    }
}

impl Drop for WriterGuard<'_> {
    fn drop(&mut self) {
        *self.lock.state() = false;
        self.lock.released.notify_one();
    }
}

/// Atomics that stay out of the models: the counts of handles on rows. They are `std`'s in every
/// build, as an `Arc`'s would be, and there are too many of them for a model checker.
pub(crate) mod unmodelled {
    #[cfg(test)]
    pub(crate) use std::sync::atomic::AtomicUsize;
    pub(crate) use std::sync::atomic::{AtomicU32, Ordering};
}
