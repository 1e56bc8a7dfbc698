//! One replica of fsmdb: a node in a process of its own, with clients beside it.
//!
//! The parent writes an order a line to its standard input and reads an answer a line from its
//! standard output. It ends when its standard input does, so that no replica outlives a run.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Result;
use fsmdb::raft::Consistency;
use fsmdb_node::Node;
use serde::{Deserialize, Serialize};

use crate::inside::Counts;
use crate::kv::{self, Command, Pair, Store};
use crate::load::{self, Plan, Sample, Service};

/// What the parent asks of a replica.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Order {
    /// Whether it leads.
    Role,
    /// To put every key once.
    Fill,
    /// To let clients run.
    Run(Plan),
}

/// What a replica answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Told {
    Role { leads: bool },
    Filled,
    Sample(Sample),
    Failed(String),
}

/// Runs one replica; the bench starts it.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Its id.
    #[arg(long)]
    id: u64,
    /// Where the replicas reach each other: `1=host:port,2=host:port`.
    #[arg(long, value_delimiter = ',')]
    members: Vec<Address>,
    /// Where its data is.
    #[arg(long)]
    folder: PathBuf,
}

#[derive(Clone, Debug)]
struct Address(u64, String);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (id, address) = text.split_once('=').ok_or("id=host:port")?;
        let id = id.parse().map_err(|_| format!("{id} is no id"))?;
        Ok(Self(id, address.to_owned()))
    }
}

/// A node as clients see it that are inside its process.
pub(crate) struct Local(pub(crate) Node<Store>);

impl Service for Local {
    async fn put(&self, _: usize, key: u64, value: Vec<u8>) -> Result<()> {
        let put = Command::Put(Pair { key: load::key(key), value });
        let (_, reply) = self.0.propose(&put).await?;
        reply.map_err(anyhow::Error::msg)
    }

    async fn get(&self, _: usize, key: u64, is_stale: bool) -> Result<Vec<u8>> {
        if is_stale {
            return kv::value(&self.0.read_stale(), key);
        }
        kv::value(&self.0.read(Consistency::Linearizable).await?, key)
    }
}

/// Answers orders until there are no more.
pub(crate) fn run(arguments: Arguments, runtime: &tokio::runtime::Runtime) -> Result<()> {
    let members: BTreeMap<u64, String> =
        arguments.members.into_iter().map(|Address(id, address)| (id, address)).collect();
    let node = Node::start(kv::setup(arguments.id, members, &arguments.folder)?)?;
    let local = Arc::new(Local(node));
    for line in std::io::stdin().lock().lines() {
        let order: Order = serde_json::from_str(&line?)?;
        let told = runtime.block_on(answer(&local, order));
        let told = told.unwrap_or_else(|error| Told::Failed(format!("{error:#}")));
        let mut output = std::io::stdout().lock();
        writeln!(output, "{}", serde_json::to_string(&told)?)?;
        output.flush()?;
    }
    Ok(())
}

async fn answer(local: &Arc<Local>, order: Order) -> Result<Told> {
    match order {
        Order::Role => Ok(Told::Role { leads: local.0.status().is_leader() }),
        Order::Fill => load::fill(local).await.map(|()| Told::Filled),
        Order::Run(plan) => {
            let before = Counts::of(&local.0.metrics());
            let mut sample = load::run(local, plan).await?;
            sample.inside = Counts::of(&local.0.metrics()).means_since(&before);
            Ok(Told::Sample(sample))
        }
    }
}
