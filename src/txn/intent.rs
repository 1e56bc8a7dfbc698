//! The optimistic transaction as a value: what was read and what is to be written, for a log.
//!
//! An intent says what it has read in a form that another replica can check against its own rows,
//! which have the same revisions: of a row, when it was written; of a stretch, how many rows it had
//! and that none was written since. (A row there now that was not written since was there then; and
//! if there are as many, no other is missing.) Nothing depends on the shape of trees, so all
//! replicas decide alike.

use std::fmt;
use std::ops::Bound;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::bytes::{Bounded, Bytes};
use super::change_set::{ChangeSet, ChangeSetError};
use super::draft::Write;
use super::optimistic::{OptimisticTxn, ReadConflict, conflict};
use crate::key::KeyBuf;
use crate::limits::{COMMAND_BYTES_MAX, INTENT_READS_MAX, TABLES_MAX};
use crate::messagepack::{self, ReadError};
use crate::revision::Revision;
use crate::root::Contents;
use crate::table::{Aspect, Extent, Question, Span, TableState, TreeId, longest_prefix};
use crate::tree::{RowRef, TreeRef};

/// An optimistic transaction as a value that can travel: from
/// [`OptimisticTxn::into_intent`]; a command of a state machine carries it, and
/// [`apply`](Intent::apply) checks and does it, alike on every replica.
///
/// ```
/// # use fsmdb::{Applied, Db, Fsm, Intent, IntentError, Machine, Table, WriteTxn};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
/// # #[table(name = "nodes")]
/// # struct Node { #[key] id: u64, load: u32 }
/// struct Nodes;
///
/// impl Fsm for Nodes {
///     type Command = Intent;
///     type Reply = Result<(), IntentError>;
///     fn apply(&self, txn: &mut WriteTxn<'_>, _: Applied, intent: Intent) -> Self::Reply {
///         intent.apply(txn)
///     }
/// }
///
/// let machine = Machine::new(Db::builder().table::<Node>().build()?, Nodes)?;
/// let mut txn = machine.db().optimistic();
/// if txn.table::<Node>().is_empty() {
///     txn.insert(Node { id: 1, load: 0 })?;
/// }
/// let command = Machine::<Nodes>::encode(&txn.into_intent()?)?;
/// machine.apply(Applied { index: 1, term: 1 }, &command)?.unwrap()?;
///
/// // The same again has read a table that was empty.
/// let reply = machine.apply(Applied { index: 2, term: 1 }, &command)?.unwrap();
/// assert!(reply.unwrap_err().is_conflict());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The trees that were read: the names of table and index.
    trees: Bounded<(String, Option<String>), TREES_MAX>,
    reads: Bounded<Asked, INTENT_READS_MAX>,
    writes: ChangeSet,
}

/// Trees that an intent can name: every table with some of its indexes.
const TREES_MAX: usize = 4 * TABLES_MAX;

/// One question, and the answer: the number of its tree, where it looked, what it saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Asked(u16, Place, Seen);

/// An [`Extent`] that travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Place {
    Key(Bytes),
    Value(Bytes),
    /// The ends; whether the lower one is behind its key, and whether the upper one is.
    Span(Bytes, bool, Option<(Bytes, bool)>),
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Seen {
    /// The row was written at this revision; or there was none.
    Row(Option<Revision>),
    /// So many rows, none of which was written after the origin.
    Rows(u64),
    Count(u64),
    Any(bool),
    /// The row with the longest key that the upper end starts with: its primary key and revision.
    Longest(Option<(Bytes, Revision)>),
    /// The row with so many before it.
    Nth(u64, Option<(Bytes, Revision)>),
    /// The table was changed last at this revision.
    Modified(Revision),
}

/// Why an intent was not made, or not done. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Error)]
#[non_exhaustive]
pub enum IntentError {
    /// What it has read was changed. Made again, it may succeed.
    #[error("table {table}: {what} changed since it was read")]
    Conflict {
        /// The table's name.
        table: String,
        /// The index's name, if an index was read.
        index: Option<String>,
        /// What was read, printed for a person.
        what: String,
    },
    /// What it writes was refused.
    #[error("{message}")]
    Refused {
        /// What the change set says.
        message: String,
        /// Whether another row stands in the way, so that made again it will meet that.
        is_conflict: bool,
    },
    /// A table or index that it has read is not in the schema.
    #[error("table {table}{}: not in the schema", of_index(index))]
    Unknown {
        /// The table's name.
        table: String,
        /// The index's name.
        index: Option<String>,
    },
    /// It has read more, or is larger, than the limit.
    #[error("{what}: {found}, the limit is {limit}")]
    TooLarge {
        /// What there is too much of.
        what: String,
        /// How much there is.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// The bytes are no intent.
    #[error("no intent at byte {offset}: {message}")]
    Malformed {
        /// Where the decoder stopped.
        offset: u64,
        /// What the decoder says.
        message: String,
    },
}

fn of_index(index: &Option<String>) -> String {
    index.as_ref().map(|index| format!(", index {index}")).unwrap_or_default()
}

impl IntentError {
    /// Whether to run the transaction again may help.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. } | Self::Refused { is_conflict: true, .. })
    }
}

