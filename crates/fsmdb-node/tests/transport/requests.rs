//! Requests and their answers.

use std::time::Duration;

use fsmdb_node::limits::{REQUEST_BYTES_MAX, REQUESTS_IN_FLIGHT_MAX};
use fsmdb_node::link::{LinkError, Transport};

use crate::world::{Authority, DEADLINE, Ends, Node, insecure, nodes, until};

/// Sends a request once the connection for requests stands.
fn ask(node: &Node, to: u64, name: u64, ends: &Ends, limit: Duration) {
    let body = name.to_le_bytes().to_vec();
    node.transport.request(to, body, limit, ends.done(name));
}

fn arrived(node: &Node) -> usize {
    node.recorder.requests.lock().expect("sound").len()
}

#[test]
fn requests_are_answered_in_any_order() {
    let authority = Authority::new();
    let nodes = nodes(2, |id| authority.node(id));
    let ends = Ends::default();
    (0..100).for_each(|name| ask(&nodes[0], 2, name, &ends, DEADLINE));
    until("all arrive", || arrived(&nodes[1]) == 100);
    assert_eq!(nodes[0].transport.stats().peers[&2].requests_in_flight, 100);
    let requests = std::mem::take(&mut *nodes[1].recorder.requests.lock().expect("sound"));
    for (from, mut body, respond) in requests.into_iter().rev() {
        assert_eq!(from, 1);
        body.push(9);
        respond(body);
    }
    let ended = ends.wait(100);
    let names: Vec<_> = ended.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, (0..100).rev().collect::<Vec<_>>());
    for (name, answer) in ended {
        let expected = [&name.to_le_bytes()[..], &[9]].concat();
        assert_eq!(answer, Ok(expected), "{name}");
    }
    assert_eq!(nodes[0].transport.stats().peers[&2].requests_in_flight, 0);
}

#[test]
fn a_request_that_is_not_answered_in_time_is_lost_and_its_late_answer_dropped() {
    let nodes = nodes(2, insecure);
    let ends = Ends::default();
    ask(&nodes[0], 2, 1, &ends, Duration::from_millis(300));
    until("it arrives", || arrived(&nodes[1]) == 1);
    assert_eq!(ends.wait(1), [(1, Err(LinkError::Lost))]);
    let (_, _, respond) = nodes[1].recorder.requests.lock().expect("sound").remove(0);
    respond(vec![1]);
    ask(&nodes[0], 2, 2, &ends, DEADLINE);
    until("the next arrives", || arrived(&nodes[1]) == 1);
    let (_, _, respond) = nodes[1].recorder.requests.lock().expect("sound").remove(0);
    respond(vec![2]);
    assert_eq!(ends.wait(2), [(1, Err(LinkError::Lost)), (2, Ok(vec![2]))]);
}

#[test]
fn a_callback_that_panics_ends_itself_and_no_other() {
    let nodes = nodes(2, insecure);
    let panics = |limit| {
        let done = Box::new(|_| panic!("on purpose"));
        nodes[0].transport.request(2, vec![0], limit, done);
    };
    panics(DEADLINE);
    until("it arrives", || arrived(&nodes[1]) == 1);
    let (_, _, respond) = nodes[1].recorder.requests.lock().expect("sound").remove(0);
    respond(vec![1]);
    panics(Duration::from_millis(1));
    until("both have ended", || nodes[0].transport.stats().peers[&2].requests_in_flight == 0);
    let ends = Ends::default();
    ask(&nodes[0], 2, 1, &ends, Duration::from_millis(10));
    assert!(ends.wait(1)[0].1.is_err(), "deadlines are kept");
    let before = arrived(&nodes[1]);
    ask(&nodes[0], 2, 2, &ends, DEADLINE);
    until("it arrives", || arrived(&nodes[1]) > before);
    for (_, body, respond) in nodes[1].recorder.requests.lock().expect("sound").drain(..) {
        respond(body);
    }
    assert_eq!(ends.wait(2)[1], (2, Ok(2_u64.to_le_bytes().to_vec())), "answers are read");
    assert_eq!(nodes[0].transport.stats().reconnects, 0);
}

