//! Nodes for the tests: recorders behind real transports, and an authority for their certificates.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fsmdb::raft::Message;
use fsmdb_node::link::{Inbound, LinkError, Responder, SnapshotDone, Transport};
use fsmdb_node::transport::{
    PeerStats, Refusal, Security, TcpTransport, Timing, TlsConfig, TransportConfig, node_name,
};
use slog::{Discard, Logger, o};
use tempfile::TempDir;

pub(crate) const CLUSTER: u128 = 0xfe;
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// What a node was handed.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) terms: Mutex<Vec<(u64, u64)>>,
    pub(crate) unreachable: AtomicU64,
    /// Requests that are not answered yet.
    pub(crate) requests: Mutex<Vec<(u64, Vec<u8>, Responder)>>,
    /// Messages and contents of snapshots.
    pub(crate) snapshots: Mutex<Vec<(Message, Vec<u8>)>>,
    pub(crate) declines: AtomicBool,
    directories: Mutex<BTreeMap<u64, u128>>,
    refusals: Mutex<BTreeMap<u64, Refusal>>,
}

impl Inbound for Recorder {
    fn message(&self, message: Message) {
        self.terms.lock().expect("sound").push((message.from(), message.term()));
    }

    fn snapshot(&self, message: Message, path: PathBuf, done: SnapshotDone) {
        let content = std::fs::read(path).expect("it is there");
        self.snapshots.lock().expect("sound").push((message, content));
        done(!self.declines.load(SeqCst));
    }

    fn request(&self, from: u64, body: Vec<u8>, respond: Responder) {
        self.requests.lock().expect("sound").push((from, body, respond));
    }

    fn unreachable(&self, _: u64) {
        self.unreachable.fetch_add(1, SeqCst);
    }

    fn introduced(&self, peer: u64, directory: u128) {
        self.directories.lock().expect("sound").insert(peer, directory);
    }

    fn answered(&self, peer: u64, refusal: Option<Refusal>) {
        let mut refusals = self.refusals.lock().expect("sound");
        match refusal {
            Some(refusal) => drop(refusals.insert(peer, refusal)),
            None => drop(refusals.remove(&peer)),
        }
    }
}

impl Recorder {
    /// Why a peer refuses the node, if it does.
    pub(crate) fn refusal_of(&self, peer: u64) -> Option<Refusal> {
        self.refusals.lock().expect("sound").get(&peer).copied()
    }

    /// The directories that peers have shown.
    pub(crate) fn directories(&self) -> BTreeMap<u64, u128> {
        self.directories.lock().expect("sound").clone()
    }

    /// The terms of the messages that came from a node.
    pub(crate) fn terms_from(&self, from: u64) -> Vec<u64> {
        let terms = self.terms.lock().expect("sound");
        terms.iter().filter(|(sender, _)| *sender == from).map(|(_, term)| *term).collect()
    }
}

pub(crate) struct Node {
    pub(crate) transport: TcpTransport,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) folder: TempDir,
}

pub(crate) fn timing() -> Timing {
    Timing {
        handshake: Duration::from_secs(2),
        keep_alive: Duration::from_millis(50),
        silence: Duration::from_secs(3),
        reconnect_min: Duration::from_millis(10),
        reconnect_max: Duration::from_millis(100),
    }
}

pub(crate) fn config(id: u64, security: Security, folder: &Path) -> TransportConfig {
    let listen = "127.0.0.1:0".parse().expect("an address");
    let mut config = TransportConfig::new(id, CLUSTER, 1, listen, folder.into(), security);
    config.timing = timing();
    config
}

impl Node {
    pub(crate) fn start(id: u64, security: Security) -> Self {
        Self::start_with(id, security, |_| {})
    }

    pub(crate) fn start_with(
        id: u64,
        security: Security,
        change: impl FnOnce(&mut TransportConfig),
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = config(id, security, folder.path());
        change(&mut config);
        let recorder = Arc::new(Recorder::default());
        let inbound: Arc<dyn Inbound> = recorder.clone();
        let log = Logger::root(Discard, o!());
        let transport = TcpTransport::start(config, inbound, log).expect("it starts");
        Self { transport, recorder, folder }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.transport.local_address()
    }

