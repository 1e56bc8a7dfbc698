//! Runs a program in a write transaction.

use super::compare::{Compare, Test};
use super::error::{ProgramError, ProgramPath, ProgramStep};
use super::op::{Action, Op, Select};
use super::reply::{FoundRows, OpResult, ProgramReply};
use super::statement::{self, PutError};
use super::{Cmp, Program};
use crate::limits::{PROGRAM_REPLY_BYTES_MAX, PROGRAM_ROWS_MAX};
use crate::messagepack::ReadError;
use crate::revision::Revision;
use crate::root::Contents;
use crate::table::{Mode, TableState};
use crate::tree::{RowMeta, RowRef, Session, TreeRef};
use crate::txn::bytes::Bytes;
use crate::txn::draft::Draft;

impl<W: Session<Contents>> Draft<W> {
    /// Runs a program: all of it, or nothing when it is refused.
    pub(in crate::txn) fn run(&mut self, program: &Program) -> Result<ProgramReply, ProgramError> {
        program.check(Some(&self.contents().schema))?;
        self.all_or_none(|draft, _| {
            let at = ProgramPath::default();
            Run { draft, at, rows: 0, bytes: 0 }.program(program)
        })
    }
}

/// A program on its way.
struct Run<'a, W> {
    draft: &'a mut Draft<W>,
    /// The comparison or operation that is running.
    at: ProgramPath,
    /// What the reply has so far.
    rows: usize,
    bytes: usize,
}

