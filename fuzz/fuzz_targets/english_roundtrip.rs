//! Exports as English text: no bytes panic the reader, what it takes is said again in the same
//! words, and whatever rows a file has come back from its text to the byte.
//!
//! Each input is read twice: as text that somebody has written, and as a recipe for tables.

#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use fsmdb::offline::{Item, OfflineReader, OfflineWriter, Source, StoredRow};
use fsmdb::offline::{export_english, import_english};
use fsmdb::{Db, Revision, SaveOptions, Table, Value};
use libfuzzer_sys::fuzz_target;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "any")]
struct Any {
    #[key]
    id: u64,
}

/// A value of any shape.
#[derive(Arbitrary, Clone, Debug)]
enum Shape {
    Nil,
    Bool(bool),
    Int(i64),
    UInt(u64),
    F32(f32),
    F64(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Shape>),
    Map(Vec<(Shape, Shape)>),
    Fields(Vec<(String, Shape)>),
    Extension(i8, Vec<u8>),
}

#[derive(Arbitrary, Debug)]
struct Row {
    key: Vec<u8>,
    created: u8,
    modified: u8,
    value: Shape,
}

#[derive(Arbitrary, Debug)]
struct Recipe {
    name: String,
    key_fields: Vec<String>,
    rows: Vec<Row>,
}

fn value_of(shape: Shape) -> Value {
    let values = |shapes: Vec<Shape>| shapes.into_iter().map(value_of).collect();
    match shape {
        Shape::Nil => Value::Nil,
        Shape::Bool(value) => Value::Bool(value),
        Shape::Int(value) => Value::Int(value),
        Shape::UInt(value) => value.into(),
        Shape::F32(value) => Value::F32(value),
        Shape::F64(value) => Value::F64(value),
        Shape::Text(text) => Value::Text(text),
        Shape::Bytes(bytes) => Value::Bytes(bytes),
        Shape::List(shapes) => Value::List(values(shapes)),
        Shape::Map(entries) => Value::Map(
            entries.into_iter().map(|(key, value)| (value_of(key), value_of(value))).collect(),
        ),
        Shape::Fields(fields) => Value::Map(
            fields.into_iter().map(|(name, value)| (Value::Text(name), value_of(value))).collect(),
        ),
        Shape::Extension(kind, bytes) => Value::Extension(kind, bytes),
    }
}

/// A file of one table, if the recipe is for one.
fn file_of(recipe: Recipe) -> Option<Vec<u8>> {
    let db = Db::builder().table::<Any>().build().expect("the schema is sound");
    let mut empty = Vec::new();
    db.read().save(&mut empty).expect("what is in memory can be saved");
    let Recipe { name, key_fields, mut rows } = recipe;
    rows.sort_by(|one, other| one.key.cmp(&other.key));
    rows.dedup_by(|one, other| one.key == other.key);
    let mut head = OfflineReader::new(empty.as_slice(), None).expect("sound").head().clone();
    head.revision = Revision(u8::MAX.into());
    let table = &mut head.tables[0];
    (table.name, table.key) = (name, key_fields);
    (table.rows, table.modified) = (rows.len() as u64, head.revision);
    let table = table.clone();
    let mut file = Vec::new();
    let mut writer = OfflineWriter::new(&mut file, &head, SaveOptions::new()).ok()?;
    writer.write(&Item::Table(&table)).expect("it is the only one");
    for Row { key, created, modified, value } in rows {
        let encoded = rmp_serde::to_vec_named(&value_of(value)).ok()?;
        let (created, modified) = (created.min(modified).into(), created.max(modified).into());
        let row = StoredRow::new(&key, Revision(created), Revision(modified), &encoded);
        writer.write(&Item::Row(row)).ok()?;
    }
    writer.write(&Item::TableEnd { digest: Default::default() }).expect("all rows are there");
    writer.finish().expect("memory does not fail");
    Some(file)
}

fn text_of(file: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    export_english(&Source::bytes(file), None, &mut text).ok()?;
    Some(text)
}

/// The file that a text makes, of itself or of a template.
fn imported(text: &[u8], template: Option<&[u8]>) -> Option<Vec<u8>> {
    let mut file = Vec::new();
    let template = template.map(Source::bytes);
    let options = SaveOptions::new();
    import_english(&Source::bytes(text), template.as_ref(), &mut file, options).ok()?;
    Some(file)
}

fuzz_target!(|bytes: &[u8]| {
    if let Some(file) = imported(bytes, None) {
        let text = text_of(&file).expect("what was said can be said again");
        assert_eq!(imported(&text, None).as_ref(), Some(&file), "and says the same");
        assert_eq!(text_of(&file), Some(text));
    }
    let recipe = Recipe::arbitrary(&mut Unstructured::new(bytes));
    if let Some(file) = recipe.ok().and_then(file_of)
        && let Some(text) = text_of(&file)
    {
        let back = imported(&text, Some(&file));
        assert_eq!(back.as_ref(), Some(&file), "{}", String::from_utf8_lossy(&text));
        let alone = imported(&text, None).expect("a text stands for itself");
        assert_eq!(text_of(&alone), Some(text), "without a template too");
    }
});
