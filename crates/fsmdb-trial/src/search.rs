//! Checks a history alone: is there an order of its calls, which keeps to real time, that gives
//! what each was answered?
//!
//! The search of Wing and Gong, "Testing and verifying concurrent objects" (1993), with the
//! memory of visited states of Lowe, "Testing for linearizability" (2017). A history is
//! linearizable if and only if that of each register is (Herlihy and Wing 1990), so each is
//! searched by itself.
//!
//! # Invariants
//!
//! 1. A call whose outcome is unknown may be placed anywhere after it began, or left out.
//! 2. Nothing here looks at revisions: this is the second opinion beside `witnessed`.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Call, Violation};
use crate::limits::SEARCH_STATES_MAX;

/// Checks the history of every register.
///
/// # Errors
///
/// The first [`Violation`] found, in the order of registers.
pub fn check(history: &[Call]) -> Result<(), Violation> {
    let mut registers: BTreeMap<u64, Vec<Call>> = BTreeMap::new();
    // A read that nobody saw the end of says nothing.
    for call in history.iter().filter(|call| call.end.is_some() || call.operation.is_write()) {
        registers.entry(call.key).or_default().push(*call);
    }
    registers.into_iter().try_for_each(|(key, calls)| Search::new(key, calls).run())
}

/// A beginning or an end on the line of time: a doubly linked list over two events a call, from
/// which the events of placed calls are taken out.
struct Line {
    next: Vec<usize>,
    previous: Vec<usize>,
}

/// The place before the first event.
const HEAD: usize = 0;

impl Line {
    fn of(order: &[usize]) -> Self {
        let length = order.len() + 1;
        let mut line = Self { next: vec![HEAD; length], previous: vec![HEAD; length] };
        let mut last = HEAD;
        for &event in order {
            line.next[last] = event;
            line.previous[event] = last;
            last = event;
        }
        line.previous[HEAD] = last;
        line
    }

    fn take_out(&mut self, event: usize) {
        let (previous, next) = (self.previous[event], self.next[event]);
        self.next[previous] = next;
        self.previous[next] = previous;
    }

    /// Puts back what was taken out last.
    fn put_back(&mut self, event: usize) {
        let (previous, next) = (self.previous[event], self.next[event]);
        self.next[previous] = event;
        self.previous[next] = event;
    }
}

struct Search {
    key: u64,
    calls: Vec<Call>,
    line: Line,
    /// One bit a call: whether it is placed.
    placed: Vec<u64>,
    register: Option<u64>,
    visited: BTreeSet<(Vec<u64>, Option<u64>)>,
    /// Calls with an end that are not placed yet.
    open: usize,
    /// The most calls that were placed, and the call whose end stood in the way there.
    deepest: (usize, usize),
}

/// A call's beginning on the line; its end is the event after it.
fn beginning(call: usize) -> usize {
    2 * call + 1
}

/// The call of an event, and whether the event is its end.
fn call_of(event: usize) -> (usize, bool) {
    ((event - 1) / 2, event.is_multiple_of(2))
}

impl Search {
    fn new(key: u64, calls: Vec<Call>) -> Self {
        // At the same time an end stands behind a beginning: then the calls overlap.
        let mut order: Vec<(u64, bool, usize)> = Vec::with_capacity(2 * calls.len());
        for (number, call) in calls.iter().enumerate() {
            order.push((call.began, false, beginning(number)));
            let end = call.end.map_or(u64::MAX, |end| end.at);
            order.push((end, true, beginning(number) + 1));
        }
        order.sort_unstable();
        let order: Vec<usize> = order.into_iter().map(|(_, _, event)| event).collect();
        let open = calls.iter().filter(|call| call.end.is_some()).count();
        let words = calls.len().div_ceil(64);
        Self {
            key,
            line: Line::of(&order),
            placed: vec![0; words],
            register: None,
            visited: BTreeSet::new(),
            open,
            deepest: (0, 0),
            calls,
        }
    }

    fn run(mut self) -> Result<(), Violation> {
        // What was placed, with what the register held before.
        let mut path: Vec<(usize, Option<u64>)> = Vec::new();
        let mut event = self.line.next[HEAD];
        // While a call with an end is not placed, its end is on the line: no walk passes the last.
        while self.open > 0 {
            let (call, is_end) = call_of(event);
            let fits = (!is_end).then(|| self.after(call)).flatten();
            if let Some(after) = fits
                && self.is_new(call, after)
            {
                path.push((call, self.register));
                self.place(call, after);
                event = self.line.next[HEAD];
                continue;
            }
            if self.visited.len() > SEARCH_STATES_MAX {
                return Err(Violation::Undecided { key: self.key, states: self.visited.len() });
            }
            if !is_end {
                event = self.line.next[event];
                continue;
            }
            // An end stands in the way of everything behind it: its call had to be placed before.
            if path.len() >= self.deepest.0 {
                self.deepest = (path.len(), call);
            }
            let Some((last, before)) = path.pop() else {
                let (calls, stuck) = (self.calls.len(), self.calls[self.deepest.1].id);
                return Err(Violation::NotLinearizable { key: self.key, calls, stuck });
            };
            self.put_back(last, before);
            event = self.line.next[beginning(last)];
        }
        Ok(())
    }

    /// What the register holds after `call`, if its answer fits what it holds now.
    fn after(&self, call: usize) -> Option<Option<u64>> {
        let call = &self.calls[call];
        let (after, answer) = call.operation.apply(self.register);
        call.end.is_none_or(|end| end.answer == answer).then_some(after)
    }

    /// Whether the state after placing `call` was not seen yet.
    fn is_new(&mut self, call: usize, after: Option<u64>) -> bool {
        let mut placed = self.placed.clone();
        placed[call / 64] |= 1 << (call % 64);
        self.visited.insert((placed, after))
    }

    fn place(&mut self, call: usize, after: Option<u64>) {
        self.placed[call / 64] |= 1 << (call % 64);
        self.register = after;
        self.open -= usize::from(self.calls[call].end.is_some());
        self.line.take_out(beginning(call));
        self.line.take_out(beginning(call) + 1);
    }

    fn put_back(&mut self, call: usize, before: Option<u64>) {
        self.placed[call / 64] &= !(1 << (call % 64));
        self.register = before;
        self.open += usize::from(self.calls[call].end.is_some());
        self.line.put_back(beginning(call) + 1);
        self.line.put_back(beginning(call));
    }
}
