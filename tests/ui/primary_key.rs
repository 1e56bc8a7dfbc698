//! Which fields are the primary key.

use fsmdb::Table;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Table)]
#[table(name = "jobs")]
struct Absent {
    id: u64,
}

#[derive(Serialize, Deserialize, Table)]
#[table(name = "jobs")]
struct WithOptions {
    #[key(order = 1)]
    id: u64,
}

#[derive(Serialize, Deserialize, Table)]
#[table(name = "jobs")]
struct Twice {
    #[key]
    #[key]
    id: u64,
}

#[derive(Serialize, Deserialize, Table)]
#[table(name = "jobs")]
struct Seven {
    #[key]
    a: u8,
    #[key]
    b: u8,
    #[key]
    c: u8,
    #[key]
    d: u8,
    #[key]
    e: u8,
    #[key]
    f: u8,
    #[key]
    g: u8,
}

fn main() {}