    pub(crate) fn knows(&self, peers: &[(u64, SocketAddr)]) {
        let addresses = peers.iter().map(|(id, address)| (*id, address.to_string()));
        self.transport.set_peers(addresses.collect::<BTreeMap<_, _>>());
    }

    /// Sends a heartbeat, again and again until the queue takes it.
    pub(crate) fn send(&self, from: u64, to: u64, term: u64) {
        until("the queue takes the message", || {
            self.transport.send(heartbeat(from, to, term, 0)).is_ok()
        });
    }
}

/// Nodes 1 to `count`, each of which knows all.
pub(crate) fn nodes(count: u64, security: impl Fn(u64) -> Security) -> Vec<Node> {
    let nodes: Vec<_> = (1..=count).map(|id| Node::start(id, security(id))).collect();
    introduce(&nodes);
    nodes
}

pub(crate) fn introduce(nodes: &[Node]) {
    let addresses: Vec<_> = (1..).zip(nodes).map(|(id, node)| (id, node.address())).collect();
    for node in nodes {
        node.knows(&addresses);
    }
    until("all are connected", || {
        nodes.iter().all(|node| {
            let peers = node.transport.stats().peers;
            let stands = |peer: &PeerStats| peer.connected && peer.takes_requests;
            peers.len() == nodes.len() - 1 && peers.values().all(stands)
        })
    });
}

pub(crate) fn insecure(_: u64) -> Security {
    Security::insecure_loopback_only()
}

pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < DEADLINE, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Both ways between the first two nodes, which have exchanged nothing of this term yet.
pub(crate) fn assert_unaffected(nodes: &[Node], term: u64) {
    nodes[0].send(1, 2, term);
    nodes[1].send(2, 1, term);
    until("the others exchange messages", || {
        nodes[0].recorder.terms_from(2).contains(&term)
            && nodes[1].recorder.terms_from(1).contains(&term)
    });
}

fn varint(field: u64, mut value: u64, into: &mut Vec<u8>) {
    into.push(u8::try_from(field << 3).expect("a low field"));
    while value >= 0x80 {
        into.push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
        value >>= 7;
    }
    into.push(u8::try_from(value).expect("seven bits"));
}

fn encoded(kind: u64, from: u64, to: u64, term: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (field, value) in [(1, kind), (2, to), (3, from), (4, term)] {
        varint(field, value, &mut bytes);
    }
    bytes
}

/// A heartbeat with so many bytes of context.
pub(crate) fn heartbeat(from: u64, to: u64, term: u64, context: usize) -> Message {
    let mut bytes = encoded(8, from, to, term);
    if context > 0 {
        let mut length = Vec::new();
        varint(12, context as u64, &mut length);
        length[0] |= 2;
        bytes.extend(length);
        bytes.resize(bytes.len() + context, 7);
    }
    Message::decode(&bytes).expect("a message")
}

pub(crate) fn snapshot_message(from: u64, to: u64, term: u64) -> Message {
    let mut message = Message::decode(&encoded(7, from, to, term)).expect("a message");
    message.set_snapshot_reference(b"the snapshot");
    message
}

/// Whoever signs certificates for the nodes of a test.
pub(crate) struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pem: Vec<u8>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("signed").pem().into_bytes();
        Self { issuer: rcgen::Issuer::new(params, key), pem }
    }

    /// The certificate of a node.
    pub(crate) fn node(&self, id: u64) -> Security {
        Security::Tls(self.named(&node_name(CLUSTER, id)))
    }

    pub(crate) fn named(&self, name: &str) -> TlsConfig {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        TlsConfig {
            authorities: self.pem.clone(),
            certificates: certificate.pem().into_bytes(),
            key: key.serialize_pem().into_bytes(),
        }
    }
}

/// Collects the ends of requests, in their order.
#[derive(Clone, Default)]
pub(crate) struct Ends(pub(crate) Arc<Mutex<Vec<(u64, Result<Vec<u8>, LinkError>)>>>);

impl Ends {
    pub(crate) fn done(&self, name: u64) -> fsmdb_node::link::RequestDone {
        let ends = self.clone();
        Box::new(move |answer| ends.0.lock().expect("sound").push((name, answer)))
    }

    pub(crate) fn wait(&self, count: usize) -> Vec<(u64, Result<Vec<u8>, LinkError>)> {
        until("requests end", || self.0.lock().expect("sound").len() >= count);
        self.0.lock().expect("sound").clone()
    }
}
