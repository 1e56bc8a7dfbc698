//! The draft of a version: what statements change, whoever runs them. A write transaction has one
//! that it publishes, a fork has one that it never does.

use std::sync::Arc;

use super::changes::ChangeLog;
use super::program::{Program, ProgramError, ProgramReply};
use super::read::{Read, position_of};
use super::savepoint::Savepoint;
use super::table_mut::TableMut;
use crate::error::Error;
use crate::key::{KeyBuf, prefix_bounds};
use crate::revision::Revision;
use crate::root::Contents;
use crate::schema::Table;
use crate::table::{KeyedRows, Mode, ReadLog, Reading, TableState, as_bytes};
use crate::tree::{KeptRow, NewRow, PUT_GROUP, Place, RowMeta, RowRef, Session, SharedRow};
use crate::watch::Change;

/// Anything that can be written like a transaction: a [`WriteTxn`](crate::WriteTxn), or a
/// [`Fork`](crate::Fork) that is never published. So a plan can be tried before it is carried out.
///
/// ```
/// # use fsmdb::{Db, Error, Read, Table, Write};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
/// # #[table(name = "nodes")]
/// # struct Node { #[key] id: u64, load: u32 }
/// fn place(db: &mut impl Write, id: u64) -> Result<u32, Error> {
///     Ok(db.table_mut::<Node>().update(&id, |node| node.load += 1)?.load)
/// }
///
/// let db = Db::builder().table::<Node>().build()?;
/// let mut txn = db.write();
/// txn.insert(Node { id: 1, load: 0 })?;
/// txn.commit();
///
/// let mut trial = db.read().fork();
/// assert_eq!(place(&mut trial, 1)?, 1);
/// assert_eq!(place(&mut trial, 1)?, 2);
///
/// let mut txn = db.write();
/// assert_eq!(place(&mut txn, 1)?, 1);
/// txn.commit();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
// The bound that nobody outside can name is what seals the trait.
#[allow(private_bounds)]
pub trait Write: Read + Drafting {
    /// The table whose rows are values of `T`, for writing.
    ///
    /// # Panics
    ///
    /// When `T` is not a table of the database.
    fn table_mut<T: Table>(&mut self) -> TableMut<'_, T, Self> {
        let position = position_of::<T>(self.draft().contents());
        TableMut::new(self, position)
    }

    /// Inserts a row whose primary key must be free; see [`TableMut::insert`].
    ///
    /// # Errors
    ///
    /// As [`TableMut::insert`].
    ///
    /// # Panics
    ///
    /// When `T` is not a table of the database.
    fn insert<T: Table>(&mut self, row: T) -> Result<SharedRow<T>, Error> {
        Write::table_mut(self).insert(row)
    }

    /// Inserts a row or replaces the one with its primary key; see [`TableMut::upsert`].
    ///
    /// # Errors
    ///
    /// As [`TableMut::upsert`].
    ///
    /// # Panics
    ///
    /// When `T` is not a table of the database.
    fn upsert<T: Table>(&mut self, row: T) -> Result<Option<SharedRow<T>>, Error> {
        Write::table_mut(self).upsert(row)
    }

    /// Marks a point to which [`rollback_to`](Write::rollback_to) can go back, O(1).
    #[must_use]
    fn savepoint(&mut self) -> Savepoint {
        self.draft_mut().savepoint()
    }

    /// Goes to the point that `savepoint` marks: every statement after it is undone, O(1).
    ///
    /// # Panics
    ///
    /// When the savepoint is from another transaction or fork.
    fn rollback_to(&mut self, savepoint: &Savepoint) {
        self.draft_mut().rollback_to(savepoint);
    }

    /// Runs a program: all of it, or nothing when it is refused.
    ///
    /// A comparison that does not hold is no refusal: the other branch is run. Each costs O(log n)
    /// for each comparison and for each row that is read or written, with each of its indexes.
    ///
    /// # Errors
    ///
    /// [`ProgramError`], which names the comparison or operation; nothing has changed then.
    fn run(&mut self, program: &Program) -> Result<ProgramReply, ProgramError> {
        self.draft_mut().run(program)
    }

    /// The net change of each row so far, in the order of tables and keys; O(k log k) in the
    /// number of statements.
    #[must_use]
    fn changes(&self) -> Vec<Change> {
        self.draft().changes()
    }
}

/// Whoever has a draft.
pub(crate) trait Drafting: Sized {
    /// Where the nodes and rows of the draft come from.
    type Work: Session<Contents>;

    fn draft(&self) -> &Draft<Self::Work>;

    fn draft_mut(&mut self) -> &mut Draft<Self::Work>;
}

