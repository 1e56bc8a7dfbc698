//! What it costs to read rows when nothing has to be found: pointers to them, in the order of the
//! keys, in one array. A bound for every index whose rows are allocations of their own.

use std::hint::black_box;

use super::RANGE_ROWS;
use crate::plan::Plan;
use crate::row::Row;
use crate::sampler::{Sampler, Scale};

pub(crate) fn run(sampler: &mut Sampler, n: usize, scale: Scale) {
    let mut plan = Plan::new(n);
    let mut rows: Vec<Box<Row>> = plan.load().map(|write| Box::new(Row::new(&write))).collect();
    rows.sort_unstable_by_key(|row| row.id);
    let (chunks, reads) = (scale.chunks, scale.reads);
    let mut places = |count: usize| -> Vec<usize> {
        let probes = plan.probes(count);
        probes.iter().map(|key| rows.partition_point(|row| row.id < *key)).collect()
    };
    let (gets, ranges) = (places(chunks * reads), reads / 20);
    let (ups, downs) = (places(chunks * ranges), places(chunks * ranges));

    let touch = |sum: u64, row: &Row| sum.wrapping_add(row.touch());
    sampler.measure("get", (chunks, 1, reads), |at| {
        let places = &gets[at * reads..(at + 1) * reads];
        black_box(places.iter().fold(0, |sum, place| touch(sum, &rows[*place])));
    });
    sampler.measure("range100", (chunks, ranges, 1), |at| {
        let range = rows[ups[at]..].iter().take(RANGE_ROWS);
        black_box(range.fold(0, |sum, row| touch(sum, row)));
    });
    sampler.measure("range100_back", (chunks, ranges, 1), |at| {
        let range = rows[..=downs[at]].iter().rev().take(RANGE_ROWS);
        black_box(range.fold(0, |sum, row| touch(sum, row)));
    });
    sampler.measure("scan_rows", (scale.scans, 1, rows.len()), |_| {
        black_box(rows.iter().fold(0, |sum, row| touch(sum, row)));
    });
}
