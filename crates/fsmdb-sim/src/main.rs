//! The command line of the simulator: many seeds, one seed, or all planted bugs.

#![forbid(unsafe_code)]

use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use fsmdb_sim::limits::{MUTANT_SEEDS_MAX, ROUNDS_DEFAULT};
use fsmdb_sim::{Counts, Mutant, Outcome, Plan, run};

/// Runs the replicated state machine of fsmdb under seeded faults.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// Run these seeds, as `A..B`; 0..200 when nothing else is asked for.
    #[arg(long, value_parser = seeds, conflicts_with = "seed")]
    seeds: Option<Range<u64>>,
    /// Run this seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Print every event.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Faults of one run.
    #[arg(long, default_value_t = ROUNDS_DEFAULT)]
    steps: u64,
    /// Plant each bug in turn and run seeds until it is found.
    #[arg(long, conflicts_with_all = ["seed", "mutant"])]
    mutants: bool,
    /// With --mutants: write what was found to this file, a line for each, as tests/found.txt has
    /// it.
    #[arg(long, requires = "mutants")]
    found: Option<PathBuf>,
    /// Plant this bug.
    #[arg(long)]
    mutant: Option<Mutant>,
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let parts = text
        .split_once("..")
        .and_then(|(from, to)| Some(from.trim().parse().ok()?..to.trim().parse().ok()?));
    parts.filter(|seeds: &Range<u64>| !seeds.is_empty()).ok_or_else(|| "expected A..B".to_owned())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // What panics is told as a violation, with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    let is_good = if arguments.mutants { run_mutants(&arguments) } else { run_seeds(&arguments) };
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::disallowed_methods, reason = "how long a person waited is told, nothing else")]
fn now() -> Instant {
    Instant::now()
}

/// Runs seeds up to the first that fails; says whether none did.
fn run_seeds(arguments: &Arguments) -> bool {
    let seeds = match (arguments.seed, &arguments.seeds) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(seeds)) => seeds.clone(),
        (None, None) => 0..200,
    };
    let begin = now();
    let mut total = Counts::default();
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let outcome = run(&plan(arguments, seed, arguments.mutant));
        total += outcome.counts;
        if count == 1 {
            println!("trace of seed {seed}: {:016x}", outcome.trace);
        }
        if let Some(violation) = &outcome.violation {
            println!("seed {seed} fails: {violation}\n{}", replay(arguments, seed));
            return false;
        }
    }
    println!("{count} seeds of {} steps in {:.1?}\n{total}", arguments.steps, begin.elapsed());
    true
}

fn plan(arguments: &Arguments, seed: u64, mutant: Option<Mutant>) -> Plan {
    Plan { seed, rounds: arguments.steps, mutant, prints: arguments.trace }
}

fn replay(arguments: &Arguments, seed: u64) -> String {
    let mut line = format!("replay: cargo run --release -p fsmdb-sim -- --seed {seed}");
    if arguments.steps != ROUNDS_DEFAULT {
        line += &format!(" --steps {}", arguments.steps);
    }
    if let Some(mutant) = arguments.mutant {
        line += &format!(" --mutant {mutant}");
    }
    line
}

/// Plants each bug and looks for the first seed that finds it; then the same seeds without it. Says
/// whether every bug was found and nothing else.
fn run_mutants(arguments: &Arguments) -> bool {
    let seeds = arguments.seeds.clone().unwrap_or(0..MUTANT_SEEDS_MAX);
    println!("{:<28} {:>6} {:>8}  check", "planted bug", "seed", "seconds");
    let (mut highest, mut is_good, mut lines) = (seeds.start, true, String::new());
    for &mutant in Mutant::ALL {
        let begin = now();
        let found = seeds.clone().find_map(|seed| {
            let outcome: Outcome = run(&plan(arguments, seed, Some(mutant)));
            outcome.violation.map(|violation| (seed, violation))
        });
        let seconds = begin.elapsed().as_secs_f64();
        match found {
            Some((seed, violation)) => {
                highest = highest.max(seed + 1);
                lines += &format!("{mutant} {seed}\n");
                println!("{mutant:<28} {seed:>6} {seconds:>8.2}  {}", violation.check);
            }
            None => {
                is_good = false;
                println!("{mutant:<28} {:>6} {seconds:>8.2}  NOT FOUND", "-");
            }
        }
    }
    let failed = (seeds.start..highest).find_map(|seed| {
        let violation = run(&plan(arguments, seed, None)).violation?;
        Some((seed, violation))
    });
    if let Some((seed, violation)) = failed {
        println!(
            "seed {seed} fails without a planted bug: {violation}\n{}",
            replay(arguments, seed)
        );
        return false;
    }
    println!("without a planted bug the seeds {}..{highest} pass", seeds.start);
    let written = arguments.found.as_ref().map_or(Ok(()), |path| fs::write(path, lines));
    if let Err(error) = &written {
        println!("what was found cannot be written: {error}");
    }
    is_good && written.is_ok()
}
