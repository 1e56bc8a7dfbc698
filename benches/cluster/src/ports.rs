//! Free ports on loopback.

use std::net::TcpListener;

use anyhow::Result;

/// So many ports that were free a moment ago, all of them different.
pub(crate) fn free(count: usize) -> Result<Vec<u16>> {
    let held: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}
