//! A branch off a version: what a fork of the database stands on.

use super::edit::Editor;
use super::reclaim::Doomed;
use super::row::{NewRow, RowPtr};
use super::store::{Contents, Version, Workspace};

/// A branch off a version that is never published: its own nodes and rows, over those of its
/// origin, which it never changes. Taking one copies nothing, and dropping one gives its chunks
/// back whole.
// Until the public fork comes, only the tests make one.
#[cfg_attr(not(test), allow(dead_code))]
pub(crate) struct Branch {
    editor: Editor,
    made: Vec<RowPtr>,
}

// Until the public fork comes, only the tests make one.
#[cfg_attr(not(test), allow(dead_code))]
impl Branch {
    /// A branch off `origin`, which the caller keeps for as long as the branch.
    pub(crate) fn new<C: Contents>(origin: &Version<C>) -> Self {
        // No node that the branch can see, and did not make, has this stamp or a later one.
        Self { editor: Editor::new(origin.stamp() + 1, true), made: Vec::new() }
    }
}

impl Workspace for Branch {
    fn editor(&mut self) -> &mut Editor {
        &mut self.editor
    }

    fn settle(&mut self, row: NewRow, entries: usize) -> RowPtr {
        let row = row.settle(self.editor.stamp, entries);
        self.made.push(row);
        row
    }

    fn poison(&mut self) {}
}

impl Drop for Branch {
    fn drop(&mut self) {
        let mut doomed = Doomed::default();
        self.made.drain(..).for_each(|row| doomed.push(row));
    }
}
