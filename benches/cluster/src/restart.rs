//! How long a node takes to come back: its log, its snapshot, the entries after it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use fsmdb::{Db, LoadOptions};
use fsmdb_node::storage::{DataDir, EngineLog, LogOptions, recover};
use fsmdb_node::with_tables;
use tokio::runtime::Runtime;

use crate::kv::{self, Pair};
use crate::load::{self, Service};
use crate::replica::Local;

/// Measures the restart of a node with a snapshot and a log.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Rows of the snapshot.
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Entries of the log after it.
    #[arg(long, default_value_t = 100_000)]
    entries: u64,
    /// How often the node is restarted.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The folder, of a real disk, under which the data goes; the system's for temporary files.
    #[arg(long)]
    folder: Option<PathBuf>,
}

/// Clients that write the log.
const WRITERS: u64 = 512;
/// No snapshot is built.
const NO_SNAPSHOTS: u64 = 1 << 40;
/// Entries until the snapshot is built: the first one after all rows are there.
const SOON: u64 = 1;

/// Measures and prints.
pub(crate) fn run(arguments: &Arguments, runtime: &Runtime) -> Result<()> {
    let folder = match &arguments.folder {
        Some(folder) => tempfile::tempdir_in(folder)?,
        None => tempfile::tempdir()?,
    };
    let path = folder.path().join("node");
    let last = runtime.block_on(prepare(&path, arguments))?;
    for _ in 0..arguments.rounds {
        by_phase(&path)?;
        let began = Instant::now();
        let node = runtime.block_on(async {
            let node = kv::begin(&path, NO_SNAPSHOTS)?;
            let started = began.elapsed().as_secs_f64();
            kv::until(&node, |status| status.raft.applied >= last).await?;
            let applied = began.elapsed().as_secs_f64();
            let replay = applied - started;
            println!("node: start {started:.2} s, replay {replay:.2} s, whole {applied:.2} s");
            anyhow::Ok(node)
        })?;
        let found = node.read_stale().table::<Pair>().len();
        ensure!(found as u64 == arguments.rows, "{found} rows after the restart");
        node.stop();
    }
    Ok(())
}

/// Makes the directory: a snapshot of all rows, and a log of entries after it. The last entry.
async fn prepare(path: &Path, arguments: &Arguments) -> Result<u64> {
    let node = kv::alone(path, NO_SNAPSHOTS).await?;
    kv::fill(&node, arguments.rows).await?;
    let filled = node.read_stale().applied().index;
    node.stop();
    drop(node);
    let node = kv::alone(path, SOON).await?;
    kv::until(&node, |status| status.snapshot_index >= filled).await?;
    node.stop();
    drop(node);
    let local = Arc::new(Local(kv::alone(path, NO_SNAPSHOTS).await?));
    let mut tasks = Vec::new();
    for writer in 0..WRITERS {
        let (local, rows) = (Arc::clone(&local), arguments.rows);
        let numbers = (writer..arguments.entries).step_by(WRITERS as usize);
        tasks.push(tokio::spawn(async move {
            for number in numbers {
                let key = number.wrapping_mul(7_919) % rows;
                local.put(0, key, load::value(key, 1)).await?;
            }
            anyhow::Ok(())
        }));
    }
    for task in tasks {
        task.await.context("a writer panicked")??;
    }
    let last = local.0.read_stale().applied().index;
    local.0.stop();
    Ok(last)
}

/// Does what a start does, phase by phase, and loads the file of the snapshot without a node.
fn by_phase(path: &Path) -> Result<()> {
    let began = Instant::now();
    let mut directory = DataDir::open(path, kv::identity(1), &kv::logger())?;
    let mut log = EngineLog::open(&mut directory, LogOptions::default())?;
    let opened = began.elapsed().as_secs_f64();
    let machine = kv::machine()?;
    let began = Instant::now();
    let recovered = recover(&directory, &mut log, &machine, LoadOptions::new)?;
    let loaded = began.elapsed().as_secs_f64();
    let file = directory.snapshots().path_of(&recovered.snapshot.reference)?;
    let megabytes = file.metadata()?.len() as f64 / 1e6;
    let entries = recovered.entries.len();
    println!("open log {opened:.2} s ({entries} entries), load snapshot {loaded:.2} s");
    drop((machine, recovered));
    let began = Instant::now();
    let tables = with_tables(Db::builder().table::<Pair>().keep_digests());
    let db = tables.load_path(&file, LoadOptions::new())?;
    let raw = began.elapsed().as_secs_f64();
    println!("Builder::load_path of the same {megabytes:.0} MB: {raw:.2} s");
    drop(db);
    Ok(())
}
