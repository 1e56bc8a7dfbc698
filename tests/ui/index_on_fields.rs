//! What a compound index can be on.

use fsmdb::Table;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Table)]
#[table(name = "jobs")]
#[index(name = "a", on = (namespace, state))]
#[index(name = "b", on = (namespace, status, namespace))]
#[index(name = "c", on = ())]
#[index(name = "d", on = (namespace, lower(status)))]
#[index(name = "e", on = (desc(desc(status)), namespace))]
#[index(name = "f", on = (fold(namespace, status)))]
#[index(name = "g", on = namespace)]
#[index(name = "h", on = (desc(fold(state)), id))]
struct Job {
    #[key]
    id: u64,
    namespace: String,
    status: u8,
    r#type: u8,
}

fn main() {}
