//! What `#[derive(Table)]` and `#[derive(Key)]` give, seen through public items alone.
//!
//! What does not compile is in `ui/`; what the extractors push shows in the tests of the tables.

use std::collections::{BTreeMap, BTreeSet};

use fsmdb::{
    AsKey, Descending, Folded, Index, Key, KeyBuf, KeyError, KeyReader, Many, Table, Unique,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Key)]
enum Status {
    Pending,
    Running,
    Failed,
}

#[derive(Clone, Debug, Serialize, Deserialize, Table)]
#[table(name = "jobs", version = 4)]
#[index(name = "ns_status", on = (namespace, status))]
#[index(name = "ranked", on = (fold(namespace), desc(slot), deployment), unique)]
#[index(name = "label", with = Job::label, key = String)]
#[index(name = "shards", with = Job::shards, key = (u32, u8), multi, unique)]
struct Job {
    #[key]
    id: u64,
    #[index(unique)]
    #[index(name = "name_fold", fold)]
    name: String,
    #[index]
    #[index(name = "status_down", descending)]
    status: Status,
    #[index]
    deployment: Option<u64>,
    #[index(fold, descending)]
    owner: Option<String>,
    #[index(multi)]
    tags: BTreeSet<String>,
    #[index(multi)]
    labels: BTreeMap<String, u8>,
    #[index(unique, filter = Job::is_running)]
    slot: u32,
    #[index]
    r#type: u8,
    namespace: String,
}

impl Job {
    fn is_running(&self) -> bool {
        self.status == Status::Running
    }

    fn label(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    fn shards(&self) -> Vec<(u32, u8)> {
        vec![(self.slot, 0), (self.slot, 1)]
    }
}

fn job(id: u64) -> Job {
    Job {
        id,
        name: "web".into(),
        status: Status::Running,
        deployment: None,
        owner: None,
        tags: BTreeSet::new(),
        labels: BTreeMap::new(),
        slot: 1,
        r#type: 2,
        namespace: "prod".into(),
    }
}

fn primary_key(row: &impl Table) -> Vec<u8> {
    let mut out = KeyBuf::new();
    row.encode_primary_key(&mut out);
    out.to_vec()
}

fn encoded<K, Q: AsKey<K>>(key: &Q) -> Vec<u8> {
    let mut out = KeyBuf::new();
    key.encode_key(&mut out);
    out.to_vec()
}

fn decoded<K: Key>(bytes: &[u8]) -> Result<K, KeyError> {
    let mut reader = KeyReader::new(bytes);
    let key = K::decode_key(&mut reader)?;
    assert_eq!(reader.position(), bytes.len(), "the whole encoding is read");
    Ok(key)
}

/// Checks that `keys`, which ascend, are encoded so and come back as they were.
fn assert_order_and_round_trip<K: Key + Ord>(keys: &[K]) {
    assert!(keys.is_sorted(), "{keys:?}");
    let encodings: Vec<_> = keys.iter().map(encoded::<K, K>).collect();
    assert!(encodings.is_sorted(), "{keys:?} as {encodings:?}");
    for (key, encoding) in keys.iter().zip(&encodings) {
        assert_eq!(&decoded::<K>(encoding).unwrap(), key);
    }
}

/// One variant more than a byte can tell apart.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Key)]
#[rustfmt::skip]
#[allow(dead_code, reason = "most variants are there to be counted")]
enum Wide {
    V000, V001, V002, V003, V004, V005, V006, V007, V008, V009, V010, V011,
    V012, V013, V014, V015, V016, V017, V018, V019, V020, V021, V022, V023,
    V024, V025, V026, V027, V028, V029, V030, V031, V032, V033, V034, V035,
    V036, V037, V038, V039, V040, V041, V042, V043, V044, V045, V046, V047,
    V048, V049, V050, V051, V052, V053, V054, V055, V056, V057, V058, V059,
    V060, V061, V062, V063, V064, V065, V066, V067, V068, V069, V070, V071,
    V072, V073, V074, V075, V076, V077, V078, V079, V080, V081, V082, V083,
    V084, V085, V086, V087, V088, V089, V090, V091, V092, V093, V094, V095,
    V096, V097, V098, V099, V100, V101, V102, V103, V104, V105, V106, V107,
    V108, V109, V110, V111, V112, V113, V114, V115, V116, V117, V118, V119,
    V120, V121, V122, V123, V124, V125, V126, V127, V128, V129, V130, V131,
    V132, V133, V134, V135, V136, V137, V138, V139, V140, V141, V142, V143,
    V144, V145, V146, V147, V148, V149, V150, V151, V152, V153, V154, V155,
    V156, V157, V158, V159, V160, V161, V162, V163, V164, V165, V166, V167,
    V168, V169, V170, V171, V172, V173, V174, V175, V176, V177, V178, V179,
    V180, V181, V182, V183, V184, V185, V186, V187, V188, V189, V190, V191,
    V192, V193, V194, V195, V196, V197, V198, V199, V200, V201, V202, V203,
    V204, V205, V206, V207, V208, V209, V210, V211, V212, V213, V214, V215,
    V216, V217, V218, V219, V220, V221, V222, V223, V224, V225, V226, V227,
    V228, V229, V230, V231, V232, V233, V234, V235, V236, V237, V238, V239,
    V240, V241, V242, V243, V244, V245, V246, V247, V248, V249, V250, V251,
    V252, V253, V254, V255, V256,
}

mod table {
    use super::*;

