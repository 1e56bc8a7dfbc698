//! Connections to peers: made, and made again.
//!
//! # Invariants
//!
//! 1. Pauses between attempts grow up to a bound, and are a function of both nodes' ids and the
//!    number of failures: no two pairs of nodes keep in step, and no random number is drawn.
//! 2. What waits for a peer that cannot be reached is let go, at the latest when one attempt has
//!    failed.

use std::sync::Arc;
use std::time::Duration;

use slog::{error, info, warn};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::counters::count;
use super::error::ConnectionError;
use super::handshake::{Hello, Purpose, Refusal, WELCOME_BYTES, Welcome};
use super::mesh::{Mesh, Peer};
use super::stream::Stream;
use super::{messages, requests};

/// Keeps one connection to a peer, for as long as it is not aborted.
pub(super) async fn maintain(mesh: Arc<Mesh>, peer: Arc<Peer>, purpose: Purpose) {
    let (mut failures, mut connects) = (0_u32, 0_u64);
    let mut last_words = String::new();
    loop {
        open(&peer, purpose);
        let error = match dial(&mesh, &peer, purpose).await {
            Ok(stream) => {
                connects += 1;
                count(&mesh.counters.connects, 1);
                count(&mesh.counters.reconnects, usize::from(connects > 1));
                info!(mesh.log, "connected to a peer";
                    "peer" => peer.id, "purpose" => ?purpose, "address" => &peer.address);
                last_words.clear();
                let begun = Instant::now();
                let error = match purpose {
                    Purpose::Requests => requests::ask(&mesh, &peer, stream).await,
                    _ => messages::send(&mesh, &peer, stream).await,
                };
                if begun.elapsed() >= mesh.timing.reconnect_max {
                    failures = 0;
                }
                error
            }
            Err(error) => error,
        };
        close(&mesh, &peer, purpose);
        let words = error.to_string();
        if words != last_words && matches!(error, ConnectionError::Refused(Refusal::Directory)) {
            error!(mesh.log, "a peer refuses this node for good";
                "peer" => peer.id, "reason" => &words);
            last_words = words;
        } else if words != last_words {
            warn!(mesh.log, "a peer cannot be reached, or not any more"; "peer" => peer.id,
                "purpose" => ?purpose, "address" => &peer.address, "reason" => &words);
            last_words = words;
        }
        sleep(pause(&mesh, peer.id, failures)).await;
        failures = failures.saturating_add(1);
    }
}

fn open(peer: &Peer, purpose: Purpose) {
    match purpose {
        Purpose::Requests => peer.requests.open(),
        _ => peer.messages.open(),
    }
}

fn close(mesh: &Mesh, peer: &Peer, purpose: Purpose) {
    if purpose == Purpose::Requests {
        peer.requests.close();
        return;
    }
    count(&mesh.counters.messages_dropped, peer.messages.close());
    mesh.inbound.unreachable(peer.id);
}

/// Half to all of the least pause, doubled with each failure.
fn pause(mesh: &Mesh, peer: u64, failures: u32) -> Duration {
    let timing = &mesh.timing;
    let doubled = timing.reconnect_min.saturating_mul(1 << failures.min(20));
    let most = doubled.min(timing.reconnect_max).max(Duration::from_millis(1));
    let seed = mesh.id.rotate_left(32) ^ peer ^ u64::from(failures).rotate_left(17);
    let part = u32::try_from(mix(seed) % 1024).unwrap_or(0);
    most / 2 + most.saturating_mul(part) / 2048
}

/// The finalizer of splitmix64.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Makes one connection to a peer, who knows and accepts this node.
pub(super) async fn dial(
    mesh: &Mesh,
    peer: &Peer,
    purpose: Purpose,
) -> Result<Stream, ConnectionError> {
    let attempt = greet(mesh, peer, purpose);
    timeout(mesh.timing.handshake, attempt).await.map_err(|_| ConnectionError::Silent)?
}

async fn greet(mesh: &Mesh, peer: &Peer, purpose: Purpose) -> Result<Stream, ConnectionError> {
    let tcp = connect(mesh, &peer.address).await?;
    tcp.set_nodelay(true)?;
    let mut stream = mesh.gate.dialled(tcp, peer.id).await?;
    let hello = Hello {
        versions: mesh.versions,
        purpose,
        cluster: mesh.cluster,
        from: mesh.id,
        to: peer.id,
        incarnation: mesh.incarnation,
        directory: mesh.directory,
    };
    stream.write_all(&hello.encode()).await?;
    stream.flush().await?;
    let mut answer = [0; WELCOME_BYTES];
    stream.read_exact(&mut answer).await?;
    let (welcome, ours) = (Welcome::decode(&answer, mesh.versions)?, mesh.versions);
    let theirs = welcome.versions;
    let no_common = || ours.common(theirs).is_none().then_some(Refusal::Version { theirs, ours });
    let refusal = welcome.refusal.or_else(no_common);
    mesh.inbound.answered(peer.id, refusal);
    if let Some(refusal) = refusal {
        return Err(ConnectionError::Refused(refusal));
    }
    if !mesh.admits(peer.id, welcome.directory) {
        return Err(ConnectionError::Directory);
    }
    mesh.inbound.introduced(peer.id, welcome.directory);
    Ok(stream)
}

/// Tries each address that a name stands for, if it may be dialled as things are secured.
async fn connect(mesh: &Mesh, address: &str) -> Result<TcpStream, ConnectionError> {
    let mut last = ConnectionError::OffLoopback;
    for address in tokio::net::lookup_host(address).await? {
        if mesh.allows(address) {
            match TcpStream::connect(address).await {
                Ok(tcp) => return Ok(tcp),
                Err(error) => last = error.into(),
            }
        }
    }
    Err(last)
}
