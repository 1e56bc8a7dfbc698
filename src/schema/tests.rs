//! What derived extractors push, through the private side of [`IndexDef`]; how rows are migrated.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{RowMigrationError, TableSchema};
use crate::key::{AsKey, Descending, Folded, Key, encode};
use crate::tree::RowMeta;
use crate::value;
use crate::{
    Index, IndexDef, IndexKeys, KeyBuf, Many, MigrationError, Revision, Table, Unique, Value,
};

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, crate::Key)]
#[key(crate = "crate")]
enum Status {
    Pending,
    Running,
}

#[derive(Clone, Serialize, Deserialize, crate::Table)]
#[table(name = "jobs", version = 3, crate = "crate")]
#[index(name = "ns_status", on = (namespace, status))]
#[index(name = "mixed", on = (desc(fold(namespace)), desc(slot), deployment), unique)]
#[index(name = "alone", on = (slot,), filter = Self::is_live)]
#[index(name = "doubled", with = Job::doubled, key = u64)]
#[index(name = "odd", with = Job::odd, key = u64, optional, unique)]
#[index(name = "words", with = Job::words, key = String, multi, filter = Job::is_live)]
struct Job {
    #[key]
    id: u64,
    #[index(unique)]
    #[index(name = "name_fold", fold)]
    #[index(name = "name_down", descending)]
    #[index(name = "name_fold_down", fold, descending)]
    #[index(name = "name_len", with = str::len, key = usize)]
    name: String,
    #[index]
    status: Status,
    #[index]
    #[index(name = "deployment_down", descending)]
    deployment: Option<u64>,
    #[index(fold)]
    #[index(name = "owner_initial", with = initial, key = char, optional)]
    owner: Option<String>,
    #[index(multi)]
    #[index(name = "tags_fold", multi, fold, unique)]
    #[index(name = "tags_down", multi, descending)]
    #[index(name = "tag_bytes", with = tag_bytes, key = u8, multi)]
    tags: BTreeSet<String>,
    #[index(multi)]
    labels: BTreeMap<String, u8>,
    #[index(multi)]
    ports: Option<Vec<u16>>,
    #[index(unique, filter = Job::is_live)]
    slot: u32,
    #[index]
    r#type: u8,
    namespace: String,
}

fn initial(owner: &Option<String>) -> Option<char> {
    owner.as_ref()?.chars().next()
}

fn tag_bytes(tags: &BTreeSet<String>) -> Vec<u8> {
    tags.iter().flat_map(|tag| tag.bytes()).collect()
}

impl Job {
    fn is_live(&self) -> bool {
        self.status == Status::Running
    }

    fn doubled(&self) -> u64 {
        self.id * 2
    }

    fn odd(&self) -> Option<u64> {
        (self.id % 2 == 1).then_some(self.id)
    }

    fn words(&self) -> impl Iterator<Item = &str> {
        self.name.split(' ')
    }
}

fn job() -> Job {
    Job {
        id: 7,
        name: "Web Front".into(),
        status: Status::Running,
        deployment: Some(4),
        owner: Some("Ada".into()),
        tags: BTreeSet::from(["Http".into(), "edge".into()]),
        labels: BTreeMap::from([("tier".into(), 1)]),
        ports: Some(vec![80, 443, 80]),
        slot: 9,
        r#type: 2,
        namespace: "Prod".into(),
    }
}

/// The values of the index of `handle` for `row`, after checking that the definition is its own.
fn values<K: Key, C: crate::Cardinality>(handle: Index<Job, K, C>, row: &Job) -> Vec<KeyBuf> {
    let definition: &IndexDef<Job> = &Job::indexes()[handle.position()];
    assert_eq!(definition.name, handle.name());
    assert_eq!(definition.position, handle.position());
    assert_eq!(definition.unique, C::UNIQUE);
    let mut keys = IndexKeys::default();
    (definition.extract)(row, &mut keys);
    let to_key = |bytes: &[u8]| {
        let mut key = KeyBuf::new();
        key.extend(bytes);
        key
    };
    keys.sorted().map(to_key).collect()
}

/// The encodings of `keys` in their order.
fn encoded<K, Q: AsKey<K>>(keys: &[Q]) -> Vec<KeyBuf> {
    let mut encoded: Vec<_> = keys.iter().map(encode::<K, Q>).collect();
    encoded.sort();
    encoded
}

#[test]
fn a_field_gives_its_value_in_its_order() {
    let job = job();
    assert_eq!(values(Job::BY_NAME, &job), encoded::<String, _>(&["Web Front"]));
    assert_eq!(values(Job::BY_NAME_FOLD, &job), encoded::<Folded, _>(&["web front"]));
    let down = encoded::<Descending<String>, _>(&[Descending("Web Front")]);
    assert_eq!(values(Job::BY_NAME_DOWN, &job), down);
    let fold_down = encoded::<Descending<Folded>, _>(&[Descending("web front")]);
    assert_eq!(values(Job::BY_NAME_FOLD_DOWN, &job), fold_down);
    assert_eq!(values(Job::BY_STATUS, &job), encoded::<Status, _>(&[Status::Running]));
    assert_eq!(values(Job::BY_TYPE, &job), encoded::<u8, _>(&[2]));
}