/// Contents in the making, and what has been done to them.
pub(crate) struct Draft<W> {
    /// `None` once a transaction has published or discarded them.
    pub(super) contents: Option<Contents>,
    pub(super) work: W,
    pub(super) log: ChangeLog,
    /// The revision that its rows get.
    pub(super) revision: Revision,
    /// Made with the first savepoint, and held by each.
    mark: Option<Arc<()>>,
    /// Whether a row was deleted that the draft itself had made, so that it may have changed
    /// nothing.
    may_be_nothing: bool,
    /// What was asked, where that is noted.
    pub(super) reads: Option<Arc<ReadLog>>,
}

pub(super) const RUNS: &str = "a draft has its contents until it ends";

impl<W: Session<Contents>> Draft<W> {
    pub(super) fn new(contents: Contents, work: W, log: ChangeLog, revision: Revision) -> Self {
        let (contents, mark, reads) = (Some(contents), None, None);
        Self { contents, work, log, revision, mark, may_be_nothing: false, reads }
    }

    pub(super) fn contents(&self) -> &Contents {
        self.contents.as_ref().expect(RUNS)
    }

    /// What statements change, each on its own.
    pub(super) fn parts(&mut self) -> (&mut Contents, &mut W, &mut ChangeLog) {
        (self.contents.as_mut().expect(RUNS), &mut self.work, &mut self.log)
    }

    /// Readies the contents to be published after `base`, with which the draft began: what came and
    /// went in it was never there.
    pub(super) fn settle(&mut self, base: &Contents) {
        if self.may_be_nothing {
            let after = self.contents.as_ref().expect(RUNS);
            for table in self.log.unchanged_tables(base, after) {
                let modified = base.table(table).modified();
                self.parts().0.table_mut(table).set_modified(modified);
            }
        }
        self.parts().0.settle_removals(base);
    }

    pub(super) fn changes(&self) -> Vec<Change> {
        self.log.net(self.contents())
    }

    pub(super) fn savepoint(&mut self) -> Savepoint {
        let contents = self.contents().clone();
        Savepoint {
            mark: Arc::clone(self.mark.get_or_insert_default()),
            state: self.work.mark(&contents),
            contents,
            statements: self.log.len(),
            log: self.log.freeze(),
        }
    }

    pub(super) fn rollback_to(&mut self, savepoint: &Savepoint) {
        let mark = self.mark.as_ref();
        let same = mark.is_some_and(|mark| Arc::ptr_eq(mark, &savepoint.mark));
        assert!(same, "the savepoint belongs to another transaction");
        let (contents, work, log) = self.parts();
        work.return_to(savepoint.state, contents);
        *contents = savepoint.contents.clone();
        log.return_to(&savepoint.log);
    }

