//! The node of this program in a cluster of processes: a learner, so it has the whole state, but no
//! vote. Schedulers, agents and the story read and watch here; what they propose goes through a
//! session from here to the leader, wherever that is, and is applied once.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fsmdb::raft::{Consistency, ProposeError};
use fsmdb::{Applied, Builder, Db, Revision, Snapshot};
use fsmdb_node::Node;
use fsmdb_node::node::{Session, SessionError};

use crate::command::{Command, Done, Orchestrator, Refusal};
use crate::group::{self, Copy, Group, Missed};
use crate::replica::{self, TICK};
use crate::voters::{self, Voters};

/// The learner, and the voters behind it.
pub struct Member {
    id: u64,
    node: Node<Orchestrator>,
    session: Session<Orchestrator>,
    voters: Mutex<Voters>,
    /// The term in which this program found the cluster.
    first_term: u64,
}

impl Member {
    /// Starts `count` voters and the learner, over folders of `directory`, and waits until this
    /// has what was acknowledged.
    pub fn start(directory: &Path, count: u64) -> Result<Self> {
        let mut voters = Voters::start(directory, count)?;
        let (id, address) = (count + 1, voters.spare());
        let setup = replica::setup(id, &voters::folder(directory, id), address)?;
        let node = Node::start(setup.addresses(voters.addresses().clone()))?;
        voters.learn(id, address)?;
        let session = node.session().wait().context("no session was opened")?;
        node.read(Consistency::Linearizable).wait()?;
        let first_term = node.status().raft.term;
        Ok(Self { id, node, session, voters: Mutex::new(voters), first_term })
    }

    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn voters(&self) -> MutexGuard<'_, Voters> {
        self.voters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a leader is known that is not `lost`. Says which it is.
    pub fn wait_for_leader(&self, lost: Option<u64>, patience: Duration) -> Result<u64> {
        let since = Instant::now();
        let mut status = self.node.status();
        loop {
            let leader = status.raft.leader;
            if let Some(leader) = leader.filter(|leader| Some(*leader) != lost) {
                return Ok(leader);
            }
            ensure!(status.is_running, "the node of this program has stopped: {:?}", status.error);
            let left = patience.saturating_sub(since.elapsed());
            let changed = self.node.status_changed(status.version).wait(left);
            status = changed.with_context(|| format!("no leader within {patience:?}"))?;
        }
    }
}

impl Group for Member {
    fn propose(&self, command: &Command) -> Result<(Applied, Result<Done, Refusal>), Missed> {
        self.session.propose(command).wait().map_err(|error| match error {
            SessionError::Propose(ProposeError::Unknown) | SessionError::ReplyNotKept { .. } => {
                Missed::Unknown
            }
            SessionError::Propose(error) if error.is_retryable() => {
                // It may have come back at once, so something is to happen before the next time.
                let _ = self.node.status_changed(self.node.status().version).wait(TICK);
                Missed::NotTaken
            }
            error => Missed::Never(error.into()),
        })
    }

    fn read(&self, consistency: Consistency) -> Result<Snapshot> {
        Ok(self.node.read(consistency).wait()?)
    }

    fn replicas(&self) -> Vec<u64> {
        self.voters().ids().into_iter().chain([self.id]).collect()
    }

    fn home(&self, _number: usize) -> u64 {
        self.id
    }

    fn db(&self, id: u64) -> Option<Db> {
        let runs = id == self.id && self.node.status().is_running;
        runs.then(|| self.node.db().clone())
    }

    fn tables(&self) -> Builder {
        replica::tables()
    }

    fn copies(&self, revision: Revision) -> Result<Vec<Copy>> {
        let own = group::copy(self.id, self.node.db(), revision)?;
        let mut copies = self.voters().copies(revision)?;
        copies.push(own);
        Ok(copies)
    }

    fn elections(&self) -> u64 {
        self.node.status().raft.term - self.first_term
    }

    fn snapshots_installed(&self) -> Option<u64> {
        None
    }

    fn run(&self) -> Option<u64> {
        Some(self.session.id())
    }

    fn shutdown(&self) {
        self.node.stop();
    }
}
