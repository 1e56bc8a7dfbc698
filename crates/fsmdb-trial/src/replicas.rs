//! The processes of a trial: started, killed without warning, paused, started again, replaced.
//!
//! # Invariants
//!
//! 1. A replica keeps its addresses and its directory over all its lives.
//! 2. What a process says goes to a file beside its data, over all its lives.
//! 3. No process outlives this value.

use std::fs::{self, OpenOptions};
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use crate::client::Line;
use crate::clock::Clock;
use crate::limits::{REPLICA_PORT_FIRST, REPLICA_PORTS};
use crate::proxy::Network;
use crate::wire::{Reply, Request, Status};
use crate::witnessed::Applied;

/// A group of replicas, each a process of its own.
#[derive(Debug)]
pub struct Replicas {
    binary: PathBuf,
    directory: PathBuf,
    places: Vec<Place>,
    /// The id of the next that joins: none comes back.
    next: u64,
    /// What stands between them.
    network: Option<Arc<Network>>,
    host: String,
    clock: Clock,
}

/// Where one replica lives.
#[derive(Debug)]
struct Place {
    id: u64,
    /// Where it listens for other replicas.
    listen: String,
    /// Where other replicas reach it.
    peer: String,
    /// Where clients reach it.
    client: String,
    /// Whether it came after the group was founded.
    has_joined: bool,
    process: Option<Child>,
    is_paused: bool,
}

impl Place {
    fn signal(&mut self, name: &str) -> io::Result<()> {
        let Some(process) = &self.process else { return Err(io::ErrorKind::NotFound.into()) };
        let signal = format!("-{name}");
        let status = Command::new("kill").args([signal, process.id().to_string()]).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("kill: {status}"))) }
    }
}

impl Replicas {
    /// Starts `count` replicas of `binary` with their data under `directory`, which reach each
    /// other directly.
    ///
    /// # Errors
    ///
    /// When no port is free, or a process does not start.
    pub fn start(
        binary: impl Into<PathBuf>,
        directory: impl Into<PathBuf>,
        count: u64,
        clock: Clock,
    ) -> io::Result<Self> {
        let hosts: Vec<String> = (0..count).map(|_| LOOPBACK.to_owned()).collect();
        Self::start_at(binary, directory, &hosts, None, clock)
    }

    /// Starts a replica on each of `hosts`. They reach each other through the proxies of
    /// `network`, if there is one.
    ///
    /// # Errors
    ///
    /// When no port is free, or a process or a proxy does not start.
    pub fn start_at(
        binary: impl Into<PathBuf>,
        directory: impl Into<PathBuf>,
        hosts: &[String],
        network: Option<Arc<Network>>,
        clock: Clock,
    ) -> io::Result<Self> {
        let (binary, directory, places) = (binary.into(), directory.into(), Vec::new());
        let host = hosts.first().cloned().unwrap_or_default();
        let mut replicas = Self { binary, directory, places, next: 1, network, host, clock };
        for host in hosts {
            replicas.give_place(host, false)?;
        }
        for id in replicas.ids() {
            replicas.restart(id)?;
        }
        Ok(replicas)
    }

    /// Gives the next replica its addresses.
    fn give_place(&mut self, host: &str, has_joined: bool) -> io::Result<u64> {
        let id = self.next;
        let (listen, client) = (free_address(host)?, free_address(host)?);
        let peer = match &self.network {
            Some(network) => {
                let replica = listen.parse().map_err(io::Error::other)?;
                network.stand_before(id, replica)?.to_string()
            }
            None => listen.clone(),
        };
        let (process, is_paused) = (None, false);
        self.places.push(Place { id, listen, peer, client, has_joined, process, is_paused });
        self.next += 1;
        Ok(id)
    }

    /// Starts a new replica, which waits to be added; answers with its id and with where others
    /// reach it, as [`Request::Add`] wants them.
    ///
    /// # Errors
    ///
    /// As [`start_at`](Self::start_at).
    pub fn join(&mut self) -> io::Result<(u64, String)> {
        let host = self.host.clone();
        let id = self.give_place(&host, true)?;
        self.restart(id)?;
        Ok((id, self.place(id)?.peer.clone()))
    }

    /// Kills a replica, if it runs, and starts it never again.
    ///
    /// # Errors
    ///
    /// When the process cannot be killed.
    pub fn forget(&mut self, id: u64) -> io::Result<()> {
        self.kill(id)?;
        self.places.retain(|place| place.id != id);
        Ok(())
    }