    #[test]
    fn name_and_version_are_those_of_the_attribute() {
        assert_eq!((Job::NAME, Job::VERSION), ("jobs", 4));
    }

    #[test]
    fn version_is_one_unless_it_is_given() {
        #[derive(Serialize, Deserialize, Table)]
        #[table(name = "nodes")]
        struct Node {
            #[key]
            id: u8,
        }
        assert_eq!((Node::NAME, Node::VERSION), ("nodes", 1));
        assert!(Node::indexes().is_empty());
        assert_eq!(primary_key(&Node { id: 3 }), [3]);
    }

    #[test]
    fn primary_key_of_one_field_is_that_field() {
        assert_eq!(primary_key(&job(7)), encoded::<u64, _>(&7_u64));
        static_assertions::assert_type_eq_all!(<Job as Table>::Key, u64);
    }

    #[test]
    fn primary_key_of_several_fields_is_their_tuple_in_order() {
        #[derive(Serialize, Deserialize, Table)]
        #[table(name = "replicas")]
        struct Replica {
            address: String,
            #[key]
            shard: u32,
            #[key]
            node: String,
        }
        static_assertions::assert_type_eq_all!(<Replica as Table>::Key, (u32, String));
        let row = Replica { address: "[::1]:80".into(), shard: 5, node: "a".into() };
        assert_eq!(primary_key(&row), encoded::<(u32, String), _>(&(5_u32, "a".to_owned())));
        assert_eq!(row.address.len(), 8);
    }

    #[test]
    fn handles_say_in_their_types_what_they_index() {
        let _: Index<Job, String, Unique> = Job::BY_NAME;
        let _: Index<Job, Folded, Many> = Job::BY_NAME_FOLD;
        let _: Index<Job, Status, Many> = Job::BY_STATUS;
        let _: Index<Job, Descending<Status>, Many> = Job::BY_STATUS_DOWN;
        let _: Index<Job, u64, Many> = Job::BY_DEPLOYMENT;
        let _: Index<Job, Descending<Folded>, Many> = Job::BY_OWNER;
        let _: Index<Job, String, Many> = Job::BY_TAGS;
        let _: Index<Job, (String, u8), Many> = Job::BY_LABELS;
        let _: Index<Job, u32, Unique> = Job::BY_SLOT;
        let _: Index<Job, u8, Many> = Job::BY_TYPE;
        let _: Index<Job, (String, Status), Many> = Job::BY_NS_STATUS;
        let _: Index<Job, (Folded, Descending<u32>, Option<u64>), Unique> = Job::BY_RANKED;
        let _: Index<Job, String, Many> = Job::BY_LABEL;
        let _: Index<Job, (u32, u8), Unique> = Job::BY_SHARDS;
    }

