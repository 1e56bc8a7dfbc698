//! A reader and a writer at once, neither pausing.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::engine::{Engine, View};
use crate::plan::Plan;
use crate::sampler::{NANOSECONDS, Sampler, Scale, figure};

/// Gets of one snapshot.
const GETS: usize = 16;

/// How long a chunk takes; long enough for an engine whose readers wait for the writer.
const CHUNK: Duration = Duration::from_millis(20);

/// How many times longer than it should the writer goes on when its reader does not come through.
const PATIENCE: u32 = 3;

const GET: &str = "get_beside_writer";
const UPSERT: &str = "upsert_beside_reader";

/// The writer's count, on a cache line that the reader's data does not share.
#[repr(align(128))]
struct Committed(AtomicU64);

pub(crate) fn run<E: Engine>(sampler: &mut Sampler, engine: &E, plan: &mut Plan, scale: Scale) {
    if !sampler.wants_any(&[GET, UPSERT]) {
        return;
    }
    let chunks = if scale.quick { 5 } else { 40 };
    let (writes, probes) = (plan.upserts(100_000), plan.probes(100_000));
    let (stop, committed) = (AtomicBool::new(false), Committed(AtomicU64::new(0)));
    let (mut reader, mut writer) = (Vec::new(), Vec::new());
    thread::scope(|scope| {
        scope.spawn(|| {
            let deadline = Instant::now() + PATIENCE * chunks * CHUNK;
            for (write, done) in writes.iter().cycle().zip(1..) {
                engine.upsert(write);
                committed.0.store(done, Relaxed);
                if stop.load(Relaxed) || Instant::now() > deadline {
                    break;
                }
            }
            stop.store(true, Relaxed);
        });
        let mut batches = probes.chunks_exact(GETS).cycle();
        for _ in 0..chunks {
            let (start, before) = (Instant::now(), committed.0.load(Relaxed));
            let mut gets = 0;
            while start.elapsed() < CHUNK {
                let view = engine.view();
                black_box(view.get_each(batches.next().expect("the batches cycle")));
                drop(view);
                gets += GETS;
            }
            let elapsed = start.elapsed().as_nanos() as f64;
            // A reader that the writer kept out to its end has a lower bound as its figure.
            if stop.load(Relaxed) && !reader.is_empty() {
                break;
            }
            let transactions = committed.0.load(Relaxed) - before;
            reader.push(elapsed / gets as f64);
            if transactions > 0 {
                writer.push(elapsed / transactions as f64);
            }
        }
        stop.store(true, Relaxed);
    });
    for (op, means) in [(GET, reader), (UPSERT, writer)] {
        if sampler.wants(op) && !means.is_empty() {
            sampler.record(op, NANOSECONDS, figure(means));
        }
    }
}
