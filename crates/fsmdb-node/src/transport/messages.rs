//! Messages of Raft: a bounded queue to each peer, and the connection that empties it.
//!
//! # Invariants
//!
//! 1. Messages to one peer arrive in the order of their sending, each at most once, as long as one
//!    connection lives. What a connection had not written is dropped with it.
//! 2. Every message that was queued and dropped is followed by `Inbound::unreachable`.
//! 3. No message reaches the node but one from the peer that was authenticated, to this node.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::io::AsyncWrite;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};

use super::counters::count;
use super::error::ConnectionError;
use super::frame::{self, Kind};
use super::mesh::{Mesh, Peer, Seat, lock};
use super::stream::{FrameReader, Stream, write_frames};
use crate::limits::{BATCH_BYTES_TARGET, PEER_QUEUE_BYTES_MAX, PEER_QUEUE_MESSAGES_MAX};
use crate::link::LinkError;

/// What waits for one peer.
#[derive(Default)]
pub(super) struct MessageQueue {
    state: Mutex<State>,
    waiting: Notify,
    lost: Notify,
}

#[derive(Default)]
struct State {
    /// Whether there is a connection, or an attempt at one.
    open: bool,
    connected: bool,
    queued: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl MessageQueue {
    /// Queues an encoded message.
    pub(super) fn push(&self, message: Vec<u8>) -> Result<(), LinkError> {
        let mut state = lock(&self.state);
        if !state.open {
            return Err(LinkError::NotConnected);
        }
        let is_full = state.queued.len() >= PEER_QUEUE_MESSAGES_MAX
            || state.bytes + message.len() > PEER_QUEUE_BYTES_MAX;
        if is_full {
            drop(state);
            self.lost.notify_one();
            return Err(LinkError::Full);
        }
        state.bytes += message.len();
        state.queued.push_back(message);
        drop(state);
        self.waiting.notify_one();
        Ok(())
    }

    pub(super) fn open(&self) {
        lock(&self.state).open = true;
    }

    /// Takes no more, lets go of what waits, and says how many messages that were.
    pub(super) fn close(&self) -> usize {
        let mut state = lock(&self.state);
        let dropped = state.queued.len();
        *state = State::default();
        dropped
    }

    /// Whether there is a connection, and the messages and bytes that wait.
    pub(super) fn depth(&self) -> (bool, usize, usize) {
        let state = lock(&self.state);
        (state.connected, state.queued.len(), state.bytes)
    }

    /// Makes one frame of what waits, up to the size that a write should have.
    fn take(&self, into: &mut Vec<u8>) {
        let mut state = lock(&self.state);
        if state.queued.is_empty() {
            return;
        }
        let start = frame::begin(Kind::Messages, into);
        let mut length = 0;
        while let Some(message) = state.queued.front() {
            let fits = frame::has_room(length, message.len()) && length < BATCH_BYTES_TARGET;
            if length > 0 && !fits {
                self.waiting.notify_one();
                break;
            }
            frame::push_message(message, into);
            state.bytes -= message.len();
            state.queued.pop_front();
            length = into.len() - start - frame::HEAD_BYTES;
        }
        drop(state);
        frame::seal(start, into);
    }
}

/// Tells the node of messages for which there was no room, for as long as it is not aborted.
pub(super) async fn report_losses(mesh: Arc<Mesh>, peer: Arc<Peer>) {
    loop {
        peer.messages.lost.notified().await;
        mesh.inbound.unreachable(peer.id);
    }
}

/// Empties the queue into a connection until that ends.
pub(super) async fn send(mesh: &Mesh, peer: &Peer, stream: Stream) -> ConnectionError {
    let (read, write) = tokio::io::split(stream);
    lock(&peer.messages.state).connected = true;
    // What waited longer than the attempt took has woken nobody.
    peer.messages.waiting.notify_one();
    tokio::select! {
        error = write_messages(mesh, &peer.messages, write) => error,
        error = listen(mesh, FrameReader::new(read, Arc::clone(&mesh.counters))) => error,
    }
}

async fn write_messages(
    mesh: &Mesh,
    queue: &MessageQueue,
    mut write: impl AsyncWrite + Unpin,
) -> ConnectionError {
    let mut tick = interval(mesh.timing.keep_alive);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        tokio::select! {
            biased;
            _ = tick.tick() => frame::encode(Kind::KeepAlive, &[], &mut bytes),
            () = queue.waiting.notified() => queue.take(&mut bytes),
        }
        if bytes.is_empty() {
            continue;
        }
        let limit = mesh.timing.silence;
        if let Err(error) = write_frames(&mut write, &bytes, 1, limit, &mesh.counters).await {
            return error;
        }
        if bytes.capacity() > 2 * BATCH_BYTES_TARGET {
            bytes = Vec::new();
        }
    }
}

/// The receiver of messages sends signs of life and nothing else.
async fn listen(
    mesh: &Mesh,
    mut frames: FrameReader<impl tokio::io::AsyncRead + Unpin>,
) -> ConnectionError {
    loop {
        match frames.next(mesh.timing.silence).await {
            Ok((Kind::KeepAlive, _)) => {}
            Ok((kind, _)) => return ConnectionError::Unexpected(kind),
            Err(error) => return error,
        }
    }
}

/// Hands the messages of an accepted connection to the node until that ends.
pub(super) async fn receive(
    mesh: &Mesh,
    from: u64,
    seat: &Seat,
    stream: Stream,
) -> ConnectionError {
    let (read, write) = tokio::io::split(stream);
    let mut frames = FrameReader::new(read, Arc::clone(&mesh.counters));
    let reading = async {
        loop {
            let arrived = frames.next(mesh.timing.silence).await;
            let outcome = match arrived {
                Ok((Kind::KeepAlive, _)) => Ok(()),
                Ok((Kind::Messages, payload)) => hand_in(mesh, from, seat, payload),
                Ok((kind, _)) => Err(ConnectionError::Unexpected(kind)),
                Err(error) => Err(error),
            };
            if let Err(error) = outcome {
                return error;
            }
        }
    };
    tokio::select! {
        error = reading => error,
        error = show_life(mesh, write) => error,
    }
}

async fn show_life(mesh: &Mesh, mut write: impl AsyncWrite + Unpin) -> ConnectionError {
    let mut bytes = Vec::new();
    frame::encode(Kind::KeepAlive, &[], &mut bytes);
    let mut tick = interval(mesh.timing.keep_alive);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let limit = mesh.timing.silence;
        if let Err(error) = write_frames(&mut write, &bytes, 1, limit, &mesh.counters).await {
            return error;
        }
    }
}

fn hand_in(mesh: &Mesh, from: u64, seat: &Seat, payload: &[u8]) -> Result<(), ConnectionError> {
    let messages = frame::messages(payload)?;
    for message in &messages {
        if message.from() != from || message.to() != mesh.id || message.is_snapshot() {
            let (from, to) = (message.from(), message.to());
            return Err(ConnectionError::Misaddressed { from, to });
        }
    }
    seat.deliver(|| messages.into_iter().for_each(|message| mesh.inbound.message(message)))
}

/// Counts a message that was not queued.
pub(super) fn note_dropped(mesh: &Mesh) {
    count(&mesh.counters.messages_dropped, 1);
}
