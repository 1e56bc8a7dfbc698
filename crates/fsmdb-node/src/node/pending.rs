//! Answers that come later: for a thread, and for a task of any runtime.
//!
//! # Invariants
//!
//! 1. A slot is answered once; the first answer stays, also that of a deadline.
//! 2. A request that was given up is never sent afterwards: to be sent and to be given up are
//!    decided under one lock, so "nothing was appended" is never wrong.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::clock;

/// How a request ended that nobody answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The node that was asked.
    pub id: u64,
    /// Whether the request may have been carried out.
    pub is_sent: bool,
    /// Whether the node has stopped; otherwise the deadline has passed.
    pub is_stopped: bool,
}

/// What the raft thread needs to know of a slot, whatever its answer is.
pub(super) trait Waiting: Send + Sync {
    /// Marks the request as sent; not if it was given up.
    fn begin(&self) -> bool;
    /// Marks it as not sent again: the attempt was refused, and changed nothing.
    fn not_taken(&self);
    fn is_open(&self) -> bool;
    fn end(&self, is_stopped: bool);
}

/// Where an answer is put.
pub(super) struct Slot<V, E> {
    id: u64,
    state: Mutex<State<V, E>>,
    answered: Condvar,
}

struct State<V, E> {
    answer: Option<Result<V, E>>,
    waker: Option<Waker>,
    is_sent: bool,
    is_closed: bool,
}

impl<V, E: From<Ending>> Slot<V, E> {
    pub(super) fn new(id: u64) -> Arc<Self> {
        let state = State { answer: None, waker: None, is_sent: false, is_closed: false };
        Arc::new(Self { id, state: Mutex::new(state), answered: Condvar::new() })
    }

    pub(super) fn answer(&self, answer: Result<V, E>) {
        self.close(|_| answer);
    }

    fn close(&self, answer: impl FnOnce(bool) -> Result<V, E>) {
        let mut state = self.state();
        if state.is_closed {
            return;
        }
        state.is_closed = true;
        state.answer = Some(answer(state.is_sent));
        let waker = state.waker.take();
        drop(state);
        self.answered.notify_one();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn state(&self) -> MutexGuard<'_, State<V, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V: Send, E: From<Ending> + Send> Waiting for Slot<V, E> {
    fn begin(&self) -> bool {
        let mut state = self.state();
        state.is_sent |= !state.is_closed;
        !state.is_closed
    }

    fn not_taken(&self) {
        self.state().is_sent = false;
    }

    fn is_open(&self) -> bool {
        !self.state().is_closed
    }

    fn end(&self, is_stopped: bool) {
        self.close(|is_sent| Err(Ending { id: self.id, is_sent, is_stopped }.into()));
    }
}

/// An answer that will come: a [`Future`] for tasks, and [`wait`](Pending::wait) for threads.
///
/// It comes at the latest a tick after the deadline. Dropped, the request goes on without it.
#[must_use = "the answer is lost"]
pub struct Pending<V, E> {
    slot: Arc<Slot<V, E>>,
    deadline: Instant,
}

impl<V, E: From<Ending>> Pending<V, E> {
    pub(super) fn new(slot: Arc<Slot<V, E>>, deadline: Instant) -> Self {
        Self { slot, deadline }
    }

    /// One that is answered.
    pub(super) fn ready(answer: Result<V, E>) -> Self {
        let slot = Slot::new(0);
        slot.answer(answer);
        Self { slot, deadline: clock::now() }
    }

    /// Blocks this thread until the answer is there, at most until the deadline.
    ///
    /// # Errors
    ///
    /// Those of the request.
    pub fn wait(self) -> Result<V, E> {
        let mut state = self.slot.state();
        loop {
            if let Some(answer) = state.answer.take() {
                return answer;
            }
            let left = clock::left(self.deadline);
            if left.is_zero() {
                state.is_closed = true;
                let (id, is_sent) = (self.slot.id, state.is_sent);
                return Err(Ending { id, is_sent, is_stopped: false }.into());
            }
            let woken = self.slot.answered.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl<V, E: From<Ending>> Future for Pending<V, E> {
    type Output = Result<V, E>;

    /// # Panics
    ///
    /// When it is polled again after it was ready.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.slot.state();
        if let Some(answer) = state.answer.take() {
            return Poll::Ready(answer);
        }
        assert!(!state.is_closed, "polled again after it was ready");
        match &mut state.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

impl<V, E> fmt::Debug for Pending<V, E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Pending").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}
