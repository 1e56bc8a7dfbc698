//! A filter is a path to `fn(&Row) -> bool`: the error is at the path.

use fsmdb::Table;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Table)]
#[table(name = "jobs")]
struct Job {
    #[key]
    id: u64,
    #[index(filter = Job::slot)]
    slot: u32,
    #[index(filter = u8::is_ascii)]
    node: u64,
    #[index(filter = Job::is_missing)]
    zone: u64,
}

impl Job {
    fn slot(&self) -> u32 {
        self.slot
    }
}

fn main() {}