#[test]
fn an_option_gives_one_value_or_none() {
    let mut job = job();
    assert_eq!(values(Job::BY_DEPLOYMENT, &job), encoded::<u64, _>(&[4]));
    let down = encoded::<Descending<u64>, _>(&[Descending(4)]);
    assert_eq!(values(Job::BY_DEPLOYMENT_DOWN, &job), down);
    assert_eq!(values(Job::BY_OWNER, &job), encoded::<Folded, _>(&["ada"]));
    assert_eq!(values(Job::BY_OWNER_INITIAL, &job), encoded::<char, _>(&['A']));
    (job.deployment, job.owner) = (None, None);
    assert!(values(Job::BY_DEPLOYMENT, &job).is_empty());
    assert!(values(Job::BY_DEPLOYMENT_DOWN, &job).is_empty());
    assert!(values(Job::BY_OWNER, &job).is_empty());
    assert!(values(Job::BY_OWNER_INITIAL, &job).is_empty());
}

#[test]
fn multi_gives_one_value_an_element() {
    let mut job = job();
    assert_eq!(values(Job::BY_TAGS, &job), encoded::<String, _>(&["Http", "edge"]));
    assert_eq!(values(Job::BY_TAGS_FOLD, &job), encoded::<Folded, _>(&["edge", "http"]));
    let down = [Descending("Http"), Descending("edge")];
    assert_eq!(values(Job::BY_TAGS_DOWN, &job), encoded::<Descending<String>, _>(&down));
    assert_eq!(values(Job::BY_LABELS, &job), encoded::<(String, u8), _>(&[("tier", 1)]));
    assert_eq!(values(Job::BY_PORTS, &job), encoded::<u16, _>(&[80, 443]));
    assert_eq!(values(Job::BY_TAG_BYTES, &job), encoded::<u8, _>(b"Htpedg"));
    job.ports = None;
    job.tags.clear();
    assert!(values(Job::BY_PORTS, &job).is_empty());
    assert!(values(Job::BY_TAGS_FOLD, &job).is_empty());
}

#[test]
fn a_compound_gives_the_tuple_in_the_order_of_its_components() {
    let job = job();
    let ns_status = encoded::<(String, Status), _>(&[("Prod", Status::Running)]);
    assert_eq!(values(Job::BY_NS_STATUS, &job), ns_status);
    type Mixed = (Descending<Folded>, Descending<u32>, Option<u64>);
    let mixed = encoded::<Mixed, _>(&[(Descending("prod"), Descending(9), Some(4))]);
    assert_eq!(values(Job::BY_MIXED, &job), mixed);
    assert_eq!(values(Job::BY_ALONE, &job), encoded::<(u32,), _>(&[(9,)]));
}

#[test]
fn a_function_of_the_row_or_field_gives_what_it_returns() {
    let mut job = job();
    assert_eq!(values(Job::BY_NAME_LEN, &job), encoded::<usize, _>(&[9]));
    assert_eq!(values(Job::BY_DOUBLED, &job), encoded::<u64, _>(&[14]));
    assert_eq!(values(Job::BY_ODD, &job), encoded::<u64, _>(&[7]));
    assert_eq!(values(Job::BY_WORDS, &job), encoded::<String, _>(&["Front", "Web"]));
    job.id = 8;
    assert!(values(Job::BY_ODD, &job).is_empty());
}

#[test]
fn a_filter_keeps_rows_out_of_its_index_alone() {
    let job = Job { status: Status::Pending, ..job() };
    assert!(values(Job::BY_SLOT, &job).is_empty());
    assert!(values(Job::BY_ALONE, &job).is_empty());
    assert!(values(Job::BY_WORDS, &job).is_empty());
    assert_eq!(values(Job::BY_NAME, &job).len(), 1);
}

#[test]
fn handles_say_in_their_types_what_they_index() {
    let _: Index<Job, Descending<Folded>, Many> = Job::BY_NAME_FOLD_DOWN;
    let _: Index<Job, Folded, Unique> = Job::BY_TAGS_FOLD;
    let _: Index<Job, u64, Unique> = Job::BY_ODD;
    assert_eq!((Job::NAME, Job::VERSION), ("jobs", 3));
    assert!(Job::indexes().iter().enumerate().all(|(at, index)| index.position == at));
}

/// A table in its fourth version; the first was called otherwise and had its length in minutes.
#[derive(Debug, PartialEq, Serialize, Deserialize, crate::Table)]
#[table(name = "films", version = 4, migrate = Film::upgrade, crate = "crate")]
struct Film {
    #[key]
    title: String,
    seconds: u64,
    tags: Vec<String>,
}

