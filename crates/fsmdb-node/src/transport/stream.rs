//! Frames on a stream of bytes, with time limits and counts.
//!
//! # Invariants
//!
//! 1. Memory for a frame grows with what has arrived of it, never with what its head says.
//! 2. Waiting for a frame can be given up and begun again without losing a byte; writing cannot.

use std::ops::Range;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::counters::Counters;
use super::error::ConnectionError;
use super::frame::{self, Decoded, Kind};
use crate::limits::{READ_BYTES, READ_BYTES_KEPT};

/// Both directions of a connection.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Sync + Unpin {
    /// The socket once more, if its bytes are those of the connection; writing to it never waits.
    fn socket(&self) -> Option<std::net::TcpStream> {
        None
    }
}

impl Duplex for TcpStream {
    fn socket(&self) -> Option<std::net::TcpStream> {
        self.as_fd().try_clone_to_owned().ok().map(Into::into)
    }
}

impl Duplex for tokio_rustls::client::TlsStream<TcpStream> {}

impl Duplex for tokio_rustls::server::TlsStream<TcpStream> {}

/// A connection, encrypted or not.
pub(super) type Stream = Box<dyn Duplex>;

/// The frames that arrive.
pub(super) struct FrameReader<R> {
    read: R,
    counters: Arc<Counters>,
    buffer: Vec<u8>,
    /// Where the next frame begins.
    start: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(read: R, counters: Arc<Counters>) -> Self {
        Self { read, counters, buffer: Vec::new(), start: 0 }
    }

    /// The next frame, of which each part must arrive within `limit` after the one before.
    pub(super) async fn next(&mut self, limit: Duration) -> Result<(Kind, &[u8]), ConnectionError> {
        let (kind, payload) = self.arrive(limit).await?;
        Ok((kind, &self.buffer[payload]))
    }

    async fn arrive(&mut self, limit: Duration) -> Result<(Kind, Range<usize>), ConnectionError> {
        loop {
            if let Decoded::Whole(frame, length) = frame::decode(&self.buffer[self.start..])? {
                let end = self.start + length;
                let found = (frame.kind, end - frame.payload.len()..end);
                self.start = end;
                self.counters.received(length);
                return Ok(found);
            }
            self.make_room();
            let read = timeout(limit, self.read.read_buf(&mut self.buffer)).await;
            if read.map_err(|_| ConnectionError::Silent)?? == 0 {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
        }
    }

    fn make_room(&mut self) {
        self.buffer.drain(..self.start);
        self.start = 0;
        if self.buffer.is_empty() && self.buffer.capacity() > READ_BYTES_KEPT {
            self.buffer = Vec::new();
        }
        self.buffer.reserve(READ_BYTES);
    }
}

/// Writes whole frames, of which each part must be taken within `limit` after the one before: a
/// slow connection is not a dead one.
pub(super) async fn write_frames<W: AsyncWrite + Unpin>(
    write: &mut W,
    bytes: &[u8],
    frames: u64,
    limit: Duration,
    counters: &Counters,
) -> Result<(), ConnectionError> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = timeout(limit, write.write(rest)).await;
        let written = written.map_err(|_| ConnectionError::Silent)??;
        if written == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::WriteZero).into());
        }
        rest = &rest[written..];
    }
    timeout(limit, write.flush()).await.map_err(|_| ConnectionError::Silent)??;
    counters.sent(frames, bytes.len());
    Ok(())
}
