//! What a type must say to be a table: its name, primary key and indexes.
//!
//! `#[derive(Table)]` writes these implementations; they can also be written by hand.

use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::migration::MigrationError;
use crate::key::{AsKey, Key, KeyBuf, KeyReader, print_from};
use crate::value::Value;

/// A type whose values are the rows of one table.
///
/// Usually derived:
///
/// ```
/// use fsmdb::Table;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Debug, Serialize, Deserialize, Table)]
/// #[table(name = "nodes")]
/// struct Node {
///     #[key]
///     id: u64,
///     #[index(unique)]
///     name: String,
///     #[index]
///     datacenter: Option<String>,
/// }
///
/// assert_eq!(Node::NAME, "nodes");
/// assert_eq!(Node::BY_NAME.name(), "name");
/// ```
///
/// # Laws
///
/// [`encode_primary_key`](Table::encode_primary_key) and the extractors of
/// [`indexes`](Table::indexes) are pure functions of the row: no clock, no randomness, no hash
/// order, no shared state. The database calls them again at any time and on every replica.
///
/// Rows are stored in snapshots by the named MessagePack encoding of their `serde`
/// implementation. A field whose encoding depends on hash order (`HashMap`, `HashSet`) makes
/// equal states give unequal bytes; use the ordered containers. What a row writes it must be able
/// to read: a field with `skip_serializing_if` needs `default`. A type that contains itself without
/// a container between, such as `struct N(Option<Box<N>>)`, overflows the decoder's stack
/// (msgpack-rust#381) and has no place in a row or command.
/// [`testing::check`](crate::testing::check) restores what it saves, and so finds the first two.
/// Where digests are kept ([`Builder::keep_digests`](crate::Builder::keep_digests)), a statement
/// that replaces or deletes a row encodes it once more, so the encoding must be a pure function of
/// the row too; a statement that finds that it is not panics before it changes anything.
pub trait Table: Serialize + DeserializeOwned + Send + Sync + Sized + 'static {
    /// The type of the primary key: the key field, or a tuple of the key fields in their order.
    type Key: Key;

    /// The name of the table in errors and snapshots. Never change it once snapshots exist.
    const NAME: &'static str;

    /// The version of the row's layout. Rows of a lower one are given to
    /// [`migrate_row`](Table::migrate_row); a snapshot of a higher one is refused.
    const VERSION: u32;

    /// The names of the fields that make up the primary key, in its order, for people and tools
    /// that read snapshot files without this type. The default says nothing.
    const KEY_FIELDS: &'static [&'static str] = &[];

    /// How many removals the table remembers, so that the revision of a key, an index value or a
    /// prefix ([`TableReader::modified_under`](crate::TableReader::modified_under)) is exact.
    ///
    /// Each deleted row, and each value that a row leaves in an index, is one. Beyond this number
    /// the oldest are forgotten, and no such revision is then below that of what was forgotten.
    /// They are part of the state, and of its snapshots. Without tombstones, the default, every
    /// such revision is that of the whole table, and nothing is paid for it. At most
    /// [`TOMBSTONES_MAX`](crate::limits::TOMBSTONES_MAX). What is
    /// [erased](crate::TableMut::erase_prefix) is forgotten at once.
    ///
    /// A table that begins to remember, or gets another index, counts everything in the snapshot
    /// that it is loaded from as forgotten. So replicas whose schema changes in this way must begin
    /// from one snapshot; and an index that gets another meaning needs another name, or the table
    /// another [`VERSION`](Table::VERSION).
    const TOMBSTONES: usize = 0;

    /// Appends the encoding of this row's primary key to `out`.
    fn encode_primary_key(&self, out: &mut KeyBuf);

    /// The indexes of the table, each at the position that its handle carries.
    fn indexes() -> Vec<IndexDef<Self>>;

    /// Makes a row of version `from + 1` of a row of version `from`.
    ///
    /// Called for each row of an older version, with `from` from that version up to the one before
    /// [`VERSION`](Table::VERSION); what is left then is read as a row. So each step is written
    /// once, when its version is new, and never again. Derived by `migrate = path` beside
    /// `version = ...`, where `path` is a function like this one:
    ///
    /// ```
    /// use fsmdb::{MigrationError, Table, Value};
    /// use serde::{Deserialize, Serialize};
    ///
    /// /// Version 2 split `address` into `host` and `port`; version 3 has a `weight`.
    /// #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    /// #[table(name = "nodes", version = 3, migrate = Node::upgrade)]
    /// struct Node {
    ///     #[key]
    ///     id: u64,
    ///     host: String,
    ///     port: u16,
    ///     weight: u32,
    /// }
    ///
    /// impl Node {
    ///     fn upgrade(from: u32, row: &mut Value) -> Result<(), MigrationError> {
    ///         match from {
    ///             1 => {
    ///                 let address = row.remove("address").ok_or("no address")?;
    ///                 let (host, port) = address
    ///                     .as_text()
    ///                     .and_then(|text| text.rsplit_once(':'))
    ///                     .ok_or("an address without a port")?;
    ///                 row.set("port", port.parse::<u16>().map_err(|error| error.to_string())?)?;
    ///                 row.set("host", host)?;
    ///             }
    ///             2 => drop(row.set("weight", 100)?),
    ///             _ => return Err(MigrationError::Missing { from }),
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let address = ("address".into(), "web:80".into());
    /// let mut row = Value::Map(vec![("id".into(), 7.into()), address]);
    /// Node::migrate_row(1, &mut row)?;
    /// Node::migrate_row(2, &mut row)?;
    /// assert_eq!(row.get("port"), Some(&Value::Int(80)));
    /// assert_eq!(row.get("weight"), Some(&Value::Int(100)));
    /// # Ok::<(), MigrationError>(())
    /// ```
    ///
    /// It is a pure function of its arguments, as every replica calls it.
    ///
    /// # Errors
    ///
    /// [`MigrationError::Missing`] when there is no such step, which is what a table says that has
    /// no migration; any other error when the row is not one of version `from`.
    fn migrate_row(from: u32, row: &mut Value) -> Result<(), MigrationError> {
        let _ = row;
        Err(MigrationError::Missing { from })
    }
}