impl From<ReadConflict> for IntentError {
    fn from(conflict: ReadConflict) -> Self {
        let ReadConflict { table, index, what } = conflict;
        Self::Conflict { table, index, what }
    }
}

impl From<ChangeSetError> for IntentError {
    fn from(error: ChangeSetError) -> Self {
        let is_conflict =
            matches!(&error, ChangeSetError::Refused { error, .. } if error.is_conflict());
        Self::Refused { message: error.to_string(), is_conflict }
    }
}

impl OptimisticTxn {
    /// What was read and what is to be written, as a value; O(what was asked and changed).
    ///
    /// # Errors
    ///
    /// [`IntentError::TooLarge`] beyond
    /// [`limits::INTENT_READS_MAX`](crate::limits::INTENT_READS_MAX) questions or the limits of a
    /// [`ChangeSet`]; [`IntentError::Refused`] when a row cannot be encoded, or when rows were
    /// erased, which no change set carries.
    pub fn into_intent(self) -> Result<Intent, IntentError> {
        let (questions, origin) = (self.questions(), self.origin.contents());
        let found = questions.len();
        if found > INTENT_READS_MAX {
            let (what, limit) = ("questions of an intent".into(), INTENT_READS_MAX);
            return Err(IntentError::TooLarge { what, found, limit });
        }
        let mut trees: Vec<TreeId> = questions.iter().map(|question| question.tree).collect();
        trees.sort_unstable();
        trees.dedup();
        let number = |tree: &TreeId| trees.binary_search(tree).unwrap_or(0) as u16;
        let reads = questions.iter().map(|question| {
            let seen = Seen::by(question, origin);
            Asked(number(&question.tree), Place::of(&question.extent), seen)
        });
        let reads = reads.collect();
        let name = |tree: &TreeId| {
            let schema = origin.table(tree.table).schema();
            let index = tree.index.map(|index| schema.indexes[index].name.to_string());
            (schema.name.to_string(), index)
        };
        let trees = trees.iter().map(name).collect();
        let writes = ChangeSet::of(origin.revision, &self.draft)?;
        Ok(Intent { trees: Bounded(trees), reads: Bounded(reads), writes })
    }
}

impl Intent {
    /// The revision of the version that was read.
    #[must_use]
    pub fn origin(&self) -> Revision {
        self.writes.origin()
    }

    /// What it writes.
    #[must_use]
    pub fn writes(&self) -> &ChangeSet {
        &self.writes
    }

    /// The number of questions that it has asked.
    #[must_use]
    pub fn reads(&self) -> usize {
        self.reads.0.len()
    }

    /// Puts its writes into `txn` if what it has read still holds there; O(log n) for each question
    /// and each write, and O(k) for a range of k rows that was read.
    ///
    /// What it does depends on the rows and their revisions alone: every replica that has applied
    /// the same entries does the same.
    ///
    /// # Errors
    ///
    /// [`IntentError::Conflict`], [`IntentError::Refused`], [`IntentError::Unknown`]; `txn` is as
    /// it was before then.
    pub fn apply(&self, txn: &mut impl Write) -> Result<(), IntentError> {
        let contents = txn.draft().contents();
        let trees = self.positions(contents)?;
        for Asked(tree, place, seen) in &self.reads.0 {
            let unknown = || IntentError::Unknown { table: String::new(), index: None };
            let tree = *trees.get(usize::from(*tree)).ok_or_else(unknown)?;
            let question = Question { tree, extent: place.extent(), aspect: seen.aspect() };
            if !seen.holds(&question, contents, self.origin()) {
                return Err(conflict(&question, contents).into());
            }
        }
        Ok(self.writes.apply(txn)?)
    }

    /// The intent as bytes, MessagePack. Equal intents give equal bytes.
    ///
    /// # Panics
    ///
    /// Never: an intent is a few levels deep.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        messagepack::write(self, &mut bytes).expect("an intent is not deep");
        bytes
    }

    /// Reads what [`encode`](Intent::encode) wrote.
    ///
    /// # Errors
    ///
    /// [`IntentError::Malformed`] with the byte offset when it is something else or above the
    /// limits.
    pub fn decode(bytes: &[u8]) -> Result<Self, IntentError> {
        if bytes.len() > COMMAND_BYTES_MAX {
            let (what, found) = ("bytes of an intent".into(), bytes.len());
            return Err(IntentError::TooLarge { what, found, limit: COMMAND_BYTES_MAX });
        }
        let malformed = |ReadError { offset, message }| IntentError::Malformed { offset, message };
        messagepack::read(bytes).map_err(malformed)
    }

    fn positions(&self, contents: &Contents) -> Result<Vec<TreeId>, IntentError> {
        let schema = &contents.schema;
        let position = |(table, index): &(String, Option<String>)| {
            let found = schema.position_of(table).and_then(|position| {
                let Some(name) = index else {
                    return Some(TreeId { table: position, index: None });
                };
                let mut indexes = schema.tables()[position].indexes.iter();
                let index = indexes.position(|index| *index.name == **name)?;
                Some(TreeId { table: position, index: Some(index) })
            });
            let (table, index) = (table.clone(), index.clone());
            found.ok_or(IntentError::Unknown { table, index })
        };
        self.trees.0.iter().map(position).collect()
    }
}