    #[test]
    fn positions_count_fields_in_order_then_the_attributes_of_the_struct() {
        let handles = [
            (Job::BY_NAME.name(), Job::BY_NAME.position()),
            (Job::BY_NAME_FOLD.name(), Job::BY_NAME_FOLD.position()),
            (Job::BY_STATUS.name(), Job::BY_STATUS.position()),
            (Job::BY_STATUS_DOWN.name(), Job::BY_STATUS_DOWN.position()),
            (Job::BY_DEPLOYMENT.name(), Job::BY_DEPLOYMENT.position()),
            (Job::BY_OWNER.name(), Job::BY_OWNER.position()),
            (Job::BY_TAGS.name(), Job::BY_TAGS.position()),
            (Job::BY_LABELS.name(), Job::BY_LABELS.position()),
            (Job::BY_SLOT.name(), Job::BY_SLOT.position()),
            (Job::BY_TYPE.name(), Job::BY_TYPE.position()),
            (Job::BY_NS_STATUS.name(), Job::BY_NS_STATUS.position()),
            (Job::BY_RANKED.name(), Job::BY_RANKED.position()),
            (Job::BY_LABEL.name(), Job::BY_LABEL.position()),
            (Job::BY_SHARDS.name(), Job::BY_SHARDS.position()),
        ];
        let names = [
            "name",
            "name_fold",
            "status",
            "status_down",
            "deployment",
            "owner",
            "tags",
            "labels",
            "slot",
            "type",
            "ns_status",
            "ranked",
            "label",
            "shards",
        ];
        assert_eq!(handles.len(), Job::indexes().len());
        for (at, (handle, name)) in handles.iter().zip(names).enumerate() {
            assert_eq!(*handle, (name, at));
        }
    }

    #[test]
    fn handles_are_as_visible_as_the_struct() {
        mod inner {
            use super::*;

            #[derive(Serialize, Deserialize, Table)]
            #[table(name = "nodes")]
            pub(in super::super) struct Node {
                #[key]
                #[index(name = "again")]
                pub(super) id: u8,
            }
        }
        assert_eq!(inner::Node::BY_AGAIN.name(), "again");
        assert_eq!(inner::Node { id: 1 }.id, 1);
    }

    #[test]
    fn a_struct_can_be_a_table_and_a_key() {
        #[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Key, Table)]
        #[table(name = "edges")]
        struct Edge {
            #[key]
            from: u16,
            #[key]
            to: u16,
        }
        let edge = Edge { from: 1, to: 2 };
        assert_eq!(primary_key(&edge), encoded::<Edge, _>(&edge));
        assert_order_and_round_trip(&[edge, Edge { from: 1, to: 3 }, Edge { from: 2, to: 0 }]);
    }

    #[test]
    fn a_field_type_may_come_from_a_macro() {
        macro_rules! table_of {
            ($name:ident, $ty:ty) => {
                #[derive(Serialize, Deserialize, Table)]
                #[table(name = "of")]
                struct $name {
                    #[key]
                    id: u8,
                    #[index]
                    value: $ty,
                }
            };
        }
        table_of!(Optional, Option<u16>);
        let _: Index<Optional, u16, Many> = Optional::BY_VALUE;
        let row = Optional { id: 1, value: Some(1) };
        assert_eq!((primary_key(&row), row.value), (vec![1], Some(1)));
    }
}

mod key {
    use super::*;

    #[test]
    fn an_enum_is_the_position_of_its_variant_in_one_byte() {
        assert_eq!(encoded::<Status, _>(&Status::Pending), [0]);
        assert_eq!(encoded::<Status, _>(&Status::Failed), [2]);
        assert_order_and_round_trip(&[Status::Pending, Status::Running, Status::Failed]);
    }

    #[test]
    fn an_enum_need_not_be_copy() {
        #[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Key)]
        enum Level {
            Low,
            High,
        }
        assert_order_and_round_trip(&[Level::Low, Level::High]);
    }

