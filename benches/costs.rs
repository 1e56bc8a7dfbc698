//! What watching costs a commit, and the other costs that are promised as ratios: each beside the
//! same work without it, in one run, interleaved, medians of several rounds.
//!
//! `cargo bench --bench costs`; `-- --test` runs everything once and small, to see that it works.

#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use fsmdb::{Builder, Db, Error, Feed, Table, Watch};
use serde::{Deserialize, Serialize};

/// A row of about 200 bytes.
#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "jobs")]
struct Job {
    #[key]
    id: u64,
    #[index]
    group: u32,
    body: [u64; 22],
}

#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "others")]
struct Other {
    #[key]
    id: u64,
}

/// The same row, in a table that remembers what was removed.
#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "kept", tombstones = 4096)]
struct Kept {
    #[key]
    id: u64,
    #[index]
    group: u32,
    body: [u64; 22],
}

impl From<Job> for Kept {
    fn from(Job { id, group, body }: Job) -> Self {
        Self { id, group, body }
    }
}

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

/// Sizes of a run.
struct Scale {
    rows: u64,
    watches: u64,
    bulk: u64,
    feeds: usize,
    rounds: usize,
    commits: u64,
}

const FULL: Scale = Scale {
    rows: 1_000_000,
    watches: 100_000,
    bulk: 10_000,
    feeds: 1_000,
    rounds: 9,
    commits: 4_000,
};

const SMALL: Scale =
    Scale { rows: 10_000, watches: 1_000, bulk: 100, feeds: 20, rounds: 1, commits: 50 };

