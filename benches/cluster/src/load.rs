//! Closed-loop clients: each asks, waits for the answer, looks at it, and asks again.
//!
//! # Invariants
//!
//! 1. A value says which key it was written to and in which run, and every value that is read is
//!    looked at: a service that does nothing fails.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// What clients ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Ask {
    /// Replaces the value of a key, durably on a majority.
    Put,
    /// Reads a key as of everything acknowledged before.
    Get,
    /// Reads a key from whatever the asked replica has.
    Stale,
}

/// What clients do in one run.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) ask: Ask,
    pub(crate) clients: usize,
    pub(crate) milliseconds: u64,
    /// How many keys there are.
    pub(crate) keys: u64,
    /// The number of the run, which no other has.
    pub(crate) run: u64,
}

/// Something with keys and values.
pub(crate) trait Service: Send + Sync + 'static {
    /// Replaces the value of `key`; `client` says whose connection is used.
    fn put(
        &self,
        client: usize,
        key: u64,
        value: Vec<u8>,
    ) -> impl Future<Output = Result<()>> + Send;

    /// The value of `key`, which is there.
    fn get(
        &self,
        client: usize,
        key: u64,
        is_stale: bool,
    ) -> impl Future<Output = Result<Vec<u8>>> + Send;
}

/// What one run gave.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) per_second: f64,
    /// Microseconds.
    pub(crate) median: f64,
    /// Microseconds.
    pub(crate) p99: f64,
    /// Means of what the service has counted of itself during the run.
    pub(crate) inside: BTreeMap<String, f64>,
}

/// How many different keys are written and read.
pub(crate) const KEYS: u64 = 10_000;
/// Bytes of a value.
pub(crate) const VALUE: usize = 256;
/// Clients that make the keys.
const FILLERS: usize = 64;
/// Keys that are read back after a run that writes.
const READ_BACK: usize = 64;

/// The name of a key.
pub(crate) fn key(number: u64) -> String {
    format!("key-{number:08}")
}

/// What `run` writes to a key.
pub(crate) fn value(key: u64, run: u64) -> Vec<u8> {
    let mut value = vec![b'v'; VALUE];
    value[..8].copy_from_slice(&key.to_be_bytes());
    value[8..16].copy_from_slice(&run.to_be_bytes());
    value
}

/// Whether it was written to this key, and by this run if one is named.
fn check(found: &[u8], key: u64, run: Option<u64>) -> Result<()> {
    ensure!(found.len() == VALUE, "key {key}: a value of {} bytes", found.len());
    ensure!(found[..8] == key.to_be_bytes(), "key {key}: the value of another");
    if let Some(run) = run {
        ensure!(found[8..16] == run.to_be_bytes(), "key {key}: not what run {run} has written");
    }
    Ok(())
}

/// Puts every key once.
pub(crate) async fn fill<S: Service>(service: &Arc<S>) -> Result<()> {
    let mut tasks = Vec::new();
    for client in 0..FILLERS {
        let service = Arc::clone(service);
        tasks.push(tokio::spawn(async move {
            for key in (client as u64..KEYS).step_by(FILLERS) {
                service.put(client, key, value(key, 0)).await?;
            }
            anyhow::Ok(())
        }));
    }
    for task in tasks {
        task.await.context("a client panicked")??;
    }
    Ok(())
}

/// Runs the clients of a plan; a call that fails, or a wrong answer, ends the run with its error.
pub(crate) async fn run<S: Service>(service: &Arc<S>, plan: Plan) -> Result<Sample> {
    let began = Instant::now();
    let mut tasks = Vec::new();
    for client in 0..plan.clients {
        let service = Arc::clone(service);
        tasks.push(tokio::spawn(async move { ask(&*service, client, plan, began).await }));
    }
    let (mut all, mut asked) = (Vec::new(), Vec::new());
    for task in tasks {
        let (latencies, last) = task.await.context("a client panicked")??;
        all.extend(latencies);
        asked.extend(last);
    }
    let seconds = began.elapsed().as_secs_f64();
    if plan.ask == Ask::Put {
        ensure!(!asked.is_empty(), "nothing was written");
        for key in asked.into_iter().take(READ_BACK) {
            check(&service.get(0, key, false).await?, key, Some(plan.run))?;
        }
    }
    all.sort_unstable();
    let at = |share: f64| {
        let place = (all.len() as f64 * share) as usize;
        all.get(place).map_or(f64::NAN, |nanoseconds| f64::from(*nanoseconds) / 1e3)
    };
    let per_second = all.len() as f64 / seconds;
    Ok(Sample { per_second, median: at(0.5), p99: at(0.99), inside: BTreeMap::new() })
}

/// One client: how many nanoseconds each call took, and which key it asked for last.
async fn ask<S: Service>(
    service: &S,
    client: usize,
    plan: Plan,
    began: Instant,
) -> Result<(Vec<u32>, Option<u64>)> {
    let time = Duration::from_millis(plan.milliseconds);
    let (mut latencies, mut last) = (Vec::new(), None);
    let mut number = (client as u64 + 1) * 7_919 + plan.run;
    while began.elapsed() < time {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let key = (number >> 33) % plan.keys;
        let asked = Instant::now();
        match plan.ask {
            Ask::Put => service.put(client, key, value(key, plan.run)).await?,
            Ask::Get => check(&service.get(client, key, false).await?, key, None)?,
            Ask::Stale => check(&service.get(client, key, true).await?, key, None)?,
        }
        latencies.push(u32::try_from(asked.elapsed().as_nanos()).unwrap_or(u32::MAX));
        last = Some(key);
        // Answers that are there at once would keep the other clients from asking.
        tokio::task::consume_budget().await;
    }
    Ok((latencies, last))
}
