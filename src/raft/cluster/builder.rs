//! How a cluster is set up and started.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use slog::Logger;

use super::board::Board;
use super::network::Network;
use super::{Cluster, Factory, Node};
use crate::limits::{LOG_SNAPSHOT_ENTRIES, LOG_TAIL_ENTRIES};
use crate::machine::{Fsm, Machine};
use crate::raft::{ClusterError, Membership, MemoryLog};

/// Settings of a cluster, and the way to start it.
pub struct Builder<F: Fsm> {
    factory: Factory<F>,
    replicas: Vec<u64>,
    options: Options,
}

#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) logger: Logger,
    pub(super) tick: Duration,
    pub(super) seed: Option<u64>,
    pub(super) deadline: Duration,
    pub(super) snapshot_entries: u64,
    pub(super) tail_entries: u64,
}

impl<F: Fsm> Builder<F> {
    pub(super) fn new(
        factory: impl Fn(u64) -> Machine<F> + Send + Sync + 'static,
        logger: &Logger,
    ) -> Self {
        let options = Options {
            logger: logger.clone(),
            tick: Duration::from_millis(100),
            seed: None,
            deadline: Duration::from_secs(10),
            snapshot_entries: LOG_SNAPSHOT_ENTRIES,
            tail_entries: LOG_TAIL_ENTRIES,
        };
        Self { factory: Box::new(factory), replicas: vec![1], options }
    }

    /// The founding voters; replica 1 alone when not called.
    #[must_use]
    pub fn replicas(mut self, ids: impl IntoIterator<Item = u64>) -> Self {
        self.replicas = ids.into_iter().collect();
        self
    }

    /// The length of a tick: heartbeats every tick, elections after 10 to 19 ticks without one.
    /// 100 ms when not called.
    #[must_use]
    pub fn tick(mut self, tick: Duration) -> Self {
        self.options.tick = tick.max(Duration::from_millis(1));
        self
    }

    /// Draws election timeouts from this seed. Threads still run as they like.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.options.seed = Some(seed);
        self
    }

    /// How long a call waits for its outcome: 10 s when not called.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.options.deadline = deadline;
        self
    }

    /// Entries between snapshots, and entries kept behind one; see
    /// [`LOG_SNAPSHOT_ENTRIES`] and [`LOG_TAIL_ENTRIES`].
    #[must_use]
    pub fn log_entries(mut self, snapshot: u64, tail: u64) -> Self {
        (self.options.snapshot_entries, self.options.tail_entries) = (snapshot, tail);
        self
    }

    /// Founds the group and starts every replica.
    ///
    /// # Errors
    ///
    /// [`ClusterError::Raft`] when there are no replicas or one has id 0, [`ClusterError::Thread`]
    /// when the system gives no thread.
    pub fn start(self) -> Result<Cluster<F>, ClusterError> {
        let members = Membership::of_voters(self.replicas.iter().copied());
        let founders = members.voters.clone();
        let mut nodes = BTreeMap::new();
        for &id in &founders {
            let log = MemoryLog::founding(members.clone());
            nodes.insert(id, Node::new(log, (self.factory)(id)));
        }
        let cluster = Cluster {
            factory: self.factory,
            options: self.options,
            nodes: Mutex::new(nodes),
            retired: Mutex::default(),
            network: Arc::new(Network::new()),
            board: Arc::new(Board::default()),
        };
        if founders.is_empty() {
            let reason = "a cluster needs a replica".to_owned();
            return Err(crate::raft::RaftError::Config { reason }.into());
        }
        for id in founders {
            cluster.restart(id)?;
        }
        Ok(cluster)
    }
}

impl<F: Fsm> std::fmt::Debug for Builder<F> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("Builder");
        shown.field("replicas", &self.replicas).field("options", &self.options);
        shown.finish_non_exhaustive()
    }
}
