//! Holds a program against the limits, and against the schema that it is run on: both branches,
//! whichever will be taken, so that a wrong name is found the first time.

use super::Program;
use super::compare::{Compare, Test};
use super::error::{ProgramError, ProgramPath, ProgramStep};
use super::op::{Action, Op, Select};
use crate::limits::{
    NAME_BYTES_MAX, PROGRAM_BYTES_MAX, PROGRAM_COMPARES_MAX, PROGRAM_DEPTH_MAX, PROGRAM_OPS_MAX,
    PROGRAM_ROWS_MAX,
};
use crate::schema::Schema;

impl Program {
    /// Checks the limits and, if a schema is given, the names of tables and indexes.
    pub(super) fn check(&self, schema: Option<&Schema>) -> Result<(), ProgramError> {
        let at = ProgramPath::default();
        Check { schema, at, depth: 0, compares: 0, ops: 0, bytes: 0 }.program(self)
    }
}

/// What was met so far.
struct Check<'a> {
    schema: Option<&'a Schema>,
    at: ProgramPath,
    depth: usize,
    compares: usize,
    ops: usize,
    bytes: usize,
}

impl Check<'_> {
    fn program(&mut self, program: &Program) -> Result<(), ProgramError> {
        self.depth += 1;
        self.within("programs inside each other", self.depth, PROGRAM_DEPTH_MAX)?;
        self.compares += program.compare.len();
        self.within("comparisons", self.compares, PROGRAM_COMPARES_MAX)?;
        self.ops += program.then.len() + program.otherwise.len();
        self.within("operations", self.ops, PROGRAM_OPS_MAX)?;
        for (index, compare) in program.compare.iter().enumerate() {
            self.step(ProgramStep::Compare(index), |check| check.compare(compare))?;
        }
        for (index, op) in program.then.iter().enumerate() {
            self.step(ProgramStep::Then(index), |check| check.op(op))?;
        }
        for (index, op) in program.otherwise.iter().enumerate() {
            self.step(ProgramStep::Else(index), |check| check.op(op))?;
        }
        self.depth -= 1;
        Ok(())
    }

    fn step(
        &mut self,
        step: ProgramStep,
        check: impl FnOnce(&mut Self) -> Result<(), ProgramError>,
    ) -> Result<(), ProgramError> {
        self.at.steps.push(step);
        check(self)?;
        self.at.steps.pop();
        Ok(())
    }

    fn compare(&mut self, compare: &Compare) -> Result<(), ProgramError> {
        match &compare.0 {
            Test::Exists { table, key }
            | Test::Absent { table, key }
            | Test::Created { table, key, .. }
            | Test::Modified { table, key, .. }
            | Test::Equals { table, row: key } => self.table(table, key),
            Test::TableModified { table, .. } => self.table(table, &[]),
            Test::Count { rows, .. } => self.select(rows),
        }
    }

    fn op(&mut self, op: &Op) -> Result<(), ProgramError> {
        match &op.0 {
            Action::Insert { table, row: bytes }
            | Action::Upsert { table, row: bytes }
            | Action::Delete { table, key: bytes }
            | Action::Get { table, key: bytes } => self.table(table, bytes),
            Action::DeleteAll { rows } | Action::Count { rows } => self.select(rows),
            Action::Rows { rows, limit } => {
                self.within("rows asked for", *limit as usize, PROGRAM_ROWS_MAX)?;
                self.select(rows)
            }
            Action::Program { program } => self.program(program),
        }
    }

    fn select(&mut self, select: &Select) -> Result<(), ProgramError> {
        let Select { table, index, from, to } = select;
        self.table(table, from)?;
        self.add(to.as_ref().map_or(0, |to| to.len()))?;
        let Some(index) = index else { return Ok(()) };
        self.name(index)?;
        let Some(schema) = self.schema else { return Ok(()) };
        let position = schema.position_of(table).expect("the table was just found");
        let mut indexes = schema.tables()[position].indexes.iter();
        if indexes.any(|known| *known.name == **index) {
            return Ok(());
        }
        let (table, index) = (table.clone(), index.clone());
        Err(ProgramError::UnknownIndex { at: self.at.clone(), table, index })
    }

    /// Checks the name of a table and counts the bytes of a key or row that belong to it.
    fn table(&mut self, name: &str, bytes: &[u8]) -> Result<(), ProgramError> {
        self.name(name)?;
        self.add(bytes.len())?;
        if self.schema.is_none_or(|schema| schema.position_of(name).is_some()) {
            return Ok(());
        }
        Err(ProgramError::UnknownTable { at: self.at.clone(), table: name.to_owned() })
    }

    fn name(&mut self, name: &str) -> Result<(), ProgramError> {
        self.within("bytes of a name", name.len(), NAME_BYTES_MAX)?;
        self.add(name.len())
    }

    fn add(&mut self, bytes: usize) -> Result<(), ProgramError> {
        self.bytes += bytes;
        self.within("bytes of names, keys and rows", self.bytes, PROGRAM_BYTES_MAX)
    }

    fn within(&self, what: &str, found: usize, limit: usize) -> Result<(), ProgramError> {
        if found <= limit {
            return Ok(());
        }
        Err(ProgramError::Limit { at: self.at.clone(), what: what.into(), found, limit })
    }
}
