//! Threads that work on what one thread brings, and hand it on in order: to write and read snapshot
//! files, and to build the indexes of a table.
//!
//! Who calls brings the items, takes the results, and works on items himself while the next result
//! is not there; so one thread needs no other, and nothing waits that could work.
//!
//! # Invariants
//!
//! 1. Results are taken in the order in which their items were brought.
//! 2. No more items are under way than [`PIECES_PER_THREAD`] for each thread, and none is brought
//!    while those that are hold [`READ_AHEAD_BYTES_MAX`] bytes, if their caller says how many.
//! 3. When the call returns, or panics, every thread has ended.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

use crate::limits::{READ_AHEAD_BYTES_MAX, SNAPSHOT_THREADS_MAX};
use crate::sync::unmodelled::{Condvar, Mutex, MutexGuard, PoisonError};

/// Items that are under way for each thread: one in hand, and the next ones at hand.
const PIECES_PER_THREAD: usize = 3;

/// How many threads to work with, when the caller has not said: all but one, which is left to
/// whoever writes.
pub(crate) fn threads_by_default() -> usize {
    let all = thread::available_parallelism().map_or(1, NonZero::get);
    (all - 1).clamp(1, SNAPSHOT_THREADS_MAX)
}

/// Does `work` to each item that `bring` brings, on so many threads, and gives what comes of it to
/// `take`, in order. The first error of either ends it.
pub(crate) fn in_order<I: Send, O: Send, E>(
    threads: usize,
    bring: impl FnMut() -> Result<Option<I>, E>,
    work: impl Fn(I) -> O + Sync,
    take: impl FnMut(O) -> Result<(), E>,
) -> Result<(), E> {
    in_order_of_bytes(threads, |_| 0, bring, work, take)
}

/// As [`in_order`], of items that hold as many bytes as `bytes_of` says until they are taken.
pub(crate) fn in_order_of_bytes<I: Send, O: Send, E>(
    threads: usize,
    bytes_of: impl Fn(&I) -> usize,
    mut bring: impl FnMut() -> Result<Option<I>, E>,
    work: impl Fn(I) -> O + Sync,
    mut take: impl FnMut(O) -> Result<(), E>,
) -> Result<(), E> {
    if threads <= 1 {
        while let Some(item) = bring()? {
            take(work(item))?;
        }
        return Ok(());
    }
    let crew =
        Crew { state: Mutex::new(State::default()), brought: Condvar::new(), done: Condvar::new() };
    thread::scope(|scope| {
        let _end = End(&crew);
        for _ in 1..threads.min(SNAPSHOT_THREADS_MAX) {
            // One that cannot be started is done without: the caller works too.
            let started = thread::Builder::new().spawn_scoped(scope, || crew.serve(&work));
            if started.is_err() {
                break;
            }
        }
        let mut bring = || Ok(bring()?.map(|item| (bytes_of(&item), item)));
        crew.lead(threads * PIECES_PER_THREAD, &mut bring, &work, &mut take)
    })
}

struct Crew<I, O> {
    state: Mutex<State<I, O>>,
    /// Something was brought, or it is over.
    brought: Condvar,
    /// Something was done.
    done: Condvar,
}

struct State<I, O> {
    /// Items by number.
    items: VecDeque<(u64, I)>,
    results: BTreeMap<u64, thread::Result<O>>,
    is_over: bool,
}

impl<I, O> Default for State<I, O> {
    fn default() -> Self {
        Self { items: VecDeque::new(), results: BTreeMap::new(), is_over: false }
    }
}

/// Sends everybody home, however the call ends.
struct End<'a, I, O>(&'a Crew<I, O>);

impl<I, O> Drop for End<'_, I, O> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.is_over = true;
        let left = std::mem::take(&mut state.items);
        drop(state);
        self.0.brought.notify_all();
        drop(left);
    }
}

