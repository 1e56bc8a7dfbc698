//! Requests to a peer: what waits to be written, what waits for an answer, and until when.
//!
//! # Invariants
//!
//! 1. A request is written at most once. After that only its answer, its deadline or the end of
//!    its connection ends it.
//! 2. Every request ends exactly once, also when the transport is dropped; no lock is held then.
//! 3. A callback that panics ends itself: the task that called it carries the others on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::answers::{Outcome, write_queue};
use super::error::ConnectionError;
use super::frame::{self, FrameError, Kind};
use super::mesh::{Mesh, Peer, lock};
use super::stream::{FrameReader, Stream};
use crate::limits::{
    BATCH_BYTES_TARGET, REQUEST_QUEUE_BYTES_MAX, REQUEST_TIMEOUT_MAX, REQUESTS_IN_FLIGHT_MAX,
};
use crate::link::{LinkError, RequestDone};

/// Who asked. Dropped unanswered, they learn what `otherwise` says.
pub(super) struct Asker {
    done: Option<RequestDone>,
    otherwise: LinkError,
}

impl Asker {
    pub(super) fn new(done: RequestDone) -> Self {
        Self { done: Some(done), otherwise: LinkError::NotConnected }
    }

    pub(super) fn answer(mut self, answer: Result<Vec<u8>, LinkError>) {
        self.end(answer);
    }

    fn end(&mut self, answer: Result<Vec<u8>, LinkError>) {
        if let Some(done) = self.done.take() {
            // The words of a panic are on standard error, and who waited learns it by its drop.
            let _ = catch_unwind(AssertUnwindSafe(|| done(answer)));
        }
    }

    /// Lets go of them with this reason.
    pub(super) fn refuse(self, error: LinkError) {
        self.answer(Err(error));
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.end(Err(self.otherwise));
    }
}

/// The requests to one peer.
#[derive(Default)]
pub(super) struct RequestBook {
    state: Mutex<State>,
    waiting: Notify,
    /// The first deadline may have changed.
    hurried: Notify,
}

#[derive(Default)]
struct State {
    open: bool,
    connected: bool,
    next: u64,
    queued: VecDeque<(u64, Vec<u8>)>,
    queued_bytes: usize,
    askers: BTreeMap<u64, (Asker, Instant)>,
    deadlines: BTreeSet<(Instant, u64)>,
}

impl State {
    fn remove(&mut self, number: u64) -> Option<Asker> {
        let (asker, deadline) = self.askers.remove(&number)?;
        self.deadlines.remove(&(deadline, number));
        Some(asker)
    }
}

impl RequestBook {
    /// Queues a request, or gives back who asked and why not.
    pub(super) fn push(
        &self,
        body: Vec<u8>,
        limit: Duration,
        asker: Asker,
    ) -> Result<(), (Asker, LinkError)> {
        let deadline = Instant::now() + limit.min(REQUEST_TIMEOUT_MAX);
        let mut state = lock(&self.state);
        if !state.open {
            return Err((asker, LinkError::NotConnected));
        }
        let bytes = state.queued_bytes + body.len();
        if state.askers.len() >= REQUESTS_IN_FLIGHT_MAX || bytes > REQUEST_QUEUE_BYTES_MAX {
            return Err((asker, LinkError::Full));
        }
        let number = state.next;
        state.next += 1;
        state.queued_bytes = bytes;
        state.queued.push_back((number, body));
        state.askers.insert(number, (asker, deadline));
        state.deadlines.insert((deadline, number));
        let is_first = state.deadlines.first() == Some(&(deadline, number));
        drop(state);
        self.waiting.notify_one();
        if is_first {
            self.hurried.notify_one();
        }
        Ok(())
    }

    pub(super) fn open(&self) {
        lock(&self.state).open = true;
    }

