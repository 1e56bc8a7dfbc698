//! What a transport hands in, on its way to the raft thread.
//!
//! # Invariants
//!
//! 1. Nothing here blocks. What finds the inbox full is dropped; a request that is dropped is not
//!    answered, and who asked learns that.
//! 2. A command of a peer is read before it is proposed: one that this build does not know is
//!    refused here instead of stopping every node of this build later.

use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::Arc;

use fsmdb::raft::Message;
use fsmdb::{Machine, MachineError};

use super::arrivals::Arrival;
use super::inbox::Inbox;
use super::mail::Mail;
use super::request::{Answer, Refused, Request, decode, encode};
use crate::limits::INBOX_MAX;
use crate::link::{Inbound, Outcome, Responder, SnapshotDone};
use crate::session::{Replicated, Sessions};
use crate::transport::Refusal;

/// The inbound side of one node.
pub(super) struct Door<F: Replicated> {
    pub(super) inbox: Arc<Inbox<Mail<F::Reply>>>,
    pub(super) marker: PhantomData<fn() -> F>,
}

impl<F: Replicated> Inbound for Door<F> {
    fn message(&self, message: Message) {
        // Lost as in a network, which Raft expects.
        let _ = self.inbox.offer(Mail::Message(message), INBOX_MAX);
    }

    fn snapshot(&self, message: Message, path: PathBuf, done: SnapshotDone) {
        let arrival = Arrival { message, file: path, outcome: Outcome::new(done) };
        // Dropped, it is not taken.
        let _ = self.inbox.offer(Mail::Snapshot(arrival), INBOX_MAX);
    }

    fn request(&self, from: u64, body: Vec<u8>, respond: Responder) {
        let Some(request) = decode::<Request>(&body) else { return };
        if let Request::Propose { command } = &request
            && let Err(error) = Machine::<Sessions<F>>::check(command)
        {
            let refused = match error {
                MachineError::TooLarge { bytes, limit } => Refused::TooLarge { bytes, limit },
                other => Refused::Encode { reason: other.to_string() },
            };
            send(respond, &Answer::Refused(refused));
            return;
        }
        // Dropped unanswered, who asked learns that the answer is lost.
        let _ = self.inbox.offer(Mail::Request { from, request, respond }, INBOX_MAX);
    }

    fn unreachable(&self, peer: u64) {
        let _ = self.inbox.offer(Mail::Unreachable(peer), INBOX_MAX);
    }

    fn introduced(&self, peer: u64, directory: u128) {
        // One for each connection of a peer that is known; none once the raft thread has ended.
        let _ = self.inbox.post(Mail::Introduced { peer, directory });
    }

    fn answered(&self, peer: u64, refusal: Option<Refusal>) {
        let _ = self.inbox.post(Mail::Answered { peer, refusal });
    }
}

/// Sends an answer; one that is too long becomes an unknown outcome.
pub(super) fn send(respond: Responder, answer: &Answer) {
    if let Some(bytes) = encode(answer).or_else(|| encode(&Answer::Unknown)) {
        respond(bytes);
    }
}
