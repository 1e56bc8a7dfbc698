//! The history of what was erased: gone from the logs and snapshot files of every member.
//!
//! A command that erases rows leaves the commands that wrote them in the logs, and older states in
//! snapshot files. Each member is asked to compact its log up to the erasing entry without a tail,
//! behind a snapshot from after it, to write its log anew, and to remove what is older.
//!
//! # Invariants
//!
//! 1. A member says that it is done only after the bytes are gone from its files, durably.
//! 2. Who did not say so is named in the report. What it was asked for it does when it can, and
//!    asking again asks everybody again.
//! 3. The core is told of an entry once that is applied here: one that never comes, of a peer that
//!    is wrong, holds up none that does.
//! 4. The log goes only when the file that is relied on then was read over: the older one goes too.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fsmdb::Applied;
use fsmdb::raft::Event;

use super::error::{MemberError, NodeError};
use super::log_thread::LogJob;
use super::pending::Pending;
use super::replica::{Replica, all_of};
use super::request::{Answer, Refused, Request};
use super::{Node, clock, door};
use crate::limits::ERASURES_WAITING_MAX;
use crate::link::Responder;
use crate::session::Replicated;

/// What has become of the history of a group, from [`Node::erase_history`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ErasureReport {
    /// The entry that was asked for.
    pub index: u64,
    /// Every member of the group, as its leader named them, and how far it is.
    pub nodes: BTreeMap<u64, NodeErasure>,
}

impl ErasureReport {
    /// Whether nothing is left at any member. O(members).
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.nodes.values().all(|node| matches!(node, NodeErasure::Erased { .. }))
    }
}

/// What has become of the history at one member.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeErasure {
    /// Its files have nothing of the log up to this entry, nor of snapshots from before it.
    Erased {
        /// The last entry that is gone; at or after the one that was asked for.
        index: u64,
    },
    /// It answers and was not done in time: its state machine is behind, or its snapshot is being
    /// written or read over. It goes on, unless [`ERASURES_WAITING_MAX`] others wait there for
    /// earlier entries.
    UnderWay {
        /// The last entry that its state machine holds.
        applied: u64,
    },
    /// It does not answer. It still has everything.
    Unreachable,
    /// Its log or its store of snapshots cannot do it, or could not.
    Failed {
        /// The words of the log or store.
        reason: String,
    },
}

