//! Programs: transactions that are values, `if all of these hold then do this, else do that`.
//!
//! `compare.rs` holds the conditions, `op.rs` the operations and the rows they are about,
//! `reply.rs` what comes back, `error.rs` why a program is refused. `check.rs` holds a program
//! against the limits and the schema, `run.rs` runs it, `statement.rs` holds the statements of
//! tables whose type is not known.
//!
//! # Invariants
//!
//! 1. A program names no Rust type: tables and indexes by name, keys and bounds as they are
//!    encoded, rows as MessagePack by field name. So it can be a command in a log.
//! 2. Any value of [`Program`], whatever bytes it came from, runs within the limits or is refused.
//!    Keys and bounds are only compared with keys, byte by byte; the key under which a row is put
//!    is computed from the row.
//! 3. A program that is refused leaves the transaction exactly as it was, also when user code
//!    panics.
//! 4. The same program on the same state gives the same reply: nothing else is read.

mod check;
mod compare;
mod error;
mod op;
mod reply;
mod run;
mod statement;

use serde::{Deserialize, Serialize};

pub use compare::{Cmp, Compare};
pub use error::{ProgramError, ProgramPath, ProgramStep};
pub use op::{Op, Select};
pub use reply::{FoundRows, OpResult, ProgramReply};

use crate::limits::PROGRAM_BYTES_MAX;
use crate::messagepack::{self, ReadError};
use op::Action;

/// A transaction as a value: if all comparisons hold, the operations of `then` are run in order,
/// otherwise those of `otherwise`; as etcd's `Txn`, over typed tables and indexes.
///
/// It can be encoded, sent and be the command of a state machine, and is run by
/// [`WriteTxn::run`](crate::WriteTxn::run): all of it or nothing. Bytes from elsewhere are for
/// [`decode`](Program::decode) or [`Machine::apply`](crate::Machine::apply), which measure their
/// nesting before anything recurses; another format has its own limit or none.
///
/// ```
/// use fsmdb::{Cmp, Compare, Db, Op, Program, Table};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Debug, Serialize, Deserialize, Table)]
/// #[table(name = "leases")]
/// struct Lease {
///     #[key]
///     resource: String,
///     #[index]
///     holder: String,
/// }
///
/// let db = Db::builder().table::<Lease>().build()?;
/// let lease = Lease { resource: "disk".into(), holder: "a".into() };
///
/// // Created if it is absent, read if not.
/// let acquire = Program::when([Compare::absent::<Lease>("disk")])
///     .then([Op::insert(&lease)?])
///     .otherwise([Op::get::<Lease>("disk")]);
///
/// let mut txn = db.write();
/// assert!(txn.run(&acquire)?.succeeded);
/// let again = txn.run(&acquire)?;
/// assert!(!again.succeeded);
/// let found = again.results[0].row::<Lease>()?.unwrap();
/// assert_eq!(found.holder, "a");
///
/// // Replaced if nobody has written it since: compare and swap.
/// let steal = Program::when([Compare::modified::<Lease>("disk", Cmp::Equal, found.modified())])
///     .then([Op::upsert(&Lease { holder: "b".into(), ..lease })?]);
/// assert!(txn.run(&steal)?.succeeded);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    compare: Vec<Compare>,
    then: Vec<Op>,
    #[serde(rename = "else")]
    otherwise: Vec<Op>,
}

impl Program {
    /// A program that looks whether all of `compare` hold; none always hold. It does nothing yet.
    #[must_use]
    pub fn when(compare: impl IntoIterator<Item = Compare>) -> Self {
        Self { compare: compare.into_iter().collect(), ..Self::default() }
    }

    /// Adds operations to run, in order, when all comparisons hold.
    #[must_use]
    pub fn then(mut self, ops: impl IntoIterator<Item = Op>) -> Self {
        self.then.extend(ops);
        self
    }

    /// Adds operations to run, in order, when a comparison does not hold.
    #[must_use]
    pub fn otherwise(mut self, ops: impl IntoIterator<Item = Op>) -> Self {
        self.otherwise.extend(ops);
        self
    }

    /// The program as bytes: MessagePack with named fields.
    ///
    /// # Errors
    ///
    /// [`ProgramError::Limit`] when the program is too large to be run anywhere.
    pub fn encode(&self) -> Result<Vec<u8>, ProgramError> {
        self.check(None)?;
        let mut bytes = Vec::new();
        messagepack::write(self, &mut bytes).map_err(|message| {
            let (at, what) = (ProgramPath::default(), "the program".into());
            ProgramError::Encode { at, what, message }
        })?;
        check_length(&bytes)?;
        Ok(bytes)
    }

    /// The program that [`encode`](Program::encode) gave these bytes for; harmless on any bytes.
    ///
    /// # Errors
    ///
    /// [`ProgramError::Decode`] when they are not a program, [`ProgramError::Limit`] when it is too
    /// large.
    pub fn decode(bytes: &[u8]) -> Result<Self, ProgramError> {
        check_length(bytes)?;
        let program: Self = messagepack::read(bytes)
            .map_err(|ReadError { offset, message }| ProgramError::Decode { offset, message })?;
        program.check(None)?;
        Ok(program)
    }

    /// How many programs stand inside each other, this one counted.
    fn depth(&self) -> usize {
        let nested = |op: &Op| match &op.0 {
            Action::Program { program } => program.depth(),
            _ => 0,
        };
        1 + self.then.iter().chain(&self.otherwise).map(nested).max().unwrap_or(0)
    }
}

fn check_length(bytes: &[u8]) -> Result<(), ProgramError> {
    if bytes.len() <= PROGRAM_BYTES_MAX {
        return Ok(());
    }
    Err(ProgramError::Limit {
        at: ProgramPath::default(),
        what: "bytes of a program".into(),
        found: bytes.len(),
        limit: PROGRAM_BYTES_MAX,
    })
}
