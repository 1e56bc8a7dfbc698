//! One replica of the group as a pure state machine over raft-rs.
//!
//! [`Core::step`] takes one event and answers with actions. No thread, clock, channel, random
//! number (with a seed) or I/O is in here, so a simulator, a test and a daemon run the same core.
//!
//! # Invariants
//!
//! 1. Messages that promise something about the log leave only after the batch they depend on was
//!    answered by [`Event::Persisted`]. A leader's own messages promise nothing but that it leads
//!    in its term; they leave at once when that is durable.
//! 2. Entries are handed to the state machine in order, each once, and never past what is both
//!    committed and persisted.
//! 3. A membership change takes effect only after a hard state with a commit index at or above it
//!    is durable. Otherwise a power loss could reboot two replicas into an old membership that
//!    elects its own leader.
//! 4. A leader that applies its own removal follows before `step` returns: raft-rs panics when
//!    such a leader counts its own progress.
//! 5. No election starts while a received snapshot is not yet applied (the entries raft would look
//!    at are gone) or while entries wait for the log (a single voter would lead with a log it does
//!    not have).
//! 6. Every read round has a context no other round had: replica, boot, counter. Only the leader
//!    asks, for itself.
//! 7. Every token comes back in exactly one action, or the replica has stopped.
//! 8. With a seed, equal events give equal actions.

mod apply;
mod cache;
mod config;
mod event;
mod inbound;
mod propose;
mod reads;
mod ready;
mod snapshots;
mod status;

use std::collections::BTreeMap;
use std::fmt;

use raft::{RawNode, StateRole};
use slog::Logger;

pub use config::Config;
pub use event::{Action, Batch, Committed, Event, Proposal, Role};
pub use status::{PeerState, PeerStatus, Status};

use self::apply::Applying;
use self::cache::Cache;
use self::reads::Reads;
use self::ready::Writing;
use self::snapshots::Snapshots;
use super::{Membership, RaftError, Recovered};

/// One replica: raft-rs, its log in memory, and everything that waits for an answer.
///
/// A group of one, driven by hand. What a shell does with each action is in [`Action`]; here only
/// writes and entries matter.
///
/// ```
/// use fsmdb::raft::{Action, Config, Core, Event, Membership, Proposal, Recovered};
/// use slog::{Discard, Logger, o};
///
/// let founding = Recovered::founding(Membership::of_voters([1]));
/// let mut core = Core::new(Config::new(1, 1), founding, 1, &Logger::root(Discard, o!()))?;
/// let proposal = Proposal { token: 7, command: b"set x".to_vec() };
/// let mut events = vec![Event::Propose(vec![proposal]), Event::Campaign];
/// let mut applied = Vec::new();
/// while let Some(event) = events.pop() {
///     for action in core.step(event) {
///         match action {
///             Action::Persist(batch) => events.push(Event::Persisted(batch.number)),
///             Action::Apply(entries) => {
///                 applied.extend(entries.iter().map(|committed| committed.token));
///                 let last = entries.last().expect("never empty");
///                 events.push(Event::Applied(last.entry.index()));
///             }
///             _ => {}
///         }
///     }
/// }
/// assert_eq!(applied, [None, Some(7)]); // the leader's own empty entry, then ours
/// # Ok::<(), fsmdb::raft::RaftError>(())
/// ```
pub struct Core {
    config: Config,
    node: RawNode<Cache>,
    writing: Writing,
    applying: Applying,
    reads: Reads,
    snapshots: Snapshots,
    /// Index to (term, token) of what was appended here and is not handed out yet.
    pending: BTreeMap<u64, (u64, u64)>,
    /// The members from each index on, from the last snapshot upwards.
    memberships: BTreeMap<u64, Membership>,
    /// The term this replica leads in.
    leading: Option<u64>,
    /// Role, term and leader as last announced, and how often they changed.
    announced: (Role, u64, u64),
    epoch: u64,
    halted: bool,
}

impl Core {
    /// Starts a replica from its log and a state machine rebuilt from the snapshot the log names.
    ///
    /// `applied` is the index the state machine holds. It must be the snapshot's, not the commit
    /// index: entries after the snapshot are handed out again.
    ///
    /// # Errors
    ///
    /// [`RaftError`] when the configuration cannot work, the log has a gap or lost committed
    /// entries, or the state machine is elsewhere.
    pub fn new(
        config: Config,
        recovered: Recovered,
        applied: u64,
        logger: &Logger,
    ) -> Result<Self, RaftError> {
        config.check()?;
        check_recovered(&recovered)?;
        let snapshot = recovered.snapshot.clone();
        if applied != snapshot.index {
            return Err(RaftError::AppliedMismatch { applied, snapshot: snapshot.index });
        }
        let cache = Cache::new(recovered);
        let node = RawNode::new(&config.to_raft(applied), cache, logger)
            .map_err(|error| RaftError::Config { reason: error.to_string() })?;
        let mut core = Self {
            writing: Writing::default(),
            applying: Applying::new(applied),
            reads: Reads::new(config.id, config.boot),
            snapshots: Snapshots::new(snapshot.index),
            pending: BTreeMap::new(),
            memberships: BTreeMap::from([(snapshot.index, snapshot.membership)]),
            leading: None,
            announced: (Role::Follower, node.raft.term, 0),
            epoch: 0,
            halted: false,
            config,
            node,
        };
        core.settle_timeout();
        Ok(core)
    }

