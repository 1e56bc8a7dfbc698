//! Starts the processes that measure, one for each engine and allocator, engines taking turns.
//!
//! # Invariants
//!
//! 1. One process runs at a time, and no engine runs twice before each other engine ran once: a
//!    disturbance of minutes falls on all of them.
//! 2. Operations that count memory run in processes of their own, because counting takes time.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use crate::allocator;
use crate::cli::RunArgs;
use crate::ops;
use crate::sampler::Sample;

/// The engines, in the order of tables.
pub(crate) const ENGINES: &[&str] = &[
    "fsmdb",
    "imbl",
    "im",
    "vart",
    "concread",
    "memdb",
    "skiplist",
    "btreemap",
    "bare-rows",
    "arc-swap",
];

/// The engine that is written in Go, and how its keys can be given to its radix tree.
const MEMDB: &str = "memdb";
const MEMDB_VARIANTS: &[&str] = &["go-raw", "go-hex"];

/// The label of processes that count.
const MEMORY: &str = "memory";

const ALLOCATORS: &[&str] = &["glibc", "mimalloc"];

const QUICK_ROWS: usize = 20_000;
const ROWS: &[usize] = &[1_000_000, 100_000];

/// Runs everything that `args` ask for, and hands the samples of each size to `report`.
///
/// A process that fails is reported at once and as an error at the end; the others go on.
pub(crate) fn run(
    args: &RunArgs,
    mut report: impl FnMut(Vec<Sample>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut engines = chosen(&args.engines, ENGINES, "engine")?;
    let mut known: Vec<&str> = [ops::PRIMARY, ops::LOADS, ops::TRIPLE, ops::MEMORY].concat();
    known.extend(["memory", "allocs"]);
    chosen(&args.ops, &known, "operation")?;
    let memdb = if engines.contains(&MEMDB) { build_memdb()? } else { None };
    if memdb.is_none() {
        engines.retain(|engine| *engine != MEMDB);
    }
    let sizes = match (&args.sizes[..], args.quick) {
        ([], true) => vec![QUICK_ROWS],
        ([], false) => ROWS.to_vec(),
        (sizes, _) => sizes.iter().map(|size| *size as usize).collect(),
    };
    let rounds = args.rounds.unwrap_or(if args.quick { 1 } else { 3 });
    let mut runner = Runner { args, engines, memdb, samples: Vec::new(), failures: 0 };
    for n in sizes {
        if runner.times() {
            for round in 1..=rounds {
                runner.round(n, &format!("round {round} of {rounds}"));
            }
        }
        if runner.counts() {
            runner.count(n);
        }
        report(std::mem::take(&mut runner.samples))?;
    }
    ensure!(runner.failures == 0, "{} processes failed", runner.failures);
    Ok(())
}

/// The names in `asked`, or all when there are none.
fn chosen<'a>(asked: &[String], known: &[&'a str], what: &str) -> anyhow::Result<Vec<&'a str>> {
    if asked.is_empty() {
        return Ok(known.to_vec());
    }
    let find = |name: &String| {
        let found = known.iter().copied().find(|known| known == name);
        found.with_context(|| format!("no {what} is called {name}; there are {}", known.join(", ")))
    };
    asked.iter().map(find).collect()
}

struct Runner<'a> {
    args: &'a RunArgs,
    engines: Vec<&'a str>,
    memdb: Option<PathBuf>,
    samples: Vec<Sample>,
    failures: usize,
}

impl Runner<'_> {
    fn is_counted(op: &str) -> bool {
        op.starts_with("memory") || op == "allocs"
    }

    fn times(&self) -> bool {
        let asked = &self.args.ops;
        !self.args.memory && (asked.is_empty() || asked.iter().any(|op| !Self::is_counted(op)))
    }

    fn counts(&self) -> bool {
        let asked = &self.args.ops;
        self.args.memory || asked.is_empty() || asked.iter().any(|op| Self::is_counted(op))
    }

    /// One process for each engine and allocator.
    fn round(&mut self, n: usize, label: &str) {
        // The allocators take turns outside the engines, so that the two processes of one engine
        // are not neighbours.
        for at in 0..ALLOCATORS.len() {
            for engine in self.engines.clone() {
                let variant = if engine == MEMDB { MEMDB_VARIANTS[at] } else { ALLOCATORS[at] };
                self.process(engine, variant, n, label);
            }
        }
    }

    /// One process that counts for each engine.
    fn count(&mut self, n: usize) {
        for engine in self.engines.clone() {
            let variants = if engine == MEMDB { MEMDB_VARIANTS } else { &["counting"] };
            for variant in variants {
                self.process(engine, variant, n, MEMORY);
            }
        }
    }

    fn process(&mut self, engine: &str, variant: &str, n: usize, label: &str) {
        eprintln!("{label}: {n} rows, {engine}, {variant}");
        match self.measure(engine, variant, n, label == MEMORY) {
            Ok(samples) => self.samples.extend(samples),
            Err(error) => {
                eprintln!("{error:#}");
                self.failures += 1;
            }
        }
    }

    fn measure(
        &self,
        engine: &str,
        variant: &str,
        n: usize,
        counting: bool,
    ) -> anyhow::Result<Vec<Sample>> {
        let mut command = match &self.memdb {
            Some(memdb) if engine == MEMDB => {
                let mut command = Command::new(memdb);
                command.args(["--keys", variant]).args(counting.then_some("--memory"));
                command
            }
            _ => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["worker", "--engine", engine]).env(allocator::VARIABLE, variant);
                command
            }
        };
        command.arg("--n").arg(n.to_string());
        command.args(self.args.quick.then_some("--quick"));
        if !self.args.ops.is_empty() {
            command.arg("--ops").arg(self.args.ops.join(","));
        }
        collect(&mut command).with_context(|| format!("{engine} under {variant}"))
    }
}

/// The samples that `command` prints.
fn collect(command: &mut Command) -> anyhow::Result<Vec<Sample>> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().context("the output was piped")?;
    let mut samples = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line?;
        samples.push(serde_json::from_str(&line).with_context(|| line.clone())?);
    }
    let status = child.wait()?;
    ensure!(status.success(), "the process ended with {status}");
    Ok(samples)
}

/// The harness of go-memdb, built now; `None` where there is no Go, or no go-memdb.
fn build_memdb() -> anyhow::Result<Option<PathBuf>> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let built = home.join("target/memdb");
    let mut build = Command::new(home.join("go/build.sh"));
    match build.arg(&built).stdout(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(Some(built)),
        Ok(status) if status.code() == Some(3) => {
            eprintln!("memdb is left out: there is no Go here (go/install.sh installs it)");
            Ok(None)
        }
        Ok(status) => {
            eprintln!("memdb is left out: go/build.sh ended with {status}");
            Ok(None)
        }
        Err(error) => Err(error).context("go/build.sh"),
    }
}
