//! What goes into a core and what comes out of it.
//!
//! A shell gives events one at a time and carries out the actions of each, **in their order**,
//! before or after further events as its threads allow. The contract of each action says how it
//! is answered.

use crate::raft::{
    Entry, HardState, MemberChange, Membership, Message, RaftError, Refusal, SnapshotMeta,
};

/// A command somebody wants in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The caller's name for it; comes back in exactly one action.
    pub token: u64,
    /// The encoded command.
    pub command: Vec<u8>,
}

/// Something that happened to a replica.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// One tick of the shell's clock has passed.
    Tick,
    /// A message arrived. A snapshot message is given only after its data is stored under the
    /// reference it carries.
    Receive(Message),
    /// Commands to append, as one batch.
    Propose(Vec<Proposal>),
    /// A change of the membership; several steps are one joint change.
    Change {
        /// The caller's name for it; comes back in exactly one action.
        token: u64,
        /// The steps.
        steps: Vec<MemberChange>,
    },
    /// Linearizable reads to confirm, named by their tokens; all of them share one round.
    Read(Vec<u64>),
    /// The batch of this number, and every batch before it, is written (and durable if it had to
    /// be).
    Persisted(u64),
    /// The state machine holds every entry up to this index, or the installed snapshot of this
    /// index.
    Applied(u64),
    /// Answers [`Action::BuildSnapshot`]: the snapshot is stored durably under `reference`.
    SnapshotBuilt {
        /// The last index it holds.
        index: u64,
        /// The term of the entry at that index.
        term: u64,
        /// Where the shell keeps it; travels in snapshot messages.
        reference: Vec<u8>,
    },
    /// Answers [`Action::BuildSnapshot`]: there is none. The core asks again when one is needed.
    SnapshotFailed,
    /// The data of this snapshot cannot be read any more. When it is the one that the log names, it
    /// is not sent again, and another one is asked for.
    SnapshotLost {
        /// Where the shell kept it.
        reference: Vec<u8>,
    },
    /// Answers [`Action::SendSnapshot`], on every outcome: arrived, refused, lost, timed out.
    SnapshotSent {
        /// The receiver.
        to: u64,
        /// Whether it has the data and the message.
        ok: bool,
    },
    /// A message to this replica could not be sent.
    Unreachable(u64),
    /// Hand leadership to this voter, if this replica leads.
    Transfer(u64),
    /// Start an election now, if this replica may.
    Campaign,
    /// Forget the log up to this entry, and every snapshot from before it, as soon as the state
    /// machine is there: what they hold was erased. A snapshot at or after it is asked for, unless
    /// there is one; then all that it holds is compacted, without a tail, and whoever is behind
    /// gets the snapshot. Asked for again, it goes on where it was; a restart forgets the wish.
    Compact {
        /// The last entry of which nothing is to be left.
        index: u64,
    },
}

/// A batch for the durable log.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Its number, rising.
    pub number: u64,
    /// A received snapshot to install first, if any, with the hard state to write beside it.
    pub snapshot: Option<(SnapshotMeta, HardState)>,
    /// Entries to append; the first one's index replaces what is there from it on.
    pub entries: Vec<Entry>,
    /// The hard state to write after the entries, in the same write.
    pub hard_state: Option<HardState>,
    /// Whether it must be durable before [`Event::Persisted`].
    pub must_sync: bool,
}

/// A committed entry on its way to the state machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    /// The entry.
    pub entry: Entry,
    /// The token of the proposal or change, when it was made at this replica.
    pub token: Option<u64>,
    /// For a change of the membership: the members from this index on, or why the change was
    /// refused (by every replica alike).
    pub membership: Option<Result<Membership, String>>,
}

/// The role of a replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Follows a leader, or waits for one.
    #[default]
    Follower,
    /// Asks whether an election could be won.
    PreCandidate,
    /// Stands for election.
    Candidate,
    /// Leads.
    Leader,
}

/// Something the shell must do.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Action {
    /// Send the message. On failure answer [`Event::Unreachable`].
    Send(Message),
    /// Send the message together with the data its reference names, apart from other messages.
    /// Always answer [`Event::SnapshotSent`]: until then the receiver gets nothing else.
    SendSnapshot(Message),
    /// Write the batch and answer [`Event::Persisted`]. Batches are written in order; several may
    /// be written and synced as one, and only the last answered. If it fails, stop the replica.
    Persist(Batch),
    /// Apply these in order: a command to `Machine::apply`, anything else to `Machine::skip`.
    /// Answer [`Event::Applied`] with the last index. If the machine fails, stop the replica.
    Apply(Vec<Committed>),
    /// Replace the state machine by this snapshot, whose batch is durable; nothing is given to
    /// apply meanwhile. Answer [`Event::Applied`] with its index.
    Install(SnapshotMeta),
    /// Build a snapshot in the background from the state machine as it is now, or as it was at an
    /// entry from [`Core::snapshot_from`](crate::raft::Core::snapshot_from) on. Answer
    /// [`Event::SnapshotBuilt`] or [`Event::SnapshotFailed`].
    BuildSnapshot,
    /// Call [`LogStore::compact_to`](crate::raft::LogStore::compact_to) with these.
    Compact {
        /// The last entry to forget.
        index: u64,
        /// The snapshot to record.
        snapshot: SnapshotMeta,
    },
    /// The proposal or change was not taken; nothing was appended.
    Refused {
        /// The caller's name for it.
        token: u64,
        /// Why.
        reason: Refusal,
    },
    /// The proposal or change was appended and this replica will not learn its outcome.
    Unknown {
        /// The caller's name for it.
        token: u64,
    },
    /// These reads may be answered from the state machine as it is now.
    ReadReady {
        /// The callers' names for them.
        tokens: Vec<u64>,
        /// The index they are as of, at least.
        index: u64,
    },
    /// These reads were not confirmed.
    ReadRefused {
        /// The callers' names for them.
        tokens: Vec<u64>,
        /// Why.
        reason: Refusal,
    },
    /// Role, term or known leader changed.
    RoleChanged {
        /// The role now.
        role: Role,
        /// The term now.
        term: u64,
        /// The leader now, if known.
        leader: Option<u64>,
    },
    /// The contract was broken: stop this replica. Nothing else will come out of it.
    Halt(RaftError),
}
