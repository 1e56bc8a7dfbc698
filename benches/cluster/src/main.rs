//! fsmdb-node beside etcd: three processes each on loopback, fsync on, closed-loop clients.

mod etcd;
mod load;
mod ports;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;

use crate::etcd::Etcd;
use crate::load::Ask;

/// Measures proposals and reads of fsmdb-node and etcd, alternately.
#[derive(Debug, Parser)]
struct Arguments {
    /// The etcd server; `install-etcd` fetches one.
    #[arg(long, default_value = "target/etcd/etcd")]
    etcd: PathBuf,
    /// How many clients ask at the same time.
    #[arg(long, value_delimiter = ',', default_value = "1,16,128")]
    clients: Vec<usize>,
    /// Seconds of each run.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let folder = tempfile::tempdir()?;
    let etcd = Arc::new(Etcd::start(&arguments.etcd, folder.path(), 3).await?);
    let time = Duration::from_secs(arguments.seconds);
    for ask in [Ask::Put, Ask::Get, Ask::Stale] {
        for clients in &arguments.clients {
            let sample = load::run(&etcd, ask, *clients, time).await?;
            println!("etcd {ask:?} {clients}: {sample:?}");
        }
    }
    Ok(())
}
