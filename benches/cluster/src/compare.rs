//! Runs the same clients against both groups in turn, and what that gives.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::runtime::Runtime;

use crate::etcd::Etcd;
use crate::group::{Group, Place};
use crate::load::{self, Ask, KEYS, Plan, Sample};
use crate::report::{Report, Row};

/// Replicas of each group.
const REPLICAS: usize = 3;
/// What clients ask, where they are at fsmdb, how many, and the bars: the ratio of calls in a
/// second that is reached at least, and that of median latencies at most.
type Case = (Ask, Place, usize, Option<f64>, Option<f64>);
/// What is measured.
const CASES: [Case; 13] = [
    (Ask::Put, Place::Leader, 1, Some(1.5), None),
    (Ask::Put, Place::Leader, 16, Some(4.0), Some(0.5)),
    (Ask::Put, Place::Leader, 128, Some(6.0), Some(0.5)),
    (Ask::Get, Place::Leader, 1, None, None),
    (Ask::Get, Place::Leader, 16, None, None),
    (Ask::Get, Place::Leader, 128, Some(4.0), None),
    (Ask::Stale, Place::Leader, 1, None, None),
    (Ask::Stale, Place::Leader, 16, None, None),
    (Ask::Stale, Place::Leader, 128, None, None),
    (Ask::Put, Place::Follower, 16, None, None),
    (Ask::Put, Place::Follower, 128, None, None),
    (Ask::Get, Place::Follower, 16, None, None),
    (Ask::Get, Place::Follower, 128, None, None),
];

/// Compares proposals and reads of three replicas each, run by run in turn.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The etcd server, which `install-etcd` fetches; without one fsmdb runs alone.
    #[arg(long)]
    etcd: Option<PathBuf>,
    /// Seconds of each run.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// How often everything is run; medians are printed.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// One round of short runs: does it work?
    #[arg(long)]
    quick: bool,
    /// Only cases whose words contain this: `put`, `put 16`, `get 128 follower`.
    #[arg(long, default_value = "")]
    only: String,
    /// Where everything that was measured goes, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// The folder, of a real disk, under which the data goes; the system's for temporary files.
    #[arg(long)]
    folder: Option<PathBuf>,
}

/// Both groups.
struct Groups {
    etcd: Option<Arc<Etcd>>,
    fsmdb: Group,
    milliseconds: u64,
    runs: u64,
}

impl Groups {
    fn plan(&mut self, ask: Ask, clients: usize) -> Plan {
        self.runs += 1;
        Plan { ask, clients, milliseconds: self.milliseconds, keys: KEYS, run: self.runs }
    }

    fn run_etcd(&mut self, row: &mut Row, runtime: &Runtime) -> Result<()> {
        let Some(etcd) = self.etcd.clone() else { return Ok(()) };
        let plan = self.plan(row.ask, row.clients);
        let sample = runtime.block_on(load::run(&etcd, plan)).context("etcd")?;
        row.etcd.push(sample);
        Ok(())
    }

    fn run_fsmdb(&mut self, row: &mut Row) -> Result<()> {
        let plan = self.plan(row.ask, row.clients);
        let sample: Sample = self.fsmdb.run(row.place, plan)?;
        row.fsmdb.push(sample);
        Ok(())
    }
}

/// Measures everything and prints the table.
pub(crate) fn run(arguments: &Arguments, runtime: &Runtime) -> Result<()> {
    let folder = match &arguments.folder {
        Some(folder) => tempfile::tempdir_in(folder)?,
        None => tempfile::tempdir()?,
    };
    let (seconds, rounds) =
        if arguments.quick { (0.3, 1) } else { (arguments.seconds, arguments.rounds) };
    let load_before = load_average();
    let etcd = match &arguments.etcd {
        Some(etcd) => {
            let etcd = Arc::new(runtime.block_on(Etcd::start(etcd, folder.path(), REPLICAS))?);
            runtime.block_on(load::fill(&etcd)).context("etcd")?;
            Some(etcd)
        }
        None => None,
    };
    let mut fsmdb = Group::start(folder.path(), REPLICAS)?;
    fsmdb.fill()?;
    let milliseconds = (seconds * 1e3) as u64;
    let mut groups = Groups { etcd, fsmdb, milliseconds, runs: 0 };
    let is_asked = |row: &Row| words(row).contains(&arguments.only);
    let mut rows: Vec<Row> = CASES.iter().map(row).filter(is_asked).collect();
    for round in 0..rounds {
        for row in &mut rows {
            eprintln!("round {round}: {}", words(row));
            // Neither is always the one that runs after the other.
            if round % 2 == 0 {
                groups.run_etcd(row, runtime)?;
                groups.run_fsmdb(row)?;
            } else {
                groups.run_fsmdb(row)?;
                groups.run_etcd(row, runtime)?;
            }
        }
    }
    let report = Report { seconds, rounds, load_before, load_after: load_average(), rows };
    print!("{report}");
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_vec_pretty(&report)?)?;
    }
    Ok(())
}

fn row(case: &Case) -> Row {
    let &(ask, place, clients, rate_bar, latency_bar) = case;
    Row { ask, place, clients, rate_bar, latency_bar, etcd: Vec::new(), fsmdb: Vec::new() }
}

fn words(row: &Row) -> String {
    format!("{:?} {} {:?}", row.ask, row.clients, row.place).to_lowercase()
}

/// How busy the machine is, where that can be read.
fn load_average() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned()
}
