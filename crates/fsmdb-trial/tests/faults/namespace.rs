//! A network of the system's own, where root may make one: routes that lose everything on the way
//! to one replica, an interface that goes down, and one that loses some of its packets.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::trial::{REPLICAS, Trial};

/// Tells the test inside that it is inside.
const INSIDE: &str = "FSMDB_INSIDE_NAMESPACE";
/// How long each fault lasts: several elections.
const LASTS: Duration = Duration::from_millis(1_200);
/// How often calls must have gone on while packets are lost.
const ROUNDS: usize = 5;
/// How many packets must be lost at least, over all rounds.
const LOST_PACKETS_MIN: u64 = 50;
/// How an interface loses some packets, the first of these that the kernel has: at random, or for
/// want of room in a queue, which took three to five of a hundred of them here.
const LOSSES: [&[&str]; 2] =
    [&["netem", "loss", "5%"], &["tbf", "rate", "1mbit", "burst", "2kb", "limit", "2kb"]];

/// A network namespace; it goes when this is dropped.
struct Namespace(String);

impl Namespace {
    fn make(purpose: &str) -> Option<Self> {
        let name = format!("fsmdb-{purpose}-{}", std::process::id());
        ip(&["netns", "add", &name]).then(|| Self(name))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        ip(&["netns", "delete", &self.0]);
    }
}

fn ip(arguments: &[&str]) -> bool {
    Command::new("ip").args(arguments).status().is_ok_and(|status| status.success())
}

/// Runs an ignored test of this file in a namespace of its own; not where there can be none.
fn run_inside(purpose: &str, test: &str) {
    let Some(namespace) = Namespace::make(purpose) else {
        println!("SKIPPED: this machine makes no network namespace for this user");
        return;
    };
    let own = std::env::current_exe().expect("the path of this test");
    let test = format!("namespace::{test}");
    let test = ["--ignored", "--exact", "--nocapture", &test];
    let mut inside = Command::new("ip");
    inside.args(["netns", "exec", &namespace.0]).arg(own).args(test).env(INSIDE, "1");
    let output = inside.output().expect("started");
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{failed}");
    assert!(said.contains("1 passed"), "it ran: {said}");
    println!("{said}");
}

/// Whether this process is in a namespace of its own.
fn is_inside() -> bool {
    #[expect(clippy::disallowed_methods, reason = "it must not touch the network of the machine")]
    let is_inside = std::env::var(INSIDE).is_ok();
    if !is_inside {
        println!("SKIPPED: not inside a network namespace of its own");
    }
    is_inside
}

#[test]
fn routes_that_lose_what_is_sent_to_one_replica_lose_nothing_that_was_acknowledged() {
    run_inside("routes", "inside_with_routes_that_lose_everything");
}

#[test]
fn an_interface_that_loses_some_of_its_packets_loses_nothing_that_was_acknowledged() {
    run_inside("packets", "inside_with_an_interface_that_loses_some");
}

#[test]
#[ignore = "a test above runs it in a network namespace"]
fn inside_with_routes_that_lose_everything() {
    if !is_inside() {
        return;
    }
    assert!(ip(&["link", "set", "lo", "up"]), "the interface is there");
    // All dial from the first address of loopback, so that the way back from each stays open.
    let hosts: Vec<String> = (2..5).map(|host| format!("127.0.0.{host}")).collect();
    let mut trial = Trial::start_on(71, &hosts, false, |_| {});
    for _ in 0..3 {
        let leader = trial.leader();
        let address = trial.replicas.address(leader).expect("it has one");
        let host = address.split(':').next().expect("a host").to_owned();
        let lost = ["blackhole", &host, "table", "local"];
        assert!(ip(&[&["route", "add"], &lost[..]].concat()), "a route is lost");
        let new = trial.leader_after(leader);
        trial.put(new, leader);
        trial.goes_on("while nothing reaches the old leader");
        assert!(ip(&[&["route", "delete"], &lost[..]].concat()), "the route is back");
        trial.goes_on("after the route was back");
    }
    assert!(ip(&["link", "set", "lo", "down"]), "the interface goes down");
    std::thread::sleep(LASTS);
    assert!(ip(&["link", "set", "lo", "up"]), "the interface is back");
    trial.goes_on("after the interface was back");
    trial.finish();
}

fn tc(arguments: &[&str]) -> Option<String> {
    let output = Command::new("tc").args(arguments).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// How many packets the interface has lost.
fn lost_packets() -> u64 {
    let shown = tc(&["-s", "qdisc", "show", "dev", "lo"]).expect("the interface is there");
    let (_, rest) = shown.split_once("(dropped ").expect("it is counted");
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next().expect("a number");
    digits.parse().expect("a number")
}

#[test]
#[ignore = "a test above runs it in a network namespace"]
fn inside_with_an_interface_that_loses_some() {
    if !is_inside() {
        return;
    }
    // As long as packets elsewhere, or one would hold whatever is written at once.
    assert!(ip(&["link", "set", "lo", "mtu", "1500", "up"]), "the interface is there");
    let hosts = vec!["127.0.0.1".to_owned(); REPLICAS as usize];
    let mut trial = Trial::start_on(72, &hosts, false, |_| {});
    let add = ["qdisc", "add", "dev", "lo", "root"];
    let Some(loss) = LOSSES.iter().find(|loss| tc(&[&add[..], loss].concat()).is_some()) else {
        println!("SKIPPED: there is no tc, or the kernel has none of the ways to lose packets");
        trial.finish();
        return;
    };
    for _ in 0..ROUNDS {
        let leader = trial.leader();
        trial.put(leader, leader);
        trial.goes_on("while some packets are lost");
    }
    let lost = lost_packets();
    println!("{lost} packets lost by {}", loss[0]);
    assert!(lost >= LOST_PACKETS_MIN, "{lost} packets were lost");
    tc(&["qdisc", "delete", "dev", "lo", "root"]).expect("nothing is lost any more");
    trial.goes_on("after no more packets were lost");
    trial.finish();
}
