//! `fold` on what is no string.

use fsmdb::Table;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Table)]
#[table(name = "jobs")]
#[index(name = "folded", on = (id, fold(count)))]
struct Job {
    #[key]
    id: u64,
    #[index(fold)]
    slot: u32,
    #[index(fold)]
    node: Option<u64>,
    #[index(multi, fold)]
    ports: Vec<u16>,
    count: u8,
}

fn main() {}
