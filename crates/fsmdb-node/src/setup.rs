//! A node of its directory, its log on disk and its TCP transport.
//!
//! # Invariants
//!
//! 1. Whether a node founds its group or joins one is written once, in its log; what a later start
//!    says of it changes nothing.
//! 2. The directory is locked as long as the node's log lives.
//! 3. A directory is made once, with random bits that the group comes to know: a founder that was
//!    wiped founds again, and is refused by the members that know it by others.
//! 4. What received changes come to is verified as a whole file is. For a snapshot that they did
//!    not lead to no file is named to begin from any more, so that it is sent whole.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fsmdb::limits::LOG_LAG_FACTOR;
use fsmdb::raft::{Config, Membership};
use fsmdb::{Applied, LoadOptions, Machine, Progress, SaveOptions, Snapshot};
use slog::{Logger, warn};

use crate::link::{Parcel, Transport};
use crate::node::{
    Changes, Known, Node, NodeError, Options, Parts, SnapshotStore, SnapshotStoreError, remembered,
};
use crate::session::{Replicated, Sessions};
use crate::storage::{
    DataDir, EngineLog, Housekeeper, Identity, Links, LogOptions, SnapshotFiles, SnapshotReference,
    StorageError, head_of, recover,
};
use crate::transport::{Security, TcpTransport, TransportConfig};

/// The folder, in a node's directory, of snapshots that arrive.
const ARRIVING: &str = "arriving";

