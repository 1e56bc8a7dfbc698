//! The line between a node and its transport.
//!
//! # Invariants
//!
//! 1. Nothing here blocks: a full queue loses the message and says so, as a network would.
//! 2. `from` is who the transport has authenticated, never what a message says of itself. A
//!    transport hands in no message whose sender or receiver is another one.
//! 3. Every callback is called exactly once, whatever became of the connection.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use fsmdb::raft::Message;

use crate::transport::{Refusal, TransportStats};

/// Why a message or request was not handed to the network, or not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// No address is known for this peer.
    #[error("no address is known for the peer")]
    UnknownPeer,
    /// There is no connection; nothing was sent.
    #[error("the peer is not connected")]
    NotConnected,
    /// The peer's queue is full; nothing was sent.
    #[error("the queue to the peer is full")]
    Full,
    /// The body is longer than [`REQUEST_BYTES_MAX`](crate::limits::REQUEST_BYTES_MAX).
    #[error("the request is too long")]
    TooLong,
    /// The message does not belong into a queue: its sender is another node, or it is a snapshot's
    /// and travels with its file.
    #[error("the message is another node's, or a snapshot's without its file")]
    Unfit,
    /// The connection ended, or the deadline passed, after something may have been sent.
    #[error("no answer: what was sent may have arrived")]
    Lost,
}

/// What is sent as the file of a snapshot: some bytes, and behind them the content of files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parcel {
    /// What comes first.
    pub head: Vec<u8>,
    /// What follows, in this order.
    pub files: Vec<PathBuf>,
}

/// Called with the outcome of one sent snapshot: whether the receiver has all of it, verified.
pub type SnapshotDone = Box<dyn FnOnce(bool) + Send>;

/// Calls a [`SnapshotDone`] once, whatever becomes of who holds this: dropped, with a failure.
pub(crate) struct Outcome(Option<SnapshotDone>);

impl Outcome {
    pub(crate) fn new(done: SnapshotDone) -> Self {
        Self(Some(done))
    }

    pub(crate) fn tell(mut self, is_taken: bool) {
        if let Some(done) = self.0.take() {
            done(is_taken);
        }
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            done(false);
        }
    }
}

/// Called with the answer to one request.
pub type RequestDone = Box<dyn FnOnce(Result<Vec<u8>, LinkError>) + Send>;

/// Answers one request of a peer; dropped unanswered, the peer learns [`LinkError::Lost`].
pub type Responder = Box<dyn FnOnce(Vec<u8>) + Send>;

/// What a node asks of its transport. Methods return at once.
pub trait Transport: Send + Sync + 'static {
    /// Queues a message for its receiver, in order with other messages to it.
    ///
    /// # Errors
    ///
    /// [`LinkError`] when nothing was queued.
    fn send(&self, message: Message) -> Result<(), LinkError>;

    /// Sends the file at `path` and then the snapshot message, apart from other messages.
    fn send_snapshot(&self, message: Message, path: PathBuf, done: SnapshotDone);

    /// As [`send_snapshot`](Self::send_snapshot), of what has changed since a snapshot that the
    /// receiver has said it holds. A transport that does without sends nothing, and the whole file
    /// is asked for instead.
    fn send_parcel(&self, message: Message, parcel: Parcel, done: SnapshotDone) {
        drop((message, parcel));
        done(false);
    }

    /// Sends a request of the application (a forwarded proposal or read) and waits for its answer
    /// at most `timeout`. Never sent twice.
    fn request(&self, to: u64, body: Vec<u8>, timeout: Duration, done: RequestDone);

    /// Replaces the addresses of peers; connections to those that are gone are closed.
    fn set_peers(&self, addresses: BTreeMap<u64, String>);

    /// Replaces what is known of the directories of peers: random bits, by id. A peer that has
    /// another one is not heard, and not spoken to. A transport whose peers cannot be wiped and
    /// come back need not know this.
    fn set_directories(&self, _directories: BTreeMap<u64, u128>) {}

    /// What it has done so far, and what is on its way. Asked for at every tick of the node, which
    /// shows it in [`Node::metrics`](crate::Node::metrics) and in
    /// [`NodeStatus::snapshots`](crate::node::NodeStatus::snapshots). The one provided here counts
    /// nothing.
    fn stats(&self) -> Option<TransportStats> {
        None
    }
}

/// What a transport hands to its node. Methods return at once.
pub trait Inbound: Send + Sync + 'static {
    /// A message of Raft arrived from `message.from()`, which is authenticated.
    fn message(&self, message: Message);

    /// What was sent of a snapshot, its file or a parcel, arrived whole at `path` and its bytes are
    /// verified; the node takes the file away (by renaming it) and answers whether it has taken it.
    fn snapshot(&self, message: Message, path: PathBuf, done: SnapshotDone);

    /// A request of a peer's application.
    fn request(&self, from: u64, body: Vec<u8>, respond: Responder);

    /// A peer cannot be reached, or a queued message to it was lost.
    fn unreachable(&self, peer: u64);

    /// A connection with a peer, in whichever direction, was agreed upon; the random bits of its
    /// directory, or 0 when it does not say. Called from a transport that knows directories.
    fn introduced(&self, _peer: u64, _directory: u128) {}

    /// A peer that was dialled refuses this node, or does not any more.
    fn answered(&self, _peer: u64, _refusal: Option<Refusal>) {}
}
