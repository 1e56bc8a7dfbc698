//! What can name an index.

use fsmdb::Table;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Table)]
#[table(name = "jobs")]
#[index(on = (owner, slot))]
struct Job {
    #[key]
    id: u64,
    #[index(name = "by-owner")]
    owner: String,
    #[index(name = "")]
    slot: u32,
    #[index(name = "ByNode")]
    node: String,
    #[index]
    größe: u32,
    #[index]
    camelCase: u32,
    #[index(name = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx")]
    long: u32,
}

fn main() {}
