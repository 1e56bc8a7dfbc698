//! Snapshots that arrive: resumed, verified, handed to the node.
//!
//! # Invariants
//!
//! 1. The node sees a snapshot whose file is whole and has the announced hash, or none.
//! 2. What a sender can make this node store is one partial file of a bounded size.
//! 3. While the sender waits, for the disk or for the node, it gets signs of life.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use fsmdb::raft::Message;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::counters::count;
use super::departures::on_disk;
use super::error::ConnectionError;
use super::frame::{self, FrameError, Kind};
use super::mesh::{Mesh, Seat};
use super::partial::{Content, Partial};
use super::stream::{FrameReader, Stream, write_frames};
use crate::limits::{SNAPSHOT_CHUNK_TIMEOUT, SNAPSHOT_TAKE_TIMEOUT};

/// What became of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The node has taken it.
    Taken = 0,
    /// The node has not taken it, in time.
    Declined = 1,
    /// The file was not what was announced.
    Corrupt = 2,
    /// The file is too large.
    TooLarge = 3,
    /// The disk failed.
    Disk = 4,
}

impl Verdict {
    pub(super) fn read(payload: &[u8]) -> Self {
        match payload {
            [0] => Self::Taken,
            [2] => Self::Corrupt,
            [3] => Self::TooLarge,
            [4] => Self::Disk,
            _ => Self::Declined,
        }
    }

    pub(super) fn into_error(self) -> ConnectionError {
        ConnectionError::Snapshot(match self {
            Self::Taken => "it was taken before it was sent",
            Self::Declined => "the node has not taken it",
            Self::Corrupt => "what arrived is not what was announced",
            Self::TooLarge => "the file is too large",
            Self::Disk => "the disk failed",
        })
    }
}

/// Names of files that were received, each once in a process.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A file in the hands of the node. When the node is done with it, what is left of it goes.
struct Handed {
    path: PathBuf,
    answer: Option<oneshot::Sender<bool>>,
}

impl Handed {
    fn end(&mut self, taken: bool) {
        if let Some(answer) = self.answer.take() {
            // Whoever took the file has renamed it, and then there is nothing to remove.
            let _ = fs::remove_file(&self.path);
            let _ = answer.send(taken);
        }
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        self.end(false);
    }
}

/// Takes the snapshot that comes over an accepted connection.
pub(super) async fn receive(
    mesh: &Arc<Mesh>,
    from: u64,
    seat: &Seat,
    stream: Stream,
) -> Result<(), ConnectionError> {
    let (read, write) = tokio::io::split(stream);
    let frames = FrameReader::new(read, Arc::clone(&mesh.counters));
    let (replies, outgoing) = mpsc::channel(1);
    let taking = async {
        let verdict = match take(mesh, from, seat, frames, &replies).await {
            Ok(verdict) => verdict,
            Err(ConnectionError::Disk(error)) => {
                slog::warn!(mesh.log, "a snapshot cannot be stored"; "reason" => %error);
                Verdict::Disk
            }
            Err(error) => return Err(error),
        };
        reply(&replies, Kind::SnapshotResult, &[verdict as u8]).await;
        drop(replies); // then the other side of the channel ends too
        Ok(())
    };
    tokio::try_join!(taking, write_replies(mesh, write, outgoing)).map(|_| ())
}

async fn reply(replies: &mpsc::Sender<Vec<u8>>, kind: Kind, payload: &[u8]) {
    let mut bytes = Vec::new();
    frame::encode(kind, &[payload], &mut bytes);
    // Nobody takes it when the connection is gone, and that ends the other half.
    let _ = replies.send(bytes).await;
}

async fn write_replies(
    mesh: &Mesh,
    mut write: impl AsyncWrite + Unpin,
    mut replies: mpsc::Receiver<Vec<u8>>,
) -> Result<(), ConnectionError> {
    let mut alive = Vec::new();
    frame::encode(Kind::KeepAlive, &[], &mut alive);
    loop {
        let bytes = match timeout(mesh.timing.keep_alive, replies.recv()).await {
            Ok(Some(reply)) => reply,
            Ok(None) => break,
            Err(_) => alive.clone(),
        };
        write_frames(&mut write, &bytes, 1, mesh.timing.silence, &mesh.counters).await?;
    }
    let shut = timeout(mesh.timing.silence, write.shutdown()).await;
    Ok(shut.map_err(|_| ConnectionError::Silent)??)
}

