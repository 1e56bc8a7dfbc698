//! The tables of the node in the user's database: sessions, kept replies, members.
//!
//! They are state like any other: in every snapshot file, in every digest.

use fsmdb::{Applied, Builder, Table};
use serde::{Deserialize, Serialize};

/// One client session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Table)]
#[table(name = "fsmdb_sessions", version = 1)]
pub(crate) struct SessionRow {
    /// The index of the entry that opened it, so it is never used again.
    #[key]
    pub(crate) id: u64,
    /// The index of the entry that used it last.
    #[index]
    pub(crate) used: u64,
    /// Every sequence number up to here is done with: answered, or given up.
    pub(crate) floor: u64,
    /// How many replies are kept, and the bytes of them.
    pub(crate) replies: u64,
    pub(crate) reply_bytes: u64,
}

/// What became of one command of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Table)]
#[table(name = "fsmdb_replies", version = 1)]
pub(crate) struct ReplyRow {
    #[key]
    pub(crate) session: u64,
    #[key]
    pub(crate) sequence: u64,
    /// The entry that applied it.
    pub(crate) at: Applied,
    /// Its encoded reply; gone when it was too long to be kept.
    #[serde(with = "serde_bytes")]
    pub(crate) reply: Option<Vec<u8>>,
}

/// Where a member is reached, and which directory it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Table)]
#[table(name = "fsmdb_members", version = 1)]
pub(crate) struct MemberRow {
    #[key]
    pub(crate) id: u64,
    /// Its address; nothing once it was removed, for ever.
    pub(crate) address: Option<String>,
    /// The random bits of its directory, 32 hexadecimal digits; nothing until they are written
    /// down. Without it a row has the bytes that it had before there was such a field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) directory: Option<String>,
}

impl MemberRow {
    /// The random bits of its directory.
    pub(crate) fn directory(&self) -> Option<u128> {
        u128::from_str_radix(self.directory.as_ref()?, 16).ok()
    }
}

/// Adds the tables of the node to a database.
///
/// ```
/// use fsmdb::Db;
///
/// let db = fsmdb_node::session::with_tables(Db::builder()).build()?;
/// # Ok::<(), fsmdb::SchemaError>(())
/// ```
#[must_use]
pub fn with_tables(builder: Builder) -> Builder {
    builder.table::<SessionRow>().table::<ReplyRow>().table::<MemberRow>()
}