/// How many rows one value of an index can have: [`Unique`] or [`Many`].
pub trait Cardinality: sealed::Sealed + 'static {
    /// Whether two rows may share a value.
    const UNIQUE: bool;
}

/// Marks an index in which each value belongs to at most one row.
#[derive(Clone, Copy, Debug)]
pub enum Unique {}

/// Marks an index in which any number of rows may share a value.
#[derive(Clone, Copy, Debug)]
pub enum Many {}

impl Cardinality for Unique {
    const UNIQUE: bool = true;
}

impl Cardinality for Many {
    const UNIQUE: bool = false;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Unique {}
    impl Sealed for super::Many {}
}

/// The typed handle of an index: `Job::BY_NAME`.
///
/// It carries the table `T`, the type `K` of the indexed value and the cardinality `C` in its
/// type, so that a lookup with the wrong table, width or kind of key does not compile.
pub struct Index<T, K, C> {
    name: &'static str,
    position: usize,
    marker: PhantomData<fn() -> (T, K, C)>,
}

impl<T, K, C> Index<T, K, C> {
    /// The handle of the index called `name` at `position` of [`Table::indexes`].
    ///
    /// `build()` checks that handle and definition agree.
    #[must_use]
    pub const fn new(name: &'static str, position: usize) -> Self {
        Self { name, position, marker: PhantomData }
    }

    /// The name of the index in errors and snapshots.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The position of the index in [`Table::indexes`].
    #[must_use]
    pub const fn position(&self) -> usize {
        self.position
    }
}

impl<T, K, C> Clone for Index<T, K, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, K, C> Copy for Index<T, K, C> {}

impl<T, K, C> fmt::Debug for Index<T, K, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("name", &self.name).field("position", &self.position).finish()
    }
}

/// The definition of one index: its handle and the function that extracts its values from a row.
pub struct IndexDef<T> {
    pub(crate) name: &'static str,
    pub(crate) position: usize,
    pub(crate) unique: bool,
    pub(crate) extract: fn(&T, &mut IndexKeys),
    pub(crate) print: fn(&mut KeyReader<'_>) -> String,
}

impl<T> IndexDef<T> {
    /// Defines the index of `handle`: `extract` pushes each value under which `row` is found.
    ///
    /// Pushing nothing leaves the row out of the index (an absent optional value, a filter that
    /// says no); pushing a value twice is the same as pushing it once.
    #[must_use]
    pub fn new<K: Key, C: Cardinality>(
        handle: Index<T, K, C>,
        extract: fn(&T, &mut IndexKeys),
    ) -> Self {
        Self {
            name: handle.name,
            position: handle.position,
            unique: C::UNIQUE,
            extract,
            print: print_from::<K>,
        }
    }
}

impl<T> fmt::Debug for IndexDef<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexDef")
            .field("name", &self.name)
            .field("unique", &self.unique)
            .finish_non_exhaustive()
    }
}

/// Receives the values under which one row is found in one index.
#[derive(Debug, Default)]
pub struct IndexKeys {
    bytes: Vec<u8>,
    /// Where each value stands in `bytes`.
    values: Vec<std::ops::Range<usize>>,
    /// Receives one value, so that an encoding cannot touch those before it.
    value: KeyBuf,
}

impl IndexKeys {
    /// Adds one value.
    pub fn push<K: Key, Q: AsKey<K> + ?Sized>(&mut self, value: &Q) {
        self.value.clear();
        value.encode_key(&mut self.value);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&self.value);
        self.values.push(start..self.bytes.len());
    }

    /// Forgets all values, keeping the memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.values.clear();
    }

    /// The values in order, each once.
    pub(crate) fn sorted(&mut self) -> impl Iterator<Item = &[u8]> {
        let Self { bytes, values, .. } = self;
        if values.len() > 1 {
            values.sort_unstable_by(|one, other| bytes[one.clone()].cmp(&bytes[other.clone()]));
            values.dedup_by(|one, other| bytes[one.clone()] == bytes[other.clone()]);
        }
        values.iter().map(|value| &bytes[value.clone()])
    }
}
