//! Writes of a table with three indexes; each moves its row to another status.

use crate::engine::Triple;
use crate::plan::Plan;
use crate::sampler::{Sampler, Scale};

const LARGE: usize = 10_000;

pub(crate) fn run<T: Triple>(sampler: &mut Sampler, engine: &T, plan: &mut Plan, scale: Scale) {
    // A write that is planned is also done, or the plan and the table would part.
    let (chunks, count) = (scale.chunks, scale.writes / 2);
    if sampler.wants("upsert3") {
        let (chunks, count) = part(sampler, chunks, count);
        let writes = plan.upserts(chunks * count);
        sampler.measure("upsert3", (chunks, count, 1), |at| engine.upsert(&writes[at]));
    }
    for (op, chunks, transactions, rows) in [
        ("upsert3_100", chunks, (count / 100).max(2), 100),
        ("upsert3_10000", if scale.quick { 2 } else { 5 }, 1, LARGE),
    ] {
        if sampler.wants(op) {
            let (chunks, transactions) = part(sampler, chunks, transactions);
            let writes = plan.upserts(chunks * transactions * rows);
            sampler.measure(op, (chunks, transactions, rows), |at| {
                engine.upsert_all(&writes[at * rows..(at + 1) * rows]);
            });
        }
    }
}

/// What a process that counts runs of so many chunks.
fn part(sampler: &Sampler, chunks: usize, calls: usize) -> (usize, usize) {
    (if sampler.is_counting() { chunks.min(2) } else { chunks }, calls)
}
