//! The synchronisation primitives of the library, from `std` or, under the private cfg
//! `fsmdb_loom`, from the model checker `loom`.
//!
//! Only state that threads share and change goes through this room: the published root, the
//! writer's lock, the ownership flag. Rows and tree nodes are immutable once published, so they
//! keep the `std` `Arc` and stay out of the model.

#[cfg(not(fsmdb_loom))]
pub(crate) use std::sync::{
    Arc, Mutex, MutexGuard, TryLockError,
    atomic::{AtomicBool, Ordering},
};

#[cfg(fsmdb_loom)]
pub(crate) use loom::sync::{
    Arc, Mutex, MutexGuard, RwLock,
    atomic::{AtomicBool, Ordering},
};
#[cfg(fsmdb_rwlock_root)]
pub(crate) use std::sync::RwLock;
#[cfg(fsmdb_loom)]
pub(crate) use std::sync::TryLockError;

/// Locks `mutex`, also when a panic in user code poisoned it.
///
/// The protected state is the right to write. A transaction that panicked published nothing
/// (invariant 4), so there is nothing half-done to protect others from.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Locks `mutex` if no one holds it.
pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}
