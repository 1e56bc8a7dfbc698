//! Commands that are applied exactly once, however often they are sent.
//!
//! [`Sessions`] is the state machine that a node runs: the user's, with sessions around it. A
//! client numbers its commands; the database keeps the replies to the last ones, so that a command
//! that comes again is answered instead of applied. What is kept is bounded and is dropped by the
//! entries of the log alone, so that all replicas drop alike.
//!
//! # Invariants
//!
//! 1. A command of a session is applied at most once: its reply is kept, or its number is at or
//!    below the floor of the session, or the session is gone; nothing is applied then.
//! 2. An id of a session is the index of the entry that opened it and never comes back.
//! 3. Nothing here reads a clock: idleness is counted in entries.

mod envelope;
mod tables;

pub use envelope::{Envelope, EnvelopeReply, Place, SessionRefusal};
pub(crate) use envelope::{EnvelopeRef, OfMember, of_member_in};
pub(crate) use tables::MemberRow;
pub use tables::with_tables;

use fsmdb::{Applied, Fsm, Outcome, WriteTxn};
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::tables::{ReplyRow, SessionRow};
use crate::limits::{
    SESSION_IDLE_ENTRIES, SESSION_REPLIES_MAX, SESSION_REPLY_BYTES_MAX, SESSIONS_DROPPED_MAX,
    SESSIONS_MAX,
};

/// A state machine whose replies can travel and be kept: what a [`Node`](crate::node::Node) runs.
/// Implemented for all of them.
pub trait Replicated: Fsm<Reply: Serialize + DeserializeOwned + Send> {}

impl<F: Fsm<Reply: Serialize + DeserializeOwned + Send>> Replicated for F {}

/// How much is kept of sessions. The same on every replica, as the state machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionBounds {
    /// See [`SESSIONS_MAX`].
    pub sessions: usize,
    /// See [`SESSION_IDLE_ENTRIES`].
    pub idle_entries: u64,
    /// See [`SESSION_REPLIES_MAX`], which is the default. 0 counts as 1.
    pub replies: usize,
    /// See [`SESSION_REPLY_BYTES_MAX`].
    pub reply_bytes: usize,
}

impl Default for SessionBounds {
    fn default() -> Self {
        Self {
            sessions: SESSIONS_MAX,
            idle_entries: SESSION_IDLE_ENTRIES,
            replies: SESSION_REPLIES_MAX,
            reply_bytes: SESSION_REPLY_BYTES_MAX,
        }
    }
}

/// The user's state machine with sessions and the addresses of members around it.
///
/// Its database needs the tables of [`with_tables`]; to write them is for this machine alone.
#[derive(Debug)]
pub struct Sessions<F> {
    fsm: F,
    bounds: SessionBounds,
}

impl<F: Replicated> Sessions<F> {
    /// Puts sessions around `fsm`.
    pub fn new(fsm: F) -> Self {
        Self::with_bounds(fsm, SessionBounds::default())
    }

    /// As [`new`](Sessions::new), with other bounds: the same on every replica for as long as logs
    /// are replayed that were written under them. A [`Session`](crate::node::Session) has no more
    /// commands under way than replies are kept of it; whoever numbers commands otherwise must not
    /// either: one that comes later than so many others is refused, applied or not.
    pub fn with_bounds(fsm: F, bounds: SessionBounds) -> Self {
        Self { fsm, bounds }
    }

    /// The user's state machine.
    pub fn fsm(&self) -> &F {
        &self.fsm
    }

    /// How many replies of one session are kept, and so how many of its commands may be under way.
    pub(crate) fn replies(&self) -> u64 {
        self.bounds.replies.max(1) as u64
    }

    fn open(&self, txn: &mut WriteTxn<'_>, at: Applied) -> EnvelopeReply<F::Reply> {
        self.drop_idle(txn, at);
        while txn.table::<SessionRow>().len() >= self.bounds.sessions.max(1) {
            let sessions = txn.table::<SessionRow>();
            let oldest = sessions.index(SessionRow::BY_USED).first().map(|row| row.id);
            let Some(oldest) = oldest else { break };
            drop_session(txn, oldest);
        }
        let id = at.index;
        put(txn, SessionRow { id, used: id, floor: 0, replies: 0, reply_bytes: 0 });
        EnvelopeReply::Opened(id)
    }

    /// Drops sessions that were idle for too long, a bounded number of them.
    fn drop_idle(&self, txn: &mut WriteTxn<'_>, at: Applied) {
        for _ in 0..SESSIONS_DROPPED_MAX {
            let sessions = txn.table::<SessionRow>();
            let idle = sessions.index(SessionRow::BY_USED).first();
            let idle = idle.filter(|row| at.index - row.used > self.bounds.idle_entries);
            let Some(idle) = idle.map(|row| row.id) else { break };
            drop_session(txn, idle);
        }
    }

