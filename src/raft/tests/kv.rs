//! The state machine of the cluster tests. The only file here that knows the tables.

use serde::{Deserialize, Serialize};

use crate::machine::{Fsm, Machine};
use crate::revision::Applied;
use crate::schema::{IndexDef, Table};
use crate::txn::{Snapshot, WriteTxn};
use crate::{AsKey, Db, KeyBuf, Watch};

/// Strings by key.
#[derive(Debug)]
pub(super) struct Kv;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Pair {
    key: String,
    value: String,
}

// By hand, so that these tests do not need the feature `derive`.
impl Table for Pair {
    type Key = String;
    const NAME: &'static str = "pairs";
    const VERSION: u32 = 1;

    fn encode_primary_key(&self, out: &mut KeyBuf) {
        AsKey::<String>::encode_key(&self.key, out);
    }

    fn indexes() -> Vec<IndexDef<Self>> {
        Vec::new()
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Command {
    Set { key: String, value: String },
    Refuse,
}

/// Where the command was applied; `Err` when it was refused.
pub(super) type Reply = Result<u64, String>;

impl Fsm for Kv {
    type Command = Command;
    type Reply = Reply;

    fn apply(&self, txn: &mut WriteTxn<'_>, at: Applied, command: Command) -> Reply {
        match command {
            Command::Set { key, value } => {
                txn.upsert(Pair { key, value }).map_err(|error| error.to_string())?;
                Ok(at.index)
            }
            Command::Refuse => Err("refused".to_owned()),
        }
    }
}

/// A key or value of the tests: a word or a number.
pub(super) struct Text(String);

impl From<&str> for Text {
    fn from(word: &str) -> Self {
        Self(word.to_owned())
    }
}

impl From<u64> for Text {
    fn from(number: u64) -> Self {
        Self(number.to_string())
    }
}

pub(super) fn machine(_id: u64) -> Machine<Kv> {
    let db = Db::builder().table::<Pair>().build().expect("the schema is sound");
    Machine::new(db, Kv).expect("the database is new")
}

pub(super) fn set(key: impl Into<Text>, value: impl Into<Text>) -> Command {
    Command::Set { key: key.into().0, value: value.into().0 }
}

pub(super) fn value(snapshot: &Snapshot, key: impl Into<Text>) -> Option<String> {
    snapshot.table::<Pair>().get(&key.into().0).map(|pair| pair.value.clone())
}

/// Watches whether there is another number of rows.
pub(super) fn watch(snapshot: &Snapshot) -> Watch {
    snapshot.watch(|read| read.table::<Pair>().len()).1
}

/// Watches what no test writes.
pub(super) fn watch_nothing(snapshot: &Snapshot) -> Watch {
    snapshot.watch(|read| read.table::<Pair>().contains("nothing")).1
}

pub(super) fn bytes(snapshot: &Snapshot) -> Vec<u8> {
    let mut bytes = Vec::new();
    snapshot.save(&mut bytes).expect("memory takes everything");
    bytes
}
