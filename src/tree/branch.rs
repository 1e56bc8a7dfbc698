//! A branch off a version, or off another branch: what a fork of the database stands on.
//!
//! A branch has nodes and rows of its own, over those of its origin, which it never changes. It
//! copies nothing when it is taken, asks for memory with its first statement, and gives its chunks
//! back whole when it is dropped.
//!
//! When a branch is taken off another, what that one has made so far becomes common ground: both
//! hold it, and each goes on in memory of its own. So they may be dropped in any order, and what
//! the ground holds is freed with the last of them. Who holds a ground alone goes on in it.
//!
//! # Invariants
//!
//! 1. No node that a branch can see, and that stands outside its own stretch, has the branch's
//!    stamp or a later one. So what it may change in place is its own.
//! 2. The nodes and rows of a stretch are reached only by those that hold it: the branch that it
//!    belongs to, or all branches that stand on its ground.
//! 3. The stamp of a ground is above those of the grounds below it.

use std::fmt;
use std::sync::Arc;

use super::arena::Spare;
use super::edit::Editor;
use super::handle::KeptRow;
use super::reclaim::Doomed;
use super::row::{NewRow, RowPtr};
use super::store::Version;
use super::workspace::{Contents, Mark, Session, Workspace};

/// A branch; whoever has it keeps its origin for as long.
pub(crate) struct Branch<C: Contents> {
    /// What it made since the last branch off it; none before the first statement.
    own: Option<Box<Stretch<C>>>,
    below: Option<Arc<Ground<C>>>,
    /// The birth of the nodes that it makes.
    stamp: u64,
    is_poisoned: bool,
    spare: Arc<Spare>,
}

/// What was made by one branch between two branches off it.
struct Stretch<C: Contents> {
    editor: Editor,
    made: Doomed,
    /// Taken out while a statement uses it.
    scratch: Option<Box<C::Scratch>>,
}

/// The rows of a branch that has ended; those that nobody takes are freed with it.
pub(crate) struct MadeRows {
    /// In the order of their addresses, and whether they were taken.
    rows: Vec<(RowPtr, bool)>,
}

impl MadeRows {
    /// Takes a row for another table, unless it is not one of these or somebody has a handle on it.
    pub(crate) fn take(&mut self, row: KeptRow) -> Option<NewRow> {
        let row = row.pointer();
        let at = self.rows.binary_search_by_key(&row, |(row, _)| *row).ok()?;
        let (_, is_taken) = &mut self.rows[at];
        if *is_taken || !row.is_alone() {
            return None;
        }
        *is_taken = true;
        Some(NewRow::again(row))
    }
}

impl Drop for MadeRows {
    fn drop(&mut self) {
        let mut doomed = Doomed::default();
        let left = self.rows.drain(..).filter(|(_, is_taken)| !is_taken);
        left.for_each(|(row, _)| doomed.push(row));
    }
}

/// A stretch that several branches can see.
struct Ground<C: Contents> {
    /// Here until the ground is dropped, or its last holder goes on in it.
    stretch: Option<Box<Stretch<C>>>,
    stamp: u64,
    below: Option<Arc<Ground<C>>>,
}

// SAFETY: nothing of a stretch can be reached through a shared reference to it: branches and
// grounds read and change it only when they own it alone.
unsafe impl<C: Contents> Sync for Stretch<C> {}

impl<C: Contents> Branch<C> {
    /// A branch off `origin`, which the caller keeps for as long as the branch and those off it.
    pub(crate) fn new(origin: &Version<C>) -> Self {
        let (stamp, spare) = (origin.stamp() + 1, Arc::clone(origin.spare()));
        Self { own: None, below: None, stamp, is_poisoned: false, spare }
    }

    /// A branch off this one, which sees what this one sees now.
    ///
    /// # Panics
    ///
    /// When a statement found the indexes at odds with the schema.
    pub(crate) fn branch(&mut self) -> Self {
        self.assert_whole();
        if let Some(own) = self.own.take() {
            let ground = Ground { stretch: Some(own), stamp: self.stamp, below: self.below.take() };
            self.below = Some(Arc::new(ground));
            self.stamp += 1;
        }
        let (below, spare) = (self.below.clone(), Arc::clone(&self.spare));
        Self { own: None, below, stamp: self.stamp, is_poisoned: false, spare }
    }

