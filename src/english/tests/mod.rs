//! Exports against what was read from them, and hostile text against the reader.

mod example;
mod hostile;
mod limits;
mod round_trip;
mod words;

use proptest::prelude::*;

use super::*;
use crate::value::{self, Value};

/// An export in memory.
#[derive(Clone, Debug, Default, PartialEq)]
struct Export {
    head: Head,
    tables: Vec<(TableHead, Vec<OwnedRecord>)>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct OwnedRecord {
    tenant: Option<String>,
    key: Option<Vec<u8>>,
    created: u64,
    modified: u64,
    value: Vec<u8>,
}

impl OwnedRecord {
    fn of(value: &Value) -> Self {
        Self { value: encoded(value), ..Self::default() }
    }

    fn borrow(&self) -> Record<'_> {
        Record {
            tenant: self.tenant.as_deref(),
            key: self.key.as_deref(),
            created: Revision(self.created),
            modified: Revision(self.modified),
            value: &self.value,
        }
    }
}

fn encoded(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    value::write(value, &mut bytes).unwrap();
    bytes
}

fn write(export: &Export) -> Result<String, EnglishWriteError> {
    let mut writer = Writer::new(Vec::new(), export.head)?;
    for (head, records) in &export.tables {
        let mut table = writer.table(head)?;
        for record in records {
            table.record(&record.borrow())?;
        }
        table.end()?;
    }
    Ok(String::from_utf8(writer.finish()?).unwrap())
}

fn read(text: &[u8]) -> Result<Export, EnglishError> {
    let mut reader = Reader::new(text)?;
    let mut export = Export { head: reader.head(), tables: Vec::new() };
    while let Some(entry) = reader.read_entry()? {
        match entry {
            Entry::Table(head) => export.tables.push((head.clone(), Vec::new())),
            Entry::Record(record) => export.tables.last_mut().unwrap().1.push(OwnedRecord {
                tenant: record.tenant.map(str::to_owned),
                key: record.key.map(<[u8]>::to_vec),
                created: record.created.0,
                modified: record.modified.0,
                value: record.value.to_vec(),
            }),
            Entry::TableEnd { records } => {
                assert_eq!(records, export.tables.last().unwrap().1.len() as u64);
            }
        }
    }
    assert!(reader.read_entry().unwrap().is_none(), "nothing follows the end");
    Ok(export)
}

/// An export of one table with one record that has this value.
fn export_of(value: &Value) -> Export {
    let table = TableHead { name: "t".into(), version: 1, key_fields: Vec::new() };
    Export { head: Head::default(), tables: vec![(table, vec![OwnedRecord::of(value)])] }
}

/// The line of an error in text that was refused.
fn line_of(error: &EnglishError) -> Option<u64> {
    Some(match error {
        EnglishError::Io { line, .. }
        | EnglishError::Truncated { line }
        | EnglishError::LineTooLong { line, .. }
        | EnglishError::NotUtf8 { line, .. }
        | EnglishError::Expected { line, .. }
        | EnglishError::TooDeep { line, .. }
        | EnglishError::RowTooLarge { line, .. }
        | EnglishError::Trailing { line } => *line,
        EnglishError::Format { .. } => return None,
    })
}

/// Texts that look like something else.
fn any_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\n"),
        Just("\r\n"),
        Just("\t"),
        Just("\""),
        Just("\\"),
        Just("\\n"),
        Just("\\u{0}"),
        Just("\0"),
        Just("\u{1b}[2J"),
        Just("\u{7f}"),
        Just("\u{85}"),
        Just("\u{202e}abc\u{202c}"),
        Just("\u{2028}"),
        Just("\u{feff}"),
        Just("\u{e0041}"),
        Just("\u{10ffff}"),
        Just("שלום"),
        Just("مرحبا"),
        Just("漢字"),
        Just("👩\u{200d}👩\u{200d}👧"),
        Just("e\u{301}"),
        Just(", continued:"),
        Just(" is "),
        Just(" of tenant \"a\""),
        Just(", created at revision 1"),
        Just("  its name is \"x\"\n"),
        Just("End of the export: 0 tables.\n"),
        Just("nothing"),
        Just("5"),
    ];
    prop_oneof![
        "[a-z_0-9 ]{0,12}",
        any::<String>(),
        prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat()),
    ]
}

