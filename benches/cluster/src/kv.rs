//! The state machine of the bench: keys with values, as etcd has them.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use fsmdb::limits::LOG_TAIL_ENTRIES;
use fsmdb::{Applied, Db, Fsm, Machine, Snapshot, Table, WriteTxn};
use fsmdb_node::node::NodeStatus;
use fsmdb_node::storage::Identity;
use fsmdb_node::transport::Security;
use fsmdb_node::{Node, Sessions, Setup, with_tables};
use serde::{Deserialize, Serialize};
use slog::{Discard, Logger, o};

use crate::load;

/// One key.
#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "kv")]
pub(crate) struct Pair {
    #[key]
    pub(crate) key: String,
    #[serde(with = "serde_bytes")]
    pub(crate) value: Vec<u8>,
}

/// A write.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    /// Replaces one value.
    Put(Pair),
    /// Makes so many keys from this one on, so that a large database is there soon.
    Fill { first: u64, count: u64 },
}

/// The state machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Store;

impl Fsm for Store {
    type Command = Command;
    type Reply = Result<(), String>;

    fn apply(&self, txn: &mut WriteTxn<'_>, _: Applied, command: Command) -> Self::Reply {
        let failed = |error: fsmdb::Error| error.to_string();
        match command {
            Command::Put(pair) => txn.upsert(pair).map(drop).map_err(failed),
            Command::Fill { first, count } => (first..first + count).try_for_each(|number| {
                let pair = Pair { key: load::key(number), value: load::value(number, 0) };
                txn.upsert(pair).map(drop).map_err(failed)
            }),
        }
    }
}

/// The cluster of all runs.
const CLUSTER: u128 = 0x6265_6e63_6800;
/// Rows of one [`Command::Fill`].
const FILL: u64 = 10_000;

/// Whose directory it is.
pub(crate) fn identity(node: u64) -> Identity {
    Identity { cluster: CLUSTER, node }
}

pub(crate) fn logger() -> Logger {
    Logger::root(Discard, o!())
}

/// An empty state machine with its tables.
pub(crate) fn machine() -> Result<Machine<Sessions<Store>>> {
    let tables = Db::builder().table::<Pair>().keep_digests();
    Ok(Machine::new(with_tables(tables).build()?, Sessions::new(Store))?)
}

/// A node with the settings that production has.
pub(crate) fn setup(
    node: u64,
    members: BTreeMap<u64, String>,
    folder: &Path,
) -> Result<Setup<Store>> {
    let listen = members.get(&node).context("its own id is not among the members")?.parse()?;
    let security = Security::insecure_loopback_only();
    let setup = Setup::new(identity(node), machine()?, folder, listen, security, logger());
    Ok(setup.founds(members))
}

/// Begins a node that is the one member of its group; `snapshots` are the entries between two.
pub(crate) fn begin(folder: &Path, snapshots: u64) -> Result<Node<Store>> {
    let members = BTreeMap::from([(1, "127.0.0.1:0".to_owned())]);
    let setup = setup(1, members, folder)?.snapshots(snapshots, LOG_TAIL_ENTRIES);
    Ok(Node::start(setup)?)
}

/// As [`begin`], and waits until it leads.
pub(crate) async fn alone(folder: &Path, snapshots: u64) -> Result<Node<Store>> {
    let node = begin(folder, snapshots)?;
    until(&node, NodeStatus::is_leader).await?;
    Ok(node)
}

/// Waits until the state of a node is so.
pub(crate) async fn until(node: &Node<Store>, is_so: impl Fn(&NodeStatus) -> bool) -> Result<()> {
    let mut status = node.status();
    while !is_so(&status) {
        ensure!(status.is_running, "the node has stopped: {:?}", status.error);
        node.status_changed(status.version).await;
        status = node.status();
    }
    Ok(())
}

/// Makes the first `rows` keys.
pub(crate) async fn fill(node: &Node<Store>, rows: u64) -> Result<()> {
    for first in (0..rows).step_by(FILL as usize) {
        let count = FILL.min(rows - first);
        let (_, reply) = node.propose(&Command::Fill { first, count }).await?;
        reply.map_err(anyhow::Error::msg)?;
    }
    let found = node.read_stale().table::<Pair>().len();
    ensure!(found as u64 == rows, "{found} rows instead of {rows}");
    Ok(())
}

/// The value of a key.
pub(crate) fn value(snapshot: &Snapshot, key: u64) -> Result<Vec<u8>> {
    let key = load::key(key);
    let pair = snapshot.table::<Pair>().get(key.as_str()).context("a key is not there")?;
    Ok(pair.value.clone())
}
