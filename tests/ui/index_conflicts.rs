//! Options that do not go together.

use fsmdb::Table;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Table)]
#[table(name = "jobs")]
#[index(name = "a", on = (name, slot), with = Job::slots, key = u64)]
#[index(name = "b", on = (name, slot), multi)]
#[index(name = "c", on = (name, slot), key = u64)]
#[index(name = "d")]
#[index(name = "e", with = Job::slots)]
struct Job {
    #[key]
    id: u64,
    #[index(with = str::len)]
    name: String,
    #[index(key = u64)]
    slot: u64,
    #[index(optional)]
    node: Option<u64>,
    #[index(with = str::len, key = usize, multi, optional)]
    owner: String,
    #[index(with = str::len, key = usize, fold)]
    zone: String,
    #[index(with = str::len, key = usize, descending)]
    region: String,
}

fn main() {}
