//! A field whose type is no key: the error is at the type.

use fsmdb::Table;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Table)]
#[table(name = "jobs")]
#[index(name = "pair", on = (id, left))]
#[index(name = "computed", with = Job::point, key = Point)]
struct Job {
    #[key]
    id: u64,
    #[index]
    point: Point,
    #[index]
    maybe: Option<Point>,
    #[index(multi)]
    many: Vec<Point>,
    #[index(descending)]
    load: f64,
    left: Point,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Point {
    x: i32,
}

impl Job {
    fn point(&self) -> Point {
        self.left.clone()
    }
}

fn main() {}
