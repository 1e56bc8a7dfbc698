//! Connections from peers: accepted, asked who they are, and given a place.
//!
//! # Invariants
//!
//! 1. Until a dialler has said who it is, and shown it, it gets a bounded time, a bounded number of
//!    places and a few bytes on the stack.
//! 2. A connection that is refused disturbs no other.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use super::counters::count;
use super::error::ConnectionError;
use super::handshake::{HELLO_BYTES, HandshakeError, Hello, Purpose, Refusal, Welcome};
use super::mesh::{Mesh, Seat};
use super::stream::Stream;
use super::{answers, arrivals, messages};
use crate::limits::{ACCEPT_PAUSE, CONNECTIONS_UNAUTHENTICATED_MAX};

/// Accepts connections for as long as the runtime lives.
pub(super) async fn listen(mesh: Arc<Mesh>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_UNAUTHENTICATED_MAX));
    loop {
        match listener.accept().await {
            Ok((tcp, address)) => match Arc::clone(&places).try_acquire_owned() {
                Ok(place) => drop(tokio::spawn(attend(Arc::clone(&mesh), tcp, address, place))),
                Err(_) => count(&mesh.counters.handshakes_refused, 1),
            },
            Err(error) => {
                slog::warn!(mesh.log, "no connection can be accepted"; "reason" => %error);
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn attend(mesh: Arc<Mesh>, tcp: TcpStream, address: SocketAddr, place: OwnedSemaphorePermit) {
    let greeting = timeout(mesh.timing.handshake, greet(&mesh, tcp));
    let (hello, seat, stream) = match greeting.await.unwrap_or(Err(ConnectionError::Silent)) {
        Ok(greeted) => greeted,
        Err(error) => return mesh.note_refusal(address, &error),
    };
    drop(place);
    let from = hello.from;
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
    let judged = match Hello::decode(&bytes, mesh.version) {
        Ok(hello) if hello.cluster != mesh.cluster => Err(Refusal::Cluster),
        Ok(hello) if hello.to != mesh.id => Err(Refusal::Receiver),
        Ok(hello) if !mesh.gate.believes(&shown, hello.from) => Err(Refusal::Certificate),
        Ok(hello) => mesh.seat(&hello).map(|seat| (hello, seat)),
        Err(HandshakeError::Version { theirs }) => Err(Refusal::Version { theirs }),
        Err(error) => return Err(error.into()),
    };
    let (version, incarnation) = (mesh.version, mesh.incarnation);
    let welcome = Welcome { version, incarnation, refusal: judged.as_ref().err().copied() };
    stream.write_all(&welcome.encode()).await?;
    stream.flush().await?;
    match judged {
        Ok((hello, seat)) => Ok((hello, seat, stream)),
        Err(refusal) => {
            stream.shutdown().await?;
            Err(ConnectionError::Refused(refusal))
        }
    }
}
