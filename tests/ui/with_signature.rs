//! What a computed index computes: the error is at the path.

use fsmdb::Table;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Table)]
#[table(name = "jobs")]
#[index(name = "slots", with = Job::slots, key = String, multi)]
struct Job {
    #[key]
    id: u64,
    #[index(with = of_number, key = u32)]
    name: String,
    #[index(with = str::len, key = u32)]
    owner: String,
    #[index(with = str::len, key = usize, optional)]
    zone: String,
    #[index(with = str::len, key = usize, multi)]
    region: String,
}

fn of_number(number: &u32) -> u32 {
    *number
}

impl Job {
    fn slots(&self) -> Vec<u32> {
        Vec::new()
    }
}

fn main() {}
