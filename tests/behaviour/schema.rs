//! What `build()` refuses, with texts that name the way out.

use fsmdb::limits::{INDEXES_PER_TABLE_MAX, NAME_BYTES_MAX};
use fsmdb::{
    Cardinality, Db, Index, IndexDef, IndexKeys, KeyBuf, Many, SchemaError, SnapshotError, Table,
    Unique, encode,
};
use serde::{Deserialize, Serialize};

use crate::tables::{Job, Node, empty};

/// A table by hand; `WHICH` chooses its name and its indexes.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Custom<const WHICH: usize>;

const NAMES: [&str; 9] =
    ["nodes", "", "two words", "naïve", "a/b", LONGEST, TOO_LONG, "A-z_0.9", "ok"];
const LONGEST: &str = {
    const BYTES: [u8; NAME_BYTES_MAX] = [b'n'; NAME_BYTES_MAX];
    match str::from_utf8(&BYTES) {
        Ok(name) => name,
        Err(_) => panic!(),
    }
};
const TOO_LONG: &str = {
    const BYTES: [u8; NAME_BYTES_MAX + 1] = [b'n'; NAME_BYTES_MAX + 1];
    match str::from_utf8(&BYTES) {
        Ok(name) => name,
        Err(_) => panic!(),
    }
};

fn none<T>(_: &T, _: &mut IndexKeys) {}

fn define<T, C: Cardinality>(name: &'static str, position: usize) -> IndexDef<T> {
    IndexDef::new(Index::<T, u64, C>::new(name, position), none)
}

impl<const WHICH: usize> Table for Custom<WHICH> {
    type Key = u64;
    const NAME: &'static str = if WHICH < NAMES.len() { NAMES[WHICH] } else { "custom" };
    const VERSION: u32 = 1;

    fn encode_primary_key(&self, out: &mut KeyBuf) {
        out.extend(&encode::<u64, _>(&0_u64));
    }

    fn indexes() -> Vec<IndexDef<Self>> {
        match WHICH {
            100 => vec![define::<_, Many>("twice", 0), define::<_, Unique>("twice", 1)],
            101 => vec![define::<_, Many>("one", 0), define::<_, Many>("two", 0)],
            102 => vec![define::<_, Many>("bad name", 0)],
            103 => vec![define::<_, Many>("", 0)],
            104.. => (0..WHICH - 100).map(|at| define::<_, Many>(INDEX_NAMES[at], at)).collect(),
            _ => Vec::new(),
        }
    }
}

const INDEX_NAMES: [&str; INDEXES_PER_TABLE_MAX + 1] = {
    const LETTERS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.ab";
    let mut names = [""; INDEXES_PER_TABLE_MAX + 1];
    let mut at = 0;
    while at < names.len() {
        // Two letters each, so that all are distinct.
        let (_, rest) = LETTERS.split_at(at);
        (names[at], _) = rest.split_at(2);
        at += 1;
    }
    names
};

fn refused<const WHICH: usize>() -> SchemaError {
    Db::builder().table::<Custom<WHICH>>().build().expect_err("the schema is not sound")
}

#[test]
fn a_table_defined_twice_is_refused() {
    let error = Db::builder().table::<Node>().table::<Custom<0>>().build().unwrap_err();
    assert_eq!(error, SchemaError::DuplicateTable { table: "nodes".into() });
    assert_eq!(error.to_string(), "table nodes is defined twice");
    let error = Db::builder().table::<Node>().table::<Job>().table::<Node>().build().unwrap_err();
    assert!(matches!(
        error,
        SchemaError::DuplicateTable { .. } | SchemaError::DuplicateType { .. }
    ));
}

#[test]
fn an_index_defined_twice_is_refused() {
    let error = refused::<100>();
    let expected = SchemaError::DuplicateIndex { table: "custom".into(), index: "twice".into() };
    assert_eq!(error, expected);
    assert_eq!(error.to_string(), "table custom: index twice is defined twice");
}

#[test]
fn a_handle_whose_position_is_not_that_of_its_definition_is_refused() {
    let error = refused::<101>();
    let expected = SchemaError::IndexPosition {
        table: "custom".into(),
        index: "two".into(),
        handle: 0,
        defined: 1,
    };
    assert_eq!(error, expected);
    let text = "table custom: the handle of index two says position 0, it is defined at 1";
    assert_eq!(error.to_string(), text);
}

#[test]
fn bad_names_are_refused_with_what_a_name_is() {
    let name_of = |error: SchemaError| match error {
        SchemaError::InvalidName { name, limit } => {
            assert_eq!(limit, NAME_BYTES_MAX);
            name
        }
        error => panic!("{error}"),
    };
    assert_eq!(name_of(refused::<1>()), "");
    assert_eq!(name_of(refused::<2>()), "two words");
    assert_eq!(name_of(refused::<3>()), "naïve");
    assert_eq!(name_of(refused::<4>()), "a/b");
    assert_eq!(name_of(refused::<6>()), TOO_LONG);
    assert_eq!(name_of(refused::<102>()), "bad name");
    assert_eq!(name_of(refused::<103>()), "");
    let text = refused::<2>().to_string();
    assert_eq!(
        text,
        "\"two words\" is not a name for a table or index; use up to 128 of a-z A-Z 0-9 _ - ."
    );
}

#[test]
fn names_up_to_the_limit_and_of_every_allowed_letter_are_taken() {
    let builder = Db::builder().table::<Custom<5>>().table::<Custom<7>>().table::<Custom<8>>();
    assert!(builder.build().is_ok());
}

#[test]
fn too_many_indexes_are_refused_and_as_many_as_the_limit_are_taken() {
    assert!(Db::builder().table::<Custom<164>>().build().is_ok());
    let error = refused::<165>();
    let expected = SchemaError::TooMany { what: "indexes of table custom".into(), limit: 64 };
    assert_eq!(error, expected);
    assert_eq!(error.to_string(), "indexes of table custom exceed the limit of 64");
}

#[test]
fn a_schema_that_is_refused_is_refused_by_load_too() {
    let mut file = Vec::new();
    empty().read().save(&mut file).unwrap();
    let error = Db::builder().table::<Custom<1>>().load(file.as_slice()).unwrap_err();
    assert!(matches!(error, SnapshotError::Schema(SchemaError::InvalidName { .. })));
    assert!(!error.is_corrupt());
}

#[test]
fn too_many_tables_are_refused() {
    // The limit comes before names and types, which the same table given again would break.
    let builder =
        (0..=fsmdb::limits::TABLES_MAX).fold(Db::builder(), |builder, _| builder.table::<Node>());
    let error = builder.build().unwrap_err();
    assert_eq!(error, SchemaError::TooMany { what: "tables".into(), limit: 1024 });
}

#[test]
fn what_is_printed_of_a_database_is_its_revision_and_tables() {
    let text = format!("{:?}", empty());
    assert_eq!(text, "Db { revision: 0, tables: [\"jobs\", \"services\", \"nodes\"] }");
}
