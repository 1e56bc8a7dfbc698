//! What a node is made of, and how its threads are started.
//!
//! # Invariants
//!
//! 1. The state machine is at the snapshot that the log names before the core starts.
//! 2. When a thread cannot be started, those that were are ended.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fsmdb::Machine;
use fsmdb::raft::{Config, Core, LogStore, Recovered, Role};
use slog::Logger;

use super::admission::Admission;
use super::apply::{Applier, Notes, install};
use super::arrivals::Adopter;
use super::book::{Book, Known};
use super::clock::Ticker;
use super::digests::Comparing;
use super::door::Door;
use super::error::NodeError;
use super::inbox::Inbox;
use super::log_thread::Writer;
use super::mail::Mail;
use super::marks::Marks;
use super::reads::Reads;
use super::remembered::remembered;
use super::replica::{Replica, Threads};
use super::sending::Attempts;
use super::snapshots::{self, SnapshotStore};
use super::status::Board;
use super::{Node, Shared};
use crate::limits::{
    DIGEST_ENTRIES, PROPOSAL_BYTES_IN_FLIGHT_MAX, PROPOSALS_IN_FLIGHT_MAX, READS_IN_FLIGHT_MAX,
};
use crate::link::{Inbound, Transport};
use crate::metrics::Metrics;
use crate::session::{Replicated, Sessions};

/// What a node is made of.
pub struct Parts<F, L> {
    /// The settings of its core: its id, a boot number that no earlier start of it used, and when
    /// snapshots are built.
    pub config: Config,
    /// Its state machine, as empty as when it was made: the log says what it becomes.
    pub machine: Machine<Sessions<F>>,
    /// Its durable log: of a founder [`Recovered::founding`], of a joiner never written.
    pub log: L,
    /// Where its snapshot files are.
    pub snapshots: Arc<dyn SnapshotStore>,
    /// How the other members, and this one, are reached; the database knows it better as soon as
    /// it has it.
    pub addresses: BTreeMap<u64, String>,
    /// Where elections, and refused snapshots, are logged.
    pub logger: Logger,
    /// How it waits.
    pub options: Options,
}

impl<F, L> fmt::Debug for Parts<F, L> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Parts");
        shown.field("config", &self.config).field("addresses", &self.addresses);
        shown.field("options", &self.options).finish_non_exhaustive()
    }
}

/// How a node waits, and how much it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The length of a tick: 100 ms.
    pub tick: Duration,
    /// How long a call waits for its outcome, unless it says otherwise: 10 s.
    pub deadline: Duration,
    /// See [`PROPOSALS_IN_FLIGHT_MAX`].
    pub proposals_max: usize,
    /// See [`PROPOSAL_BYTES_IN_FLIGHT_MAX`].
    pub proposal_bytes_max: usize,
    /// See [`DIGEST_ENTRIES`]; the same on every node, and of no effect where digests are not kept.
    pub digest_entries: u64,
    /// Names the build of the program, in a few words. Digests are compared only between nodes of
    /// the same build: another one may encode the same rows in another way, and while a group is
    /// upgraded node by node nobody shall stop for that.
    pub build: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tick: Duration::from_millis(100),
            deadline: Duration::from_secs(10),
            proposals_max: PROPOSALS_IN_FLIGHT_MAX,
            proposal_bytes_max: PROPOSAL_BYTES_IN_FLIGHT_MAX,
            digest_entries: DIGEST_ENTRIES,
            build: String::new(),
        }
    }
}

impl<F: Replicated> Node<F> {
    /// Starts a node: brings the state machine to the snapshot that the log begins from, opens the
    /// transport by `connect`, which is given where it delivers, and starts the threads.
    ///
    /// # Errors
    ///
    /// [`NodeError`] when the log or its snapshot is refused, the transport cannot be started, or
    /// the system gives no thread.
    pub fn start_with<L: LogStore>(
        mut parts: Parts<F, L>,
        connect: impl FnOnce(Arc<dyn Inbound>) -> Result<Arc<dyn Transport>, String>,
    ) -> Result<Self, NodeError> {
        let Parts { machine, log, snapshots, addresses, .. } = &mut parts;
        let recovered: Recovered = log.load()?;
        install(machine, &**snapshots, &recovered.snapshot, &AtomicBool::new(false))?;
        let remembered = remembered(&machine.read(), &recovered.entries);
        let addresses = std::mem::take(addresses);
        let known = Known { addresses, remembered, ..Known::default() };
        Self::start_recovered(parts, known, recovered, connect)
    }

    /// As [`start_with`](Self::start_with), with a state machine that is at the snapshot that
    /// `recovered`, which was read from the log, begins from, and `known` in place of the addresses
    /// among the parts.
    pub(crate) fn start_recovered<L: LogStore>(
        parts: Parts<F, L>,
        known: Known,
        recovered: Recovered,
        connect: impl FnOnce(Arc<dyn Inbound>) -> Result<Arc<dyn Transport>, String>,
    ) -> Result<Self, NodeError> {
        let Parts { config, machine, log, snapshots, logger, options, .. } = parts;
        let applied = machine.applied().index;
        let (id, snapshot) = (config.id, recovered.snapshot.clone());
        let interval = config.snapshot_entries;
        let core = Core::new(config, recovered, applied, &logger)?;
        let shared = Arc::new(shared_of(id, machine, &options, interval));
        shared.board.post(|status| {
            (status.is_running, status.raft, status.snapshot_index) =
                (true, core.status(), snapshot.index);
        });
        let door = Door::<F> { inbox: Arc::clone(&shared.inbox), marker: PhantomData };
        let transport =
            connect(Arc::new(door)).map_err(|reason| NodeError::Transport { reason })?;
        let digest_entries =
            shared.machine.db().keeps_digests().then_some(options.digest_entries.max(1));
        let threads = start_threads(&shared, log, &snapshots, digest_entries, logger)?;
        let replica = Replica {
            id,
            core,
            shared: Arc::clone(&shared),
            transport,
            snapshots,
            threads,
            ticker: Ticker::new(options.tick),
            ticks: 0,
            role: Role::Follower,
            leader: None,
            last_token: 0,
            appended: BTreeMap::new(),
            parked: Vec::new(),
            arrived: Vec::new(),
            changes: BTreeMap::new(),
            timers: Vec::new(),
            reads: Reads::default(),
            comparing: Comparing::default(),
            attempts: Attempts::default(),
            alarmed_at: None,
            erasures: Vec::new(),
            book: Book::new(id, known),
            members: snapshot.membership,
            is_checking: false,
            sound: None,
            relied_on: None,
            is_draining: false,
            is_removed: false,
        };
        // Dropped with the replica when there is no thread, the queues end the other threads.
        let thread = spawn("raft", id, move || {
            IS_OF_NODE.set(true);
            replica.run();
        })?;
        Ok(Self::new(shared, thread))
    }
}