    /// # Panics
    ///
    /// When a statement found the indexes at odds with the schema.
    pub(crate) fn assert_whole(&self) {
        assert!(!self.is_poisoned, "the fork can only be dropped");
    }

    /// Ends the branch, of which no other was taken, and gives the rows that it has made, for those
    /// who put them elsewhere.
    pub(crate) fn into_rows(self) -> MadeRows {
        assert!(self.below.is_none(), "what others see is not given away");
        let mut rows = Vec::new();
        if let Some(own) = self.own {
            let Stretch { editor, made, .. } = *own;
            // The nodes first: nothing leads to the rows any more.
            drop(editor);
            rows = made.into_rows();
        }
        rows.sort_unstable();
        MadeRows { rows: rows.into_iter().map(|row| (row, false)).collect() }
    }

    #[inline]
    fn stretch(&mut self) -> &mut Stretch<C> {
        if self.own.is_none() {
            self.own = Some(self.open());
        }
        self.own.as_mut().expect("it was just made")
    }

    /// The stretch to go on in: the ground, if nobody else stands on it, or a new one.
    #[cold]
    fn open(&mut self) -> Box<Stretch<C>> {
        let ground = self.below.as_mut().and_then(Arc::get_mut);
        let alone = ground.and_then(|ground| Some((ground.stretch.take()?, ground.stamp)));
        if let Some((mut stretch, stamp)) = alone {
            self.below = self.below.take().and_then(Arc::into_inner).and_then(Ground::into_below);
            if self.stamp == stamp + 1 {
                // Nothing was frozen since, and who else could see the nodes is gone.
                self.stamp = stamp;
            }
            stretch.editor.stamp = self.stamp;
            return stretch;
        }
        let editor = Editor::of_branch(self.stamp, Arc::clone(&self.spare));
        Box::new(Stretch { editor, made: Doomed::default(), scratch: None })
    }
}

/// What tests ask.
#[cfg(test)]
impl<C: Contents> Branch<C> {
    /// The bytes of all chunks that the branch alone holds, or holds with others.
    pub(super) fn held_bytes(&self) -> usize {
        let mut bytes = self.own.as_ref().map_or(0, |own| own.editor.arena.held_bytes());
        let mut next = &self.below;
        while let Some(ground) = next {
            bytes += ground.stretch.as_ref().map_or(0, |own| own.editor.arena.held_bytes());
            next = &ground.below;
        }
        bytes
    }
}

impl<C: Contents> Ground<C> {
    fn into_below(mut self) -> Option<Arc<Self>> {
        self.below.take()
    }
}

impl<C: Contents> Workspace for Branch<C> {
    #[inline]
    fn editor(&mut self) -> &mut Editor {
        &mut self.stretch().editor
    }

    fn settle(&mut self, row: NewRow, entries: usize) -> RowPtr {
        let stretch = self.stretch();
        let row = row.settle(stretch.editor.stamp, entries);
        stretch.made.push(row);
        row
    }

    fn poison(&mut self) {
        self.is_poisoned = true;
    }
}

impl<C: Contents> Session<C> for Branch<C> {
    fn take_scratch(&mut self) -> Box<C::Scratch> {
        self.stretch().scratch.take().unwrap_or_default()
    }

    fn put_scratch(&mut self, scratch: Box<C::Scratch>) {
        self.stretch().scratch = Some(scratch);
    }

    /// What was made before is copied before it is changed again.
    fn mark(&mut self, _: &C) -> Mark {
        self.stamp += 1;
        if let Some(own) = &mut self.own {
            own.editor.stamp = self.stamp;
        }
        Mark { segment: None }
    }

    /// What was made since then is out of sight, and goes with the branch.
    fn return_to(&mut self, _: Mark, _: &C) {}
}

impl<C: Contents> Drop for Ground<C> {
    /// Ground by ground: thousands of nested branches must not become thousands of calls inside
    /// each other.
    fn drop(&mut self) {
        let mut next = self.below.take();
        while let Some(ground) = next {
            next = Arc::into_inner(ground).and_then(|mut ground| ground.below.take());
        }
    }
}

impl<C: Contents> fmt::Debug for Branch<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Branch").field("stamp", &self.stamp).finish_non_exhaustive()
    }
}
