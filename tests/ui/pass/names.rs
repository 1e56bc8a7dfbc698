//! The derives reach what they need under any name, whatever the user's own names are.

#![deny(warnings)]
#![no_implicit_prelude]

pub extern crate fsmdb as renamed;
extern crate serde;
extern crate std as real_std;

mod outer {
    pub use crate::renamed as database;
}

/// Names that the generated code must not pick up.
#[allow(dead_code, non_camel_case_types)]
mod shadows {
    pub struct Vec;
    pub struct Option;
    pub struct Some;
    pub struct Ok;
    pub struct String;
    pub struct bool;
    pub struct u32;
    pub struct i64;
    pub struct isize;
    pub struct KeyBuf;
    pub struct KeyError;
    pub struct Index;
    pub struct Unique;
    pub struct Folded;
    pub type Result = ();
    pub mod core {}
    pub mod std {}
    pub mod fsmdb {}
}

#[allow(unused_imports)]
use shadows::*;

use self::real_std::clone::Clone;
use self::real_std::collections::BTreeSet;
use self::real_std::fmt::Debug;
use self::real_std::marker::Copy;

type Text = real_std::string::String;

#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize, renamed::Key)]
#[key(crate = "crate::outer::database")]
pub enum Status {
    Ok,
    Err,
}

#[derive(Debug, renamed::Key)]
#[key(crate = "outer::database")]
#[repr(i8)]
pub enum Coded {
    None = -1,
    Some = 1,
}

#[allow(dead_code, non_camel_case_types)]
mod primitive_shadows {
    use crate::real_std::fmt::Debug;

    // `serde`'s own derive takes these for the primitives, so they stand apart from the table.
    struct str;
    struct i8;
    struct u8;

    #[derive(Debug, crate::renamed::Key)]
    #[key(crate = "crate::renamed")]
    pub enum Plain {
        One,
    }
}

#[derive(Debug, renamed::Key)]
#[key(crate = "renamed")]
pub struct Pair {
    pub out: u64,
    pub reader: Text,
}

#[derive(serde::Serialize, serde::Deserialize, renamed::Table)]
#[table(name = "jobs", crate = "crate::outer::database")]
#[index(name = "both", on = (desc(keys), fold(row)), filter = filter)]
#[index(name = "pushed", on = (out, keys), filter = push)]
#[index(name = "entries", with = entry, key = Text, multi)]
pub struct Job {
    #[key]
    pub out: u64,
    #[key]
    #[index(unique, filter = row)]
    pub keys: u8,
    #[index(fold, descending)]
    pub row: Text,
    #[index(multi)]
    pub entry: BTreeSet<Text>,
    #[index(multi, fold)]
    #[index(name = "count", with = keys, key = u16, optional)]
    pub inside: real_std::option::Option<real_std::vec::Vec<Text>>,
    #[index]
    pub status: Status,
}

// Functions called like the variables of the extractor.

fn row(job: &Job) -> real_std::primitive::bool {
    job.keys > 0
}

fn push(job: &Job) -> real_std::primitive::bool {
    filter(job)
}

fn filter(job: &Job) -> real_std::primitive::bool {
    job.out > 0
}

fn keys(
    inside: &real_std::option::Option<real_std::vec::Vec<Text>>,
) -> real_std::option::Option<u16> {
    inside.as_ref().map(|inside| inside.len() as u16)
}

fn entry(job: &Job) -> &BTreeSet<Text> {
    &job.entry
}

/// Called like a variable of the method that calls it.
fn migrate(
    from: real_std::primitive::u32,
    _row: &mut renamed::Value,
) -> real_std::result::Result<(), renamed::MigrationError> {
    real_std::result::Result::Err(renamed::MigrationError::Missing { from })
}

/// A table called like a type parameter.
#[derive(serde::Serialize, serde::Deserialize, renamed::Table)]
#[table(name = "k0", version = 2, migrate = migrate, crate = "renamed")]
pub struct K0 {
    #[key]
    #[index(name = "id", unique)]
    pub out: u64,
}

fn main() {
    let both: renamed::Index<Job, (renamed::Descending<u8>, renamed::Folded), renamed::Many> =
        Job::BY_BOTH;
    real_std::assert_eq!(both.name(), "both");
    real_std::assert_eq!(both.position(), 6);
    real_std::assert_eq!(<Job as renamed::Table>::indexes().len(), 9);
    let migrated = <K0 as renamed::Table>::migrate_row(1, &mut renamed::Value::Nil);
    real_std::assert_eq!(migrated, migrate(1, &mut renamed::Value::Nil));
    let _ = (Coded::None, Coded::Some, Status::Err);
}
