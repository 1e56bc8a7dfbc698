//! The thread that takes received snapshots into the store.
//!
//! It reads each file whole, which may take minutes. Nothing waits for it but the next file that
//! arrives: not the log, not a snapshot that is being built.
//!
//! # Invariants
//!
//! 1. A snapshot message goes to the core only after its file is verified and durable in the store.
//! 2. Who handed a file in is answered once, whatever becomes of the thread.
//! 3. Nothing that a peer sends stops the node: a file that is not what its message says, by index
//!    and term or by its bytes, is refused here.

use std::path::PathBuf;
use std::sync::Arc;

use fsmdb::Applied;
use fsmdb::raft::Message;
use slog::{Logger, warn};

use super::inbox::Inbox;
use super::mail::Mail;
use super::snapshots::SnapshotStore;
use crate::link::Outcome;
use crate::metrics::Metrics;

/// A snapshot that has arrived.
pub(super) struct Arrival {
    pub(super) message: Message,
    pub(super) file: PathBuf,
    /// Whether it was taken.
    pub(super) outcome: Outcome,
}

/// The thread of arrivals.
pub(super) struct Adopter<R> {
    pub(super) arrivals: Arc<Inbox<Arrival>>,
    pub(super) inbox: Arc<Inbox<Mail<R>>>,
    pub(super) store: Arc<dyn SnapshotStore>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) logger: Logger,
}

impl<R> Adopter<R> {
    pub(super) fn run(self) {
        let mut taken = Vec::new();
        while self.arrivals.take(None, &mut taken) {
            taken.drain(..).for_each(|arrival| self.adopt(arrival));
        }
    }

    fn adopt(&self, Arrival { mut message, file, outcome }: Arrival) {
        let at = Applied { index: message.snapshot_index(), term: message.snapshot_term() };
        self.metrics.snapshot_verifying.set(1);
        let adopted = self.store.adopt(at, message.snapshot_reference(), &file);
        self.metrics.snapshot_verifying.set(0);
        match adopted {
            Ok(reference) => {
                message.set_snapshot_reference(&reference);
                // The raft thread has ended already, and nobody asks.
                let _ = self.inbox.post(Mail::Message(message));
                outcome.tell(true);
            }
            Err(error) => {
                self.metrics.snapshots_refused.inc();
                warn!(self.logger, "a received snapshot is refused"; "from" => message.from(),
                    "index" => at.index, "term" => at.term, "reason" => %error);
                outcome.tell(false);
            }
        }
    }
}
