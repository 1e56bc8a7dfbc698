//! Options that `#[index(...)]` does not have, or not there.

use fsmdb::Table;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Table)]
#[table(name = "jobs")]
#[index(name = "by_name", on = (name), ascending)]
#[index(name = "by_owner", on = (owner), fold)]
#[index(name = "by_slot", on = (slot), descending)]
struct Job {
    #[key]
    id: u64,
    #[index(uniq)]
    name: String,
    #[index(on = (id, name))]
    owner: String,
    #[index(unique = true)]
    slot: u32,
    #[index(name(label))]
    label: String,
    #[index(with = path::to::nothing, key)]
    node: String,
    #[index = "zone"]
    zone: String,
}

fn main() {}
