//! Messages between nodes that mean well.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;

use fsmdb::raft::Message;
use fsmdb_node::limits::MESSAGE_BYTES_MAX;
use fsmdb_node::link::{LinkError, Transport};
use fsmdb_node::transport::{HELLO_BYTES, Security, VERSIONS, Welcome};

use crate::world::{
    Authority, Node, heartbeat, insecure, introduce, nodes, snapshot_message, until,
};

fn messages_arrive_in_order(count: u64, security: impl Fn(u64) -> Security) {
    let nodes = nodes(count, security);
    let reported = || nodes.iter().map(|node| node.recorder.unreachable.load(SeqCst)).sum::<u64>();
    let before = reported();
    let pairs = || (1..=count).flat_map(|from| (1..=count).map(move |to| (from, to)));
    for term in 1..=500 {
        for (from, to) in pairs().filter(|(from, to)| from != to) {
            let sender = &nodes[usize::try_from(from).expect("small") - 1];
            let context = if term % 100 == 0 { 700_000 } else { 0 };
            let sent = sender.transport.send(heartbeat(from, to, term, context));
            assert_eq!(sent, Ok(()), "{from} to {to}, {term}");
        }
    }
    for (from, to) in pairs().filter(|(from, to)| from != to) {
        let recorder = &nodes[usize::try_from(to).expect("small") - 1].recorder;
        until("all messages arrive", || recorder.terms_from(from).len() == 500);
        assert_eq!(recorder.terms_from(from), (1..=500).collect::<Vec<_>>(), "{from} to {to}");
    }
    let stats = nodes[0].transport.stats();
    assert_eq!((stats.messages_dropped, stats.misbehaved), (0, 0));
    assert!(stats.bytes_sent > 500 && stats.bytes_received > 500, "{stats:?}");
    assert_eq!(reported(), before);
}

#[test]
fn two_nodes_exchange_messages_in_order() {
    messages_arrive_in_order(2, insecure);
}

#[test]
fn three_nodes_exchange_messages_in_order() {
    messages_arrive_in_order(3, insecure);
}

#[test]
fn two_nodes_exchange_messages_in_order_over_tls() {
    let authority = Authority::new();
    messages_arrive_in_order(2, |id| authority.node(id));
}

#[test]
fn three_nodes_exchange_messages_in_order_over_tls() {
    let authority = Authority::new();
    messages_arrive_in_order(3, |id| authority.node(id));
}

#[test]
fn what_cannot_be_queued_is_refused_with_its_reason() {
    let nodes = nodes(2, insecure);
    let send = |message: Message| nodes[0].transport.send(message);
    assert_eq!(send(heartbeat(1, 9, 1, 0)), Err(LinkError::UnknownPeer));
    assert_eq!(send(heartbeat(2, 1, 1, 0)), Err(LinkError::Unfit));
    assert_eq!(send(snapshot_message(1, 2, 1)), Err(LinkError::Unfit));
    assert_eq!(send(heartbeat(1, 2, 1, MESSAGE_BYTES_MAX)), Err(LinkError::TooLong));
    assert_eq!(nodes[0].transport.stats().messages_dropped, 4);
    let longest = heartbeat(1, 2, 5, MESSAGE_BYTES_MAX - 64);
    assert_eq!(send(longest), Ok(()));
    until("the longest arrives", || nodes[1].recorder.terms_from(1) == [5]);
}

/// Accepts everybody and then does nothing.
fn deaf_listener() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        let mut held = Vec::new();
        for mut stream in listener.incoming().map_while(Result::ok) {
            let (versions, incarnation, directory) = (VERSIONS, 1, 0);
            let welcome = Welcome { versions, incarnation, directory, refusal: None };
            let _ = stream.read_exact(&mut [0; HELLO_BYTES]);
            let _ = stream.write_all(&welcome.encode());
            held.push(stream);
        }
    });
    address
}

#[test]
fn messages_for_which_there_is_no_room_are_dropped_and_reported() {
    let node = Node::start_with(1, insecure(1), |config| {
        config.timing.silence = Duration::from_secs(60);
    });
    node.knows(&[(2, deaf_listener())]);
    until("it is connected", || node.transport.stats().peers[&2].connected);
    assert_eq!(node.recorder.unreachable.load(SeqCst), 0);
    let mut last = Ok(());
    until("the queue is full", || {
        last = node.transport.send(heartbeat(1, 2, 1, 900_000));
        last.is_err()
    });
    assert_eq!(last, Err(LinkError::Full));
    until("the peer is reported", || node.recorder.unreachable.load(SeqCst) == 1);
    let stats = node.transport.stats();
    assert!(stats.peers[&2].queued_bytes > 32 << 20, "{stats:?}");
    assert!(stats.messages_dropped >= 1);
}

#[test]
fn a_peer_that_gives_no_sign_of_life_is_given_up() {
    let node = Node::start_with(1, insecure(1), |config| {
        config.timing.silence = Duration::from_millis(200);
    });
    node.knows(&[(2, deaf_listener())]);
    until("it is given up", || node.recorder.unreachable.load(SeqCst) >= 2);
    assert!(node.transport.stats().reconnects >= 1);
}

#[test]
fn a_peer_that_is_down_is_reported_and_takes_nothing() {
    let node = Node::start(1, insecure(1));
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    node.knows(&[(2, nobody)]);
    until("it is reported", || node.recorder.unreachable.load(SeqCst) >= 1);
    until("it takes nothing", || {
        node.transport.send(heartbeat(1, 2, 1, 0)) == Err(LinkError::NotConnected)
    });
}

#[test]
fn a_peer_that_restarts_is_reconnected_in_both_directions() {
    let authority = Authority::new();
    let mut nodes = nodes(2, |id| authority.node(id));
    crate::world::assert_unaffected(&nodes, 1);
    let second = nodes.pop().expect("two");
    let address = second.address();
    let before = nodes[0].recorder.unreachable.load(SeqCst);
    second.transport.shutdown();
    until("the loss is reported", || nodes[0].recorder.unreachable.load(SeqCst) > before);
    nodes.push(Node::start_with(2, authority.node(2), |config| {
        config.listen = address;
        config.incarnation = 2;
    }));
    introduce(&nodes);
    crate::world::assert_unaffected(&nodes, 2);
    let stats = nodes[0].transport.stats();
    assert!(stats.reconnects >= 1, "{stats:?}");
}

#[test]
fn peers_that_are_let_go_are_cut_off_in_both_directions() {
    let nodes = nodes(2, insecure);
    crate::world::assert_unaffected(&nodes, 1);
    nodes[0].knows(&[]);
    let sent = nodes[0].transport.send(heartbeat(1, 2, 2, 0));
    assert_eq!(sent, Err(LinkError::UnknownPeer));
    until("the other side is refused", || !nodes[1].transport.stats().peers[&1].connected);
    until("it is refused again", || nodes[0].transport.stats().handshakes_refused >= 2);
    introduce(&nodes);
    crate::world::assert_unaffected(&nodes, 3);
}
