//! Snapshots on their way to a peer: as a whole file, or as what has changed since one it holds.
//!
//! Where there are changes that lead to the snapshot, the receiver is asked which files it holds. A
//! node of an older version does not understand that, and one that cannot use changes names none:
//! both get the whole file, and so does whoever did not take the changes a few times.
//!
//! # Invariants
//!
//! 1. Every snapshot that is to be sent is reported once, whatever became of it: by the drop of its
//!    report at the latest.
//! 2. Changes are sent at most [`CHANGES_ATTEMPTS_MAX`] times to a receiver for one snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;

use fsmdb::raft::{Event, Message};

use super::error::NodeError;
use super::inbox::Inbox;
use super::mail::Mail;
use super::replica::Replica;
use super::request::{Answer, Request, decode, encode};
use super::snapshots::Changes;
use crate::limits::{CHANGES_ATTEMPTS_MAX, HELD_ANSWER_TICKS};
use crate::link::SnapshotDone;
use crate::session::Replicated;

/// A snapshot that is to be sent.
pub(super) struct Sending<R> {
    message: Message,
    report: Report<R>,
}

/// Tells the raft thread what became of a snapshot on its way, by its drop.
struct Report<R> {
    to: u64,
    reference: Vec<u8>,
    is_taken: bool,
    are_changes: bool,
    inbox: Arc<Inbox<Mail<R>>>,
}

impl<R: Send + 'static> Report<R> {
    fn into_done(self) -> SnapshotDone {
        Box::new(move |is_taken| self.tell(is_taken))
    }

    fn tell(mut self, is_taken: bool) {
        self.is_taken = is_taken;
    }
}

impl<R> Drop for Report<R> {
    fn drop(&mut self) {
        let Self { to, is_taken, are_changes, .. } = *self;
        let reference = std::mem::take(&mut self.reference);
        // The raft thread has ended already, and nobody asks.
        let _ = self.inbox.post(Mail::SnapshotSent { to, reference, is_taken, are_changes });
    }
}

/// How often changes were sent, for which snapshot, by receiver.
#[derive(Debug, Default)]
pub(super) struct Attempts(BTreeMap<u64, (Vec<u8>, u32)>);

impl Attempts {
    fn are_left(&self, to: u64, reference: &[u8]) -> bool {
        self.0.get(&to).is_none_or(|(of, count)| of != reference || *count < CHANGES_ATTEMPTS_MAX)
    }

    fn note(&mut self, to: u64, reference: &[u8]) {
        let attempts = self.0.entry(to).or_default();
        if attempts.0 != reference {
            *attempts = (reference.to_vec(), 0);
        }
        attempts.1 += 1;
    }

    pub(super) fn forget(&mut self, to: u64) {
        self.0.remove(&to);
    }
}

impl<F: Replicated> Replica<F> {
    /// Sends a snapshot: asks first what the receiver holds, if that can spare it something.
    pub(super) fn send_snapshot(&mut self, message: Message) {
        let to = message.to();
        let inbox = Arc::clone(&self.shared.inbox);
        let reference = message.snapshot_reference().to_vec();
        let report = Report { to, reference, is_taken: false, are_changes: false, inbox };
        let sending = Sending { message, report };
        let reference = sending.message.snapshot_reference();
        let may_spare =
            self.attempts.are_left(to, reference) && !self.snapshots.changes(reference).is_empty();
        let request = Request::SnapshotsHeld { reference: reference.to_vec() };
        let Some(body) = encode(&request).filter(|_| may_spare) else {
            return self.send_whole(sending);
        };
        let inbox = Arc::clone(&self.shared.inbox);
        let timeout = self.shared.tick.saturating_mul(HELD_ANSWER_TICKS);
        let done = Box::new(move |answer: Result<Vec<u8>, _>| {
            let held = match answer.ok().and_then(|bytes| decode(&bytes)) {
                Some(Answer::SnapshotsHeld { indexes }) => indexes,
                _ => Vec::new(),
            };
            // The raft thread has ended already, and nobody asks.
            let _ = inbox.post(Mail::Held(sending, held));
        });
        self.transport.request(to, body, timeout, done);
    }

    /// The receiver holds the files of these snapshots.
    pub(super) fn send_to_holder(&mut self, sending: Sending<F::Reply>, held: &[u64]) {
        let reference = sending.message.snapshot_reference();
        let mut all = self.snapshots.changes(reference).into_iter();
        let Some(changes) = all.find(|changes| held.contains(&changes.base)) else {
            return self.send_whole(sending);
        };
        let Changes { parcel, bytes, .. } = changes;
        self.attempts.note(sending.report.to, reference);
        self.shared.metrics.snapshot_change_bytes.inc_by(bytes);
        let Sending { message, mut report } = sending;
        report.are_changes = true;
        self.transport.send_parcel(message, parcel, report.into_done());
    }

    /// A snapshot has arrived, or has not.
    pub(super) fn snapshot_sent(
        &mut self,
        to: u64,
        reference: Vec<u8>,
        is_taken: bool,
        are_changes: bool,
    ) -> Result<(), NodeError> {
        if is_taken {
            self.attempts.forget(to);
            self.shared.metrics.snapshots_sent_as_changes.inc_by(u64::from(are_changes));
            self.shared.metrics.snapshots_sent.inc();
        } else if !are_changes {
            self.check_snapshot(reference);
        }
        self.step(Event::SnapshotSent { to, ok: is_taken })
    }

    fn send_whole(&mut self, sending: Sending<F::Reply>) {
        let Sending { message, report } = sending;
        // Without its file it was not sent, which the report says.
        if let Ok(path) = self.snapshots.path(message.snapshot_reference()) {
            self.transport.send_snapshot(message, path, report.into_done());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_tried_a_few_times_for_each_snapshot_and_receiver() {
        let mut attempts = Attempts::default();
        for _ in 0..CHANGES_ATTEMPTS_MAX {
            assert!(attempts.are_left(2, b"one"));
            attempts.note(2, b"one");
        }
        assert!(!attempts.are_left(2, b"one"));
        assert!(attempts.are_left(3, b"one") && attempts.are_left(2, b"two"));
        attempts.note(2, b"two");
        assert!(attempts.are_left(2, b"two"));
        attempts.forget(2);
        assert!(attempts.are_left(2, b"one"));
    }

    #[test]
    fn a_snapshot_that_is_forgotten_on_its_way_is_reported_as_lost() {
        let inbox: Arc<Inbox<Mail<()>>> = Arc::new(Inbox::new());
        let report = |are_changes| {
            let inbox = Arc::clone(&inbox);
            Report { to: 2, reference: b"s".to_vec(), is_taken: false, are_changes, inbox }
        };
        report(false).into_done()(true);
        drop(report(true).into_done());
        drop(report(false));
        let mut mail = Vec::new();
        assert!(inbox.take(None, &mut mail));
        let told = mail.iter().map(|mail| match mail {
            Mail::SnapshotSent { to: 2, is_taken, are_changes, .. } => (*is_taken, *are_changes),
            _ => panic!("other mail"),
        });
        assert_eq!(told.collect::<Vec<_>>(), [(true, false), (false, true), (false, false)]);
    }
}
