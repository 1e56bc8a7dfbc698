//! Tables, indexes and transactions: define, write, read.
//!
//! `cargo run --example tables`

use std::collections::BTreeSet;

use anyhow::Result;
use fsmdb::{Db, Descending, Key, StartsWith, Table};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Key)]
enum Health {
    Passing,
    Critical,
}

/// An instance of a service, as a registry keeps it.
#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "instances", version = 1)]
#[index(name = "service_health", on = (service, health))]
#[index(name = "weight", on = (service, desc(weight)))]
struct Instance {
    #[key]
    id: u64,
    /// At most one live instance may have an address.
    #[index(unique, filter = Instance::is_live)]
    address: String,
    service: String,
    health: Health,
    weight: u32,
    #[index]
    node: Option<String>,
    #[index(multi)]
    tags: BTreeSet<String>,
}

impl Instance {
    fn is_live(&self) -> bool {
        self.health == Health::Passing
    }
}

fn instance(id: u64, service: &str, address: &str, weight: u32, tags: &[&str]) -> Instance {
    Instance {
        id,
        address: address.to_owned(),
        service: service.to_owned(),
        health: Health::Passing,
        weight,
        node: (id.is_multiple_of(2)).then(|| format!("node-{id}")),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
    }
}

fn main() -> Result<()> {
    let db = Db::builder().table::<Instance>().build()?;

    let mut txn = db.write();
    txn.insert(instance(1, "web", "10.0.0.1:80", 5, &["edge", "v1"]))?;
    txn.insert(instance(2, "web", "10.0.0.2:80", 9, &["edge", "v2"]))?;
    txn.insert(instance(3, "websocket", "10.0.0.3:80", 1, &["v2"]))?;
    let refused = txn.insert(instance(4, "web", "10.0.0.1:80", 1, &[]));
    println!("refused: {}", refused.unwrap_err());
    println!("committed revision {}", txn.commit());

    let snap = db.read();
    let instances = snap.table::<Instance>();

    let node = instances.index(Instance::BY_NODE).get("node-2").next();
    println!("on node-2: {:?}", node.map(|row| row.id));

    // A component matches whole: "web" does not find "websocket".
    let web = instances.index(Instance::BY_SERVICE_HEALTH).prefix(&("web",));
    println!("web: {:?}", web.map(|row| row.id).collect::<Vec<_>>());

    // A string prefix is asked for by name.
    let starting = instances.index(Instance::BY_SERVICE_HEALTH).prefix(&(StartsWith("web"),));
    println!("web*: {:?}", starting.map(|row| row.id).collect::<Vec<_>>());

    let heavy = instances.index(Instance::BY_WEIGHT).range(("web", Descending(9))..).next();
    println!("heaviest web: {:?}", heavy.map(|row| (row.id, row.weight)));

    let v2 = instances.index(Instance::BY_TAGS).get("v2");
    println!("tagged v2: {:?}", v2.map(|row| row.id).collect::<Vec<_>>());

    let mut txn = db.write();
    txn.table_mut::<Instance>().update(&1_u64, |row| row.health = Health::Critical)?;
    txn.insert(instance(4, "web", "10.0.0.1:80", 1, &[]))?; // the address is free now
    txn.table_mut::<Instance>().index(Instance::BY_TAGS).delete_all("v2");
    for change in txn.changes() {
        println!("{:?} {} {}", change.kind(), change.table(), change.printed_key());
    }
    txn.commit();
    db.check()?;

    println!("the old snapshot still has {} rows, the database {}", instances.len(), {
        db.read().table::<Instance>().len()
    });
    Ok(())
}
