//! Snapshots that are sent, each over a connection of its own.
//!
//! # Invariants
//!
//! 1. One snapshot is on its way to a peer at a time.
//! 2. Every one ends exactly once, in bounded time: each step has a limit, and a transfer that is
//!    dropped has failed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use fsmdb::raft::Message;
use slog::{info, warn};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Duration, Instant, sleep, sleep_until, timeout};

use super::arrivals::Verdict;
use super::counters::{Shown, count};
use super::dial::dial;
use super::error::ConnectionError;
use super::frame::{self, Kind};
use super::handshake::Purpose;
use super::mesh::{Mesh, Peer};
use super::partial::Outgoing;
use super::stream::{FrameReader, write_frames};
use crate::limits::{SNAPSHOT_CHUNK_TIMEOUT, SNAPSHOT_MESSAGE_BYTES_MAX, SNAPSHOT_TAKE_TIMEOUT};
use crate::link::{Outcome, Parcel};

/// The one transfer to a peer.
struct Turn(Arc<Peer>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.transferring.store(false, SeqCst);
    }
}

/// Sends a snapshot, and says what became of it.
pub(super) async fn send(
    mesh: Arc<Mesh>,
    peer: Option<Arc<Peer>>,
    message: Message,
    parcel: Parcel,
    outcome: Outcome,
) {
    let Some(peer) = peer.filter(|peer| !peer.transferring.swap(true, SeqCst)) else {
        return; // nobody is known there, or another one is on its way: failed
    };
    let turn = Turn(peer);
    let peer = &turn.0;
    let begun = Instant::now();
    let form = if parcel.head.is_empty() { "whole" } else { "changes" };
    let sent = transfer(&mesh, peer, &message, parcel).await;
    match &sent {
        Ok(bytes) => info!(mesh.log, "a snapshot has arrived"; "peer" => peer.id,
            "index" => message.snapshot_index(), "form" => form, "bytes" => bytes,
            "milliseconds" => begun.elapsed().as_millis()),
        Err(error) => warn!(mesh.log, "a snapshot has not arrived"; "peer" => peer.id,
            "index" => message.snapshot_index(), "form" => form, "reason" => %error),
    }
    drop(turn); // so that who learns of the end can begin anew
    outcome.tell(sent.is_ok());
}

/// Runs what waits for the disk where no connection waits for it.
pub(super) async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, ConnectionError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(ConnectionError::Disk)
}

/// Sends what the peer does not have yet; returns how many bytes that were.
async fn transfer(
    mesh: &Mesh,
    peer: &Peer,
    message: &Message,
    parcel: Parcel,
) -> Result<u64, ConnectionError> {
    let encoded = message.encode().map_err(io::Error::other)?;
    let is_ours = message.is_snapshot() && message.from() == mesh.id;
    if !is_ours || encoded.len() > SNAPSHOT_MESSAGE_BYTES_MAX {
        return Err(ConnectionError::Snapshot(
            "this is not a message of this node with a snapshot",
        ));
    }
    let outgoing = on_disk(move || Outgoing::open(&parcel)).await?;
    let content = outgoing.content;
    if content.size > mesh.file_bytes_max {
        return Err(ConnectionError::Snapshot("the file is too large"));
    }
    let shown = mesh.sending.show(peer.id, content.size, 0);
    let stream = dial(mesh, peer, Purpose::Snapshot).await?;
    let (read, mut write) = tokio::io::split(stream);
    let mut frames = FrameReader::new(read, Arc::clone(&mesh.counters));
    let mut bytes = Vec::new();
    let parts: [&[u8]; 3] = [&content.size.to_le_bytes(), &content.hash, &encoded];
    frame::encode(Kind::SnapshotOffer, &parts, &mut bytes);
    write_frames(&mut write, &bytes, 1, mesh.timing.silence, &mesh.counters).await?;
    let offset = timeout(SNAPSHOT_TAKE_TIMEOUT, offset(mesh, &mut frames)).await;
    let offset = offset.map_err(|_| ConnectionError::Silent)??;
    if offset > content.size {
        return Err(ConnectionError::Snapshot("it has more than there is"));
    }
    shown.set(offset);
    tokio::select! {
        verdict = verdict(mesh, &mut frames) => verdict?,
        error = write_chunks(mesh, outgoing, offset, &shown, &mut write) => return Err(error),
    }
    Ok(content.size - offset)
}

/// Waits for what the peer has of the file.
async fn offset(
    mesh: &Mesh,
    frames: &mut FrameReader<impl AsyncRead + Unpin>,
) -> Result<u64, ConnectionError> {
    loop {
        match frames.next(mesh.timing.silence).await? {
            (Kind::KeepAlive, _) => {}
            (Kind::SnapshotHave, payload) => return Ok(frame::number(payload, "an offset")?.0),
            (Kind::SnapshotResult, payload) => return Err(Verdict::read(payload).into_error()),
            (kind, _) => return Err(ConnectionError::Unexpected(kind)),
        }
    }
}

/// Waits for what the peer says of the whole.
async fn verdict(
    mesh: &Mesh,
    frames: &mut FrameReader<impl AsyncRead + Unpin>,
) -> Result<(), ConnectionError> {
    loop {
        match frames.next(mesh.timing.silence).await? {
            (Kind::KeepAlive, _) => {}
            (Kind::SnapshotResult, payload) => match Verdict::read(payload) {
                Verdict::Taken => return Ok(()),
                refused => return Err(refused.into_error()),
            },
            (kind, _) => return Err(ConnectionError::Unexpected(kind)),
        }
    }
}

/// Writes the rest of the file at the configured rate, then gives the peer its time to take it.
async fn write_chunks(
    mesh: &Mesh,
    mut file: Outgoing,
    offset: u64,
    shown: &Shown<'_>,
    write: &mut (impl AsyncWrite + Unpin),
) -> ConnectionError {
    let write_all = async {
        file.seek(offset).map_err(ConnectionError::Disk)?;
        let begun = Instant::now();
        loop {
            let (read, chunk) = on_disk(move || {
                let chunk = file.read()?;
                Ok((file, chunk))
            })
            .await?;
            file = read;
            if chunk.is_empty() {
                return Ok(());
            }
            let at = file.offset - chunk.len() as u64;
            let mut bytes = Vec::with_capacity(chunk.len() + 64);
            frame::encode(Kind::SnapshotChunk, &[&at.to_le_bytes(), &chunk], &mut bytes);
            write_frames(write, &bytes, 1, SNAPSHOT_CHUNK_TIMEOUT, &mesh.counters).await?;
            count(&mesh.counters.snapshot_bytes_sent, chunk.len());
            shown.set(file.offset);
            let sent = (file.offset - offset) as f64;
            sleep_until(begun + Duration::from_secs_f64(sent / mesh.snapshot_rate as f64)).await;
        }
    };
    match write_all.await {
        Err(error) => error,
        Ok(()) => {
            sleep(SNAPSHOT_TAKE_TIMEOUT).await;
            ConnectionError::Silent
        }
    }
}