/// Names as fields have them, and texts.
fn any_name() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "id",
        "name",
        "is_live",
        "tags",
        "are",
        "is",
        "list_of",
        "a__b",
        "_x",
        "x1",
        "1x",
        "héj",
        "Name",
        "key",
        "value",
        "entry",
        "",
        "first_name_s",
    ]);
    prop_oneof![4 => words.prop_map(str::to_owned), 1 => any_text()]
}

fn any_scalar() -> impl Strategy<Value = Value> {
    let whole = prop_oneof![
        any::<i64>(),
        -200_i64..70_000,
        prop::sample::select(vec![i64::MIN, i64::MAX, -1, 0, 1 << 32]),
    ];
    let double = prop_oneof![
        any::<f64>(),
        any::<u64>().prop_map(f64::from_bits),
        prop::sample::select(vec![
            0.0,
            -0.0,
            1.0,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::MAX,
            f64::MIN_POSITIVE,
            5e-324,
            1e15,
            1e16,
            1e-5,
            1e-6,
            0.1,
            f64::from_bits(0x7FF8_0000_0000_0000),
            f64::from_bits(0xFFF8_0000_0000_0000),
            f64::from_bits(0x7FF0_0000_0000_0001),
        ]),
    ];
    prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::Bool),
        whole.prop_map(Value::Int),
        (i64::MAX as u64 + 1..).prop_map(Value::UInt),
        any::<u32>().prop_map(|bits| Value::F32(f32::from_bits(bits))),
        any::<f32>().prop_map(Value::F32),
        double.prop_map(Value::F64),
        any_text().prop_map(Value::Text),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Value::Bytes),
        (any::<i8>(), prop::collection::vec(any::<u8>(), 0..20))
            .prop_map(|(kind, bytes)| Value::Extension(kind, bytes)),
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    any_scalar().prop_recursive(4, 60, 8, |inner| {
        let name = any_name().prop_map(Value::Text);
        let key = prop_oneof![3 => name, 1 => inner.clone()];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::List),
            prop::collection::vec((key, inner), 0..8).prop_map(Value::Map),
        ]
    })
}

/// Rows, mostly with fields.
fn any_row() -> impl Strategy<Value = Value> {
    let field = (any_name().prop_map(Value::Text), any_value());
    let map = prop::collection::vec(field, 0..6).prop_map(Value::Map);
    prop_oneof![5 => map, 1 => any_value()]
}

fn any_export() -> impl Strategy<Value = Export> {
    let revisions = prop_oneof![Just((0, 0)), (0..100_u64, 0..100_u64), Just((1, u64::MAX))];
    let key = prop::option::of(prop::collection::vec(any::<u8>(), 0..12));
    let record = (prop::option::of(any_text()), key, revisions, any_row()).prop_map(
        |(tenant, key, (one, other), row)| OwnedRecord {
            tenant,
            key,
            created: one.min(other),
            modified: one.max(other),
            value: encoded(&row),
        },
    );
    let head = (any_text(), any::<u32>(), prop::collection::vec(any_name(), 0..3))
        .prop_map(|(name, version, key_fields)| TableHead { name, version, key_fields });
    let tables = prop::collection::vec((head, prop::collection::vec(record, 0..4)), 0..3);
    let applied = prop_oneof![Just((0, 0)), any::<(u64, u64)>()];
    (any::<u64>(), applied, tables).prop_map(|(revision, (index, term), tables)| Export {
        head: Head { revision: Revision(revision), applied: Applied { index, term } },
        tables,
    })
}
