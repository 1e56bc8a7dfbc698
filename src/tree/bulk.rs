//! Builds a tree from sorted entries, bottom up: every node is full and written once.

use super::Tree;
use super::edit::Editor;
use super::node::{FANOUT, Value};
use super::row::{RowKind, RowPtr};
use super::scratch::Scratch;
use crate::limits::NODE_REMAINDER_BYTES_MAX;

/// A tree under construction: for each level, the entries of the node that is being filled.
#[derive(Debug)]
pub(super) struct Bulk {
    levels: Vec<Scratch>,
    len: u64,
}

impl Bulk {
    pub(super) fn new() -> Self {
        Self { levels: vec![Scratch::default()], len: 0 }
    }

    /// Whether `key` is greater than every key so far.
    pub(super) fn is_ascending(&self, key: &[u8]) -> bool {
        self.levels[0].last_key().is_none_or(|last| last < key)
    }

    /// Adds the entry with the greatest key so far.
    pub(super) fn push(&mut self, editor: &mut Editor, key: &[u8], row: RowPtr) {
        debug_assert!(self.is_ascending(key), "entries come in ascending order");
        self.len += 1;
        self.push_at(editor, 0, key, row.into(), 1);
    }

    fn push_at(&mut self, editor: &mut Editor, level: usize, key: &[u8], value: Value, count: u64) {
        if level == self.levels.len() {
            self.levels.push(Scratch::default());
        }
        let scratch = &self.levels[level];
        let bytes = scratch.key_bytes() + key.len();
        if scratch.len() == FANOUT || (scratch.len() > 0 && bytes > NODE_REMAINDER_BYTES_MAX) {
            self.close(editor, level);
            self.levels[level].start_after_last(level as u8, key);
        }
        self.levels[level].push(key, value, count);
    }

    /// Makes a node of the entries of a level and hands it to the level above.
    fn close(&mut self, editor: &mut Editor, level: usize) {
        let scratch = &mut self.levels[level];
        let all = 0..scratch.len();
        let node = scratch.build(&mut editor.arena, editor.stamp, level as u8, all, false);
        // What tells this node from the one before it.
        let separator = std::mem::take(&mut scratch.separator);
        self.push_at(editor, level + 1, &separator, node.into(), node.total());
    }

    /// The tree of all entries.
    pub(super) fn finish(mut self, editor: &mut Editor, kind: &'static RowKind) -> Tree {
        if self.len == 0 {
            return Tree::new(kind);
        }
        let mut level = 0;
        while level + 1 < self.levels.len() {
            self.close(editor, level);
            level += 1;
        }
        let top = &self.levels[level];
        let root = top.build(&mut editor.arena, editor.stamp, level as u8, 0..top.len(), false);
        Tree { root: Some(root), len: self.len, kind }
    }
}
