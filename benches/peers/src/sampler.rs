//! How a figure is taken of one operation: its time in chunks, or its allocations in one chunk.
//!
//! The machine is never quiet, so an operation is run in chunks, each chunk gives a mean, and the
//! figure of the process is the 20th percentile of the means: a chunk that was disturbed drops out.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::allocator;

/// What one process found for one operation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) op: String,
    pub(crate) n: usize,
    pub(crate) engine: String,
    pub(crate) allocator: String,
    pub(crate) unit: String,
    pub(crate) value: f64,
}

/// The unit of every timed operation.
pub(crate) const NANOSECONDS: &str = "ns";

/// How much work a run does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    pub(crate) quick: bool,
    pub(crate) chunks: usize,
    /// Reads in a chunk.
    pub(crate) reads: usize,
    /// One-row transactions in a chunk.
    pub(crate) writes: usize,
    /// Full scans, and repetitions of whole loads.
    pub(crate) scans: usize,
    pub(crate) loads: usize,
    /// Transactions for which an old snapshot is held.
    pub(crate) held: usize,
}

impl Scale {
    pub(crate) fn new(quick: bool) -> Self {
        if quick {
            let (reads, writes, held) = (1_000, 100, 2_000);
            Self { quick, chunks: 10, reads, writes, scans: 3, loads: 1, held }
        } else {
            let (reads, writes, held) = (5_000, 1_000, 100_000);
            Self { quick, chunks: 40, reads, writes, scans: 10, loads: 3, held }
        }
    }
}

/// Runs operations and keeps what was found.
#[derive(Debug)]
pub(crate) struct Sampler {
    engine: String,
    n: usize,
    ops: Vec<String>,
    counting: bool,
    samples: Vec<Sample>,
}

impl Sampler {
    /// A sampler of the operations `ops`, or of all when there are none.
    pub(crate) fn new(engine: &str, n: usize, ops: &[String]) -> Self {
        let counting = allocator::name() == "counting";
        Self { engine: engine.into(), n, ops: ops.to_vec(), counting, samples: Vec::new() }
    }

    pub(crate) fn is_counting(&self) -> bool {
        self.counting
    }

    /// Whether `op` is asked for, by its name or by that of its group.
    pub(crate) fn wants(&self, op: &str) -> bool {
        let named = |name: &str| self.ops.iter().any(|asked| asked == name);
        let group = if self.counting && !op.contains('/') { "allocs" } else { op };
        self.ops.is_empty() || named(op) || named(group.split('/').next().unwrap_or(op))
    }

    pub(crate) fn wants_any(&self, ops: &[&str]) -> bool {
        ops.iter().any(|op| self.wants(op))
    }

    /// Runs `chunks` chunks of `calls` calls of `body`, each doing `units` of the operation.
    ///
    /// `body` gets the number of its call. A process that counts runs two chunks and counts in
    /// the second.
    pub(crate) fn measure(
        &mut self,
        op: &str,
        (chunks, calls, units): (usize, usize, usize),
        mut body: impl FnMut(usize),
    ) {
        if !self.wants(op) {
            return;
        }
        let done = (calls * units) as f64;
        let mut chunk = |chunk: usize| (chunk * calls..(chunk + 1) * calls).for_each(&mut body);
        if self.counting {
            if chunks > 1 {
                chunk(0);
            }
            let before = allocator::counts();
            chunk(chunks.min(2) - 1);
            let after = allocator::counts();
            let (calls, bytes) = (after.calls - before.calls, after.bytes - before.bytes);
            self.record(&format!("allocs/{op}"), "allocations", calls as f64 / done);
            self.record(&format!("allocs/{op}/bytes"), "bytes", bytes as f64 / done);
        } else {
            let mean = |at| {
                let start = Instant::now();
                chunk(at);
                start.elapsed().as_nanos() as f64 / done
            };
            let means = (0..chunks).map(mean).collect();
            self.record(op, NANOSECONDS, figure(means));
        }
    }

    pub(crate) fn record(&mut self, op: &str, unit: &str, value: f64) {
        self.samples.push(Sample {
            op: op.into(),
            n: self.n,
            engine: self.engine.clone(),
            allocator: allocator::name().into(),
            unit: unit.into(),
            value,
        });
    }

    /// The value found for `op`, so that it can be corrected.
    pub(crate) fn value_mut(&mut self, op: &str) -> Option<&mut f64> {
        self.samples.iter_mut().find(|sample| sample.op == op).map(|sample| &mut sample.value)
    }

    pub(crate) fn into_samples(self) -> Vec<Sample> {
        self.samples
    }
}

/// The 20th percentile of the means of chunks.
pub(crate) fn figure(mut means: Vec<f64>) -> f64 {
    means.sort_by(f64::total_cmp);
    means[(means.len() - 1) / 5]
}

/// The median of `values`.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}
