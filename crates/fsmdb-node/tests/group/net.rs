//! A network in this process: it delivers at once, or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak, mpsc};
use std::time::Duration;

use fsmdb::raft::Message;
use fsmdb_node::link::{Inbound, LinkError, RequestDone, SnapshotDone, Transport};
use tempfile::TempDir;

pub(crate) struct Net {
    state: Mutex<State>,
    loses_answers: AtomicBool,
    requests: AtomicU64,
    files: AtomicU64,
    folder: TempDir,
    /// What is sent in the place of every snapshot file: a reference and its file.
    substitute: Mutex<Option<(Vec<u8>, PathBuf)>>,
}

#[derive(Default)]
struct State {
    inbounds: BTreeMap<u64, Arc<dyn Inbound>>,
    isolated: BTreeSet<u64>,
    peers: BTreeMap<u64, BTreeMap<u64, String>>,
}

impl Net {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            loses_answers: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            files: AtomicU64::new(0),
            folder: tempfile::tempdir().expect("a folder can be made"),
            substitute: Mutex::default(),
        })
    }

    pub(crate) fn connect(
        self: &Arc<Self>,
        id: u64,
        inbound: Arc<dyn Inbound>,
    ) -> Arc<dyn Transport> {
        self.state.lock().unwrap().inbounds.insert(id, inbound);
        Arc::new(Line { id, net: Arc::downgrade(self) })
    }

    pub(crate) fn disconnect(&self, id: u64) {
        self.state.lock().unwrap().inbounds.remove(&id);
    }

    /// Cuts a node off from all others.
    pub(crate) fn isolate(&self, id: u64) {
        self.state.lock().unwrap().isolated.insert(id);
    }

    pub(crate) fn heal(&self) {
        self.state.lock().unwrap().isolated.clear();
    }

    /// Whether requests arrive and their answers do not.
    pub(crate) fn lose_answers(&self, loses: bool) {
        self.loses_answers.store(loses, Ordering::SeqCst);
    }

    /// Sends a copy of this file, under this reference, in the place of every snapshot file.
    pub(crate) fn substitute(&self, reference: Vec<u8>, file: &Path) {
        let copy = self.folder.path().join("substitute");
        std::fs::copy(file, &copy).expect("the disk is sound");
        *self.substitute.lock().unwrap() = Some((reference, copy));
    }

    pub(crate) fn send_what_is_asked_for(&self) {
        *self.substitute.lock().unwrap() = None;
    }

    /// How many requests were sent.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    /// The peers that a node has told its transport last.
    pub(crate) fn peers_of(&self, id: u64) -> BTreeMap<u64, String> {
        self.state.lock().unwrap().peers.get(&id).cloned().unwrap_or_default()
    }

    /// Hands a node a request, as one of its peers; the answer goes to who waits.
    pub(crate) fn ask(&self, from: u64, to: u64, body: Vec<u8>) -> mpsc::Receiver<Vec<u8>> {
        let (answered, answer) = mpsc::channel();
        let inbound = self.way(from, to).expect("they know each other");
        // Who does not wait any more needs no answer.
        inbound.request(from, body, Box::new(move |bytes| drop(answered.send(bytes))));
        answer
    }

    /// Where to deliver, if there is a way, to a peer that the sender knows.
    fn way(&self, from: u64, to: u64) -> Result<Arc<dyn Inbound>, LinkError> {
        let state = self.state.lock().unwrap();
        let knows = state.peers.get(&from).is_some_and(|peers| peers.contains_key(&to));
        if !knows {
            return Err(LinkError::UnknownPeer);
        }
        let is_cut = state.isolated.contains(&from) || state.isolated.contains(&to);
        let inbound = state.inbounds.get(&to).filter(|_| !is_cut);
        inbound.cloned().ok_or(LinkError::NotConnected)
    }
}

/// The transport of one node.
struct Line {
    id: u64,
    net: Weak<Net>,
}

/// Calls back once, also when it is forgotten.
struct Once(Option<RequestDone>);

impl Once {
    fn call(mut self, answer: Result<Vec<u8>, LinkError>) {
        if let Some(done) = self.0.take() {
            done(answer);
        }
    }
}

impl Drop for Once {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            done(Err(LinkError::Lost));
        }
    }
}

impl Transport for Line {
    fn send(&self, message: Message) -> Result<(), LinkError> {
        let net = self.net.upgrade().ok_or(LinkError::NotConnected)?;
        net.way(self.id, message.to())?.message(message);
        Ok(())
    }

    fn send_snapshot(&self, mut message: Message, mut path: PathBuf, done: SnapshotDone) {
        let Some(net) = self.net.upgrade() else { return done(false) };
        if let Some((reference, file)) = &*net.substitute.lock().unwrap() {
            message.set_snapshot_reference(reference);
            path.clone_from(file);
        }
        let number = net.files.fetch_add(1, Ordering::SeqCst);
        let copy = net.folder.path().join(number.to_string());
        match (net.way(self.id, message.to()), std::fs::copy(path, &copy)) {
            (Ok(inbound), Ok(_)) => inbound.snapshot(message, copy, done),
            _ => done(false),
        }
    }

    fn request(&self, to: u64, body: Vec<u8>, _timeout: Duration, done: RequestDone) {
        let Some(net) = self.net.upgrade() else { return done(Err(LinkError::NotConnected)) };
        net.requests.fetch_add(1, Ordering::SeqCst);
        let inbound = match net.way(self.id, to) {
            Ok(inbound) => inbound,
            Err(error) => return done(Err(error)),
        };
        let (once, from) = (Once(Some(done)), self.id);
        let back = Arc::downgrade(&net);
        let respond = Box::new(move |bytes| {
            let is_lost = back.upgrade().is_none_or(|net| {
                net.loses_answers.load(Ordering::SeqCst) || net.way(from, to).is_err()
            });
            once.call(if is_lost { Err(LinkError::Lost) } else { Ok(bytes) });
        });
        inbound.request(from, body, respond);
    }

    fn set_peers(&self, addresses: BTreeMap<u64, String>) {
        if let Some(net) = self.net.upgrade() {
            net.state.lock().unwrap().peers.insert(self.id, addresses);
        }
    }
}
