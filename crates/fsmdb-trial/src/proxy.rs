//! Proxies between replicas, which lose, delay, slow and break what passes.
//!
//! In front of each replica stands one proxy, at the address that the others know. Who dials says
//! who it is in the first bytes of a connection, so one proxy tells all directed pairs apart. That
//! needs no rights on the machine.
//!
//! # Invariants
//!
//! 1. The bytes of a connection arrive in order and unchanged, until it is broken. What is sent
//!    while a pair is cut arrives when it is healed, as TCP sends again; so does its end.
//! 2. What a connection carries back to its dialler is of the pair in the other direction.
//! 3. A connection of a pair that is cut is not made either.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use fsmdb_node::transport::{HELLO_BYTES, Hello};

use crate::limits::{PROXY_CHUNK_BYTES, PROXY_HELLO_TIME};

/// How bytes travel from one replica to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// Whether nothing arrives.
    pub is_cut: bool,
    /// How long each piece of at most
    /// [`PROXY_CHUNK_BYTES`] takes.
    pub delay: Duration,
    /// How many bytes pass in a second, if that is bounded.
    pub bytes_per_second: Option<u64>,
}

impl Weather {
    fn time_of(&self, bytes: usize) -> Duration {
        let rate = self.bytes_per_second.unwrap_or(u64::MAX).max(1);
        let nanoseconds = (bytes as u64).saturating_mul(1_000_000_000) / rate;
        self.delay + Duration::from_nanos(nanoseconds)
    }
}

/// Who sends, and who receives.
type Pair = (u64, u64);

#[derive(Debug, Default)]
struct State {
    is_closed: bool,
    weather: BTreeMap<Pair, Weather>,
    /// Pairs whose next bytes are the last of their connection.
    to_break: Vec<Pair>,
    broken: u64,
}

impl State {
    fn of(&self, pair: Pair) -> Weather {
        self.weather.get(&pair).copied().unwrap_or_default()
    }
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    /// The state behind the lock is right between any two lines, whatever a panic left.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something may pass; `None` when nothing ever will.
    fn pass(&self, pair: Pair) -> Option<Weather> {
        let is_held = |state: &mut State| !state.is_closed && state.of(pair).is_cut;
        let state = self.changed.wait_while(self.lock(), is_held);
        let state = state.unwrap_or_else(PoisonError::into_inner);
        (!state.is_closed).then(|| state.of(pair))
    }

    /// Whether the connection that asks is the one to break.
    fn breaks(&self, pair: Pair) -> bool {
        let mut state = self.lock();
        let place = state.to_break.iter().position(|other| *other == pair);
        let Some(place) = place else { return false };
        state.to_break.swap_remove(place);
        state.broken += 1;
        true
    }
}

/// All proxies of a trial.
///
/// ```
/// use std::io::{Read, Write};
/// use std::net::{TcpListener, TcpStream};
///
/// use fsmdb_node::transport::{HELLO_BYTES, Hello, Purpose, VERSIONS};
/// use fsmdb_trial::proxy::Network;
///
/// let replica = TcpListener::bind("127.0.0.1:0")?;
/// let network = Network::default();
/// let door = network.stand_before(2, replica.local_addr()?)?;
/// let mut dialler = TcpStream::connect(door)?;
/// let (versions, purpose, incarnation, directory) = (VERSIONS, Purpose::Messages, 1, 0);
/// let hello = Hello { versions, purpose, cluster: 7, from: 1, to: 2, incarnation, directory };
/// dialler.write_all(&hello.encode())?;
/// let mut arrived = [0; HELLO_BYTES];
/// replica.accept()?.0.read_exact(&mut arrived)?;
/// assert_eq!(arrived, hello.encode());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Network {
    shared: Arc<Shared>,
    doors: Mutex<Vec<SocketAddr>>,
}

