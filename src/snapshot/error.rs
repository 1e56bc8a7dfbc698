//! Why a snapshot file could not be written or read.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::digest::Digest;
use crate::error::{Error, SchemaError};
use crate::revision::Revision;

/// Why a snapshot file could not be written or read. The database is as it was before.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The source or target failed.
    #[error("at byte {offset}: {source}")]
    Io {
        /// How many bytes had been read or written.
        offset: u64,
        /// The failure.
        source: io::Error,
    },
    /// A file could not be opened, or put in place.
    #[error("cannot {step} {}: {source}", path.display())]
    Disk {
        /// The path of the snapshot file.
        path: PathBuf,
        /// What failed.
        step: &'static str,
        /// The failure.
        source: io::Error,
    },
    /// The first bytes are not those of a snapshot file.
    #[error("not a snapshot file: it does not begin with \"fsmdbSNP\"")]
    NotASnapshot,
    /// The file is of a format that this version does not read.
    #[error("the file is of format {found}, this version reads formats up to {supported}")]
    FormatVersion {
        /// The version in the file.
        found: u32,
        /// The version that can be read.
        supported: u32,
    },
    /// The file ends before its end frame.
    #[error("the file is cut off at byte {offset}")]
    Truncated {
        /// Where it ends inside a payload, or where the frame begins whose head is cut off.
        offset: u64,
    },
    /// The file needs what this build of the library does not have.
    #[error("the file has {what}, which this build does not support")]
    Unsupported {
        /// What it needs.
        what: String,
    },
    /// The file is encrypted, and no key was given.
    #[error("the file is encrypted: give its key")]
    NoKey,
    /// A key was given, and the file is not encrypted: anybody could have written it.
    #[error("the file is not encrypted, and a key was given: read it without")]
    NotEncrypted,
    /// A chunk does not open: the key is another one, or somebody has changed the file.
    #[error("the chunk at byte {offset} does not open: another key, or it was changed on purpose")]
    Sealed {
        /// Where the chunk begins.
        offset: u64,
    },
    /// The file as a whole differs from the hash in its end frame.
    #[error("the file before byte {offset} differs from the hash that stands there")]
    Hash {
        /// Where the end frame begins.
        offset: u64,
    },
    /// The rows of a table differ from its digest.
    #[error("the rows of table {table} have digest {found}, the file says {expected}")]
    Digest {
        /// The table's name.
        table: String,
        /// The digest of its rows.
        found: Digest,
        /// The digest that the file says.
        expected: Digest,
    },
    /// The file has more of something than it may have.
    #[error("the file has {found} {what} or more, the limit is {limit}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many were found before it was given up.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// A chain of no files was given.
    #[error("a chain begins with a whole snapshot file, and there is none")]
    Empty,
    /// The file is an incremental one, and a whole one was asked for.
    #[error("the file is incremental: it needs the one that it is based on")]
    Incremental,
    /// The file is a whole one, and an incremental one was asked for.
    #[error("the file is a whole snapshot, not an incremental one")]
    NotIncremental,
    /// The incremental file is based on another state than the one that it is to be applied to.
    #[error("the file is based on {expected}, this is {found}")]
    WrongBase {
        /// The revision and digest that the file says.
        expected: String,
        /// Those of the state.
        found: String,
    },
    /// No incremental file can be written since that version.
    #[error("no incremental file since revision {revision}: {message}")]
    NoBase {
        /// The revision of the version.
        revision: Revision,
        /// Why not.
        message: String,
    },
    /// An incremental file and the state that it is based on have not the same tables.
    #[error("table {table} is in the incremental file or in the state that it names, not in both")]
    OtherTables {
        /// The table's name.
        table: String,
    },
    /// An incremental file deletes a row and puts it as well.
    #[error("table {table}: the file deletes row {key} and puts it as well")]
    DeletedAndPut {
        /// The table's name.
        table: String,
        /// The primary key: printed, or by who does not know the type of its bytes in hexadecimal
        /// digits.
        key: String,
    },
    /// An incremental file has a table of an older version than the schema's: the rows would have
    /// to be migrated, and what they are to take the place of was written before the migration.
    #[error(
        "table {table} is of version {found} in an incremental file, the schema has version \
         {expected}: make one file of the chain first, with `fsmdb::offline::compact` or \
         `fsmdb-snapshot compact`"
    )]
    OlderLink {
        /// The table's name.
        table: String,
        /// The version in the file.
        found: u32,
        /// The version in the schema.
        expected: u32,
    },
    /// An incarnation was given for an incremental file that is applied to a database, which stays
    /// on its line.
    #[error("an incremental file that is applied leads to no other incarnation: give none")]
    KeepsIncarnation,
    /// An incremental file deletes a row that is not there.
    #[error("table {table}: the file deletes row {key}, which is not there")]
    NoSuchRow {
        /// The table's name.
        table: String,
        /// The primary key, printed.
        key: String,
    },
    /// The digests of the rows cannot be had.
    #[error("the state has no digest: {0}")]
    NoDigest(#[source] Error),
    /// A frame differs from its checksum.
    #[error("the frame at byte {offset} is damaged or out of place: its checksum is wrong")]
    Checksum {
        /// Where the frame begins.
        offset: u64,
    },
    /// A frame claims to be longer than any frame may be.
    #[error("the frame at byte {offset} claims {bytes} bytes, the limit is {limit}")]
    FrameTooLarge {
        /// Where the frame begins.
        offset: u64,
        /// The length that it claims.
        bytes: u64,
        /// The limit for its kind.
        limit: u64,
    },
    /// A frame has the wrong kind for its place, or its content is not what its kind needs.
    #[error("the frame at byte {offset} is malformed: {message}")]
    Malformed {
        /// Where the frame begins.
        offset: u64,
        /// What is wrong with it.
        message: String,
    },
    /// The file goes on after its end frame.
    #[error("the file goes on after its end frame, at byte {offset}")]
    Trailing {
        /// Where the end frame ends.
        offset: u64,
    },
    /// The file has a table that the schema does not.
    #[error("the file has table {table}, which is not in the schema")]
    UnknownTable {
        /// The table's name.
        table: String,
    },
    /// The schema has a table that the file does not.
    #[error("table {table} of the schema is not in the file")]
    MissingTable {
        /// The table's name.
        table: String,
    },
    /// The rows of a table are of another version than the schema's.
    #[error("table {table} is of version {found} in the file, the schema has version {expected}")]
    TableVersion {
        /// The table's name.
        table: String,
        /// The version in the file.
        found: u32,
        /// The version in the schema.
        expected: u32,
    },
    /// The number of rows of a table is not what the header says.
    #[error("table {table} has {found} rows, the header says {expected}")]
    RowCount {
        /// The table's name.
        table: String,
        /// The rows that the file has.
        found: u64,
        /// The rows that its header says.
        expected: u64,
    },
    /// The bytes of a row are not a row of its table.
    #[error("table {table}, row {row}, at byte {offset}: {message}")]
    Row {
        /// The table's name.
        table: String,
        /// Which row of the table, from 0.
        row: u64,
        /// Where in the file.
        offset: u64,
        /// What is wrong.
        message: String,
    },
    /// A row's key is not above the key of the row before it.
    #[error("table {table}, row {row}, at byte {offset}: key {key} is repeated or out of order")]
    RowOrder {
        /// The table's name.
        table: String,
        /// Which row of the table, from 0.
        row: u64,
        /// Where the row begins in the file.
        offset: u64,
        /// The row's key, printed.
        key: String,
    },
    /// The rows break a rule of the table: a unique value twice, a key that is too long.
    #[error("the rows of the file break a rule: {0}")]
    Rule(#[source] Error),
    /// A row could not be encoded.
    #[error("table {table}: row {key} cannot be encoded: {message}")]
    RowEncode {
        /// The table's name.
        table: String,
        /// The primary key, printed.
        key: String,
        /// What its `Serialize` said.
        message: String,
    },
    /// A row is longer than [`limits::ROW_BYTES_MAX`](crate::limits::ROW_BYTES_MAX).
    #[error("table {table}: row {key} needs {bytes} bytes, the limit is {limit}")]
    RowTooLarge {
        /// The table's name.
        table: String,
        /// The primary key, printed.
        key: String,
        /// Its encoded length.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The progress callback asked to stop.
    #[error("cancelled at byte {offset}")]
    Cancelled {
        /// How many bytes had been read or written.
        offset: u64,
    },
    /// The schema given to the builder is not one.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// A state machine owns the database; only it installs snapshots.
    #[error("a state machine owns this database: install the snapshot through it")]
    NotWritable,
}

impl SnapshotError {
    /// Whether the file is damaged or hostile, as against a failing device, another schema or a
    /// cancelled run: another copy of the file may be good.
    #[must_use]
    pub fn is_corrupt(&self) -> bool {
        match self {
            Self::NotASnapshot
            | Self::Truncated { .. }
            | Self::Checksum { .. }
            | Self::FrameTooLarge { .. }
            | Self::Hash { .. }
            | Self::Digest { .. }
            | Self::Malformed { .. }
            | Self::Trailing { .. }
            | Self::RowCount { .. }
            | Self::Row { .. }
            | Self::RowOrder { .. }
            | Self::NoSuchRow { .. }
            | Self::OtherTables { .. }
            | Self::DeletedAndPut { .. }
            | Self::Rule(_) => true,
            Self::Io { .. }
            | Self::Disk { .. }
            | Self::FormatVersion { .. }
            | Self::Unsupported { .. }
            | Self::NoKey
            | Self::NotEncrypted
            | Self::Sealed { .. }
            | Self::TooMany { .. }
            | Self::Empty
            | Self::Incremental
            | Self::NotIncremental
            | Self::WrongBase { .. }
            | Self::NoBase { .. }
            | Self::OlderLink { .. }
            | Self::KeepsIncarnation
            | Self::NoDigest(_)
            | Self::UnknownTable { .. }
            | Self::MissingTable { .. }
            | Self::TableVersion { .. }
            | Self::RowEncode { .. }
            | Self::RowTooLarge { .. }
            | Self::Cancelled { .. }
            | Self::Schema(_)
            | Self::NotWritable => false,
        }
    }
}
