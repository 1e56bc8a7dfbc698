//! What an index weighs beside its rows, in requested bytes.

use std::collections::BTreeSet;

use crate::allocator;
use crate::engine::{Engine, Triple};
use crate::plan::Plan;
use crate::sampler::{Sampler, Scale};

pub(crate) fn run<E: Engine>(sampler: &mut Sampler, plan: &mut Plan, scale: Scale) {
    let n = plan.rows();
    let rows = (n * E::ROW_BYTES) as f64;
    if sampler.wants_any(&["memory/random", "memory/held_growth"]) {
        let writes: Vec<_> = plan.load().collect();
        let held_writes = plan.upserts(scale.held);
        let changed = held_writes.iter().map(|write| write.id).collect::<BTreeSet<_>>().len();
        let base = allocator::counts().live;
        let engine = E::load(&writes);
        let index = live_since(base) - rows;
        record(sampler, "memory/random", index / n as f64);
        if E::SNAPSHOTS && sampler.wants("memory/held_growth") {
            let view = engine.view();
            held_writes.iter().for_each(|write| engine.upsert(write));
            let old_rows = (changed * E::ROW_BYTES) as f64;
            let grown = live_since(base) - rows - old_rows;
            sampler.record("memory/held_growth", "times", grown / index);
            drop(view);
        }
    }
    if sampler.wants("memory/sorted") {
        let sorted = plan.sorted_load();
        let base = allocator::counts().live;
        let engine = E::load_sorted(&sorted);
        record(sampler, "memory/sorted", (live_since(base) - rows) / n as f64);
        drop(engine);
    }
    if sampler.wants("memory/triple") {
        let writes: Vec<_> = plan.load().collect();
        let base = allocator::counts().live;
        let engine = E::Triple::load(&writes);
        record(sampler, "memory/triple", (live_since(base) - rows) / (3 * n) as f64);
        drop(engine);
    }
}

fn record(sampler: &mut Sampler, op: &str, bytes: f64) {
    if sampler.wants(op) {
        sampler.record(op, "bytes per entry", bytes);
    }
}

fn live_since(base: i64) -> f64 {
    (allocator::counts().live - base) as f64
}
