//! The operations a user feels, on one table of 100,000 rows with three indexes; the difference of
//! two versions, on one of a million.
//!
//! `cargo bench --bench core`; `-- --test` runs each once.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use fsmdb::{Db, Table};
use serde::{Deserialize, Serialize};

const ROWS: u64 = 100_000;

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

/// Spreads consecutive numbers over the whole range, the same in every run.
fn scatter(n: u64) -> u64 {
    n.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn allocation(n: u64) -> Allocation {
    Allocation {
        id: scatter(n),
        name: format!("job-{n}"),
        node: (n % 1000) as u32,
        state: (n % 4) as u8,
        payload: "x".repeat(150),
    }
}

fn filled() -> Db {
    let db = Db::builder().table::<Allocation>().build().expect("the schema is sound");
    let mut txn = db.write();
    for n in 0..ROWS {
        txn.insert(allocation(n)).expect("rows are distinct");
    }
    txn.commit();
    db
}

fn reads(c: &mut Criterion) {
    let db = filled();
    let snap = db.read();
    let mut n = 0;
    let mut next = || {
        n = (n + 7919) % ROWS;
        n
    };
    c.bench_function("snapshot take and drop", |b| b.iter(|| black_box(db.read())));
    c.bench_function("get by primary key", |b| {
        b.iter(|| black_box(snap.table::<Allocation>().get(&scatter(next())).unwrap().state));
    });
    c.bench_function("get by unique index", |b| {
        b.iter_batched(
            || format!("job-{}", next()),
            |name| {
                let index = snap.table::<Allocation>().index(Allocation::BY_NAME);
                black_box(index.get(name.as_str()).unwrap().state)
            },
            BatchSize::SmallInput,
        );
    });
    c.bench_function("all 100 rows of one index value", |b| {
        b.iter(|| {
            let index = snap.table::<Allocation>().index(Allocation::BY_NODE);
            black_box(index.get(&7_u32).map(|row| u64::from(row.state)).sum::<u64>())
        });
    });
}

fn writes(c: &mut Criterion) {
    let db = filled();
    let mut n = 0;
    c.bench_function("update of one row in one transaction", |b| {
        b.iter(|| {
            n = (n + 7919) % ROWS;
            let mut txn = db.write();
            let mut table = txn.table_mut::<Allocation>();
            table.update(&scatter(n), |row| row.state = (row.state + 1) % 4).expect("it exists");
            txn.commit()
        });
    });
    c.bench_function("update of 100 rows in one transaction", |b| {
        b.iter(|| {
            let mut txn = db.write();
            for _ in 0..100 {
                n = (n + 7919) % ROWS;
                let mut table = txn.table_mut::<Allocation>();
                table.update(&scatter(n), |row| row.state ^= 1).expect("it exists");
            }
            txn.commit()
        });
    });
}

fn forks(c: &mut Criterion) {
    let db = filled();
    let snap = db.read();
    let mut n = 0;
    c.bench_function("fork_10_upserts_drop", |b| {
        b.iter(|| {
            let mut fork = snap.fork();
            let mut table = fork.table_mut::<Allocation>();
            for _ in 0..10 {
                n = (n + 7919) % ROWS;
                table.upsert(allocation(n)).expect("names are distinct");
            }
        });
    });
    let mut commit = |b: &mut criterion::Bencher<'_>| {
        b.iter(|| {
            n = (n + 7919) % ROWS;
            let mut txn = db.write();
            txn.upsert(allocation(n)).expect("names are distinct");
            txn.commit()
        });
    };
    c.bench_function("upsert of one row, committed", &mut commit);
    // The others say what of it is due to the machine's cores, and to the caches that anybody who
    // reads the same rows takes from the writer.
    let other = filled();
    let cases: [(&str, &Db, fn(&Db)); 3] = [
        ("a fork of 10,000 upserts", &db, plan),
        ("a fork of another database", &other, plan),
        ("a reader of the same rows", &db, look),
    ];
    for (beside, db, work) in cases {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    work(db);
                }
            });
            let name = format!("upsert of one row, committed beside {beside}");
            c.bench_function(&name, &mut commit);
            stop.store(true, Ordering::Relaxed);
        });
    }
}

/// Writes every tenth row in a fork.
fn plan(db: &Db) {
    let mut fork = db.read().fork();
    for n in (0..ROWS).step_by(10) {
        fork.upsert(allocation(n)).expect("names are distinct");
    }
}

/// Reads every tenth row by its key, its name and its node.
fn look(db: &Db) {
    let snap = db.read();
    let table = snap.table::<Allocation>();
    for n in (0..ROWS).step_by(10) {
        black_box(table.get(&scatter(n)).map(|row| row.state));
        black_box(table.index(Allocation::BY_NAME).get(&format!("job-{n}")).map(|row| row.state));
        black_box(table.index(Allocation::BY_NODE).get(&((n % 1000) as u32)).last().is_some());
    }
}

fn files(c: &mut Criterion) {
    let db = filled();
    let mut file = Vec::new();
    db.read().save(&mut file).expect("memory does not fail");
    let mut group = c.benchmark_group("snapshot file");
    group.sample_size(10);
    group.bench_function("save 100,000 rows", |b| {
        b.iter(|| db.read().save(&mut std::io::sink()).expect("nothing fails"));
    });
    group.bench_function("load 100,000 rows with three indexes", |b| {
        b.iter(|| {
            let builder = Db::builder().table::<Allocation>();
            builder.load(file.as_slice()).expect("the file is sound")
        });
    });
    group.finish();
}

#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "leases")]
struct Lease {
    #[key]
    id: u64,
    until: u64,
}

/// Two versions of a table of a million rows that differ in ten, found and read in full.
fn differences(c: &mut Criterion) {
    const LEASES: u64 = 1_000_000;
    let db = Db::builder().table::<Lease>().build().expect("the schema is sound");
    let mut txn = db.write();
    for n in 0..LEASES {
        txn.insert(Lease { id: scatter(n), until: n }).expect("rows are distinct");
    }
    txn.commit();
    let older = db.read();
    for n in 0..10 {
        let mut txn = db.write();
        let mut table = txn.table_mut::<Lease>();
        table.update(&scatter(n * 99_991), |row| row.until += 1).expect("it exists");
        txn.commit();
    }
    let newer = db.read();
    let mut group = c.benchmark_group("1,000,000 rows");
    group.bench_function("scan that reads every row", |b| {
        b.iter(|| black_box(newer.table::<Lease>().iter().map(|row| row.until).sum::<u64>()));
    });
    group.bench_function("difference of ten rows", |b| {
        b.iter(|| {
            let found = newer.diff::<Lease>(&older).filter_map(|found| found.after());
            black_box(found.map(|row| row.until).sum::<u64>())
        });
    });
    group.bench_function("difference of none", |b| {
        b.iter(|| black_box(older.diff::<Lease>(&older).count()));
    });
    group.finish();
}

criterion_group!(benches, reads, writes, forks, files, differences);
criterion_main!(benches);