#[test]
fn a_request_that_the_other_node_lets_go_is_lost() {
    let nodes = nodes(2, insecure);
    let ends = Ends::default();
    ask(&nodes[0], 2, 1, &ends, DEADLINE);
    until("it arrives", || arrived(&nodes[1]) == 1);
    nodes[1].recorder.requests.lock().expect("sound").clear();
    assert_eq!(ends.wait(1), [(1, Err(LinkError::Lost))]);
}

#[test]
fn requests_are_lost_with_their_connection_and_not_sent_again() {
    let mut nodes = nodes(2, insecure);
    let ends = Ends::default();
    (1..=3).for_each(|name| ask(&nodes[0], 2, name, &ends, DEADLINE));
    until("they arrive", || arrived(&nodes[1]) == 3);
    let second = nodes.pop().expect("two");
    let (address, recorder) = (second.address(), second.recorder);
    second.transport.shutdown();
    let lost = ends.wait(3);
    assert!(lost.iter().all(|(_, answer)| *answer == Err(LinkError::Lost)), "{lost:?}");
    assert_eq!(recorder.requests.lock().expect("sound").len(), 3);
    let again = Node::start_with(2, insecure(2), |config| {
        (config.listen, config.incarnation) = (address, 2);
    });
    again.knows(&[(1, nodes[0].address())]);
    // A new request gets through, and nothing arrives before it.
    let (later, mut tries) = (Ends::default(), 0);
    until("a new request arrives", || {
        if arrived(&again) == 0 && later.0.lock().expect("sound").len() == tries {
            ask(&nodes[0], 2, 9, &later, DEADLINE);
            tries += 1;
        }
        arrived(&again) == 1
    });
    assert_eq!(again.recorder.requests.lock().expect("sound")[0].1, 9_u64.to_le_bytes());
}

#[test]
fn requests_that_cannot_be_sent_say_so() {
    let node = Node::start(1, insecure(1));
    let ends = Ends::default();
    node.transport.request(2, vec![0; REQUEST_BYTES_MAX + 1], DEADLINE, ends.done(1));
    assert_eq!(ends.wait(1)[0], (1, Err(LinkError::TooLong)));
    ask(&node, 2, 2, &ends, DEADLINE);
    assert_eq!(ends.wait(2)[1], (2, Err(LinkError::UnknownPeer)));
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let nobody = nobody.local_addr().expect("bound"); // and closed at once
    node.knows(&[(2, nobody)]);
    ask(&node, 2, 3, &ends, DEADLINE);
    assert_eq!(ends.wait(3)[2], (3, Err(LinkError::NotConnected)));
}

#[test]
fn requests_in_flight_are_bounded() {
    let nodes = nodes(2, insecure);
    let ends = Ends::default();
    let most = REQUESTS_IN_FLIGHT_MAX as u64;
    (0..most).for_each(|name| ask(&nodes[0], 2, name, &ends, DEADLINE));
    until("they arrive", || arrived(&nodes[1]) == REQUESTS_IN_FLIGHT_MAX);
    ask(&nodes[0], 2, most, &ends, DEADLINE);
    assert_eq!(ends.wait(1), [(most, Err(LinkError::Full))]);
}

#[test]
fn a_transport_that_ends_answers_all_that_was_asked() {
    let mut nodes = nodes(2, insecure);
    let ends = Ends::default();
    (0..10).for_each(|name| ask(&nodes[0], 2, name, &ends, DEADLINE));
    until("they arrive", || arrived(&nodes[1]) == 10);
    nodes.remove(0).transport.shutdown();
    let ended = ends.0.lock().expect("sound").clone();
    assert_eq!(ended.len(), 10, "at the latest when it has ended");
    assert!(ended.iter().all(|(_, answer)| *answer == Err(LinkError::Lost)));
}
