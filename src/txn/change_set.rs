//! What a fork changed, as a value that can travel and be applied elsewhere.
//!
//! # Invariants
//!
//! 1. A change set holds at most [`CHANGES_MAX`] changes of at most [`CHANGE_SET_BYTES_MAX`] bytes:
//!    none is made of a fork, and none is read, that holds more.
//! 2. Tables stand in the order of their names, changes in the order of tables and keys, each once:
//!    equal changes give equal bytes.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::bytes::{Bounded, Bytes};
use super::carry::{Action, Refusal, Step, carry};
use super::draft::{Draft, Write};
use crate::error::Error;
use crate::key::print_bytes;
use crate::limits::{CHANGE_SET_BYTES_MAX, CHANGES_MAX, COMMAND_BYTES_MAX, TABLES_MAX};
use crate::messagepack::{self, ReadError};
use crate::revision::Revision;
use crate::root::Contents;
use crate::schema::TableSchema;
use crate::tree::Session;
use crate::watch::Change;

/// What a [`Fork`](crate::Fork) changed, from [`Fork::change_set`](crate::Fork::change_set): for
/// each row its table, its encoded primary key, and the encoded row or that it is deleted.
///
/// It can stand in a command of a state machine, where each replica applies it to its transaction
/// with the same result. It is applied as it is: the rows that it names become what it says,
/// whatever they are by then. Who must know whether others have changed them compares revisions, or
/// [rebases](crate::Fork::rebase) the fork before.
///
/// ```
/// # use fsmdb::{Applied, ChangeSet, ChangeSetError, Db, Fsm, Machine, Table, WriteTxn};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
/// # #[table(name = "nodes")]
/// # struct Node { #[key] id: u64 }
/// struct Planned;
///
/// impl Fsm for Planned {
///     type Command = ChangeSet;
///     type Reply = Result<(), ChangeSetError>;
///
///     fn apply(&self, txn: &mut WriteTxn<'_>, _: Applied, plan: ChangeSet) -> Self::Reply {
///         plan.apply(txn)
///     }
/// }
///
/// let machine = Machine::new(Db::builder().table::<Node>().build()?, Planned)?;
/// let mut fork = machine.read().fork();
/// fork.insert(Node { id: 1 })?;
/// let command = Machine::<Planned>::encode(&fork.change_set()?)?;
/// machine.apply(Applied { index: 1, term: 1 }, &command)?.unwrap()?;
/// assert_eq!(machine.read().table::<Node>().len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Wire")]
pub struct ChangeSet {
    origin: Revision,
    tables: Bounded<String, TABLES_MAX>,
    changes: Bounded<RowChange, CHANGES_MAX>,
}

/// The position of the table among those named, the key, what becomes of the row, its value.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct RowChange(u16, Bytes, Action, Bytes);

