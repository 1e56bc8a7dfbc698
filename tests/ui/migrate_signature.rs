//! A migration of another type: the error is at the path.

use fsmdb::{MigrationError, Table, Value};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Table)]
#[table(name = "jobs", version = 2, migrate = Job::of_value)]
struct Job {
    #[key]
    id: u64,
}

impl Job {
    fn of_value(_row: Value) -> Result<(), MigrationError> {
        Ok(())
    }
}

#[derive(Serialize, Deserialize, Table)]
#[table(name = "nodes", version = 2, migrate = with_text)]
struct Node {
    #[key]
    id: u64,
}

fn with_text(_from: u32, _row: &mut Value) -> Result<(), String> {
    Ok(())
}

#[derive(Serialize, Deserialize, Table)]
#[table(name = "zones", version = 2, migrate = Self::migrate)]
struct Zone {
    #[key]
    id: u64,
}

fn main() {}
