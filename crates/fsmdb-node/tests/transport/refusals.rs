//! Diallers that are refused or cut off, while the others go on.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use fsmdb_node::limits::CONNECTIONS_UNAUTHENTICATED_MAX;
use fsmdb_node::link::{Inbound, Transport as _};
use fsmdb_node::transport::frame::{Kind, encode};
use fsmdb_node::transport::{
    Hello, Purpose, Refusal, Security, TcpTransport, TlsConfig, TransportConfig, TransportError,
    VERSIONS, Versions, WELCOME_BYTES, Welcome, node_name,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use slog::{Discard, Logger, o};

use crate::world::{
    Authority, CLUSTER, DEADLINE, Node, Recorder, assert_unaffected, config, heartbeat, insecure,
    introduce, nodes, snapshot_message, timing, until,
};

fn hello(from: u64) -> Hello {
    let (versions, purpose) = (VERSIONS, Purpose::Messages);
    Hello { versions, purpose, cluster: CLUSTER, from, to: 1, incarnation: 1, directory: 0 }
}

fn versions(lowest: u32, highest: u32) -> Versions {
    Versions { lowest, highest }
}

fn connect(node: &Node) -> TcpStream {
    let stream = TcpStream::connect(node.address()).expect("it listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("not zero");
    stream
}

fn greet(stream: &mut (impl Read + Write), hello: &Hello) -> Welcome {
    stream.write_all(&hello.encode()).expect("it reads");
    let mut answer = [0; WELCOME_BYTES];
    stream.read_exact(&mut answer).expect("it answers");
    Welcome::decode(&answer, VERSIONS).expect("an answer")
}

/// Waits for the end of a connection, whatever still comes over it.
fn assert_closed(stream: &mut impl Read) {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => {
                let timed_out = [ErrorKind::WouldBlock, ErrorKind::TimedOut];
                assert!(!timed_out.contains(&error.kind()), "it is still open");
                return;
            }
        }
    }
}

#[test]
fn a_dialler_learns_why_it_is_refused() {
    let nodes = nodes(2, insecure);
    let other = |change: fn(&mut Hello)| {
        let mut hello = hello(2);
        change(&mut hello);
        hello
    };
    for (hello, refusal) in [
        (other(|hello| hello.cluster = 1), Refusal::Cluster),
        (other(|hello| hello.to = 3), Refusal::Receiver),
        (other(|hello| hello.from = 9), Refusal::Sender),
        (other(|hello| hello.from = 1), Refusal::Sender),
        (other(|hello| hello.incarnation = 0), Refusal::Superseded),
    ] {
        let before = nodes[0].transport.stats().handshakes_refused;
        let mut stream = connect(&nodes[0]);
        assert_eq!(greet(&mut stream, &hello).refusal, Some(refusal));
        assert_closed(&mut stream);
        until("it is counted", || nodes[0].transport.stats().handshakes_refused > before);
    }
    assert_unaffected(&nodes, 1);
}

#[test]
fn a_node_of_another_cluster_or_version_is_not_heard() {
    let nodes = nodes(2, insecure);
    let no_common = Refusal::Version { theirs: VERSIONS, ours: versions(98, 99) };
    let strangers = [
        Node::start_with(2, insecure(2), |config| config.cluster = 7),
        Node::start_with(2, insecure(2), |config| config.versions = versions(98, 99)),
    ];
    for (stranger, expected) in strangers.iter().zip([Refusal::Cluster, no_common]) {
        let before = nodes[0].transport.stats().handshakes_refused;
        stranger.knows(&[(1, nodes[0].address())]);
        until("it is refused", || nodes[0].transport.stats().handshakes_refused > before + 2);
        assert_eq!(stranger.transport.stats().connects, 0);
        until("it learns why", || stranger.recorder.refusal_of(1) == Some(expected));
    }
    assert_unaffected(&nodes, 1);
}

#[test]
fn nodes_of_different_releases_speak_the_highest_version_that_both_do() {
    let speaks = |lowest, highest| {
        move |config: &mut TransportConfig| {
            config.versions = versions(lowest, highest);
        }
    };
    let nodes = [
        Node::start_with(1, insecure(1), speaks(1, 2)),
        Node::start_with(2, insecure(2), speaks(2, 3)),
    ];
    introduce(&nodes);
    assert_unaffected(&nodes, 1);
    let welcome = greet(&mut connect(&nodes[0]), &Hello { versions: versions(1, 9), ..hello(2) });
    assert_eq!((welcome.refusal, welcome.versions), (None, versions(1, 2)));
    assert_eq!(welcome.versions.common(versions(1, 9)), Some(2));
}

