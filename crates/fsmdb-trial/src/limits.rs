//! Every bound of this crate, with its reason and what happens at it.

use std::time::Duration;

/// Most states that [`search`](crate::search) visits for one key. A history that explains itself
/// takes about as many as it has calls; one that needs more than this is answered "undecided",
/// which no test takes for a pass.
pub const SEARCH_STATES_MAX: usize = 4_000_000;

/// Bytes that a [`proxy`](crate::proxy) carries at once; a delay holds up each such piece.
pub const PROXY_CHUNK_BYTES: usize = 64 * 1024;

/// How long a dialler may take to say who it is; a connection that says nothing is closed.
pub const PROXY_HELLO_TIME: Duration = Duration::from_secs(5);

/// The first port that a replica may be given, and how many there are: below those from which a
/// system draws for connections that go out. Of those one might be taken while its replica is
/// down, which then could not come back.
pub const REPLICA_PORT_FIRST: u16 = 10_000;
/// See [`REPLICA_PORT_FIRST`]; when none is free, a trial does not start.
pub const REPLICA_PORTS: u16 = 20_000;