    /// Asks the leader for a change of the members until it is made.
    ///
    /// # Errors
    ///
    /// The last answer, when it is not made within `patience`.
    pub fn change(&self, request: &Request, patience: Duration) -> Result<(), String> {
        let mut last = "no leader".to_owned();
        let made = self.clock.wait(patience, || {
            let leader = self.leader(Duration::ZERO)?;
            let line = Line::connect(&self.place(leader).ok()?.client, CHANGE_TIME);
            match line.and_then(|mut line| line.ask(request)) {
                Ok(Reply::Changed) => return Some(()),
                other => last = format!("{other:?}"),
            }
            None
        });
        made.ok_or_else(|| format!("{request}: {last}"))
    }

    fn place(&self, id: u64) -> io::Result<&Place> {
        let place = self.places.iter().find(|place| place.id == id);
        place.ok_or_else(|| io::Error::other(format!("there is no replica {id}")))
    }

    fn place_mut(&mut self, id: u64) -> io::Result<&mut Place> {
        let place = self.places.iter_mut().find(|place| place.id == id);
        place.ok_or_else(|| io::Error::other(format!("there is no replica {id}")))
    }

    /// Stops a replica in its tracks, as a machine that is out of memory or a debugger does.
    ///
    /// # Errors
    ///
    /// When there is no such process.
    pub fn pause(&mut self, id: u64) -> io::Result<()> {
        let place = self.place_mut(id)?;
        place.signal("STOP")?;
        place.is_paused = true;
        Ok(())
    }

    /// Lets a replica that was paused go on.
    ///
    /// # Errors
    ///
    /// When there is no such process.
    pub fn resume(&mut self, id: u64) -> io::Result<()> {
        let place = self.place_mut(id)?;
        place.signal("CONT")?;
        place.is_paused = false;
        Ok(())
    }

    /// The ids of all replicas, running or not.
    #[must_use]
    pub fn ids(&self) -> Vec<u64> {
        self.places.iter().map(|place| place.id).collect()
    }

