//! A table is a struct with named fields and no generics.

use fsmdb::Table;

#[derive(Table)]
#[table(name = "jobs")]
enum Job {
    Pending,
}

#[derive(Table)]
#[table(name = "jobs")]
union Bits {
    whole: u32,
}

#[derive(Table)]
#[table(name = "jobs")]
struct Pair(u64, String);

#[derive(Table)]
#[table(name = "jobs")]
struct Nothing;

#[derive(Table)]
#[table(name = "jobs")]
struct Generic<'a, T> {
    #[key]
    id: &'a T,
}

fn main() {}
