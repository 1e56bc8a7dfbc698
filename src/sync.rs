//! The synchronisation primitives of the library, from `std` or, under a private cfg, from a model
//! checker: `loom` under `fsmdb_loom`, `shuttle` under `fsmdb_shuttle`; and what is made of them:
//! the writer's lock, and the signals that are waited for (`signal.rs`).
//!
//! Only state that threads share and change goes through this room: the published root, the
//! writer's lock, the ownership flag. Rows and tree nodes are immutable once published, so they
//! keep the `std` `Arc` and stay out of the model.

#[cfg(not(any(fsmdb_loom, fsmdb_shuttle)))]
use std::sync::Condvar;
#[cfg(not(any(fsmdb_loom, fsmdb_shuttle)))]
pub(crate) use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence},
};

#[cfg(fsmdb_loom)]
use loom::sync::Condvar;
#[cfg(fsmdb_loom)]
pub(crate) use loom::sync::{
    Arc, Mutex, MutexGuard, RwLock,
    atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence},
};
#[cfg(fsmdb_shuttle)]
use shuttle::sync::Condvar;
#[cfg(fsmdb_shuttle)]
pub(crate) use shuttle::sync::{
    Arc, Mutex, MutexGuard, RwLock,
    atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence},
};
#[cfg(all(fsmdb_rwlock_root, not(any(fsmdb_loom, fsmdb_shuttle))))]
pub(crate) use std::sync::RwLock;

mod signal;
pub(crate) use signal::{Bell, Reason, Signal, SignalListener};

pub(crate) use std::sync::PoisonError;

/// The right to write, which one transaction has at a time.
///
/// Unlike a mutex it cannot be poisoned: a transaction that panicked has published nothing, so
/// there is nothing half-done to protect others from. No user code runs while the mutex inside is
/// held, and as long as nobody waits it is not even locked.
#[derive(Debug)]
pub(crate) struct WriterLock {
    /// [`TAKEN`], and [`WAITS`] for each thread that waits. One word, so that who takes, who waits
    /// and who gives back see each other in one order.
    state: AtomicUsize,
    /// Held between a waiting thread's look at the state and its rest.
    queue: Mutex<()>,
    released: Condvar,
}

const TAKEN: usize = 1;
const WAITS: usize = 2;

/// Gives the right to write back when it is dropped.
#[derive(Debug)]
pub(crate) struct WriterGuard<'a> {
    lock: &'a WriterLock,
}

impl WriterLock {
    pub(crate) fn new() -> Self {
        Self { state: AtomicUsize::new(0), queue: Mutex::new(()), released: Condvar::new() }
    }

    /// Takes the right to write, waiting for whoever has it.
    pub(crate) fn lock(&self) -> WriterGuard<'_> {
        self.try_lock().unwrap_or_else(|| self.wait())
    }

    /// Takes the right to write if no one has it.
    pub(crate) fn try_lock(&self) -> Option<WriterGuard<'_>> {
        let before = self.state.fetch_or(TAKEN, Ordering::Acquire);
        (before & TAKEN == 0).then(|| WriterGuard { lock: self })
    }

    #[cold]
    fn wait(&self) -> WriterGuard<'_> {
        let mut queue = self.queue.lock().expect("no code panics under this mutex");
        self.state.fetch_add(WAITS, Ordering::Relaxed);
        loop {
            if let Some(guard) = self.try_lock() {
                self.state.fetch_sub(WAITS, Ordering::Relaxed);
                return guard;
            }
            queue = self.released.wait(queue).expect("no code panics under this mutex");
        }
    }

    #[cold]
    fn wake(&self) {
        drop(self.queue.lock().expect("no code panics under this mutex"));
        self.released.notify_one();
    }
}

impl Drop for WriterGuard<'_> {
    fn drop(&mut self) {
        let before = self.lock.state.fetch_sub(TAKEN, Ordering::Release);
        if before >= WAITS {
            // Who waits has not yet looked, or sleeps: the mutex tells.
            self.lock.wake();
        }
    }
}

/// What stays out of the models. The counts of handles on rows, of which there are too many for a
/// model checker, and the place for a spare chunk are `std`'s in every build, as an `Arc`'s would
/// be; the log of what one closure reads, and the way from a schema to its database, are not what
/// threads race for; the threads that work on one snapshot file are an affair of that call; and the
/// number of a line of versions need only be one that no other has.
pub(crate) mod unmodelled {
    #[cfg(test)]
    pub(crate) use std::sync::atomic::AtomicUsize;
    pub(crate) use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
}