    fn apply_once(
        &self,
        txn: &mut WriteTxn<'_>,
        at: Applied,
        place: Place,
        command: F::Command,
    ) -> EnvelopeReply<F::Reply> {
        let Place { session, sequence, acknowledged } = place;
        let row = txn.table::<SessionRow>().get(&session).map(|row| SessionRow::clone(row));
        let Some(mut row) = row else {
            self.drop_idle(txn, at);
            return EnvelopeReply::Refused(SessionRefusal::Expired { session });
        };
        row.used = at.index;
        raise_floor(txn, &mut row, acknowledged);
        let kept =
            txn.table::<ReplyRow>().get(&(session, sequence)).map(|row| ReplyRow::clone(row));
        let answer = if let Some(ReplyRow { at, reply, .. }) = kept {
            EnvelopeReply::Again { at, reply }
        } else if sequence <= row.floor {
            EnvelopeReply::Refused(SessionRefusal::Superseded { session, sequence })
        } else {
            let before = txn.savepoint();
            let reply = self.fsm.apply(txn, at, command);
            if reply.is_refused() {
                txn.rollback_to(&before);
            }
            self.keep(txn, &mut row, sequence, at, &reply);
            EnvelopeReply::First(reply)
        };
        put(txn, row);
        // Behind the use, so that a session is not dropped by its own command.
        self.drop_idle(txn, at);
        answer
    }

    /// Notes that a command was applied, with its reply if that can be kept.
    fn keep(
        &self,
        txn: &mut WriteTxn<'_>,
        row: &mut SessionRow,
        sequence: u64,
        at: Applied,
        reply: &F::Reply,
    ) {
        let reply = rmp_serde::to_vec_named(reply).ok();
        let reply = reply.filter(|bytes| bytes.len() <= self.bounds.reply_bytes);
        row.replies += 1;
        row.reply_bytes += reply.as_ref().map_or(0, Vec::len) as u64;
        put(txn, ReplyRow { session: row.id, sequence, at, reply });
        if row.replies > self.replies() {
            let oldest = txn.table::<ReplyRow>().prefix(&(row.id,)).next().map(|row| row.sequence);
            raise_floor(txn, row, oldest.unwrap_or(0));
        }
        if row.reply_bytes > self.bounds.reply_bytes as u64 {
            self.forget_replies(txn, row);
        }
    }

    /// Forgets the oldest replies, not that their commands were applied.
    fn forget_replies(&self, txn: &mut WriteTxn<'_>, row: &mut SessionRow) {
        let kept: Vec<ReplyRow> =
            txn.table::<ReplyRow>().prefix(&(row.id,)).map(|kept| ReplyRow::clone(kept)).collect();
        for mut kept in kept {
            if row.reply_bytes <= self.bounds.reply_bytes as u64 {
                break;
            }
            row.reply_bytes -= kept.reply.take().map_or(0, |bytes| bytes.len()) as u64;
            put(txn, kept);
        }
    }
}

impl<F: Replicated> Fsm for Sessions<F> {
    type Command = Envelope<F::Command>;
    type Reply = EnvelopeReply<F::Reply>;

    fn apply(&self, txn: &mut WriteTxn<'_>, at: Applied, envelope: Self::Command) -> Self::Reply {
        match envelope {
            Envelope::Plain { command } => EnvelopeReply::Plain(self.fsm.apply(txn, at, command)),
            Envelope::InSession { place, command } => self.apply_once(txn, at, place, command),
            Envelope::Open => self.open(txn, at),
            Envelope::Close { session } => {
                drop_session(txn, session);
                EnvelopeReply::Closed
            }
            Envelope::Member { id, address } => {
                let row = txn.table::<MemberRow>().get(&id).map(|row| MemberRow::clone(row));
                let is_retired = row.as_ref().is_some_and(|row| row.address.is_none());
                if !is_retired {
                    let directory = row.and_then(|row| row.directory);
                    let directory = directory.filter(|_| address.is_some());
                    put(txn, MemberRow { id, address, directory });
                }
                EnvelopeReply::Member(!is_retired)
            }
            Envelope::Directory { id, directory } => {
                let directory = Some(format!("{directory:032x}"));
                let row = txn.table::<MemberRow>().get(&id).map(|row| MemberRow::clone(row));
                let row = row.filter(|row| row.address.is_some());
                let is_known = row.as_ref().is_some_and(|row| row.directory == directory);
                let row = row.filter(|row| row.directory.is_none());
                let is_new = row.is_some();
                if let Some(row) = row {
                    put(txn, MemberRow { directory, ..row });
                }
                EnvelopeReply::Member(is_known || is_new)
            }
        }
    }
}

/// Writes a row of the node. It has no unique index, a short key and is small, so that nothing
/// refuses it; if something did, going on would make this replica differ from the others.
fn put<T: fsmdb::Table>(txn: &mut WriteTxn<'_>, row: T) {
    txn.upsert(row).expect("a row of the node is never refused");
}

fn drop_session(txn: &mut WriteTxn<'_>, session: u64) {
    txn.table_mut::<ReplyRow>().delete_prefix(&(session,));
    txn.table_mut::<SessionRow>().delete(&session);
}

/// Forgets all replies up to `floor`.
fn raise_floor(txn: &mut WriteTxn<'_>, row: &mut SessionRow, floor: u64) {
    if floor <= row.floor {
        return;
    }
    row.floor = floor;
    loop {
        let first = txn.table::<ReplyRow>().prefix(&(row.id,)).next();
        let Some(first) = first.filter(|first| first.sequence <= floor) else { break };
        row.replies -= 1;
        row.reply_bytes -= first.reply.as_ref().map_or(0, Vec::len) as u64;
        let key = (first.session, first.sequence);
        txn.table_mut::<ReplyRow>().delete(&key);
    }
}
