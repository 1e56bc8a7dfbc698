//! A figure that the public interface cannot give yet: what a branch costs.

use std::time::Instant;

use crate::revision::Revision;
use crate::tree::{
    Branch, Contents, Doomed, IndexChanges, NewRow, Place, RowKind, RowMeta, Store, TableTrees,
    Workspace,
};

const ROWS: u64 = 1_000_000;
const BRANCHES: u64 = 2_000;
const WRITES: u64 = 10;

#[derive(Clone)]
struct Primary(TableTrees);

impl Contents for Primary {
    type Scratch = ();

    fn for_each_table(&self, visit: &mut dyn FnMut(&TableTrees)) {
        visit(&self.0);
    }
}

/// A key of 16 bytes, all of them mixed.
fn key(number: u64) -> [u8; 16] {
    let mix = |mut word: u64| {
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    };
    let mut key = [0; 16];
    key[..8].copy_from_slice(&mix(number + 1).to_be_bytes());
    key[8..].copy_from_slice(&mix(!number).to_be_bytes());
    key
}

fn put<W: Workspace>(writer: &mut W, trees: &mut TableTrees, number: u64, value: u64) {
    let meta = RowMeta { created: Revision(0), modified: Revision(0) };
    let row = NewRow::new(meta, [value; 25]);
    let mut place = Place::default();
    trees.find(&key(number), &mut place);
    trees.ready(writer, &mut place);
    trees.put(writer, &place, &key(number), row, &IndexChanges::default());
}

#[test]
#[ignore = "a measurement: cargo test --release --lib figures -- --ignored --nocapture"]
fn a_branch_with_ten_writes_and_its_drop() {
    let mut trees = TableTrees::new(RowKind::of::<[u64; 25]>(), 0);
    let mut writer = Store::new(Primary(trees.clone())).write();
    (0..ROWS).for_each(|number| put(&mut writer, &mut trees, number, number));
    let mut doomed = Doomed::default();
    let version = writer.publish(&Primary(trees.clone()), &mut doomed);
    writer.finish(&mut doomed);

    let mut next = 0;
    let mut times: Vec<f64> = (0..40)
        .map(|_| {
            #[allow(clippy::disallowed_methods)]
            let start = Instant::now();
            for _ in 0..BRANCHES / 40 {
                let (mut branch, mut own) = (Branch::new(&version), trees.clone());
                for _ in 0..WRITES {
                    next = (next + 7_919) % ROWS;
                    put(&mut branch, &mut own, next, next);
                }
            }
            start.elapsed().as_nanos() as f64 / (BRANCHES / 40) as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!("fork10 {:.0} ns", times[times.len() / 5]);
    let untouched = trees.rows().get(&key(next)).map(|row| row.typed::<[u64; 25]>()[0]);
    assert_eq!(untouched, Some(next), "the origin sees none of it");
}
