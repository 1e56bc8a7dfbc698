//! Values against their bytes, against what `serde` makes of them, and at their limits.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;
use crate::limits::{DEPTH_MAX, VALUES_PER_ROW_MAX};
use crate::messagepack;

/// Values as reading gives them.
fn any_value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (-200_i64..70_000).prop_map(Value::Int),
        (i64::MAX as u64 + 1..).prop_map(Value::UInt),
        any::<u32>().prop_map(|bits| Value::F32(f32::from_bits(bits))),
        any::<u64>().prop_map(|bits| Value::F64(f64::from_bits(bits))),
        "\\PC{0,40}".prop_map(Value::Text),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Value::Bytes),
        (any::<i8>(), prop::collection::vec(any::<u8>(), 0..20))
            .prop_map(|(kind, bytes)| Value::Extension(kind, bytes)),
    ];
    scalar.prop_recursive(6, 200, 20, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..20).prop_map(Value::List),
            prop::collection::vec((inner.clone(), inner), 0..20).prop_map(Value::Map),
        ]
    })
}

fn written(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(value, &mut bytes).unwrap();
    bytes
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(Value::Nil, |inside, _| Value::List(vec![inside]))
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Dot,
    Square { side: u32 },
    Line(i8, i8),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Drawing {
    id: u64,
    ratio: f32,
    owner: Option<String>,
    shapes: Vec<Shape>,
    notes: BTreeMap<u16, (char, bool)>,
    unit: (),
}

fn drawing() -> Drawing {
    Drawing {
        id: u64::MAX,
        ratio: 0.1,
        owner: None,
        shapes: vec![Shape::Dot, Shape::Square { side: 300 }, Shape::Line(-1, -100)],
        notes: BTreeMap::from([(1, ('a', true)), (500, ('é', false))]),
        unit: (),
    }
}

#[test]
fn a_row_is_a_map_of_its_fields_and_is_written_as_it_was() {
    let mut bytes = Vec::new();
    messagepack::write(&drawing(), &mut bytes).unwrap();
    let row = read(&bytes).unwrap();
    assert_eq!(row.get("id"), Some(&Value::UInt(u64::MAX)));
    assert_eq!(row.get("ratio"), Some(&Value::F32(0.1)));
    assert!(row.get("owner").unwrap().is_nil());
    let shapes = row.get("shapes").and_then(Value::as_list).unwrap();
    assert_eq!(shapes[0].as_text(), Some("Dot"));
    assert_eq!(shapes[1].get("Square").unwrap().get("side"), Some(&Value::Int(300)));
    assert_eq!(row.get("notes").and_then(Value::as_map).unwrap()[1].0, Value::Int(500));
    assert_eq!(written(&row), bytes);
}

#[test]
fn fields_are_set_renamed_and_removed_in_their_places() {
    let mut row = Value::Map(vec![
        ("a".into(), 1.into()),
        (7.into(), "seven".into()),
        ("b".into(), Value::Nil),
    ]);
    assert_eq!(row.set("a", 2_u64), Ok(Some(Value::Int(1))));
    assert_eq!(row.set("c", Some(true)), Ok(None));
    assert!(row.rename("b", "d"));
    assert!(!row.rename("b", "e"), "it has another name now");
    assert!(!row.rename("a", "c"), "there is one of that name");
    *row.get_mut("d").unwrap() = Value::from(None::<i8>);
    assert_eq!(row.remove("a"), Some(Value::Int(2)));
    assert_eq!(row.remove("a"), None);
    let left = [(7.into(), "seven".into()), ("d".into(), Value::Nil), ("c".into(), true.into())];
    assert_eq!(row.as_map(), Some(&left[..]));
}

#[test]
fn what_is_no_map_has_no_fields_and_takes_none() {
    let mut list = Value::List(vec![Value::Nil]);
    assert_eq!(list.get("a"), None);
    assert_eq!(list.remove("a"), None);
    assert!(!list.rename("a", "b"));
    let error = list.set("a", 1).unwrap_err();
    assert_eq!(error.to_string(), "field a cannot be set: the value is a list, not a map");
    assert_eq!(list, Value::List(vec![Value::Nil]));
}

#[test]
fn numbers_are_asked_for_by_what_they_fit_in() {
    assert_eq!(Value::from(u64::MAX).as_u64(), Some(u64::MAX));
    assert_eq!(Value::from(u64::MAX).as_i64(), None);
    assert_eq!(Value::from(5_u64), Value::Int(5));
    assert_eq!(Value::from(-5).as_u64(), None);
    assert_eq!(Value::from(0.5_f32).as_f64(), Some(0.5));
    assert_eq!(Value::from(5).as_f64(), None);
}

#[test]
fn the_deepest_value_is_written_and_read_and_a_deeper_one_is_neither() {
    let deepest = nested(DEPTH_MAX);
    assert_eq!(read(&written(&deepest)), Ok(deepest));
    let error = write(&nested(DEPTH_MAX + 1), &mut Vec::new()).unwrap_err();
    assert_eq!(error, ValueError::TooDeep { limit: DEPTH_MAX });
    let bytes = [vec![0x91; DEPTH_MAX + 1], vec![0xC0]].concat();
    assert!(matches!(read(&bytes), Err(ValueReadError::Malformed(_))));
}

#[test]
fn as_many_values_as_the_limit_are_read_and_written_and_not_one_more() {
    let fill = |count: usize| {
        let mut bytes = vec![0xDD];
        bytes.extend_from_slice(&(count as u32).to_be_bytes());
        bytes.resize(bytes.len() + count, 0xC0);
        bytes
    };
    let most = read(&fill(VALUES_PER_ROW_MAX - 1)).unwrap();
    assert_eq!(written(&most), fill(VALUES_PER_ROW_MAX - 1));
    let error = read(&fill(VALUES_PER_ROW_MAX)).unwrap_err();
    let offset = VALUES_PER_ROW_MAX + 4;
    assert_eq!(error, ValueReadError::TooManyValues { offset, limit: VALUES_PER_ROW_MAX });
    let more = Value::List(vec![Value::Nil; VALUES_PER_ROW_MAX]);
    let error = write(&more, &mut Vec::new()).unwrap_err();
    assert_eq!(error, ValueError::TooManyValues { limit: VALUES_PER_ROW_MAX });
    let inside = Value::Map(vec![(Value::Nil, more)]);
    assert_eq!(write(&inside, &mut Vec::new()), Err(error));
}

#[test]
fn a_value_takes_as_little_memory_as_the_limit_counts_on() {
    assert_eq!(size_of::<Value>(), 32);
}

#[test]
fn what_is_no_value_is_an_error_where_it_stands() {
    for (bytes, offset) in [
        (&[0x92, 0xC0, 0xA1, 0xFF][..], 3),
        (&[0x92, 0xC0], 2),
        (&[0xC0, 0xC0], 1),
        (&[0xDF, 0xFF, 0xFF, 0xFF, 0xFF], 5),
        (&[0xC1], 0),
    ] {
        match read(bytes) {
            Err(ValueReadError::Malformed(error)) => assert_eq!(error.offset, offset, "{bytes:?}"),
            other => panic!("{bytes:?}: {other:?}"),
        }
    }
}

#[test]
fn a_value_can_be_read_from_another_format_that_describes_itself() {
    let value: Value = serde_json::from_str(r#"{"a": [1, -2, 0.5, null, true, "x"]}"#).unwrap();
    let list = [1.into(), (-2).into(), 0.5.into(), Value::Nil, true.into(), "x".into()];
    assert_eq!(value.get("a").and_then(Value::as_list), Some(&list[..]));
    assert_eq!(serde_json::to_string(&value).unwrap(), r#"{"a":[1,-2,0.5,null,true,"x"]}"#);
}

proptest! {
    #[test]
    fn what_is_written_is_read_again_to_the_byte(value in any_value()) {
        let bytes = written(&value);
        prop_assert_eq!(written(&read(&bytes).unwrap()), bytes);
    }

    #[test]
    fn serde_writes_and_reads_the_same(value in any_value()) {
        let bytes = written(&value);
        let mut by_serde = Vec::new();
        messagepack::write(&value, &mut by_serde).unwrap();
        prop_assert_eq!(&by_serde, &bytes);
        let back: Value = messagepack::read(&bytes).unwrap();
        prop_assert_eq!(written(&back), bytes);
    }

    #[test]
    fn any_bytes_are_read_or_refused_without_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..60)
    ) {
        if let Ok(value) = read(&bytes) {
            let short = written(&value);
            prop_assert!(short.len() <= bytes.len());
            prop_assert_eq!(written(&read(&short).unwrap()), short);
        }
    }
}
