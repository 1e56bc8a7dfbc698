//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// fsmdb beside its peers: measures, prints tables, draws plots.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Turns the JSON lines of a run into Markdown: figures, ratios, and bars met or missed.
    Results {
        /// JSON lines of one or more runs; a later line replaces an earlier one.
        file: PathBuf,
    },
    /// Draws one SVG for each operation of a run.
    Plot {
        /// JSON lines of one or more runs; a later line replaces an earlier one.
        file: PathBuf,
        /// The folder to write to.
        #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../plots"))]
        out: PathBuf,
    },
    /// Measures one engine in this process; the runner starts these.
    #[command(hide = true)]
    Worker(WorkerArgs),
}

#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// One JSON object a line instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
    /// 20,000 rows, few samples, one round: says that everything works, not how fast it is.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Rows; may be given several times. [default: 1000000 and 100000]
    #[arg(long = "n", value_name = "ROWS", value_parser = clap::value_parser!(u32).range(10_000..))]
    pub(crate) sizes: Vec<u32>,
    /// Engines, by name. [default: all]
    #[arg(long, value_delimiter = ',')]
    pub(crate) engines: Vec<String>,
    /// Operations, by name; `memory` and `allocs` name groups. [default: all]
    #[arg(long, value_delimiter = ',')]
    pub(crate) ops: Vec<String>,
    /// Processes for each engine and allocator. [default: 3, quick: 1]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: Option<u32>,
    /// Weighs memory and counts allocations, and times nothing.
    #[arg(long)]
    pub(crate) memory: bool,
}

#[derive(Args, Debug)]
pub(crate) struct WorkerArgs {
    #[arg(long)]
    pub(crate) engine: String,
    #[arg(long = "n")]
    pub(crate) rows: usize,
    #[arg(long, value_delimiter = ',')]
    pub(crate) ops: Vec<String>,
    #[arg(long)]
    pub(crate) quick: bool,
}
