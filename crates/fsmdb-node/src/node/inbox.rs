//! A queue into a thread, which takes all that is there at once.
//!
//! # Invariants
//!
//! 1. What comes from outside is bounded; what the node's own threads bring is bounded by what they
//!    were given, and is never lost while the queue is open.
//! 2. What is dropped unread is dropped outside the lock: who waits for it may be woken by that.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A queue of mail for one thread.
pub(super) struct Inbox<M> {
    state: Mutex<State<M>>,
    filled: Condvar,
}

struct State<M> {
    mail: Vec<M>,
    /// How much of it came from outside.
    offered: usize,
    is_open: bool,
    is_idle: bool,
}

impl<M> Inbox<M> {
    pub(super) fn new() -> Self {
        let state = State { mail: Vec::new(), offered: 0, is_open: true, is_idle: false };
        Self { state: Mutex::new(state), filled: Condvar::new() }
    }

    /// Puts mail of the node itself; gives it back when the queue is closed.
    pub(super) fn post(&self, mail: M) -> Result<(), M> {
        self.put(mail, None)
    }

    /// Puts mail from outside, unless so much of that waits already.
    pub(super) fn offer(&self, mail: M, most: usize) -> Result<(), M> {
        self.put(mail, Some(most))
    }

    fn put(&self, mail: M, most: Option<usize>) -> Result<(), M> {
        let mut state = self.state();
        if !state.is_open || most.is_some_and(|most| state.offered >= most) {
            return Err(mail);
        }
        state.offered += usize::from(most.is_some());
        state.mail.push(mail);
        let wakes = std::mem::take(&mut state.is_idle);
        drop(state);
        if wakes {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Appends all that waits to `taken`, once there is something or the time has passed. Answers
    /// whether the queue is open, or has given something.
    pub(super) fn take(&self, timeout: Option<Duration>, taken: &mut Vec<M>) -> bool {
        let mut state = self.state();
        if state.mail.is_empty() && state.is_open {
            state.is_idle = true;
            let wait = |state: &mut State<M>| state.mail.is_empty() && state.is_open;
            state = match timeout {
                Some(timeout) => {
                    let woken = self.filled.wait_timeout_while(state, timeout, wait);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    let woken = self.filled.wait_while(state, wait);
                    woken.unwrap_or_else(PoisonError::into_inner)
                }
            };
            state.is_idle = false;
        }
        taken.append(&mut state.mail);
        state.offered = 0;
        state.is_open || !taken.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.state().mail.len()
    }

    /// Takes nothing more; what is there can still be taken.
    pub(super) fn close(&self) {
        self.state().is_open = false;
        self.filled.notify_one();
    }

    /// Takes nothing more, and drops what is there.
    pub(super) fn close_and_drop(&self) {
        let mut state = self.state();
        state.is_open = false;
        let unread = std::mem::take(&mut state.mail);
        drop(state);
        self.filled.notify_one();
        drop(unread);
    }

    fn state(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
