//! Reads of one version that nobody changes, and what it costs to get one.

use std::hint::black_box;

use super::{MANY_KEYS, RANGE_ROWS};
use crate::engine::{Engine, View};
use crate::plan::Plan;
use crate::sampler::{Sampler, Scale};

pub(crate) fn run<E: Engine>(sampler: &mut Sampler, engine: &E, plan: &mut Plan, scale: Scale) {
    let (chunks, reads) = (scale.chunks, scale.reads);
    let view = engine.view();

    let probes = plan.probes(chunks * reads);
    sampler.measure("get", (chunks, 1, reads), |at| {
        black_box(view.get_each(&probes[at * reads..(at + 1) * reads]));
    });

    let batches = reads / MANY_KEYS;
    sampler.measure("get_many64", (chunks, batches, MANY_KEYS), |at| {
        black_box(view.get_many(&probes[at * MANY_KEYS..(at + 1) * MANY_KEYS]));
    });

    let ranges = reads / 20;
    sampler.measure("range100", (chunks, ranges, 1), |at| {
        black_box(view.range(&probes[at], RANGE_ROWS));
    });
    sampler.measure("range100_back", (chunks, ranges, 1), |at| {
        black_box(view.range_back(&probes[chunks * ranges + at], RANGE_ROWS));
    });

    sampler.measure("scan", (scale.scans, 1, plan.rows()), |_| {
        black_box(view.scan());
    });
    sampler.measure("scan_rows", (scale.scans, 1, plan.rows()), |_| {
        black_box(view.scan_rows());
    });
    drop(view);

    if E::SNAPSHOTS {
        sampler.measure("snapshot", (chunks, 20 * reads, 1), |_| {
            drop(black_box(engine.view()));
        });
    }
}
