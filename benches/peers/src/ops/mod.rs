//! The operations, each written once for all engines.

mod bare;
mod beside;
mod check;
mod memory;
mod reads;
mod triple;
mod writes;

pub(crate) use self::bare::run as run_bare;

use std::hint::black_box;

use arc_swap::ArcSwap;

use crate::engine::{Engine, Triple};
use crate::plan::Plan;
use crate::sampler::{Sampler, Scale};

/// Rows of a range, and keys of a batched get.
const RANGE_ROWS: usize = 100;
const MANY_KEYS: usize = 64;

/// Operations on the table with its primary index.
pub(crate) const PRIMARY: &[&str] = &[
    "get",
    "get_many64",
    "range100",
    "range100_back",
    "scan",
    "scan_rows",
    "snapshot",
    "fork10",
    "upsert",
    "upsert_100",
    "insert",
    "delete",
    "get_beside_writer",
    "upsert_beside_reader",
    "old_snapshot_drop",
];

/// Operations that make a table of sorted rows.
pub(crate) const LOADS: &[&str] = &["sorted_insert", "sorted_load"];

/// Operations on the table with three indexes.
pub(crate) const TRIPLE: &[&str] = &["upsert3", "upsert3_100", "upsert3_10000"];

/// What is weighed, not timed.
pub(crate) const MEMORY: &[&str] =
    &["memory/random", "memory/sorted", "memory/triple", "memory/held_growth"];

/// Runs every operation that `sampler` wants on the engine `E`.
pub(crate) fn run<E: Engine>(sampler: &mut Sampler, n: usize, scale: Scale) {
    let mut plan = Plan::new(n);
    if sampler.is_counting() && sampler.wants_any(MEMORY) {
        memory::run::<E>(sampler, &mut plan, scale);
    }
    if sampler.wants_any(PRIMARY) {
        let engine = E::load(&plan.load().collect::<Vec<_>>());
        check::primary(&engine, &mut plan);
        reads::run(sampler, &engine, &mut plan, scale);
        writes::run(sampler, &engine, &mut plan, scale);
        check::primary(&engine, &mut plan);
        if !sampler.is_counting() {
            beside::run(sampler, &engine, &mut plan, scale);
            writes::old_snapshot(sampler, &engine, &mut plan, scale);
        }
    }
    if sampler.wants_any(LOADS) {
        writes::loads::<E>(sampler, &plan, scale);
    }
    if sampler.wants_any(TRIPLE) {
        let engine = E::Triple::load(&plan.load().collect::<Vec<_>>());
        check::triple(&engine, &plan);
        triple::run(sampler, &engine, &mut plan, scale);
        check::triple(&engine, &plan);
    }
}

/// Takes and drops what `ArcSwap` holds: the price of a snapshot without a database.
pub(crate) fn run_arc_swap(sampler: &mut Sampler, scale: Scale) {
    let cell = ArcSwap::from_pointee(1_u64);
    sampler.measure("snapshot", (scale.chunks, 20 * scale.reads, 1), |_| {
        drop(black_box(cell.load_full()));
    });
}
