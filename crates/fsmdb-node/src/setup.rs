//! A node of its directory, its log on disk and its TCP transport.
//!
//! # Invariants
//!
//! 1. Whether a node founds its group or joins one is written once, in its log; what a later start
//!    says of it changes nothing.
//! 2. The directory is locked as long as the node's log lives.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fsmdb::raft::{Config, Membership};
use fsmdb::{LoadOptions, Machine, SaveOptions, Snapshot};
use slog::{Logger, warn};

use crate::link::Transport;
use crate::node::{Node, NodeError, Options, Parts, SnapshotStore, SnapshotStoreError};
use crate::session::{Replicated, Sessions};
use crate::storage::{
    DataDir, EngineLog, Housekeeper, Identity, LogOptions, SnapshotFiles, SnapshotReference,
    StorageError, recover,
};
use crate::transport::{Security, TcpTransport, TransportConfig};

/// The folder, in a node's directory, of snapshots that arrive.
const ARRIVING: &str = "arriving";

/// What [`Node::start`] needs.
pub struct Setup<F> {
    identity: Identity,
    machine: Machine<Sessions<F>>,
    directory: PathBuf,
    listen: SocketAddr,
    security: Security,
    logger: Logger,
    founders: Option<BTreeMap<u64, String>>,
    addresses: BTreeMap<u64, String>,
    log: LogOptions,
    options: Options,
    snapshots: Option<(u64, u64)>,
    load: fn() -> LoadOptions<'static>,
}

impl<F: Replicated> Setup<F> {
    /// A node that joins a group: it waits until [`Node::add_learner`] of a member adds it.
    ///
    /// `machine` is as empty as when it was made, over a database with the tables of
    /// [`with_tables`](crate::with_tables); `listen` is where other nodes reach this one.
    #[must_use]
    pub fn new(
        identity: Identity,
        machine: Machine<Sessions<F>>,
        directory: impl Into<PathBuf>,
        listen: SocketAddr,
        security: Security,
        logger: Logger,
    ) -> Self {
        Self {
            identity,
            machine,
            directory: directory.into(),
            listen,
            security,
            logger,
            founders: None,
            addresses: BTreeMap::new(),
            log: LogOptions::default(),
            options: Options::default(),
            snapshots: None,
            load: LoadOptions::new,
        }
    }

    /// Founds a group of these members, `host:port` each, at the first start. Every one of them is
    /// started with the same.
    #[must_use]
    pub fn founds(mut self, members: BTreeMap<u64, String>) -> Self {
        self.addresses.extend(members.clone());
        self.founders = Some(members);
        self
    }

    /// Where members are reached until the database says it.
    #[must_use]
    pub fn addresses(mut self, addresses: BTreeMap<u64, String>) -> Self {
        self.addresses.extend(addresses);
        self
    }

    /// How the node waits, and how much it takes.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// How much disk its log takes.
    #[must_use]
    pub fn log(mut self, options: LogOptions) -> Self {
        self.log = options;
        self
    }

    /// How snapshots are read: [`LoadOptions::missing_tables_are_empty`] for a build that has a
    /// table more than the files that it starts from or is fed, for one.
    #[must_use]
    pub fn load(mut self, options: fn() -> LoadOptions<'static>) -> Self {
        self.load = options;
        self
    }

    /// After how many entries a snapshot is built, and how many entries are kept behind one; see
    /// [`Config::snapshot_entries`] and [`Config::tail_entries`].
    #[must_use]
    pub fn snapshots(mut self, every: u64, tail: u64) -> Self {
        self.snapshots = Some((every, tail));
        self
    }
}

impl<F> fmt::Debug for Setup<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Setup");
        shown.field("identity", &self.identity).field("directory", &self.directory);
        shown.field("listen", &self.listen).field("addresses", &self.addresses);
        shown.finish_non_exhaustive()
    }
}

