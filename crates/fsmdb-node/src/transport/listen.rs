//! Connections from peers: accepted, asked who they are, and given a place.
//!
//! # Invariants
//!
//! 1. Until a dialler has said who it is, and shown it, it gets a bounded time, a bounded number of
//!    places and a few bytes on the stack.
//! 2. A connection that is refused disturbs no other.
//! 3. Strangers who say nothing keep no peer out: when the places are taken, whoever has been
//!    silent for longest leaves.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::error::ConnectionError;
use super::handshake::{HELLO_BYTES, Hello, Purpose, Refusal, Welcome};
use super::mesh::{Mesh, Seat, lock};
use super::stream::Stream;
use super::{answers, arrivals, messages};
use crate::limits::{ACCEPT_PAUSE, CONNECTIONS_UNAUTHENTICATED_MAX};

/// Connections whose handshake is not done, oldest first.
#[derive(Default)]
struct Lobby(Mutex<(u64, BTreeMap<u64, Arc<Notify>>)>);

impl Lobby {
    /// A place for a newcomer. When all are taken, the oldest is asked to leave.
    fn enter(self: &Arc<Self>) -> Place {
        let mut lobby = lock(&self.0);
        let (next, waiting) = &mut *lobby;
        if waiting.len() >= CONNECTIONS_UNAUTHENTICATED_MAX
            && let Some((_, oldest)) = waiting.pop_first()
        {
            oldest.notify_one();
        }
        let (number, leaving) = (*next, Arc::<Notify>::default());
        *next += 1;
        waiting.insert(number, Arc::clone(&leaving));
        Place { lobby: Arc::clone(self), number, leaving }
    }
}

/// A place in the lobby, given back when it is dropped.
struct Place {
    lobby: Arc<Lobby>,
    number: u64,
    leaving: Arc<Notify>,
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.lobby.0).1.remove(&self.number);
    }
}

/// Accepts connections for as long as the runtime lives.
pub(super) async fn listen(mesh: Arc<Mesh>, listener: TcpListener) {
    let lobby = Arc::<Lobby>::default();
    loop {
        match listener.accept().await {
            Ok((tcp, address)) => {
                drop(tokio::spawn(attend(Arc::clone(&mesh), tcp, address, lobby.enter())));
            }
            Err(error) => {
                slog::warn!(mesh.log, "no connection can be accepted"; "reason" => %error);
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn attend(mesh: Arc<Mesh>, tcp: TcpStream, address: SocketAddr, place: Place) {
    let greeting = timeout(mesh.timing.handshake, greet(&mesh, tcp));
    let greeted = tokio::select! {
        greeted = greeting => greeted.unwrap_or(Err(ConnectionError::Silent)),
        () = place.leaving.notified() => Err(ConnectionError::Crowded),
    };
    let (hello, seat, stream) = match greeted {
        Ok(greeted) => greeted,
        Err(error) => return mesh.note_refusal(address, &error),
    };
    drop(place);
    let from = hello.from;
    mesh.inbound.introduced(from, hello.directory);
    let serving = async {
        match hello.purpose {
            Purpose::Messages => Err(messages::receive(&mesh, from, &seat, stream).await),
            Purpose::Requests => Err(answers::serve(&mesh, from, &seat, stream).await),
            Purpose::Snapshot => arrivals::receive(&mesh, from, &seat, stream).await,
        }
    };
    let ended = tokio::select! {
        ended = serving => ended,
        () = seat.left() => Err(ConnectionError::Superseded),
    };
    if let Err(error) = ended {
        mesh.note_end(from, &error);
    }
}

async fn greet(mesh: &Mesh, tcp: TcpStream) -> Result<(Hello, Arc<Seat>, Stream), ConnectionError> {
    tcp.set_nodelay(true)?;
    let (mut stream, shown) = mesh.gate.accepted(tcp).await?;
    let mut bytes = [0; HELLO_BYTES];
    stream.read_exact(&mut bytes).await?;
    let hello = Hello::decode(&bytes)?;
    let (ours, theirs) = (mesh.versions, hello.versions);
    let judged = match &hello {
        _ if ours.common(theirs).is_none() => Err(Refusal::Version { theirs, ours }),
        hello if hello.cluster != mesh.cluster => Err(Refusal::Cluster),
        hello if hello.to != mesh.id => Err(Refusal::Receiver),
        hello if !mesh.gate.believes(&shown, hello.from) => Err(Refusal::Certificate),
        hello => mesh.seat(hello),
    };
    let (versions, incarnation, directory) = (mesh.versions, mesh.incarnation, mesh.directory);
    let refusal = judged.as_ref().err().copied();
    let welcome = Welcome { versions, incarnation, directory, refusal };
    stream.write_all(&welcome.encode()).await?;
    stream.flush().await?;
    match judged {
        Ok(seat) => Ok((hello, seat, stream)),
        Err(refusal) => {
            stream.shutdown().await?;
            Err(ConnectionError::Refused(refusal))
        }
    }
}
