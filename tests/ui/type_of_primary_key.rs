//! A primary key whose type is no key: the error is at the type.

use fsmdb::Table;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Table)]
#[table(name = "jobs")]
struct One {
    #[key]
    load: f64,
}

#[derive(Serialize, Deserialize, Table)]
#[table(name = "jobs")]
struct Two {
    #[key]
    id: u64,
    #[key]
    load: f64,
}

fn main() {}