impl<F: Replicated> Node<F> {
    /// Starts a node over its directory: reads the log, rebuilds the state machine from the newest
    /// sound snapshot, listens, and begins.
    ///
    /// ```
    /// use std::collections::BTreeMap;
    ///
    /// use fsmdb::raft::Consistency;
    /// use fsmdb::{Applied, Db, Fsm, Machine, Table, WriteTxn};
    /// use fsmdb_node::storage::{Identity, LogOptions};
    /// use fsmdb_node::transport::Security;
    /// use fsmdb_node::{Node, Sessions, Setup, with_tables};
    /// use serde::{Deserialize, Serialize};
    /// use slog::{Discard, Logger, o};
    ///
    /// #[derive(Clone, Debug, Serialize, Deserialize, Table)]
    /// #[table(name = "jobs")]
    /// struct Job {
    ///     #[key]
    ///     id: u64,
    /// }
    ///
    /// struct Jobs;
    ///
    /// impl Fsm for Jobs {
    ///     type Command = Job;
    ///     type Reply = Result<(), String>;
    ///     fn apply(&self, txn: &mut WriteTxn<'_>, _: Applied, job: Job) -> Self::Reply {
    ///         txn.insert(job).map(drop).map_err(|error| error.to_string())
    ///     }
    /// }
    ///
    /// # let folder = tempfile::tempdir()?;
    /// let db = with_tables(Db::builder().table::<Job>().keep_digests()).build()?;
    /// let machine = Machine::new(db, Sessions::new(Jobs))?;
    /// let identity = Identity { cluster: 7, node: 1 };
    /// let directory = folder.path().join("node-1");
    /// let security = Security::insecure_loopback_only();
    /// let logger = Logger::root(Discard, o!());
    /// // The one member of its group, so it leads at once.
    /// let address = "127.0.0.1:0";
    /// let setup = Setup::new(identity, machine, directory, address.parse()?, security, logger)
    ///     .founds(BTreeMap::from([(1, address.to_owned())]))
    ///     .log(LogOptions { prefill_bytes: 0, ..LogOptions::default() });
    /// let node = Node::start(setup)?;
    /// # let leads = |status: fsmdb_node::node::NodeStatus| status.is_leader();
    /// # let limit = std::time::Duration::from_secs(10);
    /// # let mut status = node.status();
    /// # while !leads(status.clone()) {
    /// #     status = node.status_changed(status.version).wait(limit).expect("a leader");
    /// # }
    /// let (at, reply) = node.propose(&Job { id: 1 }).wait()?;
    /// assert_eq!(reply, Ok(()));
    /// let snapshot = node.read(Consistency::Linearizable).wait()?;
    /// assert!(snapshot.applied().index >= at.index);
    /// assert_eq!(snapshot.table::<Job>().len(), 1);
    /// node.stop();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`NodeError`]: of the directory and what is in it [`NodeError::Storage`], of the address
    /// and of what `security` forbids [`NodeError::Transport`].
    pub fn start(setup: Setup<F>) -> Result<Self, NodeError> {
        let Setup { identity, machine, listen, security, logger, founders, .. } = setup;
        let mut directory = DataDir::open(&setup.directory, identity, &logger)?;
        let mut log = EngineLog::open(&mut directory, setup.log)?;
        if let Some(founders) = founders.filter(|_| log.is_empty()) {
            log.found(Membership::of_voters(founders.into_keys()))?;
        }
        let recovered = recover(&directory, &mut log, &machine, setup.load)?;
        let mut config = Config::new(identity.node, directory.boot());
        if let Some((every, tail)) = setup.snapshots {
            (config.snapshot_entries, config.tail_entries) = (every, tail);
        }
        let folder = directory.path().join(ARRIVING);
        let (cluster, boot) = (identity.cluster, directory.boot());
        let mut tcp = TransportConfig::new(identity.node, cluster, boot, listen, folder, security);
        tcp.peers.clone_from(&setup.addresses);
        let (files, arriving) = (directory.snapshots(), directory.path().join(ARRIVING));
        let (housekeeper, load, own) = (log.housekeeper(), setup.load, logger.clone());
        let snapshots = Files { files, arriving, housekeeper, load, logger: own };
        let parts = Parts {
            config,
            machine,
            log,
            snapshots: Arc::new(snapshots),
            addresses: setup.addresses,
            logger: logger.clone(),
            options: setup.options,
        };
        Self::start_recovered(parts, recovered, |inbound| {
            let transport = TcpTransport::start(tcp, inbound, logger);
            let transport: Arc<dyn Transport> =
                Arc::new(transport.map_err(|error| error.to_string())?);
            Ok(transport)
        })
    }
}

/// The snapshot files of a directory, as the node asks for them.
#[derive(Debug)]
struct Files {
    files: SnapshotFiles,
    arriving: PathBuf,
    housekeeper: Housekeeper,
    load: fn() -> LoadOptions<'static>,
    logger: Logger,
}

fn failed(error: impl fmt::Display) -> SnapshotStoreError {
    SnapshotStoreError::new(error.to_string())
}

impl SnapshotStore for Files {
    fn load_options(&self) -> LoadOptions<'_> {
        (self.load)()
    }

    fn build(&self, snapshot: &Snapshot) -> Result<(Vec<u8>, u64), SnapshotStoreError> {
        let built = self.files.build(snapshot, SaveOptions::new()).map_err(failed)?;
        let path = self.files.path_of(&built.reference).map_err(failed)?;
        let bytes = path.metadata().map_err(failed)?.len();
        Ok((built.reference, bytes))
    }

    fn path(&self, reference: &[u8]) -> Result<PathBuf, SnapshotStoreError> {
        self.files.path_of(reference).map_err(failed)
    }

    fn check(&self, reference: &[u8]) -> Result<(), SnapshotStoreError> {
        self.files.check(reference).map_err(|error| {
            warn!(self.logger, "a snapshot that did not arrive is not what it was";
                "reason" => %error);
            failed(error)
        })
    }

    fn adopt(&self, reference: &[u8], file: &Path) -> Result<Vec<u8>, SnapshotStoreError> {
        let index = SnapshotReference::parse(reference).map_err(failed)?.index;
        // It may hold what was erased since, and no core takes it.
        if self.housekeeper.is_outdated(index) {
            return Err(failed(format!("a snapshot of {index} is older than the recorded one")));
        }
        Ok(self.files.adopt(file, reference).map_err(failed)?.to_bytes())
    }

    fn open(&self, reference: &[u8]) -> Result<Box<dyn io::Read + Send>, SnapshotStoreError> {
        let file = File::open(self.path(reference)?).map_err(failed)?;
        Ok(Box::new(io::BufReader::with_capacity(READ_BYTES, file)))
    }

    fn retain(&self, _recorded: &[u8]) -> Result<(), SnapshotStoreError> {
        self.housekeeper.run().map(drop).map_err(|error: StorageError| failed(error))
    }

    fn erase(&self) -> Result<(), SnapshotStoreError> {
        self.housekeeper.erase(&self.arriving).map_err(failed)
    }
}

/// Bytes that are read from a file at once.
const READ_BYTES: usize = 128 * 1024;
