//! fsmdb beside its peers: runs, tables and plots. See README.md.

mod allocator;
mod bars;
mod cli;
mod engine;
mod figures;
mod ops;
mod plan;
mod plot;
mod results;
mod row;
mod runner;
mod sampler;
mod worker;

use clap::Parser;

use crate::cli::{Cli, Command, RunArgs};
use crate::figures::Figure;

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    match cli.command {
        None => run(&cli.run),
        Some(Command::Worker(args)) => worker::run(&args.engine, args.rows, &args.ops, args.quick),
        Some(Command::Results { file }) => {
            print_tables(&figures::read(&file)?);
            Ok(())
        }
        Some(Command::Plot { file, out }) => plot::draw(&figures::read(&file)?, &out),
    }
}

fn run(args: &RunArgs) -> anyhow::Result<()> {
    runner::run(args, |samples| {
        let figures = figures::of(samples);
        if !args.json {
            print_tables(&figures);
            return Ok(());
        }
        for figure in &figures {
            println!("{}", serde_json::to_string(figure)?);
        }
        Ok(())
    })
}

fn print_tables(figures: &[Figure]) {
    print!("{}{}", results::markdown(figures), results::bars(figures));
}