/// Why there is no change set, or why it could not be applied: the transaction is as it was before.
///
/// It is serialisable and comparable, so that a state machine's reply can carry it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Error)]
#[non_exhaustive]
pub enum ChangeSetError {
    /// There are more changes than [`limits::CHANGES_MAX`](crate::limits::CHANGES_MAX).
    #[error("{changes} changes, the limit of a change set is {limit}")]
    TooMany {
        /// How many there are.
        changes: usize,
        /// The limit.
        limit: usize,
    },
    /// There are more bytes than
    /// [`limits::CHANGE_SET_BYTES_MAX`](crate::limits::CHANGE_SET_BYTES_MAX).
    #[error("changes of {bytes} bytes, the limit of a change set is {limit}")]
    TooLarge {
        /// How many there are.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The bytes are not a change set.
    #[error("not a change set: {message} at byte {offset}")]
    Malformed {
        /// Where it was found.
        offset: u64,
        /// What is wrong.
        message: String,
    },
    /// The fork, or the optimistic transaction, has erased. A change set would carry the keys of
    /// what was erased, and delete where it should be erased: give the prefix in the command, and
    /// erase where that is applied.
    #[error("table {table}: rows were erased, which a change set does not carry")]
    Erases {
        /// The table's name.
        table: String,
    },
    /// The database has no such table.
    #[error("table {table} of the change of key {key} is not in the schema")]
    UnknownTable {
        /// The table's name.
        table: String,
        /// The first primary key in it, in hexadecimal.
        key: String,
    },
    /// A row cannot be encoded, or its bytes are not a row of the table.
    #[error("table {table}: the row with key {key}: {message}")]
    Row {
        /// The table's name.
        table: String,
        /// The primary key, printed.
        key: String,
        /// What is wrong.
        message: String,
    },
    /// A row has another primary key than the one it is named by.
    #[error("table {table}: the row that is named by key {key} has key {found}")]
    KeyDiffers {
        /// The table's name.
        table: String,
        /// The primary key that it is named by, printed.
        key: String,
        /// The primary key that it has, printed.
        found: String,
    },
    /// The statement that puts a row was refused.
    #[error("the row with key {key} cannot be put: {error}")]
    Refused {
        /// The table's name.
        table: String,
        /// The primary key, printed.
        key: String,
        /// Why.
        error: Box<Error>,
    },
}

impl ChangeSet {
    /// The change set of what `draft` has changed, made in a fork of `origin`.
    pub(super) fn of<W: Session<Contents>>(
        origin: Revision,
        draft: &Draft<W>,
    ) -> Result<Self, ChangeSetError> {
        if let Some(erased) = draft.log.erasures().next() {
            let table = draft.contents().table(erased.table).schema().name.to_string();
            return Err(ChangeSetError::Erases { table });
        }
        Self::of_changes(origin, draft.revision, &draft.changes())
    }

    /// The change set of `changes`, made by statements of `revision`.
    fn of_changes(
        origin: Revision,
        revision: Revision,
        changes: &[Change],
    ) -> Result<Self, ChangeSetError> {
        let mut by_name: BTreeMap<&str, Vec<&Change>> = BTreeMap::new();
        for change in changes {
            by_name.entry(change.table()).or_default().push(change);
        }
        let (mut tables, mut rows, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (table, changes) in by_name {
            bytes += table.len();
            for change in changes {
                let value = change.encode_after().map_err(|message| ChangeSetError::Row {
                    table: table.to_owned(),
                    key: change.printed_key(),
                    message,
                })?;
                bytes += change.key().len() + value.len();
                check_limits(rows.len() + 1, bytes)?;
                let (key, action) = (Bytes(change.key().to_vec()), Action::of(change, revision));
                rows.push(RowChange(tables.len() as u16, key, action, Bytes(value)));
            }
            tables.push(table.to_owned());
        }
        Ok(Self { origin, tables: Bounded(tables), changes: Bounded(rows) })
    }

    /// The revision of the version that the fork was taken from.
    #[must_use]
    pub fn origin(&self) -> Revision {
        self.origin
    }

    /// The number of rows that are put or deleted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.changes.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The change set as bytes, MessagePack. Equal change sets give equal bytes.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "a change set is three levels deep")]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        messagepack::write(self, &mut bytes).expect("a change set is not deep");
        bytes
    }

    /// Reads what [`encode`](ChangeSet::encode) wrote.
    ///
    /// # Errors
    ///
    /// [`ChangeSetError::Malformed`] with the byte offset when it is something else or above the
    /// limits.
    pub fn decode(bytes: &[u8]) -> Result<Self, ChangeSetError> {
        if bytes.len() > COMMAND_BYTES_MAX {
            return Err(ChangeSetError::TooLarge { bytes: bytes.len(), limit: COMMAND_BYTES_MAX });
        }
        let malformed =
            |ReadError { offset, message }| ChangeSetError::Malformed { offset, message };
        messagepack::read(bytes).map_err(malformed)
    }

