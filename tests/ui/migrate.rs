//! A migration is a path to `fn(u32, &mut Value) -> Result<(), MigrationError>`, of a table that
//! says its version.

use fsmdb::{MigrationError, Table, Value};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Table)]
#[table(name = "jobs", migrate = migrate)]
struct Unversioned {
    #[key]
    id: u64,
}

#[derive(Serialize, Deserialize, Table)]
#[table(name = "jobs", version = 0, migrate = migrate)]
struct First {
    #[key]
    id: u64,
}

#[derive(Serialize, Deserialize, Table)]
#[table(name = "jobs", version = 2, migrate = "migrate")]
struct Quoted {
    #[key]
    id: u64,
}

fn migrate(from: u32, _row: &mut Value) -> Result<(), MigrationError> {
    Err(MigrationError::Missing { from })
}

fn main() {}
