//! A replica that is a process: a node over its directory and TCP, which this program starts as a
//! child of itself.
//!
//! # Invariants
//!
//! 1. Each line on standard input is a request, and is answered by one line on standard output. A
//!    copy follows its line, byte for byte.
//! 2. It ends with the program that started it: then its standard input ends, whatever ended that.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use fsmdb::{Builder, Machine, Revision};
use fsmdb_node::node::Options;
use fsmdb_node::storage::{Identity, LogOptions};
use fsmdb_node::transport::Security;
use fsmdb_node::{Node, Sessions, Setup, with_tables};
use serde::{Deserialize, Serialize};

use crate::command::{CHANGES_KEPT, Orchestrator};
use crate::control;
use crate::group::{self, Copy};

/// The cluster that all nodes of this program are of.
const CLUSTER: u128 = 0x6f72_6368_6573_7472;

/// The tick of a node: a lost leader is replaced after 10 to 19 of them. Longer than in one
/// process, because a disk may be slow now and then.
pub const TICK: Duration = Duration::from_millis(50);

/// How long a node tries before a call fails.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// Entries between two snapshots of the log, and entries kept behind one. So few that a run of a
/// few hundred entries compacts its log several times.
const LOG_ENTRIES: (u64, u64) = (64, 16);

/// Small files, because a few hundred entries are not much.
const LOG: LogOptions = LogOptions { file_bytes: 1 << 20, purge_bytes: 4 << 20, prefill_bytes: 0 };

/// What a child is told when it is started.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Its id.
    #[arg(long)]
    id: u64,
    /// Where its data is.
    #[arg(long)]
    directory: PathBuf,
    /// Where the voters reach each other: `1=host:port,2=host:port`.
    #[arg(long, value_delimiter = ',')]
    voters: Vec<Voter>,
}

/// A voter, and where it is reached.
#[derive(Clone, Debug)]
struct Voter {
    id: u64,
    address: String,
}

impl FromStr for Voter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (id, address) = text.split_once('=').ok_or("expected id=host:port")?;
        let id = id.parse().map_err(|_| format!("{id} is no id"))?;
        Ok(Self { id, address: address.to_owned() })
    }
}

/// What a child is asked.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// To add a learner, unless there is that one already.
    Learn { id: u64, address: String },
    /// For a copy of its state, as soon as that has come to a revision.
    Copy { revision: u64 },
    /// To stop with care.
    Stop,
}

/// What a child answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// It runs, or has done what it was asked.
    Done,
    /// So many bytes follow the line.
    Copy { applied: u64, bytes: u64 },
    /// It could not.
    Failed(String),
}

/// The description of a database with the tables of the state, and those of the nodes.
pub fn tables() -> Builder {
    with_tables(Orchestrator::tables())
}

/// What a node over its directory is started with, but for who founds the cluster.
pub fn setup(id: u64, directory: &Path, listen: SocketAddr) -> Result<Setup<Orchestrator>> {
    let (commits, bytes) = CHANGES_KEPT;
    let db = tables().keep_changes(commits, bytes).build()?;
    let machine = Machine::new(db, Sessions::new(Orchestrator))?;
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    let identity = Identity { cluster: CLUSTER, node: id };
    let security = Security::insecure_loopback_only();
    let options = Options { tick: TICK, deadline: CALL_LIMIT, ..Options::default() };
    let setup = Setup::new(identity, machine, directory, listen, security, logger);
    Ok(setup.options(options).log(LOG).snapshots(LOG_ENTRIES.0, LOG_ENTRIES.1))
}

/// Runs a replica until it is told to stop or the program that started it is gone.
pub fn run(arguments: &Arguments) -> Result<()> {
    let voters: BTreeMap<u64, String> =
        arguments.voters.iter().map(|voter| (voter.id, voter.address.clone())).collect();
    let own = voters.get(&arguments.id).context("its own id is not among the voters")?;
    let setup = setup(arguments.id, &arguments.directory, own.parse()?)?;
    let node = Node::start(setup.founds(voters))?;
    end_with(node.clone());
    answer(&Answer::Done, &[])?;
    for line in io::stdin().lock().lines() {
        match serde_json::from_str(&line?)? {
            Request::Learn { id, address } => {
                let added = node.add_learner(id, &address).wait();
                let failed =
                    |error: fsmdb_node::node::MemberError| Answer::Failed(error.to_string());
                answer(&added.map_or_else(failed, |()| Answer::Done), &[])?;
            }
            Request::Copy { revision } => {
                match group::copy(arguments.id, node.db(), Revision(revision)) {
                    Ok(Copy { applied, bytes, .. }) => {
                        answer(&Answer::Copy { applied, bytes: bytes.len() as u64 }, &bytes)?;
                    }
                    Err(error) => answer(&Answer::Failed(format!("{error:#}")), &[])?,
                }
            }
            Request::Stop => {
                // Answered first: to hand leadership over, the node waits for others that stop too.
                answer(&Answer::Done, &[])?;
                node.stop();
                std::process::exit(0);
            }
        }
    }
    Ok(())
}

fn answer(answer: &Answer, bytes: &[u8]) -> Result<()> {
    let mut output = io::stdout().lock();
    serde_json::to_writer(&mut output, answer)?;
    output.write_all(b"\n")?;
    output.write_all(bytes)?;
    Ok(output.flush()?)
}

/// Ends this process when its node fails, with the reason.
fn end_with(node: Node<Orchestrator>) {
    thread::spawn(move || {
        let mut status = node.status();
        while status.is_running {
            let changed = node.status_changed(status.version).wait(CALL_LIMIT);
            status = changed.unwrap_or_else(|| node.status());
        }
        if let Some(error) = status.error {
            control::tell(&format!("error: replica {}: {error}", node.id()));
            std::process::exit(2);
        }
    });
}