    /// Takes one event and answers with what must be done, in order.
    ///
    /// # Panics
    ///
    /// When raft-rs finds its own state broken. Run a core where a panic ends the replica, and
    /// never step it again.
    #[must_use = "every action must be carried out"]
    pub fn step(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.halted {
            return actions;
        }
        if let Err(error) = self.dispatch(event, &mut actions) {
            self.halted = true;
            actions.push(Action::Halt(error));
            return actions;
        }
        self.settle_timeout();
        self.drain(&mut actions);
        self.settle_timeout();
        actions
    }

    /// The members as of the last change handed to the state machine.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        static NOBODY: Membership = Membership {
            voters: std::collections::BTreeSet::new(),
            learners: std::collections::BTreeSet::new(),
            voters_outgoing: std::collections::BTreeSet::new(),
            learners_next: std::collections::BTreeSet::new(),
            auto_leave: false,
        };
        self.memberships.last_key_value().map_or(&NOBODY, |(_, membership)| membership)
    }

    fn dispatch(&mut self, event: Event, actions: &mut Vec<Action>) -> Result<(), RaftError> {
        match event {
            Event::Tick => {
                self.tick();
                self.write_commit(actions);
            }
            Event::Receive(message) => self.receive(message),
            Event::Propose(proposals) => self.propose(proposals, actions),
            Event::Change { token, steps } => self.change(token, &steps, actions),
            Event::Read(tokens) => self.read(tokens, actions),
            Event::Persisted(number) => self.persisted(number, actions)?,
            Event::Applied(index) => self.applied(index, actions)?,
            Event::SnapshotBuilt { index, term, reference } => {
                self.snapshot_built(index, term, reference, actions)?;
            }
            Event::SnapshotFailed => self.snapshots.failed(self.applying.applied),
            Event::SnapshotLost { reference } => self.snapshot_lost(&reference),
            Event::SnapshotSent { to, ok } => self.snapshot_sent(to, ok),
            Event::Compact { index } => self.snapshots.unwant(index),
            Event::Unreachable(id) => self.node.report_unreachable(id),
            Event::Transfer(to) => {
                if self.is_leader() && self.membership().voters.contains(&to) {
                    self.node.transfer_leader(to);
                }
            }
            Event::Campaign => {
                if self.may_campaign() && self.node.raft.promotable() {
                    // Refused only when it would be illegal; then nothing changes.
                    let _ = self.node.campaign();
                }
            }
        }
        Ok(())
    }

    /// A tick that would start an election at the wrong moment is left out; see invariant 5.
    fn tick(&mut self) {
        let raft = &self.node.raft;
        let would_campaign = raft.state != StateRole::Leader
            && raft.election_elapsed + 1 >= raft.randomized_election_timeout();
        if would_campaign && !self.may_campaign() {
            return;
        }
        self.node.tick();
        self.leave_joint();
    }

    fn may_campaign(&self) -> bool {
        self.applying.installing.is_none() && !self.writing.holds_entries()
    }

    fn is_leader(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    fn leader(&self) -> Option<u64> {
        Some(self.node.raft.leader_id).filter(|id| *id != 0)
    }

    fn role(&self) -> Role {
        match self.node.raft.state {
            StateRole::Follower => Role::Follower,
            StateRole::PreCandidate => Role::PreCandidate,
            StateRole::Candidate => Role::Candidate,
            StateRole::Leader => Role::Leader,
        }
    }

    /// Announces a change of role. On losing leadership, or leading in another term, everything
    /// that was appended here becomes unknown and every read is refused.
    fn settle_role(&mut self, actions: &mut Vec<Action>) {
        let now = (self.role(), self.node.raft.term, self.node.raft.leader_id);
        if now == self.announced {
            return;
        }
        self.announced = now;
        self.epoch += 1;
        let leading = self.is_leader().then_some(now.1);
        if leading != self.leading {
            for (_, (_, token)) in std::mem::take(&mut self.pending) {
                actions.push(Action::Unknown { token });
            }
            self.refuse_reads(actions);
            self.snapshots.forget_receivers();
            self.leading = leading;
        }
        actions.push(Action::RoleChanged { role: now.0, term: now.1, leader: self.leader() });
    }

    /// Overrides raft's random election timeout when a seed is given.
    fn settle_timeout(&mut self) {
        if let Some(seed) = self.config.seed {
            let timeout = self.config.election_timeout(seed, self.node.raft.term, self.epoch);
            self.node.raft.set_randomized_election_timeout(timeout);
        }
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Core").field("status", &self.status()).finish_non_exhaustive()
    }
}

fn check_recovered(recovered: &Recovered) -> Result<(), RaftError> {
    let broken = |index, reason: &str| RaftError::BrokenLog { index, reason: reason.to_owned() };
    let snapshot = &recovered.snapshot;
    let mut last = (recovered.truncated_index, recovered.truncated_term);
    for entry in &recovered.entries {
        if entry.index() != last.0 + 1 {
            return Err(broken(last.0 + 1, "entries are not one run"));
        }
        if entry.term() < last.1 || entry.term() > recovered.hard_state.term {
            return Err(broken(entry.index(), "its term is out of order"));
        }
        last = (entry.index(), entry.term());
    }
    if snapshot.index < recovered.truncated_index {
        return Err(broken(snapshot.index + 1, "entries after the snapshot are missing"));
    }
    if recovered.hard_state.commit > last.0 || snapshot.index > last.0 {
        let commit = recovered.hard_state.commit.max(snapshot.index);
        return Err(RaftError::LostLog { commit, last: last.0 });
    }
    if snapshot.membership.is_empty() != (snapshot.index == 0) {
        return Err(broken(snapshot.index, "a snapshot has members, and members have a snapshot"));
    }
    snapshot.membership.check().map_err(|reason| RaftError::BrokenLog {
        index: snapshot.index,
        reason: format!("members of the snapshot: {reason}"),
    })
}
