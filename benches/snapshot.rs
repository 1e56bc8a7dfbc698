//! What snapshot files cost: each beside a bare loop of `rmp_serde` over the same rows, or the same
//! work without the file, in one run, interleaved, medians of several rounds.
//!
//! `cargo bench --bench snapshot`; `-- --test` runs everything once and small, to see that it
//! works.

#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use fsmdb::{Db, LoadOptions, SaveOptions, Snapshot, Table};
use serde::{Deserialize, Serialize};

/// Counts the bytes that are held, and the most that were.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: it hands every call on as it came.
#[expect(unsafe_code, reason = "an allocator")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        if held > MOST.load(Ordering::Relaxed) {
            MOST.fetch_max(held, Ordering::Relaxed);
        }
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A row whose encoding takes about 250 bytes, with three indexes.
#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "allocations")]
struct Allocation {
    #[key]
    id: u64,
    #[index(unique)]
    name: String,
    #[index]
    node: u32,
    #[index]
    state: u8,
    payload: String,
}

/// A number without a pattern.
fn scatter(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

fn allocation(n: u64, round: u64) -> Allocation {
    Allocation {
        id: scatter(n),
        name: format!("allocation-{n:09}"),
        node: (scatter(n) % 5_000) as u32,
        state: (n % 7) as u8,
        payload: format!("{:0170}", scatter(n ^ round)),
    }
}

struct Scale {
    rows: u64,
    changed: u64,
    rounds: usize,
}

const FULL: Scale = Scale { rows: 1_000_000, changed: 1_000, rounds: 5 };
const SMALL: Scale = Scale { rows: 5_000, changed: 50, rounds: 1 };

/// A database that keeps digests, as what incremental files are made of does.
fn builder() -> fsmdb::Builder {
    Db::builder().table::<Allocation>().keep_digests()
}

fn seconds<A>(work: impl FnOnce() -> A) -> (f64, A) {
    let started = Instant::now();
    let result = black_box(work());
    (started.elapsed().as_secs_f64(), result)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn save(snap: &Snapshot, threads: usize, file: &mut Vec<u8>) -> f64 {
    file.clear();
    let options = SaveOptions::new().threads(threads);
    seconds(|| snap.save_with(&mut *file, options).expect("rows can be encoded")).0
}

fn load(builder: fsmdb::Builder, file: &[u8], threads: usize) -> (f64, Db) {
    let options = LoadOptions::new().threads(threads);
    seconds(|| builder.load_with(file, options).expect("the file is sound"))
}

/// A database without digests.
fn plain() -> fsmdb::Builder {
    Db::builder().table::<Allocation>()
}

/// The rows in `im` maps: one by key and one for each index.
#[derive(Clone, Default)]
struct Maps {
    rows: im::OrdMap<u64, std::sync::Arc<Allocation>>,
    by_name: im::OrdMap<String, u64>,
    by_node: im::OrdMap<(u32, u64), ()>,
    by_state: im::OrdMap<(u8, u64), ()>,
}

impl Maps {
    fn insert(&mut self, row: Allocation) {
        self.by_name.insert(row.name.clone(), row.id);
        self.by_node.insert((row.node, row.id), ());
        self.by_state.insert((row.state, row.id), ());
        self.rows.insert(row.id, std::sync::Arc::new(row));
    }
}

fn bare_encode(rows: &[Allocation], out: &mut Vec<u8>) -> f64 {
    out.clear();
    seconds(|| {
        for row in rows {
            rmp_serde::encode::write_named(&mut *out, row).expect("writing to memory");
        }
    })
    .0
}

fn bare_decode(bytes: &[u8], count: usize) -> (f64, Vec<Allocation>) {
    seconds(|| {
        let mut rows = Vec::with_capacity(count);
        let mut rest = std::io::Cursor::new(bytes);
        for _ in 0..count {
            rows.push(rmp_serde::from_read(&mut rest).expect("it was written by the same"));
        }
        rows
    })
}

fn print(name: &str, ratio: f64, bar: &str, detail: &str) {
    println!("{name:<44} {ratio:>8.3}  (bar {bar})  {detail}");
}

/// Saving and loading beside bare loops over the same rows.
fn whole_files(scale: &Scale, db: &Db, rows: &[Allocation]) {
    let snap = db.read();
    let (mut file, mut bare) = (Vec::new(), Vec::new());
    save(&snap, 1, &mut file);
    bare_encode(rows, &mut bare);
    let mut times: [Vec<f64>; 7] = Default::default();
    for _ in 0..scale.rounds {
        times[0].push(bare_encode(rows, &mut bare));
        times[1].push(save(&snap, 1, &mut file));
        times[2].push(save(&snap, 2, &mut file));
        times[3].push(bare_decode(&bare, rows.len()).0);
        times[4].push(load(plain(), &file, 1).0);
        times[5].push(load(plain(), &file, 2).0);
        times[6].push(load(builder(), &file, 2).0);
    }
    let [bare_save, save_1, save_2, bare_load, load_1, load_2, load_digests] = times.map(median);
    let mib = file.len() as f64 / (1024.0 * 1024.0);
    let rate = |time: f64| format!("{:.0} MiB/s, {time:.2} s", mib / time);
    println!("{} rows, {mib:.0} MiB; bare {:.0} MiB", rows.len(), bare.len() as f64 / 1_048_576.0);
    print("save, 1 thread: rows/s of bare encode", bare_save / save_1, ">= 0.7", &rate(save_1));
    print("save, 2 threads: rows/s of bare encode", bare_save / save_2, "> 1", &rate(save_2));
    print("load, 1 thread: time of bare decode", load_1 / bare_load, "-", &rate(load_1));
    print("load, 2 threads: time of bare decode", load_2 / bare_load, "<= 2", &rate(load_2));
    let ratio = load_digests / load_2;
    print("load, keeping digests, of load without", ratio, "-", &rate(load_digests));

    let (maps_time, maps) = seconds(|| {
        let mut maps = Maps::default();
        rows.iter().cloned().for_each(|row| maps.insert(row));
        maps
    });
    print("load, 2 threads: times faster than im maps", maps_time / load_2, ">= 10", "");
    drop(maps);

    let before = HELD.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let (_, loaded) = load(plain(), &file, 2);
    let (most, after) = (MOST.load(Ordering::Relaxed), HELD.load(Ordering::Relaxed));
    let beyond = most.saturating_sub(after) as f64 / 1_048_576.0;
    let held = (after - before) as f64 / 1_048_576.0;
    print("load: peak beyond the database, MiB", beyond, "<= 64", &format!("{held:.0} MiB held"));
    drop(loaded);

    let before = HELD.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let options = SaveOptions::new().threads(2);
    snap.save_with(std::io::sink(), options).expect("rows can be encoded");
    let most = (MOST.load(Ordering::Relaxed) - before) as f64 / 1_048_576.0;
    print("save: peak memory, MiB", most, "-", "");
}

/// An incremental file of a few changed rows beside a whole one.
fn incremental(scale: &Scale, db: &Db) {
    let base = db.read();
    let mut txn = db.write();
    for n in 0..scale.changed {
        let row = allocation(scatter(n) % scale.rows, 7);
        txn.upsert(row).expect("names are their own");
    }
    txn.commit();
    let (newer, mut file, mut part) = (db.read(), Vec::new(), Vec::new());
    let (mut whole, mut since) = (Vec::new(), Vec::new());
    for _ in 0..scale.rounds {
        whole.push(save(&newer, 1, &mut file));
        part.clear();
        let options = SaveOptions::new().threads(1);
        since.push(seconds(|| newer.save_since(&base, &mut part, options).expect("one base")).0);
    }
    let (ratio, bytes) = (median(since) / median(whole), part.len());
    print(
        "save of changed rows, time of a whole save",
        ratio,
        "<= 0.01",
        &format!("{bytes} bytes"),
    );
}

/// Commits a second, with and without a save beside them.
fn beside_a_save(scale: &Scale, db: &Db) {
    let commits = |stop: &AtomicBool, at_least: u64| {
        let started = Instant::now();
        let mut done = 0_u64;
        while done < at_least || !stop.load(Ordering::Relaxed) {
            let mut txn = db.write();
            txn.upsert(allocation(scatter(done) % scale.rows, done)).expect("names are their own");
            txn.commit();
            done += 1;
        }
        done as f64 / started.elapsed().as_secs_f64()
    };
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..scale.rounds {
        let always = AtomicBool::new(true);
        alone.push(commits(&always, scale.rows / 10));
        let (stop, snap) = (AtomicBool::new(false), db.read());
        thread::scope(|scope| {
            scope.spawn(|| {
                snap.save(std::io::sink()).expect("rows can be encoded");
                stop.store(true, Ordering::Relaxed);
            });
            beside.push(commits(&stop, 1));
        });
    }
    print("commits beside a save, of those alone", median(beside) / median(alone), ">= 0.8", "");
}

fn main() {
    if std::env::args().any(|argument| argument == "load") {
        let db = plain().build().expect("the schema is sound");
        let mut txn = db.write();
        txn.table_mut().insert_all((0..FULL.rows).map(|n| allocation(n, 0))).expect("distinct");
        txn.commit();
        let mut file = Vec::new();
        save(&db.read(), 2, &mut file);
        drop(db);
        for threads in [1, 2, 1, 2, 1, 2] {
            println!("{threads} {:.3}", load(plain(), &file, threads).0);
        }
        return;
    }
    // `cargo bench` says so; the tests run this too, and not optimised.
    let is_asked = |what: &str| std::env::args().any(|argument| argument == what);
    let is_test = !is_asked("--bench") || is_asked("--test");
    let scale = if is_test { SMALL } else { FULL };
    let rows: Vec<_> = {
        let mut rows: Vec<_> = (0..scale.rows).map(|n| allocation(n, 0)).collect();
        rows.sort_by_key(|row| row.id);
        rows
    };
    let db = builder().build().expect("the schema is sound");
    let mut txn = db.write();
    txn.table_mut().insert_all(rows.iter().cloned()).expect("rows are distinct");
    txn.commit();
    whole_files(&scale, &db, &rows);
    drop(rows);
    incremental(&scale, &db);
    beside_a_save(&scale, &db);
}
