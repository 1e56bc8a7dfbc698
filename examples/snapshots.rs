//! Snapshot files: save, look into, load, and what happens to a damaged one.
//!
//! `cargo run --example snapshots`

use anyhow::{Result, ensure};
use fsmdb::{Db, Progress, SaveOptions, Table};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "readings", version = 1)]
struct Reading {
    #[key]
    sensor: String,
    #[key]
    at: u64,
    #[index]
    unit: String,
    value: f64,
}

fn database() -> Result<Db> {
    Ok(Db::builder().table::<Reading>().build()?)
}

fn main() -> Result<()> {
    let db = database()?;
    let mut txn = db.write();
    for at in 0..10_000 {
        let sensor = format!("sensor-{}", at % 7);
        txn.insert(Reading { sensor, at, unit: "celsius".into(), value: at as f64 / 10.0 })?;
    }
    txn.commit();

    let mut file = Vec::new();
    let options = SaveOptions::new().progress(|progress| {
        if progress.rows == progress.rows_total {
            println!("saved {} rows in {} bytes", progress.rows, progress.bytes);
        }
        Progress::CONTINUE
    });
    db.read().save_with(&mut file, options)?;
    print!("{}", fsmdb::inspect(file.as_slice())?);

    let copy = Db::builder().table::<Reading>().load(file.as_slice())?;
    let mut again = Vec::new();
    copy.read().save(&mut again)?;
    ensure!(file == again, "equal states give equal bytes");
    println!("loading and saving again gives the same bytes");

    let middle = file.len() / 2;
    file[middle] ^= 1;
    let refused = db.restore(file.as_slice()).unwrap_err();
    println!("one flipped bit: {refused}");
    ensure!(db.read().table::<Reading>().len() == 10_000, "a refused file changes nothing");

    let sensor = db.read().table::<Reading>().prefix(&("sensor-3",)).count();
    println!("sensor-3 has {sensor} readings");
    Ok(())
}
