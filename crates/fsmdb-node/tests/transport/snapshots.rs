//! Snapshots: whole or not at all, and no byte twice.

use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use fsmdb::raft::Message;
use fsmdb_node::link::{Parcel, Transport};

use crate::proxy::{NEVER, Proxy};
use crate::world::{
    Authority, DEADLINE, Node, assert_unaffected, insecure, nodes, snapshot_message, until,
};

const MIB: usize = 1 << 20;

fn content(length: usize) -> Vec<u8> {
    let mut state = 7_u64;
    let byte = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_le_bytes()[7]
    };
    (0..length).map(byte).collect()
}

fn file(node: &Node, content: &[u8]) -> PathBuf {
    let path = node.folder.path().join("state.snapshot");
    std::fs::write(&path, content).expect("room on the disk");
    path
}

fn send(node: &Node, message: Message, path: PathBuf) -> Receiver<bool> {
    let (done, ended) = channel();
    let done = move |arrived| done.send(arrived).unwrap_or(());
    node.transport.send_snapshot(message, path, Box::new(done));
    ended
}

fn outcome(ended: &Receiver<bool>) -> bool {
    let outcome = ended.recv_timeout(DEADLINE).expect("it ends");
    assert!(ended.recv_timeout(DEADLINE).is_err(), "and only once");
    outcome
}

fn leftovers(node: &Node) -> Vec<String> {
    let entries = std::fs::read_dir(node.folder.path()).expect("a folder");
    entries
        .map(|entry| entry.expect("it can be read").file_name().into_string().expect("text"))
        .collect()
}

/// Two nodes, of which the first reaches the second through a proxy.
fn proxied() -> (Vec<Node>, Proxy) {
    let nodes: Vec<_> = (1..=2).map(|id| Node::start(id, insecure(id))).collect();
    let proxy = Proxy::to(nodes[1].address());
    nodes[0].knows(&[(2, proxy.address)]);
    nodes[1].knows(&[(1, nodes[0].address())]);
    until("they are connected", || {
        nodes.iter().all(|node| node.transport.stats().peers.values().all(|peer| peer.connected))
    });
    (nodes, proxy)
}

#[test]
fn a_snapshot_arrives_whole_with_its_message_over_tls() {
    let authority = Authority::new();
    let nodes = nodes(2, |id| authority.node(id));
    for (term, length) in [(3, 3 * MIB + 17), (4, 0), (5, MIB)] {
        let content = content(length);
        let message = snapshot_message(1, 2, term);
        assert!(outcome(&send(&nodes[0], message.clone(), file(&nodes[0], &content))));
        let arrived = nodes[1].recorder.snapshots.lock().expect("sound").pop();
        assert!(arrived == Some((message, content)), "term {term}");
    }
    assert_eq!(leftovers(&nodes[1]), Vec::<String>::new());
    let (sent, received) = (nodes[0].transport.stats(), nodes[1].transport.stats());
    assert_eq!(sent.snapshot_bytes_sent, (4 * MIB + 17) as u64);
    assert_eq!(received.snapshot_bytes_received, (4 * MIB + 17) as u64);
}

#[test]
fn a_snapshot_that_was_cut_is_resumed_where_it_was_verified() {
    let (nodes, proxy) = proxied();
    let content = content(8 * MIB);
    let path = file(&nodes[0], &content);
    proxy.state.cut_at.store(5 * MIB as u64 + 1000, SeqCst);
    let message = snapshot_message(1, 2, 3);
    assert!(!outcome(&send(&nodes[0], message.clone(), path.clone())));
    assert!(nodes[1].recorder.snapshots.lock().expect("sound").is_empty());
    let before = proxy.state.forwarded.load(SeqCst);
    proxy.state.cut_at.store(NEVER, SeqCst);
    assert!(outcome(&send(&nodes[0], message, path)));
    let arrived = nodes[1].recorder.snapshots.lock().expect("sound").pop();
    assert!(arrived.is_some_and(|(_, arrived)| arrived == content));
    // Five pieces went through before, and the rest of their frames is small.
    let again = proxy.state.forwarded.load(SeqCst) - before;
    assert!(again < (3 * MIB + 64 * 1024) as u64, "{again}");
    let received = nodes[1].transport.stats().snapshot_bytes_received;
    assert_eq!(received, content.len() as u64, "no piece was taken twice");
}

