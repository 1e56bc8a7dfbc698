//! Messages of Raft: a bounded queue to each peer, and the connection that empties it.
//!
//! # Invariants
//!
//! 1. Messages to one peer arrive in the order of their sending, each at most once, as long as one
//!    connection lives. What a connection had not written is dropped with it.
//! 2. Every message that was queued and dropped is followed by `Inbound::unreachable`.
//! 3. No message reaches the node but one from the peer that was authenticated, to this node.
//! 4. Whoever queues a message writes it at once where nothing waits before it and the connection
//!    is not encrypted: what the socket does not take, the task of the connection writes. One of
//!    both writes at a time.

use std::collections::VecDeque;
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use tokio::io::AsyncWrite;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};

use super::counters::{Counters, count};
use super::error::ConnectionError;
use super::frame::{self, Kind};
use super::mesh::{Mesh, Peer, Seat, lock};
use super::stream::{FrameReader, Stream, write_frames};
use crate::limits::{
    AT_ONCE_BYTES_MAX, BATCH_BYTES_TARGET, PEER_QUEUE_BYTES_MAX, PEER_QUEUE_MESSAGES_MAX,
};
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
    /// The socket of the connection, if it takes frames as they are.
    socket: Option<TcpStream>,
    /// Whether the task of the connection writes.
    is_writing: bool,
    /// What is left of the frame that the socket has taken in part.
    rest: Vec<u8>,
    /// Room for the frame that is written at once.
    frame: Vec<u8>,
}

impl State {
    /// Writes the only message that waits, as far as the socket takes it; whether it took it all.
    fn write_at_once(&mut self, counters: &Counters) -> bool {
        let is_alone = self.queued.len() == 1 && self.rest.is_empty() && !self.is_writing;
        let (Some(socket), true) = (&mut self.socket, is_alone) else { return false };
        let front = self.queued.front().filter(|message| message.len() <= AT_ONCE_BYTES_MAX);
        let Some(message) = front else { return false };
        self.frame.clear();
        let start = frame::begin(Kind::Messages, &mut self.frame);
        frame::push_message(message, &mut self.frame);
        frame::seal(start, &mut self.frame);
        // What it does not take now, or why it takes nothing, the task learns by its own write.
        let taken = socket.write(&self.frame).unwrap_or_default();
        if taken > 0 {
            self.rest.extend_from_slice(&self.frame[taken..]);
            self.queued.clear();
            self.bytes = 0;
            counters.sent(u64::from(self.rest.is_empty()), taken);
        }
        taken > 0 && self.rest.is_empty()
    }
}

impl MessageQueue {
    /// Queues an encoded message, or writes it.
    pub(super) fn push(&self, message: Vec<u8>, counters: &Counters) -> Result<(), LinkError> {
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
        let is_written = state.write_at_once(counters);
        drop(state);
        if !is_written {
            self.waiting.notify_one();
        }
        Ok(())
    }

    pub(super) fn open(&self) {
        lock(&self.state).open = true;
    }

    /// Takes no more, lets go of what waits, and says how many messages that were.
    pub(super) fn close(&self) -> usize {
        let mut state = lock(&self.state);
        // What is left of a frame is of one message.
        let dropped = state.queued.len() + usize::from(!state.rest.is_empty());
        *state = State::default();
        dropped
    }

    /// Whether there is a connection, and the messages and bytes that wait.
    pub(super) fn depth(&self) -> (bool, usize, usize) {
        let state = lock(&self.state);
        (state.connected, state.queued.len(), state.bytes)
    }

    /// Makes one frame of what waits, up to the size that a write should have, behind what is left
    /// of the last one and a sign of life. Until [`wrote`](Self::wrote) nobody else writes. Answers
    /// how many frames end in it.
    fn take(&self, is_alive: bool, into: &mut Vec<u8>) -> u64 {
        let mut state = lock(&self.state);
        into.append(&mut state.rest);
        let mut frames = u64::from(!into.is_empty());
        if is_alive {
            frame::encode(Kind::KeepAlive, &[], into);
            frames += 1;
        }
        state.is_writing = !into.is_empty() || !state.queued.is_empty();
        if state.queued.is_empty() {
            return frames;
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
        frames + 1
    }

    /// What was taken is written.
    fn wrote(&self) {
        let mut state = lock(&self.state);
        state.is_writing = false;
        if !state.queued.is_empty() {
            self.waiting.notify_one();
        }
    }
}

/// Takes the socket of a connection back when that ends, however it does: held, it stays open.
struct AtOnce<'a>(&'a MessageQueue);

