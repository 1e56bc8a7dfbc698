//! Time of one applied entry in a small and in a large database.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, ensure};
use tokio::runtime::Runtime;

use crate::inside::Counts;
use crate::kv;
use crate::load::{self, Ask, Plan};
use crate::replica::Local;
use crate::report::median;

/// Compares the time of one applied entry at 10 000 rows and at many.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Rows of the large database.
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Clients that put; they fill the groups that are applied.
    #[arg(long, default_value_t = 128)]
    clients: usize,
    /// Seconds of each run.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// How often both are run in turn; medians are printed.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The folder, of a real disk, under which the data goes; the system's for temporary files.
    #[arg(long)]
    folder: Option<PathBuf>,
}

/// Rows of the small database.
const SMALL: u64 = 10_000;
/// No snapshot is built beside a run.
const NO_SNAPSHOTS: u64 = 1 << 40;

/// Measures and prints.
pub(crate) fn run(arguments: &Arguments, runtime: &Runtime) -> Result<()> {
    let folder = match &arguments.folder {
        Some(folder) => tempfile::tempdir_in(folder)?,
        None => tempfile::tempdir()?,
    };
    let mut nodes = Vec::new();
    for (name, rows) in [("small", SMALL), ("large", arguments.rows)] {
        let node = runtime.block_on(kv::alone(&folder.path().join(name), NO_SNAPSHOTS))?;
        runtime.block_on(kv::fill(&node, rows))?;
        nodes.push((rows, Arc::new(Local(node)), Vec::new()));
    }
    let mut number = 0;
    for _ in 0..arguments.rounds {
        for (rows, local, times) in &mut nodes {
            number += 1;
            let plan = Plan {
                ask: Ask::Put,
                clients: arguments.clients,
                milliseconds: (arguments.seconds * 1e3) as u64,
                keys: *rows,
                run: number,
            };
            let before = Counts::of(&local.0.metrics());
            runtime.block_on(load::run(local, plan))?;
            let after = Counts::of(&local.0.metrics());
            let (seconds, _) = after.since(&before, "apply_seconds");
            let (entries, groups) = after.since(&before, "apply_batch");
            ensure!(entries > 0.0, "nothing was applied");
            println!(
                "{rows} rows: {:.2} us an entry, {:.1} entries a group",
                seconds / entries * 1e6,
                entries / groups
            );
            times.push(seconds / entries);
        }
    }
    let of = |n: usize| median(nodes[n].2.iter().copied());
    let (small, large) = (of(0), of(1));
    println!("medians: {:.2} us at {SMALL} rows", small * 1e6);
    println!("         {:.2} us at {} rows", large * 1e6, arguments.rows);
    println!("         {:.2} times as long", large / small);
    Ok(())
}