fn shared_of<F: Replicated>(
    id: u64,
    machine: Machine<Sessions<F>>,
    options: &Options,
    interval: u64,
) -> Shared<F> {
    let marks = Marks::new(machine.db().keeps_digests().then_some(interval));
    marks.begin(machine.read());
    Shared {
        id,
        inbox: Arc::new(Inbox::new()),
        board: Arc::new(Board::default()),
        machine: Arc::new(machine),
        metrics: Arc::new(Metrics::new()),
        admission: Admission::new(options.proposals_max, options.proposal_bytes_max),
        reads: Admission::new(READS_IN_FLIGHT_MAX, usize::MAX),
        confirmed: Mutex::new(None),
        notes: Arc::new(Notes::default()),
        marks: Arc::new(marks),
        build: options.build.clone(),
        tick: options.tick,
        deadline: options.deadline,
    }
}

/// Starts the threads beside the raft thread.
fn start_threads<F: Replicated, L: LogStore>(
    shared: &Arc<Shared<F>>,
    log: L,
    store: &Arc<dyn SnapshotStore>,
    digest_entries: Option<u64>,
    logger: Logger,
) -> Result<Threads<F::Reply>, NodeError> {
    let mut threads = Threads {
        log: Arc::new(Inbox::new()),
        apply: Arc::new(Inbox::new()),
        background: Arc::new(Inbox::new()),
        arrivals: Arc::new(Inbox::new()),
        is_stopping: Arc::default(),
        store: Arc::clone(store),
        handles: Vec::new(),
    };
    let writer = Writer {
        log,
        jobs: Arc::clone(&threads.log),
        inbox: Arc::clone(&shared.inbox),
        background: Arc::clone(&threads.background),
        metrics: Arc::clone(&shared.metrics),
    };
    let applier = Applier {
        machine: Arc::clone(&shared.machine),
        jobs: Arc::clone(&threads.apply),
        inbox: Arc::clone(&shared.inbox),
        snapshots: Arc::clone(store),
        notes: Arc::clone(&shared.notes),
        marks: Arc::clone(&shared.marks),
        digest_entries,
        is_stopping: Arc::clone(&threads.is_stopping),
        metrics: Arc::clone(&shared.metrics),
    };
    let adopter = Adopter {
        arrivals: Arc::clone(&threads.arrivals),
        inbox: Arc::clone(&shared.inbox),
        store: Arc::clone(store),
        metrics: Arc::clone(&shared.metrics),
        logger,
    };
    let (work, inbox) = (Arc::clone(&threads.background), Arc::clone(&shared.inbox));
    let (store, metrics) = (Arc::clone(store), Arc::clone(&shared.metrics));
    let marks = Arc::clone(&shared.marks);
    let background = move || snapshots::run(&*store, &work, &inbox, &marks, &metrics);
    let log_thread = watched(shared, "log", move || writer.run());
    threads.handles.push(log_thread?);
    threads.handles.push(watched(shared, "apply", move || applier.run())?);
    threads.handles.push(watched(shared, "snapshot", background)?);
    threads.handles.push(watched(shared, "arrivals", move || adopter.run())?);
    Ok(threads)
}

thread_local! {
    static IS_OF_NODE: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread steps, writes or applies for a node, and so must not wait for one to end: a
/// waker that it calls may drop the last handle on the node.
pub(super) fn is_thread_of_node() -> bool {
    IS_OF_NODE.get()
}

/// Tells the raft thread when a thread panics.
struct Panics<R> {
    thread: &'static str,
    inbox: Arc<Inbox<Mail<R>>>,
}

impl<R> Drop for Panics<R> {
    fn drop(&mut self) {
        if thread::panicking() {
            let error = NodeError::Panicked { thread: self.thread };
            // The raft thread has ended already, and nobody asks.
            let _ = self.inbox.post(Mail::Failed(error));
        }
    }
}

fn watched<F: Replicated>(
    shared: &Arc<Shared<F>>,
    name: &'static str,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, NodeError> {
    let panics = Panics { thread: name, inbox: Arc::clone(&shared.inbox) };
    spawn(name, shared.id, move || {
        let _panics = panics;
        IS_OF_NODE.set(true);
        run();
    })
}

pub(super) fn spawn(
    name: &'static str,
    id: u64,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, NodeError> {
    let thread = thread::Builder::new().name(format!("fsmdb-{id}-{name}"));
    let failed =
        |error: std::io::Error| NodeError::Thread { thread: name, reason: error.to_string() };
    thread.spawn(run).map_err(failed)
}
