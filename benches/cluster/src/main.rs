//! fsmdb-node beside etcd: three processes each on loopback, fsync on, closed-loop clients.

mod apply;
mod compare;
mod etcd;
mod group;
mod inside;
mod kv;
mod load;
mod ports;
mod replica;
mod report;
mod restart;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Measures fsmdb-node, beside etcd where both do the same.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    task: Option<Task>,
    #[command(flatten)]
    compare: compare::Arguments,
}

#[derive(Debug, Subcommand)]
enum Task {
    Apply(apply::Arguments),
    Restart(restart::Arguments),
    Replica(replica::Arguments),
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Runtime::new()?;
    match arguments.task {
        None => compare::run(&arguments.compare, &runtime),
        Some(Task::Apply(apply)) => apply::run(&apply, &runtime),
        Some(Task::Restart(restart)) => restart::run(&restart, &runtime),
        Some(Task::Replica(replica)) => replica::run(replica, &runtime),
    }
}
