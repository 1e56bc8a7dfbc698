//! What statements work in, whoever runs them: a write transaction or a fork.

use super::edit::Editor;
use super::row::{NewRow, RowPtr};
use super::table::TableTrees;

/// What a version consists of, as far as the engine must know it: the trees of its tables.
pub(crate) trait Contents: Clone + Send {
    /// What statements want to keep from one to the next: buffers.
    type Scratch: Default + Send;

    /// Calls `visit` with the trees of each table.
    fn for_each_table(&self, visit: &mut dyn FnMut(&TableTrees));
}

/// What one statement works in.
pub(crate) trait Workspace {
    /// The means to change trees.
    fn editor(&mut self) -> &mut Editor;
    /// Makes `row` one of the database, with so many entries in indexes.
    fn settle(&mut self, row: NewRow, entries: usize) -> RowPtr;
    /// Says that the contents are not whole, so that nothing may be made of them.
    fn poison(&mut self);
}

/// What many statements work in, one after the other.
pub(crate) trait Session<C: Contents>: Workspace {
    /// Takes out the buffers of statements, or makes them if the last statement failed and kept
    /// them.
    fn take_scratch(&mut self) -> Box<C::Scratch>;
    /// Gives the buffers back for the next statement.
    fn put_scratch(&mut self, scratch: Box<C::Scratch>);
    /// Freezes the state, which is `contents`.
    fn mark(&mut self, contents: &C) -> Mark;
    /// Goes back, or forth, to a frozen state; the state left behind is `contents`. The caller goes
    /// on with the contents that it marked.
    fn return_to(&mut self, mark: Mark, contents: &C);
}

/// A frozen state of a transaction or fork.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    /// The segment of the transaction; in a fork there are none.
    pub(super) segment: Option<usize>,
}
