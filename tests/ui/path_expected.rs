//! A function is given by its path.

use fsmdb::Table;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Table)]
#[table(name = "jobs")]
struct Job {
    #[key]
    id: u64,
    #[index(filter = "Job::is_live")]
    slot: u32,
    #[index(filter = |job| job.live)]
    node: u64,
    #[index(with = Job::domain(), key = String)]
    domain: String,
}

fn main() {}