impl<I, O> Crew<I, O> {
    fn lock(&self) -> MutexGuard<'_, State<I, O>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a thread of the crew does until it is over.
    fn serve(&self, work: &impl Fn(I) -> O) {
        let mut state = self.lock();
        while !state.is_over {
            let Some((number, item)) = state.items.pop_front() else {
                state = self.brought.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(state);
            let result = catch_unwind(AssertUnwindSafe(|| work(item)));
            state = self.lock();
            state.results.insert(number, result);
            self.done.notify_one();
        }
    }

    /// What the caller does until everything is taken.
    fn lead<E>(
        &self,
        window: usize,
        bring: &mut impl FnMut() -> Result<Option<(usize, I)>, E>,
        work: &impl Fn(I) -> O,
        take: &mut impl FnMut(O) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut brought, mut taken) = (0_u64, 0_u64);
        // Of each item that is under way, and of all.
        let (mut bytes_each, mut bytes) = (VecDeque::with_capacity(window), 0_usize);
        // An error of who brings is told after what he brought before it was taken, so that which
        // of several errors is told depends on no thread.
        let mut end = None;
        loop {
            while end.is_none() && bytes_each.len() < window && bytes < READ_AHEAD_BYTES_MAX {
                match bring() {
                    Ok(Some((bytes_of_item, item))) => {
                        bytes_each.push_back(bytes_of_item);
                        bytes += bytes_of_item;
                        self.lock().items.push_back((brought, item));
                        self.brought.notify_one();
                        brought += 1;
                    }
                    Ok(None) => end = Some(Ok(())),
                    Err(error) => end = Some(Err(error)),
                }
            }
            if taken == brought {
                return end.unwrap_or(Ok(()));
            }
            let result = self.next_result(taken, work);
            taken += 1;
            bytes -= bytes_each.pop_front().expect("it was brought");
            take(result.unwrap_or_else(|panic| resume_unwind(panic)))?;
        }
    }

    /// The result of the item `number`, after working on others while it is not there.
    fn next_result(&self, number: u64, work: &impl Fn(I) -> O) -> thread::Result<O> {
        let mut state = self.lock();
        loop {
            if let Some(result) = state.results.remove(&number) {
                return result;
            }
            let Some((other, item)) = state.items.pop_front() else {
                state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(state);
            let result = catch_unwind(AssertUnwindSafe(|| work(item)));
            state = self.lock();
            state.results.insert(other, result);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn squares(threads: usize, count: u64) -> Result<Vec<u64>, String> {
        let (mut next, mut taken) = (0, Vec::new());
        let bring = || {
            next += 1;
            Ok((next <= count).then_some(next))
        };
        let work = |item: u64| {
            // The earlier ones take longer.
            (0..(count - item) * 50).fold(0_u64, |sum, number| sum ^ std::hint::black_box(number));
            item * item
        };
        in_order(threads, bring, work, |square| {
            taken.push(square);
            if square == 10_000 { Err("enough".to_owned()) } else { Ok(()) }
        })?;
        Ok(taken)
    }

    #[test]
    fn results_are_taken_in_order_whatever_the_number_of_threads() {
        let expected: Vec<u64> = (1..=99).map(|number| number * number).collect();
        for threads in 1..6 {
            assert_eq!(squares(threads, 99).unwrap(), expected, "{threads} threads");
            assert!(squares(threads, 0).unwrap().is_empty());
            assert_eq!(squares(threads, 300).unwrap_err(), "enough");
        }
    }

    #[test]
    fn nothing_is_brought_while_the_items_under_way_hold_as_many_bytes_as_they_may() {
        for (share, most) in [(1, 1), (2, 2), (3, 3), (1_000_000, 4 * PIECES_PER_THREAD)] {
            let (under_way, mut left) = (std::cell::Cell::new(0), 100);
            let mut seen = 0;
            let bring = || {
                left -= 1;
                under_way.set(under_way.get() + 1);
                seen = seen.max(under_way.get());
                Ok::<_, ()>((left > 0).then_some(left))
            };
            let take = |_| {
                under_way.set(under_way.get() - 1);
                Ok(())
            };
            let bytes_of = |_: &i32| READ_AHEAD_BYTES_MAX.div_ceil(share);
            in_order_of_bytes(4, bytes_of, bring, |item| item, take).unwrap();
            assert_eq!(seen, most, "a share of {share}");
        }
    }

    #[test]
    fn an_error_of_who_brings_ends_it() {
        for threads in 1..4 {
            let mut left = 10;
            let bring = || {
                left -= 1;
                if left == 0 { Err("nothing more") } else { Ok(Some(left)) }
            };
            assert_eq!(in_order(threads, bring, |item| item, |_| Ok(())), Err("nothing more"));
        }
    }

    #[test]
    fn a_panic_of_the_work_reaches_the_caller() {
        for threads in 1..4 {
            let mut next = 0;
            let bring = || {
                next += 1;
                Ok::<_, ()>((next < 100).then_some(next))
            };
            let work = |item: i32| assert_ne!(item, 50, "planned");
            let panicked =
                catch_unwind(AssertUnwindSafe(|| in_order(threads, bring, work, |()| Ok(()))));
            assert!(panicked.is_err(), "{threads} threads");
        }
    }
}
