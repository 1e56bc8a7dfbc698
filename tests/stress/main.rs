//! One writer, several readers, a watcher and a feed at full speed on the public interface.
//!
//! `FSMDB_STRESS_SECONDS` says for how long (2 unless told), `FSMDB_STRESS_SEED` where the draws
//! begin. The time is cut into rounds; each has a database of its own, which is dropped while
//! snapshots and row handles of it are still held. In the end no row may be left.

#![cfg(feature = "derive")]
#![expect(clippy::disallowed_methods, reason = "a test may read the clock; the library may not")]

mod draw;
mod follower;
mod reader;
mod rows;
mod writer;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use fsmdb::{Db, Snapshot};

use draw::Draw;
use follower::Follower;
use reader::Held;
use rows::{Digest, Item, Total, live};
use writer::Writer;

/// What the threads of one round share.
pub(crate) struct Round {
    pub(crate) is_over: AtomicBool,
    /// Restores that have begun, and those that have ended.
    pub(crate) restores: AtomicU64,
    /// Views of the running transaction, for the readers to take.
    pub(crate) views: Mutex<Vec<(Snapshot, Digest)>>,
}

/// Says the seed when the test fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("failed with FSMDB_STRESS_SEED={}", self.0);
        }
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text}")))
}

/// One database from its beginning to beyond its end; gives the number of transactions.
fn round(draw: &mut Draw, time: Duration) -> u64 {
    let deadline = Instant::now() + time;
    let (is_over, restores) = (AtomicBool::new(false), AtomicU64::new(0));
    let shared = Round { is_over, restores, views: Mutex::default() };
    let db = Db::builder().table::<Item>().table::<Total>().build().expect("the schema is sound");
    let readers = 3 + draw.below(2);
    let seeds: Vec<_> = (0..readers).map(|_| draw.next()).collect();
    let mut writer = Writer::new(Draw::new(draw.next()), &shared);

    let mut held: Vec<Held> = thread::scope(|scope| {
        let threads: Vec<_> = seeds
            .into_iter()
            .map(|seed| (db.clone(), Held::new(Draw::new(seed))))
            .map(|(db, held)| scope.spawn(|| held.read_on(db, &shared)))
            .collect();
        scope.spawn(|| follower::watch_on(&db, &shared));
        scope.spawn(|| Follower::follow_on(&db, &shared));
        // The readers stop also when the writer panics.
        let over = Over(&shared.is_over);
        while Instant::now() < deadline {
            writer.step(&db);
        }
        drop(over);
        threads.into_iter().map(|thread| thread.join().expect("a reader found nothing")).collect()
    });
    let count = writer.end();
    let mut views = shared.views.into_inner().expect("nobody panicked");
    db.check().expect("the database is whole");
    drop(db);

    // The snapshots live on without their database, and are dropped by several threads at once.
    held[0].take(&mut views);
    let handles: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = held.into_iter().map(|held| scope.spawn(|| held.end())).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("nothing was lost")).collect()
    });
    // And the handles live on without any snapshot.
    handles.iter().for_each(|row| row.verify());
    let ids: std::collections::BTreeSet<_> = handles.iter().map(|row| &raw const **row).collect();
    assert_eq!(live(), ids.len() as i64, "rows that no handle holds are left");
    drop(handles);
    assert_eq!(live(), 0, "rows are left, or were dropped twice");
    count
}

/// Ends the round.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn readers_and_a_writer_at_full_speed() {
    let seconds = number("FSMDB_STRESS_SECONDS").unwrap_or(2);
    let seed = number("FSMDB_STRESS_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.map_or(1, |since| since.as_nanos() as u64)
    });
    let seed = Seed(seed);
    let mut draw = Draw::new(seed.0);
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut rounds, mut transactions) = (0, 0);
    while Instant::now() < end {
        let left = end.saturating_duration_since(Instant::now());
        let time = Duration::from_millis(draw.spread(8192)).min(left);
        transactions += round(&mut draw, time);
        rounds += 1;
    }
    println!("{rounds} rounds, {transactions} transactions");
}