impl Film {
    fn upgrade(from: u32, row: &mut Value) -> Result<(), MigrationError> {
        match from {
            1 if row.rename("name", "title") => {}
            1 => return Err("there is no name".into()),
            2 => {
                let minutes = row.remove("minutes").as_ref().and_then(Value::as_u64);
                row.set("seconds", 60 * minutes.ok_or("there are no minutes")?)?;
            }
            3 => drop(row.set("tags", Vec::new())?),
            _ => return Err(MigrationError::Missing { from }),
        }
        Ok(())
    }
}

const META: RowMeta = RowMeta { created: Revision(3), modified: Revision(5) };

/// The film that the table makes of the fields `{name: value}` of version `from`.
fn migrated(from: u32, fields: &[(&str, Value)]) -> Result<Film, RowMigrationError> {
    let fields = fields.iter().map(|(name, value)| ((*name).into(), value.clone())).collect();
    let mut bytes = Vec::new();
    value::write(&Value::Map(fields), &mut bytes).unwrap();
    let row = TableSchema::of::<Film>().rows.migrate(from, &bytes, META)?;
    let row = row.borrow().typed::<Film>();
    assert_eq!((row.created(), row.modified()), (META.created, META.modified));
    let Film { title, seconds, tags } = row.value();
    Ok(Film { title: title.clone(), seconds: *seconds, tags: tags.clone() })
}

#[test]
fn a_row_takes_every_step_from_its_version_to_that_of_the_table() {
    let film = |tags: &[&str]| Film {
        title: "Playtime".into(),
        seconds: 7440,
        tags: tags.iter().map(|tag| (*tag).into()).collect(),
    };
    let title = ("title", "Playtime".into());
    assert_eq!(migrated(1, &[("name", "Playtime".into()), ("minutes", 124.into())]), Ok(film(&[])));
    assert_eq!(migrated(2, &[title.clone(), ("minutes", 124.into())]), Ok(film(&[])));
    assert_eq!(migrated(3, &[title.clone(), ("seconds", 7440.into())]), Ok(film(&[])));
    let tags = ("tags", Value::List(vec!["paris".into()]));
    assert_eq!(migrated(4, &[title, ("seconds", 7440.into()), tags]), Ok(film(&["paris"])));
}

#[test]
fn a_step_that_is_missing_is_told_from_one_that_failed() {
    assert_eq!(migrated(0, &[]), Err(RowMigrationError::Missing { from: 0 }));
    let message = "there is no name".to_owned();
    assert_eq!(migrated(1, &[]), Err(RowMigrationError::Failed { from: 1, message }));
    let error = migrated(1, &[("name", "Playtime".into())]).unwrap_err();
    let expected = "the migration from version 2 to 3 failed: there are no minutes";
    assert_eq!(error.to_string(), expected);
    // `Job` is of version 3 and has no migration.
    let bytes = [0x80];
    let error = TableSchema::of::<Job>().rows.migrate(2, &bytes, META).unwrap_err();
    assert_eq!(error, RowMigrationError::Missing { from: 2 });
    assert_eq!(error.to_string(), "there is no migration from version 2 to 3");
}

#[test]
fn a_row_is_not_made_older() {
    let error = migrated(5, &[]).unwrap_err();
    assert_eq!(error, RowMigrationError::Newer { found: 5, expected: 4 });
    let highest = migrated(u32::MAX, &[]).unwrap_err();
    assert_eq!(highest.to_string(), "version 4294967295 is newer than version 4 of the schema");
}

#[test]
fn what_is_no_value_before_or_no_row_after_the_steps_is_an_error() {
    let rows = TableSchema::of::<Film>().rows;
    let error = rows.migrate(3, &[0x81, 0xA1], META).unwrap_err();
    assert!(matches!(error, RowMigrationError::Value(_)), "{error}");
    let error = migrated(3, &[("title", "Playtime".into()), ("seconds", "many".into())]);
    assert!(matches!(error, Err(RowMigrationError::Row { from: 3, to: 4, .. })), "{error:?}");
    let error = migrated(4, &[("title", "Playtime".into())]);
    assert!(matches!(error, Err(RowMigrationError::Row { from: 4, to: 4, .. })), "{error:?}");
    // A value without fields cannot be given one.
    let error = rows.migrate(3, &[0x90], META).unwrap_err();
    let expected = "the migration from version 3 to 4 failed: \
                    field tags cannot be set: the value is a list, not a map";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn what_a_step_leaves_that_cannot_be_written_is_an_error_of_that_step() {
    fn deepen(_from: u32, row: &mut Value) -> Result<(), MigrationError> {
        for _ in 0..200 {
            *row = Value::List(vec![std::mem::take(row)]);
        }
        Ok(())
    }

    #[derive(Serialize, Deserialize, crate::Table)]
    #[table(name = "deep", version = 1, migrate = deepen, crate = "crate")]
    struct Deep {
        #[key]
        id: u64,
    }

    let error = TableSchema::of::<Deep>().rows.migrate(0, &[0x80], META).unwrap_err();
    let expected = "the migration from version 0 to 1 failed: \
                    the value is nested deeper than the limit of 128";
    assert_eq!(error.to_string(), expected);
}