#[test]
fn a_peer_that_was_wiped_is_refused_by_whoever_met_it_before_and_hears_nothing() {
    let with = |directory| move |config: &mut TransportConfig| config.directory = directory;
    let mut nodes: Vec<_> =
        [1, 2, 3].map(|id| Node::start_with(id, insecure(id), with(id.into()))).into();
    introduce(&nodes);
    assert_eq!(nodes[0].recorder.directories(), [(2, 2), (3, 3)].into());
    nodes.truncate(2);
    let wiped = Node::start_with(3, insecure(3), with(33));
    let mut addresses = vec![(1, nodes[0].address()), (2, nodes[1].address())];
    wiped.knows(&addresses);
    addresses.push((3, wiped.address()));
    nodes.iter().for_each(|node| node.knows(&addresses));
    until("it learns why", || {
        [1, 2].iter().all(|id| wiped.recorder.refusal_of(*id) == Some(Refusal::Directory))
    });
    until("it is dialled", || wiped.recorder.directories() == [(1, 1), (2, 2)].into());
    assert_unaffected(&nodes, 1);
    assert!(!nodes.iter().any(|node| node.transport.stats().peers[&3].connected));
    assert_eq!(nodes[0].recorder.directories(), [(2, 2), (3, 3)].into());
    // What the node says goes before what was seen.
    nodes.iter().for_each(|node| node.transport.set_directories([(3, 33)].into()));
    until("it is heard", || nodes[0].transport.stats().peers[&3].connected);
    until("it hears", || wiped.transport.stats().peers[&1].connected);
    assert_eq!(wiped.recorder.refusal_of(1), None);
    nodes[0].transport.set_directories([(3, 3)].into());
    until("it is refused again", || {
        !nodes[0].transport.stats().peers[&3].connected
            && wiped.recorder.refusal_of(1) == Some(Refusal::Directory)
    });
    assert_unaffected(&nodes, 2);
}

#[test]
fn the_newest_connection_of_a_peer_takes_the_place_of_the_older() {
    let node = Node::start(1, insecure(1));
    node.knows(&[(2, "127.0.0.1:1".parse().expect("an address"))]);
    let mut older = connect(&node);
    assert_eq!(greet(&mut older, &hello(2)).refusal, None);
    let mut newer = connect(&node);
    assert_eq!(greet(&mut newer, &hello(2)).refusal, None);
    assert_closed(&mut older);
    let mut bytes = Vec::new();
    encode(Kind::Messages, &batch(&[&heartbeat(2, 1, 5, 0).encode().expect("short")]), &mut bytes);
    newer.write_all(&bytes).expect("it reads");
    until("the newer is heard", || node.recorder.terms_from(2) == [5]);
    let mut restarted = connect(&node);
    assert_eq!(greet(&mut restarted, &Hello { incarnation: 2, ..hello(2) }).refusal, None);
    assert_closed(&mut newer);
    let refused = greet(&mut connect(&node), &hello(2)).refusal;
    assert_eq!(refused, Some(Refusal::Superseded));
}

#[test]
fn a_directory_that_is_known_at_the_start_is_asked_for_at_the_first_connection() {
    let node = Node::start_with(1, insecure(1), |config| {
        config.directories.insert(2, 7);
        config.peers.insert(2, "127.0.0.1:1".to_owned());
    });
    for (directory, refusal) in [(8, Some(Refusal::Directory)), (7, None)] {
        let welcome = greet(&mut connect(&node), &Hello { directory, ..hello(2) });
        assert_eq!(welcome.refusal, refusal);
    }
}

/// The parts of the payload of a frame of messages.
fn batch<'a>(messages: &[&'a [u8]]) -> [&'a [u8]; 2] {
    let [message] = messages else { panic!("one message") };
    let length = u32::try_from(message.len()).expect("short").to_le_bytes();
    [Box::leak(Box::new(length)), message]
}

fn sealed(kind: Kind, parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(kind, parts, &mut bytes);
    bytes
}