impl<F: Replicated> Node<F> {
    /// Lets nothing be left, in the files of any member, of the log up to and including the entry
    /// `at`, nor of snapshots from before it: what was erased by the command that was applied
    /// `at`. Asked of any node.
    ///
    /// The command alone does not do this, and no node does it by itself: who proposed it calls
    /// this with the entry that applied it, and remembers that entry until the report is complete.
    ///
    /// Each member builds a snapshot, or reads over the one it has if that is from after `at`, and
    /// writes its log anew: O(bytes of the state); writes to its log wait while that is copied. A
    /// member that is behind gets a snapshot. The report comes at the deadline at the latest; ask
    /// again, after a while or when a node is back, until it
    /// [`is_complete`](ErasureReport::is_complete).
    ///
    /// Files are removed, and not overwritten: the file system may keep the blocks until it uses
    /// them again. Nodes that were removed from the group, copies of files, and the replies that
    /// sessions keep are not reached. A snapshot that is sent to a member while it is asked may
    /// leave a part of it there when the connection ends; asking once more removes it.
    ///
    /// ```
    /// # use std::collections::BTreeMap;
    /// # use fsmdb::{Applied, Db, Fsm, Machine, Table, WriteTxn};
    /// # use fsmdb_node::node::NodeErasure;
    /// # use fsmdb_node::storage::{Identity, LogOptions};
    /// # use fsmdb_node::transport::Security;
    /// # use fsmdb_node::{Node, Sessions, Setup, with_tables};
    /// # use serde::{Deserialize, Serialize};
    /// # use slog::{Discard, Logger, o};
    /// # #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    /// # #[table(name = "users")]
    /// # struct User { #[key] name: String, #[key] id: u32 }
    /// # #[derive(Serialize, Deserialize)]
    /// # enum Command { Add(String), Erase(String) }
    /// # struct Users;
    /// # impl Fsm for Users {
    /// #     type Command = Command;
    /// #     type Reply = Result<(), String>;
    /// #     fn apply(&self, txn: &mut WriteTxn<'_>, _: Applied, command: Command) -> Self::Reply {
    /// #         match command {
    /// #             Command::Add(name) => txn.insert(User { name, id: 7 }).map(drop),
    /// #             Command::Erase(name) => {
    /// #                 txn.table_mut::<User>().erase_prefix(&(name.as_str(),));
    /// #                 Ok(())
    /// #             }
    /// #         }
    /// #         .map_err(|error: fsmdb::Error| error.to_string())
    /// #     }
    /// # }
    /// # let folder = tempfile::tempdir()?;
    /// # let db = with_tables(Db::builder().table::<User>()).build()?;
    /// # let machine = Machine::new(db, Sessions::new(Users))?;
    /// # let identity = Identity { cluster: 7, node: 1 };
    /// # let directory = folder.path().join("node-1");
    /// # let security = Security::insecure_loopback_only();
    /// # let logger = Logger::root(Discard, o!());
    /// # let address = "127.0.0.1:0";
    /// # let setup = Setup::new(identity, machine, directory, address.parse()?, security, logger)
    /// #     .founds(BTreeMap::from([(1, address.to_owned())]))
    /// #     .log(LogOptions { prefill_bytes: 0, ..LogOptions::default() });
    /// # let node = Node::start(setup)?;
    /// node.propose(&Command::Add("mallory".to_owned())).wait()?.1?;
    /// let (at, erased) = node.propose(&Command::Erase("mallory".to_owned())).wait()?;
    /// erased?;
    /// let report = node.erase_history(at).wait()?;
    /// assert!(report.is_complete());
    /// let NodeErasure::Erased { index } = report.nodes[&1] else { unreachable!() };
    /// assert!(index >= at.index);
    /// # node.stop();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`MemberError::Timeout`] when no leader said in time that it has applied that entry,
    /// [`MemberError::Stopped`], [`MemberError::Busy`]; nothing was erased then.
    pub fn erase_history(&self, at: Applied) -> Pending<ErasureReport, MemberError> {
        self.erase_history_within(at, self.shared().deadline)
    }

    /// As [`erase_history`](Node::erase_history), with a deadline of its own.
    ///
    /// # Errors
    ///
    /// As [`erase_history`](Node::erase_history).
    pub fn erase_history_within(
        &self,
        at: Applied,
        within: Duration,
    ) -> Pending<ErasureReport, MemberError> {
        self.operate_within(within, move |node, deadline| node.erase_everywhere(at.index, deadline))
    }

    fn erase_everywhere(
        &self,
        index: u64,
        deadline: Instant,
    ) -> Result<ErasureReport, MemberError> {
        let members = loop {
            if let Some(leader) = self.status().raft.leader
                && let Ok(report) = self.report_of(leader, deadline)
                && report.is_leader
                && report.applied >= index
            {
                break all_of(&report.membership);
            }
            self.pause(deadline, "a leader that has applied the erasing entry")?;
        };
        // What is left of the time is for asking how those are that did not answer.
        let timeout = clock::left(deadline) / 4 * 3;
        let ask = |id| {
            let request = Request::EraseHistory { index };
            (id, self.shared().ask(Some(id), request, timeout))
        };
        let asked: Vec<_> = members.into_iter().map(ask).collect();
        let mut nodes = BTreeMap::new();
        for (id, answer) in asked {
            let outcome = match answer.wait() {
                Ok(Answer::Erased { index }) => NodeErasure::Erased { index },
                Ok(Answer::NotErased { reason }) => NodeErasure::Failed { reason },
                _ => match self.report_of(id, deadline) {
                    Ok(report) => NodeErasure::UnderWay { applied: report.applied },
                    Err(_) => NodeErasure::Unreachable,
                },
            };
            nodes.insert(id, outcome);
        }
        Ok(ErasureReport { index, nodes })
    }
}