    /// Where clients reach the replicas.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.places.iter().map(|place| place.client.clone()).collect()
    }

    /// Starts a replica that does not run, with what its directory holds.
    ///
    /// # Errors
    ///
    /// When there is no such replica, or its process does not start.
    pub fn restart(&mut self, id: u64) -> io::Result<()> {
        let peers: Vec<String> =
            self.places.iter().map(|place| format!("{}={}", place.id, place.peer)).collect();
        let log = self.log_of(id);
        fs::create_dir_all(&self.directory)?;
        let said = OpenOptions::new().create(true).append(true).open(log)?;
        let data = self.data_of(id);
        let binary = self.binary.clone();
        let place = self.place_mut(id)?;
        let process = Command::new(binary)
            .args(["--id", &id.to_string(), "--client", &place.client])
            .args(["--listen", &place.listen, "--peers", &peers.join(",")])
            .args(place.has_joined.then_some("--join"))
            .arg("--data-dir")
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::from(said.try_clone()?))
            .stderr(Stdio::from(said))
            .spawn()?;
        place.process = Some(process);
        Ok(())
    }

    /// Kills a replica without warning, and waits until it is gone.
    ///
    /// # Errors
    ///
    /// When there is no such replica, or its process cannot be killed.
    pub fn kill(&mut self, id: u64) -> io::Result<()> {
        let place = self.place_mut(id)?;
        place.is_paused = false;
        let Some(mut process) = place.process.take() else { return Ok(()) };
        process.kill()?;
        process.wait().map(drop)
    }

    /// The replicas whose process has ended by itself, each with the end of what it said.
    ///
    /// # Errors
    ///
    /// When a process cannot be looked at.
    pub fn fallen(&mut self) -> io::Result<Vec<(u64, String)>> {
        let mut fallen = Vec::new();
        for place in &mut self.places {
            if let Some(process) = &mut place.process
                && let Some(status) = process.try_wait()?
            {
                fallen.push((place.id, status));
            }
        }
        let told = fallen.into_iter().map(|(id, status)| {
            let said = fs::read_to_string(self.log_of(id)).unwrap_or_default();
            let from = said.len().saturating_sub(LAST_WORDS);
            let last = said.get(from..).unwrap_or(&said);
            (id, format!("{status}; its last words:\n{last}"))
        });
        Ok(told.collect())
    }

    /// What a replica says of itself, if it answers.
    #[must_use]
    pub fn status(&self, id: u64) -> Option<Status> {
        let place = self.place(id).ok()?;
        let mut line = Line::connect(&place.client, ANSWER_TIME).ok()?;
        match line.ask(&Request::Status).ok()? {
            Reply::Status(status) => Some(status),
            _ => None,
        }
    }

    /// The id of the running leader of the highest term, waited for until `patience` has passed.
    #[must_use]
    pub fn leader(&self, patience: Duration) -> Option<u64> {
        self.clock.wait(patience, || {
            let runs = |place: &&Place| place.process.is_some() && !place.is_paused;
            let all = self.places.iter().filter(runs);
            let leaders = all.filter_map(|place| self.status(place.id)).filter(|s| s.leads);
            leaders.max_by_key(|status| status.term).map(|status| status.id)
        })
    }

    /// Waits until all running replicas have applied the same entries, and answers the digest
    /// they agree on; `Err` names what each said last.
    ///
    /// # Errors
    ///
    /// When they do not agree within `patience`.
    pub fn agree(&self, patience: Duration) -> Result<Status, String> {
        let mut last = Vec::new();
        let agreed = self.clock.wait(patience, || {
            let running = self.places.iter().filter(|place| place.process.is_some());
            last = running.map(|place| self.status(place.id)).collect();
            let first = last.first().cloned().flatten()?;
            let is_same = |status: &Status| {
                (status.applied, &status.digest) == (first.applied, &first.digest)
            };
            last.iter().all(|status| status.as_ref().is_some_and(is_same)).then_some(first)
        });
        agreed.ok_or_else(|| format!("no agreement: {last:?}"))
    }

    /// The whole journal as one replica has it.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn journal(&self, id: u64) -> io::Result<Vec<Applied>> {
        let mut line = Line::connect(&self.place(id)?.client, JOURNAL_TIME)?;
        line.tell(&Request::Journal { from: 0 })?;
        let mut journal = Vec::new();
        loop {
            match line.hear()? {
                Reply::Entry(entry) => journal.push(entry),
                Reply::End => return Ok(journal),
                other => return Err(io::Error::other(other.to_string())),
            }
        }
    }

    /// Asks a replica to hand leadership over and end, and waits for its process.
    ///
    /// # Errors
    ///
    /// When it cannot be asked, or fails.
    pub fn stop(&mut self, id: u64) -> io::Result<()> {
        let place = self.place_mut(id)?;
        Line::connect(&place.client, ANSWER_TIME)?.tell(&Request::Stop)?;
        let Some(mut process) = place.process.take() else { return Ok(()) };
        let status = process.wait()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(status.to_string())) }
    }

    /// The file with what a replica said over all its lives.
    #[must_use]
    pub fn log_of(&self, id: u64) -> PathBuf {
        self.directory.join(format!("replica-{id}.log"))
    }

    /// Where clients reach one replica.
    ///
    /// # Errors
    ///
    /// When there is no such replica.
    pub fn address(&self, id: u64) -> io::Result<&str> {
        Ok(&self.place(id)?.client)
    }

    /// The folder with the data of one replica.
    #[must_use]
    pub fn data_of(&self, id: u64) -> PathBuf {
        self.directory.join(format!("data-{id}"))
    }

    /// The folder of all data.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Replicas {
    fn drop(&mut self) {
        for id in self.ids() {
            // It may have ended by itself; then there is nothing to kill.
            let _ = self.kill(id);
        }
    }
}

/// An address that nobody has, of the ports that are for replicas.
fn free_address(host: &str) -> io::Result<String> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = u16::try_from(std::process::id() % u32::from(REPLICA_PORTS)).unwrap_or(0);
    for _ in 0..REPLICA_PORTS {
        let turn = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(own.wrapping_mul(7));
        let address = format!("{host}:{}", REPLICA_PORT_FIRST + turn % REPLICA_PORTS);
        if TcpListener::bind(&address).is_ok() {
            return Ok(address);
        }
    }
    Err(io::ErrorKind::AddrNotAvailable.into())
}

/// Where replicas live unless a trial says otherwise.
const LOOPBACK: &str = "127.0.0.1";
/// How long a change of the members may take before it is asked for again.
const CHANGE_TIME: Duration = Duration::from_secs(5);
/// Bytes of what a fallen replica said last that are told.
const LAST_WORDS: usize = 4_000;
/// How long a replica may take to say what it is.
const ANSWER_TIME: Duration = Duration::from_secs(1);
/// How long a replica may take between two lines of its journal.
const JOURNAL_TIME: Duration = Duration::from_secs(30);