    #[test]
    fn an_enum_of_more_than_256_variants_takes_two_bytes() {
        assert_eq!(encoded::<Wide, _>(&Wide::V000), [0, 0]);
        assert_eq!(encoded::<Wide, _>(&Wide::V256), [1, 0]);
        assert_order_and_round_trip(&[Wide::V000, Wide::V001, Wide::V255, Wide::V256]);
    }

    #[test]
    fn explicit_discriminants_are_encoded_as_i64_in_their_order() {
        #[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Key)]
        enum Priority {
            High = 100,
            Low = -1,
            Lower,
            Normal = 50,
        }
        assert_eq!(encoded::<Priority, _>(&Priority::Low), encoded::<i64, _>(&-1_i64));
        assert_eq!(encoded::<Priority, _>(&Priority::High), encoded::<i64, _>(&100_i64));
        let keys = [Priority::Low, Priority::Lower, Priority::Normal, Priority::High];
        assert_order_and_round_trip(&keys);
    }

    #[test]
    fn explicit_discriminants_of_a_repr_are_encoded_as_it() {
        #[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Key)]
        #[repr(i8)]
        enum Signed {
            Up = 1,
            Down = -1,
        }
        #[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Key)]
        #[repr(u64, align(16))]
        enum Huge {
            Most = u64::MAX,
            One = 1,
        }
        assert_eq!(encoded::<Signed, _>(&Signed::Down), encoded::<i8, _>(&-1_i8));
        assert_eq!(encoded::<Huge, _>(&Huge::Most), [0xFF; 8]);
        assert_order_and_round_trip(&[Signed::Down, Signed::Up]);
        assert_order_and_round_trip(&[Huge::One, Huge::Most]);
    }

    #[test]
    fn what_is_no_variant_is_refused_at_its_offset() {
        let error = decoded::<(u8, Status)>(&[9, 3]).unwrap_err();
        assert_eq!(error, KeyError::Invalid { offset: 1, expected: "a variant of Status" });
        assert!(matches!(decoded::<Status>(&[]), Err(KeyError::Truncated { offset: 0 })));
    }

    #[test]
    fn a_struct_is_its_fields_in_order() {
        #[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Key)]
        struct Address {
            region: String,
            rack: u8,
            status: Status,
        }
        let at = |region: &str, rack, status| Address { region: region.into(), rack, status };
        let tuple = ("eu".to_owned(), 4_u8, Status::Failed);
        let address = encoded::<Address, _>(&at("eu", 4, Status::Failed));
        assert_eq!(address, encoded::<(String, u8, Status), _>(&tuple));
        assert_order_and_round_trip(&[
            at("", 255, Status::Failed),
            at("eu", 0, Status::Running),
            at("eu", 1, Status::Pending),
            at("eu", 1, Status::Failed),
            at("eu\0", 0, Status::Pending),
            at("eu-2", 0, Status::Pending),
        ]);
    }

    #[test]
    fn a_newtype_and_a_tuple_struct_are_their_fields() {
        #[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Key)]
        struct Id(u64);
        #[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Key)]
        struct Pair(Option<i16>, Id);
        assert_eq!(encoded::<Id, _>(&Id(7)), encoded::<u64, _>(&7_u64));
        assert_order_and_round_trip(&[Id(0), Id(255), Id(256)]);
        let pairs = [Pair(None, Id(9)), Pair(Some(-5), Id(1)), Pair(Some(0), Id(0))];
        assert_order_and_round_trip(&pairs);
    }

    #[test]
    fn raw_names_are_called_what_they_mean() {
        #[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Key)]
        enum r#Try {
            r#Loop,
            Other,
        }
        #[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Key)]
        struct Typed {
            r#type: u8,
        }
        assert_order_and_round_trip(&[r#Try::r#Loop, r#Try::Other]);
        assert_order_and_round_trip(&[Typed { r#type: 1 }, Typed { r#type: 2 }]);
        let error = decoded::<r#Try>(&[2]).unwrap_err();
        assert_eq!(error, KeyError::Invalid { offset: 0, expected: "a variant of Try" });
    }
}
