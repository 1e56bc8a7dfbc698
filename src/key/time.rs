//! `Duration` and `SystemTime`: seconds, then nanoseconds.
//!
//! A time is only ever a value that was handed in. Nothing here reads a clock: `apply` must see
//! the same times on every replica.
//!
//! # Invariants
//!
//! 1. The nanoseconds are below one second, counted forward from the second also before the
//!    epoch, so (seconds, nanoseconds) compare as the times do and each time has one encoding.
//! 2. Decoding refuses a time that this platform cannot hold exactly instead of rounding it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{AsKey, Key, KeyBuf, KeyError, KeyReader};

const NANOS_PER_SECOND: u32 = 1_000_000_000;

/// Reads a number of nanoseconds below one second.
fn read_nanos(reader: &mut KeyReader<'_>) -> Result<u32, KeyError> {
    let offset = reader.position();
    let nanos = u32::decode_key(reader)?;
    if nanos < NANOS_PER_SECOND {
        Ok(nanos)
    } else {
        Err(KeyError::Invalid { offset, expected: "nanosecond of a second" })
    }
}

impl AsKey<Duration> for Duration {
    fn encode_key(&self, out: &mut KeyBuf) {
        self.as_secs().encode_key(out);
        self.subsec_nanos().encode_key(out);
    }
}

impl Key for Duration {
    fn decode_key(reader: &mut KeyReader<'_>) -> Result<Self, KeyError> {
        let seconds = u64::decode_key(reader)?;
        Ok(Self::new(seconds, read_nanos(reader)?))
    }
}

/// Seconds since the epoch, rounded down, and the nanoseconds that follow them.
///
/// The standard library holds times in at most 64 signed bits of seconds, or in finer ticks, on
/// every platform, so nothing saturates.
fn split(time: SystemTime) -> (i64, u32) {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => (0_i64.saturating_add_unsigned(after.as_secs()), after.subsec_nanos()),
        Err(error) => {
            let before = error.duration();
            let seconds = 0_i64.saturating_sub_unsigned(before.as_secs());
            match before.subsec_nanos() {
                0 => (seconds, 0),
                nanos => (seconds.saturating_sub(1), NANOS_PER_SECOND - nanos),
            }
        }
    }
}

/// The inverse of [`split`]; `None` when this platform cannot hold the time exactly.
fn join(seconds: i64, nanos: u32) -> Option<SystemTime> {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let second = match seconds {
        0.. => UNIX_EPOCH.checked_add(whole),
        _ => UNIX_EPOCH.checked_sub(whole),
    };
    let time = second?.checked_add(Duration::new(0, nanos))?;
    // Some platforms round to ticks of 100 nanoseconds.
    (split(time) == (seconds, nanos)).then_some(time)
}

impl AsKey<SystemTime> for SystemTime {
    fn encode_key(&self, out: &mut KeyBuf) {
        let (seconds, nanos) = split(*self);
        seconds.encode_key(out);
        nanos.encode_key(out);
    }
}

impl Key for SystemTime {
    fn decode_key(reader: &mut KeyReader<'_>) -> Result<Self, KeyError> {
        let offset = reader.position();
        let seconds = i64::decode_key(reader)?;
        let nanos = read_nanos(reader)?;
        join(seconds, nanos)
            .ok_or(KeyError::Invalid { offset, expected: "time within the range of this platform" })
    }
}
