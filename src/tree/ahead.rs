//! Has the rows of a range on their way from memory before they are asked for.
//!
//! A row is an allocation of its own, so each one that is read is a cache miss, and a reader that
//! looks at one row after the other waits for each. The addresses of the next rows stand in the
//! leaf, so they can be asked for meanwhile. They are fetched into the second-level cache only: it
//! can wait for more lines at once than the first (RESULTS.md has the measurement).
//!
//! All of this is hints: nothing here decides which rows are handed out.

use super::node::NodePtr;
use super::path::Spot;
use super::row::RowPtr;

/// Rows that are on their way at once.
const WINDOW: usize = 48;

/// As many at the beginning, when nobody knows how many will be read.
const WINDOW_FIRST: usize = 8;

/// Rows that are read with the first window.
const STEPS_FIRST: usize = 1;

/// Which rows are asked for next.
#[derive(Clone, Debug)]
pub(super) struct Ahead<'v> {
    /// Those to be asked for one by one, as others are handed out.
    rows: std::slice::Iter<'v, RowPtr>,
    /// Those of the same leaf that come after them.
    rest: &'v [RowPtr],
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was asked for under this parent.
    Fresh,
    /// The first window is on its way, in the leaf at this position of the parent.
    First(u8),
    /// The rows are those of the leaf at this position.
    At(u8),
    /// There are no more leaves under this parent, or in the range.
    Done,
}

/// Where an iteration stands: the rows that are left at its end of the range, the leaf that they
/// are in, and the leaf at the other end, if that is another, with its rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing<'a, 'v> {
    pub(super) rows: &'v [RowPtr],
    pub(super) spot: &'a Spot,
    pub(super) end: Option<(NodePtr, &'v [RowPtr])>,
}

impl<'v> Ahead<'v> {
    pub(super) fn new() -> Self {
        Self { rows: [].iter(), rest: &[], state: State::Fresh }
    }

    /// Begins again, at another parent.
    pub(super) fn restart(&mut self) {
        *self = Self::new();
    }

    /// Asks for one more row, as one is handed out at the front; `false` when it is time to
    /// [`look`](Ahead::look) where the next are.
    #[inline(always)]
    pub(super) fn step(&mut self) -> bool {
        match self.rows.next() {
            Some(row) => row.prefetch_far(),
            None => return self.state == State::Done,
        }
        true
    }

    /// As [`step`](Ahead::step), at the back.
    #[inline(always)]
    pub(super) fn step_back(&mut self) -> bool {
        match self.rows.next_back() {
            Some(row) => row.prefetch_far(),
            None => return self.state == State::Done,
        }
        true
    }

    /// Widens the window, or goes on to the next leaf.
    #[cold]
    pub(super) fn look(&mut self, standing: Standing<'_, 'v>, is_backward: bool) {
        match self.state {
            State::Done => {}
            State::Fresh => {
                self.rest = standing.rows;
                self.ask(WINDOW_FIRST, is_backward);
                self.rows = self.take(STEPS_FIRST, is_backward).iter();
                self.enter(standing.spot.position(), standing, is_backward, true);
            }
            State::First(at) => {
                self.ask(WINDOW - WINDOW_FIRST, is_backward);
                self.rows = std::mem::take(&mut self.rest).iter();
                self.enter(at, standing, is_backward, false);
            }
            State::At(at) => {
                let at = if is_backward { at.wrapping_sub(1) } else { at + 1 };
                let Some(leaf) = standing.spot.sibling(at) else {
                    self.state = State::Done;
                    return;
                };
                let end = standing.end.filter(|(last, _)| *last == leaf);
                self.rows = end.map_or(leaf.rows(), |(_, rows)| rows).iter();
                self.enter(at, standing, is_backward, false);
            }
        }
    }

    /// Notes that the rows are those of the leaf at `at`, and asks for the leaf after it.
    fn enter(&mut self, at: u8, standing: Standing<'_, 'v>, is_backward: bool, is_first: bool) {
        let Standing { spot, end, .. } = standing;
        let is_last = end.is_none_or(|(last, _)| spot.sibling(at) == Some(last));
        let next = if is_backward { at.wrapping_sub(1) } else { at + 1 };
        self.state = match spot.sibling(next) {
            _ if is_first => State::First(at),
            Some(_) if !is_last => State::At(at),
            _ => State::Done,
        };
        if !is_last && let Some(leaf) = spot.sibling(next) {
            leaf.prefetch_rows();
        }
    }

    /// Takes the next `count` of the rest.
    fn take(&mut self, count: usize, is_backward: bool) -> &'v [RowPtr] {
        let count = count.min(self.rest.len());
        let (one, other) = if is_backward {
            let (rest, taken) = self.rest.split_at(self.rest.len() - count);
            (taken, rest)
        } else {
            self.rest.split_at(count)
        };
        self.rest = other;
        one
    }

    fn ask(&mut self, count: usize, is_backward: bool) {
        self.take(count, is_backward).iter().for_each(|row| row.prefetch_far());
    }
}