/// The file in it that received changes come to.
const COMPOSED: &str = "composed.received";

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
    moved: BTreeMap<u64, String>,
    log: LogOptions,
    options: Options,
    snapshots: Option<(u64, u64)>,
    snapshot_rate: Option<u64>,
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
            moved: BTreeMap::new(),
            log: LogOptions::default(),
            options: Options::default(),
            snapshots: None,
            snapshot_rate: None,
            load: LoadOptions::new,
        }
    }

    /// Founds a group of these members, `host:port` each, at the first start. Every one of them is
    /// started with the same.
    ///
    /// Two voters tolerate no failure: of two, one lost stops the group. Found it with one, or with
    /// three or more.
    ///
    /// At a later start they are what [`addresses`](Self::addresses) are: the database says where
    /// members are, as it was told when they were founded or added. So a group that is restarted on
    /// other addresses than it was founded with finds no leader: each node dials where the others
    /// were. Start its members with [`moved`](Self::moved) then.
    #[must_use]
    pub fn founds(mut self, members: BTreeMap<u64, String>) -> Self {
        self.addresses.extend(members.clone());
        self.founders = Some(members);
        self
    }

    /// Where members are reached until the database says it. A member that the database knows is
    /// dialled where the database says, so that an old file of settings leads nobody astray.
    ///
    /// A node that was away while its group got other members needs no new ones here as long as one
    /// that it knows is reached: when it has heard of no leader for a while it asks those it knows
    /// for theirs.
    #[must_use]
    pub fn addresses(mut self, addresses: BTreeMap<u64, String>) -> Self {
        self.addresses.extend(addresses);
        self
    }

    /// Where these members are reached, this node perhaps among them, whatever the database says:
    /// for a group, or a majority of it, whose addresses have changed while it was stopped. Every
    /// member is started with the same; whoever leads writes them into the database.
    ///
    /// Take them out of the settings once [`Node::address_of`] gives them: they would go before an
    /// address that is written later. While a majority runs, a learner that has moved is given its
    /// new address by [`Node::add_learner`], and a voter is replaced; this is not needed then.
    #[must_use]
    pub fn moved(mut self, addresses: BTreeMap<u64, String>) -> Self {
        self.moved.extend(addresses);
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

    /// After how many entries a snapshot is built, and how many entries are kept behind one, at
    /// least: those since the snapshot before are kept too, so that a start can go on from that one
    /// when the newest file is damaged. See [`Config::snapshot_entries`] and
    /// [`Config::tail_entries`]. The same on every node: where
    /// digests are kept, snapshots are of entries whose index is a multiple of `every`, and a node
    /// that holds one which others hold as well is sent what has changed since, not the whole.
    #[must_use]
    pub fn snapshots(mut self, every: u64, tail: u64) -> Self {
        self.snapshots = Some((every, tail));
        self
    }

    /// Bytes of a snapshot that are sent to a peer in a second: [`SNAPSHOT_BYTES_PER_SECOND`],
    /// unless said here. At least [`SNAPSHOT_BYTES_PER_SECOND_MIN`].
    ///
    /// [`SNAPSHOT_BYTES_PER_SECOND`]: crate::limits::SNAPSHOT_BYTES_PER_SECOND
    /// [`SNAPSHOT_BYTES_PER_SECOND_MIN`]: crate::limits::SNAPSHOT_BYTES_PER_SECOND_MIN
    #[must_use]
    pub fn snapshot_bytes_per_second(mut self, rate: u64) -> Self {
        self.snapshot_rate = Some(rate);
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
            let longest = every.saturating_mul(LOG_LAG_FACTOR).max(tail);
            config.log_entries_max = config.log_entries_max.max(longest);
        }
        let folder = directory.path().join(ARRIVING);
        let (cluster, boot) = (identity.cluster, directory.boot());
        let mut tcp = TransportConfig::new(identity.node, cluster, boot, listen, folder, security);
        tcp.directory = directory.incarnation();
        tcp.snapshot_bytes_per_second =
            setup.snapshot_rate.unwrap_or(tcp.snapshot_bytes_per_second);
        tcp.peers.clone_from(&setup.addresses);
        tcp.peers.extend(setup.moved.clone());
        let known = Known {
            addresses: setup.addresses,
            moved: setup.moved,
            directory: Some(directory.incarnation()),
            remembered: remembered(&machine.read(), &recovered.entries),
        };
        tcp.directories.clone_from(&known.remembered.directories);
        let (files, arriving) = (directory.snapshots(), directory.path().join(ARRIVING));
        let snapshots = Files {
            links: Links::open(files.folder().to_owned())?,
            files,
            arriving,
            housekeeper: log.housekeeper(),
            load: setup.load,
            logger: logger.clone(),
            missed: Mutex::default(),
            placing: Mutex::default(),
        };
        let parts = Parts {
            config,
            machine,
            log,
            snapshots: Arc::new(snapshots),
            addresses: BTreeMap::new(),
            logger: logger.clone(),
            options: setup.options,
        };
        Self::start_recovered(parts, known, recovered, |inbound| {
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
    links: Links,
    arriving: PathBuf,
    housekeeper: Housekeeper,
    load: fn() -> LoadOptions<'static>,
    logger: Logger,
    /// The last snapshot that changes were sent for in vain.
    missed: Mutex<Vec<u8>>,
    /// Held while a received file is put in place, and while everything older than the recorded
    /// snapshot is erased.
    placing: Mutex<()>,
}

impl Files {
    fn missed(&self) -> MutexGuard<'_, Vec<u8>> {
        self.missed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold_placing(&self) -> MutexGuard<'_, ()> {
        self.placing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse_outdated(&self, index: u64) -> Result<(), SnapshotStoreError> {
        // It may hold what was erased since, and no core takes it.
        if self.housekeeper.is_outdated(index) {
            return Err(failed(format!("a snapshot of {index} is older than the recorded one")));
        }
        Ok(())
    }

    /// Puts a verified file in place. What an erasure has overtaken meanwhile is not: it is gone
    /// from where it arrived, or it is older than what is recorded.
    fn place(
        &self,
        file: &Path,
        verified: &SnapshotReference,
    ) -> Result<Vec<u8>, SnapshotStoreError> {
        let _no_erasure = self.hold_placing();
        self.refuse_outdated(verified.index)?;
        Ok(self.files.place(file, verified).map_err(failed)?.to_bytes())
    }

    /// Puts changes together with the file that they begin from, and takes what comes out; nothing
    /// when the received file is not of changes.
    fn adopt_changes(
        &self,
        expected: &SnapshotReference,
        received: &Path,
    ) -> Result<Option<Vec<u8>>, SnapshotStoreError> {
        let (_, held) = self.housekeeper.recorded();
        // Where an erasure removes it, and the next start, as if it had come so.
        let whole = self.arriving.join(COMPOSED);
        if !self.files.compose(received, expected, &held, &whole).map_err(failed)? {
            return Ok(None);
        }
        let verified = self.files.verify_received(&whole, expected).map_err(failed);
        let adopted = verified.and_then(|()| self.place(&whole, expected));
        if adopted.is_err() {
            let _ = fs::remove_file(&whole);
        }
        adopted.map(Some)
    }
}

fn failed(error: impl fmt::Display) -> SnapshotStoreError {
    SnapshotStoreError::new(error.to_string())
}

impl SnapshotStore for Files {
    fn load_options(&self) -> LoadOptions<'_> {
        (self.load)()
    }

    fn build(&self, snapshot: &Snapshot) -> Result<(Vec<u8>, u64), SnapshotStoreError> {
        let options = SaveOptions::new().progress(|_| match self.files.is_cancelled() {
            true => Progress::CANCEL,
            false => Progress::CONTINUE,
        });
        let built = self.files.build(snapshot, options).map_err(failed)?;
        let path = self.files.path_of(&built.reference).map_err(failed)?;
        let bytes = path.metadata().map_err(failed)?.len();
        Ok((built.reference, bytes))
    }

    fn build_changes(
        &self,
        base: &Snapshot,
        snapshot: &Snapshot,
        reference: &[u8],
    ) -> Result<(), SnapshotStoreError> {
        let whole = SnapshotReference::parse(reference).map_err(failed)?.bytes;
        let is_cancelled = || self.files.is_cancelled();
        self.links.build(base, snapshot, whole, is_cancelled).map_err(failed)
    }

    fn changes(&self, reference: &[u8]) -> Vec<Changes> {
        let Ok(newest) = SnapshotReference::parse(reference) else { return Vec::new() };
        let links = self.links.leading_to(&newest);
        let from = |first: usize| {
            let taken = || links[..=first].iter().rev();
            let head = head_of(links[first].from, taken().map(|link| link.bytes).collect());
            let bytes = taken().map(|link| link.bytes).sum::<u64>() + head.len() as u64;
            let files = taken().map(|link| self.links.path(link)).collect();
            Changes::new(links[first].from, Parcel { head, files }, bytes)
        };
        (0..links.len()).map(from).collect()
    }

    fn held(&self, reference: &[u8]) -> Vec<u64> {
        if *self.missed() == reference {
            return Vec::new();
        }
        self.housekeeper.recorded().1.into_iter().map(|at| at.index).collect()
    }

    fn path(&self, reference: &[u8]) -> Result<PathBuf, SnapshotStoreError> {
        self.files.path_of(reference).map_err(failed)
    }

    fn check(&self, reference: &[u8]) -> Result<(), SnapshotStoreError> {
        self.files.check(reference).map_err(|error| {
            warn!(self.logger, "a snapshot on disk is not what it was";
                "reason" => %error);
            failed(error)
        })
    }

    fn adopt(
        &self,
        at: Applied,
        reference: &[u8],
        file: &Path,
    ) -> Result<Vec<u8>, SnapshotStoreError> {
        let expected = SnapshotReference::parse(reference).map_err(failed)?;
        if (expected.index, expected.term) != (at.index, at.term) {
            return Err(failed(format!("the file of {at} is said to be {}", expected.name())));
        }
        self.refuse_outdated(at.index)?;
        let changed = self.adopt_changes(&expected, file);
        if let Some(adopted) = changed.inspect_err(|_| reference.clone_into(&mut self.missed()))? {
            return Ok(adopted);
        }
        self.files.verify_received(file, &expected).map_err(failed)?;
        self.place(file, &expected)
    }

    fn open(&self, reference: &[u8]) -> Result<Box<dyn io::Read + Send>, SnapshotStoreError> {
        let file = File::open(self.path(reference)?).map_err(failed)?;
        Ok(Box::new(io::BufReader::with_capacity(READ_BYTES, file)))
    }

    fn retain(&self, recorded: &[u8]) -> Result<(), SnapshotStoreError> {
        self.housekeeper.run().map_err(|error: StorageError| failed(error))?;
        // The founding has no file, and nothing leads to it.
        let recorded = SnapshotReference::parse(recorded).ok();
        recorded.map_or(Ok(()), |recorded| self.links.retain(&recorded).map_err(failed))
    }

    fn erase(&self) -> Result<(), SnapshotStoreError> {
        let _no_arrival = self.hold_placing();
        self.links.erase(self.housekeeper.recorded().0).map_err(failed)?;
        self.housekeeper.erase(&self.arriving).map_err(failed)
    }

    fn cancel(&self) {
        self.files.cancel();
    }
}

/// Bytes that are read from a file at once.
const READ_BYTES: usize = 128 * 1024;

#[cfg(test)]
mod tests;