impl Network {
    /// Puts a proxy in front of a replica; answers where others reach it from now on.
    ///
    /// # Errors
    ///
    /// When no port is free, or a thread does not start.
    pub fn stand_before(&self, id: u64, replica: SocketAddr) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind((replica.ip(), 0))?;
        let door = listener.local_addr()?;
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new().name(format!("proxy-{id}"));
        thread.spawn(move || {
            for dialler in listener.incoming() {
                if shared.lock().is_closed {
                    return;
                }
                let Ok(dialler) = dialler else { continue };
                let shared = Arc::clone(&shared);
                thread::spawn(move || carry(dialler, id, replica, &shared));
            }
        })?;
        self.doors.lock().unwrap_or_else(PoisonError::into_inner).push(door);
        Ok(door)
    }

    /// Changes how bytes travel `from` one replica `to` another.
    pub fn set(&self, from: u64, to: u64, weather: Weather) {
        self.shared.lock().weather.insert((from, to), weather);
        self.shared.changed.notify_all();
    }

    /// Cuts each of `ids` off from each of `others`, in both directions.
    pub fn part(&self, ids: &[u64], others: &[u64]) {
        let cut = Weather { is_cut: true, ..Weather::default() };
        for id in ids {
            for other in others.iter().filter(|other| *other != id) {
                self.set(*id, *other, cut);
                self.set(*other, *id, cut);
            }
        }
    }

    /// Breaks one connection of this pair in the middle of what it carries next.
    pub fn break_off(&self, from: u64, to: u64) {
        self.shared.lock().to_break.push((from, to));
    }

    /// How many connections were broken so far.
    #[must_use]
    pub fn broken(&self) -> u64 {
        self.shared.lock().broken
    }

    /// Lets everything pass.
    pub fn heal(&self) {
        let mut state = self.shared.lock();
        state.weather.clear();
        state.to_break.clear();
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.changed.notify_all();
        for door in self.doors.get_mut().unwrap_or_else(PoisonError::into_inner) {
            // Wakes the thread that waits there; a door that is gone has none.
            let _ = TcpStream::connect(*door);
        }
    }
}

/// Carries one connection until either end, or the network, has enough of it.
fn carry(dialler: TcpStream, to: u64, replica: SocketAddr, shared: &Arc<Shared>) {
    // Whoever has dialled sees the connection end, and dials again.
    let Ok((from, replica)) = introduce(&dialler, to, replica, shared) else { return };
    let ends = dialler.try_clone().and_then(|source| Ok((source, replica.try_clone()?)));
    let Ok((source, target)) = ends else { return };
    let back = Arc::clone(shared);
    thread::spawn(move || forward(target, source, (to, from), &back));
    forward(dialler, replica, (from, to), shared);
}

/// Reads who dials, and dials the replica for it.
fn introduce(
    mut dialler: &TcpStream,
    to: u64,
    replica: SocketAddr,
    shared: &Shared,
) -> io::Result<(u64, TcpStream)> {
    let mut hello = [0; HELLO_BYTES];
    dialler.set_read_timeout(Some(PROXY_HELLO_TIME))?;
    dialler.read_exact(&mut hello)?;
    dialler.set_read_timeout(None)?;
    dialler.set_nodelay(true)?;
    let from = Hello::decode(&hello).map_err(io::Error::other)?.from;
    let weather = shared.pass((from, to)).ok_or(io::ErrorKind::NotConnected)?;
    thread::sleep(weather.time_of(hello.len()));
    let mut replica = TcpStream::connect(replica)?;
    replica.set_nodelay(true)?;
    replica.write_all(&hello)?;
    Ok((from, replica))
}

/// Carries what comes from `source` until it ends or is broken; then both directions end.
fn forward(mut source: TcpStream, mut target: TcpStream, pair: Pair, shared: &Shared) {
    let mut buffer = vec![0; PROXY_CHUNK_BYTES];
    loop {
        let length = source.read(&mut buffer).unwrap_or(0);
        let Some(weather) = shared.pass(pair) else { break };
        let is_broken = length > 1 && shared.breaks(pair);
        let length = if is_broken { length / 2 } else { length };
        thread::sleep(weather.time_of(length));
        let is_written = target.write_all(&buffer[..length]).is_ok();
        if length == 0 || is_broken || !is_written {
            break;
        }
    }
    // They may have ended already.
    let _ = target.shutdown(Shutdown::Both);
    let _ = source.shutdown(Shutdown::Both);
}
