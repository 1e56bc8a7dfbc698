//! Where the nodes of a test are, and how long it waits for them.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < deadline, "never came: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Free ports for these nodes, all different. Another process can take one before it is used; then
/// the start fails.
pub(crate) fn places(ids: impl IntoIterator<Item = u64>) -> BTreeMap<u64, SocketAddr> {
    // Held until all are known, so that they differ.
    let bind = |id| (id, TcpListener::bind("127.0.0.1:0").expect("a port"));
    let held: Vec<_> = ids.into_iter().map(bind).collect();
    let address = |(id, held): &(u64, TcpListener)| (*id, held.local_addr().expect("it is bound"));
    held.iter().map(address).collect()
}