#[test]
fn a_parcel_arrives_as_one_file_and_is_resumed_in_the_middle_of_its_parts() {
    let (nodes, proxy) = proxied();
    let lengths = [3 * MIB + 5, 0, 4 * MIB - 7];
    let path = |at: usize| nodes[0].folder.path().join(format!("part-{at}"));
    for (at, length) in lengths.iter().enumerate() {
        std::fs::write(path(at), content(*length)).expect("room on the disk");
    }
    let head = b"what comes first".to_vec();
    let whole = [&head[..], &content(lengths[0]), &content(lengths[2])].concat();
    let parcel = Parcel { head, files: (0..lengths.len()).map(path).collect() };
    let send = || {
        let (done, ended) = channel();
        let done = move |arrived| done.send(arrived).unwrap_or(());
        let message = snapshot_message(1, 2, 3);
        nodes[0].transport.send_parcel(message, parcel.clone(), Box::new(done));
        outcome(&ended)
    };
    // Two pieces of each of these transfers go through.
    proxy.state.cut_at.store(2 * MIB as u64 + 1000, SeqCst);
    assert!(!send() && !send());
    proxy.state.cut_at.store(NEVER, SeqCst);
    assert!(send());
    let arrived = nodes[1].recorder.snapshots.lock().expect("sound").pop();
    assert!(arrived.is_some_and(|(_, arrived)| arrived == whole));
    let received = nodes[1].transport.stats().snapshot_bytes_received;
    assert_eq!(received, whole.len() as u64, "no piece was taken twice");
    std::fs::remove_file(path(2)).expect("it is there");
    assert!(!send(), "a part is missing");
}

#[test]
fn a_snapshot_that_was_cut_is_resumed_by_a_later_start_of_its_receiver() {
    let (mut nodes, proxy) = proxied();
    let content = content(4 * MIB);
    let path = file(&nodes[0], &content);
    proxy.state.cut_at.store(3 * MIB as u64, SeqCst);
    assert!(!outcome(&send(&nodes[0], snapshot_message(1, 2, 3), path.clone())));
    let Node { transport, folder, .. } = nodes.pop().expect("two");
    transport.shutdown();
    let partial = std::fs::read_dir(folder.path()).expect("a folder").next().expect("a file");
    let verified = partial.expect("it can be read").metadata().expect("its size").len();
    let again = Node::start_with(2, insecure(2), |config| {
        config.folder = folder.path().into();
        config.incarnation = 2;
    });
    again.knows(&[(1, nodes[0].address())]);
    nodes[0].knows(&[(2, again.address())]);
    assert!(outcome(&send(&nodes[0], snapshot_message(1, 2, 3), path)));
    assert!(again.recorder.snapshots.lock().expect("sound")[0].1 == content);
    let rest = again.transport.stats().snapshot_bytes_received;
    assert_eq!(rest, content.len() as u64 - verified);
    assert!(verified > 0);
}

#[test]
fn a_snapshot_that_is_corrupted_on_its_way_is_not_delivered() {
    let (nodes, proxy) = proxied();
    let content = content(4 * MIB);
    let path = file(&nodes[0], &content);
    proxy.state.corrupt_at.store(2 * MIB as u64 + 333, SeqCst);
    assert!(!outcome(&send(&nodes[0], snapshot_message(1, 2, 3), path.clone())));
    assert!(nodes[1].recorder.snapshots.lock().expect("sound").is_empty());
    until("it is counted", || nodes[1].transport.stats().misbehaved == 1);
    assert_unaffected(&nodes, 4);
    proxy.state.corrupt_at.store(NEVER, SeqCst);
    assert!(outcome(&send(&nodes[0], snapshot_message(1, 2, 3), path)));
    assert!(nodes[1].recorder.snapshots.lock().expect("sound")[0].1 == content);
}

#[test]
fn a_partial_file_with_other_bytes_is_found_out_and_let_go() {
    let (nodes, proxy) = proxied();
    let content = content(3 * MIB);
    let path = file(&nodes[0], &content);
    proxy.state.cut_at.store(2 * MIB as u64, SeqCst);
    assert!(!outcome(&send(&nodes[0], snapshot_message(1, 2, 3), path.clone())));
    proxy.state.cut_at.store(NEVER, SeqCst);
    until("something is written", || !leftovers(&nodes[1]).is_empty());
    let partial = nodes[1].folder.path().join(&leftovers(&nodes[1])[0]);
    let has_begun = || partial.metadata().is_ok_and(|found| found.len() >= MIB as u64);
    until("the first chunk is written", has_begun);
    let options = std::fs::OpenOptions::new().write(true).open(&partial);
    let changed = [content[99] ^ 1];
    options.and_then(|file| file.write_all_at(&changed, 99)).expect("it can be written");
    assert!(!outcome(&send(&nodes[0], snapshot_message(1, 2, 3), path.clone())));
    assert!(nodes[1].recorder.snapshots.lock().expect("sound").is_empty());
    assert!(outcome(&send(&nodes[0], snapshot_message(1, 2, 3), path)), "and begun anew");
}

