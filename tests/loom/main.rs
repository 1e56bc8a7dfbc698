//! Every interleaving, within a bound of pre-emptions, of the threads that share a database.
//!
//! `RUSTFLAGS="--cfg fsmdb_loom" cargo test --release --no-default-features --features derive
//! --test loom`; `LOOM_MAX_PREEMPTIONS` raises the bound from 3.
//!
//! Under this cfg the published root stands in a modelled lock (see `src/root.rs`), so the models
//! are of the protocol above the cell: who holds the writer, what is published when, what readers
//! and handles see of it, and who is told. Rows and tree nodes never change once published, and
//! stay out. In the models of the engine rows carry a modelled cell (`traced.rs`).
//!
//! A model knows no time: a wait with a timeout looks and returns, one without is a real one, and a
//! wake that is missed is a deadlock, which `loom` reports.

#![cfg(fsmdb_loom)]

mod commits;
mod engine;
mod feeds;
#[path = "../interleavings/rows.rs"]
mod rows;
mod traced;
mod watches;

use fsmdb::{Db, Revision, Snapshot};

use rows::{assert_no_row_is_left, content, database, file_of, put};

fn model(body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(3);
    // Not of the model.
    let executions = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counter = executions.clone();
    builder.check(move || {
        counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        body();
        assert_no_row_is_left();
    });
    println!("{} executions", executions.load(std::sync::atomic::Ordering::Relaxed));
}

/// Writes the same value to both tables.
fn commit(db: &Db, value: u8) -> Revision {
    let mut txn = db.write();
    put(&mut txn, 0, value);
    txn.commit()
}

/// The value, which both tables and the index must agree on.
fn value(snap: &Snapshot) -> u8 {
    content(snap).first().map_or(0, |(_, value)| *value)
}

/// A snapshot file of a database of its own.
fn file_with(value: u8) -> Vec<u8> {
    let db = database();
    commit(&db, value);
    file_of(&db)
}
