//! Closed-loop clients: each asks, waits for the answer, and asks again.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// What clients ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Ask {
    /// Replaces the value of a key, durably on a majority.
    Put,
    /// Reads a key as of everything acknowledged before.
    Get,
    /// Reads a key from whatever the asked replica has.
    Stale,
}

/// Something with keys and values.
pub(crate) trait Service: Send + Sync + 'static {
    /// Does what is asked of `key`; `client` says whose connection is used.
    fn ask(
        &self,
        client: usize,
        ask: Ask,
        key: u64,
        value: &[u8],
    ) -> impl Future<Output = Result<()>> + Send;
}

/// What one run gave.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) per_second: f64,
    /// Microseconds.
    pub(crate) median: f64,
    /// Microseconds.
    pub(crate) p99: f64,
}

/// How many different keys are written and read.
pub(crate) const KEYS: u64 = 10_000;
/// Bytes of a value.
pub(crate) const VALUE: usize = 256;

/// Runs `clients` clients for `time`; a failed call ends the run with its error.
pub(crate) async fn run<S: Service>(
    service: &Arc<S>,
    ask: Ask,
    clients: usize,
    time: Duration,
) -> Result<Sample> {
    let began = Instant::now();
    let mut tasks = Vec::new();
    for client in 0..clients {
        let service = Arc::clone(service);
        tasks.push(tokio::spawn(async move {
            let mut latencies: Vec<u32> = Vec::new();
            let value = vec![b'v'; VALUE];
            let mut number = client as u64 * 7_919;
            while began.elapsed() < time {
                number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let asked = Instant::now();
                service.ask(client, ask, (number >> 33) % KEYS, &value).await?;
                latencies.push(u32::try_from(asked.elapsed().as_nanos()).unwrap_or(u32::MAX));
            }
            anyhow::Ok(latencies)
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.context("a client panicked")??);
    }
    let seconds = began.elapsed().as_secs_f64();
    all.sort_unstable();
    let at = |share: f64| {
        let place = (all.len() as f64 * share) as usize;
        all.get(place).map_or(f64::NAN, |nanoseconds| f64::from(*nanoseconds) / 1e3)
    };
    Ok(Sample { per_second: all.len() as f64 / seconds, median: at(0.5), p99: at(0.99) })
}
