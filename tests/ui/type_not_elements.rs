//! `multi` on what has no elements in a fixed order.

use std::collections::HashSet;

use fsmdb::Table;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Table)]
#[table(name = "jobs")]
struct Job {
    #[key]
    id: u64,
    #[index(multi)]
    tags: HashSet<String>,
    #[index(multi)]
    slot: u32,
    #[index(multi)]
    name: Option<String>,
}

fn main() {}