impl<W: Session<Contents>> Run<'_, W> {
    fn program(&mut self, program: &Program) -> Result<ProgramReply, ProgramError> {
        let mut succeeded = true;
        for (index, compare) in program.compare.iter().enumerate() {
            self.at.steps.push(ProgramStep::Compare(index));
            succeeded = self.holds(compare)?;
            self.at.steps.pop();
            if !succeeded {
                break;
            }
        }
        let ops = if succeeded { &program.then } else { &program.otherwise };
        let mut results = Vec::with_capacity(ops.len());
        for (index, op) in ops.iter().enumerate() {
            let step = if succeeded { ProgramStep::Then } else { ProgramStep::Else };
            self.at.steps.push(step(index));
            results.push(self.op(op)?);
            self.at.steps.pop();
        }
        Ok(ProgramReply { succeeded, results })
    }

    fn holds(&self, compare: &Compare) -> Result<bool, ProgramError> {
        let row = |table: &str, key: &[u8]| Ok(self.table(table)?.row(key));
        let revision = |row: Option<RowRef<'_>>, of: fn(RowMeta) -> Revision, is: Cmp, given| {
            let found = row.map_or(Revision(0), |row| of(row.meta()));
            let Revision(given) = given;
            is.holds(found.0, given)
        };
        Ok(match &compare.0 {
            Test::Exists { table, key } => row(table, key)?.is_some(),
            Test::Absent { table, key } => row(table, key)?.is_none(),
            Test::Created { table, key, is, revision: given } => {
                revision(row(table, key)?, |meta| meta.created, *is, *given)
            }
            Test::Modified { table, key, is, revision: given } => {
                revision(row(table, key)?, |meta| meta.modified, *is, *given)
            }
            Test::Equals { table, row } => self.equals(table, row)?,
            Test::Count { rows, is, count } => is.holds(self.count(rows)?, *count),
            Test::TableModified { table, is, revision } => {
                is.holds(self.table(table)?.modified().0, revision.0)
            }
        })
    }

    /// Whether the row with the primary key of the row `value` has this value.
    ///
    /// Both are encoded by this build: `value` may come from another, whose rows lack a field.
    fn equals(&self, table: &str, value: &[u8]) -> Result<bool, ProgramError> {
        let position = self.position(table)?;
        let given = statement::decode(self.draft, position, value);
        let (key, given) = given.map_err(|error| self.undecoded(table, error))?;
        let state = self.draft.contents().table(position);
        let Some(row) = state.row(&key) else { return Ok(false) };
        let encode = |row| {
            let mut bytes = Vec::new();
            let encoded = state.schema().rows.encode_value(row, &mut bytes);
            encoded.map(|()| bytes).map_err(|message| self.unencoded(table, message))
        };
        Ok(encode(row)? == encode(given.borrow())?)
    }

    fn op(&mut self, op: &Op) -> Result<OpResult, ProgramError> {
        match &op.0 {
            Action::Insert { table, row } => {
                self.put(table, row, Mode::Insert)?;
                Ok(OpResult::Inserted)
            }
            Action::Upsert { table, row } => {
                let replaced = self.put(table, row, Mode::Upsert)?;
                Ok(OpResult::Upserted { replaced })
            }
            Action::Delete { table, key } => {
                let position = self.position(table)?;
                Ok(OpResult::Deleted(self.draft.remove(position, key).is_some().into()))
            }
            Action::DeleteAll { rows } => self.delete_all(rows).map(OpResult::Deleted),
            Action::Get { table, key } => {
                let (mut records, mut bytes) = (Vec::new(), self.bytes);
                let state = self.table(table)?;
                if let Some(row) = state.row(key) {
                    records.push(self.record(state, row, self.rows, &mut bytes)?);
                }
                Ok(self.found(table, records, false, bytes))
            }
            Action::Rows { rows, limit } => self.read(rows, *limit as usize),
            Action::Count { rows } => self.count(rows).map(OpResult::Counted),
            Action::Program { program } => self.program(program).map(OpResult::Program),
        }
    }

    fn put(&mut self, table: &str, value: &[u8], mode: Mode) -> Result<bool, ProgramError> {
        let position = self.position(table)?;
        statement::put(self.draft, position, value, mode).map_err(|error| match error {
            PutError::Decode(error) => self.undecoded(table, error),
            PutError::Refused(source) => {
                ProgramError::Statement { at: self.at.clone(), source: Box::new(source) }
            }
        })
    }

    /// Deletes the rows that are found in the table as it was before.
    fn delete_all(&mut self, select: &Select) -> Result<u64, ProgramError> {
        let position = self.position(&select.table)?;
        let before = self.draft.savepoint();
        let state = before.contents.table(position);
        let (low, high) = select.bounds();
        let mut count = 0;
        for row in self.tree(&before.contents, select)?.range(low, high) {
            let key = state.schema().key_of(row);
            // A multi-valued index can show a row twice; the second time it is gone.
            count += u64::from(self.draft.remove(position, &key).is_some());
        }
        Ok(count)
    }

    fn count(&self, select: &Select) -> Result<u64, ProgramError> {
        let (low, high) = select.bounds();
        Ok(self.tree(self.draft.contents(), select)?.count(low, high) as u64)
    }

    fn read(&mut self, select: &Select, limit: usize) -> Result<OpResult, ProgramError> {
        let state = self.table(&select.table)?;
        let (low, high) = select.bounds();
        let mut rows = self.tree(self.draft.contents(), select)?.range(low, high);
        let (mut records, mut bytes) = (Vec::new(), self.bytes);
        for row in rows.by_ref().take(limit) {
            let before = self.rows + records.len();
            records.push(self.record(state, row, before, &mut bytes)?);
        }
        let more = rows.next().is_some();
        Ok(self.found(&select.table, records, more, bytes))
    }

    /// The record of a row that is to join `rows` others in the reply; adds its length to `bytes`.
    fn record(
        &self,
        state: &TableState,
        row: RowRef<'_>,
        rows: usize,
        bytes: &mut usize,
    ) -> Result<Bytes, ProgramError> {
        self.within("rows in a reply", rows + 1, PROGRAM_ROWS_MAX)?;
        let mut record = Vec::new();
        let encoded = state.schema().rows.encode(row, &mut record);
        encoded.map_err(|message| self.unencoded(&state.schema().name, message))?;
        *bytes += record.len();
        self.within("bytes of rows in a reply", *bytes, PROGRAM_REPLY_BYTES_MAX)?;
        record.shrink_to_fit();
        Ok(Bytes(record))
    }

    fn found(&mut self, table: &str, records: Vec<Bytes>, more: bool, bytes: usize) -> OpResult {
        self.rows += records.len();
        self.bytes = bytes;
        OpResult::Rows(FoundRows { table: table.to_owned(), records, more })
    }

    fn within(&self, what: &str, found: usize, limit: usize) -> Result<(), ProgramError> {
        if found <= limit {
            return Ok(());
        }
        Err(ProgramError::Limit { at: self.at.clone(), what: what.into(), found, limit })
    }

    fn position(&self, table: &str) -> Result<usize, ProgramError> {
        self.draft.contents().schema.position_of(table).ok_or_else(|| ProgramError::UnknownTable {
            at: self.at.clone(),
            table: table.to_owned(),
        })
    }

    fn table(&self, name: &str) -> Result<&TableState, ProgramError> {
        Ok(self.draft.contents().table(self.position(name)?))
    }

    /// The tree that rows are selected from.
    fn tree<'c>(
        &self,
        contents: &'c Contents,
        select: &Select,
    ) -> Result<TreeRef<'c>, ProgramError> {
        let state = contents.table(self.position(&select.table)?);
        let Some(name) = &select.index else { return Ok(state.rows()) };
        let mut indexes = state.schema().indexes.iter();
        let position = indexes.position(|index| *index.name == **name);
        let position = position.ok_or_else(|| ProgramError::UnknownIndex {
            at: self.at.clone(),
            table: select.table.clone(),
            index: name.clone(),
        })?;
        Ok(state.trees().index(position))
    }

    fn undecoded(&self, table: &str, error: ReadError) -> ProgramError {
        let ReadError { offset, message } = error;
        ProgramError::Row { at: self.at.clone(), table: table.to_owned(), offset, message }
    }

    fn unencoded(&self, table: &str, message: String) -> ProgramError {
        let what = format!("a row of table {table}");
        ProgramError::Encode { at: self.at.clone(), what, message }
    }
}
