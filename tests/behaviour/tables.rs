//! The tables that the tests share: every kind of index at once, a compound key, and a plain one.

use fsmdb::{Db, Folded, Key, Row, Rows, Table, WriteTxn};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Key)]
pub(crate) enum Status {
    Pending,
    Running,
    Dead,
}

/// One index of every kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Table)]
#[table(name = "jobs", version = 1)]
#[index(name = "ns_status", on = (namespace, status))]
#[index(name = "ns_recent", on = (namespace, desc(priority)))]
#[index(name = "domain", with = Job::domain, key = String, optional)]
#[index(name = "label_folded", with = Job::label_folded, key = Folded)]
pub(crate) struct Job {
    #[key]
    pub(crate) id: u64,
    #[index(unique)]
    pub(crate) name: String,
    #[index]
    pub(crate) status: Status,
    #[index]
    pub(crate) deployment: Option<u64>,
    #[index(multi)]
    pub(crate) tags: Vec<String>,
    #[index(unique, filter = Job::is_live)]
    pub(crate) slot: u32,
    #[index(fold)]
    pub(crate) label: String,
    #[index(descending)]
    pub(crate) priority: i32,
    pub(crate) namespace: String,
}

impl Job {
    fn is_live(&self) -> bool {
        self.status != Status::Dead
    }

    fn domain(&self) -> Option<String> {
        self.name.split_once('.').map(|(_, domain)| domain.to_owned())
    }

    fn label_folded(&self) -> Folded {
        Folded::new(&self.label)
    }
}

/// A job that conflicts with no other one of another id.
pub(crate) fn job(id: u64) -> Job {
    Job {
        id,
        name: format!("job-{id}"),
        status: Status::Pending,
        deployment: None,
        tags: Vec::new(),
        slot: u32::try_from(id).expect("test ids are small"),
        label: String::new(),
        priority: 0,
        namespace: "default".into(),
    }
}

/// A compound primary key that begins with strings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Table)]
#[table(name = "services", version = 3)]
pub(crate) struct Service {
    #[key]
    pub(crate) namespace: String,
    #[key]
    pub(crate) name: String,
    #[index]
    pub(crate) zone: String,
}

pub(crate) fn service(namespace: &str, name: &str) -> Service {
    Service { namespace: namespace.into(), name: name.into(), zone: "east".into() }
}

/// The simplest table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Table)]
#[table(name = "nodes")]
pub(crate) struct Node {
    #[key]
    pub(crate) id: u64,
    #[index(unique)]
    pub(crate) name: String,
}

pub(crate) fn node(id: u64) -> Node {
    Node { id, name: format!("node-{id}") }
}

/// An empty database with all three tables.
pub(crate) fn empty() -> Db {
    let builder = Db::builder().table::<Job>().table::<Service>().table::<Node>();
    builder.build().expect("the schema is sound")
}

/// A database with `jobs`, written by one commit.
pub(crate) fn with_jobs(jobs: impl IntoIterator<Item = Job>) -> Db {
    let db = empty();
    commit(&db, |txn| {
        for job in jobs {
            txn.insert(job).expect("the jobs of a test do not conflict");
        }
    });
    db
}

/// Runs `write` in a transaction of its own and commits it.
pub(crate) fn commit(db: &Db, write: impl FnOnce(&mut WriteTxn<'_>)) {
    let mut txn = db.write();
    write(&mut txn);
    txn.commit();
}

/// The ids of rows, in the order in which they were met.
pub(crate) fn ids(rows: Rows<'_, Job>) -> Vec<u64> {
    rows.map(|row| row.id).collect()
}

/// The snapshot file of the current version.
pub(crate) fn file_of(db: &Db) -> Vec<u8> {
    let mut file = Vec::new();
    db.read().save(&mut file).expect("memory does not fail");
    file
}

/// A database with the three tables and the content of `file`.
pub(crate) fn load(file: &[u8]) -> Result<Db, fsmdb::SnapshotError> {
    Db::builder().table::<Job>().table::<Service>().table::<Node>().load(file)
}

/// A row's value without its metadata.
pub(crate) fn value<T: Clone>(row: &Row<T>) -> T {
    row.value().clone()
}