async fn take(
    mesh: &Arc<Mesh>,
    from: u64,
    seat: &Seat,
    mut frames: FrameReader<impl AsyncRead + Unpin>,
    replies: &mpsc::Sender<Vec<u8>>,
) -> Result<Verdict, ConnectionError> {
    let (content, message) = match frames.next(mesh.timing.silence).await? {
        (Kind::SnapshotOffer, payload) => read_offer(mesh, from, payload)?,
        (kind, _) => return Err(ConnectionError::Unexpected(kind)),
    };
    if content.size > mesh.file_bytes_max {
        return Ok(Verdict::TooLarge);
    }
    let held = timeout(SNAPSHOT_CHUNK_TIMEOUT, mesh.partial(from).lock_owned()).await;
    let held = held.map_err(|_| ConnectionError::Silent)?;
    let folder = mesh.folder.clone();
    let mut partial = on_disk(move || Partial::open(&folder, from, content, held)).await?;
    let shown = mesh.receiving.show(from, content.size, partial.length);
    reply(replies, Kind::SnapshotHave, &partial.length.to_le_bytes()).await;
    while !partial.is_whole() {
        let chunk = match frames.next(SNAPSHOT_CHUNK_TIMEOUT).await? {
            (Kind::SnapshotChunk, payload) => read_chunk(&partial, payload)?.to_vec(),
            (kind, _) => return Err(ConnectionError::Unexpected(kind)),
        };
        count(&mesh.counters.snapshot_bytes_received, chunk.len());
        let appended = on_disk(move || partial.append(&chunk).map(|()| partial));
        partial = appended.await?;
        shown.set(partial.length);
    }
    let path = mesh.folder.join(format!("{from}-{}.received", NUMBER.fetch_add(1, Relaxed)));
    let into = path.clone();
    if on_disk(move || partial.finish(&into)).await?.is_none() {
        return Ok(Verdict::Corrupt);
    }
    hand_in(mesh, seat, message, path).await
}

fn read_offer(
    mesh: &Mesh,
    from: u64,
    payload: &[u8],
) -> Result<(Content, Message), ConnectionError> {
    let (size, rest) = frame::number(payload, "an offer")?;
    let wrong = FrameError::Payload { what: "an offer", length: payload.len() };
    let (hash, encoded) = rest.split_first_chunk::<32>().ok_or(wrong)?;
    let message = frame::message(encoded)?;
    if message.from() != from || message.to() != mesh.id || !message.is_snapshot() {
        let (from, to) = (message.from(), message.to());
        return Err(ConnectionError::Misaddressed { from, to });
    }
    Ok((Content { size, hash: *hash }, message))
}

/// A piece that follows what is there and is not longer than what is missing.
fn read_chunk<'a>(partial: &Partial, payload: &'a [u8]) -> Result<&'a [u8], ConnectionError> {
    let (offset, chunk) = frame::number(payload, "a piece")?;
    if offset != partial.length || chunk.is_empty() || !partial.has_room(chunk.len()) {
        let what = "the next piece of the file";
        return Err(FrameError::Payload { what, length: payload.len() }.into());
    }
    Ok(chunk)
}

async fn hand_in(
    mesh: &Arc<Mesh>,
    seat: &Seat,
    message: Message,
    path: PathBuf,
) -> Result<Verdict, ConnectionError> {
    let (answer, answered) = oneshot::channel();
    let mut handed = Handed { path: path.clone(), answer: Some(answer) };
    let done = Box::new(move |taken| {
        handed.end(taken);
        drop(handed);
    });
    seat.deliver(|| mesh.inbound.snapshot(message, path, done))?;
    let taken = timeout(SNAPSHOT_TAKE_TIMEOUT, answered).await;
    Ok(if taken == Ok(Ok(true)) { Verdict::Taken } else { Verdict::Declined })
}
