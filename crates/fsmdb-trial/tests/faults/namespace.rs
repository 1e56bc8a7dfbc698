//! A network of the system's own, where root may make one: routes that lose everything on the way
//! to one replica, and an interface that goes down.

use std::process::Command;
use std::time::Duration;

use crate::trial::Trial;

/// Tells the test inside that it is inside.
const INSIDE: &str = "FSMDB_INSIDE_NAMESPACE";
/// How long each fault lasts: several elections.
const LASTS: Duration = Duration::from_millis(1_200);

/// A network namespace; it goes when this is dropped.
struct Namespace(String);

impl Namespace {
    fn make() -> Option<Self> {
        let name = format!("fsmdb-{}", std::process::id());
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

#[test]
fn routes_that_lose_what_is_sent_to_one_replica_lose_nothing_that_was_acknowledged() {
    let Some(namespace) = Namespace::make() else {
        println!("SKIPPED: this machine makes no network namespace for this user");
        return;
    };
    let own = std::env::current_exe().expect("the path of this test");
    let test = ["--ignored", "--exact", "--nocapture", "namespace::inside_a_namespace"];
    let mut inside = Command::new("ip");
    inside.args(["netns", "exec", &namespace.0]).arg(own).args(test).env(INSIDE, "1");
    let output = inside.output().expect("started");
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{failed}");
    assert!(said.contains("1 passed"), "it ran: {said}");
}

#[test]
#[ignore = "the test above runs it in a network namespace"]
fn inside_a_namespace() {
    #[expect(clippy::disallowed_methods, reason = "it must not touch the network of the machine")]
    let is_inside = std::env::var(INSIDE).is_ok();
    if !is_inside {
        println!("SKIPPED: not inside a network namespace of its own");
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