#[test]
fn one_partial_file_is_kept_for_each_sender() {
    let (nodes, proxy) = proxied();
    proxy.state.cut_at.store(2 * MIB as u64, SeqCst);
    for length in [3 * MIB, 4 * MIB] {
        let path = file(&nodes[0], &content(length));
        assert!(!outcome(&send(&nodes[0], snapshot_message(1, 2, 3), path)));
    }
    let left = leftovers(&nodes[1]);
    assert!(left.len() == 1 && left[0].ends_with(&format!("-{}.partial", 4 * MIB)), "{left:?}");
}

#[test]
fn a_snapshot_that_the_node_declines_has_failed() {
    let nodes = nodes(2, insecure);
    nodes[1].recorder.declines.store(true, SeqCst);
    let path = file(&nodes[0], &content(MIB));
    assert!(!outcome(&send(&nodes[0], snapshot_message(1, 2, 3), path)));
    assert_eq!(nodes[1].recorder.snapshots.lock().expect("sound").len(), 1);
    until("its file is gone", || leftovers(&nodes[1]).is_empty());
}

#[test]
fn a_snapshot_that_is_too_large_is_refused_before_its_first_byte() {
    let receiver = Node::start_with(2, insecure(2), |config| config.snapshot_file_bytes_max = 99);
    let sender = Node::start(1, insecure(1));
    receiver.knows(&[(1, sender.address())]);
    sender.knows(&[(2, receiver.address())]);
    until("connected", || sender.transport.stats().peers[&2].connected);
    let path = file(&sender, &content(100));
    assert!(!outcome(&send(&sender, snapshot_message(1, 2, 3), path)));
    assert_eq!(sender.transport.stats().snapshot_bytes_sent, 0);
    let path = file(&sender, &content(99));
    assert!(outcome(&send(&sender, snapshot_message(1, 2, 3), path)));
}

#[test]
fn snapshots_that_cannot_be_sent_have_failed() {
    let nodes = nodes(2, insecure);
    let path = file(&nodes[0], b"content");
    let missing = nodes[0].folder.path().join("missing");
    for (message, path) in [
        (snapshot_message(1, 9, 1), path.clone()),
        (snapshot_message(2, 2, 1), path.clone()),
        (crate::world::heartbeat(1, 2, 1, 0), path),
        (snapshot_message(1, 2, 1), missing),
    ] {
        assert!(!outcome(&send(&nodes[0], message, path)));
    }
}

#[test]
fn one_snapshot_at_a_time_goes_to_a_peer_at_the_rate_that_was_asked_for() {
    let sender = Node::start_with(1, insecure(1), |config| {
        config.snapshot_bytes_per_second = 4 * MIB as u64;
    });
    let receiver = Node::start(2, insecure(2));
    receiver.knows(&[(1, sender.address())]);
    sender.knows(&[(2, receiver.address())]);
    until("connected", || sender.transport.stats().peers[&2].connected);
    let path = file(&sender, &content(4 * MIB));
    let begun = Instant::now();
    let first = send(&sender, snapshot_message(1, 2, 3), path.clone());
    until("it is on its way", || sender.transport.stats().snapshot_bytes_sent > 0);
    assert!(!outcome(&send(&sender, snapshot_message(1, 2, 4), path)));
    assert!(outcome(&first));
    // The last of four pieces is not waited for.
    assert!(begun.elapsed() >= Duration::from_millis(700), "{:?}", begun.elapsed());
}

#[test]
fn a_transport_that_ends_fails_its_transfers() {
    let sender = Node::start_with(1, insecure(1), |config| {
        config.snapshot_bytes_per_second = 1;
    });
    let receiver = Node::start(2, insecure(2));
    receiver.knows(&[(1, sender.address())]);
    sender.knows(&[(2, receiver.address())]);
    until("connected", || sender.transport.stats().peers[&2].connected);
    let path = file(&sender, &content(4 * MIB));
    let ended = send(&sender, snapshot_message(1, 2, 3), path);
    until("it is on its way", || sender.transport.stats().snapshot_bytes_sent > 0);
    sender.transport.shutdown();
    assert!(!outcome(&ended));
}
