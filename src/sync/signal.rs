//! What threads and tasks wait for: a [`Signal`] is raised once, a [`Bell`] rings again and again.
//!
//! Both can be waited for by a thread, with a timeout, and by a task of any runtime. The listening
//! comes from `event-listener`; under a model checker it is a mutex and a condition variable, which
//! threads alone can wait for and which know no time.

use std::future::Future;
use std::num::NonZeroU8;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::{AtomicU8, Ordering};
use listen::{Event, Listener};

/// Why a signal was raised; the rooms that raise one number their reasons.
pub(crate) type Reason = NonZeroU8;

/// Something that happens once, and is remembered.
///
/// # Invariants
///
/// 1. The first reason stays.
/// 2. Who looks, listens, and looks again before it rests, cannot miss it.
#[derive(Debug)]
pub(crate) struct Signal {
    /// The reason, or 0.
    reason: AtomicU8,
    event: Event,
}

impl Signal {
    pub(crate) fn new() -> Self {
        Self { reason: AtomicU8::new(0), event: Event::new() }
    }

    /// Raises it and wakes whoever waits; whether it was the first to do so.
    pub(crate) fn raise(&self, reason: Reason) -> bool {
        let (none, reason) = (0, reason.get());
        let result =
            self.reason.compare_exchange(none, reason, Ordering::AcqRel, Ordering::Acquire);
        if result.is_ok() {
            self.event.notify_all();
        }
        result.is_ok()
    }

    /// The reason, once it was raised.
    pub(crate) fn raised(&self) -> Option<Reason> {
        NonZeroU8::new(self.reason.load(Ordering::Acquire))
    }

    /// Waits until it is raised, at most for `timeout`.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> Option<Reason> {
        if let Some(reason) = self.raised() {
            return Some(reason);
        }
        let listener = self.event.listen();
        if let Some(reason) = self.raised() {
            return Some(reason);
        }
        listener.wait(timeout);
        self.raised()
    }

    /// As [`wait`](Signal::wait), for a task; `listener` is kept between the polls of one wait.
    pub(crate) fn poll(
        &self,
        listener: &mut Option<Listener>,
        context: &mut Context<'_>,
    ) -> Poll<Reason> {
        loop {
            if let Some(reason) = self.raised() {
                *listener = None;
                return Poll::Ready(reason);
            }
            match listener {
                None => *listener = Some(self.event.listen()),
                Some(rest) => match Pin::new(rest).poll(context) {
                    Poll::Ready(()) => *listener = None,
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
    }
}

/// Something that happens again and again. Who hears it looks for what has happened.
#[derive(Debug)]
pub(crate) struct Bell {
    event: Event,
}

impl Bell {
    pub(crate) fn new() -> Self {
        Self { event: Event::new() }
    }

    /// Wakes one of those who listen. Who is woken rings for the next, so that whoever rings first
    /// does not pay for all.
    pub(crate) fn ring(&self) {
        self.event.notify_one();
    }

    /// Wakes all of those who listen.
    pub(crate) fn ring_all(&self) {
        self.event.notify_all();
    }

    /// Hears every ring from now on.
    pub(crate) fn listen(&self) -> Listener {
        self.event.listen()
    }
}

#[cfg(not(any(fsmdb_loom, fsmdb_shuttle)))]
mod listen {
    use super::{Context, Duration, Future, Pin, Poll};
    use event_listener::Listener as _;

    #[derive(Debug)]
    pub(crate) struct Event(event_listener::Event);

    /// Who listens, from the moment at which this was made.
    #[derive(Debug)]
    pub(crate) struct Listener(event_listener::EventListener);

    impl Event {
        pub(super) fn new() -> Self {
            Self(event_listener::Event::new())
        }

        pub(super) fn notify_one(&self) {
            self.0.notify(1);
        }

        pub(super) fn notify_all(&self) {
            self.0.notify(usize::MAX);
        }

        pub(super) fn listen(&self) -> Listener {
            Listener(self.0.listen())
        }
    }

    impl Listener {
        /// Waits until it is notified, at most for `timeout`; whether it was.
        pub(crate) fn wait(self, timeout: Option<Duration>) -> bool {
            match timeout {
                None => self.0.wait(),
                Some(timeout) => return self.0.wait_timeout(timeout).is_some(),
            }
            true
        }
    }

    impl Future for Listener {
        type Output = ();

        fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
            Pin::new(&mut self.0).poll(context)
        }
    }
}

#[cfg(any(fsmdb_loom, fsmdb_shuttle))]
mod listen {
    use super::super::{Arc, Condvar, Mutex};
    use super::{Context, Duration, Future, Pin, Poll};

    const CLEAN: &str = "no code panics under this mutex";

    /// How often it was notified.
    #[derive(Debug)]
    pub(crate) struct Event(Arc<(Mutex<u64>, Condvar)>);

    #[derive(Debug)]
    pub(crate) struct Listener {
        event: Arc<(Mutex<u64>, Condvar)>,
        seen: u64,
    }

    impl Event {
        pub(super) fn new() -> Self {
            Self(Arc::new((Mutex::new(0), Condvar::new())))
        }

        /// Under a model as many as listen: a listener that nobody waits with would swallow it.
        pub(super) fn notify_one(&self) {
            self.notify_all();
        }

        pub(super) fn notify_all(&self) {
            *self.0.0.lock().expect(CLEAN) += 1;
            self.0.1.notify_all();
        }

        pub(super) fn listen(&self) -> Listener {
            let seen = *self.0.0.lock().expect(CLEAN);
            Listener { event: Arc::clone(&self.0), seen }
        }
    }

    impl Listener {
        /// Waits until it is notified. A model knows no time, so it waits for ever or, with a
        /// timeout, not at all.
        pub(crate) fn wait(self, timeout: Option<Duration>) -> bool {
            let mut count = self.event.0.lock().expect(CLEAN);
            while *count == self.seen {
                if timeout.is_some() {
                    return false;
                }
                count = self.event.1.wait(count).expect(CLEAN);
            }
            true
        }
    }

    impl Future for Listener {
        type Output = ();

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            let count = *self.event.0.lock().expect(CLEAN);
            if count == self.seen { Poll::Pending } else { Poll::Ready(()) }
        }
    }
}

pub(crate) use listen::Listener as SignalListener;
