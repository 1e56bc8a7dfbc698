//! Clients of a trial: each a thread that asks one replica after the other, and notes everything.
//!
//! # Invariants
//!
//! 1. A call is noted before it is sent. It has an end only when the answer was read.
//! 2. A call that was refused is forgotten: should the journal have it, nobody has asked for it.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::clock::Clock;
use crate::history::{Answer, Call, CallId, End, Operation};
use crate::numbers::Numbers;
use crate::wire::{Reply, Request};

/// One connection to one replica.
#[derive(Debug)]
pub struct Line {
    reader: BufReader<TcpStream>,
}

impl Line {
    /// Connects to `address`; no answer is waited for longer than `patience`.
    ///
    /// # Errors
    ///
    /// When nobody is there.
    pub fn connect(address: &str, patience: Duration) -> io::Result<Self> {
        let address = address.parse().map_err(io::Error::other)?;
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        Ok(Self { reader: BufReader::new(stream) })
    }

    /// Sends a request.
    ///
    /// # Errors
    ///
    /// When the connection is gone.
    pub fn tell(&mut self, request: &Request) -> io::Result<()> {
        self.reader.get_mut().write_all(format!("{request}\n").as_bytes())
    }

    /// Reads one line of an answer.
    ///
    /// # Errors
    ///
    /// When the connection is gone, or nothing came in time.
    pub fn hear(&mut self) -> io::Result<Reply> {
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        if !line.ends_with('\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Reply::from_str(&line).map_err(io::Error::other)
    }

    /// Sends a request and reads its answer of one line.
    ///
    /// # Errors
    ///
    /// As [`tell`](Self::tell) and [`hear`](Self::hear).
    pub fn ask(&mut self, request: &Request) -> io::Result<Reply> {
        self.tell(request)?;
        self.hear()
    }
}

/// Clients at work.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    addresses: Arc<Mutex<Vec<String>>>,
    threads: Vec<JoinHandle<Vec<Call>>>,
}

impl Load {
    /// Starts `clients` clients with `keys` registers between them, which are new ones every
    /// second.
    ///
    /// # Errors
    ///
    /// When a thread does not start.
    pub fn start(
        addresses: &[String],
        clients: u64,
        keys: u64,
        seed: u64,
        clock: Clock,
    ) -> io::Result<Self> {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let addresses = Arc::new(Mutex::new(addresses.to_vec()));
        let mut threads = Vec::new();
        for id in 1..=clients {
            let worker = Worker {
                id,
                keys,
                clock,
                addresses: Arc::clone(&addresses),
                numbers: Numbers::new(seed ^ id.rotate_left(32)),
                stop: Arc::clone(&stop),
                answered: Arc::clone(&answered),
                seen: BTreeMap::new(),
                history: Vec::new(),
            };
            let thread = thread::Builder::new().name(format!("client-{id}"));
            threads.push(thread.spawn(move || worker.run())?);
        }
        Ok(Self { stop, answered, addresses, threads })
    }

    /// How many calls were answered so far.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Tells the clients where replicas are from now on.
    pub fn turn_to(&self, addresses: Vec<String>) {
        *self.addresses.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    /// Ends the clients and answers with all that they noted.
    ///
    /// # Panics
    ///
    /// When a client has.
    #[must_use]
    pub fn stop(self) -> Vec<Call> {
        self.stop.store(true, Ordering::Relaxed);
        let histories = self.threads.into_iter().map(JoinHandle::join);
        histories.flat_map(|history| history.expect("a client panicked")).collect()
    }
}

struct Worker {
    id: u64,
    keys: u64,
    clock: Clock,
    addresses: Arc<Mutex<Vec<String>>>,
    numbers: Numbers,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    /// What this client last found in registers.
    seen: BTreeMap<u64, u64>,
    history: Vec<Call>,
}

impl Worker {
    fn run(mut self) -> Vec<Call> {
        let mut line = None;
        let mut sequence = 0;
        while !self.stop.load(Ordering::Relaxed) {
            // Sometimes another replica, also while this one is well.
            if line.is_none() || self.numbers.below(200) == 0 {
                line = self.dial();
            }
            let Some(open) = &mut line else {
                thread::sleep(REDIAL_TIME);
                continue;
            };
            sequence += 1;
            let call = self.next_call(sequence);
            self.history.push(call);
            let Call { id, key, operation, .. } = call;
            match open.ask(&Request::Call { id, key, operation }) {
                Ok(Reply::Done { revision, answer }) => self.note(revision, answer),
                Ok(Reply::Refused(_)) => {
                    self.history.pop();
                    line = None;
                }
                // Whatever became of it.
                Ok(_) | Err(_) => line = None,
            }
        }
        self.history
    }

    fn dial(&mut self) -> Option<Line> {
        let addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let place = self.numbers.below(addresses.len() as u64);
        let address = addresses.get(usize::try_from(place).ok()?)?;
        Line::connect(address, CALL_TIME).ok()
    }

    /// Values are unique, so that what is read tells who wrote it.
    fn next_call(&mut self, sequence: u64) -> Call {
        // New registers after a while, so that those who look for an order have few calls whose
        // outcome is unknown in each.
        let began = self.clock.now();
        let key = began / REGISTERS_LAST * self.keys + self.numbers.below(self.keys);
        let value = (self.id << 40) | sequence;
        let seen = self.seen.get(&key).copied();
        let operation = match self.numbers.below(4) {
            0 | 1 => Operation::Get,
            2 => Operation::Put(value),
            _ => Operation::Swap { expected: seen, value },
        };
        let id = CallId { client: self.id, sequence };
        Call { id, key, operation, began, end: None }
    }

    /// Notes the answer to the last call.
    fn note(&mut self, revision: u64, answer: Answer) {
        let at = self.clock.now();
        let Some(call) = self.history.last_mut() else { return };
        call.end = Some(End { at, answer, revision });
        self.answered.fetch_add(1, Ordering::Relaxed);
        if let Answer::Value(Some(found)) = answer {
            self.seen.insert(call.key, found);
        }
    }
}

/// How long a client waits for an answer before it takes the outcome for unknown.
const CALL_TIME: Duration = Duration::from_secs(5);
/// How long a client waits before it dials again.
const REDIAL_TIME: Duration = Duration::from_millis(5);
/// How many nanoseconds clients stay with the same registers.
const REGISTERS_LAST: u64 = 1_000_000_000;