impl Drop for AtOnce<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).socket = None;
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
    let socket = stream.socket();
    let (read, write) = tokio::io::split(stream);
    let _at_once = AtOnce(&peer.messages);
    {
        let mut state = lock(&peer.messages.state);
        (state.connected, state.socket) = (true, socket);
    }
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
        let is_alive = tokio::select! {
            biased;
            _ = tick.tick() => true,
            () = queue.waiting.notified() => false,
        };
        let frames = queue.take(is_alive, &mut bytes);
        if bytes.is_empty() {
            continue;
        }
        let limit = mesh.timing.silence;
        if let Err(error) = write_frames(&mut write, &bytes, frames, limit, &mesh.counters).await {
            return error;
        }
        queue.wrote();
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::Read as _;
    use std::net::TcpListener;

    use super::frame::{Decoded, HEAD_BYTES};
    use super::*;

    /// A queue with the socket of a connection, and the other end of that.
    fn connected() -> (MessageQueue, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let near = TcpStream::connect(address).expect("somebody listens");
        let (far, _) = listener.accept().expect("somebody connects");
        near.set_nonblocking(true).expect("a socket");
        far.set_nonblocking(true).expect("a socket");
        let queue = MessageQueue::default();
        queue.open();
        lock(&queue.state).socket = Some(near);
        (queue, far)
    }

    /// The numbers of the messages in whole frames.
    fn numbers(mut bytes: &[u8]) -> Vec<u32> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let Decoded::Whole(frame, length) = frame::decode(bytes).expect("sound") else {
                panic!("a part of a frame")
            };
            let mut payload = if frame.kind == Kind::Messages { frame.payload } else { &[] };
            while let Some((head, rest)) = payload.split_first_chunk() {
                let (message, rest) = rest.split_at(u32::from_le_bytes(*head) as usize);
                found.push(u32::from_le_bytes(*message.first_chunk().expect("a number")));
                payload = rest;
            }
            bytes = &bytes[length..];
        }
        found
    }

    fn message(number: u32) -> Vec<u8> {
        [number.to_le_bytes().as_slice(), &[7; 5000]].concat()
    }

    #[test]
    fn what_is_written_at_once_and_what_waits_are_one_run_of_frames() {
        let (queue, mut far) = connected();
        let counters = Counters::default();
        let (pushed, mut arrived) = (Cell::new(0), Vec::new());
        let push = || {
            queue.push(message(pushed.get()), &counters).expect("there is room");
            pushed.set(pushed.get() + 1);
        };
        push();
        while far.read_to_end(&mut arrived).is_err() && arrived.len() < HEAD_BYTES + 4 + 5004 {}
        assert_eq!(numbers(&arrived), [0], "no task has written it");
        // Until the socket takes no more, and then two that wait.
        while lock(&queue.state).rest.is_empty() && lock(&queue.state).queued.is_empty() {
            push();
        }
        push();
        push();
        let mut taken = Vec::new();
        queue.take(true, &mut taken);
        push(); // not before what the task is writing
        let written = counters.read(Default::default()).bytes_sent as usize;
        while arrived.len() < written {
            // It would block: what was written is on its way.
            let _ = far.read_to_end(&mut arrived);
        }
        assert!(lock(&queue.state).queued.len() == 1, "it waits");
        queue.wrote();
        queue.take(false, &mut taken);
        queue.wrote();
        arrived.extend(taken);
        assert_eq!(numbers(&arrived), (0..pushed.get()).collect::<Vec<_>>());
        drop(AtOnce(&queue));
        push();
        assert_eq!(lock(&queue.state).queued.len(), 1, "the connection has ended");
    }
}
