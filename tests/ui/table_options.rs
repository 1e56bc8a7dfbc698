//! What `#[table(...)]` takes; a table without one.

use fsmdb::Table;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Table)]
struct Nameless {
    id: u64,
}

#[derive(Serialize, Deserialize, Table)]
#[table(name = "jobs", versoin = 2)]
struct Unknown {
    #[key]
    id: u64,
}

#[derive(Serialize, Deserialize, Table)]
#[table(name = "jobs")]
#[table(name = "tasks")]
struct Twice {
    #[key]
    id: u64,
}

#[derive(Serialize, Deserialize, Table)]
#[table(name = "")]
struct Empty {
    #[key]
    id: u64,
}

#[derive(Serialize, Deserialize, Table)]
#[table(name = "jobs", version = 4294967296)]
struct TooHigh {
    #[key]
    id: u64,
}

#[derive(Serialize, Deserialize, Table)]
#[table(name = jobs)]
struct Unquoted {
    #[key]
    id: u64,
}

#[derive(Serialize, Deserialize, Table)]
#[table(name = "jobs", crate = fsmdb)]
struct CrateUnquoted {
    #[key]
    #[table(name = "other")]
    id: u64,
}

fn main() {}