/// An erasure that waits at this node.
pub(super) struct Erasure {
    /// Nothing up to this entry is to be left.
    index: u64,
    respond: Responder,
    /// Whether the core was told.
    is_begun: bool,
}

impl<F: Replicated> Replica<F> {
    /// Somebody wants nothing left of the log up to `index`. The core does its part when it can.
    pub(super) fn erase_history(&mut self, index: u64, respond: Responder) {
        self.erasures.push(Erasure { index, respond, is_begun: false });
        if self.erasures.len() > ERASURES_WAITING_MAX {
            let indexes = self.erasures.iter().map(|erasure| erasure.index).enumerate();
            // The latest asker of those.
            if let Some((at, _)) = indexes.max_by_key(|(_, index)| *index) {
                let refused = self.erasures.remove(at);
                door::send(refused.respond, &Answer::Refused(Refused::Busy));
            }
        }
    }

    /// Tells the core of the erasures whose entries are applied, and hands on those whose entries
    /// it has compacted: the log has been told of that before.
    pub(super) fn scrub(&mut self) -> Result<(), NodeError> {
        if self.erasures.is_empty() {
            self.sound = None;
            return Ok(());
        }
        self.begin_erasures()?;
        let status = self.core.status();
        let recorded = self.core.snapshot_index().unwrap_or(0);
        let reached = status.applied.min(status.first_index - 1).min(recorded);
        let is_ready = |erasure: &Erasure| erasure.is_begun && erasure.index <= reached;
        // What goes with the log is the older file.
        if !self.erasures.iter().any(is_ready) || !self.is_snapshot_sound() {
            return Ok(());
        }
        let (ready, waiting) =
            std::mem::take(&mut self.erasures).into_iter().partition::<Vec<_>, _>(is_ready);
        self.erasures = waiting;
        self.relied_on = self.core.snapshot().map(|snapshot| snapshot.reference.clone());
        let askers = ready.into_iter().map(|erasure| erasure.respond).collect();
        self.hand_to_log(LogJob::Scrub(askers));
        Ok(())
    }

    /// The last applied entry of which the core was not told yet.
    fn next_erasure(&self) -> Option<u64> {
        let applied = self.core.status().applied;
        let indexes = self.erasures.iter().filter(|erasure| !erasure.is_begun);
        indexes.map(|erasure| erasure.index).filter(|index| *index <= applied).max()
    }

    /// Tells the core of entries that are applied. If the recorded snapshot is from after them,
    /// its file is read over first; if not, another one is built.
    fn begin_erasures(&mut self) -> Result<(), NodeError> {
        let Some(index) = self.next_erasure() else { return Ok(()) };
        let recorded = self.core.snapshot_index().unwrap_or(0);
        if index <= recorded && !self.is_snapshot_sound() {
            return Ok(());
        }
        // Earlier ones, which the recorded one holds, wait until that is read over or replaced.
        let least = if index > recorded { recorded + 1 } else { 0 };
        let begun = self.erasures.iter_mut();
        let begun = begun.filter(|erasure| (least..=index).contains(&erasure.index));
        begun.for_each(|erasure| erasure.is_begun = true);
        self.step(Event::Compact { index })
    }

    /// Whether the file of the recorded snapshot was built or read over since an erasure waits, or
    /// nothing is left beside it anyway; a received one was read when it arrived. If not, it is
    /// read.
    fn is_snapshot_sound(&mut self) -> bool {
        let reference = self.core.snapshot().map(|snapshot| snapshot.reference.clone());
        let Some(reference) = reference.filter(|reference| !reference.is_empty()) else {
            return true;
        };
        let known = [&self.sound, &self.relied_on];
        let is_sound = known.iter().any(|known| known.as_ref() == Some(&reference));
        if !is_sound {
            self.check_snapshot(reference);
        }
        is_sound
    }

    /// This file is sound, if it is that of the recorded snapshot.
    pub(super) fn found_sound(&mut self, reference: Vec<u8>) {
        if self.core.snapshot().is_some_and(|snapshot| snapshot.reference == reference) {
            self.sound = Some(reference);
        }
    }
}
