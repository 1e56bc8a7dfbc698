//! Options and names that are given twice.

use fsmdb::Table;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Table)]
#[table(name = "jobs")]
#[index(name = "slot", on = (slot, id))]
struct Job {
    #[key]
    id: u64,
    #[index(unique, unique)]
    name: String,
    #[index(name = "a", name = "b")]
    owner: String,
    #[index]
    #[index(unique)]
    slot: u32,
    #[index(name = "slot")]
    other: u32,
}

fn main() {}
