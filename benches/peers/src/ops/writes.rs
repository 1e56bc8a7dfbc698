//! Writes of a table with its primary index.

use std::hint::black_box;
use std::time::Instant;

use crate::engine::Engine;
use crate::plan::Plan;
use crate::sampler::{NANOSECONDS, Sampler, Scale, median};

/// Writes of one fork.
const FORK_WRITES: usize = 10;

pub(crate) fn run<E: Engine>(sampler: &mut Sampler, engine: &E, plan: &mut Plan, scale: Scale) {
    let (chunks, count) = (scale.chunks, scale.writes);
    fork(sampler, engine, plan, scale);

    let writes = plan.upserts(chunks * count);
    sampler.measure("upsert", (chunks, count, 1), |at| engine.upsert(&writes[at]));

    let transactions = (count / 50).max(2);
    let writes = plan.upserts(chunks * transactions * 100);
    sampler.measure("upsert_100", (chunks, transactions, 100), |at| {
        engine.upsert_all(&writes[at * 100..(at + 1) * 100]);
    });

    // The table gets no smaller than nine tenths and no larger than eleven tenths of what it was.
    let count = count.min(plan.rows() / 10 / chunks);
    let (gone, new) = (plan.distinct(chunks * count), plan.inserts(chunks * count));
    if sampler.wants("delete") {
        sampler.measure("delete", (chunks, count, 1), |at| {
            black_box(engine.delete(&gone[at].id));
        });
        engine.upsert_all(&gone);
    }
    if sampler.wants("insert") {
        sampler.measure("insert", (chunks, count, 1), |at| engine.insert(&new[at]));
        for write in &new {
            engine.delete(&write.id);
        }
    }
}

/// A private copy of a version, written to and dropped.
fn fork<E: Engine>(sampler: &mut Sampler, engine: &E, plan: &mut Plan, scale: Scale) {
    let forks = (scale.writes / 10).max(10);
    let writes = plan.upserts(scale.chunks * forks * FORK_WRITES);
    let view = engine.view();
    if E::fork(&view, &writes[..FORK_WRITES]) {
        sampler.measure("fork10", (scale.chunks, forks, 1), |at| {
            E::fork(&view, &writes[at * FORK_WRITES..(at + 1) * FORK_WRITES]);
        });
    }
}

/// The drop of a snapshot that has been held for many one-row transactions.
pub(crate) fn old_snapshot<E: Engine>(
    sampler: &mut Sampler,
    engine: &E,
    plan: &mut Plan,
    scale: Scale,
) {
    const OP: &str = "old_snapshot_drop";
    if !E::SNAPSHOTS || !sampler.wants(OP) {
        return;
    }
    let mut times = Vec::new();
    for _ in 0..3 {
        let writes = plan.upserts(scale.held);
        let view = engine.view();
        writes.iter().for_each(|write| engine.upsert(write));
        let start = Instant::now();
        drop(black_box(view));
        times.push(start.elapsed().as_nanos() as f64);
        // What the drop left to the writer is done here, outside the figure.
        plan.upserts(scale.held / 10).iter().for_each(|write| engine.upsert(write));
    }
    sampler.record(OP, NANOSECONDS, median(times));
}

/// A table of sorted rows, made by one transaction and in the engine's fastest way.
pub(crate) fn loads<E: Engine>(sampler: &mut Sampler, plan: &Plan, scale: Scale) {
    let (sorted, rows) = (plan.sorted_load(), plan.rows());
    // Each table is dropped by the next measurement or at the end, never inside one.
    let mut made: Vec<E> = Vec::with_capacity(scale.loads);
    sampler.measure("sorted_insert", (scale.loads, 1, rows), |_| made.push(E::load(&sorted)));
    made.clear();
    sampler.measure("sorted_load", (scale.loads, 1, rows), |_| made.push(E::load_sorted(&sorted)));
    made.clear();
    let inserted = sampler.value_mut("sorted_insert").copied();
    if let (Some(inserted), Some(loaded)) = (inserted, sampler.value_mut("sorted_load")) {
        *loaded = loaded.min(inserted);
    }
}