    /// Where the reader of a table notes what it is asked, if that is noted.
    pub(super) fn reading(&self, position: usize) -> Option<Reading<'_>> {
        self.reads.as_ref().map(|log| Reading::new(log, position))
    }

    /// Notes that a statement depends on the row at `key`.
    #[inline]
    pub(super) fn note_key(&self, position: usize, key: &[u8]) {
        if let Some(reading) = self.reading(position) {
            reading.row(key);
        }
    }

    /// Notes that a statement depends on what it found, wherever in the table.
    fn note_table(&self, position: usize) {
        if let Some(reading) = self.reading(position) {
            reading.everything();
        }
    }

    fn state(&self, position: usize) -> &TableState {
        self.contents().table(position)
    }

    fn ready(&mut self, position: usize, place: &mut Place) {
        let (contents, work, _) = self.parts();
        contents.table_mut(position).ready(work, place);
    }

    /// Puts the row that `make` makes at `key`, its primary key, and gives it and the one that it
    /// replaced.
    pub(super) fn put(
        &mut self,
        position: usize,
        key: &[u8],
        mode: Mode,
        make: impl FnOnce(RowMeta) -> NewRow,
    ) -> Result<(KeptRow, Option<KeptRow>), Error> {
        let revision = self.revision;
        let mut place = Place::default();
        self.note_key(position, key);
        self.state(position).claim(key, mode, &mut place)?;
        self.ready(position, &mut place);
        let before = self.state(position).row_at(&place);
        let created = before.map_or(revision, |before| before.meta().created);
        let row = make(RowMeta { created, modified: revision });
        let mut planner = self.work.take_scratch();
        let planned = self.state(position).plan_put(&mut planner, &place, key, row.borrow());
        if let Some(reading) = self.reading(position) {
            match &planned {
                // Each value of a unique index was seen to be free.
                Ok(()) => planner.note_unique(self.state(position).schema(), reading),
                Err(_) => reading.everything(),
            }
        }
        planned?;

        let kept = row.borrow().keep();
        let (contents, work, log) = self.parts();
        let table = contents.table_mut(position);
        let before = table.row_at(&place).map(RowRef::keep);
        table.put(work, &planner, &place, key, row, revision);
        log.push(position, key, before);
        if log.notes_entries {
            log.push_entries(position, &planner);
        }
        work.put_scratch(planner);
        Ok((kept, before))
    }

    /// Puts `rows` and gives their number, or what refused one. Rows come in groups, whose places
    /// are on their way from memory together.
    pub(super) fn put_all(
        &mut self,
        position: usize,
        mode: Mode,
        mut rows: impl Iterator<Item = (KeyBuf, NewRow)>,
    ) -> Result<usize, Error> {
        let mut count = 0;
        loop {
            let mut group: [Option<(KeyBuf, NewRow)>; PUT_GROUP] = std::array::from_fn(|_| None);
            let room = group.iter_mut();
            let taken = room.zip(&mut rows).map(|(place, row)| *place = Some(row)).count();
            if taken > 1 {
                let keys = group.iter().flatten().map(|(key, _)| key.as_slice());
                self.state(position).trees().prefetch_group(keys);
            }
            for (key, row) in group.into_iter().flatten() {
                self.put(position, &key, mode, |meta| row.with_meta(meta))?;
            }
            count += taken;
            if taken < PUT_GROUP {
                return Ok(count);
            }
        }
    }

    /// Takes the row at `key`, a primary key, out and gives it.
    pub(super) fn remove(&mut self, position: usize, key: &[u8]) -> Option<KeptRow> {
        let revision = self.revision;
        let mut place = Place::default();
        self.note_key(position, key);
        self.state(position).find(key, &mut place);
        self.state(position).row_at(&place)?;
        self.ready(position, &mut place);
        let mut planner = self.work.take_scratch();
        self.state(position).plan_delete(&mut planner, &place, key);

        let (contents, work, log) = self.parts();
        let table = contents.table_mut(position);
        let before = table.row_at(&place);
        let is_own = before.is_some_and(|before| before.meta().created == revision);
        let before = before.map(RowRef::keep);
        table.delete(work, &planner, &place, key, revision);
        log.push(position, key, before);
        if log.notes_entries {
            log.push_entries(position, &planner);
        }
        work.put_scratch(planner);
        self.may_be_nothing |= is_own;
        before
    }

    /// Completes the erasure of what was at `prefix`, the beginning of primary keys: `rows` rows,
    /// which statements have deleted before. Nothing is remembered of their keys.
    pub(super) fn erase(&mut self, position: usize, prefix: KeyBuf, rows: usize) {
        let revision = self.revision;
        // The plan of the last statement has a key and values.
        drop(self.work.take_scratch());
        let (contents, _, log) = self.parts();
        log.push_erase(position, &prefix, rows);
        let (low, high) = prefix_bounds(prefix);
        contents.table_mut(position).erase_removals((as_bytes(&low), as_bytes(&high)), revision);
    }

    /// Fills an empty table with `rows` and gives their number.
    pub(super) fn fill(&mut self, position: usize, mut rows: KeyedRows) -> Result<usize, Error> {
        let (revision, schema) = (self.revision, Arc::clone(self.state(position).schema()));
        self.note_table(position);
        if let Some(key) = rows.sort() {
            let (table, key) = (schema.name.to_string(), schema.print_key(key));
            return Err(Error::KeyExists { table, key });
        }
        let count = rows.len();
        if count > 0 {
            let (contents, work, log) = self.parts();
            let removals = contents.table(position).removals().clone();
            let table = TableState::from_rows(work, schema, vec![rows], revision, 1)?;
            let table = table.with_removals(removals);
            log.push_fill(position, count);
            contents.set_table(position, table);
        }
        Ok(count)
    }

    /// Runs `statements`, and undoes them if they fail or panic. They are given the savepoint
    /// before them, where they can read what was there.
    pub(super) fn all_or_none<R, E>(
        &mut self,
        statements: impl FnOnce(&mut Self, &Savepoint) -> Result<R, E>,
    ) -> Result<R, E> {
        let before = self.savepoint();
        let mut undo = Undo { draft: self, before: &before, is_done: false };
        let result = statements(undo.draft, &before);
        undo.is_done = result.is_ok();
        result
    }
}

/// Goes back to a savepoint unless what began after it is done.
struct Undo<'a, W: Session<Contents>> {
    draft: &'a mut Draft<W>,
    before: &'a Savepoint,
    is_done: bool,
}

impl<W: Session<Contents>> Drop for Undo<'_, W> {
    fn drop(&mut self) {
        if !self.is_done {
            self.draft.rollback_to(self.before);
        }
    }
}

/// The encoded primary key of `row`.
pub(super) fn key_of<T: Table>(row: &T) -> KeyBuf {
    let mut key = KeyBuf::new();
    row.encode_primary_key(&mut key);
    key
}
