//! Requests of a peer, handed to the node, and the answers on their way back.
//!
//! # Invariants
//!
//! 1. Every request that arrives is answered once, in whatever order, for as long as its connection
//!    lives: by the node, or by a word for what became of it.
//! 2. A request that is refused for want of room has not been seen by the node.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::io::AsyncWrite;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};

use super::error::ConnectionError;
use super::frame::{self, Kind};
use super::mesh::{Mesh, Seat, lock};
use super::stream::{FrameReader, Stream, write_frames};
use crate::limits::{
    BATCH_BYTES_TARGET, REQUEST_BYTES_MAX, REQUEST_QUEUE_BYTES_MAX, REQUESTS_IN_FLIGHT_MAX,
};

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The node answered.
    Answered = 0,
    /// The node let go of it, or its answer did not fit.
    Lost = 1,
    /// There was no room for it; nothing was done.
    Full = 2,
}

impl Outcome {
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Answered,
            1 => Self::Lost,
            2 => Self::Full,
            _ => return None,
        })
    }
}

/// The answers of one connection.
#[derive(Default)]
struct Answers {
    state: Mutex<State>,
    waiting: Notify,
}

#[derive(Default)]
struct State {
    /// Requests that arrived and whose answer is not written.
    in_flight: usize,
    queued: VecDeque<(u64, Outcome, Vec<u8>)>,
    queued_bytes: usize,
}

impl Answers {
    fn push(&self, number: u64, outcome: Outcome, body: Vec<u8>) {
        let mut state = lock(&self.state);
        let bytes = state.queued_bytes + body.len();
        let fits = body.len() <= REQUEST_BYTES_MAX && bytes <= REQUEST_QUEUE_BYTES_MAX;
        if fits {
            state.queued_bytes = bytes;
            state.queued.push_back((number, outcome, body));
        } else {
            state.queued.push_back((number, Outcome::Lost, Vec::new()));
        }
        drop(state);
        self.waiting.notify_one();
    }

    /// Makes frames of what waits, up to the size that a write should have; returns their count.
    fn take(&self, into: &mut Vec<u8>) -> u64 {
        let mut state = lock(&self.state);
        let mut frames = 0;
        while let Some((number, outcome, body)) = state.queued.pop_front() {
            state.queued_bytes -= body.len();
            state.in_flight -= 1;
            frame::encode(Kind::Answer, &[&number.to_le_bytes(), &[outcome as u8], &body], into);
            frames += 1;
            if into.len() >= BATCH_BYTES_TARGET && !state.queued.is_empty() {
                self.waiting.notify_one();
                break;
            }
        }
        frames
    }
}

/// A request that the node works on.
struct Pending {
    answers: Arc<Answers>,
    number: u64,
    answer: Option<Vec<u8>>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        let answered = self.answer.take();
        let outcome = if answered.is_some() { Outcome::Answered } else { Outcome::Lost };
        self.answers.push(self.number, outcome, answered.unwrap_or_default());
    }
}

/// Hands the requests of an accepted connection to the node, and its answers back, until it ends.
pub(super) async fn serve(mesh: &Mesh, from: u64, seat: &Seat, stream: Stream) -> ConnectionError {
    let (read, write) = tokio::io::split(stream);
    let mut frames = FrameReader::new(read, Arc::clone(&mesh.counters));
    let answers = Arc::new(Answers::default());
    let reading = async {
        loop {
            let outcome = match frames.next(mesh.timing.silence).await {
                Ok((Kind::KeepAlive, _)) => Ok(()),
                Ok((Kind::Request, payload)) => hand_in(mesh, from, seat, &answers, payload),
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
        error = write_queue(mesh, &answers.waiting, |into| answers.take(into), write) => error,
    }
}

fn hand_in(
    mesh: &Mesh,
    from: u64,
    seat: &Seat,
    answers: &Arc<Answers>,
    payload: &[u8],
) -> Result<(), ConnectionError> {
    let (number, body) = frame::number(payload, "a request")?;
    let mut state = lock(&answers.state);
    // Refusals count too, so that a peer that reads no answers cannot pile them up.
    if state.in_flight >= 2 * REQUESTS_IN_FLIGHT_MAX {
        return Err(ConnectionError::Unexpected(Kind::Request));
    }
    state.in_flight += 1;
    let is_full = state.in_flight > REQUESTS_IN_FLIGHT_MAX;
    drop(state);
    if is_full {
        answers.push(number, Outcome::Full, Vec::new());
        return Ok(());
    }
    let mut pending = Pending { answers: Arc::clone(answers), number, answer: None };
    let respond = move |answer| {
        pending.answer = Some(answer);
        drop(pending);
    };
    seat.deliver(|| mesh.inbound.request(from, body.to_vec(), Box::new(respond)))
}

/// Writes what a queue gives, whenever it says that something waits, and signs of life between.
pub(super) async fn write_queue(
    mesh: &Mesh,
    waiting: &Notify,
    take: impl Fn(&mut Vec<u8>) -> u64,
    mut write: impl AsyncWrite + Unpin,
) -> ConnectionError {
    let mut tick = interval(mesh.timing.keep_alive);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let (mut bytes, mut frames) = (Vec::new(), 1);
        tokio::select! {
            biased;
            _ = tick.tick() => frame::encode(Kind::KeepAlive, &[], &mut bytes),
            () = waiting.notified() => frames = take(&mut bytes),
        }
        let limit = mesh.timing.silence;
        if let Err(error) = write_frames(&mut write, &bytes, frames, limit, &mesh.counters).await {
            return error;
        }
    }
}
