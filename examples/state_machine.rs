//! A state machine behind a log, without Raft: apply, refuse, replay, feed a second replica.
//!
//! `cargo run --example state_machine`

use anyhow::{Result, ensure};
use fsmdb::{Applied, Db, Error, Fsm, Machine, Table, WriteTxn};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "leases", version = 1)]
struct Lease {
    #[key]
    resource: String,
    #[index]
    holder: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Command {
    Acquire { resource: String, holder: String },
    Release { resource: String },
}

struct Leases;

impl Fsm for Leases {
    type Command = Command;
    type Reply = Result<u64, Error>;

    /// Replies with the fencing token of the lease: the index of the entry that granted it.
    fn apply(&self, txn: &mut WriteTxn<'_>, at: Applied, command: Command) -> Self::Reply {
        match command {
            Command::Acquire { resource, holder } => txn.insert(Lease { resource, holder })?,
            Command::Release { resource } => {
                let lease = txn.table_mut::<Lease>().delete(resource.as_str());
                lease.ok_or(Error::NotFound { table: "leases".into(), key: resource })?
            }
        };
        Ok(at.index)
    }
}

fn machine() -> Result<Machine<Leases>> {
    Ok(Machine::new(Db::builder().table::<Lease>().build()?, Leases)?)
}

fn main() -> Result<()> {
    let acquire = |resource: &str, holder: &str| Command::Acquire {
        resource: resource.to_owned(),
        holder: holder.to_owned(),
    };
    let log = [
        acquire("disk-1", "agent-a"),
        acquire("disk-1", "agent-b"),
        acquire("disk-2", "agent-b"),
        Command::Release { resource: "disk-1".into() },
        acquire("disk-1", "agent-b"),
    ];

    let leader = machine()?;
    for (command, index) in log.iter().zip(1..) {
        let entry = Machine::<Leases>::encode(command)?;
        match leader.apply(Applied { index, term: 1 }, &entry)? {
            Some(Ok(token)) => println!("entry {index}: done, token {token}"),
            Some(Err(refusal)) => println!("entry {index}: refused, {refusal}"),
            None => println!("entry {index}: applied before"),
        }
        // The log may deliver an entry again after a restart: nothing happens.
        ensure!(leader.apply(Applied { index, term: 1 }, &entry)?.is_none());
    }

    let mut file = Vec::new();
    leader.read().save(&mut file)?;
    let replica = machine()?;
    let reader = replica.db().clone();
    println!("replica installed a snapshot at {}", replica.install(file.as_slice())?);
    println!("agent-b holds {} leases", {
        reader.read().table::<Lease>().index(Lease::BY_HOLDER).get("agent-b").count()
    });

    let report = fsmdb::testing::check(|| machine().expect("the schema is sound"), &log)?;
    println!(
        "{} commands on {} replicas: identical replies and snapshots",
        report.commands,
        report.restored + 2
    );
    Ok(())
}
