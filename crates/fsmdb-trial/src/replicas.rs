//! The processes of a trial: started, killed without warning, started again.
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
use std::time::Duration;

use crate::client::Line;
use crate::clock::Clock;
use crate::wire::{Reply, Request, Status};
use crate::witnessed::Applied;

/// A group of replicas, each a process of its own.
#[derive(Debug)]
pub struct Replicas {
    binary: PathBuf,
    directory: PathBuf,
    places: Vec<Place>,
    clock: Clock,
}

/// Where one replica lives.
#[derive(Debug)]
struct Place {
    id: u64,
    /// Where other replicas reach it.
    peer: String,
    /// Where clients reach it.
    client: String,
    process: Option<Child>,
}

impl Replicas {
    /// Starts `count` replicas of `binary` with their data under `directory`.
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
        // All are held at the same time, so that no port is given twice.
        let listeners: Vec<TcpListener> =
            (0..2 * count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<io::Result<_>>()?;
        let addresses: Vec<String> = listeners
            .iter()
            .map(|listener| listener.local_addr().map(|address| address.to_string()))
            .collect::<io::Result<_>>()?;
        drop(listeners);
        let places = addresses.chunks(2).zip(1..).map(|(pair, id)| Place {
            id,
            peer: pair[0].clone(),
            client: pair[1].clone(),
            process: None,
        });
        let (binary, directory) = (binary.into(), directory.into());
        let mut replicas = Self { binary, directory, places: places.collect(), clock };
        for id in replicas.ids() {
            replicas.restart(id)?;
        }
        Ok(replicas)
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
    /// When the process does not start.
    ///
    /// # Panics
    ///
    /// When there is no such replica.
    pub fn restart(&mut self, id: u64) -> io::Result<()> {
        let peers: Vec<String> =
            self.places.iter().map(|place| format!("{}={}", place.id, place.peer)).collect();
        let log = self.log_of(id);
        fs::create_dir_all(&self.directory)?;
        let said = OpenOptions::new().create(true).append(true).open(log)?;
        let data = self.directory.join(format!("data-{id}"));
        let binary = &self.binary;
        let place = self.places.iter_mut().find(|place| place.id == id).expect("a known replica");
        let process = Command::new(binary)
            .args(["--id", &id.to_string(), "--client", &place.client])
            .args(["--peers", &peers.join(",")])
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
    /// When the process cannot be killed.
    ///
    /// # Panics
    ///
    /// When there is no such replica.
    pub fn kill(&mut self, id: u64) -> io::Result<()> {
        let place = self.places.iter_mut().find(|place| place.id == id).expect("a known replica");
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
        let place = self.places.iter().find(|place| place.id == id)?;
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
            let all = self.places.iter().filter(|place| place.process.is_some());
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
        let place = self.places.iter().find(|place| place.id == id);
        let place = place.ok_or(io::ErrorKind::NotFound)?;
        let mut line = Line::connect(&place.client, JOURNAL_TIME)?;
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
        let place = self.places.iter_mut().find(|place| place.id == id);
        let place = place.ok_or(io::ErrorKind::NotFound)?;
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

/// Bytes of what a fallen replica said last that are told.
const LAST_WORDS: usize = 4_000;
/// How long a replica may take to say what it is.
const ANSWER_TIME: Duration = Duration::from_secs(1);
/// How long a replica may take between two lines of its journal.
const JOURNAL_TIME: Duration = Duration::from_secs(30);