#[test]
fn a_peer_that_sends_what_no_node_sends_is_cut_off() {
    let nodes = nodes(2, insecure);
    // A third node is believed to exist, so that it can misbehave.
    nodes[0].knows(&[(2, nodes[1].address()), (3, "127.0.0.1:1".parse().expect("an address"))]);
    let good = heartbeat(3, 1, 9, 0).encode().expect("short");
    let mut damaged = sealed(Kind::Messages, &batch(&[&good]));
    *damaged.last_mut().expect("some") ^= 1;
    let mut oversize = sealed(Kind::Messages, &[]);
    oversize[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    let alien = heartbeat(2, 1, 9, 0).encode().expect("short");
    let strayed = heartbeat(3, 2, 9, 0).encode().expect("short");
    let snapshot = snapshot_message(3, 1, 9).encode().expect("short");
    let deep = vec![0x0b; 1 << 20];
    let mut misdeeds = vec![
        damaged,
        oversize,
        vec![0x5a; 4096],
        sealed(Kind::Messages, &[&[200, 0, 0, 0, 1]]),
        sealed(Kind::Request, &[&[0; 9]]),
        sealed(Kind::SnapshotResult, &[&[0]]),
    ];
    for message in [&alien, &strayed, &snapshot, &deep] {
        misdeeds.push(sealed(Kind::Messages, &batch(&[message])));
    }
    for (count, misdeed) in (1..).zip(misdeeds) {
        let mut stream = connect(&nodes[0]);
        assert_eq!(greet(&mut stream, &hello(3)).refusal, None);
        // It may be closed before all of it is written.
        let _ = stream.write_all(&misdeed);
        assert_closed(&mut stream);
        until("it is counted", || nodes[0].transport.stats().misbehaved == count);
    }
    assert_unaffected(&nodes, 1);
    assert!(nodes[0].recorder.terms_from(3).is_empty());
    assert_eq!(nodes[0].recorder.terms_from(2), [1]);
}

#[test]
fn strangers_without_a_handshake_are_closed_and_hold_up_nobody() {
    let authority = Authority::new();
    let encrypted = move |id| authority.node(id);
    let securities: [Box<dyn Fn(u64) -> Security>; 2] = [Box::new(insecure), Box::new(encrypted)];
    for security in securities {
        let nodes = nodes(2, security);
        let before = nodes[0].transport.stats().handshakes_refused;
        let mut random = connect(&nodes[0]);
        random.write_all(&[0xa5; 5000]).expect("it reads");
        assert_closed(&mut random);
        let mut plain = connect(&nodes[0]);
        plain
            .write_all(b"GET / HTTP/1.1\r\nHost: node.example\r\nAccept: text/html\r\n\r\n")
            .expect("it reads");
        assert_closed(&mut plain);
        until("they are counted", || nodes[0].transport.stats().handshakes_refused >= before + 2);
        assert_unaffected(&nodes, 1);
    }
}

#[test]
fn strangers_who_say_nothing_are_closed_in_time_and_bounded_in_number() {
    let nodes = nodes(2, insecure);
    let most = CONNECTIONS_UNAUTHENTICATED_MAX;
    let begun = Instant::now();
    let mut silent: Vec<_> = (0..=most).map(|_| connect(&nodes[0])).collect();
    // One of them is over the bound, and the oldest closed at once; who is connected is not
    // affected.
    assert_closed(&mut silent[0]);
    until("it is counted", || nodes[0].transport.stats().handshakes_refused >= 1);
    assert_unaffected(&nodes, 1);
    // Who says something is heard, although strangers have all the places.
    assert_eq!(greet(&mut connect(&nodes[0]), &hello(2)).refusal, None);
    let had_places = begun.elapsed() < timing().handshake;
    assert!(had_places, "the strangers were still there: {:?}", begun.elapsed());
    silent.iter_mut().for_each(assert_closed);
}

fn certificates(tls: &TlsConfig) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_slice_iter(&tls.certificates);
    let chain = chain.collect::<Result<_, _>>().expect("certificates");
    (chain, PrivateKeyDer::from_pem_slice(&tls.key).expect("a key"))
}

type TlsStream = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;