/// A number without a pattern.
fn scatter(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

fn job(n: u64, round: u64) -> Job {
    Job { id: scatter(n), group: (n % 1_000) as u32, body: [round; 22] }
}

fn database(rows: u64) -> Db {
    let db = Db::builder().table::<Job>().table::<Other>().build().expect("the schema is sound");
    let mut txn = db.write();
    let loaded = txn.table_mut().insert_all((0..rows).map(|n| job(n, 0)));
    loaded.expect("rows are distinct");
    txn.commit();
    db
}

/// Commits one row `commits` times and gives the nanoseconds of one.
fn commit_one(db: &Db, scale: &Scale, seed: u64) -> f64 {
    let started = Instant::now();
    for n in 0..scale.commits {
        let mut txn = db.write();
        // The first half of the rows is written, the other watched.
        let n = scatter(n + seed * scale.commits) % (scale.rows / 2);
        txn.upsert(job(n, seed)).expect("nothing is unique");
        black_box(txn.commit());
    }
    started.elapsed().as_nanos() as f64 / scale.commits as f64
}

/// Commits many rows at once and gives the nanoseconds of one of them.
fn commit_bulk(db: &Db, scale: &Scale, seed: u64) -> f64 {
    let started = Instant::now();
    let mut txn = db.write();
    for n in 0..scale.bulk {
        let n = scatter(n + seed * scale.bulk) % (scale.rows / 2);
        txn.upsert(job(n, seed)).expect("nothing is unique");
    }
    black_box(txn.commit());
    started.elapsed().as_nanos() as f64 / scale.bulk as f64
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Measures several ways of the same work in turn, and prints each beside the first.
fn compare(what: &str, bar: &str, scale: &Scale, ways: &mut [(&str, &mut dyn FnMut(u64) -> f64)]) {
    let mut figures = vec![Vec::new(); ways.len()];
    for round in 0..scale.rounds as u64 + 1 {
        for (figures, (_, way)) in figures.iter_mut().zip(ways.iter_mut()) {
            let figure = way(round);
            // The first round warms up, unless there is one alone.
            if round > 0 || scale.rounds == 1 {
                figures.push(figure);
            }
        }
    }
    println!("{what} (bar: {bar})");
    let medians: Vec<_> = figures.into_iter().map(median).collect();
    for ((name, _), figure) in ways.iter().zip(&medians) {
        println!("  {name:<44} {figure:>14.1} ns {:>8.4}", figure / medians[0]);
    }
}

/// Watches of rows that are not written.
fn watch_rows(db: &Db, scale: &Scale) -> Vec<Watch> {
    let snap = db.read();
    let watch = |n: u64| {
        let id = scatter(scale.rows / 2 + n % (scale.rows / 2));
        snap.watch(|read| read.table::<Job>().get(&id).map(|job| job.body[0])).1
    };
    (0..scale.watches).map(watch).collect()
}

/// Watches of values of an index that no written row has or gets.
fn watch_values(db: &Db, scale: &Scale) -> Vec<Watch> {
    let snap = db.read();
    let watch = |n: u64| {
        let group = 1_000 + n as u32;
        snap.watch(|read| read.table::<Job>().index(Job::BY_GROUP).get(&group).last().is_some()).1
    };
    (0..scale.watches).map(watch).collect()
}

/// Watches of ranges between rows that are written.
fn watch_ranges(db: &Db, scale: &Scale) -> Vec<Watch> {
    let snap = db.read();
    let mut ids: Vec<u64> = (0..scale.rows).map(scatter).collect();
    ids.sort_unstable();
    let watch = |n: u64| {
        // Behind a row and before the next one: nothing is written there.
        let low = ids[(n as usize * 7) % (ids.len() - 1)] + 1;
        let high = ids[(n as usize * 7) % (ids.len() - 1) + 1];
        snap.watch(|read| read.table::<Job>().range(low..high).next().is_some()).1
    };
    (0..scale.watches).map(watch).collect()
}

/// Watches of another table.
fn watch_others(db: &Db, scale: &Scale) -> Vec<Watch> {
    let snap = db.read();
    (0..scale.watches)
        .map(|n| snap.watch(|read| read.table::<Other>().get(&n).is_some()).1)
        .collect()
}

fn watches(scale: &Scale) {
    let kinds: [(&str, fn(&Db, &Scale) -> Vec<Watch>); 4] = [
        ("with watches of other rows", watch_rows),
        ("with watches of other index values", watch_values),
        ("with watches of other ranges", watch_ranges),
        ("with watches of another table", watch_others),
    ];
    let bare = database(scale.rows);
    for (name, watch) in kinds {
        let db = database(scale.rows);
        let held = watch(&db, scale);
        assert_eq!(db.waiting().watches as u64, scale.watches);
        compare(
            "commit of one row",
            "1.2",
            scale,
            &mut [
                ("with none", &mut |seed| commit_one(&bare, scale, seed)),
                (name, &mut |seed| commit_one(&db, scale, seed)),
            ],
        );
        compare(
            "commit of many rows, a row",
            "1.5",
            scale,
            &mut [
                ("with none", &mut |seed| commit_bulk(&bare, scale, seed)),
                (name, &mut |seed| commit_bulk(&db, scale, seed)),
            ],
        );
        assert_eq!(db.waiting().watches as u64, scale.watches, "none of them is concerned");
        drop(held);
    }
}

/// What it costs to wake so many watches of one row.
fn wakes(scale: &Scale) {
    let db = database(scale.rows);
    println!("commit that wakes watches, for each (bar: O(k))");
    let mut value = 0;
    for woken in [scale.watches / 1_000, scale.watches / 100, scale.watches / 10] {
        let woken = woken.max(1);
        let mut figures = Vec::new();
        for _ in 0..scale.rounds {
            let snap = db.read();
            let watch = |_| snap.watch(|read| read.table::<Job>().get(&scatter(1)).is_some()).1;
            let held: Vec<_> = (0..woken).map(watch).collect();
            drop(snap);
            let started = Instant::now();
            let mut txn = db.write();
            value += 1;
            txn.upsert(job(1, value)).expect("nothing is unique");
            txn.commit();
            figures.push(started.elapsed().as_nanos() as f64 / woken as f64);
            assert!(held.iter().all(|watch| watch.ended().is_some()));
        }
        println!("  {woken:<44} {:>14.1} ns", median(figures));
    }
}

fn feeds(scale: &Scale) {
    let bare = database(scale.rows);
    let db = database(scale.rows);
    let idle: Vec<Feed> = (0..scale.feeds).map(|_| db.changes().open()).collect();
    let polled = database(scale.rows);
    let is_over = Arc::new(AtomicBool::new(false));
    let poller = {
        let mut feeds: Vec<Feed> = (0..scale.feeds).map(|_| polled.changes().open()).collect();
        let is_over = Arc::clone(&is_over);
        thread::spawn(move || {
            while !is_over.load(Ordering::Acquire) {
                for feed in &mut feeds {
                    while let Ok(Some(event)) = feed.try_next() {
                        black_box(event);
                    }
                }
            }
        })
    };
    let busy = database(scale.rows);
    let started = Arc::new(Barrier::new(scale.feeds + 1));
    let readers: Vec<_> = (0..scale.feeds)
        .map(|_| {
            let (feed, started) = (busy.changes().open(), Arc::clone(&started));
            thread::spawn(move || {
                started.wait();
                feed.filter(Result::is_ok).count()
            })
        })
        .collect();
    started.wait();
    compare(
        "commit of one row",
        "1.5",
        scale,
        &mut [
            ("without a feed", &mut |seed| commit_one(&bare, scale, seed)),
            ("with feeds that nobody reads", &mut |seed| commit_one(&db, scale, seed)),
            ("with feeds that one thread reads", &mut |seed| commit_one(&polled, scale, seed)),
            ("with feeds, each waited for by a thread", &mut |seed| {
                // As far apart as commits of a log are.
                let mut spent = Duration::ZERO;
                let commits = scale.commits / 20;
                for n in 0..commits {
                    let started = Instant::now();
                    let mut txn = busy.write();
                    let n = scatter(n + seed * commits) % (scale.rows / 2);
                    txn.upsert(job(n, seed)).expect("nothing is unique");
                    black_box(txn.commit());
                    spent += started.elapsed();
                    thread::yield_now();
                }
                spent.as_nanos() as f64 / commits as f64
            }),
        ],
    );
    is_over.store(true, Ordering::Release);
    drop((idle, polled, busy));
    drop(poller.join());
    readers.into_iter().for_each(|reader| drop(reader.join()));
}

fn differences(scale: &Scale) {
    let db = database(scale.rows);
    let older = db.read();
    for n in 0..10 {
        let mut txn = db.write();
        txn.upsert(job(n * 997, 1)).expect("nothing is unique");
        txn.commit();
    }
    let newer = db.read();
    compare(
        "difference of ten rows",
        "1/1,000",
        scale,
        &mut [
            ("a scan that reads every row", &mut |_| {
                let started = Instant::now();
                let sum: u64 = newer.table::<Job>().iter().map(|job| job.body[0]).sum();
                black_box(sum);
                started.elapsed().as_nanos() as f64
            }),
            ("the difference, after the scan", &mut |_| {
                let started = Instant::now();
                let found = newer.diff::<Job>(&older).filter_map(|found| found.after());
                black_box(found.map(|job| job.body[0]).sum::<u64>());
                started.elapsed().as_nanos() as f64
            }),
            ("the difference, again", &mut |_| {
                let started = Instant::now();
                for _ in 0..100 {
                    let found = newer.diff::<Job>(&older).filter_map(|found| found.after());
                    black_box(found.map(|job| job.body[0]).sum::<u64>());
                }
                started.elapsed().as_nanos() as f64 / 100.0
            }),
        ],
    );
}

fn transacts(scale: &Scale) {
    let db = database(scale.rows);
    let update = |n: u64, seed: u64| scatter(scatter(n + seed * scale.commits) % scale.rows);
    compare(
        "read and update of one row, serialisable",
        "2",
        scale,
        &mut [
            ("in a write transaction", &mut |seed| {
                let started = Instant::now();
                for n in 0..scale.commits {
                    let mut txn = db.write();
                    let mut jobs = txn.table_mut::<Job>();
                    let updated = jobs.update(&update(n, seed), |job| job.body[0] += 1);
                    drop(updated.expect("it is there"));
                    black_box(txn.commit());
                }
                started.elapsed().as_nanos() as f64 / scale.commits as f64
            }),
            ("by transact", &mut |seed| {
                let started = Instant::now();
                for n in 0..scale.commits {
                    let done = db.transact(|txn| {
                        let mut jobs = txn.table_mut::<Job>();
                        // Other rows than the write transactions: as cold.
                        let id = update(n, seed + 1_000_000);
                        jobs.update(&id, |job| job.body[0] += 1)?;
                        Ok::<_, Error>(())
                    });
                    done.expect("nobody else writes");
                }
                started.elapsed().as_nanos() as f64 / scale.commits as f64
            }),
        ],
    );
}

/// From the begin of a commit to the thread that waits for it.
fn latency(scale: &Scale) {
    let db = database(scale.rows.min(1_000));
    let (begun, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let clock = Instant::now();
    let waiter = {
        let (db, begun, is_over) = (db.clone(), Arc::clone(&begun), Arc::clone(&is_over));
        thread::spawn(move || {
            let mut figures = Vec::new();
            while !is_over.load(Ordering::Acquire) {
                let wanted = db.revision().next();
                if db.wait_for(wanted).wait(Duration::from_secs(1)).is_ok() {
                    let now = clock.elapsed().as_nanos() as u64;
                    figures.push((now - begun.load(Ordering::Acquire)) as f64);
                }
            }
            figures
        })
    };
    for round in 0..scale.commits.min(400) {
        // Until the other thread rests.
        thread::sleep(Duration::from_micros(500));
        let mut txn = db.write();
        txn.upsert(job(1, round)).expect("nothing is unique");
        begun.store(clock.elapsed().as_nanos() as u64, Ordering::Release);
        txn.commit();
    }
    is_over.store(true, Ordering::Release);
    let figures = waiter.join().expect("it does not panic");
    println!("wait_for, from the commit to who waits (not gated; below 50,000 ns)");
    println!("  {:<44} {:>14.1} ns", "median", median(figures));
}

/// Deletes a row in one transaction and puts it again in another; the nanoseconds of both.
fn delete_and_insert<T: Table<Key = u64> + From<Job>>(db: &Db, scale: &Scale, seed: u64) -> f64 {
    let started = Instant::now();
    for n in 0..scale.commits / 2 {
        let row = job(scatter(n + seed * scale.commits) % scale.rows, seed);
        let mut txn = db.write();
        assert!(txn.table_mut::<T>().delete(&row.id).is_some());
        txn.commit();
        let mut txn = db.write();
        txn.insert(T::from(row)).expect("it was deleted");
        black_box(txn.commit());
    }
    started.elapsed().as_nanos() as f64 / (scale.commits / 2) as f64
}

/// The highest revision of stretches of keys and of values, and what remembering removals costs.
fn revisions(scale: &Scale) {
    let filled = || {
        let db = Db::builder().table::<Job>().table::<Kept>().build();
        let db = db.expect("the schema is sound");
        let mut txn = db.write();
        let rows = || (0..scale.rows).map(|n| job(n, 0));
        txn.table_mut().insert_all(rows()).expect("rows are distinct");
        txn.table_mut().insert_all(rows().map(Kept::from)).expect("rows are distinct");
        txn.commit();
        db
    };
    let db = filled();
    compare(
        "delete a row, put it again",
        "none",
        scale,
        &mut [
            ("no tombstones", &mut |seed| delete_and_insert::<Job>(&db, scale, seed)),
            ("4,096 tombstones", &mut |seed| delete_and_insert::<Kept>(&db, scale, seed)),
        ],
    );
    let snap = db.read();
    let timed = |look: &dyn Fn(u64)| {
        let started = Instant::now();
        (0..scale.commits).for_each(look);
        started.elapsed().as_nanos() as f64 / scale.commits as f64
    };
    let kept = snap.table::<Kept>();
    compare(
        "the highest revision, of a million rows",
        "none",
        scale,
        &mut [
            ("a tenth of the keys", &mut |_| {
                timed(&|n| {
                    let low = scatter(n);
                    black_box(kept.modified_in(low..low.saturating_add(u64::MAX / 10)));
                })
            }),
            ("one value with a thousand rows", &mut |_| {
                timed(&|n| {
                    black_box(kept.index(Kept::BY_GROUP).modified_of(&((n % 1_000) as u32)));
                })
            }),
            ("one key", &mut |_| {
                timed(&|n| {
                    black_box(kept.modified_of(&scatter(n)));
                })
            }),
            ("reading the thousand rows", &mut |_| {
                timed(&|n| {
                    let rows = kept.index(Kept::BY_GROUP).get(&((n % 1_000) as u32));
                    black_box(rows.map(|row| row.body[3]).sum::<u64>());
                })
            }),
        ],
    );
    let mut file = Vec::new();
    db.read().save(&mut file).expect("memory does not fail");
    let db = Db::builder().table::<Job>().table::<Kept>().load(file.as_slice());
    let db = db.expect("what was saved loads");
    drop(file);
    let snap = db.read();
    let kept = snap.table::<Kept>();
    compare(
        "the same, right after a restore",
        "none",
        scale,
        &mut [
            ("one value with a thousand rows", &mut |_| {
                timed(&|n| {
                    black_box(kept.index(Kept::BY_GROUP).modified_of(&((n % 1_000) as u32)));
                })
            }),
            ("reading the thousand rows", &mut |_| {
                timed(&|n| {
                    let rows = kept.index(Kept::BY_GROUP).get(&((n % 1_000) as u32));
                    black_box(rows.map(|row| row.body[3]).sum::<u64>());
                })
            }),
        ],
    );
}

fn allocation(n: u64, round: u64) -> Allocation {
    Allocation {
        id: scatter(n),
        name: format!("job-{n}"),
        node: (n % 1_000) as u32,
        state: ((n + round) % 4) as u8,
        payload: "x".repeat(190),
    }
}

/// What it costs to keep digests, and what it saves to have kept them.
fn digests(scale: &Scale) {
    let filled = |builder: Builder| {
        let db = builder.table::<Allocation>().build().expect("the schema is sound");
        let mut txn = db.write();
        let rows = (0..scale.rows).map(|n| allocation(n, 0));
        txn.table_mut().insert_all(rows).expect("rows are distinct");
        txn.commit();
        db
    };
    let (bare, keeping) = (filled(Db::builder()), filled(Db::builder().keep_digests()));
    let upsert_one = |db: &Db, seed: u64| {
        let rows = (0..scale.commits).map(|n| scatter(n + seed * scale.commits) % scale.rows);
        let rows: Vec<_> = rows.map(|n| allocation(n, seed)).collect();
        let started = Instant::now();
        for row in rows {
            let mut txn = db.write();
            txn.upsert(row).expect("names are those of ids");
            black_box(txn.commit());
        }
        started.elapsed().as_nanos() as f64 / scale.commits as f64
    };
    compare(
        "upsert and commit of one row of 250 bytes with three indexes",
        "none",
        scale,
        &mut [
            ("without digests", &mut |seed| upsert_one(&bare, seed)),
            ("with digests that are kept", &mut |seed| upsert_one(&keeping, seed)),
        ],
    );
    let asked = |db: &Db| {
        let started = Instant::now();
        let digests = db.digests().expect("every row can be encoded");
        black_box(digests);
        started.elapsed().as_nanos() as f64
    };
    compare(
        "the digests of all rows",
        "none",
        scale,
        &mut [("added up", &mut |_| asked(&bare)), ("kept", &mut |_| asked(&keeping))],
    );
    let tables = |db: &Db| db.digests().map(|digests| digests.tables);
    assert_eq!(tables(&keeping), tables(&bare));
}

fn main() {
    // `cargo bench` says so; the tests run this too, and not optimised.
    let is_asked = |what: &str| std::env::args().any(|argument| argument == what);
    let is_test = !is_asked("--bench") || is_asked("--test");
    let scale = if is_test { &SMALL } else { &FULL };
    watches(scale);
    wakes(scale);
    feeds(scale);
    differences(scale);
    transacts(scale);
    latency(scale);
    revisions(scale);
    digests(scale);
}