impl Place {
    fn of(extent: &Extent) -> Self {
        match extent {
            Extent::Key(key) => Self::Key((&**key).into()),
            Extent::Value(value) => Self::Value((&**value).into()),
            Extent::Span(Span { low, high }) => {
                let high = high.as_ref().map(|high| ((&*high.key).into(), high.is_after));
                Self::Span((&*low.key).into(), low.is_after, high)
            }
        }
    }

    fn extent(&self) -> Extent {
        match self {
            Self::Key(key) => Extent::Key((**key).into()),
            Self::Value(value) => Extent::Value((**value).into()),
            Self::Span(low, is_after, high) => {
                let low = bound(low, !is_after);
                let high = high.as_ref();
                let high = high.map_or(Bound::Unbounded, |(key, is_after)| bound(key, *is_after));
                Extent::Span(Span::new(low, high))
            }
        }
    }
}

fn bound(key: &[u8], is_included: bool) -> Bound<&[u8]> {
    if is_included { Bound::Included(key) } else { Bound::Excluded(key) }
}

/// The primary key of a row, and the revision that wrote it.
fn named(table: &TableState, row: Option<RowRef<'_>>) -> Option<(Bytes, Revision)> {
    let row = row?;
    Some((table.schema().key_of(row).as_slice().into(), row.meta().modified))
}

impl Seen {
    /// What `contents` say to a question.
    fn by(question: &Question, contents: &Contents) -> Self {
        let table = contents.table(question.tree.table);
        let tree = table.tree(question.tree.index);
        match (question.aspect, &question.extent) {
            (Aspect::Rows, Extent::Key(key)) => {
                Self::Row(tree.get(key).map(|row| row.meta().modified))
            }
            (Aspect::Rows, extent) => Self::Rows(count(tree, extent)),
            (Aspect::Count, extent) => Self::Count(count(tree, extent)),
            (Aspect::Any, extent) => Self::Any(count(tree, extent) > 0),
            (Aspect::Longest, extent) => Self::Longest(named(table, longest(tree, extent))),
            (Aspect::Nth(index), extent) => {
                Self::Nth(index as u64, named(table, nth(tree, extent, index)))
            }
            (Aspect::Modified, extent) => Self::Modified(
                extent.within(|low, high| table.modified_within(question.tree.index, (low, high))),
            ),
        }
    }

    fn aspect(&self) -> Aspect {
        match self {
            Self::Row(_) | Self::Rows(_) => Aspect::Rows,
            Self::Count(_) => Aspect::Count,
            Self::Any(_) => Aspect::Any,
            Self::Longest(_) => Aspect::Longest,
            Self::Nth(index, _) => Aspect::Nth(usize::try_from(*index).unwrap_or(usize::MAX)),
            Self::Modified(_) => Aspect::Modified,
        }
    }

    /// Whether `contents` say the same, where nothing was written after `origin` that was read.
    fn holds(&self, question: &Question, contents: &Contents, origin: Revision) -> bool {
        if let Self::Rows(seen) = self {
            let tree = contents.table(question.tree.table).tree(question.tree.index);
            let is_old = |row: RowRef<'_>| row.meta().modified <= origin;
            let newest = question.extent.within(|low, high| tree.newest(low, high));
            return count(tree, &question.extent) == *seen && newest.is_none_or(is_old);
        }
        Self::by(question, contents) == *self
    }
}

fn count(tree: TreeRef<'_>, extent: &Extent) -> u64 {
    extent.within(|low, high| tree.count(low, high)) as u64
}

fn nth<'v>(tree: TreeRef<'v>, extent: &Extent, index: usize) -> Option<RowRef<'v>> {
    extent.within(|low, high| {
        let is_there = index < tree.count(low, high);
        is_there.then(|| tree.nth(tree.rank(low, true) + index)).flatten()
    })
}

fn longest<'v>(tree: TreeRef<'v>, extent: &Extent) -> Option<RowRef<'v>> {
    extent.within(|_, high| match high {
        Bound::Included(key) | Bound::Excluded(key) => {
            longest_prefix(tree, KeyBuf::from(key)).map(|(row, _)| row)
        }
        Bound::Unbounded => None,
    })
}

impl fmt::Debug for Intent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intent")
            .field("reads", &self.reads())
            .field("writes", &self.writes)
            .finish()
    }
}
