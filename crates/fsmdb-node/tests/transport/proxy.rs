//! A proxy of bytes that counts, cuts and corrupts the one kind of connection that it is told to.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;

use fsmdb_node::transport::HELLO_BYTES;

/// No place in a connection.
pub(crate) const NEVER: u64 = u64::MAX;

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    pub(crate) state: Arc<State>,
}

pub(crate) struct State {
    /// Bytes that went through, from diallers of snapshots.
    pub(crate) forwarded: AtomicU64,
    /// Connections of snapshots are closed after so many bytes.
    pub(crate) cut_at: AtomicU64,
    /// One byte of them is changed there.
    pub(crate) corrupt_at: AtomicU64,
}

impl Proxy {
    pub(crate) fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State {
            forwarded: AtomicU64::new(0),
            cut_at: AtomicU64::new(NEVER),
            corrupt_at: AtomicU64::new(NEVER),
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), shared) = (client, Arc::clone(&shared)) else { return };
                thread::spawn(move || forward(client, target, &shared));
            }
        });
        Self { address, state }
    }
}

fn forward(mut client: TcpStream, target: SocketAddr, state: &State) -> Option<()> {
    let mut hello = [0; HELLO_BYTES];
    client.read_exact(&mut hello).ok()?;
    let mut server = TcpStream::connect(target).ok()?;
    server.write_all(&hello).ok()?;
    let (mut answers, mut back) = (server.try_clone().ok()?, client.try_clone().ok()?);
    thread::spawn(move || {
        let _ = std::io::copy(&mut answers, &mut back);
        let _ = back.shutdown(Shutdown::Both);
    });
    let is_snapshot = hello[12] == 3;
    let (mut buffer, mut passed) = (vec![0; 64 << 10], 0);
    while let Ok(length) = client.read(&mut buffer) {
        if length == 0 {
            break;
        }
        let mut length = length;
        if is_snapshot {
            let left = state.cut_at.load(SeqCst).saturating_sub(passed);
            length = length.min(usize::try_from(left).unwrap_or(usize::MAX));
            let place = state.corrupt_at.load(SeqCst).checked_sub(passed);
            let place = place.and_then(|place| usize::try_from(place).ok());
            if let Some(byte) = place.and_then(|place| buffer[..length].get_mut(place)) {
                *byte ^= 0x10;
            }
            passed += length as u64;
            state.forwarded.fetch_add(length as u64, SeqCst);
        }
        if length == 0 || server.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    // What was forwarded arrives: the other thread goes on to read what the server says.
    let _ = server.shutdown(Shutdown::Write);
    let _ = client.shutdown(Shutdown::Both);
    Some(())
}