/// A client that shows these certificates, or none, and believes node 1.
fn tls_client(node: &Node, shown: &TlsConfig, trusted: &TlsConfig, shows: bool) -> TlsStream {
    let mut roots = rustls::RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(&trusted.authorities) {
        roots.add(root.expect("a certificate")).expect("an authority");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let (chain, key) = certificates(shown);
    let config = if shows {
        builder.with_client_auth_cert(chain, key).expect("a pair")
    } else {
        builder.with_no_client_auth()
    };
    let name = ServerName::try_from(node_name(CLUSTER, 1)).expect("a name");
    let connection = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
    rustls::StreamOwned::new(connection, connect(node))
}

#[test]
fn a_certificate_stands_for_the_node_it_names_and_no_other() {
    let authority = Authority::new();
    let nodes = nodes(2, |id| authority.node(id));
    nodes[0].knows(&[(2, nodes[1].address()), (3, "127.0.0.1:1".parse().expect("an address"))]);
    let third = authority.named(&node_name(CLUSTER, 3));
    let wildcard = authority.named(&format!("*.{CLUSTER:032x}.fsmdb"));
    let elsewhere = authority.named(&node_name(CLUSTER + 1, 2));
    for shown in [&third, &wildcard, &elsewhere] {
        let mut stream = tls_client(&nodes[0], shown, shown, true);
        assert_eq!(greet(&mut stream, &hello(2)).refusal, Some(Refusal::Certificate));
    }
    let mut stream = tls_client(&nodes[0], &third, &third, true);
    assert_eq!(greet(&mut stream, &hello(3)).refusal, None);
    assert_unaffected(&nodes, 1);
}

#[test]
fn certificates_of_an_unknown_authority_and_none_are_refused() {
    let (authority, other) = (Authority::new(), Authority::new());
    let nodes = nodes(2, |id| authority.node(id));
    let name = node_name(CLUSTER, 2);
    let (ours, theirs) = (authority.named(&name), other.named(&name));
    for (shown, shows) in [(&theirs, true), (&theirs, false)] {
        let before = nodes[0].transport.stats().handshakes_refused;
        let mut stream = tls_client(&nodes[0], shown, &ours, shows);
        let _ = stream.write_all(&hello(2).encode());
        assert!(stream.read_exact(&mut [0; WELCOME_BYTES]).is_err());
        until("it is counted", || nodes[0].transport.stats().handshakes_refused > before);
    }
    // And a node does not speak to one whose authority it does not know.
    let stranger = Node::start(2, other.node(2));
    let connects = stranger.transport.stats().connects;
    stranger.knows(&[(1, nodes[0].address())]);
    let unreachable = &stranger.recorder.unreachable;
    until("it gives up", || unreachable.load(std::sync::atomic::Ordering::SeqCst) >= 2);
    assert_eq!(stranger.transport.stats().connects, connects);
    assert_unaffected(&nodes, 1);
}

#[test]
fn a_transport_that_would_not_be_safe_does_not_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let start = |config| {
        let inbound: Arc<dyn Inbound> = Arc::new(Recorder::default());
        TcpTransport::start(config, inbound, Logger::root(Discard, o!()))
    };
    let mut listens = config(1, insecure(1), folder.path());
    listens.listen = "0.0.0.0:0".parse().expect("an address");
    let refused = start(listens.clone()).expect_err("reachable from elsewhere");
    assert!(matches!(refused, TransportError::ListensInsecurely { .. }), "{refused}");
    listens.security = Security::InsecureEvenOffLoopback;
    start(listens).expect("it was asked for by name");
    for address in ["192.0.2.1:7000", "node-2.example:7000", "[2001:db8::1]:7000"] {
        let mut dials = config(1, insecure(1), folder.path());
        dials.peers.insert(2, address.to_owned());
        let refused = start(dials.clone()).expect_err("leaves the machine");
        assert!(matches!(refused, TransportError::DialsInsecurely { peer: 2, .. }), "{refused}");
    }
    let mut dials = config(1, insecure(1), folder.path());
    dials.peers.insert(2, "localhost:1".to_owned());
    start(dials).expect("it stays on the machine");
    assert!(matches!(start(config(0, insecure(0), folder.path())), Err(TransportError::Id)));
    let mut speaks = config(1, insecure(1), folder.path());
    speaks.versions = versions(2, 1);
    assert!(matches!(start(speaks), Err(TransportError::Versions { .. })));
    let authority = Authority::new();
    let refused = start(config(1, authority.node(2), folder.path())).expect_err("another's");
    assert!(matches!(refused, TransportError::OwnCertificate { id: 1, .. }), "{refused}");
    let mut tls = authority.named(&node_name(CLUSTER, 1));
    tls.key = b"no key".to_vec();
    let refused = start(config(1, Security::Tls(tls), folder.path())).expect_err("no key");
    assert!(matches!(refused, TransportError::Tls { what: "private key", .. }), "{refused}");
}