    /// Takes no more, and ends all there are.
    pub(super) fn close(&self) {
        let mut state = lock(&self.state);
        let next = state.next;
        let ended = std::mem::replace(&mut *state, State { next, ..State::default() });
        drop(state);
        drop(ended); // each asker learns its fate
    }

    /// Whether there is a connection, and how many wait for an answer.
    pub(super) fn depth(&self) -> (bool, usize) {
        let state = lock(&self.state);
        (state.connected, state.askers.len())
    }

    /// Makes frames of what waits, up to the size that a write should have; returns their count.
    fn take(&self, into: &mut Vec<u8>) -> u64 {
        let mut frames = 0;
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        while let Some((number, body)) = state.queued.pop_front() {
            state.queued_bytes -= body.len();
            if let Some((asker, _)) = state.askers.get_mut(&number) {
                asker.otherwise = LinkError::Lost;
                frame::encode(Kind::Request, &[&number.to_le_bytes(), &body], into);
                frames += 1;
            }
            if into.len() >= BATCH_BYTES_TARGET && !state.queued.is_empty() {
                self.waiting.notify_one();
                break;
            }
        }
        frames
    }

    /// An answer arrived. One that nobody waits for any more is dropped.
    fn answer(&self, payload: &[u8]) -> Result<(), ConnectionError> {
        let (number, rest) = frame::number(payload, "an answer")?;
        let wrong = FrameError::Payload { what: "an answer", length: payload.len() };
        let (outcome, body) = rest.split_first().ok_or_else(|| wrong.clone())?;
        let answer = match Outcome::from_byte(*outcome).ok_or(wrong)? {
            Outcome::Answered => Ok(body.to_vec()),
            Outcome::Lost => Err(LinkError::Lost),
            Outcome::Full => Err(LinkError::Full),
        };
        let asker = lock(&self.state).remove(number);
        if let Some(asker) = asker {
            asker.answer(answer);
        }
        Ok(())
    }

    /// Takes out who has waited too long, and says when the next will have.
    fn expired(&self) -> (Vec<Asker>, Option<Instant>) {
        let now = Instant::now();
        let mut state = lock(&self.state);
        let mut expired = Vec::new();
        while let Some(&(deadline, number)) = state.deadlines.first() {
            if deadline > now {
                return (expired, Some(deadline));
            }
            expired.extend(state.remove(number));
        }
        (expired, None)
    }
}

/// Ends requests whose time is over, for as long as it is not aborted.
pub(super) async fn expire(peer: Arc<Peer>) {
    loop {
        let (expired, next) = peer.requests.expired();
        drop(expired);
        let hurried = peer.requests.hurried.notified();
        match next {
            None => hurried.await,
            Some(next) => {
                tokio::select! {
                    () = hurried => {}
                    () = sleep_until(next) => {}
                }
            }
        }
    }
}

/// Carries requests and answers over a connection until that ends.
pub(super) async fn ask(mesh: &Mesh, peer: &Peer, stream: Stream) -> ConnectionError {
    let (read, write) = tokio::io::split(stream);
    let frames = FrameReader::new(read, Arc::clone(&mesh.counters));
    lock(&peer.requests.state).connected = true;
    // What was asked during the attempt has woken nobody.
    peer.requests.waiting.notify_one();
    let book = &peer.requests;
    tokio::select! {
        error = write_queue(mesh, &book.waiting, |into| book.take(into), write) => error,
        error = read_answers(mesh, book, frames) => error,
    }
}

async fn read_answers(
    mesh: &Mesh,
    book: &RequestBook,
    mut frames: FrameReader<impl AsyncRead + Unpin>,
) -> ConnectionError {
    loop {
        let outcome = match frames.next(mesh.timing.silence).await {
            Ok((Kind::KeepAlive, _)) => Ok(()),
            Ok((Kind::Answer, payload)) => book.answer(payload),
            Ok((kind, _)) => Err(ConnectionError::Unexpected(kind)),
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            return error;
        }
    }
}
