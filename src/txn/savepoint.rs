//! A point in a write transaction or fork to which it can go back.

use std::fmt;
use std::sync::Arc;

use super::changes::Frozen;
use crate::root::Contents;
use crate::tree::Mark;

/// A point in a write transaction or fork, from
/// [`WriteTxn::savepoint`](super::WriteTxn::savepoint) or
/// [`Fork::savepoint`](super::Fork::savepoint).
///
/// Taking one and going back to it cost O(1). It can be used any number of times and in any order:
/// going back to an early savepoint does not spoil a later one.
#[derive(Clone)]
pub struct Savepoint {
    /// The mark of the transaction or fork, by which a savepoint of another one is told apart.
    pub(super) mark: Arc<()>,
    pub(super) contents: Contents,
    pub(super) state: Mark,
    pub(super) log: Frozen,
    pub(super) statements: usize,
}

impl fmt::Debug for Savepoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Savepoint").field("statements", &self.statements).finish_non_exhaustive()
    }
}
