//! The voters as child processes of this program: started, asked, killed, started again.
//!
//! # Invariants
//!
//! 1. A voter keeps its directory and its address, also from one run of the program to the next.
//! 2. No voter outlives this program: it is killed when it is dropped here, and ends by itself when
//!    this program was killed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use fsmdb::Revision;

use crate::group::Copy;
use crate::replica::{Answer, Request};

/// The file, in the data directory, of where the nodes are reached: a line for each, in the order
/// of their ids.
const ADDRESS_FILE: &str = "addresses";

/// How far apart programs that start at the same time look for ports.
const PORTS_APART: usize = 16;

/// Where free ports are looked for: below those that systems give to outgoing connections, so that
/// none takes the port of a voter that was killed and is to come back.
const PORTS: Range<u16> = 20_000..32_000;

/// The voters, those that run and those that do not.
#[derive(Debug)]
pub struct Voters {
    directory: PathBuf,
    addresses: BTreeMap<u64, String>,
    spare: SocketAddr,
    running: BTreeMap<u64, Voter>,
}

/// A process. Dropping it kills it.
#[derive(Debug)]
struct Voter {
    process: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Voters {
    /// Starts `count` voters over folders of `directory`.
    pub fn start(directory: &Path, count: u64) -> Result<Self> {
        let mut addresses = kept_addresses(directory, usize::try_from(count)? + 1)?;
        let spare = addresses.pop().context("no address is free")?;
        let addresses = (1..=count).zip(addresses.iter().map(ToString::to_string)).collect();
        let (directory, running) = (directory.to_owned(), BTreeMap::new());
        let mut voters = Self { directory, addresses, spare, running };
        voters.start_all()?;
        Ok(voters)
    }

    /// An address that no voter has.
    pub fn spare(&self) -> SocketAddr {
        self.spare
    }

    pub fn ids(&self) -> Vec<u64> {
        self.addresses.keys().copied().collect()
    }

    pub fn addresses(&self) -> &BTreeMap<u64, String> {
        &self.addresses
    }

    /// Starts those that do not run.
    pub fn start_all(&mut self) -> Result<()> {
        let stopped = self.ids().into_iter().filter(|id| !self.running.contains_key(id));
        // All are begun before the first is waited for.
        let begun = stopped.map(|id| Ok((id, self.spawn(id)?)));
        for (id, mut voter) in begun.collect::<Result<Vec<_>>>()? {
            voter.answer().with_context(|| format!("replica {id} does not start"))?;
            self.running.insert(id, voter);
        }
        Ok(())
    }

    /// Kills a voter as `kill -9` does. Says which process it was.
    pub fn kill(&mut self, id: u64) -> Result<u32> {
        let mut voter = self.running.remove(&id).with_context(|| format!("no replica {id}"))?;
        let process = voter.process.id();
        voter.process.kill().with_context(|| format!("replica {id} cannot be killed"))?;
        let status = voter.process.wait()?;
        ensure!(status.code().is_none(), "replica {id} ended by itself: {status}");
        Ok(process)
    }

    /// Stops all with care, and waits until they have ended.
    pub fn stop_all(&mut self) -> Result<()> {
        for (id, voter) in &mut self.running {
            voter.ask(&Request::Stop).with_context(|| format!("replica {id} does not stop"))?;
        }
        while let Some((id, mut voter)) = self.running.pop_first() {
            let status = voter.process.wait()?;
            ensure!(status.success(), "replica {id} did not stop well: {status}");
        }
        Ok(())
    }

    /// Has a learner added, unless there is that one already.
    pub fn learn(&mut self, id: u64, address: SocketAddr) -> Result<()> {
        let voter = self.running.values_mut().next().context("no voter runs")?;
        match voter.ask(&Request::Learn { id, address: address.to_string() })? {
            Answer::Done => Ok(()),
            other => bail!("no learner was added: {other:?}"),
        }
    }

    /// Every voter, as soon as it has come to `revision`.
    pub fn copies(&mut self, revision: Revision) -> Result<Vec<Copy>> {
        let copies = self.running.iter_mut().map(|(&id, voter)| {
            match voter.ask(&Request::Copy { revision: revision.0 })? {
                Answer::Copy { applied, bytes: length } => {
                    let mut bytes = Vec::new();
                    voter.answers.by_ref().take(length).read_to_end(&mut bytes)?;
                    ensure!(bytes.len() as u64 == length, "replica {id} ended while it was copied");
                    Ok(Copy { id, applied, bytes })
                }
                other => bail!("replica {id} cannot be copied: {other:?}"),
            }
        });
        copies.collect()
    }

    fn spawn(&self, id: u64) -> Result<Voter> {
        let voters = self.addresses.iter().map(|(id, address)| format!("{id}={address}"));
        let mut process = Command::new(std::env::current_exe()?)
            .args(["replica", "--id", &id.to_string()])
            .arg("--directory")
            .arg(folder(&self.directory, id))
            .args(["--voters", &voters.collect::<Vec<_>>().join(",")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("replica {id} does not start"))?;
        let pipes = process.stdin.take().zip(process.stdout.take());
        let (requests, answers) = pipes.context("a child has its pipes")?;
        Ok(Voter { process, requests, answers: BufReader::new(answers) })
    }
}

impl Voter {
    fn ask(&mut self, request: &Request) -> Result<Answer> {
        serde_json::to_writer(&mut self.requests, request)?;
        self.requests.write_all(b"\n")?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Answer> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        ensure!(!line.is_empty(), "the process has ended");
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Voter {
    fn drop(&mut self) {
        // An error means that it has ended by itself.
        let _ = self.process.kill();
        // Reaps it; it is killed, so this does not wait long.
        let _ = self.process.wait();
    }
}

/// The folder of a node.
pub fn folder(directory: &Path, id: u64) -> PathBuf {
    directory.join(format!("node-{id}"))
}

/// The addresses of all nodes of a data directory: chosen and written down at first, the same ever
/// after, because the nodes know each other by them.
fn kept_addresses(directory: &Path, count: usize) -> Result<Vec<SocketAddr>> {
    let shown = directory.display();
    fs::create_dir_all(directory).with_context(|| format!("{shown} cannot be made"))?;
    let file = directory.join(ADDRESS_FILE);
    if !file.exists() {
        let addresses = free_addresses(count)?;
        let lines: String = addresses.iter().map(|address| format!("{address}\n")).collect();
        fs::write(&file, lines).with_context(|| format!("{} cannot be written", file.display()))?;
        return Ok(addresses);
    }
    let text = fs::read_to_string(&file)?;
    let addresses: Vec<SocketAddr> = text
        .lines()
        .map(str::parse)
        .collect::<Result<_, _>>()
        .with_context(|| format!("{} is no list of addresses", file.display()))?;
    let (held, count) = (addresses.len().saturating_sub(1), count - 1);
    ensure!(held == count, "{shown} has the data of {held} voters: --nodes {held}, not {count}");
    Ok(addresses)
}

/// Loopback addresses that nobody listens on, all different.
fn free_addresses(count: usize) -> Result<Vec<SocketAddr>> {
    let ports = PORTS.len();
    let first = std::process::id() as usize * PORTS_APART % ports;
    let bind = |port| TcpListener::bind(("127.0.0.1", port)).ok();
    // All are held until the last is known, or one could be given twice.
    let listeners: Vec<_> =
        PORTS.cycle().skip(first).take(ports).filter_map(bind).take(count).collect();
    ensure!(listeners.len() == count, "no ports are free in {PORTS:?}");
    Ok(listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?)
}
