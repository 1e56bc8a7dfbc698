//! Right answers first: what is wrong is not worth timing.

use crate::engine::{Engine, Triple, View};
use crate::plan::Plan;
use crate::row::{Key, STATUSES, mark};

const SAMPLES: usize = 1_000;

/// Panics unless `engine` holds the rows of `plan` and finds them in every way that is timed.
pub(crate) fn primary<E: Engine>(engine: &E, plan: &mut Plan) {
    let sorted = plan.sorted_keys();
    let view = engine.view();
    assert_eq!(view.len(), sorted.len(), "rows");
    assert!(view.ids() == sorted, "the scan has other keys, or another order");
    assert_eq!(view.scan_rows(), sum(&sorted), "rows of the scan");
    for key in plan.probes(SAMPLES) {
        assert_eq!(view.get_each(&[key]), mark(&key), "get");
    }
    let probes = plan.probes(SAMPLES);
    assert_eq!(view.get_many(&probes), sum(&probes), "get_many");
    let absent: Vec<_> = plan.inserts(SAMPLES).iter().map(|write| write.id).collect();
    assert_eq!(view.get_each(&absent), 0, "get of what is not there");
    for (from, length) in probes.iter().zip([1, 10, 100].into_iter().cycle()) {
        let at = sorted.partition_point(|key| key < from);
        let up = &sorted[at..(at + length).min(sorted.len())];
        assert_eq!(view.range(from, length), sum(up), "range");
        let down = &sorted[(at + 1).saturating_sub(length)..=at];
        let found = view.range_back(from, length);
        assert!(found == sum(down) || !E::BACKWARD, "range backwards");
    }
}

/// Panics unless the three indexes of `engine` hold the rows of `plan`.
pub(crate) fn triple<T: Triple>(engine: &T, plan: &Plan) {
    assert_eq!(engine.counts(), [plan.rows(); 3], "entries");
    let mut expected = [0; STATUSES as usize];
    plan.load().for_each(|write| expected[write.status as usize] += 1);
    for (status, rows) in expected.into_iter().enumerate() {
        assert_eq!(engine.with_status(status as u64), rows, "rows of status {status}");
    }
}

fn sum(keys: &[Key]) -> u64 {
    keys.iter().fold(0, |sum, key| sum.wrapping_add(mark(key)))
}