    /// Puts and deletes the rows in `txn`, all or none; O(changes x log n). A row that is to be
    /// deleted and is not there is no error.
    ///
    /// # Errors
    ///
    /// [`ChangeSetError`] naming the first row that cannot be put; `txn` is as it was before then.
    pub fn apply(&self, txn: &mut impl Write) -> Result<(), ChangeSetError> {
        let positions = self.positions(txn)?;
        let steps: Vec<_> = self.changes.0.iter().map(|change| change.step(&positions)).collect();
        txn.draft_mut().all_or_none(|draft, before| {
            let make =
                |number: usize, schema: &TableSchema, meta| steps[number].decode(schema, meta);
            carry(draft, &steps, make, |number, refusal| {
                let Step { table, key, .. } = steps[number];
                let schema = before.contents.table(table).schema();
                let (table, key) = (schema.name.to_string(), schema.print_key(key));
                Err(match refusal {
                    Refusal::Decode(message) => ChangeSetError::Row { table, key, message },
                    Refusal::Key(found) => {
                        let found = schema.print_key(&found);
                        ChangeSetError::KeyDiffers { table, key, found }
                    }
                    Refusal::Statement(error) => {
                        let error = Box::new(error);
                        ChangeSetError::Refused { table, key, error }
                    }
                })
            })
        })
    }

    /// The positions that the named tables have in the schema of `txn`.
    fn positions(&self, txn: &impl Write) -> Result<Vec<usize>, ChangeSetError> {
        let schema = &txn.draft().contents().schema;
        let position = |(number, name): (usize, &String)| {
            schema.position_of(name).ok_or_else(|| {
                let first = self.changes.0.iter().find(|change| usize::from(change.0) == number);
                let key = print_bytes(first.map_or(&[], |change| &change.1.0));
                ChangeSetError::UnknownTable { table: name.clone(), key }
            })
        };
        self.tables.0.iter().enumerate().map(position).collect()
    }
}

impl RowChange {
    fn step(&self, positions: &[usize]) -> Step<'_> {
        let Self(table, key, action, value) = self;
        Step {
            table: positions[usize::from(*table)],
            key: &key.0,
            action: *action,
            value: &value.0,
        }
    }
}

impl fmt::Debug for ChangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangeSet")
            .field("origin", &self.origin.0)
            .field("tables", &self.tables.0)
            .field("len", &self.len())
            .finish()
    }
}

fn check_limits(changes: usize, bytes: usize) -> Result<(), ChangeSetError> {
    if changes > CHANGES_MAX {
        return Err(ChangeSetError::TooMany { changes, limit: CHANGES_MAX });
    }
    if bytes > CHANGE_SET_BYTES_MAX {
        return Err(ChangeSetError::TooLarge { bytes, limit: CHANGE_SET_BYTES_MAX });
    }
    Ok(())
}

/// A change set before it was looked at.
#[derive(Deserialize)]
#[serde(rename = "ChangeSet")]
struct Wire {
    origin: Revision,
    tables: Bounded<String, TABLES_MAX>,
    changes: Bounded<RowChange, CHANGES_MAX>,
}

impl TryFrom<Wire> for ChangeSet {
    type Error = String;

    fn try_from(wire: Wire) -> Result<Self, String> {
        let Wire { origin, tables, changes } = wire;
        let names = tables.0.iter().map(String::len).sum::<usize>();
        let rows = changes.0.iter().map(|change| change.1.0.len() + change.3.0.len());
        let bytes = names + rows.sum::<usize>();
        check_limits(changes.0.len(), bytes).map_err(|error| error.to_string())?;
        if !tables.0.is_sorted_by(|one, other| one < other) {
            return Err("tables are not in the order of their names".into());
        }
        if !changes.0.is_sorted_by(|one, other| (one.0, &one.1.0) < (other.0, &other.1.0)) {
            return Err("changes are not in the order of tables and keys".into());
        }
        let last = changes.0.last().map_or(0, |change| usize::from(change.0) + 1);
        if last > tables.0.len() {
            return Err("a change is in no table".into());
        }
        if changes.0.iter().any(|change| change.2 == Action::Delete && !change.3.0.is_empty()) {
            return Err("a row is deleted and put".into());
        }
        Ok(Self { origin, tables, changes })
    }
}
